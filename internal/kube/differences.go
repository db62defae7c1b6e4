package kube

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Differences lists the fields that desired sets and that are absent or
// different in live, one line a field, in order of path. What desired does not
// set is nobody's business here: defaults of the API server, fields of other
// managers, status, and all metadata but labels and annotations. Values of a
// Secret are compared but never shown.
func Differences(desired, live *unstructured.Unstructured) []string {
	if live == nil {
		return []string{"the object is absent"}
	}
	found := comparison{tell: func(at fieldPath, want, is any) string {
		switch {
		case want != any(secretValue{}):
			return fmt.Sprintf("%s: want %s, is %s", at, show(want), show(is))
		case absent(is):
			return fmt.Sprintf("%s: absent", at)
		}
		return fmt.Sprintf("%s: differs (not shown)", at)
	}}
	found.compareObjects(desired, live)
	return found.lines
}

// Changes lists what making an object of live would change, one line a field
// ("spec.replicas: 1 -> 3"), in order of path. If next is whole, as a dry run
// returns it, fields that only live has are changes too; otherwise what next
// does not set stays. Both are compared as Differences does it, values of a
// Secret are not shown.
func Changes(live, next *unstructured.Unstructured, whole bool) []string {
	return changes(live, next, whole, false)
}

// Edits lists what rewriting an object changes, as [Changes] does it, if both are
// as they were written, by a chart for instance: what Changes takes for the work
// of the API server is somebody's doing then, such as false in the place of
// nothing or containers in another order. Only amounts may be written in another
// way, and values of a Secret.
func Edits(before, next *unstructured.Unstructured) []string {
	return changes(before, next, true, true)
}

// FieldOf is the field that a line of Differences, Changes or Edits is about.
func FieldOf(line string) string {
	field, _, _ := strings.Cut(line, ": ")
	return field
}

// Within reports whether a field is the other or a part of it, both as FieldOf
// returns them.
func Within(field, other string) bool {
	rest, ok := strings.CutPrefix(field, other)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

func changes(live, next *unstructured.Unstructured, whole, exact bool) []string {
	live, next = withoutStringData(live), withoutStringData(next)
	found := comparison{exact: exact, tell: func(at fieldPath, want, is any) string {
		if is == any(secretValue{}) {
			return fmt.Sprintf("%s: changes (not shown)", at)
		}
		is, want = fromDifference(is, want)
		return fmt.Sprintf("%s: %s -> %s", at, showAs(is, exact), showAs(want, exact))
	}}
	found.compareObjects(next, live)
	if whole {
		gone := comparison{exact: exact, tell: func(at fieldPath, had, has any) string {
			if exact && has != nil || !absent(has) {
				return "" // Has been told.
			}
			return fmt.Sprintf("%s: %s -> absent", at, showAs(had, exact))
		}}
		gone.compareObjects(live, next)
		found.lines = append(found.lines, gone.lines...)
		slices.Sort(found.lines)
		found.lines = slices.Compact(found.lines)
	}
	return found.lines
}

// withoutStringData returns a Secret as the API server keeps it: either side may
// be as it was written.
func withoutStringData(object *unstructured.Unstructured) *unstructured.Unstructured {
	written, ok := object.Object["stringData"].(map[string]any)
	if !ok || object.GetKind() != Secret.Name {
		return object
	}
	kept := object.DeepCopy()
	delete(kept.Object, "stringData")
	data, ok := kept.Object["data"].(map[string]any)
	if !ok {
		data = map[string]any{}
	}
	for key, value := range written {
		if text, ok := value.(string); ok {
			data[key] = base64.StdEncoding.EncodeToString([]byte(text))
		}
	}
	kept.Object["data"] = data
	return kept
}

func (c *comparison) compareObjects(desired, live *unstructured.Unstructured) {
	for _, key := range slices.Sorted(maps.Keys(desired.Object)) {
		want, is := desired.Object[key], live.Object[key]
		switch key {
		case "kind", "status":
		case "apiVersion":
			if c.exact {
				c.compare(fieldPath{key}, want, is)
			}
		case "metadata":
			wantMeta, _ := want.(map[string]any)
			isMeta, _ := is.(map[string]any)
			parts := []string{"annotations", "labels"}
			if c.exact {
				parts = append(parts, "finalizers", "ownerReferences")
			}
			for _, part := range parts {
				c.compare(fieldPath{"metadata", part}, wantMeta[part], isMeta[part])
			}
		case "data", "stringData":
			if desired.GetKind() == "Secret" {
				c.compareSecret(key, want, live.Object["data"])
				continue
			}
			c.compare(fieldPath{key}, want, is)
		default:
			c.compare(fieldPath{key}, want, is)
		}
	}
}

// fieldPath is a path such as spec, containers, [name=app], image.
type fieldPath []string

func (p fieldPath) String() string {
	var text strings.Builder
	for i, part := range p {
		switch {
		case strings.HasPrefix(part, "["):
			text.WriteString(part)
		case strings.ContainsAny(part, "./"):
			fmt.Fprintf(&text, "[%q]", part)
		default:
			if i > 0 {
				text.WriteByte('.')
			}
			text.WriteString(part)
		}
	}
	return text.String()
}

func (p fieldPath) at(part string) fieldPath { return append(slices.Clip(p), part) }

// quantityFields hold resource quantities, which the API server rewrites
// ("0.1" becomes "100m"). Elsewhere such texts are different: "1.10" and "1.1"
// may be two versions.
var quantityFields = []string{"limits", "requests", "capacity", "hard", "divisor", "sizeLimit", "averageValue", "podFixed"}

func (p fieldPath) quantity() bool {
	return slices.ContainsFunc(p, func(part string) bool { return slices.Contains(quantityFields, part) })
}

type comparison struct {
	lines []string
	exact bool                                    // neither side has been through an API server
	tell  func(at fieldPath, want, is any) string // the line for a difference, "" if it is of no interest
}

func (c *comparison) differ(at fieldPath, want, is any) {
	if line := c.tell(at, want, is); line != "" {
		c.lines = append(c.lines, line)
	}
}

// secretValue stands for a value of a Secret, which is not to be shown.
type secretValue struct{}

// showAs is show; if exact, what is empty is not absent.
func showAs(value any, exact bool) string {
	if exact && absent(value) {
		switch value.(type) {
		case string:
			return `""`
		case map[string]any:
			return "{}"
		case []any:
			return "[]"
		}
	}
	return show(value)
}

func show(value any) string {
	const enough = 80
	if absent(value) {
		return "absent"
	}
	var text string
	switch value := value.(type) {
	case secretValue:
		return "a value (not shown)"
	case string:
		text = strconv.Quote(value)
	case map[string]any:
		return fmt.Sprintf("an object of %d fields", len(value))
	case []any:
		return fmt.Sprintf("a list of %d", len(value))
	default:
		text = fmt.Sprint(value)
	}
	if len(text) > enough {
		text = fmt.Sprintf("%.*s… (%d characters)", enough, text, len(text))
	}
	return text
}

// fromDifference cuts of two texts, if they are long, what both begin with.
func fromDifference(a, b any) (any, any) {
	const enough, before = 80, 20
	was, ok := a.(string)
	is, both := b.(string)
	if !ok || !both || len(was) <= enough && len(is) <= enough {
		return a, b
	}
	same := 0
	for same < len(was) && same < len(is) && was[same] == is[same] {
		same++
	}
	if same -= before; same <= 0 {
		return a, b
	}
	return "…" + strings.ToValidUTF8(was[same:], ""), "…" + strings.ToValidUTF8(is[same:], "")
}

// absent reports values that the API server does not keep apart from none.
func absent(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case string:
		return value == ""
	case map[string]any:
		return len(value) == 0
	case []any:
		return len(value) == 0
	}
	return false
}

// zero reports values that the API server may leave out.
func zero(value any) bool {
	if absent(value) || value == false {
		return true
	}
	number, ok := asNumber(value)
	return ok && number == 0
}

func (c *comparison) compare(at fieldPath, want, is any) {
	if want == nil || !c.exact && (absent(want) || absent(is) && zero(want)) {
		return
	}
	switch want := want.(type) {
	case map[string]any:
		found, ok := is.(map[string]any)
		if !ok {
			c.absentOrDifferent(at, want, is)
			return
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			if !c.exact && (key == "apiVersion" || key == "kind") && found[key] == nil && slices.Contains(at, "volumeClaimTemplates") {
				continue // Lists in the API server's binary form have no type of what is inside objects.
			}
			c.compare(at.at(key), want[key], found[key])
		}
	case []any:
		found, ok := is.([]any)
		if !ok {
			c.absentOrDifferent(at, want, is)
			return
		}
		c.compareLists(at, want, found)
	default:
		if !c.sameScalar(at, want, is) {
			c.differ(at, want, is)
		}
	}
}

// absentOrDifferent reports a whole that is missing; want may consist of
// nothing but what the API server leaves out.
func (c *comparison) absentOrDifferent(at fieldPath, want, is any) {
	if !c.exact && hollow(want) && absent(is) {
		return
	}
	c.differ(at, want, is)
}

func hollow(value any) bool {
	switch value := value.(type) {
	case map[string]any:
		for _, inner := range value {
			if !hollow(inner) {
				return false
			}
		}
		return true
	default:
		return zero(value)
	}
}

// mergeKeys are the fields by which the API identifies items of lists, the more
// telling first.
var mergeKeys = []string{"name", "mountPath", "devicePath", "containerPort", "port", "key", "type", "topologyKey", "ip", "uid"}

func (c *comparison) compareLists(at fieldPath, want, is []any) {
	for _, key := range mergeKeys {
		wanted, ok := byKey(want, key)
		if !ok {
			continue
		}
		found, ok := byKey(is, key)
		if !ok {
			continue
		}
		if c.exact && !slices.Equal(inBoth(want, found, key), inBoth(is, wanted, key)) {
			c.lines = append(c.lines, fmt.Sprintf("%s: in another order", at))
		}
		for _, item := range want {
			id := idOf(item, key)
			itemAt := at.at(fmt.Sprintf("[%s=%s]", key, id))
			if found[id] == nil {
				c.differ(itemAt, wanted[id], nil)
				continue
			}
			c.compare(itemAt, wanted[id], found[id])
		}
		return
	}
	if len(want) != len(is) {
		c.differ(at, want, is)
		return
	}
	for i := range want {
		c.compare(at.at(fmt.Sprintf("[%d]", i)), want[i], is[i])
	}
}

// byKey indexes the items of a list; it fails if they cannot be told apart by
// the key.
func byKey(items []any, key string) (map[string]any, bool) {
	index := make(map[string]any, len(items))
	for _, item := range items {
		id := idOf(item, key)
		if id == "" || index[id] != nil {
			return nil, false
		}
		index[id] = item
	}
	return index, true
}

// inBoth returns the keys of those items that another list has as well, in order.
func inBoth(items []any, others map[string]any, key string) []string {
	var ids []string
	for _, item := range items {
		if id := idOf(item, key); others[id] != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

func idOf(item any, key string) string {
	fields, ok := item.(map[string]any)
	if !ok {
		return ""
	}
	switch id := fields[key].(type) {
	case nil, map[string]any, []any:
		return ""
	default:
		return fmt.Sprint(id)
	}
}

func asNumber(value any) (float64, bool) {
	switch value := value.(type) {
	case int:
		return float64(value), true
	case int32:
		return float64(value), true
	case int64:
		return float64(value), true
	case float64:
		return value, true
	}
	return 0, false
}

func (c *comparison) sameScalar(at fieldPath, want, is any) bool {
	if want == is {
		return true
	}
	wantNumber, wantIsNumber := asNumber(want)
	isNumber, isIsNumber := asNumber(is)
	if wantIsNumber && isIsNumber {
		return wantNumber == isNumber
	}
	if at.quantity() {
		wanted, wantErr := resource.ParseQuantity(fmt.Sprint(want))
		found, foundErr := resource.ParseQuantity(fmt.Sprint(is))
		if wantErr == nil && foundErr == nil {
			return wanted.Cmp(found) == 0
		}
	}
	// A port may be written 8080 or "8080".
	return !c.exact && wantIsNumber != isIsNumber && fmt.Sprint(want) == fmt.Sprint(is)
}

// compareSecret compares by content: stringData is kept as data, and base64 may
// be wrapped.
func (c *comparison) compareSecret(key string, want, is any) {
	wanted, _ := want.(map[string]any)
	found, _ := is.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		wantText, _ := wanted[name].(string)
		content, err := []byte(wantText), error(nil)
		if key == "data" {
			content, err = base64.StdEncoding.DecodeString(wantText)
		}
		isText, present := found[name].(string)
		live, liveErr := base64.StdEncoding.DecodeString(isText)
		switch at := (fieldPath{"data", name}); {
		case !present && (c.exact || len(content) > 0):
			c.differ(at, secretValue{}, nil)
		case err != nil || liveErr != nil || !bytes.Equal(content, live):
			c.differ(at, secretValue{}, secretValue{})
		}
	}
}
