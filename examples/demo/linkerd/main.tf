# From an empty cluster to a Dgraph that only meshed clients can reach.

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

variable "chart_repository" {
  description = "Where Linkerd's charts come from."
  type        = string
  default     = "https://helm.linkerd.io/edge"
}

provider "aksmesh" {
  kubernetes = {
    config_path = var.kubeconfig
  }
}

resource "aksmesh_trust_anchor" "this" {}

resource "aksmesh_issuer" "linkerd" {
  trust_anchor_id  = aksmesh_trust_anchor.this.id
  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
  mesh             = "linkerd"
}

resource "aksmesh_linkerd" "this" {
  version    = "2026.8.3"
  repository = var.chart_repository
  issuer_id  = aksmesh_issuer.linkerd.id
}

# All of Dgraph's traffic stays in the mesh, its peers' on 5080 and 7080 too:
# a port that bypasses the proxy would bypass, or break on, the policy below.
resource "aksmesh_release" "dgraph" {
  name             = "dgraph"
  namespace        = "dgraph"
  create_namespace = true
  manifests        = [file("${path.module}/../../dgraph/manifests/dgraph.yaml")]

  mesh = {
    linkerd = {
      control_plane_namespace = aksmesh_linkerd.this.namespace
    }
  }
}

# The same client twice, inside of the mesh and outside.
resource "aksmesh_release" "client" {
  for_each = {
    pydgraph-allow = { linkerd = { control_plane_namespace = aksmesh_linkerd.this.namespace } }
    pydgraph-deny  = null
  }

  name             = "pydgraph-client"
  namespace        = each.key
  create_namespace = true
  manifests        = [file("${path.module}/../../dgraph/manifests/pydgraph.yaml")]
  mesh             = each.value
}

# Clients speak on 8080 and 9080, Dgraph's own peers on 7080.
resource "aksmesh_network_policy" "alpha" {
  namespace    = aksmesh_release.dgraph.namespace
  pod_selector = { app = "dgraph", component = "alpha" }
  ports        = [7080, 8080, 9080]

  mesh = {
    linkerd = {
      version = aksmesh_linkerd.this.version
    }
  }
}

output "dgraph" {
  description = "What the pods of the database show."
  value       = "${aksmesh_release.dgraph.meshed_pods} of ${aksmesh_release.dgraph.total_pods} pods are meshed"
}

output "guarantee" {
  description = "What the policy guarantees, and what it does not."
  value       = aksmesh_network_policy.alpha.guarantee
}
