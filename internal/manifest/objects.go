package manifest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// Object is one object of a manifest and where it stands.
type Object struct {
	*unstructured.Unstructured
	Place    string // "document 2 (line 14)", "document 1 (line 1), item 3"
	Template string // the template that Helm says it comes from, or ""
}

// Objects reads the objects of YAML or JSON text of any number of documents, as
// kubectl does. Lists are taken apart; documents that are empty or nothing but
// comments are passed over. Errors name the document and its line and quote
// nothing: it may be a Secret.
func Objects(text string) ([]Object, error) {
	var objects []Object
	for i, d := range split(text) {
		read, err := d.read(fmt.Sprintf("document %d (line %d)", i+1, d.line))
		if err != nil {
			return nil, err
		}
		objects = append(objects, read...)
	}
	return objects, nil
}

// templateComment is how Helm says which template a document comes from.
var templateComment = regexp.MustCompile(`(?m)^# Source: (\S+)\s*$`)

// part is one document of a text.
type part struct {
	text  string
	first int // line of the text's first line
	line  int // of its first line that says something
}

var (
	separator = regexp.MustCompile(`^(---|\.\.\.)((?s)\s.*)?$`)
	// nothing is a line that says nothing by itself: blank, a comment, a directive.
	nothing = regexp.MustCompile(`^\s*(#|$)|^%`)
)

// split returns the documents that say something. Lines of YAML that begin with
// --- at their first column are marks between documents wherever they stand.
func split(text string) []part {
	var documents []part
	current := part{}
	var lines []string
	flush := func() {
		if current.line > 0 {
			current.text = strings.Join(lines, "")
			documents = append(documents, current)
		}
		current, lines = part{}, nil
	}
	keep := func(line string, number int) {
		if lines == nil {
			current.first = number
		}
		lines = append(lines, line)
	}
	number := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		number++
		if mark := separator.FindStringSubmatch(line); mark != nil {
			flush()
			line = mark[2] // A document may begin on the line of its mark.
		}
		switch {
		case !nothing.MatchString(line):
			if current.line == 0 {
				current.line = number
			}
			keep(line, number)
		case strings.HasPrefix(line, "%") && current.line == 0:
			// A directive: everybody writes YAML 1.1 or what both versions share.
		default:
			keep(line, number)
		}
	}
	flush()
	return documents
}

func (p part) read(place string) ([]Object, error) {
	template := ""
	if found := templateComment.FindStringSubmatch(p.text); found != nil {
		template = found[1]
	}
	text, err := yaml.YAMLToJSON([]byte(p.text))
	if err != nil {
		return nil, fmt.Errorf("%s: it is not valid YAML%s", place, p.reason(err))
	}
	content := map[string]any{}
	if err := json.Unmarshal(text, &content); err != nil {
		return nil, fmt.Errorf("%s: it is not an object but a list or a single value", place)
	}
	if len(content) == 0 {
		return nil, nil
	}
	object := &unstructured.Unstructured{Object: content}
	if _, listed := content["items"]; !listed || !strings.HasSuffix(object.GetKind(), "List") {
		return []Object{{Unstructured: object, Place: place, Template: template}}, nil
	}
	items, ok := object.Object["items"].([]any)
	if !ok {
		return nil, fmt.Errorf("%s: the items of the list are not a list", place)
	}
	var objects []Object
	for i, item := range items {
		member, ok := item.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: item %d of the list is not an object", place, i+1)
		}
		objects = append(objects, Object{
			Unstructured: &unstructured.Unstructured{Object: member},
			Place:        fmt.Sprintf("%s, item %d", place, i+1), Template: template,
		})
	}
	return objects, nil
}

var yamlLine = regexp.MustCompile(`\bline (\d+): ([^"'` + "`" + `]*)$`)

// reason takes from a parser's message what cannot quote the document: the line
// and, if it has no quotes in it, the reason.
func (p part) reason(err error) string {
	found := yamlLine.FindStringSubmatch(err.Error())
	if found == nil {
		return ""
	}
	line, scanErr := strconv.Atoi(found[1])
	if scanErr != nil {
		return ""
	}
	return fmt.Sprintf(": line %d: %s", p.first+line-1, found[2])
}
