package istio

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// defaultPolicies are the default policies that Istio has objects for, and the
// modes of mTLS that enforce them; deny is a matter of authorization.
func defaultPolicies() map[string]string {
	return map[string]string{"deny": "", "all-authenticated": "STRICT", "all-unauthenticated": "PERMISSIVE"}
}

// CheckDefaultPolicy refuses default policies that Istio cannot enforce.
func CheckDefaultPolicy(policy string) error {
	if _, known := defaultPolicies()[policy]; !known {
		return fmt.Errorf("%s is a default policy of Linkerd's; Istio has %s", policy, strings.Join(slices.Sorted(maps.Keys(defaultPolicies())), ", "))
	}
	return nil
}

// DefaultPolicy is the object by which pods of a namespace, all or those with all
// of the labels, let in only those of a default policy for whom nothing else is
// said, and what holds once it is in force. The cluster may be nil.
func DefaultPolicy(ctx context.Context, cluster *kube.Cluster, policy, namespace, name string, pods map[string]string) (*unstructured.Unstructured, string, error) {
	if err := CheckDefaultPolicy(policy); err != nil {
		return nil, "", err
	}
	if err := checkScope(ctx, cluster, namespace); err != nil {
		return nil, "", err
	}
	whose := "every pod of the namespace"
	spec := map[string]any{}
	if len(pods) > 0 {
		matched := map[string]any{}
		for key, value := range pods {
			matched[key] = value
		}
		spec["selector"] = map[string]any{"matchLabels": matched}
		whose = "the pods with the labels " + labels.Set(pods).String()
	}
	kind, guarantee := peerAuthentications, ""
	mode := defaultPolicies()[policy]
	switch mode {
	case "":
		kind, spec["action"] = authorizationPolicies, "ALLOW"
		guarantee = "Nobody gets to %s whom no other AuthorizationPolicy lets in: those that allow add up."
	case "STRICT":
		guarantee = "Whatever comes to %s without mTLS of the mesh is refused, unless another PeerAuthentication is closer to the pods, or as close and older. It says nothing of who in the mesh may call what."
	default:
		guarantee = "What comes to %s is taken with mTLS and without, unless another PeerAuthentication is closer to the pods, or as close and older; whoever has no identity is known by address alone."
	}
	if mode != "" {
		spec["mtls"] = map[string]any{"mode": mode}
	}
	object := kube.Ref{Kind: kind, Namespace: namespace, Name: name}.Object()
	object.Object["spec"] = spec
	return object, fmt.Sprintf(guarantee, whose) + " Pods outside the mesh are not protected. Probes of the pods pass.", nil
}

// DefaultPolicyFindings says which PeerAuthentications besides those owned decide,
// or may, instead of that of the default policy of pods of a namespace, all or those
// with all of the labels. One for pods with some labels is as close to them as can
// be.
func DefaultPolicyFindings(ctx context.Context, cluster *kube.Cluster, policy, namespace string, pods map[string]string, owned func(*unstructured.Unstructured) bool) ([]string, error) {
	if defaultPolicies()[policy] == "" {
		return nil, nil
	}
	others, _, err := cluster.ListServed(ctx, peerAuthentications, namespace)
	if err != nil {
		return nil, err
	}
	_, targets, err := selectedPods(ctx, cluster, namespace, pods)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, other := range others {
		if owned(other) {
			continue
		}
		spec, err := specOf[peerAuthentication](peerAuthentications, other)
		if err != nil {
			return nil, err
		}
		selector := spec.Selector.labels()
		if len(pods) > 0 {
			shared := maps.Equal(selector, pods) || slices.ContainsFunc(targets, func(pod *corev1.Pod) bool { return selects(selector, pod.Labels) })
			if len(selector) > 0 && shared {
				lines = append(lines, fmt.Sprintf("PeerAuthentication %s/%s is for the same pods by their labels, and the oldest of them decides: delete it", namespace, other.GetName()))
			}
			continue
		}
		if len(selector) == 0 {
			lines = append(lines, fmt.Sprintf("PeerAuthentication %s/%s is for the whole namespace, too, and the oldest of them decides: delete it", namespace, other.GetName()))
			continue
		}
		mode := "as the mesh has it"
		if spec.MTLS != nil && spec.MTLS.Mode != "" {
			mode = spec.MTLS.Mode
		}
		lines = append(lines, fmt.Sprintf("PeerAuthentication %s/%s decides for the pods with the labels %s: %s", namespace, other.GetName(), labels.Set(selector), mode))
	}
	return lines, nil
}
