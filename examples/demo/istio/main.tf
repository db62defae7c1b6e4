# From an empty cluster to a Dgraph that only clients in the mesh can reach.

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
  description = "Where Istio's charts come from."
  type        = string
  default     = "https://istio-release.storage.googleapis.com/charts"
}

variable "addons_source" {
  description = "Where the source tree of Istio is, which has the addons; null means the tag of the version on GitHub."
  type        = string
  default     = null
}

provider "aksmesh" {
  kubernetes = {
    config_path = var.kubeconfig
  }
}

resource "aksmesh_trust_anchor" "this" {}

resource "aksmesh_issuer" "istio" {
  trust_anchor_id  = aksmesh_trust_anchor.this.id
  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
  mesh             = "istio"
}

resource "aksmesh_istio" "this" {
  version    = "1.31.0"
  repository = var.chart_repository
  profile    = "demo"
  issuer_id  = aksmesh_issuer.istio.id
}

resource "aksmesh_istio_addon" "this" {
  for_each = toset(["prometheus", "kiali"])

  name    = each.key
  version = aksmesh_istio.this.version
  source  = var.addons_source
}

resource "aksmesh_release" "dgraph" {
  name             = "dgraph"
  namespace        = "dgraph"
  create_namespace = true
  manifests        = [file("${path.module}/../../dgraph/manifests/dgraph.yaml")]

  mesh = {
    istio = {
      control_plane_namespace = aksmesh_istio.this.namespace
    }
  }
}

# The same client twice, as a team deploys it without a mesh. Then the namespace
# of one is enrolled; the other stays outside, and so outside of Dgraph.
resource "aksmesh_release" "client" {
  for_each = toset(["pydgraph-allow", "pydgraph-deny"])

  name             = "pydgraph-client"
  namespace        = each.key
  create_namespace = true
  manifests        = [file("${path.module}/../../dgraph/manifests/pydgraph.yaml")]
}

resource "aksmesh_injection" "client" {
  namespace = aksmesh_release.client["pydgraph-allow"].namespace

  mesh = {
    istio = {
      control_plane_namespace = aksmesh_istio.this.namespace
    }
  }
}

# Clients speak on 8080 and 9080, Dgraph's own peers on 7080.
resource "aksmesh_network_policy" "alpha" {
  namespace    = aksmesh_release.dgraph.namespace
  pod_selector = { app = "dgraph", component = "alpha" }
  ports        = [7080, 8080, 9080]

  mesh = {
    istio = {}
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

# What is wrong with the mesh, once all of the above is in place.
data "aksmesh_check" "istio" {
  mesh       = "istio"
  namespace  = aksmesh_istio.this.namespace
  depends_on = [aksmesh_istio_addon.this, aksmesh_network_policy.alpha]
}

output "health" {
  description = "What is wrong with the mesh, if anything is."
  value       = [for r in data.aksmesh_check.istio.results : "${r.id}: ${r.message}" if r.result == "error"]
}
