package provider

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
)

// TestUnknownValues plans every resource with values that only an apply of
// another resource will tell, at each level of nesting.
func TestUnknownValues(t *testing.T) {
	t.Parallel()
	resource.UnitTest(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{{
			Config: `
provider "aksmesh" { kubernetes = { host = "https://127.0.0.1:1" } }

resource "terraform_data" "this" {
  input = {
    text     = "x"
    texts    = ["x"]
    port     = 8080
    ports    = [8080]
    labels   = { app = "x" }
    number   = 2
    switch   = true
    proxy    = { cpu_request = "1", cpu_limit = "1", memory_request = "1Mi", memory_limit = "1Mi" }
    linkerd  = { version = "edge-26.8.3" }
    mesh     = { istio = {} }
    chart    = { name = "x" }
    workload = { kind = "Deployment", name = "x" }
    values   = { base = ["a: b"] }
    routes   = [{ name = "x", method = "GET" }]
    budget   = { retry_ratio = 1, min_retries_per_second = 1, ttl = "1s" }
    signer   = { kms_key_uri = "x" }
    certificate = { pem = "x", request_id = "x" }
  }
}

locals { later = terraform_data.this.output }

resource "aksmesh_trust_anchor" "this" {
  name          = local.later.text
  validity      = local.later.text
  early_renewal = local.later.text
}

resource "aksmesh_trust_anchor" "made" {
  private_key_storage = local.later.text
  kms_key_uri         = local.later.text
  algorithm           = local.later.text
  common_name         = local.later.text
  subject             = { organization = local.later.text }
  rotation_trigger    = local.later.text
}

resource "aksmesh_trust_anchor" "given" {
  private_key_storage         = "state"
  certificate_pem             = local.later.text
  private_key_wo              = local.later.text
  additional_certificates_pem = [local.later.text]
}

resource "aksmesh_trust_anchor" "kms" {
  private_key_storage         = "kms"
  kms_key_uri                 = local.later.text
  additional_certificates_pem = local.later.texts
}

resource "aksmesh_issuer" "this" {
  trust_anchor_id  = local.later.text
  trust_bundle_pem = local.later.text
  mesh             = local.later.text
  namespace        = local.later.text
  early_renewal    = local.later.text
}

resource "aksmesh_issuer" "signed" {
  mesh             = "linkerd"
  trust_bundle_pem = local.later.text
  signer           = { kms_key_uri = local.later.text }
  subject          = { organization = local.later.text }
  algorithm        = local.later.text
  rotation         = local.later.text
  restart          = { max_parallel = local.later.number, order = [local.later.text] }
}

resource "aksmesh_issuer" "signed_whole" {
  mesh                 = "linkerd"
  trust_bundle_pem     = local.later.text
  signer               = local.later.signer
  private_key_in_state = local.later.switch
}

resource "aksmesh_issuer" "given" {
  mesh             = "istio"
  trust_bundle_pem = local.later.text
  certificate      = { pem = local.later.text, private_key_wo = local.later.text, private_key_wo_version = local.later.text }
}

resource "aksmesh_issuer" "given_whole" {
  mesh             = "istio"
  trust_bundle_pem = local.later.text
  certificate      = local.later.certificate
}

resource "aksmesh_issuer_request" "this" {
  mesh            = local.later.text
  namespace       = local.later.text
  algorithm       = local.later.text
  common_name     = local.later.text
  subject         = { organization = local.later.text }
  renewal_trigger = local.later.text
}

ephemeral "aksmesh_issuer" "this" {
  signer           = { private_key = local.later.text }
  trust_bundle_pem = local.later.text
  subject          = { organization = local.later.text }
  validity         = local.later.text
}

resource "aksmesh_issuer" "ephemeral" {
  mesh             = "istio"
  trust_bundle_pem = local.later.text
  certificate      = { pem_wo = ephemeral.aksmesh_issuer.this.chain_pem, private_key_wo = ephemeral.aksmesh_issuer.this.private_key_pem }
}

resource "aksmesh_linkerd" "whole" {
  version   = local.later.text
  issuer_id = local.later.text
  proxy     = local.later.proxy
  values    = local.later.texts
}

resource "aksmesh_linkerd" "parts" {
  version   = "2026.8.3"
  namespace = local.later.text
  issuer_id = local.later.text
  proxy     = { cpu_request = local.later.text }
  values    = ["a: b", local.later.text]
}

resource "aksmesh_istio" "whole" {
  version   = local.later.text
  profile   = local.later.text
  issuer_id = local.later.text
  values    = local.later.values
}

resource "aksmesh_istio" "parts" {
  version = "1.31.0"
  values  = { istiod = ["a: b", local.later.text] }
}

resource "aksmesh_injection" "whole" {
  namespace = local.later.text
  workload  = local.later.workload
  mesh      = local.later.mesh
}

resource "aksmesh_injection" "parts" {
  namespace = "x"
  workload  = { kind = local.later.text, name = "x" }
  follows   = [local.later.text]
  restart   = { max_parallel = local.later.number, order = [local.later.text] }
  mesh = {
    linkerd = {
      ingress              = local.later.switch
      skip_inbound_ports   = [local.later.port]
      opaque_ports         = local.later.ports
      proxy_cpu_request    = local.later.text
      proxy_uid            = local.later.number
      proxy_await          = local.later.switch
      proxy_additional_env = { X = local.later.text }
    }
  }
}

resource "aksmesh_injection" "mode" {
  namespace = "x"
  mesh      = { istio = { mode = local.later.text, revision = local.later.text } }
  follows   = local.later.texts
}

resource "aksmesh_release" "whole" {
  name      = local.later.text
  namespace = local.later.text
  chart     = local.later.chart
  values    = local.later.texts
  mesh      = local.later.mesh
}

resource "aksmesh_release" "parts" {
  name      = "x"
  namespace = "x"
  chart     = { repository = "https://charts.invalid", name = local.later.text, version = "1.0.0" }
  values    = ["a: b", local.later.text]
  set_wo    = { a = local.later.text }
  mesh      = { linkerd = { opaque_ports = local.later.ports } }
}

resource "aksmesh_release" "manifests" {
  name          = "x"
  namespace     = local.later.text
  manifests     = [local.later.text]
  manifest_urls = [{ url = local.later.text, sha256 = local.later.text }]
  follows       = [local.later.text]
}

resource "aksmesh_authorization" "parts" {
  namespace    = local.later.text
  name         = "x"
  mesh         = { linkerd = local.later.linkerd }
  pod_selector = { app = local.later.text }
  ports        = [local.later.port, local.later.text]
  mtls         = local.later.text
  protocol     = local.later.text
  allow = [{
    service_accounts = [local.later.text]
    namespaces       = local.later.texts
    networks         = [{ cidr = local.later.text }]
    meshed           = local.later.switch
    routes           = [{ methods = [local.later.text], path = local.later.text }]
  }]
}

resource "aksmesh_authorization" "default" {
  namespace      = "x"
  name           = local.later.text
  mesh           = local.later.mesh
  default_policy = local.later.text
  workload       = { kind = "Deployment", name = local.later.text }
}

resource "aksmesh_network_policy" "whole" {
  namespace    = local.later.text
  pod_selector = local.later.labels
  ports        = local.later.ports
  mesh         = local.later.mesh
}

resource "aksmesh_network_policy" "parts" {
  namespace    = "x"
  pod_selector = { app = local.later.text }
  ports        = [local.later.port]
  mesh         = { linkerd = local.later.linkerd }
}

resource "aksmesh_service_profile" "whole" {
  namespace        = local.later.text
  service          = local.later.text
  cluster_domain   = local.later.text
  client_namespace = local.later.text
  routes           = local.later.routes
  retry_budget     = local.later.budget
}

resource "aksmesh_service_profile" "parts" {
  namespace = "x"
  service   = "x"
  routes = [
    { name = local.later.text, method = "GET", timeout = local.later.text, response_classes = [{ status_min = local.later.number }] },
    { name = "x", condition_json = jsonencode({ method = local.later.text }) },
  ]
  retry_budget  = { retry_ratio = local.later.number, min_retries_per_second = 1, ttl = "1s" }
  opaque_ports  = [local.later.port]
  dst_overrides = [{ authority = local.later.text, weight = "1" }]
}
`,
			PlanOnly:           true,
			ExpectNonEmptyPlan: true,
		}},
	})
}
