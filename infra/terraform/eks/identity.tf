# The service accounts of infra/kubernetes/base/accounts.yaml, and the buckets that each may write to or read from.
locals {
  accounts = {
    mlflow = {
      namespace = "styleforge"
      writes    = ["mlflow"]
      reads     = []
    }
    zenml = {
      namespace = "styleforge"
      writes    = []
      reads     = []
    }
    styleforge-runner = {
      namespace = "styleforge-runs"
      writes    = ["artifacts"]
      reads     = ["styles"]
    }
    styleforge-step = {
      namespace = "styleforge-runs"
      writes    = ["artifacts"]
      reads     = ["styles"]
    }
  }

  # EKS's own components that call AWS.
  drivers = {
    ebs        = { subject = "kube-system:ebs-csi-controller-sa", policy = "service-role/AmazonEBSCSIDriverPolicy" }
    efs        = { subject = "kube-system:efs-csi-controller-sa", policy = "service-role/AmazonEFSCSIDriverPolicy" }
    autoscaler = { subject = "kube-system:cluster-autoscaler", policy = null }
  }

  issuer = trimprefix(aws_eks_cluster.main.identity[0].oidc[0].issuer, "https://")
}

resource "aws_iam_openid_connect_provider" "main" {
  url            = aws_eks_cluster.main.identity[0].oidc[0].issuer
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "trust" {
  for_each = merge(
    { for account, given in local.accounts : account => "${given.namespace}:${account}" },
    { for driver, given in local.drivers : driver => given.subject },
  )

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.main.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = ["system:serviceaccount:${each.value}"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "workloads" {
  for_each = local.accounts

  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.trust[each.key].json
}

data "aws_iam_policy_document" "buckets" {
  for_each = { for account, given in local.accounts : account => given if length(concat(given.writes, given.reads)) > 0 }

  statement {
    actions   = ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"]
    resources = [for bucket in concat(each.value.writes, each.value.reads) : aws_s3_bucket.main[bucket].arn]
  }

  statement {
    actions   = ["s3:GetObject"]
    resources = [for bucket in concat(each.value.writes, each.value.reads) : "${aws_s3_bucket.main[bucket].arn}/*"]
  }

  dynamic "statement" {
    for_each = each.value.writes

    content {
      actions   = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
      resources = ["${aws_s3_bucket.main[statement.value].arn}/*"]
    }
  }
}

resource "aws_iam_role_policy" "buckets" {
  for_each = data.aws_iam_policy_document.buckets

  name   = "buckets"
  role   = aws_iam_role.workloads[each.key].id
  policy = each.value.json
}

resource "aws_iam_role" "drivers" {
  for_each = local.drivers

  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.trust[each.key].json
}

resource "aws_iam_role_policy_attachment" "drivers" {
  for_each = { for driver, given in local.drivers : driver => given.policy if given.policy != null }

  role       = aws_iam_role.drivers[each.key].name
  policy_arn = "arn:aws:iam::aws:policy/${each.value}"
}

# May read everything, but change only the groups of this cluster, which EKS tags.
data "aws_iam_policy_document" "autoscaler" {
  statement {
    actions = [
      "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeLaunchConfigurations",
      "autoscaling:DescribeScalingActivities", "ec2:DescribeImages", "ec2:DescribeInstanceTypes", "ec2:DescribeLaunchTemplateVersions",
      "ec2:GetInstanceTypesFromInstanceRequirements", "eks:DescribeNodegroup",
    ]
    resources = ["*"]
  }

  statement {
    actions   = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/k8s.io/cluster-autoscaler/${var.name}"
      values   = ["owned"]
    }
  }
}

resource "aws_iam_role_policy" "autoscaler" {
  name   = "autoscaler"
  role   = aws_iam_role.drivers["autoscaler"].id
  policy = data.aws_iam_policy_document.autoscaler.json
}
