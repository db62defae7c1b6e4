package provider

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
)

// routesOf is a configuration with an output of derived routes, as JSON.
func routesOf(function, text, options string) string {
	return fmt.Sprintf("output \"routes\" {\n  value = jsonencode(provider::aksmesh::%s(<<-EOT\n%s\nEOT\n%s))\n}\n", function, text, options)
}

// derives checks what functions derive, by the JSON of it.
func derives(t *testing.T, function string, cases map[string]struct{ text, options, want string }) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resource.UnitTest(t, resource.TestCase{
				TerraformVersionChecks:   withFunctions,
				ProtoV6ProviderFactories: testProviders,
				Steps: []resource.TestStep{{
					Config:            routesOf(function, c.text, c.options),
					ConfigStateChecks: []statecheck.StateCheck{statecheck.ExpectKnownOutputValue("routes", knownvalue.StringExact(c.want))},
				}},
			})
		})
	}
}

// refusesToDerive checks which parameter is said to be at fault, and why.
func refusesToDerive(t *testing.T, function string, cases map[string]struct{ text, options, parameter, want string }) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			words := strings.ReplaceAll(regexp.QuoteMeta(c.want), " ", `\s+`)
			resource.UnitTest(t, resource.TestCase{
				TerraformVersionChecks:   withFunctions,
				ProtoV6ProviderFactories: testProviders,
				Steps: []resource.TestStep{{
					Config:      routesOf(function, c.text, c.options),
					ExpectError: regexp.MustCompile(`(?s)Invalid\s+value\s+for\s+"` + c.parameter + `"\s+parameter:.*` + words),
				}},
			})
		})
	}
}

func TestOpenAPIRoutesFunction(t *testing.T) {
	t.Parallel()
	const text = "openapi: 3.0.0\npaths:\n  /a/{b}:\n    get:\n      x-linkerd-retryable: true\n      x-linkerd-timeout: 1s\n      responses: {200: {}, 500: {}}\n    delete: {}"
	routes := func(prefix string) string {
		return `[{"condition_json":null,"method":"DELETE","name":"DELETE ` + prefix + `/a/{b}","path_regex":"` + prefix + `/a/[^/]*","response_classes":null,"retryable":false,"timeout":null},` +
			`{"condition_json":null,"method":"GET","name":"GET ` + prefix + `/a/{b}","path_regex":"` + prefix + `/a/[^/]*","response_classes":[` +
			`{"condition_json":null,"is_failure":false,"status_max":200,"status_min":200},{"condition_json":null,"is_failure":true,"status_max":500,"status_min":500}],"retryable":true,"timeout":"1s"}]`
	}
	derives(t, "openapi_routes", map[string]struct{ text, options, want string }{
		"plain":        {text, "", routes("")},
		"base path":    {text, `, { base_path = "/v1/" }`, routes("/v1")},
		"no base path": {"basePath: /v2\n" + text, `, { base_path = "" }`, routes("")},
		"null":         {"basePath: /v2\n" + text, `, { base_path = null }`, routes("/v2")},
	})
	refusesToDerive(t, "openapi_routes", map[string]struct{ text, options, parameter, want string }{
		"no OpenAPI":        {"kind: Pod", "", "spec", "Not an OpenAPI document"},
		"line":              {"openapi: 3.0.0\npaths:\n  /a: {get: {x-linkerd-timeout: soon}}", "", "spec", "GET /a: line 3: x-linkerd-timeout is not a duration"},
		"relative path":     {text, `, { base_path = "v1" }`, "options", `The base path "v1" does not begin with /`},
		"another option":    {text, `, { base = "/v1" }`, "options", `attribute "base_path" is required`},
		"two sets":          {text, `, { base_path = "/a" }, { base_path = "/b" }`, "options", "only one object of options"},
		"leads out of here": {"openapi: 3.0.0\npaths: {/a: {$ref: 'file:///etc/passwd'}}", "", "spec", "leads out of the document"},
	})
}

func TestOpenAPIRoutesFunctionUnknown(t *testing.T) {
	t.Parallel()
	resource.UnitTest(t, resource.TestCase{
		TerraformVersionChecks:   withFunctions,
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{{
			Config: `
resource "terraform_data" "base" {
  input = "/v1"
}
output "routes" {
  value = provider::aksmesh::openapi_routes("{openapi: 3.0.0, paths: {/a: {get: {}}}}", { base_path = terraform_data.base.output })[0].name
}
`,
			ConfigStateChecks: []statecheck.StateCheck{statecheck.ExpectKnownOutputValue("routes", knownvalue.StringExact("GET /v1/a"))},
		}},
	})
}
