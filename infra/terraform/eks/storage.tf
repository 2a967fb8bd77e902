data "aws_caller_identity" "current" {}

# Bucket names are globally unique, so each contains the account number.
resource "aws_s3_bucket" "main" {
  for_each = toset(["artifacts", "mlflow", "styles"])

  bucket        = "${var.name}-${each.value}-${data.aws_caller_identity.current.account_id}"
  force_destroy = !var.deletion_protection
}

resource "aws_s3_bucket_versioning" "main" {
  for_each = aws_s3_bucket.main

  bucket = each.value.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_public_access_block" "main" {
  for_each = aws_s3_bucket.main

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "main" {
  for_each = aws_s3_bucket_versioning.main

  bucket = each.value.bucket

  rule {
    id     = "old-versions"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.versions_kept_days
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

# Models from the hub, shared by many nodes: the volume hub-cache of the overlay.
resource "aws_efs_file_system" "hub_cache" {
  encrypted = true
  tags      = { Name = "${var.name}-hub-cache" }
}

resource "aws_security_group" "hub_cache" {
  name        = "${var.name}-hub-cache"
  description = "NFS, from the nodes only"
  vpc_id      = aws_vpc.main.id
}

resource "aws_vpc_security_group_ingress_rule" "hub_cache" {
  security_group_id            = aws_security_group.hub_cache.id
  referenced_security_group_id = aws_eks_cluster.main.vpc_config[0].cluster_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
}

resource "aws_efs_mount_target" "hub_cache" {
  for_each = aws_subnet.private

  file_system_id  = aws_efs_file_system.hub_cache.id
  subnet_id       = each.value.id
  security_groups = [aws_security_group.hub_cache.id]
}
