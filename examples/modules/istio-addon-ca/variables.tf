variable "key_vault_id" {
  description = "Resource ID of the key vault that has the anchor's key and is to have the CA of the add-on."
  type        = string
}

variable "generation" {
  description = "Raise it to replace the CA by a new one below the same anchor."
  type        = number
  default     = 1
}

variable "validity" {
  description = "How long the CA is valid, as a Go duration. Nobody renews it but you, by generation."
  type        = string
  default     = "8760h"
}
