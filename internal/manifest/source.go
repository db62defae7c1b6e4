package manifest

import (
	"bytes"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// byteOrderMark is no part of the first line, as positions count.
var byteOrderMark = []byte("\ufeff")

// A source is a YAML text in which nodes are found again by the positions that
// the parser gives them: line and column, both from 1, columns in characters.
type source struct {
	text  []byte
	lines []int // where each line begins
}

func newSource(text []byte) source {
	s := source{text: text, lines: []int{0}}
	if bytes.HasPrefix(text, byteOrderMark) {
		s.lines[0] = len(byteOrderMark)
	}
	for at := 0; at < len(text); {
		if n := lineBreak(text[at:]); n > 0 {
			at += n
			s.lines = append(s.lines, at)
		} else {
			at++
		}
	}
	return s
}

// lineBreak returns the length of the line break that text begins with, or 0.
// The parser breaks lines as YAML 1.1 did, and so also at three rare characters.
func lineBreak(text []byte) int {
	if len(text) == 0 || ' ' <= text[0] && text[0] <= '~' {
		return 0 // Most of them all.
	}
	for _, lineBreak := range []string{"\r\n", "\n", "\r", "\u0085", "\u2028", "\u2029"} {
		if bytes.HasPrefix(text, []byte(lineBreak)) {
			return len(lineBreak)
		}
	}
	return 0
}

// lineStart returns where a line begins; for the line after the last one that is
// the end of the text.
func (s source) lineStart(line int) int {
	if line > len(s.lines) {
		return len(s.text)
	}
	return s.lines[line-1]
}

// lineEnd returns where a line ends, before its line break.
func (s source) lineEnd(line int) int {
	start, end := s.lineStart(line), s.lineStart(line+1)
	for at := start; at < end; at++ {
		if lineBreak(s.text[at:]) > 0 {
			return at
		}
	}
	return end
}

// breakAfter returns the line break that ends a line. The last line has none; it
// is then the one that the text begins to use.
func (s source) breakAfter(line int) string {
	own := string(s.text[s.lineEnd(line):s.lineStart(line+1)])
	switch {
	case own != "":
		return own
	case line > 1:
		return s.breakAfter(1)
	default:
		return "\n"
	}
}

// ended reports whether a line has a line break.
func (s source) ended(line int) bool { return line < len(s.lines) }

// at returns where a node begins, its anchor and tag included.
func (s source) at(node *yaml.Node) int {
	at := s.lineStart(node.Line)
	for range node.Column - 1 {
		_, size := utf8.DecodeRune(s.text[at:])
		at += size
	}
	return at
}

// content returns where a node begins after its anchor and tag.
func (s source) content(node *yaml.Node) int {
	at := s.at(node)
	for at < len(s.text) && (s.text[at] == '&' || s.text[at] == '!') {
		for at < len(s.text) && !blank(s.text[at]) && lineBreak(s.text[at:]) == 0 {
			at++
		}
		at = s.skipSpace(at)
	}
	return at
}

// skipSpace passes over blanks, line breaks, and comments after them.
func (s source) skipSpace(at int) int {
	for at < len(s.text) {
		switch n := lineBreak(s.text[at:]); {
		case n > 0:
			at += n
		case blank(s.text[at]):
			at++
		case s.text[at] == '#':
			for at < len(s.text) && lineBreak(s.text[at:]) == 0 {
				at++
			}
		default:
			return at
		}
	}
	return at
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// A span is a part of a text.
type span struct{ start, end int }

// scalar returns the parts of a text that make up the value of a scalar in a
// block mapping with this indentation. There is a second one if the
// value is a block of lines below its indicator.
func (s source) scalar(node *yaml.Node, indent int) []span {
	// What stands before the content says of which type it is.
	whole, start := s.at(node), s.content(node)
	switch {
	case node.Style&yaml.DoubleQuotedStyle != 0:
		end := start + 1
		for end < len(s.text) && s.text[end] != '"' {
			if s.text[end] == '\\' {
				end++
			}
			end++
		}
		return []span{{whole, min(end+1, len(s.text))}}
	case node.Style&yaml.SingleQuotedStyle != 0:
		end := start + 1
		for end < len(s.text) && (s.text[end] != '\'' || bytes.HasPrefix(s.text[end:], []byte("''"))) {
			if s.text[end] == '\'' {
				end++
			}
			end++
		}
		return []span{{whole, min(end+1, len(s.text))}}
	case node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		indicator, lines := s.block(start, node.Line, indent)
		return []span{{whole, indicator}, lines}
	default:
		return []span{{whole, s.plain(start, node.Value)}}
	}
}

// plain returns where a plain scalar ends. Lines that it goes on over are folded
// in its value, so spaces count for each other, however many.
func (s source) plain(at int, value string) int {
	isSpace := func(text []byte) int {
		if len(text) > 0 && blank(text[0]) {
			return 1
		}
		return lineBreak(text)
	}
	rest := []byte(value)
	for len(rest) > 0 {
		if isSpace(rest) == 0 {
			at, rest = at+1, rest[1:]
			continue
		}
		for n := isSpace(rest); n > 0; n = isSpace(rest) {
			rest = rest[n:]
		}
		for at < len(s.text) && isSpace(s.text[at:]) > 0 {
			at += isSpace(s.text[at:])
		}
	}
	return min(at, len(s.text))
}

// block returns where the indicator of a block scalar ends, and its lines with
// the line break before them but without the last one's.
func (s source) block(start, line, indent int) (end int, lines span) {
	end, least := start, indent+1
	for end < len(s.text) && bytes.IndexByte([]byte("|>+-0123456789"), s.text[end]) >= 0 {
		if c := s.text[end]; c >= '1' && c <= '9' {
			least = indent + int(c-'0')
		}
		end++
	}
	for s.lineStart(line+1) <= start {
		line++ // The anchor or the tag stood on a line before.
	}
	lines = span{s.lineEnd(line), s.lineEnd(line)}
	for line++; line <= len(s.lines); line++ {
		from, to := s.lineStart(line), s.lineEnd(line)
		text := bytes.TrimLeft(s.text[from:to], " ")
		if len(text) == 0 {
			continue
		}
		if to-from-len(text) < least {
			break
		}
		lines.end = to
	}
	return end, lines
}
