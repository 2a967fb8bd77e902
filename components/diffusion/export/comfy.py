"""A workflow for ComfyUI, in the format of its API, which its web page opens too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from components.core.config import SamplingSection
from components.diffusion.export.guided import Guided
from components.diffusion.models.families import Family

# ComfyUI's sampler and noise schedule that come closest to ours; its pictures are similar, not identical.
SAMPLERS = {
    "dpm++": ("dpmpp_2m", "normal"), "ddim": ("ddim", "ddim_uniform"), "euler": ("euler", "normal"),
    "euler-a": ("euler_ancestral", "normal"), "ddpm": ("ddpm", "normal"), "unipc": ("uni_pc", "normal"),
}  # fmt: skip
Nodes = dict[str, dict[str, Any]]


def workflow(
    family: Family,
    settings: SamplingSection,
    checkpoint: str,
    lora: str | None,
    prompt: str,
    guided: Guided,
    strength: float = 1.0,
    stages: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Nodes:
    """The workflow's nodes, all built into ComfyUI, by id: ``class_type``, and ``inputs`` that are values or [id, output number].

    ``checkpoint`` and ``lora`` are files under ``models/checkpoints`` and ``models/loras``; the LoRA is used at ``strength``. Prompts name
    embeddings as ``embedding:NAME``. ``stages`` gives the names that replace an embedding's at each stage of noise, least noise first.
    """
    nodes = {"1": _node("CheckpointLoaderSimple", ckpt_name=checkpoint)}
    model, clip = ["1", 0], ["1", 1]
    if lora:
        nodes["2"] = _node("LoraLoader", model=model, clip=clip, lora_name=lora, strength_model=strength, strength_clip=strength)
        model, clip = ["2", 0], ["2", 1]
    if family.objective.prediction_type == "v_prediction":
        zero_snr = bool(family.scheduler_config.get("rescale_betas_zero_snr"))
        nodes["3"] = _node("ModelSamplingDiscrete", model=model, sampling="v_prediction", zsnr=zero_snr)
        model = ["3", 0]
    positive, negative = (_encoded(nodes, number, text, clip, stages) for number, text in ((4, prompt), (5, guided.negative)))
    height, width = family.picture_size(settings)
    nodes["6"] = _node("EmptyLatentImage", width=width, height=height, batch_size=1)
    drawing = family.drawing(settings)
    sampler, schedule = SAMPLERS[drawing.scheduler]
    if guided.middle is None:
        nodes["7"] = _node(
            "KSampler", model=model, seed=0, steps=drawing.steps, cfg=guided.scale, sampler_name=sampler, scheduler=schedule,
            positive=positive, negative=negative, latent_image=["6", 0], denoise=1.0,
        )  # fmt: skip
    else:
        middle = _encoded(nodes, 10, guided.middle, clip, stages)
        nodes["11"] = _node(
            "DualCFGGuider", model=model, cond1=positive, cond2=middle, negative=negative, cfg_conds=guided.scale,
            cfg_cond2_negative=guided.middle_scale, style="regular",
        )  # fmt: skip
        nodes["12"] = _node("RandomNoise", noise_seed=0)
        nodes["13"] = _node("KSamplerSelect", sampler_name=sampler)
        nodes["14"] = _node("BasicScheduler", model=model, scheduler=schedule, steps=drawing.steps, denoise=1.0)
        nodes["7"] = _node(
            "SamplerCustomAdvanced", noise=["12", 0], guider=["11", 0], sampler=["13", 0], sigmas=["14", 0], latent_image=["6", 0]
        )
    nodes["8"] = _node("VAEDecode", samples=["7", 0], vae=["1", 2])
    nodes["9"] = _node("SaveImage", images=["8", 0], filename_prefix="styleforge")
    return nodes


def _encoded(nodes: Nodes, number: int, text: str, clip: list[Any], stages: Mapping[str, Sequence[str]]) -> list[Any]:
    """Add the nodes that encode a prompt, and return their output.

    If the prompt names a staged token, each stage is encoded for its own range of noise: shares of the timesteps from the noisy end.
    """
    # Other names may begin with the token's: its negative token's does.
    found_in = {token: re.compile(re.escape(token) + r"(?![\w-])") for token in stages}
    token = next((each for each, pattern in found_in.items() if pattern.search(text)), None)
    if token is None:
        nodes[f"{number}"] = _node("CLIPTextEncode", text=text, clip=clip)
        return [f"{number}", 0]
    found: list[Any] = []
    for stage, name in enumerate(stages[token]):
        own, count = f"{number}{stage:02d}", len(stages[token])
        nodes[own] = _node("CLIPTextEncode", text=found_in[token].sub(name, text), clip=clip)
        start, end = round(1 - (stage + 1) / count, 6), round(1 - stage / count, 6)
        nodes[f"{own}1"] = _node("ConditioningSetTimestepRange", conditioning=[own, 0], start=start, end=end)
        link: list[Any] = [f"{own}1", 0]
        if found:
            nodes[f"{own}2"] = _node("ConditioningCombine", conditioning_1=found, conditioning_2=link)
        found = [f"{own}2", 0] if found else link
    return found


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}
