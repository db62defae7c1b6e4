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

variable "gateway_api_source" {
  description = "Where the CRDs of the Gateway API come from; null means from the project's releases."
  type        = string
  default     = null
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
  version     = "2026.8.3"
  repository  = var.chart_repository
  issuer_id   = aksmesh_issuer.linkerd.id
  gateway_api = { crds = "install", source = var.gateway_api_source }
}

resource "aksmesh_linkerd_extension" "viz" {
  name              = "viz"
  version           = aksmesh_linkerd.this.version
  repository        = var.chart_repository
  linkerd_namespace = aksmesh_linkerd.this.namespace
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

# What `linkerd check` says, once all of the above is in place.
data "aksmesh_check" "linkerd" {
  mesh       = "linkerd"
  namespace  = aksmesh_linkerd.this.namespace
  depends_on = [aksmesh_linkerd_extension.viz, aksmesh_network_policy.alpha]
}

output "health" {
  description = "What is wrong with the mesh, if anything is."
  value       = [for r in data.aksmesh_check.linkerd.results : "${r.id}: ${r.message}" if r.result == "error"]
}
