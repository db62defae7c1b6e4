# Dgraph from the official chart, in a Linkerd that is there already: what
# `helm template | linkerd inject | kubectl apply` does, as one resource.

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

  chart = {
    repository = "https://charts.dgraph.io"
    name       = "dgraph"
    version    = "0.0.17"
  }

  values = [yamlencode({
    fullnameOverride = "dgraph"
    zero             = { persistence = { size = "4Gi" } }
    alpha            = { persistence = { size = "16Gi" } }
  })]

  # Peers speak among themselves outside the mesh; clients on 8080 and 9080 do not.
  mesh = {
    linkerd = {
      skip_inbound_ports  = ["5080", "7080"]
      skip_outbound_ports = ["5080", "7080"]
    }
  }
}

output "dgraph" {
  description = "What the pods of the database show."
  value       = "${aksmesh_release.dgraph.meshed_pods} of ${aksmesh_release.dgraph.total_pods} pods are meshed"
}
