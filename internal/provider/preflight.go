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
		switch {
		case o.Result == check.Error && !unanswered(o.Err):
			diags.AddError("Not Fit for the Mesh", explainOutcome(o))
		case o.Result == check.Error, o.Result == check.Warning:
			diags.AddWarning("Maybe Not Fit for the Mesh", explainOutcome(o))
		}
	}
}

// explainOutcome says of a check that has failed what it was about, what is wrong
// with the cure, and where to read on.
func explainOutcome(o check.Outcome) string {
	text := fmt.Sprintf("Check %s (%s): %s", o.ID, o.Description, sentence(o.Err))
	if o.HintURL != "" {
		text += "\nSee " + o.HintURL
	}
	return text
}
