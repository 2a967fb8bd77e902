"""Writes a tiny model as one file in the layout of the original checkpoints, with what real ones hold besides."""

from __future__ import annotations

from pathlib import Path

KINDS = {"sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL"}


def write_original(folder: Path, file: Path, kind: str) -> Path:
    """Write the model in ``folder`` (diffusers layout) as one safetensors file; ``kind`` is ``sd1``, ``sd2`` or ``sdxl``."""
    import torch
    from safetensors.torch import save_file

    from components.diffusion.export.original import kind_of, original_tensors
    from components.diffusion.models.bundle import load_bundle

    family = load_bundle(folder, device="cpu").family
    tensors = original_tensors(family)
    # Real ones carry the training's leftovers too, and no mark of v-prediction.
    tensors.pop("v_pred", None)
    for name in ("alphas_cumprod", "betas", "model_ema.decay", "model_ema.num_updates", "logit_scale"):
        tensors[name] = torch.ones(2)
    if kind != "sd2":
        tensors[f"{kind_of(family).prefixes['text_encoder']}text_model.embeddings.position_ids"] = torch.arange(32)[None]
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, file)
    return file
