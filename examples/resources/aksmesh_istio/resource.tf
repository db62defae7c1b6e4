resource "aksmesh_trust_anchor" "this" {}

resource "aksmesh_issuer" "istio" {
  trust_anchor_id  = aksmesh_trust_anchor.this.id
  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
  mesh             = "istio"
}

resource "aksmesh_istio" "this" {
  version   = "1.31.0"
  profile   = "default"
  issuer_id = aksmesh_issuer.istio.id

  values = {
    istiod = [yamlencode({
      meshConfig = { accessLogFile = "/dev/stdout" }
    })]
  }
}

# A second control plane beside it, as in a canary upgrade: move what uses the
# first one here, then take the first one out.
resource "aksmesh_istio" "next" {
  version   = "1.32.0"
  revision  = "1-32"
  profile   = "minimal"
  issuer_id = aksmesh_issuer.istio.id
  atomic    = true

  gateways = {
    partners = { namespace = "edge" }
  }

  depends_on = [aksmesh_istio.this]
}
