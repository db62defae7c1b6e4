package linkerd

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// authorityOf judges by a control plane of today with the chart's own values, and
// the objects.
func authorityOf(t *testing.T, objects ...*unstructured.Unstructured) *authority {
	t.Helper()
	return authorityBy(t, map[string]any{"proxyInit": map[string]any{"ignoreInboundPorts": "4567,4568", "ignoreOutboundPorts": "4567,4568"}}, objects...)
}

func authorityBy(t *testing.T, values map[string]any, objects ...*unstructured.Unstructured) *authority {
	t.Helper()
	var found policies
	for _, object := range objects {
		switch object.GetKind() {
		case "Server":
			found.servers = append(found.servers, object)
		case "AuthorizationPolicy":
			found.authorizations = append(found.authorizations, object)
		case "MeshTLSAuthentication":
			found.meshTLS = append(found.meshTLS, object)
		case "NetworkAuthentication":
			found.networks = append(found.networks, object)
		case "ServerAuthorization":
			found.legacy = append(found.legacy, object)
		case "HTTPRoute", "GRPCRoute":
			found.routes = append(found.routes, object)
		default:
			t.Fatalf("unexpected kind %s", object.GetKind())
		}
	}
	return newAuthority(map[string]terms{DefaultNamespace: termsOf(DefaultNamespace, "edge-26.8.3", values)}, found)
}

// parsed reads objects of namespace dgraph, as short as they can be: a kind, a
// name and a spec each.
func parsed(t *testing.T, manifest string) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	for document := range strings.SplitSeq(manifest, "---") {
		var short struct {
			Kind, Name, Group string
			Labels            map[string]string
			Spec              map[string]any
		}
		if err := yaml.UnmarshalStrict([]byte(document), &short); err != nil {
			t.Fatalf("%v in %s", err, document)
		}
		if short.Group == "" {
			short.Group = policyGroup
		}
		object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": short.Group + "/v1", "kind": short.Kind, "spec": short.Spec}}
		object.SetNamespace("dgraph")
		object.SetName(short.Name)
		object.SetLabels(short.Labels)
		objects = append(objects, object)
	}
	return objects
}

type podOption func(*corev1.Pod)

// podOf is a meshed pod that runs as the ServiceAccount of its name.
func podOf(namespace, account, address string, options ...podOption) access.End {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: account + "-0",
			Labels: map[string]string{controlPlaneLabel: DefaultNamespace}, Annotations: map[string]string{},
		},
		Spec: corev1.PodSpec{ServiceAccountName: account, Containers: []corev1.Container{
			{Name: ProxyContainer},
			{Name: "main", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}}},
		}},
		Status: corev1.PodStatus{PodIP: address},
	}
	for _, option := range options {
		option(pod)
	}
	return access.End{Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, Pod: pod}
}

func labelled(key, value string) podOption {
	return func(p *corev1.Pod) { p.Labels[key] = value }
}

func annotated(key, value string) podOption {
	return func(p *corev1.Pod) { p.Annotations[configPrefix+key] = value }
}

func probed(port int32) podOption {
	return func(p *corev1.Pod) {
		p.Spec.Containers[1].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: port}}}
		p.Spec.Containers[1].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "ready?now", Port: intstr.FromString("http")}}}
	}
}

// unmeshedPod wears the mesh's label, and has no proxy.
func unmeshedPod(namespace, address string) access.End {
	end := podOf(namespace, "plain", address)
	end.Pod.Spec.Containers = end.Pod.Spec.Containers[1:]
	return end
}

func addressed(address string) access.End { return access.End{IP: netip.MustParseAddr(address)} }

func tcp(number int32) netpol.Port {
	return netpol.Port{Protocol: corev1.ProtocolTCP, Number: number}
}
