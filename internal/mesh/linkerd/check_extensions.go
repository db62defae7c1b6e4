package linkerd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

// namespaceOf reads the namespace of an extension.
func (h Health) namespaceOf(name string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		namespace, err := h.extension(ctx, name)
		if err == nil && namespace == "" {
			err = fmt.Errorf("no namespace has the label %s=%s: install the extension (aksmesh_linkerd_extension)", extensionLabel, name)
		}
		return namespace, err
	}
}

// podsOf is a Run that judges the pods of an extension.
func (h Health) podsOf(name string, judge func([]*corev1.Pod) error) func(context.Context) error {
	return func(ctx context.Context) error {
		namespace, err := h.namespaceOf(name)(ctx)
		if err != nil {
			return err
		}
		return check.On(h.pods, func(pods []*corev1.Pod) error {
			return judge(slices.DeleteFunc(slices.Clone(pods), func(pod *corev1.Pod) bool { return pod.Namespace != namespace }))
		})(ctx)
	}
}

// injected tells whether all pods of an extension have a proxy.
func injected(pods []*corev1.Pod) error {
	var without []string
	for _, pod := range pods {
		if proxy, _ := mesh.FindSidecar(pod, ProxyContainer); proxy == nil {
			without = append(without, podRef(pod).String())
		}
	}
	return check.Lacking("there is no proxy in ", without, "; they were made while the injector was not available: delete them")
}

func running(pods []*corev1.Pod) error {
	var waiting []string
	for _, pod := range pods {
		if !ready(pod) {
			waiting = append(waiting, podRef(pod).String())
		}
	}
	if len(pods) == 0 {
		return errors.New("it has no pods: apply the resource that installs it again")
	}
	return check.Lacking("not ready: ", waiting, "; kubectl describe pod tells why")
}

// proxiesOf are the checks of the proxies of an extension.
func (h Health) proxiesOf(category, name, prefix string) []check.Check {
	return []check.Check{
		of(category, prefix+"-healthy", name+" extension proxies are healthy", warns, h.podsOf(name, func(pods []*corev1.Pod) error {
			return proxiesReady(withProxies(pods))
		})).Awaiting(kube.Pod),
		of(category, prefix+"-cp-version", name+" extension proxies are up-to-date", warns, func(ctx context.Context) error {
			p, err := h.plane(ctx)
			if err != nil {
				return err
			}
			return h.podsOf(name, func(pods []*corev1.Pod) error { return proxiesCurrent(p, nil, withProxies(pods)) })(ctx)
		}),
		of(category, prefix+"-cli-version", name+" extension proxies and cli versions match", warns, check.Skipping(noCommandLine)),
	}
}

func withProxies(pods []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(pod *corev1.Pod) bool {
		proxy, _ := mesh.FindSidecar(pod, ProxyContainer)
		return proxy == nil
	})
}

// Viz are the checks of the viz extension: `linkerd viz check`.
func (h Health) Viz() []check.Check {
	const category, dataPlane, name = "linkerd-viz", "linkerd-viz-data-plane", "viz"
	const asksPrometheus = "it would ask Prometheus: " + noForwarding
	present := func(kind kube.Kind, names ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			namespace, err := h.namespaceOf(name)(ctx)
			if err != nil {
				return err
			}
			wanted := []string{"linkerd-tap-injector"} // The one that is named without the namespace.
			for _, n := range names {
				wanted = append(wanted, "linkerd-"+namespace+"-"+n)
			}
			return h.existing(kind, wanted...)(ctx)
		}
	}
	server := func(ctx context.Context) (server, error) {
		namespace, err := h.namespaceOf(name)(ctx)
		return vizServers(namespace)[0], err
	}
	checks := []check.Check{
		of(category, "l5d-viz-ns-exists", "linkerd-viz Namespace exists", fatal, check.On(h.namespaceOf(name), func(string) error { return nil })),
		of(category, "l5d-viz-existence-client", "can initialize the client", fatal, check.Skipping(noForwarding)),
		of(category, "l5d-viz-cr-exists", "linkerd-viz ClusterRoles exist", fatal, present(kube.ClusterRole, "tap", "metrics-api", "tap-admin")),
		of(category, "l5d-viz-crb-exists", "linkerd-viz ClusterRoleBindings exist", fatal, present(kube.ClusterRoleBinding, "tap", "metrics-api", "tap-auth-delegator")),
	}
	checks = append(checks, h.serving(category, "l5d-tap", "tap API server has valid cert", "tap API server cert", server)...)
	checks = append(checks,
		of(category, "l5d-tap-api", "tap API service is running", warns, check.On(h.list(kube.APIService), tapAvailable)).Awaiting(kube.APIService),
		of(category, "l5d-viz-pods-injection", "linkerd-viz pods are injected", warns, h.podsOf(name, injected)),
		of(category, "l5d-viz-pods-running", "viz extension pods are running", warns, h.podsOf(name, running)).Awaiting(kube.Pod))
	checks = append(checks, h.proxiesOf(category, name, "l5d-viz-proxy")...)
	return append(checks,
		of(category, "l5d-viz-prometheus", "prometheus is installed and configured correctly", warns, h.podsOf(name, prometheus)).Awaiting(kube.Pod),
		of(category, "l5d-viz-metrics-api", "viz extension self-check", fatal, check.Skipping(noForwarding)),
		of(dataPlane, "l5d-viz-data-plane-ns", "data plane namespace exists", 0, check.Skipping("all namespaces are looked at")),
		of(dataPlane, "l5d-viz-data-plane-prom-authz", "prometheus is authorized to scrape data plane pods", warns, check.Skipping(asksPrometheus)),
		of(dataPlane, "l5d-data-plane-prom", "data plane proxy metrics are present in Prometheus", warns, check.Skipping(asksPrometheus)))
}

// tapAvailable tells whether the API server reaches the API for taps.
func tapAvailable(services []*unstructured.Unstructured) error {
	ref := vizServers("")[0].registration
	for _, s := range services {
		if s.GetName() != ref.Name {
			continue
		}
		conditions, _, _ := unstructured.NestedSlice(s.Object, "status", "conditions")
		for _, c := range conditions {
			if fields, _ := c.(map[string]any); fields["type"] == "Available" {
				if fields["status"] == "True" {
					return nil
				}
				return fmt.Errorf("%s is not available (%v: %v), and no namespace of the cluster can be deleted to the end while it is not; look at the pods of tap, or delete the APIService",
					ref, fields["reason"], fields["message"])
			}
		}
		return fmt.Errorf("%s: the API server has not looked whether it is available yet", ref)
	}
	return fmt.Errorf("%s is missing, so nothing can be tapped: apply the resource that installs viz again", ref)
}

func prometheus(pods []*corev1.Pod) error {
	var of []*corev1.Pod
	for _, pod := range pods {
		if pod.Labels["component"] == "prometheus" {
			of = append(of, pod)
		}
	}
	if len(of) == 0 {
		return check.Skipf("the extension has no Prometheus of its own")
	}
	return running(of)
}
