package provider

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// interruptLimit is how long everything may go on after an interrupt, whatever
// the cluster does.
const interruptLimit = 5 * time.Second

// both matches requests that all of the matches select.
func both(matches ...testcluster.Match) testcluster.Match {
	return func(r *http.Request) bool {
		for _, match := range matches {
			if !match(r) {
				return false
			}
		}
		return true
	}
}

// after matches what then selects once first has selected a request before.
// The proxy asks for one request at a time.
func after(first, then testcluster.Match) testcluster.Match {
	seen := false
	return func(r *http.Request) bool {
		if seen {
			return then(r)
		}
		seen = first(r)
		return false
	}
}

// request matches one kind of write.
func request(method, path string) testcluster.Match {
	return both(testcluster.Methods(method), testcluster.PathContains(path))
}

// holdAt starts Terraform and returns when the cluster has been asked what
// moment selects, which it does not answer.
func holdAt(w *workspace, proxy *testcluster.FaultProxy, moment testcluster.Match, args ...string) *execution {
	w.t.Helper()
	proxy.Set(testcluster.FaultHang, moment)
	e := w.start(args...)
	ctx, cancel := context.WithTimeout(w.t.Context(), terraformTimeout)
	defer cancel()
	go func() {
		<-e.done
		cancel()
	}()
	if err := proxy.WaitFaulted(ctx); err != nil {
		got := e.wait()
		w.t.Fatalf("terraform %s has ended before the moment came: exit code %d\n%s", args[0], got.code, got.output)
	}
	return e
}

// killAt has the provider crash at a moment.
func killAt(w *workspace, proxy *testcluster.FaultProxy, moment testcluster.Match, args ...string) {
	w.t.Helper()
	e := holdAt(w, proxy, moment, args...)
	e.kill()
	if got := e.wait(); got.code == 0 {
		w.t.Fatalf("terraform %s has succeeded without its provider\n%s", args[0], got.output)
	}
	proxy.Clear()
}

// failAt has an apply fail at a moment at which the remote object of a resource
// exists, and wants to find the resource in the state.
func failAt(w *workspace, proxy *testcluster.FaultProxy, moment testcluster.Match, address string) {
	w.t.Helper()
	proxy.Set(testcluster.FaultServerError, moment)
	got := w.run("apply", "-auto-approve", "-no-color")
	if got.code == 0 || proxy.Faulted() == 0 {
		w.t.Fatalf("%d requests failed, and the apply ended with exit code %d\n%s", proxy.Faulted(), got.code, got.output)
	}
	if w.attributes()[address] == nil {
		w.t.Errorf("the failed apply has left %s out of the state\n%s", address, got.output)
	}
	proxy.Clear()
}

// expectPromptEnd interrupts a run, and wants Terraform and the provider to be
// gone before the limit.
func expectPromptEnd(t *testing.T, e *execution) {
	t.Helper()
	providers := e.providers()
	if len(providers) == 0 {
		t.Fatal("there is no provider to interrupt")
	}
	began := time.Now()
	e.interrupt()
	got := e.wait()
	if got.code == 0 {
		t.Errorf("the interrupted run has succeeded\n%s", got.output)
	}
	took := got.ended.Sub(began)
	t.Logf("%v ended %s after the interrupt", e.args, took.Round(time.Millisecond))
	if took >= interruptLimit {
		t.Errorf("%v ended only %s after the interrupt\n%s", e.args, took, got.output)
	}
	poll := time.NewTicker(processPoll)
	defer poll.Stop()
	for _, pid := range providers {
		for name, _ := processOf(pid); name == providerExecutable[:15]; name, _ = processOf(pid) {
			if time.Since(began) >= interruptLimit {
				t.Fatalf("the provider (process %d) still runs %s after the interrupt", pid, time.Since(began))
			}
			<-poll.C
		}
	}
}

func TestAccInterrupt_read(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	proxy := testcluster.NewFaultProxy(t, cluster.Kubeconfig())
	w := newWorkspace(t, providerConfig(proxy.Kubeconfig(), fmt.Sprintf(`resource "aksmesh_trust_anchor" "this" { namespace = %q }`, cluster.Namespace(t))))
	w.apply()
	everyRequest := func(*http.Request) bool { return true }

	state := w.stateBytes()
	expectPromptEnd(t, holdAt(w, proxy, everyRequest, "plan", "-no-color"))
	expectPromptEnd(t, holdAt(w, proxy, everyRequest, "destroy", "-refresh=false", "-auto-approve", "-no-color"))
	proxy.Clear()
	if _, kept := w.attributes()["aksmesh_trust_anchor.this"]; !kept {
		t.Errorf("the interrupted runs have changed the state from\n%s\nto\n%s", state, w.stateBytes())
	}
	w.expectNoChanges()
}

// TestAccInterrupt_install interrupts and kills the installation of each mesh,
// the enrolment of a namespace, an upgrade and a destroy, each at the worst
// moments, and has the next apply go on from there.
func TestAccInterrupt_install(t *testing.T) {
	t.Parallel()
	for mesh, deployment := range map[string]string{"linkerd": "linkerd-destination", "istio": "istiod"} {
		t.Run(mesh, func(t *testing.T) {
			t.Parallel()
			cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
			e := newEverything(t, cluster, mesh)
			e.version = map[string]string{"linkerd": linkerdOld, "istio": istioOld}[mesh]
			proxy := testcluster.NewFaultProxy(t, cluster.Kubeconfig())
			w := newWorkspace(t, providerConfig(proxy.Kubeconfig(), e.config()))
			interruptEverything(t, cluster, proxy, w, e, deployment)
		})
	}
}

func interruptEverything(t *testing.T, cluster *testcluster.Cluster, proxy *testcluster.FaultProxy, w *workspace, e everything, deployment string) {
	t.Helper()
	apply := []string{"apply", "-auto-approve", "-no-color"}

	// The chart's CRDs are being made when the whole cluster falls silent.
	silent := holdAt(w, proxy, request(http.MethodPost, "/customresourcedefinitions"), apply...)
	proxy.Set(testcluster.FaultHang)
	expectPromptEnd(t, silent)
	proxy.Clear()

	// What comes last among the objects of the chart.
	controlPlaneMade := request(http.MethodPost, "/mutatingwebhookconfigurations")
	failAt(w, proxy, request(http.MethodPost, "/deployments"), "aksmesh_"+e.mesh+".this")
	killAt(w, proxy, controlPlaneMade, apply...)
	// All is made, but Helm has not written it down.
	killAt(w, proxy, after(controlPlaneMade, request(http.MethodPut, "/secrets/sh.helm.release.")), apply...)

	// The namespace is enrolled, but its pods still run without a proxy.
	enrolled := request(http.MethodPatch, "/namespaces/"+e.namespace+"/deployments/web")
	failAt(w, proxy, enrolled, "aksmesh_injection.this")
	killAt(w, proxy, enrolled, apply...)
	// They have one by now, but nobody has looked.
	killAt(w, proxy, after(enrolled, testcluster.PathContains("/mutatingwebhookconfigurations")), apply...)
	w.apply()
	w.expectNoChanges()
	namespace := w.attribute("aksmesh_"+e.mesh+".this", "namespace")
	expectSoundHistory(t, cluster, namespace)

	former := e.version
	e.version = ""
	w.write(providerConfig(proxy.Kubeconfig(), e.config()))
	// Nothing has changed yet: settings that are not in force are not in the state.
	failAt(w, proxy, request(http.MethodPatch, "/namespaces/"+namespace), "aksmesh_"+e.mesh+".this")
	if version := w.attribute("aksmesh_"+e.mesh+".this", "version"); version != former {
		t.Errorf("the failed upgrade has left version %s in the state, want %s", version, former)
	}
	killAt(w, proxy, request(http.MethodPatch, "/deployments/"+deployment), apply...)
	w.apply()
	w.expectNoChanges()
	expectSoundHistory(t, cluster, namespace)

	destroy := []string{"destroy", "-auto-approve", "-no-color"}
	killAt(w, proxy, request(http.MethodDelete, "/deployments/"+deployment), destroy...)
	w.succeed(destroy...)
	if _, err := cluster.Client().CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("namespace %s after the destroy: want not found, got %v", namespace, err)
	}
}

// expectSoundHistory wants one deployed revision of each release of a
// namespace, the newest, and none under way.
func expectSoundHistory(t *testing.T, cluster *testcluster.Cluster, namespace string) {
	t.Helper()
	records, err := cluster.Client().CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil {
		t.Fatal(err)
	}
	deployed := map[string]int{}
	for _, record := range records.Items {
		release := record.Labels["name"]
		switch status := record.Labels["status"]; status {
		case "deployed":
			deployed[release]++
		case "superseded", "failed":
			deployed[release] += 0
		default:
			t.Errorf("revision %s of release %s/%s is %s", record.Labels["version"], namespace, release, status)
		}
	}
	if len(deployed) == 0 {
		t.Errorf("namespace %s has no release", namespace)
	}
	for release, count := range deployed {
		if count != 1 {
			t.Errorf("release %s/%s has %d deployed revisions, want 1", namespace, release, count)
		}
	}
}
