import os
from pathlib import Path

import pytest
import torch

from components.core import devices
from components.core.devices import VARIABLE, Gpu, default_device, driver_too_old, nvidia_gpus
from components.core.errors import ConfigError
from orchestration import doctor

L4 = "NVIDIA L4, 23034 MiB"
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def _driver(folder: Path, monkeypatch: pytest.MonkeyPatch, *rows: str, code: int = 0) -> None:
    """A machine whose nvidia-smi prints these rows."""
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{row}'\n" for row in rows) + f"exit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@needs_no_gpu
@pytest.mark.parametrize("value", ["", " ", "cpu"])
def test_a_machine_without_accelerator_works_on_the_cpu(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    assert default_device() == default_device("cuda") == torch.device("cpu")


@needs_no_gpu
def test_a_device_that_is_asked_for_and_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "cuda")
    with pytest.raises(ConfigError, match=r"^STYLEFORGE_DEVICE=cuda: torch .* cannot use it here \(.+\)\. `styleforge doctor` shows"):
        default_device()


@pytest.mark.parametrize("value", ["gpu", "cuda:1", "meta"])
def test_a_word_that_is_no_device_is_an_error(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ConfigError, match=f"^STYLEFORGE_DEVICE={value}: not a kind of device; expected one of cpu, cuda, mps, xpu"):
        default_device()


def test_the_accelerator_counts_but_not_for_whoever_cannot_use_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_accelerator", lambda: torch.device("mps"))
    assert default_device() == torch.device("mps") == default_device("cuda", "mps")
    assert default_device("cuda") == torch.device("cpu")
    monkeypatch.setenv(VARIABLE, "cpu")
    assert default_device() == torch.device("cpu")


def test_an_accelerator_that_is_there_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process of several would take memory of the first GPU."""
    monkeypatch.setattr(devices, "_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch, "empty", lambda *_, **__: pytest.fail("touched"))
    monkeypatch.setenv(VARIABLE, "cuda")
    assert default_device() == torch.device("cuda")


def test_gpus_and_their_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _driver(tmp_path, monkeypatch, f"570.133.20, {L4}", f"570.133.20, {L4}")
    assert nvidia_gpus() == [Gpu(L4, "570.133.20")] * 2
    _driver(tmp_path, monkeypatch, "NVIDIA-SMI has failed", code=9)
    assert nvidia_gpus() == []


@pytest.mark.parametrize(
    ("driver", "cuda", "oldest"),
    [("570.133.20", "13.0", 580), ("580.65.06", "13.0", None), ("610.1", "13.2", None), ("524.9", "12.6", 525), ("535.1", "12.6", None),
     ("400", "14.0", None), ("N/A", "13.0", None)],
)  # fmt: skip
def test_drivers_that_are_too_old(driver: str, cuda: str, oldest: int | None) -> None:
    assert driver_too_old(Gpu("a", driver), cuda) == oldest


@pytest.mark.parametrize(
    ("wanted", "rows", "built_for", "ok", "needed", "said"),
    [
        ("", (), "13.0", True, True, "CPU, "),
        ("cpu", (f"570.1, {L4}",), "13.0", True, True, "CPU, "),
        ("", (f"580.65.06, {L4}",), "13.0", True, False, f"1 × {L4}"),
        ("", (f"570.1, {L4}",), "13.0", False, False, f"{L4}, but driver 570.1 is too old for torch's CUDA 13.0"),
        ("", (f"580.1, {L4}",), None, False, False, "torch is built without CUDA"),
        ("cuda", (f"570.1, {L4}",), "13.0", False, True, "driver 570.1 is too old"),
        ("cuda", (), "13.0", False, True, "no GPU answers nvidia-smi, but STYLEFORGE_DEVICE=cuda"),
        ("gpu", (), "13.0", False, True, "STYLEFORGE_DEVICE=gpu: not a kind of device"),
    ],
)  # fmt: skip
def test_the_doctor_says_what_keeps_torch_from_the_gpu(
    wanted: str, rows: tuple[str, ...], built_for: str | None, ok: bool, needed: bool, said: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    _driver(tmp_path, monkeypatch, *rows)
    monkeypatch.setenv(VARIABLE, wanted)
    monkeypatch.setattr(doctor, "cuda_of_torch", lambda: built_for)
    (check,) = [item for item in doctor.examine() if item.name == "device"]
    assert (check.ok, check.needed) == (ok, needed) and said in check.detail
    assert bool(check.remedy) is not ok


def test_attention_in_bf16_on_a_cpu_is_plain_products_and_the_setting_comes_back() -> None:
    allowed, enabled = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed, torch.backends.cuda.flash_sdp_enabled
    before = (allowed(), enabled())
    query = torch.randn((1, 2, 8, 16), generator=torch.Generator().manual_seed(0))
    exact = torch.nn.functional.scaled_dot_product_attention(query, query, query)
    with pytest.raises(ZeroDivisionError), devices.half_attention(torch.device("cpu")):
        assert (allowed(), enabled()) == (True, False)
        halves = query.bfloat16()
        found = torch.nn.functional.scaled_dot_product_attention(halves, halves, halves)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), exact, atol=0.03, rtol=0.03)
        raise ZeroDivisionError
    assert (allowed(), enabled()) == before
    with devices.half_attention(torch.device("cuda")):
        assert (allowed(), enabled()) == before
