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

variable "addon_revision" {
  description = "Revision of AKS's Istio add-on to use, such as asm-1-30. Null installs Istio from its charts."
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
