"""The known faults of the public training scripts, numbered as in the design: each is done here as they do it, and shown to differ.

Fault 4 (weight decay on frozen embedding rows), 6 (half-precision trainables) and 10 (resuming methods that put parameters in)
are in ``test_trainables.py``.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from components.core.config import SamplingSection
from components.core.images import load_rgb
from components.core.paths import read_jsonl
from components.diffusion.models.bundle import load_bundle
from components.diffusion.sampling.sampler import PromptRequest, jobs_for, sample_class_pictures
from components.diffusion.training import objective
from components.diffusion.training.samples import Mixer, Sample, stream

ALPHAS = torch.tensor([0.99, 0.8, 0.5, 0.1])
TIMES = torch.tensor([0, 1, 2, 3])
GAMMA = 5.0


def test_1_weights_are_per_sample() -> None:
    losses, prior = torch.tensor([1.0, 2.0, 3.0, 4.0]), 0.5
    ratio = objective.snr(ALPHAS, TIMES)
    by_sample = [min(value, GAMMA) / value for value in ratio.tolist()]
    by_hand = (1 * by_sample[0] + 2 * by_sample[1]) / 2 + prior * (3 * by_sample[2] + 4 * by_sample[3]) / 2
    weights = objective.sample_weights(torch.tensor([0.5, 0.5, prior / 2, prior / 2]), ALPHAS, TIMES, "epsilon", GAMMA)
    assert (losses * weights).sum().item() == pytest.approx(by_hand, rel=1e-5)
    # As published: B StyleRef losses with a trailing axis against the weights of all 2 B samples, and the prior unweighted.
    spread = losses[:2].unsqueeze(1) * objective.min_snr_weights(ratio, GAMMA, "epsilon")
    faulty = spread.mean() + prior * losses[2:].mean()
    assert spread.shape == (2, 4)
    assert faulty.item() != pytest.approx(by_hand, rel=1e-2)


def test_2_velocity_has_a_weight_of_its_own() -> None:
    ratio = objective.snr(ALPHAS, TIMES)
    ours = objective.min_snr_weights(ratio, GAMMA, "v_prediction")
    torch.testing.assert_close(ours, ratio.clamp(max=GAMMA) / (ratio + 1))
    assert not torch.allclose(ours, ratio.clamp(max=GAMMA) / ratio)


def test_3_what_is_cached_belongs_to_the_picture() -> None:
    samples = [Sample(f"id{index}", Path(f"{index}.png"), f"caption {index}", 1.0) for index in range(5)]
    mixer = Mixer(samples, [], batch_size=1, aux_batch_size=1, flip=0.0, crops=1, dropout=0.0, seed=0)
    by_id = {sample.id: sample.prompt for sample in samples}
    seen = [mixer.batch(step) for step in range(15)]
    assert all(by_id[batch.samples[0].id] == batch.prompts[0] for batch in seen)
    # As published: latents kept by their place in the first pass, met again in later passes that are shuffled anew.
    by_step = [batch.samples[0].id for batch in seen[:5]]
    assert any(by_id[by_step[step % 5]] != seen[step].prompts[0] for step in range(5, 15))


def test_5_each_process_has_noise_of_its_own() -> None:
    samples = [Sample(f"id{index}", Path("x"), "p", 1.0) for index in range(8)]

    def rows(rank: int, world: int, size: int) -> list[int]:
        mixer = Mixer(
            samples, samples, batch_size=2 * size, aux_batch_size=size, flip=0.5, crops=3, dropout=0.1, seed=5, rank=rank, world=world
        )
        return mixer.rows

    def noise(rank: int, number: int = 3, purpose: str = "noise") -> torch.Tensor:
        return torch.randn(6, generator=stream(0, purpose, number))[rows(rank, 2, 1)]

    assert not set(noise(0).tolist()) & set(noise(1).tolist())
    assert not torch.equal(noise(0), noise(0, number=4))
    assert not torch.equal(noise(0), noise(0, purpose="latent"))
    # Together they have the noise of one process: first StyleRef's of both, then Aux'.
    together = torch.cat([noise(0)[:2], noise(1)[:2], noise(0)[2:], noise(1)[2:]])
    assert torch.equal(together, torch.randn(6, generator=stream(0, "noise", 3))[rows(0, 1, 2)])
    # As published: the same seed in each of them.
    same = [torch.randn(8, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    assert torch.equal(*same)


def test_7_latents_are_scaled_as_the_vae_says(tiny_base: Path) -> None:
    family = load_bundle(tiny_base, device="cpu").family
    moments = torch.ones((1, 8, 2, 2))
    latents = family.sample_latents(moments, None)
    torch.testing.assert_close(latents, torch.full_like(latents, family.vae.config.scaling_factor))
    assert family.vae.config.scaling_factor != 0.18215


def test_9_a_listing_has_one_order_and_a_picture_its_own_shape(tmp_path: Path) -> None:
    from components.styledata.source import walk

    for name in ("b.png", "a10.png", "a2.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert list(walk(tmp_path)) == sorted(walk(tmp_path))
    wide = tmp_path / "wide.jpg"
    picture = Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(wide, exif=exif)
    assert load_rgb(wide).size == (20, 40)
    assert Image.open(wide).size == (40, 20)


def test_10_the_order_goes_on_where_it_was() -> None:
    samples = [Sample(f"id{index}", Path("x"), "p", 1.0) for index in range(7)]

    def mixer() -> Mixer:
        return Mixer(samples, [], batch_size=2, aux_batch_size=1, flip=0.5, crops=3, dropout=0.1, seed=5)

    whole = [mixer().batch(step).samples for step in range(8)]
    resumed = mixer()
    assert [resumed.batch(step).samples for step in range(4, 8)] == whole[4:]
    # As published: a restarted loader begins its first pass again.
    assert whole[:4] != whole[4:]


def test_11_class_pictures_are_lossless_and_differ(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    bundle = load_bundle(tiny_base, device="cpu")
    folder = sample_class_pictures(bundle, "a photo of style", 3, SamplingSection(steps=2), 0)
    rows = read_jsonl(folder / "metadata.jsonl")
    pictures = [np.asarray(Image.open(folder / row["file_name"])) for row in rows]
    assert {Image.open(folder / row["file_name"]).format for row in rows} == {"PNG"}
    assert not any(np.array_equal(pictures[0], other) for other in pictures[1:])
    # As published: JPEG, whose losses the model would learn as part of the class.
    buffer = io.BytesIO()
    Image.fromarray(pictures[0]).save(buffer, "JPEG")
    assert not np.array_equal(np.asarray(Image.open(buffer)), pictures[0])
    seeds = [job.seed for job in jobs_for([PromptRequest("class", "class", "p", "p")], 50, 0)]
    assert len(set(seeds)) == 50


def test_8_prompts_that_are_cut_are_named(tiny_base: Path, caplog: pytest.LogCaptureFixture) -> None:
    family = load_bundle(tiny_base, device="cpu").family
    long = "a " * 40 + "dog"
    family.tokenize([long])
    assert any(repr(long) in record.getMessage() for record in caplog.records)
    # As published: the tokenizer alone cuts without a word.
    caplog.clear()
    family.tokenizer([long], truncation=True, max_length=32)
    assert not any(repr(long) in record.getMessage() for record in caplog.records)
