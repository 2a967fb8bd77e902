"""docs/how-to/kubernetes.md, followed to the letter on a real cluster: its commands, taken from the page, in their order, in one shell.

What cannot be as on the page is in ``EDITS``, each with its reason. Images that cannot be had are stood in for (``.ci/images``).
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.paths import FLOORS, REPOSITORY
from tests.cluster.environment import apply, client, older
from tests.cluster.test_short import FEW
from tests.infra.kubernetes.manifests import pods, resolved

PAGE = REPOSITORY / "docs" / "how-to" / "kubernetes.md"
SECTIONS = ("Secrets", "Apply", "From your machine", "Check the cluster first", "Run there", "Scheduled retraining")
NAMESPACES = ("styleforge", "styleforge-runs")
CLAIMS = {"zenml": "styleforge", "data-postgres-0": "styleforge", "data-s3-0": "styleforge",
          "hub-cache": "styleforge-runs", "retrain-home": "styleforge-runs"}  # fmt: skip
DATABASE = "postgresql://mlflow:pw-postgres@postgres.styleforge:5432/mlflow"
# What the page has, what is run, and why.
EDITS = (
    ("backend-store-uri=...", f"backend-store-uri={DATABASE}", "a value of one's own"),
    ("AWS_ACCESS_KEY_ID=...", "AWS_ACCESS_KEY_ID=key-of-s3", "a value of one's own"),
    ("AWS_SECRET_ACCESS_KEY=...", "AWS_SECRET_ACCESS_KEY=pw-of-s3", "a value of one's own"),
    ("aws_access_key_id=...", "aws_access_key_id=key-of-s3", "a value of one's own"),
    ("aws_secret_access_key=...", "aws_secret_access_key=pw-of-s3", "a value of one's own"),
    ("admin-password=...", "admin-password=pw-of-zenml", "a value of one's own"),
    ("ZENML_STORE_PASSWORD=...", "ZENML_STORE_PASSWORD=pw-of-zenml", "a value of one's own"),
    ("jwt-secret=...", "jwt-secret=$(openssl rand -hex 32)", "as the page says"),
    ("encryption-key=...", "encryption-key=$(openssl rand -hex 32)", "as the page says"),
    ("password=...", "password=pw-postgres", "a value of one's own"),
    ("kubectl apply -k infra/kubernetes/overlays/local", 'kubectl apply -f "$RESOLVED"', "the same in the versions that 1.20 has"),
    ("s3://bucket/styles", "s3://styleforge-styles", "the bucket of the overlay"),
    ("styleforge schedule apply", "$UPLOAD\nstyleforge schedule apply", "a style set of one's own"),
    (r"styleforge doctor --stack kubernetes --assume-pool .*", ":", "there is a node to look at"),
    (r"styleforge run pocket --shards 4", ":", "as long again; tests/cluster/test_scale.py has it"),
    ("kubectl -n styleforge-runs create job", '"$SERVERS_KUBECTL" -n styleforge-runs create job', "newer ones ask for batch/v1"),
)  # fmt: skip


def commands() -> str:
    """The page's commands, edited."""
    text = PAGE.read_text(encoding="utf-8")
    parts = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL))
    lines = "\n".join(block for section in SECTIONS for block in re.findall(r"```bash\n(.*?)```", parts[section], flags=re.DOTALL))
    for said, done, why in EDITS:
        lines, times = re.subn(said if said.endswith(".*") else re.escape(said), lambda _, done=done: done, lines)
        assert times, f"the page has no {said!r} any more ({why})"
    # Whoever types them is slower than a script.
    forward = r"^(kubectl .*port-forward \S+ (\d+):\d+ )&$"
    return re.sub(forward, r"\1>/dev/null &\nuntil (: </dev/tcp/127.0.0.1/\2) 2>/dev/null; do sleep 0.2; done", lines, flags=re.MULTILINE)


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[None]:
    """Volumes for all claims, as there is no storage class; the node has the images, and nobody the namespaces."""
    if os.getuid() != 0 or not shutil.which("unshare"):
        pytest.skip("a hosts file of one's own takes root and unshare")
    kubernetes = client()
    core = kubernetes.client.CoreV1Api()
    wanted = {container["image"] for _, _, pod in pods(resolved("local")) for container in pod["spec"]["containers"]}
    there = _images(core)
    if missing := sorted(image for image in wanted if not any(name.endswith(image) for name in there)):
        pytest.skip(f"no node has {', '.join(missing)}; load them, or STAND_INS=1 .ci/cluster tests/cluster/test_howto.py brings stand-ins")
    if {item.metadata.name for item in core.list_namespace().items} & set(NAMESPACES):
        pytest.skip("StyleForge is installed here already")
    for name, namespace in CLAIMS.items():
        folder = tmp_path / "volumes" / name
        folder.mkdir(parents=True)
        # Kubernetes gives no hostPath to the pod's group.
        folder.chmod(0o777)
        spec = {"capacity": {"storage": "100Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain"}
        spec |= {"hostPath": {"path": str(folder)}, "claimRef": {"namespace": namespace, "name": name}}
        apply(namespace, {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"howto-{name}"}, "spec": spec})
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    yield
    for namespace in NAMESPACES:
        core.delete_namespace(namespace)
    for name in CLAIMS:
        core.delete_persistent_volume(f"howto-{name}")


def _images(core: Any) -> list[str]:
    """Names of the images on the nodes. A node that has just come up tells them a moment later."""
    for _ in range(60):
        if listed := [image for node in core.list_node().items for image in node.status.images or []]:
            return [name for image in listed for name in image.names or []]
        time.sleep(1)
    return []


def prepared(folder: Path) -> tuple[Path, dict[str, str]]:
    """A clone as a user has it, with settings that take few steps, and the environment of a shell."""
    clone = folder / "styleforge"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    for name in ("docs", "infra", "configs", *FLOORS):
        shutil.copytree(REPOSITORY / name, clone / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    settings = yaml.safe_load((clone / "configs" / "pocket.yaml").read_text())
    for key, value in FEW.items():
        section, _, entry = key.partition("__")
        settings.setdefault(section, {})[entry] = value
    (clone / "configs" / "pocket.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    manifests = folder / "local.yaml"
    manifests.write_text(yaml.safe_dump_all([older(manifest) for manifest in resolved("local")]), encoding="utf-8")
    programs = folder / "programs"
    programs.mkdir()
    for name, module in {"styleforge": "cli.app import main", "zenml": "zenml.cli.cli import cli as main"}.items():
        (programs / name).write_text(f"#!{sys.executable}\nimport sys\nfrom {module}\nsys.exit(main())\n")
        (programs / name).chmod(0o755)
    upload = folder / "upload.py"
    upload.write_text(
        "import s3fs\n"
        "s3 = s3fs.S3FileSystem(key='key-of-s3', secret='pw-of-s3', endpoint_url='http://s3.styleforge:9000')\n"
        "s3.put('data/pocket/anime/', 'styleforge-styles/anime/', recursive=True)\n"
    )
    (folder / "home").mkdir()
    servers = Path(os.environ.get("K8S_ROOT", "/nowhere")) / "bin" / "kubectl"
    kept = {key: value for key, value in os.environ.items() if key in ("LANG", "TMPDIR", "KUBECONFIG", "VIRTUAL_ENV")}
    return clone, kept | {
        "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder / "home"), "PYTHONPATH": str(clone), "RESOLVED": str(manifests),
        "ZENML_ANALYTICS_OPT_IN": "false", "UPLOAD": f"{sys.executable} {upload}",
        "SERVERS_KUBECTL": str(servers if servers.exists() else shutil.which("kubectl")),
    }  # fmt: skip


def test_every_edit_finds_its_place() -> None:
    assert commands()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_page_works_to_the_letter(ready: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clone, environment = prepared(tmp_path)
    script = tmp_path / "page.sh"
    start = 'set -euo pipefail\nsudo() { "$@"; }\ncp /etc/hosts "$HOME/hosts"\nmount --bind "$HOME/hosts" /etc/hosts\nset -x\n'
    script.write_text(f"{start}{commands()}\n{AFTER}", encoding="utf-8")
    log = tmp_path / "page.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "bash", str(script)], cwd=clone, env=environment,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        code = process.wait(2400)
    finally:
        # Nothing is left of the group if the page failed before it forwarded a port.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    said = log.read_text(errors="replace")
    assert code == 0, said[-12000:]
    kubernetes = client()
    steps = kubernetes.client.CoreV1Api().list_namespaced_pod("styleforge-runs", label_selector="app.kubernetes.io/component=step").items
    assert len(steps) > 8 and {pod.status.phase for pod in steps} == {"Succeeded"}
    # The schedule's pod found the same pictures in the bucket, and so the version of the run as pods.
    assert '"sets": [{"name": "anime"' in said and '"model": "styleforge-anime", "version": "1"' in said
    models = said.rpartition("+ styleforge models")[2]
    with capsys.disabled():
        print(f"\n{len(steps)} pods of steps; models: {models}")
    assert "styleforge-anime" in models


# What the page's last section has begun ends well, and the model of the run is in the MLflow of the manifests.
AFTER = """
ended() { kubectl -n styleforge-runs get job nightly-now -o jsonpath='{.status.conditions[*].type}' | grep -E 'Complete|Failed'; }
until ended; do sleep 3; done
kubectl -n styleforge-runs logs job/nightly-now | tail -n 40
kubectl -n styleforge-runs get job nightly-now -o jsonpath='{.status.succeeded}' | grep -x 1
styleforge models
"""
