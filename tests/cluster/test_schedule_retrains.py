"""A schedule that fires in a real cluster and retrains what is new, and that alone: pictures in S3, models in MLflow, one pod a run."""

import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from cli.app import app
from components.cluster.applied import Applied, apply
from components.cluster.client import Access, Cluster, connect
from components.cluster.schedule_manifests import INSTANCE, ScheduleRequest, load_template
from components.core.paths import REPOSITORY
from tests.cluster import environment
from tests.servers import S3_KEY, mlflow_server, s3_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
FEW = (
    "training.steps=4", "training.checkpoint_every=2", "sampling.limit=4", "sampling.repeats=1", "sampling.steps=2", "scoring.bootstrap=5",
    "attention.prompts=0", "aux.count=20",
)  # fmt: skip
RUN_SECONDS = 900.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, str, str]]:
    """A connection, a namespace that is ready for runs, and the address of an S3 server."""
    host = environment.host_address()
    folder, namespace = tmp_path_factory.mktemp("schedule"), f"sf-schedule-{os.getpid()}"
    with s3_server(folder / "s3", host, environment.BUCKET) as s3, mlflow_server(folder / "mlflow", host=host) as mlflow:
        environment.prepare_namespace(namespace, mlflow, s3)
        environment.make_volume(namespace, "retrain-home", folder / "home")
        for parent in (folder, *folder.parents[:2]):
            parent.chmod(0o755)
        try:
            yield connect(Access()), namespace, s3
        finally:
            environment.remove_namespace(namespace)


def bucket(s3: str) -> Any:
    import s3fs

    return s3fs.S3FileSystem(key=S3_KEY, secret=S3_KEY, endpoint_url=s3, skip_instance_cache=True)


def touch_up(s3: str, style: str) -> None:
    """A changed set: some pixels of one picture are others."""
    store = bucket(s3)
    name = sorted(store.find(f"{environment.BUCKET}/styles/{style}/style_ref"))[0]
    picture = Image.open(io.BytesIO(store.cat_file(name))).convert("RGB")
    picture.paste((255, 0, 0), (0, 0, 8, 8))
    changed = io.BytesIO()
    picture.save(changed, "PNG")
    store.pipe_file(name, changed.getvalue())


def add_set(s3: str, style: str, folder: Path) -> None:
    done = CliRunner().invoke(app, ["pocket", "render", "--style", style, "--out", str(folder / style)])
    assert done.exit_code == 0, done.output
    bucket(s3).put(f"{folder / style}/", f"{environment.BUCKET}/styles/{style}/", recursive=True)


def put(place: tuple[Cluster, str, str], *, suspend: bool) -> Applied:
    cluster, namespace, _ = place
    template = load_template()
    (container,) = template["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    # A node of two cores, which other pods may be on.
    container["resources"]["requests"] = {"cpu": "250m", "memory": "1Gi"}
    config = yaml.safe_load((REPOSITORY / "configs" / "pocket.yaml").read_text())
    del config["style"]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(config, file)
        file.flush()
        request = ScheduleRequest(
            name="often", config=Path(file.name), cron="* * * * *", source=f"s3://{environment.BUCKET}/styles", overrides=FEW,
            namespace=namespace, image=environment.IMAGE, promote=False, suspend=suspend,
        )  # fmt: skip
        made = apply(cluster, request, template)
    assert made.missing == ()
    return made


def fire(place: tuple[Cluster, str, str]) -> dict[str, str]:
    """Let the schedule start once, and give what its pod printed: each set's status."""
    cluster, namespace, _ = place
    jobs, selector = f"/apis/batch/v1/namespaces/{namespace}/jobs", f"{INSTANCE}=often"
    before = {item["metadata"]["name"] for item in cluster.items(jobs, labelSelector=selector)}
    put(place, suspend=False)
    deadline, found = time.monotonic() + RUN_SECONDS, None
    while time.monotonic() < deadline:
        new = [item for item in cluster.items(jobs, labelSelector=selector) if item["metadata"]["name"] not in before]
        if new and found is None:
            found = new[0]["metadata"]["name"]
            put(place, suspend=True)
        if new and (new[0]["status"].get("succeeded") or new[0]["status"].get("failed")):
            break
        time.sleep(2)
    pods = cluster.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"job-name={found}")
    assert pods, f"the Job {found} made no pod: {events(cluster, namespace)}"
    name = pods[0]["metadata"]["name"]
    assert pods[0]["status"]["phase"] in ("Succeeded", "Failed"), events(cluster, namespace)
    log = cluster.call("GET", f"/api/v1/namespaces/{namespace}/pods/{name}/log")
    lines = [line for line in log.splitlines() if line.startswith('{"status"')]
    assert lines and pods[0]["status"]["phase"] == "Succeeded", log[-6000:]
    result: dict[str, Any] = json.loads(lines[-1])
    return {item["name"]: item["status"] for item in result["sets"]}


def events(cluster: Cluster, namespace: str) -> list[str]:
    return [item["message"] for item in cluster.items(f"/api/v1/namespaces/{namespace}/events")][-20:]


def test_what_is_new_is_trained_and_that_alone(place: tuple[Cluster, str, str], tmp_path: Path) -> None:
    assert put(place, suspend=True).status == "created"
    add_set(place[2], "anime", tmp_path)
    assert fire(place) == {"anime": "registered"}
    add_set(place[2], "cubism", tmp_path)
    assert fire(place) == {"anime": "unchanged", "cubism": "registered"}
    assert fire(place) == {"anime": "unchanged", "cubism": "unchanged"}
    touch_up(place[2], "anime")
    assert fire(place) == {"anime": "registered", "cubism": "unchanged"}
