terraform {
  required_providers {
    aksmesh = {
      source = "aksmesh/aksmesh"
    }
  }
}

variable "openapi" {
  description = "An OpenAPI document of version 2 or 3, such as file(\"openapi.yaml\")."
  type        = string
}

# With a timeout for every route that has none.
resource "aksmesh_service_profile" "books" {
  namespace = "booksapp"
  service   = "books"

  routes = [
    for route in provider::aksmesh::openapi_routes(var.openapi) :
    merge(route, { timeout = coalesce(route.timeout, "2s") })
  ]
}

# Of OpenAPI 3, with the path that its `servers` add.
output "routes" {
  value = provider::aksmesh::openapi_routes(var.openapi, { base_path = "/v1" })
}
