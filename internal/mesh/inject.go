package mesh

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/manifest"
)

// Inject puts the marks of a mesh on an object before it is applied: on
// namespaces and Services themselves, on the pod templates of workloads. Objects
// of other kinds are left alone, and so are pods that the mesh exempts.
func Inject(m Mesh, object *unstructured.Unstructured) error {
	edit, err := injection(m, object)
	if err == nil {
		err = edit.Apply(object)
	}
	if err != nil {
		ref := kube.Ref{Kind: kube.Kind{Name: object.GetKind()}, Namespace: object.GetNamespace(), Name: object.GetName()}
		return fmt.Errorf("%s: %w", ref, err)
	}
	return nil
}

// InjectText is [Inject] for all objects of a text of YAML or JSON, in which it
// leaves everything else as it is written. Errors name the document, the line
// and the object.
func InjectText(m Mesh, text []byte) ([]byte, error) {
	return manifest.Rewrite(text, func(object *unstructured.Unstructured) (manifest.Edit, error) { return injection(m, object) })
}

// injection decides which mark an object gets, and where.
func injection(m Mesh, object *unstructured.Unstructured) (manifest.Edit, error) {
	kind := object.GroupVersionKind().GroupKind()
	switch kind {
	case kube.Namespace.GVK().GroupKind():
		return edit(m.NamespaceMark()), nil
	case kube.Service.GVK().GroupKind():
		return edit(m.ServiceMark()), nil
	}
	path, ok := manifest.TemplatePath(kind)
	if !ok {
		return manifest.Edit{}, nil
	}
	var template corev1.PodTemplateSpec
	content := object.Object
	for _, key := range path {
		content, _ = content[key].(map[string]any)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, &template); err != nil {
		return manifest.Edit{}, fmt.Errorf("its pod template is not one that Kubernetes would take: %w", err)
	}
	if m.Exempt(podOf(&template, object.GetNamespace())) != "" {
		return manifest.Edit{}, nil
	}
	return edit(m.WorkloadMark(), path...), nil
}

func edit(mark Mark, at ...string) manifest.Edit {
	return manifest.Edit{At: at, Labels: mark.Labels, Annotations: mark.Annotations}
}
