"""A workflow for ComfyUI, in the format of its API, which its page opens too."""

from __future__ import annotations

from typing import Any

from components.core.config import SamplingSection
from components.diffusion.export.guided import Guided
from components.diffusion.models.families import Family

# ComfyUI's sampler and noise schedule that come nearest to ours; its pictures are alike, not equal.
SAMPLERS = {
    "dpm++": ("dpmpp_2m", "normal"), "ddim": ("ddim", "ddim_uniform"), "euler": ("euler", "normal"),
    "euler-a": ("euler_ancestral", "normal"), "ddpm": ("ddpm", "normal"), "unipc": ("uni_pc", "normal"),
}  # fmt: skip
Nodes = dict[str, dict[str, Any]]


def workflow(family: Family, settings: SamplingSection, checkpoint: str, lora: str | None, prompt: str, guided: Guided) -> Nodes:
    """Nodes of ComfyUI's own by id: ``class_type``, and ``inputs`` that are values or (id, number of an output).

    ``checkpoint`` and ``lora`` are files under ``models/checkpoints`` and ``models/loras``; ``prompt`` names embeddings as
    ``embedding:NAME``.
    """
    nodes = {"1": _node("CheckpointLoaderSimple", ckpt_name=checkpoint)}
    model, clip = ["1", 0], ["1", 1]
    if lora:
        nodes["2"] = _node("LoraLoader", model=model, clip=clip, lora_name=lora, strength_model=1.0, strength_clip=1.0)
        model, clip = ["2", 0], ["2", 1]
    if family.objective.prediction_type == "v_prediction":
        zero_snr = bool(family.scheduler_config.get("rescale_betas_zero_snr"))
        nodes["3"] = _node("ModelSamplingDiscrete", model=model, sampling="v_prediction", zsnr=zero_snr)
        model = ["3", 0]
    nodes["4"] = _node("CLIPTextEncode", text=prompt, clip=clip)
    nodes["5"] = _node("CLIPTextEncode", text=guided.negative, clip=clip)
    height, width = family.picture_size(settings)
    nodes["6"] = _node("EmptyLatentImage", width=width, height=height, batch_size=1)
    drawing = family.drawing(settings)
    sampler, schedule = SAMPLERS[drawing.scheduler]
    if guided.middle is None:
        nodes["7"] = _node(
            "KSampler", model=model, seed=0, steps=drawing.steps, cfg=guided.scale, sampler_name=sampler, scheduler=schedule,
            positive=["4", 0], negative=["5", 0], latent_image=["6", 0], denoise=1.0,
        )  # fmt: skip
    else:
        nodes["10"] = _node("CLIPTextEncode", text=guided.middle, clip=clip)
        nodes["11"] = _node(
            "DualCFGGuider", model=model, cond1=["4", 0], cond2=["10", 0], negative=["5", 0], cfg_conds=guided.scale,
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


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}
