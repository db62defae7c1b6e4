# Emojivoto, deployed without a mesh and then brought into a Linkerd that is
# there already: its namespace is enrolled, and what runs in it is restarted.
# Metrics, retries and timeouts by route come from its own descriptions.

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

resource "aksmesh_release" "emojivoto" {
  name             = "emojivoto"
  namespace        = "emojivoto"
  create_namespace = true
  manifests        = [file("${path.module}/emojivoto.yaml")]
}

resource "aksmesh_injection" "emojivoto" {
  namespace = aksmesh_release.emojivoto.namespace

  mesh = {
    linkerd = {}
  }
}

resource "aksmesh_service_profile" "web" {
  namespace = aksmesh_release.emojivoto.namespace
  service   = "web-svc"
  routes    = provider::aksmesh::openapi_routes(file("${path.module}/openapi.yaml"))

  retry_budget = {
    retry_ratio            = 0.2
    min_retries_per_second = 10
    ttl                    = "10s"
  }
}

resource "aksmesh_service_profile" "voting" {
  namespace = aksmesh_release.emojivoto.namespace
  service   = "voting-svc"
  routes    = provider::aksmesh::proto_routes(file("${path.module}/voting.proto"))
}

output "emojivoto" {
  description = "What the pods show."
  value       = "${aksmesh_injection.emojivoto.meshed_pods} of ${aksmesh_injection.emojivoto.total_pods} pods are meshed"
}
