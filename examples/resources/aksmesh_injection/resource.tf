# Every pod of a namespace, with Linkerd.
resource "aksmesh_injection" "dgraph" {
  namespace = "dgraph"

  mesh = {
    linkerd = {
      skip_inbound_ports  = ["5080", "7080"]
      skip_outbound_ports = ["5080", "7080"]
    }
  }
}

# One workload that already runs, with Istio.
resource "aksmesh_injection" "client" {
  namespace = "pydgraph-client"

  workload = {
    kind = "Deployment"
    name = "pydgraph-client"
  }

  mesh = {
    istio = {}
  }
}
