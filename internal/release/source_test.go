package release

import (
	"slices"
	"strings"
	"testing"
)

func TestParseManifests(t *testing.T) {
	t.Parallel()
	const text = "\ufeff%YAML 1.1\r\n# A comment.\r\n---\r\n# Another.\r\n---\r\napiVersion: v1\r\nkind: ConfigMap\r\n" +
		"metadata: {name: a}\r\ndata: {n: 0777, y: yes, text: |\r\n  --- not a mark\r\n  }\r\n"
	if _, err := ParseManifests(Manifest{Source: "a.yaml", Text: text}); err == nil {
		t.Error("a flow mapping that a block breaks is read")
	}
	objects, err := ParseManifests(
		Manifest{Source: "a.yaml", Text: "\ufeff%YAML 1.1\r\n# A comment.\r\n---\r\n# Another.\r\n--- # and this\r\n\r\napiVersion: v1\r\nkind: ConfigMap\r\n" +
			"metadata: {name: a}\r\ndata:\r\n  number: 0777\r\n  yes: yes\r\n  text: |\r\n    --- no mark\r\n    x\r\n...\r\n"},
		Manifest{Source: "b.json", Text: "{\n\t\"apiVersion\": \"v1\", \"kind\": \"ConfigMapList\", \"items\": [\n" +
			`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}]}`},
		Manifest{Source: "c.yaml", Text: "--- {apiVersion: v1, kind: Playlist, items: []}\n---\n"},
		Manifest{Source: "empty.yaml", Text: "\n# Nothing.\n---\n---\n"},
	)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, object := range objects {
		got = append(got, object.GetKind()+" "+object.GetName()+" from "+object.Source)
	}
	want := []string{
		"ConfigMap a from a.yaml, document 1 (line 7)",
		"ConfigMap b from b.json, document 1 (line 1), item 1",
		"ConfigMap c from b.json, document 1 (line 1), item 2",
		"Playlist  from c.yaml, document 1 (line 1)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	data, ok := objects[0].Object["data"].(map[string]any)
	if !ok || data["number"] != int64(0o777) || data["true"] != true || data["text"] != "--- no mark\nx\n" {
		t.Errorf("data %#v", objects[0].Object["data"])
	}
}

func TestParseErrorsNameThePlaceAndQuoteNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"a: b\n---\n# Second.\nkind: Secret\nstringData:\n  password: hunter2: x\n", "x.yaml, document 2 (line 4): it is not valid YAML: line 6: mapping values are not allowed in this context"},
		{"---\n\nstringData: *hunter2\n", "x.yaml, document 1 (line 3): it is not valid YAML"},
		{"- hunter2\n", "x.yaml, document 1 (line 1): it is not an object but a list or a single value"},
		{"hunter2\n", "x.yaml, document 1 (line 1): it is not an object but a list or a single value"},
		{"kind: List\napiVersion: v1\nitems: [hunter2]\n", "x.yaml, document 1 (line 1): item 1 of the list is not an object"},
	} {
		_, err := ParseManifests(Manifest{Source: "x.yaml", Text: c.text})
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: got %v, want %s", c.text, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q is quoted: %v", c.text, err)
		}
	}
}

func FuzzParseManifests(f *testing.F) {
	f.Add(application)
	f.Add("--- {a: b}\n...\n%TAG\n---\nkind: List\nitems: [{}, 1]\n")
	f.Fuzz(func(t *testing.T, text string) {
		objects, err := ParseManifests(Manifest{Source: "x", Text: text})
		if err != nil && len(objects) > 0 {
			t.Errorf("objects beside an error: %v", err)
		}
		for _, object := range objects {
			if object.Unstructured == nil || object.Source == "" {
				t.Errorf("an object without content or source")
			}
		}
	})
}
