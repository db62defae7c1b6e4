package istio

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

const (
	tlsModeLabel     = "security.istio.io/tlsMode"
	gatewayLabel     = "istio"
	gatewayNameLabel = "gateway.networking.k8s.io/gateway-name"
)

// sidecarPorts are taken by the sidecar inside the pod. None of them carries
// mTLS between sidecars, so a policy for them would admit no mesh traffic.
func sidecarPorts() []int32 {
	return []int32{15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090}
}

// CheckPorts refuses the sidecar's own ports where the application's are meant.
func CheckPorts(ports []int32) error {
	for _, port := range ports {
		if slices.Contains(sidecarPorts(), port) {
			return fmt.Errorf("port %d is the sidecar's own; name the application's", port)
		}
	}
	return nil
}

// PolicyRules returns what to admit so that workloads with sidecars and Istio's
// gateways reach the application's TCP ports and others do not.
//
// Between sidecars, mTLS travels on the application's own port; 15006 exists
// only behind the redirection inside the pod. So the policy can tell mesh
// traffic by labels only: the injector sets security.istio.io/tlsMode=istio on
// the pods it injects, gateways of the chart carry `istio`, and those of the
// Gateway API, which the injector does not label, the name of their Gateway and
// istio.io/dataplane-mode=none. No rule is needed for probes: a NetworkPolicy
// never blocks traffic from the pod's own node
// (kubernetes.io/docs/concepts/services-networking/network-policies).
func PolicyRules(ports []int32) (netpol.Rules, error) {
	if err := CheckPorts(ports); err != nil {
		return netpol.Rules{}, err
	}
	ports, err := netpol.NormalizePorts(ports)
	if err != nil {
		return netpol.Rules{}, err
	}
	texts := make([]string, len(ports))
	for i, port := range ports {
		texts[i] = fmt.Sprint(port)
	}
	peers := []netpol.Peer{
		{Pods: metav1.LabelSelector{MatchLabels: map[string]string{tlsModeLabel: "istio"}}},
		{Pods: metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: gatewayLabel, Operator: metav1.LabelSelectorOpIn, Values: []string{"egressgateway", "ingressgateway"}},
		}}},
		{Pods: metav1.LabelSelector{
			MatchLabels:      map[string]string{dataplaneModeLabel: "none"},
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: gatewayNameLabel, Operator: metav1.LabelSelectorOpExists}},
		}},
	}
	return netpol.Rules{
		Admit: []netpol.Admission{{Peers: peers, Ports: netpol.TCP(ports...)}},
		Guarantee: fmt.Sprintf("Ports %s are open to pods that carry the label Istio's injector sets (%s=istio) and to Istio's gateways, in any namespace, and every other port is closed. "+
			"Whoever may label a pod can pass as meshed: sidecars use the application's own ports, where nothing but the label tells mesh traffic apart. "+
			"For proof of identity require mTLS with a PeerAuthentication of mode STRICT. "+
			"Closed unless another policy opens them: metrics (15020, 15090). Probes from the pod's own node always pass.",
			strings.Join(texts, ", "), tlsModeLabel),
	}, nil
}
