package profile

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// route builds an expected route: codes of 500 and above are failures.
func route(method, path, regex string, codes ...int32) Route {
	r := Route{Name: method + " " + path, Condition: RequestMatch{Method: method, PathRegex: regex}}
	for _, code := range codes {
		r.ResponseClasses = append(r.ResponseClasses, ResponseClass{Condition: ResponseMatch{Status: &StatusRange{Min: code, Max: code}}, IsFailure: code >= 500})
	}
	return r
}

// with is a route that may be retried, or that has a timeout.
func (r Route) with(retryable bool, timeout string) Route {
	r.IsRetryable, r.Timeout = retryable, timeout
	return r
}

// same compares routes in the form in which they are applied.
func same(t *testing.T, got, want []Route) {
	t.Helper()
	gotText, err := json.MarshalIndent(got, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	wantText, err := json.MarshalIndent(want, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if string(gotText) != string(wantText) {
		t.Errorf("got %s\nwant %s", gotText, wantText)
	}
}

// The front end of Emojivoto, as an OpenAPI 3 document.
const emojivoto = `openapi: 3.0.3
info: {title: Emojivoto, version: v11}
servers:
  - url: https://emojivoto.example/ignored
paths:
  /api/vote:
    get:
      x-linkerd-timeout: 500ms
      parameters:
        - {name: choice, in: query, schema: {type: string}}
      responses:
        "200": {description: counted}
        "404": {description: no such emoji}
        "500": {description: not counted}
        default: {description: anything else}
  /api/list:
    get:
      x-linkerd-retryable: true
      responses: &answers
        200: {description: the list}
        500: {description: no list}
        5XX: {description: anything worse}
  /api/leaderboard:
    get:
      X-Linkerd-Retryable: true
      responses: *answers
  /emoji/{shortcode}/image.png:
    parameters:
      - {name: shortcode, in: path, required: true, schema: {type: string}}
    head: {}
    get: {responses: {}}
    trace: {}
`

// A bookshop in the manner of booksapp, as a Swagger 2 document.
const books = `{
	"swagger": "2.0",
	"info": {"title": "books \ud83d\udcda \\ud83d", "version": "1"},
	"basePath": "/v1/",
	"paths": {
		"/books/{id}.json": {
			"put": {"responses": {"200": {}, "404": {}, "503": {}}},
			"patch": {"responses": {"200": {}}},
			"get": {"responses": {"404": {}, "200": {}}, "x-linkerd-retryable": true, "x-linkerd-timeout": "1m30s"},
			"delete": {"x-linkerd-retryable": false},
			"post": null
		},
		"/books.json": {
			"post": {"responses": {"201": {}, "422": {"$ref": "https://elsewhere.example/never#/read"}}},
			"get": {"responses": {"200": {}}}
		},
		"/authors/{author}/books/{id}-{edition}": {"options": {"responses": {"204": {}}}},
		"x-internal": {"get": {}}
	}
}`

func TestFromOpenAPI(t *testing.T) {
	t.Parallel()
	prefix := "/shop"
	none := ""
	for name, c := range map[string]struct {
		text    string
		options OpenAPIOptions
		want    []Route
	}{
		"emojivoto": {emojivoto, OpenAPIOptions{}, []Route{
			route("GET", "/api/leaderboard", "/api/leaderboard", 200, 500).with(true, ""),
			route("GET", "/api/list", "/api/list", 200, 500).with(true, ""),
			route("GET", "/api/vote", "/api/vote", 200, 404, 500).with(false, "500ms"),
			route("GET", "/emoji/{shortcode}/image.png", `/emoji/[^/]*/image\.png`),
			route("HEAD", "/emoji/{shortcode}/image.png", `/emoji/[^/]*/image\.png`),
		}},
		"books": {books, OpenAPIOptions{}, []Route{
			route("OPTIONS", "/v1/authors/{author}/books/{id}-{edition}", "/v1/authors/[^/]*/books/[^/]*-[^/]*", 204),
			route("GET", "/v1/books.json", `/v1/books\.json`, 200),
			route("POST", "/v1/books.json", `/v1/books\.json`, 201, 422),
			route("DELETE", "/v1/books/{id}.json", `/v1/books/[^/]*\.json`),
			route("GET", "/v1/books/{id}.json", `/v1/books/[^/]*\.json`, 200, 404).with(true, "1m30s"),
			route("PATCH", "/v1/books/{id}.json", `/v1/books/[^/]*\.json`, 200),
			route("PUT", "/v1/books/{id}.json", `/v1/books/[^/]*\.json`, 200, 404, 503),
		}},
		"another base path": {`{openapi: 3.1.0, basePath: /ignored, paths: {/a: {get: {}}}}`, OpenAPIOptions{BasePath: &prefix}, []Route{route("GET", "/shop/a", "/shop/a")}},
		"no base path":      {`{swagger: "2.0", basePath: /ignored, paths: {//a: {get: {}}}}`, OpenAPIOptions{BasePath: &none}, []Route{route("GET", "/a", "/a")}},
		"no paths":          {`{openapi: 3.0.0, paths: {}}`, OpenAPIOptions{}, []Route{}},
		"null":              {`{openapi: 3.0.0, paths: {/a: null, /b: {get: ~, put: {responses: ~}}}}`, OpenAPIOptions{}, []Route{route("PUT", "/b", "/b")}},
		// Paths in the order of their bytes: - and . before /, / before letters, { last.
		"order": {`{openapi: 3.0.0, paths: {"/a/{b}": {get: {}}, /a/b: {get: {}}, /a.b: {get: {}}, /a-b: {get: {}}, /B: {get: {}}}}`, OpenAPIOptions{}, []Route{
			route("GET", "/B", "/B"), route("GET", "/a-b", "/a-b"), route("GET", "/a.b", `/a\.b`), route("GET", "/a/b", "/a/b"), route("GET", "/a/{b}", "/a/[^/]*"),
		}},
		"odd templates": {`{openapi: 3.0.0, paths: {"/{a/b}/{c": {get: {}}, "/a+(b)|$": {get: {}}}}`, OpenAPIOptions{}, []Route{
			route("GET", "/a+(b)|$", `/a\+\(b\)\|\$`), route("GET", "/{a/b}/{c", `/[^/]*/\{c`),
		}},
		"local references": {`
openapi: 3.1.0
paths:
  /a: {$ref: "#/components/pathItems/one~1two"}
  /b: {$ref: "#/paths/~1a", summary: of /a}
components:
  pathItems:
    one/two: {get: {responses: {"200": {$ref: "#/components/responses/any"}}}}
`, OpenAPIOptions{}, []Route{route("GET", "/a", "/a", 200), route("GET", "/b", "/b", 200)}},
		"encoded references": {`
openapi: 3.1.0
paths:
  /a: {$ref: "#/paths/~1books~1%7Bid%7D"}
  /b: {$ref: "#/paths/~1100%25"}
  /books/{id}: {get: {}}
  /100%: {get: {}}
`, OpenAPIOptions{}, []Route{route("GET", "/100%", "/100%"), route("GET", "/a", "/a"), route("GET", "/b", "/b"), route("GET", "/books/{id}", "/books/[^/]*")}},
		"merged": {`
openapi: 3.0.0
x-common: &common {x-linkerd-retryable: true, responses: {"200": {}}}
paths: {/a: {get: {<<: *common, x-linkerd-timeout: 1s}, put: {<<: [{x-linkerd-timeout: 2s}, *common], x-linkerd-retryable: false}}}
`, OpenAPIOptions{}, []Route{route("GET", "/a", "/a", 200).with(true, "1s"), route("PUT", "/a", "/a", 200).with(false, "2s")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := FromOpenAPI([]byte(c.text), c.options)
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, c.want)
			if err := (Spec{Routes: got}).Check(); err != nil {
				t.Error(err)
			}
			again, err := FromOpenAPI([]byte(c.text), c.options)
			if err != nil || !reflect.DeepEqual(got, again) {
				t.Errorf("the second time: %v, %v", again, err)
			}
		})
	}
}

func TestFromOpenAPIRefuses(t *testing.T) {
	t.Parallel()
	relative := "shop"
	document := func(paths string) string { return "openapi: 3.0.0\npaths:\n" + paths }
	for name, c := range map[string]struct {
		text    string
		options OpenAPIOptions
		want    string
	}{
		"nothing":             {"", OpenAPIOptions{}, "empty"},
		"no YAML":             {"a: [\nb", OpenAPIOptions{}, "line 2"},
		"a list":              {"[]", OpenAPIOptions{}, "line 1: this has to be a mapping"},
		"two documents":       {"openapi: 3.0.0\npaths: {}\n---\na: b", OpenAPIOptions{}, "more than one"},
		"something else":      {"kind: Pod", OpenAPIOptions{}, "neither swagger"},
		"an older Swagger":    {"{swagger: '1.2', paths: {}}", OpenAPIOptions{}, "neither swagger"},
		"webhooks only":       {"{openapi: 3.1.0, webhooks: {}}", OpenAPIOptions{}, "no paths"},
		"list of paths":       {document("- /a"), OpenAPIOptions{}, "paths: line 3: this has to be a mapping"},
		"relative path":       {document("  a: {}"), OpenAPIOptions{}, `line 3: the path "a" does not begin`},
		"relative base path":  {document("  /a: {}"), OpenAPIOptions{BasePath: &relative}, `"shop" does not begin`},
		"path twice":          {document("  /a: {}\n  /a: {}"), OpenAPIOptions{}, `paths: line 4: "/a" is there already, in line 3`},
		"operation twice":     {document("  /a: {get: {}}\n  //a: {get: {}}"), OpenAPIOptions{}, "line 3: GET /a is the operation of line 4 once more"},
		"method in two cases": {document("  /a: {get: {}, GET: {}}"), OpenAPIOptions{}, "get is there twice"},
		"quoted boolean":      {document("  /a:\n    get:\n      x-linkerd-retryable: 'true'"), OpenAPIOptions{}, "GET /a: line 5: x-linkerd-retryable is neither true nor false"},
		"old boolean":         {document("  /a: {get: {x-linkerd-retryable: yes}}"), OpenAPIOptions{}, "neither true nor false"},
		"bare number":         {document("  /a: {get: {x-linkerd-timeout: 5}}"), OpenAPIOptions{}, "line 3: x-linkerd-timeout is not a duration"},
		"list as timeout":     {document("  /a: {get: {x-linkerd-timeout: [5]}}"), OpenAPIOptions{}, "x-linkerd-timeout: line 3: this has to be a text"},
		"no status code":      {document("  /a: {get: {responses: {'700': {}}}}"), OpenAPIOptions{}, "line 3: 700 is not a status code"},
		"list of responses":   {document("  /a: {get: {responses: []}}"), OpenAPIOptions{}, "GET /a: line 3: this has to be a mapping"},
		"text as operation":   {document("  /a: {get: later}"), OpenAPIOptions{}, "GET /a: line 3: this has to be a mapping"},
		"file":                {document("  /a: {$ref: paths.yaml#/a}"), OpenAPIOptions{}, `path /a: line 3: the $ref "paths.yaml#/a" leads out of the document`},
		"network":             {document("  /a: {$ref: 'https://example.com/#/a'}"), OpenAPIOptions{}, "leads out of the document"},
		"nowhere":             {document("  /a: {$ref: '#/b/c'}"), OpenAPIOptions{}, "leads nowhere"},
		"badly encoded":       {document("  /a: {$ref: '#/paths/~1100%'}"), OpenAPIOptions{}, `line 3: the $ref "#/paths/~1100%": invalid URL escape`},
		"through a text":      {document("  /a: {$ref: '#/openapi/c'}"), OpenAPIOptions{}, "this has to be a"},
		"in a circle":         {document("  /a: {$ref: '#/paths/~1a'}"), OpenAPIOptions{}, "one reference after the other"},
		"list as reference":   {document("  /a: {$ref: []}"), OpenAPIOptions{}, "this has to be a"},
		"beside a reference":  {document("  /a: {$ref: '#/paths/~1b', put: {}}\n  /b: {}"), OpenAPIOptions{}, "both a $ref and an operation for PUT"},
		"too large":           {strings.Repeat(" ", maxDocument+1), OpenAPIOptions{}, "are read at most"},
		"aliases within aliases": {
			"a: &a [x, x, x, x, x, x, x, x, x]\n" + doubled("a", "b") + doubled("b", "c") + doubled("c", "d") + doubled("d", "e") + doubled("e", "f") + doubled("f", "g") + "openapi: *g\npaths: *g",
			OpenAPIOptions{},
			"line 7: this has to be a text",
		},
		"aliases of merges":  {"a: &a {k: v}\n" + mergedOf("a", "b") + mergedOf("b", "c") + mergedOf("c", "d") + mergedOf("d", "e") + mergedOf("e", "f") + mergedOf("f", "g") + "openapi: 3.0.0\npaths: *g", OpenAPIOptions{}, `the path "k" does not begin`},
		"merges without end": {"a: &a {<<: *a}\nopenapi: 3.0.0\npaths: *a", OpenAPIOptions{}, "one merge leads to the next"},
		"merges of everything": {
			"a: &a {" + members(1000) + "}\n" + mergedOf("a", "b") + mergedOf("b", "c") + mergedOf("c", "d") + mergedOf("d", "e") + mergedOf("e", "f") + "openapi: 3.0.0\npaths: *f",
			OpenAPIOptions{},
			"make too much of the document",
		},
		"merges of nothing":   {nothings(2000), OpenAPIOptions{}, "make too much of the document"},
		"key that is a list":  {document("  [a]: {}"), OpenAPIOptions{}, "line 3: this has to be a text"},
		"merge of a text":     {document("  <<: a"), OpenAPIOptions{}, "line 3: this has to be a mapping"},
		"base path of a list": {"swagger: '2.0'\nbasePath: []\npaths: {}", OpenAPIOptions{}, "basePath: line 2"},
		"much from little":    {document("  /a: &a {get: &o {responses: " + codes() + "}, put: *o, post: *o, head: *o}\n" + aliases(100)), OpenAPIOptions{}, "too large for Kubernetes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			routes, err := FromOpenAPI([]byte(c.text), c.options)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%d routes, error %v; want %q", len(routes), err, c.want)
			}
		})
	}
}

// doubled is a list of nine times another, mergedOf a mapping that merges
// another in nine times.
func doubled(of, name string) string {
	return fmt.Sprintf("%s: &%s [%s]\n", name, name, strings.Repeat("*"+of+", ", 9))
}

func mergedOf(of, name string) string {
	return fmt.Sprintf("%s: &%s {<<: [%s]}\n", name, name, strings.Repeat("*"+of+", ", 9))
}

// nothings is a document whose paths merge in, count times, what merges an empty
// mapping in as often.
func nothings(count int) string {
	return fmt.Sprintf("e: &e {}\na: &a {<<: [%s]}\nopenapi: 3.0.0\npaths: {<<: [%s]}", strings.Repeat("*e, ", count), strings.Repeat("*a, ", count))
}

func members(count int) string {
	var text strings.Builder
	for i := range count {
		fmt.Fprintf(&text, "k%d: v, ", i)
	}
	return text.String()
}

func codes() string {
	var text strings.Builder
	for code := lowestStatus; code <= highestStatus; code++ {
		fmt.Fprintf(&text, "'%d': {}, ", code)
	}
	return "{" + text.String() + "}"
}

func aliases(count int) string {
	var text strings.Builder
	for i := range count {
		fmt.Fprintf(&text, "  /%d: *a\n", i)
	}
	return text.String()
}

// instance is a path that a template stands for.
func instance(template, value string) string {
	return regexp.MustCompile(`\{[^}]*\}`).ReplaceAllLiteralString(template, value)
}

// matches reports whether a route matches a path as the proxies do: all of it.
func matches(t *testing.T, r Route, path string) bool {
	t.Helper()
	compiled, err := regexp.Compile("^(?:" + r.Condition.PathRegex + ")$")
	if err != nil {
		t.Fatalf("%s: %v", r.Name, err)
	}
	return compiled.MatchString(path)
}

func FuzzFromOpenAPI(f *testing.F) {
	for _, seed := range []string{
		emojivoto, books,
		"openapi: 3.1.0\npaths: {/a: {$ref: '#/paths/~1b'}, /b: {get: {responses: {200: {}, 5XX: {}}}}}",
		"a: &a {<<: [*a]}\nopenapi: 3.0.0\npaths: *a",
		nothings(3),
		"swagger: '2.0'\nbasePath: /x\npaths: {'/{a}{b': {put: {x-linkerd-retryable: true, x-linkerd-timeout: 1s}}}",
	} {
		f.Add(seed, "")
		f.Add(seed, "/base")
	}
	f.Fuzz(func(t *testing.T, text, base string) {
		text, base = strings.ToValidUTF8(text, "?"), strings.ToValidUTF8(base, "?") // As all strings of Terraform are.
		routes, err := FromOpenAPI([]byte(text), OpenAPIOptions{BasePath: &base})
		again, err2 := FromOpenAPI([]byte(text), OpenAPIOptions{BasePath: &base})
		if !reflect.DeepEqual(routes, again) || (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
			t.Fatalf("%v, %v\nand then %v, %v", routes, err, again, err2)
		}
		if err != nil {
			return
		}
		if err := (Spec{Routes: routes}).Check(); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range routes {
			method, path, _ := strings.Cut(r.Name, " ")
			for _, value := range []string{"", "x", "a.b-c"} {
				if !matches(t, r, instance(path, value)) {
					t.Fatalf("%s: %s does not match %q", r.Name, r.Condition.PathRegex, instance(path, value))
				}
			}
			if method != r.Condition.Method || !slices.Contains(methods(), method) {
				t.Fatalf("%s: method %s", r.Name, r.Condition.Method)
			}
			names = append(names, r.Name)
		}
		slices.Sort(names)
		if len(slices.Compact(names)) != len(routes) {
			t.Fatalf("two routes of one name among %v", names)
		}
	})
}
