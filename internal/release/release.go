// Package release deploys a set of objects, rendered from a Helm chart or read
// from manifests, and keeps it as one thing: applied server-side and in order,
// with hooks and waits as Helm has them, pruned, compared with the cluster,
// uninstalled. What it has deployed is on record in a Secret beside the objects,
// written before the first change, so that an operation that was cut off
// anywhere is taken up by the next.
package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"helm.sh/helm/v3/pkg/chartutil"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// Manager is the field manager under which objects are applied.
const Manager = "aksmesh-release"

// Annotation marks every object of a release with its "namespace/name".
const Annotation = "aksmesh.io/release"

// DefaultHookTimeout is how long a hook may run if nobody says, as Helm has it.
const DefaultHookTimeout = 5 * time.Minute

// atOnce is how many requests of one operation are under way at the same time.
const atOnce = 8

// Releases are the releases of one cluster.
type Releases struct {
	Cluster *kube.Cluster
	// Charts renders charts for the cluster.
	Charts *helm.Releases
	// Log is told of each step, by names and never by contents; it may be nil.
	Log func(message string, fields map[string]any)
}

// Release is one release as it was when it was opened. It is for one operation
// at a time.
type Release struct {
	releases  *Releases
	namespace string
	name      string
	record    *record // nil if there is none
}

// Open reads what is on record of a release, by one request. That there is
// nothing is no error: see [Release.Record].
func (r *Releases) Open(ctx context.Context, namespace, name string) (*Release, error) {
	if err := chartutil.ValidateReleaseName(name); err != nil {
		return nil, fmt.Errorf("release %s/%s: %w", namespace, name, err)
	}
	found, err := r.read(ctx, namespace, name)
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return nil, fmt.Errorf("release %s/%s: %w", namespace, name, err)
	}
	return &Release{releases: r, namespace: namespace, name: name, record: found}, nil
}

// Desired is what a release should be.
type Desired struct {
	// Objects in any order, hooks among them (see [ParseManifests] and
	// [Release.Render]). They are not changed.
	Objects []Object
	// Again are the same objects as another rendering has them, nil if they are
	// always the same. Plan does not show what is otherwise in it, since it will be
	// otherwise again when it is applied.
	Again []Object
	// Restore has Deploy apply once more what is on record instead of Objects, if
	// the release was deployed completely, and run no hooks.
	Restore bool
	// CreateNamespace adds the namespace of the release to the objects.
	CreateNamespace bool
	// Transform changes each object before it is applied, TransformHook each
	// hook. The namespace is set by then. They may be nil.
	Transform     func(*unstructured.Unstructured) error
	TransformHook func(*unstructured.Unstructured) error

	// Origin and Inputs are kept on record for who reads it later.
	Origin Origin
	Inputs json.RawMessage

	// Force takes fields over from other managers that set other values.
	Force bool
	// Repair takes back fields that were applied before and that others have set
	// otherwise since. What was not applied before is no part of that: it is in
	// conflict as often as it is tried.
	Repair bool
	// TakeOwnership takes objects over that exist and that the release has not
	// made, be it that they belong to a Helm release, to another release of this
	// package or to nobody. They are deleted with the release then.
	TakeOwnership bool
	// PruneCRDs deletes CRDs that are wanted no more, and with them all objects
	// of their kinds.
	PruneCRDs bool
	// Wait waits until workloads are rolled out, claims bound and load balancers
	// have addresses, and until what is pruned is gone; WaitForJobs also until
	// Jobs are complete.
	Wait        bool
	WaitForJobs bool
	// HookTimeout is how long each hook may run, [DefaultHookTimeout] if zero.
	HookTimeout time.Duration
	// HideValues keeps values of fields out of changes and drift, for releases
	// whose objects hold secrets in other places than Secrets.
	HideValues bool
}

// Origin says, without secrets, where the objects of a release come from.
type Origin struct {
	Chart          string `json:"chart,omitempty"` // "dgraph"; "" for manifests
	ChartVersion   string `json:"chartVersion,omitempty"`
	ChartDigest    string `json:"chartDigest,omitempty"` // "sha256:…"
	AppVersion     string `json:"appVersion,omitempty"`  // as the chart says
	ManifestSHA256 string `json:"manifestSHA256,omitempty"`
}

// Phase of a release.
type Phase string

// The phases. Every other than PhaseDeployed means that an operation was cut
// off or failed, and that the next one has something to repair.
const (
	PhaseDeploying    Phase = "deploying"
	PhaseDeployed     Phase = "deployed"
	PhaseFailed       Phase = "failed"
	PhaseUninstalling Phase = "uninstalling"
)

// Record is what is known of a release.
type Record struct {
	Phase   Phase
	Failure string // why the last deployment failed; "" with Desired.HideValues
	Origin  Origin
	Inputs  json.RawMessage
	Objects []kube.Ref // as last deployed, in order of application
	// Installed tells that it was deployed completely before.
	Installed bool
}

// Record returns what was on record when the release was opened, as changed by
// operations since, or nil if the release does not exist.
func (r *Release) Record() *Record {
	if r.record == nil {
		return nil
	}
	known := &Record{Phase: r.record.Phase, Failure: r.record.Failure, Origin: r.record.Origin, Inputs: r.record.Inputs, Installed: r.installed()}
	for _, e := range r.record.Objects {
		known.Objects = append(known.Objects, e.ref())
	}
	return known
}

// installed reports whether the release was completely deployed before, so that
// the next deployment is an upgrade.
func (r *Release) installed() bool {
	return r.record != nil && r.record.Installed && r.record.Phase != PhaseUninstalling
}

// id is the value of Annotation.
func (r *Release) id() string { return r.namespace + "/" + r.name }

func (r *Release) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("release %s: %w", r.id(), err)
}

func (r *Release) log(message string, fields map[string]any) {
	if r.releases.Log == nil {
		return
	}
	all := map[string]any{"release": r.id()}
	maps.Copy(all, fields)
	r.releases.Log(message, all)
}
