package reach_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/reach"
)

// foggy is a mesh of which nothing can be told.
type foggy struct {
	tunnel
	via string
}

func (f foggy) Judge(access.End, access.End, netpol.Port) access.Verdict {
	return access.Verdict{Allowed: true, Unknown: true, Via: f.via, Reason: "a gateway decides"}
}

var alphaPort = reach.Port{Protocol: corev1.ProtocolTCP, Number: 8080}

// expectation is that clients of the name reach the database, or that they do not.
func expectation(client string, allowed bool) reach.Expectation {
	return reach.Expectation{From: reach.Selector{Name: client}, To: reach.Selector{Name: "alpha"}, Port: alphaPort, Allowed: allowed}
}

// checkOutcome wants what comes of an expectation.
func checkOutcome(t *testing.T, survey reach.Survey, e reach.Expectation, met bool, reason string) {
	t.Helper()
	if got := draw(t, survey).Expect(e); got.Met != met || !strings.Contains(got.Reason, reason) {
		t.Errorf("%s: got %v, want %t with %q", e, got, met, reason)
	}
}

func TestNobodyCountsOnWhatCannotBeTold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		via, plain, network string
	}{
		// The network still refuses what comes straight to the pod.
		{"", "refused", "no ingress rule of NetworkPolicy db/mesh-only allows it"},
		{"waypoint w", "unknown", "where NetworkPolicies see it depends on waypoint w"},
	} {
		survey := walkthrough(policy(t, "mesh-only", proxyPortOnly))
		survey.Rules.Authorities = []access.Authority{foggy{via: test.via}}
		for _, allowed := range []bool{true, false} {
			checkOutcome(t, survey, expectation("meshed", allowed), false, "whether Deployment client/meshed reaches Deployment db/alpha on 8080/TCP cannot be told: ")
		}
		checkOutcome(t, survey, expectation("plain", false), test.plain == "refused", "a gateway decides")
		for row := range draw(t, survey).Rows() {
			if row.From.Name != "plain" || row.To.Name != "alpha" {
				continue
			}
			if table := reach.Table([]reach.Row{row}); row.After.Network != test.network || !strings.Contains(table, "  "+test.plain+"  ") || row.After.Unknown != (test.plain == "unknown") {
				t.Errorf("via %q: got %+v\n%s", test.via, row.After, table)
			}
		}
	}
}

func TestNothingCountsOnPoliciesThatNobodyEnforces(t *testing.T) {
	t.Parallel()
	survey := walkthrough(policy(t, "mesh-only", proxyPortOnly))
	checkOutcome(t, survey, expectation("plain", false), true, "no ingress rule")
	survey.Unenforced = true
	checkOutcome(t, survey, expectation("plain", false), false, "by NetworkPolicies alone, which nothing in the cluster enforces: no ingress rule")
	checkOutcome(t, survey, expectation("meshed", true), true, "ingress rule 1")
	survey.Rules.Authorities = []access.Authority{tunnel{guarded: []int32{8080}}}
	checkOutcome(t, survey, expectation("plain", false), true, "Server db/guard takes meshed callers only")
}

func TestPluginsReadBlocksTheirWay(t *testing.T) {
	t.Parallel()
	survey := walkthrough(policy(t, "range", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}"))
	checkOutcome(t, survey, expectation("plain", true), true, "ingress rule 1")
	survey.Reading = []netpol.Option{netpol.BlocksAreOutside()}
	checkOutcome(t, survey, expectation("plain", false), true, "no ingress rule")
	survey.Proposed = &survey.Rules
	checkOutcome(t, survey, expectation("plain", false), true, "no ingress rule")
}

func TestPodsWithoutAnAddressDoNotCount(t *testing.T) {
	t.Parallel()
	survey := walkthrough(policy(t, "range", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}"))
	starting := pods("client", "plain", 3, false)
	for i, pod := range starting {
		pod.Name, pod.Status = "plain-5c9-"+string(rune('a'+i)), corev1.PodStatus{Phase: corev1.PodPending}
	}
	survey.Pods = append(survey.Pods, starting...)
	checkOutcome(t, survey, expectation("plain", true), true, "ingress rule 1")
	checkOutcome(t, survey, expectation("plain", false), false, "Deployment client/plain reaches")
	if table := lines(draw(t, survey)); strings.Contains(table, "5c9") || strings.Contains(table, "more)") {
		t.Errorf("pods without an address have rows:\n%s", table)
	}
	survey.Pods = append(pods("db", "alpha", 1, false), starting...)
	for _, allowed := range []bool{true, false} {
		checkOutcome(t, survey, expectation("plain", allowed), false, "there are no pods of plain, but for 3 without an address yet")
	}
}

func TestExpectationsTellOfPortsThatNobodyDeclares(t *testing.T) {
	t.Parallel()
	survey := walkthrough(policy(t, "mesh-only", proxyPortOnly))
	e := expectation("plain", false)
	e.Port.Number = 8008
	checkOutcome(t, survey, e, true, "; none of the called pods declares port 8008/TCP")
	if got := draw(t, survey).Expect(expectation("plain", false)); strings.Contains(got.Reason, "declares") {
		t.Errorf("got %v of a port that is declared", got)
	}
}

func TestReasonsDoNotDependOnNames(t *testing.T) {
	t.Parallel()
	want := ""
	for _, names := range [][]string{{"alpha", "zero"}, {"zero", "alpha"}} {
		survey := reach.Survey{Namespaces: namespaces("client", "db"), Pods: pods("client", "plain", 1, false)}
		for i, name := range names {
			pod := pods("db", "x", 1, false)[0]
			pod.Name, pod.OwnerReferences, pod.Labels = name, nil, map[string]string{"policy": []string{"a", "b"}[i]}
			survey.Pods = append(survey.Pods, pod)
		}
		for _, name := range []string{"a", "b"} {
			survey.Rules.Policies = append(survey.Rules.Policies, policy(t, name, "{podSelector: {matchLabels: {policy: "+name+"}}}"))
		}
		got := draw(t, survey).Expect(reach.Expectation{From: reach.Selector{Name: "plain"}, To: reach.Selector{Namespace: "db"}, Port: alphaPort})
		if want == "" {
			want = got.Reason
		}
		if !got.Met || got.Reason != want || !strings.Contains(got.Reason, "db/a ") {
			t.Errorf("%v: got %v, want it to be met by db/a", names, got)
		}
	}
}

func TestJobsOfACronJobAreOneParty(t *testing.T) {
	t.Parallel()
	survey := reach.Survey{Namespaces: namespaces("db")}
	for _, job := range []string{"backup-29381760", "backup-29381820", "import-2", "load-00000000"} {
		pod := pods("db", job, 1, false)[0]
		pod.Labels = nil
		pod.OwnerReferences = []metav1.OwnerReference{{Kind: "Job", Name: job, Controller: new(true)}}
		survey.Pods = append(survey.Pods, pod)
	}
	seen := map[string]bool{}
	for row := range draw(t, survey).Rows() {
		seen[row.From.String()] = true
	}
	if len(seen) != 3 || !seen["CronJob db/backup"] || !seen["Job db/import-2"] || !seen["Job db/load-00000000"] {
		t.Errorf("got %v", seen)
	}
}

// counted counts what an authority is asked.
type counted struct {
	tunnel
	judged *int
}

func (c counted) Judge(from, to access.End, port netpol.Port) access.Verdict {
	*c.judged++
	return c.tunnel.Judge(from, to, port)
}

// TestALargeClusterIsAskedByClasses has 1,000 pods of 100 workloads and 200 policies:
// as many questions as pairs of workloads, not of pods.
func TestALargeClusterIsAskedByClasses(t *testing.T) {
	t.Parallel()
	survey := large(t, 10)
	judged, rows := 0, 0
	survey.Rules.Authorities = []access.Authority{counted{tunnel{guarded: []int32{8080}}, &judged}}
	survey.Proposed = &reach.Rules{Authorities: survey.Rules.Authorities}
	survey.Proposed.Policies = append([]*networkingv1.NetworkPolicy{policy(t, "deny", "{podSelector: {}}")}, survey.Rules.Policies...)
	for range draw(t, survey).Rows() {
		rows++
	}
	if most := 2 * 2 * 100 * 100; judged == 0 || judged > most || rows == 0 || rows > most {
		t.Errorf("%d rows and %d judgements, want at most %d of either", rows, judged, most)
	}
}
