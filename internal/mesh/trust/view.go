package trust

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/rotation"
)

// A plane is what the meshes differ in: how trust gets to their proxies.
type plane interface {
	// Mesh is the data plane's.
	Mesh() mesh.Mesh
	// Workloads are those of the control plane that hand out trust, and Signs
	// tells those that issue certificates.
	Workloads(ctx context.Context) ([]*kube.Workload, error)
	Signs(w *kube.Workload) bool
	// Serves reports whether a meshed pod is of this control plane.
	Serves(pod *corev1.Pod) bool
	// Trusts is the bundle that a pod shows; ok is false if it is told of it when
	// it asks for a certificate, or takes the published one when it starts.
	Trusts(pod *corev1.Pod) (bundle string, ok bool)
	// Admits reports whether pods are given their anchors when they are admitted,
	// rather than when they ask for a certificate.
	Admits() bool
	// Spreads says what the pods of a namespace lack in order to trust a control
	// plane with a certificate below any anchor of the bundle; empty if nothing.
	Spreads(ctx context.Context, namespace string, bundle pki.Bundle) (lacks string, err error)
	// Fixed is why a pod keeps its trust whatever is restarted; empty if not.
	Fixed(pod *corev1.Pod) string
	// Asked tells, among all pods, when one first asked for a certificate at the
	// earliest, and whether it asks again.
	Asked(pods []*corev1.Pod) func(pod *corev1.Pod) (since time.Time, again bool)
	// Lifetime is how long a pod may use a certificate.
	Lifetime(ctx context.Context) (func(*corev1.Pod) time.Duration, error)
	// Published is the bundle that the control plane reads when it starts; empty
	// if there is none. The Secret is the issuer's, nil if there is none.
	Published(ctx context.Context, secret *corev1.Secret) (pki.Bundle, error)
}

// A view is the control plane with its data plane as they are found.
type view struct {
	rotation.View
	plane  plane
	secret *corev1.Secret // the issuer's; nil if there is none
	issuer *pki.KeyPair   // nil if it cannot be read, for which unread is the reason
	unread error
	kept   *metav1.ObjectMeta // of what the record is kept on; nil if it is not there

	published  pki.Bundle
	known      map[rotation.Anchor]certificate
	record     record
	unnoted    bool // the record is not what is kept
	components []component
	// behind tells that a pod of the control plane has not read what is published.
	behind bool
	// now is the instant of the view by the clock of the API server, and life how
	// long any of the proxies may use a certificate; zero if there is none.
	now  time.Time
	life time.Duration
	// populated tells that there is anybody to be cut off.
	populated bool

	pods        map[string]*corev1.Pod // by the name that the view has for them
	componentOf map[string]kube.Ref    // of those pods that are the control plane's
}

// A component is a workload of the control plane.
type component struct {
	workload *kube.Workload
	signs    bool
	mark     string // of what its pods read if they start now
	behind   bool   // one of its pods has read something else
}

// requestLimit is how long the API server works on one request at the most, unless
// it is told otherwise (--request-timeout).
const requestLimit = time.Minute

// view looks at everything. What is settled is not looked at pod by pod.
func (r *run) view(ctx context.Context) (*view, error) {
	v := &view{plane: layouts[r.Ref.Mesh].plane(r.Cluster, r.Ref.Namespace), pods: map[string]*corev1.Pod{}, componentOf: map[string]kube.Ref{}}
	secret, err := r.Cluster.Secret(ctx, r.Ref.Namespace, r.Ref.Secret().Name)
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return nil, err
	}
	if err == nil {
		v.secret = secret
		v.issuer, v.unread = layouts[r.Ref.Mesh].read(secret.Data)
	}
	if v.published, err = v.plane.Published(ctx, v.secret); err != nil {
		return nil, err
	}
	v.known = certificatesOf(r.Wanted, v.published)
	if r.Signer != nil {
		maps.Copy(v.known, certificatesOf(pki.NewBundle(r.Signer.Anchors()...)))
	}
	v.Published, v.Wanted = rotation.AnchorsOf(v.published), rotation.AnchorsOf(r.Wanted)
	v.Issuer = r.judge(v)
	v.Signer = r.signer(v)
	if v.kept, err = r.keptOn(ctx, v); err != nil {
		return nil, err
	}
	var kept bool
	if v.kept != nil {
		v.record, kept = recordIn(v.kept.Annotations)
	}
	if kept && v.record.Settled == settledMark(v.View) && !v.Issuer.Down {
		v.populated = true
		return v, nil
	}
	if v.now, err = r.clock(ctx); err != nil {
		return nil, err
	}
	v.reconcile(kept)
	if v.plane.Admits() {
		v.Admitting = v.record.Handouts.Admitting(v.now, requestLimit)
	}
	if err := r.lookAtPods(ctx, v); err != nil {
		return nil, err
	}
	return v, nil
}

// clock is the API server's, or, for whoever may only read and where the namespace
// is yet to be made, this machine's, put back by as much as it may be ahead: pods
// then seem to have asked earlier.
func (r *run) clock(ctx context.Context) (time.Time, error) {
	now, err := r.Cluster.Clock(ctx, r.Ref.Namespace)
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		return time.Now().Add(-pki.Backdate), nil
	}
	return now, err
}

// judge says how good the issuer is that the control plane is given.
func (r *run) judge(v *view) rotation.Issuer {
	if v.issuer == nil {
		return rotation.Issuer{}
	}
	chain := v.issuer.Chain()
	bundle := v.published.With(r.Wanted.Certificates()...)
	signers, err := bundle.Signers(chain[len(chain)-1])
	if err != nil {
		return rotation.Issuer{}
	}
	issuer := rotation.Issuer{Anchor: rotation.AnchorOf(signers[0])}
	now := r.Options.Now
	anchor, err := r.leadsTo(bundle, chain)
	switch {
	case errors.Is(err, pki.ErrExpired):
		issuer.Down = true
	case errors.Is(err, pki.ErrNotYetValid):
		// Another machine's clock was ahead when it was made.
	case err != nil:
		return rotation.Issuer{}
	default:
		issuer.Anchor = rotation.AnchorOf(anchor)
		issuer.Ending = chain[0].NotAfter.Sub(now) < ending
	}
	if r.Signer == nil || !r.Signer.Renews() {
		return issuer
	}
	issuer.Renewable = slices.ContainsFunc(r.Signer.Anchors(), func(cert certificate) bool {
		return rotation.AnchorOf(cert) == issuer.Anchor && pki.CheckAnchor(cert, now) == nil && r.gains(chain[0], cert)
	})
	return issuer
}

// leadsTo is the anchor that a chain leads to. Several may have one key: then it
// is the one that signs, if it is among them.
func (r *run) leadsTo(bundle pki.Bundle, chain []certificate) (certificate, error) {
	if r.Signer != nil {
		for _, cert := range r.Signer.Anchors() {
			if bundle.Contains(cert) {
				if anchor, err := pki.NewBundle(cert).VerifyChain(chain, r.Options.Now); err == nil {
					return anchor, nil
				}
			}
		}
	}
	return bundle.VerifyChain(chain, r.Options.Now)
}

// gains reports whether another issuer below the anchor would live markedly longer
// than the present one.
func (r *run) gains(issuer, anchor certificate) bool {
	life := cmp.Or(r.Options.Validity, pki.DefaultIssuerValidity)
	end := r.Options.Now.Add(life)
	if anchor.NotAfter.Before(end) {
		end = anchor.NotAfter
	}
	return end.Sub(issuer.NotAfter) > min(time.Hour, life/2)
}

// signer is the anchor that the issuer is to lead to: the one that signs, or,
// where that is not known, the one that it leads to now, or else the first of
// those that are wanted.
func (r *run) signer(v *view) rotation.Anchor {
	if r.Signer != nil {
		for _, cert := range r.Signer.Anchors() {
			if r.Wanted.Contains(cert) {
				return rotation.AnchorOf(cert)
			}
		}
	}
	if v.Wanted.Has(v.Issuer.Anchor) || len(v.Wanted) == 0 {
		return v.Issuer.Anchor
	}
	return v.Wanted[0]
}

// keptOn is the object that the record is kept on, the one with the trust bundle;
// nil if it is not there.
func (r *run) keptOn(ctx context.Context, v *view) (*metav1.ObjectMeta, error) {
	ref := r.Ref.bundle()
	if ref == r.Ref.Secret() {
		if v.secret == nil {
			return nil, nil //nolint:nilnil // There is none.
		}
		return &v.secret.ObjectMeta, nil
	}
	object, err := r.Cluster.ConfigMap(ctx, ref.Namespace, ref.Name)
	if errors.Is(err, kube.ErrNotFound) {
		return nil, nil //nolint:nilnil // There is none.
	}
	if err != nil {
		return nil, err
	}
	return &object.ObjectMeta, nil
}

// reconcile makes the record one of what is there: others may have changed it,
// and a run may have been cut off between the record and the change.
func (v *view) reconcile(kept bool) {
	v.record.Settled = ""
	h := v.record.Handouts
	if !kept {
		issuer := v.Issuer.Anchor
		if issuer == "" && len(v.Published) > 0 {
			issuer = v.Published[0]
		}
		if issuer != "" {
			h = rotation.Adopt(issuer, v.Published, v.now)
		}
		v.record.Handouts, v.unnoted = h, len(h) > 0
		return
	}
	if n := len(h); n > 1 && h[n-1].Begin.IsZero() {
		// A run was cut off before it could say since when.
		h = slices.Clone(h)
		h[n-1].Begin, v.unnoted = v.now, true
	}
	if n := len(h); n > 1 && h[n-1].Issuer != v.Issuer.Anchor && h[n-2].Issuer == v.Issuer.Anchor && h[n-2].Roots.Same(v.Published) {
		h = h[:n-1] // It was about to be issued, and never was.
	}
	issuer := cmp.Or(v.Issuer.Anchor, h.Newest().Issuer)
	v.record.Handouts = h.Begun(issuer, v.Published, v.now)
	v.unnoted = v.unnoted || !slices.EqualFunc(v.record.Handouts, h, func(a, b rotation.Handout) bool { return a.Begin.Equal(b.Begin) && a.Issuer == b.Issuer })
}

// lookAtPods fills in what the pods have, of the control plane and of the data
// plane.
func (r *run) lookAtPods(ctx context.Context, v *view) error {
	workloads, err := v.plane.Workloads(ctx)
	if err != nil {
		return err
	}
	for _, w := range workloads {
		c := component{workload: w, signs: v.plane.Signs(w)}
		roots, begin := v.reads(c.signs)
		c.mark = digest(string(roots.Issuer), joined(roots.Roots), begin.UTC().Format(time.RFC3339))
		pods, err := r.Cluster.PodsOf(ctx, w.Ref)
		if err != nil {
			return err
		}
		for _, pod := range pods {
			if mesh.Finished(pod) {
				continue
			}
			name := pod.Namespace + "/" + pod.Name
			v.componentOf[name], v.pods[name], v.populated = w.Ref, pod, true
			p := rotation.Plane{Name: name, Bundle: v.Published, Leaving: pod.DeletionTimestamp != nil}
			if c.signs {
				p.Issuer = v.Issuer.Anchor
			}
			if pod.Annotations[mesh.TrustAnnotation] != c.mark && !pod.CreationTimestamp.After(begin) {
				former := v.record.Handouts.Former()
				p.Bundle, p.Issuer = former.Roots, ""
				if c.signs {
					p.Issuer = former.Issuer
				}
				c.behind, v.behind = true, true
			}
			v.Planes = append(v.Planes, p)
		}
		v.components = append(v.components, c)
	}
	return r.lookAtProxies(ctx, v)
}

// reads is what a pod of the control plane has read if it started after the
// instant: those that do not sign read the bundle only.
func (v *view) reads(signs bool) (what rotation.Handout, since time.Time) {
	h := v.record.Handouts
	newest := h.Newest()
	what, since = rotation.Handout{Roots: newest.Roots}, newest.Begin
	if signs {
		what.Issuer = newest.Issuer
		return what, since
	}
	for _, handout := range slices.Backward(h) {
		if !handout.Roots.Same(newest.Roots) {
			break
		}
		since = handout.Begin
	}
	return what, since
}

func (r *run) lookAtProxies(ctx context.Context, v *view) error {
	lifetime, err := v.plane.Lifetime(ctx)
	if err != nil {
		return err
	}
	pods, err := r.Cluster.Pods(ctx, "")
	if err != nil {
		return err
	}
	m := v.plane.Mesh()
	shown := map[string]rotation.Anchors{}
	reach := mesh.DataPlane{Cluster: r.Cluster, Mesh: m}
	asked := v.plane.Asked(pods)
	for _, pod := range pods {
		if mesh.Finished(pod) || m.Proxy(pod).Mode == "" || !v.plane.Serves(pod) {
			continue
		}
		name := pod.Namespace + "/" + pod.Name
		v.pods[name], v.populated = pod, true
		p := rotation.Proxy{Name: name, Leaving: pod.DeletionTimestamp != nil}
		life := lifetime(pod)
		v.life = max(v.life, life)
		since, again := asked(pod)
		if renewed := v.now.Add(-life); again && renewed.After(since) {
			since = renewed
		}
		p.Presents, p.Trusts, p.MayTrust = v.record.Handouts.Given(since)
		p.Renews = v.record.turned(life, func(h rotation.Handout) bool { return h.Issuer != v.Issuer.Anchor })
		_, own := v.componentOf[name]
		switch text, said := v.plane.Trusts(pod); {
		case said:
			if _, read := shown[text]; !read {
				bundle, _ := pki.ParseBundle([]byte(text)) // A proxy trusts nobody by what it cannot read.
				shown[text] = rotation.AnchorsOf(bundle)
				maps.Copy(v.known, certificatesOf(bundle))
			}
			p.Trusts, p.MayTrust = shown[text], shown[text]
		case own:
			// It reads the published bundle when it starts, and those that have
			// not are made anew before anything else.
			p.Trusts, p.MayTrust = v.Published, v.Published
		default:
			p.Learns = v.record.turned(life, func(h rotation.Handout) bool { return !h.Roots.Same(v.Published) })
		}
		if !own && !v.content(p) {
			if p.Fixed = v.plane.Fixed(pod); p.Fixed != "" {
				p.Learns = time.Time{}
			}
			if !again {
				p.Renews = time.Time{}
			}
			if p.Fixed == "" && !p.Leaving {
				if p.Fixed, err = reach.Unreachable(ctx, pod); err != nil && !errors.Is(err, kube.ErrNotFound) {
					return err
				}
			}
		}
		v.Proxies = append(v.Proxies, p)
	}
	for i := range v.Proxies {
		// What is nowhere to be had cannot be published again.
		v.Proxies[i].Presents = slices.DeleteFunc(v.Proxies[i].Presents, func(a rotation.Anchor) bool { return v.known[a] == nil })
	}
	slices.SortFunc(v.Proxies, func(a, b rotation.Proxy) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// content reports whether a proxy has what everybody is to have in the end, so
// that nothing is to be done about it.
func (v *view) content(p rotation.Proxy) bool {
	return p.Trusts.Covers(v.Wanted) && v.Wanted.Covers(p.MayTrust) && len(p.Presents) == 1 && p.Presents[0] == v.Signer
}

// turned is when proxies with certificates of a lifetime will have asked since
// the last of some handouts ended; zero while one of them lasts.
func (r record) turned(lifetime time.Duration, former func(rotation.Handout) bool) time.Time {
	var last time.Time
	for _, handout := range r.Handouts {
		switch {
		case !former(handout):
		case handout.End.IsZero():
			return time.Time{}
		case handout.End.After(last):
			last = handout.End
		}
	}
	if last.IsZero() {
		return time.Time{}
	}
	// Ends are cut to the second.
	return last.Add(lifetime + time.Second)
}

// waits reports whether a decision is to wait for longer than an apply does.
func (v *view) waits(d rotation.Decision) bool {
	if d.Step != rotation.Wait {
		return false
	}
	// Pods that should have been gone for a while are held by something.
	held := func(name string) bool {
		pod := v.pods[name]
		return d.Until.IsZero() && pod != nil && pod.DeletionTimestamp != nil && pod.DeletionTimestamp.Time.Before(v.now.Add(-shortly))
	}
	return d.Blocked || d.Until.After(v.now.Add(shortly)) || slices.ContainsFunc(d.Proxies, held)
}

// standing is what is told of the view.
func (v *view) standing(k Keeper) Standing {
	s := Standing{Issuer: v.issuer, Published: v.published}
	if v.secret != nil {
		s.AnchorID = v.secret.Annotations[anchorAnnotation]
	}
	if v.record.Settled == "" {
		s.Stages, s.Next = rotation.Stages(v.View), rotation.Next(v.View, k.Complete)
	}
	if v.waits(s.Next) {
		s.WaitsFor = s.Next.Reason
	}
	s.Renewal = v.renewal(k)
	return s
}

// renewal is why the issuer's Secret is to be written anew, apart from a rotation.
func (v *view) renewal(k Keeper) string {
	return cmp.Or(v.lapses(k), v.misshapen(k))
}

// lapses is why there has to be another issuer below the same anchor.
func (v *view) lapses(k Keeper) string {
	if v.unread != nil {
		return k.Ref.Secret().String() + ": " + v.unread.Error()
	}
	if v.issuer == nil {
		return ""
	}
	cert := v.issuer.Certificate()
	if own, is := k.Signer.(ownIssuer); is && !own.issuer.Certificate().Equal(cert) && rotation.AnchorOf(own.anchor) == v.Issuer.Anchor {
		return "another issuer is given"
	}
	if anchor := v.known[v.Issuer.Anchor]; anchor != nil && v.Issuer.Anchor == v.Signer && pki.IssuerRenewalDue(cert, anchor, k.Early, k.Options.Now) {
		return "valid until " + cert.NotAfter.Format(time.RFC3339)
	}
	return ""
}

// misshapen is what of the Secret is not as it would be written with the issuer
// that it holds.
func (v *view) misshapen(k Keeper) string {
	if v.issuer == nil || v.Issuer.Anchor == "" || len(v.Published) == 0 {
		return ""
	}
	if key := layouts[k.Ref.Mesh].differs(v.secret, v.issuer, v.published); key != "" {
		return key + " is not what it should be"
	}
	return ""
}
