# What the provider's cluster is. A pipeline goes no further while no mesh would
# work in it.
data "aksmesh_cluster" "this" {
  lifecycle {
    postcondition {
      condition     = !contains(self.findings[*].severity, "error")
      error_message = join("\n", [for f in self.findings : "${f.message} ${f.advice}" if f.severity == "error"])
    }
  }
}

# Advice that is worth reading in each plan.
check "cluster_is_fit_for_a_mesh" {
  assert {
    condition     = !contains(data.aksmesh_cluster.this.findings[*].severity, "warning")
    error_message = join("\n", [for f in data.aksmesh_cluster.this.findings : "${f.subject}: ${f.message} ${f.advice}" if f.severity == "warning"])
  }

  # Policies that select by address need to know where pods have theirs from.
  assert {
    condition     = data.aksmesh_cluster.this.network.pods_share_node_subnet == true
    error_message = "Nodes and pods do not share a subnet: ${data.aksmesh_cluster.this.network.pods_share_node_subnet_reason}"
  }
}

# Linkerd has to know networks of the cluster that are none of the usual ones. Where
# not all networks are known, the list is null, and this says so by an error.
output "linkerd_cluster_networks" {
  value = join(",", concat(
    ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"],
    data.aksmesh_cluster.this.network.outside_linkerd_defaults,
  ))
}

# Another cluster, by Azure Resource Manager alone.
data "aksmesh_cluster" "other" {
  id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/shop/providers/Microsoft.ContainerService/managedClusters/staging"
}

output "revisions_of_the_istio_add_on" {
  value = data.aksmesh_cluster.other.istio_addon.revisions
}
