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
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// DefaultNamespace keeps the Secrets of trust anchors unless told otherwise.
const DefaultNamespace = "aksmesh-system"

const (
	anchorManager = "aksmesh-trust-anchor"
	issuerManager = "aksmesh-issuer"

	anchorPrefix = "aksmesh-trust-anchor-"

	anchorAnnotation = "aksmesh.io/trust-anchor"
)

// issuerHolder holds the control plane's namespace for its issuer.
const issuerHolder = "issuer"

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

// IssuerRef names the one issuer of a control plane; its String form is
// `<mesh>/<namespace>`.
type IssuerRef struct{ Mesh, Namespace string }

func (r IssuerRef) String() string { return r.Mesh + "/" + r.Namespace }

// Secret is the object that the mesh reads.
func (r IssuerRef) Secret() kube.Ref {
	return kube.Ref{Kind: kube.Secret, Namespace: r.Namespace, Name: layouts[r.Mesh].secret}
}

// ParseIssuerRef reads the String form.
func ParseIssuerRef(id string) (IssuerRef, error) {
	name, namespace, _ := strings.Cut(id, "/")
	if _, ok := layouts[name]; !ok || namespace == "" || strings.Contains(namespace, "/") {
		return IssuerRef{}, fmt.Errorf("%q is not the ID of an issuer, <mesh>/<namespace> with one of %s as the mesh", id, strings.Join(Meshes(), ", "))
	}
	return IssuerRef{Mesh: name, Namespace: namespace}, nil
}

// A layout is how one mesh wants its issuer.
type layout struct {
	namespace string
	secret    string
	kind      corev1.SecretType
	metadata  func(namespace string) (labels, annotations map[string]string)
	write     func(issuer *pki.KeyPair, bundle pki.Bundle) (map[string][]byte, error)
	// The Secret's keys under which certificate, key and anchors are found.
	certificate, key, bundle string
}

var layouts = map[string]layout{
	"linkerd": {
		namespace: linkerd.DefaultNamespace, secret: linkerd.IssuerSecret, kind: corev1.SecretTypeTLS,
		metadata: linkerd.NamespaceMetadata, write: linkerd.IssuerSecretData,
		certificate: corev1.TLSCertKey, key: corev1.TLSPrivateKeyKey, bundle: "ca.crt",
	},
	"istio": {
		namespace: istio.DefaultNamespace, secret: istio.CACertsSecret, kind: corev1.SecretTypeOpaque,
		metadata: istio.NamespaceMetadata, write: istio.CACertsSecretData,
		certificate: "ca-cert.pem", key: "ca-key.pem", bundle: "root-cert.pem",
	},
}

// Meshes returns the meshes that an issuer can be for, in order.
func Meshes() []string {
	names := make([]string, 0, len(layouts))
	for name := range layouts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ControlPlaneNamespace is where a mesh's control plane lives unless told otherwise.
func ControlPlaneNamespace(name string) string { return layouts[name].namespace }

// CreateIssuer has the anchor sign an issuer and hands it to the mesh. One that
// this provider made from the same anchor, and that is sound, is taken over
// (adopted is true); any other Secret in its place is an *ExistsError.
func CreateIssuer(ctx context.Context, cluster *kube.Cluster, anchor AnchorRef, ref IssuerRef, bundle pki.Bundle, options pki.AuthorityOptions) (issuer *pki.KeyPair, adopted bool, err error) {
	existing, err := cluster.Secret(ctx, ref.Namespace, ref.Secret().Name)
	switch {
	case errors.Is(err, kube.ErrNotFound):
		issuer, err := putIssuer(ctx, cluster, anchor, ref, bundle, options, kube.ApplyOptions{Manager: issuerManager, CreateOnly: true})
		if errors.Is(err, kube.ErrExists) {
			err = &ExistsError{Object: ref.Secret().String(), Import: ref.String()}
		}
		return issuer, false, err
	case err != nil:
		return nil, false, err
	case !kube.Ours(existing.Labels) || existing.Annotations[anchorAnnotation] != anchor.String():
		return nil, false, &ExistsError{Object: ref.Secret().String(), Import: ref.String()}
	}
	found, err := ReadIssuer(ctx, cluster, ref, Renewal{Anchor: anchor.String(), Now: options.Now})
	if err != nil {
		return nil, false, err
	}
	if found.Reason != "" {
		issuer, err := RenewIssuer(ctx, cluster, anchor, ref, bundle, options)
		return issuer, true, err
	}
	return found.Issuer, true, nil
}

// RenewIssuer has the anchor sign a new issuer with a new key and puts it in
// the place of the one before. The control plane's namespace is made if absent.
func RenewIssuer(ctx context.Context, cluster *kube.Cluster, anchor AnchorRef, ref IssuerRef, bundle pki.Bundle, options pki.AuthorityOptions) (*pki.KeyPair, error) {
	// Half a certificate by somebody else's hand is no certificate.
	return putIssuer(ctx, cluster, anchor, ref, bundle, options, kube.ApplyOptions{Manager: issuerManager, Force: true})
}

func putIssuer(ctx context.Context, cluster *kube.Cluster, anchor AnchorRef, ref IssuerRef, bundle pki.Bundle, options pki.AuthorityOptions, how kube.ApplyOptions) (*pki.KeyPair, error) {
	parent, err := ReadAnchor(ctx, cluster, anchor)
	if err != nil {
		return nil, fmt.Errorf("trust anchor %s: %w", anchor, err)
	}
	issuer, err := pki.NewIssuer(parent, options)
	if err != nil {
		return nil, err
	}
	l := layouts[ref.Mesh]
	data, err := l.write(issuer, bundle)
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %w", ref, err)
	}
	labels, annotations := l.metadata(ref.Namespace)
	if _, err := cluster.HoldNamespace(ctx, kube.Hold{Namespace: ref.Namespace, Holder: issuerHolder, Labels: labels, Annotations: annotations}); err != nil {
		return nil, err
	}
	if err := mesh.ApplySecret(ctx, cluster, ref.Secret(), l.kind, data, map[string]string{anchorAnnotation: anchor.String()}, how); err != nil {
		return nil, err
	}
	return issuer, PublishBundle(ctx, cluster, ref, bundle)
}

// PublishBundle gives the control plane the anchors that its mesh is to trust,
// where they are not part of the issuer's Secret.
func PublishBundle(ctx context.Context, cluster *kube.Cluster, ref IssuerRef, bundle pki.Bundle) error {
	if ref.Mesh != "linkerd" {
		return nil
	}
	object := linkerd.TrustRootsRef(ref.Namespace).Object()
	object.SetLabels(kube.OursLabels())
	// A chart that published the bundle before would delete it on upgrade.
	object.SetAnnotations(map[string]string{"helm.sh/resource-policy": "keep"})
	object.Object["data"] = map[string]any{linkerd.TrustRootsKey: string(bundle.PEM())}
	_, err := cluster.Apply(ctx, object, kube.ApplyOptions{Manager: issuerManager, Force: true})
	return err
}

// Renewal is what decides whether an issuer is to be renewed.
type Renewal struct {
	// Anchor is the ID of the anchor that must have signed; empty takes the one
	// that the Secret names.
	Anchor string
	// Early is how long before its end the issuer is renewed.
	Early time.Duration
	Now   time.Time
}

// Found is an issuer as it is in the cluster.
type Found struct {
	// Issuer is nil when the Secret cannot be read as one.
	Issuer *pki.KeyPair
	// Anchor is the ID of the anchor that the Secret names.
	Anchor string
	// Bundle is what the Secret says of the anchors; empty if it cannot be read.
	Bundle pki.Bundle
	// Reason says why the issuer has to be renewed; empty if it need not be.
	Reason string
}

// ReadIssuer reads the issuer that the mesh has, and judges it;
// kube.ErrNotFound if there is none.
func ReadIssuer(ctx context.Context, cluster *kube.Cluster, ref IssuerRef, want Renewal) (Found, error) {
	secret, err := cluster.Secret(ctx, ref.Namespace, ref.Secret().Name)
	if err != nil {
		return Found{}, err
	}
	l := layouts[ref.Mesh]
	found := Found{Anchor: secret.Annotations[anchorAnnotation]}
	if bundle, err := pki.ParseBundle(secret.Data[l.bundle]); err == nil {
		found.Bundle = bundle
	}
	found.Issuer, err = pki.ParseKeyPair(secret.Data[l.certificate], secret.Data[l.key])
	if err != nil {
		found.Issuer = nil
		found.Reason = fmt.Sprintf("%s: %s", ref.Secret(), err)
		return found, nil
	}
	if want.Anchor == "" {
		want.Anchor = found.Anchor
	}
	anchorRef, err := ParseAnchorRef(want.Anchor)
	if err != nil {
		return found, fmt.Errorf("%s: annotation %s: %w", ref.Secret(), anchorAnnotation, err)
	}
	anchor, err := ReadAnchor(ctx, cluster, anchorRef)
	if errors.Is(err, kube.ErrNotFound) {
		found.Reason = fmt.Sprintf("trust anchor %s is gone", anchorRef)
		return found, nil
	}
	if err != nil {
		return found, err
	}
	found.Reason = reason(found.Issuer, anchor, secret.Data, l, want)
	return found, nil
}

// reason judges the issuer of a Secret against its anchor.
func reason(issuer, anchor *pki.KeyPair, data map[string][]byte, l layout, want Renewal) string {
	bundle := pki.NewBundle(anchor.Certificate())
	cert := issuer.Certificate()
	if _, err := bundle.Verify(cert, want.Now); err != nil {
		return err.Error()
	}
	published, err := pki.ParseBundle(data[l.bundle])
	if err != nil {
		return fmt.Sprintf("%s: %s", l.bundle, err)
	}
	if !published.Contains(anchor.Certificate()) {
		return l.bundle + " lacks the trust anchor"
	}
	wanted, err := l.write(issuer, published)
	if err != nil {
		return err.Error()
	}
	for _, key := range []string{l.certificate, l.bundle, "cert-chain.pem"} {
		if value, ok := wanted[key]; ok && strings.TrimSpace(string(value)) != strings.TrimSpace(string(data[key])) {
			return key + " is not what it should be"
		}
	}
	if pki.IssuerRenewalDue(cert, anchor.Certificate(), want.Early, want.Now) {
		return "valid until " + cert.NotAfter.Format(time.RFC3339)
	}
	return ""
}

// DeleteIssuer deletes the issuer's Secret, and the namespace if nobody else
// holds it.
func DeleteIssuer(ctx context.Context, cluster *kube.Cluster, ref IssuerRef) error {
	if err := cluster.Delete(ctx, ref.Secret(), kube.DeleteOptions{Wait: true}); err != nil {
		return err
	}
	if ref.Mesh == "linkerd" {
		if err := cluster.Delete(ctx, linkerd.TrustRootsRef(ref.Namespace), kube.DeleteOptions{}); err != nil {
			return err
		}
	}
	return cluster.ReleaseNamespace(ctx, ref.Namespace, issuerHolder)
}

// ExistsError tells that something is in the place of what was to be made.
type ExistsError struct {
	// Object is what is there, Import the ID to take it over with.
	Object, Import string
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("%s already exists and is not known to this state; bring it under management with `terraform import <address> %s`, or delete it", e.Object, e.Import)
}
