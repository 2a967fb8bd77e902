"""Schedules in a real cluster: its own answers to what the small server in tests/components/cluster imitates, and one that fires."""

import contextlib
import time
from typing import Any

import pytest

from components.cluster.applied import Applied, apply, list_schedules, remove
from components.cluster.client import Cluster, NotFound
from components.cluster.cronjob import INSTANCE, ScheduleRequest, load_template
from components.core.errors import InputError
from components.core.paths import REPOSITORY
from tests.cluster.conftest import Namespace
from tests.cluster.environment import minor_version

TEMPLATE = load_template()


@pytest.fixture
def api(cluster: Namespace) -> Cluster:
    return cluster.api


@pytest.fixture
def namespace(cluster: Namespace) -> str:
    return cluster.namespace


def put(api: Cluster, namespace: str, name: str, cron: str = "17 3 1 1 *", **changes: Any) -> Applied:
    config = REPOSITORY / "configs" / "pocket.yaml"
    request = ScheduleRequest(name=name, config=config, cron=cron, source="s3://bucket/styles", namespace=namespace, **changes)
    return apply(api, request, TEMPLATE)


def test_a_life(api: Cluster, namespace: str) -> None:
    assert put(api, namespace, "life", dry_run=True).status == "created" and list_schedules(api, namespace) == []
    made = put(api, namespace, "life", overrides=("method.instance_prompt=$(HOME) {token}",))
    assert made.status == "created" and "Secret styleforge-runs" in made.missing
    assert put(api, namespace, "life", overrides=("method.instance_prompt=$(HOME) {token}",)).status == "unchanged"
    assert put(api, namespace, "life").status == "changed" and put(api, namespace, "life").status == "unchanged"
    assert put(api, namespace, "life", suspend=True).suspended and put(api, namespace, "life").status == "unchanged"
    assert put(api, namespace, "life", suspend=False, alias="production").status == "changed"
    (entry,) = list_schedules(api, namespace)
    assert (entry.name, entry.cron, entry.source, entry.suspended) == ("life", "17 3 1 1 *", "s3://bucket/styles", False)
    assert remove(api, "life", namespace) == ["CronJob life", "ConfigMap life-config"] and list_schedules(api, namespace) == []


def test_time_zones(api: Cluster, namespace: str) -> None:
    if minor_version() < 25:
        with pytest.raises(InputError, match="no time zones"):
            put(api, namespace, "zone", time_zone="Europe/Berlin")
        assert list_schedules(api, namespace) == []
    else:
        assert put(api, namespace, "zone", time_zone="Europe/Berlin").status == "created"
        assert list_schedules(api, namespace)[0].time_zone == "Europe/Berlin" and remove(api, "zone", namespace)


def test_what_the_server_refuses(api: Cluster, namespace: str) -> None:
    with pytest.raises(InputError, match="namespace sf-schedule-nowhere"):
        put(api, "sf-schedule-nowhere", "a")
    with pytest.raises(InputError, match="serviceAccountName"):
        put(api, namespace, "account", service_account="No_Account")
    assert list_schedules(api, namespace) == []


@pytest.mark.slow
def test_it_fires(api: Cluster, namespace: str) -> None:
    """The Job is made within the minute, with our labels; its pod waits for what this namespace lacks."""
    made = put(api, namespace, "often", "* * * * *")
    assert [made.next[0] < later for later in made.next[1:]] == [True, True]
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + 150
    while not found and time.monotonic() < deadline:
        time.sleep(2)
        found = api.items(jobs, labelSelector=f"{INSTANCE}=often")
    assert len(found) == 1, "no Job within two and a half minutes"
    assert found[0]["spec"]["template"]["spec"]["containers"][0]["args"][:2] == ["retrain", "/etc/styleforge/config.yaml"]
    (entry,) = list_schedules(api, namespace)
    assert entry.active == 1 and entry.last
    # A run that is under way does not start another, and ends with the schedule.
    remove(api, "often", namespace)
    while time.monotonic() < deadline:
        with contextlib.suppress(NotFound):
            if not api.items(jobs):
                return
        time.sleep(2)
    pytest.fail("the Job outlived its schedule")
