# The service accounts of infra/kubernetes/base/accounts.yaml, and the buckets that each may write to or read from.
locals {
  accounts = {
    mlflow = {
      namespace = "styleforge"
      id        = "mlflow"
      writes    = ["mlflow"]
      reads     = []
    }
    zenml = {
      namespace = "styleforge"
      id        = "zenml"
      writes    = []
      reads     = []
    }
    styleforge-runner = {
      namespace = "styleforge-runs"
      id        = "runner"
      writes    = ["artifacts"]
      reads     = ["styles"]
    }
    styleforge-step = {
      namespace = "styleforge-runs"
      id        = "step"
      writes    = ["artifacts"]
      reads     = ["styles"]
    }
  }

  grants = merge([
    for account, given in local.accounts : merge(
      { for bucket in given.writes : "${account}-${bucket}" => { account = account, bucket = bucket, role = "roles/storage.objectUser" } },
      { for bucket in given.reads : "${account}-${bucket}" => { account = account, bucket = bucket, role = "roles/storage.objectViewer" } },
    )
  ]...)

  # Accounts that use Cloud Storage through its S3 interface, which supports only keys.
  keys = toset(["mlflow", "styleforge-runner"])
}

resource "google_service_account" "workloads" {
  for_each = local.accounts

  account_id   = "${var.name}-${each.value.id}"
  display_name = "${each.value.namespace}/${each.key}"
}

resource "google_service_account_iam_member" "workloads" {
  for_each = local.accounts

  service_account_id = google_service_account.workloads[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${each.value.namespace}/${each.key}]"

  # The workload identity pool is created with the cluster.
  depends_on = [google_container_cluster.main]
}

resource "google_storage_bucket_iam_member" "workloads" {
  for_each = local.grants

  bucket = google_storage_bucket.main[each.value.bucket].name
  role   = each.value.role
  member = google_service_account.workloads[each.value.account].member
}

# S3 clients check whether a bucket exists before they use it.
resource "google_storage_bucket_iam_member" "look" {
  for_each = local.grants

  bucket = google_storage_bucket.main[each.value.bucket].name
  role   = "roles/storage.legacyBucketReader"
  member = google_service_account.workloads[each.value.account].member
}

resource "google_storage_hmac_key" "s3" {
  for_each = local.keys

  service_account_email = google_service_account.workloads[each.key].email
}

resource "google_secret_manager_secret" "s3" {
  for_each = local.keys

  secret_id = "${var.name}-s3-${local.accounts[each.key].id}"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_secret_manager_secret_version" "s3" {
  for_each = local.keys

  secret = google_secret_manager_secret.s3[each.key].id
  secret_data = jsonencode({
    AWS_ACCESS_KEY_ID     = google_storage_hmac_key.s3[each.key].access_id
    AWS_SECRET_ACCESS_KEY = google_storage_hmac_key.s3[each.key].secret
  })
}
