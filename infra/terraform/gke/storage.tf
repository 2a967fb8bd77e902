# Bucket names are globally unique, so each starts with the project's id.
resource "google_storage_bucket" "main" {
  for_each = toset(["artifacts", "mlflow", "styles"])

  name                        = "${var.project}-${var.name}-${each.value}"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  versioning {
    enabled = true
  }

  lifecycle_rule {
    condition {
      days_since_noncurrent_time = var.versions_kept_days
    }

    action {
      type = "Delete"
    }
  }

  lifecycle_rule {
    condition {
      age = 7
    }

    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }
}
