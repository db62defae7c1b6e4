package release

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
)

// Object is one object and where it was read.
type Object struct {
	*unstructured.Unstructured
	Source string // for messages: "emojivoto.yaml, document 2 (line 14)"
}

// Manifest is YAML or JSON text of any number of documents.
type Manifest struct {
	Source string // for messages: a file name, a URL
	Text   string
}

// ParseManifests reads the objects of manifests. Lists are taken apart,
// documents of nothing but comments are passed over. Errors name the source, the
// document and its line, and quote nothing: documents may be Secrets.
func ParseManifests(manifests ...Manifest) ([]Object, error) {
	var objects []Object
	for _, m := range manifests {
		for i, d := range splitDocuments(m.Text) {
			source := fmt.Sprintf("%s, document %d (line %d)", m.Source, i+1, d.line)
			read, err := d.read(source)
			if err != nil {
				return nil, err
			}
			objects = append(objects, read...)
		}
	}
	return objects, nil
}

// Render renders a chart with values for the cluster as it is now, the CRDs
// beside its templates and its hooks included. The template function lookup sees
// the cluster, so that a chart that keeps what it has generated renders the same
// again. At another time it does not: see [Desired.Again].
func (r *Release) Render(ctx context.Context, chart *helm.Chart, values map[string]any, otherTime bool) ([]Object, error) {
	rendered, err := r.releases.Charts.Template(ctx, helm.RenderRequest{
		Namespace: r.namespace, Name: r.name, Chart: chart, Values: values, IsUpgrade: r.installed(), OtherTime: otherTime,
	})
	if err != nil {
		return nil, err
	}
	var objects []Object
	for _, part := range append(append(rendered.CRDs, rendered.Manifest), rendered.Hooks...) {
		for _, d := range splitDocuments(part) {
			source := "chart " + chart.Name()
			if template := templateComment.FindStringSubmatch(d.text); template != nil {
				source = template[1]
			}
			read, err := d.read(source)
			if err != nil {
				return nil, fmt.Errorf("chart %s %s: %w", chart.Name(), chart.Version(), err)
			}
			objects = append(objects, read...)
		}
	}
	return objects, nil
}

// templateComment is how Helm says which template a document comes from.
var templateComment = regexp.MustCompile(`(?m)^# Source: (\S+)\s*$`)

// document is one document of a text.
type document struct {
	text  string
	first int // line of the text's first line
	line  int // of its first line that says something
}

var (
	separator = regexp.MustCompile(`^(---|\.\.\.)((?s)\s.*)?$`)
	// nothing is a line that says nothing by itself: blank, a comment, a directive.
	nothing = regexp.MustCompile(`^\s*(#|$)|^%`)
)

// splitDocuments returns the documents that say something. Lines of YAML that
// begin with --- at their first column are marks between documents wherever they
// stand.
func splitDocuments(text string) []document {
	var documents []document
	current := document{}
	var lines []string
	flush := func() {
		if current.line > 0 {
			current.text = strings.Join(lines, "")
			documents = append(documents, current)
		}
		current, lines = document{}, nil
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

func (d document) read(source string) ([]Object, error) {
	text, err := yaml.YAMLToJSON([]byte(d.text))
	if err != nil {
		return nil, fmt.Errorf("%s: it is not valid YAML%s", source, d.place(err))
	}
	content := map[string]any{}
	if err := json.Unmarshal(text, &content); err != nil {
		return nil, fmt.Errorf("%s: it is not an object but a list or a single value", source)
	}
	object := &unstructured.Unstructured{Object: content}
	if !strings.HasSuffix(object.GetKind(), "List") || !object.IsList() {
		return []Object{{Unstructured: object, Source: source}}, nil
	}
	items, _, err := unstructured.NestedSlice(object.Object, "items")
	if err != nil {
		return nil, fmt.Errorf("%s: the items of the list are not a list", source)
	}
	var objects []Object
	for i, item := range items {
		member, ok := item.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: item %d of the list is not an object", source, i+1)
		}
		objects = append(objects, Object{Unstructured: &unstructured.Unstructured{Object: member}, Source: fmt.Sprintf("%s, item %d", source, i+1)})
	}
	return objects, nil
}

var yamlLine = regexp.MustCompile(`\bline (\d+): ([^"'` + "`" + `]*)$`)

// place takes from a parser's message what cannot quote the document: the line
// and, if it has no quotes in it, the reason.
func (d document) place(err error) string {
	found := yamlLine.FindStringSubmatch(err.Error())
	if found == nil {
		return ""
	}
	line := 0
	if _, scanErr := fmt.Sscan(found[1], &line); scanErr != nil {
		return ""
	}
	return fmt.Sprintf(": line %d: %s", d.first+line-1, found[2])
}
