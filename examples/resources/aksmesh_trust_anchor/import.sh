# By <namespace>/<name>.
terraform import aksmesh_trust_anchor.this aksmesh-system/default
