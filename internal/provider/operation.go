package provider

import (
	"cmp"
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// commonModel is the part that the models of all resources begin with.
type commonModel struct {
	ID       types.String   `tfsdk:"id"`
	Timeouts timeouts.Value `tfsdk:"timeouts"`
}

func (m *commonModel) common() *commonModel { return m }

// model is a pointer to any resource's model.
type model interface{ common() *commonModel }

// operation is what Terraform asks of a resource.
type operation int

const (
	creating operation = iota
	reading
	updating
	deleting
)

// lookTimeout is how long reading may take unless configured otherwise.
const lookTimeout = 2 * time.Minute

// changeTimeout is how long a change may take unless configured otherwise: long
// enough for an image pull on a fresh node.
const changeTimeout = 10 * time.Minute

// limit is how long the operation may take, by the timeouts block or, without
// an entry there, as long as the resource needs to be created or updated.
func (o operation) limit(ctx context.Context, configured timeouts.Value, change time.Duration) (time.Duration, diag.Diagnostics) {
	switch o {
	case creating:
		return configured.Create(ctx, change)
	case updating:
		return configured.Update(ctx, change)
	case deleting:
		return configured.Delete(ctx, changeTimeout)
	default:
		return configured.Read(ctx, lookTimeout)
	}
}

// source is what a model is decoded from: a plan or a state.
type source interface {
	Get(ctx context.Context, target any) diag.Diagnostics
}

// start starts an operation: it decodes the model and limits the context, which
// the caller ends. It is over if ok is false.
func (b *resourceBase) start(ctx context.Context, o operation, from source, m model, diags *diag.Diagnostics) (limited context.Context, end context.CancelFunc, ok bool) {
	diags.Append(from.Get(ctx, m)...)
	limit, d := o.limit(ctx, m.common().Timeouts, cmp.Or(b.changeTimeout, changeTimeout))
	diags.Append(d...)
	limited, end = context.WithTimeout(ctx, limit)
	return limited, end, !diags.HasError()
}

// begin is start for an operation that needs the cluster, which it finds.
func (b *resourceBase) begin(ctx context.Context, o operation, from source, m model, diags *diag.Diagnostics) (limited context.Context, end context.CancelFunc, cluster *kube.Cluster, ok bool) {
	limited, end, started := b.start(ctx, o, from, m, diags)
	cluster, ok = b.session.requireCluster(diags)
	return limited, end, cluster, started && ok
}

// beginRead is begin for Read. Without a cluster to ask, the state stays as it
// is; the framework wants its identity all the same, which one that was written
// by a Terraform without identities has not yet.
func (b *resourceBase) beginRead(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse, m model) (limited context.Context, end context.CancelFunc, cluster *kube.Cluster, ok bool) {
	if _, known := b.knownCluster(); !known {
		resp.Diagnostics.Append(req.State.Get(ctx, m)...)
		identify(ctx, resp.Identity, m.common().ID, &resp.Diagnostics)
		return ctx, func() {}, nil, false
	}
	return b.begin(ctx, reading, req.State, m, &resp.Diagnostics)
}
