"""Sampling, in images per second: batched prompts with guidance in one pass, against single prompts with two passes a step."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from benchmarks.measure import Prepare, Work
from benchmarks.world import World

if TYPE_CHECKING:
    import numpy as np

    from components.core.config import SamplingSection
    from components.diffusion.models.bundle import Bundle
    from components.diffusion.sampling.jobs import Job, PromptRequest

NOTE = "one prompt at a time, with two passes a step, for the prompt and the negative prompt; each file is written before the next is drawn"


def ours(world: World) -> Prepare:
    """Draw as StyleForge draws a prompt bank; the time includes writing the files."""
    from components.diffusion.models.bundle import load_bundle
    from components.diffusion.sampling.sampler import sample_bank

    bundle, prompts, settings = load_bundle(world.config.base.model, world.config.base.revision), requests(world), one_each(world)
    _ = bundle.digest  # Computed once a run, so not timed as part of drawing.

    def prepare(number: int) -> Work:
        def work() -> int:
            sample_bank(bundle, prompts, settings, world.config.seed, world.folder / "drawn" / f"ours-{number}")
            return len(prompts)

        return work

    return prepare


def plain(world: World) -> Prepare:
    """Draw the same pictures one after the other."""
    from PIL import Image

    from components.diffusion.models.bundle import load_bundle
    from components.diffusion.sampling.jobs import jobs_for

    bundle, settings = load_bundle(world.config.base.model, world.config.base.revision), one_each(world)
    jobs = jobs_for(requests(world), 1, world.config.seed)

    def prepare(number: int) -> Work:
        out = world.folder / "drawn" / f"plain-{number}"

        def work() -> int:
            out.mkdir(parents=True)
            for job in jobs:
                Image.fromarray(draw_one(bundle, job, settings)).save(out / job.file_name)
            return len(jobs)

        return work

    return prepare


def requests(world: World) -> list[PromptRequest]:
    """Return as many prompts of the bank as are to be drawn, repeated if necessary, as a style model would receive them."""
    from components.diffusion.sampling.jobs import PromptRequest
    from components.evaluation.prompts import load_bank

    template = world.config.sampling.style_template.replace("{token}", world.config.method.identifier)
    bank = load_bank(world.config.sampling.bank)
    found = [bank[index % len(bank)] for index in range(world.sizes.drawn)]
    return [
        PromptRequest(f"{index:05d}", prompt.category, prompt.text, template.replace("{prompt}", prompt.text))
        for index, prompt in enumerate(found)
    ]


def one_each(world: World) -> SamplingSection:
    """Return the run's sampling settings with one picture for each prompt."""
    return world.config.sampling.model_copy(update={"repeats": 1})


def draw_one(bundle: Bundle, job: Job, settings: SamplingSection) -> np.ndarray:
    """Draw one picture, uint8 (H, W, 3), with the textbook sampling loop of Stable Diffusion."""
    import torch

    from components.diffusion.training.pictures import to_uint8

    family, device = bundle.family, bundle.family.device
    drawing, shape = family.drawing(settings), family.latent_shape()
    scheduler = family.objective.sampler(drawing.scheduler, drawing.steps, shape[1] * shape[2], device)
    generator = torch.Generator().manual_seed(job.seed)
    options = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" and torch.cuda.is_bf16_supported())
    with torch.inference_mode(), autocast:
        latents = torch.randn((1, *shape), generator=generator).to(device) * float(scheduler.init_noise_sigma)
        positive, negative = (family.encode_prompts([text]) for text in (job.request.full_prompt, settings.negative_prompt))
        for timestep in scheduler.timesteps:
            scaled = scheduler.scale_model_input(latents, timestep)
            prediction = family.predict(scaled, timestep, positive)
            if drawing.guidance != 1.0:
                without = family.predict(scaled, timestep, negative)
                prediction = without + drawing.guidance * (prediction - without)
            latents = scheduler.step(prediction, timestep, latents, return_dict=False, **options)[0]
        return to_uint8(family.decode_latents(latents))[0]
