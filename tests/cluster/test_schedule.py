"""A real cluster's answers to what the small server in tests/components/cluster imitates; one fires in test_schedule_retrains.py."""

from typing import Any

import pytest

from components.cluster.applied import Applied, apply, list_schedules, remove
from components.cluster.schedule_manifests import ScheduleRequest, load_template
from components.core.errors import InputError
from components.core.paths import REPOSITORY
from tests.cluster.conftest import Namespace
from tests.cluster.environment import minor_version

TEMPLATE = load_template()


def put(cluster: Namespace, name: str, **changes: Any) -> Applied:
    config = REPOSITORY / "configs" / "pocket.yaml"
    asked = {"cron": "17 3 1 1 *", "source": "s3://bucket/styles", "namespace": cluster.namespace, **changes}
    return apply(cluster.api, ScheduleRequest(name=name, config=config, **asked), TEMPLATE)


def test_a_life(cluster: Namespace) -> None:
    assert put(cluster, "life", dry_run=True).status == "created" and list_schedules(cluster.api, cluster.namespace) == []
    made = put(cluster, "life", overrides=("method.instance_prompt=$(HOME) {token}",))
    assert made.status == "created" and "Secret styleforge-runs" in made.missing
    assert put(cluster, "life", overrides=("method.instance_prompt=$(HOME) {token}",)).status == "unchanged"
    assert put(cluster, "life").status == "changed" and put(cluster, "life").status == "unchanged"
    assert put(cluster, "life", suspend=True).suspended and put(cluster, "life").status == "unchanged"
    assert put(cluster, "life", suspend=False, alias="production").status == "changed"
    (entry,) = list_schedules(cluster.api, cluster.namespace)
    assert (entry.name, entry.cron, entry.source, entry.suspended) == ("life", "17 3 1 1 *", "s3://bucket/styles", False)
    assert remove(cluster.api, "life", cluster.namespace) == ["CronJob life", "ConfigMap life-config"]
    assert list_schedules(cluster.api, cluster.namespace) == []


def test_time_zones(cluster: Namespace) -> None:
    if minor_version() < 25:
        with pytest.raises(InputError, match="do not support time zones"):
            put(cluster, "zone", time_zone="Europe/Berlin")
        assert list_schedules(cluster.api, cluster.namespace) == []
    else:
        assert put(cluster, "zone", time_zone="Europe/Berlin").status == "created"
        assert list_schedules(cluster.api, cluster.namespace)[0].time_zone == "Europe/Berlin"


def test_what_the_server_refuses(cluster: Namespace) -> None:
    with pytest.raises(InputError, match="namespace sf-schedule-nowhere"):
        put(cluster, "a", namespace="sf-schedule-nowhere")
    with pytest.raises(InputError, match="serviceAccountName"):
        put(cluster, "account", service_account="No_Account")
    assert list_schedules(cluster.api, cluster.namespace) == []
