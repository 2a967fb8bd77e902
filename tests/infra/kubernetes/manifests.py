"""The manifests as plain data: every document of every file, the overlays as kubectl resolves them, and the pods in them."""

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.paths import REPOSITORY

ROOT = REPOSITORY / "infra" / "kubernetes"
OVERLAYS = ("local", "gke", "eks")
FILES = sorted(path for path in ROOT.rglob("*.yaml") if path.name != "kustomization.yaml")
Manifest = dict[str, Any]


def read(path: Path) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def whole(path: Path) -> list[Manifest]:
    """A file's documents but for patches, which are only parts of one."""
    patches = {entry["path"] for entry in read(path.parent / "kustomization.yaml")[0].get("patches", [])}
    return [] if path.name in patches else read(path)


def plain(overlay: str) -> list[Manifest]:
    """What an overlay is made of, before any patch. Needs no kubectl."""
    files = [file for file in FILES if file.parent in (ROOT / "base", ROOT / "overlays" / overlay)]
    return [document for file in files for document in whole(file)]


def resolved(overlay: str) -> list[Manifest]:
    """What ``kubectl apply -k`` would send. Skips the test where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("kubectl is not installed, so no overlay can be resolved; the plain files are checked all the same")
    done = subprocess.run([kubectl, "kustomize", str(ROOT / "overlays" / overlay)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def name_of(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata'].get('namespace', '')}/{manifest['metadata']['name']}"


def pods(manifests: Iterable[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            yield name_of(manifest), manifest, spec["template"]


def matches(selector: Manifest, labels: Manifest) -> bool:
    """Whether a label selector takes these labels, for the operators that are in use."""
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
