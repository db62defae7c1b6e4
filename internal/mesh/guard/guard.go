// Package guard keeps everything but a mesh's traffic away from pods: it
// compiles what a mesh needs admitted into one NetworkPolicy and keeps that
// policy as it should be in the cluster.
package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// DefaultName is the name of a policy unless told otherwise.
const DefaultName = "mesh-only"

const (
	manager = "aksmesh-network-policy"

	// The policy says of itself what it was compiled from, so that it can be
	// imported and so that people who meet it know what they may expect of it.
	intentAnnotation    = "aksmesh.io/intent"
	guaranteeAnnotation = "aksmesh.io/guarantee"
)

// ErrMeshUnknown tells that the mesh's version, on which the policy depends,
// is neither given nor to be found in the cluster.
var ErrMeshUnknown = errors.New("the mesh's version is not known")

// Traffic is how one mesh sends its traffic.
type Traffic interface {
	// CheckPorts refuses ports that can never be an application's in the mesh.
	CheckPorts(ports []int32) error
	// Rules returns what to admit so that meshed clients reach the ports. The
	// cluster is nil when there is none to ask. The error wraps
	// mesh.ErrNoControlPlane when the rules depend on a control plane that is not there.
	Rules(ctx context.Context, cluster *kube.Cluster, ports []int32) (netpol.Rules, error)
}

// Intent says which pods are to be reached by which mesh only.
type Intent struct {
	Namespace, Name string
	// Pods are the labels of the protected pods; none means every pod.
	Pods map[string]string
	// Ports are TCP ports of the containers.
	Ports   []int32
	Traffic Traffic
}

func (i Intent) ref() kube.Ref {
	return kube.Ref{Kind: kube.NetworkPolicy, Namespace: i.Namespace, Name: i.Name}
}

// Compiled is a policy ready to be applied.
type Compiled struct {
	// YAML is the policy's spec, Guarantee what holds once it is in force.
	YAML, Guarantee string
}

// Compile works out the policy. The cluster may be nil; the error is
// ErrMeshUnknown if the policy then cannot be told.
func Compile(ctx context.Context, cluster *kube.Cluster, i Intent) (Compiled, error) {
	rules, err := i.Traffic.Rules(ctx, cluster, i.Ports)
	if errors.Is(err, mesh.ErrNoControlPlane) {
		return Compiled{}, fmt.Errorf("%w: %w", ErrMeshUnknown, err)
	}
	if err != nil {
		return Compiled{}, err
	}
	policy, err := netpol.Build(netpol.Intent{
		Namespace: i.Namespace, Name: i.Name, Pods: metav1.LabelSelector{MatchLabels: i.Pods}, Ingress: rules.Admit,
	})
	if err != nil {
		return Compiled{}, err
	}
	text, err := specYAML(policy.Spec)
	return Compiled{YAML: text, Guarantee: rules.Guarantee}, err
}

// specYAML prints the parts of a spec that this provider owns, the same for
// what was built and for what the API server returns.
func specYAML(spec networkingv1.NetworkPolicySpec) (string, error) {
	text, err := yaml.Marshal(networkingv1.NetworkPolicySpec{PodSelector: spec.PodSelector, Ingress: spec.Ingress, PolicyTypes: spec.PolicyTypes})
	if err != nil {
		return "", fmt.Errorf("print policy: %w", err)
	}
	return string(text), nil
}

// Apply writes the policy with the given spec by server-side apply. Unless
// force is set, another manager's policy is a *kube.ConflictError, and one of
// this provider with another spec is kube.ErrExists.
func Apply(ctx context.Context, cluster *kube.Cluster, i Intent, compiled Compiled, force bool) error {
	if _, err := cluster.Namespace(ctx, i.Namespace); err != nil {
		return fmt.Errorf("%s: %w", i.ref(), err)
	}
	if !force {
		if err := i.taken(ctx, cluster, compiled); err != nil {
			return err
		}
	}
	var spec map[string]any
	if err := yaml.Unmarshal([]byte(compiled.YAML), &spec); err != nil {
		return fmt.Errorf("%s: %w", i.ref(), err)
	}
	intent, err := json.Marshal(record(i))
	if err != nil {
		return fmt.Errorf("%s: %w", i.ref(), err)
	}
	object := i.ref().Object()
	object.SetLabels(kube.OursLabels())
	object.SetAnnotations(map[string]string{intentAnnotation: string(intent), guaranteeAnnotation: compiled.Guarantee})
	if err := unstructured.SetNestedMap(object.Object, spec, "spec"); err != nil {
		return fmt.Errorf("%s: %w", i.ref(), err)
	}
	_, err = cluster.Apply(ctx, object, kube.ApplyOptions{Manager: manager, Force: force})
	return err
}

// taken refuses the place of another policy of this provider, which
// server-side apply by the same manager would overwrite without a word. The
// same policy was left by an apply that was cut off.
func (i Intent) taken(ctx context.Context, cluster *kube.Cluster, compiled Compiled) error {
	policies, err := cluster.NetworkPolicies(ctx, i.Namespace)
	if err != nil {
		return fmt.Errorf("%s: %w", i.ref(), err)
	}
	for _, policy := range policies {
		if policy.Name != i.Name || policy.Annotations[intentAnnotation] == "" {
			continue
		}
		if spec, err := specYAML(policy.Spec); err != nil || spec == compiled.YAML {
			return err
		}
		return fmt.Errorf("%s: %w", i.ref(), kube.ErrExists)
	}
	return nil
}

// Found is a policy as it is in the cluster.
type Found struct {
	Compiled
	// Intent is nil when the policy does not say what it was compiled from.
	Intent *Intent
}

// Read reads a policy; kube.ErrNotFound if there is none.
func Read(ctx context.Context, cluster *kube.Cluster, namespace, name string) (Found, error) {
	policy, err := cluster.NetworkPolicy(ctx, namespace, name)
	if err != nil {
		return Found{}, err
	}
	found := Found{Compiled: Compiled{Guarantee: policy.Annotations[guaranteeAnnotation]}}
	if found.YAML, err = specYAML(policy.Spec); err != nil {
		return Found{}, err
	}
	var recorded recordedIntent
	if json.Unmarshal([]byte(policy.Annotations[intentAnnotation]), &recorded) == nil {
		found.Intent = recorded.intent(policy)
	}
	return found, nil
}

// Delete deletes the policy; one that is gone already is no error.
func Delete(ctx context.Context, cluster *kube.Cluster, namespace, name string) error {
	return cluster.Delete(ctx, Intent{Namespace: namespace, Name: name}.ref(), kube.DeleteOptions{Wait: true})
}

// recordedIntent is an intent as the policy keeps it.
type recordedIntent struct {
	Ports   []int32          `json:"ports"`
	Linkerd *linkerd.Traffic `json:"linkerd,omitempty"`
	Istio   *istio.Traffic   `json:"istio,omitempty"`
}

func record(i Intent) recordedIntent {
	recorded := recordedIntent{Ports: i.Ports}
	switch traffic := i.Traffic.(type) {
	case linkerd.Traffic:
		recorded.Linkerd = &traffic
	case istio.Traffic:
		recorded.Istio = &traffic
	}
	return recorded
}

func (r recordedIntent) intent(policy *networkingv1.NetworkPolicy) *Intent {
	i := &Intent{Namespace: policy.Namespace, Name: policy.Name, Pods: policy.Spec.PodSelector.MatchLabels, Ports: r.Ports}
	if i.Pods == nil {
		i.Pods = map[string]string{}
	}
	switch {
	case r.Linkerd != nil:
		i.Traffic = *r.Linkerd
	case r.Istio != nil:
		i.Traffic = *r.Istio
	default:
		return nil
	}
	return i
}
