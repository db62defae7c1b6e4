terraform {
  required_providers {
    aksmesh = {
      source = "aksmesh/aksmesh"
    }
  }
}

variable "manifests" {
  description = "YAML of any number of documents, such as file(\"dgraph.yaml\") or what helm template prints."
  type        = string
}

# Into Linkerd, for a pipeline that applies the output.
output "linkerd" {
  value = provider::aksmesh::inject(var.manifests, {
    linkerd = {
      skip_inbound_ports  = [5080, 7080]
      skip_outbound_ports = [5080, 7080]
    }
  })
}

# Into a revision of Istio.
output "istio" {
  value = provider::aksmesh::inject(var.manifests, {
    istio = {
      revision = "canary"
    }
  })
}
