package reach_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/reach"
)

// randomSurvey is a small cluster with random labels and policies.
func randomSurvey(t *testing.T, r *rand.Rand) reach.Survey {
	t.Helper()
	survey := reach.Survey{Namespaces: namespaces("db", "client")}
	for i := range 8 {
		namespace := []string{"db", "client"}[r.IntN(2)]
		for _, pod := range pods(namespace, fmt.Sprintf("w%d", i), 1+r.IntN(3), false) {
			pod.Labels["tier"] = []string{"a", "b"}[r.IntN(2)]
			pod.Labels["meshed"] = []string{"true", "false"}[r.IntN(2)]
			pod.Spec.HostNetwork = r.IntN(12) == 0
			pod.Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprintf("10.0.%d.%d", r.IntN(2), r.IntN(250))}}
			survey.Pods = append(survey.Pods, pod)
		}
	}
	peers := []string{"{podSelector: {}}", "{namespaceSelector: {matchLabels: {team: client}}}", "{namespaceSelector: {}, podSelector: {matchLabels: {tier: a}}}", "{ipBlock: {cidr: 10.0.1.0/24}}", "{podSelector: {matchLabels: {tier: b}}}"}
	ports := []string{"", "ports: [{port: http}]", "ports: [{port: 4143}]", "ports: [{port: 9080}, {port: 4143}]"}
	selectors := []string{"{}", "{matchLabels: {tier: a}}", "{matchLabels: {tier: b}}"}
	for i := range r.IntN(4) {
		spec := fmt.Sprintf("{podSelector: %s, ingress: [{from: [%s], %s}], policyTypes: [%s]}",
			selectors[r.IntN(3)], peers[r.IntN(5)], ports[r.IntN(4)], []string{"Ingress", "Egress", "Ingress, Egress"}[r.IntN(3)])
		survey.Rules.Policies = append(survey.Rules.Policies, policy(t, fmt.Sprintf("p%d", i), spec))
	}
	survey.Rules.Authorities = []access.Authority{tunnel{guarded: []int32{8080}}}
	return survey
}

// TestClassesAgreeWithPairs asks about every pair of pods one by one, and wants
// the answer of the map, which asks about classes.
func TestClassesAgreeWithPairs(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		survey := randomSurvey(t, r)
		drawn := draw(t, survey)
		policies, err := netpol.Compile(survey.Rules.Policies)
		if err != nil {
			t.Fatal(err)
		}
		for _, from := range survey.Pods {
			for _, to := range survey.Pods {
				if from == to {
					continue
				}
				allowed := pairwise(policies, survey.Rules.Authorities[0], from, to)
				got := drawn.Expect(reach.Expectation{
					From: reach.Selector{Namespace: from.Namespace, Name: from.Name}, To: reach.Selector{Namespace: to.Namespace, Name: to.Name},
					Port: reach.Port{Protocol: corev1.ProtocolTCP, Number: 8080}, Allowed: allowed,
				})
				if !got.Met {
					t.Fatalf("seed %d: %s/%s to %s/%s: want %t: %s", seed, from.Namespace, from.Name, to.Namespace, to.Name, allowed, got.Reason)
				}
			}
		}
	}
}

func pairwise(policies *netpol.Policies, authority access.Authority, from, to *corev1.Pod) bool {
	end := func(pod *corev1.Pod) (access.End, netpol.Endpoint) {
		return access.End{Namespace: namespaces(pod.Namespace)[0], Pod: pod}, netpol.Endpoint{
			Namespace: pod.Namespace, NamespaceLabels: map[string]string{"team": pod.Namespace}, Name: pod.Name, Labels: pod.Labels,
			IPs: []netip.Addr{netip.MustParseAddr(pod.Status.PodIPs[0].IP)}, Ports: pod.Spec.Containers[0].Ports, HostNetwork: pod.Spec.HostNetwork,
		}
	}
	source, sourceEndpoint := end(from)
	destination, destinationEndpoint := end(to)
	port := netpol.Port{Protocol: corev1.ProtocolTCP, Number: 8080}
	return policies.Evaluate(sourceEndpoint, destinationEndpoint, authority.Wire(source, destination, port)).Allowed &&
		authority.Judge(source, destination, port).Allowed
}

// large is a cluster of 1,000 pods with 200 policies. Its workloads are of ten
// pods each, or of one if nothing is to be grouped by owner.
func large(b testing.TB, perWorkload int) reach.Survey {
	b.Helper()
	survey := reach.Survey{Rules: reach.Rules{Authorities: []access.Authority{tunnel{guarded: []int32{8080}}}}}
	names := make([]string, 20)
	for i := range names {
		names[i] = fmt.Sprintf("ns%d", i)
	}
	survey.Namespaces = namespaces(names...)
	for i := range 1000 / perWorkload {
		for _, pod := range pods(names[i%20], fmt.Sprintf("w%d", i), perWorkload, i%3 > 0) {
			pod.Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprintf("10.%d.%d.7", i%20, len(survey.Pods)%250)}}
			survey.Pods = append(survey.Pods, pod)
		}
	}
	for i := range 200 {
		read, err := reach.ParseCandidates(fmt.Sprintf(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p%[1]d, namespace: ns%[2]d}
spec:
  podSelector: {matchLabels: {app: w%[1]d}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {}}, {namespaceSelector: {matchLabels: {team: ns%[3]d}}}]
    ports: [{port: http}, {port: 4143}]
  - from: [{ipBlock: {cidr: 10.%[3]d.0.0/16, except: [10.%[3]d.1.0/24]}}]
  egress:
  - to: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: In, values: [w%[1]d, w%[4]d]}]}}]
  - ports: [{port: 53, protocol: UDP}, {port: 53}]
`, i, i%20, (i+3)%20, i+7), nil)
		if err != nil {
			b.Fatal(err)
		}
		survey.Rules.Policies = append(survey.Rules.Policies, read.Policies...)
	}
	return survey
}

// BenchmarkDraw works out a whole cluster of 1,000 pods and 200 policies, before
// and after a candidate.
func BenchmarkDraw(b *testing.B) {
	for name, perWorkload := range map[string]int{"workloads of 10": 10, "bare pods": 1} {
		b.Run(name, func(b *testing.B) {
			survey := large(b, perWorkload)
			survey.Proposed = &reach.Rules{Authorities: survey.Rules.Authorities}
			survey.Proposed.Policies = append([]*networkingv1.NetworkPolicy{policy(b, "deny", "{podSelector: {}}")}, survey.Rules.Policies...)
			rows := 0
			for b.Loop() {
				rows = 0
				for range draw(b, survey).Rows() {
					rows++
				}
			}
			b.ReportMetric(float64(rows), "rows")
		})
	}
}
