variable "name" {
  description = "What everything is named after."
  type        = string
  default     = "mesh"
}

variable "registry_name" {
  description = "Name of the container registry: letters and digits, and nobody else's in all of Azure."
  type        = string
}

variable "location" {
  description = "Azure region."
  type        = string
  default     = "westeurope"
}

variable "linkerd_version" {
  description = "Version of Linkerd's charts."
  type        = string
  default     = "2026.8.3"
}

variable "chart_repository" {
  description = "Where Linkerd's charts come from."
  type        = string
  default     = "https://helm.linkerd.io/edge"
}

variable "gateway_api_source" {
  description = "Where the CRDs of the Gateway API come from; null means from the project's releases."
  type        = string
  default     = null
}
