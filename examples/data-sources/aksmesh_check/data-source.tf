# All that `linkerd check` finds out, in each plan. A failure is a warning.
check "linkerd_is_healthy" {
  data "aksmesh_check" "linkerd" {
    mesh = "linkerd"
  }

  assert {
    condition     = data.aksmesh_check.linkerd.passed
    error_message = join("\n", [for r in data.aksmesh_check.linkerd.results : "${r.id}: ${r.message}" if r.result == "error"])
  }
}

# A pipeline that must not go on while Istio is not healthy, or while its
# certificates end within 30 days.
data "aksmesh_check" "istio" {
  mesh    = "istio"
  scopes  = ["control_plane", "data_plane"]
  early   = "720h"
  fail_on = "warning"
}

# Whether Linkerd can be installed into a cluster.
data "aksmesh_check" "before" {
  mesh   = "linkerd"
  scopes = ["pre"]

  lifecycle {
    postcondition {
      condition     = self.passed
      error_message = "The cluster is not fit for Linkerd: ${jsonencode([for r in self.results : r.message if r.result == "error"])}"
    }
  }
}
