package mesh

import (
	"context"
	"encoding/base64"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

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
