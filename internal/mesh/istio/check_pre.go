package istio

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

const (
	preCategory = "istio-precheck"

	// oldestKubernetes is what the oldest Istio that this provider installs wants,
	// analysisKubernetes what `istioctl analyze` of the newest one does.
	oldestKubernetes   = "1.25"
	analysisKubernetes = "1.32"
)

// PreChecks are what has to hold before a control plane is installed, whose
// namespace need not exist: `istioctl x precheck`, and what goes wrong on AKS.
func PreChecks(cluster *kube.Cluster, s Specification, managed check.Managed) []check.Check {
	h := Health{Cluster: cluster, Namespace: s.Namespace, Now: s.Now, Managed: managed}
	if s.CNI || s.Profile.makeup().cni {
		return h.pre()
	}
	return h.Pre()
}

// Pre are the checks of a cluster before the control plane is installed.
func (h Health) Pre() []check.Check {
	return append(h.pre(), of(preCategory, "precheck-redirection-admitted", "pods may lead their traffic to the proxy", warns, check.Redirected(h.Cluster)))
}

// pre are those of them that matter also where istio-cni leads the traffic of pods.
func (h Health) pre() []check.Check {
	wanted := append(
		check.Creations("", kube.Namespace, kube.CustomResourceDefinition, kube.ClusterRole, kube.ClusterRoleBinding, kube.MutatingWebhookConfiguration, kube.ValidatingWebhookConfiguration),
		check.Creations(h.Namespace, kube.ServiceAccount, kube.Service, kube.Deployment, kube.DaemonSet, kube.ConfigMap, kube.Role, kube.RoleBinding, kube.HorizontalPodAutoscaler)...)
	version := check.Once(h.Cluster.Version)
	denied := check.Once(func(ctx context.Context) ([]kube.Permission, error) { return h.Cluster.Denied(ctx, wanted) })
	mutating := h.list(kube.MutatingWebhookConfiguration)
	return []check.Check{
		of(preCategory, "precheck-api", "can query the Kubernetes API", fatal, check.On(version, func(string) error { return nil })),
		of(preCategory, "precheck-version", "is running the minimum Kubernetes API version", 0, check.On(version, func(version string) error {
			return check.AtLeast(version, oldestKubernetes)
		})),
		analysis(preCategory, "IST0142", "Kubernetes version is supported by the newest Istio", warns, check.On(version, func(version string) error {
			return check.AtLeast(version, analysisKubernetes)
		})),
		analysis(preCategory, "IST0141", "can create all kinds of objects that Istio consists of", 0, check.On(denied, check.Permitted(wanted...))),
		analysis(preCategory, "IST0156", "Gateway API CRDs serve the version that Istio reads", 0, check.On(h.list(kube.CustomResourceDefinition),
			gatewayAPI("v1beta1", "gateways", "gatewayclasses", "httproutes", "referencegrants"))),
		analysis(preCategory, "IST0172", "Gateway API CRDs serve the version that Istio will read", warns, check.On(h.list(kube.CustomResourceDefinition),
			gatewayAPI("v1", "gateways", "gatewayclasses", "httproutes", "grpcroutes"))),
		analysis(preCategory, "IST0139", "no webhook calls a service that does not exist", warns, h.onWebhooks(orphaned)),
		AddonCheck(h.Cluster, h.Managed),
		of(preCategory, "precheck-other-mesh", "no other mesh injects proxies", warns, check.On(mutating, check.OtherMeshes("Istio"))),
		of(preCategory, "precheck-webhooks-admitted", "the cluster admits webhooks that change pods", 0, check.WebhooksAdmitted(h.Cluster, h.Managed)),
		of(preCategory, "precheck-linux-nodes", "all nodes run Linux", warns, check.On(h.Cluster.Nodes, check.Linux)),
		of(preCategory, "precheck-schedulable-node", "a node takes pods of the control plane", warns, check.Schedulable(h.Cluster.Nodes, h.Managed)),
		of(preCategory, "precheck-clock-skew", "no clock skew detected", warns, check.On(h.Cluster.Nodes, func(nodes []*corev1.Node) error {
			return check.ClockSkew(nodes, h.Now)
		})),
	}
}

// gatewayAPI judges whether the CRDs of the Gateway API, where there are any, serve
// a version of some of their kinds. Those of them that are missing are not wanted.
func gatewayAPI(version string, kinds ...string) func(crds []*unstructured.Unstructured) error {
	const group = ".gateway.networking.k8s.io"
	return func(crds []*unstructured.Unstructured) error {
		var lacking []string
		found := false
		for _, crd := range crds {
			kind, of := strings.CutSuffix(crd.GetName(), group)
			found = found || of
			if of && slices.Contains(kinds, kind) && !check.Serves(crd, version) {
				lacking = append(lacking, kube.Ref{Kind: kube.CustomResourceDefinition, Name: crd.GetName()}.String())
			}
		}
		if !found {
			return check.Skipf("there are no CRDs of the Gateway API; waypoints, and gateways that istiod deploys, need them")
		}
		return check.Lacking("version "+version+" is not served by ", lacking, ": upgrade the CRDs of the Gateway API")
	}
}

// orphaned tells which of Istio's webhooks call a service that is not there: what
// they are about is refused, or passed over, without anybody being asked.
func orphaned(configurations []*unstructured.Unstructured, services []*corev1.Service) error {
	var lost []string
	for _, c := range configurations {
		if !istioWebhooks(c) {
			continue
		}
		for _, called := range check.Services(c) {
			if !slices.ContainsFunc(services, func(s *corev1.Service) bool { return s.Namespace == called.Namespace && s.Name == called.Name }) {
				lost = append(lost, fmt.Sprintf("%s %s calls %s", c.GetKind(), c.GetName(), called))
			}
		}
	}
	return check.Lacking("", lost, ", which is not there: with failurePolicy Fail no pod that it is about can be created; delete the configuration, or install the istiod that it is for")
}

// istioWebhooks reports whether a webhook configuration is Istio's.
func istioWebhooks(configuration *unstructured.Unstructured) bool {
	labels := configuration.GetLabels()
	return labels[revisionLabel] != "" && (labels["app"] == "sidecar-injector" || labels["app"] == "istiod")
}
