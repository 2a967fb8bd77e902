from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.cluster.nodes import matches, misfits, parse_pool, requests_of, tolerated
from components.core.errors import InputError
from tests.components.cluster.kube import Json, node, pod

GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
names = st.sampled_from(["a", "b", "pool", "zone", "nvidia.com/gpu"])
values = st.sampled_from(["", "1", "2", "10", "x", "gpu"])
labels = st.dictionaries(names, values)


@pytest.mark.parametrize(
    ("operator", "given_values", "matching", "others"),
    [
        ("In", ["a", "b"], ["a", "b"], ["c", None]), ("NotIn", ["a"], ["b", None], ["a"]), ("Exists", [], ["", "a"], [None]),
        ("DoesNotExist", [], [None], ["a"]), ("Gt", ["4"], ["5", "10"], ["4", "x", None]), ("Lt", ["4"], ["3"], ["4", "10", None]),
        ("Lt", [], [], ["3"]), ("Like", ["a"], [], ["a"]),
    ],
)  # fmt: skip
def test_operators(operator: str, given_values: list[str], matching: list[str | None], others: list[str | None]) -> None:
    expression = {"key": "k", "operator": operator, "values": given_values}
    for label in [*matching, *others]:
        assert matches(expression, {} if label is None else {"k": label}) is (label in matching), label


@pytest.mark.parametrize(
    ("toleration", "wanted"),
    [
        ({"key": "nvidia.com/gpu", "operator": "Exists"}, True), ({"key": "nvidia.com/gpu", "value": "present"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}, True), ({"operator": "Exists"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}, False), ({"key": "nvidia.com/gpu"}, False),
        ({"key": "nvidia.com/gpu", "operator": "Equal", "value": "absent"}, False), ({"value": "present"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)  # fmt: skip
def test_tolerations(toleration: Json, wanted: bool) -> None:
    assert tolerated(GPU_TAINT, [toleration]) is wanted


@given(labels, labels)
def test_selector_fits_exactly_the_nodes_that_have_all_of_it(selector: dict[str, str], found: dict[str, str]) -> None:
    fits = misfits(pod(nodeSelector=selector), node(labels=found)) == []
    assert fits == (selector.items() <= found.items())


# The first quantity imports the kubernetes client.
@settings(deadline=None)
@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from(["Mi", "Gi"]))
def test_size_is_compared_as_a_number(wanted: int, there: int, unit: str) -> None:
    fits = misfits(pod(requests={"memory": f"{wanted}Gi"}), node(memory=f"{there}{unit}")) == []
    assert fits == (wanted * 1024 <= there * (1024 if unit == "Gi" else 1))


def test_affinity_is_any_term_with_all_expressions() -> None:
    terms = [
        {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["gpu"]}, {"key": "zone", "operator": "Exists"}]},
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["this"]}]},
    ]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    spec = pod(affinity=affinity)
    assert misfits(spec, node(labels={"pool": "gpu", "zone": "z"})) == []
    assert misfits(spec, node("this")) == []
    assert misfits(spec, node(labels={"pool": "gpu"})) == ["does not match the node affinity"]
    terms[:] = [{}]
    assert misfits(spec, node("this")) == ["does not match the node affinity"]
    preferred = [{"weight": 1, "preference": {"matchExpressions": [{"key": "pool", "operator": "Exists"}]}}]
    assert misfits(pod(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}), node()) == []


def test_reasons_are_named() -> None:
    gpu = node("g", labels={"pool": "gpu"}, taints=[GPU_TAINT, {"key": "spot", "effect": "PreferNoSchedule"}], gpu="1")
    asking = pod(limits={"nvidia.com/gpu": "2"}, requests={"cpu": "500m"}, nodeSelector={"pool": "cpu"})
    assert misfits(asking, gpu) == [
        "has no label pool=cpu",
        "has the taint nvidia.com/gpu=present:NoSchedule, which is not tolerated",
        "has 1 nvidia.com/gpu, but 2 is requested",
    ]
    assert misfits(pod(limits={"nvidia.com/gpu": "1"}), node()) == ["has no nvidia.com/gpu"]
    assert misfits(pod(requests={"memory": "32Gi"}), node()) == ["has 16 GiB memory, but 32 GiB is requested"]


def test_cordoned_and_unready_nodes_take_no_pods() -> None:
    assert misfits(pod(), node(unschedulable=True)) == ["has the taint node.kubernetes.io/unschedulable:NoSchedule, which is not tolerated"]
    broken = node()
    broken["status"]["conditions"][0]["status"] = "Unknown"
    assert misfits(pod(), broken) == ["is not ready"]


def test_requests_of_a_pod() -> None:
    spec = pod(requests={"cpu": "250m"}, limits={"cpu": "1", "memory": "1Gi"})
    spec["containers"].append({"resources": {"requests": {"cpu": "1"}}})
    spec["initContainers"] = [{"resources": {"requests": {"cpu": "500m", "memory": "2Gi"}}}]
    # A limit stands for a missing request, and the init container needs more memory than all of the others.
    assert requests_of(spec) == {"cpu": Decimal("1.25"), "memory": Decimal(2 * 2**30)}


def test_pool_becomes_the_node_that_would_come() -> None:
    made = parse_pool(
        "{name: gpu, labels: {pool: gpu}, taints: ['nvidia.com/gpu=present:NoSchedule'], allocatable: {cpu: 8, nvidia.com/gpu: 1}}"
    )
    assert made["spec"]["taints"] == [GPU_TAINT]
    asking = pod(limits={"nvidia.com/gpu": "1"}, nodeSelector={"pool": "gpu"})
    assert misfits(asking, made) == ["has the taint nvidia.com/gpu=present:NoSchedule, which is not tolerated"]
    assert misfits({**asking, "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}, made) == []


@pytest.mark.parametrize(
    "text",
    [
        "[unclosed", "gpu", "{labels: {a: b}}", "{allocatable: {cpu: many}}", "{allocatable: {cpu: 1}, taint: [a]}",
        "{allocatable: {cpu: 1}, taints: [a=b]}", "{allocatable: {cpu: 1}, taints: ['a:Never']}", "{allocatable: {cpu: 1}, labels: [a]}",
    ],
)  # fmt: skip
def test_pool_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--assume-pool"):
        parse_pool(text)
