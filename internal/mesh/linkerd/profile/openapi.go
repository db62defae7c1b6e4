package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Limits of what routes are derived from.
const (
	maxDocument = 16 << 20 // bytes of an OpenAPI document or a protobuf definition
	// maxEntries is how many routes and response classes a profile can have: an API
	// server keeps no object of more than 1.5 MiB, and the shortest takes 46 bytes.
	maxEntries = 1536 << 10 / 46
	// maxReferences is how often a reference may lead to another.
	maxReferences = 8
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
	d := &openAPI{entries: maxEntries}
	if err := d.parse(text); err != nil {
		return nil, err
	}
	base := d.header.BasePath
	if options.BasePath != nil {
		base = *options.BasePath
	}
	if err := checkBasePath(base); err != nil {
		return nil, err
	}
	base = strings.TrimRight(base, "/")
	paths, err := members(&d.header.Paths)
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
		found, err := d.item(path, &node)
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
	root   yaml.Node
	header struct {
		Swagger  string    `yaml:"swagger"`
		OpenAPI  string    `yaml:"openapi"`
		BasePath string    `yaml:"basePath"`
		Paths    yaml.Node `yaml:"paths"`
	}
	// entries are the routes and response classes that may still come: aliases
	// make much of little.
	entries int
}

// surrogates are the characters that JSON writes as two, which YAML cannot read,
// or any other escape, so that none is looked for within one.
var surrogates = regexp.MustCompile(`\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\.`)

func (d *openAPI) parse(text []byte) error {
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
	if err := decoder.Decode(&d.root); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("the document is empty")
		}
		return fmt.Errorf("neither YAML nor JSON: %w", err)
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one YAML document")
	}
	if err := d.root.Decode(&d.header); err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(d.header.Swagger, "2."), strings.HasPrefix(d.header.OpenAPI, "3."):
	default:
		return errors.New(`not an OpenAPI document: it says neither swagger: "2.0" nor openapi: 3 with a minor version`)
	}
	if absent(&d.header.Paths) {
		return errors.New("the OpenAPI document has no paths")
	}
	return nil
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
		if absent(&operation) {
			continue
		}
		route, err := d.route(path, method, &operation)
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
func (d *openAPI) pathItem(node *yaml.Node) (map[string]yaml.Node, error) {
	for range maxReferences {
		item, err := folded(node)
		if err != nil {
			return nil, err
		}
		reference := item["$ref"]
		if absent(&reference) {
			return item, nil
		}
		for _, method := range methods() {
			if operation := item[strings.ToLower(method)]; !absent(&operation) {
				return nil, fmt.Errorf("line %d: there is both a $ref and an operation for %s; OpenAPI does not say which counts", reference.Line, method)
			}
		}
		if node, err = d.referred(&reference); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("line %d: its $ref leads to one reference after the other", node.Line)
}

// referred is what a reference within the document leads to.
func (d *openAPI) referred(reference *yaml.Node) (*yaml.Node, error) {
	var text string
	if err := reference.Decode(&text); err != nil {
		return nil, err
	}
	pointer, local := strings.CutPrefix(text, "#/")
	if !local {
		return nil, fmt.Errorf("line %d: the $ref %q leads out of the document, which is never followed; put what it means in here", reference.Line, text)
	}
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	node := &d.root
	for part := range strings.SplitSeq(pointer, "/") {
		within, err := members(node)
		if err != nil {
			return nil, fmt.Errorf("line %d: the $ref %q: %w", reference.Line, text, err)
		}
		next, found := within[unescape.Replace(part)]
		if !found {
			return nil, fmt.Errorf("line %d: the $ref %q leads nowhere", reference.Line, text)
		}
		node = &next
	}
	return node, nil
}

// route derives the route of one operation.
func (d *openAPI) route(path, method string, node *yaml.Node) (Route, error) {
	operation, err := folded(node)
	if err != nil {
		return Route{}, err
	}
	route := Route{Name: method + " " + path, Condition: RequestMatch{Method: method, PathRegex: pathRegex(path)}}
	if retryable := operation[retryableExtension]; !absent(&retryable) {
		if retryable.ShortTag() != "!!bool" || retryable.Decode(&route.IsRetryable) != nil {
			return Route{}, fmt.Errorf("line %d: %s is neither true nor false", retryable.Line, retryableExtension)
		}
	}
	if timeout := operation[timeoutExtension]; !absent(&timeout) {
		if err := timeout.Decode(&route.Timeout); err != nil {
			return Route{}, fmt.Errorf("%s: %w", timeoutExtension, err)
		}
		if _, err := time.ParseDuration(route.Timeout); err != nil {
			return Route{}, fmt.Errorf("line %d: %s is not a duration such as 300ms or 1m30s: %w", timeout.Line, timeoutExtension, err)
		}
	}
	responses := operation["responses"]
	if absent(&responses) {
		return route, nil
	}
	route.ResponseClasses, err = classes(&responses)
	return route, err
}

// classes derives a response class from each status code that responses are
// given for. Neither `default` nor `5XX` is one.
func classes(responses *yaml.Node) ([]ResponseClass, error) {
	given, err := members(responses)
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

// members decodes a mapping, with what it merges in. The decoder refuses keys
// that come twice, and aliases that make too much of too little.
func members(node *yaml.Node) (map[string]yaml.Node, error) {
	var found map[string]yaml.Node
	if err := node.Decode(&found); err != nil {
		return nil, err
	}
	return found, nil
}

// folded are the members of a mapping by their names in lower case, which is how
// Linkerd's parser takes those of extensions and methods.
func folded(node *yaml.Node) (map[string]yaml.Node, error) {
	found, err := members(node)
	if err != nil {
		return nil, err
	}
	lower := make(map[string]yaml.Node, len(found))
	for name, member := range found {
		key := strings.ToLower(name)
		if _, double := lower[key]; double {
			return nil, fmt.Errorf("line %d: %s is there twice, in upper and lower case", member.Line, key)
		}
		lower[key] = member
	}
	return lower, nil
}

// absent reports whether there is nothing, or null.
func absent(node *yaml.Node) bool {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node.IsZero() || node.ShortTag() == "!!null"
}
