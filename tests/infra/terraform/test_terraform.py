"""The Terraform of GKE and EKS fits the manifests, ``zenml.yaml`` and its pages. Form is for terraform and tflint, in the CI workflow."""

import re
from functools import cache
from typing import Any

import hcl2
import pytest
import yaml

from components.core.paths import REPOSITORY

ROOT = REPOSITORY / "infra" / "terraform"
by_cloud = pytest.mark.parametrize("cloud", ("gke", "eks"))


def _plain(value: Any) -> Any:
    """What the parser gives, less the quotation marks and its own notes."""
    if isinstance(value, dict):
        return {key.strip('"'): _plain(item) for key, item in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.strip('"') if isinstance(value, str) else value


@cache
def _read(cloud: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for file in sorted((ROOT / cloud).glob("*.tf")):
        for kind, blocks in _plain(hcl2.loads(file.read_text(encoding="utf-8"))).items():
            found.setdefault(kind, []).extend(blocks)
    return found


def _named(cloud: str, kind: str) -> dict[str, Any]:
    return {name: body for block in _read(cloud)[kind] for name, body in block.items()}


def _resources(cloud: str) -> dict[str, Any]:
    blocks = _read(cloud)["resource"]
    return {f"{kind}.{name}": body for block in blocks for kind, named in block.items() for name, body in named.items()}


def _manifests(path: str) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all((REPOSITORY / "infra" / "kubernetes" / path).read_text()) if item]


@by_cloud
def test_nothing_is_public_and_no_secret_is_given_out(cloud: str) -> None:
    resources = _resources(cloud)
    if cloud == "gke":
        bucket, database = resources["google_storage_bucket.main"], resources["google_sql_database_instance.main"]
        assert bucket["public_access_prevention"] == "enforced" and bucket["versioning"][0]["enabled"] is True
        assert database["settings"][0]["ip_configuration"][0]["ipv4_enabled"] is False
        assert resources["google_container_cluster.main"]["private_cluster_config"][0]["enable_private_nodes"] is True
    else:
        access = resources["aws_s3_bucket_public_access_block.main"]
        assert access["block_public_acls"] is access["restrict_public_buckets"] is True
        assert resources["aws_s3_bucket_versioning.main"]["versioning_configuration"][0]["status"] == "Enabled"
        assert resources["aws_db_instance.main"]["publicly_accessible"] is False
        assert all("aws_subnet.private" in str(resources[f"aws_eks_node_group.{name}"]["subnet_ids"]) for name in ("cpu", "gpu"))
    assert not re.search(r"random_password|\.secret\b|secret_data|secret_string", str(_named(cloud, "output")))


@by_cloud
def test_pools_are_those_that_steps_ask_for(cloud: str) -> None:
    settings = yaml.safe_load((REPOSITORY / "zenml.yaml").read_text())["steps"]["fine_tune"]["settings"]
    pod = settings["orchestrator.kubernetes"]["pod_settings"]
    ((label, wanted),), (toleration,) = pod["node_selectors"].items(), pod["tolerations"]
    assert (label, wanted.rpartition(":-")[2].strip("}")) == ("styleforge.dev/pool", "gpu")
    kind = {"gke": "google_container_node_pool", "eks": "aws_eks_node_group"}[cloud]
    cpu, gpu = (_resources(cloud)[f"{kind}.{name}"] for name in ("cpu", "gpu"))
    places = {"gke": ("autoscaling", "total_min_node_count", "total_max_node_count"), "eks": ("scaling_config", "min_size", "max_size")}
    section, *bounds = places[cloud]
    assert [gpu[section][0][bound] for bound in bounds] == [0, "${var.gpu_nodes_max}"]
    cpu, gpu = (pool["node_config"][0] if cloud == "gke" else pool for pool in (cpu, gpu))
    assert cpu["labels"] == {label: "cpu"} and "taint" not in cpu and gpu["labels"] == {label: "gpu"}
    assert gpu["taint"] == [{"key": toleration["key"], "value": "present", "effect": "NO_SCHEDULE"}]
    assert (toleration["operator"], toleration["effect"]) == ("Exists", "NoSchedule")


@by_cloud
def test_accounts_and_buckets_are_those_of_the_manifests(cloud: str) -> None:
    accounts = [item["metadata"] for item in _manifests("base/accounts.yaml") if item["kind"] == "ServiceAccount"]
    given = _named(cloud, "locals")["accounts"]
    assert {(account["namespace"], name) for name, account in given.items()} == {(item["namespace"], item["name"]) for item in accounts}
    used = {bucket for account in given.values() for bucket in [*account["writes"], *account["reads"]]}
    (buckets,) = [body["for_each"] for name, body in _resources(cloud).items() if re.fullmatch(r"\w+_bucket\.main", name)]
    assert set(re.findall(r"[a-z]{4,}", buckets)) - {"toset"} == used == {"artifacts", "mlflow", "styles"}


def test_names_are_those_of_the_overlays() -> None:
    eks, gke = (_manifests(f"overlays/{cloud}/settings.yaml") for cloud in ("eks", "gke"))
    regions = {item["data"]["AWS_DEFAULT_REGION"] for item in eks if "AWS_DEFAULT_REGION" in item.get("data", {})}
    assert regions == {_named("eks", "variable")["region"]["default"]}
    endpoints = {value for item in gke for key, value in item.get("data", {}).items() if "ENDPOINT" in key}
    assert endpoints == {_named("gke", "output")["s3_endpoint"]["value"]}
    (claim,) = [item for item in eks if item["kind"] == "PersistentVolumeClaim"]
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "eks" / "README.md").read_text(encoding="utf-8"), re.S)
    assert claim["spec"]["storageClassName"] in {item["metadata"]["name"] for block in blocks for item in yaml.safe_load_all(block)}
    assert "aws_efs_mount_target.hub_cache" in _resources("eks")
