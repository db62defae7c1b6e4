package rotation

import (
	"fmt"
	"math/bits"
	"slices"
	"time"
)

// The world is what is true of a cluster, as far as anchors go: who trusts whom,
// who presents what, and how both get to the pods. It knows nothing of the
// machine, and speaks of anchors as bits.

// roots are anchors as bits.
type roots uint16

const anchorLetters = "ABCDEFGHIJKLMNOP"

func (r roots) String() string {
	var s []byte
	for i := range anchorLetters {
		if r&(1<<i) != 0 {
			s = append(s, anchorLetters[i])
		}
	}
	return "{" + string(s) + "}"
}

type meshKind int

const (
	linkerdMesh meshKind = iota
	istioMesh
)

type role int

const (
	application role = iota
	authority        // Linkerd's identity, Istio's istiod: reads roots at start, issues
	injector         // Linkerd's: gives pods the roots of its mount
	component        // of Linkerd's control plane that is only meshed
)

const (
	certificateLife = 24 * time.Hour
	requestLimit    = time.Minute
)

// A bundle is published; torn are anchors that somebody took out by hand.
type trustBundle struct {
	roots, torn roots
	serial      int
}

type signer struct {
	anchor  roots // one bit
	expires time.Time
	serial  int // changes with the anchor
}

type phase int

const (
	inFlight phase = iota // admitted, not to be seen yet
	pending               // to be seen, no certificate yet
	running
)

// stamp is what a pod of the control plane is marked with by its template.
type stamp struct {
	bundle trustBundle
	issuer signer
}

type pod struct {
	name     string
	owner    *workload // nil for those that no restart reaches
	role     role
	template int
	mark     *stamp // nil if it was not made by a restart of ours
	phase    phase
	leaving  bool
	// slow requests take as long as they may.
	slow     bool
	admitted time.Time
	created  time.Time

	// trust is fixed at admission (Linkerd) or comes with the certificate (Istio);
	// torn are anchors that it lacks by somebody's hand.
	trust, torn roots
	presents    roots // one bit; 0 while it has no certificate
	expires     time.Time
	clamped     bool // by the end of the issuer
	renewAt     time.Time

	// What the control plane's pods have: the kubelet's copies, what was read at
	// start, and the issuer in use.
	mountBundle trustBundle
	mountIssuer signer
	read        trustBundle
	issuer      signer
}

type workload struct {
	name     string
	role     role
	replicas int
	template int
	mark     *stamp
	surge    bool // makes the new pod before the old one leaves
}

// dice are the choices of fate.
type dice interface {
	// pick is below n.
	pick(n int) int
}

type world struct {
	dice
	mesh      meshKind
	now       time.Time
	bundle    trustBundle
	issuer    signer
	workloads []*workload
	pods      []*pod
	names     int
	// ended tells that the issuer has expired at some time: pods could not renew.
	ended bool
	// handEdited tells that somebody has taken anchors out of the bundle.
	handEdited bool
	// hurried worlds let hardly any time pass, so that much happens at once.
	hurried bool
	// calm worlds have no new failures, and everything that is late comes.
	calm bool
	// err is the first thing that must not be; trail is how it came to it.
	err   error
	trail []string
	told  bool
	steps int
}

func (p *pod) String() string {
	s := fmt.Sprintf("%s trusts %s presents %s until %s", p.name, p.trust, p.presents, p.expires.Format("02 15:04:05"))
	if p.leaving {
		s += ", leaving"
	}
	if p.phase != running {
		s += [...]string{", in flight", ", pending"}[p.phase]
	}
	if p.role != application {
		s += fmt.Sprintf(", has read %s, mounts %s and issuer %s, issues below %s", p.read.roots, p.mountBundle.roots, p.mountIssuer.anchor, p.issuer.anchor)
	}
	return s
}

// note keeps what happens for whoever has to understand a failure. The story is
// told a second time for that, so that the first one is quick.
func (w *world) note(format string, args ...any) {
	if !w.told {
		return
	}
	const kept = 150
	w.trail = append(w.trail, w.now.Format("02 15:04:05.000 ")+fmt.Sprintf(format, args...))
	if len(w.trail) > kept {
		w.trail = w.trail[1:]
	}
}

func (w *world) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
		w.note("FAILED: %v", w.err)
		w.note("published %s, issuer below %s until %s", w.bundle.roots, w.issuer.anchor, w.issuer.expires)
		for _, p := range w.pods {
			w.note("%s", p)
		}
	}
}

func (w *world) chance(of int) bool { return w.pick(of) == 0 }

// between is an instant in an interval.
func (w *world) between(from, to time.Duration) time.Duration {
	return from + (to-from)*time.Duration(w.pick(1000))/1000
}

// alive tells whose certificate is good now.
func (w *world) alive(p *pod) bool {
	return p.phase == running && p.presents != 0 && p.expires.After(w.now)
}

// check is what must hold at every instant: whoever is alive is trusted by all.
func (w *world) check() {
	w.steps++
	var presented roots
	for _, p := range w.pods {
		if w.alive(p) {
			presented |= p.presents
		}
	}
	for _, p := range w.pods {
		if !w.alive(p) {
			continue
		}
		if lacks := presented &^ p.trust &^ p.torn; lacks != 0 {
			w.fail("%s (leaving: %v, made %s) trusts %s and cannot verify those that present %s", p.name, p.leaving, p.created.Format("02 15:04:05.000"), p.trust, lacks)
		}
	}
}

func (w *world) live(which func(*pod) bool) []*pod {
	var all []*pod
	for _, p := range w.pods {
		if which(p) {
			all = append(all, p)
		}
	}
	return all
}

func (w *world) one(which func(*pod) bool) *pod {
	all := w.live(which)
	if len(all) == 0 {
		return nil
	}
	return all[w.pick(len(all))]
}

func (w *world) remove(p *pod) {
	w.note("gone: %s", p)
	w.pods = slices.DeleteFunc(w.pods, func(other *pod) bool { return other == p })
}

// admit begins to make a pod: Linkerd's injector, one of those that run, fixes
// whom it trusts.
func (w *world) admit(owner *workload) *pod {
	w.names++
	p := &pod{phase: inFlight, admitted: w.now, slow: !w.calm && w.chance(4), name: fmt.Sprintf("bare-%d", w.names)}
	if owner != nil {
		p.name = fmt.Sprintf("%s-%d", owner.name, w.names)
		p.owner, p.role, p.template, p.mark = owner, owner.role, owner.template, owner.mark
	}
	if w.mesh == linkerdMesh && p.role == application {
		by := w.one(func(p *pod) bool { return p.role == injector && p.phase == running })
		if by == nil {
			return nil // Nobody can be admitted; it is tried again.
		}
		p.trust, p.torn = by.mountBundle.roots, by.mountBundle.torn
	}
	w.pods = append(w.pods, p)
	w.note("admitted: %s", p)
	return p
}

// appear makes an admitted pod one that can be seen.
func (w *world) appear(p *pod) {
	p.phase, p.renewAt = pending, w.now.Add(w.retry(time.Minute))
	p.created = p.admitted.Add(w.between(0, w.now.Sub(p.admitted)+1))
	if p.role != application {
		// The kubelet fetches what a new pod mounts.
		p.mountBundle, p.mountIssuer = w.bundle, w.issuer
	}
}

// start runs the containers of a pod, also again. It stays pending if it gets no
// certificate.
func (w *world) start(p *pod) {
	p.phase, p.presents, p.renewAt = pending, 0, w.now.Add(w.retry(time.Minute))
	if p.role == authority {
		if p.mountIssuer.anchor&p.mountBundle.roots == 0 || !p.mountIssuer.expires.After(w.now) {
			return // It ends by itself, and is tried again.
		}
		p.read, p.issuer = p.mountBundle, p.mountIssuer
	}
	if w.mesh == linkerdMesh && p.role != application {
		p.trust, p.torn = p.mountBundle.roots, p.mountBundle.torn
	}
	if w.mesh == istioMesh && p.role == authority {
		p.phase = running // Istio's control plane is no part of the mesh.
		return
	}
	if w.ask(p) {
		p.phase = running
		w.note("runs: %s", p)
	}
}

// retry is when something is tried again that has failed.
func (w *world) retry(soon time.Duration) time.Duration {
	if !w.issuer.expires.After(w.now) {
		return time.Hour // It is in vain for long.
	}
	return soon
}

// ask gets a certificate from any authority that runs.
func (w *world) ask(p *pod) bool {
	by := p
	if w.mesh == istioMesh || p.role != authority {
		by = w.one(func(a *pod) bool {
			if a.role != authority || a.phase != running || !a.issuer.expires.After(w.now) {
				return false
			}
			// Linkerd's proxies reach the authority by the mesh itself.
			return w.mesh == istioMesh || w.alive(a) && a.presents&p.trust != 0
		})
	}
	if by == nil || !by.issuer.expires.After(w.now) {
		p.renewAt = w.now.Add(w.retry(10 * time.Minute))
		return false
	}
	p.presents, p.expires, p.clamped = by.issuer.anchor, w.now.Add(certificateLife), false
	if by.issuer.expires.Before(p.expires) {
		p.expires, p.clamped = by.issuer.expires, true
	}
	early := 7 * certificateLife / 10
	if w.mesh == istioMesh {
		p.trust, p.torn = by.read.roots, by.read.torn
		early = certificateLife / 2
	}
	if !w.calm && w.chance(3) {
		early = w.between(time.Hour, 95*certificateLife/100)
	}
	p.renewAt = w.now.Add(max(time.Hour/2, min(early, p.expires.Sub(w.now)*9/10)))
	return true
}

// sync brings the kubelet's copies of a pod up to date, upon which an authority
// takes the issuer if it can.
func (w *world) sync(p *pod) {
	p.mountBundle, p.mountIssuer = w.bundle, w.issuer
	if p.role != authority || p.phase != running || !p.mountIssuer.expires.After(w.now) {
		return
	}
	sameRoots := w.mesh == linkerdMesh || p.mountBundle.roots == p.read.roots
	if sameRoots && p.mountIssuer.anchor&p.read.roots != 0 {
		p.issuer = p.mountIssuer
	}
	w.note("synced: %s", p)
}

// pass lets time go by, and happen what is due meanwhile.
func (w *world) pass(d time.Duration) {
	until := w.now.Add(d)
	for w.err == nil {
		var next *pod
		at := until
		for _, p := range w.pods {
			var due time.Time
			switch {
			case p.phase == inFlight:
				due = p.admitted.Add(requestLimit)
			case p.presents != 0 || p.phase == pending:
				due = p.renewAt
			default:
				continue
			}
			if due.Before(at) {
				next, at = p, due
			}
		}
		if at.After(w.now) {
			w.now = at
		}
		if !w.issuer.expires.After(w.now) {
			w.ended = true
		}
		if next == nil {
			break
		}
		w.due(next)
		if w.alive(next) {
			w.check()
		}
	}
}

// due happens to a pod when its time has come.
func (w *world) due(p *pod) {
	switch {
	case p.phase == inFlight:
		if w.chance(4) {
			w.remove(p) // The request has failed.
			return
		}
		w.appear(p)
	case p.phase == pending && p.leaving:
		w.remove(p)
	case p.phase == pending:
		w.start(p)
	case w.ask(p):
	case !p.expires.After(w.now) && !p.clamped && !w.ended && !w.handEdited && !p.leaving:
		w.fail("%s has not been able to renew its certificate", p.name)
	default:
		// There is always somebody again to ask.
		for _, o := range w.workloads {
			if o.role == authority {
				w.progress(o)
			}
		}
	}
}

// progress goes one step on with what a workload has to do. It reports whether
// there was one.
func (w *world) progress(o *workload) bool {
	var old, fresh, all []*pod
	leaving := 0
	for _, p := range w.pods {
		if p.owner != o {
			continue
		}
		if p.leaving {
			leaving++
			continue
		}
		all = append(all, p)
		if p.template != o.template {
			old = append(old, p)
		} else {
			fresh = append(fresh, p)
		}
	}
	leave := func(of []*pod) {
		p := of[w.pick(len(of))]
		if p.phase == inFlight {
			w.remove(p)
			return
		}
		p.leaving = true
		w.note("leaves: %s", p)
	}
	switch {
	case len(all) > o.replicas && len(old) == 0:
		leave(all)
	case len(all) < o.replicas:
		if !o.surge && leaving > 0 {
			return false // A stateful one waits for its place.
		}
		return w.admit(o) != nil
	case len(old) == 0:
		return false
	case o.surge && len(all) == o.replicas:
		return w.admit(o) != nil
	case slices.ContainsFunc(fresh, func(p *pod) bool { return p.phase != running }):
		return false
	default:
		leave(old)
	}
	return true
}

// rolled tells that nothing is left to do for a workload.
func (w *world) rolled(o *workload) bool {
	count := 0
	for _, p := range w.pods {
		if p.owner != o || p.leaving {
			continue
		}
		if p.template != o.template || p.phase != running {
			return false
		}
		count++
	}
	return count == o.replicas
}

// happen is one thing, whichever.
func (w *world) happen() {
	defer w.check()
	app := func(p *pod) bool { return p.role == application && !p.leaving && p.phase != inFlight }
	kinds := 14
	if w.calm {
		kinds = 7
	}
	switch w.pick(kinds) {
	case 0, 1, 2:
		if len(w.workloads) > 0 {
			w.progress(w.workloads[w.pick(len(w.workloads))])
		}
	case 3:
		if p := w.one(func(p *pod) bool { return p.phase == inFlight && !p.slow }); p != nil {
			w.appear(p)
		}
	case 4:
		if p := w.one(func(p *pod) bool { return p.phase == pending && !p.leaving }); p != nil {
			w.start(p)
		}
	case 5:
		if p := w.one(func(p *pod) bool { return p.leaving }); p != nil && !w.chance(3) {
			w.remove(p)
		}
	case 6:
		if p := w.one(func(p *pod) bool { return p.role != application && p.phase != inFlight }); p != nil {
			w.sync(p)
		}
	case 7:
		if p := w.one(func(p *pod) bool { return p.phase == running && !p.leaving }); p != nil {
			w.start(p) // Its container has ended.
		}
	case 8:
		if p := w.one(func(p *pod) bool { return p.phase == running }); p != nil && p.presents != 0 {
			w.ask(p)
		}
	case 9:
		if p := w.one(app); p != nil {
			p.leaving = true
		}
	case 10:
		w.pass(w.between(0, time.Second))
	case 11:
		switch {
		case w.hurried:
		case w.chance(6):
			w.pass(w.between(0, 30*time.Hour))
		default:
			w.pass(w.between(0, 4*time.Minute))
		}
	case 12:
		if w.chance(2) {
			w.admit(nil)
		} else if p := w.one(func(p *pod) bool { return p.owner == nil && p.phase != inFlight }); p != nil {
			w.remove(p)
		}
	case 13:
		w.somebody()
	}
}

// somebody does what people do with workloads.
func (w *world) somebody() {
	if len(w.workloads) == 0 {
		return
	}
	o := w.workloads[w.pick(len(w.workloads))]
	switch {
	case w.chance(2):
		o.template++
	case o.role == application:
		o.replicas = max(0, o.replicas+w.pick(5)-2)
	default:
		o.replicas = 1 + w.pick(3)
	}
}

// populate makes a cluster in which everybody runs.
func (w *world) populate(apps, replicas int) {
	add := func(name string, r role, n int, surge bool) {
		o := &workload{name: name, role: r, replicas: n, surge: surge}
		w.workloads = append(w.workloads, o)
		for range n {
			if p := w.admit(o); p != nil {
				w.appear(p)
				w.start(p)
			}
		}
	}
	if w.mesh == linkerdMesh {
		add("linkerd/identity", authority, 1+w.pick(3), true)
		add("linkerd/injector", injector, 1+w.pick(3), true)
		add("linkerd/destination", component, 1+w.pick(2), true)
	} else {
		add("istio-system/istiod", authority, 1+w.pick(3), true)
	}
	for i := range apps {
		add(fmt.Sprintf("app/%d", i), application, 1+w.pick(replicas), w.chance(2))
	}
}

// settle lets everything come that is on its way, until nothing is.
func (w *world) settle(bareToo bool) {
	for range 100_000 {
		if w.err != nil {
			return
		}
		busy := false
		for _, p := range slices.Clone(w.pods) {
			switch {
			case p.leaving, bareToo && p.owner == nil:
				w.remove(p)
				busy = true
			case p.phase == inFlight:
				w.appear(p)
				busy = true
			case p.phase == pending:
				if p.role != application {
					w.sync(p)
				}
				w.start(p)
				busy = busy || p.phase == running
			case p.role != application:
				w.sync(p)
			}
			w.check()
		}
		for _, o := range w.workloads {
			busy = w.progress(o) || busy
			w.check()
		}
		if !busy {
			return
		}
	}
	w.fail("the cluster does not come to rest")
}

// publish puts a bundle in the place of another.
func (w *world) publish(r roots) {
	if r == w.bundle.roots && w.bundle.torn == 0 {
		return
	}
	w.bundle = trustBundle{roots: r, serial: w.bundle.serial + 1}
}

// tear takes anchors out of the bundle by hand, or puts one in.
func (w *world) tear() {
	out := roots(1) << w.pick(max(1, bits.Len16(uint16(w.bundle.roots))))
	w.bundle.serial++
	if w.chance(3) {
		w.bundle.roots |= 1 << 15
		return
	}
	out &= w.bundle.roots
	w.bundle.roots &^= out
	w.bundle.torn |= out
	w.handEdited = true
}

// put gives the control plane an issuer.
func (w *world) put(anchor roots, life time.Duration) {
	serial := w.issuer.serial
	if anchor != w.issuer.anchor {
		serial++
	}
	w.issuer = signer{anchor: anchor, expires: w.now.Add(life), serial: serial}
}
