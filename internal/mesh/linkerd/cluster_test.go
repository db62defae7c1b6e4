package linkerd_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// The vocabulary is tried on an injector: pods are created in dry runs, which go
// through its webhook like others.

var (
	shared    testcluster.Shared
	installed sync.Once
)

func TestMain(m *testing.M) { os.Exit(shared.Main(m)) }

// meshed connects to a cluster with Linkerd in it.
func meshed(t *testing.T) (*testcluster.Cluster, *kube.Cluster) {
	t.Helper()
	embedded := shared.Cluster(t)
	cluster := connect(t, embedded)
	installed.Do(func() { installLinkerd(t, cluster, embedded.Charts().Repository) })
	return embedded, cluster
}

func connect(t *testing.T, embedded *testcluster.Cluster) *kube.Cluster {
	t.Helper()
	connected, err := kube.Connect(kube.Settings{ConfigPaths: []string{embedded.Kubeconfig()}}, "linkerd-test")
	if err != nil {
		t.Fatal(err)
	}
	return connected
}

func installLinkerd(t *testing.T, cluster *kube.Cluster, repository string) {
	t.Helper()
	ctx, now := t.Context(), time.Now()
	anchor, err := pki.NewAnchor(pki.AuthorityOptions{Subject: pki.Subject{CommonName: "root"}, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	bundle := pki.NewBundle(anchor.Certificate())
	signer, err := trust.SigningKey(anchor.Signer(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	keeper := trust.Keeper{
		Cluster: cluster, Ref: trust.IssuerRef{Mesh: "linkerd", Namespace: linkerd.DefaultNamespace},
		Wanted: bundle, Signer: signer, Options: pki.AuthorityOptions{Now: now},
	}
	if _, err := keeper.Keep(ctx, false); err != nil {
		t.Fatal(err)
	}
	releases, err := helm.NewReleases(cluster, helm.ReleasesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	installer := linkerd.Installer{Charts: install.Charts{
		Cluster: cluster, Releases: releases,
		Library: helm.NewLibrary(helm.LibraryOptions{CacheDir: filepath.Join(t.TempDir(), "charts")}),
	}}
	prepared, err := installer.Prepare(ctx, linkerd.Specification{
		Namespace: linkerd.DefaultNamespace, Repository: repository, Version: "2026.8.3", Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := installer.Apply(ctx, prepared); err != nil {
		t.Fatal(err)
	}
}

func controlPlane(t *testing.T, cluster *kube.Cluster) mesh.ControlPlane {
	t.Helper()
	plane, err := linkerd.Injection{Namespace: linkerd.DefaultNamespace}.ControlPlane(t.Context(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.Available(); err != nil {
		t.Fatal(err)
	}
	return plane
}

// annotate gives a namespace exactly these annotations.
func annotate(t *testing.T, embedded *testcluster.Cluster, name string, annotations map[string]string) *corev1.Namespace {
	t.Helper()
	return change(t, embedded, name, func(n *corev1.Namespace) { n.Annotations = annotations })
}

func change(t *testing.T, embedded *testcluster.Cluster, name string, how func(*corev1.Namespace)) *corev1.Namespace {
	t.Helper()
	namespaces := embedded.Client().CoreV1().Namespaces()
	found, err := namespaces.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	how(found)
	changed, err := namespaces.Update(t.Context(), found, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// made is what becomes of a pod that is created now, after it was given a
// template's annotations.
func made(ctx context.Context, embedded *testcluster.Cluster, pod *corev1.Pod) (*corev1.Pod, error) {
	return embedded.Client().CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

// serviced waits until pods can be created in a new namespace.
func serviced(t *testing.T, embedded *testcluster.Cluster, namespace string) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		_, err := embedded.Client().CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// eventually repeats what may fail for a while.
func eventually(t *testing.T, try func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-tick.C:
		}
	}
}

func injectedByMesh(pod *corev1.Pod) bool { return linkerd.Injection{}.Proxy(pod).Mode != "" }

// some are values of a random part of the settings.
func some(random *rand.Rand, podsOnly bool) map[string]any {
	values := map[string]any{}
	all, share := samples(), random.Float64()
	for _, s := range linkerd.Settings() {
		if (podsOnly || !s.TemplateOnly) && random.Float64() < share {
			values[s.Name] = all[s.Name][random.IntN(2)]
		}
	}
	return values
}

func spelled(t *testing.T, values map[string]any) map[string]string {
	t.Helper()
	annotations, err := mesh.Annotations(linkerd.Settings(), values)
	if err != nil {
		t.Fatal(err)
	}
	return annotations
}

// A restart must end staleness, or there would be no end of restarts.
func TestPodsJustInjectedAreCurrent(t *testing.T) {
	t.Parallel()
	embedded, cluster := meshed(t)
	plane := controlPlane(t, cluster)
	random := rand.New(rand.NewPCG(20, 26))
	for n := range 4 {
		name := embedded.Namespace(t)
		serviced(t, embedded, name)
		seed := random.Uint64()
		t.Run(fmt.Sprintf("namespace %d seed %d", n, seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			for range 40 {
				i := linkerd.Injection{Ingress: random.IntN(2) == 0, Settings: spelled(t, some(random, false))}
				own := linkerd.Injection{Ingress: random.IntN(2) == 0, Settings: spelled(t, some(random, true))}.WorkloadMark().Annotations
				if random.IntN(2) == 0 {
					delete(own, inject)
				}
				namespace := annotate(t, embedded, name, i.NamespaceMark().Annotations)
				pod := applicationPod(name)
				pod.Annotations = maps.Clone(own)
				got, err := made(t.Context(), embedded, pod)
				if err != nil {
					t.Fatal(err)
				}
				subject := mesh.Subject{Pod: got, Namespace: namespace, Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Annotations: own}}}
				shown := linkerd.Injection{}.Proxy(got)
				if shown.Mode == "" {
					t.Fatalf("not injected: namespace %v pod %v", namespace.Annotations, own)
				}
				if reasons := plane.Stale(subject, shown); len(reasons) > 0 {
					t.Errorf("%v\nnamespace %v\npod %v", reasons, namespace.Annotations, own)
				}
				subject.Template = nil
				if reasons := plane.Stale(subject, shown); len(reasons) > 0 {
					t.Errorf("of an unknown template: %v\nnamespace %v\npod %v", reasons, namespace.Annotations, own)
				}
			}
		})
	}
}

// Whatever changes for pods of a namespace makes those of before stale, and says
// by what.
func TestChangedSettingsMakePodsStale(t *testing.T) {
	t.Parallel()
	embedded, cluster := meshed(t)
	plane := controlPlane(t, cluster)
	name := embedded.Namespace(t)
	serviced(t, embedded, name)
	before, after := map[string]any{}, map[string]any{}
	for setting, values := range samples() {
		before[setting], after[setting] = values[0], values[1]
	}
	mark := func(values map[string]any, without ...string) *corev1.Namespace {
		values = maps.Clone(values)
		maps.DeleteFunc(values, func(name string, _ any) bool { return slices.Contains(without, name) })
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: linkerd.Injection{Settings: spelled(t, values)}.NamespaceMark().Annotations}}
	}
	annotate(t, embedded, name, mark(before).Annotations)
	full, err := made(t.Context(), embedded, applicationPod(name))
	if err != nil {
		t.Fatal(err)
	}
	annotate(t, embedded, name, mark(nil).Annotations)
	plain, err := made(t.Context(), embedded, applicationPod(name))
	if err != nil {
		t.Fatal(err)
	}
	stale := func(pod *corev1.Pod, namespace *corev1.Namespace) string {
		var changes []string
		for _, reason := range plane.Stale(mesh.Subject{Pod: pod, Namespace: namespace, Template: &corev1.PodTemplateSpec{}, Former: mesh.MarkOf(mark(before))}, linkerd.Injection{}.Proxy(pod)) {
			if reason.Cause == mesh.ChangedSettings {
				changes = append(changes, reason.Detail)
			}
		}
		return strings.Join(changes, "; ")
	}
	for _, s := range linkerd.Settings() {
		// The extension for taps is not there to take note.
		notCopied := s.TemplateOnly || s.Name == "disable_tap"
		one := map[string]any{s.Name: before[s.Name]}
		changed := maps.Clone(before)
		changed[s.Name] = after[s.Name]
		for how, got := range map[string]string{
			"added":   stale(plain, mark(one)),
			"changed": stale(full, mark(changed)),
			"removed": stale(full, mark(before, s.Name)),
		} {
			if notCopied && got != "" {
				t.Errorf("%s %s: stale because %s", s.Name, how, got)
			}
			if !notCopied && (!strings.HasPrefix(got, s.Key+" is ") || strings.Count(got, "linkerd.io/") != 1) {
				t.Errorf("%s %s: stale because %q", s.Name, how, got)
			}
		}
	}
}

// What pods and namespaces say decides as Claims and Sees have it.
func TestInjectorDecidesAsForetold(t *testing.T) {
	t.Parallel()
	embedded, cluster := meshed(t)
	plane := controlPlane(t, cluster)
	name := embedded.Namespace(t)
	serviced(t, embedded, name)
	for _, outer := range injectValues() {
		namespace := annotate(t, embedded, name, saying(outer))
		for _, inner := range injectValues() {
			pod := applicationPod(name)
			pod.Annotations = saying(inner)
			got, err := made(t.Context(), embedded, pod)
			if err != nil {
				t.Fatal(err)
			}
			claimed := linkerd.Injection{}.Claims(mesh.MarkOf(namespace), mesh.MarkOf(pod))
			if injectedByMesh(got) != claimed {
				t.Errorf("namespace %q pod %q: claimed %t", outer, inner, claimed)
			}
			if err := plane.Sees(namespace, pod); (err == nil) != (outer != "true") {
				t.Errorf("namespace %q: %v", outer, err)
			}
		}
	}
	annotate(t, embedded, name, saying("enabled"))
	for what, exemption := range exemptions() {
		pod := applicationPod(name)
		exemption.change(pod)
		got, err := made(t.Context(), embedded, pod)
		if err != nil {
			t.Fatal(err)
		}
		if injected, _ := mesh.FindSidecar(got, "linkerd-proxy"); injected != nil {
			t.Errorf("%s: injected", what)
		}
	}
}

func TestInjectorIsKeptAwayAsForetold(t *testing.T) {
	t.Parallel()
	embedded, cluster := meshed(t)
	if _, err := (linkerd.Injection{Namespace: "elsewhere"}).ControlPlane(t.Context(), cluster); !errors.Is(err, mesh.ErrNoControlPlane) {
		t.Errorf("where there is none: error %v", err)
	}
	// As the admissions enforcer of AKS changes it.
	webhooks := embedded.Client().AdmissionregistrationV1().MutatingWebhookConfigurations()
	found, err := webhooks.Get(t.Context(), "linkerd-proxy-injector-webhook-config", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	selector := found.Webhooks[0].NamespaceSelector
	selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{
		Key: "control-plane", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"true"},
	})
	if _, err := webhooks.Update(t.Context(), found, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	plane := controlPlane(t, connect(t, embedded))
	for what, test := range map[string]struct {
		namespace, pod map[string]string // labels
		want           string
	}{
		"nothing":       {nil, nil, ""},
		"label":         {map[string]string{"config.linkerd.io/admission-webhooks": "disabled"}, nil, "admission-webhooks=disabled"},
		"enforcer":      {map[string]string{"control-plane": "true"}, nil, "AKS"},
		"other label":   {map[string]string{"control-plane": "manager"}, nil, ""},
		"control plane": {nil, map[string]string{"linkerd.io/control-plane-component": "tap"}, "control-plane-component"},
	} {
		name := embedded.Namespace(t)
		serviced(t, embedded, name)
		namespace := change(t, embedded, name, func(n *corev1.Namespace) {
			n.Annotations = saying("enabled")
			maps.Copy(n.Labels, test.namespace)
		})
		pod := applicationPod(name)
		pod.Labels = test.pod
		err := plane.Sees(namespace, pod)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v", what, err)
		}
		// The API server learns of labels and webhooks with a delay.
		eventually(t, func(ctx context.Context) error {
			got, err := made(ctx, embedded, pod)
			if err == nil && injectedByMesh(got) != (test.want == "") {
				err = fmt.Errorf("%s: injected %t", what, injectedByMesh(got))
			}
			return err
		})
	}
	if !plane.Privileged() {
		t.Error("there is no CNI plugin, so pods need privileges")
	}
}

// A proxy that is part of the pod template stays as it is in a restart, so none
// is tried.
func TestProxiesInjectedByHandAreLeft(t *testing.T) {
	t.Parallel()
	embedded, cluster := meshed(t)
	name := embedded.Namespace(t)
	annotate(t, embedded, name, saying("enabled"))
	byHand := testcluster.NewDeployment(name, "by-hand", 1)
	byHand.Spec.Template.Annotations = map[string]string{"linkerd.io/created-by": "linkerd/cli edge-26.6.3", "linkerd.io/proxy-version": "edge-26.6.3"}
	byHand.Spec.Template.Spec.Containers = append(byHand.Spec.Template.Spec.Containers, corev1.Container{Name: "linkerd-proxy", Image: "cr.l5d.io/linkerd/proxy:edge-26.6.3"})
	if _, err := embedded.Client().AppsV1().Deployments(name).Create(t.Context(), byHand, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	embedded.CreateDeployment(t, name, "by-webhook", 1)
	plane := mesh.DataPlane{Cluster: cluster, Mesh: linkerd.Injection{Namespace: linkerd.DefaultNamespace}, Namespace: name, Now: time.Now()}
	eventually(t, func(ctx context.Context) error {
		survey, err := plane.Settle(ctx)
		if err == nil && survey.Meshed+len(survey.Skipped) < 2 {
			err = fmt.Errorf("not all pods are there yet: %+v", survey)
		}
		return err
	})
	survey, err := plane.Settle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if survey.Total != 2 || survey.Meshed != 2 || survey.Stale != 1 || len(survey.Restarts) > 0 {
		t.Errorf("survey %+v", survey)
	}
	if len(survey.Skipped) != 1 || survey.Skipped[0].Owner.Name != "by-hand" || !strings.Contains(survey.Skipped[0].Reason, "linkerd uninject") {
		t.Errorf("skipped %v", survey.Skipped)
	}
	after, err := embedded.Client().AppsV1().Deployments(name).Get(t.Context(), "by-hand", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if at, restarted := after.Spec.Template.Annotations[kube.RestartAnnotation]; restarted {
		t.Errorf("restarted at %s in vain", at)
	}
}
