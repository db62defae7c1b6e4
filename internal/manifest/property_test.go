package manifest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/manifest"
)

// decode reads all documents by another reading of YAML than that of the package.
func decode(t *testing.T, text []byte) []any {
	t.Helper()
	var all []any
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var value any
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		all = append(all, plainKeys(value))
	}
}

// plainKeys gives mappings with keys of other types than strings such keys.
func plainKeys(value any) any {
	switch value := value.(type) {
	case []any:
		for i := range value {
			value[i] = plainKeys(value[i])
		}
	case map[string]any:
		for key := range value {
			value[key] = plainKeys(value[key])
		}
	case map[any]any:
		plain := map[string]any{}
		for key := range value {
			plain[fmt.Sprint(key)] = plainKeys(value[key])
		}
		return plain
	}
	return value
}

// marked makes in decoded documents what mark asks for. It reports whether all
// of it was there before, and whether something else stood in its place.
func marked(value any, kind string) (all, other bool) {
	object, ok := value.(map[string]any)
	if !ok {
		return true, false
	}
	if own, ok := object["kind"].(string); ok {
		kind = own
	}
	all = true
	if items, ok := object["items"].([]any); ok && strings.HasSuffix(kind, "List") {
		for _, item := range items {
			had, others := marked(item, strings.TrimSuffix(kind, "List"))
			all, other = all && had, other || others
		}
		return all, other
	}
	version, _ := object["apiVersion"].(string)
	group := schema.FromAPIVersionAndKind(version, kind).GroupKind()
	path, ok := manifest.TemplatePath(group)
	if !ok {
		return true, false
	}
	for _, key := range append(append([]string{}, path...), "metadata") {
		next, ok := object[key].(map[string]any)
		if !ok {
			all, next = false, map[string]any{}
			object[key] = next
		}
		object = next
	}
	for name, values := range map[string]map[string]string{
		"labels": {"in": "true"}, "annotations": {"a/ports": "80,443", "a/mode": "on-all"},
	} {
		have, ok := object[name].(map[string]any)
		if !ok {
			have = map[string]any{}
			object[name] = have
		}
		for key, value := range values {
			all = all && have[key] == any(value)
			_, present := have[key]
			other = other || present && have[key] != any(value)
			have[key] = value
		}
	}
	return all, other
}

// subsequence reports whether all of a is in b, in this order.
func subsequence(a, b []byte) bool {
	for _, element := range b {
		if len(a) > 0 && a[0] == element {
			a = a[1:]
		}
	}
	return len(a) == 0
}

// checkRewritten holds a result against what it was made from: it says what it
// should and nothing else is other, nothing of the text is lost, and a second
// rewriting does nothing.
func checkRewritten(t *testing.T, text, result []byte) {
	t.Helper()
	want := decode(t, text)
	all, other := true, false
	for _, document := range want {
		had, others := marked(document, "")
		all, other = all && had, other || others
	}
	if got := decode(t, result); !reflect.DeepEqual(got, want) {
		t.Errorf("it says %v instead of %v", got, want)
	}
	if all && !bytes.Equal(text, result) {
		t.Error("nothing was to be changed, and something was")
	}
	spelledNull := bytes.ContainsRune(text, '~') || bytes.Contains(text, []byte("null"))
	if !other && !spelledNull && !subsequence(text, result) {
		t.Error("something of it is lost")
	}
	again, err := manifest.Rewrite(result, mark)
	if err != nil || !bytes.Equal(again, result) {
		t.Errorf("the second time: error %v\n%s", err, again)
	}
	if t.Failed() {
		t.Fatalf("from:\n%s\nto:\n%s\n%q", text, result, text)
	}
}

// A writer writes manifests in random styles, all of which are YAML.
type writer struct {
	*rand.Rand

	newline string
}

// one in n times it is true.
func (w *writer) one(n int) bool { return w.IntN(n) == 0 }

func pick[T any](w *writer, choices ...T) T { return choices[w.IntN(len(choices))] }

// manifest writes several documents.
func (w *writer) manifest() string {
	w.newline = pick(w, "\n", "\n", "\r\n", "\r")
	var text strings.Builder
	text.WriteString(pick(w, "", "", "\ufeff", "# Source: chart/templates/alpha.yaml"+w.newline, "---"+w.newline))
	documents := 1 + w.IntN(3)
	for i := range documents {
		if i > 0 {
			text.WriteString(pick(w, "", w.newline, "..."+w.newline, "# end"+w.newline))
			text.WriteString("---" + pick(w, "", " ", " # "+w.word()) + w.newline)
			text.WriteString(pick(w, "", "# Source: "+w.word()+w.newline, w.newline))
		}
		switch {
		case w.one(8):
			text.WriteString(pick(w, "", "# nothing"+w.newline))
			if i == 0 {
				text.WriteString("---" + w.newline)
			}
		case w.one(6):
			text.WriteString(w.mapping(w.list(), 0, 2) + w.newline)
		default:
			text.WriteString(w.mapping(w.object(), 0, pick(w, 1, 2, 4)) + w.newline)
		}
	}
	result := text.String()
	if w.one(4) {
		result = strings.TrimSuffix(result, w.newline)
	}
	return result
}

// A field is a key and its value: nil, a text as it is written, fields, or a list.
type field struct {
	key   string
	value any
}

func (w *writer) shuffled(fields ...field) []field {
	w.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	return fields
}

func (w *writer) list() []field {
	items := []any{}
	for range w.IntN(4) {
		items = append(items, w.object())
	}
	return w.shuffled(field{"kind", "List"}, field{"apiVersion", "v1"}, field{"items", items})
}

func (w *writer) object() []field {
	kind := pick(w, "Pod", "Deployment", "CronJob", "Job", "ConfigMap")
	fields := []field{
		{"kind", kind},
		{"apiVersion", map[string]string{"Deployment": "apps/v1", "CronJob": "batch/v1", "Job": "batch/v1"}[kind]},
		{"metadata", w.metadata()},
	}
	if fields[1].value == "" {
		fields[1].value = "v1"
	}
	template := w.shuffled(field{"metadata", w.metadata()}, field{"spec", w.noise()})
	if w.one(6) {
		template = template[:1]
		template[0] = field{"spec", w.noise()}
	}
	switch kind {
	case "CronJob":
		job := []field{{"spec", []field{{"template", template}}}}
		fields = append(fields, field{"spec", w.shuffled(field{"jobTemplate", job}, field{"x", w.noise()})})
	case "Deployment", "Job":
		fields = append(fields, field{"spec", w.shuffled(field{"template", template}, field{"x", w.noise()})})
	default:
		fields = append(fields, field{"data", w.noise()})
	}
	return w.shuffled(fields...)
}

func (w *writer) metadata() any {
	if w.one(8) {
		return nil
	}
	var fields []field
	if !w.one(3) {
		fields = append(fields, field{"name", w.word()})
	}
	if !w.one(3) {
		fields = append(fields, field{"labels", w.values(field{"in", pick(w, "true", `"true"`, "'true'", "'false'", "")})})
	}
	if !w.one(3) {
		fields = append(fields, field{"annotations", w.values(
			field{"a/ports", pick(w, "80,443", `"80,443"`, "''", `"80"`, "x")},
			field{"a/mode", pick(w, "on-all", "off", "'off'", "|", ">-", "null", "~")},
		)})
	}
	return w.shuffled(fields...)
}

// values are some of the given ones, and others.
func (w *writer) values(given ...field) any {
	if w.one(6) {
		return nil
	}
	var fields []field
	for _, f := range given {
		if w.one(2) {
			fields = append(fields, f)
		}
	}
	for range w.IntN(3) {
		fields = append(fields, field{w.word() + fmt.Sprint(len(fields)), w.scalar()})
	}
	return w.shuffled(fields...)
}

// noise is what no edit is about.
func (w *writer) noise() any {
	return w.shuffled(field{"a", w.scalar()}, field{"b", []any{w.scalar(), []field{{"c", w.scalar()}, {"d", nil}}}}, field{"e", []field{}})
}

func (w *writer) word() string { return pick(w, "alpha", "zero", "größe", "日本", "x-y.z", "a_b") }

// scalar is a text in any style. What it says matters not, as long as it is the
// same afterwards.
func (w *writer) scalar() string {
	return pick(w, "5", "yes", "plain text", "http://x:80/#y", `"a: {b} # c\" d"`, "'it''s # not'", "|", "|-", ">+", ">", "''", "")
}

// mapping writes fields at an indentation, as lines or in braces.
func (w *writer) mapping(fields []field, indent, step int) string {
	if len(fields) == 0 {
		return strings.Repeat(" ", indent) + pick(w, "{}", "{ }")
	}
	if w.one(10) {
		return strings.Repeat(" ", indent) + w.flow(fields, strings.Repeat(" ", indent))
	}
	var lines []string
	for _, f := range fields {
		if w.one(6) {
			lines = append(lines, strings.Repeat(" ", pick(w, indent, 0, indent+1))+"# "+w.word())
		}
		if w.one(10) {
			lines = append(lines, pick(w, "", strings.Repeat(" ", indent+1)))
		}
		lines = append(lines, w.field(f, indent, step))
	}
	return strings.Join(lines, w.newline)
}

func (w *writer) field(f field, indent, step int) string {
	start := strings.Repeat(" ", indent) + pick(w, f.key, f.key, `"`+f.key+`"`, "'"+f.key+"'") + ":"
	comment := pick(w, "", "", "", " ", " # "+w.word())
	switch value := f.value.(type) {
	case nil:
		return start + comment
	case string:
		return start + w.value(value, comment, indent+step)
	case []field:
		text := w.mapping(value, indent+step, step)
		if inner := strings.TrimLeft(text, " "); inner[0] == '{' {
			return start + " " + inner + comment
		}
		return start + pick(w, "", "", " !!map", " &"+fmt.Sprintf("x%d", w.IntN(1000))) + comment + w.newline + text
	case []any:
		if len(value) == 0 {
			return start + " []" + comment
		}
		start += comment
		for _, element := range value {
			start += w.newline + strings.Repeat(" ", indent) + "-" + w.element(element, indent, step)
		}
		return start
	default:
		panic(fmt.Sprintf("%T", value))
	}
}

func (w *writer) element(element any, indent, step int) string {
	if fields, ok := element.([]field); ok {
		gap := pick(w, 1, 3)
		text := w.mapping(fields, indent+1+gap, step)
		if first, _, _ := strings.Cut(text, w.newline); strings.TrimSpace(first) == "" || strings.Contains(first, "# ") {
			return w.newline + text
		}
		return text[indent+1:] // On the line of the dash.
	}
	text, _ := element.(string)
	return w.value(text, "", indent+step)
}

// value writes a scalar after its key or dash, with the lines below it if it
// has some.
func (w *writer) value(text, comment string, indent int) string {
	switch text {
	case "|", "|-", ">+", ">":
		below := w.newline + strings.Repeat(" ", indent)
		return " " + text + comment + below + "some # text" + pick(w, "", w.newline) + below + "  and: more" + pick(w, "", w.newline)
	case "plain text":
		if w.one(2) {
			return " plain" + w.newline + strings.Repeat(" ", indent+2) + "text" + comment
		}
	case "":
		return comment
	}
	return " " + text + comment
}

// flow writes fields in braces, on one line or several.
func (w *writer) flow(fields []field, indent string) string {
	between := pick(w, ", ", ","+w.newline+indent+"   ")
	parts := make([]string, len(fields))
	for i, f := range fields {
		parts[i] = pick(w, f.key, `"`+f.key+`"`) + ": " + w.flowValue(f.value, indent)
	}
	return "{" + pick(w, "", " ", strings.TrimPrefix(between, ",")) + strings.Join(parts, between) + pick(w, "", " ", w.newline+indent+" ") + "}"
}

func (w *writer) flowValue(value any, indent string) string {
	switch value := value.(type) {
	case nil:
		return pick(w, "", "null", "~")
	case string:
		if strings.ContainsAny(value, "|>,:") && value[0] != '"' && value[0] != '\'' {
			return `"80,443"`
		}
		return value
	case []field:
		return w.flow(value, indent)
	case []any:
		parts := make([]string, len(value))
		for i, element := range value {
			if parts[i] = w.flowValue(element, indent); parts[i] == "" {
				parts[i] = "x"
			}
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		panic(fmt.Sprintf("%T", value))
	}
}

func TestRewriteAnyStyle(t *testing.T) {
	t.Parallel()
	changed := 0
	for seed := range uint64(1000) {
		w := &writer{Rand: rand.New(rand.NewPCG(seed, 1))}
		text := []byte(w.manifest())
		result, err := manifest.Rewrite(text, mark)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s\n%q", seed, err, text, text)
		}
		checkRewritten(t, text, result)
		if !bytes.Equal(text, result) {
			changed++
		}
	}
	if changed < 700 {
		t.Errorf("only %d of the manifests had something to change", changed)
	}
}

func FuzzRewrite(f *testing.F) {
	for seed := range uint64(64) {
		f.Add([]byte((&writer{Rand: rand.New(rand.NewPCG(seed, 2))}).manifest()))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		asked := 0
		result, err := manifest.Rewrite(text, func(object *unstructured.Unstructured) (manifest.Edit, error) {
			asked++
			return mark(object)
		})
		switch {
		case err != nil && result != nil:
			t.Errorf("both an error and a result: %v", err)
		case err == nil && asked == 0 && !bytes.Equal(text, result):
			t.Error("it was changed, and nobody asked for it")
		case err == nil && asked > 0:
			checkRewritten(t, text, result)
		}
	})
}
