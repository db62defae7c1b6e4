package azure

import (
	"context"
	"errors"
	"time"
)

// MaxPatience is how long roles may be waited for at most: Azure says that an
// assignment takes up to 5 minutes to take effect, for ARM and for Azure RBAC of
// clusters alike.
//
// https://learn.microsoft.com/azure/aks/manage-azure-rbac
const MaxPatience = 10 * time.Minute

// AwaitRoles does something again while it is refused for want of a role, as refused
// tells, until the patience of the account's options ends. The error is the last
// refusal then, and that with the cause of ctx when ctx ends before.
func (a *Account) AwaitRoles(ctx context.Context, refused func(error) bool, attempt func(ctx context.Context) error) error {
	ends := time.Now().Add(a.options.Patience)
	pause := min(10*time.Second, a.options.Patience/20)
	for {
		err := attempt(ctx)
		if err == nil || !refused(err) || !time.Now().Add(pause).Before(ends) {
			return err
		}
		if a.options.Log != nil {
			a.options.Log(ctx, "waiting for a role to take effect", map[string]any{"until": ends, "refusal": err.Error()})
		}
		again := time.NewTimer(pause)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

// Patient tells whether roles are waited for at all.
func (a *Account) Patient() bool { return a.options.Patience > 0 }
