package manifest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A splice replaces a part of a text; an empty part is an insertion.
type splice struct {
	span
	text string
}

// spliced returns the text with all splices made.
func (s source) spliced(splices []splice) []byte {
	slices.SortStableFunc(splices, func(a, b splice) int { return cmp.Compare(a.start, b.start) })
	var result bytes.Buffer
	at := 0
	for _, splice := range splices {
		result.Write(s.text[at:splice.start])
		result.WriteString(splice.text)
		at = splice.end
	}
	result.Write(s.text[at:])
	return result.Bytes()
}

// defaultStep is by how many columns a level is indented if nothing shows it.
const defaultStep = 2

// A place is a mapping of a document, as it is before any edit.
type place struct {
	path      []string
	key, node *yaml.Node // key is nil for the root of an object
	value     map[string]any
	step      int // columns of one level of indentation
}

// child finds the value under a key where it is written in a mapping itself.
func child(node *yaml.Node, name string) (key, value *yaml.Node) {
	if node.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i < len(node.Content); i += 2 {
		if key := node.Content[i]; key.Kind == yaml.ScalarNode && key.Value == name {
			return key, node.Content[i+1]
		}
	}
	return nil, nil
}

// own refuses a place that is written elsewhere, or read elsewhere too.
func (e *editor) own(at place) error {
	what := strings.Join(at.path, ".")
	if what == "" {
		what = "the object"
	}
	switch {
	case at.node.Kind == yaml.AliasNode:
		return e.fail(at.node, e.name, fmt.Errorf("%s is the alias *%s; write out what it stands for", what, at.node.Value))
	case e.shared[at.node]:
		return e.fail(at.node, e.name, fmt.Errorf("%s has the anchor &%s, and what refers to it would change too; write it out there", what, at.node.Anchor))
	}
	return nil
}

// fill makes the splices for what a mapping lacks: strings and, level by level,
// mappings of strings.
func (e *editor) fill(in place, lacking map[string]any) error {
	if err := e.own(in); err != nil {
		return err
	}
	absent := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(lacking)) {
		at := place{path: append(slices.Clone(in.path), name), step: in.step}
		at.key, at.node = child(in.node, name)
		have, want := in.value[name], lacking[name]
		if at.node == nil {
			if have != nil {
				return e.fail(in.node, e.name, fmt.Errorf("%s comes through a merge key (<<) only; write it out", strings.Join(at.path, ".")))
			}
			absent[name] = want
			continue
		}
		if err := e.own(at); err != nil {
			return err
		}
		switch want := want.(type) {
		case string:
			e.replace(at, in, want)
		case map[string]any:
			value, ok := have.(map[string]any)
			if !ok {
				e.begin(at, in, want)
				continue
			}
			at.value = value
			if block(at.node) && at.node.Content[0].Column > at.key.Column {
				at.step = at.node.Content[0].Column - at.key.Column
			}
			if err := e.fill(at, want); err != nil {
				return err
			}
		}
	}
	if len(absent) > 0 {
		e.insert(in, absent)
	}
	return nil
}

// block reports whether a mapping is written with one key a line.
func block(mapping *yaml.Node) bool { return mapping.Style&yaml.FlowStyle == 0 }

// insert puts entries at the beginning of a mapping that has some or is written
// as {}: nothing that belongs to its last entry can come between.
func (e *editor) insert(in place, entries map[string]any) {
	if !block(in.node) {
		e.insertFlow(in.node, entries)
		return
	}
	// The mapping begins with its first key, or else with its anchor or tag.
	first, line := in.node, 0
	if in.node.Anchor != "" || in.node.Style&yaml.TaggedStyle != 0 {
		first, line = in.node.Content[0], in.node.Line
	}
	indent := first.Column - 1
	lines := e.lines(entries, indent, in.step)
	if in.key == nil || !e.leads(first) {
		newline := e.breakAfter(first.Line)
		text := strings.TrimLeft(strings.Join(lines, newline), " ")
		e.splice(span{e.at(first), e.at(first)}, text+newline+strings.Repeat(" ", indent))
		return
	}
	// Comments above the first key stay with it.
	e.insertLines(max(line, in.key.Line), lines)
}

// leads reports whether a node is the first on a line that is not the first.
func (e *editor) leads(node *yaml.Node) bool {
	before := e.text[e.lineStart(node.Line):e.at(node)]
	return node.Line > 1 && len(bytes.Trim(before, " \t")) == 0
}

// insertLines puts lines after a line.
func (e *editor) insertLines(after int, lines []string) {
	newline := e.breakAfter(after)
	text := strings.Join(lines, newline)
	at := e.lineStart(after + 1)
	if e.ended(after) {
		text += newline
	} else {
		text = newline + text
	}
	e.splice(span{at, at}, text)
}

// insertFlow puts entries after the brace of a mapping in braces, on lines of
// their own if the first entry is on one.
func (e *editor) insertFlow(mapping *yaml.Node, entries map[string]any) {
	parts := make([]string, 0, len(entries))
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		parts = append(parts, e.entry(name, entries[name]))
	}
	if len(mapping.Content) == 0 {
		at := e.content(mapping) + len("{")
		e.splice(span{at, at}, strings.Join(parts, ", "))
		return
	}
	first := mapping.Content[0]
	at := e.at(first)
	between := " "
	if e.leads(first) {
		between = e.breakAfter(first.Line-1) + string(e.text[e.lineStart(first.Line):at])
	}
	var text strings.Builder
	for _, part := range parts {
		text.WriteString(part + "," + between)
	}
	e.splice(span{at, at}, text.String())
}

// begin makes a mapping of entries where there is none: after a key without a
// value, or in place of a null.
func (e *editor) begin(at, in place, entries map[string]any) {
	where := span{e.at(at.node), e.at(at.node)}
	switch {
	case at.node.Value != "":
		e.splice(e.scalar(at.node, 0)[0], e.flow(entries))
	case block(in.node):
		e.insertLines(at.key.Line, e.lines(entries, at.key.Column-1+in.step, in.step))
	case bytes.HasSuffix(bytes.TrimRight(e.text[:where.start], " \t\r\n"), []byte(":")):
		text := e.flow(entries)
		if e.text[where.start-1] == ':' {
			text = " " + text
		}
		e.splice(where, text)
	default:
		e.splice(where, ": "+e.flow(entries)) // {annotations}
	}
}

// replace gives a key another value, in the same style if it can be.
func (e *editor) replace(at, in place, value string) {
	text := e.quote(value)
	switch {
	case e.json:
	case at.node.Style&yaml.DoubleQuotedStyle != 0:
		text = strconv.Quote(value)
	case at.node.Style&yaml.SingleQuotedStyle != 0 && strconv.Quote(value) == `"`+value+`"`:
		text = "'" + strings.ReplaceAll(value, "'", "''") + "'"
	}
	spans := e.scalar(at.node, in.node.Content[0].Column-1)
	if where := spans[0]; where.start == where.end && !blank(e.text[where.start-1]) {
		text = " " + text
	}
	e.splice(spans[0], text)
	for _, rest := range spans[1:] {
		e.splice(rest, "")
	}
}

func (e *editor) splice(where span, text string) {
	e.splices = append(e.splices, splice{where, text})
}

// lines are entries of a mapping that is written with one key a line.
func (e *editor) lines(entries map[string]any, indent, step int) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if below, ok := entries[name].(map[string]any); ok {
			lines = append(lines, strings.Repeat(" ", indent)+e.quote(name)+":")
			lines = append(lines, e.lines(below, indent+step, step)...)
			continue
		}
		lines = append(lines, strings.Repeat(" ", indent)+e.entry(name, entries[name]))
	}
	return lines
}

// entry is one key with its value on one line.
func (e *editor) entry(name string, value any) string {
	if below, ok := value.(map[string]any); ok {
		return e.quote(name) + ": " + e.flow(below)
	}
	return e.quote(name) + ": " + e.quote(fmt.Sprint(value))
}

// flow is a mapping in braces.
func (e *editor) flow(entries map[string]any) string {
	parts := make([]string, 0, len(entries))
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		parts = append(parts, e.entry(name, entries[name]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// plainString is text that is itself without quotes, also between braces, unless
// it is one of notStrings in lower case.
var plainString = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9./_-]*$`)

var notStrings = []string{"true", "false", "yes", "no", "y", "n", "on", "off", "null"}

// quote writes a string as JSON does, or as YAML: in quotes only where it must be.
func (e *editor) quote(text string) string {
	switch {
	case e.json:
		encoded, _ := json.Marshal(text) // A string always can be.
		return string(encoded)
	case plainString.MatchString(text) && !slices.Contains(notStrings, strings.ToLower(text)):
		return text
	default:
		return strconv.Quote(text)
	}
}
