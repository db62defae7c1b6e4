# That only the mesh reaches Dgraph, in each plan: a client outside of the mesh
# is refused, one with a proxy gets through. A failure is a warning.
check "only_the_mesh_reaches_dgraph" {
  data "aksmesh_connectivity" "dgraph" {
    expect = flatten([for port in [8080, 9080] : [
      {
        from    = { meshed = false }
        to      = { namespace = "dgraph", pod_labels = { component = "alpha" } }
        port    = port
        allowed = false
      },
      {
        from    = { namespace = "pydgraph-allow", name = "pydgraph-client" }
        to      = { namespace = "dgraph", pod_labels = { component = "alpha" } }
        port    = port
        allowed = true
      },
    ]])
  }

  assert {
    condition     = data.aksmesh_connectivity.dgraph.ok
    error_message = join("\n", data.aksmesh_connectivity.dgraph.unmet)
  }
}

# What a policy would change, before it is in the cluster. A pipeline must not go
# on if it would lock the clients of the mesh out.
data "aksmesh_connectivity" "proposed" {
  candidates = [file("${path.module}/network-policy.yaml")]
  renderings = ["table"]

  expect = [{
    from    = { namespace = "pydgraph-allow" }
    to      = { namespace = "dgraph", pod_labels = { component = "alpha" } }
    port    = "http-alpha"
    allowed = true
  }]
  fail_on_unmet = true
}

output "proposed" {
  value = data.aksmesh_connectivity.proposed.table
}

# A picture of two namespaces for the documentation, with an office's network.
data "aksmesh_connectivity" "picture" {
  namespaces = ["dgraph", "pydgraph-allow"]
  addresses  = ["203.0.113.10"]
  list       = "all"
  renderings = ["mermaid"]
}

output "picture" {
  value = data.aksmesh_connectivity.picture.mermaid
}
