package trust

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// DefaultNamespace keeps the Secrets of trust anchors unless told otherwise.
const DefaultNamespace = "aksmesh-system"

// Where the private key of an anchor can be kept. What is not in a Secret is not
// this package's business, but for its ID: it begins with the name of the
// storage, which therefore cannot be that of a namespace.
const (
	KeptInCluster = "kubernetes_secret"
	KeptInState   = "state"
	KeptInKMS     = "kms"
)

const (
	anchorManager = "aksmesh-trust-anchor"

	anchorPrefix = "aksmesh-trust-anchor-"

	// anchorRecordAnnotation holds an anchorRecord.
	anchorRecordAnnotation = "aksmesh.io/trust-anchor-record"

	previousCertKey       = "previous.crt"
	previousPrivateKeyKey = "previous.key"
)

// AnchorRef names a trust anchor that is kept in a Secret; its String form is
// `<namespace>/<name>`.
type AnchorRef struct{ Namespace, Name string }

func (r AnchorRef) String() string { return r.Namespace + "/" + r.Name }

// Secret is the object that keeps the anchor.
func (r AnchorRef) Secret() kube.Ref {
	return kube.Ref{Kind: kube.Secret, Namespace: r.Namespace, Name: anchorPrefix + r.Name}
}

// holder holds the anchor's namespace. The anchor's name may be as long as a
// holder's.
func (r AnchorRef) holder() string {
	sum := sha256.Sum256([]byte(r.Name))
	return "trust-anchor-" + hex.EncodeToString(sum[:8])
}

// ParseAnchorRef reads the String form.
func ParseAnchorRef(id string) (AnchorRef, error) {
	namespace, name, ok := strings.Cut(id, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return AnchorRef{}, fmt.Errorf("%q is not the ID of a trust anchor, <namespace>/<name>", id)
	}
	if namespace == KeptInState || namespace == KeptInKMS {
		return AnchorRef{}, fmt.Errorf("%q is the ID of a trust anchor whose private key is not in the cluster", id)
	}
	return AnchorRef{Namespace: namespace, Name: name}, nil
}

// An Anchor is a trust anchor as its Secret keeps it.
type Anchor struct {
	// Certificate is that of the present generation.
	Certificate *x509.Certificate
	// Previous is that of the generation before it; nil if there was none.
	Previous *x509.Certificate
	// Given tells that the certificate was not made here but given.
	Given bool
	// Trigger is the one of the AnchorWish that it was made by.
	Trigger *string
	// Recorded tells whether Given and Trigger are known.
	Recorded bool
	// Drift says what in the Secret is not as it was written.
	Drift []string

	keys []crypto.Signer
	kind corev1.SecretType // of the Secret, which cannot change; empty if there is none
}

// anchorRecord is what the Secret says of how its certificate came to be. It is
// written together with it, so that a generation is known again that was made by
// an apply which ended before it could write state.
type anchorRecord struct {
	// Fingerprint is the certificate's: of another the record says nothing.
	Fingerprint string  `json:"fingerprint"`
	Given       bool    `json:"given,omitempty"`
	Trigger     *string `json:"trigger,omitempty"`
}

// KeyPairs returns the generations whose keys are kept, the present one first.
// It is an error if that one's is not.
func (a Anchor) KeyPairs() ([]*pki.KeyPair, error) {
	present := a.keyPair(a.Certificate)
	if present == nil {
		return nil, fmt.Errorf("the private key of %q is not kept", a.Certificate.Subject.String())
	}
	pairs := []*pki.KeyPair{present}
	if previous := a.keyPair(a.Previous); previous != nil {
		pairs = append(pairs, previous)
	}
	return pairs, nil
}

// CanSign reports whether the key of the present generation is kept.
func (a Anchor) CanSign() bool { return a.keyPair(a.Certificate) != nil }

// keyPair is the certificate with its key; nil if that is not kept.
func (a Anchor) keyPair(cert *x509.Certificate) *pki.KeyPair {
	if cert == nil {
		return nil
	}
	for _, key := range a.keys {
		if pair, err := pki.NewKeyPair([]*x509.Certificate{cert}, key); err == nil {
			return pair
		}
	}
	return nil
}

// AnchorWish is what an anchor is to be.
type AnchorWish struct {
	// Options make it. Their Now is also the instant at which one that is there is
	// judged.
	Options pki.AuthorityOptions
	// Early is how long before its end an anchor that was made is replaced.
	Early time.Duration
	// Given is the certificate that is to be the anchor instead of one that is
	// made; nil if there is none. Key belongs to it, and may be nil: then it can be
	// trusted, but cannot sign.
	Given *x509.Certificate
	Key   crypto.Signer
	// Trigger is any text; another than before wants a new generation.
	Trigger *string
}

// Generation makes a new generation: the one given, or a new certificate with a
// new key or that of the options. The pair is nil if there is no key.
func (w AnchorWish) Generation() (*x509.Certificate, *pki.KeyPair, error) {
	if w.Given == nil {
		pair, err := pki.NewAnchor(w.Options)
		if err != nil {
			return nil, nil, err
		}
		return pair.Certificate(), pair, nil
	}
	if w.Key == nil {
		return w.Given, nil, nil
	}
	pair, err := pki.NewKeyPair([]*x509.Certificate{w.Given}, w.Key)
	return w.Given, pair, err
}

// met reports whether the anchor is what is wished for.
func (w AnchorWish) met(a Anchor) bool {
	switch {
	case !a.Recorded || !w.sameTrigger(a):
		return false
	case w.Given != nil:
		return a.Certificate.Equal(w.Given) && (w.Key == nil || a.CanSign())
	default:
		return !a.Given && a.CanSign() && w.made(a.Certificate) && !pki.RenewalDue(a.Certificate.NotAfter, w.Early, w.Options.Now)
	}
}

func (w AnchorWish) sameTrigger(a Anchor) bool {
	if w.Trigger == nil || a.Trigger == nil {
		return w.Trigger == a.Trigger
	}
	return *w.Trigger == *a.Trigger
}

// made reports whether the options would make such a certificate.
func (w AnchorWish) made(cert *x509.Certificate) bool {
	algorithm, err := pki.AlgorithmOf(cert.PublicKey)
	return err == nil && algorithm == w.Options.Algorithm &&
		pki.SubjectOf(cert) == w.Options.Subject &&
		MadeFor(cert) == w.Options.Validity.Truncate(time.Second)
}

// MadeFor is the validity that a certificate was made with.
func MadeFor(cert *x509.Certificate) time.Duration {
	return cert.NotAfter.Sub(cert.NotBefore) - pki.Backdate
}

// CreateAnchor makes an anchor and keeps it in its Secret. An anchor that is
// already there is never overwritten: one that this provider made by the same
// wish is taken over (adopted is true), as after an apply that was cut off
// before it could write state; anything else is an *ExistsError.
func CreateAnchor(ctx context.Context, cluster *kube.Cluster, ref AnchorRef, wish AnchorWish) (anchor Anchor, adopted bool, err error) {
	exists := &ExistsError{Object: ref.Secret().String(), Import: ref.String()}
	existing, err := cluster.Secret(ctx, ref.Namespace, ref.Secret().Name)
	switch {
	case errors.Is(err, kube.ErrNotFound):
	case err != nil:
		return Anchor{}, false, err
	default:
		anchor, err := anchorIn(existing, nil)
		if err != nil || len(anchor.Drift) > 0 || !wish.met(anchor) {
			return Anchor{}, false, exists
		}
		return anchor, true, nil
	}
	cert, pair, err := wish.Generation()
	if err != nil {
		return Anchor{}, false, err
	}
	anchor = Anchor{Certificate: cert, Given: wish.Given != nil, Trigger: wish.Trigger}
	anchor, err = putAnchor(ctx, cluster, ref, anchor, pair, nil, kube.ApplyOptions{Manager: anchorManager, CreateOnly: true})
	if errors.Is(err, kube.ErrExists) {
		// Another, perhaps of the same configuration, was faster.
		return Anchor{}, false, exists
	}
	return anchor, false, err
}

// UpdateAnchor makes of an anchor, whose certificate is known to be that one,
// what is wished: a new generation with renew, and otherwise the same one with
// its Secret as it should be. A new generation that an apply made which was cut
// off is the one that is wished if it fits. The known one becomes the previous.
func UpdateAnchor(ctx context.Context, cluster *kube.Cluster, ref AnchorRef, known *x509.Certificate, wish AnchorWish, renew bool) (Anchor, error) {
	found, err := ReadAnchor(ctx, cluster, ref, known)
	if errors.Is(err, kube.ErrNotFound) && renew {
		found, err = Anchor{Certificate: known}, nil
	}
	if err != nil {
		return Anchor{}, err
	}
	next := found
	next.Given, next.Trigger = wish.Given != nil, wish.Trigger
	advanced := !found.Certificate.Equal(known)
	switch {
	case advanced && !renew:
		return Anchor{}, fmt.Errorf("%s holds another generation than was planned with, one that this provider made since; plan anew", ref.Secret())
	case renew && (!advanced || !wish.met(found)):
		cert, pair, err := wish.Generation()
		if err != nil {
			return Anchor{}, err
		}
		if pair == nil {
			// A certificate that only extends the life of the one before has its key.
			pair = found.keyPair(cert)
		}
		next.Certificate, next.Previous = cert, known
		return putAnchor(ctx, cluster, ref, next, pair, found.keyPair(known), kube.ApplyOptions{Manager: anchorManager, Force: true})
	}
	pair := found.keyPair(found.Certificate)
	if pair == nil && wish.Key != nil {
		if pair, err = pki.NewKeyPair([]*x509.Certificate{found.Certificate}, wish.Key); err != nil {
			return Anchor{}, err
		}
	} else if len(found.Drift) == 0 && found.Given == next.Given && wish.sameTrigger(found) {
		return found, nil
	}
	return putAnchor(ctx, cluster, ref, next, pair, found.keyPair(found.Previous), kube.ApplyOptions{Manager: anchorManager, Force: true})
}

// putAnchor writes all there is of an anchor by one request, and returns it as
// it is then.
func putAnchor(ctx context.Context, cluster *kube.Cluster, ref AnchorRef, anchor Anchor, present, previous *pki.KeyPair, how kube.ApplyOptions) (Anchor, error) {
	record, err := json.Marshal(anchorRecord{Fingerprint: pki.Fingerprint(anchor.Certificate), Given: anchor.Given, Trigger: anchor.Trigger})
	if err != nil {
		return Anchor{}, fmt.Errorf("trust anchor %s: %w", ref, err)
	}
	secret := &corev1.Secret{Type: cmp.Or(anchor.kind, corev1.SecretTypeTLS)}
	secret.Labels = kube.OursLabels()
	secret.Annotations = map[string]string{anchorRecordAnnotation: string(record)}
	// All entries are there, be they empty: so none is left that others have put
	// there, and the API server wants the first two.
	secret.Data = map[string][]byte{
		corev1.TLSCertKey: pki.NewBundle(anchor.Certificate).PEM(), corev1.TLSPrivateKeyKey: nil,
		previousCertKey: nil, previousPrivateKeyKey: nil,
	}
	if anchor.Previous != nil {
		secret.Data[previousCertKey] = pki.NewBundle(anchor.Previous).PEM()
	}
	for entry, pair := range map[string]*pki.KeyPair{corev1.TLSPrivateKeyKey: present, previousPrivateKeyKey: previous} {
		if pair == nil {
			continue
		}
		if secret.Data[entry], err = pair.KeyPEM(); err != nil {
			return Anchor{}, fmt.Errorf("trust anchor %s: %w", ref, err)
		}
	}
	if _, err := cluster.HoldNamespace(ctx, kube.Hold{Namespace: ref.Namespace, Holder: ref.holder()}); err != nil {
		return Anchor{}, err
	}
	if err := mesh.ApplySecret(ctx, cluster, ref.Secret(), secret.Type, secret.Data, secret.Annotations, how); err != nil {
		return Anchor{}, err
	}
	return anchorIn(secret, nil)
}

// ReadAnchor returns the anchor; kube.ErrNotFound if there is none. If a known
// certificate is given, it is the anchor unless this provider has written
// another one since: what somebody else has put into its place is drift.
func ReadAnchor(ctx context.Context, cluster *kube.Cluster, ref AnchorRef, known *x509.Certificate) (Anchor, error) {
	secret, err := cluster.Secret(ctx, ref.Namespace, ref.Secret().Name)
	if err != nil {
		return Anchor{}, err
	}
	anchor, err := anchorIn(secret, known)
	if err != nil {
		return Anchor{}, fmt.Errorf("%s: %w", ref.Secret(), err)
	}
	return anchor, nil
}

func anchorIn(secret *corev1.Secret, known *x509.Certificate) (Anchor, error) {
	found, malformed := pki.ParseCertificate(secret.Data[corev1.TLSCertKey])
	var record anchorRecord
	if json.Unmarshal([]byte(secret.Annotations[anchorRecordAnnotation]), &record) != nil {
		record = anchorRecord{} // As if there were none.
	}
	a := Anchor{kind: secret.Type}
	switch {
	case malformed == nil && (known == nil || record.Fingerprint == pki.Fingerprint(found)):
		a.Certificate = found
	case known != nil:
		a.Certificate = known
	default:
		return Anchor{}, fmt.Errorf("%s: %w", corev1.TLSCertKey, malformed)
	}
	if a.Recorded = record.Fingerprint == pki.Fingerprint(a.Certificate); a.Recorded {
		a.Given, a.Trigger = record.Given, record.Trigger
	}

	if !kube.Ours(secret.Labels) {
		a.Drift = append(a.Drift, "the labels do not say that it is this provider's")
	}
	if !a.Recorded {
		a.Drift = append(a.Drift, fmt.Sprintf("annotation %s says nothing of the certificate", anchorRecordAnnotation))
	}
	if malformed != nil {
		a.Drift = append(a.Drift, fmt.Sprintf("%s: %s", corev1.TLSCertKey, malformed))
	} else if !found.Equal(a.Certificate) {
		a.Drift = append(a.Drift, fmt.Sprintf("%s holds another certificate, %q with the SHA-256 %s", corev1.TLSCertKey, found.Subject.String(), pki.Fingerprint(found)))
	}
	if content := secret.Data[previousCertKey]; len(content) > 0 {
		previous, err := pki.ParseCertificate(content)
		if err != nil {
			a.Drift = append(a.Drift, fmt.Sprintf("%s: %s", previousCertKey, err))
		}
		a.Previous = previous
	}
	a.readKey(secret, corev1.TLSPrivateKeyKey, a.Certificate)
	a.readKey(secret, previousPrivateKeyKey, a.Previous)
	if !a.CanSign() && len(secret.Data[corev1.TLSPrivateKeyKey]) == 0 && a.Recorded && !a.Given {
		a.Drift = append(a.Drift, corev1.TLSPrivateKeyKey+" is empty")
	}
	return a, nil
}

// readKey takes in one private key, which belongs to a certificate.
func (a *Anchor) readKey(secret *corev1.Secret, entry string, cert *x509.Certificate) {
	content := secret.Data[entry]
	if len(content) == 0 {
		return
	}
	key, err := pki.ParseKey(content)
	if err == nil {
		a.keys = append(slices.Clip(a.keys), key)
		if cert != nil {
			_, err = pki.NewKeyPair([]*x509.Certificate{cert}, key)
		}
	}
	if err != nil {
		a.Drift = append(a.Drift, fmt.Sprintf("%s: %s", entry, err))
	}
}

// DeleteAnchor deletes the anchor's Secret, and its namespace with the last one.
func DeleteAnchor(ctx context.Context, cluster *kube.Cluster, ref AnchorRef) error {
	if err := cluster.Delete(ctx, ref.Secret(), kube.DeleteOptions{Wait: true}); err != nil {
		return err
	}
	return cluster.ReleaseNamespace(ctx, ref.Namespace, ref.holder())
}
