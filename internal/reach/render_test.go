package reach_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/reach"
)

// few are rows of a picture with everything in it: a frame, an address, an arrow
// of two ports, one that is closed, one that is open in parts.
func few() []reach.Row {
	alpha := &reach.Party{Namespace: "db", Kind: "Deployment", Name: "alpha", Mesh: "Tunnel", Pods: []string{"alpha-0"}}
	client := &reach.Party{Namespace: "client", Kind: "Deployment", Name: "web", Pods: []string{"web-0"}}
	office := &reach.Party{Name: "203.0.113.9"}
	allowed := reach.Verdict{Allowed: true, Wire: 8080, Network: "no NetworkPolicy restricts it"}
	refused := reach.Verdict{Wire: 8080, Network: "no ingress rule of NetworkPolicy db/p allows it"}
	partly := reach.Verdict{Allowed: true, Partly: true, Wire: 4143, Network: "no NetworkPolicy restricts it", Mesh: "HTTPRoute db/r"}
	port := func(number int32) netpol.Port { return netpol.Port{Protocol: "TCP", Number: number} }
	return []reach.Row{
		{From: client, To: alpha, Port: port(8080), Before: allowed, After: allowed},
		{From: client, To: alpha, Port: port(9080), Before: allowed, After: allowed},
		{From: office, To: alpha, Port: port(8080), Before: allowed, After: refused},
		{From: alpha, To: client, Port: port(80), Before: partly, After: partly},
	}
}

func TestRenderings(t *testing.T) {
	t.Parallel()
	text, err := reach.JSON(few()[2:3])
	if err != nil {
		t.Fatal(err)
	}
	for what, texts := range map[string][2]string{
		"table": {reach.Table(few()), `
FROM                   TO                     PORT      VERDICT                WHY
Deployment client/web  Deployment db/alpha    8080/TCP  allowed                no NetworkPolicy restricts it
Deployment client/web  Deployment db/alpha    9080/TCP  allowed                no NetworkPolicy restricts it
203.0.113.9            Deployment db/alpha    8080/TCP  refused (was allowed)  no ingress rule of NetworkPolicy db/p allows it
Deployment db/alpha    Deployment client/web  80/TCP    partly                 no NetworkPolicy restricts it; HTTPRoute db/r
`},
		"json": {text, `
[
  {
    "from": "203.0.113.9",
    "to": "Deployment db/alpha",
    "port": 8080,
    "protocol": "TCP",
    "allowed": false,
    "partly": false,
    "unknown": false,
    "before": true,
    "wire_port": 8080,
    "network_reason": "no ingress rule of NetworkPolicy db/p allows it"
  }
]
`},
		"mermaid": {reach.Mermaid(few()), `
flowchart LR
  n2["203.0.113.9"]
  subgraph s1["client"]
    n0["Deployment web"]
  end
  subgraph s2["db"]
    n1["Deployment alpha, Tunnel"]
  end
  n0 -->|"8080/TCP, 9080/TCP"| n1
  n2 -.-x|"8080/TCP refused (was allowed)"| n1
  n1 -->|"80/TCP partly"| n0
`},
		"dot": {reach.DOT(few()), `
digraph connectivity {
  rankdir=LR;
  node [shape=box];
  n2 [label="203.0.113.9"];
  subgraph cluster_1 {
    label="client";
    n0 [label="Deployment web"];
  }
  subgraph cluster_2 {
    label="db";
    n1 [label="Deployment alpha, Tunnel"];
  }
  n0 -> n1 [label="8080/TCP, 9080/TCP"];
  n2 -> n1 [label="8080/TCP refused (was allowed)", style=dotted, arrowhead=tee];
  n1 -> n0 [label="80/TCP partly"];
}
`},
	} {
		want := strings.TrimPrefix(texts[1], "\n")
		if texts[0] != want {
			t.Errorf("%s: got\n%s\nwant\n%s", what, texts[0], want)
		}
	}
}

var (
	mermaidLine = regexp.MustCompile(`^(flowchart LR|  subgraph s\d+\["[^"\[\]|<>` + "`" + `]*"\]|  end| +n\d+\["[^"\[\]|<>` + "`" + `]*"\]|  n\d+ (-->|-\.-x)\|"[^"\[\]|<>` + "`" + `]*"\| n\d+)$`)
	dotLine     = regexp.MustCompile(`^(digraph connectivity \{|  rankdir=LR;|  node \[shape=box\];|  subgraph cluster_\d+ \{|    label="([^"\\]|\\[\\"])*";| +n\d+ \[label="([^"\\]|\\[\\"])*"\];|  n\d+ -> n\d+ \[label="([^"\\]|\\[\\"])*"(, style=dotted, arrowhead=tee)?\];|  \}|\})$`)
)

// FuzzRenderings has owners of any kind and name, of which the API server checks
// only that there are some: they must not break out of their place.
func FuzzRenderings(f *testing.F) {
	f.Add("Deployment", "alpha", "db")
	f.Add(`Evil"]`, "x\"]\nend\nclick n0 \"javascript:alert(1)\"", "`**db**`")
	f.Add("A\\", `\" ]; n0 -> n1; //`, "#quot;<script>")
	f.Add("a\tb", "c\r\nd\v\f\u2028\u202e", "\xff\x00")
	f.Fuzz(func(t *testing.T, kind, name, namespace string) {
		pod := pods("db", "alpha", 1, false)[0]
		pod.Namespace = namespace
		pod.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: name, Controller: new(true)}}
		survey := walkthrough()
		survey.Pods = append(survey.Pods, pod)
		var rows []reach.Row
		for row := range draw(t, survey).Rows() {
			rows = append(rows, row)
		}
		if got := strings.Count(reach.Table(rows), "\n"); got != len(rows)+1 {
			t.Errorf("the table has %d lines, want %d", got, len(rows)+1)
		}
		for line := range strings.Lines(reach.Mermaid(rows)) {
			if !mermaidLine.MatchString(strings.TrimSuffix(line, "\n")) {
				t.Errorf("Mermaid: %q", line)
			}
		}
		for line := range strings.Lines(reach.DOT(rows)) {
			if !dotLine.MatchString(strings.TrimSuffix(line, "\n")) {
				t.Errorf("DOT: %q", line)
			}
		}
		text, err := reach.JSON(rows)
		if err != nil {
			t.Fatal(err)
		}
		var read []struct{ From, To string }
		if err := json.Unmarshal([]byte(text), &read); err != nil || len(read) != len(rows) {
			t.Errorf("JSON: %d rows of %d: %v", len(read), len(rows), err)
		}
		slices.Reverse(survey.Pods)
		var again []reach.Row
		for row := range draw(t, survey).Rows() {
			again = append(again, row)
		}
		if reach.Mermaid(again) != reach.Mermaid(rows) || reach.DOT(again) != reach.DOT(rows) || reach.Table(again) != reach.Table(rows) {
			t.Error("the order of the pods shows")
		}
	})
}
