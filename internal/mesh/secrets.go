package mesh

import (
	"context"
	"encoding/base64"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// TrustAnnotation on the pods of a control plane says which trust they have read
// when they started. Where it is, its proxies are brought to another trust by
// whoever keeps that, and need not be restarted for it by anybody else.
const TrustAnnotation = "aksmesh.io/trust"

// ApplySecret writes a Secret whole, marked as ours.
func ApplySecret(ctx context.Context, cluster *kube.Cluster, ref kube.Ref, kind corev1.SecretType, data map[string][]byte, annotations map[string]string, how kube.ApplyOptions) error {
	object := ref.Object()
	object.SetLabels(kube.OursLabels())
	object.SetAnnotations(annotations)
	encoded := make(map[string]any, len(data))
	for key, value := range data {
		encoded[key] = base64.StdEncoding.EncodeToString(value)
	}
	object.Object["type"] = string(kind)
	object.Object["data"] = encoded
	_, err := cluster.Apply(ctx, object, how)
	return err
}

// CertManagerPrefix begins the annotations of cert-manager: on Secrets whose
// certificates it issues, and on objects whose caBundle it fills in.
const CertManagerPrefix = "cert-manager.io/"

// Synced reports whether an object is one of the Secrets that the Secrets Store CSI
// driver makes of what is in a key vault. They have owners, and no controller.
func Synced(object metav1.Object) bool {
	return object.GetLabels()["secrets-store.csi.k8s.io/managed"] == "true"
}

// KeptBy names who else writes the certificates of an object: its controller,
// cert-manager, or the Secrets Store CSI driver. It is empty if nobody is known to.
func KeptBy(object metav1.Object) string {
	if owner := metav1.GetControllerOf(object); owner != nil {
		return owner.Kind + " " + owner.Name
	}
	for annotation := range object.GetAnnotations() {
		if strings.HasPrefix(annotation, CertManagerPrefix) {
			return "cert-manager"
		}
	}
	if Synced(object) {
		return "the Secrets Store CSI driver"
	}
	return ""
}
