from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.core.content import digest_file
from components.core.errors import ConfigError, InputError
from components.core.images import load_rgb
from components.diffusion.models.bundle import load_bundle
from components.diffusion.models.sources import base_facts
from components.diffusion.sampling.jobs import jobs_for
from components.diffusion.sampling.requests import prompt_requests
from components.diffusion.sampling.sampler import describe, sample_bank
from components.diffusion.training.buckets import MAX_RATIO, bucket_for, bucket_sizes
from components.diffusion.training.denoising import Denoising
from components.diffusion.training.fit import check_fit
from components.diffusion.training.loop import Trainer
from components.diffusion.training.methods import method_for
from components.diffusion.training.pictures import cut, place
from components.diffusion.training.samples import Mixer, Sample, TrainingSet
from components.diffusion.training.variety import Variant, Variety
from tests.components.diffusion.conftest import Folders, configure, train
from tests.tiny_bases import tiny_flux2_folder, tiny_flux_folder, tiny_lumina2_folder, tiny_sd3_folder, tiny_z_image_folder


@given(side=st.integers(2, 24), step=st.sampled_from([8, 16, 64]))
def test_buckets_have_about_the_area_of_the_square(side: int, step: int) -> None:
    sizes = bucket_sizes(side * step, step)
    assert sizes[0] == (side * step, side * step) and len(sizes) == len(set(sizes))
    assert {(width, height) for height, width in sizes} == set(sizes)
    for height, width in sizes:
        assert height % step == width % step == 0 and max(height, width) <= MAX_RATIO * min(height, width)
        # One step more along either side would be too much.
        assert height * width <= (side * step) ** 2 < max((height + step) * width, height * (width + step))


def test_the_buckets_of_stable_diffusion() -> None:
    assert bucket_sizes(512, 64) == [(512, 512), (384, 640), (448, 576), (576, 448), (640, 384)]


@given(width=st.integers(64, 4000), height=st.integers(64, 4000))
def test_a_picture_is_never_stretched_and_loses_little(width: int, height: int) -> None:
    sizes = bucket_sizes(1024, 64)
    view = bucket_for((width, height), sizes)
    placed = place((width, height), view, Variant(), 0, "x")
    assert placed.width >= view[1] and placed.height >= view[0]
    assert abs(placed.width / placed.height / (width / height) - 1) < 2 / min(view)
    if max(width, height) <= MAX_RATIO * min(width, height):
        assert view[0] * view[1] >= 0.88 * placed.width * placed.height
    if width == height:
        assert view == sizes[0]


@given(width=st.integers(8, 900), height=st.integers(8, 900), side=st.sampled_from([32, 64, 512]))
def test_a_square_view_is_cut_as_ever(width: int, height: int, side: int) -> None:
    placed = place((width, height), (side, side), Variant(), 0, "x")
    scale = side * 1.0 / min(width, height)
    wide, tall = max(side, round(width * scale)), max(side, round(height * scale))
    assert (placed.width, placed.height, placed.left, placed.top) == (wide, tall, round((wide - side) * 0.5), round((tall - side) * 0.5))


def mixed_set(root: Path, sizes: list[tuple[int, int]], aux: list[tuple[int, int]]) -> TrainingSet:
    """Random pictures of these sizes (width, height)."""
    root.mkdir()
    generator = np.random.default_rng(0)

    def sample(number: int, size: tuple[int, int]) -> Sample:
        file = root / f"{number}.png"
        Image.fromarray(generator.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(file)
        return Sample(digest_file(file), file, f"a man {number}", 1.0)

    samples = [sample(number, size) for number, size in enumerate(sizes + aux)]
    style = tuple(samples[: len(sizes)])
    return TrainingSet(style, tuple(samples[len(sizes) :]), style, True)


FLOWS = {
    "sd3": tiny_sd3_folder,
    "flux": tiny_flux_folder,
    "klein": tiny_flux2_folder,
    "z": tiny_z_image_folder,
    "lumina": tiny_lumina2_folder,
}


def trainer_of(base: Path, tmp_path: Path, **training: Any) -> Trainer:
    """A batch of three sizes: wide, tall and square ones."""
    config = configure(base, training={"buckets": True, "batch_size": 4, "aux_batch_size": 2, **training})
    data = mixed_set(tmp_path / "set", [(60, 40), (40, 60), (50, 50), (61, 40)], [(40, 60), (50, 50)])
    return Trainer(config, method_for(config.method), data, load_bundle(base, device="cpu"), tmp_path / "ck")


@pytest.fixture(params=["sd1", "sdxl"])
def trainer(request: pytest.FixtureRequest, bases: dict[str, Path], tmp_path: Path) -> Trainer:
    """In steps of four, of 32 pixels' area."""
    return trainer_of(bases[request.param], tmp_path)


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_trains_on_several_sizes(name: str, tmp_path: Path) -> None:
    """The dynamic shift, too, is that of a picture's own bucket: alone, each has the loss that it has in the batch."""
    trainer = trainer_of(FLOWS[name](tmp_path / "base"), tmp_path, steps=1)
    denoising = trainer.denoising
    trainer._encode_all()
    batch = denoising.mixer.batch(0)
    shapes = {denoising.latents.moments([sample], [variant]).shape for sample, variant in zip(batch.samples, batch.variants, strict=True)}
    assert len(shapes) == 3
    alone = torch.cat([denoising._losses(batch, 0, [place])[0] for place in range(6)])
    torch.testing.assert_close(denoising.loss(0)[0], alone[:4].mean() + alone[4:].mean(), rtol=1e-4, atol=0)
    assert trainer.run()[1].images == 6


def test_the_loss_of_a_batch_of_several_sizes_is_that_of_its_pictures_alone(trainer: Trainer) -> None:
    denoising, family = trainer.denoising, trainer.family
    batch = denoising.mixer.batch(0)
    shapes = {denoising.latents.moments([sample], [variant]).shape for sample, variant in zip(batch.samples, batch.variants, strict=True)}
    assert len(shapes) == 3
    loss, instance, aux = denoising.loss(0)
    alone = torch.cat([denoising._losses(batch, 0, [place])[0] for place in range(6)])
    torch.testing.assert_close(instance, alone[:4].mean().detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(aux, alone[4:].mean().detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(loss, alone[:4].mean() + alone[4:].mean(), rtol=1e-5, atol=0)
    heights = {tuple(row[-2:]) for row in denoising.latents.time_ids(batch.samples, batch.variants).tolist()}
    assert heights == {denoising.latents.bucket(sample) for sample in batch.samples} and len(heights) == 3
    assert family.latent_shape(*denoising.latents.bucket(batch.samples[0]))[0] == 4


def test_two_processes_draw_what_one_does(trainer: Trainer) -> None:
    """Each draw is of a place in the whole micro-batch and of its bucket, not of the process."""
    denoising = trainer.denoising
    whole = {sample.id: loss for sample, loss in zip(denoising.mixer.batch(0).samples, per_sample(denoising), strict=True)}
    for rank in range(2):
        data, options = trainer.data, {"variety": Variety(flip=0.5), "seed": 3}
        denoising.mixer = Mixer(data.instances, data.aux, batch_size=2, aux_batch_size=1, rank=rank, world=2, **options)
        for sample, loss in zip(denoising.mixer.batch(0).samples, per_sample(denoising), strict=True):
            assert loss == pytest.approx(whole[sample.id], rel=1e-5)


def per_sample(denoising: Denoising) -> list[float]:
    batch = denoising.mixer.batch(0)
    return [denoising._losses(batch, 0, [place])[0].item() for place in range(len(batch.samples))]


def test_a_square_set_gives_the_same_weights_with_buckets_and_without(bases: dict[str, Path], tmp_path: Path) -> None:
    data = mixed_set(tmp_path / "set", [(50, 50)] * 3, [(40, 40)] * 2)
    found = []
    for buckets in (True, False):
        config = configure(bases["sd1"], training={"steps": 2, "buckets": buckets})
        trainer = Trainer(config, method_for(config.method), data, load_bundle(bases["sd1"], device="cpu"), tmp_path / f"ck{buckets}")
        rows, _ = trainer.run()
        found.append([rows[-1]["loss"], rows[-1]["validation_loss"], *(value.clone() for value in trainer.trained.named().values())])
    assert all(torch.equal(torch.as_tensor(one), torch.as_tensor(other)) for one, other in zip(*found, strict=True))


def test_a_set_of_several_sizes_trains_to_the_end_at_a_resolution_of_its_own(tiny_base: Path, folders: Folders) -> None:
    model = train(configure(tiny_base, training={"steps": 2, "buckets": True, "resolution": 48}), folders)
    assert (model / "styleforge.json").is_file()


def test_the_caches_hold_the_bucket_of_each_picture(trainer: Trainer) -> None:
    sample = trainer.data.instances[0]
    height, width = trainer.denoising.latents.bucket(sample)
    assert width > height
    view = cut(load_rgb(sample.file), (height, width), Variant(), 3, sample.id)
    moments = trainer.family.encode_images(view[None])
    torch.testing.assert_close(trainer.denoising.latents.moments([sample], [Variant()]), moments, rtol=0, atol=1e-5)


def test_pictures_of_another_size_are_drawn_and_described(tiny_base: Path, tmp_path: Path) -> None:
    bundle = load_bundle(tiny_base, device="cpu")
    settings = configure(tiny_base, sampling={"height": 48, "repeats": 1}).sampling
    requests = prompt_requests({"identifier": "sks"}, settings, ["a man"])
    out = sample_bank(bundle, requests, settings, 0, tmp_path / "out")
    (file,) = (out / "images").iterdir()
    with Image.open(file) as picture:
        assert picture.size == (32, 48)
    job = jobs_for(requests, 1, 0)[0]
    assert describe(job, bundle, settings)["size"] == [48, 32]
    own, named = (settings.model_copy(update={"height": side, "width": side}) for side in (None, 32))
    assert describe(job, bundle, own) == describe(job, bundle, named) and describe(job, bundle, own)["size"] == 32


@pytest.mark.parametrize("field", ["training.resolution", "sampling.height", "sampling.width"])
def test_a_size_that_the_family_cannot_take_is_refused_by_the_plan(tiny_base: Path, field: str) -> None:
    section, name = field.split(".")
    config = configure(tiny_base, **{section: {name: 42}})
    with pytest.raises(ConfigError, match=rf"{field}=42: .*a multiple of 4 pixels"):
        check_fit(config, method_for(config.method), base_facts(str(tiny_base)))


def test_a_bucket_that_the_family_has_no_positions_for_is_left_out(tmp_path: Path) -> None:
    base = tiny_sd3_folder(tmp_path / "base")
    family = load_bundle(base, device="cpu").family
    side = family.layout.largest(family.denoiser.config, family.vae.config)[0]  # type: ignore[index]
    config = configure(base, training={"buckets": True, "resolution": side})
    data = mixed_set(tmp_path / "set", [(60, 40)], [(50, 50)])
    trainer = Trainer(config, method_for(config.method), data, load_bundle(base, device="cpu"), tmp_path / "ck")
    assert max(bucket_sizes(side, family.size_step))[0] > side
    assert trainer.denoising.latents.bucket(data.instances[0]) == (side, side)
    with pytest.raises(InputError, match=f"at most {side} pixels"):
        family.latent_shape(side, side + family.size_step)
