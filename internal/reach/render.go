package reach

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"
)

// Table prints rows as aligned columns, with a heading. The verdict by the rules
// in force is shown where a proposal changes it.
func Table(rows []Row) string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	line := func(cells ...string) {
		for i, cell := range cells {
			cells[i] = plain(cell)
		}
		// A strings.Builder takes everything.
		_, _ = fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	line("FROM", "TO", "PORT", "VERDICT", "WHY")
	for _, row := range rows {
		line(row.From.String(), row.To.String(), row.port(), row.verdict(), row.After.Why())
	}
	_ = table.Flush()
	return text.String()
}

// plain keeps a cell in its line and column.
func plain(cell string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, cell)
}

func (r Row) port() string { return Port{Protocol: r.Port.Protocol, Number: r.Port.Number}.String() }

// verdict is that by the proposed rules, and what changes.
func (r Row) verdict() string {
	after := r.After.word()
	if r.Changed() {
		return after + " (was " + r.Before.word() + ")"
	}
	return after
}

func (v Verdict) word() string {
	switch {
	case !v.Allowed:
		return "refused"
	case v.Unknown:
		return "unknown"
	case v.Partly:
		return "partly"
	default:
		return "allowed"
	}
}

// JSON prints rows as an array of objects with the same names as the attributes
// of Terraform's matrix.
func JSON(rows []Row) (string, error) {
	type jsonRow struct {
		From          string `json:"from"`
		To            string `json:"to"`
		Port          int32  `json:"port"`
		Protocol      string `json:"protocol"`
		Allowed       bool   `json:"allowed"`
		Partly        bool   `json:"partly"`
		Unknown       bool   `json:"unknown"`
		Before        bool   `json:"before"`
		WirePort      int32  `json:"wire_port"`
		NetworkReason string `json:"network_reason"`
		MeshReason    string `json:"mesh_reason,omitempty"`
	}
	list := make([]jsonRow, len(rows))
	for i, row := range rows {
		list[i] = jsonRow{
			From: row.From.String(), To: row.To.String(), Port: row.Port.Number, Protocol: string(row.Port.Protocol),
			Allowed: row.After.Allowed, Partly: row.After.Partly, Unknown: row.After.Unknown, Before: row.Before.Allowed,
			WirePort: row.After.Wire, NetworkReason: row.After.Network, MeshReason: row.After.Mesh,
		}
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return "", fmt.Errorf("print connectivity: %w", err)
	}
	return string(text) + "\n", nil
}

// A sketch is rows as a picture shows them: one arrow for all ports between two
// parties of which the same is true.
type sketch struct {
	namespaces []string // of the parties; the one without is for addresses
	parties    map[string][]*Party
	numbers    map[*Party]int
	arrows     []arrow
}

type arrow struct {
	from, to int
	verdict  string
	allowed  bool
	ports    []string
}

// label is what is written at an arrow.
func (a arrow) label() string {
	text := strings.Join(a.ports, ", ")
	if a.verdict != "allowed" {
		text += " " + a.verdict
	}
	return text
}

func draw(rows []Row) sketch {
	s := sketch{parties: map[string][]*Party{}, numbers: map[*Party]int{}}
	number := func(p *Party) int {
		n, known := s.numbers[p]
		if !known {
			n = len(s.numbers)
			s.numbers[p] = n
			if s.parties[p.Namespace] == nil {
				s.namespaces = append(s.namespaces, p.Namespace)
			}
			s.parties[p.Namespace] = append(s.parties[p.Namespace], p)
		}
		return n
	}
	type key struct {
		from, to int
		verdict  string
	}
	places := map[key]int{}
	for _, row := range rows {
		k := key{number(row.From), number(row.To), row.verdict()}
		place, known := places[k]
		if !known {
			place = len(s.arrows)
			places[k] = place
			s.arrows = append(s.arrows, arrow{from: k.from, to: k.to, verdict: k.verdict, allowed: row.After.Allowed})
		}
		s.arrows[place].ports = append(s.arrows[place].ports, row.port())
	}
	slices.Sort(s.namespaces)
	return s
}

// title is the name of a party within the frame of its namespace.
func title(p *Party) string {
	if p.Kind == "" {
		return p.Name
	}
	text := strings.Replace(p.String(), p.owner(), p.Kind+" "+p.Name, 1)
	if p.Mesh != "" {
		text += ", " + p.Mesh
	}
	return text
}

// Mermaid prints rows as a flowchart of Mermaid: a frame for each namespace,
// solid arrows for what is let through, dotted ones with a cross for what is not.
func Mermaid(rows []Row) string {
	s := draw(rows)
	var text strings.Builder
	text.WriteString("flowchart LR\n")
	for i, namespace := range s.namespaces {
		indent := "  "
		if namespace != "" {
			fmt.Fprintf(&text, "  subgraph s%d[\"%s\"]\n", i, mermaid(namespace))
			indent = "    "
		}
		for _, party := range s.parties[namespace] {
			fmt.Fprintf(&text, "%sn%d[\"%s\"]\n", indent, s.numbers[party], mermaid(title(party)))
		}
		if namespace != "" {
			text.WriteString("  end\n")
		}
	}
	for _, a := range s.arrows {
		line := "-->"
		if !a.allowed {
			line = "-.-x"
		}
		fmt.Fprintf(&text, "  n%d %s|\"%s\"| n%d\n", a.from, line, mermaid(a.label()), a.to)
	}
	return text.String()
}

// mermaid writes what could mean something to Mermaid as the numbers of its
// characters.
func mermaid(label string) string {
	var text strings.Builder
	for _, r := range label {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune(" ./:-_,()", r):
			text.WriteRune(r)
		default:
			fmt.Fprintf(&text, "#%d;", r)
		}
	}
	return text.String()
}

// DOT prints rows as a graph of Graphviz, drawn as Mermaid's is.
func DOT(rows []Row) string {
	s := draw(rows)
	var text strings.Builder
	text.WriteString("digraph connectivity {\n  rankdir=LR;\n  node [shape=box];\n")
	for i, namespace := range s.namespaces {
		indent := "  "
		if namespace != "" {
			fmt.Fprintf(&text, "  subgraph cluster_%d {\n    label=%s;\n", i, dot(namespace))
			indent = "    "
		}
		for _, party := range s.parties[namespace] {
			fmt.Fprintf(&text, "%sn%d [label=%s];\n", indent, s.numbers[party], dot(title(party)))
		}
		if namespace != "" {
			text.WriteString("  }\n")
		}
	}
	for _, a := range s.arrows {
		style := ""
		if !a.allowed {
			style = ", style=dotted, arrowhead=tee"
		}
		fmt.Fprintf(&text, "  n%d -> n%d [label=%s%s];\n", a.from, a.to, dot(a.label()), style)
	}
	text.WriteString("}\n")
	return text.String()
}

// dot quotes a label. A backslash would begin one of Graphviz's own escapes.
func dot(label string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(plain(label)) + `"`
}
