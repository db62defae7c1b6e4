# Pods of the namespace let in whoever has an identity of the mesh, and nobody
# else, on every port for which nothing else is said.
resource "aksmesh_authorization" "default" {
  namespace      = "dgraph"
  name           = "default"
  mesh           = { linkerd = {} }
  default_policy = "all-authenticated"
}

# Linkerd's pods go by what they were made with: this makes them anew.
resource "aksmesh_injection" "dgraph" {
  namespace = "dgraph"
  mesh      = { linkerd = {} }
  follows   = [aksmesh_authorization.default.manifest]
}

# Only the client and the Zeros call Alpha by gRPC, and whoever is in the mesh may
# ask how it is. Probes stay answered.
resource "aksmesh_authorization" "alpha" {
  namespace    = "dgraph"
  name         = "alpha"
  mesh         = { linkerd = {} }
  pod_selector = { app = "dgraph", component = "alpha" }
  ports        = [8080, 9080]

  allow = [
    { service_accounts = ["pydgraph-client/pydgraph-client", "dgraph/dgraph-zero"] },
    {
      meshed = true
      routes = [{ methods = ["GET"], path = "/health" }]
    },
  ]
}

# The same for Istio, which refuses plain text besides.
resource "aksmesh_authorization" "alpha_istio" {
  namespace    = "dgraph-istio"
  name         = "alpha"
  mesh         = { istio = {} }
  pod_selector = { app = "dgraph", component = "alpha" }
  ports        = [8080, 9080]
  mtls         = "strict"

  allow = [
    { service_accounts = ["pydgraph-allow/pydgraph-client"] },
  ]
}
