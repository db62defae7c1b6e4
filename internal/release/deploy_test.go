package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// patch changes an object as another client would.
func patch(t *testing.T, releases *Releases, kind kube.Kind, namespace, name, manager, change string) {
	t.Helper()
	client := dynamicClient(t, releases)
	_, err := client.Resource(kind.GVR()).Namespace(namespace).Patch(t.Context(), name, types.MergePatchType, []byte(change), metav1.PatchOptions{FieldManager: manager})
	if err != nil {
		t.Fatal(err)
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	for name, c := range map[string]struct{ text, want string }{
		"no kind":           {`{metadata: {name: a}}`, "test.yaml, document 1 (line 1): it has no apiVersion or no kind"},
		"no name":           {`{apiVersion: v1, kind: ConfigMap}`, "a ConfigMap has no name"},
		"generateName":      {`{apiVersion: v1, kind: Pod, metadata: {generateName: a-}}`, "has a generateName"},
		"no such kind":      {`{apiVersion: example.com/v1, kind: Nothing, metadata: {name: a}}`, "no matches for kind"},
		"number as a label": {`{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {version: 1.0}}}`, "metadata.labels: the value of version is not a text"},
		"labels of no kind": {`{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: [a]}}`, "metadata.labels is not a mapping"},
		"twice": {
			"{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: here}}",
			"ConfigMap here/a is there twice: in test.yaml, document 1 (line 1) and in test.yaml, document 2 (line 3)",
		},
		"a hook and an object": {
			hookManifest("ConfigMap", "a", "pre-install", "") + "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}",
			"ConfigMap here/a is there twice",
		},
		"two hooks of one event": {
			hookManifest("ConfigMap", "a", "pre-install,post-delete", "") + hookManifest("ConfigMap", "a", "post-install,post-delete", ""),
			"ConfigMap here/a is there twice",
		},
		"number in a Secret": {`{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {pin: 1234}}`, "stringData: the value of pin is not a text"},
		"list in a Secret":   {`{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {pin: [1234]}}`, "data: the value of pin is not a text"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release := &Release{releases: releases, namespace: "here", name: "app"}
			_, err := release.resolve(t.Context(), Desired{Objects: parse(t, c.text)}, false)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "test.yaml") {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "1234") {
				t.Errorf("a value is quoted: %v", err)
			}
		})
	}
}

func TestParseManifestsNamesItsSources(t *testing.T) {
	t.Parallel()
	_, err := ParseManifests(Manifest{Source: "good.yaml", Text: "kind: A\n"}, Manifest{Source: "bad.yaml", Text: "kind: A\n---\n- b\n"})
	if want := "bad.yaml, document 2 (line 3): it is not an object but a list or a single value"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAccWhatManifestsHoldBesides(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	// As read from a cluster, and as charts render what is not set.
	desired := Desired{Objects: parse(t, `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  uid: 5b2a5c0a-0000-0000-0000-000000000000
  resourceVersion: "1"
  generation: 3
  creationTimestamp: null
  managedFields: [{manager: kubectl}]
  annotations:
  labels: {app: web, none: null}
spec:
  replicas: null
  selector: {matchLabels: {app: web}}
  template:
    metadata: {creationTimestamp: null, labels: {app: web}, annotations: null}
    spec:
      nodeSelector: null
      volumes:
      containers: [{name: main, image: "registry.invalid/web:1", env: null, resources: {}, ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]}]
status: {replicas: 7}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: `+namespace+`, namespace: wrong}, rules: []}
---
apiVersion: v1
kind: Secret
metadata: {name: credentials}
data: {a: YQ==, b: Yg==, none: null}
stringData: {b: c}
`)}
	release := deploy(t, releases, namespace, "app", desired)
	if got := planned(t, releases, namespace, "app", desired); len(got) > 0 {
		t.Errorf("second plan %q", got)
	}
	secret, err := releases.Cluster.Secret(t.Context(), namespace, "credentials")
	if err != nil || string(secret.Data["b"]) != "c" {
		t.Errorf("secret %v, %v", secret, err)
	}
	// What a Secret has no more goes, though it was given as text.
	desired.Objects = parse(t, `{apiVersion: v1, kind: Secret, metadata: {name: credentials}, stringData: {a: a}}`)
	if got, want := planned(t, releases, namespace, "app", desired), []string{
		"~ Secret ns/credentials: data.b: a value (not shown) -> absent", "- Deployment ns/web", "- ClusterRole " + namespace,
	}; !slices.Equal(got, want) {
		t.Errorf("plan %q", got)
	}
	deploy(t, releases, namespace, "app", desired)
	if secret, err = releases.Cluster.Secret(t.Context(), namespace, "credentials"); err != nil || len(secret.Data) != 1 {
		t.Errorf("secret %v, %v", secret, err)
	}
	if live(t, releases, kube.ClusterRole, "", namespace) != nil {
		t.Error("the role is left")
	}
	if _, err := release.Uninstall(patient(t), UninstallOptions{}); err == nil || !strings.Contains(err.Error(), "somebody else works on the release") {
		t.Errorf("an operation on what others have changed since: %v", err)
	}
}

func TestAccConflictsAndScaling(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	text := `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {color: red}}`
	desired := Desired{Objects: parse(t, text)}
	deploy(t, releases, namespace, "app", desired)
	patch(t, releases, kube.ConfigMap, namespace, "a", "somebody", `{"data":{"color":"blue","size":"big"}}`)

	drift, err := open(t, releasesBy(t, ""), namespace, "app").Drift(t.Context())
	if err != nil || !slices.Equal(drift, []string{"ConfigMap " + namespace + `/a: data.color: want "red", is "blue"`}) {
		t.Errorf("drift %q, %v", drift, err)
	}
	releases = releasesBy(t, "")
	_, err = open(t, releases, namespace, "app").Plan(t.Context(), desired)
	if conflict, ok := errors.AsType[*kube.ConflictError](err); !ok || !slices.Equal(conflict.Managers, []string{"somebody"}) || !strings.Contains(err.Error(), ".data.color") {
		t.Errorf("plan: %v", err)
	}
	release := open(t, releases, namespace, "app")
	err = release.Deploy(t.Context(), desired)
	if _, ok := errors.AsType[*kube.ConflictError](err); !ok || release.Record().Phase != PhaseFailed || !strings.Contains(release.Record().Failure, "somebody") {
		t.Errorf("deploy: %v, record %+v", err, release.Record())
	}
	desired.Force = true
	if got, want := planned(t, releases, namespace, "app", desired), []string{`~ ConfigMap ns/a: data.color: "blue" -> "red"`}; !slices.Equal(got, want) {
		t.Errorf("plan %q", got)
	}
	deploy(t, releases, namespace, "app", desired)
	if data, _ := json.Marshal(live(t, releases, kube.ConfigMap, namespace, "a").Object["data"]); string(data) != `{"color":"red","size":"big"}` {
		t.Errorf("data %s", data)
	}

	// Replicas that the manifest does not name are somebody else's.
	desired = Desired{Objects: parse(t, deployment("web", "1", "")), Wait: true}
	deploy(t, releases, namespace, "scaled", desired)
	patch(t, releases, kube.Deployment, namespace, "web", "autoscaler", `{"spec":{"replicas":3}}`)
	releases = releasesBy(t, "")
	if got := planned(t, releases, namespace, "scaled", desired); len(got) > 0 {
		t.Errorf("plan %q", got)
	}
	deploy(t, releases, namespace, "scaled", desired)
	if workload, err := releases.Cluster.Workload(t.Context(), kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: "web"}); err != nil || workload.Desired != 3 || workload.Available != 3 {
		t.Errorf("workload %+v, %v", workload, err)
	}
}

func TestAccReplicasAreLeftToTheAutoscaler(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	replicas := func() int32 {
		t.Helper()
		workload, err := releasesBy(t, "").Cluster.Workload(t.Context(), kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: "web"})
		if err != nil {
			t.Fatal(err)
		}
		return workload.Desired
	}
	deploy(t, releases, namespace, "app", Desired{Objects: parse(t, deployment("web", "1", "replicas: 3"))})
	// Nobody else has set it yet, so it stays as it is.
	without := Desired{Objects: parse(t, deployment("web", "1", ""))}
	for range 2 {
		deploy(t, releases, namespace, "app", without)
		if got := replicas(); got != 3 {
			t.Errorf("%d replicas", got)
		}
		if got := planned(t, releases, namespace, "app", without); len(got) > 0 {
			t.Errorf("plan %q", got)
		}
	}
	// A chart that sets both.
	both := Desired{Objects: parse(t, deployment("web", "1", "replicas: 1")+`---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec: {minReplicas: 4, maxReplicas: 5, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}
`)}
	deploy(t, releases, namespace, "app", both)
	ref := kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: "web"}
	err := releases.Cluster.Await(patient(t), namespace, []kube.Kind{kube.Deployment}, func(ctx context.Context) (string, error) {
		workload, err := releases.Cluster.Workload(ctx, ref)
		if err != nil || workload.Desired == 4 {
			return "", err
		}
		return fmt.Sprintf("%d replicas to become 4", workload.Desired), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	deploy(t, releases, namespace, "app", both)
	if got := replicas(); got != 4 {
		t.Errorf("%d replicas", got)
	}
	if got := planned(t, releases, namespace, "app", both); len(got) > 0 {
		t.Errorf("plan %q", got)
	}
}

// deployment is the manifest of a Deployment with an image tag and more fields
// of its spec.
func deployment(name, tag, more string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: main, image: "registry.invalid/%[1]s:%[2]s"}]}
  %[3]s
`, name, tag, more)
}

func TestAccOwners(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	desired := Desired{Objects: parse(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {color: red}}`)}
	deploy(t, releases, namespace, "first", desired)
	for _, act := range []func(*Release) error{
		func(r *Release) error { return r.Deploy(t.Context(), desired) },
		func(r *Release) error { _, err := r.Plan(t.Context(), desired); return err },
	} {
		err := act(open(t, releases, namespace, "second"))
		foreign, ok := errors.AsType[*ForeignError](err)
		if !ok || foreign.Owner != "release "+namespace+"/first" || foreign.Ref.Name != "a" {
			t.Errorf("got %v", err)
		}
	}
	if open(t, releases, namespace, "second").Record() != nil {
		t.Error("a refused release is on record")
	}
	// Whoever has lost an object does not delete it.
	desired.TakeOwnership, desired.Force = true, true
	deploy(t, releases, namespace, "second", desired)
	if drift, err := open(t, releases, namespace, "first").Drift(t.Context()); err != nil || len(drift) != 1 || !strings.Contains(drift[0], Annotation) {
		t.Errorf("drift %q, %v", drift, err)
	}
	if _, err := open(t, releases, namespace, "first").Uninstall(patient(t), UninstallOptions{}); err != nil {
		t.Fatal(err)
	}
	if live(t, releases, kube.ConfigMap, namespace, "a") == nil {
		t.Error("the object of another release was deleted")
	}
	// An object that outlives its release is free.
	keeping := Desired{Objects: parse(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: b, annotations: {helm.sh/resource-policy: keep}}}`)}
	deploy(t, releases, namespace, "third", keeping)
	kept, err := open(t, releases, namespace, "third").Uninstall(patient(t), UninstallOptions{})
	if err != nil || !slices.Equal(kept, []string{"ConfigMap " + namespace + "/b: helm.sh/resource-policy says so"}) {
		t.Errorf("kept %q, %v", kept, err)
	}
	keeping.Force = true
	deploy(t, releases, namespace, "fourth", keeping)
	// Nor is it deleted when it is wanted no more.
	without := Desired{Objects: parse(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}`)}
	if got, want := planned(t, releases, namespace, "fourth", without), []string{"+ ConfigMap ns/c", ". ConfigMap ns/b (stays: helm.sh/resource-policy says so)"}; !slices.Equal(got, want) {
		t.Errorf("plan %q", got)
	}
	deploy(t, releases, namespace, "fourth", without)
	if live(t, releases, kube.ConfigMap, namespace, "b") == nil {
		t.Error("an object to be kept was deleted")
	}

	patch(t, releases, kube.ConfigMap, namespace, "b", "helm", `{"metadata":{"annotations":{"aksmesh.io/release":null,"meta.helm.sh/release-name":"chart","meta.helm.sh/release-namespace":"x"}}}`)
	err = open(t, releasesBy(t, ""), namespace, "fifth").Deploy(t.Context(), keeping)
	if foreign, ok := errors.AsType[*ForeignError](err); !ok || foreign.Owner != "Helm release x/chart" {
		t.Errorf("an object of Helm: %v", err)
	}
	// What belongs to nobody has to be given, and the plan says so.
	patch(t, releases, kube.ConfigMap, namespace, "b", "helm", `{"metadata":{"annotations":{"meta.helm.sh/release-name":null}}}`)
	releases = releasesBy(t, "")
	for _, act := range []func(*Release) error{
		func(r *Release) error { return r.Deploy(t.Context(), keeping) },
		func(r *Release) error { _, err := r.Plan(t.Context(), keeping); return err },
	} {
		err := act(open(t, releases, namespace, "fifth"))
		if foreign, ok := errors.AsType[*ForeignError](err); !ok || foreign.Owner != "" || !strings.Contains(err.Error(), "ConfigMap "+namespace+"/b exists already and belongs to no release") {
			t.Errorf("got %v", err)
		}
	}
	keeping.TakeOwnership = true
	if got := planned(t, releases, namespace, "fifth", keeping); len(got) != 1 || !strings.HasSuffix(got[0], "(exists already and is taken over)") {
		t.Errorf("plan %q", got)
	}
	deploy(t, releases, namespace, "fifth", keeping)
	keeping.Force, keeping.TakeOwnership = false, false
	// An object that has lost its mark is the release's still.
	patch(t, releases, kube.ConfigMap, namespace, "b", Manager, `{"metadata":{"annotations":{"aksmesh.io/release":null}}}`)
	releases = releasesBy(t, "")
	deploy(t, releases, namespace, "fifth", keeping)
	if got := planned(t, releases, namespace, "fifth", keeping); len(got) > 0 {
		t.Errorf("plan %q", got)
	}
}

func TestAccOrderKindsAndCRDs(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	group := namespace + ".example.com"
	text := fmt.Sprintf(`
{apiVersion: %[1]s/v1, kind: Widget, metadata: {name: one}, spec: {size: big}}
---
apiVersion: v1
kind: Namespace
metadata: {name: %[2]s-more, labels: {team: a}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: there, namespace: %[2]s-more}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.%[1]s}
spec:
  group: %[1]s
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: string}}}}}}}]
`, group, namespace)
	desired := Desired{Objects: parse(t, text)}
	want := []string{
		"+ Namespace " + namespace + "-more", "+ CustomResourceDefinition widgets." + group, "+ ConfigMap " + namespace + "-more/there", "+ Widget ns/one",
	}
	if got := planned(t, releases, namespace, "app", desired); !slices.Equal(got, want) {
		t.Errorf("plan %q", got)
	}
	changes, err := open(t, releases, namespace, "app").Plan(t.Context(), desired)
	if err != nil || slices.ContainsFunc(changes, func(c kube.Change) bool { return c.Uncertain }) {
		t.Errorf("kinds of its own are not foretold: %v, %v", changes, err)
	}
	deploy(t, releases, namespace, "app", desired)
	if got := planned(t, releases, namespace, "app", desired); len(got) > 0 {
		t.Errorf("second plan %q", got)
	}
	if got := live(t, releases, kube.Namespace, "", namespace+"-more"); got == nil || got.GetLabels()["team"] != "a" {
		t.Errorf("namespace %v", got)
	}
	desired.Objects = parse(t, strings.NewReplacer("team: a", "team: b", "size: big", "size: small").Replace(text))
	want = []string{`~ Namespace ` + namespace + `-more: metadata.labels.team: "a" -> "b"`, `~ Widget ns/one: spec.size: "big" -> "small"`}
	if got := planned(t, releases, namespace, "app", desired); !slices.Equal(got, want) {
		t.Errorf("plan of a change %q", got)
	}
	deploy(t, releases, namespace, "app", desired)

	// All but a CRD goes.
	fewer := Desired{Objects: parse(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: here}}`), Wait: true}
	want = []string{
		"+ ConfigMap ns/here", "- Widget ns/one", "- ConfigMap " + namespace + "-more/there",
		". CustomResourceDefinition widgets." + group + " (stays: deleting it would delete all objects of its kind)",
		"- Namespace " + namespace + "-more (if nothing else is in it and nobody else holds it)",
	}
	if got := planned(t, releases, namespace, "app", fewer); !slices.Equal(got, want) {
		t.Errorf("plan without %q", got)
	}
	release := deploy(t, releases, namespace, "app", fewer)
	if live(t, releases, kube.Namespace, "", namespace+"-more") != nil {
		t.Error("the namespace is left")
	}
	if live(t, releases, kube.CustomResourceDefinition, "", "widgets."+group) == nil {
		t.Error("the CRD was deleted")
	}
	if got := planned(t, releases, namespace, "app", fewer); len(got) > 0 {
		t.Errorf("the CRD is told of again: %q", got)
	}
	kept, err := release.Uninstall(patient(t), UninstallOptions{})
	if err != nil || len(kept) != 1 || !strings.Contains(kept[0], "CustomResourceDefinition") {
		t.Errorf("kept %q, %v", kept, err)
	}
	desired.PruneCRDs = true
	deploy(t, releases, namespace, "app", desired)
	fewer.PruneCRDs = true
	deploy(t, releases, namespace, "app", fewer)
	if live(t, releases, kube.CustomResourceDefinition, "", "widgets."+group) != nil {
		t.Error("the CRD is left")
	}
	deploy(t, releases, namespace, "app", desired)
	if kept, err := open(t, releases, namespace, "app").Uninstall(patient(t), UninstallOptions{DeleteCRDs: true}); err != nil || len(kept) > 0 {
		t.Errorf("kept %q, %v", kept, err)
	}
	if live(t, releases, kube.CustomResourceDefinition, "", "widgets."+group) != nil {
		t.Error("the CRD is left")
	}
}

func TestAccOwnNamespace(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t) + "-own"
	desired := Desired{Objects: parse(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}`)}
	if err := open(t, releases, namespace, "app").Deploy(t.Context(), desired); err == nil || !strings.Contains(err.Error(), "does not exist; create it first") {
		t.Errorf("without a namespace: %v", err)
	}
	if got, want := planned(t, releases, namespace, "app", desired), []string{"+ ConfigMap ns/a"}; !slices.Equal(got, want) {
		t.Errorf("plan %q", got)
	}
	desired.CreateNamespace = true
	deploy(t, releases, namespace, "app", desired)
	if got := planned(t, releases, namespace, "app", desired); len(got) > 0 {
		t.Errorf("second plan %q", got)
	}
	if kept, err := open(t, releases, namespace, "app").Uninstall(patient(t), UninstallOptions{}); err != nil || len(kept) > 0 {
		t.Errorf("kept %q, %v", kept, err)
	}
	if live(t, releases, kube.Namespace, "", namespace) != nil {
		t.Error("the namespace is left")
	}
}

func TestAccNamespaceInUseIsKept(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t) + "-used"
	desired := Desired{CreateNamespace: true, Wait: true, Objects: parse(t, deployment("web", "1", "")+hookManifest("ConfigMap", "h", "post-install", ""))}
	deploy(t, releases, namespace, "app", desired)
	before := live(t, releases, kube.Deployment, namespace, "web").GetUID()
	desired.CreateNamespace = false
	if got, want := planned(t, releases, namespace, "app", desired), []string{". Namespace " + namespace + " (stays: the release is in it)"}; !slices.Equal(got, want) {
		t.Errorf("plan %q", got)
	}
	deploy(t, releases, namespace, "app", desired)
	if object := live(t, releases, kube.Deployment, namespace, "web"); object == nil || object.GetUID() != before || open(t, releases, namespace, "app").Record() == nil {
		t.Fatal("the namespace was deleted with all that is in it")
	}
	// What others have there saves it, also at deletion.
	desired.CreateNamespace = true
	desired.Objects = append(desired.Objects, parse(t, "{apiVersion: v1, kind: Namespace, metadata: {name: "+namespace+"-b}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: "+namespace+"-b}}")...)
	deploy(t, releases, namespace, "app", desired)
	deploy(t, releases, namespace, "other", Desired{Objects: parse(t, deployment("theirs", "1", "")+"---\n{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: "+namespace+"-b}}")})
	kept, err := open(t, releases, namespace, "app").Uninstall(patient(t), UninstallOptions{})
	want := []string{
		"Namespace " + namespace + "-b: it holds Secret s",
		"Namespace " + namespace + ": it holds Deployment theirs, Secret aksmesh-release-other",
	}
	if err != nil || !slices.Equal(kept, want) {
		t.Errorf("kept %q, %v", kept, err)
	}
	if live(t, releases, kube.Deployment, namespace, "web") != nil || live(t, releases, kube.Deployment, namespace, "theirs") == nil {
		t.Error("not what the release has made went")
	}
	// The last who holds it takes it along, with nothing but its own in it.
	again := Desired{CreateNamespace: true, Objects: parse(t, deployment("theirs", "1", ""))}
	deploy(t, releases, namespace, "other", again)
	if kept, err := open(t, releases, namespace, "other").Uninstall(patient(t), UninstallOptions{}); err != nil || len(kept) > 0 {
		t.Errorf("kept %q, %v", kept, err)
	}
	if live(t, releases, kube.Namespace, "", namespace) != nil {
		t.Error("the namespace is left")
	}
	discardNamespace(t, releases, namespace+"-b")
}

// TestAccJobsDoNotRunAgainForMarks transforms a Job that is complete otherwise
// than when it ran.
func TestAccJobsDoNotRunAgainForMarks(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	job := func(image string) []Object {
		return parse(t, `{apiVersion: batch/v1, kind: Job, metadata: {name: once}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: "registry.invalid/x:`+image+`"}]}}}}`)
	}
	desired := Desired{Objects: job("1"), Wait: true, WaitForJobs: true}
	deploy(t, releases, namespace, "app", desired)
	uid := live(t, releases, kube.Job, namespace, "once").GetUID()
	desired.Transform = func(o *unstructured.Unstructured) error {
		return unstructured.SetNestedField(o.Object, "enabled", "spec", "template", "metadata", "annotations", "mark")
	}
	if got := planned(t, releases, namespace, "app", desired); len(got) > 0 {
		t.Errorf("plan %q", got)
	}
	deploy(t, releases, namespace, "app", desired)
	if live(t, releases, kube.Job, namespace, "once").GetUID() != uid {
		t.Error("it was made anew")
	}
	if drift, err := open(t, releasesBy(t, ""), namespace, "app").Drift(t.Context()); err != nil || len(drift) > 0 {
		t.Errorf("drift %q, %v", drift, err)
	}
	desired.Objects = job("2")
	got := planned(t, releases, namespace, "app", desired)
	if len(got) != 1 || !strings.HasPrefix(got[0], "-/+ Job ns/once: ") || !strings.Contains(got[0], "spec.template.metadata") || !strings.HasSuffix(got[0], "(runs again)") {
		t.Errorf("plan %q", got)
	}
	deploy(t, releases, namespace, "app", desired)
	if live(t, releases, kube.Job, namespace, "once").GetUID() == uid {
		t.Error("it was not made anew")
	}
}

func TestAccVolumeClaimsStay(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	claim := parse(t, "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}")
	other := parse(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}")
	deploy(t, releases, namespace, "app", Desired{Objects: slices.Concat(claim, other)})
	uid := claimUID(t, namespace)
	without := Desired{Objects: other}
	if got, want := planned(t, releases, namespace, "app", without), []string{". PersistentVolumeClaim ns/data (stays: it may hold data)"}; !slices.Equal(got, want) {
		t.Errorf("plan %q", got)
	}
	deploy(t, releases, namespace, "app", without)
	if got := planned(t, releases, namespace, "app", without); len(got) > 0 {
		t.Errorf("it is told of again: %q", got)
	}
	deploy(t, releases, namespace, "app", Desired{Objects: claim})
	kept, err := open(t, releases, namespace, "app").Uninstall(patient(t), UninstallOptions{})
	if err != nil || !slices.Equal(kept, []string{"PersistentVolumeClaim " + namespace + "/data: it may hold data"}) {
		t.Errorf("kept %q, %v", kept, err)
	}
	if claimUID(t, namespace) != uid {
		t.Error("the claim was deleted")
	}
}

// TestAccRepairTakesBackOnlyWhatWasApplied repairs what others have changed,
// but does not take what is theirs.
func TestAccRepairTakesBackOnlyWhatWasApplied(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	desired := func(data string) Desired {
		return Desired{Repair: true, Objects: parse(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {"+data+"}}\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: "+namespace+", labels: {team: ours}}}")}
	}
	deploy(t, releases, namespace, "app", desired("color: red"))
	patch(t, releases, kube.ConfigMap, namespace, "a", "somebody", `{"data":{"color":"blue","size":"big"}}`)
	patch(t, releases, kube.Namespace, "", namespace, "somebody", `{"metadata":{"labels":{"team":"theirs"}}}`)
	releases = releasesBy(t, "")
	if got, want := planned(t, releases, namespace, "app", desired("color: green")), []string{
		"! Namespace " + namespace + `: metadata.labels.team: "theirs" -> "ours"`, `~ ConfigMap ns/a: data.color: "red" -> "green"`,
	}; !slices.Equal(got, want) {
		t.Errorf("plan %q", got)
	}
	for range 2 { // What was refused once is refused again.
		for _, act := range []func(*Release, Desired) error{
			func(r *Release, d Desired) error { return r.Deploy(t.Context(), d) },
			func(r *Release, d Desired) error { _, err := r.Plan(t.Context(), d); return err },
		} {
			err := act(open(t, releases, namespace, "app"), desired("color: red, size: small"))
			if conflict, ok := errors.AsType[*kube.ConflictError](err); !ok || !slices.Contains(conflict.Fields, ".data.size") {
				t.Errorf("got %v", err)
			}
		}
	}
	deploy(t, releases, namespace, "app", Desired{Force: true, Objects: desired("color: red").Objects})
	patch(t, releases, kube.ConfigMap, namespace, "a", "somebody", `{"data":{"color":"blue"}}`)
	releases = releasesBy(t, "")
	deploy(t, releases, namespace, "app", desired("color: green"))
	data, _, err := unstructured.NestedStringMap(live(t, releases, kube.ConfigMap, namespace, "a").Object, "data")
	if err != nil || data["color"] != "green" || data["size"] != "big" {
		t.Errorf("data %v, %v", data, err)
	}
	if labels := live(t, releases, kube.Namespace, "", namespace).GetLabels(); labels["team"] != "ours" {
		t.Errorf("labels %v", labels)
	}
}

func TestAccRecordTooLarge(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	noise := make([]byte, 900<<10)
	random := rand.NewChaCha8([32]byte{1})
	if _, err := random.Read(noise); err != nil {
		t.Fatal(err)
	}
	var objects []Object
	for _, name := range []string{"a", "b"} {
		object := parse(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: `+name+`}}`)
		object[0].Object["binaryData"] = map[string]any{"noise": noise}
		text, err := json.Marshal(object[0].Object)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, parse(t, string(text))...)
	}
	for _, act := range []func(*Release) error{
		func(r *Release) error { return r.Deploy(t.Context(), Desired{Objects: objects}) },
		func(r *Release) error { _, err := r.Plan(t.Context(), Desired{Objects: objects}); return err },
	} {
		err := act(open(t, releases, namespace, "large"))
		if size, ok := errors.AsType[*RecordSizeError](err); !ok || size.Bytes <= 1<<20 || !strings.Contains(err.Error(), "several releases") {
			t.Errorf("got %v", err)
		}
	}
	if live(t, releases, kube.ConfigMap, namespace, "a") != nil {
		t.Error("something was changed")
	}
}
