variable "region" {
  description = "Region of everything. infra/kubernetes/overlays/eks names it too."
  type        = string
  default     = "eu-central-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "A region looks like eu-central-1."
  }
}

variable "zones" {
  description = "Availability zones, all in the region. The GPU machines must be on offer there; EKS and RDS want two."
  type        = list(string)
  default     = ["eu-central-1a", "eu-central-1b"]

  validation {
    condition     = length(var.zones) >= 2 && length(var.zones) <= 4 && alltrue([for zone in var.zones : startswith(zone, var.region)])
    error_message = "Two to four zones, all in var.region."
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

variable "kubernetes_version" {
  description = "Kubernetes of the cluster. The manifests are checked against 1.27 and 1.34."
  type        = string
  default     = "1.34"

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version))
    error_message = "A version looks like 1.34."
  }
}

variable "api_networks" {
  description = "Address blocks that may reach the Kubernetes API."
  type        = list(string)

  validation {
    condition     = length(var.api_networks) > 0 && alltrue([for block in var.api_networks : can(cidrhost(block, 0)) && block != "0.0.0.0/0"])
    error_message = "At least one block such as 203.0.113.0/24, and not the whole internet."
  }
}

variable "cpu_machine" {
  description = "Instance type of the CPU pool. The runs' largest pod without a GPU asks for 2 cores and 8 GiB."
  type        = string
  default     = "m7i.2xlarge"
}

variable "cpu_nodes_max" {
  description = "Most nodes of the CPU pool."
  type        = number
  default     = 6

  validation {
    condition     = var.cpu_nodes_max >= 2
    error_message = "The services need two nodes."
  }
}

variable "gpu_machine" {
  description = "Instance type of the GPU pool."
  type        = string
  default     = "g6.2xlarge"
}

variable "gpu_nodes_max" {
  description = "Most nodes of the GPU pool. The quota of infra/kubernetes allows 4 GPUs."
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

variable "database_machine" {
  description = "Instance class of the database."
  type        = string
  default     = "db.t4g.small"
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
