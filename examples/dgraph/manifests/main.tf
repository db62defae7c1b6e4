# Dgraph from manifests, in a mesh that is there already, and two clients: one
# in the mesh, which gets through, and one outside, which does not.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aksmesh = {
      source = "aksmesh/aksmesh"
    }
  }
}

variable "kubeconfig" {
  description = "Path of the kubeconfig file of the cluster."
  type        = string
  default     = "~/.kube/config"
}

provider "aksmesh" {
  kubernetes = {
    config_path = var.kubeconfig
  }
}

resource "aksmesh_release" "dgraph" {
  name             = "dgraph"
  namespace        = "dgraph"
  create_namespace = true
  manifests        = [file("${path.module}/dgraph.yaml")]

  mesh = {
    linkerd = {}
  }
}

resource "aksmesh_release" "client" {
  for_each = {
    pydgraph-allow = { linkerd = {} }
    pydgraph-deny  = null
  }

  name             = "pydgraph-client"
  namespace        = each.key
  create_namespace = true
  manifests        = [file("${path.module}/pydgraph.yaml")]
  mesh             = each.value
}

# Clients speak on 8080 and 9080, Dgraph's own peers on 7080.
resource "aksmesh_network_policy" "alpha" {
  namespace    = aksmesh_release.dgraph.namespace
  pod_selector = { app = "dgraph", component = "alpha" }
  ports        = [7080, 8080, 9080]

  mesh = {
    linkerd = { version = "2026.8.3" }
  }
}

output "dgraph" {
  description = "What the pods of the database show."
  value       = "${aksmesh_release.dgraph.meshed_pods} of ${aksmesh_release.dgraph.total_pods} pods are meshed"
}
