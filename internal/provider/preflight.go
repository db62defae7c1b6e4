package provider

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

// preflight makes checks before anything is changed, in the plan of a creation,
// and reports what is wrong: errors where the apply could not succeed, warnings
// where it may not do what is expected of it. What the cluster does not answer
// now is a warning: it may by the time of the apply.
func preflight(ctx context.Context, checks []check.Check, diags *diag.Diagnostics) {
	outcomes, err := check.Run(ctx, checks)
	if err != nil {
		diags.AddWarning("Checks Before the Installation Not Made", sentence(err))
		return
	}
	for _, o := range outcomes {
		detail := fmt.Sprintf("%s (check %s).", o.Message(), o.ID)
		if o.HintURL != "" {
			detail += "\n\nSee " + o.HintURL
		}
		switch {
		case o.Result == check.Error && !unanswered(o.Err):
			diags.AddError("Check Before the Installation Failed: "+o.Description, detail)
		case o.Result == check.Error, o.Result == check.Warning:
			diags.AddWarning("Check Before the Installation: "+o.Description, detail)
		}
	}
}
