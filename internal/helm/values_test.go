package helm

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParseValuesMergesInOrder(t *testing.T) {
	t.Parallel()
	got, err := ParseValues([]string{
		"proxy: {cpu: 1, memory: 2}\nlist: [a, b]\nsame: 1",
		"",
		"proxy: {memory: 3}\nlist: [c]\nsame: null",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"proxy": map[string]any{"cpu": 1.0, "memory": 3.0},
		"list":  []any{"c"},
		"same":  nil, // Kept, because it removes the default of the chart.
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, want %#v", got, want)
	}
}

func TestParseValuesNamesTheDocument(t *testing.T) {
	t.Parallel()
	for _, document := range []string{"- hunter2", "hunter2", "password: hunter2\n\tbad: x", "a: {b: hunter2"} {
		_, err := ParseValues([]string{"a: 1", document})
		var wrong *ValuesError
		if !errors.As(err, &wrong) || wrong.Index != 1 {
			t.Errorf("ParseValues(%q) = %v, want an error about document 1", document, err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error quotes the values: %v", err)
		}
	}
}

func TestMergeValuesLeavesItsArgumentsAlone(t *testing.T) {
	t.Parallel()
	base := map[string]any{"a": map[string]any{"b": "base"}}
	overlay := map[string]any{"a": map[string]any{"b": "overlay"}}
	merged := MergeValues(base, overlay)
	if got := merged["a"]; !reflect.DeepEqual(got, map[string]any{"b": "overlay"}) {
		t.Errorf("merged %v", got)
	}
	if !reflect.DeepEqual(base, map[string]any{"a": map[string]any{"b": "base"}}) {
		t.Errorf("base became %v", base)
	}
}

func TestSetStrings(t *testing.T) {
	t.Parallel()
	values := map[string]any{"auth": map[string]any{"user": "admin"}, "users": []any{map[string]any{"name": "a"}}}
	got, err := SetStrings(values, map[string]string{
		"auth.password":     `a,b={c}\d null`,
		"users[1].name":     "123",
		`labels.a\.b/owner`: "true",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"auth":   map[string]any{"user": "admin", "password": `a,b={c}\d null`},
		"users":  []any{map[string]any{"name": "a"}, map[string]any{"name": "123"}},
		"labels": map[string]any{"a.b/owner": "true"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, want %#v", got, want)
	}
	if _, changed := values["labels"]; changed || len(values["users"].([]any)) != 1 { //nolint:forcetypeassert // It is written above.
		t.Errorf("the values have become %v", values)
	}
	for _, path := range []string{"", ".", "a.", ".a", "a=b", "a,b", "{a}", "users.name", "auth.user.name", "auth[0]", "users[x]", "users[-1]", "users[99999999]"} {
		_, err := SetStrings(values, map[string]string{path: "hunter2"})
		var wrong *SettingError
		if !errors.As(err, &wrong) || wrong.Path != path || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("path %q: got %v, want an error that names it and not the value", path, err)
		}
	}
}

func FuzzParseValues(f *testing.F) {
	f.Add("a: 1", "a: {b: [1, null]}")
	f.Fuzz(func(t *testing.T, one, two string) {
		merged, err := ParseValues([]string{one, two})
		if err != nil {
			return
		}
		if _, err := plainValues(merged); err != nil {
			t.Errorf("values read from YAML cannot be stored: %v", err)
		}
	})
}
