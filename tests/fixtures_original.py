"""Writes a tiny model as one file in the layout of the original checkpoints, with what real ones hold besides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

KINDS = {"sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL"}


def write_original(folder: Path, file: Path, kind: str) -> Path:
    """Write the model in ``folder`` (diffusers layout) as one safetensors file; ``kind`` is ``sd1``, ``sd2`` or ``sdxl``."""
    import torch
    from safetensors.torch import save_file

    from components.diffusion.export.original import rename
    from components.diffusion.models.layouts import FILE_KINDS

    found = next(each for each in FILE_KINDS if each.title == KINDS[kind])
    configs = {part: json.loads((folder / part / "config.json").read_text()) for part in found.prefixes}
    tensors = rename({part: _weights(folder / part) for part in found.prefixes}, configs, found)
    # Real ones carry the training's leftovers too.
    for name in ("alphas_cumprod", "betas", "model_ema.decay", "model_ema.num_updates", "logit_scale"):
        tensors[name] = torch.ones(2)
    if kind != "sd2":
        tensors[f"{found.prefixes['text_encoder']}text_model.embeddings.position_ids"] = torch.arange(32)[None]
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, file)
    return file


def _weights(part: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {name: value for file in sorted(part.glob("*.safetensors")) for name, value in load_file(file).items()}
