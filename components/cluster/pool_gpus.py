"""How much memory a pod's GPU will have, as far as the nodes' labels tell."""

from collections.abc import Sequence

from components.cluster.client import Manifest
from components.cluster.nodes import misfits, requests_of
from components.cluster.target import GPU, PodPlan
from components.core.errors import InputError
from components.core.gpus import GpuMemory, gpu_memory

_MEBIBYTES = ("nvidia.com/gpu.memory", "karpenter.k8s.aws/instance-gpu-memory")
"""Labels of NVIDIA's feature discovery and of Karpenter that hold a GPU's memory in MiB."""
_NAMES = (
    "nvidia.com/gpu.product", "cloud.google.com/gke-accelerator", "karpenter.k8s.aws/instance-gpu-name", "k8s.amazonaws.com/accelerator",
)  # fmt: skip


def smallest_gpu(plan: PodPlan, nodes: Sequence[Manifest]) -> GpuMemory | None:
    """The smallest GPU among the nodes that a pod fits, since it may land on any of them.

    None if the pod requests no GPU, there is no such node yet, or the labels of one of them do not tell.
    """
    if requests_of(plan.spec).get(GPU, 0) <= 0:
        return None
    found = [gpu_of(node) for node in nodes if not misfits(plan.spec, node)]
    known = [gpu for gpu in found if gpu is not None]
    return min(known, key=lambda gpu: gpu.size) if known and len(known) == len(found) else None


def gpu_of(node: Manifest) -> GpuMemory | None:
    """A node's GPU by its labels; None if they do not tell."""
    labels = (node.get("metadata") or {}).get("labels") or {}
    name = next((str(labels[label]) for label in _NAMES if label in labels), "")
    for label in _MEBIBYTES:
        if str(labels.get(label, "")).isdigit():
            gpu = gpu_memory(f"{labels[label]}MiB")
            return GpuMemory(name or gpu.name, gpu.size)
    try:
        return gpu_memory(name)
    except InputError:
        return None
