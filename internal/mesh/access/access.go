// Package access is what the meshes' ways of letting traffic in have in common:
// who is let in, to which ports of which pods, how strongly that is enforced, and
// the verdict on one connection. How a mesh enforces it is that mesh's package's
// business.
package access

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// Strength is by what a network policy tells the mesh's traffic from other.
type Strength string

// The strengths. MTLSPort opens only the port on which proxies demand mTLS, to
// everybody: it cannot be spoofed, and takes a mesh that sends all of its traffic
// there. Label opens the ports that meshed clients dial to pods with a mesh's
// label, which whoever may label a pod can forge. Both opens the port of MTLSPort
// to the pods of Label.
const (
	MTLSPort Strength = "mtls_port"
	Label    Strength = "label"
	Both     Strength = "mtls_port_and_label"
)

// Strengths lists them all.
func Strengths() []Strength { return []Strength{MTLSPort, Label, Both} }

// Protection is what a network policy is asked for: that only the mesh reaches
// some pods.
type Protection struct {
	// Namespace of the pods, and Name of the policy.
	Namespace, Name string
	// Pods are the labels of the protected pods; none means every pod.
	Pods map[string]string
	// Ports are the TCP ports of the containers that callers use; none means all.
	Ports []int32
	// Strength, or the strongest that the mesh supports if empty.
	Strength Strength
	// Identity says whether the mesh's authorization has to hold the callers to
	// Ports as well, with an identity of the mesh. It takes Ports.
	Identity bool
	// Closed are ports that the pods declare besides Ports. Linkerd closes them
	// one by one if Identity is set; Istio has no need of them.
	Closed []int32
	// Probes of the pods. Linkerd has to be told of those by gRPC if Identity is
	// set; Istio has no need of them.
	Probes []Probe `json:"probes,omitempty"`
	// Exceptions are let in from outside of the mesh too.
	Exceptions []Exception
	// Egress restricts where the pods may go; nil leaves that alone.
	Egress *Egress
	// ControlPlane, unless nil, says that the pods are those of the mesh's control
	// plane: Namespace is its namespace, and Pods, Ports, Strength, Identity and
	// Closed are empty.
	ControlPlane *ControlPlane
}

// An Exception lets peers in without the mesh.
type Exception struct {
	// Peers to let in; none means everybody, which Anyone has to say.
	Peers  []netpol.Peer
	Anyone bool
	// Ports that they reach; none means the Ports of the protection, and all if it
	// has none.
	Ports []int32
	// Metrics opens the ports at which the mesh's proxies and control plane show
	// their metrics, instead of Ports.
	Metrics bool
}

// Egress is where pods may go.
type Egress struct {
	// DNS opens port 53, by UDP and TCP, to the cluster's DNS in kube-system and to
	// the pods that cache it on nodes.
	DNS bool
	// ControlPlane opens the ports of the mesh's control plane, without which
	// proxies never become ready.
	ControlPlane bool
	// Mesh opens what meshed peers in all namespaces are called at: the proxy's
	// mTLS port where the mesh uses one, and MeshPorts, or all ports of meshed pods
	// if there are none, where it does not.
	Mesh      bool
	MeshPorts []int32
	// Admit is what is open besides.
	Admit []netpol.Admission
}

// ControlPlane says who calls the webhooks of a control plane.
type ControlPlane struct {
	// Everyone leaves the webhooks' ports open to all, which is safe as they
	// demand TLS, and works wherever the API server is.
	Everyone bool
	// Konnectivity opens them to the pods by which an AKS API server without VNet
	// integration comes: konnectivity-agent in kube-system.
	Konnectivity bool
	// Networks opens them to address ranges: the subnet of an API server with VNet
	// integration.
	Networks []netpol.Block
}

// Compiled is what enforces a protection.
type Compiled struct {
	// Strength that was asked for, or chosen.
	Strength Strength
	// Network is the NetworkPolicy to be.
	Network netpol.Intent
	// Authorization are objects of the mesh that go with it, in the order in which
	// to apply them: with API version, kind, namespace, name and spec.
	Authorization []*unstructured.Unstructured
	// Guarantee tells people in a few sentences what holds once all of it is in
	// force, and what does not.
	Guarantee string
}

// A Port of pods, by number or by the name that a container gives it.
type Port = intstr.IntOrString

// Grant lets callers reach ports.
type Grant struct {
	// Callers, at least one, each of which suffices.
	Callers []Caller `json:"callers"`
	// Routes are the HTTP requests that they may make; none means all traffic.
	Routes []Route `json:"routes,omitempty"`
}

// A Caller is who calls; exactly one field is set.
type Caller struct {
	// Meshed is everybody with an identity of the mesh.
	Meshed bool `json:"meshed,omitempty"`
	// Account is a workload's identity.
	Account *Account `json:"account,omitempty"`
	// Namespace is every workload of a namespace.
	Namespace string `json:"namespace,omitempty"`
	// Identity is an identity in the mesh's own spelling: a DNS name of Linkerd, a
	// SPIFFE principal of Istio, either with a * at one end.
	Identity string `json:"identity,omitempty"`
	// Network is callers by address, with or without identity.
	Network *netpol.Block `json:"network,omitempty"`
}

// Account is a ServiceAccount.
type Account struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// ParseAccount reads <namespace>/<name>.
func ParseAccount(text string) (Account, error) {
	namespace, name, found := strings.Cut(text, "/")
	if !found || len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return Account{}, fmt.Errorf("%q is not <namespace>/<name> of a ServiceAccount", text)
	}
	return Account{Namespace: namespace, Name: name}, nil
}

// String is <namespace>/<name>.
func (a Account) String() string { return a.Namespace + "/" + a.Name }

// A Route is a set of HTTP requests.
type Route struct {
	// Methods, in upper case; none means all.
	Methods []string `json:"methods,omitempty"`
	// Path that is meant itself, or with everything below it if Prefix is set.
	Path   string `json:"path,omitempty"`
	Prefix bool   `json:"prefix,omitempty"`
}

// MTLS is whether a port takes callers without mTLS.
type MTLS string

// The modes. StrictMTLS refuses callers without an identity of the mesh;
// PermissiveMTLS leaves them to the grants; the empty one leaves the mesh's own
// setting alone.
const (
	StrictMTLS     MTLS = "strict"
	PermissiveMTLS MTLS = "permissive"
)

// Policy says who may call pods: whom no grant admits is refused.
type Policy struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Pods are the labels of the pods; none means every pod of the namespace.
	Pods map[string]string `json:"pods,omitempty"`
	// Ports, at least one, or all if AllPorts is set, which Linkerd cannot do.
	Ports    []Port  `json:"ports,omitempty"`
	AllPorts bool    `json:"allPorts,omitempty"`
	Grants   []Grant `json:"grants,omitempty"`
	MTLS     MTLS    `json:"mtls,omitempty"`
	// Probes of the pods. Linkerd has to be told of those by gRPC, and of all of
	// them once a grant has routes; Istio has no need of them.
	Probes []Probe `json:"probes,omitempty"`
	// Protocol is what Linkerd takes the ports for: "", HTTP/1, HTTP/2, gRPC,
	// opaque or TLS. Istio goes by the Service.
	Protocol string `json:"protocol,omitempty"`
}

// A Probe is a request by which a kubelet asks a pod how it is: GET of a path, or
// the health check of gRPC.
type Probe struct {
	Port int32  `json:"port"`
	Name string `json:"name,omitempty"` // that a container gives the port
	GRPC bool   `json:"grpc,omitempty"`
	TLS  bool   `json:"tls,omitempty"`  // GET by HTTPS
	Path string `json:"path,omitempty"` // without query; empty for gRPC
}

// ProbesOf are the probes by HTTP and gRPC of the pods' containers, sorted.
func ProbesOf(pods []*corev1.Pod) []Probe {
	var probes []Probe
	for _, pod := range pods {
		containers := slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
		for _, container := range containers {
			for _, probe := range []*corev1.Probe{container.LivenessProbe, container.ReadinessProbe, container.StartupProbe} {
				found, is := probeOf(container, probe)
				if !is {
					continue
				}
				for _, c := range containers {
					for _, port := range c.Ports {
						if port.ContainerPort == found.Port {
							found.Name = port.Name
						}
					}
				}
				probes = append(probes, found)
			}
		}
	}
	slices.SortFunc(probes, func(a, b Probe) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Name, b.Name), strings.Compare(a.Path, b.Path),
			strings.Compare(strconv.FormatBool(a.TLS), strconv.FormatBool(b.TLS)))
	})
	return slices.Compact(probes)
}

// probeOf is a probe of a container, if it is one by HTTP or gRPC.
func probeOf(container corev1.Container, probe *corev1.Probe) (Probe, bool) {
	switch {
	case probe == nil:
	case probe.GRPC != nil:
		return Probe{Port: probe.GRPC.Port, GRPC: true}, true
	case probe.HTTPGet != nil:
		port := probe.HTTPGet.Port.IntVal
		for _, named := range container.Ports {
			if probe.HTTPGet.Port.StrVal != "" && named.Name == probe.HTTPGet.Port.StrVal {
				port = named.ContainerPort
			}
		}
		path, _, _ := strings.Cut(probe.HTTPGet.Path, "?")
		return Probe{Port: port, TLS: probe.HTTPGet.Scheme == corev1.URISchemeHTTPS, Path: "/" + strings.TrimPrefix(path, "/")}, port > 0
	}
	return Probe{}, false
}

// PortsOf turns numbers into ports.
func PortsOf(numbers []int32) []Port {
	ports := make([]Port, len(numbers))
	for i, number := range numbers {
		ports[i] = intstr.FromInt32(number)
	}
	return ports
}

// JoinPorts lists numbers for people: 8080, 9080.
func JoinPorts(ports []int32) string {
	texts := make([]string, len(ports))
	for i, port := range slices.Sorted(slices.Values(ports)) {
		texts[i] = strconv.Itoa(int(port))
	}
	return strings.Join(texts, ", ")
}

// Verdict is what one layer says of one connection.
type Verdict struct {
	Allowed bool
	// Partly says that it depends on the request, of which the layer lets some
	// through; Allowed is set then.
	Partly bool
	// Unknown says that it depends on what is not evaluated, or on how the caller
	// goes about it, so that nobody may count on either; Allowed is set then.
	Unknown bool
	// Via names what the connection goes by way of instead of straight to the pod,
	// so that NetworkPolicies judge other connections; Unknown is set then.
	Via string
	// Reason names the object and the rule that decide, or that nothing does.
	Reason string
}

// End is one end of a connection: a pod with its namespace, or, with neither, an
// address outside the cluster.
type End struct {
	Namespace *corev1.Namespace
	Pod       *corev1.Pod
	IP        netip.Addr
}

// Authority is how the meshes of a cluster send what applications send, and whom
// their authorization lets in, read at one moment.
type Authority interface {
	// Mesh is the name of the mesh, "Linkerd" or "Istio", that the pod belongs to
	// by the proxy that it runs, well or not, or through its node, and empty
	// otherwise.
	Mesh(pod End) string
	// Class is equal for pods that the authority treats alike at either end of any
	// connection.
	Class(pod End) string
	// Wire is the port at which a connection that the application at from opens to
	// a port of the pod to arrives at to's network interface. It is the same port
	// unless a mesh sends it to a port of the proxy.
	Wire(from, to End, port netpol.Port) netpol.Port
	// Judge says whether to's proxy lets such a connection in. A pod outside the
	// mesh lets everybody in.
	// The verdict is that on all ends of the same classes: its reason names no pod.
	Judge(from, to End, port netpol.Port) Verdict
	// Networks are the ranges by which it tells callers apart by their addresses:
	// two addresses outside the cluster that are in the same of them are alike.
	Networks() []netip.Prefix
	// NotEvaluated names what of the mesh decides as well, or changes what does,
	// and is not evaluated.
	NotEvaluated() []string
}
