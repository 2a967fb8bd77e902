from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components.core.config import SamplingSection
from components.core.content import derive_seed, digest_file
from components.core.errors import InputError
from components.diffusion.models.bundle import Bundle, load_bundle
from components.diffusion.objectives.schedulers import DISCRETE
from components.diffusion.sampling import restyle as module
from components.diffusion.sampling.restyle import (
    Content,
    Manner,
    adain,
    as_cut,
    encode,
    group_by_size,
    moments,
    restyle,
    style_moments,
    transfer_moments,
)
from components.diffusion.sampling.sampler import TOLERANCE, Job, PromptRequest, draw_batches
from tests.components.diffusion.models.flow_bases import BASES
from tests.tiny_bases import tiny_sd3_folder

SQUARE = (32, 32)


def settings(**options: Any) -> SamplingSection:
    return SamplingSection(**{"steps": 4, "guidance": 3.0, "batch_size": 2, "scheduler": "ddim", **options})


def contents(folder: Path, count: int = 3, size: tuple[int, int] = SQUARE) -> list[Content]:
    found = []
    for index in range(count):
        path = folder / f"{index}.png"
        folder.mkdir(exist_ok=True)
        blocks = np.random.default_rng(index).integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC).save(path)
        found.append(Content(path, digest_file(path), size, PromptRequest(str(index), "restyle", "a man", "a photo of sks style, a man")))
    return found


def drawn(bundle: Bundle, pictures: Sequence[Content], out: Path, manner: Manner, **options: Any) -> list[np.ndarray]:
    out.mkdir(exist_ok=True)
    files = {content.request.id: out / f"{content.request.id}.png" for content in pictures}
    list(restyle(bundle, pictures, SQUARE, settings(**options), 0, manner, files))
    return [np.asarray(Image.open(files[content.request.id])).astype(int) for content in pictures]


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sd3_folder(tmp_path_factory.mktemp("sd3") / "base")


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpm++", "unipc"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_it_draws_what_the_image_to_image_pipeline_draws(tiny_base: Path, tmp_path: Path, scheduler: str, strength: float) -> None:
    from diffusers import StableDiffusionImg2ImgPipeline

    from components.diffusion.objectives.schedulers import make_scheduler

    bundle, pictures = load_bundle(tiny_base, device="cpu"), contents(tmp_path / "in", 1)
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(tiny_base, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = make_scheduler(scheduler, bundle.family.scheduler_config)
    theirs = pipeline(
        pictures[0].request.full_prompt, image=encode(bundle.family, [pictures[0].path], SQUARE), strength=strength, num_inference_steps=4,
        guidance_scale=3.0, generator=torch.Generator().manual_seed(derive_seed(0, "restyle", "0")),
    ).images[0]  # fmt: skip
    (ours,) = drawn(bundle, pictures, tmp_path / "out", Manner(strength), scheduler=scheduler)
    assert np.abs(ours - np.asarray(theirs).astype(int)).max() <= TOLERANCE


def test_a_flow_draws_what_the_image_to_image_pipeline_draws(flow: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusion3Img2ImgPipeline

    bundle, pictures = load_bundle(flow, device="cpu"), contents(tmp_path / "in", 1)
    pipeline = StableDiffusion3Img2ImgPipeline.from_pretrained(flow)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        pictures[0].request.full_prompt, image=encode(bundle.family, [pictures[0].path], SQUARE), strength=0.5, num_inference_steps=4,
        guidance_scale=3.0, height=32, width=32, generator=torch.Generator().manual_seed(derive_seed(0, "restyle", "0")),
    ).images[0]  # fmt: skip
    (ours,) = drawn(bundle, pictures, tmp_path / "out", Manner(0.5), scheduler="euler")
    assert np.abs(ours - np.asarray(theirs).astype(int)).max() <= TOLERANCE


@pytest.mark.parametrize("name", BASES)
def test_a_flow_at_full_strength_draws_from_noise_alone_and_keeps_the_rest(tmp_path: Path, name: str) -> None:
    bundle, pictures = load_bundle(BASES[name].make(tmp_path / "base"), device="cpu"), contents(tmp_path / "in", 1)
    job = Job(pictures[0].request, 0, derive_seed(0, "restyle", "0"))
    [(_, from_noise)] = draw_batches(bundle, [job], settings(scheduler="euler"))
    whole, half, kept = (
        drawn(bundle, pictures, tmp_path / f"{index}", manner, scheduler="euler")[0]
        for index, manner in enumerate((Manner(1.0), Manner(0.25), Manner(0.25, True)))
    )
    assert np.abs(whole - from_noise[0].astype(int)).max() <= TOLERANCE
    assert (whole != half).any() and (half != kept).any()


@pytest.mark.parametrize("scheduler", list(DISCRETE))
def test_no_strength_gives_the_picture_as_the_vae_returns_it(bundle: Bundle, tmp_path: Path, scheduler: str) -> None:
    pictures = contents(tmp_path / "in", 1)
    (ours,) = drawn(bundle, pictures, tmp_path / "out", Manner(0.0), scheduler=scheduler)
    with torch.no_grad():
        pixels = bundle.family.decode_latents(encode(bundle.family, [pictures[0].path], SQUARE))
    assert np.abs(ours - module.to_uint8(pixels)[0].astype(int)).max() <= 1


@pytest.mark.parametrize(("strength", "steps", "first"), [(0.0, 20, 20), (0.001, 20, 19), (0.55, 20, 9), (0.6, 20, 8), (1.0, 20, 0)])
def test_strength_is_the_part_of_the_steps(strength: float, steps: int, first: int) -> None:
    assert Manner(strength).first_step(steps) == first


@pytest.mark.parametrize(
    ("base", "sampler"),
    [("tiny_base", "ddim"), ("tiny_base", "euler"), ("tiny_v_base", "ddim"), ("tiny_v_base", "euler"), ("flow", "euler")],
)
def test_kept_structure_is_the_noise_that_the_model_sees(request: pytest.FixtureRequest, tmp_path: Path, base: str, sampler: str) -> None:
    """By hand: z = signal · x + noise level · ε̂, with ε̂ from the prediction for the picture in random noise."""
    bundle = load_bundle(request.getfixturevalue(base), device="cpu")
    family, (picture,) = bundle.family, contents(tmp_path, 1)
    scheduler = family.objective.sampler(sampler, 4, 256)
    clean = encode(family, [picture.path], SQUARE)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    prompts = module.PromptCache(family, torch.device("cpu"), keep_states=True)
    job = Job(picture.request, 0, 0)
    with torch.no_grad():
        found, first = module._start(family, {job: picture}, SQUARE, Manner(0.5, True), 3.0, [job], noise, scheduler, prompts)
        time = scheduler.timesteps[2]
        if base == "flow":
            level = float(time) / 1000
            signal, spread = 1 - level, level
        else:
            alpha = float(family.objective.schedule.alphas_cumprod[int(time)])  # type: ignore[attr-defined]
            signal, spread = alpha**0.5, (1 - alpha) ** 0.5
        noisy = signal * clean + spread * noise
        told = family.predict(noisy, time, family.encode_prompts([picture.request.full_prompt]), guidance=3.0)
        own = {"tiny_base": told, "tiny_v_base": signal * told + spread * noisy, "flow": noisy + signal * told}[base]
    assert first == 2
    # Euler's latents are those divided by the signal, but for a flow.
    scale = signal if (sampler, base) != ("euler", "flow") and sampler == "euler" else 1.0
    torch.testing.assert_close(scale * found, signal * clean + spread * own, rtol=0, atol=1e-5)


def test_a_picture_is_the_same_in_any_batch_and_is_kept(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = contents(tmp_path / "in")
    together, alone = (drawn(bundle, pictures, tmp_path / f"out{size}", Manner(0.5, True), batch_size=size) for size in (3, 1))
    assert all(np.abs(one - other).max() <= TOLERANCE for one, other in zip(together, alone, strict=True))
    passed: list[str] = []
    whole = module._start
    monkeypatch.setattr(module, "_start", lambda *args: (passed.extend(job.request.id for job in args[5]), whole(*args))[1])
    (tmp_path / "out3" / "1.png").write_bytes(b"half")
    drawn(bundle, pictures, tmp_path / "out3", Manner(0.5, True))
    assert passed == ["1"]
    for manner in (Manner(0.5), Manner(0.75)):
        passed.clear()
        drawn(bundle, pictures, tmp_path / "out3", manner)
        assert passed == ["0", "1", "2"]
    contents(tmp_path / "in", 2, (40, 40))
    passed.clear()
    drawn(bundle, [*contents(tmp_path / "in", 2, (40, 40)), pictures[2]], tmp_path / "out3", Manner(0.75))
    assert passed == ["0", "1"]


def test_pictures_are_cut_to_the_size_that_keeps_most_of_them(bundle: Bundle, tmp_path: Path) -> None:
    wide, square = contents(tmp_path, 1, (90, 50))[0], contents(tmp_path / "square", 1)[0]
    groups = group_by_size(bundle.family, [wide, square], settings())
    assert list(groups.values()) == [[wide], [square]] and list(groups)[1] == SQUARE
    height, width = next(iter(groups))
    assert width > height and as_cut(wide.path, (height, width)).shape == (height, width, 3)
    tall = settings(height=64, width=32)
    assert list(group_by_size(bundle.family, contents(tmp_path, 1, (10, 20)), tall)) == [(64, 32)]
    ((height, width),) = group_by_size(bundle.family, [square], tall)
    assert height == width and height * width <= 64 * 32


def test_latents_get_the_statistics_of_the_style() -> None:
    content = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 4.0]]]])
    # By hand: mean 3, variance (4 + 1 + 0 + 9) / 4; mean 1, variance (1 + 1 + 1 + 9) / 4.
    mean, std = moments(content)
    torch.testing.assert_close(mean, torch.tensor([[3.0, 1.0]]), rtol=0, atol=1e-6)
    torch.testing.assert_close(std, torch.tensor([[3.5**0.5, 3.0**0.5]]), rtol=0, atol=1e-6)
    made = adain(content, (torch.tensor([10.0, -1.0]), torch.tensor([2.0, 0.5])))
    by_hand = torch.tensor([[10 + 2 * (x - 3) / 3.5**0.5 for x in (1, 2, 3, 6)], [-1 + 0.5 * (x - 1) / 3**0.5 for x in (0, 0, 0, 4)]])
    torch.testing.assert_close(made.reshape(2, 4), by_hand, rtol=0, atol=1e-6)
    flat = adain(torch.ones(1, 2, 2, 2), (torch.tensor([5.0, 6.0]), torch.ones(2)))
    assert torch.isfinite(flat).all() and flat[0, :, 0, 0].tolist() == [5.0, 6.0]


def test_the_baseline_decodes_latents_with_the_mean_statistics_of_styleref(bundle: Bundle, tmp_path: Path) -> None:
    pictures, style = contents(tmp_path / "in", 2), contents(tmp_path / "style", 3)
    paths = [content.path for content in pictures]
    with torch.no_grad():
        rows = [moments(encode(bundle.family, [content.path], SQUARE)) for content in style]
        mean, std = torch.cat([row[0] for row in rows]).mean(0), torch.cat([row[1] for row in rows]).mean(0)
        expected = module.to_uint8(bundle.family.decode_latents(adain(encode(bundle.family, paths, SQUARE), (mean, std))))
    found = transfer_moments(bundle, paths, SQUARE, style_moments(bundle, [content.path for content in style], SQUARE))
    assert np.array_equal(found, expected)


def test_a_vae_that_gives_nan_names_the_picture(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle.family, "sample_latents", lambda found, noise: torch.full((len(found), 4, 16, 16), float("nan")))
    with pytest.raises(InputError, match=r"0\.png: .*NaN"):
        drawn(bundle, contents(tmp_path / "in", 1), tmp_path / "out", Manner())
