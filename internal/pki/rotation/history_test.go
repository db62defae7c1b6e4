package rotation

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/quick"
	"time"
)

// TestGivenIsOnTheSafeSide has proxies ask the pods of a control plane, each of
// which reads what is written some time later, and holds what the history says of
// them against what they were given.
func TestGivenIsOnTheSafeSide(t *testing.T) {
	t.Parallel()
	const lifetime = 10 * time.Second
	type asked struct {
		at   time.Time
		what Handout
	}
	property := func(seed uint64) bool {
		r := rand.New(rand.NewPCG(seed, 1))
		some := func() Handout {
			return []Handout{
				{Issuer: "A", Roots: Anchors{"A"}},
				{Issuer: "A", Roots: Anchors{"A", "B"}},
				{Issuer: "B", Roots: Anchors{"B", "A"}},
				{Issuer: "B", Roots: Anchors{"B"}},
				{Issuer: "C", Roots: Anchors{"A", "C"}},
			}[r.IntN(5)]
		}
		now := time.Date(2030, 1, 1, 0, 0, 0, r.IntN(1e9), time.UTC)
		clock := func() time.Time { return now.Truncate(time.Second) }
		written := some()
		h := History(nil).Begun(written.Issuer, written.Roots, clock())
		planes := []Handout{written, written, written}
		var proxies []asked
		for range 80 {
			now = now.Add(time.Duration(r.IntN(600)) * time.Millisecond)
			switch r.IntN(6) {
			case 0: // Recorded first; it may never come to the writing.
				next := some()
				h = h.Begun(next.Issuer, next.Roots, clock())
				if r.IntN(3) > 0 {
					written = next
				}
			case 1:
				planes[r.IntN(3)] = written
			case 2:
				// Looked at anew: the record is made one of what is there.
				h = h.Begun(written.Issuer, written.Roots, clock())
				if !slices.ContainsFunc(planes, func(p Handout) bool { return p.Issuer != written.Issuer || !p.Roots.Same(written.Roots) }) {
					h = h.Ended(clock(), lifetime)
					if !h.Settled() {
						t.Logf("%+v is to be settled", h)
						return false
					}
				}
				text, err := json.Marshal(h)
				if err != nil {
					t.Fatal(err)
				}
				h = nil
				if err := json.Unmarshal(text, &h); err != nil {
					t.Fatal(err)
				}
			default:
				proxies = append(proxies, asked{at: now, what: planes[r.IntN(3)]})
			}
			for _, p := range proxies {
				if now.Sub(p.at) >= lifetime {
					continue // Its certificate has expired: it has asked again.
				}
				since := p.at.Truncate(time.Second)
				if renewed := clock().Add(-lifetime); renewed.After(since) {
					since = renewed
				}
				presents, trusts, mayTrust := h.Given(since)
				if !presents.Has(p.what.Issuer) || !p.what.Roots.Covers(trusts) || !mayTrust.Covers(p.what.Roots) {
					t.Logf("asked at %s and given %+v, of which %+v says %s, %s, %s", p.at, p.what, h, presents, trusts, mayTrust)
					return false
				}
			}
		}
		return true
	}
	if err := quick.Check(property, &quick.Config{MaxCount: 2000}); err != nil {
		t.Fatal(err)
	}
}

func TestGivenIsExactOnceAllHaveAskedAgain(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	h := Adopt("A", Anchors{"A"}, at).Begun("A", Anchors{"A", "B"}, at).Begun("B", Anchors{"A", "B"}, at.Add(time.Minute)).Ended(at.Add(time.Hour), 0)
	presents, trusts, mayTrust := h.Given(at)
	if !presents.Same(Anchors{"A", "B"}) || !trusts.Same(Anchors{"A"}) || !mayTrust.Same(Anchors{"A", "B"}) {
		t.Errorf("before: %s, %s, %s", presents, trusts, mayTrust)
	}
	presents, trusts, mayTrust = h.Given(at.Add(time.Hour + time.Second))
	if !presents.Same(Anchors{"B"}) || !trusts.Same(Anchors{"A", "B"}) || !mayTrust.Same(Anchors{"A", "B"}) {
		t.Errorf("after: %s, %s, %s", presents, trusts, mayTrust)
	}
	if h = h.Ended(at.Add(26*time.Hour), 24*time.Hour); len(h) != 1 || h.Newest().Issuer != "B" {
		t.Errorf("what nobody can have any more is kept: %+v", h)
	}
}

func TestARecordDoesNotGrowByRepetition(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	h := Adopt("A", Anchors{"A"}, at)
	for i := range 100 {
		at = at.Add(time.Second)
		h = h.Begun("B", Anchors{"A", "B"}, at).Begun("A", Anchors{"A", "B"}, at).Begun("A", Anchors{"B", "A"}, at)
		if i%7 == 0 {
			h = h.Ended(at, 0)
		}
	}
	if len(h) != 3 || h.Newest().Issuer != "A" || h.Former().Issuer != "B" {
		t.Errorf("%+v", h)
	}
	if (History{}).Newest().Issuer != "" || h[:1].Former().Issuer != "" {
		t.Error("there is something where nothing is")
	}
}

func TestAdoptedProxiesAreTakenToKnowTheIssuerOnly(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	h := Adopt("B", Anchors{"A", "B"}, at)
	presents, trusts, mayTrust := h.Given(at.Add(time.Hour))
	if !presents.Same(Anchors{"A", "B"}) || !trusts.Same(Anchors{"B"}) || !mayTrust.Same(Anchors{"A", "B"}) {
		t.Errorf("%s, %s, %s", presents, trusts, mayTrust)
	}
	if !h.Newest().Begin.Equal(at) {
		t.Error("nobody knows that the control plane has read both anchors before")
	}
	if h := Adopt("A", Anchors{"A"}, at); len(h) != 1 || !h.Newest().Begin.IsZero() {
		t.Errorf("there has never been but one anchor, and %+v", h)
	}
}

func TestWhatHasExpiredIsPresentedNoMore(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	h := Adopt("A", Anchors{"A"}, at).Begun("A", Anchors{"B"}, at).Revived("B", Anchors{"B"}, at.Add(time.Second))
	presents, trusts, mayTrust := h.Given(at)
	if !presents.Same(Anchors{"B"}) || len(trusts) != 0 || !mayTrust.Same(Anchors{"A", "B"}) {
		t.Errorf("%s, %s, %s", presents, trusts, mayTrust)
	}
}

func TestAdmittedPodsAppearWithinTheLimitOfARequest(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	h := Adopt("A", Anchors{"A"}, at).Begun("A", Anchors{"A", "B"}, at)
	if until := h.Admitting(at, time.Minute); !until.IsZero() {
		t.Errorf("nothing has ended, and pods are to appear until %s", until)
	}
	h = h.Ended(at, 0).Begun("B", Anchors{"A", "B"}, at).Ended(at.Add(10*time.Second), 0)
	if until := h.Admitting(at.Add(11*time.Second), time.Minute); !until.After(at.Add(70 * time.Second)) {
		t.Errorf("pods may appear a minute after the last handout, and not until %s", until)
	}
	if until := h.Admitting(at.Add(72*time.Second), time.Minute); !until.IsZero() {
		t.Errorf("all have appeared, and pods are to appear until %s", until)
	}
}
