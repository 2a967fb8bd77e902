output "cluster" {
  description = "Name of the cluster."
  value       = google_container_cluster.main.name
}

output "kubeconfig_command" {
  description = "Adds the cluster to the kubeconfig."
  value       = "gcloud container clusters get-credentials ${google_container_cluster.main.name} --region ${var.region} --project ${var.project}"
}

output "buckets" {
  description = "Buckets by what they hold: ZenML's artifacts (STYLEFORGE_BUCKET of the stack), MLflow's (ConfigMap mlflow), style sets (RETRAIN_SOURCE)."
  value       = { for key, bucket in google_storage_bucket.main : key => bucket.name }
}

output "s3_endpoint" {
  description = "The S3 interface of Cloud Storage: STYLEFORGE_S3_ENDPOINT of the stack, and what the overlay sets already."
  value       = "https://storage.googleapis.com"
}

output "database_address" {
  description = "Private address of PostgreSQL. Narrow the network policy mlflow-stores to it."
  value       = google_sql_database_instance.main.private_ip_address
}

output "backend_store_uri_secret" {
  description = "Secret of Secret Manager with backend-store-uri of the Kubernetes Secret styleforge-mlflow."
  value       = google_secret_manager_secret.database.secret_id
}

output "s3_secrets" {
  description = "Secrets of Secret Manager with the S3 keys, as JSON: of mlflow for styleforge-s3, of styleforge-runner for styleforge-runs."
  value       = { for account, secret in google_secret_manager_secret.s3 : account => secret.secret_id }
}

output "account_annotations" {
  description = "Workload Identity: value of the annotation iam.gke.io/gcp-service-account of each service account, by namespace/name."
  value       = { for account, given in local.accounts : "${given.namespace}/${account}" => google_service_account.workloads[account].email }
}
