package rotation

import (
	"crypto/x509"
	"slices"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// An Anchor is a trust anchor by its certificate's SHA-256, as pki.Fingerprint
// writes it.
type Anchor string

// AnchorOf names the anchor that a certificate is.
func AnchorOf(cert *x509.Certificate) Anchor { return Anchor(pki.Fingerprint(cert)) }

// Anchors is a set of anchors, in the order of their publication.
type Anchors []Anchor

// AnchorsOf are the anchors of a bundle.
func AnchorsOf(bundle pki.Bundle) Anchors {
	var all Anchors
	for _, cert := range bundle.Certificates() {
		all = append(all, AnchorOf(cert))
	}
	return all
}

// Has reports whether an anchor is in the set.
func (a Anchors) Has(anchor Anchor) bool { return slices.Contains(a, anchor) }

// Covers reports whether all of the others are in the set.
func (a Anchors) Covers(others Anchors) bool {
	return !slices.ContainsFunc(others, func(other Anchor) bool { return !a.Has(other) })
}

// Same reports whether both sets have the same anchors, in whichever order.
func (a Anchors) Same(other Anchors) bool { return a.Covers(other) && other.Covers(a) }

// With is the set and the others behind it.
func (a Anchors) With(others ...Anchor) Anchors {
	sum := slices.Clone(a)
	for _, other := range others {
		if !sum.Has(other) {
			sum = append(sum, other)
		}
	}
	return sum
}

// Without is the set less the others.
func (a Anchors) Without(others Anchors) Anchors {
	return slices.DeleteFunc(slices.Clone(a), others.Has)
}

// Both are the anchors that are in both sets.
func (a Anchors) Both(other Anchors) Anchors {
	return slices.DeleteFunc(slices.Clone(a), func(anchor Anchor) bool { return !other.Has(anchor) })
}
