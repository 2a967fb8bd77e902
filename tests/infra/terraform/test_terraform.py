"""The Terraform of GKE and EKS, offline: it parses, its references lead somewhere, and it fits the manifests and ``zenml.yaml``."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from components.core.paths import REPOSITORY

ROOT = REPOSITORY / "infra" / "terraform"
CLOUDS = ("gke", "eks")
FILES = sorted(ROOT.rglob("*.tf"))
by_cloud = pytest.mark.parametrize("cloud", CLOUDS)
by_file = pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")


def _plain(value: Any) -> Any:
    """What the parser gives, less the quotation marks and its own notes."""
    if isinstance(value, dict):
        return {key.strip('"'): _plain(item) for key, item in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.strip('"') if isinstance(value, str) else value


def _read(cloud: str) -> dict[str, list[Any]]:
    """All blocks of a folder by their kind."""
    found: dict[str, list[Any]] = {}
    for file in FILES:
        if file.parent.name == cloud:
            for kind, blocks in _plain(hcl2.loads(file.read_text(encoding="utf-8"))).items():
                found.setdefault(kind, []).extend(blocks)
    return found


def _named(cloud: str, kind: str) -> dict[str, Any]:
    return {name: body for block in _read(cloud).get(kind, []) for name, body in block.items()}


def _resources(cloud: str, kind: str = "resource") -> dict[str, Any]:
    """Bodies by ``type.name``."""
    return {f"{kind}.{name}": body for block in _read(cloud)[kind] for kind, named in block.items() for name, body in named.items()}


def _locals(cloud: str) -> dict[str, Any]:
    return {name: value for block in _read(cloud).get("locals", []) for name, value in block.items()}


def _text(cloud: str) -> str:
    """The code without comments."""
    return "\n".join(re.sub(r"(?m)^\s*#.*$", "", file.read_text(encoding="utf-8")) for file in FILES if file.parent.name == cloud)


def _pool(cloud: str, name: str) -> dict[str, Any]:
    kind = {"gke": "google_container_node_pool", "eks": "aws_eks_node_group"}[cloud]
    return dict(_resources(cloud)[f"{kind}.{name}"])


def _manifests(path: str) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all((REPOSITORY / "infra" / "kubernetes" / path).read_text()) if item]


# Form


@by_file
def test_layout(file: Path) -> None:
    """What ``terraform fmt`` would not change, as far as it can be told without it."""
    text = file.read_text(encoding="utf-8")
    assert text.endswith("}\n") and "\t" not in text and "\r" not in text and "\n\n\n" not in text
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        bare = re.sub(r'"(\\.|[^"\\])*"', '""', line.partition("#")[0] if line.lstrip().startswith("#") else line)
        if line.strip():
            inner = depth - (1 if re.match(r"\s*[}\])]", line) else 0)
            # Brackets that open on one line are closed together, so a line goes in by one step at most.
            assert len(line) - len(line.lstrip()) == 2 * inner, f"{file.name}:{number}"
        assert line == line.rstrip(), f"{file.name}:{number}"
        opened, closed = len(re.findall(r"[{\[(]", bare)), len(re.findall(r"[}\])]", bare))
        depth += (opened > closed) - (closed > opened)
    assert depth == 0


@by_file
def test_equals_signs_are_aligned(file: Path) -> None:
    group: list[tuple[int, str]] = []
    for line in [*file.read_text(encoding="utf-8").splitlines(), ""]:
        found = re.match(r"(\s*[\w.\"-]+)(\s+)= \S", line)
        if found and not line.rstrip().endswith(("{", "[", "(")):
            group.append((len(found[1] + found[2]), line))
            continue
        assert len({column for column, _ in group}) <= 1, [line for _, line in group]
        group = []


def test_terraform_would_not_format_anything(tmp_path: Path) -> None:
    program = shutil.which("terraform") or shutil.which("tofu")
    if program is None:
        pytest.skip("neither terraform nor tofu is installed; the layout is checked all the same")
    done = subprocess.run([program, "fmt", "-check", "-recursive", "-diff", str(ROOT)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


# Whole


@by_cloud
def test_references_lead_somewhere(cloud: str) -> None:
    text = _text(cloud)
    resources, data = set(_resources(cloud)), set(_resources(cloud, "data")) if "data" in _read(cloud) else set()
    assert set(re.findall(r"(?<![\w.])var\.(\w+)", text)) == set(_named(cloud, "variable")), "unknown or unused variables"
    assert set(re.findall(r"(?<![\w.])local\.(\w+)", text)) == set(_locals(cloud)), "unknown or unused locals"
    assert set(re.findall(r"(?<![\w.])data\.(\w+\.\w+)", text)) == data
    assert set(re.findall(r"(?<![\w.\"])((?:google|aws|random)_\w+\.\w+)", text)) <= resources
    assert {name.partition("_")[0] for name in resources} == set(_read(cloud)["terraform"][0]["required_providers"][0])


def test_the_check_of_references_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    text = _text("eks")
    monkeypatch.setattr(f"{__name__}._text", lambda cloud: text + "\nx = aws_vpc.other.id\n")
    with pytest.raises(AssertionError):
        test_references_lead_somewhere("eks")


@by_cloud
def test_variables_and_outputs_are_described(cloud: str) -> None:
    for name, body in _named(cloud, "variable").items():
        assert body["description"] and body["type"], name
        if body["type"] == "number" or "default" not in body:
            assert body["validation"][0]["error_message"], name
    assert all(body["description"] and body["value"] for body in _named(cloud, "output").values())


@by_cloud
def test_versions_are_pinned(cloud: str) -> None:
    settings = _read(cloud)["terraform"][0]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", provider["version"]) for provider in settings["required_providers"][0].values())
    assert "<" in settings["required_version"]


@by_cloud
def test_no_secret_is_written_down_or_given_out(cloud: str) -> None:
    for name, value in re.findall(r"(?m)^\s*(\w*(?:password|secret_data|secret_string|token)\w*)\s+=\s*(.+)$", _text(cloud)):
        assert re.match(r'random_password\.|"postgresql://\$\{|jsonencode\(\{$', value) or name.startswith("http_tokens"), (name, value)
    outputs = (ROOT / cloud / "outputs.tf").read_text(encoding="utf-8")
    assert not re.search(r"random_password|\.secret\b|secret_data|secret_string", outputs)


@by_cloud
def test_nothing_is_public(cloud: str) -> None:
    resources = _resources(cloud)
    if cloud == "gke":
        assert resources["google_storage_bucket.main"]["public_access_prevention"] == "enforced"
        assert resources["google_storage_bucket.main"]["versioning"][0]["enabled"] is True
        assert resources["google_sql_database_instance.main"]["settings"][0]["ip_configuration"][0]["ipv4_enabled"] is False
        assert resources["google_container_cluster.main"]["private_cluster_config"][0]["enable_private_nodes"] is True
    else:
        assert all(
            resources["aws_s3_bucket_public_access_block.main"][key] is True for key in ("block_public_acls", "restrict_public_buckets")
        )
        assert resources["aws_s3_bucket_versioning.main"]["versioning_configuration"][0]["status"] == "Enabled"
        assert resources["aws_db_instance.main"]["publicly_accessible"] is False
        assert all("aws_subnet.private" in str(_pool(cloud, name)["subnet_ids"]) for name in ("cpu", "gpu"))


# Fits the rest


@by_cloud
def test_pools_are_those_that_steps_ask_for(cloud: str) -> None:
    step = yaml.safe_load((REPOSITORY / "zenml.yaml").read_text())["steps"]["fine_tune"]["settings"]["orchestrator.kubernetes"][
        "pod_settings"
    ]
    ((label, wanted),) = step["node_selectors"].items()
    (toleration,) = step["tolerations"]
    assert (label, wanted.rpartition(":-")[2].strip("}")) == ("styleforge.dev/pool", "gpu")
    for name in ("cpu", "gpu"):
        pool = _pool(cloud, name)
        pool = {**pool, **pool["node_config"][0]} if cloud == "gke" else pool
        assert pool["labels"] == {label: name}
        if name == "cpu":
            assert "taint" not in pool
            continue
        (taint,) = pool["taint"]
        assert taint == {"key": toleration["key"], "value": "present", "effect": "NO_SCHEDULE"}
        assert (toleration["operator"], toleration["effect"]) == ("Exists", "NoSchedule")
        scaling = pool["autoscaling" if cloud == "gke" else "scaling_config"][0]
        assert scaling["total_min_node_count" if cloud == "gke" else "min_size"] == 0
        assert scaling["total_max_node_count" if cloud == "gke" else "max_size"] == "${var.gpu_nodes_max}"


@by_cloud
def test_accounts_are_those_of_the_manifests(cloud: str) -> None:
    accounts = [item["metadata"] for item in _manifests("base/accounts.yaml") if item["kind"] == "ServiceAccount"]
    wanted = {(account["namespace"], account["name"]) for account in accounts}
    assert {(given["namespace"], name) for name, given in _locals(cloud)["accounts"].items()} == wanted


@by_cloud
def test_buckets_are_those_that_somebody_may_use(cloud: str) -> None:
    accounts = _locals(cloud)["accounts"].values()
    used = {bucket for given in accounts for bucket in [*given["writes"], *given["reads"]]}
    (each,) = re.findall(r'_bucket" "main" \{\s+for_each = toset\(\[(.*?)\]\)', _text(cloud))
    assert set(re.findall(r'"(\w+)"', each)) == used == {"artifacts", "mlflow", "styles"}


@by_cloud
def test_the_database_is_the_one_of_the_page(cloud: str) -> None:
    page = (REPOSITORY / "docs" / "how-to" / "kubernetes.md").read_text(encoding="utf-8")
    assert "postgresql://USER:PASSWORD@HOST:5432/mlflow" in page
    assert re.search(r'"postgresql://\$\{.*:5432/\$\{.*\}\?sslmode=require"', _text(cloud))


def test_the_region_is_the_overlays() -> None:
    settings = _manifests("overlays/eks/settings.yaml")
    regions = {item["data"]["AWS_DEFAULT_REGION"] for item in settings if "AWS_DEFAULT_REGION" in item.get("data", {})}
    assert regions == {_named("eks", "variable")["region"]["default"]}


def test_the_storage_class_of_the_overlay_is_made() -> None:
    (claim,) = [item for item in _manifests("overlays/eks/settings.yaml") if item["kind"] == "PersistentVolumeClaim"]
    readme = (ROOT / "eks" / "README.md").read_text(encoding="utf-8")
    classes = [item for block in re.findall(r"```yaml\n(.*?)```", readme, re.S) for item in yaml.safe_load_all(block)]
    assert claim["spec"]["storageClassName"] in {item["metadata"]["name"] for item in classes}
    assert "aws_efs_mount_target.hub_cache" in _resources("eks")


def test_the_s3_endpoint_is_the_overlays() -> None:
    given = [entry for item in _manifests("overlays/gke/settings.yaml") for entry in item.get("data", {}).items()]
    endpoints = {value for key, value in given if "ENDPOINT" in key}
    assert endpoints == {_named("gke", "output")["s3_endpoint"]["value"]}


@by_cloud
def test_the_readme_names_what_is_there(cloud: str) -> None:
    text = (ROOT / cloud / "README.md").read_text(encoding="utf-8")
    variables, outputs = _named(cloud, "variable"), _named(cloud, "output")
    assert set(re.findall(r"terraform output(?: -raw| -json)? (\w+)", text)) <= set(outputs)
    required = {name for name, body in variables.items() if "default" not in body}
    (example,) = re.findall(r"```hcl\n(.*?)```", text, re.S)
    assert required <= set(_plain(hcl2.loads(example))) <= set(variables)
