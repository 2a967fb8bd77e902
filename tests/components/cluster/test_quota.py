"""Quotas and limit ranges: what admission would say."""

from __future__ import annotations

from typing import Any

import pytest

from components.cluster.quota import covers, out_of_range, over_quota, with_defaults
from tests.components.cluster.kube import Json, pod


def _quota(hard: Json, used: Json | None = None, **spec: Any) -> Json:
    return {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used or {}}}


def _range(**item: Any) -> Json:
    return {"spec": {"limits": [{"type": "Container", **item}]}}


def test_defaults_as_admission_fills_them_in() -> None:
    ranges = [_range(defaultRequest={"cpu": "500m", "memory": "1Gi"}, default={"cpu": "2", "memory": "4Gi"})]
    filled = with_defaults(pod(limits={"cpu": "1"}), ranges)["containers"][0]["resources"]
    # A limit of one's own is the request too, before the range's default request is looked at.
    assert filled == {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "4Gi"}}


@pytest.mark.parametrize(
    ("item", "spec", "wanted"),
    [
        ({"max": {"cpu": "4"}}, pod(limits={"cpu": "4"}), []),
        ({"max": {"cpu": "4"}}, pod(limits={"cpu": "5"}), ["the container takes 5 cpu, above the most, 4"]),
        ({"max": {"memory": "1Gi"}}, pod(), ["the container names no limit of memory, which must be at most 1Gi"]),
        ({"min": {"cpu": "100m"}}, pod(requests={"cpu": "50m"}), ["the container takes 0.05 cpu, below the least, 100m"]),
        ({"min": {"cpu": "100m"}}, pod(), ["the container names no request of cpu, which must be at least 100m"]),
        ({"maxLimitRequestRatio": {"cpu": "2"}}, pod(requests={"cpu": "1"}, limits={"cpu": "2"}), []),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            pod(requests={"cpu": "1"}, limits={"cpu": "3"}),
            ["the container's limit of cpu is more than 2 times its request"],
        ),
    ],
)
def test_limit_ranges(item: Json, spec: Json, wanted: list[str]) -> None:
    assert out_of_range(spec, [_range(**item)]) == wanted


def test_limit_range_of_a_whole_pod() -> None:
    spec = pod(limits={"cpu": "3"})
    spec["containers"].append(spec["containers"][0])
    assert out_of_range(spec, [{"spec": {"limits": [{"type": "Pod", "max": {"cpu": "4"}}]}}]) == ["the pod takes 6 cpu, above the most, 4"]


@pytest.mark.parametrize(
    ("hard", "used", "wanted"),
    [
        ({"pods": "1"}, {"pods": "0"}, []),
        ({"pods": "1"}, {"pods": "1"}, ["quota q has 0 of 1 pods left, and 1 is asked for"]),
        ({"count/jobs.batch": "2"}, {"count/jobs.batch": "2"}, ["quota q has 0 of 2 count/jobs.batch left, and 1 is asked for"]),
        ({"requests.cpu": "4"}, {"requests.cpu": "3500m"}, ["quota q has 0.5 of 4 requests.cpu left, and 1 is asked for"]),
        ({"memory": "4Gi"}, {"memory": "3Gi"}, ["quota q has 1 GiB of 4Gi memory left, and 2 GiB is asked for"]),
        (
            {"requests.nvidia.com/gpu": "1"},
            {"requests.nvidia.com/gpu": "1"},
            ["quota q has 0 of 1 requests.nvidia.com/gpu left, and 1 is asked for"],
        ),
        ({"limits.memory": "4Gi"}, {}, ["quota q counts limits.memory, and the pod names none"]),
        ({"persistentvolumeclaims": "0", "services.nodeports": "0"}, {}, []),
    ],
)
def test_quotas(hard: Json, used: Json, wanted: list[str]) -> None:
    spec = pod(requests={"cpu": "1", "memory": "2Gi"}, limits={"nvidia.com/gpu": "1"})
    assert over_quota(spec, [_quota(hard, used)]) == wanted


def _by_class(operator: str, *values: str) -> Json:
    return _quota(
        {"pods": "0"}, scopeSelector={"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}
    )


def test_quota_of_a_priority_class_counts_its_pods_only() -> None:
    gpu, cpu, none = pod(priorityClassName="gpu"), pod(priorityClassName="cpu"), pod()
    assert [covers(_by_class("In", "gpu"), spec) for spec in (gpu, cpu, none)] == [True, False, False]
    assert [covers(_by_class("NotIn", "gpu"), spec) for spec in (gpu, cpu, none)] == [False, True, True]
    assert [covers(_by_class("Exists"), spec) for spec in (gpu, cpu, none)] == [True, True, False]
    assert over_quota(cpu, [_by_class("In", "gpu")]) == []
    assert over_quota(gpu, [_by_class("In", "gpu")]) == ["quota q has 0 of 0 pods left, and 1 is asked for"]


@pytest.mark.parametrize(
    ("scope", "spec", "wanted"),
    [
        ("Terminating", pod(activeDeadlineSeconds=9), True),
        ("Terminating", pod(), False),
        ("NotTerminating", pod(), True),
        ("BestEffort", pod(), True),
        ("BestEffort", pod(requests={"cpu": "1"}), False),
        ("NotBestEffort", pod(limits={"memory": "1"}), True),
        ("CrossNamespacePodAffinity", pod(), False),
        ("Unheard", pod(), False),
    ],
)
def test_scopes(scope: str, spec: Json, wanted: bool) -> None:
    assert covers(_quota({"pods": "1"}, scopes=[scope]), spec) is wanted
