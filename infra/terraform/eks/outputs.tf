output "cluster" {
  description = "Name of the cluster."
  value       = aws_eks_cluster.main.name
}

output "kubeconfig_command" {
  description = "Adds the cluster to the kubeconfig."
  value       = "aws eks update-kubeconfig --name ${aws_eks_cluster.main.name} --region ${var.region}"
}

output "region" {
  description = "AWS_DEFAULT_REGION of the overlay's settings."
  value       = var.region
}

output "buckets" {
  description = "Buckets by what they hold: ZenML's artifacts (STYLEFORGE_BUCKET of the stack), MLflow's (ConfigMap mlflow), style sets (RETRAIN_SOURCE)."
  value       = { for key, bucket in aws_s3_bucket.main : key => bucket.bucket }
}

output "database_address" {
  description = "Private name of PostgreSQL."
  value       = aws_db_instance.main.address
}

output "database_networks" {
  description = "Where the database's private address is from. Narrow the network policy mlflow-stores to them."
  value       = [for subnet in aws_subnet.private : subnet.cidr_block]
}

output "backend_store_uri_secret" {
  description = "Secret of Secrets Manager with backend-store-uri of the Kubernetes Secret styleforge-mlflow."
  value       = aws_secretsmanager_secret.database.name
}

output "account_annotations" {
  description = "IRSA: value of the annotation eks.amazonaws.com/role-arn of each service account, by namespace/name."
  value       = { for account, given in local.accounts : "${given.namespace}/${account}" => aws_iam_role.workloads[account].arn }
}

output "autoscaler_role" {
  description = "The same for kube-system/cluster-autoscaler."
  value       = aws_iam_role.drivers["autoscaler"].arn
}

output "hub_cache_file_system" {
  description = "EFS file system: fileSystemId of the storage class efs-sc."
  value       = aws_efs_file_system.hub_cache.id
}
