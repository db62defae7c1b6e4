package manifest_test

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/manifest"
)

// mark asks for one label and two annotations on the pods of everything.
func mark(object *unstructured.Unstructured) (manifest.Edit, error) {
	if object.GetName() == "refused" {
		return manifest.Edit{}, errors.New("not this one")
	}
	path, ok := manifest.TemplatePath(object.GroupVersionKind().GroupKind())
	if !ok {
		return manifest.Edit{}, nil
	}
	return manifest.Edit{
		At:          path,
		Labels:      map[string]string{"in": "true"},
		Annotations: map[string]string{"a/ports": "80,443", "a/mode": "on-all"},
	}, nil
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	const pod = "apiVersion: v1\nkind: Pod\n"
	for name, c := range map[string]struct{ text, want string }{
		"empty":         {"", ""},
		"comments only": {"# nothing\n---\n# here\n...\n", "# nothing\n---\n# here\n...\n"},
		"other kinds": {
			"---\napiVersion:   batch.volcano.sh/v1\nkind:  Job\n---\nkind: ConfigMap\napiVersion: v1\ndata:\n  x: |\n    apiVersion: v1\n    kind: Pod\n",
			"---\napiVersion:   batch.volcano.sh/v1\nkind:  Job\n---\nkind: ConfigMap\napiVersion: v1\ndata:\n  x: |\n    apiVersion: v1\n    kind: Pod\n",
		},
		"no metadata": {
			pod,
			"metadata:\n  annotations:\n    a/mode: on-all\n    a/ports: \"80,443\"\n  labels:\n    in: \"true\"\n" + pod,
		},
		"null metadata at the end": {
			pod + "metadata:",
			pod + "metadata:\n  annotations:\n    a/mode: on-all\n    a/ports: \"80,443\"\n  labels:\n    in: \"true\"",
		},
		"spelled null": {
			pod + "metadata: ~ # none\n",
			pod + "metadata: {annotations: {a/mode: on-all, a/ports: \"80,443\"}, labels: {in: \"true\"}} # none\n",
		},
		"comments and Windows": {
			pod + "metadata: # of it\r\n    # the name\r\n    name: x\r\n    labels:\r\n    # before\r\n        # first\r\n        app: x # last",
			pod + "metadata: # of it\r\n    annotations:\r\n        a/mode: on-all\r\n        a/ports: \"80,443\"\r\n    # the name\r\n    name: x\r\n    labels:\r\n        in: \"true\"\r\n    # before\r\n        # first\r\n        app: x # last",
		},
		"null mappings": {
			pod + "metadata:\n  annotations: # none yet\n  labels:\n\nspec: {}\n",
			pod + "metadata:\n  annotations: # none yet\n    a/mode: on-all\n    a/ports: \"80,443\"\n  labels:\n    in: \"true\"\n\nspec: {}\n",
		},
		"byte order mark, tag, anchor, flow": {
			"\ufeffmetadata: &m !!map {name: x, labels: &l !!map { }}\n" + pod,
			"\ufeffmetadata: &m !!map {annotations: {a/mode: on-all, a/ports: \"80,443\"}, name: x, labels: &l !!map {in: \"true\" }}\n" + pod,
		},
		"flow without values": {
			pod + "metadata: {labels, annotations: , name: }\n",
			pod + "metadata: {labels: {in: \"true\"}, annotations: {a/mode: on-all, a/ports: \"80,443\"}, name: }\n",
		},
		"anchored and tagged block": {
			pod + "metadata: &m\n  labels:\n    !!map\n    app: x\n  annotations: &a # c\n    b: c\n",
			pod + "metadata: &m\n  labels:\n    !!map\n    in: \"true\"\n    app: x\n  annotations: &a # c\n    a/mode: on-all\n    a/ports: \"80,443\"\n    b: c\n",
		},
		"JSON": {
			"{\n\t\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n\t\"metadata\": {\n\t\t\"labels\": {},\n\t\t\"name\": \"x\"\n\t}\n}\n",
			"{\n\t\"apiVersion\": \"v1\", \"kind\": \"Pod\",\n\t\"metadata\": {\n\t\t\"annotations\": {\"a/mode\": \"on-all\", \"a/ports\": \"80,443\"},\n\t\t\"labels\": {\"in\": \"true\"},\n\t\t\"name\": \"x\"\n\t}\n}\n",
		},
		"minified JSON": {
			`{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"a/ports":"1"},"labels":null}}`,
			`{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"a/mode": "on-all", "a/ports":"80,443"},"labels":{"in": "true"}}}`,
		},
		"template": {
			"kind: CronJob\napiVersion: batch/v1\nspec:\n   jobTemplate:\n      metadata: {}\n      spec:\n         template:\n            spec:\n               containers: []\n",
			"kind: CronJob\napiVersion: batch/v1\nspec:\n   jobTemplate:\n      metadata: {}\n      spec:\n         template:\n            metadata:\n               annotations:\n                  a/mode: on-all\n                  a/ports: \"80,443\"\n               labels:\n                  in: \"true\"\n            spec:\n               containers: []\n",
		},
		"values in any style": {
			pod + "metadata:\n  labels: {in: true, x: y}\n  annotations:\n    a/mode: |- # how\n      off\n\n      and on\n\n    # ports\n    a/ports: 'x''y' # which\n",
			pod + "metadata:\n  labels: {in: \"true\", x: y}\n  annotations:\n    a/mode: on-all # how\n\n    # ports\n    a/ports: '80,443' # which\n",
		},
		"more styles": {
			pod + "metadata:\n  labels:\n    in:\n  annotations:\n    a/mode: several\n\n      plain  lines # and this\n    a/ports: \"a \\\"\\\n      b\"\n",
			pod + "metadata:\n  labels:\n    in: \"true\"\n  annotations:\n    a/mode: on-all # and this\n    a/ports: \"80,443\"\n",
		},
		"block scalars of given indentation, and empty": {
			pod + "metadata:\n  annotations:\n    a/mode: >2+\n\n        x\n      y\n\n    a/ports: |\n  labels:\n    in:\n      |\n     x\n    z: \"\"\n",
			pod + "metadata:\n  annotations:\n    a/mode: on-all\n\n    a/ports: \"80,443\"\n  labels:\n    in:\n      \"true\"\n    z: \"\"\n",
		},
		"anchors, tags and comments before": {
			pod + "metadata: &m # c\r  # d\r  {annotations: &a {}}\rspec: &s\r  !!map # e\r  x: y\r",
			pod + "metadata: &m # c\r  # d\r  {labels: {in: \"true\"}, annotations: &a {a/mode: on-all, a/ports: \"80,443\"}}\rspec: &s\r  !!map # e\r  x: y\r",
		},
		"values after tags": {
			pod + "metadata:\n  annotations:\n    a/mode: !!str # e\n      |\n      x\n    a/ports: ! x\n  labels:\n    in: !!bool\n      # so\n      true\n",
			pod + "metadata:\n  annotations:\n    a/mode: on-all\n    a/ports: \"80,443\"\n  labels:\n    in: \"true\"\n",
		},
		"right already": {
			pod + "metadata:\n  labels: {'in': 'true'}\n  annotations: {<<: {a/mode: on-all, a/ports: \"80,\\\n  443\"}}\n",
			pod + "metadata:\n  labels: {'in': 'true'}\n  annotations: {<<: {a/mode: on-all, a/ports: \"80,\\\n  443\"}}\n",
		},
		"merged beside": {
			pod + "x: &x {c: d}\nmetadata:\n  labels:\n    <<: *x\n  annotations: {a/mode: on-all, <<: *x}\n",
			pod + "x: &x {c: d}\nmetadata:\n  labels:\n    in: \"true\"\n    <<: *x\n  annotations: {a/ports: \"80,443\", a/mode: on-all, <<: *x}\n",
		},
		"list": {
			"kind: List\napiVersion: v1\nitems:\n- kind: Pod\n  apiVersion: v1\n-   metadata: {name: x}\n    kind: Pod\n    apiVersion: v1\n",
			"kind: List\napiVersion: v1\nitems:\n- metadata:\n    annotations:\n      a/mode: on-all\n      a/ports: \"80,443\"\n    labels:\n      in: \"true\"\n  kind: Pod\n  apiVersion: v1\n-   metadata: {annotations: {a/mode: on-all, a/ports: \"80,443\"}, labels: {in: \"true\"}, name: x}\n    kind: Pod\n    apiVersion: v1\n",
		},
		"typed list": {
			"{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"items\":[{\"metadata\":{}}]}",
			"{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"items\":[{\"metadata\":{\"annotations\": {\"a/mode\": \"on-all\", \"a/ports\": \"80,443\"}, \"labels\": {\"in\": \"true\"}}}]}",
		},
		"documents": {
			"%YAML 1.1\n---\n# Source: x\n" + pod + "metadata: {}\n...\n# between\n--- # second\n" + pod + "metadata:\n  labels: {é: ü, in: 'false'}\n  annotations:\n    a/mode: on-all\n    a/ports: 80,443\n---\n",
			"%YAML 1.1\n---\n# Source: x\n" + pod + "metadata: {annotations: {a/mode: on-all, a/ports: \"80,443\"}, labels: {in: \"true\"}}\n...\n# between\n--- # second\n" + pod + "metadata:\n  labels: {é: ü, in: 'true'}\n  annotations:\n    a/mode: on-all\n    a/ports: 80,443\n---\n",
		},
		"indicated keys": {
			pod + "metadata:\n  ? labels\n  : app: x\n  ? annotations\n  : ? b\n    : c\n",
			pod + "metadata:\n  ? labels\n  : in: \"true\"\n    app: x\n  ? annotations\n  : a/mode: on-all\n    a/ports: \"80,443\"\n    ? b\n    : c\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := manifest.Rewrite([]byte(c.text), mark)
			if err != nil || string(got) != c.want {
				t.Fatalf("error %v\ngot:\n%s\nwant:\n%s", err, got, c.want)
			}
			again, err := manifest.Rewrite(got, mark)
			if err != nil || string(again) != string(got) {
				t.Errorf("the second time: error %v\n%s", err, again)
			}
		})
	}
}

func TestRewriteErrors(t *testing.T) {
	t.Parallel()
	const pod = "kind: Pod\napiVersion: v1\n"
	for name, c := range map[string]struct{ text, want string }{
		"no UTF-8":     {"a: \xff", "not text in UTF-8"},
		"no YAML":      {"---\n---\na: b: c", "document 2: yaml: line"},
		"unended":      {"a: 'b", "document 1: yaml: "},
		"text":         {"# c\nhello", "document 1 (line 2): it is no Kubernetes object but a single value or a list"},
		"no kind":      {"a: b\n", "document 1 (line 1): it is no Kubernetes object: apiVersion or kind is missing"},
		"no version":   {"---\n---\nkind: Pod\nmetadata: {name: x}\n", "document 2 (line 3): Pod x: it is no Kubernetes object: apiVersion or kind is missing"},
		"item":         {"{kind: List, apiVersion: v1, items: [1]}", "document 1 (line 1): it is no Kubernetes object but"},
		"listed items": {"x: &x []\nkind: List\napiVersion: v1\nitems: *x\n", "document 1 (line 1): List: its items come from elsewhere"},
		"list item":    {"kind: List\napiVersion: v1\nitems:\n- &x {kind: Pod, apiVersion: v1}\n- *x\n", "document 1 (line 4): Pod: the object has the anchor &x, and what refers to it would change too; write it out there"},
		"listed list":  {"kind: List\napiVersion: v1\nitems: [&x {kind: List, apiVersion: v1, items: []}, *x]\n", "document 1 (line 3): List: its items come from elsewhere"},
		"refused":      {"---\n" + pod + "metadata: {name: refused, namespace: ns}", "document 1 (line 2): Pod ns/refused: not this one"},
		"duplicate":    {"---\nkind: Deployment\napiVersion: apps/v1\nmetadata: {name: alpha, namespace: dgraph}\nspec:\n  x: 1\n  x: 2\n", `document 1 (line 7): Deployment dgraph/alpha: key "x" is there twice, first on line 6; remove one of them`},
		"alias":        {pod + "x: &l {a: b}\nmetadata:\n  name: x\n  labels: *l\n", "document 1 (line 6): Pod x: metadata.labels is the alias *l; write out what it stands for"},
		"anchor":       {pod + "metadata:\n  labels: &l {a: b}\nspec: {x: *l}\n", "document 1 (line 4): Pod: metadata.labels has the anchor &l, and what refers to it would change too"},
		"value":        {pod + "metadata:\n  labels:\n    in: &l x\nspec: {x: *l}\n", "document 1 (line 5): Pod: metadata.labels.in has the anchor &l"},
		"merge":        {pod + "x: &x {annotations: {a: b}}\nmetadata:\n  <<: *x\n", "document 1 (line 5): Pod: metadata.annotations comes through a merge key (<<) only; write it out"},
		"merged value": {pod + "x: &x {in: b}\nmetadata:\n  labels:\n    <<: *x\n", "document 1 (line 6): Pod: metadata.labels.in comes through a merge key (<<) only; write it out"},
		"list of metadata": {
			pod + "metadata: []\n", "document 1 (line 1): Pod: metadata is not a mapping; correct the manifest",
		},
		"text of labels": {pod + "metadata: {labels: x}\n", "Pod: metadata.labels is not a mapping"},
		"list of values": {pod + "metadata: {labels: {in: [x]}}\n", "Pod: metadata.labels: in has no plain value"},
		"no template":    {"kind: Job\napiVersion: batch/v1\nspec:\n", "document 1 (line 1): Job: spec is missing: there is nothing to put labels or annotations on"},
		"bad template":   {"kind: Job\napiVersion: batch/v1\nspec: {template: x}\n", "Job: spec.template is not a mapping"},
		"style":          {pod + "metadata:\n  ? labels\n", "it is written in a style of YAML that cannot be changed in place"},
		"no JSON":        {pod + "x: .nan\n", "document 1 (line 1): it cannot be turned into JSON for Kubernetes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := manifest.Rewrite([]byte(c.text), mark)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q; text:\n%s", err, c.want, got)
			}
		})
	}
}
