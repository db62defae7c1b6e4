resource "aksmesh_trust_anchor" "this" {}

resource "aksmesh_issuer" "linkerd" {
  trust_anchor_id  = aksmesh_trust_anchor.this.id
  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
  mesh             = "linkerd"
}

resource "aksmesh_linkerd" "this" {
  version   = "2026.8.3"
  issuer_id = aksmesh_issuer.linkerd.id
}

# Metrics, the dashboard and taps, of the control plane's version.
resource "aksmesh_linkerd_extension" "viz" {
  name              = "viz"
  version           = aksmesh_linkerd.this.version
  linkerd_namespace = aksmesh_linkerd.this.id
  high_availability = true

  values = [yamlencode({
    prometheus = { resources = { memory = { request = "500Mi" } } }
  })]
}

# A gateway for the services of this cluster, reachable within the virtual network.
resource "aksmesh_linkerd_extension" "multicluster" {
  name              = "multicluster"
  version           = aksmesh_linkerd.this.version
  linkerd_namespace = aksmesh_linkerd.this.id

  values = [yamlencode({
    gateway = {
      serviceAnnotations = { "service.beta.kubernetes.io/azure-load-balancer-internal" = "true" }
    }
  })]
}
