package provider

import (
	"context"
	"errors"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// recordInstall takes down what is in the cluster after an apply of a mesh,
// successful or not, and reports what failed. The observation fills in the
// model; if it cannot be made, unknown is given the one line that says so. If
// the failed apply has left nothing, neither touches the model.
func recordInstall(ctx context.Context, meshName string, applied error, observe func(context.Context) error, unknown func(drift string), diags *diag.Diagnostics) {
	if applied != nil {
		problemInstall(diags, "Unable to Install "+meshName, applied)
		var cancel context.CancelFunc
		ctx, cancel = mesh.LastLook(ctx)
		defer cancel()
	}
	err := observe(ctx)
	switch {
	case err == nil:
	case applied == nil:
		problem(diags, "Unable to Read "+meshName, err)
		fallthrough
	case !errors.Is(err, helm.ErrReleaseNotFound):
		unknown("its state is not known: " + err.Error())
	}
}

// compareValues keeps the digest of the values that were applied, and notes it
// as drift when the cluster has others. A release that is missing, which has no
// digest, is noted as such already.
func compareValues(applied types.String, found *string, drift *[]string, others string) {
	if applied.ValueString() == "" || applied.ValueString() == *found {
		return
	}
	if *found != "" {
		*drift = append(*drift, others)
	}
	*found = applied.ValueString()
}
