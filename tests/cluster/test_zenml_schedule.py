"""ZenML's own schedule in a real cluster: it fires without anybody's machine, and its run registers a model."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cluster.environment import BUCKET, Environment, apply, client
from tests.cluster.test_short import FEW
from tests.servers import S3_KEY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
RUN_SECONDS, GONE_SECONDS = 1200.0, 30.0
NAME, STYLE = "timed", "timed"


def cron_jobs(env: Environment) -> list[Any]:
    """Those of ``batch/v1``, which ZenML makes; Kubernetes before 1.21 has it under another name."""
    kubernetes = client()
    try:
        return list(kubernetes.client.BatchV1Api().list_namespaced_cron_job(env.namespace).items)
    except kubernetes.client.ApiException as error:
        if error.status != 404:
            raise
        pytest.skip("the API server has no CronJob of batch/v1; CRON_SHIM=1 .ci/cluster tests/cluster/test_zenml_schedule.py brings it")


def test_it_fires_and_registers(env: Environment) -> None:
    import s3fs

    assert cron_jobs(env) == []
    s3 = s3fs.S3FileSystem(key=S3_KEY, secret=S3_KEY, endpoint_url=env.s3, skip_instance_cache=True)
    s3.put(f"{env.folder}/data/pocket/anime/", f"{BUCKET}/styles/{STYLE}/", recursive=True)
    # What the step that reads the pictures, and no other, gets.
    keys = {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_KEY, "AWS_ENDPOINT_URL": env.s3}
    apply(env.namespace, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "styleforge-sources"}, "stringData": keys})
    config = str(env.config("timed", style={"name": STYLE, "source": f"s3://{BUCKET}/styles/{STYLE}"}, **FEW))
    # Once an hour, and soon: a start each minute would be another run each minute.
    soon = datetime.now(UTC) + timedelta(minutes=2)
    made = env.call("schedule", "apply", NAME, "--as", "zenml", "--config", config, "--cron", f"{soon.minute} * * * *")
    assert made["schedule"]["status"] == "created"
    (listed,) = env.call("schedule", "list", "--as", "zenml")["schedules"]
    assert listed["name"] == NAME and listed["source"].endswith(f"/styles/{STYLE}")
    (job,) = cron_jobs(env)
    assert job.spec.schedule == f"{soon.minute} * * * *"
    before = {pod.metadata.name for pod in env.pods()}
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline and not (found := [row for row in env.call("models")["models"] if row["name"].endswith(STYLE)]):
        assert not [pod for pod in env.pods() if pod.status.phase == "Failed" and pod.metadata.name not in before]
        time.sleep(10)
    assert [row["version"] for row in found] == ["1"]
    assert env.call("schedule", "remove", NAME, "--as", "zenml")["removed"] == [f"Schedule {NAME}"]
    assert env.call("schedule", "list", "--as", "zenml")["schedules"] == []
    # The API server of an old cluster first lets go of the Jobs.
    deadline = time.monotonic() + GONE_SECONDS
    while (left := cron_jobs(env)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []
