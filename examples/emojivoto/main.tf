# Emojivoto, deployed without a mesh and then brought into a Linkerd that is
# there already: its namespace is enrolled, and what runs in it is restarted.

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

output "emojivoto" {
  description = "What the pods show."
  value       = "${aksmesh_injection.emojivoto.meshed_pods} of ${aksmesh_injection.emojivoto.total_pods} pods are meshed"
}
