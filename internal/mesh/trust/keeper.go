package trust

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/rotation"
)

// A Keeper looks after the trust of one control plane: its issuer and its trust
// bundle.
type Keeper struct {
	Cluster *kube.Cluster
	Ref     IssuerRef
	// Wanted are the anchors to be trusted in the end.
	Wanted pki.Bundle
	// Signer makes issuers; nil where nothing is to be signed.
	Signer Signer
	// AnchorID is the ID of the anchor that signs, noted on the issuer's Secret;
	// empty if it has none.
	AnchorID string
	// Options are those of issuers that are made. Their Now is the instant that
	// certificates are judged at.
	Options pki.AuthorityOptions
	// Early is how long before its end the issuer is renewed.
	Early time.Duration
	// Complete carries a rotation to its end, and restarts pods rather than waiting
	// until they come round by themselves.
	Complete bool
	Policy   mesh.RestartPolicy
	// Log is told of each step; it may be nil.
	Log func(message string, fields map[string]any)
}

// A Standing is where the trust of a control plane stands.
type Standing struct {
	// Issuer is nil when the Secret cannot be read as one.
	Issuer *pki.KeyPair
	// AnchorID is what the Secret notes; empty if it notes nothing.
	AnchorID string
	// Published are the anchors that are trusted by what is made now.
	Published pki.Bundle
	// Stages are those of a rotation that are still to come; empty if there is
	// nothing to rotate.
	Stages []rotation.Stage
	// Next is the first step of them.
	Next rotation.Decision
	// WaitsFor is why it cannot be done now; empty if it can.
	WaitsFor string
	// Renewal is why the issuer has to be written anew apart from a rotation; empty
	// if it has not.
	Renewal string
}

// ending is how long before its end an issuer is in the way of a rotation: there
// may be two waits of a day in it.
const ending = 48 * time.Hour

// Look says where the trust of the control plane stands, without changing
// anything; kube.ErrNotFound if there is no issuer. One that is synced from a key
// vault is an error.
func (k Keeper) Look(ctx context.Context) (Standing, error) {
	r := &run{Keeper: k}
	v, err := r.view(ctx)
	if err != nil {
		return Standing{}, err
	}
	if v.secret == nil {
		return Standing{}, fmt.Errorf("%s: %w", k.Ref.Secret(), kube.ErrNotFound)
	}
	if mesh.Synced(v.secret) && !kube.Ours(v.secret.Labels) {
		return Standing{}, othersError(k.Ref.Secret(), v.secret)
	}
	return v.standing(k), nil
}

// Resumable tells whether an issuer that must not exist yet is one of ours that
// an apply left behind when it was cut off. One that is somebody else's, or below
// another anchor, is an *ExistsError, unless it cannot be taken over as it is synced
// from a key vault.
func (k Keeper) Resumable(ctx context.Context) (bool, error) {
	existing, err := k.Cluster.Secret(ctx, k.Ref.Namespace, k.Ref.Secret().Name)
	switch {
	case errors.Is(err, kube.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case mesh.Synced(existing):
		return false, othersError(k.Ref.Secret(), existing)
	case !kube.Ours(existing.Labels) || existing.Annotations[anchorAnnotation] != k.AnchorID:
		return false, &ExistsError{Object: k.Ref.Secret().String(), Import: k.Ref.String()}
	}
	return true, nil
}

// BlockedError tells that a rotation cannot go on before somebody has done
// something.
type BlockedError struct{ Decision rotation.Decision }

func (e *BlockedError) Error() string {
	return fmt.Sprintf("the rotation stands before %q: %s", e.Decision.Stage, e.Decision.Reason)
}

// Keep brings the control plane one stage nearer to what is wanted, or all the
// way if it is to be complete. When nothing is to be rotated, it renews the
// issuer if that is due, or asked for by renew. Where there is neither a control
// plane nor a meshed pod, all is written at once. The standing is that of the end,
// also with an error: what has been done stays, and another call goes on from
// there. A complete rotation that cannot be carried to its end is a
// *BlockedError.
func (k Keeper) Keep(ctx context.Context, renew bool) (Standing, error) {
	r := &run{Keeper: k}
	err := r.keep(ctx, renew)
	ctx, cancel := mesh.LastLook(ctx)
	defer cancel()
	v, lookErr := r.view(ctx)
	if lookErr != nil {
		return Standing{}, errors.Join(err, lookErr)
	}
	return v.standing(k), err
}

// A run is one call of a Keeper.
type run struct {
	Keeper
	// restarted is when this run last restarted anything: restarts are told apart
	// by the second.
	restarted time.Time
}

// shortly is how long an apply waits for what comes round by itself.
const shortly = 2 * time.Minute

// patience is how often a step may be repeated that seems to do nothing.
const patience = 3

func (r *run) keep(ctx context.Context, renew bool) error {
	if r.Signer == nil || !r.Wanted.Contains(r.Signer.Anchors()[0]) {
		return fmt.Errorf("%w: the trust bundle lacks the anchor that signs the issuer", pki.ErrUntrusted)
	}
	var stage rotation.Stage
	var last rotation.Decision
	complete := r.Complete
	for repeated := 0; ; {
		v, err := r.view(ctx)
		if err != nil {
			return err
		}
		if !v.populated {
			return r.writeAtOnce(ctx, v, renew)
		}
		if v.unnoted && v.kept != nil {
			// What others have changed begins once, not on every look.
			if err := r.note(ctx, v, v.record); err != nil {
				return err
			}
		}
		if err := r.settle(ctx, v); err != nil {
			return err
		}
		d := rotation.Next(v.View, complete)
		if d.Step == rotation.Done {
			return r.finish(ctx, v, renew)
		}
		if stage == "" {
			stage = d.Stage
		}
		// Halfway to recovery is no place to rest.
		complete = complete || d.Stage == rotation.Recover
		if d.Stage != stage && !complete {
			return nil
		}
		r.log("rotation", map[string]any{"issuer": r.Ref.String(), "stage": string(d.Stage), "standing": d.Reason})
		if v.waits(d) {
			if err := r.renewMeanwhile(ctx, v); err != nil {
				return err
			}
			if complete {
				return &BlockedError{Decision: d}
			}
			return nil
		}
		if repeated++; d.Step != last.Step || d.Stage != last.Stage || !slices.Equal(d.Proxies, last.Proxies) {
			repeated = 0
		}
		if last = d; repeated >= patience {
			return fmt.Errorf("%s does not go on: %s is repeated without effect: %s", r.Ref, d.Stage, d.Reason)
		}
		if err := r.take(ctx, v, d); err != nil {
			return err
		}
	}
}

// take takes one step.
func (r *run) take(ctx context.Context, v *view, d rotation.Decision) error {
	switch d.Step {
	case rotation.Publish:
		return r.publish(ctx, v, d)
	case rotation.Issue:
		return r.issue(ctx, v, d)
	case rotation.RestartControlPlane:
		return r.restartControlPlane(ctx, v)
	case rotation.RestartDataPlane:
		return r.restartDataPlane(ctx, v, d)
	case rotation.Wait:
		if !d.Until.IsZero() {
			return r.Cluster.AwaitClock(ctx, r.Ref.Namespace, d.Until)
		}
		return r.awaitGone(ctx, v, d.Proxies)
	case rotation.Done:
	}
	return nil
}

func (r *run) publish(ctx context.Context, v *view, d rotation.Decision) error {
	if d.Stage == rotation.Recover {
		return r.writeAtOnce(ctx, v, true) // Nobody is left to be cut off.
	}
	if v.issuer == nil && r.Ref.bundle() == r.Ref.Secret() {
		return fmt.Errorf("%s cannot be read as a CA, so the anchors that go with it cannot be published: if it was lost, restore it; if istiod signs with a CA of its own, nobody who has its certificates would trust yours: uninstall the mesh, create the issuer, and install it again", r.Ref.Secret())
	}
	var bundle pki.Bundle
	for _, anchor := range d.Bundle {
		bundle = bundle.With(v.known[anchor])
	}
	h := v.record.Handouts
	return r.handOut(ctx, v, v.issuer, bundle, h.Begun(h.Newest().Issuer, d.Bundle, v.now))
}

func (r *run) issue(ctx context.Context, v *view, d rotation.Decision) error {
	if d.Stage == rotation.Switch {
		if err := r.awaitSpread(ctx, v); err != nil {
			return err
		}
	}
	issuer, err := r.Signer.Issuer(v.known[d.Anchor], r.Options)
	if err != nil {
		return err
	}
	switch h := v.record.Handouts; d.Stage {
	case rotation.Extend:
		return r.write(ctx, v, issuer, v.published, v.record) // What proxies are given leads to the same anchor.
	case rotation.Recover:
		return r.handOut(ctx, v, issuer, v.published, h.Revived(d.Anchor, v.Published, v.now))
	default:
		return r.handOut(ctx, v, issuer, v.published, h.Begun(d.Anchor, v.Published, v.now))
	}
}

// awaitSpread waits until all pods trust the control plane itself below the new
// anchor too: it has a certificate of the issuer as they have.
func (r *run) awaitSpread(ctx context.Context, v *view) error {
	namespaces := map[string]bool{}
	for _, pod := range v.pods {
		namespaces[pod.Namespace] = true
	}
	ctx, cancel := context.WithTimeout(ctx, shortly)
	defer cancel()
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		err := r.Cluster.Await(ctx, namespace, []kube.Kind{kube.ConfigMap}, func(ctx context.Context) (string, error) {
			return v.plane.Spreads(ctx, namespace, v.published)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// handOut has the control plane hand out the newest of a history from now on.
func (r *run) handOut(ctx context.Context, v *view, issuer *pki.KeyPair, bundle pki.Bundle, history rotation.History) error {
	// Until all is written, nobody knows since when it can have been read.
	history[len(history)-1].Begin = time.Time{}
	if err := r.write(ctx, v, issuer, bundle, record{Handouts: history}); err != nil {
		return err
	}
	at, err := r.Cluster.Clock(ctx, r.Ref.Namespace)
	if err != nil {
		return err
	}
	history[len(history)-1].Begin = at
	return r.note(ctx, v, record{Handouts: history})
}

// renewMeanwhile renews an issuer that is due while a rotation waits: whoever it
// waits for may take longer than the issuer lives.
func (r *run) renewMeanwhile(ctx context.Context, v *view) error {
	if v.Issuer.Anchor != v.Signer || v.lapses(r.Keeper) == "" {
		return nil
	}
	issuer, err := r.Signer.Issuer(v.known[v.Signer], r.Options)
	if err != nil {
		return err
	}
	return r.write(ctx, v, issuer, v.published, v.record)
}

// settle takes down that the control plane hands out only the newest.
func (r *run) settle(ctx context.Context, v *view) error {
	if v.behind || v.record.Handouts.Settled() || v.secret == nil || len(v.Published) == 0 {
		return nil
	}
	at, err := r.Cluster.Clock(ctx, r.Ref.Namespace)
	if err != nil {
		return err
	}
	v.record.Handouts = v.record.Handouts.Ended(at, 0)
	if err := r.note(ctx, v, v.record); err != nil {
		return err
	}
	// Pods made in the same second might have asked before.
	if err := r.Cluster.AwaitClock(ctx, r.Ref.Namespace, at); err != nil {
		return err
	}
	again, err := r.view(ctx)
	if err == nil {
		*v = *again
	}
	return err
}

// finish takes down that the rotation is over, and renews the issuer.
func (r *run) finish(ctx context.Context, v *view, renew bool) error {
	record := v.record.settled(v)
	issuer := v.issuer
	switch {
	case renew, v.lapses(r.Keeper) != "":
		var err error
		if issuer, err = r.Signer.Issuer(r.Signer.Anchors()[0], r.Options); err != nil {
			return err
		}
	case v.misshapen(r.Keeper) != "":
	case v.record.Settled == record.Settled:
		return nil
	default:
		return r.note(ctx, v, record)
	}
	return r.write(ctx, v, issuer, v.published, record)
}

// writeAtOnce writes everything where nobody is there to be cut off.
func (r *run) writeAtOnce(ctx context.Context, v *view, renew bool) error {
	anchor := r.Signer.Anchors()[0]
	issuer := v.issuer
	if issuer == nil || renew || v.Issuer.Anchor != rotation.AnchorOf(anchor) || v.renewal(r.Keeper) != "" {
		var err error
		if issuer, err = r.Signer.Issuer(anchor, r.Options); err != nil {
			return err
		}
	}
	v.Published, v.Issuer.Anchor = rotation.AnchorsOf(r.Wanted), rotation.AnchorOf(anchor)
	if v.populated {
		return r.handOut(ctx, v, issuer, r.Wanted, v.record.Handouts.Revived(v.Issuer.Anchor, v.Published, v.now))
	}
	// Whoever comes finds it all, so it has begun before anybody.
	all := record{Handouts: rotation.History{{Issuer: v.Issuer.Anchor, Roots: v.Published}}}
	return r.write(ctx, v, issuer, r.Wanted, all.settled(v))
}

// awaitGone waits until pods are gone that are on their way out.
func (r *run) awaitGone(ctx context.Context, v *view, names []string) error {
	uids := map[types.UID]string{}
	for _, name := range names {
		if pod := v.pods[name]; pod != nil {
			uids[pod.UID] = name
		}
	}
	limited, cancel := context.WithTimeout(ctx, shortly)
	defer cancel()
	err := r.Cluster.Await(limited, "", []kube.Kind{kube.Pod}, func(ctx context.Context) (string, error) {
		pods, err := r.Cluster.Pods(ctx, "")
		if err != nil {
			return "", err
		}
		for _, pod := range pods {
			if name, is := uids[pod.UID]; is && !mesh.Finished(pod) {
				return fmt.Sprintf("pod %s to go, which is being deleted", name), nil
			}
		}
		return "", nil
	})
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		return nil // Those that stay for longer are something to wait for.
	}
	return err
}

// restartControlPlane makes the pods of the control plane anew that have not read
// what is published, those that sign first: the others get their certificates
// from them.
func (r *run) restartControlPlane(ctx context.Context, v *view) error {
	for _, signs := range []bool{true, false} {
		var refs []kube.Ref
		for _, c := range v.components {
			if c.signs != signs || !c.behind {
				continue
			}
			object := c.workload.Object()
			if err := setTemplateAnnotation(object.Object, mesh.TrustAnnotation, c.mark); err != nil {
				return fmt.Errorf("%s: %w", c.workload.Ref, err)
			}
			r.log("restarting the control plane", map[string]any{"workload": c.workload.String()})
			if _, err := r.Cluster.Apply(ctx, object, kube.ApplyOptions{Manager: rotationManager, Force: true}); err != nil {
				return err
			}
			refs = append(refs, c.workload.Ref)
		}
		if err := r.Cluster.AwaitRollouts(ctx, 0, r.Log, refs...); err != nil {
			return err
		}
	}
	return nil
}

// restartDataPlane makes pods anew, those of the control plane by what it
// consists of.
func (r *run) restartDataPlane(ctx context.Context, v *view, d rotation.Decision) error {
	at, err := r.Cluster.Clock(ctx, r.Ref.Namespace)
	if err != nil {
		return err
	}
	if !at.After(r.restarted) {
		at = r.restarted.Add(time.Second)
	}
	r.restarted = at.Add(time.Second) // A second attempt takes the next one.
	due := map[types.UID]bool{}
	components := map[kube.Ref]bool{}
	for _, name := range d.Proxies {
		if component, is := v.componentOf[name]; is {
			components[component] = true
			continue
		}
		due[v.pods[name].UID] = true
	}
	for _, signs := range []bool{true, false} {
		rollout := kube.Rollout{At: at, IgnoreBudgets: r.Policy.IgnoreBudgets, Log: r.Log}
		for _, c := range v.components {
			if c.signs == signs && components[c.workload.Ref] {
				rollout.Stages = append(rollout.Stages, []kube.Ref{c.workload.Ref})
			}
		}
		if _, err := r.Cluster.Roll(ctx, rollout); err != nil {
			return err
		}
	}
	if len(due) == 0 {
		return nil
	}
	reason := mesh.Reason{Cause: mesh.StaleTrustRoots, Detail: string(d.Stage)}
	plane := mesh.DataPlane{
		Cluster: r.Cluster, Mesh: v.plane.Mesh(), Policy: r.Policy, Now: at, Log: r.Log,
		Due: func(pod *corev1.Pod) []mesh.Reason {
			if due[pod.UID] {
				return []mesh.Reason{reason}
			}
			return nil
		},
	}
	_, err = plane.Settle(ctx)
	return err
}

func (r *run) log(message string, fields map[string]any) {
	if r.Log != nil {
		r.Log(message, fields)
	}
}

// A record is what is kept of a control plane's past beside its trust bundle.
type record struct {
	Handouts rotation.History `json:"handouts"`
	// Settled is the mark of what everybody has; empty while a rotation is under
	// way.
	Settled string `json:"settled,omitempty"`
}

// settled is the record of a rotation that is over. What proxies may still have of
// before, because it is wanted further, stays in it.
func (r record) settled(v *view) record {
	return record{Handouts: r.Handouts.Ended(v.now, v.life), Settled: settledMark(v.View)}
}

// settledMark stands for what is wanted, published and issued below.
func settledMark(v rotation.View) string {
	return digest(string(v.Signer), string(v.Issuer.Anchor), joined(v.Wanted), joined(v.Published))
}

func joined(anchors rotation.Anchors) string {
	names := make([]string, len(anchors))
	for i, a := range anchors {
		names[i] = string(a)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:8])
}

func recordIn(annotations map[string]string) (r record, ok bool) {
	text, is := annotations[recordAnnotation]
	if !is || json.Unmarshal([]byte(text), &r) != nil || len(r.Handouts) == 0 {
		return record{}, false // It is made up anew, on the safe side.
	}
	return r, true
}

func (r record) annotation() (string, error) {
	text, err := json.Marshal(r)
	return string(text), err
}

const (
	// rotationManager stamps the control plane, and keeps the record of it.
	rotationManager = "aksmesh-rotation"
	// recordAnnotation is where the record is kept.
	recordAnnotation = "aksmesh.io/trust-record"
)

// certificatesOf are the anchors that are known by their certificates.
func certificatesOf(bundles ...pki.Bundle) map[rotation.Anchor]certificate {
	known := map[rotation.Anchor]certificate{}
	for _, bundle := range bundles {
		for _, cert := range bundle.Certificates() {
			known[rotation.AnchorOf(cert)] = cert
		}
	}
	return known
}
