# Of the pods outside of the mesh, only the ingress controller reaches Dgraph Alpha,
# and Dgraph's own peers port 7080. Meshed clients reach its two ports, and that one
# too: the proxies tell pods without an identity by nothing but their addresses.
resource "aksmesh_network_policy" "alpha" {
  namespace    = "dgraph"
  name         = "alpha-mesh-only"
  pod_selector = { app = "dgraph", component = "alpha" }
  ports        = [8080, 9080]

  mesh = {
    linkerd = {
      version = "2026.8.3"
    }
  }

  allow = {
    pods = [
      {
        namespace_labels = { "kubernetes.io/metadata.name" = "dgraph" }
        pod_labels       = { app = "dgraph" }
        ports            = [7080]
      },
      {
        namespace_labels = { "kubernetes.io/metadata.name" = "ingress-nginx" }
        ports            = [8080]
      },
    ]
    metrics = [{ namespace_labels = { "kubernetes.io/metadata.name" = "linkerd-viz" } }]
  }
}

# Everything in the namespace is in Istio's ambient mode, and calls nothing but the
# mesh, DNS and one API outside of the cluster.
resource "aksmesh_network_policy" "shop" {
  namespace    = "shop"
  pod_selector = {}

  mesh = {
    istio = { mode = "ambient" }
  }

  egress = {
    cidrs = [{ cidr = "203.0.113.0/24", ports = [443] }]
  }
}

# Sidecars take mTLS at the application's own port: there it is they who have to
# ask for an identity.
resource "aksmesh_network_policy" "billing" {
  namespace        = "billing"
  pod_selector     = { app = "billing" }
  ports            = [8443]
  require_identity = true

  mesh = {
    istio = { mode = "sidecar" }
  }
}

# Linkerd's control plane: proxies reach it, and the API server its webhooks by
# way of konnectivity, as on AKS without VNet integration.
resource "aksmesh_network_policy" "linkerd" {
  namespace = "linkerd"

  mesh = {
    linkerd = { version = "2026.8.3" }
  }

  control_plane = {
    api_server = { konnectivity = true }
  }
}
