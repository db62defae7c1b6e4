variable "linkerd_version" {
  description = "Version of Linkerd's charts: 2026.8.3 for edge-26.8.3."
  type        = string
  default     = "2026.8.3"
}

variable "chart_repository" {
  description = "Where Linkerd's charts come from."
  type        = string
  default     = "https://helm.linkerd.io/edge"
}

variable "gateway_api" {
  description = "Who brings the CRDs of the Gateway API, as aksmesh_linkerd.gateway_api has it. With AKS's managed Gateway API: { crds = \"require\" }."
  type = object({
    crds   = string
    source = optional(string)
  })
  default = { crds = "install" }
}

variable "high_availability" {
  description = "Whether the control plane runs three replicas, each on a node of its own."
  type        = bool
  default     = true
}

variable "values" {
  description = "Further values of the control plane's chart, YAML documents."
  type        = list(string)
  default     = []
}

variable "extensions" {
  description = <<-EOT
    Extensions by their names, with further values of their charts, YAML documents. Those with high_availability run three
    replicas, each on a node of its own, and need a fourth node for updates.
  EOT
  type = map(object({
    high_availability = optional(bool, false)
    values            = optional(list(string), [])
  }))
  default = { viz = {} }
}

variable "mirror" {
  description = <<-EOT
    Registry of your own that all images come from: acr_id of an Azure container registry, which imports them by itself,
    the path below which they are, and where Linkerd's own images come from. Null to use the public registries.
  EOT
  type = object({
    acr_id = string
    prefix = optional(string, "linkerd")
    source = optional(string, "ghcr.io/linkerd")
    method = optional(string, "auto")
  })
  default = null
}

variable "trust_anchor_key_uri" {
  description = "Key of the trust anchor in Azure Key Vault, which it never leaves: azurekms:name=<key>;vault=<vault>. Null keeps it in a Secret of the cluster."
  type        = string
  default     = null
}

variable "mesh_only" {
  description = "Pods that only meshed pods can reach, by a name of your choice: their namespace, their labels and their ports."
  type = map(object({
    namespace    = string
    pod_selector = map(string)
    ports        = list(number)
  }))
  default = {}
}
