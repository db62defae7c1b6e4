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
	return put(edit, err, object)
}

// InjectHook is [Inject] for objects that have to run to their end. A sidecar
// would keep them from it, so pods of a mesh of sidecars are kept out, whatever
// their namespace says, unless their own template asks for the mesh.
func InjectHook(m Mesh, object *unstructured.Unstructured) error {
	if m.InPlace() {
		return Inject(m, object)
	}
	var out manifest.Edit
	template, path, err := templateOf(object)
	if err == nil && template != nil && !m.Claims(Mark{}, MarkOf(template)) {
		out = edit(m.OptOutMark(), path...)
	}
	return put(out, err, object)
}

func put(edit manifest.Edit, err error, object *unstructured.Unstructured) error {
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
	switch object.GroupVersionKind().GroupKind() {
	case kube.Namespace.GVK().GroupKind():
		return edit(m.NamespaceMark()), nil
	case kube.Service.GVK().GroupKind():
		return edit(m.ServiceMark()), nil
	}
	template, path, err := templateOf(object)
	if err != nil || template == nil || m.Exempt(podOf(template, object.GetNamespace())) != "" {
		return manifest.Edit{}, err
	}
	return edit(m.WorkloadMark(), path...), nil
}

// templateOf returns the template of an object's pods and where it is; nil if
// there are no pods.
func templateOf(object *unstructured.Unstructured) (*corev1.PodTemplateSpec, []string, error) {
	path, ok := manifest.TemplatePath(object.GroupVersionKind().GroupKind())
	if !ok {
		return nil, nil, nil
	}
	content := object.Object
	for _, key := range path {
		content, _ = content[key].(map[string]any)
	}
	template := &corev1.PodTemplateSpec{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, template); err != nil {
		return nil, nil, fmt.Errorf("its pod template is not one that Kubernetes would take: %w", err)
	}
	return template, path, nil
}

func edit(mark Mark, at ...string) manifest.Edit {
	return manifest.Edit{At: at, Labels: mark.Labels, Annotations: mark.Annotations}
}
