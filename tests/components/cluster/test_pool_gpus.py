from typing import Any

import pytest

from components.cluster.pool_gpus import gpu_of, smallest_gpu
from components.core.gpus import GIB
from tests.components.cluster.kube import node, plan

TRAINING = plan("fine_tune", limits={"nvidia.com/gpu": "1"}, nodeSelector={"pool": "gpu"})


@pytest.mark.parametrize(
    ("labels", "gigabytes"),
    [
        ({"nvidia.com/gpu.memory": "23034", "nvidia.com/gpu.product": "NVIDIA-A10G"}, 23034 / 1024),
        ({"nvidia.com/gpu.product": "Tesla-T4"}, 16), ({"cloud.google.com/gke-accelerator": "nvidia-l4"}, 24),
        ({"karpenter.k8s.aws/instance-gpu-name": "a10g", "karpenter.k8s.aws/instance-gpu-memory": "24576"}, 24),
        ({"k8s.amazonaws.com/accelerator": "nvidia-tesla-v100"}, 16), ({"nvidia.com/gpu.product": "Prototype-X"}, None), ({}, None),
    ],
)  # fmt: skip
def test_a_nodes_gpu_by_its_labels(labels: dict[str, str], gigabytes: float | None) -> None:
    gpu = gpu_of(node(labels=labels))
    assert (gpu and gpu.size) == (gigabytes and int(gigabytes * GIB))


def test_the_smallest_that_the_pod_may_get() -> None:
    def gpu(name: str, pool: str = "gpu", **options: Any) -> dict[str, Any]:
        return node(name, labels={"pool": pool, "nvidia.com/gpu.product": name}, gpu="1", **options)

    nodes = [gpu("A100-80GB"), gpu("L4"), gpu("T4", pool="other"), node("cpu", labels={"pool": "gpu"})]
    found = smallest_gpu(TRAINING, nodes)
    assert found is not None and found.name == "L4"
    assert smallest_gpu(TRAINING, [*nodes, gpu("Prototype-X")]) is None
    assert smallest_gpu(TRAINING, []) is None
    assert smallest_gpu(plan("fine_tune", nodeSelector={"pool": "gpu"}), nodes) is None
