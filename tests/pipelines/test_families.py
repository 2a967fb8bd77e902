"""Every family with every method through the whole pipeline: a tiny base of each is trained, drawn, scored and registered."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.diffusion.models.layouts import (
    FLUX,
    FLUX_2_KLEIN,
    LUMINA_2,
    STABLE_DIFFUSION,
    STABLE_DIFFUSION_3,
    STABLE_DIFFUSION_XL,
    Z_IMAGE,
    Layout,
)  # fmt: skip
from components.diffusion.training.method_table import METHODS
from tests.fixtures_models import tiny_sd_folder, tiny_sdxl_folder
from tests.fixtures_original import write_flow
from tests.pipelines.test_end_to_end import Machine
from tests.tiny_bases import tiny_flux2_folder, tiny_flux_folder, tiny_lumina2_folder, tiny_sd3_folder, tiny_z_image_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
FAMILIES: dict[str, tuple[Layout, Callable[[Path], Path]]] = {
    "sd": (STABLE_DIFFUSION, tiny_sd_folder),
    "xl": (STABLE_DIFFUSION_XL, tiny_sdxl_folder),
    "sd3": (STABLE_DIFFUSION_3, tiny_sd3_folder),
    "flux": (FLUX, tiny_flux_folder),
    "flux2-klein": (FLUX_2_KLEIN, tiny_flux2_folder),
    "z-image": (Z_IMAGE, tiny_z_image_folder),
    "lumina2": (LUMINA_2, tiny_lumina2_folder),
}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    for name, (_, make) in FAMILIES.items():
        make(machine.folder / name)
    return machine


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_whole_pipeline(machine: Machine, name: str, method: str) -> None:
    options = {"base.model": name, "method.name": method, "style.name": f"{name}-{method}", "sampling.repeats": "1"}
    if METHODS[method].guidance and name == "flux":
        options["sampling.guidance_formula"] = "plain"  # It guides by itself.
    changes = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    if FAMILIES[name][0].lacks(METHODS[method].trains):
        message = machine.call("run", "config.yaml", *changes, code=2)["error"]["message"]
        assert method in message and FAMILIES[name][0].title in message
        return
    result = machine.call("run", "config.yaml", *changes)
    assert result["status"] == "completed" and set(result["scores"]) >= {"kid", "fid", "clip_t", "clip_i"}
    assert Path(result["report"]).is_file()
    drawn = machine.call("sample", f"{result['model']['name']}@challenger", "a man", "--out", f"{name}-{method}")["pictures"]
    assert all(Path(machine.folder, picture["path"]).is_file() for picture in drawn)


def test_the_whole_pipeline_from_one_file(machine: Machine) -> None:
    shutil.copytree(machine.folder / "z-image", machine.folder / "alone", ignore=shutil.ignore_patterns("diffusion_pytorch_model.*"))
    shutil.copytree(machine.folder / "z-image" / "vae", machine.folder / "alone" / "vae", dirs_exist_ok=True)
    write_flow(machine.folder / "z-image", machine.folder / "alone.safetensors", "z-image")
    settings = ("--set", "method.name=lora", "--set", "style.name=alone", "--set", "sampling.repeats=1", "--set")
    plans = [machine.call("plan", "config.yaml", *settings, f"base.model={base}") for base in ("alone.safetensors", "z-image")]
    assert plans[0] == plans[1]
    result = machine.call("run", "config.yaml", *settings, "base.model=alone.safetensors")
    assert result["status"] == "completed"
    again = machine.call("run", "config.yaml", *settings, "base.model=alone.safetensors")
    assert again["scores"] == result["scores"]
    model = f"{result['model']['name']}@challenger"
    assert machine.call("sample", model, "a man", "--out", "alone-drawn")["pictures"]
    machine.call("export", model, "--format", "diffusers", "--out", "alone-diffusers")
    assert (machine.folder / "alone-diffusers" / "transformer" / "config.json").is_file()
