// Package engine finds out what enforces NetworkPolicies in a cluster. An API
// server takes them whether or not anything does.
package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/retirement"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// The labels by which AKS says of its nodes what it has installed.
const (
	policyLabel    = "kubernetes.azure.com/network-policy"
	dataplaneLabel = "kubernetes.azure.com/ebpf-dataplane"
)

// Result is what was found.
type Result struct {
	// Name of the engine, empty if none was found, and Evidence for it: the label
	// of a node or a DaemonSet.
	Name, Evidence string
	// Looked says for what, in the end in vain if there is no Name.
	Looked string
	// Unseen is what could not be looked at, and why. Without a Name, it means
	// that it cannot be told whether there is an engine.
	Unseen []string
}

// Cilium is the name of the engine that reads blocks of addresses its own way.
const Cilium = "Cilium"

// Reading is how the engine reads policies where that is not what the API says.
// Cilium has an ipBlock, even 0.0.0.0/0, match neither pods nor nodes.
func (r Result) Reading() []netpol.Option {
	if r.Name == Cilium {
		return []netpol.Option{netpol.BlocksAreOutside()}
	}
	return nil
}

// Caution is what those who rely on the engine have to know now, and what to do
// about it; both are empty if there is nothing.
func (r Result) Caution(now time.Time) (message, advice string) {
	if r.Name != AzureNPM {
		return "", ""
	}
	return fmt.Sprintf("NetworkPolicies are enforced by %s, whose support %s on Linux and %s on Windows; it is for at most 250 nodes and 20,000 pods, and not for IPv6",
		AzureNPM, retirement.AzureNPM().Words(now), retirement.AzureNPMOnWindows().Words(now)), "Move to Cilium: az aks update --network-dataplane cilium."
}

// None reports that there is no engine among those that are known.
func (r Result) None() bool { return r.Name == "" && len(r.Unseen) == 0 }

// engines are told by the DaemonSets that they run, whose names are the same
// wherever they are installed.
func engines() map[string]string {
	return map[string]string{
		"azure-npm":             AzureNPM,
		"cilium":                Cilium,
		"anetd":                 "GKE Dataplane V2",
		"calico-node":           "Calico",
		"canal":                 "Canal",
		"kube-router":           "kube-router",
		"antrea-agent":          "Antrea",
		"weave-net":             "Weave Net",
		"ovnkube-node":          "OVN-Kubernetes",
		"kube-network-policies": "kube-network-policies",
	}
}

// AzureNPM is the name of the engine that AKS gives up.
const AzureNPM = "Azure Network Policy Manager"

// labelled are the engines that AKS names in its label.
func labelled() map[string]string {
	return map[string]string{"azure": AzureNPM, "calico": "Calico", "cilium": Cilium}
}

// Detect looks at the nodes and DaemonSets of the cluster, by the shared reads.
// What may not be read is no error.
func Detect(ctx context.Context, cluster *kube.Cluster) (Result, error) {
	var unseen []string
	nodes, err := cluster.Nodes(ctx)
	switch {
	case apierrors.IsForbidden(err):
		unseen = append(unseen, "nodes may not be listed")
	case err != nil:
		return Result{}, err
	case len(nodes) == 0:
		unseen = append(unseen, "there are no nodes yet")
	}
	listed, err := cluster.List(ctx, kube.DaemonSet, "")
	if apierrors.IsForbidden(err) {
		unseen = append(unseen, "DaemonSets may not be listed")
	} else if err != nil {
		return Result{}, err
	}
	daemonSets := make([]appsv1.DaemonSet, len(listed))
	for i, object := range listed {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &daemonSets[i]); err != nil {
			return Result{}, fmt.Errorf("read DaemonSet %s/%s: %w", object.GetNamespace(), object.GetName(), err)
		}
	}
	result := Judge(nodes, daemonSets)
	result.Unseen = unseen
	return result, nil
}

// Judge tells the engine by what nodes and DaemonSets there are.
func Judge(nodes []*corev1.Node, daemonSets []appsv1.DaemonSet) Result {
	result := Result{Looked: looked(nodes)}
	for _, d := range daemonSets {
		if name := byDaemonSet(d); name != "" {
			result.Name, result.Evidence = name, fmt.Sprintf("DaemonSet %s/%s", d.Namespace, d.Name)
			break
		}
	}
	if result.Name == "" {
		result.Name, result.Evidence = byLabel(nodes)
	}
	return result
}

// Managed is the engine that AKS has installed by what Azure says of a cluster: the
// networkPolicy and the networkDataplane of its network profile. Without a Name,
// there may be one that somebody else has installed.
func Managed(networkPolicy, networkDataplane string) Result {
	if networkPolicy == "" && networkDataplane == "cilium" {
		networkPolicy = networkDataplane
	}
	result := Result{Looked: fmt.Sprintf("the cluster's network profile has the network policy %q", networkPolicy)}
	if name, known := labelled()[networkPolicy]; known {
		result.Name, result.Evidence = name, "network policy "+networkPolicy+" of the cluster's network profile"
	}
	return result
}

func byDaemonSet(d appsv1.DaemonSet) string {
	if name, known := engines()[d.Name]; known {
		return name
	}
	// Amazon's CNI plugin brings an agent that is off unless told otherwise.
	if d.Name != "aws-node" {
		return ""
	}
	for _, container := range d.Spec.Template.Spec.Containers {
		if slices.Contains(container.Args, "--enable-network-policy=true") {
			return "Amazon VPC CNI"
		}
	}
	return ""
}

func byLabel(nodes []*corev1.Node) (name, evidence string) {
	for _, node := range nodes {
		if name, known := labelled()[node.Labels[policyLabel]]; known {
			return name, fmt.Sprintf("label %s=%s of Node %s", policyLabel, node.Labels[policyLabel], node.Name)
		}
		if node.Labels[dataplaneLabel] == "cilium" {
			return "Cilium", fmt.Sprintf("label %s=cilium of Node %s", dataplaneLabel, node.Name)
		}
	}
	return "", ""
}

// looked says what an engine would be told by.
func looked(nodes []*corev1.Node) string {
	names := make([]string, 0, len(engines())+1)
	for name := range engines() {
		names = append(names, name)
	}
	names = append(names, "aws-node with --enable-network-policy=true")
	slices.Sort(names)
	text := fmt.Sprintf("no Node has the label %s=azure, calico or cilium, or %s=cilium, and there is no DaemonSet %s", policyLabel, dataplaneLabel, strings.Join(names, ", "))
	for _, node := range nodes {
		if value := node.Labels[policyLabel]; value != "" {
			return fmt.Sprintf("Node %s has the label %s=%s; %s", node.Name, policyLabel, value, text)
		}
	}
	return text
}
