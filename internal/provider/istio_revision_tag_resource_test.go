package provider

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

const (
	tagAddress      = "aksmesh_istio_revision_tag.prod"
	tagWebhooks     = "istio-revision-tag-prod"
	tagWebhooksPath = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/" + tagWebhooks
)

// canary is a configuration with control planes, a tag and an enrolment by it.
type canary struct {
	cluster   *testcluster.Cluster
	namespace string // whose pods ask for the tag
}

// plane is a control plane, which is waited for that long to be used no more. By
// its lifecycle, what has used it is brought elsewhere before it goes.
func (c canary) plane(name, version, revision, patience string) string {
	return fmt.Sprintf(`
	resource "aksmesh_istio" %q {
	  version    = %q
	  revision   = %q
	  repository = %q
	  profile    = "minimal"
	  timeouts   = { delete = %q }
	  lifecycle { create_before_destroy = true }
	}`, name, version, revision, c.cluster.Charts().Repository, patience)
}

func (c canary) old(patience string) string { return c.plane("old", istioOld, "1-30", patience) }

func (c canary) next() string { return c.plane("next", istioNew, "1-31", "1m") }

func (c canary) tag(plane string) string {
	return fmt.Sprintf(`
	resource "aksmesh_istio_revision_tag" "prod" {
	  tag      = "prod"
	  revision = aksmesh_istio.%s.revision
	}
	resource "aksmesh_injection" "web" {
	  namespace = %q
	  mesh      = { istio = { revision = aksmesh_istio_revision_tag.prod.tag } }
	  follows   = [aksmesh_istio_revision_tag.prod.revision]
	}`, plane, c.namespace)
}

func (c canary) config(parts ...string) string {
	return providerConfig(c.cluster.Kubeconfig(), parts...)
}

// runs checks that all pods of the namespace have a proxy of a version, and that
// the tag is as it should be for that.
func (c canary) runs(t *testing.T, version, revision string) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		pods, err := c.cluster.Client().CoreV1().Pods(c.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		living := slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool { return pod.DeletionTimestamp != nil })
		if len(living) == 0 {
			return fmt.Errorf("namespace %s has no pods", c.namespace)
		}
		for _, pod := range living {
			if !slices.ContainsFunc(slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers), func(container corev1.Container) bool {
				return container.Name == "istio-proxy" && strings.Contains(container.Image, ":"+version)
			}) {
				return fmt.Errorf("pod %s has no proxy of %s", pod.Name, version)
			}
		}
		webhooks, err := c.cluster.Client().AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), tagWebhooks, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if webhooks.Labels["istio.io/rev"] != revision {
			return fmt.Errorf("the tag leads to %s, want %s", webhooks.Labels["istio.io/rev"], revision)
		}
		if fault := tagFault(webhooks); fault != "" {
			return errors.New(fault)
		}
		_, err = c.cluster.Client().CoreV1().Services(istioSystem).Get(t.Context(), "istiod-revision-tag-prod", metav1.GetOptions{})
		return err
	}
}

// tagFault says by what a pod would come to be without a proxy, or be refused,
// while the webhooks of a tag are like this.
func tagFault(webhooks *admissionregistrationv1.MutatingWebhookConfiguration) string {
	revision := webhooks.Labels["istio.io/rev"]
	if len(webhooks.Webhooks) != 2 {
		return fmt.Sprintf("at revision %s the tag has %d webhooks", revision, len(webhooks.Webhooks))
	}
	for _, w := range webhooks.Webhooks {
		if w.ClientConfig.Service == nil || w.ClientConfig.Service.Name != "istiod-"+revision {
			return fmt.Sprintf("webhook %s of revision %s calls %v", w.Name, revision, w.ClientConfig.Service)
		}
		if len(w.ClientConfig.CABundle) == 0 {
			return fmt.Sprintf("webhook %s of revision %s has no CA bundle", w.Name, revision)
		}
	}
	return ""
}

// watchTag notes every state that the tag's webhooks take from now on, until the
// returned function is called, which returns what was wrong with them.
func (c canary) watchTag(t *testing.T) (faults func() []string) {
	t.Helper()
	configurations := c.cluster.Client().AdmissionregistrationV1().MutatingWebhookConfigurations()
	now, err := configurations.Get(t.Context(), tagWebhooks, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// It goes on from the last version whenever the connection ends.
	seen, err := watchtools.NewRetryWatcherWithContext(t.Context(), now.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = "metadata.name=" + tagWebhooks
			return configurations.Watch(ctx, options)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	noted, moved := make(chan []string, 1), make(chan struct{})
	go func() {
		var all []string
		sighted := sync.OnceFunc(func() { close(moved) })
		for event := range seen.ResultChan() {
			webhooks, ok := event.Object.(*admissionregistrationv1.MutatingWebhookConfiguration)
			if !ok || event.Type == watch.Deleted {
				all = append(all, fmt.Sprintf("the tag's webhooks went: %s", event.Type))
				continue
			}
			if fault := tagFault(webhooks); fault != "" {
				all = append(all, fault)
			}
			if webhooks.Labels["istio.io/rev"] != now.Labels["istio.io/rev"] {
				sighted()
			}
		}
		noted <- all
	}()
	return func() []string {
		await(t, "the move of the tag", func(ctx context.Context) bool {
			select {
			case <-moved:
				return true
			case <-ctx.Done():
			default:
			}
			return false
		})
		seen.Stop()
		return <-noted
	}
}

// TestAccIstioRevisionTag upgrades by a canary: a new revision beside the old one,
// the tag moved, its namespace restarted by the same apply, the old one removed
// once no proxy uses it.
func TestAccIstioRevisionTag(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	client := cluster.Client()
	c := canary{cluster: cluster, namespace: cluster.Namespace(t)}
	cluster.CreateDeployment(t, c.namespace, "web", 1)
	pinned := cluster.Namespace(t)
	label := func(namespace, value string) {
		patch(t, cluster, "/api/v1/namespaces/"+namespace, fmt.Sprintf(`{"metadata":{"labels":{"istio.io/rev":%s}}}`, value))
	}
	var faults func() []string
	updated := resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(tagAddress, plancheck.ResourceActionUpdate)}}
	const impatient = "3s"
	both := c.config(c.old("1m"), c.next(), c.tag("next"))
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy: func(*terraform.State) error {
			_, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(context.WithoutCancel(t.Context()), tagWebhooks, metav1.GetOptions{})
			if !apierrors.IsNotFound(err) {
				return fmt.Errorf("the tag's webhooks are left: %w", err)
			}
			return nil
		},
		Steps: []resource.TestStep{
			{
				Config: c.config(c.old(impatient), c.tag("old")),
				Check:  c.runs(t, istioOld, "1-30"),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(tagAddress, tfjsonpath.New("id"), knownvalue.StringExact("istio-system/prod")),
					statecheck.ExpectKnownValue(tagAddress, tfjsonpath.New("changes"), texts(
						"+ MutatingWebhookConfiguration istio-revision-tag-prod (leads to revision 1-30)")),
				},
			},
			{
				ResourceName: tagAddress, ImportState: true, ImportStateId: "istio-system/prod",
				ImportStateVerify: true, ImportStateVerifyIgnore: []string{"changes"},
			},
			{
				// Another that still asks for the old revision itself.
				PreConfig: func() {
					label(pinned, `"1-30"`)
					cluster.CreateDeployment(t, pinned, "web", 1)
					awaitPod(t, cluster, pinned, "web")
					faults = c.watchTag(t)
				},
				Config: c.config(c.old(impatient), c.next(), c.tag("next")),
				Check: resource.ComposeTestCheckFunc(c.runs(t, istioNew, "1-31"), func(*terraform.State) error {
					if wrong := faults(); len(wrong) > 0 {
						return errors.New(strings.Join(wrong, "\n"))
					}
					return nil
				}),
			},
			{
				Config:      c.config(c.next(), c.tag("next")),
				ExpectError: regexp.MustCompile(`(?s)revision\s+1-30\s+of\s+Istio.*Pod\s+` + pinned + `/web-`),
			},
			{
				// As `istioctl tag set prod --revision 1-30 --overwrite` does.
				PreConfig: func() {
					live, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), tagWebhooks, metav1.GetOptions{})
					if err != nil {
						t.Fatal(err)
					}
					live.Labels["istio.io/rev"] = "1-30"
					for i := range live.Webhooks {
						live.Webhooks[i].ClientConfig.Service.Name = "istiod-1-30"
					}
					if live, err = client.AdmissionregistrationV1().MutatingWebhookConfigurations().Update(t.Context(), live, metav1.UpdateOptions{FieldManager: "istioctl"}); err != nil {
						t.Fatal(err)
					}
					// What AKS's admissions enforcer adds is to stay.
					for i := range live.Webhooks {
						selector := live.Webhooks[i].NamespaceSelector
						selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{Key: "control-plane", Operator: metav1.LabelSelectorOpDoesNotExist})
					}
					if _, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Update(t.Context(), live, metav1.UpdateOptions{FieldManager: "admissionsenforcer"}); err != nil {
						t.Fatal(err)
					}
				},
				Config:           both,
				ConfigPlanChecks: updated,
				Check: resource.ComposeTestCheckFunc(c.runs(t, istioNew, "1-31"), func(*terraform.State) error {
					live, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), tagWebhooks, metav1.GetOptions{})
					if err != nil {
						return err
					}
					if expressions := live.Webhooks[0].NamespaceSelector.MatchExpressions; len(expressions) != 3 {
						return fmt.Errorf("the namespaces of the tag are selected by %v, want what the enforcer has added too", expressions)
					}
					return nil
				}),
			},
			{
				// What is gone comes back with a move, which is planned by what is on record.
				PreConfig: func() {
					if err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(t.Context(), tagWebhooks, metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
				},
				Config: c.config(c.old("1m"), c.next(), c.tag("old")),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(tagAddress, plancheck.ResourceActionUpdate),
					plancheck.ExpectKnownValue(tagAddress, tfjsonpath.New("changes"), knownvalue.ListExact([]knownvalue.Check{
						knownvalue.StringExact(`~ MutatingWebhookConfiguration istio-revision-tag-prod: revision: "1-31" -> "1-30"`),
					})),
				}},
				Check: c.runs(t, istioOld, "1-30"),
			},
			{
				// Moved, and the old one gone, by one apply.
				PreConfig: func() {
					label(pinned, "null")
					if err := client.AppsV1().Deployments(pinned).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
						t.Fatal(err)
					}
				},
				Config: c.config(c.next(), c.tag("next")),
				Check: resource.ComposeTestCheckFunc(c.runs(t, istioNew, "1-31"), func(*terraform.State) error {
					_, err := client.AppsV1().Deployments(istioSystem).Get(t.Context(), "istiod-1-30", metav1.GetOptions{})
					if !apierrors.IsNotFound(err) {
						return fmt.Errorf("the old istiod is left: %w", err)
					}
					return nil
				}),
			},
			{
				PreConfig:   func() { label(pinned, `"prod"`) },
				Config:      c.config(c.next()),
				ExpectError: regexp.MustCompile(`(?s)Tag\s+istio-system/prod\s+is\s+still\s+asked\s+for\s+by\s+Namespace\s+` + pinned),
			},
			{
				PreConfig: func() { label(pinned, "null") },
				Config:    c.config(c.next()),
			},
		},
	})
}

// TestAccIstioRevisionTag_refused wants what cannot be a tag told in the plan, by
// the control plane of the shared cluster, which has no revision.
func TestAccIstioRevisionTag_refused(t *testing.T) {
	t.Parallel()
	cluster := istioCluster(t)
	config := func(tag, revision string) string {
		return providerConfig(cluster.Kubeconfig(), fmt.Sprintf("resource \"aksmesh_istio_revision_tag\" \"prod\" {\n  tag = %q\n  revision = %q\n}", tag, revision))
	}
	foreign := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{
		Name: "istio-revision-tag-stable", Labels: map[string]string{"app": "sidecar-injector", "istio.io/rev": "default", "istio.io/tag": "stable"},
	}}
	webhooks := cluster.Client().AdmissionregistrationV1().MutatingWebhookConfigurations()
	if _, err := webhooks.Create(t.Context(), foreign, metav1.CreateOptions{FieldManager: "istioctl"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := webhooks.Delete(context.WithoutCancel(t.Context()), foreign.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: config("default", "default"), PlanOnly: true, ExpectError: regexp.MustCompile(`(?s)injector\s+of\s+a\s+control\s+plane\s+without\s+a\s+revision`)},
			{Config: config("stable", "default"), PlanOnly: true, ExpectError: regexp.MustCompile(`(?s)tag: .*terraform\s+import\s+<address>\s+istio-system/stable`)},
			{Config: config("canary", "1-99"), ExpectError: regexp.MustCompile(`(?s)revision: .*1-99\s+of\s+Istio\s+is\s+not\s+installed.*istiod-1-99`)},
		},
	})
}

func TestIstioRevisionTag_invalid(t *testing.T) {
	t.Parallel()
	expectInvalid(t, "aksmesh_istio_revision_tag", map[string]invalidInput{
		"tag = \"Prod\"\nrevision = \"1-30\"":                                 {"tag", "lower-case letters"},
		fmt.Sprintf("tag = %q\nrevision = \"1-30\"", strings.Repeat("a", 44)): {"tag", "at most 43"},
	})
}
