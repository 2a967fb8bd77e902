"""From files to a family: a folder in diffusers layout, or one safetensors file in the original layout; never pickles."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from components.core.errors import InputError, first_line
from components.diffusion.models.families import Family
from components.diffusion.models.flux import Flux
from components.diffusion.models.flux2 import Flux2Klein
from components.diffusion.models.lumina2 import Lumina2
from components.diffusion.models.precision import cast
from components.diffusion.models.sd3 import StableDiffusion3
from components.diffusion.models.sdxl import StableDiffusionXL
from components.diffusion.models.sources import (
    check_folder,
    configuration_of,
    file_kind,
    present_parts,
    tensor_names,
)
from components.diffusion.models.stable_diffusion import StableDiffusion
from components.diffusion.models.z_image import ZImage

FAMILIES: dict[str, type[Family]] = {
    family.layout.pipeline: family for family in (StableDiffusion, StableDiffusionXL, StableDiffusion3, Flux, ZImage, Flux2Klein, Lumina2)
}  # fmt: skip
"""The class of each family, by the pipeline that its folders name. A further family is a layout, a class, and a name here."""
# Parts of pipelines that the work here has no use for.
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
V_PREDICTION_MARK = "v_pred"
PartTypes = Callable[[str], torch.dtype]


def in_fp32(part: str) -> torch.dtype:
    """All parts in fp32."""
    return torch.float32


def load_folder(folder: Path, types: PartTypes = in_fp32) -> Family:
    """A checked folder in diffusers layout, weights in the ``types`` of their parts.

    InputError where a part is missing, damaged, or does not fit the others.
    """
    layout = check_folder(folder)
    try:
        parts = {part: _load_part(folder, part, *cls, types(part)) for part, cls in present_parts(folder).items() if part != "scheduler"}
        scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(str(folder), f"cannot be loaded ({first_line(error)})", expected=f"a whole {layout.title} folder") from error
    return FAMILIES[layout.pipeline].open(parts, scheduler, folder, str(folder))


def load_file(path: Path, types: PartTypes = in_fp32) -> Family:
    """A one-file checkpoint, with the configuration and tokenizers that :func:`configuration_of` finds; no network beyond that.

    Weights are brought into the ``types`` of their parts.

    Raises:
        InputError: the file is no whole checkpoint, or does not fit its configuration.
        ServiceUnreachable: the configuration must be fetched, and the hub does not answer.
    """
    import diffusers

    kind, folder = file_kind(path), configuration_of(path)
    pipeline_class = getattr(diffusers, kind.layout.pipeline)
    unused: dict[str, Any] = {name: None for name in UNUSED if name in pipeline_class._optional_components}
    try:
        pipeline = pipeline_class.from_single_file(
            str(path), config=str(folder), local_files_only=True, torch_dtype=torch.float32, **unused
        )
    except Exception as error:
        # The conversion has no errors of its own: whatever key or shape it stumbles over is the file's or its configuration's.
        raise InputError(
            str(path), f"cannot be loaded with the configuration in {folder} ({first_line(error)})",
            expected=f"a {kind.title} checkpoint and its own configuration",
        ) from error  # fmt: skip
    parts = {part: getattr(pipeline, part) for part in kind.layout.parts if part != "scheduler"}
    _check_whole(path, folder, {part: parts[part] for part in kind.layout.networks})
    for part in kind.layout.networks:
        cast(parts[part].requires_grad_(False), types(part))
    scheduler = {**pipeline.scheduler.config, "_class_name": type(pipeline.scheduler).__name__}
    family = FAMILIES[kind.layout.pipeline].open(parts, scheduler, folder, str(path))
    if V_PREDICTION_MARK in tensor_names(path) and family.objective.prediction_type != "v_prediction":
        raise InputError(
            str(path), f"the file is marked as v-prediction, but its configuration in {folder} says {family.objective.prediction_type}",
            expected="prediction_type v_prediction in scheduler/scheduler_config.json",
            remedy=f"put its own configuration into {path.with_suffix('')}/",
        )  # fmt: skip
    return family


def _load_part(folder: Path, part: str, library: str, name: str, dtype: torch.dtype) -> Any:
    import diffusers
    import transformers

    cls = getattr({"diffusers": diffusers, "transformers": transformers}[library], name)
    if part.startswith("tokenizer"):
        return cls.from_pretrained(folder / part, local_files_only=True)
    # A half-precision variant only where it is all there is.
    names = [path.name for path in (folder / part).glob("*.safetensors")]
    variant = "fp16" if names and all(".fp16" in name for name in names) else None
    network, report = cls.from_pretrained(
        folder / part, output_loading_info=True, torch_dtype=dtype, use_safetensors=True, local_files_only=True, variant=variant
    )
    missing = sorted({*report["missing_keys"], *(name for name, value in network.named_parameters() if value.is_meta)})
    if missing:
        # Left alone they would be random numbers, or nothing at all.
        raise InputError(
            str(folder / part), f"lacks {len(missing)} of its weights, such as {missing[0]}", expected="whole weights",
            remedy="save the whole pipeline with save_pretrained",
        )  # fmt: skip
    return network


def _check_whole(path: Path, folder: Path, networks: dict[str, Any]) -> None:
    """diffusers leaves what a file does not hold without memory, or at random, and says nothing."""
    for part, network in networks.items():
        missing = [name for name, value in network.named_parameters() if value.is_meta]
        if missing:
            raise InputError(
                str(path), f"lacks {len(missing)} weights of the {part} that {folder} describes, such as {missing[0]}",
                expected="a whole checkpoint and its own configuration",
            )  # fmt: skip


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep diffusers' and transformers' bars and hints off the screen while a model is read or written."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    levels = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
