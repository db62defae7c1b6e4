package istio

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

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
// said, and what holds once it is in force.
func DefaultPolicy(policy, namespace, name string, pods map[string]string) (*unstructured.Unstructured, string, error) {
	if err := CheckDefaultPolicy(policy); err != nil {
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
	kind, guarantee := "PeerAuthentication", ""
	mode := defaultPolicies()[policy]
	switch mode {
	case "":
		kind, spec["action"] = "AuthorizationPolicy", "ALLOW"
		guarantee = "Nobody gets to %s whom no other AuthorizationPolicy lets in: policies that allow add up."
	case "STRICT":
		guarantee = "Sidecars and the nodes' proxies refuse every connection to %s that is not mTLS of the mesh, unless another PeerAuthentication is closer to the pods. It says nothing of who of the mesh may call what."
	default:
		guarantee = "Connections to %s are taken with mTLS and without, unless another PeerAuthentication is closer to the pods; whoever has no identity is known by address alone."
	}
	if mode != "" {
		spec["mtls"] = map[string]any{"mode": mode}
	}
	object := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	object.SetAPIVersion("security.istio.io/v1")
	object.SetKind(kind)
	object.SetNamespace(namespace)
	object.SetName(name)
	return object, fmt.Sprintf(guarantee, whose) + " Pods outside the mesh are not protected. Probes of the pods pass.", nil
}

// DefaultPolicyFindings says which PeerAuthentications besides those owned decide
// instead of the one of a default policy: for all pods of the namespace, or, if it
// is that of the whole namespace, for some of them.
func DefaultPolicyFindings(ctx context.Context, cluster *kube.Cluster, policy, namespace string, pods map[string]string, owned func(*unstructured.Unstructured) bool) ([]string, error) {
	if defaultPolicies()[policy] == "" || len(pods) > 0 {
		return nil, nil
	}
	others, err := listed(ctx, cluster, peerAuthenticationKind, namespace)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, other := range others {
		if owned(other) {
			continue
		}
		spec, _, err := unstructured.NestedMap(other.Object, "spec")
		if err != nil {
			return nil, fmt.Errorf("PeerAuthentication %s/%s: %w", namespace, other.GetName(), err)
		}
		matched, _, err := unstructured.NestedStringMap(spec, "selector", "matchLabels")
		if err != nil {
			return nil, fmt.Errorf("PeerAuthentication %s/%s: %w", namespace, other.GetName(), err)
		}
		if len(matched) == 0 {
			lines = append(lines, fmt.Sprintf("PeerAuthentication %s/%s is for the whole namespace, too, and the oldest of them decides: delete it", namespace, other.GetName()))
			continue
		}
		mode, _, _ := unstructured.NestedString(spec, "mtls", "mode")
		lines = append(lines, fmt.Sprintf("PeerAuthentication %s/%s decides for the pods with the labels %s: %s", namespace, other.GetName(), labels.Set(matched), cmp.Or(mode, "UNSET")))
	}
	return lines, nil
}
