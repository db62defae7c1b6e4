package provider

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// changesAttribute is what every resource that installs charts tells of its
// changes.
func changesAttribute() schema.ListAttribute {
	return schema.ListAttribute{
		Computed: true, ElementType: types.StringType,
		MarkdownDescription: "What the last change has changed in the cluster, in a plan what it is going to change, one line an object: `+ Service linkerd/linkerd-dst`, " +
			"`~ Deployment linkerd/linkerd-identity: spec.replicas: 1 -> 3`, `-` for one that is deleted, `.` for one that is dropped and stays. Values of Secrets are never shown.",
	}
}

// atomicAttribute is `atomic` of every resource that installs charts.
func atomicAttribute() schema.BoolAttribute {
	return schema.BoolAttribute{
		Optional: true, Computed: true, Default: booldefault.StaticBool(false),
		MarkdownDescription: "Whether a change that fails is rolled back to what was in place, except CRDs, which stay at the new version. The apply fails all the same, with the reason. " +
			"A quarter of the timeout is kept for that. A first install that fails stays, for the next apply to replace. Default `false`: what was changed stays, and the next apply goes on from there.",
	}
}

// What drift_detection can be.
const (
	detectObjects  = "objects"
	detectReleases = "releases"
)

// driftDetectionAttribute is `drift_detection` of every resource that installs
// charts.
func driftDetectionAttribute() schema.StringAttribute {
	return schema.StringAttribute{
		Optional: true, Computed: true, Default: stringdefault.StaticString(detectObjects),
		Validators: []validator.String{stringvalidator.OneOf(detectObjects, detectReleases)},
		MarkdownDescription: "What a plan compares with the cluster: `objects` (default) every object of the charts, one request for each of their kinds, which all resources of a run share; " +
			"`releases` the records of the releases, Deployments and webhook configurations only, at most one request a release and three more.",
	}
}

// detectedKinds are the kinds that drift is looked for in: none means all.
func detectedKinds(detection types.String) []kube.Kind {
	if detection.ValueString() == detectReleases {
		return install.CoreKinds()
	}
	return nil
}

// foresight is what a plan can tell of an apply.
type foresight struct {
	changes  []kube.Change
	warnings []string
	// unknown reports that what is changed depends on what happens before.
	unknown bool
}

// foresee fills in `changes` of a plan that leaves it to the apply, if there is a
// cluster to ask. It fails the plan only if the apply could not but fail: what
// the cluster does not answer now it may answer then. Attributes at fault are for
// look to report, in the diagnostics.
func (b *resourceBase) foresee(ctx context.Context, resp *resource.ModifyPlanResponse, subject string, look func(context.Context, install.Charts) (foresight, error)) {
	var planned types.List
	resp.Diagnostics.Append(resp.Plan.GetAttribute(ctx, path.Root("changes"), &planned)...)
	cluster, ok := b.knownCluster()
	if resp.Diagnostics.HasError() || !planned.IsUnknown() || !ok || b.session.library == nil {
		return
	}
	charts, ok := b.charts(ctx, cluster, &resp.Diagnostics)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	found, err := lookAgain(ctx, func(ctx context.Context) (foresight, error) { return look(ctx, charts) })
	for _, change := range found.changes {
		if change.Warning != "" {
			found.warnings = append(found.warnings, change.Ref.String()+": "+change.Warning)
		}
	}
	for _, warning := range found.warnings {
		resp.Diagnostics.AddWarning("Before "+subject+" Is Installed", warning)
	}
	switch {
	case resp.Diagnostics.HasError(), found.unknown && err == nil:
		return
	case err != nil && !definite(err):
		resp.Diagnostics.AddWarning("Unable to Look Ahead at "+subject, explain(err))
		return
	case err != nil:
		problemInstall(&resp.Diagnostics, "Unable to Plan "+subject, err)
		return
	}
	if slices.ContainsFunc(found.changes, func(c kube.Change) bool { return c.Uncertain }) {
		// It may come out otherwise at the apply, which Terraform would refuse.
		resp.Diagnostics.AddWarning(subject+" Changes as Far as Can Be Foreseen", strings.Join(changeLines(found.changes), "\n"))
		return
	}
	resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, path.Root("changes"), changesList(ctx, found.changes, &resp.Diagnostics))...)
}

// lookAgain repeats a look that the cluster does not answer, for some seconds: the
// plan that Terraform makes once more during an apply must not know less than the
// one that was approved.
func lookAgain(ctx context.Context, look func(context.Context) (foresight, error)) (found foresight, failed error) {
	pauses := wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Steps: 5}
	err := wait.ExponentialBackoffWithContext(ctx, pauses, func(ctx context.Context) (bool, error) {
		found, failed = look(ctx)
		refused := apierrors.IsForbidden(failed) || apierrors.IsUnauthorized(failed)
		return failed == nil || refused || definite(failed), nil
	})
	if failed == nil && ctx.Err() != nil {
		failed = err // It was not looked at all.
	}
	return found, failed
}

// definite reports errors of which one at least says that the apply would fail,
// among any that only say that the cluster has not answered.
func definite(err error) bool {
	type several interface {
		error
		Unwrap() []error
	}
	all, ok := errors.AsType[several](err)
	if !ok || errors.Join(all.Unwrap()...).Error() != all.Error() {
		return !unanswered(err) // It is one error, also if it wraps its circumstances.
	}
	return slices.ContainsFunc(all.Unwrap(), definite)
}

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
