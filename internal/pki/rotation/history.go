package rotation

import (
	"slices"
	"time"
)

// A Handout is what a control plane gives to the proxies that ask it for a
// certificate: which anchor the issuer leads to, and which anchors it tells them
// to trust. It may be given from Begin until End.
type Handout struct {
	Issuer Anchor  `json:"issuer"`
	Roots  Anchors `json:"roots"`
	// Begin is an instant by which it was written: pods of the control plane that
	// started later have read it. It is zero if there was nobody before. End is when
	// no pod of the control plane could give it any more; zero while one can. Both
	// are by the clock of the API server.
	Begin time.Time `json:"begin,omitzero"`
	End   time.Time `json:"end,omitzero"`
}

// A History is what was handed out, the newest last. It stands for what pods do
// not show: a proxy has what was given to it when it last asked.
type History []Handout

// Adopt is the history of a control plane that nobody has kept one for, as it is
// found at the given instant. Any published anchor may have been its issuer's; and
// as to whom proxies trust, it is only known that they verify each other, so that
// all trust the issuer's anchor. Of several anchors, it is not known either that
// the control plane has read them.
func Adopt(issuer Anchor, published Anchors, at time.Time) History {
	h := History{{Issuer: issuer, Roots: Anchors{issuer}}}
	for _, anchor := range published {
		h = h.Begun(anchor, published, at)
	}
	return h.Begun(issuer, published, at)
}

// Newest is what is handed out once the control plane has read all; zero for an
// empty history.
func (h History) Newest() Handout {
	if len(h) == 0 {
		return Handout{}
	}
	return h[len(h)-1]
}

// Former is what was handed out before the newest; zero if nothing was.
func (h History) Former() Handout {
	if len(h) < 2 {
		return Handout{}
	}
	return h[len(h)-2]
}

// Begun is the history with something that is about to be handed out, from the
// given instant on. Nothing is added if it is handed out already. What was handed
// out before and is again is not kept twice: it may have been all the time.
func (h History) Begun(issuer Anchor, roots Anchors, at time.Time) History {
	same := func(handout Handout) bool { return handout.Issuer == issuer && handout.Roots.Same(roots) }
	if len(h) > 0 && same(h.Newest()) {
		return h
	}
	return append(slices.DeleteFunc(slices.Clone(h), same), Handout{Issuer: issuer, Roots: slices.Clone(roots), Begin: at})
}

// Revived is the history with an issuer that takes the place of one that has
// expired: nobody presents what was issued before, but all still trust what they
// were told to.
func (h History) Revived(issuer Anchor, roots Anchors, at time.Time) History {
	expired := slices.Clone(h)
	for i := range expired {
		expired[i].Issuer = ""
	}
	return expired.Begun(issuer, roots, at)
}

// Ended is the history of a control plane of which every pod hands out only the
// newest at the given instant. What proxies cannot have any more, because they
// have asked again within the lifetime of a certificate, is forgotten; a lifetime
// of zero is not known.
func (h History) Ended(at time.Time, lifetime time.Duration) History {
	var kept History
	for i, handout := range h {
		if i < len(h)-1 && handout.End.IsZero() {
			handout.End = at
		}
		if !handout.End.IsZero() && lifetime > 0 && handout.End.Add(lifetime).Before(at) {
			continue
		}
		kept = append(kept, handout)
	}
	return kept
}

// Settled reports whether only the newest is handed out.
func (h History) Settled() bool {
	return !slices.ContainsFunc(h[:max(0, len(h)-1)], func(handout Handout) bool { return handout.End.IsZero() })
}

// Admitting is until when pods may appear that were admitted by a pod of the
// control plane that is gone: within the API server's limit for a request after
// former handouts have ended. It is zero if all of them have appeared.
func (h History) Admitting(now time.Time, limit time.Duration) time.Time {
	var until time.Time
	for _, handout := range h {
		// Instants may be cut to the second.
		if appeared := handout.End.Add(limit + time.Second); !handout.End.IsZero() && appeared.After(now) && appeared.After(until) {
			until = appeared
		}
	}
	return until
}

// Given is what proxies that asked at the given instant or later may have been
// given: the anchors that their certificates may lead to, those that they trust in
// any case, and those that they may trust. Creation times of pods are cut to the
// second, so the end of a handout counts as within.
func (h History) Given(since time.Time) (presents, trusts, mayTrust Anchors) {
	first := true
	for _, handout := range h {
		if !handout.End.IsZero() && handout.End.Before(since) {
			continue
		}
		if handout.Issuer != "" {
			presents = presents.With(handout.Issuer)
		}
		mayTrust = mayTrust.With(handout.Roots...)
		if first {
			trusts, first = slices.Clone(handout.Roots), false
			continue
		}
		trusts = trusts.Both(handout.Roots)
	}
	return presents, trusts, mayTrust
}
