"""The sampler: batched across prompts, every picture with its own random generator, so that batches and shards change nothing.

A picture is the same whatever the batch size, the shard and the other pictures of its batch, up to the rounding of matrix
products of different shapes: at most ``TOLERANCE`` of 255 levels.
"""

from __future__ import annotations

import inspect
import itertools
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from components.core.config import SamplingSection
from components.core.content import digest_value
from components.core.errors import InputError, StyleForgeError
from components.core.logs import progress
from components.core.paths import atomic_file, atomic_folder, read_jsonl, state, storage_errors, write_jsonl
from components.core.shards import Shard, every_nth_batch
from components.diffusion.models.bundle import Bundle, load_bundle
from components.diffusion.sampling.guidance import Guidance, describe_guidance
from components.diffusion.sampling.jobs import Job, PromptRequest, jobs_for
from components.diffusion.training.caches import PromptCache
from components.diffusion.training.pictures import to_uint8

TOLERANCE = 2
"""Greatest difference, in levels of 0–255, between two drawings of one picture in batches of different size, in fp32."""
CHUNK = "styleforge"
TOGETHER = 256
"""Number of pictures whose prompts are kept at a time and, where parts take turns on the GPU, are encoded at once."""
_LEFTOVER = ".*.tmp.png"
Start = Callable[[Sequence[Job], torch.Tensor, Any, PromptCache], tuple[torch.Tensor, int]]
"""Where the denoising of a batch begins: from its jobs, Gaussian noise (N, C, h, w), the sampler and the prompts, it returns latents of
that shape and the number of the first step."""


def sample_bank(
    bundle_or_path: Bundle | str | Path,
    prompts: Sequence[PromptRequest],
    settings: SamplingSection,
    seed: int,
    out: Path,
    shard: Shard = (0, 1),
    *,
    in_training: bool = False,
) -> Path:
    """Draw a prompt bank into ``out``: ``images/<prompt id>-r<repeat>.png`` and ``metadata.jsonl``. Returns ``out``.

    Called again, it draws only what is missing, half-written, or was drawn differently. A ``shard`` (i, n) draws every n-th batch,
    beginning with the i-th, into its own folder, see :func:`merge_shards`; as it takes whole batches, every picture is drawn in the
    same batch as without shards. ``in_training`` leaves the parts as the next training step needs them; ``out`` must then be empty,
    since a model that trains has the digest of its base.

    Raises:
        InputError: two prompts have one id, or there is no such shard.
        StorageError: the disk refused; finished pictures are kept.
    """
    index, count = shard
    if not 0 <= index < count:
        raise InputError("shard", f"{index} of {count}", expected="0 <= i < n")
    bundle = bundle_or_path if isinstance(bundle_or_path, Bundle) else load_bundle(bundle_or_path)
    jobs = every_nth_batch(jobs_for(prompts, settings.repeats, seed), settings.batch_size, shard)
    about = {job: describe(job, bundle, settings) for job in jobs}
    images = Path(out) / "images"
    with storage_errors(images):
        images.mkdir(parents=True, exist_ok=True)
        for leftover in images.glob(_LEFTOVER):
            leftover.unlink()
    missing = [job for job in jobs if not is_drawn(images / job.file_name, about[job])]
    with progress("sampling", len(jobs)) as advance, ThreadPoolExecutor(max_workers=1) as writer:
        if len(missing) < len(jobs):
            advance(len(jobs) - len(missing), "already drawn")
        pending: Iterable[None] = ()
        for batch, pixels in draw_batches(bundle, missing, settings, in_training=in_training):
            list(pending)
            # The last batch's pictures are compressed while the next batch is drawn.
            pending = writer.map(write_png, [images / job.file_name for job in batch], pixels, [about[job] for job in batch])
            advance(len(batch))
        list(pending)
    write_jsonl(Path(out) / "metadata.jsonl", sorted((row_of(job) for job in jobs), key=lambda row: row["file_name"]))
    return Path(out)


def merge_shards(shards: Sequence[Path], out: Path) -> Path:
    """Merge the shards' pictures and rows into one folder, as if it had been drawn at once."""
    rows = sorted(
        ((row, Path(shard)) for shard in shards for row in read_jsonl(Path(shard) / "metadata.jsonl")),
        key=lambda pair: pair[0]["file_name"],
    )
    for first, second in itertools.pairwise(rows):
        if first[0]["file_name"] == second[0]["file_name"]:
            raise InputError(str(second[1]), f"{second[0]['file_name']} is also in {first[1]}", expected="shards of one bank")
    with atomic_folder(out) as folder:
        (folder / "images").mkdir()
        for row, shard in rows:
            shutil.copyfile(shard / row["file_name"], folder / row["file_name"])
        write_jsonl(folder / "metadata.jsonl", [row for row, _ in rows])
    return Path(out)


def sample_class_pictures(bundle_or_path: Bundle | str | Path, prompt: str, count: int, settings: SamplingSection, seed: int) -> Path:
    """Pictures that the base itself draws for a class prompt (DreamBooth's Aux), cached by content under STYLEFORGE_HOME.

    Each of the ``count`` pictures has its own seed; the bank and ``repeats`` of the settings are ignored. Returns a folder as
    :func:`sample_bank` writes it.
    """
    bundle = bundle_or_path if isinstance(bundle_or_path, Bundle) else load_bundle(bundle_or_path)
    # A negative prompt is meant for the style's pictures. It is often the class prompt itself, and guiding away from that would leave
    # nothing to draw.
    settings = settings.without_style().model_copy(update={"repeats": count, "negative_prompt": ""})
    request = PromptRequest("class", "class", prompt, prompt)
    key = digest_value([describe(Job(request, 0, seed), bundle, settings), count])[:24]
    cache = state("cache", "class_images")
    with FileLock(cache / f"{key}.lock"):
        return sample_bank(bundle, [request], settings, seed, cache / key)


def draw_pictures(
    bundle: Bundle, requests: Sequence[PromptRequest], settings: SamplingSection, seed: int, *, in_training: bool = False
) -> Iterator[tuple[PromptRequest, Image.Image]]:
    """Draw one picture per prompt, in memory, sorted by id. ``in_training`` leaves the parts as the next training step needs them."""
    for batch, pixels in draw_batches(bundle, jobs_for(requests, 1, seed), settings, in_training=in_training):
        for job, array in zip(batch, pixels, strict=True):
            yield job.request, Image.fromarray(array)


def is_drawn(file: Path, about: dict[str, Any]) -> bool:
    """Whether ``file`` is a whole PNG that was drawn from exactly ``about``."""
    if not file.is_file():
        return False
    try:
        with Image.open(file) as picture:
            picture.load()
            return json.loads(picture.info.get(CHUNK, "null")) == about
    except (OSError, ValueError, SyntaxError):
        return False


def describe(job: Job, bundle: Bundle, settings: SamplingSection) -> dict[str, Any]:
    """Everything that a picture depends on, as it is written into its file."""
    row = {key: value for key, value in row_of(job).items() if key not in ("file_name", "category")}
    drawing = {"negative_prompt": settings.negative_prompt, **vars(bundle.family.drawing(settings))}
    height, width = bundle.family.picture_size(settings)
    size = width if height == width else [height, width]
    lowered = bundle.family.precisions.lowered
    precision = {"precision": lowered} if lowered else {}
    guidance = describe_guidance(job.request, bundle, settings)
    return {"schema": 1, "model": bundle.digest, "size": size, **row, **drawing, **precision, **guidance}


def row_of(job: Job) -> dict[str, Any]:
    """A picture's row in ``metadata.jsonl``."""
    request = job.request
    return {
        "file_name": f"images/{job.file_name}", "prompt_id": request.id, "category": request.category, "prompt": request.prompt,
        "full_prompt": request.full_prompt, "seed": job.seed, "repeat": job.repeat,
    }  # fmt: skip


def write_png(file: Path, pixels: np.ndarray, about: dict[str, Any]) -> None:
    """Write a picture, uint8 (H, W, 3), with what it depends on (:func:`describe`) in a text chunk, atomically."""
    info = PngInfo()
    info.add_itxt(CHUNK, json.dumps(about, sort_keys=True, ensure_ascii=False))
    with atomic_file(file) as temporary:
        Image.fromarray(pixels).save(temporary, pnginfo=info)


def draw_batches(
    bundle: Bundle, jobs: Sequence[Job], settings: SamplingSection, *, in_training: bool = False, start: Start | None = None
) -> Iterator[tuple[Sequence[Job], np.ndarray]]:
    """Draw pictures batch by batch: yields the jobs and their pixels, uint8 (N, H, W, 3). StyleForgeError names a prompt that gives NaN."""
    if not jobs:
        return
    family, device, guidance = bundle.family, bundle.family.device, Guidance(bundle, settings)
    for part in [part for each in guidance.families for part in each.parts.values()] if not in_training else ():
        # Convolutions alone become a quarter to a third faster, on CPUs as on tensor cores; no value changes.
        part.to(memory_format=torch.channels_last)
    # Autograd refuses tensors that inference mode leaves behind in a module's cache or buffer.
    without_gradients = torch.no_grad if in_training else torch.inference_mode
    # bf16 on an accelerator that has it; fp32 on the CPU.
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    together = settings.batch_size * math.ceil(TOGETHER / settings.batch_size)
    for first in range(0, len(jobs), settings.batch_size):
        batch = jobs[first : first + settings.batch_size]
        if first % together == 0:
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                guidance.read(jobs[first : first + together])
        # Closed before the yield: the mode applies to the whole thread, and must not reach the caller.
        with without_gradients(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            pixels = family.decode_latents(denoise(bundle, batch, settings, guidance, start))
        if not torch.isfinite(pixels).all():
            bad = next(job for job, picture in zip(batch, pixels, strict=True) if not torch.isfinite(picture).all())
            raise StyleForgeError(
                bundle.model, f"produces NaN for the prompt {bad.request.full_prompt!r}", expected="finite images",
                remedy="the model is damaged: train it again with a lower learning rate",
            )  # fmt: skip
        yield batch, to_uint8(pixels)


def denoise(bundle: Bundle, jobs: Sequence[Job], settings: SamplingSection, guidance: Guidance, start: Start | None = None) -> torch.Tensor:
    """Latents of N pictures after all denoising steps, or those from ``start`` on, shape (N, C, h, w)."""
    family, device = bundle.family, bundle.family.device
    drawing, shape = family.drawing(settings), family.latent_shape(*family.picture_size(settings))
    scheduler = family.objective.sampler(drawing.scheduler, drawing.steps, shape[1] * shape[2], device)
    generators = [torch.Generator().manual_seed(job.seed) for job in jobs]
    # diffusers handles a list of one as a single stream for the batch, which is the same here.
    options = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
    latents = torch.cat([torch.randn((1, *shape), generator=generator) for generator in generators]).to(device)
    if start:
        latents, first = start(jobs, latents, scheduler, guidance.prompts)
    else:
        # Flows begin with unit noise; discrete schedules with noise of the size that their first step expects.
        latents, first = latents * float(getattr(scheduler, "init_noise_sigma", 1.0)), 0
    predict = guidance.for_jobs(jobs, len(scheduler.timesteps))
    for step, timestep in enumerate(scheduler.timesteps[first:], first):
        scaled = scheduler.scale_model_input(latents, timestep) if hasattr(scheduler, "scale_model_input") else latents
        latents = scheduler.step(predict(scaled, timestep, step), timestep, latents, return_dict=False, **options)[0]
    return latents
