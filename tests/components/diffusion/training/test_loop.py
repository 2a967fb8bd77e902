import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.core.config import AS_SCORED, TrainingSection
from components.core.content import digest_folder
from components.core.errors import TrainingDiverged
from components.core.paths import read_jsonl
from components.diffusion.models.bundle import load_bundle
from components.diffusion.training import losses
from components.diffusion.training.loop import Trainer
from components.diffusion.training.methods import method_for
from components.diffusion.training.optimization import MovingAverage, precision_for, rate_factor
from components.diffusion.training.samples import read_training_set
from tests.components.diffusion.conftest import Folders, configure, cut_power, train, write_folders

FILES = ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")
RICH = {
    "ema_decay": 0.9, "min_snr_gamma": 5.0, "noise_offset": 0.1, "warmup_steps": 2, "schedule": "cosine", "crops": 2,
    "caption_dropout": 0.2, "gradient_accumulation": 2, "steps": 7,
}  # fmt: skip


def weights(model: Path) -> dict[str, torch.Tensor]:
    return {f"{file}:{key}": value for file in FILES for key, value in load_file(model / file).items()}


def same(first: Path, second: Path) -> bool:
    left, right = weights(first), weights(second)
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_a_style_model_is_a_whole_folder_with_its_history(folders: Folders, tiny_base: Path) -> None:
    config = configure(tiny_base, training={"validation_prompts": ["a photo of {token} style, a dog"]})
    seen: list[tuple[str, bool]] = []
    out = train(config, folders, on_checkpoint=lambda path: seen.append((path.name, (path / "state.json").is_file())))
    # Each checkpoint is handed on once it is whole.
    assert seen == [("step-00000002", True), ("step-00000004", True)]
    record = json.loads((out / "styleforge.json").read_text())
    assert (record["schema"], record["method"]) == (1, "single-styleforge")
    assert record["concepts"] == [{"token": "sks", "prompt": "a photo of sks style", "categories": None}]
    assert record["base"]["model"] == str(tiny_base)
    assert len(record["base"]["digest"]) == len(record["manifest_digest"]) == 64
    # What the configuration leaves open is the family's own, and is kept, so that the model is used as it was scored.
    left_open = {name: getattr(config.sampling, name) for name in AS_SCORED if name != "guidance_formula"}
    assert record["sampling"] == left_open | {"scheduler": "dpm++", "guidance": 7.5}
    # The module names its build (2.13.0+cu130), the package of some indexes does not.
    assert record["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    log = read_jsonl(out / "training" / "log.jsonl")
    assert [row["step"] for row in log] == list(range(1, 7))
    assert [row["step"] for row in log if "validation_loss" in row] == [3, 6]
    assert all(row["loss"] == pytest.approx(row["instance_loss"] + row["aux_loss"], rel=1e-5) for row in log)
    assert (out / "training" / "validation_00.png").is_file()
    before, after = weights(tiny_base), weights(out)
    for part in ("unet", "text_encoder"):
        assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith(part))
    assert {value.dtype for value in after.values()} == {torch.float32}
    vae = "vae/diffusion_pytorch_model.safetensors"
    assert all(torch.equal(value, load_file(tiny_base / vae)[key]) for key, value in load_file(out / vae).items())


def test_aux_draws_its_times_from_a_law_of_its_own(tiny_base: Path, folders: Folders) -> None:
    def times(**training: Any) -> tuple[torch.Tensor, torch.Tensor]:
        config = configure(tiny_base, training={"batch_size": 2, "aux_batch_size": 3, **training})
        method = method_for(config.method)
        data = read_training_set(*folders.inputs, method)
        trainer = Trainer(config, method, data, load_bundle(tiny_base, device="cpu"), folders.checkpoints)
        return torch.stack([trainer.denoising._draw_times(number, 256) for number in range(200)]).split((2, 3), dim=1)

    (style, aux), (same, noisier) = times(), times(aux_times={"law": "style-friendly", "mean": 4.0})
    assert torch.equal(style, same) and noisier.float().mean() > aux.float().mean() + 100


def test_interrupted_twice_equals_uninterrupted_bit_for_bit(tiny_base: Path, folders: Folders) -> None:
    config = configure(tiny_base, training=RICH)
    whole = train(config, folders, "whole")
    for step in (2, 4):
        cut_power(config, folders, "parts", step)
    parts = train(config, folders, "parts")
    assert json.loads((parts / "training" / "timing.json").read_text())["resumed_from"] == 4
    for model in (whole, parts):
        (model / "training" / "timing.json").unlink()
    assert digest_folder(whole) == digest_folder(parts)


def test_the_same_run_gives_the_same_model_and_leaves_the_global_stream_alone(tiny_base: Path, folders: Folders) -> None:
    config = configure(tiny_base, training={"steps": 2})
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = train(config, folders, "first")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert same(first, train(config, folders, "second"))
    assert not same(first, train(configure(tiny_base, seed=4, training={"steps": 2}), folders, "third"))
    saving = train(configure(tiny_base, training={"steps": 2, "gradient_checkpointing": True}), folders, "saving")
    for plain, value in zip(weights(first).values(), weights(saving).values(), strict=True):
        torch.testing.assert_close(value, plain, rtol=0, atol=1e-5)


def test_a_frozen_text_encoder_stays_bit_equal_and_caches_change_nothing(folders: Folders, tiny_base: Path) -> None:
    def run(name: str, seed: int = 3, **options: Any) -> Path:
        training = {"steps": 2, "crops": 2, "caption_dropout": 0.3, **options}
        method = {"train_text_encoder": False, "instance_prompt": "a photo of {token} style, {caption}"}
        return train(configure(tiny_base, seed=seed, method=method, training=training), folders, name)

    def losses(model: Path) -> list[float]:
        return [row[name] for row in read_jsonl(model / "training" / "log.jsonl") for name in ("instance_loss", "aux_loss")]

    cached = run("cached")
    before, after = weights(tiny_base), weights(cached)
    assert all(torch.equal(before[key], after[key]) for key in before if key.startswith("text_encoder"))
    wanted = losses(cached)
    assert losses(run("uncached", cache_latents=False, cache_text=False)) == pytest.approx(wanted, rel=0, abs=1e-5)
    # The bar tells: another seed is far beyond it in every loss.
    assert all(abs(other - own) > 1e-3 for other, own in zip(losses(run("other", seed=4)), wanted, strict=True))


@pytest.mark.parametrize(
    ("aux", "prior", "settings", "pictures"),
    [
        (0, 1.0, {}, 2 * 2),
        (4, 0.25, {"aux_batch_size": 3, "gradient_accumulation": 3}, 2 * 3 * 5),
    ],
)
def test_the_loss_is_styleref_and_the_weighted_aux(
    tiny_base: Path, tmp_path: Path, aux: int, prior: float, settings: dict[str, Any], pictures: int
) -> None:
    config = configure(tiny_base, method={"prior_weight": prior}, training={"steps": 2, **settings})
    out = train(config, write_folders(tmp_path / "run", aux=aux))
    rows = read_jsonl(out / "training" / "log.jsonl")
    assert len(rows) == 2 and all((row["aux_loss"] > 0) == (aux > 0) for row in rows)
    assert [row["loss"] for row in rows] == pytest.approx([row["instance_loss"] + prior * row["aux_loss"] for row in rows], rel=1e-5)
    assert json.loads((out / "training" / "timing.json").read_text())["images"] == pictures


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_divergence_names_the_step_the_rate_and_the_last_checkpoint(
    tiny_base: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    original = losses.per_sample_loss
    steps = itertools.count(1)

    def break_in_step_four(prediction: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return original(prediction, wanted) * (value if prediction.requires_grad and next(steps) == 4 else 1.0)

    monkeypatch.setattr(losses, "per_sample_loss", break_in_step_four)
    with pytest.raises(TrainingDiverged) as caught:
        train(configure(tiny_base), folders)
    assert all(part in str(caught.value) for part in ("training step 4", "0.001", "step-00000002"))
    assert [path.name for path in (folders.out.parent / "ck-model").iterdir()] == ["step-00000002"]
    assert not folders.out.exists()


def test_emulated_precision_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert [precision_for(asked, cpu) for asked in ("no", "bf16", "fp16")] == ["no", "no", "no"]
    assert [precision_for(asked, gpu) for asked in ("no", "bf16", "fp16")] == ["no", "bf16", "fp16"]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert precision_for("bf16", cpu) == "bf16"


def test_schedules_by_hand() -> None:
    def factors(**options: Any) -> list[float]:
        section = TrainingSection(**{"steps": 6, "warmup_steps": 2, **options})
        return [rate_factor(step, section) for step in range(1, 7)]

    assert factors() == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert factors(schedule="linear") == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25])
    assert factors(schedule="cosine") == pytest.approx([0.5, 1.0, *[0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4)]])
    assert factors(warmup_steps=0, schedule="linear")[0] == 1.0


def test_the_moving_average_by_hand_and_after_a_restart() -> None:
    parameter = torch.nn.Parameter(torch.tensor([0.0]))
    average = MovingAverage([parameter], 0.3)
    # Weights 1, 2, 3, ... with decays 0, 2/11, 3/12, and then 0.3 at most.
    for step, by_hand in enumerate((1.0, 20 / 11, 119 / 44, 3.6113636, 4.5834091), start=1):
        with torch.no_grad():
            parameter.fill_(float(step))
        average.update()
        assert average.tensors()["0"].item() == pytest.approx(by_hand)
        restarted = MovingAverage([parameter], 0.3)
        restarted.load({key: value.clone() for key, value in average.tensors().items()})
        average = restarted
    average.finish()
    assert parameter.item() == pytest.approx(4.5834091)
    assert MovingAverage([parameter], 0.0).tensors() == {}
