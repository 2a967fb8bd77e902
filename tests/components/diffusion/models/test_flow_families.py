"""The flow families against diffusers' own pipelines, on tiny bases."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, FluxPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from components.core.config import SamplingSection
from components.core.content import derive_seed
from components.core.errors import InputError
from components.core.images import load_rgb
from components.diffusion.attention.capture import explain_pictures, has_maps
from components.diffusion.export.portable import check_format, formats_of, open_model
from components.diffusion.models.bundle import load_bundle
from components.diffusion.models.flux import pack, picture_ids, unpack
from components.diffusion.models.flux2 import shift_exponent
from components.diffusion.models.precision import Precisions
from components.diffusion.models.sources import base_facts
from components.diffusion.planning.shapes import family_from_configuration
from components.diffusion.sampling.guidance import Guidance
from components.diffusion.sampling.jobs import PromptRequest, jobs_for
from components.diffusion.sampling.sampler import denoise
from components.diffusion.training.caches import LatentCache
from components.diffusion.training.loop import Trainer
from components.diffusion.training.methods import method_for
from components.diffusion.training.recipe import Recipe
from components.diffusion.training.samples import read_training_set
from components.diffusion.training.trainables import Trainables
from tests.components.diffusion.conftest import Folders, configure, cut_power, train, write_folders
from tests.components.diffusion.models.flow_bases import BASES, SQUARE
from tests.tiny_bases import tiny_flux2_folder, tiny_sd3_folder, tiny_z_image_folder

PROMPT = "a photo of a dog"
# A variant of another base in the list: the same classes with other widths, or an encoder less.
VARIANTS = ("sd3-small", "sd3-no-t5", "flux-schnell")


@pytest.fixture(scope="module")
def flow_bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("flow")
    return {name: base.make(root / name) for name, base in BASES.items()}


def pipeline_of(name: str, folder: Path) -> Any:
    pipeline = DiffusionPipeline.from_pretrained(folder, **BASES[name].told)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise_of(job: Any, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(job.seed))


def ours_and_theirs(
    name: str, model: Path, pipeline: Any, negative: str = "", size: tuple[int, int] = SQUARE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of one picture after all steps, by our sampler and by diffusers' pipeline."""
    bundle = load_bundle(model, device="cpu")
    negative = negative if BASES[name].negative else ""
    height, width = size
    drawing = {"steps": 4, "guidance": 3.0, "negative_prompt": negative, "height": height, "width": width}
    settings = configure(model, sampling=drawing).sampling
    (job,) = jobs_for([PromptRequest("a", "c", PROMPT, PROMPT)], 1, 0)
    with torch.inference_mode():
        ours = denoise(bundle, [job], settings, Guidance(bundle, settings))
        base, noise = BASES[name], noise_of(job, bundle.family.latent_shape(height, width))
        options = {**base.asked, **base.guidance(3.0), **({"negative_prompt": negative} if base.negative else {})}
        theirs = pipeline(
            prompt=PROMPT, latents=base.given(pipeline, noise), output_type="latent", height=height, width=width,
            num_inference_steps=4, **options,
        ).images  # fmt: skip
    return ours, base.taken(pipeline, theirs, size)


@pytest.mark.parametrize("name", [name for name in BASES if name not in VARIANTS])
@pytest.mark.parametrize("size", [(32, 48), (48, 32)])
def test_a_picture_that_is_not_square_is_the_pipelines(flow_bases: dict[str, Path], name: str, size: tuple[int, int]) -> None:
    """Packing, ids of positions and the dynamic shift follow the size."""
    ours, theirs = ours_and_theirs(name, flow_bases[name], pipeline_of(name, flow_bases[name]), size=size)
    assert ours.shape[-2] * size[1] == ours.shape[-1] * size[0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", BASES)
def test_pictures_are_those_of_diffusers(flow_bases: dict[str, Path], tmp_path: Path, name: str) -> None:
    ours, theirs = ours_and_theirs(name, flow_bases[name], pipeline_of(name, flow_bases[name]), negative="a man")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    # Saved and loaded it is the same base.
    bundle = load_bundle(flow_bases[name], device="cpu")
    saved = bundle.save(tmp_path / "saved")
    torch.testing.assert_close(ours_and_theirs(name, saved, pipeline_of(name, saved), negative="a man")[1], theirs, rtol=0, atol=0)
    assert load_bundle(saved, device="cpu").family.parts.keys() == bundle.family.parts.keys()


def loss_by_hand(trainer: Trainer, pipeline: Any, name: str) -> float:
    """λ = 0.5; what the pipeline's own parts give, by the formulae of Esser et al. (2024)."""
    batch = trainer.mixer.batch(0)
    kinds = ("latent", "noise", "timestep")
    latent, noise_, timestep = (torch.Generator().manual_seed(derive_seed(3, kind, 0, 0)) for kind in kinds)
    mean, log_variance = trainer.denoising.latents.moments(batch.samples, batch.variants).chunk(2, 1)
    drawn = mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=latent)
    clean = BASES[name].clean(pipeline, mean, drawn)
    noise = torch.randn(clean.shape, generator=noise_)
    levels, factor = [], BASES[name].shift
    for _ in range(2):
        shares = torch.rand(2, generator=timestep, dtype=torch.float64)
        shares = (torch.randperm(2, generator=timestep) + shares) / 2
        plain = torch.sigmoid(torch.special.ndtri(shares))
        levels.append(factor * plain / (1 + (factor - 1) * plain))
    level = torch.cat(levels).float()
    noisy = (1 - level).view(-1, 1, 1, 1) * clean + level.view(-1, 1, 1, 1) * noise
    predicted = BASES[name].velocity(pipeline, noisy, level, batch.prompts, BASES[name].asked)
    losses = (predicted - (noise - clean)).square().flatten(1).mean(1)
    return float(losses[:2].mean() + 0.5 * losses[2:].mean())


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in VARIANTS else []) for name in BASES])
def test_one_training_step_by_hand(folders: Folders, flow_bases: dict[str, Path], name: str) -> None:
    base = flow_bases[name]
    config = configure(base, training={"steps": 1}, method={"prior_weight": 0.5})
    method = method_for(config.method)
    trainer = Trainer(config, method, read_training_set(*folders.inputs, method), load_bundle(base, device="cpu"), folders.checkpoints)
    trainer._encode_all()
    pipeline = pipeline_of(name, base)
    with torch.no_grad():
        wanted = loss_by_hand(trainer, pipeline, name)
    log, _ = trainer.run()
    assert log[0]["loss"] == pytest.approx(wanted, rel=1e-5)


METHODS: dict[str, dict[str, Any]] = {
    "dreambooth": {}, "single-styleforge": {"identifier_rows": True}, "multi-styleforge": {}, "lora": {"train_text_encoder": True},
    "textual-inversion": {"initial_word": "painting"},
}  # fmt: skip


# A text encoder that no method trains is not asked for either; what differs between the methods is shown by the families above.
# The small Stable Diffusion 3 is of the class of the large one.
PAIRS = [
    pytest.param(name, method, marks=[pytest.mark.slow] if name == "sd3-small" and method != "lora" else [])
    for name in ("sd3", "sd3-small", "flux-dev") for method in METHODS
] + [
    pytest.param(name, method)
    for name, base in BASES.items() if not base.trains_text for method in ("dreambooth", "lora", "textual-inversion")
]  # fmt: skip


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_every_method_that_applies(tmp_path: Path, flow_bases: dict[str, Path], name: str, method: str) -> None:
    folders = write_folders(tmp_path / "run", backgrounds=2 if method == "multi-styleforge" else 0)
    training = {"steps": 2, "learning_rate": 0.02, "min_snr_gamma": 5.0, "noise_offset": 0.1, "caption_dropout": 0.2, "ema_decay": 0.5}
    settings = {key: value for key, value in METHODS[method].items() if BASES[name].trains_text or value is not True}
    out = train(configure(flow_bases[name], method={"name": method, **settings}, training=training), folders)
    base, model = (load_bundle(folder, device="cpu").family for folder in (flow_bases[name], out))
    token = "<sks>" if method == "textual-inversion" else "sks"
    before, after = base.encode_prompts([f"a {token}"]), model.encode_prompts([f"a {token}"])
    # The text encoders train where README says so: of a method that trains them, a prompt without the token changes too.
    if method in ("single-styleforge", "lora"):
        told, tells = (vars(family.encode_prompts(["a dog"])) for family in (base, model))
        moved = [
            not torch.equal(told[key], tells[key]) for key in told if isinstance(told[key], torch.Tensor) and told[key].is_floating_point()
        ]
        assert any(moved) == BASES[name].trains_text
    noise = torch.randn((1, *base.latent_shape()), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        predictions = [family.predict(noise, torch.tensor(500.0), states) for family, states in ((base, before), (model, after))]
    assert all(torch.isfinite(prediction).all() for prediction in predictions)
    assert not torch.equal(*predictions)
    if (out / "pytorch_lora_weights.safetensors").is_file():
        pipeline = pipeline_of(name, flow_bases[name])
        pipeline.load_lora_weights(out)
        ours, theirs = ours_and_theirs(name, out, pipeline)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
        plain = ours_and_theirs(name, flow_bases[name], pipeline_of(name, flow_bases[name]))[1]
        assert (theirs - plain).abs().max() > 1e-3
    elif (out / "model_index.json").is_file():
        ours, theirs = ours_and_theirs(name, out, pipeline_of(name, out))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("sd3", "single-styleforge"),
        # What is resumed is the loop's, whatever the family.
        *(pytest.param(name, "lora", marks=pytest.mark.slow) for name in ("flux-dev", "flux2-klein", "lumina2", "z-image")),
    ],
)
def test_interrupted_equals_uninterrupted(folders: Folders, flow_bases: dict[str, Path], name: str, method: str) -> None:
    training = {"ema_decay": 0.9, "gradient_accumulation": 2, "warmup_steps": 2, "caption_dropout": 0.3}
    config = configure(flow_bases[name], method={"name": method}, training=training)
    whole = train(config, folders, "whole")
    cut_power(config, folders, "cut", 4)
    resumed = train(config, folders, "cut")
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert files and all((whole / file).read_bytes() == (resumed / file).read_bytes() for file in files)


@pytest.mark.parametrize(
    ("name", "wanted", "left_out"),
    [
        (
            "sd3",
            ("transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.add_k_proj", "transformer_blocks.0.attn2.to_out.0"),
            "proj_out",
        ),
        (
            "flux-dev",
            ("single_transformer_blocks.1.proj_mlp", "single_transformer_blocks.1.proj_out", "transformer_blocks.0.ff_context.net.2"),
            "proj_out",
        ),
        (
            "flux2-klein",
            (
                "single_transformer_blocks.1.attn.to_qkv_mlp_proj",
                "single_transformer_blocks.1.attn.to_out",
                "transformer_blocks.0.attn.to_out.0",
            ),
            "proj_out",
        ),
        ("lumina2", ("layers.1.attn.to_v", "layers.1.feed_forward.linear_3", "noise_refiner.0.attn.to_q"), "x_embedder"),
        ("z-image", ("layers.1.attention.to_out.0", "layers.1.feed_forward.w2", "context_refiner.0.attention.to_q"), "cap_embedder.1"),
    ],
)
def test_adapters_are_where_the_style_sits(flow_bases: dict[str, Path], name: str, wanted: tuple[str, ...], left_out: str) -> None:
    # Fault 5: the scripts' default targets miss SD3.5-medium's `attn2`, and the MLPs of FLUX's single blocks.
    family = load_bundle(flow_bases[name], device="cpu").family
    names = Trainables(family, Recipe(frozenset({"denoiser.low-rank"}))).named()
    assert {f"transformer.{layer}.lora_B.weight" for layer in wanted} <= set(names)
    assert f"transformer.{left_out}.lora_B.weight" not in names


def test_latents_are_cached_by_picture_and_not_by_step(flow_bases: dict[str, Path], folders: Folders) -> None:
    # Fault 6: keyed by the step's index, captions and latents part after a shuffle.
    config = configure(flow_bases["sd3-small"])
    method = method_for(config.method)
    bundle = load_bundle(flow_bases["sd3-small"], device="cpu")
    trainer = Trainer(config, method, read_training_set(*folders.inputs, method), bundle, folders.checkpoints)
    trainer._encode_all()
    cache = trainer.denoising.latents
    for number in range(4):
        batch = trainer.mixer.batch(number)
        fresh = LatentCache(bundle.family, load_rgb, torch.device("cpu"), config.seed, [(32, 32)], enabled=False)
        # Batched otherwise, so equal up to rounding.
        torch.testing.assert_close(cache.moments(batch.samples, batch.variants), fresh.moments(batch.samples, batch.variants))


@pytest.mark.parametrize(
    ("name", "shape"), [("sd3", (8, 12, 20)), ("z-image", (8, 12, 20)), ("flux2-klein", (16, 6, 10)), ("lumina2", (8, 12, 20))]
)
def test_sizes_that_a_base_cannot_take(flow_bases: dict[str, Path], name: str, shape: tuple[int, int, int]) -> None:
    family = load_bundle(flow_bases[name], device="cpu").family
    assert family.size_step == 4 and family.latent_shape(24, 40) == shape
    with pytest.raises(InputError, match="a multiple of 4 pixels"):
        family.latent_shape(30, 32)
    if name != "flux2-klein":
        # Its positions have no end.
        with pytest.raises(InputError, match="at most 64"):
            family.latent_shape(32, 96)


@pytest.mark.parametrize("name", [*BASES])
def test_a_vae_in_half_precision_encodes_and_decodes(flow_bases: dict[str, Path], name: str) -> None:
    whole = load_bundle(flow_bases[name], device="cpu").family
    family = load_bundle(flow_bases[name], device="cpu").family.lower(Precisions(vae="bf16"), torch.device("cpu"))
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    moments = family.encode_images(pixels)
    latents = family.sample_latents(moments, None)
    pictures = family.decode_latents(latents)
    assert {moments.dtype, latents.dtype, pictures.dtype} == {torch.float32}
    expected = whole.decode_latents(whole.sample_latents(whole.encode_images(pixels), None))
    assert (pictures - expected).abs().mean() < 0.1 * expected.abs().mean()


def test_packing_is_that_of_the_pipeline() -> None:
    latents = torch.randn((2, 8, 6, 10), generator=torch.Generator().manual_seed(0))
    packed = pack(latents)
    assert torch.equal(packed, FluxPipeline._pack_latents(latents, 2, 8, 6, 10)) and torch.equal(unpack(packed, 6, 10), latents)
    assert torch.equal(picture_ids(6, 10, torch.device("cpu")), FluxPipeline._prepare_latent_image_ids(2, 3, 5, "cpu", torch.float32))


def test_normalised_latents_are_those_of_the_pipeline(flow_bases: dict[str, Path]) -> None:
    family, pipeline = load_bundle(flow_bases["flux2-klein"], device="cpu").family, pipeline_of("flux2-klein", flow_bases["flux2-klein"])
    pixels = torch.rand((2, 3, 32, 48), generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents = family.sample_latents(family.encode_images(pixels), torch.randn(2, 16, 8, 12))
        torch.testing.assert_close(latents, pipeline._encode_vae_image(pixels, None))
        mean = pipeline.vae.encode(pixels).latent_dist.mode()
        torch.testing.assert_close(family.decode_latents(latents), pipeline.vae.decode(mean).sample)


@pytest.mark.parametrize(
    ("tokens", "steps", "factor"), [(4096, None, 3.158), (4096, 200, 3.158), (4096, 10, 9.546), (256, None, 1.649), (9216, 10, 7.513)]
)
def test_the_shift_goes_by_tokens_and_steps(tokens: int, steps: int | None, factor: float) -> None:
    # Fault 1: in training too, where it is FLUX.1's line.
    assert math.exp(shift_exponent(tokens, steps)) == pytest.approx(factor, rel=1e-3)
    if steps:
        assert shift_exponent(tokens, steps) == pytest.approx(compute_empirical_mu(tokens, steps), abs=1e-12)


@pytest.mark.parametrize(("make", "asked", "steps"), [(tiny_flux2_folder, "distilled", 4), (tiny_z_image_folder, "turbo", 8)])
def test_a_distilled_base_is_drawn_in_few_steps_and_saved_as_one(tmp_path: Path, make: Callable[..., Path], asked: str, steps: int) -> None:
    bundle = load_bundle(make(tmp_path / "base", **{asked: True}), device="cpu")
    saved = bundle.save(tmp_path / "saved")
    for folder in (tmp_path / "base", saved):
        drawing = load_bundle(folder, device="cpu").family.drawing(SamplingSection())
        assert (drawing.steps, drawing.guidance) == (steps, 1.0)
        # A plan says the same, of configuration files alone.
        facts = base_facts(str(folder))
        assert facts.layout.settled(SamplingSection(), facts.denoiser, facts.index, facts.scheduler) == drawing
    other = load_bundle(make(tmp_path / "other"), device="cpu")
    assert other.family.drawing(SamplingSection()).steps == 50


@pytest.mark.parametrize(
    ("make", "changes", "wanted"),
    [
        (tiny_sd3_folder, {"pooled_projection_dim": 24}, "pooled vectors have 20 numbers where the transformer takes 24"),
        (tiny_sd3_folder, {"joint_attention_dim": 24}, "not of the transformer's size 24"),
        (tiny_sd3_folder, {"in_channels": 4}, "takes 4 channels where the VAE gives 8"),
        (tiny_z_image_folder, {"cap_feat_dim": 24}, "gives states of 16 numbers where the transformer takes 24"),
        (tiny_z_image_folder, {"in_channels": 4}, "takes 4 channels where the VAE gives 8"),
        (tiny_flux2_folder, {"in_channels": 8}, "takes 8 channels where the VAE gives 16"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, make: Callable[..., Path], changes: dict[str, Any], wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        load_bundle(make(tmp_path / "odd", **changes), device="cpu")


@pytest.mark.parametrize("name", [name for name, base in BASES.items() if not base.trains_text])
def test_shapes_alone_are_enough_for_a_plan(flow_bases: dict[str, Path], name: str) -> None:
    family = family_from_configuration(flow_bases[name])
    states = family.encode_tokens({reader: ids.to("meta") for reader, ids in family.tokenize(["", ""]).items()})
    noisy = torch.empty((2, *family.latent_shape()), device="meta")
    assert family.predict(noisy, torch.empty(2, device="meta"), states).shape == noisy.shape


def test_a_reader_of_chats_without_a_template(flow_bases: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(flow_bases["z-image"], tmp_path / "copy")
    (tmp_path / "copy" / "tokenizer" / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="tokenizer: has no chat template"):
        load_bundle(tmp_path / "copy", device="cpu")


@pytest.mark.parametrize(("name", "part"), [("sd3", "text_encoder_2"), ("sd3", "text_encoder_3"), ("z-image", "text_encoder")])
def test_a_base_without_a_text_encoder(flow_bases: dict[str, Path], tmp_path: Path, name: str, part: str) -> None:
    # T5 may be missing, but only where the index says so.
    shutil.copytree(flow_bases[name], tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / part)
    with pytest.raises(InputError, match=f"has no {part}"):
        load_bundle(tmp_path / "copy", device="cpu")


@pytest.mark.parametrize("name", [name for name in BASES if name not in VARIANTS])
def test_a_joint_transformer_has_no_maps(flow_bases: dict[str, Path], name: str) -> None:
    bundle = load_bundle(flow_bases[name], device="cpu")
    settings = configure(flow_bases[name]).sampling
    assert not has_maps(bundle)
    with pytest.raises(InputError, match="no cross-attention"):
        explain_pictures(bundle, [(PromptRequest("a", "c", PROMPT, PROMPT), ["dog"])], settings, 0)


def test_other_programs_formats_are_refused(flow_bases: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(flow_bases["sd3-small"], tmp_path / "model")
    recipe = Recipe(frozenset({"denoiser"})).as_json()
    card = {"method": "dreambooth", "recipe": recipe, "base": {"model": "b", "revision": None, "digest": "d"}}
    (tmp_path / "model" / "styleforge.json").write_text(json.dumps(card))
    model = open_model(tmp_path / "model")
    assert formats_of(model) == ["diffusers"]
    with pytest.raises(InputError, match=r"cannot write Stable Diffusion 3/3\.5 as one file"):
        check_format(model, "single-file", "--format")


def test_a_delta_knows_its_family(flow_bases: dict[str, Path], folders: Folders) -> None:
    """It has no one file to be compared with, so previews at the end of a training ask for none."""
    training = {"steps": 1, "validation_prompts": ["a dog"]}
    model = open_model(
        train(configure(flow_bases["sd3-small"], method={"name": "dreambooth", "save": "delta"}, training=training), folders)
    )
    assert model.record is not None and formats_of(model) == ["diffusers"]


@pytest.mark.parametrize("name", BASES)
def test_a_compiled_denoiser_trains(name: str, flow_bases: dict[str, Path], folders: Folders) -> None:
    """The same weights as without a compiler, which here passes every call through."""
    settings = {"steps": 1}
    with torch.compiler.set_stance("force_eager"):
        compiled = train(configure(flow_bases[name], training={**settings, "compile": True}), folders, "compiled")
    plain = train(configure(flow_bases[name], training=settings), folders, "plain")
    weights = {file.relative_to(plain): file.read_bytes() for file in plain.rglob("*.safetensors")}
    assert weights == {file.relative_to(compiled): file.read_bytes() for file in compiled.rglob("*.safetensors")}
