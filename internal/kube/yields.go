package kube

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Yield is a field that another than whoever writes the object whole sets once it
// is in the cluster. What that owner has put there is neither drift nor
// overwritten.
type Yield struct {
	Kind Kind
	// Name is a pattern of the objects' names, as of path.Match; empty means all.
	Name string
	// Path leads to the field; `*` stands for each item of a list.
	Path []string
	// Owner is the field manager that sets it, by the name it has in managedFields.
	// Items of others that have a key of its own are not the owner's.
	Owner string
	// Values are those that the owner is known to set; without any, every value
	// is its to choose.
	Values []any
	// Keys are those of the items that the owner adds to a list that is written, such
	// as the match expressions of a selector, also several of one key; the rest of
	// the list is the writer's, also what it has of these keys.
	Keys []string
}

// Yields are the fields of objects that are others' to set.
type Yields []Yield

// EnforcerYields are the fields that the admissions enforcer of AKS sets: it adds
// expressions to the namespace selectors of webhooks, so that they let the
// cluster's own namespaces alone.
func EnforcerYields() Yields {
	keys := []string{"control-plane", "kubernetes.azure.com/managedby", "kubernetes.io/metadata.name"}
	path := []string{"webhooks", "*", "namespaceSelector", "matchExpressions"}
	return Yields{
		{Kind: MutatingWebhookConfiguration, Path: path, Owner: "admissionsenforcer", Keys: keys},
		{Kind: ValidatingWebhookConfiguration, Path: path, Owner: "admissionsenforcer", Keys: keys},
	}
}

// To makes wanted, an object as it is to be written, have what the owners of
// fields have set in live. Former is the object as it was written before, whose
// content is nobody else's; nil if that is not known or of no matter.
func (y Yields) To(former, live, wanted *unstructured.Unstructured) {
	for _, field := range y {
		if !field.concerns(wanted) {
			continue
		}
		at := spot{live: live.Object, wanted: wanted.Object}
		if former != nil {
			at.former = former.Object
		}
		field.carry(at, field.Path, live)
	}
}

// Cover reports whether a conflict is about nothing but fields of which their
// owners and whoever applies have a part each: what To has made of such a field is
// right for both, and may be forced.
func (y Yields) Cover(conflict *ConflictError) bool {
	return !slices.ContainsFunc(conflict.Fields, func(text string) bool {
		return !slices.ContainsFunc(y, func(field Yield) bool {
			return field.Kind == conflict.Ref.Kind && slices.Equal(conflict.Managers, []string{field.Owner}) && field.leadsThrough(text)
		})
	})
}

// itemKey finds the key of an item in `.webhooks[name="w.example.com"].rules`.
var itemKey = regexp.MustCompile(`\[[^\]]*\]`)

// leadsThrough reports whether a field of a conflict, as the API server prints it,
// is the yield's or a whole that this is part of.
func (y Yield) leadsThrough(field string) bool {
	steps := strings.Split(strings.TrimPrefix(itemKey.ReplaceAllLiteralString(field, ".*"), "."), ".")
	return len(steps) <= len(y.Path) && slices.Equal(steps, y.Path[:len(steps)])
}

func (y Yield) concerns(object *unstructured.Unstructured) bool {
	if object.GroupVersionKind() != y.Kind.GVK() {
		return false
	}
	matches, err := path.Match(y.Name, object.GetName())
	return y.Name == "" || err == nil && matches
}

// spot is the same place in three forms of an object.
type spot struct {
	live, wanted, former map[string]any
	way                  []string // as fieldsV1 of managedFields has it
}

// carry goes down all forms at once; items of lists are the same if their names
// are.
func (y Yield) carry(at spot, rest []string, object *unstructured.Unstructured) {
	key, rest := rest[0], rest[1:]
	way := append(slices.Clip(at.way), "f:"+key)
	switch {
	case len(rest) == 0:
		y.put(at, key, func() bool { return y.holds(object, way) })
	case rest[0] == "*":
		for _, to := range named(at.wanted[key]) {
			name, _ := to["name"].(string)
			for _, from := range named(at.live[key]) {
				if from["name"] == name {
					y.carry(spot{live: from, wanted: to, former: namedSo(at.former[key], name), way: append(way, fmt.Sprintf("k:{%q:%q}", "name", name))}, rest[1:], object)
				}
			}
		}
	default:
		from, _ := at.live[key].(map[string]any)
		had, _ := at.former[key].(map[string]any)
		to, ok := at.wanted[key].(map[string]any)
		if !ok {
			to = map[string]any{}
		}
		y.carry(spot{live: from, wanted: to, former: had, way: way}, rest, object)
		if len(to) > 0 {
			at.wanted[key] = to
		}
	}
}

// named are the items of a list that are objects.
func named(list any) []map[string]any {
	items, _ := list.([]any)
	var found []map[string]any
	for _, item := range items {
		if fields, ok := item.(map[string]any); ok {
			found = append(found, fields)
		}
	}
	return found
}

func namedSo(list any, name string) map[string]any {
	for _, item := range named(list) {
		if item["name"] == name {
			return item
		}
	}
	return nil
}

func (y Yield) put(at spot, key string, theirs func() bool) {
	value, set := at.live[key]
	switch {
	case !set:
	case len(y.Keys) > 0:
		own, _ := at.wanted[key].([]any)
		had, _ := at.former[key].([]any)
		items, _ := value.([]any)
		merged := slices.Clone(own)
		for _, item := range items {
			fields, _ := item.(map[string]any)
			name, _ := fields["key"].(string)
			if slices.Contains(y.Keys, name) && !contains(own, item) && !contains(had, item) {
				merged = append(merged, item)
			}
		}
		if len(merged) > len(own) && !theirs() {
			return
		}
		if len(merged) == len(items) && !slices.ContainsFunc(merged, func(item any) bool { return !contains(items, item) }) {
			merged = items // They are in an order of their own, which has no meaning.
		}
		if len(merged) > 0 {
			at.wanted[key] = merged
		}
	case len(y.Values) == 0 || slices.Contains(y.Values, value):
		at.wanted[key] = value
	}
}

func contains(list []any, item any) bool {
	return slices.ContainsFunc(list, func(other any) bool { return equality.Semantic.DeepEqual(item, other) })
}

// holds reports whether what a field of a live object has can be its owner's: it
// has written it last, or one that leaves in it what it finds of the owner's,
// which are Helm and this provider. Objects that do not tell who has written them
// are taken to be written by the owner.
func (y Yield) holds(object *unstructured.Unstructured, way []string) bool {
	told := false
	for _, entry := range object.GetManagedFields() {
		if entry.FieldsV1 == nil {
			continue
		}
		var fields map[string]any
		if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields); err != nil || !covers(fields, way) {
			continue
		}
		told = true
		if entry.Manager == y.Owner || strings.HasPrefix(entry.Manager, "helm") || strings.HasPrefix(entry.Manager, "aksmesh") {
			return true
		}
	}
	return !told
}

// covers tells whether a set of fields has the one that a way leads to, or a
// whole that it is part of and that has one owner only.
func covers(fields map[string]any, way []string) bool {
	for _, step := range way {
		inner, ok := fields[step].(map[string]any)
		if !ok {
			return false
		}
		if len(inner) == 0 {
			return true
		}
		fields = inner
	}
	return true
}
