terraform {
  required_version = ">= 1.9.0, < 2.0.0"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "6.50.0"
    }
    random = {
      source  = "hashicorp/random"
      version = "3.7.2"
    }
  }

  # The state contains the database password and the bucket keys. Keep it in a bucket that few can read; see README.md.
  backend "gcs" {}
}

provider "google" {
  project = var.project
  region  = var.region
}
