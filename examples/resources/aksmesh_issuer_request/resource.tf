# The issuer's key is made in the cluster and stays there; an authority of your own signs the request.
resource "aksmesh_issuer_request" "linkerd" {
  mesh = "linkerd"
}

output "issuer_request" {
  value = aksmesh_issuer_request.linkerd.certificate_request_pem
}

# What it has signed, and its root. A resource that signs, such as tls_locally_signed_cert, gives both in the same apply.
variable "issuer_pem" {
  type = string
}

variable "root_pem" {
  type = string
}

resource "aksmesh_issuer" "linkerd" {
  mesh             = "linkerd"
  trust_bundle_pem = var.root_pem
  certificate = {
    pem        = var.issuer_pem
    request_id = aksmesh_issuer_request.linkerd.id
  }
}
