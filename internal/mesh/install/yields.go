package install

import (
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// Yield is a field that a chart renders and another than Helm sets once the
// object is in the cluster. What that owner has put there is neither drift nor
// overwritten.
type Yield struct {
	Kind kube.Kind
	// Name is a pattern of the objects' names, as of path.Match; empty means all.
	Name string
	// Path leads to the field; `*` stands for each item of a list.
	Path []string
	// Owner is the field manager that sets it, by the name it has in managedFields.
	Owner string
	// Values are those that the owner is known to set; without any, every value
	// is its to choose.
	Values []any
	// Keys are those of the items that the owner adds to a list of the chart's,
	// such as the match expressions of a selector; the rest of the list is the
	// chart's.
	Keys []string
}

// Yields are the fields of a release's objects that are others' to set.
type Yields []Yield

// EnforcerYields are the fields that the admissions enforcer of AKS sets: it adds
// expressions to the namespace selectors of webhooks, so that they let the
// cluster's own namespaces alone.
func EnforcerYields() Yields {
	keys := []string{"control-plane", "kubernetes.azure.com/managedby", "kubernetes.io/metadata.name"}
	path := []string{"webhooks", "*", "namespaceSelector", "matchExpressions"}
	return Yields{
		{Kind: kube.MutatingWebhookConfiguration, Path: path, Owner: "admissionsenforcer", Keys: keys},
		{Kind: kube.ValidatingWebhookConfiguration, Path: path, Owner: "admissionsenforcer", Keys: keys},
	}
}

// To makes wanted, an object as a chart renders it, have what their owners have
// set in live.
func (y Yields) To(live, wanted *unstructured.Unstructured) {
	for _, field := range y {
		if !field.concerns(wanted) {
			continue
		}
		field.carry(live.Object, wanted.Object, field.Path)
	}
}

func (y Yield) concerns(object *unstructured.Unstructured) bool {
	if object.GroupVersionKind() != y.Kind.GVK() {
		return false
	}
	matches, err := path.Match(y.Name, object.GetName())
	return y.Name == "" || err == nil && matches
}

// carry goes down both objects at once; items of lists are the same if their
// names are.
func (y Yield) carry(live, wanted map[string]any, rest []string) {
	key, rest := rest[0], rest[1:]
	switch {
	case len(rest) == 0:
		y.put(live, wanted, key)
	case rest[0] == "*":
		liveItems, _ := live[key].([]any)
		wantedItems, _ := wanted[key].([]any)
		for _, item := range wantedItems {
			to, ok := item.(map[string]any)
			if !ok {
				continue
			}
			for _, other := range liveItems {
				if from, ok := other.(map[string]any); ok && from["name"] == to["name"] {
					y.carry(from, to, rest[1:])
				}
			}
		}
	default:
		from, _ := live[key].(map[string]any)
		to, ok := wanted[key].(map[string]any)
		if !ok {
			to = map[string]any{}
		}
		y.carry(from, to, rest)
		if len(to) > 0 {
			wanted[key] = to
		}
	}
}

func (y Yield) put(live, wanted map[string]any, key string) {
	value, set := live[key]
	switch {
	case !set:
	case len(y.Keys) > 0:
		items, _ := value.([]any)
		own, _ := wanted[key].([]any)
		for _, item := range items {
			fields, ok := item.(map[string]any)
			name, _ := fields["key"].(string)
			if ok && slices.ContainsFunc(y.Keys, func(k string) bool { return strings.EqualFold(k, name) }) &&
				!slices.ContainsFunc(own, func(o any) bool { return sameKey(o, name) }) {
				own = append(own, item)
			}
		}
		if len(own) > 0 {
			wanted[key] = own
		}
	case len(y.Values) == 0 || slices.Contains(y.Values, value):
		wanted[key] = value
	}
}

func sameKey(item any, name string) bool {
	fields, ok := item.(map[string]any)
	return ok && fields["key"] == name
}
