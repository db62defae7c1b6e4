resource "aksmesh_trust_anchor" "this" {}

resource "aksmesh_issuer" "linkerd" {
  trust_anchor_id  = aksmesh_trust_anchor.this.id
  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
  mesh             = "linkerd"
}

resource "aksmesh_linkerd" "this" {
  version           = "2026.8.3"
  issuer_id         = aksmesh_issuer.linkerd.id
  high_availability = true

  # An upgrade that does not become ready is taken back.
  atomic = true

  # On AKS with its managed Gateway API, leave this out.
  gateway_api = { crds = "install" }

  proxy = {
    cpu_request    = "100m"
    memory_request = "20Mi"
    memory_limit   = "250Mi"
  }
}
