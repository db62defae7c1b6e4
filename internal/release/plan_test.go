package release

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

func TestChangeString(t *testing.T) {
	t.Parallel()
	ref := kube.Ref{Kind: kube.StatefulSet, Namespace: "dgraph", Name: "alpha"}
	for want, change := range map[string]kube.Change{
		"+ StatefulSet dgraph/alpha": {Action: kube.Create, Ref: ref, Warning: "told elsewhere"},
		"-/+ StatefulSet dgraph/alpha: spec.a: 1 -> 2; spec.b: absent -> 3 (pods and volume claims stay)": {
			Action: kube.Recreate, Ref: ref, Lines: []string{"spec.a: 1 -> 2", "spec.b: absent -> 3"}, Note: "pods and volume claims stay",
		},
	} {
		if got := change.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestAccPlanWithoutDryRun plans where the API server does not say what it would
// do.
func TestAccPlanWithoutDryRun(t *testing.T) {
	t.Parallel()
	namespace := shared.Cluster(t).Namespace(t)
	text := "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {old: x}}, data: {color: red}}\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: " + namespace + "-b}}"
	deploy(t, releasesBy(t, ""), namespace, "app", Desired{Objects: parse(t, text)})
	proxy := testcluster.NewFaultProxy(t, shared.Cluster(t).Kubeconfig())
	releases := releasesBy(t, proxy.Kubeconfig())
	release := open(t, releases, namespace, "app")
	proxy.Set(testcluster.FaultForbidden, testcluster.Methods(http.MethodPatch, http.MethodPost))
	desired := Desired{Objects: parse(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {color: blue}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: "+namespace+"-b, labels: {a: b}}}")}
	// Compared with what was applied, or with what there is.
	for phase, labels := range map[Phase]string{
		PhaseDeployed: "metadata.labels: absent -> an object of 1 fields",
		PhaseFailed:   `metadata.labels.a: absent -> "b"`,
	} {
		release.record.Phase = phase
		changes, err := release.Plan(t.Context(), desired)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, change := range changes {
			got = append(got, change.String()+" ["+change.Warning+"]")
			if change.Uncertain != (change.Action == kube.Update) {
				t.Errorf("%s: uncertain is %t", change, change.Uncertain)
			}
		}
		want := []string{
			"~ Namespace " + namespace + "-b: " + labels + " [a dry run is forbidden]",
			"~ ConfigMap " + namespace + `/a: data.color: "red" -> "blue"; metadata.labels: an object of 1 fields -> absent [a dry run is forbidden]`,
			"+ ConfigMap " + namespace + "/b [a dry run is forbidden]",
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: plan %q", phase, got)
		}
	}
	proxy.Set(testcluster.FaultServerError, testcluster.Methods(http.MethodPatch))
	if _, err := release.Plan(t.Context(), desired); err == nil || strings.Count(err.Error(), "injected fault") != 3 {
		t.Errorf("errors of all objects: %v", err)
	}
	proxy.Clear()
	if _, err := release.Uninstall(patient(t), UninstallOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestAccPlanTellsOfRefusals plans objects that an admission policy or somebody
// else's label refuses.
func TestAccPlanTellsOfRefusals(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	patch(t, releases, kube.Namespace, "", namespace, "somebody", `{"metadata":{"labels":{"team":"theirs"}}}`)
	desired := Desired{Objects: parse(t, "{apiVersion: v1, kind: Namespace, metadata: {name: "+namespace+", labels: {team: ours}}}")}
	_, err := open(t, releases, namespace, "app").Plan(t.Context(), desired)
	if conflict, ok := errors.AsType[*kube.ConflictError](err); !ok || !slices.Equal(conflict.Managers, []string{"somebody"}) {
		t.Errorf("a label of somebody else: %v", err)
	}
	desired.Objects = parse(t, deployment("web", "1", "unknown: field"))
	if _, err := open(t, releases, namespace, "app").Plan(t.Context(), desired); err == nil || !strings.Contains(err.Error(), "Deployment "+namespace+"/web") || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("an unknown field: %v", err)
	}
	if _, told := unsaid(errors.New(`admission webhook "x" denied the request: no`)); !told {
		t.Error("a refusal by a webhook ends the plan")
	}
	if _, told := unsaid(errors.New(`admission webhook "x" does not support dry run`)); !told {
		t.Error("a webhook that knows no dry run ends the plan")
	}
}

func TestAccTransform(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t) + "-transformed"
	var seen []string
	desired := Desired{
		CreateNamespace: true,
		Objects:         parse(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n"+hookManifest("ConfigMap", "h", "post-install", "")),
		Transform: func(o *unstructured.Unstructured) error {
			seen = append(seen, o.GetKind()+" "+strings.TrimPrefix(o.GetNamespace(), namespace))
			return unstructured.SetNestedField(o.Object, "yes", "metadata", "labels", "transformed")
		},
	}
	deploy(t, releases, namespace, "app", desired)
	if want := []string{"ConfigMap ", "Namespace "}; !slices.Equal(seen, want) {
		t.Errorf("transformed %q", seen)
	}
	for object, want := range map[*unstructured.Unstructured]string{
		live(t, releases, kube.ConfigMap, namespace, "a"): "yes",
		live(t, releases, kube.ConfigMap, namespace, "h"): "",
		live(t, releases, kube.Namespace, "", namespace):  "yes",
	} {
		if got := object.GetLabels()["transformed"]; got != want {
			t.Errorf("%s %s: label %q", object.GetKind(), object.GetName(), got)
		}
	}
	desired.Transform = func(*unstructured.Unstructured) error { return errors.New("no") }
	if err := open(t, releases, namespace, "app").Deploy(t.Context(), desired); err == nil || !strings.Contains(err.Error(), "test.yaml, document 1 (line 1): ConfigMap "+namespace+"/a: no") {
		t.Errorf("got %v", err)
	}
	if _, err := open(t, releases, namespace, "app").Uninstall(patient(t), UninstallOptions{}); err != nil {
		t.Fatal(err)
	}
}
