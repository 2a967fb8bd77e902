import pytest

from components.core.errors import InputError
from components.core.gpus import GIB, VARIABLE, gigabytes, gpu_memory, usual_gpu


@pytest.mark.parametrize(
    ("text", "gigabytes"),
    [
        ("24GB", 24), ("24 GiB", 24), ("12g", 12), ("24564MiB", 24564 / 1024), ("RTX 4090", 24), ("rtx4090", 24),
        ("NVIDIA GeForce RTX 3060", 12), ("NVIDIA-L4", 24), ("nvidia-tesla-t4", 16), ("Tesla-V100-SXM2-32GB", 32),
        ("NVIDIA-A100-SXM4-80GB", 80), ("nvidia-h100-80gb", 80), ("NVIDIA A10G", 24), ("L40S", 48), ("RTX 6000 Ada Generation", 48),
        ("GeForce RTX 4070 Ti SUPER", 16), ("NVIDIA H200, 143771 MiB", 140.4),
    ],
)  # fmt: skip
def test_a_gpu_by_memory_or_name(text: str, gigabytes: float) -> None:
    assert gpu_memory(text).size / GIB == pytest.approx(gigabytes, rel=1e-3)


@pytest.mark.parametrize("text", ["", "RTX", "a potato", "0GB", "-4", "24 gigantic bytes"])
def test_what_is_no_gpu_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="such as 24GB"):
        gpu_memory(text)


def test_the_variable_goes_before_this_machines_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    from components.core.devices import Gpu

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("STYLEFORGE_DEVICE", raising=False)
    monkeypatch.setattr("components.core.gpus.nvidia_gpus", lambda: [Gpu("NVIDIA A100, 40960 MiB", "1"), Gpu("NVIDIA T4, 15360 MiB", "1")])
    found = usual_gpu()
    assert found is not None and found.size == 15 * GIB
    monkeypatch.setenv(VARIABLE, "L4")
    assert (found := usual_gpu()) is not None and found.size == 24 * GIB
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("STYLEFORGE_DEVICE", "cpu")
    assert usual_gpu() is None


def test_bytes_for_people() -> None:
    assert (gigabytes(1.5 * GIB), gigabytes(300 * 2**20)) == ("1.5 GB", "300 MB")
