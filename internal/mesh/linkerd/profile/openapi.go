package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Limits of what routes are derived from.
const (
	maxDocument = 16 << 20 // bytes of an OpenAPI document
	// maxEntries is how many routes and response classes a profile can have: an API
	// server keeps no object of more than 1.5 MiB, and the shortest takes 46 bytes.
	maxEntries = 1536 << 10 / 46
	// maxReferences is how often a reference may lead to another, or a merge.
	maxReferences = 8
	// maxMembers is how many mappings and members of theirs are looked at: aliases
	// bring the same ones up again and again.
	maxMembers = 4_000_000
)

// The extensions by which operations say what OpenAPI has no words for.
const (
	retryableExtension = "x-linkerd-retryable"
	timeoutExtension   = "x-linkerd-timeout"
)

// methods of the operations that become routes, in their order. Linkerd has none
// for TRACE.
func methods() []string {
	return []string{
		http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions,
		http.MethodPatch, http.MethodPost, http.MethodPut,
	}
}

// OpenAPIOptions say what the document does not.
type OpenAPIOptions struct {
	// BasePath stands before all paths instead of the document's basePath; nil
	// leaves that in force. OpenAPI 3 has no basePath but servers, which Linkerd
	// does not look at.
	BasePath *string
}

// Check refuses a base path that no path can begin with.
func (o OpenAPIOptions) Check() error {
	if o.BasePath == nil {
		return nil
	}
	return checkBasePath(*o.BasePath)
}

func checkBasePath(base string) error {
	if strings.TrimRight(base, "/") != "" && !strings.HasPrefix(base, "/") {
		return fmt.Errorf("the base path %q does not begin with /", base)
	}
	return nil
}

// FromOpenAPI derives routes from an OpenAPI document of version 2 or 3, in YAML
// or JSON, as `linkerd profile --open-api` does: one for each operation, by path
// and method, with a response class for each status code that it names. References
// are followed within the document only, and only from paths; no file and no
// network is ever read. Errors tell the line.
func FromOpenAPI(text []byte, options OpenAPIOptions) ([]Route, error) {
	if len(text) > maxDocument {
		return nil, fmt.Errorf("the document has %d bytes, and %d are read at most", len(text), maxDocument)
	}
	d := &openAPI{entries: maxEntries, members: maxMembers}
	header, err := d.parse(text)
	if err != nil {
		return nil, err
	}
	base, err := scalar(header["basePath"])
	if err != nil {
		return nil, fmt.Errorf("basePath: %w", err)
	}
	if options.BasePath != nil {
		base = *options.BasePath
	}
	if err := checkBasePath(base); err != nil {
		return nil, err
	}
	base = strings.TrimRight(base, "/")
	paths, err := d.mapping(header["paths"])
	if err != nil {
		return nil, fmt.Errorf("paths: %w", err)
	}
	routes := []Route{}
	lines := map[string]int{}
	for _, relative := range slices.Sorted(maps.Keys(paths)) {
		node := paths[relative]
		if strings.HasPrefix(relative, "x-") {
			continue
		}
		if !strings.HasPrefix(relative, "/") {
			return nil, fmt.Errorf("line %d: the path %q does not begin with /", node.Line, relative)
		}
		path := base + "/" + strings.TrimLeft(relative, "/")
		found, err := d.item(path, node)
		if err != nil {
			return nil, err
		}
		for _, route := range found {
			if line, double := lines[route.Name]; double {
				return nil, fmt.Errorf("line %d: %s is the operation of line %d once more; a route needs a name of its own", node.Line, route.Name, line)
			}
			lines[route.Name] = node.Line
		}
		routes = append(routes, found...)
	}
	return routes, nil
}

// openAPI is a document that is being read. Nothing of it is decoded but what
// routes are made of, so that what the rest says, or what its version of the
// specification makes of a schema, is no matter.
type openAPI struct {
	root *yaml.Node
	// entries are the routes and response classes that may still come, members the
	// mappings and members of theirs that may still be looked at.
	entries, members int
}

// surrogates are the characters that JSON writes as two, which YAML cannot read,
// or any other escape, so that none is looked for within one.
var surrogates = regexp.MustCompile(`\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\.`)

// parse returns the members of the document.
func (d *openAPI) parse(text []byte) (map[string]*yaml.Node, error) {
	if json.Valid(text) {
		text = surrogates.ReplaceAllFunc(text, func(escape []byte) []byte {
			var character string
			if len(escape) == len(`\.`) || json.Unmarshal(slices.Concat([]byte{'"'}, escape, []byte{'"'}), &character) != nil {
				return escape
			}
			return []byte(character)
		})
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the document is empty")
		}
		return nil, fmt.Errorf("neither YAML nor JSON: %w", err)
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one YAML document")
	}
	d.root = document.Content[0]
	header, err := d.mapping(d.root)
	if err != nil {
		return nil, err
	}
	swagger, err := scalar(header["swagger"])
	openapi, err2 := scalar(header["openapi"])
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(swagger, "2.") && !strings.HasPrefix(openapi, "3.") {
		return nil, errors.New(`not an OpenAPI document: it says neither swagger: "2.0" nor openapi: 3 with a minor version`)
	}
	if absent(header["paths"]) {
		return nil, errors.New("the OpenAPI document has no paths")
	}
	return header, nil
}

// item derives the routes of one path.
func (d *openAPI) item(path string, node *yaml.Node) ([]Route, error) {
	if absent(node) {
		return nil, nil
	}
	item, err := d.pathItem(node)
	if err != nil {
		return nil, fmt.Errorf("path %s: %w", path, err)
	}
	var routes []Route
	for _, method := range methods() {
		operation := item[strings.ToLower(method)]
		if absent(operation) {
			continue
		}
		route, err := d.route(path, method, operation)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		if d.entries -= 1 + len(route.ResponseClasses); d.entries < 0 {
			return nil, fmt.Errorf("there are more than %d routes and response classes, and a ServiceProfile of so many is too large for Kubernetes", maxEntries)
		}
		routes = append(routes, route)
	}
	return routes, nil
}

// pathItem are the members of a path, or of what it refers to.
func (d *openAPI) pathItem(node *yaml.Node) (map[string]*yaml.Node, error) {
	for range maxReferences {
		item, err := d.folded(node)
		if err != nil {
			return nil, err
		}
		reference := item["$ref"]
		if absent(reference) {
			return item, nil
		}
		for _, method := range methods() {
			if !absent(item[strings.ToLower(method)]) {
				return nil, fmt.Errorf("line %d: there is both a $ref and an operation for %s; OpenAPI does not say which counts", reference.Line, method)
			}
		}
		if node, err = d.referred(reference); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("line %d: its $ref leads to one reference after the other", node.Line)
}

// referred is what a reference within the document leads to.
func (d *openAPI) referred(reference *yaml.Node) (*yaml.Node, error) {
	text, err := scalar(reference)
	if err != nil {
		return nil, err
	}
	pointer, local := strings.CutPrefix(text, "#/")
	if !local {
		return nil, fmt.Errorf("line %d: the $ref %q leads out of the document, which is never followed; put what it means in here", reference.Line, text)
	}
	decoded, err := url.PathUnescape(pointer)
	if err != nil {
		return nil, fmt.Errorf("line %d: the $ref %q: %w; write a %% in it as %%25", reference.Line, text, err)
	}
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	node := d.root
	for part := range strings.SplitSeq(decoded, "/") {
		within, err := d.mapping(node)
		if err != nil {
			return nil, fmt.Errorf("line %d: the $ref %q: %w", reference.Line, text, err)
		}
		if node = within[unescape.Replace(part)]; absent(node) {
			return nil, fmt.Errorf("line %d: the $ref %q leads nowhere", reference.Line, text)
		}
	}
	return node, nil
}

// route derives the route of one operation.
func (d *openAPI) route(path, method string, node *yaml.Node) (Route, error) {
	operation, err := d.folded(node)
	if err != nil {
		return Route{}, err
	}
	route := Route{Name: method + " " + path, Condition: RequestMatch{Method: method, PathRegex: pathRegex(path)}}
	if retryable := resolved(operation[retryableExtension]); !absent(retryable) {
		if retryable.ShortTag() != "!!bool" || retryable.Decode(&route.IsRetryable) != nil {
			return Route{}, fmt.Errorf("line %d: %s is neither true nor false", retryable.Line, retryableExtension)
		}
	}
	if timeout := operation[timeoutExtension]; !absent(timeout) {
		if route.Timeout, err = scalar(timeout); err != nil {
			return Route{}, fmt.Errorf("%s: %w", timeoutExtension, err)
		}
		if _, err := time.ParseDuration(route.Timeout); err != nil {
			return Route{}, fmt.Errorf("line %d: %s is not a duration such as 300ms or 1m30s: %w", timeout.Line, timeoutExtension, err)
		}
	}
	if responses := operation["responses"]; !absent(responses) {
		route.ResponseClasses, err = d.classes(responses)
	}
	return route, err
}

// classes derives a response class from each status code that responses are
// given for. Neither `default` nor `5XX` is one.
func (d *openAPI) classes(responses *yaml.Node) ([]ResponseClass, error) {
	given, err := d.mapping(responses)
	if err != nil {
		return nil, err
	}
	var codes []int32
	for text, response := range given {
		code, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			continue
		}
		if code < lowestStatus || code > highestStatus {
			return nil, fmt.Errorf("line %d: %d is not a status code from %d to %d", response.Line, code, lowestStatus, highestStatus)
		}
		codes = append(codes, int32(code))
	}
	slices.Sort(codes)
	found := make([]ResponseClass, len(codes))
	for i, code := range codes {
		found[i] = ResponseClass{
			Condition: ResponseMatch{Status: &StatusRange{Min: code, Max: code}},
			IsFailure: code >= http.StatusInternalServerError,
		}
	}
	return found, nil
}

// parameter is a path parameter in a path that was made a regular expression.
var parameter = regexp.MustCompile(`\\\{[^}]*\}`)

// pathRegex matches the paths of a template: a parameter is anything up to the
// next slash.
func pathRegex(template string) string {
	return parameter.ReplaceAllLiteralString(regexp.QuoteMeta(template), "[^/]*")
}

// mapping returns the members of a mapping, those included that it merges in.
func (d *openAPI) mapping(node *yaml.Node) (map[string]*yaml.Node, error) {
	found := map[string]*yaml.Node{}
	return found, d.collect(node, found, 0)
}

// collect adds the members of a mapping to those that have been found closer by,
// which stand before them.
func (d *openAPI) collect(node *yaml.Node, found map[string]*yaml.Node, depth int) error {
	node = resolved(node)
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: this has to be a mapping", node.Line)
	}
	if depth > maxReferences {
		return fmt.Errorf("line %d: one merge leads to the next", node.Line)
	}
	// Those without members count, too: merges can bring them up as often as others.
	if d.members -= 1 + len(node.Content)/2; d.members < 0 {
		return fmt.Errorf("line %d: aliases and references make too much of the document", node.Line)
	}
	var merged []*yaml.Node
	own := map[string]int{}
	for i := 0; i < len(node.Content); i += 2 {
		key, value := resolved(node.Content[i]), node.Content[i+1]
		if key.ShortTag() == "!!merge" {
			if merged = append(merged, value); resolved(value).Kind == yaml.SequenceNode {
				merged = resolved(value).Content
			}
			continue
		}
		name, err := scalar(key)
		if err != nil {
			return err
		}
		if line, double := own[name]; double {
			return fmt.Errorf("line %d: %q is there already, in line %d", key.Line, name, line)
		}
		own[name] = key.Line
		if _, closer := found[name]; !closer {
			found[name] = value
		}
	}
	for _, source := range merged {
		if err := d.collect(source, found, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// folded are the members of a mapping by their names in lower case, which is how
// Linkerd's parser takes those of extensions and methods.
func (d *openAPI) folded(node *yaml.Node) (map[string]*yaml.Node, error) {
	found, err := d.mapping(node)
	if err != nil {
		return nil, err
	}
	lower := make(map[string]*yaml.Node, len(found))
	for name, member := range found {
		key := strings.ToLower(name)
		if other, double := lower[key]; double {
			return nil, fmt.Errorf("line %d: %s is there twice, in upper and lower case", min(member.Line, other.Line), key)
		}
		lower[key] = member
	}
	return lower, nil
}

// resolved is what an alias stands for, and anything else itself.
func resolved(node *yaml.Node) *yaml.Node {
	if node != nil && node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

// scalar is the text of a scalar; empty if there is none.
func scalar(node *yaml.Node) (string, error) {
	if absent(node) {
		return "", nil
	}
	node = resolved(node)
	if node.Kind != yaml.ScalarNode {
		return "", fmt.Errorf("line %d: this has to be a text", node.Line)
	}
	return node.Value, nil
}

// absent reports whether there is nothing, or null.
func absent(node *yaml.Node) bool {
	node = resolved(node)
	return node == nil || node.ShortTag() == "!!null"
}
