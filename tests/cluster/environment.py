"""What a real cluster needs around it: the namespace with its accounts and quotas, S3, ZenML's server, MLflow, and the command itself."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from components.core.paths import REPOSITORY
from tests.cluster.proxy import Proxy, proxy_to
from tests.infra.ci.zenml_server import zenml_server
from tests.servers import S3_KEY, mlflow_server, s3_server

BUCKET = "styleforge"
BASE = REPOSITORY / "infra" / "kubernetes" / "base"
IMAGE = os.environ.get("STYLEFORGE_TEST_IMAGE", "styleforge:0.1.0-cpu")
ACCOUNT_SECONDS = 20.0
OLDER = {"PodDisruptionBudget": "policy/v1beta1", "CronJob": "batch/v1beta1"}


def client() -> Any:
    """The kubernetes package, its configuration loaded. Skips the test where no cluster answers."""
    import kubernetes

    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG is not set: no cluster to test on")
    try:
        kubernetes.config.load_kube_config()
        kubernetes.client.VersionApi().get_code(_request_timeout=5)
    except Exception as error:
        pytest.skip(f"no cluster answers behind KUBECONFIG ({type(error).__name__})")
    return kubernetes


def minor_version() -> int:
    """Of the cluster's Kubernetes: 20 for 1.20."""
    return int(client().client.VersionApi().get_code().minor.rstrip("+"))


def older(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest in a version that Kubernetes 1.20 has, where the cluster is as old: field by field the same for what we say."""
    if manifest["kind"] in OLDER and minor_version() < 21:
        manifest["apiVersion"] = OLDER[manifest["kind"]]
        manifest["spec"].pop("timeZone", None)
    return manifest


def host_address() -> str:
    """An address of this machine that pods reach: the API server's, where the cluster runs on this very machine."""
    kubernetes = client()
    host = os.environ.get("STYLEFORGE_TEST_HOST") or urlsplit(kubernetes.client.Configuration.get_default_copy().host).hostname or ""
    try:
        with socket.create_server((host, 0)):
            return host
    except OSError:
        pytest.skip(f"{host} is no address of this machine; set STYLEFORGE_TEST_HOST to one that pods reach")


@dataclass
class Environment:
    """A cluster with everything that a run needs, and ``styleforge`` to run there."""

    folder: Path
    namespace: str
    host: str
    s3: str
    zenml: str
    key: str
    mlflow: str
    proxy: Proxy
    servers: contextlib.ExitStack
    times: dict[str, float] = field(default_factory=dict)

    def variables(self, **extra: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TMPDIR", "KUBECONFIG", "VIRTUAL_ENV")}
        user = self.folder / "user"
        user.mkdir(exist_ok=True)
        return kept | {
            "HOME": str(user), "STYLEFORGE_HOME": str(self.folder / "home"), "PYTHONPATH": str(REPOSITORY),
            "ZENML_STORE_URL": self.zenml, "ZENML_STORE_API_KEY": self.key, "MLFLOW_TRACKING_URI": self.mlflow,
            "AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_KEY, "AWS_ENDPOINT_URL": self.s3, "AWS_DEFAULT_REGION": "us-east-1",
            "STYLEFORGE_IMAGE": IMAGE, "STYLEFORGE_GPU_IMAGE": IMAGE, "STYLEFORGE_KUBE_CONTEXT": _context(),
            "STYLEFORGE_KUBE_NAMESPACE": self.namespace, "STYLEFORGE_BUCKET": BUCKET, "STYLEFORGE_S3_ENDPOINT": self.s3,
            "STYLEFORGE_S3_SECRET": "styleforge-s3", "STYLEFORGE_GPU_CPUS": "500m", "STYLEFORGE_GPU_MEMORY": "2Gi",
        } | extra  # fmt: skip

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "cli.app", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.variables(**environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def call(self, *arguments: str, code: int = 0, **environment: str) -> Any:
        process = self.start(*arguments, "--json", **environment)
        stdout, stderr = process.communicate(timeout=3000)
        assert process.returncode == code, f"exit code {process.returncode}\n{stdout[-4000:]}\n{stderr[-8000:]}"
        return json.loads(stdout.splitlines()[-1])

    def restart_zenml(self, pause: float) -> None:
        self.servers.close()
        time.sleep(pause)
        self.servers.enter_context(zenml_server(self.folder / "zenml", self.host, urlsplit(self.zenml).port))

    def config(self, name: str, **changes: Any) -> Path:
        """``configs/pocket.yaml`` with the given settings (dotted keys with two underscores for the dot), in a file of its own."""
        data = yaml.safe_load((REPOSITORY / "configs" / "pocket.yaml").read_text())
        for key, value in changes.items():
            section, _, entry = key.partition("__")
            if entry:
                data.setdefault(section, {})[entry] = value
            else:
                data[section] = value
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        return path

    def pods(self, **labels: str) -> list[Any]:
        selector = ",".join(f"app.kubernetes.io/{key}={value}" for key, value in {"name": "styleforge", **labels}.items())
        return list(client().client.CoreV1Api().list_namespaced_pod(self.namespace, label_selector=selector).items)


def _context() -> str:
    kubernetes = client()
    return str(kubernetes.config.list_kube_config_contexts()[1]["name"])


def apply(namespace: str, *manifests: dict[str, Any]) -> None:
    kubernetes = client()
    for manifest in manifests:
        try:
            kubernetes.utils.create_from_dict(kubernetes.client.ApiClient(), manifest, namespace=namespace)
        except kubernetes.utils.FailToCreateError as error:
            if any(item.status != 409 for item in error.api_exceptions):
                raise


def wait_for_account(namespace: str) -> None:
    """Return when pods can be made: a new namespace gets its account a moment later, and before Kubernetes 1.24 that gets a token."""
    kubernetes, old = client(), minor_version() < 24
    end = time.monotonic() + ACCOUNT_SECONDS
    while time.monotonic() < end:
        accounts = kubernetes.client.CoreV1Api().list_namespaced_service_account(namespace).items
        if any(item.metadata.name == "default" and (item.secrets or not old) for item in accounts):
            return
        time.sleep(0.1)
    pytest.fail(f"no account came up in the namespace {namespace}")


def prepare_namespace(namespace: str, mlflow: str, s3: str) -> None:
    """The namespace as ``infra/kubernetes`` describes it, as far as an old cluster on one node takes it."""
    objects = [item for name in ("priorities", "accounts", "quotas") for item in yaml.safe_load_all((BASE / f"{name}.yaml").read_text())]
    apply(namespace, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for item in objects:
        place = item["metadata"].get("namespace")
        if place == "styleforge":
            continue
        if place:
            item["metadata"]["namespace"] = namespace
            for subject in item.get("subjects", []):
                subject["namespace"] = namespace
        apply(namespace, item)
    make_volume(namespace, "hub-cache", Path(f"/tmp/{namespace}-hub"))
    apply(
        namespace,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "runs", "namespace": namespace},
         "data": {"MLFLOW_TRACKING_URI": mlflow, "AWS_ENDPOINT_URL": s3}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "styleforge-runs", "namespace": namespace},
         "stringData": {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_KEY}},
    )  # fmt: skip


def make_volume(namespace: str, claim: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    # Kubernetes gives no hostPath to the pod's group.
    folder.chmod(0o777)
    name, common = f"{namespace}-{claim}", {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    spec = {"capacity": {"storage": "10Gi"}, "hostPath": {"path": str(folder)}, "claimRef": {"namespace": namespace, "name": claim}}
    bound = {"volumeName": name, "resources": {"requests": {"storage": "10Gi"}}}
    metadata = {"name": claim, "namespace": namespace}
    apply(
        namespace,
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {**common, **spec}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": {**common, **bound}},
    )


def remove_namespace(namespace: str) -> None:
    core = client().client.CoreV1Api()
    core.delete_namespace(namespace)
    for volume in core.list_persistent_volume().items:
        if volume.spec.claim_ref and volume.spec.claim_ref.namespace == namespace:
            core.delete_persistent_volume(volume.metadata.name)


def mark_node() -> None:
    """Label the nodes as the pool of GPUs. No taint, since a cluster of one node has to take the other pods too."""
    kubernetes = client()
    api = kubernetes.client.CoreV1Api()
    for node in api.list_node().items:
        api.patch_node(node.metadata.name, {"metadata": {"labels": {"styleforge.dev/pool": "gpu"}}})


@contextlib.contextmanager
def prepared_environment(folder: Path) -> Iterator[Environment]:
    """Prepare a namespace of its own, start the servers beside the cluster, register the stack; clear up afterwards."""
    host = host_address()
    namespace = f"sf-test-{os.getpid()}"
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(proxy_to(stack.enter_context(s3_server(folder / "s3", host, BUCKET)), host))
        mlflow = stack.enter_context(mlflow_server(folder / "mlflow", host=host))
        servers = stack.enter_context(contextlib.ExitStack())
        server = servers.enter_context(zenml_server(folder / "zenml", host))
        made = Environment(folder, namespace, host, proxy.url, server.url, server.key, mlflow, proxy, servers)
        mark_node()
        prepare_namespace(namespace, mlflow, proxy.url)
        _secret(made)
        try:
            made.call("stack", "apply", "kubernetes", "--activate")
            made.times["prepare"] = time.monotonic() - started
            yield made
        finally:
            remove_namespace(namespace)


def _secret(made: Environment) -> None:
    """The S3 keys as a ZenML secret."""
    code = "from zenml.client import Client; Client().create_secret('styleforge-s3', {'aws_access_key_id': K, 'aws_secret_access_key': K})"
    environment = made.variables(ZENML_CONFIG_PATH=str(made.folder / "home" / "zenml"), ZENML_ANALYTICS_OPT_IN="false")
    done = subprocess.run(
        [sys.executable, "-c", f"K = {S3_KEY!r}; {code}"], env=environment, cwd=made.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
