variable "addon_revision" {
  description = "Revision of AKS's Istio add-on that is to be used, such as asm-1-30. Null installs Istio from its charts instead; a cluster has only one of both."
  type        = string
  default     = null
}

variable "istio_version" {
  description = "Version of Istio and of its charts, without the add-on."
  type        = string
  default     = "1.31.0"
}

variable "chart_repository" {
  description = "Where Istio's charts come from, without the add-on."
  type        = string
  default     = "https://istio-release.storage.googleapis.com/charts"
}

variable "profile" {
  description = "What of Istio is installed, without the add-on: default, minimal, demo, …, as aksmesh_istio.profile has it."
  type        = string
  default     = "default"
}

variable "values" {
  description = "Further values of istiod's chart, YAML documents, without the add-on."
  type        = list(string)
  default     = []
}

variable "mirror" {
  description = <<-EOT
    Registry of your own that Istio's images come from: acr_id of an Azure container registry, which imports them by itself,
    and the path below which they are. Null to use the public registry. The add-on has its images from Microsoft.
  EOT
  type = object({
    acr_id = string
    prefix = optional(string, "istio")
    method = optional(string, "auto")
  })
  default = null

  validation {
    condition     = var.mirror == null || var.addon_revision == null
    error_message = "Images of the add-on cannot be mirrored."
  }
}

variable "trust_anchor_key_uri" {
  description = "Key of the trust anchor in Azure Key Vault, which it never leaves: azurekms:name=<key>;vault=<vault>. Null keeps it in a Secret of the cluster. Without the add-on."
  type        = string
  default     = null
}

variable "namespaces" {
  description = "Namespaces that are there and whose pods are to be in the mesh. Pods that are outside are restarted."
  type        = set(string)
  default     = []
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
