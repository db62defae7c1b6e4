// Package trust keeps a mesh's certificates in the cluster: the Secret of a
// trust anchor, which only the provider reads, and the Secret by which a mesh
// is given its issuer. Private keys go from the provider's memory to these
// Secrets and nowhere else.
package trust

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// DefaultNamespace keeps the Secrets of trust anchors unless told otherwise.
const DefaultNamespace = "aksmesh-system"

const (
	anchorManager = "aksmesh-trust-anchor"

	anchorPrefix = "aksmesh-trust-anchor-"

	anchorAnnotation = "aksmesh.io/trust-anchor"
)

// anchorHolder holds the namespace of an anchor, whose name may be as long as
// a holder's.
func anchorHolder(ref AnchorRef) string {
	sum := sha256.Sum256([]byte(ref.Name))
	return "trust-anchor-" + hex.EncodeToString(sum[:8])
}

// AnchorRef names a trust anchor; its String form is `<namespace>/<name>`.
type AnchorRef struct{ Namespace, Name string }

func (r AnchorRef) String() string { return r.Namespace + "/" + r.Name }

// Secret is the object that keeps the anchor.
func (r AnchorRef) Secret() kube.Ref {
	return kube.Ref{Kind: kube.Secret, Namespace: r.Namespace, Name: anchorPrefix + r.Name}
}

// ParseAnchorRef reads the String form.
func ParseAnchorRef(id string) (AnchorRef, error) {
	namespace, name, ok := strings.Cut(id, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return AnchorRef{}, fmt.Errorf("%q is not the ID of a trust anchor, <namespace>/<name>", id)
	}
	return AnchorRef{Namespace: namespace, Name: name}, nil
}

// CreateAnchor makes an anchor and keeps it in its Secret. An anchor that is
// already there is never overwritten: one that this provider made with the same
// subject is taken over (adopted is true), as after an apply that was cut off
// before it could write state; anything else is an *ExistsError.
func CreateAnchor(ctx context.Context, cluster *kube.Cluster, ref AnchorRef, options pki.AuthorityOptions) (anchor *pki.KeyPair, adopted bool, err error) {
	existing, err := cluster.Secret(ctx, ref.Namespace, ref.Secret().Name)
	switch {
	case errors.Is(err, kube.ErrNotFound):
	case err != nil:
		return nil, false, err
	default:
		anchor, err := anchorIn(existing, ref)
		if err != nil || !kube.Ours(existing.Labels) || pki.SubjectOf(anchor.Certificate()) != options.Subject {
			return nil, false, &ExistsError{Object: ref.Secret().String(), Import: ref.String()}
		}
		return anchor, true, nil
	}
	anchor, err = pki.NewAnchor(options)
	if err != nil {
		return nil, false, err
	}
	key, err := anchor.KeyPEM()
	if err != nil {
		return nil, false, fmt.Errorf("trust anchor %s: %w", ref, err)
	}
	if _, err := cluster.HoldNamespace(ctx, kube.Hold{Namespace: ref.Namespace, Holder: anchorHolder(ref)}); err != nil {
		return nil, false, err
	}
	data := map[string][]byte{corev1.TLSCertKey: anchor.CertificatePEM(), corev1.TLSPrivateKeyKey: key}
	err = mesh.ApplySecret(ctx, cluster, ref.Secret(), corev1.SecretTypeTLS, data, nil, kube.ApplyOptions{Manager: anchorManager, CreateOnly: true})
	if errors.Is(err, kube.ErrExists) {
		// Another, perhaps of the same configuration, was faster.
		return nil, false, &ExistsError{Object: ref.Secret().String(), Import: ref.String()}
	}
	if err != nil {
		return nil, false, err
	}
	return anchor, false, nil
}

// ReadAnchor returns the anchor with its key; kube.ErrNotFound if there is none.
func ReadAnchor(ctx context.Context, cluster *kube.Cluster, ref AnchorRef) (*pki.KeyPair, error) {
	secret, err := cluster.Secret(ctx, ref.Namespace, ref.Secret().Name)
	if err != nil {
		return nil, err
	}
	return anchorIn(secret, ref)
}

func anchorIn(secret *corev1.Secret, ref AnchorRef) (*pki.KeyPair, error) {
	pair, err := pki.ParseKeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref.Secret(), err)
	}
	return pair, nil
}

// DeleteAnchor deletes the anchor's Secret, and its namespace with the last one.
func DeleteAnchor(ctx context.Context, cluster *kube.Cluster, ref AnchorRef) error {
	if err := cluster.Delete(ctx, ref.Secret(), kube.DeleteOptions{Wait: true}); err != nil {
		return err
	}
	return cluster.ReleaseNamespace(ctx, ref.Namespace, anchorHolder(ref))
}

// ExistsError tells that something is in the place of what was to be made.
type ExistsError struct {
	// Object is what is there, Import the ID to take it over with.
	Object, Import string
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("%s already exists and is not known to this state; bring it under management with `terraform import <address> %s`, or delete it", e.Object, e.Import)
}
