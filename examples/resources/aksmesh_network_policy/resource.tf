# Only meshed clients reach Dgraph Alpha.
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
}
