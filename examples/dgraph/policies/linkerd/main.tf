# Only the mesh reaches Dgraph Alpha, by Linkerd: the policy of the walkthrough,
# and its tests as checks. Dgraph and its clients are there already, as from
# ../../manifests.

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

# Clients speak on 8080 and 9080, Dgraph's own peers on 7080. Linkerd sends all of
# it to the proxies' port, so that is all that is opened, and Linkerd's own
# authorization holds callers to these three ports.
resource "aksmesh_network_policy" "alpha" {
  namespace    = "dgraph"
  pod_selector = { app = "dgraph", component = "alpha" }
  ports        = [7080, 8080, 9080]

  mesh = {
    linkerd = { version = "2026.8.3" }
  }
}

# The walkthrough's tests, asked in each plan: of the cluster as it is, or, if the
# plan changes the policy, of what has come of it.
locals {
  alpha   = { namespace = aksmesh_network_policy.alpha.namespace, pod_labels = { app = "dgraph", component = "alpha" } }
  zero    = { namespace = aksmesh_network_policy.alpha.namespace, pod_labels = { app = "dgraph", component = "zero" } }
  outside = { namespace = "pydgraph-deny", pod_labels = { app = "pydgraph-client" } }
  inside  = { namespace = "pydgraph-allow", pod_labels = { app = "pydgraph-client" } }
}

# Test 0: where no policy stands, a client without a proxy gets through. It shows
# that the tests below are not met for want of a network.
check "baseline" {
  data "aksmesh_connectivity" "baseline" {
    expect = [{ from = local.outside, to = local.zero, port = 6080, allowed = true }]
  }

  assert {
    condition     = data.aksmesh_connectivity.baseline.ok
    error_message = join("\n", data.aksmesh_connectivity.baseline.unmet)
  }
}

# Test 1: a client outside of the mesh times out.
check "outside_is_refused" {
  data "aksmesh_connectivity" "outside" {
    depends_on = [aksmesh_network_policy.alpha]

    expect = [for port in [8080, 9080] : { from = local.outside, to = local.alpha, port = port, allowed = false }]
  }

  assert {
    condition     = data.aksmesh_connectivity.outside.ok
    error_message = join("\n", data.aksmesh_connectivity.outside.unmet)
  }
}

# Test 2: the same client in the mesh gets through.
check "inside_gets_through" {
  data "aksmesh_connectivity" "inside" {
    depends_on = [aksmesh_network_policy.alpha]

    expect = [for port in [8080, 9080] : { from = local.inside, to = local.alpha, port = port, allowed = true }]
  }

  assert {
    condition     = data.aksmesh_connectivity.inside.ok
    error_message = join("\n", data.aksmesh_connectivity.inside.unmet)
  }
}

output "guarantee" {
  description = "What the policy guarantees, and what it does not."
  value       = aksmesh_network_policy.alpha.guarantee
}
