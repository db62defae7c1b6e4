package holding_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/holding"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

var shared = testcluster.Shared{Options: testcluster.Options{AuditLog: true}}

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

// server stands for a mesh's kind that refuses callers, and is served once its
// CRD is there.
var server = kube.Kind{Group: "policy.example.com", Version: "v1", Resource: "servers", Name: "Server", Namespaced: true}

// ending is another that goes away again.
var ending = kube.Kind{Group: "ending.example.com", Version: "v1", Resource: "endings", Name: "Ending", Namespaced: true}

// coming is one that is known before it is served.
var coming = kube.Kind{Group: "coming.example.com", Version: "v1", Resource: "comings", Name: "Coming", Namespaced: true}

type intent struct {
	Text string `json:"text"`
}

// fixture is a namespace with a holding in it.
type fixture struct {
	embedded *testcluster.Cluster
	cluster  *kube.Cluster
	holding.Holding
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	embedded := shared.Cluster(t)
	cluster, err := kube.Connect(kube.Settings{ConfigPaths: []string{embedded.Kubeconfig()}}, "holding-test")
	if err != nil {
		t.Fatal(err)
	}
	return fixture{embedded, cluster, holding.Holding{
		Cluster: cluster, Manager: "tester", Owner: "thing/one", Namespace: embedded.Namespace(t),
		Kinds: []kube.Kind{kube.NetworkPolicy, kube.PodDisruptionBudget, server},
	}}
}

// object is one of the holding's namespace; the spec is YAML.
func (f fixture) object(t *testing.T, kind kube.Kind, name, spec string) *unstructured.Unstructured {
	t.Helper()
	object := kube.Ref{Kind: kind, Namespace: f.Namespace, Name: name}.Object()
	content := map[string]any{}
	if err := yaml.Unmarshal([]byte(spec), &content); err != nil {
		t.Fatal(err)
	}
	object.Object["spec"] = content
	return object
}

func (f fixture) policy(t *testing.T, name, app string) *unstructured.Unstructured {
	t.Helper()
	return f.object(t, kube.NetworkPolicy, name, "{podSelector: {matchLabels: {app: "+app+"}}, policyTypes: [Ingress], ingress: [{ports: [{protocol: TCP, port: 4143}]}]}")
}

func (f fixture) budget(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	return f.object(t, kube.PodDisruptionBudget, name, "{maxUnavailable: 1, selector: {matchLabels: {app: web}}}")
}

func (f fixture) apply(t *testing.T, text string, objects ...*unstructured.Unstructured) {
	t.Helper()
	if begun, err := f.Apply(t.Context(), objects, intent{text}, map[string]string{"example.com/note": text}, false); err != nil || !begun {
		t.Fatalf("apply: begun %t, %v", begun, err)
	}
}

// found are the kinds and names of the holding's objects.
func (f fixture) found(t *testing.T) []string {
	t.Helper()
	found, err := f.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, object := range found.Objects {
		names = append(names, object.GetKind()+"/"+object.GetName())
	}
	return names
}

func (f fixture) want(t *testing.T, want ...string) {
	t.Helper()
	if got := f.found(t); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// serve makes the cluster serve a kind.
func (f fixture) serve(t *testing.T, kind kube.Kind) {
	t.Helper()
	crd := kube.Ref{Kind: kube.CustomResourceDefinition, Name: kind.Resource + "." + kind.Group}.Object()
	crd.Object["spec"] = map[string]any{
		"group": kind.Group, "scope": "Namespaced",
		"names": map[string]any{"kind": kind.Name, "plural": kind.Resource, "singular": strings.ToLower(kind.Name), "listKind": kind.Name + "List"},
		"versions": []any{map[string]any{
			"name": kind.Version, "served": true, "storage": true,
			"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
		}},
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := f.cluster.Apply(ctx, crd, kube.ApplyOptions{Manager: "setup"}); err != nil {
		t.Fatal(err)
	}
	if err := f.cluster.AwaitReady(ctx, kube.Ref{Kind: kube.CustomResourceDefinition, Name: crd.GetName()}); err != nil {
		t.Fatal(err)
	}
}

// writes are what the tester's objects had done to them, in order.
func (f fixture) writes(t *testing.T, verb string, since time.Time) []string {
	t.Helper()
	events, err := f.embedded.AuditEvents(since)
	if err != nil {
		t.Fatal(err)
	}
	var writes []string
	for _, event := range events {
		if event.Namespace == f.Namespace && event.Verb == verb && strings.HasPrefix(event.UserAgent, "holding-test") {
			writes = append(writes, event.Resource)
		}
	}
	return writes
}

func TestAccApplyFindDelete(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.serve(t, server)
	began := time.Now().Truncate(time.Microsecond)
	objects := []*unstructured.Unstructured{f.policy(t, "a", "web"), f.object(t, server, "s", "{port: 8080}"), f.budget(t, "b")}
	f.apply(t, "first", objects...)
	if got, want := f.writes(t, "patch", began), []string{"poddisruptionbudgets", "servers", "networkpolicies"}; !slices.Equal(got, want) {
		t.Errorf("written in the order of %q, want %q", got, want)
	}
	f.want(t, "NetworkPolicy/a", "PodDisruptionBudget/b", "Server/s")

	found, err := f.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := holding.Manifest(objects)
	if err != nil {
		t.Fatal(err)
	}
	if found.Manifest != wanted {
		t.Errorf("what was applied prints\n%s\nand what is there\n%s", wanted, found.Manifest)
	}
	var read intent
	if !found.Intent(&read) || read.Text != "first" {
		t.Errorf("got intent %+v", read)
	}
	for _, object := range found.Objects {
		if object.GetAnnotations()["example.com/note"] != "first" || !kube.Ours(object.GetLabels()) {
			t.Errorf("%s has annotations %v, labels %v", object.GetKind(), object.GetAnnotations(), object.GetLabels())
		}
	}

	// Again, as after an apply that was cut off after any of them.
	before := found.Objects[0].GetResourceVersion()
	f.apply(t, "first", objects...)
	if found, err = f.Find(t.Context()); err != nil || found.Objects[0].GetResourceVersion() != before {
		t.Errorf("the same apply has changed something: %v", err)
	}

	// Made from something else, it is another's until that one has been asked.
	_, err = f.Apply(t.Context(), objects, intent{"second"}, nil, false)
	if !errors.Is(err, holding.ErrOther) || !strings.Contains(err.Error(), "NetworkPolicy "+f.Namespace+"/a") || !strings.Contains(err.Error(), "force_conflicts = true") {
		t.Errorf("another intent: %v", err)
	}
	if advice := kube.Advice(err); strings.Contains(advice, "somebody else") {
		t.Errorf("our own object is said to be another's: %s", advice)
	}
	if _, err := f.Apply(t.Context(), objects[:2], intent{"second"}, nil, true); err != nil {
		t.Fatal(err)
	}
	f.want(t, "NetworkPolicy/a", "Server/s")
	if found, err = f.Find(t.Context()); err != nil || !found.Intent(&read) || read.Text != "second" {
		t.Errorf("got intent %+v, %v", read, err)
	}

	began = time.Now().Truncate(time.Microsecond)
	if err := f.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := f.writes(t, "delete", began), []string{"networkpolicies", "servers"}; !slices.Equal(got, want) {
		t.Errorf("deleted in the order of %q, want %q", got, want)
	}
	f.want(t)
	if err := f.Delete(t.Context()); err != nil {
		t.Errorf("delete what is gone: %v", err)
	}
}

func TestAccFormerKinds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.apply(t, "first", f.policy(t, "a", "web"), f.budget(t, "c"))
	unserved := server
	unserved.Group = "none.example.com"
	f.Kinds, f.Former = []kube.Kind{kube.NetworkPolicy}, []kube.Kind{unserved, kube.PodDisruptionBudget}
	f.want(t, "NetworkPolicy/a", "PodDisruptionBudget/c")
	if _, err := f.Apply(t.Context(), []*unstructured.Unstructured{f.policy(t, "a", "web")}, intent{"second"}, nil, true); err != nil {
		t.Fatal(err)
	}
	f.want(t, "NetworkPolicy/a")
	found, err := f.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := holding.OwnerOf(found.Objects[0]); got != "aksmesh_thing one" {
		t.Errorf("got owner %q", got)
	}
}

func TestAccDrift(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.apply(t, "first", f.policy(t, "a", "web"))
	patch := []byte(`{"spec":{"podSelector":{"matchLabels":{"app":"db","tier":"extra"}},"egress":[{}],"policyTypes":["Ingress","Egress"]}}`)
	_, err := f.embedded.Client().NetworkingV1().NetworkPolicies(f.Namespace).Patch(t.Context(), "a", types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "somebody"})
	if err != nil {
		t.Fatal(err)
	}
	after := newFixture(t)
	after.Namespace = f.Namespace
	found, err := after.Find(t.Context())
	if err != nil || !strings.Contains(found.Manifest, "app: db") {
		t.Errorf("drift is not in the manifest: %v\n%s", err, found.Manifest)
	}
	_, err = after.Apply(t.Context(), []*unstructured.Unstructured{f.policy(t, "a", "web")}, intent{"first"}, nil, false)
	if conflict, is := errors.AsType[*kube.ConflictError](err); !is || !slices.Equal(conflict.Managers, []string{"somebody"}) {
		t.Errorf("want a conflict with somebody, got %v", err)
	}
	if _, err = after.Apply(t.Context(), []*unstructured.Unstructured{f.policy(t, "a", "web")}, intent{"first"}, nil, true); err != nil {
		t.Fatal(err)
	}
	if found, err = after.Find(t.Context()); err != nil || !strings.Contains(found.Manifest, "app: web") ||
		strings.Contains(found.Manifest, "extra") || strings.Contains(found.Manifest, "egress") {
		t.Errorf("it is not repaired: %v\n%s", err, found.Manifest)
	}
}

func TestAccForeignObject(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	foreign := f.policy(t, "b", "db")
	if _, err := f.cluster.Apply(t.Context(), foreign, kube.ApplyOptions{Manager: "gitops"}); err != nil {
		t.Fatal(err)
	}
	begun, err := f.Apply(t.Context(), []*unstructured.Unstructured{f.policy(t, "b", "web")}, intent{"first"}, nil, false)
	if conflict, is := errors.AsType[*kube.ConflictError](err); begun || !is || !slices.Equal(conflict.Managers, []string{"gitops"}) || conflict.Ref.Name != "b" {
		t.Errorf("want a conflict with gitops before anything was written, got begun %t, %v", begun, err)
	}
	begun, err = f.Apply(t.Context(), []*unstructured.Unstructured{f.policy(t, "b", "web"), f.budget(t, "b")}, intent{"first"}, nil, false)
	if !begun || err == nil {
		t.Errorf("want a conflict after the first object, got begun %t, %v", begun, err)
	}
	// What an apply has left that ended there is found and removed.
	f.want(t, "PodDisruptionBudget/b")
	if err := f.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.want(t)
	if _, err := f.cluster.Get(t.Context(), kube.Ref{Kind: kube.NetworkPolicy, Namespace: f.Namespace, Name: "b"}); err != nil {
		t.Errorf("somebody else's policy: %v", err)
	}
}

func TestAccTwoHoldings(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	other := f
	other.Owner = "thing/two"
	f.apply(t, "first", f.policy(t, "a", "web"))
	other.apply(t, "other", f.policy(t, "b", "web"), f.budget(t, "b"))
	f.want(t, "NetworkPolicy/a")
	other.want(t, "NetworkPolicy/b", "PodDisruptionBudget/b")

	_, err := f.Apply(t.Context(), []*unstructured.Unstructured{f.policy(t, "a", "web"), f.policy(t, "b", "web")}, intent{"first"}, nil, true)
	if !errors.Is(err, kube.ErrExists) || !strings.Contains(err.Error(), "which is of thing/two") {
		t.Errorf("the place of another holding's object: %v", err)
	}
	if err := f.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.want(t)
	other.want(t, "NetworkPolicy/b", "PodDisruptionBudget/b")
}

func TestAccKindsThatComeAndGo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Kinds = []kube.Kind{kube.NetworkPolicy, ending}
	f.want(t)
	if _, err := f.Apply(t.Context(), []*unstructured.Unstructured{f.object(t, ending, "e", "{}")}, intent{"first"}, nil, false); err == nil || !strings.Contains(err.Error(), "Ending") {
		t.Errorf("want an error that names the kind that is not served, got %v", err)
	}
	f.serve(t, ending)
	f.apply(t, "first", f.policy(t, "a", "web"), f.object(t, ending, "e", "{}"))
	f.want(t, "Ending/e", "NetworkPolicy/a")

	crd := kube.Ref{Kind: kube.CustomResourceDefinition, Name: ending.Resource + "." + ending.Group}
	other, err := kube.Connect(kube.Settings{ConfigPaths: []string{f.embedded.Kubeconfig()}}, "other")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Delete(t.Context(), crd, kube.DeleteOptions{Wait: true}); err != nil {
		t.Fatal(err)
	}
	// Its objects are gone with it.
	f.apply(t, "first", f.policy(t, "a", "web"))
	f.want(t, "NetworkPolicy/a")
	if err := f.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.want(t)
}

// A kind is in discovery a moment before its objects are listed.
func TestAccKindThatComesMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Kinds = []kube.Kind{kube.NetworkPolicy, coming}
	f.serve(t, coming)
	f.apply(t, "first", f.policy(t, "a", "web"), f.object(t, coming, "c", "{}"))

	proxy := testcluster.NewFaultProxy(t, f.embedded.Kubeconfig())
	cluster, err := kube.Connect(kube.Settings{ConfigPaths: []string{proxy.Kubeconfig()}}, "holding-test")
	if err != nil {
		t.Fatal(err)
	}
	f.Cluster = cluster
	answers := 0
	proxy.Set(testcluster.FaultNotServed, testcluster.PathContains("/comings"), func(*http.Request) bool {
		answers++
		return answers <= 2
	})
	f.want(t, "Coming/c", "NetworkPolicy/a")
	if proxy.Faulted() != 2 {
		t.Errorf("%d answers were that it is not served, want 2", proxy.Faulted())
	}

	// One that never comes ends with the caller, and is not taken for none.
	f.Cluster, err = kube.Connect(kube.Settings{ConfigPaths: []string{proxy.Kubeconfig()}}, "holding-test")
	if err != nil {
		t.Fatal(err)
	}
	proxy.Set(testcluster.FaultNotServed, testcluster.PathContains("/comings"))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if found, err := f.Find(ctx); err == nil || !strings.Contains(err.Error(), "comings") {
		t.Errorf("got %d objects, %v", len(found.Objects), err)
	}
}

func TestAccNamespaceIsMissing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Namespace = "no-such-namespace"
	begun, err := f.Apply(t.Context(), []*unstructured.Unstructured{f.policy(t, "a", "web")}, intent{"first"}, nil, false)
	if begun || !errors.Is(err, kube.ErrNotFound) || !strings.Contains(err.Error(), "Namespace no-such-namespace") {
		t.Errorf("got begun %t, %v", begun, err)
	}
	f.want(t)
}

func TestIntentsThatDisagree(t *testing.T) {
	t.Parallel()
	var found holding.Found
	if found.Intent(&intent{}) {
		t.Error("nothing has an intent")
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	f := fixture{Holding: holding.Holding{Namespace: "n"}}
	text, err := holding.Manifest([]*unstructured.Unstructured{
		f.policy(t, "b", "web"), f.policy(t, "a", "web"),
		f.object(t, server, "s", `{port: 8080, text: "first\n---\nlast\n"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	objects, err := holding.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) != 3 || objects[0].GetName() != "a" || objects[2].GetKind() != "Server" {
		t.Errorf("got %v", objects)
	}
	again, err := holding.Manifest(objects)
	if err != nil || again != text {
		t.Errorf("%v: got\n%s\nwant\n%s", err, again, text)
	}
	if port, found, err := unstructured.NestedInt64(objects[2].Object, "spec", "port"); err != nil || !found || port != 8080 {
		t.Errorf("got port %d, %t, %v", port, found, err)
	}
	for _, wrong := range []string{"", "a: [", "apiVersion: v1\n"} {
		if _, err := holding.Parse(wrong); err == nil {
			t.Errorf("%q is read", wrong)
		}
	}
}
