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

resource "aksmesh_istio" "this" {
  version = "1.31.0"
}

# Every pod of a namespace, with Linkerd. An upgrade of the control plane or new
# trust roots, and the restarts that they call for, are one apply: the database
# first, then the others, two at a time.
resource "aksmesh_injection" "dgraph" {
  namespace = "dgraph"

  mesh = {
    linkerd = {
      skip_inbound_ports  = ["5080", "7080"]
      skip_outbound_ports = ["5080", "7080"]
    }
  }

  follows = [aksmesh_linkerd.this.version, aksmesh_trust_anchor.this.bundle_pem]

  restart = {
    max_parallel = 2
    order        = ["StatefulSet/dgraph-zero", "StatefulSet/dgraph-alpha"]
  }
}

# One workload that already runs, with an Istio sidecar of its own settings.
resource "aksmesh_injection" "client" {
  namespace = "pydgraph-client"

  workload = {
    kind = "Deployment"
    name = "pydgraph-client"
  }

  mesh = {
    istio = {
      native_sidecar         = true
      proxy_cpu_request      = "50m"
      proxy_memory_request   = "64Mi"
      exclude_outbound_ports = ["5080"]
    }
  }

  follows = [aksmesh_istio.this.version]
}

# A namespace in Istio's ambient mode: its pods join as they are.
resource "aksmesh_injection" "emojivoto" {
  namespace = "emojivoto"

  mesh = {
    istio = { mode = "ambient" }
  }
}
