// Package netpol writes and reads NetworkPolicies: it turns an intent, stated in
// terms that leave none of the API's traps open, into the object that enforces
// it, and tells who gets in when a set of policies is in force. What a mesh
// needs admitted is that mesh's package's business.
package netpol

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Intent says whose ingress is restricted, and to what. Whatever it does not
// admit is refused, as far as no other policy admits it: NetworkPolicies add up.
type Intent struct {
	// Name and Namespace of the policy; it applies to pods of its namespace.
	Namespace, Name string
	// Labels of the policy object.
	Labels map[string]string
	// Pods selects the protected pods. The empty selector means every pod of
	// the namespace.
	Pods metav1.LabelSelector
	// Admit lists who may come in; empty refuses everyone.
	Admit []Admission
}

// Admission lets every one of the peers reach every one of the ports.
type Admission struct {
	// From lists at least one peer; the zero Peer admits all pods.
	From []Peer
	// Ports lists at least one TCP port, 1 to 65535, as the selected pods
	// receive it (not the Service's port).
	Ports []int32
}

// Peer is the set of pods that match Pods in namespaces that match Namespaces.
// An empty selector matches everything, here as everywhere in Kubernetes.
type Peer struct {
	Namespaces metav1.LabelSelector
	Pods       metav1.LabelSelector
}

// InNamespace is the peer of the matching pods in one namespace.
func InNamespace(name string, pods metav1.LabelSelector) Peer {
	return Peer{
		Namespaces: metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: name}},
		Pods:       pods,
	}
}

// Rules are what a mesh wants admitted so that its traffic, and as far as
// possible only its traffic, reaches the pods.
type Rules struct {
	Admit []Admission
	// Guarantee tells people in a few sentences what holds once the rules are in
	// force, and what does not.
	Guarantee string
}

// Build returns the NetworkPolicy that enforces the intent, with API version and
// kind set. The same intent always gives the same object.
func Build(intent Intent) (*networkingv1.NetworkPolicy, error) {
	if intent.Name == "" || intent.Namespace == "" {
		return nil, errors.New("a NetworkPolicy needs a name and a namespace")
	}
	object := fmt.Sprintf("NetworkPolicy %s/%s", intent.Namespace, intent.Name)
	if err := checkSelector(intent.Pods); err != nil {
		return nil, fmt.Errorf("%s: pod selector: %w", object, err)
	}
	policy := &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Namespace: intent.Namespace, Name: intent.Name, Labels: intent.Labels},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: intent.Pods,
			// Said outright: by default the API derives it from the rules.
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		},
	}
	for i, admission := range intent.Admit {
		rule, err := ingressRule(admission)
		if err != nil {
			return nil, fmt.Errorf("%s: admission %d: %w", object, i+1, err)
		}
		policy.Spec.Ingress = append(policy.Spec.Ingress, rule)
	}
	return policy, nil
}

func ingressRule(admission Admission) (networkingv1.NetworkPolicyIngressRule, error) {
	var rule networkingv1.NetworkPolicyIngressRule
	// To the API, an empty list of peers or ports means all of them.
	if len(admission.From) == 0 {
		return rule, errors.New("no peers")
	}
	ports, err := NormalizePorts(admission.Ports)
	if err != nil {
		return rule, err
	}
	for i, peer := range admission.From {
		for _, selector := range []metav1.LabelSelector{peer.Namespaces, peer.Pods} {
			if err := checkSelector(selector); err != nil {
				return rule, fmt.Errorf("peer %d: %w", i+1, err)
			}
		}
		// Both selectors in one peer are ANDed; in two they would be ORed. And
		// without a namespace selector, only the policy's namespace would match.
		rule.From = append(rule.From, networkingv1.NetworkPolicyPeer{
			NamespaceSelector: peer.Namespaces.DeepCopy(),
			PodSelector:       peer.Pods.DeepCopy(),
		})
	}
	for _, port := range ports {
		rule.Ports = append(rule.Ports, networkingv1.NetworkPolicyPort{
			Protocol: new(corev1.ProtocolTCP),
			Port:     new(intstr.FromInt32(port)),
		})
	}
	return rule, nil
}

// NormalizePorts returns the ports sorted and without duplicates. It refuses an
// empty list and numbers outside 1 to 65535.
func NormalizePorts(ports []int32) ([]int32, error) {
	if len(ports) == 0 {
		return nil, errors.New("no ports")
	}
	sorted := slices.Compact(slices.Sorted(slices.Values(ports)))
	for _, port := range sorted {
		if port < 1 || port > 65535 {
			return nil, fmt.Errorf("port %d is not within 1 to 65535", port)
		}
	}
	return sorted, nil
}

func checkSelector(selector metav1.LabelSelector) error {
	return validation.ValidateLabelSelector(&selector, validation.LabelSelectorValidationOptions{}, field.NewPath("selector")).ToAggregate()
}
