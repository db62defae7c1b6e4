package access

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// Excepted admits the exceptions at the ports themselves, as callers without a
// proxy dial them. metrics are the ports that Metrics of an exception stands for;
// without any, such exceptions have nothing to open.
func (p Protection) Excepted(metrics ...int32) []netpol.Admission {
	var admitted []netpol.Admission
	for _, e := range p.Exceptions {
		admission := netpol.Admission{Peers: e.Peers, Anyone: e.Anyone}
		ports := p.ExceptedPorts(e)
		switch {
		case e.Metrics && len(metrics) == 0:
			continue
		case e.Metrics:
			admission.Ports = netpol.TCP(metrics...)
		case len(ports) == 0:
			admission.AnyPort = true
		default:
			admission.Ports = netpol.TCP(ports...)
		}
		admitted = append(admitted, admission)
	}
	return admitted
}

// ExceptedPorts are the ports that an exception without Metrics opens; none means
// all of them.
func (p Protection) ExceptedPorts(e Exception) []int32 {
	if len(e.Ports) > 0 {
		return e.Ports
	}
	return p.Ports
}

// Webhooks admits the callers of a control plane's webhooks to their ports;
// nobody if there are none.
func (c ControlPlane) Webhooks(ports ...int32) []netpol.Admission {
	admission := netpol.Admission{Anyone: c.Everyone, Ports: netpol.TCP(ports...)}
	if c.Everyone {
		return []netpol.Admission{admission}
	}
	if c.Konnectivity {
		admission.Peers = append(admission.Peers, inKubeSystem("app", "konnectivity-agent"))
	}
	for _, block := range c.Networks {
		admission.Peers = append(admission.Peers, netpol.Peer{Block: &block})
	}
	if len(admission.Peers) == 0 {
		return nil
	}
	return []netpol.Admission{admission}
}

// DNS admits queries to the cluster's DNS and to the caches of it on nodes, as far
// as those are pods (k8s-app=node-local-dns). A cache in the node's own network no
// label selects; whether a pod may call its node, engines of network policies do
// not agree on.
func DNS() netpol.Admission {
	return netpol.Admission{
		Peers: []netpol.Peer{inKubeSystem("k8s-app", "kube-dns"), inKubeSystem("k8s-app", "node-local-dns")},
		Ports: []netpol.Port{{Protocol: corev1.ProtocolUDP, Number: 53}, {Protocol: corev1.ProtocolTCP, Number: 53}},
	}
}

func inKubeSystem(key, value string) netpol.Peer {
	return netpol.InNamespace(metav1.NamespaceSystem, metav1.LabelSelector{MatchLabels: map[string]string{key: value}})
}
