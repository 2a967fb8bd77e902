import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.cluster.applied import Applied, apply, list_schedules, remove
from components.cluster.client import Access, Cluster, ClusterUnreachable, connect
from components.cluster.schedule_manifests import ScheduleRequest, load_template
from components.core.errors import InputError
from components.core.paths import REPOSITORY
from tests.components.cluster.kube import write_kubeconfig
from tests.components.cluster.schedule_server import CORE, NAMESPACE, ApiServer, api_server

TEMPLATE = load_template()
CONFIGS = REPOSITORY / "configs"
REQUEST = ScheduleRequest(name="nightly", config=CONFIGS / "pocket.yaml", cron="17 3 * * *", source="s3://bucket/styles")
CONFIG = f"{CORE}/configmaps/nightly-config"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as made:
        yield made


@pytest.fixture
def cluster(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", server.url)))
    return connect(Access())


def put(cluster: Cluster, **changes: Any) -> Applied:
    return apply(cluster, dataclasses.replace(REQUEST, **changes), TEMPLATE)


def job(server: ApiServer, name: str = "nightly") -> dict[str, Any]:
    return server.objects[f"{server.jobs()}/{name}"]


def test_a_life(server: ApiServer, cluster: Cluster) -> None:
    tried = put(cluster, dry_run=True)
    assert tried.status == "created" and tried.dry_run and server.writes == []
    assert [item["kind"] for item in tried.objects] == ["ConfigMap", "CronJob"]

    made = put(cluster)
    assert (made.status, made.api_version, made.missing) == ("created", "batch/v1", ())
    assert [time[11:] for time in made.next] == ["03:17:00+00:00"] * 3
    assert [method for method, _ in server.writes] == ["POST", "POST"]
    assert server.objects[CONFIG]["data"] == REQUEST.files
    again = put(cluster)
    assert again.status == "unchanged" and len(server.writes) == 2

    assert put(cluster, cron="@daily", dry_run=True).status == "changed" and len(server.writes) == 2
    assert put(cluster, cron="@daily").status == "changed" and job(server)["spec"]["schedule"] == "@daily"
    assert server.writes[2:] == [("PUT", f"{server.jobs()}/nightly")]
    assert put(cluster, cron="@daily", config=CONFIGS / "gate.yaml").status == "changed"
    assert server.writes[3:] == [("PUT", CONFIG)] and server.objects[CONFIG]["data"] == {"config.yaml": (CONFIGS / "gate.yaml").read_text()}
    assert put(cluster, cron="@daily", config=CONFIGS / "gate.yaml").status == "unchanged"

    (entry,) = list_schedules(cluster, NAMESPACE)
    assert (entry.name, entry.cron, entry.source, entry.suspended) == ("nightly", "@daily", "s3://bucket/styles", False)
    assert (entry.time_zone, entry.image, entry.active, entry.last, len(entry.next)) == ("Etc/UTC", "styleforge:0.1.0-cpu", 0, None, 3)
    assert remove(cluster, "nightly", NAMESPACE) == ["CronJob nightly", "ConfigMap nightly-config"]
    assert list_schedules(cluster, NAMESPACE) == [] and CONFIG not in server.objects
    put(cluster, name="weekly")
    with pytest.raises(InputError, match=r"no such schedule.*weekly"):
        remove(cluster, "nightly", NAMESPACE)


def test_what_was_changed_by_hand_is_set_right_and_notes_stay(server: ApiServer, cluster: Cluster) -> None:
    put(cluster)
    live = job(server)
    live["spec"]["concurrencyPolicy"] = "Allow"
    live["metadata"]["labels"]["team"] = "art"
    live["metadata"]["annotations"] = {"note": "ours"}
    assert put(cluster).status == "changed"
    assert job(server)["spec"]["concurrencyPolicy"] == "Forbid"
    assert job(server)["metadata"]["labels"]["team"] == "art" and job(server)["metadata"]["annotations"] == {"note": "ours"}
    assert put(cluster).status == "unchanged"


def test_suspended_stays_suspended_until_it_is_resumed(server: ApiServer, cluster: Cluster) -> None:
    put(cluster)
    assert put(cluster, suspend=True).suspended and job(server)["spec"]["suspend"]
    kept = put(cluster)
    assert kept.status == "unchanged" and kept.suspended and kept.next == ()
    assert put(cluster, cron="@hourly").suspended and list_schedules(cluster, NAMESPACE)[0].next == ()
    assert not put(cluster, cron="@hourly", suspend=False).suspended and not job(server)["spec"]["suspend"]
    assert put(cluster, name="other", suspend=True).suspended


@pytest.mark.parametrize("place", ["job", "config"])
def test_what_is_somebody_elses_is_left_alone(server: ApiServer, cluster: Cluster, place: str) -> None:
    path = CONFIG if place == "config" else f"{server.jobs()}/nightly"
    server.put(path, spec={"schedule": "1 1 * * *"})
    before = dict(server.objects)
    for action in (lambda: put(cluster), lambda: remove(cluster, "nightly", NAMESPACE)):
        with pytest.raises(InputError, match="was not made by `styleforge schedule`"):
            action()
    assert list_schedules(cluster, NAMESPACE) == [] and server.objects == before and server.writes == []


def test_the_list_says_how_it_went(server: ApiServer, cluster: Cluster) -> None:
    put(cluster, name="b", time_zone="Asia/Tokyo")
    put(cluster, name="a")
    job(server, "b")["status"] = {"active": [{}], "lastScheduleTime": "2026-01-02T03:17:00Z", "lastSuccessfulTime": "2026-01-01T03:47:00Z"}
    job(server, "a")["spec"]["schedule"] = "@every 5h"
    first, second = list_schedules(cluster, NAMESPACE)
    assert (first.name, first.next) == ("a", ())
    assert (second.active, second.last, second.last_success) == (1, "2026-01-02T03:17:00Z", "2026-01-01T03:47:00Z")
    assert second.next[0].endswith("03:17:00+09:00")


def test_an_installation_that_was_cut_short(server: ApiServer, cluster: Cluster) -> None:
    put(cluster)
    del server.objects[f"{server.jobs()}/nightly"]
    assert put(cluster).status == "created" and put(cluster).status == "unchanged"
    del server.objects[f"{server.jobs()}/nightly"]
    assert remove(cluster, "nightly", NAMESPACE) == ["ConfigMap nightly-config"]


def test_a_server_without_v1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with api_server("v1beta1", zones=False) as server:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", server.url)))
        cluster = connect(Access())
        assert put(cluster).api_version == "batch/v1beta1" and put(cluster, time_zone="UTC").status == "unchanged"
        with pytest.raises(InputError, match=r"do not support time zones; Kubernetes 1\.25 does"):
            put(cluster, time_zone="Europe/Berlin")
        assert "timeZone" not in job(server)["spec"] and list_schedules(cluster, NAMESPACE)[0].time_zone == "Etc/UTC"
        assert len(remove(cluster, "nightly", NAMESPACE)) == 2


def test_a_server_with_v1_and_without_time_zones(server: ApiServer, cluster: Cluster) -> None:
    server.zones = False
    assert put(cluster).status == "created" and put(cluster).status == "unchanged"
    with pytest.raises(InputError, match="do not support time zones"):
        put(cluster, name="new", time_zone="Europe/Berlin")
    assert f"{CORE}/configmaps/new-config" not in server.objects


def test_what_is_missing_is_named(server: ApiServer, cluster: Cluster) -> None:
    for path in (f"{CORE}/secrets/styleforge-runs", f"{CORE}/persistentvolumeclaims/retrain-home"):
        del server.objects[path]
    server.refuse["GET", f"{CORE}/configmaps/runs"] = (403, "forbidden")
    assert put(cluster).missing == ("Secret styleforge-runs", "PersistentVolumeClaim retrain-home")
    assert "PartialObjectMetadata" in server.accepts[f"{CORE}/secrets/styleforge-runs"]


def test_what_the_dry_run_refuses_is_not_written(server: ApiServer, cluster: Cluster) -> None:
    server.refuse["POST", server.jobs()] = (422, "spec.schedule: Invalid value")
    with pytest.raises(InputError, match=r"spec\.schedule: Invalid value"):
        put(cluster)
    server.refuse["POST", server.jobs()] = (503, "not ready")
    with pytest.raises(ClusterUnreachable, match="not ready"):
        put(cluster)
    assert server.writes == [] and CONFIG not in server.objects


def test_somebody_is_faster_once_or_always(server: ApiServer, cluster: Cluster) -> None:
    put(cluster)
    server.conflicts = 1
    assert put(cluster, cron="@daily").status == "changed" and job(server)["spec"]["schedule"] == "@daily"
    server.conflicts = 1000
    with pytest.raises(InputError, match="keeps being changed"):
        put(cluster, cron="@weekly")
    assert job(server)["spec"]["schedule"] == "@daily"
