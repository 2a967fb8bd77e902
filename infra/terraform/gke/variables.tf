variable "project" {
  description = "Google Cloud project, by its id."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "Region of the cluster, the database and the buckets."
  type        = string
  default     = "europe-west4"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region looks like europe-west4."
  }
}

variable "zones" {
  description = "Zones of the nodes, all in the region. The GPU must be on offer there."
  type        = list(string)
  default     = ["europe-west4-a", "europe-west4-b"]

  validation {
    condition     = length(var.zones) > 0 && alltrue([for zone in var.zones : startswith(zone, "${var.region}-")])
    error_message = "At least one zone, and all in var.region."
  }
}

variable "name" {
  description = "Name of the cluster, and beginning of all other names."
  type        = string
  default     = "styleforge"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,16}[a-z0-9]$", var.name))
    error_message = "3 to 18 lower-case letters, digits and hyphens."
  }
}

variable "api_networks" {
  description = "Address blocks that may reach the Kubernetes API, by a name for each."
  type        = map(string)

  validation {
    condition     = length(var.api_networks) > 0 && alltrue([for block in values(var.api_networks) : can(cidrhost(block, 0)) && block != "0.0.0.0/0"])
    error_message = "At least one block such as 203.0.113.0/24, and not the whole internet."
  }
}

variable "cpu_machine" {
  description = "Machine type of the CPU pool. The runs' largest pod without a GPU asks for 2 cores and 8 GiB."
  type        = string
  default     = "e2-standard-8"
}

variable "cpu_nodes_max" {
  description = "Most nodes of the CPU pool in each zone."
  type        = number
  default     = 4

  validation {
    condition     = var.cpu_nodes_max >= 1
    error_message = "The services need at least one node."
  }
}

variable "gpu_machine" {
  description = "Machine type of the GPU pool."
  type        = string
  default     = "g2-standard-8"
}

variable "gpu_type" {
  description = "GPU of gpu_machine."
  type        = string
  default     = "nvidia-l4"
}

variable "gpus_per_node" {
  description = "GPUs of one node, as gpu_machine has them."
  type        = number
  default     = 1

  validation {
    condition     = contains([1, 2, 4, 8, 16], var.gpus_per_node)
    error_message = "1, 2, 4, 8 or 16."
  }
}

variable "gpu_nodes_max" {
  description = "Most nodes of the GPU pool in all zones together. The quota of infra/kubernetes allows 4 GPUs."
  type        = number
  default     = 4

  validation {
    condition     = var.gpu_nodes_max >= 1
    error_message = "At least one."
  }
}

variable "gpu_spot" {
  description = "Spot nodes for GPUs: cheaper, and taken away at any time; a training goes on from its last checkpoint."
  type        = bool
  default     = false
}

variable "database_tier" {
  description = "Machine of the database."
  type        = string
  default     = "db-custom-1-3840"
}

variable "database_high_availability" {
  description = "A standby of the database in another zone."
  type        = bool
  default     = false
}

variable "versions_kept_days" {
  description = "Days for which overwritten and deleted objects of the buckets can be brought back."
  type        = number
  default     = 30

  validation {
    condition     = var.versions_kept_days >= 1
    error_message = "At least one day."
  }
}

variable "deletion_protection" {
  description = "Refuse to destroy the cluster, the database and buckets that hold something."
  type        = bool
  default     = true
}
