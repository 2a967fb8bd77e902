terraform {
  required_version = ">= 1.9.0, < 2.0.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "6.25.0"
    }
    random = {
      source  = "hashicorp/random"
      version = "3.7.2"
    }
  }

  # The state contains the database password. Keep it in a bucket that few can read; see README.md.
  backend "s3" {}
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { part-of = "styleforge", cluster = var.name }
  }
}
