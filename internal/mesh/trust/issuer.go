package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

type certificate = *x509.Certificate

// issuerManager writes what an issuer consists of.
const issuerManager = "aksmesh-issuer"

// issuerHolder holds the control plane's namespace for its issuer.
const issuerHolder = "issuer"

// IssuerRef names the one issuer of a control plane; its String form is
// `<mesh>/<namespace>`.
type IssuerRef struct{ Mesh, Namespace string }

func (r IssuerRef) String() string { return r.Mesh + "/" + r.Namespace }

// Secret is the object that the mesh reads.
func (r IssuerRef) Secret() kube.Ref {
	return kube.Ref{Kind: kube.Secret, Namespace: r.Namespace, Name: layouts[r.Mesh].secret}
}

// bundle is the object that the trust bundle is in, and with it the record.
func (r IssuerRef) bundle() kube.Ref {
	if own := layouts[r.Mesh].rootsRef; own != nil {
		return own(r.Namespace)
	}
	return r.Secret()
}

// hold makes sure of the control plane's namespace, with the labels that the mesh
// wants, until the holder releases it. That of AKS's Istio add-on has to be there,
// and stays as AKS has it.
func (r IssuerRef) hold(ctx context.Context, cluster *kube.Cluster, holder string) error {
	if r.Namespace == check.AddonNamespace {
		_, err := cluster.Get(ctx, kube.Ref{Kind: kube.Namespace, Name: r.Namespace})
		if errors.Is(err, kube.ErrNotFound) {
			return fmt.Errorf("%w; it is AKS's, and comes with the Istio add-on: enable that first, or leave its CA to AKS, which makes one or takes one from Azure Key Vault (az aks mesh enable --key-vault-id)", err)
		}
		return err
	}
	labels, annotations := layouts[r.Mesh].metadata(r.Namespace)
	_, err := cluster.HoldNamespace(ctx, kube.Hold{Namespace: r.Namespace, Holder: holder, Labels: labels, Annotations: annotations})
	return err
}

// release gives the control plane's namespace up, which goes with its last holder
// unless it is AKS's.
func (r IssuerRef) release(ctx context.Context, cluster *kube.Cluster, holder string) error {
	if r.Namespace == check.AddonNamespace {
		return nil
	}
	return cluster.ReleaseNamespace(ctx, r.Namespace, holder)
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
	read      func(data map[string][]byte) (*pki.KeyPair, error)
	write     func(issuer *pki.KeyPair, bundle pki.Bundle) (map[string][]byte, error)
	// key of the Secret that holds the private key, and those that are public.
	key    string
	public []string
	// rootsRef names the object that the trust bundle has for itself, and roots makes
	// it; both are nil if the bundle is part of the Secret.
	rootsRef func(namespace string) kube.Ref
	roots    func(namespace string, bundle pki.Bundle) *unstructured.Unstructured
	plane    func(cluster *kube.Cluster, namespace string) plane
}

var layouts = map[string]layout{
	"linkerd": {
		namespace: linkerd.DefaultNamespace, secret: linkerd.IssuerSecret, kind: corev1.SecretTypeTLS,
		metadata: linkerd.NamespaceMetadata, read: linkerd.ReadIssuerSecret, write: linkerd.IssuerSecretData,
		key: corev1.TLSPrivateKeyKey, public: []string{corev1.TLSCertKey, corev1.ServiceAccountRootCAKey},
		rootsRef: linkerd.TrustRootsRef, roots: linkerd.TrustRoots,
		plane: func(cluster *kube.Cluster, namespace string) plane {
			return linkerd.Trust{Cluster: cluster, Namespace: namespace}
		},
	},
	"istio": {
		namespace: istio.DefaultNamespace, secret: istio.CACertsSecret, kind: corev1.SecretTypeOpaque,
		metadata: istio.NamespaceMetadata, read: istio.ReadCACertsSecret, write: istio.CACertsSecretData,
		key: "ca-key.pem", public: []string{"ca-cert.pem", "cert-chain.pem", "root-cert.pem"},
		plane: func(cluster *kube.Cluster, namespace string) plane {
			return istio.Trust{Cluster: cluster, Namespace: namespace}
		},
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

// differs is the first key of an issuer's Secret that is not as it would be
// written; empty if there is none.
func (l layout) differs(secret *corev1.Secret, issuer *pki.KeyPair, bundle pki.Bundle) string {
	wanted, err := l.write(issuer, bundle)
	if err != nil {
		return err.Error()
	}
	for _, key := range l.public {
		if strings.TrimSpace(string(wanted[key])) != strings.TrimSpace(string(secret.Data[key])) {
			return key
		}
	}
	return ""
}

// write gives the control plane an issuer and a trust bundle, and keeps the record
// that goes with them. The record is written with the bundle; what is about to be
// issued is noted before it is, and a bundle is there before the issuer.
func (r *run) write(ctx context.Context, v *view, issuer *pki.KeyPair, bundle pki.Bundle, record record) error {
	l := layouts[r.Ref.Mesh]
	if v.kept != nil {
		if err := othersError(r.Ref.bundle(), v.kept); err != nil {
			return err
		}
	}
	if v.secret != nil {
		if err := othersError(r.Ref.Secret(), v.secret); err != nil {
			return err
		}
	}
	if err := r.Ref.hold(ctx, r.Cluster, issuerHolder); err != nil {
		return err
	}
	note, err := record.annotation()
	if err != nil {
		return err
	}
	if l.roots != nil {
		object := l.roots(r.Ref.Namespace, bundle)
		annotations := object.GetAnnotations()
		annotations[recordAnnotation] = note
		object.SetAnnotations(annotations)
		if _, err := r.Cluster.Apply(ctx, object, kube.ApplyOptions{Manager: issuerManager, Force: true}); err != nil {
			return err
		}
	}
	if issuer == nil {
		return nil
	}
	data, err := l.write(issuer, bundle)
	if err != nil {
		return fmt.Errorf("issuer %s: %w", r.Ref, err)
	}
	notes := map[string]string{anchorAnnotation: r.AnchorID}
	if l.roots == nil {
		notes[recordAnnotation] = note
	}
	// Half a certificate by somebody else's hand is no certificate: force.
	how := kube.ApplyOptions{Manager: issuerManager, Force: v.secret != nil, CreateOnly: v.secret == nil}
	return mesh.ApplySecret(ctx, r.Cluster, r.Ref.Secret(), l.kind, data, notes, how)
}

// othersError names who else keeps an object, and what to do about it; nil if
// nobody is known to.
func othersError(ref kube.Ref, object metav1.Object) error {
	others := mesh.KeptBy(object)
	switch {
	case others == "":
		return nil
	case ref.Namespace == check.AddonNamespace && mesh.Synced(object):
		return fmt.Errorf("%s is looked after by %s for the plugin of AKS's Istio add-on by which it has its CA from Azure Key Vault: change the CA in the key vault instead of having an issuer, or enable the add-on without the plugin", ref, others)
	default:
		return fmt.Errorf("%s is looked after by %s, which would undo what is written there: have it leave the object to the provider, and stay, first", ref, others)
	}
}

// note keeps the record alone, on the very object that was looked at.
func (r *run) note(ctx context.Context, v *view, record record) error {
	text, err := record.annotation()
	if err != nil {
		return err
	}
	object := r.Ref.bundle().Object()
	object.SetAnnotations(map[string]string{recordAnnotation: text})
	if v.kept != nil {
		object.SetUID(v.kept.UID)
	}
	_, err = r.Cluster.Apply(ctx, object, kube.ApplyOptions{Manager: rotationManager, Force: true})
	return err
}

// DeleteIssuer deletes the issuer's Secret and the trust bundle, and the namespace
// if nobody else holds it. A Secret that is synced from a key vault stays.
func DeleteIssuer(ctx context.Context, cluster *kube.Cluster, ref IssuerRef) error {
	secret, err := cluster.Secret(ctx, ref.Namespace, ref.Secret().Name)
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return err
	}
	if err == nil && !mesh.Synced(secret) {
		if err := cluster.Delete(ctx, ref.Secret(), kube.DeleteOptions{Wait: true}); err != nil {
			return err
		}
	}
	if bundle := ref.bundle(); bundle != ref.Secret() {
		if err := cluster.Delete(ctx, bundle, kube.DeleteOptions{}); err != nil {
			return err
		}
	}
	return ref.release(ctx, cluster, issuerHolder)
}

// setTemplateAnnotation puts an annotation on the pod template of a workload.
func setTemplateAnnotation(object map[string]any, key, value string) error {
	return unstructured.SetNestedField(object, value, "spec", "template", "metadata", "annotations", key)
}
