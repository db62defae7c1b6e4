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
