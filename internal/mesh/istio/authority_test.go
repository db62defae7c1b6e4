package istio

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

// end makes a pod of a namespace. Its name begins with what it is in the mesh:
// sidecar, hbone, ambient, plain, gateway, waypoint or ztunnel; its account is its
// name.
func end(namespace, name, ip string, edits ...func(*corev1.Pod)) access.End {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}, Annotations: map[string]string{}},
		Spec:       corev1.PodSpec{ServiceAccountName: name, Containers: []corev1.Container{{Name: "app"}}},
		Status:     corev1.PodStatus{PodIP: ip},
	}
	proxy := corev1.Container{Name: proxyContainer, Image: "proxyv2:1.31.0"}
	switch what, _, _ := strings.Cut(name, "-"); what {
	case "hbone":
		pod.Labels["networking.istio.io/tunnel"] = "http"
		fallthrough
	case "sidecar":
		pod.Labels[tlsModeLabel] = "istio"
		pod.Annotations[statusAnnotation] = `{"revision":"default"}`
		pod.Spec.InitContainers = []corev1.Container{{Name: "istio-init"}}
		pod.Spec.Containers = append(pod.Spec.Containers, proxy)
	case "ambient":
		pod.Annotations[redirectionAnnotation] = enabled
	case "gateway":
		pod.Labels["istio"] = "ingressgateway"
		pod.Annotations[statusAnnotation] = `{"revision":"default"}`
		pod.Spec.Containers = []corev1.Container{proxy}
	case "waypoint":
		pod.Labels[gatewayNameLabel], pod.Labels[managedLabel] = name, meshController
		pod.Spec.Containers = []corev1.Container{proxy}
	case "ztunnel":
		pod.Labels["app"] = ztunnel
		pod.Spec.Containers = []corev1.Container{proxy}
	}
	for _, edit := range edits {
		edit(pod)
	}
	return access.End{Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, Pod: pod}
}

func annotated(key, value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Annotations[key] = value }
}

func labelled(key, value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Labels[key] = value }
}

// enforcementOf reads documents of PeerAuthentications and AuthorizationPolicies,
// each of which is a day younger than the one before. The first line of each is
// its place: pa <namespace>/<name> or ap <namespace>/<name>, or dr of a
// DestinationRule.
func enforcementOf(t *testing.T, config meshConfig, text string, services ...*corev1.Service) *enforcement {
	t.Helper()
	var policies []placed[authorization]
	var authentications []placed[peerAuthentication]
	var rules []placed[destinationRule]
	created := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for document := range strings.SplitSeq(strings.TrimSpace(text), "---\n") {
		head, body, _ := strings.Cut(strings.TrimSpace(document), "\n")
		kind, place, found := strings.Cut(head, " ")
		namespace, name, _ := strings.Cut(place, "/")
		created = created.AddDate(0, 0, 1)
		var err error
		switch {
		case !found:
		case kind == "pa":
			p := placed[peerAuthentication]{namespace: namespace, name: name, created: created}
			err = yaml.UnmarshalStrict([]byte(body), &p.spec)
			authentications = append([]placed[peerAuthentication]{p}, authentications...)
		case kind == "dr":
			p := placed[destinationRule]{namespace: namespace, name: name, created: created}
			err = yaml.Unmarshal([]byte(body), &p.spec)
			rules = append(rules, p)
		default:
			p := placed[authorization]{namespace: namespace, name: name, created: created}
			err = yaml.UnmarshalStrict([]byte(body), &p.spec)
			policies = append([]placed[authorization]{p}, policies...)
		}
		if err != nil {
			t.Fatalf("%s: %v", head, err)
		}
	}
	if config.TrustDomain == "" {
		config.TrustDomain = defaultTrustDomain
	}
	config.RootNamespace = "istio-system"
	return newEnforcement([]meshConfig{config}, policies, authentications, rules, services)
}

func TestJudge(t *testing.T) {
	t.Parallel()
	sidecar, other := end("shop", "sidecar-client", "10.0.0.1"), end("other", "sidecar-client", "10.0.1.1")
	ambient, plain := end("shop", "ambient-client", "10.0.0.2"), end("shop", "plain-client", "10.0.0.3")
	gateway, waypoint := end("edge", "gateway", "10.0.2.1"), end("shop", "waypoint", "10.0.0.9")
	api, hbone, cart := end("shop", "sidecar-api", "10.0.0.4"), end("shop", "hbone-api", "10.0.0.5"), end("shop", "ambient-cart", "10.0.0.6")
	internet := access.End{IP: netip.MustParseAddr("203.0.113.7")}
	const strict = "pa istio-system/default\nmtls: {mode: STRICT}\n"
	const clients = "ap shop/clients\nrules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/sidecar-client]}}], to: [{operation: {ports: ['8080']}}]}]\n"
	for _, test := range []struct {
		name     string
		objects  string
		config   meshConfig
		from, to access.End
		port     int32  // 8080 if 0
		want     string // yes, no or partly
		reason   string
	}{
		{name: "nothing said", from: plain, to: api, want: "yes", reason: "no AuthorizationPolicy restricts it"},
		{name: "from without, nothing said", from: internet, to: cart, want: "yes"},
		{name: "to a pod outside of the mesh", objects: strict, from: sidecar, to: plain, want: "yes", reason: "outside the mesh"},
		{name: "to ztunnel", objects: strict, from: plain, to: end("istio-system", "ztunnel-1", ""), want: "yes", reason: "outside the mesh"},

		{name: "strict, sidecar to sidecar", objects: strict, from: sidecar, to: api, want: "yes"},
		{name: "strict, plain to sidecar", objects: strict, from: plain, to: api, want: "no", reason: "PeerAuthentication istio-system/default takes mTLS of the mesh only"},
		{name: "strict, internet to sidecar", objects: strict, from: internet, to: api, want: "no"},
		{name: "strict, gateway to sidecar", objects: strict, from: gateway, to: api, want: "yes"},
		{name: "strict, ambient to sidecar without HBONE", objects: strict, from: ambient, to: api, want: "no", reason: "takes no HBONE"},
		{name: "strict, ambient to sidecar with HBONE", objects: strict, from: ambient, to: hbone, want: "yes"},
		{name: "strict, waypoint to sidecar with HBONE", objects: strict, from: waypoint, to: hbone, want: "yes"},
		{name: "strict, sidecar to ambient", objects: strict, from: sidecar, to: cart, want: "yes"},
		{name: "strict, ambient to ambient", objects: strict, from: ambient, to: cart, want: "yes"},
		{name: "strict, plain to ambient", objects: strict, from: plain, to: cart, want: "no"},
		{name: "strict, without auto mTLS", objects: strict, config: meshConfig{EnableAutoMTLS: new(false)}, from: sidecar, to: api, want: "no", reason: "enableAutoMtls"},
		{name: "strict, pod without the label", objects: strict, from: sidecar, to: end("shop", "sidecar-x", "", labelled(tlsModeLabel, "disabled")), want: "no", reason: tlsModeLabel},
		{name: "strict, excluded port", objects: strict, from: plain, to: end("shop", "sidecar-x", "", annotated(excludeInboundPorts, "9090, 8080")), want: "yes", reason: excludeInboundPorts},
		{name: "strict, port not included", objects: strict, from: plain, to: end("shop", "sidecar-x", "", annotated(includeInboundPorts, "80")), want: "yes", reason: includeInboundPorts},
		{name: "strict, all ports included", objects: strict, from: plain, to: end("shop", "sidecar-x", "", annotated(includeInboundPorts, "*")), want: "no"},
		{name: "strict, no redirection", objects: strict, from: plain, to: end("shop", "sidecar-x", "", annotated(interceptionMode, "NONE")), want: "yes", reason: interceptionMode},
		{name: "strict, metrics", objects: strict, from: plain, to: api, port: 15020, want: "yes"},
		{name: "strict, exclusion means nothing in ambient mode", objects: strict, from: plain, to: end("shop", "ambient-x", "", annotated(excludeInboundPorts, "8080")), want: "no"},

		{name: "namespace softens mesh", objects: strict + "---\npa shop/default\nmtls: {mode: PERMISSIVE}\n", from: plain, to: api, want: "yes"},
		{name: "namespace leaves mesh as it is", objects: strict + "---\npa shop/default\nmtls: {mode: UNSET}\n", from: plain, to: api, want: "no", reason: "istio-system/default"},
		{name: "other namespace", objects: "pa other/default\nmtls: {mode: STRICT}\n", from: plain, to: api, want: "yes"},
		{name: "oldest of a namespace", objects: "pa shop/b\nmtls: {mode: STRICT}\n---\npa shop/a\nmtls: {mode: PERMISSIVE}\n", from: plain, to: api, want: "no", reason: "shop/b"},
		{name: "workload over namespace", objects: "pa shop/default\nmtls: {mode: PERMISSIVE}\n---\npa shop/api\nselector: {matchLabels: {app: sidecar-api}}\nmtls: {mode: STRICT}\n", from: plain, to: api, want: "no", reason: "shop/api"},
		{name: "workload of others", objects: "pa shop/api\nselector: {matchLabels: {app: else}}\nmtls: {mode: STRICT}\n", from: plain, to: api, want: "yes"},
		{name: "oldest of a workload", objects: "pa shop/z\nselector: {matchLabels: {app: sidecar-api}}\nmtls: {mode: PERMISSIVE}\n---\npa shop/a\nselector: {matchLabels: {app: sidecar-api}}\nmtls: {mode: STRICT}\n", from: plain, to: api, want: "yes"},
		{name: "labels in the root namespace", objects: "pa istio-system/api\nselector: {matchLabels: {app: sidecar-api}}\nmtls: {mode: STRICT}\n", from: plain, to: api, want: "yes"},
		{name: "port permitted", objects: "pa shop/api\nselector: {matchLabels: {app: sidecar-api}}\nmtls: {mode: STRICT}\nportLevelMtls: {'8080': {mode: PERMISSIVE}}\n", from: plain, to: api, want: "yes"},
		{name: "other port permitted", objects: "pa shop/api\nselector: {matchLabels: {app: sidecar-api}}\nmtls: {mode: STRICT}\nportLevelMtls: {'9090': {mode: PERMISSIVE}}\n", from: plain, to: api, want: "no"},
		{name: "port strict", objects: "pa shop/api\nselector: {matchLabels: {app: sidecar-api}}\nportLevelMtls: {'8080': {mode: STRICT}}\n", from: plain, to: api, want: "no"},
		{name: "port unset", objects: strict + "---\npa shop/api\nselector: {matchLabels: {app: sidecar-api}}\nportLevelMtls: {'8080': {mode: UNSET}}\n", from: plain, to: api, want: "no"},
		{name: "disabled, sidecar shows no identity", objects: "pa shop/default\nmtls: {mode: DISABLE}\n---\n" + clients, from: sidecar, to: api, want: "no", reason: "shows no identity"},
		{name: "disabled is permitted in ambient mode", objects: "pa shop/default\nmtls: {mode: DISABLE}\n---\n" + clients, from: sidecar, to: cart, want: "yes"},

		{name: "principal", objects: clients, from: sidecar, to: api, want: "yes", reason: "rule 1 of AuthorizationPolicy shop/clients allows it"},
		{name: "principal, other port", objects: clients, from: sidecar, to: api, port: 9090, want: "no", reason: "no rule of AuthorizationPolicy shop/clients allows it"},
		{name: "other principal", objects: clients, from: other, to: api, want: "no"},
		{name: "no principal", objects: clients, from: plain, to: api, want: "no", reason: "shows no identity"},
		{name: "ambient, principal", objects: clients, from: sidecar, to: cart, want: "yes"},
		{name: "ambient, other principal", objects: clients, from: ambient, to: cart, want: "no"},
		{name: "policies add up", objects: clients + "---\nap shop/all\nrules: [{}]\n", from: plain, to: api, want: "yes", reason: "shop/all"},
		{name: "nothing allowed", objects: "ap shop/none\n{}\n", from: sidecar, to: api, want: "no", reason: "shop/none"},
		{name: "of another namespace", objects: "ap other/none\n{}\n", from: sidecar, to: api, want: "yes"},
		{name: "of the root namespace", objects: "ap istio-system/none\n{}\n", from: sidecar, to: api, want: "no"},
		{name: "of the root namespace with labels", objects: "ap istio-system/none\nselector: {matchLabels: {app: sidecar-api}}\n", from: sidecar, to: api, want: "no"},
		{name: "of other labels", objects: "ap shop/none\nselector: {matchLabels: {app: else}}\n", from: sidecar, to: api, want: "yes"},
		{name: "of a target", objects: "ap shop/none\ntargetRefs: [{kind: Service, name: api}]\n", from: sidecar, to: api, want: "yes"},

		{name: "any principal", objects: "ap shop/p\nrules: [{from: [{source: {principals: ['*']}}]}]\n", from: other, to: api, want: "yes"},
		{name: "any principal, none", objects: "ap shop/p\nrules: [{from: [{source: {principals: ['*']}}]}]\n", from: internet, to: api, want: "no"},
		{name: "beginning", objects: "ap shop/p\nrules: [{from: [{source: {principals: ['cluster.local/ns/other/*']}}]}]\n", from: other, to: api, want: "yes"},
		{name: "end", objects: "ap shop/p\nrules: [{from: [{source: {principals: ['*/sa/sidecar-client']}}]}]\n", from: other, to: cart, want: "yes"},
		{name: "other end", objects: "ap shop/p\nrules: [{from: [{source: {principals: ['*/sa/else']}}]}]\n", from: other, to: api, want: "no"},
		{name: "not the principal", objects: "ap shop/p\nrules: [{from: [{source: {notPrincipals: ['cluster.local/ns/shop/*']}}]}]\n", from: sidecar, to: api, want: "no"},
		{name: "not the principal, none", objects: "ap shop/p\nrules: [{from: [{source: {notPrincipals: ['cluster.local/ns/shop/*']}}]}]\n", from: plain, to: api, want: "yes"},
		{name: "trust domain by its pointer", objects: clients, config: meshConfig{TrustDomain: "corp.example"}, from: sidecar, to: api, want: "yes"},
		{name: "trust domain by its pointer, ambient", objects: clients, config: meshConfig{TrustDomain: "corp.example"}, from: sidecar, to: cart, want: "no"},
		{name: "trust domain by an alias", objects: "ap shop/p\nrules: [{from: [{source: {principals: [old.example/ns/shop/sa/sidecar-client]}}]}]\n", config: meshConfig{TrustDomain: "corp.example", TrustDomainAliases: []string{"old.example"}}, from: sidecar, to: api, want: "yes"},
		{name: "trust domain of others", objects: "ap shop/p\nrules: [{from: [{source: {principals: [old.example/ns/shop/sa/sidecar-client]}}]}]\n", from: sidecar, to: api, want: "no"},
		{name: "trust domains", objects: "ap shop/p\nrules: [{from: [{source: {trustDomains: ['cluster.*']}}]}]\n", from: sidecar, to: api, want: "yes"},
		{name: "trust domains, other", objects: "ap shop/p\nrules: [{from: [{source: {trustDomains: [corp.example]}}]}]\n", from: sidecar, to: api, want: "no"},
		{name: "namespace", objects: "ap shop/p\nrules: [{from: [{source: {namespaces: [shop]}}]}]\n", from: sidecar, to: api, want: "yes"},
		{name: "namespace, plain", objects: "ap shop/p\nrules: [{from: [{source: {namespaces: [shop]}}]}]\n", from: plain, to: api, want: "no"},
		{name: "namespaces by pattern", objects: "ap shop/p\nrules: [{from: [{source: {namespaces: ['sh*']}}]}]\n", from: sidecar, to: api, want: "yes"},
		{name: "other namespaces", objects: "ap shop/p\nrules: [{from: [{source: {namespaces: ['*'], notNamespaces: [other]}}]}]\n", from: other, to: api, want: "no"},
		{name: "account of the policy's namespace", objects: "ap shop/p\nrules: [{from: [{source: {serviceAccounts: [sidecar-client]}}]}]\n", from: sidecar, to: api, want: "yes"},
		{name: "account of another namespace", objects: "ap shop/p\nrules: [{from: [{source: {serviceAccounts: [sidecar-client]}}]}]\n", from: other, to: api, want: "no"},
		{name: "account with its namespace", objects: "ap shop/p\nrules: [{from: [{source: {serviceAccounts: [other/sidecar-client]}}]}]\n", from: other, to: api, want: "yes"},
		{name: "address", objects: "ap shop/p\nrules: [{from: [{source: {ipBlocks: [203.0.113.0/24]}}]}]\n", from: internet, to: api, want: "yes"},
		{name: "single address", objects: "ap shop/p\nrules: [{from: [{source: {ipBlocks: [203.0.113.7]}}]}]\n", from: internet, to: cart, want: "yes"},
		{name: "other address", objects: "ap shop/p\nrules: [{from: [{source: {ipBlocks: [203.0.113.0/24], notIpBlocks: [203.0.113.7/32]}}]}]\n", from: internet, to: api, want: "no"},
		{name: "address of a pod", objects: "ap shop/p\nrules: [{from: [{source: {ipBlocks: [10.0.0.0/24]}}]}]\n", from: plain, to: api, want: "yes"},
		{name: "no address yet", objects: "ap shop/p\nrules: [{from: [{source: {ipBlocks: [10.0.0.0/24]}}]}]\n", from: end("shop", "plain-x", ""), to: api, want: "partly"},
		{name: "all but a port", objects: "ap shop/p\nrules: [{to: [{operation: {notPorts: ['8080']}}]}]\n", from: sidecar, to: api, want: "no"},

		{name: "by path", objects: "ap shop/p\nrules: [{to: [{operation: {paths: [/health]}}]}]\n", from: sidecar, to: api, want: "partly", reason: "allows some of it"},
		{name: "by path, other caller", objects: "ap shop/p\nrules: [{from: [{source: {namespaces: [shop]}}], to: [{operation: {paths: [/health]}}]}]\n", from: other, to: api, want: "no"},
		{name: "by path or all", objects: "ap shop/p\nrules: [{to: [{operation: {paths: [/health]}}]}, {from: [{source: {namespaces: [shop]}}]}]\n", from: sidecar, to: api, want: "yes", reason: "rule 2"},
		{name: "by path, ambient", objects: "ap shop/p\nrules: [{to: [{operation: {paths: [/health]}}]}]\n", from: sidecar, to: cart, want: "no"},
		{name: "by token", objects: "ap shop/p\nrules: [{from: [{source: {requestPrincipals: ['*']}}]}]\n", from: sidecar, to: api, want: "partly"},
		{name: "by condition", objects: "ap shop/p\nrules: [{when: [{key: 'request.headers[x]', values: [a]}]}]\n", from: sidecar, to: api, want: "partly"},
		{name: "by condition, ambient", objects: "ap shop/p\nrules: [{when: [{key: 'request.headers[x]', values: [a]}]}]\n", from: sidecar, to: cart, want: "no"},
		{name: "by condition on the port", objects: "ap shop/p\nrules: [{when: [{key: destination.port, values: ['8080']}]}]\n", from: sidecar, to: cart, want: "yes"},
		{name: "by condition on the caller", objects: "ap shop/p\nrules: [{when: [{key: source.principal, notValues: ['*/sa/sidecar-client']}]}]\n", from: sidecar, to: api, want: "no"},

		{name: "denied", objects: "ap shop/d\naction: DENY\nrules: [{from: [{source: {namespaces: [other]}}]}]\n", from: other, to: api, want: "no", reason: "rule 1 of AuthorizationPolicy shop/d denies it"},
		{name: "not denied", objects: "ap shop/d\naction: DENY\nrules: [{from: [{source: {namespaces: [other]}}]}]\n", from: sidecar, to: api, want: "yes"},
		{name: "denied before allowed", objects: clients + "---\nap shop/d\naction: DENY\nrules: [{}]\n", from: sidecar, to: api, want: "no"},
		{name: "denied without identity", objects: "ap shop/d\naction: DENY\nrules: [{from: [{source: {notPrincipals: ['*']}}]}]\n", from: plain, to: api, want: "no"},
		{name: "denied without rules", objects: "ap shop/d\naction: DENY\n", from: plain, to: api, want: "yes"},
		{name: "denied by path", objects: "ap shop/d\naction: DENY\nrules: [{to: [{operation: {paths: [/admin]}}]}]\n", from: sidecar, to: api, want: "partly", reason: "denies some of it"},
		{name: "denied by path, ambient", objects: "ap shop/d\naction: DENY\nrules: [{to: [{operation: {paths: [/admin]}}]}]\n", from: sidecar, to: cart, want: "no"},
		{name: "denied by path and allowed by path", objects: "ap shop/p\nrules: [{to: [{operation: {paths: [/health]}}]}]\n---\nap shop/d\naction: DENY\nrules: [{to: [{operation: {paths: [/admin]}}]}]\n", from: sidecar, to: api, want: "partly", reason: "denies some of it; rule 1 of AuthorizationPolicy shop/p allows some of it"},
		{name: "custom", objects: "ap shop/c\naction: CUSTOM\nrules: [{to: [{operation: {ports: ['8080']}}]}]\n", from: sidecar, to: api, want: "unknown", reason: "authorizer"},
		{name: "custom, but denied", objects: "ap shop/c\naction: CUSTOM\nrules: [{}]\n---\nap shop/none\n{}\n", from: sidecar, to: api, want: "no", reason: "shop/none"},
		{name: "custom, other port", objects: "ap shop/c\naction: CUSTOM\nrules: [{to: [{operation: {ports: ['9090']}}]}]\n", from: sidecar, to: api, want: "yes"},
		{name: "custom, ambient", objects: "ap shop/c\naction: CUSTOM\nrules: [{}]\n", from: sidecar, to: cart, want: "yes"},
		{name: "audited", objects: "ap shop/a\naction: AUDIT\nrules: [{}]\n", from: sidecar, to: api, want: "yes"},

		{name: "excluded port, from a sidecar", from: sidecar, to: end("shop", "sidecar-x", "", annotated(excludeInboundPorts, "8080")), want: "unknown", reason: "speaks mTLS to it"},
		{name: "excluded port, without mTLS", objects: "pa shop/default\nmtls: {mode: DISABLE}\n", from: sidecar, to: end("shop", "sidecar-x", "", annotated(excludeInboundPorts, "8080")), want: "yes"},
		{name: "metrics, from a sidecar", from: sidecar, to: api, port: 15020, want: "yes", reason: "the proxy's own"},
		{name: "tunnel of an ambient pod", from: plain, to: cart, port: 15008, want: "no", reason: "at port 15008 proxies take connections of other proxies only"},
		{name: "tunnel of an ambient pod, from the mesh", from: ambient, to: cart, port: 15008, want: "no"},
		{name: "tunnel of a sidecar", from: plain, to: hbone, port: 15008, want: "no"},
		{name: "inbound port of a sidecar", from: plain, to: api, port: 15006, want: "no", reason: "redirected"},
		{name: "outbound port of an ambient pod", from: plain, to: cart, port: 15001, want: "no"},
		{name: "administration of a sidecar", from: plain, to: api, port: 15000, want: "no", reason: "its own pod only"},
		{name: "port of an application of an ambient pod", from: plain, to: cart, port: 15000, want: "yes"},
		{name: "tunnel of a pod outside of the mesh", from: plain, to: plain, port: 15008, want: "yes"},

		{name: "to a gateway", objects: strict, from: internet, to: gateway, want: "unknown", reason: "gateway"},
		{name: "to a waypoint", from: ambient, to: waypoint, want: "unknown", reason: "waypoint"},
		{name: "behind a waypoint", from: ambient, to: end("shop", "ambient-x", "", labelled("istio.io/use-waypoint", "w")), want: "unknown", reason: "waypoint w"},
		{name: "behind a waypoint, plain", objects: strict, from: plain, to: end("shop", "ambient-x", "", labelled("istio.io/use-waypoint", "w")), want: "no"},
		{name: "from the waypoint", from: waypoint, to: end("shop", "ambient-x", "", labelled("istio.io/use-waypoint", "w")), want: "yes"},
		{name: "without a waypoint", from: ambient, to: end("shop", "ambient-x", "", labelled("istio.io/use-waypoint", "none")), want: "yes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			port := netpol.Port{Protocol: corev1.ProtocolTCP, Number: test.port}
			if port.Number == 0 {
				port.Number = 8080
			}
			verdict := enforcementOf(t, test.config, test.objects).Judge(test.from, test.to, port)
			got := map[bool]string{true: "yes", false: "no"}[verdict.Allowed]
			switch {
			case verdict.Partly:
				got = "partly"
			case verdict.Unknown:
				got = "unknown"
			}
			if got != test.want || !strings.Contains(verdict.Reason, test.reason) || verdict.Reason == "" {
				t.Errorf("%s, want %s: %s", got, test.want, verdict.Reason)
			}
			if (verdict.Partly || verdict.Unknown || verdict.Via != "") && !verdict.Allowed {
				t.Error("partly or unknown, but not allowed")
			}
		})
	}
}

func TestJudgeServicesWaypoint(t *testing.T) {
	t.Parallel()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", Labels: map[string]string{"istio.io/use-waypoint": "w"}},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "ambient-cart"}},
	}
	e := enforcementOf(t, meshConfig{}, "", service)
	tcp := netpol.TCP(8080)[0]
	ambient := end("shop", "ambient-client", "")
	if v := e.Judge(ambient, end("shop", "ambient-cart", ""), tcp); !v.Unknown || v.Via != "waypoint w" || !strings.Contains(v.Reason, "waypoint w") {
		t.Errorf("%+v", v)
	}
	if v := e.Judge(ambient, end("shop", "ambient-else", ""), tcp); v.Unknown {
		t.Errorf("%+v", v)
	}
	if v := e.Judge(ambient, end("shop", "ambient-cart", ""), netpol.Port{Protocol: corev1.ProtocolUDP, Number: 53}); v.Unknown || !v.Allowed {
		t.Errorf("UDP: %+v", v)
	}
}

func TestJudgeDestinationRules(t *testing.T) {
	t.Parallel()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "api"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "sidecar-api"}}}
	const strict, disable = "pa istio-system/default\nmtls: {mode: STRICT}\n---\n", "trafficPolicy: {tls: {mode: DISABLE}}\n"
	for _, test := range []struct {
		name, objects, client string
		unknown               bool
	}{
		{"of the Service's namespace", strict + "dr shop/api\nhost: api\n" + disable, "web", true},
		{"of the client's namespace", strict + "dr web/api\nhost: api.shop.svc.cluster.local\n" + disable, "web", true},
		{"of the root namespace", strict + "dr istio-system/all\nhost: '*.local'\n" + disable, "web", true},
		{"of another namespace", strict + "dr else/api\nhost: api.shop.svc.cluster.local\n" + disable, "web", false},
		{"kept to its namespace", strict + "dr shop/api\nhost: api\nexportTo: ['.']\n" + disable, "web", false},
		{"exported", strict + "dr shop/api\nhost: api\nexportTo: [web]\n" + disable, "web", true},
		{"of another Service", strict + "dr shop/api\nhost: else\n" + disable, "web", false},
		{"with mTLS of the mesh", strict + "dr shop/api\nhost: api\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n", "web", false},
		{"where nothing is asked for", "dr shop/api\nhost: api\n" + disable, "web", false},
		{"where policies ask", "ap shop/p\nrules: [{from: [{source: {principals: ['*']}}]}]\n---\ndr shop/api\nhost: api\n" + disable, "web", true},
	} {
		e := enforcementOf(t, meshConfig{}, test.objects, service)
		client := end(test.client, "sidecar-client", "")
		if v := e.Judge(client, end("shop", "sidecar-api", ""), netpol.TCP(80)[0]); !v.Allowed || v.Partly || v.Unknown != test.unknown || strings.Contains(v.Reason, "DestinationRule") != test.unknown {
			t.Errorf("%s: %+v", test.name, v)
		}
		if v := e.Judge(client, end("shop", "sidecar-else", ""), netpol.TCP(80)[0]); v.Unknown {
			t.Errorf("%s, another pod: %+v", test.name, v)
		}
		a, b := e.Class(end("shop", "sidecar-api", "", account("x"))), e.Class(end("shop", "sidecar-else", "", account("x")))
		if a == b && test.unknown {
			t.Errorf("%s: both are of class %s", test.name, a)
		}
	}
}

func TestNotEvaluated(t *testing.T) {
	t.Parallel()
	const objects = "ap shop/all\nrules: [{}]\n---\nap shop/l7\ntargetRefs: [{kind: Service, name: api}]\n"
	config := meshConfig{plane: Plane{Namespace: "istio-system"}}
	const targeted = "AuthorizationPolicy shop/l7, which is for waypoints or gateways"
	if got := enforcementOf(t, config, objects).NotEvaluated(); !slices.Equal(got, []string{targeted}) {
		t.Errorf("got %q", got)
	}
	config.OutboundTrafficPolicy.Mode = "REGISTRY_ONLY"
	if got := enforcementOf(t, config, objects).NotEvaluated(); !slices.Equal(got, []string{targeted, "outboundTrafficPolicy REGISTRY_ONLY of the control plane in namespace istio-system"}) {
		t.Errorf("got %q", got)
	}
}

func account(name string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.ServiceAccountName = name }
}

func TestWire(t *testing.T) {
	t.Parallel()
	e := enforcementOf(t, meshConfig{}, "")
	for _, test := range []struct {
		from, to string
		want     int32
	}{
		{"sidecar-a", "sidecar-b", 8080},
		{"sidecar-a", "hbone-b", 8080},
		{"sidecar-a", "ambient-b", 15008},
		{"sidecar-a", "plain-b", 8080},
		{"ambient-a", "sidecar-b", 8080},
		{"ambient-a", "hbone-b", 15008},
		{"ambient-a", "ambient-b", 15008},
		{"ambient-a", "plain-b", 8080},
		{"plain-a", "sidecar-b", 8080},
		{"plain-a", "ambient-b", 8080},
		{"gateway", "ambient-b", 15008},
		{"gateway", "sidecar-b", 8080},
		{"waypoint", "ambient-b", 15008},
		{"waypoint", "hbone-b", 15008},
		{"ambient-a", "gateway", 8080},
		{"ztunnel", "ambient-b", 8080},
	} {
		from, to := end("shop", test.from, ""), end("shop", test.to, "")
		if got := e.Wire(from, to, netpol.TCP(8080)[0]); got.Number != test.want || got.Protocol != corev1.ProtocolTCP {
			t.Errorf("%s to %s: %v", test.from, test.to, got)
		}
		udp := netpol.Port{Protocol: corev1.ProtocolUDP, Number: 8080}
		if got := e.Wire(from, to, udp); got != udp {
			t.Errorf("%s to %s by UDP: %v", test.from, test.to, got)
		}
	}
	if got := e.Wire(access.End{IP: netip.MustParseAddr("192.0.2.1")}, end("shop", "ambient-b", ""), netpol.TCP(8080)[0]); got.Number != 8080 {
		t.Errorf("from without: %v", got)
	}
}

// Ends of one class are judged alike, whatever the other end, and so pods that
// differ in what any rule looks at are in different ones.
func TestClass(t *testing.T) {
	t.Parallel()
	e := enforcementOf(t, meshConfig{}, `pa shop/api
selector: {matchLabels: {app: sidecar-api}}
mtls: {mode: STRICT}
portLevelMtls: {'9090': {mode: PERMISSIVE}}
---
ap shop/clients
selector: {matchLabels: {tier: front}}
rules: [{from: [{source: {principals: ['*/sa/sidecar-a'], ipBlocks: [10.0.0.0/24]}}]}]
`)
	if got := e.Networks(); len(got) != 1 || got[0] != netip.MustParsePrefix("10.0.0.0/24") {
		t.Errorf("networks: %v", got)
	}
	base := e.Class(end("shop", "sidecar-a", "10.0.0.1"))
	for name, same := range map[string]access.End{
		"other name":    end("shop", "sidecar-a2", "10.0.0.1", account("sidecar-a")),
		"other address": end("shop", "sidecar-a", "10.0.0.200"),
		"other label":   end("shop", "sidecar-a", "10.0.0.1", labelled("color", "blue")),
		// No policy tells the identities apart.
		"other namespace": end("other", "sidecar-a", "10.0.0.1"),
	} {
		if got := e.Class(same); got != base {
			t.Errorf("%s: %s instead of %s", name, got, base)
		}
	}
	seen := map[string]string{base: "base"}
	for name, other := range map[string]access.End{
		"other account": end("shop", "sidecar-a", "10.0.0.1", account("b")),
		"other network": end("shop", "sidecar-a", "10.0.1.1"),
		"no address":    end("shop", "sidecar-a", ""),
		"policy":        end("shop", "sidecar-a", "10.0.0.1", labelled("tier", "front")),
		"strict":        end("shop", "sidecar-api", "10.0.0.1", account("sidecar-a")),
		"HBONE":         end("shop", "hbone-a", "10.0.0.1", account("sidecar-a")),
		"ambient":       end("shop", "ambient-a", "10.0.0.1", account("sidecar-a")),
		"plain":         end("shop", "plain-a", "10.0.0.1"),
		"excluded":      end("shop", "sidecar-a", "10.0.0.1", annotated(excludeInboundPorts, "80")),
		"waypoint":      end("shop", "ambient-a", "10.0.0.1", account("sidecar-a"), labelled("istio.io/use-waypoint", "w")),
		"outside":       {IP: netip.MustParseAddr("192.0.2.1")},
	} {
		class := e.Class(other)
		if twin, is := seen[class]; is {
			t.Errorf("%s is like %s: %s", name, twin, class)
		}
		seen[class] = name
	}
	if a, b := e.Class(access.End{IP: netip.MustParseAddr("10.0.0.77")}), e.Class(end("shop", "plain-a", "10.0.0.1")); a != b {
		t.Errorf("an address and a pod outside of the mesh with such a one: %s, %s", a, b)
	}
	if e.Mesh(end("shop", "ambient-a", "")) != "Istio" || e.Mesh(end("shop", "plain-a", "")) != "" {
		t.Error("mesh")
	}
}

// TestAThousandAccountsAreFewClasses has as many workloads, each with an account of
// its own, by policies that tell three of them and a namespace from the others.
func TestAThousandAccountsAreFewClasses(t *testing.T) {
	t.Parallel()
	var objects strings.Builder
	for i := range 200 {
		fmt.Fprintf(&objects, "ap ns%d/p%d\nselector: {matchLabels: {guarded: 'true'}}\nrules: [{from: [{source: {principals: [cluster.local/ns/ns1/sa/a%d]}}, {source: {namespaces: [ns2]}}, {source: {serviceAccounts: [ns3/a3]}}]}]\n---\n", i%20, i, i%3*20+1)
	}
	e := enforcementOf(t, meshConfig{}, objects.String())
	classes := map[string]bool{}
	for i := range 1000 {
		classes[e.Class(end(fmt.Sprintf("ns%d", i%20), fmt.Sprintf("sidecar-%d", i), fmt.Sprintf("10.0.%d.%d", i/250, i%250), account(fmt.Sprintf("a%d", i))))] = true
	}
	if len(classes) != 6 {
		t.Errorf("%d classes, want those of the four accounts that are named, of the namespace, and of all others", len(classes))
	}
}

// Whatever the objects, ends of one class are judged alike.
func TestClassesAreJudgedAlike(t *testing.T) {
	t.Parallel()
	objects := map[string]string{
		"mesh":      "pa istio-system/default\nmtls: {mode: STRICT}\n",
		"workload":  "pa shop/api\nselector: {matchLabels: {tier: back}}\nmtls: {mode: STRICT}\nportLevelMtls: {'9090': {mode: DISABLE}}\n",
		"root":      "ap istio-system/all\nrules: [{from: [{source: {namespaces: [shop], notPrincipals: ['*/sa/b']}}]}]\n",
		"addresses": "ap shop/net\nselector: {matchLabels: {tier: back}}\nrules: [{from: [{source: {ipBlocks: [10.0.0.0/24], notIpBlocks: [10.0.0.128/25]}}]}, {when: [{key: source.ip, values: [192.0.2.1]}]}]\n",
		"denied":    "ap shop/deny\naction: DENY\nrules: [{from: [{source: {serviceAccounts: [a]}}], to: [{operation: {ports: ['8080']}}]}, {to: [{operation: {paths: [/x]}}]}]\n",
		"rule":      "dr shop/plain\nhost: back\ntrafficPolicy: {tls: {mode: DISABLE}}\n",
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "back", Labels: map[string]string{}}, Spec: corev1.ServiceSpec{Selector: map[string]string{"tier": "back"}}}
	var ends []access.End
	for _, namespace := range []string{"shop", "web"} {
		for _, what := range []string{"sidecar-x", "hbone-x", "ambient-x", "plain-x", "gateway", "waypoint"} {
			for _, ip := range []string{"10.0.0.1", "10.0.0.200"} {
				for _, name := range []string{"a", "b"} {
					ends = append(ends, end(namespace, what, ip, account(name)), end(namespace, what, ip, account(name), labelled("tier", "back")),
						end(namespace, what, ip, account(name), annotated(excludeInboundPorts, "8080")))
				}
			}
		}
	}
	ends = append(ends, access.End{IP: netip.MustParseAddr("192.0.2.1")}, access.End{IP: netip.MustParseAddr("192.0.2.2")}, access.End{IP: netip.MustParseAddr("198.51.100.1")})
	var all string
	for _, text := range objects {
		all += text + "---\n"
	}
	objects["all"] = all
	for _, name := range []string{"mesh", "rule", "all"} {
		e := enforcementOf(t, meshConfig{}, objects[name], service)
		first := map[string]access.End{}
		for _, one := range ends {
			if class := e.Class(one); first[class] == (access.End{}) {
				first[class] = one
			}
		}
		for _, one := range ends {
			class := e.Class(one)
			twin := first[class]
			if one == twin {
				continue
			}
			for _, other := range first {
				for _, port := range netpol.TCP(8080, 9090) {
					if e.Judge(one, other, port) != e.Judge(twin, other, port) || e.Wire(one, other, port) != e.Wire(twin, other, port) ||
						e.Judge(other, one, port) != e.Judge(other, twin, port) || e.Wire(other, one, port) != e.Wire(other, twin, port) {
						t.Fatalf("%s: %v and %v are of class %s", name, one.Pod, twin.Pod, class)
					}
				}
			}
		}
		if len(first) == len(ends) {
			t.Errorf("%s: every end is of a class of its own", name)
		}
	}
}
