terraform {
  required_providers {
    aksmesh = {
      source = "aksmesh/aksmesh"
    }
  }
}

# Routes as the service's own OpenAPI document describes them.
resource "aksmesh_service_profile" "web" {
  namespace = "emojivoto"
  service   = "web-svc"
  routes    = provider::aksmesh::openapi_routes(file("${path.module}/openapi.yaml"))
}

# Routes by hand, with everything that may be said of them.
resource "aksmesh_service_profile" "books" {
  namespace = "booksapp"
  service   = "books"

  routes = [
    {
      name       = "GET /books/{id}.json"
      method     = "GET"
      path_regex = "/books/[^/]*\\.json"
      retryable  = true
      timeout    = "300ms"

      # A missing book is as bad as a broken shelf.
      response_classes = [
        { status_min = 404, is_failure = true },
        { status_min = 500, status_max = 599, is_failure = true },
      ]
    },
    {
      name           = "all else but health"
      condition_json = jsonencode({ not = { pathRegex = "/health" } })
    },
  ]

  retry_budget = {
    retry_ratio            = 0.2
    min_retries_per_second = 10
    ttl                    = "10s"
  }
}

# What clients of one namespace go by instead.
resource "aksmesh_service_profile" "books_for_reports" {
  namespace        = "booksapp"
  service          = "books"
  client_namespace = "reports"

  routes = [
    { name = "everything", path_regex = ".*", timeout = "30s" },
  ]
}
