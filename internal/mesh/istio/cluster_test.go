package istio_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// The tests of this file hold what the others take for granted against a real
// istiod: above all that it never makes a pod which is taken for stale.

const (
	older = "1.30.2"
	newer = "1.31.0"
)

type world struct {
	embedded *testcluster.Cluster
	charts   install.Charts
}

func (w world) install(t *testing.T, version string, istiod map[string]any) {
	t.Helper()
	installer := istio.Installer{Charts: w.charts}
	prepared, err := installer.Prepare(t.Context(), istio.Specification{
		Plane: istio.Plane{Namespace: istio.DefaultNamespace}, Repository: w.embedded.Charts().Repository, Version: version, Profile: istio.ProfileMinimal,
		Values: map[string]map[string]any{istio.IstiodChart: istiod}, Now: time.Now(),
	}, nil)
	if err == nil {
		err = installer.Apply(t.Context(), prepared, false)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// deploy makes a namespace with a workload, which is a Deployment.
func (w world) deploy(t *testing.T) (namespace string, workload kube.Ref) {
	t.Helper()
	namespace = w.embedded.Namespace(t)
	w.embedded.CreateDeployment(t, namespace, "alpha", 2)
	return namespace, kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: "alpha"}
}

func (w world) enrolment(i istio.Injection, target mesh.Target) mesh.Enrolment {
	i.Namespace = istio.DefaultNamespace
	return mesh.Enrolment{Cluster: w.charts.Cluster, Mesh: i, Target: target, Now: time.Now()}
}

// enrol brings the pods in, and fails the test unless all of them are as they
// should be then.
func (w world) enrol(t *testing.T, e mesh.Enrolment) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := e.Mark(ctx); err != nil {
		t.Fatal(err)
	}
	survey, err := e.Settle(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if survey.Total != 2 || survey.Meshed != 2 || len(survey.Wrong) > 0 {
		t.Fatalf("%s: %+v", e.Target, survey)
	}
}

// causes are what a survey finds, without particulars.
func causes(survey mesh.Survey) []mesh.Cause {
	found := map[mesh.Cause]bool{}
	for _, restart := range survey.Restarts {
		for _, reason := range restart.Reasons {
			found[reason.Cause] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func (w world) finds(t *testing.T, survey func(context.Context) (mesh.Survey, error), want ...mesh.Cause) {
	t.Helper()
	found, err := survey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := causes(found); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q: %+v", got, want, found.Wrong)
	}
}

// settings are of every sort that the injector passes on in its own way.
func settings(t *testing.T) map[string]string {
	t.Helper()
	annotations, err := mesh.Annotations(istio.Settings(), map[string]any{
		"proxy_cpu_request": "10m", "exclude_inbound_ports": []string{"5080", "7080"}, "exclude_outbound_ip_ranges": []string{"10.0.0.0/8"},
		"include_outbound_ports": []string{"9080"}, "interception_mode": "TPROXY", "hold_application_until_proxy_starts": true,
		"proxy_metadata": map[string]string{"ISTIO_META_DNS_CAPTURE": "true"}, "stats_inclusion_prefixes": []string{"cluster.outbound"},
		"termination_drain_duration": "7s", "log_level": "error", "component_log_level": "misc:error", "agent_log_level": "dns:debug",
		"status_port": int64(15099), "readiness_period_seconds": int64(3), "reroute_virtual_interfaces": []string{"docker0"},
		"user_volume": `{"more":{"emptyDir":{}}}`, "user_volume_mount": `{"more":{"mountPath":"/more"}}`, "rewrite_app_http_probers": true,
		"concurrency": int64(1), "runtime_values": map[string]string{"overload.global_downstream_max_connections": "50000"},
		"tracing_service_name": "CANONICAL_NAME_ONLY", "stats_compression": false, "merge_metrics": false, "drain_duration": "5s",
		"stats_histogram_buckets": `{"istiocustom":[1,5]}`, "stats_flush_interval": "10s", "stats_eviction_interval": "1h",
	})
	if err != nil {
		t.Fatal(err)
	}
	return annotations
}

func TestAccInjection(t *testing.T) {
	t.Parallel()
	embedded := testcluster.New(t, testcluster.Options{})
	cluster, err := kube.Connect(kube.Settings{ConfigPaths: []string{embedded.Kubeconfig()}}, "istio-test")
	if err != nil {
		t.Fatal(err)
	}
	releases, err := helm.NewReleases(cluster, helm.ReleasesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	library := helm.NewLibrary(helm.LibraryOptions{CacheDir: t.TempDir()})
	w := world{embedded: embedded, charts: install.Charts{Cluster: cluster, Library: library, Releases: releases}}
	w.install(t, older, nil)

	namespace, _ := w.deploy(t)
	whole := w.enrolment(istio.Injection{}, mesh.Target{Namespace: namespace})
	w.finds(t, whole.Foresee, mesh.NotInjected)
	w.enrol(t, whole)

	other, alpha := w.deploy(t)
	all := settings(t)
	single := w.enrolment(istio.Injection{Settings: all}, mesh.Target{Namespace: other, Workload: alpha})
	w.enrol(t, single)

	t.Run("settings", func(t *testing.T) {
		found, err := single.Found(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := istio.InjectionOf(found); !maps.Equal(got.Settings, all) {
			t.Errorf("read back: %v", got.Settings)
		}
		fewer := maps.Clone(all)
		delete(fewer, "traffic.sidecar.istio.io/excludeInboundPorts")
		next := w.enrolment(istio.Injection{Settings: fewer}, single.Target)
		next.Former = single.Mesh.WorkloadMark()
		w.finds(t, next.Foresee, mesh.ChangedSettings)
		// What is asked for anew, and by CNI, is as asked for at once.
		w.enrol(t, next)
		w.enrol(t, single)
	})
	t.Run("native sidecar", func(t *testing.T) {
		for _, native := range []string{"true", "false"} {
			namespace, alpha := w.deploy(t)
			e := w.enrolment(istio.Injection{Settings: map[string]string{"sidecar.istio.io/nativeSidecar": native}}, mesh.Target{Namespace: namespace, Workload: alpha})
			w.enrol(t, e)
			want := map[string]mesh.Mode{"true": mesh.NativeSidecar, "false": mesh.Sidecar}[native]
			pods, err := cluster.Pods(t.Context(), namespace)
			if err != nil {
				t.Fatal(err)
			}
			for _, pod := range pods {
				if got := e.Mesh.Proxy(pod); got.Mode != want || got.Version != older || got.Revision != "default" {
					t.Errorf("%s: %+v", pod.Name, got)
				}
			}
		}
	})
	t.Run("policies", func(t *testing.T) { w.tryPolicies(t, namespace) })
	t.Run("CNI", func(t *testing.T) {
		w.install(t, older, map[string]any{"cni": map[string]any{"enabled": true}})
		plane, err := single.Mesh.ControlPlane(t.Context(), cluster)
		if err != nil {
			t.Fatal(err)
		}
		if !plane.Privileged() {
			t.Error("TPROXY needs rights by itself")
		}
		if plane, err = whole.Mesh.ControlPlane(t.Context(), cluster); err != nil || plane.Privileged() {
			t.Errorf("with CNI: %v", err)
		}
		namespace, alpha := w.deploy(t)
		w.enrol(t, w.enrolment(istio.Injection{Settings: all}, mesh.Target{Namespace: namespace, Workload: alpha}))
		namespace, _ = w.deploy(t)
		w.enrol(t, w.enrolment(istio.Injection{}, mesh.Target{Namespace: namespace}))
	})
	t.Run("upgrade", func(t *testing.T) {
		w.install(t, newer, nil)
		for _, e := range []mesh.Enrolment{whole, single} {
			w.finds(t, e.Survey, mesh.StaleVersion)
			w.enrol(t, e)
		}
	})
	t.Run("roots", func(t *testing.T) { w.tryRoots(t, whole) })
	t.Run("ambient", func(t *testing.T) { w.tryAmbient(t, whole) })
}

// tryRoots has istiod publish another root, and looks at pods of before and after.
func (w world) tryRoots(t *testing.T, e mesh.Enrolment) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	now := time.Now()
	anchor, err := pki.NewAnchor(pki.AuthorityOptions{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.NewIssuer(anchor, pki.AuthorityOptions{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	bundle := pki.NewBundle(anchor.Certificate())
	data, err := istio.CACertsSecretData(ca, bundle)
	if err != nil {
		t.Fatal(err)
	}
	secrets := w.embedded.Client().CoreV1().Secrets(istio.DefaultNamespace)
	if _, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: istio.CACertsSecret}, Data: data}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	cluster := w.charts.Cluster
	istiod := kube.Ref{Kind: kube.Deployment, Namespace: istio.DefaultNamespace, Name: "istiod"}
	// Times in the API are whole seconds: the pods of before began in an earlier one.
	began := time.Now().Unix()
	if err := cluster.Await(ctx, istio.DefaultNamespace, nil, func(context.Context) (string, error) {
		if time.Now().Unix() > began {
			return "", nil
		}
		return "the next second", nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Roll(ctx, kube.Rollout{Stages: [][]kube.Ref{{istiod}}, At: now}); err != nil {
		t.Fatal(err)
	}
	err = cluster.Await(ctx, istio.DefaultNamespace, []kube.Kind{kube.ConfigMap}, func(ctx context.Context) (string, error) {
		published, err := cluster.ConfigMap(ctx, istio.DefaultNamespace, "istio-ca-root-cert")
		if err != nil || strings.TrimSpace(published.Data["root-cert.pem"]) == strings.TrimSpace(string(bundle.PEM())) {
			return "", err
		}
		return fmt.Sprintf("istiod to publish its new root in ConfigMap %s/%s", published.Namespace, published.Name), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Now = time.Now()
	w.finds(t, e.Survey, mesh.StaleTrustRoots)
	w.enrol(t, e)
	e.Now = e.Now.Add(12 * time.Hour)
	w.finds(t, e.Survey)
}

// tryAmbient takes in pods as they are, and then those of a namespace that have
// sidecars.
func (w world) tryAmbient(t *testing.T, sidecars mesh.Enrolment) {
	t.Helper()
	for _, name := range []string{"cni", "ztunnel"} {
		chart, err := w.charts.Load(t.Context(), w.embedded.Charts().Repository, name, newer)
		if err == nil {
			err = w.charts.Deploy(t.Context(), install.Release{Namespace: istio.DefaultNamespace, Name: name, Chart: chart, Values: map[string]any{"profile": "ambient"}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	uids := func(namespace string) (all []string) {
		pods, err := w.charts.Cluster.Pods(t.Context(), namespace)
		if err != nil {
			t.Fatal(err)
		}
		for _, pod := range pods {
			if mode := sidecars.Mesh.Proxy(pod).Mode; mesh.Living(pod) && mode != mesh.Ambient {
				t.Errorf("Pod %s/%s is in mode %q", namespace, pod.Name, mode)
			}
			all = append(all, string(pod.UID))
		}
		return all
	}
	namespace, _ := w.deploy(t)
	pods, err := w.charts.Cluster.Pods(t.Context(), namespace)
	if err != nil || len(pods) != 2 {
		t.Fatalf("%d pods, %v", len(pods), err)
	}
	e := w.enrolment(istio.Injection{Ambient: true}, mesh.Target{Namespace: namespace})
	w.enrol(t, e)
	if !slices.Equal(uids(namespace), []string{string(pods[0].UID), string(pods[1].UID)}) {
		t.Error("pods were made anew")
	}
	staying, err := e.Withdraw(t.Context())
	if err != nil || len(staying) > 0 {
		t.Errorf("%q stay, %v", staying, err)
	}

	e = w.enrolment(istio.Injection{Ambient: true}, sidecars.Target)
	e.Former = sidecars.Mesh.NamespaceMark()
	w.finds(t, e.Foresee, mesh.OtherMode)
	w.enrol(t, e)
	uids(sidecars.Target.Namespace)
	// And back.
	sidecars.Former, sidecars.Now = e.Mesh.NamespaceMark(), time.Now()
	w.finds(t, sidecars.Foresee, mesh.OtherMode)
	w.enrol(t, sidecars)
}
