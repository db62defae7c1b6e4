package provider

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/tfversion"
)

// withFunctions are the versions of Terraform in which providers have functions.
var withFunctions = []tfversion.TerraformVersionCheck{tfversion.RequireAbove(tfversion.Version1_8_0)}

// injectOutput is a configuration with an output of what is injected.
func injectOutput(manifest, options string) string {
	return fmt.Sprintf("output \"injected\" {\n  value = provider::aksmesh::inject(<<-EOT\n%s\nEOT\n, %s)\n}\n", manifest, options)
}

func TestInjectFunction(t *testing.T) {
	t.Parallel()
	const (
		pod     = "kind: Pod # c\napiVersion: v1\nmetadata:\n    name: 'x'"
		service = "kind: Service\napiVersion: v1\nmetadata: {name: 'x'}"
	)
	for name, c := range map[string]struct{ manifest, options, want string }{
		"nothing to inject": {"# c", "{ linkerd = {} }", "# c\n"},
		"plain": {
			pod, "{ linkerd = {} }",
			"kind: Pod # c\napiVersion: v1\nmetadata:\n    annotations:\n        linkerd.io/inject: enabled\n    name: 'x'\n",
		},
		"settings of any type": {
			service + "\n---\n" + pod,
			`{ istio = null, linkerd = { ingress = "true", opaque_ports = ["4000-4100", 9080], skip_inbound_ports = tolist([5080]), proxy_log_level = null } }`,
			"kind: Service\napiVersion: v1\nmetadata: {annotations: {config.linkerd.io/opaque-ports: \"4000-4100,9080\"}, name: 'x'}\n---\n" +
				"kind: Pod # c\napiVersion: v1\nmetadata:\n    annotations:\n        config.linkerd.io/opaque-ports: \"4000-4100,9080\"\n" +
				"        config.linkerd.io/skip-inbound-ports: \"5080\"\n        linkerd.io/inject: ingress\n    name: 'x'\n",
		},
		"Istio": {
			service + "\n---\n" + pod, `{ istio = { revision = "canary" } }`,
			service + "\n---\nkind: Pod # c\napiVersion: v1\nmetadata:\n    labels:\n        istio.io/rev: canary\n        sidecar.istio.io/inject: \"true\"\n    name: 'x'\n",
		},
		"ambient": {
			pod, `{ istio = { mode = "ambient" } }`,
			"kind: Pod # c\napiVersion: v1\nmetadata:\n    labels:\n        istio.io/dataplane-mode: ambient\n    name: 'x'\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resource.UnitTest(t, resource.TestCase{
				TerraformVersionChecks:   withFunctions,
				ProtoV6ProviderFactories: testProviders,
				Steps: []resource.TestStep{{
					Config:            injectOutput(c.manifest, c.options),
					ConfigStateChecks: []statecheck.StateCheck{statecheck.ExpectKnownOutputValue("injected", knownvalue.StringExact(c.want))},
				}},
			})
		})
	}
}

// TestInjectFunctionFile injects whole files, as they are and again.
func TestInjectFunctionFile(t *testing.T) {
	t.Parallel()
	directory, err := filepath.Abs(filepath.Join("..", "mesh", "testdata", "inject"))
	if err != nil {
		t.Fatal(err)
	}
	options := map[string]string{
		"linkerd": "{ linkerd = { skip_inbound_ports = [5080, 7080], opaque_ports = [9080] } }",
		"istio":   `{ istio = { revision = "canary" } }`,
	}
	for name, options := range options {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resource.UnitTest(t, resource.TestCase{
				TerraformVersionChecks:   withFunctions,
				ProtoV6ProviderFactories: testProviders,
				Steps: []resource.TestStep{{
					Config: fmt.Sprintf(`
output "same" {
  value = alltrue(flatten([for name in ["chart", "dgraph", "emojivoto"] : [
    for text in [file("%[1]s/${name}.yaml"), file("%[1]s/${name}.%[2]s.yaml")] :
    provider::aksmesh::inject(text, %[3]s) == file("%[1]s/${name}.%[2]s.yaml")
  ]]))
}
`, directory, name, options),
					ConfigStateChecks: []statecheck.StateCheck{statecheck.ExpectKnownOutputValue("same", knownvalue.Bool(true))},
				}},
			})
		})
	}
}

func TestInjectFunctionUnknown(t *testing.T) {
	t.Parallel()
	resource.UnitTest(t, resource.TestCase{
		TerraformVersionChecks:   withFunctions,
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{{
			Config: `
resource "terraform_data" "port" {
  input = 5080
}
output "injected" {
  value = provider::aksmesh::inject("{kind: Pod, apiVersion: v1}", { linkerd = { skip_inbound_ports = [terraform_data.port.output] } })
}
`,
			ConfigStateChecks: []statecheck.StateCheck{statecheck.ExpectKnownOutputValue("injected", knownvalue.StringExact(
				`{"metadata": {"annotations": {"config.linkerd.io/skip-inbound-ports": "5080", "linkerd.io/inject": "enabled"}}, kind: Pod, apiVersion: v1}`))},
		}},
	})
}

func TestInjectFunctionInvalid(t *testing.T) {
	t.Parallel()
	const pod = "{kind: Pod, apiVersion: v1}"
	for name, c := range map[string]struct{ manifest, options, parameter, want string }{
		"no object":        {pod, `"linkerd"`, "options", "options: It has to be an object such as { linkerd = {} }"},
		"no mesh":          {pod, "{}", "options", "options: It takes exactly one of linkerd and istio"},
		"both":             {pod, "{ linkerd = {}, istio = {} }", "options", "options: It takes exactly one of linkerd and istio"},
		"other mesh":       {pod, "{ consul = {} }", "options", `There is no mesh "consul"`},
		"other setting":    {pod, "{ linkerd = { skip_inbound_port = [5080] } }", "options", "options.linkerd.skip_inbound_port: There is no such setting; the nearest are skip_inbound_ports, skip_outbound_ports and "},
		"bad value":        {pod, "{ linkerd = { skip_inbound_ports = [5080, 70000] } }", "options", "options.linkerd.skip_inbound_ports: "},
		"several":          {pod, "{ istio = { revision = \"A B\", mode = \"none\" } }", "options", "options.istio.mode: .* options.istio.revision: "},
		"no YAML":          {"a: b: c", "{ linkerd = {} }", "manifest", "Document 1: yaml: "},
		"no template":      {"---\nkind: Job\napiVersion: batch/v1\nmetadata: {name: once, namespace: ns}", "{ linkerd = {} }", "manifest", "Document 1 (line 2): Job ns/once: spec is missing"},
		"aliased metadata": {"kind: Pod\napiVersion: v1\nx: &x {}\nmetadata: *x", "{ linkerd = {} }", "manifest", "Document 1 (line 4): Pod: metadata is the alias *x; write out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			words := strings.ReplaceAll(strings.ReplaceAll(regexp.QuoteMeta(c.want), `\.\*`, `.*`), " ", `\s+`)
			resource.UnitTest(t, resource.TestCase{
				TerraformVersionChecks:   withFunctions,
				ProtoV6ProviderFactories: testProviders,
				Steps: []resource.TestStep{{
					Config:      injectOutput(c.manifest, c.options),
					ExpectError: regexp.MustCompile(`(?s)Invalid\s+value\s+for\s+"` + c.parameter + `"\s+parameter:.*` + words),
				}},
			})
		})
	}
}
