package aks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/client-go/rest"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/resourcemanager"
)

// MaxPatience is how long roles may be waited for at most: Azure says that an
// assignment takes up to 5 minutes to take effect, for ARM and for Azure RBAC of
// clusters alike, and the two may come one after the other.
//
// https://learn.microsoft.com/azure/aks/manage-azure-rbac
const MaxPatience = 10 * time.Minute

// awaitRoles does something again while it is refused for want of a role, until the
// patience of the options ends. The error is the last refusal then.
func (a *Access) awaitRoles(ctx context.Context, attempt func(ctx context.Context) error) error {
	ends := time.Now().Add(a.options.Patience)
	pause := min(10*time.Second, a.options.Patience/20)
	for {
		err := attempt(ctx)
		if !lacksRole(err) || !time.Now().Add(pause).Before(ends) {
			return err
		}
		if a.options.Log != nil {
			a.options.Log(ctx, "waiting for a role to take effect", map[string]any{"cluster": a.id.Path(), "until": ends, "refusal": err.Error()})
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

// noAzureRole is how Azure RBAC words that somebody has no role at all.
const noAzureRole = "User does not have access to the resource in Azure"

var errNoAzureRole = errors.New("the API server answers: " + noAzureRole)

func lacksRole(err error) bool {
	if refusal, ok := errors.AsType[*resourcemanager.Error](err); ok {
		return refusal.Status == http.StatusForbidden
	}
	return errors.Is(err, errNoAzureRole)
}

// knock asks the API server for what needs hardly any role, and returns
// errNoAzureRole if Azure RBAC knows of none at all. Everything else is for whoever
// asks next to find out.
func (a *Access) knock(ctx context.Context, config *rest.Config) error {
	if a.options.Patience == 0 {
		return nil
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return fmt.Errorf("prepare the connection to %s: %w", config.Host, err)
	}
	ctx, cancel := context.WithTimeout(ctx, explainLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+"/api/v1/namespaces?limit=1", nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil // The requests to come tell it better.
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		return nil
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if err != nil || !bytes.Contains(answer, []byte(noAzureRole)) {
		return nil // As above.
	}
	return errNoAzureRole
}
