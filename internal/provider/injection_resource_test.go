package provider

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// injectionConfig is one enrolment.
func injectionConfig(cluster *testcluster.Cluster, namespace, body string) string {
	return providerConfig(cluster.Kubeconfig(), fmt.Sprintf("resource \"aksmesh_injection\" \"this\" {\n  namespace = %q\n  %s\n}", namespace, body))
}

const injectionAddress = "aksmesh_injection.this"

// imported is a step that imports what is in the state. What the last apply has
// restarted cannot be seen in the cluster.
func imported(id string) resource.TestStep {
	return resource.TestStep{
		ResourceName: injectionAddress, ImportState: true, ImportStateId: id,
		ImportStateVerify: true, ImportStateVerifyIgnore: []string{"restarts"},
	}
}

// proxies checks that every living pod of a selection has a proxy container of
// that name, or that none has.
func proxies(t *testing.T, cluster *testcluster.Cluster, namespace string, selector map[string]string, container string, want bool) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		pods, err := cluster.Client().CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(selector).String()})
		if err != nil {
			return err
		}
		seen := 0
		for _, pod := range pods.Items {
			if pod.DeletionTimestamp != nil {
				continue
			}
			seen++
			has := false
			for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
				has = has || c.Name == container
			}
			if has != want {
				return fmt.Errorf("pod %s: has %s: %t, want %t", pod.Name, container, has, want)
			}
		}
		if seen == 0 {
			return fmt.Errorf("namespace %s has no pods of %v", namespace, selector)
		}
		return nil
	}
}

func TestAccInjection_linkerdNamespace(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	cluster.CreateDeployment(t, namespace, "web", 2)
	cluster.CreateDeployment(t, namespace, "api", 1)
	namespaces := cluster.Client().CoreV1().Namespaces()
	update := resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(injectionAddress, plancheck.ResourceActionUpdate)}}
	meshed := proxies(t, cluster, namespace, nil, "linkerd-proxy", true)
	counts := []statecheck.StateCheck{
		statecheck.ExpectKnownValue(injectionAddress, tfjsonpath.New("meshed_pods"), knownvalue.Int64Exact(3)),
		statecheck.ExpectKnownValue(injectionAddress, tfjsonpath.New("total_pods"), knownvalue.Int64Exact(3)),
		statecheck.ExpectKnownValue(injectionAddress, tfjsonpath.New("drift"), knownvalue.ListSizeExact(0)),
	}

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             proxies(t, cluster, namespace, nil, "linkerd-proxy", false),
		Steps: []resource.TestStep{
			{Config: injectionConfig(cluster, namespace, `mesh = { linkerd = {} }`), Check: meshed, ConfigStateChecks: counts},
			imported("linkerd/" + namespace),
			{
				// Somebody takes the annotation away.
				PreConfig: func() {
					patch := []byte(`{"metadata":{"annotations":{"linkerd.io/inject":"disabled"}}}`)
					if _, err := namespaces.Patch(t.Context(), namespace, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
						t.Fatal(err)
					}
				},
				Config:            injectionConfig(cluster, namespace, `mesh = { linkerd = {} }`),
				ConfigPlanChecks:  update,
				ConfigStateChecks: counts,
				Check:             meshed,
			},
			{
				// A pod slips past the injector: the label keeps the webhook away
				// while it is made anew.
				PreConfig:         func() { slipPast(t, cluster, namespace, "api") },
				Config:            injectionConfig(cluster, namespace, `mesh = { linkerd = {} }`),
				ConfigPlanChecks:  update,
				ConfigStateChecks: counts,
				Check:             meshed,
			},
			{
				Config:           injectionConfig(cluster, namespace, `mesh = { linkerd = { skip_outbound_ports = [5080, "7000-7080"] } }`),
				ConfigPlanChecks: update,
				Check: func(*terraform.State) error {
					found, err := namespaces.Get(t.Context(), namespace, metav1.GetOptions{})
					if got := found.Annotations["config.linkerd.io/skip-outbound-ports"]; err == nil && got != "5080,7000-7080" {
						err = fmt.Errorf("skipped ports are %q", got)
					}
					if err != nil {
						return err
					}
					// The injector takes them over only when it makes a pod's proxy.
					pods, err := cluster.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
					if err != nil {
						return err
					}
					for _, pod := range pods.Items {
						if got := pod.Annotations["config.linkerd.io/skip-outbound-ports"]; pod.DeletionTimestamp == nil && got != "5080,7000-7080" {
							return fmt.Errorf("skipped ports of pod %s are %q", pod.Name, got)
						}
					}
					return nil
				},
			},
			imported("linkerd/" + namespace),
		},
	})
}

// slipPast makes the pods of a Deployment anew while the injector does not look.
func slipPast(t *testing.T, cluster *testcluster.Cluster, namespace, deployment string) {
	t.Helper()
	namespaces := cluster.Client().CoreV1().Namespaces()
	label := func(value string) {
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"config.linkerd.io/admission-webhooks":%s}}}`, value)
		if _, err := namespaces.Patch(t.Context(), namespace, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	label(`"disabled"`)
	remakeOutside(t, cluster, namespace, deployment)
	label("null")
}

// remakeOutside makes the pods of a Deployment anew and waits until all are there
// without a proxy.
func remakeOutside(t *testing.T, cluster *testcluster.Cluster, namespace, deployment string) {
	t.Helper()
	pods := cluster.Client().CoreV1().Pods(namespace)
	selector := metav1.ListOptions{LabelSelector: "app=" + deployment}
	if err := pods.DeleteCollection(t.Context(), metav1.DeleteOptions{}, selector); err != nil {
		t.Fatal(err)
	}
	await(t, "pods of "+deployment+" without a proxy", func(ctx context.Context) bool {
		found, err := pods.List(ctx, selector)
		return err == nil && len(found.Items) > 0 && !slices.ContainsFunc(found.Items, func(pod corev1.Pod) bool {
			return pod.DeletionTimestamp != nil || placeOf(pod, "linkerd-proxy") != ""
		})
	})
	awaitReady(t, cluster, kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: deployment})
}

func TestAccInjection_linkerdWorkloads(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			namespace := cluster.Namespace(t)
			createWorkload(t, cluster, kind, namespace, "web")
			cluster.CreateDeployment(t, namespace, "other", 1)
			config := func(settings string) string {
				return injectionConfig(cluster, namespace, fmt.Sprintf("workload = { kind = %q, name = \"web\" }\n mesh = { linkerd = { %s } }", kind, settings))
			}
			web := map[string]string{"app": "web"}
			resource.Test(t, resource.TestCase{
				ProtoV6ProviderFactories: testProviders,
				CheckDestroy:             proxies(t, cluster, namespace, web, "linkerd-proxy", false),
				Steps: []resource.TestStep{
					{
						Config: config(""),
						Check: resource.ComposeTestCheckFunc(
							proxies(t, cluster, namespace, web, "linkerd-proxy", true),
							proxies(t, cluster, namespace, map[string]string{"app": "other"}, "linkerd-proxy", false),
						),
					},
					imported("linkerd/" + namespace + "/" + kind + "/web"),
					{
						PreConfig: func() { removeInjectAnnotation(t, cluster, kind, namespace, "web") },
						Config:    config(""),
						ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
							plancheck.ExpectResourceAction(injectionAddress, plancheck.ResourceActionUpdate),
						}},
						Check: proxies(t, cluster, namespace, web, "linkerd-proxy", true),
					},
					{Config: config(`opaque_ports = ["8080"]`), Check: proxies(t, cluster, namespace, web, "linkerd-proxy", true)},
				},
			})
		})
	}
}

// createWorkload creates two pods' worth of a workload whose template may be
// changed first. It does not wait for the pods.
func createWorkload(t *testing.T, cluster *testcluster.Cluster, kind, namespace, name string, change ...func(*corev1.PodTemplateSpec)) {
	t.Helper()
	d := testcluster.NewDeployment(namespace, name, 2)
	for _, change := range change {
		change(&d.Spec.Template)
	}
	var err error
	switch kind {
	case "Deployment":
		_, err = cluster.Client().AppsV1().Deployments(namespace).Create(t.Context(), d, metav1.CreateOptions{})
	case "StatefulSet":
		_, err = cluster.Client().AppsV1().StatefulSets(namespace).Create(t.Context(), &appsv1.StatefulSet{
			ObjectMeta: d.ObjectMeta,
			Spec:       appsv1.StatefulSetSpec{Replicas: d.Spec.Replicas, Selector: d.Spec.Selector, Template: d.Spec.Template, ServiceName: name},
		}, metav1.CreateOptions{})
	case "DaemonSet":
		_, err = cluster.Client().AppsV1().DaemonSets(namespace).Create(t.Context(), &appsv1.DaemonSet{
			ObjectMeta: d.ObjectMeta,
			Spec:       appsv1.DaemonSetSpec{Selector: d.Spec.Selector, Template: d.Spec.Template},
		}, metav1.CreateOptions{})
	default:
		t.Fatalf("unknown kind %s", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func removeInjectAnnotation(t *testing.T, cluster *testcluster.Cluster, kind, namespace, name string) {
	t.Helper()
	patchObject(t, cluster, kind, namespace, name, `{"spec":{"template":{"metadata":{"annotations":{"linkerd.io/inject":null}}}}}`)
}

// patchObject changes a namespace or a workload as somebody else does.
func patchObject(t *testing.T, cluster *testcluster.Cluster, kind, namespace, name, patch string) {
	t.Helper()
	ctx, core, apps, options := t.Context(), cluster.Client().CoreV1(), cluster.Client().AppsV1(), metav1.PatchOptions{FieldManager: "somebody"}
	var err error
	switch kind {
	case "Namespace":
		_, err = core.Namespaces().Patch(ctx, namespace, types.MergePatchType, []byte(patch), options)
	case "Deployment":
		_, err = apps.Deployments(namespace).Patch(ctx, name, types.MergePatchType, []byte(patch), options)
	case "StatefulSet":
		_, err = apps.StatefulSets(namespace).Patch(ctx, name, types.MergePatchType, []byte(patch), options)
	case "DaemonSet":
		_, err = apps.DaemonSets(namespace).Patch(ctx, name, types.MergePatchType, []byte(patch), options)
	default:
		t.Fatalf("unknown kind %s", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAccInjection_istio(t *testing.T) {
	t.Parallel()
	cluster := istioCluster(t)
	update := resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(injectionAddress, plancheck.ResourceActionUpdate)}}

	t.Run("namespace", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		cluster.CreateDeployment(t, namespace, "web", 2)
		config := injectionConfig(cluster, namespace, `mesh = { istio = {} }`)
		meshed := proxies(t, cluster, namespace, nil, "istio-proxy", true)
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			CheckDestroy:             proxies(t, cluster, namespace, nil, "istio-proxy", false),
			Steps: []resource.TestStep{
				{Config: config, Check: meshed},
				imported("istio/" + namespace),
				{
					// Somebody takes the label away, and a pod is made anew.
					PreConfig: func() {
						patch := []byte(`{"metadata":{"labels":{"istio-injection":null}}}`)
						if _, err := cluster.Client().CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
							t.Fatal(err)
						}
						if err := cluster.Client().CoreV1().Pods(namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
							t.Fatal(err)
						}
					},
					Config: config, ConfigPlanChecks: update, Check: meshed,
				},
				{
					// The same control plane by another label: pods are right as they are.
					Config:           injectionConfig(cluster, namespace, `mesh = { istio = { revision = "default" } }`),
					ConfigPlanChecks: update,
					ConfigStateChecks: []statecheck.StateCheck{
						statecheck.ExpectKnownValue(injectionAddress, tfjsonpath.New("restarts"), knownvalue.ListSizeExact(0)),
					},
					Check: func(*terraform.State) error {
						found, err := cluster.Client().CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
						if err == nil && (found.Labels["istio-injection"] != "" || found.Labels["istio.io/rev"] != "default") {
							err = fmt.Errorf("the namespace's labels are %v", found.Labels)
						}
						return err
					},
				},
				imported("istio/" + namespace),
			},
		})
	})

	t.Run("workload", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		cluster.CreateDeployment(t, namespace, "web", 1)
		cluster.CreateDeployment(t, namespace, "other", 1)
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			CheckDestroy:             proxies(t, cluster, namespace, nil, "istio-proxy", false),
			Steps: []resource.TestStep{
				{
					Config: injectionConfig(cluster, namespace, "workload = { kind = \"Deployment\", name = \"web\" }\n mesh = { istio = {} }"),
					Check: resource.ComposeTestCheckFunc(
						proxies(t, cluster, namespace, map[string]string{"app": "web"}, "istio-proxy", true),
						proxies(t, cluster, namespace, map[string]string{"app": "other"}, "istio-proxy", false),
					),
				},
				imported("istio/" + namespace + "/Deployment/web"),
			},
		})
	})
}

func TestAccInjection_whatCannotBeMeshed(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)

	t.Run("skipped", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		cluster.CreateDeployment(t, namespace, "web", 1)
		host := testcluster.NewDeployment(namespace, "host", 1)
		host.Spec.Template.Spec.HostNetwork = true
		if _, err := cluster.Client().AppsV1().Deployments(namespace).Create(t.Context(), host, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		awaitPod(t, cluster, namespace, "host")
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{{
				Config: injectionConfig(cluster, namespace, `mesh = { linkerd = {} }`),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(injectionAddress, tfjsonpath.New("total_pods"), knownvalue.Int64Exact(1)),
					statecheck.ExpectKnownValue(injectionAddress, tfjsonpath.New("skipped"), knownvalue.ListExact([]knownvalue.Check{
						knownvalue.ObjectExact(map[string]knownvalue.Check{
							"pod":    knownvalue.StringRegexp(regexp.MustCompile(`^host-`)),
							"owner":  knownvalue.StringExact("Deployment " + namespace + "/host"),
							"reason": knownvalue.StringRegexp(regexp.MustCompile(`hostNetwork`)),
						}),
					})),
				},
			}},
		})
	})

	t.Run("bare pod", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		template := testcluster.NewDeployment(namespace, "bare", 1).Spec.Template
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bare", Labels: template.Labels}, Spec: template.Spec}
		await(t, "the default service account", func(ctx context.Context) bool {
			_, err := cluster.Client().CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
			return err == nil
		})
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{{
				Config: injectionConfig(cluster, namespace, `mesh = { linkerd = {} }`),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(injectionAddress, tfjsonpath.New("total_pods"), knownvalue.Int64Exact(1)),
					statecheck.ExpectKnownValue(injectionAddress, tfjsonpath.New("skipped"), knownvalue.ListExact([]knownvalue.Check{
						knownvalue.ObjectExact(map[string]knownvalue.Check{
							"pod":    knownvalue.StringExact("bare"),
							"owner":  knownvalue.StringExact("Pod " + namespace + "/bare"),
							"reason": knownvalue.StringRegexp(regexp.MustCompile(`^not injected; it has no owner`)),
						}),
					})),
				},
			}},
		})
	})

	t.Run("what no restart reaches", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		cluster.CreateDeployment(t, namespace, "web", 1)
		cluster.CreateDeployment(t, namespace, "paused", 1)
		patchObject(t, cluster, "Deployment", namespace, "paused", `{"spec":{"paused":true}}`)
		manual := testcluster.NewDeployment(namespace, "manual", 1)
		_, err := cluster.Client().AppsV1().StatefulSets(namespace).Create(t.Context(), &appsv1.StatefulSet{
			ObjectMeta: manual.ObjectMeta,
			Spec: appsv1.StatefulSetSpec{
				Selector: manual.Spec.Selector, Template: manual.Spec.Template,
				UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		// Its pod waits for a node that there never is.
		job := testcluster.NewDeployment(namespace, "job", 1)
		job.Spec.Template.Spec.NodeSelector = map[string]string{"no": "such-node"}
		job.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
		_, err = cluster.Client().BatchV1().Jobs(namespace).Create(t.Context(), &batchv1.Job{
			ObjectMeta: job.ObjectMeta, Spec: batchv1.JobSpec{Template: job.Spec.Template},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		set := testcluster.NewDeployment(namespace, "set", 1)
		_, err = cluster.Client().AppsV1().ReplicaSets(namespace).Create(t.Context(), &appsv1.ReplicaSet{
			ObjectMeta: set.ObjectMeta, Spec: appsv1.ReplicaSetSpec{Selector: set.Spec.Selector, Template: set.Spec.Template},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		staged := testcluster.NewDeployment(namespace, "staged", 1)
		_, err = cluster.Client().AppsV1().StatefulSets(namespace).Create(t.Context(), &appsv1.StatefulSet{
			ObjectMeta: staged.ObjectMeta,
			Spec: appsv1.StatefulSetSpec{
				Selector: staged.Spec.Selector, Template: staged.Spec.Template,
				UpdateStrategy: appsv1.StatefulSetUpdateStrategy{
					Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: new(int32(1))},
				},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"manual", "job", "set", "staged"} {
			awaitPod(t, cluster, namespace, name)
		}
		left := func(owner, reason string) knownvalue.Check {
			return knownvalue.ObjectExact(map[string]knownvalue.Check{
				"pod":    knownvalue.StringRegexp(regexp.MustCompile("^" + owner[strings.Index(owner, "/")+1:] + "-")),
				"owner":  knownvalue.StringExact(owner),
				"reason": knownvalue.StringRegexp(regexp.MustCompile("^not injected; .*" + reason)),
			})
		}
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{{
				Config: injectionConfig(cluster, namespace, `mesh = { linkerd = {} }`),
				Check:  proxies(t, cluster, namespace, map[string]string{"app": "web"}, "linkerd-proxy", true),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(injectionAddress, tfjsonpath.New("total_pods"), knownvalue.Int64Exact(6)),
					statecheck.ExpectKnownValue(injectionAddress, tfjsonpath.New("meshed_pods"), knownvalue.Int64Exact(1)),
					statecheck.ExpectKnownValue(injectionAddress, tfjsonpath.New("skipped"), knownvalue.ListExact([]knownvalue.Check{
						left("Job "+namespace+"/job", "its next pods are given a proxy"),
						left("StatefulSet "+namespace+"/manual", "OnDelete"),
						left("Deployment "+namespace+"/paused", "paused"),
						left("ReplicaSet "+namespace+"/set", "does not replace its pods"),
						left("StatefulSet "+namespace+"/staged", "partition 1"),
					})),
				},
			}},
		})
	})

	t.Run("paused", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		cluster.CreateDeployment(t, namespace, "web", 1)
		pause := func(value string) {
			patch := fmt.Appendf(nil, `{"spec":{"paused":%s}}`, value)
			patchObject(t, cluster, "Deployment", namespace, "web", string(patch))
		}
		pause("true")
		config := injectionConfig(cluster, namespace, "workload = { kind = \"Deployment\", name = \"web\" }\n mesh = { linkerd = {} }")
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{
				{Config: config, ExpectError: regexp.MustCompile(`(?s)1\s+of\s+1\s+pods\s+are\s+without\s+a\s+proxy.*paused`)},
				{PreConfig: func() { pause("false") }, Config: config, Check: proxies(t, cluster, namespace, nil, "linkerd-proxy", true)},
			},
		})
	})

	t.Run("conflict", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t)
		patch := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q,"annotations":{"linkerd.io/inject":"disabled"}}}`, namespace)
		if _, err := cluster.Client().CoreV1().Namespaces().Patch(t.Context(), namespace, types.ApplyPatchType, patch, metav1.PatchOptions{FieldManager: "gitops"}); err != nil {
			t.Fatal(err)
		}
		resource.Test(t, resource.TestCase{
			ProtoV6ProviderFactories: testProviders,
			Steps: []resource.TestStep{
				{
					Config:      injectionConfig(cluster, namespace, `mesh = { linkerd = {} }`),
					ExpectError: regexp.MustCompile(`(?s)Namespace\s+` + namespace + `.*gitops`),
				},
				{Config: injectionConfig(cluster, namespace, "mesh = { linkerd = {} }\n force_conflicts = true")},
			},
		})
	})
}

func TestAccInjection_missing(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				Config:      injectionConfig(cluster, "no-such-namespace", `mesh = { linkerd = {} }`),
				ExpectError: regexp.MustCompile(`(?s)Namespace\s+no-such-namespace.*not\s+found`),
			},
			{
				// No control plane: nothing is marked and nothing restarted.
				Config:      injectionConfig(cluster, namespace, `mesh = { linkerd = {} }`),
				ExpectError: regexp.MustCompile(`(?s)Linkerd\s+cannot\s+take\s+its\s+pods\s+in\s+now.*Deployment\s+linkerd/linkerd-proxy-injector`),
			},
			{
				Config:      injectionConfig(cluster, namespace, `mesh = { istio = {} }`),
				ExpectError: regexp.MustCompile(`(?s)no\s+MutatingWebhookConfiguration\s+leads\s+to\s+an\s+istiod`),
			},
		},
	})
}

func TestInjection_badInput(t *testing.T) {
	t.Parallel()
	namespace := func(mesh string) string { return "namespace = \"x\"\n mesh = " + mesh }
	workload := func(mesh string) string {
		return namespace(mesh) + "\n workload = { kind = \"Deployment\", name = \"x\" }"
	}
	expectInvalid(t, "aksmesh_injection", map[string]invalidInput{
		namespace("{}"): {"mesh", "exactly one of"},
		namespace("{ linkerd = {}, istio = {} }"):                                                                          {"mesh", "exactly one of"},
		"namespace = \"X\"\n mesh = { linkerd = {} }":                                                                      {"namespace", "DNS label"},
		namespace("{ linkerd = { skip_inbound_ports = [0] } }"):                                                            {"mesh.linkerd.skip_inbound_ports", "a port between 1 and 65535"},
		namespace("{ linkerd = { opaque_ports = [\"9-1\"] } }"):                                                            {"mesh.linkerd.opaque_ports", "a port between 1 and 65535"},
		namespace("{ linkerd = { opaque_ports = [3306], skip_inbound_ports = [\"3000-4000\"] } }"):                         {"mesh.linkerd.opaque_ports", "3000-4000 is in skip_inbound_ports too"},
		namespace("{ linkerd = { proxy_cpu_request = \"1\", proxy_cpu_limit = \"500m\" } }"):                               {"mesh.linkerd.proxy_cpu_request", "more than proxy_cpu_limit"},
		namespace("{ linkerd = { proxy_memory_request = \"much\" } }"):                                                     {"mesh.linkerd.proxy_memory_request", "not a quantity"},
		namespace("{ linkerd = { default_inbound_policy = \"some\" } }"):                                                   {"mesh.linkerd.default_inbound_policy", "not one of"},
		namespace("{ linkerd = { proxy_cpu_ratio_limit = \"0.5\" } }"):                                                     {"mesh.linkerd.proxy_cpu_ratio_limit", "from pod templates only"},
		namespace("{ linkerd = { control_plane_namespace = \"a.b\" } }"):                                                   {"mesh.linkerd.control_plane_namespace", "DNS label"},
		namespace("{ istio = { revision = \"1.30\" } }"):                                                                   {"mesh.istio.revision", "DNS label"},
		namespace("{ istio = { log_level = \"debug\" } }"):                                                                 {"mesh.istio.log_level", "Istio reads it from pod templates only"},
		namespace("{ istio = { mode = \"none\" } }"):                                                                       {"mesh.istio.mode", "not one of sidecar, ambient"},
		namespace("{ istio = { mode = \"ambient\", revision = \"canary\" } }"):                                             {"mesh.istio.revision", "about sidecars"},
		workload("{ istio = { mode = \"ambient\", native_sidecar = true } }"):                                              {"mesh.istio.native_sidecar", "about sidecars"},
		workload("{ istio = { proxy_memory_request = \"2Gi\", proxy_memory_limit = \"1Gi\" } }"):                           {"mesh.istio.proxy_memory_request", "more than proxy_memory_limit"},
		namespace("{ linkerd = {} }") + "\n workload = { kind = \"Job\", name = \"x\" }":                                   {"kind", "value must be one of"},
		namespace("{ linkerd = {} }") + "\n restart = { max_parallel = 0 }":                                                {"max_parallel", "at least 1"},
		namespace("{ linkerd = {} }") + "\n restart = { order = [\"Job/x\"] }":                                             {"order", "no kind of workload"},
		namespace("{ linkerd = {} }") + "\n restart = { order = [\"Deployment/a\", \"StatefulSet/b\", \"Deployment/a\"] }": {"Duplicate List Value", "Deployment/a"},
	})
}
