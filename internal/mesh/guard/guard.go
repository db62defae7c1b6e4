// Package guard keeps everything but a mesh's traffic away from pods: it
// compiles what a mesh needs admitted into one NetworkPolicy and the mesh's own
// authorization, keeps all of that as it should be in the cluster, and finds what
// defeats it.
package guard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/holding"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// DefaultName is the name of a policy unless told otherwise.
const DefaultName = "mesh-only"

const (
	manager = "aksmesh-network-policy"

	// The policy tells people who meet it what they may expect of it.
	guaranteeAnnotation = "aksmesh.io/guarantee"
)

var (
	// ErrMeshUnknown tells that the mesh's version, on which the policy depends,
	// is neither given nor to be found in the cluster.
	ErrMeshUnknown = errors.New("the mesh's version is not known")

	// ErrPodsUnknown tells that the policy depends on the pods that it is for, and
	// that there is no cluster to look for them.
	ErrPodsUnknown = errors.New("it depends on the pods, and there is no cluster to look for them")
)

// Traffic is how one mesh sends its traffic.
type Traffic interface {
	// CheckPorts refuses ports that can never be an application's in the mesh.
	CheckPorts(ports []int32) error
	// Compile returns what enforces the protection. The cluster is nil when there
	// is none to ask. The error wraps mesh.ErrNoControlPlane when it depends on a
	// control plane that is not there.
	Compile(ctx context.Context, cluster *kube.Cluster, p access.Protection) (access.Compiled, error)
	// PodFindings says in one line each what of the pods' own settings keeps the
	// protection from holding for them.
	PodFindings(pods []*corev1.Pod, p access.Protection) []string
	// Overlaps finds objects of the mesh that decide about the pods as well; owned
	// tells the protection's own.
	Overlaps(ctx context.Context, cluster *kube.Cluster, p access.Protection, owned func(*unstructured.Unstructured) bool) ([]access.Overlap, error)
}

// Intent says which pods are to be reached by which mesh only. What is left open
// in it is found out by Compile.
type Intent struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Pods are the labels of the protected pods; none means every pod.
	Pods map[string]string `json:"pods,omitempty"`
	// Ports are TCP ports of the containers that callers use; none means all.
	Ports []int32 `json:"ports,omitempty"`
	// Traffic is the mesh's; nil, or Istio's without a mode, is as the pods have it.
	Traffic Traffic `json:"-"`
	// Strength, or the strongest that the mesh supports if empty.
	Strength access.Strength `json:"strength,omitempty"`
	// Identity says whether the mesh has to hold callers to Ports as well. If nil,
	// it has to where the network policy leaves that to it.
	Identity *bool `json:"identity,omitempty"`
	// Closed are ports besides Ports that the mesh has to close, GRPCProbes those
	// where kubelets probe by gRPC, which Linkerd has to be told with an identity
	// required; nil is as the pods declare.
	Closed     []int32 `json:"closed"`
	GRPCProbes []int32 `json:"grpcProbes"`
	// Allow is let in from outside of the mesh too.
	Allow Allow `json:"allow"`
	// Egress restricts where the pods may go; nil leaves that alone.
	Egress *Egress `json:"egress,omitempty"`
	// ControlPlane, unless nil, says that the pods are those of the control plane
	// in Namespace; Pods, Ports, Strength, Identity, Closed and GRPCProbes are empty.
	ControlPlane *access.ControlPlane `json:"controlPlane,omitempty"`
}

// Allow is who is let in without the mesh.
type Allow struct {
	// SameNamespace is every pod of the policy's namespace.
	SameNamespace bool `json:"sameNamespace,omitempty"`
	// Pods, to Ports of theirs or to those of the policy.
	Pods []Pods `json:"pods,omitempty"`
	// Metrics are pods that read the metrics of proxies; their Ports are empty.
	Metrics []Pods `json:"metrics,omitempty"`
	// Networks, to Ports of theirs or to those of the policy.
	Networks []Network `json:"networks,omitempty"`
}

// Pods with the labels in namespaces with the labels, none meaning all of both,
// at some ports.
type Pods struct {
	Namespaces map[string]string `json:"namespaces,omitempty"`
	Pods       map[string]string `json:"pods,omitempty"`
	Ports      []int32           `json:"ports,omitempty"`
}

// Network is a range of addresses, at some ports.
type Network struct {
	netpol.Block
	Ports []int32 `json:"ports,omitempty"`
}

// Egress is where the pods may go.
type Egress struct {
	// DNS, ControlPlane, Mesh and MeshPorts are as in [access.Egress].
	DNS          bool    `json:"dns,omitempty"`
	ControlPlane bool    `json:"controlPlane,omitempty"`
	Mesh         bool    `json:"mesh,omitempty"`
	MeshPorts    []int32 `json:"meshPorts,omitempty"`
	// Pods and Networks are reached at their Ports, or at all.
	Pods     []Pods    `json:"pods,omitempty"`
	Networks []Network `json:"networks,omitempty"`
}

// Compiled is an intent ready to be applied.
type Compiled struct {
	// Intent with nothing left open.
	Intent Intent
	// Manifest is the objects, as [holding.Manifest] prints them, Guarantee what
	// holds once they are in force.
	Manifest, Guarantee string
	// ByPods says what of it is as the pods have it that are there now; nothing if
	// it does not depend on them.
	ByPods []string
}

// Compile works out the objects, and what the intent leaves open. The cluster may
// be nil. The error wraps ErrMeshUnknown or ErrPodsUnknown if they then cannot be
// told; the intent is returned all the same as far as it can.
func Compile(ctx context.Context, cluster *kube.Cluster, i Intent) (Compiled, error) {
	compiled := Compiled{Intent: i}
	err := compiled.compile(ctx, cluster)
	if errors.Is(err, mesh.ErrNoControlPlane) {
		err = fmt.Errorf("%w: %w", ErrMeshUnknown, err)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", Policy{Namespace: i.Namespace, Name: i.Name}, err)
	}
	return compiled, err
}

func (c *Compiled) compile(ctx context.Context, cluster *kube.Cluster) error {
	if err := c.settleMesh(ctx, cluster); err != nil {
		return err
	}
	i := &c.Intent
	work := func() (access.Compiled, error) { return i.Traffic.Compile(ctx, cluster, i.protection()) }
	done, err := work()
	if err != nil {
		return err
	}
	i.Strength = done.Strength
	if i.Identity == nil {
		i.Identity = new(i.ControlPlane == nil && i.Strength != access.Label && len(i.Ports) > 0)
	}
	if err := c.settlePorts(ctx, cluster); err != nil {
		return err
	}
	if *i.Identity {
		if done, err = work(); err != nil {
			return err
		}
	}
	objects, err := objectsOf(done)
	if err != nil {
		return err
	}
	c.Guarantee = done.Guarantee
	c.Manifest, err = holding.Manifest(objects)
	return err
}

// settlePorts finds out which ports have to be closed, and which are probed.
func (c *Compiled) settlePorts(ctx context.Context, cluster *kube.Cluster) error {
	i := &c.Intent
	if !i.ClosesPorts() {
		i.Closed, i.GRPCProbes = orEmpty(i.Closed), orEmpty(i.GRPCProbes)
		return nil
	}
	if i.Closed != nil && i.GRPCProbes != nil {
		return nil
	}
	pods, err := i.pods(ctx, cluster)
	if err != nil {
		return err
	}
	if i.Closed == nil {
		i.Closed = i.undeclared(pods)
		// Besides the Server of another, Linkerd takes none.
		overlaps, err := i.overlaps(ctx, cluster)
		if err != nil {
			return err
		}
		i.Closed = slices.DeleteFunc(i.Closed, func(port int32) bool { return governedBy(overlaps, port) })
		c.ByPods = append(c.ByPods, "ports that they declare and the policy does not name: "+cmp.Or(access.JoinPorts(i.Closed), "none"))
	}
	if i.GRPCProbes == nil {
		i.GRPCProbes = grpcProbes(pods)
		c.ByPods = append(c.ByPods, "ports at which they are probed by gRPC: "+cmp.Or(access.JoinPorts(i.GRPCProbes), "none"))
	}
	return nil
}

// ClosesPorts reports that the mesh has to be told which ports to close, and where
// kubelets probe: Linkerd does, once it is settled that an identity is required.
func (i Intent) ClosesPorts() bool {
	_, told := i.Traffic.(linkerd.Traffic)
	return told && i.Identity != nil && *i.Identity
}

// orEmpty is the list, empty instead of nil.
func orEmpty(list []int32) []int32 {
	if list == nil {
		return []int32{}
	}
	return list
}

// undeclared are the TCP ports that pods declare besides those of the policy.
func (i Intent) undeclared(pods []*corev1.Pod) []int32 {
	closed := []int32{}
	for _, pod := range pods {
		for _, port := range i.declared(pod) {
			if !slices.Contains(i.Ports, port) {
				closed = append(closed, port)
			}
		}
	}
	slices.Sort(closed)
	return slices.Compact(closed)
}

// declared are the TCP ports that a pod declares, without those of its proxy.
func (i Intent) declared(pod *corev1.Pod) []int32 {
	var ports []int32
	for _, port := range netpol.PodEndpoint(nil, pod).Ports {
		if (port.Protocol == corev1.ProtocolTCP || port.Protocol == "") && i.Traffic.CheckPorts([]int32{port.ContainerPort}) == nil {
			ports = append(ports, port.ContainerPort)
		}
	}
	return ports
}

func grpcProbes(pods []*corev1.Pod) []int32 {
	ports := []int32{}
	for _, probe := range access.ProbesOf(pods) {
		if probe.GRPC {
			ports = append(ports, probe.Port)
		}
	}
	return slices.Compact(ports)
}

// protection is the intent in the meshes' terms.
func (i Intent) protection() access.Protection {
	p := access.Protection{
		Namespace: i.Namespace, Name: i.Name, Pods: i.Pods, Ports: i.Ports, Strength: i.Strength,
		Identity: i.Identity != nil && *i.Identity, Closed: i.Closed,
	}
	if i.ControlPlane != nil {
		plane := *i.ControlPlane
		plane.Everyone = plane.Everyone || slices.ContainsFunc(plane.Networks, everywhere)
		p.ControlPlane = &plane
	}
	for _, port := range i.GRPCProbes {
		p.Probes = append(p.Probes, access.Probe{Port: port, GRPC: true})
	}
	if i.Allow.SameNamespace {
		p.Exceptions = append(p.Exceptions, access.Exception{Peers: []netpol.Peer{netpol.InNamespace(i.Namespace, metav1.LabelSelector{})}})
	}
	for _, pods := range i.Allow.Pods {
		p.Exceptions = append(p.Exceptions, access.Exception{Peers: []netpol.Peer{pods.peer()}, Ports: pods.Ports})
	}
	for _, pods := range i.Allow.Metrics {
		p.Exceptions = append(p.Exceptions, access.Exception{Peers: []netpol.Peer{pods.peer()}, Metrics: true})
	}
	for _, network := range i.Allow.Networks {
		exception := access.Exception{Ports: network.Ports, Anyone: everywhere(network.Block)}
		if !exception.Anyone {
			exception.Peers = []netpol.Peer{{Block: &network.Block}}
		}
		p.Exceptions = append(p.Exceptions, exception)
	}
	if i.Egress != nil {
		p.Egress = i.Egress.access()
	}
	return p
}

func (p Pods) peer() netpol.Peer {
	return netpol.Peer{Namespaces: metav1.LabelSelector{MatchLabels: p.Namespaces}, Pods: metav1.LabelSelector{MatchLabels: p.Pods}}
}

// everywhere reports that it is all addresses. Such a block must not be written
// as one: with Cilium, blocks never match pods and nodes.
func everywhere(block netpol.Block) bool {
	return len(block.Except) == 0 && strings.HasSuffix(block.CIDR, "/0")
}

func (e Egress) access() *access.Egress {
	egress := &access.Egress{DNS: e.DNS, ControlPlane: e.ControlPlane, Mesh: e.Mesh, MeshPorts: e.MeshPorts}
	admit := func(ports []int32) netpol.Admission {
		return netpol.Admission{Ports: netpol.TCP(ports...), AnyPort: len(ports) == 0}
	}
	for _, pods := range e.Pods {
		admission := admit(pods.Ports)
		admission.Peers = []netpol.Peer{pods.peer()}
		egress.Admit = append(egress.Admit, admission)
	}
	for _, network := range e.Networks {
		admission := admit(network.Ports)
		if admission.Anyone = everywhere(network.Block); !admission.Anyone {
			admission.Peers = []netpol.Peer{{Block: &network.Block}}
		}
		egress.Admit = append(egress.Admit, admission)
	}
	return egress
}

// objectsOf are all objects that enforce what was compiled.
func objectsOf(compiled access.Compiled) ([]*unstructured.Unstructured, error) {
	policy, err := netpol.Build(compiled.Network)
	if err != nil {
		return nil, err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(policy)
	if err != nil {
		return nil, fmt.Errorf("NetworkPolicy %s/%s: %w", policy.Namespace, policy.Name, err)
	}
	return append(slices.Clone(compiled.Authorization), &unstructured.Unstructured{Object: content}), nil
}

// A Policy is the objects of one policy in a cluster.
type Policy struct {
	Cluster         *kube.Cluster
	Namespace, Name string
	// Traffics are those that it has, and has had; nil stands for any. What an
	// apply that broke off has left of others is found as far as it may be read.
	Traffics []Traffic
}

// objects are where the policy is kept.
func (p Policy) objects() holding.Holding {
	kept := holding.Holding{
		Cluster: p.Cluster, Manager: manager, Owner: "network-policy/" + p.Name, Namespace: p.Namespace, Kinds: []kube.Kind{kube.NetworkPolicy},
	}
	for _, known := range []struct {
		traffic Traffic
		kinds   []kube.Kind
	}{{linkerd.Traffic{}, linkerd.PolicyKinds()}, {istio.Traffic{}, istio.PolicyKinds()}} {
		if slices.ContainsFunc(p.Traffics, func(t Traffic) bool { return t == nil || reflect.TypeOf(t) == reflect.TypeOf(known.traffic) }) {
			kept.Kinds = append(kept.Kinds, known.kinds...)
		} else {
			kept.Former = append(kept.Former, known.kinds...)
		}
	}
	return kept
}

// String is the policy's name in messages.
func (p Policy) String() string {
	return kube.Ref{Kind: kube.NetworkPolicy, Namespace: p.Namespace, Name: p.Name}.String()
}

// Apply writes the objects of what was compiled for it; see
// [holding.Holding.Apply].
func (p Policy) Apply(ctx context.Context, compiled Compiled, force bool) (begun bool, err error) {
	objects, err := holding.Parse(compiled.Manifest)
	if err != nil {
		return false, fmt.Errorf("%s: %w", p, err)
	}
	notes := map[string]string{guaranteeAnnotation: compiled.Guarantee}
	begun, err = p.objects().Apply(ctx, objects, record(compiled.Intent), notes, force)
	if err != nil {
		return begun, fmt.Errorf("%s: %w", p, err)
	}
	return begun, nil
}

// Found is a policy as it is in the cluster.
type Found struct {
	// Manifest is that of all objects there are.
	Manifest string
	// Guarantee that they were given; empty if none tells.
	Guarantee string
	// Intent is nil when they do not say what they were compiled from.
	Intent *Intent
}

// Read reads what there is of it. The error wraps [kube.ErrNotFound] if that is
// nothing, and there is no NetworkPolicy of its name that is somebody else's
// either.
func (p Policy) Read(ctx context.Context) (Found, error) {
	live, err := p.objects().Find(ctx)
	if err != nil {
		return Found{}, fmt.Errorf("%s: %w", p, err)
	}
	if len(live.Objects) == 0 {
		_, err := p.Cluster.NetworkPolicy(ctx, p.Namespace, p.Name)
		return Found{}, err
	}
	found := Found{Manifest: live.Manifest}
	var recorded recordedIntent
	if live.Intent(&recorded) {
		found.Intent = recorded.intent()
		found.Guarantee = live.Objects[0].GetAnnotations()[guaranteeAnnotation]
	}
	return found, nil
}

// Delete deletes the objects; those that are gone already are no error.
func (p Policy) Delete(ctx context.Context) error {
	if err := p.objects().Delete(ctx); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return nil
}

// recordedIntent is an intent as the objects keep it.
type recordedIntent struct {
	Intent
	Linkerd *linkerd.Traffic `json:"linkerd,omitempty"`
	Istio   *istio.Traffic   `json:"istio,omitempty"`
}

func record(i Intent) recordedIntent {
	recorded := recordedIntent{Intent: i}
	switch traffic := i.Traffic.(type) {
	case linkerd.Traffic:
		recorded.Linkerd = &traffic
	case istio.Traffic:
		recorded.Istio = &traffic
	}
	return recorded
}

func (r recordedIntent) intent() *Intent {
	switch {
	case r.Linkerd != nil:
		r.Traffic = *r.Linkerd
	case r.Istio != nil:
		r.Traffic = *r.Istio
	default:
		return nil
	}
	return &r.Intent
}
