import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from components.core.config import SamplingSection
from components.core.content import derive_seed, digest_folder
from components.core.errors import InputError, StyleForgeError
from components.core.paths import read_jsonl
from components.diffusion.models.bundle import Bundle, load_bundle
from components.diffusion.objectives.schedulers import DISCRETE, make_scheduler
from components.diffusion.sampling import sampler as sampling
from components.diffusion.sampling.guidance import Guidance
from components.diffusion.sampling.jobs import PromptRequest, jobs_for
from components.diffusion.sampling.sampler import TOLERANCE, denoise, draw_pictures, merge_shards, sample_bank, sample_class_pictures

REQUESTS = [
    PromptRequest(f"p{index}", "people", text, f"a photo of sks style, {text}") for index, text in enumerate(["a man", "a dog", "a house"])
]


def settings(**options: object) -> SamplingSection:
    return SamplingSection(**{"steps": 4, "repeats": 2, "batch_size": 4, "guidance": 4.0, **options})  # type: ignore[arg-type]


def pixels(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)).astype(int) for path in sorted((folder / "images").glob("*.png"))}


def close(first: Path, second: Path) -> bool:
    left, right = pixels(first), pixels(second)
    return left.keys() == right.keys() and all(np.abs(left[name] - right[name]).max() <= TOLERANCE for name in left)


def test_pictures_rows_and_metadata(bundle: Bundle, tmp_path: Path) -> None:
    out = sample_bank(bundle, REQUESTS[::-1], settings(), 5, tmp_path / "out")
    rows = read_jsonl(out / "metadata.jsonl")
    assert [row["file_name"] for row in rows] == [f"images/p{index}-r{repeat}.png" for index in range(3) for repeat in range(2)]
    assert set(rows[0]) == {"file_name", "prompt_id", "category", "prompt", "full_prompt", "seed", "repeat"}
    assert rows[3]["seed"] == derive_seed(5, "sample", "p1", 1)
    with Image.open(out / rows[0]["file_name"]) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (32, 32))
        about = json.loads(picture.info["styleforge"])
    assert about["full_prompt"] == "a photo of sks style, a man"
    assert (about["seed"], about["scheduler"], about["steps"], about["guidance"]) == (rows[0]["seed"], "dpm++", 4, 4.0)
    assert about["model"] == bundle.digest
    drawn = list(pixels(out).values())
    assert all((first != second).any() for index, first in enumerate(drawn) for second in drawn[:index])


@pytest.mark.parametrize("scheduler", list(DISCRETE))
def test_a_picture_is_the_same_whatever_the_batch(bundle: Bundle, tmp_path: Path, scheduler: str) -> None:
    # Ancestral samplers draw noise at every step: from each picture's own stream, or the batch would show.
    alone = sample_bank(bundle, REQUESTS, settings(scheduler=scheduler, batch_size=1), 0, tmp_path / "alone")
    together = sample_bank(bundle, REQUESTS, settings(scheduler=scheduler, batch_size=4), 0, tmp_path / "together")
    assert close(alone, together)


def test_shards_together_are_the_whole(bundle: Bundle, tmp_path: Path) -> None:
    whole = sample_bank(bundle, REQUESTS, settings(batch_size=2), 0, tmp_path / "whole")
    shards = [sample_bank(bundle, REQUESTS, settings(batch_size=2), 0, tmp_path / f"shard{index}", (index, 4)) for index in range(4)]
    # More shards than batches: the last has nothing to do.
    assert [len(pixels(shard)) for shard in shards] == [2, 2, 2, 0]
    merged = merge_shards(shards[::-1], tmp_path / "merged")
    # Not only close: a batch is never divided.
    assert digest_folder(whole) == digest_folder(merged)
    assert (merged / "metadata.jsonl").read_text() == (whole / "metadata.jsonl").read_text()
    with pytest.raises(InputError, match="shard0"):
        merge_shards([shards[0], shards[0]], tmp_path / "twice")
    with pytest.raises(InputError, match="shard"):
        sample_bank(bundle, REQUESTS, settings(), 0, tmp_path / "x", (4, 4))


def test_only_what_is_missing_or_half_written_is_drawn_again(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denoise = Mock(wraps=sampling.denoise)
    monkeypatch.setattr(sampling, "denoise", denoise)
    out = tmp_path / "out"

    def drawn(**options: object) -> list[str]:
        denoise.reset_mock()
        sample_bank(bundle, REQUESTS, settings(**options), 0, out)
        return sorted(job.file_name for call in denoise.call_args_list for job in call.args[1])

    assert len(drawn()) == 6
    before = digest_folder(out)
    assert drawn() == []
    (out / "images" / "p0-r1.png").unlink()
    half = out / "images" / "p2-r0.png"
    half.write_bytes(half.read_bytes()[:-40])
    (out / "images" / "p1-r0.png").write_bytes(b"")
    Image.new("RGB", (32, 32)).save(out / "images" / "p1-r1.png")
    (out / "images" / ".p1-r0.123.tmp.png").write_bytes(b"left by a killed process")
    assert drawn(batch_size=2) == ["p0-r1.png", "p1-r0.png", "p1-r1.png", "p2-r0.png"]
    assert sorted(pixels(out)) == sorted(f"p{index}-r{repeat}.png" for index in range(3) for repeat in range(2))
    assert len(drawn(guidance=2.0)) == len(drawn()) == 6
    assert digest_folder(out) == before


def test_guidance_of_one_is_the_prompt_alone(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = Mock(wraps=bundle.family.predict)
    monkeypatch.setattr(bundle.family, "predict", predict)
    for guidance, size in ((1.0, 3), (3.0, 6)):
        predict.reset_mock()
        list(draw_pictures(bundle, REQUESTS, settings(guidance=guidance), 0))
        assert {len(call.args[0]) for call in predict.call_args_list} == {size}


@pytest.mark.parametrize(
    ("base", "scheduler", "negative", "guidance"),
    [
        ("tiny_base", "ddim", "", 1.0), ("tiny_base", "ddim", "a photo of style", 4.0), ("tiny_xl_base", "euler", "", 1.0),
        ("tiny_xl_base", "euler", "", 4.0),
    ],
)  # fmt: skip
def test_it_draws_what_the_diffusers_pipeline_draws(
    request: pytest.FixtureRequest, base: str, scheduler: str, negative: str, guidance: float
) -> None:
    from diffusers import DiffusionPipeline

    folder: Path = request.getfixturevalue(base)
    model, pipeline = load_bundle(folder, device="cpu"), DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = make_scheduler(scheduler, model.family.scheduler_config)
    job = jobs_for(REQUESTS[:1], 1, 0)[0]
    asked = {"negative_prompt": negative or None, "num_inference_steps": 4, "guidance_scale": guidance, "height": 32, "width": 32}

    def theirs(output: str) -> Any:
        noise = torch.Generator().manual_seed(job.seed)
        return pipeline(job.request.full_prompt, generator=noise, output_type=output, **asked).images

    drawing = settings(scheduler=scheduler, negative_prompt=negative, guidance=guidance)
    with torch.inference_mode():
        latents = denoise(model, [job], drawing, Guidance(model, drawing))
    torch.testing.assert_close(latents, theirs("latent"), atol=1e-4, rtol=1e-4)
    [(_, ours)] = draw_pictures(model, REQUESTS[:1], drawing, 0)
    assert np.abs(np.asarray(theirs("pil")[0]).astype(int) - np.asarray(ours).astype(int)).max() <= TOLERANCE


def test_a_start_gives_the_latents_and_the_first_step(bundle: Bundle) -> None:
    passed: list[torch.Tensor] = []
    drawn = settings(scheduler="ddim", repeats=1)

    def start(jobs: object, noise: torch.Tensor, scheduler: Any, prompts: object) -> tuple[torch.Tensor, int]:
        step = scheduler.step
        scheduler.step = lambda prediction, timestep, latents, **options: (
            passed.append(latents),
            step(prediction, timestep, latents, **options),
        )[1]
        return noise, 0

    [(_, whole)] = sampling.draw_batches(bundle, jobs_for(REQUESTS, 1, 0), drawn, start=start)
    assert len(passed) == 4 and np.array_equal(whole, next(sampling.draw_batches(bundle, jobs_for(REQUESTS, 1, 0), drawn))[1])
    [(_, rest)] = sampling.draw_batches(bundle, jobs_for(REQUESTS, 1, 0), drawn, start=lambda *_: (passed[2], 2))
    assert np.array_equal(rest, whole)


@pytest.mark.parametrize("name", list(DISCRETE))
def test_samplers_share_the_bases_noise_and_clip_nothing(name: str) -> None:
    noise = {"beta_start": 0.001, "beta_end": 0.02, "beta_schedule": "linear", "prediction_type": "v_prediction"}
    config = make_scheduler(name, {**noise, "clip_sample": True, "thresholding": True, "timestep_spacing": "trailing"}).config
    assert noise.items() <= config.items() and config["timestep_spacing"] == "trailing"
    assert not config.get("clip_sample", False) and not config.get("thresholding", False)


def test_odd_ids_become_safe_file_names_and_equal_ones_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'p0'"):
        sample_bank(bundle, [*REQUESTS, REQUESTS[0]], settings(), 0, tmp_path / "out")
    odd = [PromptRequest(identity, "x", "a man", "a man") for identity in ("../up", "a/b", "ü", "-x", "a b")]
    out = sample_bank(bundle, odd, settings(repeats=1, steps=1), 0, tmp_path / "out")
    names = [row["file_name"] for row in read_jsonl(out / "metadata.jsonl")]
    assert len(set(names)) == 5
    assert all((out / name).resolve().parent == (out / "images").resolve() for name in names)


def test_class_pictures_are_cached_by_content_each_with_its_seed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sample_class_pictures(bundle, "a photo of style", 3, settings(), 0)
    rows = read_jsonl(first / "metadata.jsonl")
    assert len({row["seed"] for row in rows}) == 3
    assert {Path(row["file_name"]).suffix for row in rows} == {".png"}
    monkeypatch.setattr(sampling, "denoise", lambda *_: pytest.fail("drawn again"))
    assert sample_class_pictures(bundle, "a photo of style", 3, settings(), 0) == first
    # Away from itself a class prompt would lead nowhere.
    assert sample_class_pictures(bundle, "a photo of style", 3, settings(negative_prompt="a photo of style"), 0) == first
    monkeypatch.undo()


def test_a_broken_model_names_the_prompt(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle.family, "decode_latents", lambda latents: torch.full((len(latents), 3, 32, 32), float("nan")))
    with pytest.raises(StyleForgeError, match="produces NaN for the prompt 'a photo of sks style, a man'"):
        sample_bank(bundle, REQUESTS, settings(), 0, tmp_path / "out")


def test_a_model_that_has_drawn_saves_to_the_same_bits(tiny_base: Path, tmp_path: Path) -> None:
    drawn = load_bundle(tiny_base, device="cpu")
    untouched = digest_folder(drawn.save(tmp_path / "before"))
    list(draw_pictures(drawn, REQUESTS, SamplingSection(steps=1), seed=0))
    assert digest_folder(drawn.save(tmp_path / "after")) == untouched
