terraform {
  required_providers {
    aksmesh = {
      source = "aksmesh/aksmesh"
    }
  }
}

variable "proto" {
  description = "A protobuf definition, such as file(\"voting.proto\")."
  type        = string
}

resource "aksmesh_service_profile" "voting" {
  namespace = "emojivoto"
  service   = "voting-svc"
  routes    = provider::aksmesh::proto_routes(var.proto)
}

# Named as gRPC does, where several services have methods of the same name.
output "routes" {
  value = provider::aksmesh::proto_routes(var.proto, { full_names = true })
}
