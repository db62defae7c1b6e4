package linkerd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

// components are what the pods of a control plane are of.
func components() []string { return []string{"destination", identityComponent, "proxy-injector"} }

// ControlPlane are the checks of a control plane, in the order of `linkerd check`.
func (h Health) ControlPlane() []check.Check {
	const config, existence, proxies, version = "linkerd-config", "linkerd-existence", "linkerd-control-plane-proxy", "control-plane-version"
	clusterRoles := []string{"linkerd-" + h.Namespace + "-identity", "linkerd-" + h.Namespace + "-proxy-injector"}
	planePods := func(judge func([]*corev1.Pod) error) func(context.Context) error {
		return check.On(h.pods, func(pods []*corev1.Pod) error { return judge(h.components(pods)) })
	}
	checks := append(h.kubernetes(),
		// Not fatal: a control plane without them serves all but routes.
		of("gateway-api-crd", "gateway-api-crd", "Gateway API CRDs are installed", 0, check.On(h.list(kube.CustomResourceDefinition), gatewayAPI)),
		of("linkerd-version", "l5d-version-latest", "can determine the latest version", warns, check.Skipping(noInternet)),
		of("linkerd-version", "l5d-version-cli", "cli is up-to-date", warns, check.Skipping(noCommandLine)),
		of(config, "l5d-existence-ns", "control plane Namespace exists", fatal, h.existing(kube.Namespace, h.Namespace)),
		of(existence, "l5d-existence-linkerd-config", "'linkerd-config' config map exists", fatal, check.On(h.plane, func(plane) error { return nil })),
		of(config, "l5d-existence-cr", "control plane ClusterRoles exist", fatal, h.existing(kube.ClusterRole, clusterRoles...)),
		of(config, "l5d-existence-crb", "control plane ClusterRoleBindings exist", fatal, h.existing(kube.ClusterRoleBinding, clusterRoles...)),
		of(config, "l5d-existence-sa", "control plane ServiceAccounts exist", fatal, h.accounts("linkerd-destination", "linkerd-identity", proxyInjector)),
		of(config, "l5d-existence-crd", "control plane CustomResourceDefinitions exist", fatal, with(h, h.list(kube.CustomResourceDefinition), crdsOf)),
		of(config, "l5d-existence-mwc", "control plane MutatingWebhookConfigurations exist", fatal, h.existing(kube.MutatingWebhookConfiguration, webhookRef().Name)),
		of(config, "l5d-existence-vwc", "control plane ValidatingWebhookConfigurations exist", fatal,
			h.existing(kube.ValidatingWebhookConfiguration, spValidator+"-webhook-config", policyValidator+"-webhook-config")),
		of(config, "l5d-proxy-init-run-as-root", "proxy-init container runs as root user if docker container runtime is used", 0, with(h, h.Cluster.Nodes, rootForDocker)),
		of(existence, "l5d-existence-sa", "heartbeat ServiceAccount exist", fatal, with(h, h.list(kube.ServiceAccount), h.heartbeat)),
		of(existence, "l5d-existence-replicasets", "control plane replica sets are ready", fatal, check.On(h.deployments, rolledOut)).Awaiting(kube.Deployment),
		of(existence, "l5d-existence-unschedulable-pods", "no unschedulable pods", warns, planePods(scheduled)).Awaiting(kube.Pod),
		of(existence, "l5d-api-control-ready", "control plane pods are ready", fatal, planePods(h.served)).Awaiting(kube.Pod),
		of(existence, "l5d-cluster-networks-cidr", "cluster networks contains all node podCIDRs", 0, with(h, h.Cluster.Nodes, func(p plane, nodes []*corev1.Node) error {
			return within(p.networks(), podCIDRs(nodes))
		})),
		of(existence, "l5d-cluster-networks-pods", "cluster networks contains all pods", 0, with(h, h.pods, func(p plane, pods []*corev1.Pod) error {
			return within(p.networks(), podIPs(pods))
		})),
		of(existence, "l5d-cluster-networks-pods", "cluster networks contains all services", 0, with(h, h.services, func(p plane, services []*corev1.Service) error {
			return within(p.networks(), clusterIPs(services))
		})),
	)
	checks = append(checks, h.identity()...)
	checks = append(checks, h.webhooks()...)
	checks = append(checks,
		of(proxies, "l5d-cp-proxy-healthy", "control plane proxies are healthy", fatal, check.On(h.pods, func(pods []*corev1.Pod) error {
			return proxiesReady(h.meshed(pods, h.Namespace))
		})).Awaiting(kube.Pod),
		of(proxies, "l5d-cp-proxy-version", "control plane proxies are up-to-date", warns, with(h, h.pods, func(p plane, pods []*corev1.Pod) error {
			return proxiesCurrent(p, nil, h.meshed(pods, h.Namespace))
		})),
		of(proxies, "l5d-cp-proxy-cli-version", "control plane proxies and cli versions match", warns, check.Skipping(noCommandLine)),
		of(version, "l5d-version-control", "can retrieve the control plane version", 0, check.On(h.plane, versionKnown)).Awaiting(kube.ConfigMap),
		of(version, "l5d-version-control", "control plane is up-to-date", warns, check.Skipping(noInternet)),
		of(version, "l5d-version-control", "control plane and cli versions match", warns, check.Skipping(noCommandLine)),
		of("linkerd-extension-checks", "l5d-extension-namespaces", "namespace configuration for extensions", warns, check.On(h.Cluster.Namespaces, extensionsOnce)),
	)
	return append(append(checks, h.cni()...),
		of("linkerd-ha-checks", "l5d-control-plane-replicas", "multiple replicas of control plane pods", warns, with(h, h.deployments, replicated)).Awaiting(kube.Deployment))
}

// components are the pods of the control plane itself.
func (h Health) components(pods []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(pod *corev1.Pod) bool {
		return pod.Namespace != h.Namespace || !slices.Contains(components(), pod.Labels[componentLabel])
	})
}

// accounts is a Run that wants ServiceAccounts in the namespace. They are read of
// all namespaces, as the checks of extensions and plugins want theirs too.
func (h Health) accounts(names ...string) func(context.Context) error {
	return check.On(h.list(kube.ServiceAccount), func(all []*unstructured.Unstructured) error {
		return check.Present(kube.ServiceAccount, h.Namespace, names, in(h.Namespace, all))
	})
}

// in are the objects of a namespace.
func in(namespace string, all []*unstructured.Unstructured) []*unstructured.Unstructured {
	return slices.DeleteFunc(slices.Clone(all), func(o *unstructured.Unstructured) bool { return o.GetNamespace() != namespace })
}

// deployments are those of the control plane, by the shared reads.
func (h Health) deployments(ctx context.Context) ([]*kube.Workload, error) {
	var found []*kube.Workload
	for _, component := range components() {
		ref := kube.Ref{Kind: kube.Deployment, Namespace: h.Namespace, Name: "linkerd-" + component}
		w, err := h.Cluster.Workload(ctx, ref)
		if errors.Is(err, kube.ErrNotFound) {
			return nil, fmt.Errorf("%s is missing: apply the resource that installs it again", ref)
		}
		if err != nil {
			return nil, err
		}
		found = append(found, w)
	}
	return found, nil
}

// crdsOf tells whether the CRDs of a version are there.
func crdsOf(p plane, crds []*unstructured.Unstructured) error {
	wanted := map[string]Since{
		"serviceprofiles.linkerd.io": {}, "servers.policy.linkerd.io": {}, "serverauthorizations.policy.linkerd.io": {},
		"authorizationpolicies.policy.linkerd.io": {}, "meshtlsauthentications.policy.linkerd.io": {}, "networkauthentications.policy.linkerd.io": {},
		"httproutes.policy.linkerd.io": {}, "externalworkloads.workload.linkerd.io": firstIn(15),
		"egressnetworks.policy.linkerd.io": firstIn(17), "httplocalratelimitpolicies.policy.linkerd.io": firstIn(17),
	}
	var names []string
	for name, since := range wanted {
		if p.version.Has(since) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return check.Present(kube.CustomResourceDefinition, "", names, crds)
}

func rootForDocker(p plane, nodes []*corev1.Node) error {
	if value[bool](p, "proxyInit", "runAsRoot") || value[bool](p, "cniEnabled") {
		return nil
	}
	var docker []string
	for _, node := range nodes {
		if strings.HasPrefix(node.Status.NodeInfo.ContainerRuntimeVersion, "docker://") {
			docker = append(docker, "Node "+node.Name)
		}
	}
	return check.Lacking("the container runtime docker gives init containers capabilities only as root, and is used by ", docker, "; set the value proxyInit.runAsRoot: true")
}

func (h Health) heartbeat(p plane, accounts []*unstructured.Unstructured) error {
	if value[bool](p, "disableHeartBeat") {
		return check.Skipf("the heartbeat is off")
	}
	return check.Present(kube.ServiceAccount, h.Namespace, []string{"linkerd-heartbeat"}, in(h.Namespace, accounts))
}

func rolledOut(deployments []*kube.Workload) error {
	var unfinished []string
	for _, w := range deployments {
		if why := w.Unfinished(); why != "" {
			unfinished = append(unfinished, why)
		}
	}
	return check.Lacking("", unfinished, "; kubectl describe shows the events of what is not ready")
}

func scheduled(pods []*corev1.Pod) error {
	var waiting []string
	for _, pod := range pods {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				waiting = append(waiting, fmt.Sprintf("%s (%s)", podRef(pod), c.Message))
			}
		}
	}
	return check.Lacking("no node takes ", waiting, "; add nodes, or lower what the pods ask for by the charts' values")
}

// served tells whether a pod of each component is ready.
func (h Health) served(pods []*corev1.Pod) error {
	var lacking []string
	for _, component := range components() {
		if !slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return pod.Labels[componentLabel] == component && ready(pod) }) {
			lacking = append(lacking, fmt.Sprintf("Deployment %s/linkerd-%s", h.Namespace, component))
		}
	}
	return check.Lacking("no pod is ready of ", lacking, "; kubectl describe pod and kubectl logs tell why")
}

// networks are the cluster's, as the control plane was told.
func (p plane) networks() string {
	if networks := value[string](p, "clusterNetworks"); networks != "" {
		return networks
	}
	return DefaultNetworks
}

func versionKnown(p plane) error {
	if p.version == (Version{}) {
		return fmt.Errorf("ConfigMap linkerd-config gives the version %q, which this provider cannot place", value[string](p, "linkerdVersion"))
	}
	return nil
}

// extensionsOnce tells whether each extension is in one namespace only.
func extensionsOnce(namespaces []*corev1.Namespace) error {
	first := map[string]string{}
	var twice []string
	for _, n := range namespaces {
		name := n.Labels[extensionLabel]
		if name == "" {
			continue
		}
		if other, known := first[name]; known {
			twice = append(twice, fmt.Sprintf("Namespaces %s and %s both have the label %s=%s", other, n.Name, extensionLabel, name))
		} else {
			first[name] = n.Name
		}
	}
	return check.Lacking("", twice, "; take the label off the one that is not the extension's")
}

func replicated(p plane, deployments []*kube.Workload) error {
	if !value[bool](p, "highAvailability") {
		return check.Skipf("high availability is off")
	}
	var single []string
	for _, w := range deployments {
		if w.Available <= 1 {
			single = append(single, fmt.Sprintf("%s (%d)", w.Ref, w.Available))
		}
	}
	return check.Lacking("too few pods are available for high availability: ", single, "; look at the events of the pods that are missing, and at the number of nodes: no two are put on one")
}

// cni are the checks of the CNI plugin.
func (h Health) cni() []check.Check {
	const category = "linkerd-cni-plugin"
	// The plugin's chart names all its objects alike, in a namespace of the user's
	// choice, which the DaemonSet tells.
	const name = "linkerd-cni"
	node := check.Once(func(ctx context.Context) (*unstructured.Unstructured, error) {
		all, err := h.Cluster.List(ctx, kube.DaemonSet, "")
		if err != nil {
			return nil, err
		}
		for _, d := range all {
			if d.GetName() == name {
				return d, nil
			}
		}
		return nil, fmt.Errorf("the control plane is installed with cniEnabled, and there is no DaemonSet %s in any namespace: install the chart linkerd2-cni, or no meshed pod starts", name)
	})
	made := func(id, description string, judge func(context.Context, kube.Ref) error) check.Check {
		return of(category, id, description, fatal, func(ctx context.Context) error {
			p, err := h.plane(ctx)
			switch {
			case err != nil:
				return err
			case !value[bool](p, "cniEnabled"):
				return check.Skipf("the CNI plugin is not enabled (value cniEnabled)")
			}
			return check.On(node, func(d *unstructured.Unstructured) error {
				return judge(ctx, kube.Ref{Kind: kube.DaemonSet, Namespace: d.GetNamespace(), Name: d.GetName()})
			})(ctx)
		})
	}
	there := func(kind kube.Kind, name string) func(context.Context, kube.Ref) error {
		return func(ctx context.Context, at kube.Ref) error {
			ref := kube.Ref{Kind: kind, Name: name}
			if kind.Namespaced {
				ref.Namespace = at.Namespace
			}
			if _, err := h.Cluster.Find(ctx, ref); err != nil {
				return fmt.Errorf("%w: apply the chart linkerd2-cni again", err)
			}
			return nil
		}
	}
	return []check.Check{
		made("cni-plugin-cm-exists", "cni plugin ConfigMap exists", there(kube.ConfigMap, "linkerd-cni-config")),
		made("cni-plugin-cr-exists", "cni plugin ClusterRole exists", there(kube.ClusterRole, name)),
		made("cni-plugin-crb-exists", "cni plugin ClusterRoleBinding exists", there(kube.ClusterRoleBinding, name)),
		made("cni-plugin-sa-exists", "cni plugin ServiceAccount exists", there(kube.ServiceAccount, name)),
		made("cni-plugin-ds-exists", "cni plugin DaemonSet exists", func(context.Context, kube.Ref) error { return nil }),
		made("cni-plugin-ready", "cni plugin pod is running on all nodes", func(ctx context.Context, at kube.Ref) error {
			w, err := h.Cluster.Workload(ctx, at)
			if err != nil {
				return err
			}
			if w.Ready < w.Desired {
				return fmt.Errorf("%s runs on %d of %d nodes; meshed pods on the others do not start", at, w.Ready, w.Desired)
			}
			return nil
		}).Awaiting(kube.DaemonSet),
	}
}

func podRef(pod *corev1.Pod) kube.Ref {
	return kube.Ref{Kind: kube.Pod, Namespace: pod.Namespace, Name: pod.Name}
}

func ready(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// meshed are those of some pods that have a proxy of this control plane, in a
// namespace, or in all but the control plane's own if it is "".
func (h Health) meshed(pods []*corev1.Pod, namespace string) []*corev1.Pod {
	return slices.DeleteFunc(withProxies(pods), func(pod *corev1.Pod) bool {
		elsewhere := pod.Namespace != namespace
		if namespace == "" {
			elsewhere = pod.Namespace == h.Namespace
		}
		return elsewhere || !(Trust{Namespace: h.Namespace}).Serves(pod)
	})
}
