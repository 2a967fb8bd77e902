"""The plan of memory beside what training and drawing allocate: by the allocator's record on the CPU, and, where there is one, on a GPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from components.core.config import RunConfig
from components.core.gpus import gpu_memory
from components.core.paths import embedded_weights
from components.diffusion.models.bundle import load_bundle
from components.diffusion.planning.memory import Planner, weights_on_gpu
from components.diffusion.planning.plan_cache import KeptPlans
from components.diffusion.planning.settings import MemorySettings, Storage, settings_of
from components.diffusion.training.loop import Trainer
from components.diffusion.training.methods import method_for
from components.diffusion.training.samples import read_training_set
from tests.components.diffusion.conftest import configure, write_folders
from tests.components.diffusion.planning.measured import measure
from tests.components.diffusion.planning.published import write_base
from tests.fixtures_models import tiny_clip_folder
from tests.tiny_bases import tiny_flux2_folder, tiny_flux_folder, tiny_lumina2_folder, tiny_sd3_folder, tiny_z_image_folder

TOLERANCE = 0.15
TINY = {
    "tiny_sd3": tiny_sd3_folder, "tiny_flux": tiny_flux_folder, "tiny_flux2": tiny_flux2_folder, "tiny_z_image": tiny_z_image_folder,
    "tiny_lumina2": tiny_lumina2_folder,
}  # fmt: skip
FAMILIES = ("pocket", "tiny_xl_base", *TINY)
CASES = [
    ("pocket", "single-styleforge", {"ema_decay": 0.9, "gradient_accumulation": 2}),
    ("pocket", "single-styleforge distilled", {}),
    ("tiny_xl_base", "lora", {"cache_text": False}),
    ("tiny_xl_base", "lora lokr", {"cache_text": False}),
    ("tiny_sd3", "dreambooth", {"gradient_checkpointing": True}),
    *((name, "lora", {}) for name in TINY if name != "tiny_sd3"),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            ("pocket", "lora", {"gradient_checkpointing": True}),
            ("pocket", "custom-diffusion", {"cache_latents": False}),
            ("pocket", "single-styleforge guided", {}),
            ("pocket", "lora dco", {}),
            ("tiny_xl_base", "single-styleforge", {"gradient_checkpointing": True, "optimizer": "adafactor"}),
            ("tiny_xl_base", "textual-inversion", {}),
            ("tiny_sd3", "lora", {}),
        )
    ),
]


@pytest.fixture
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base by name: the pocket base, a fixture's, or a tiny one of a family."""
    if request.param == "pocket":
        return embedded_weights("base")
    if request.param == "tiny_xl_base":
        return Path(request.getfixturevalue(request.param))
    return TINY[request.param](tmp_path_factory.mktemp(request.param) / "base")


LONG = " ".join(["a man with red hair in a wood"] * 70)
"""Plans assume the longest prompts: a language model sees no more tokens than a prompt has."""


def short(base: Path, sections: dict[str, Any]) -> RunConfig:
    method = {"instance_prompt": f"{{token}} {LONG}", "aux_prompt": LONG, **sections.get("method", {"name": "single-styleforge"})}
    training = {"steps": 4, "validate_every": 2, "checkpoint_every": 100, "flip": 0.5, **sections.get("training", {})}
    return configure(base, **{**sections, "method": method, "training": training, "sampling": {"batch_size": 4, "steps": 1}})


def settings_for(config: RunConfig, style: int, aux: int) -> MemorySettings:
    """The settings of a run on so many pictures, on the CPU: autocast and bf16 are for GPUs."""
    return replace(settings_of(config, style_refs=style, on_gpu=False), pictures=(style + aux) * 2, validated=style)


def test_a_method_that_trains_nothing_draws_alone(tiny_base: Path) -> None:
    plan = Planner(tiny_base).plan(settings_for(configure(tiny_base, method={"name": "stylealigned"}), 5, 0))
    assert [step.name for step in plan.steps] == ["sample"] and not any(part.trained for part in plan.parts.values())


@pytest.mark.parametrize(("base", "name", "training"), CASES, indirect=["base"], ids=lambda value: str(value) if value else "")
def test_the_plan_is_what_training_allocates(base: Path, name: str, training: dict[str, Any], tmp_path: Path) -> None:
    name, _, kind = name.partition(" ")
    settings: dict[str, Any] = {"distilled": {"prior": kind}, "guided": {"loss": kind}, "dco": {"loss": kind}}.get(kind, {})
    settings = settings or {"lora": {"kind": kind}}
    config = short(base, {"method": {"name": name, **(settings if kind else {})}, "training": training})
    aux = 4 if method_for(config.method).preserves != "none" else 0
    plan = Planner(base).plan(settings_for(config, 5, aux))
    measured = measure(config, write_folders(tmp_path / "run", aux=aux), tmp_path / "checkpoints")
    assert {step.name for step in plan.steps} - {"sample"} <= set(measured)
    for step in plan.steps[:-1]:
        assert step.total == pytest.approx(measured[step.name], rel=TOLERANCE), step
    assert max(step.total for step in plan.steps[:-1]) == pytest.approx(max(measured.values()), rel=TOLERANCE)


def test_a_training_that_looks_at_its_candidates_draws_and_scores_beside_its_optimizer(tiny_base: Path, tmp_path: Path) -> None:
    planner, looks = Planner(tiny_base, tiny_clip_folder(tmp_path / "clip")), {"candidates": 4, "patience": 1}
    plain = {step.name: step for step in planner.plan(settings_for(short(tiny_base, {}), 5, 4)).steps}
    steps = {step.name: step for step in planner.plan(settings_for(short(tiny_base, {"selection": looks}), 5, 4)).steps}
    assert steps.keys() - plain.keys() == {"draw candidates", "score candidates"}
    draws, scores, trains = steps["draw candidates"], steps["score candidates"], plain["train"]
    assert draws.optimizer == scores.optimizer == trains.optimizer and draws.activations == plain["sample"].activations
    assert scores.weights == trains.weights + plain["score"].weights and scores.activations == plain["score"].activations


@pytest.mark.parametrize("base", FAMILIES, indirect=True)
def test_the_plan_is_what_drawing_allocates(base: Path, tmp_path: Path) -> None:
    config = short(base, {})
    plan = Planner(base).plan(settings_for(config, 5, 4))
    assert plan.steps[-1].name == "sample"
    measured = measure(config, write_folders(tmp_path / "run"), tmp_path / "checkpoints", pictures=4)
    assert plan.steps[-1].total == pytest.approx(measured["sample"], rel=TOLERANCE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("half", ["no", "bf16"])
@pytest.mark.parametrize("name", ["single-styleforge", "lora"])
def test_the_plan_is_what_a_gpu_allocates(name: str, half: str, tmp_path: Path) -> None:
    base = embedded_weights("base")
    config = short(base, {"method": {"name": name}, "training": {"mixed_precision": half, "batch_size": 32}})
    method = method_for(config.method)
    folders = write_folders(tmp_path / "run", aux=4 if method.preserves != "none" else 0)
    torch.cuda.reset_peak_memory_stats()
    data = read_training_set(*folders.inputs, method, seed=config.seed)
    trainer = Trainer(config, method, data, load_bundle(base, device="cpu"), tmp_path / "checkpoints")
    trainer._encode_all()
    for step in (1, 2):
        trainer._step(step)
    plan = Planner(base).plan(settings_of(config, style_refs=5))
    measured = torch.cuda.max_memory_allocated()
    assert max(step.total for step in plan.steps if step.name != "sample") == pytest.approx(measured, rel=TOLERANCE)


def test_bytes_of_a_whole_training_are_sixteen_a_parameter_and_activations(tmp_path: Path) -> None:
    base = write_base("sd15", tmp_path)
    plan = Planner(base).plan(settings_of(configure(base, method={"name": "single-styleforge"})))
    (train,) = (step for step in plan.steps if step.name == "train")
    trained = sum(part.trained for part in plan.parts.values())
    assert trained == 859_520_964 + 123_060_480
    assert (train.gradients, train.optimizer) == (trained * 4, trained * 8)
    # The VAE is not there while steps are made.
    assert train.weights == pytest.approx(trained * 4, rel=1e-5)
    assert plan.peak is train


def test_frozen_weights_in_fewer_bits_and_in_the_host() -> None:
    def part() -> torch.nn.Module:
        with torch.device("meta"):
            blocks = torch.nn.ModuleList(torch.nn.Linear(64, 64, bias=False) for _ in range(10))
            return torch.nn.ModuleDict({"blocks": blocks, "norm": torch.nn.LayerNorm(64)}).requires_grad_(False)

    matrices, rest = 10 * 64 * 64, 2 * 64
    assert weights_on_gpu(part(), Storage(), set()) == (matrices + rest) * 4
    assert weights_on_gpu(part(), Storage(offloaded=0.3), set()) == (matrices * 0.7 + rest) * 4
    half = part().bfloat16()
    assert weights_on_gpu(half, Storage("bf16"), set()) == (matrices + rest) * 2
    assert weights_on_gpu(half, Storage("nf4", offloaded=0.5), set()) == matrices / 2 * 4.5 / 8 + rest * 2


def test_parts_that_come_and_go_take_their_own_memory_alone() -> None:
    config = configure(embedded_weights("base"), method={"name": "lora"}, training={"gradient_checkpointing": True})
    planner = Planner(embedded_weights("base"))
    resident, staged = (planner.plan(replace(settings_of(config), staged=staged)) for staged in (False, True))
    parts = {name: part.weights for name, part in staged.parts.items()}
    alone = {"cache latents": parts["vae"], "cache prompts": parts["text_encoder"], "train": parts["unet"]}
    assert alone.items() <= {step.name: step.weights for step in staged.steps}.items()
    assert {step.weights for step in resident.steps if step.name != "sample"} == {sum(parts.values())}


def flux(**base: Any) -> RunConfig:
    training = {"gradient_checkpointing": True, "mixed_precision": "bf16", "batch_size": 1}
    lora = {"name": "lora", "lora": {"rank": 16}}
    return configure(Path("flux-dev"), base={"model": "flux-dev", **base}, method=lora, training=training, sampling={"batch_size": 1})


@pytest.mark.slow
def test_flux_fits_24_gb_with_offload_and_12_with_four_bits(tmp_path: Path) -> None:
    planner = Planner(write_base("flux-dev", tmp_path))
    for gpu, base in (("24GB", {"precision": "bf16", "offload": 0.5}), ("12GB", {"precision": "nf4"})):
        card = gpu_memory(gpu)
        plan = planner.plan(settings_of(flux(**base), size=card.size))
        assert plan.peak.total <= card.usable, (gpu, plan.peak)
    whole = planner.plan(settings_of(flux(precision="bf16"), size=gpu_memory("24GB").size))
    assert whole.parts["transformer"].parameters > 11.9e9 and whole.peak.total > gpu_memory("24GB").usable


def test_a_plan_is_kept_and_made_anew_for_other_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = embedded_weights("base")
    settings = settings_of(configure(base))
    first = KeptPlans(base, None)(settings)
    made: list[MemorySettings] = []
    monkeypatch.setattr(Planner, "plan", lambda self, settings: made.append(settings) or first)
    again = KeptPlans(base, None)
    assert again(settings) == first and not made
    again(replace(settings, checkpointing=True))
    assert [each.checkpointing for each in made] == [True]


def test_guidance_by_more_prompts_takes_more_and_by_the_base_a_copy_of_it(tiny_base: Path) -> None:
    style, of_base = {"prompt": "a"}, {"prompt": "b", "weights": "base"}
    terms = [{"scale": 2, "away_from": "x", "toward": "prompt"}, {"scale": 2, "away_from": "negative", "toward": "x"}]
    planner = Planner(tiny_base)
    plain, three, copied = (
        next(step for step in planner.plan(settings_of(configure(tiny_base, sampling=sampling))).steps if step.name == "sample")
        for sampling in [{}, *({"guidance_formula": {"branches": {"x": branch}, "terms": terms}} for branch in (style, of_base))]
    )
    assert three.weights == plain.weights and three.activations > 1.2 * plain.activations
    assert copied.weights == 2 * plain.weights and copied.activations == plain.activations
