// Package rotation decides how a mesh passes from one trust anchor to another
// without an instant in which two of its pods cannot verify each other. It is a
// pure state machine: given what a control plane and its data plane have, it
// names the one step that is safe now. It keeps no state of its own, so a run that
// was cut off is continued by looking again, and it asks only two things of the
// world: that a step is finished before the next is asked for, and that what it is
// told is on the safe side (see [Proxy]).
//
// The order is that of Linkerd's and Istio's own instructions: everybody trusts
// the new anchor before anything is issued below it, and nobody presents a
// certificate below the old one before anybody ceases to trust it.
package rotation

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// A View is a control plane and its data plane at one instant.
type View struct {
	// Wanted are the anchors to be trusted in the end, Signer the one of them
	// that the issuer is to lead to.
	Wanted Anchors
	Signer Anchor

	// Published is the trust bundle that the control plane reads when it starts.
	Published Anchors
	Issuer    Issuer
	Planes    []Plane
	// Proxies are all meshed pods, those of the control plane under the names that
	// they have in Planes. They were listed after the Planes: whoever appeared in
	// between was admitted by one of these.
	Proxies []Proxy
	// Admitting is until when pods may appear that a former pod of the control
	// plane has admitted; zero if none can, or if pods are told whom to trust when
	// they ask rather than when they are admitted (see [History.Admitting]).
	Admitting time.Time
}

// An Issuer is the one that the control plane is given.
type Issuer struct {
	// Anchor that it leads to; empty if there is none that could be read.
	Anchor Anchor
	// Down tells that it, or its anchor, has expired, and with it every
	// certificate of the mesh, because none outlives its issuer.
	Down bool
	// Ending tells that it is about to, sooner than a rotation may take.
	Ending bool
	// Renewable tells that its anchor can sign another one, which would not be
	// Ending itself.
	Renewable bool
}

// anchors is its anchor, if that is known.
func (i Issuer) anchors() Anchors {
	if i.Anchor == "" {
		return nil
	}
	return Anchors{i.Anchor}
}

// A Plane is a pod of the control plane by what it has read.
type Plane struct {
	Name string
	// Bundle is empty if it is not known.
	Bundle Anchors
	// Issuer is the anchor below which it issues certificates; empty if it does
	// not know or issues none.
	Issuer Anchor
	// Leaving pods are on their way out, and serve until they are gone.
	Leaving bool
}

// A Proxy is one meshed pod. Where it is not known what it has, what it might
// have: the less in Trusts and the more in MayTrust and Presents, the safer.
type Proxy struct {
	Name string
	// Trusts are anchors that it trusts in any case, MayTrust all that it might.
	Trusts, MayTrust Anchors
	// Presents are the anchors that its certificate might lead to.
	Presents Anchors
	// Learns is when the proxy will have the control plane's present anchors
	// without being made anew, Renews when it will have a certificate of the
	// present issuer; zero for never.
	Learns, Renews time.Time
	// Fixed is why no restart makes it anew; empty if one does.
	Fixed string
	// Leaving pods are on their way out, and take part until they are gone.
	Leaving bool
}

// A Step is what is to be done next.
type Step int

// The steps. After each, the world is looked at anew.
const (
	// Done: there is nothing to do.
	Done Step = iota
	// Wait: nothing can be done now; Decision says for what.
	Wait
	// Publish the bundle of the decision; the control plane is not restarted yet.
	Publish
	// Issue puts an issuer below the decision's anchor in service.
	Issue
	// RestartControlPlane makes every pod of the control plane anew.
	RestartControlPlane
	// RestartDataPlane makes the pods of the decision anew.
	RestartDataPlane
)

// A Stage is a part of a rotation after which it can rest for as long as one
// likes: all verify each other. Its text is what plans show.
type Stage string

// The stages in their order. Recover takes the place of others when nothing
// verifies any more, so that nothing is left to be careful with; Extend buys time
// for them.
const (
	Recover Stage = "recover: mTLS is down because the issuer has expired; publish what is wanted and issue anew at once"
	Extend  Stage = "extend: another issuer below the present anchor, because the present one ends soon"
	Spread  Stage = "publish: the trust bundle with the new anchor, and restart the control plane"
	Teach   Stage = "trust: every pod trusts the new anchor"
	Switch  Stage = "issue: the issuer is signed by the new anchor, and the control plane restarted"
	Renew   Stage = "renew: no pod presents a certificate below the old anchor"
	Drop    Stage = "drop: the trust bundle without the old anchor, and restart the control plane"
	Forget  Stage = "forget: no pod trusts the old anchor"
)

// A Decision is the next step and why.
type Decision struct {
	Step  Step
	Stage Stage
	// Bundle is what Publish publishes, Anchor what Issue issues below.
	Bundle Anchors
	Anchor Anchor
	// Proxies are the names of those that RestartDataPlane makes anew, or that
	// Wait is for.
	Proxies []string
	// Until is when Wait may be over; zero if that is not known.
	Until time.Time
	// Blocked tells that Wait is for something that somebody has to do.
	Blocked bool
	// Reason says in one line where the rotation stands.
	Reason string
}

// Next is the next safe step. With restart, pods are made anew rather than
// waited for where they would come round by themselves.
func Next(v View, restart bool) Decision {
	v.Wanted = v.Wanted.With(v.Signer)
	if v.Issuer.Down {
		return v.recover()
	}
	if v.Issuer.Ending && v.Issuer.Renewable && v.Issuer.Anchor != v.Signer {
		return Decision{Step: Issue, Stage: Extend, Anchor: v.Issuer.Anchor, Reason: "the issuer ends before the rotation may have"}
	}
	// Whoever has taken an anchor out of the bundle that is still in use has to be
	// made up for: pods made now would not trust those that present it.
	used := v.Issuer.anchors()
	var presented Anchors
	for _, p := range v.Proxies {
		presented = presented.With(p.Presents...)
	}
	needed := v.Published.With(v.Wanted...).With(used...).With(presented...)
	if !v.Published.Covers(needed) {
		return Decision{Step: Publish, Stage: Spread, Bundle: needed, Reason: fmt.Sprintf("%s is not published yet", anchors(needed.Without(v.Published)))}
	}
	if d, ok := v.controlPlane(); ok {
		return d
	}
	inForce := v.Wanted.With(used...)
	ignorant := func(p Proxy) bool {
		// Those that no restart reaches are not waited for on account of an anchor
		// that goes out of use anyway.
		return !p.Trusts.Covers(inForce) || p.Fixed == "" && !p.Leaving && !p.Trusts.Covers(presented)
	}
	if d, ok := v.dataPlane(Teach, ignorant, func(p Proxy) time.Time { return p.Learns }, restart, "trust "+anchors(inForce.With(presented...))); ok {
		return d
	}
	if v.Issuer.Anchor != v.Signer {
		if !v.Admitting.IsZero() {
			return Decision{Step: Wait, Stage: Switch, Until: v.Admitting, Reason: "pods may still appear that were admitted before the control plane had read what is published"}
		}
		return Decision{Step: Issue, Stage: Switch, Anchor: v.Signer, Reason: "all pods trust " + anchors(Anchors{v.Signer})}
	}
	if old := v.Published.Without(v.Wanted); len(old) > 0 {
		presenting := func(p Proxy) bool { return len(p.Presents.Both(old)) > 0 }
		if d, ok := v.dataPlane(Renew, presenting, func(p Proxy) time.Time { return p.Renews }, restart, "present no certificate below "+anchors(old)); ok {
			return d
		}
		return Decision{Step: Publish, Stage: Drop, Bundle: v.Published.Both(v.Wanted), Reason: "no pod presents a certificate below " + anchors(old)}
	}
	trusting := func(p Proxy) bool { return !v.Wanted.Covers(p.MayTrust) }
	if d, ok := v.dataPlane(Forget, trusting, func(p Proxy) time.Time { return p.Learns }, restart, "trust nothing but "+anchors(v.Wanted)); ok {
		return d
	}
	return Decision{Step: Done, Reason: fmt.Sprintf("%d pods trust %s", len(v.Proxies), anchors(v.Wanted))}
}

// recover is the shortest way back when nothing verifies: there is no peer left
// to be cut off. An issuer below an anchor that all trust is shorter than one that
// takes a restart of every pod.
func (v View) recover() Decision {
	trusted := func(anchor Anchor) bool {
		return v.Published.Has(anchor) && !slices.ContainsFunc(v.Proxies, func(p Proxy) bool { return !p.Leaving && !p.Trusts.Has(anchor) })
	}
	const down = "the issuer is not valid any more"
	switch {
	case trusted(v.Signer):
		return Decision{Step: Issue, Stage: Recover, Anchor: v.Signer, Reason: down + "; all pods trust " + anchors(Anchors{v.Signer})}
	case v.Issuer.Renewable && trusted(v.Issuer.Anchor):
		return Decision{Step: Issue, Stage: Recover, Anchor: v.Issuer.Anchor, Reason: down + "; its anchor can sign another"}
	case !v.Published.Same(v.Wanted):
		return Decision{Step: Publish, Stage: Recover, Bundle: v.Wanted, Reason: down}
	default:
		return Decision{Step: Issue, Stage: Recover, Anchor: v.Signer, Reason: down}
	}
}

// controlPlane has every pod of the control plane read what is published.
func (v View) controlPlane() (Decision, bool) {
	var behind, leaving []string
	stage := Drop
	for _, p := range v.Planes {
		lacks := !p.Bundle.Covers(v.Published)
		other := p.Issuer != "" && v.Issuer.Anchor != "" && p.Issuer != v.Issuer.Anchor
		switch {
		case !lacks && !other && p.Bundle.Same(v.Published):
			continue
		case lacks:
			stage = Spread
		case other && stage != Spread:
			stage = Switch
		}
		if p.Leaving {
			leaving = append(leaving, p.Name)
		} else {
			behind = append(behind, p.Name)
		}
	}
	switch {
	case len(behind) > 0:
		return Decision{Step: RestartControlPlane, Stage: stage, Reason: fmt.Sprintf("%d of %d pods of the control plane have not read what is published", len(behind), len(v.Planes))}, true
	case len(leaving) > 0:
		return Decision{Step: Wait, Stage: stage, Proxies: leaving, Reason: "former pods of the control plane are on their way out: " + few(leaving)}, true
	}
	return Decision{}, false
}

// dataPlane brings the proxies round that are behind, if there are any. What
// they are to reach completes the sentence "37 of 41 pods ...".
func (v View) dataPlane(stage Stage, behind func(Proxy) bool, round func(Proxy) time.Time, restart bool, reach string) (Decision, bool) {
	var anew, patient, leaving, fixed, why []string
	var until time.Time
	count := 0
	for _, p := range v.Proxies {
		if !behind(p) {
			continue
		}
		count++
		at := round(p)
		switch {
		case p.Leaving:
			leaving = append(leaving, p.Name)
		case !at.IsZero() && (!restart || p.Fixed != ""):
			patient = append(patient, p.Name)
			if at.After(until) {
				until = at
			}
		case p.Fixed != "":
			fixed = append(fixed, p.Name)
			why = append(why, p.Name+": "+p.Fixed)
		default:
			anew = append(anew, p.Name)
		}
	}
	if count == 0 {
		return Decision{}, false
	}
	d := Decision{Step: Wait, Stage: stage, Reason: fmt.Sprintf("%d of %d pods %s", len(v.Proxies)-count, len(v.Proxies), reach)}
	switch {
	case len(anew) > 0:
		d.Step, d.Proxies = RestartDataPlane, anew
	case len(leaving) > 0:
		// What is on its way out is waited for first: it takes the shortest.
		d.Proxies = leaving
		d.Reason += "; on their way out: " + few(leaving)
	case len(fixed) > 0:
		d.Proxies, d.Blocked = fixed, true
		d.Reason += "; no restart reaches " + few(why)
	default:
		d.Proxies, d.Until = patient, until
		d.Reason += fmt.Sprintf("; the others do by %s: %s", until.UTC().Format(time.RFC3339), few(patient))
	}
	return d, true
}

// Stages are those that are still to come, in their order, if nothing unforeseen
// happens; empty when there is nothing to do.
func Stages(v View) []Stage {
	var stages []Stage
	for d := range v.course() {
		if len(stages) == 0 || stages[len(stages)-1] != d.Stage {
			stages = append(stages, d.Stage)
		}
	}
	return stages
}

// course is what the machine decides until it is done, if nothing unforeseen
// happens. It ends, because every step takes away what led to it and no later one
// brings it back: bundles grow before the issuer is switched, and shrink after.
func (v View) course() iter.Seq[Decision] {
	return func(yield func(Decision) bool) {
		v := v
		v.Planes, v.Proxies = slices.Clone(v.Planes), slices.Clone(v.Proxies)
		for d := Next(v, true); d.Step != Done && yield(d); d = Next(v, true) {
			v.foresee(d)
		}
	}
}

// foresee makes the view what it will be after a step that goes well. What is
// waited for happens: who leaves is gone, and what somebody has to make anew is.
func (v *View) foresee(d Decision) {
	named := make(map[string]bool, len(d.Proxies))
	for _, name := range d.Proxies {
		named[name] = true
	}
	switch d.Step {
	case Publish:
		v.Published = d.Bundle
		for i, p := range v.Planes {
			// One that has read the same before may have read something else since.
			if p.Bundle.Same(d.Bundle) {
				v.Planes[i].Bundle = nil
			}
		}
	case Issue:
		v.Issuer = Issuer{Anchor: d.Anchor}
		for i, p := range v.Proxies {
			if d.Stage == Recover {
				p.Presents = nil
			}
			v.Proxies[i].Presents = p.Presents.With(d.Anchor)
		}
	case RestartControlPlane:
		// Meanwhile its own proxies ask those that are there: what none of these
		// issues below, they present no more. Some tell nothing of that.
		var issuers Anchors
		for _, plane := range v.Planes {
			if plane.Issuer != "" {
				issuers = issuers.With(plane.Issuer, v.Issuer.Anchor)
			}
		}
		for i, plane := range v.Planes {
			if plane.Leaving {
				continue
			}
			v.Planes[i].Bundle = v.Published
			if plane.Issuer != "" {
				v.Planes[i].Issuer = v.Issuer.Anchor
			}
			for j, p := range v.Proxies {
				if p.Name != plane.Name {
					continue
				}
				v.Proxies[j].Trusts, v.Proxies[j].MayTrust = v.Published, v.Published
				if len(issuers) > 0 {
					v.Proxies[j].Presents = p.Presents.Both(issuers)
				}
			}
		}
	case Wait, RestartDataPlane:
		v.Admitting = time.Time{}
		v.Planes = slices.DeleteFunc(v.Planes, func(p Plane) bool { return p.Leaving && named[p.Name] })
		v.Proxies = slices.DeleteFunc(v.Proxies, func(p Proxy) bool { return p.Leaving && named[p.Name] })
		for i, p := range v.Proxies {
			if named[p.Name] {
				v.Proxies[i] = Proxy{Name: p.Name, Trusts: v.Published, MayTrust: v.Published, Presents: v.Issuer.anchors()}
			}
		}
	case Done:
	}
}

// anchors names anchors in messages by the beginning of their fingerprints, as
// the errors of package pki do.
func anchors(all Anchors) string {
	names := make([]string, len(all))
	for i, a := range all {
		names[i] = fmt.Sprintf("%.12s", string(a))
	}
	word := "anchor "
	if len(all) > 1 {
		word = "anchors "
	}
	return word + strings.Join(names, ", ")
}

// few names the first of many.
func few(names []string) string {
	const enough = 5
	if more := len(names) - enough; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:enough], ", "), more)
	}
	return strings.Join(names, ", ")
}
