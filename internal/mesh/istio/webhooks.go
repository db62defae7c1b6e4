package istio

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

// An injector is one of Istio's webhook configurations: that of a revision, or of
// a tag that leads to one.
type injector struct {
	name          string
	revision, tag string
	// namespace of the istiod that is called; empty if it is outside of the cluster.
	namespace string
	trusted   bool // istiod has published its CA bundle
	choices   []choice
}

// A choice is of pods by their labels and by those of their namespace.
type choice struct{ namespaces, pods labels.Selector }

// injectorsIn returns all injectors in order of name, without that of App Routing,
// which is for gateways and no mesh.
func injectorsIn(ctx context.Context, cluster *kube.Cluster) ([]injector, error) {
	all, err := cluster.List(ctx, kube.MutatingWebhookConfiguration, "")
	if err != nil {
		return nil, err
	}
	var found []injector
	for _, configuration := range all {
		if configuration.GetLabels()["app"] != "sidecar-injector" || configuration.GetLabels()[revisionLabel] == "" {
			continue
		}
		i, err := injectorOf(configuration)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", configuration.GetKind(), configuration.GetName(), err)
		}
		if !check.AppRouting(i.namespace, i.revision) {
			found = append(found, i)
		}
	}
	slices.SortFunc(found, func(a, b injector) int { return cmp.Compare(a.name, b.name) })
	return found, nil
}

func injectorOf(configuration *unstructured.Unstructured) (injector, error) {
	var typed admissionregistrationv1.MutatingWebhookConfiguration
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(configuration.Object, &typed); err != nil {
		return injector{}, err
	}
	i := injector{name: typed.Name, revision: typed.Labels[revisionLabel], tag: typed.Labels[tagLabel], trusted: trusted(configuration)}
	for _, webhook := range typed.Webhooks {
		if service := webhook.ClientConfig.Service; service != nil {
			i.namespace = service.Namespace
		}
		c, err := choiceOf(webhook.NamespaceSelector, webhook.ObjectSelector)
		if err != nil {
			return injector{}, fmt.Errorf("webhook %s: %w", webhook.Name, err)
		}
		i.choices = append(i.choices, c)
	}
	return i, nil
}

func choiceOf(namespaces, pods *metav1.LabelSelector) (c choice, err error) {
	everything := &metav1.LabelSelector{} // which nothing given stands for.
	if c.namespaces, err = metav1.LabelSelectorAsSelector(cmp.Or(namespaces, everything)); err != nil {
		return choice{}, err
	}
	c.pods, err = metav1.LabelSelectorAsSelector(cmp.Or(pods, everything))
	return c, err
}

// String names the injector in messages.
func (i injector) String() string {
	return kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: i.name}.String()
}

// takes reports whether the injector is asked about a pod.
func (i injector) takes(namespace *corev1.Namespace, pod map[string]string) bool {
	return slices.ContainsFunc(i.choices, func(c choice) bool { return c.takes(namespace, pod) })
}

func (c choice) takes(namespace *corev1.Namespace, pod map[string]string) bool {
	return c.namespaces.Matches(labels.Set(namespace.Labels)) && c.pods.Matches(labels.Set(pod))
}

// nearest says by what the choices miss a pod that miss it by the least.
func nearest(choices []choice, namespace *corev1.Namespace, pod map[string]string) string {
	var least [][]string
	for _, c := range choices {
		missed := append(misses(c.namespaces, "its namespace", namespace.Labels), misses(c.pods, "it", pod)...)
		if len(least) > 0 && len(missed) < len(least[0]) {
			least = nil
		}
		if len(least) == 0 || len(missed) == len(least[0]) {
			least = append(least, missed)
		}
	}
	ways := make([]string, len(least))
	for i, missed := range least {
		ways[i] = strings.Join(missed, " and ")
	}
	return strings.Join(ways, ", or ")
}

// enforced are the keys that AKS's admissions enforcer adds to the selectors of
// every webhook that does not opt out.
var enforced = []string{"control-plane", "kubernetes.azure.com/managedby"}

// misses says which requirements of a selector the labels of somebody miss.
func misses(selector labels.Selector, who string, of map[string]string) []string {
	requirements, selectable := selector.Requirements()
	if !selectable {
		return []string{"its selector matches nothing"}
	}
	var missed []string
	for _, r := range requirements {
		if r.Matches(labels.Set(of)) {
			continue
		}
		wanted := ""
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
			wanted = strings.Join(slices.Sorted(slices.Values(r.ValuesUnsorted())), " or ")
		}
		line := fmt.Sprintf("%s has the label %s=%s", who, r.Key(), of[r.Key()])
		switch has := labels.Set(of).Has(r.Key()); {
		case !has && wanted == "":
			line = fmt.Sprintf("%s lacks the label %s", who, r.Key())
		case !has:
			line = fmt.Sprintf("%s lacks the label %s=%s", who, r.Key(), wanted)
		case wanted != "":
			line += " instead of " + wanted
		}
		if slices.Contains(enforced, r.Key()) {
			line += ", which AKS's admissions enforcer keeps all webhooks away from: take the label away, or annotate the webhook configuration with admissions.enforcer/disabled=true"
		}
		missed = append(missed, line)
	}
	return missed
}

// trusted reports whether every webhook of a configuration carries the CA
// bundle that istiod patches in once it runs.
func trusted(configuration *unstructured.Unstructured) bool {
	webhooks, _, _ := unstructured.NestedSlice(configuration.Object, "webhooks")
	for _, w := range webhooks {
		webhook, ok := w.(map[string]any)
		if !ok {
			return false
		}
		if bundle, _, _ := unstructured.NestedString(webhook, "clientConfig", "caBundle"); bundle == "" {
			return false
		}
	}
	return len(webhooks) > 0
}
