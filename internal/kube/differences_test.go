package kube

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func fromYAML(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		desired, live string
		want          []string
	}{
		"defaults and other managers are no difference": {
			desired: `{kind: Deployment, metadata: {name: a, labels: {app: a}}, spec: {replicas: 1, template: {spec: {containers: [{name: a, image: x}]}}}}`,
			live: `{kind: Deployment, metadata: {name: a, uid: u, labels: {app: a, more: b}, annotations: {x: y}}, status: {replicas: 0},
			        spec: {replicas: 1, strategy: {type: RollingUpdate}, template: {spec: {restartPolicy: Always, containers: [{name: sidecar, image: y}, {name: a, image: x, imagePullPolicy: Always}]}}}}`,
		},
		"values": {
			desired: `{spec: {replicas: 3, paused: true, strategy: {type: Recreate}}}`,
			live:    `{spec: {replicas: 1, strategy: {type: RollingUpdate}}}`,
			want:    []string{"spec.paused: want true, is absent", "spec.replicas: want 3, is 1", `spec.strategy.type: want "Recreate", is "RollingUpdate"`},
		},
		"metadata is labels and annotations": {
			desired: `{metadata: {name: a, namespace: x, generateName: g, labels: {app.kubernetes.io/name: a}, annotations: {k: v}, finalizers: [f]}}`,
			live:    `{metadata: {name: b, labels: {app.kubernetes.io/name: b}}}`,
			want:    []string{`metadata.annotations: want an object of 1 fields, is absent`, `metadata.labels["app.kubernetes.io/name"]: want "a", is "b"`},
		},
		"nothing, empty and absent are equal": {
			desired: `{spec: {a: null, b: {}, c: [], d: "", e: {f: {g: null}}, h: false, i: 0, j: {k: [], l: ""}, resources: {}}}`,
			live:    `{spec: {a: {x: y}, b: null, j: {}, resources: {limits: {cpu: 1}}}}`,
		},
		"quantities": {
			desired: `{spec: {resources: {limits: {cpu: 0.1, memory: 1024Mi}, requests: {cpu: "1", memory: 1000}}}}`,
			live:    `{spec: {resources: {limits: {cpu: 100m, memory: 1Gi}, requests: {cpu: 1000m, memory: "1k"}}}}`,
		},
		"different quantities": {
			desired: `{spec: {resources: {limits: {cpu: "1"}}}}`,
			live:    `{spec: {resources: {limits: {cpu: 100m}}}}`,
			want:    []string{`spec.resources.limits.cpu: want "1", is "100m"`},
		},
		"texts that only look like quantities": {
			desired: `{metadata: {labels: {version: "1.10"}}, data: {v: "1.0"}}`,
			live:    `{metadata: {labels: {version: "1.1"}}, data: {v: "1"}}`,
			want:    []string{`data.v: want "1.0", is "1"`, `metadata.labels.version: want "1.10", is "1.1"`},
		},
		"forms of numbers": {
			desired: `{spec: {a: 1, b: 1.0, port: "8080", target: 8080}}`,
			live:    `{spec: {a: 1.0, b: 1, port: 8080, target: "8080"}}`,
		},
		"lists by merge key": {
			desired: `{spec: {env: [{name: B, value: "2"}, {name: A, value: "1"}], ports: [{containerPort: 80}, {containerPort: 443, protocol: TCP}]}}`,
			live:    `{spec: {env: [{name: A, value: "1"}, {name: B, value: "3"}, {name: C, value: x}], ports: [{containerPort: 443, protocol: UDP}, {containerPort: 80, protocol: TCP}]}}`,
			want:    []string{`spec.env[name=B].value: want "2", is "3"`, `spec.ports[containerPort=443].protocol: want "TCP", is "UDP"`},
		},
		"an item is missing": {
			desired: `{webhooks: [{name: a, failurePolicy: Fail}, {name: b}]}`,
			live:    `{webhooks: [{name: b}]}`,
			want:    []string{"webhooks[name=a]: want an object of 2 fields, is absent"},
		},
		"one name mounted twice": {
			desired: `{spec: {volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: /b, readOnly: true}]}}`,
			live:    `{spec: {volumeMounts: [{name: v, mountPath: /b}, {name: v, mountPath: /a}]}}`,
			want:    []string{"spec.volumeMounts[mountPath=/b].readOnly: want true, is absent"},
		},
		"other lists by position": {
			desired: `{rules: [{verbs: [get]}, {verbs: [list]}], args: [a, b]}`,
			live:    `{rules: [{verbs: [get]}, {verbs: [list, watch]}], args: [b, a]}`,
			want:    []string{`args[0]: want "a", is "b"`, `args[1]: want "b", is "a"`, "rules[1].verbs: want a list of 1, is a list of 2"},
		},
		"another type": {
			desired: `{spec: {a: {b: c}, d: [e], f: g}}`,
			live:    `{spec: {a: x, d: x, f: {g: h}}}`,
			want:    []string{`spec.a: want an object of 1 fields, is "x"`, `spec.d: want a list of 1, is "x"`, `spec.f: want "g", is an object of 1 fields`},
		},
		"long values are cut": {
			desired: `{data: {a: ` + strings.Repeat("x", 200) + `}}`,
			live:    `{data: {a: b}}`,
			want:    []string{`data.a: want "` + strings.Repeat("x", 79) + `… (202 characters), is "b"`},
		},
		"lists in binary form have no types inside": {
			desired: `{spec: {volumeClaimTemplates: [{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}}]}}`,
			live:    `{spec: {volumeClaimTemplates: [{metadata: {name: data}}]}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			desired, live := fromYAML(t, test.desired), fromYAML(t, test.live)
			if got := Differences(desired, live); !slices.Equal(got, test.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			if got := Differences(desired, desired); len(got) > 0 {
				t.Errorf("from itself: %q", got)
			}
		})
	}
	if got := Differences(&unstructured.Unstructured{}, nil); !slices.Equal(got, []string{"the object is absent"}) {
		t.Errorf("from nothing: %q", got)
	}
}

func TestDifferencesOfSecretsShowNothing(t *testing.T) {
	t.Parallel()
	encode := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	desired := fromYAML(t, `{kind: Secret, type: Opaque, data: {same: `+encode("swordfish-0")+`, other: `+encode("swordfish-1")+`, gone: `+encode("swordfish-2")+`}, stringData: {plain: swordfish-3, equal: swordfish-4}}`)
	live := fromYAML(t, `{kind: Secret, type: Opaque, data: {same: `+encode("swordfish-0")+`, other: `+encode("swordfish-5")+`, plain: `+encode("swordfish-6")+`, equal: `+encode("swordfish-4")+`}}`)
	got := Differences(desired, live)
	want := []string{"data.gone: absent", "data.other: differs (not shown)", "data.plain: differs (not shown)"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEdits(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before, next string
		want         []string
	}{
		"the same in another form": {
			before: `{apiVersion: v1, kind: Secret, spec: {a: 1, limits: {cpu: 0.1}, b: null}, data: {x: YQ==}}`,
			next:   `{apiVersion: v1, kind: Secret, spec: {a: 1.0, limits: {cpu: 100m}}, stringData: {x: a}}`,
		},
		"what an API server may leave out": {
			before: `{spec: {a: false, b: 0, c: {}, d: [], e: "", f: {g: ""}, o: [1]}}`,
			next:   `{spec: {h: false, i: 0, j: {}, k: [], l: "", m: {g: ""}, o: []}}`,
			want: []string{
				"spec.a: false -> absent", "spec.b: 0 -> absent", "spec.c: {} -> absent", "spec.d: [] -> absent", `spec.e: "" -> absent`,
				"spec.f: an object of 1 fields -> absent", "spec.h: absent -> false", "spec.i: absent -> 0", "spec.j: absent -> {}",
				"spec.k: absent -> []", `spec.l: absent -> ""`, "spec.m: absent -> an object of 1 fields", "spec.o: a list of 1 -> []",
			},
		},
		"from a value to none": {
			before: `{spec: {a: true, b: x, c: {d: 1}, ports: [{name: a}]}}`,
			next:   `{spec: {a: false, b: "", c: {}, ports: []}}`,
			want: []string{
				"spec.a: true -> false", `spec.b: "x" -> ""`, "spec.c.d: 1 -> absent", "spec.ports[name=a]: an object of 1 fields -> absent",
			},
		},
		"versions and order": {
			before: `{apiVersion: policy/v1beta1, metadata: {name: a, finalizers: [f]}, spec: {port: 8080, initContainers: [{name: a}, {name: b}]}}`,
			next:   `{apiVersion: policy/v1, metadata: {name: a}, spec: {port: "8080", initContainers: [{name: b}, {name: c}, {name: a}]}}`,
			want: []string{
				`apiVersion: "policy/v1beta1" -> "policy/v1"`, "metadata.finalizers: a list of 1 -> absent", "spec.initContainers: in another order",
				"spec.initContainers[name=c]: absent -> an object of 1 fields", `spec.port: 8080 -> "8080"`,
			},
		},
		"of a Secret": {
			before: `{kind: Secret, data: {a: c3dvcmRmaXNo, empty: ""}}`,
			next:   `{kind: Secret, data: {a: c3dvcmRmaXNoLTI=}}`,
			want:   []string{"data.a: changes (not shown)", "data.empty: a value (not shown) -> absent"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, next := fromYAML(t, test.before), fromYAML(t, test.next)
			if got := Edits(before, next); !slices.Equal(got, test.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			if got := slices.Concat(Edits(before, before), Edits(next, next)); len(got) > 0 {
				t.Errorf("from itself: %q", got)
			}
		})
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	live := fromYAML(t, `{kind: Deployment, metadata: {labels: {app: a, old: b}}, spec: {replicas: 1, minReadySeconds: 5, template: {spec: {containers: [{name: a, image: x}, {name: b}]}}}}`)
	next := fromYAML(t, `{kind: Deployment, metadata: {labels: {app: a}}, spec: {replicas: 3, paused: true, template: {spec: {containers: [{name: a, image: z}]}}}}`)
	sets := []string{
		"spec.paused: absent -> true",
		"spec.replicas: 1 -> 3",
		`spec.template.spec.containers[name=a].image: "x" -> "z"`,
	}
	if got := Changes(live, next, false); !slices.Equal(got, sets) {
		t.Errorf("what is set: %q", got)
	}
	whole := []string{
		`metadata.labels.old: "b" -> absent`,
		"spec.minReadySeconds: 5 -> absent",
		"spec.paused: absent -> true",
		"spec.replicas: 1 -> 3",
		`spec.template.spec.containers[name=a].image: "x" -> "z"`,
		"spec.template.spec.containers[name=b]: an object of 1 fields -> absent",
	}
	if got := Changes(live, next, true); !slices.Equal(got, whole) {
		t.Errorf("the whole: %q", got)
	}
	long := strings.Repeat("a", 100)
	live = fromYAML(t, `{kind: ConfigMap, data: {long: `+long+`b}}`)
	next = fromYAML(t, `{kind: ConfigMap, data: {long: `+long+`c}}`)
	if got, want := Changes(live, next, true), `data.long: "…aaaaaaaaaaaaaaaaaaaab" -> "…aaaaaaaaaaaaaaaaaaaac"`; !slices.Equal(got, []string{want}) {
		t.Errorf("of long texts: %q", got)
	}
	live = fromYAML(t, `{kind: Secret, data: {same: YQ==, other: YQ==, old: YQ==}}`)
	next = fromYAML(t, `{kind: Secret, data: {same: YQ==, other: Yg==, new: YQ==}}`)
	secret := []string{
		"data.new: absent -> a value (not shown)",
		"data.old: a value (not shown) -> absent",
		"data.other: changes (not shown)",
	}
	if got := Changes(live, next, true); !slices.Equal(got, secret) {
		t.Errorf("of a Secret: %q", got)
	}
	written := fromYAML(t, `{kind: Secret, data: {old: YQ==}, stringData: {same: a, other: b}}`)
	if got := Changes(live, written, true); !slices.Equal(got, secret[2:]) {
		t.Errorf("of a Secret as it is written: %q", got)
	}
	if got := Changes(written, written, true); len(got) > 0 {
		t.Errorf("of a Secret as it was written: %q", got)
	}
}
