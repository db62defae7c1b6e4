package manifest

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestObjects(t *testing.T) {
	t.Parallel()
	var got []string
	var data any
	for _, text := range []string{
		"\ufeff%YAML 1.1\r\n# A comment.\r\n---\r\n# Another.\r\n--- # and this\r\n\r\napiVersion: v1\r\nkind: ConfigMap\r\n" +
			"metadata: {name: a}\r\ndata:\r\n  number: 0777\r\n  yes: yes\r\n  text: |\r\n    --- no mark\r\n    x\r\n...\r\n",
		"{\n\t\"apiVersion\": \"v1\", \"kind\": \"ConfigMapList\", \"items\": [\n" +
			`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}]}`,
		"--- {apiVersion: v1, kind: Playlist, items: []}\n---\n# Source: a/templates/b.yaml\n{apiVersion: v1, kind: List, items: []}\n",
		"---\n# Source: a/templates/b.yaml\n{apiVersion: v1, kind: List, items: [{kind: X}]}\n",
		"\n# Nothing.\n---\n---\nnull\n--- {}\n",
	} {
		objects, err := Objects(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range objects {
			got = append(got, object.GetKind()+" "+object.GetName()+" in "+object.Place+" "+object.Template)
		}
		if data == nil {
			data = objects[0].Object["data"]
		}
	}
	want := []string{
		"ConfigMap a in document 1 (line 7) ",
		"ConfigMap b in document 1 (line 1), item 1 ",
		"ConfigMap c in document 1 (line 1), item 2 ",
		"Playlist  in document 1 (line 1) ",
		"X  in document 1 (line 3), item 1 a/templates/b.yaml",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if want := map[string]any{"number": int64(0o777), "true": true, "text": "--- no mark\nx\n"}; !reflect.DeepEqual(data, want) {
		t.Errorf("data %#v", data)
	}
}

func TestErrorsOfObjectsNameThePlaceAndQuoteNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"a: b\n---\n# Second.\nkind: Secret\nstringData:\n  password: hunter2: x\n", "document 2 (line 4): it is not valid YAML: line 6: mapping values are not allowed in this context"},
		{"---\n\nstringData: *hunter2\n", "document 1 (line 3): it is not valid YAML"},
		{"- hunter2\n", "document 1 (line 1): it is not an object but a list or a single value"},
		{"hunter2\n", "document 1 (line 1): it is not an object but a list or a single value"},
		{"kind: List\napiVersion: v1\nitems: [hunter2]\n", "document 1 (line 1): item 1 of the list is not an object"},
	} {
		_, err := Objects(c.text)
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: got %v, want %s", c.text, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q is quoted: %v", c.text, err)
		}
	}
}

func FuzzObjects(f *testing.F) {
	f.Add("kind: List\nitems:\n- {kind: A}\n---\n# B\n---\nkind: C\n")
	f.Add("--- {a: b}\n...\n%TAG\n---\nkind: List\nitems: [{}, 1]\n")
	f.Fuzz(func(t *testing.T, text string) {
		objects, err := Objects(text)
		if err != nil && len(objects) > 0 {
			t.Errorf("objects beside an error: %v", err)
		}
		for _, object := range objects {
			if object.Unstructured == nil || object.Place == "" {
				t.Errorf("an object without content or place")
			}
		}
	})
}
