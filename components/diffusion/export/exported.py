"""Draw from the file that other programs load, with the same prompts and seeds, and compare with the model's own pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import safe_open

from components.core.config import RunConfig
from components.core.devices import default_device
from components.core.paths import write_json
from components.diffusion.export.formats import LORA_FILE
from components.diffusion.export.portable import formats_of, open_model, write_format
from components.diffusion.models.bundle import Bundle, Origin, load_weights
from components.diffusion.models.loading import quiet
from components.diffusion.models.precision import settle
from components.diffusion.sampling.jobs import PromptRequest
from components.diffusion.sampling.sampler import draw_pictures

FILE = "exported.json"


def compare_exported(folder: Path, config: RunConfig, requests: Sequence[PromptRequest]) -> None:
    """Draw ``requests`` from a model folder's exported file; write the pictures, and how far they differ, beside the model's own.

    ``training/exported.json`` has the file's kind and, for each prompt, the mean and the largest difference in levels of 0–255. Nothing
    is written if no exported file can be drawn from.
    """
    with tempfile.TemporaryDirectory(prefix="styleforge-") as scratch:
        kind, bundle = _load(folder, config, Path(scratch))
        if bundle is None:
            return
        bundle.tuned_from, device = Origin(config.base.model, config.base.revision), default_device()
        bundle.family.lower(settle(config.base.precision, device), device, config.base.offload).to(device)
        rows = []
        for request, picture in draw_pictures(bundle, requests, config.sampling, config.seed):
            name = f"{request.id.replace('validation', 'exported')}.png"
            picture.save(folder / "training" / name)
            with Image.open(folder / "training" / f"{request.id}.png") as own:
                difference = np.abs(np.asarray(own.convert("RGB"), float) - np.asarray(picture.convert("RGB"), float))
            rows.append({"prompt": request.full_prompt, "model": f"{request.id}.png", "exported": name, **_summary(difference)})
    write_json(folder / "training" / FILE, {"file": kind, "pictures": rows})


def _summary(difference: Any) -> dict[str, float]:
    return {"mean": round(float(difference.mean()), 3), "largest": float(difference.max())}


def _load(folder: Path, config: RunConfig, scratch: Path) -> tuple[str, Bundle | None]:
    """The kind of exported file and its bundle: the LoRA, put on its base by diffusers, else the one-file checkpoint, else None."""
    if (folder / LORA_FILE).is_file():
        with safe_open(folder / LORA_FILE, "pt") as opened:
            parts = {name.partition(".")[0] for name in opened.keys()}  # noqa: SIM118
        bundle = load_weights(config.base.model, config.base.revision)
        denoiser = bundle.family.layout.denoiser
        # Only pipelines load LoRAs of text encoders.
        if parts == {denoiser}:
            with quiet():
                bundle.family.parts[denoiser].load_lora_adapter(folder, prefix=denoiser, weight_name=LORA_FILE)
            return LORA_FILE, bundle
    model = open_model(folder)
    if "single-file" not in formats_of(model):
        return "", None
    write_format(model, "single-file", "model", scratch)
    return "one-file checkpoint", load_weights(scratch / "model.safetensors")
