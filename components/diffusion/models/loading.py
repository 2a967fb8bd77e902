"""Load a family from a folder in diffusers layout or from one safetensors file in the original layout; never from pickles."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
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
from components.diffusion.models.sources import OneFile, check_folder, one_file, present_parts
from components.diffusion.models.stable_diffusion import StableDiffusion
from components.diffusion.models.z_image import ZImage

FAMILIES: dict[str, type[Family]] = {
    family.layout.pipeline: family for family in (StableDiffusion, StableDiffusionXL, StableDiffusion3, Flux, ZImage, Flux2Klein, Lumina2)
}  # fmt: skip
"""The class of each family, by the pipeline that its folders name. A new family needs a layout, a class, and its name here."""
V_PREDICTION_MARK = "v_pred"
PartTypes = Callable[[str], torch.dtype]


def in_fp32(part: str) -> torch.dtype:
    """All parts in fp32."""
    return torch.float32


def load_folder(folder: Path, types: PartTypes = in_fp32) -> Family:
    """Check and load a folder in diffusers layout, with each part's weights in the dtype that ``types`` gives.

    Raises InputError if a part is missing, damaged, or does not fit the others.
    """
    layout = check_folder(folder)
    try:
        parts = {part: _load_part(folder, part, *cls, types(part)) for part, cls in present_parts(folder).items() if part != "scheduler"}
        scheduler = _schedule(folder)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(str(folder), f"cannot be loaded ({first_line(error)})", expected=f"a complete {layout.title} folder") from error
    return FAMILIES[layout.pipeline].open(parts, scheduler, folder, str(folder))


def _schedule(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8")))


def load_file(path: Path, types: PartTypes = in_fp32) -> Family:
    """Load a one-file checkpoint, and the rest of the model from where :func:`one_file` finds it; nothing else is fetched.

    Each part's weights are converted to the dtype that ``types`` gives.

    Raises:
        InputError: the file is not a whole checkpoint, or does not fit its configuration.
        ServiceUnreachable: the configuration must be fetched, and the hub does not answer.
    """
    from safetensors.torch import load_file as load_tensors

    file = one_file(path)
    folder, parts = file.folder, dict[str, Any]()
    try:
        tensors = load_tensors(path)
        for part, cls in present_parts(folder).items():
            if part in file.prefixes:
                parts[part] = _convert_part(path, file, part, *cls, tensors, types(part))
            elif part != "scheduler":
                parts[part] = _load_part(folder, part, *cls, types(part))
        scheduler = _schedule(folder)
    except InputError:
        raise
    except Exception as error:
        # The conversion has no errors of its own: any key or shape that it fails on comes from the file or its configuration.
        raise InputError(
            str(path), f"cannot be loaded with the configuration in {folder} ({first_line(error)})",
            expected=f"a {file.kind.title} checkpoint and its own configuration",
        ) from error  # fmt: skip
    family = FAMILIES[file.kind.layout.pipeline].open(parts, scheduler, folder, str(path))
    if V_PREDICTION_MARK in tensors and family.objective.prediction_type != "v_prediction":
        raise InputError(
            str(path), f"the file is marked as v-prediction, but its configuration in {folder} says {family.objective.prediction_type}",
            expected="prediction_type v_prediction in scheduler/scheduler_config.json",
            remedy=f"put its own configuration into {path.with_suffix('')}/",
        )  # fmt: skip
    return family


def _convert_part(
    path: Path, file: OneFile, part: str, library: str, name: str, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype
) -> Any:
    """Load a network from a one-file checkpoint, using diffusers' conversion of the tensors' names."""
    import diffusers
    import transformers
    from accelerate import init_empty_weights
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm, create_diffusers_t5_model_from_checkpoint

    prefix, others = file.prefixes[part], tuple(each for name, each in file.prefixes.items() if name != part)
    # For a denoiser shared alone, some families' conversions accept only names without the prefix, others both forms.
    start = len(prefix) if part == file.kind.layout.denoiser and file.kind.bare else 0
    own = {each[start:]: value for each, value in tensors.items() if each.startswith(prefix) and (prefix or not each.startswith(others))}
    if library == "transformers":
        read = create_diffusers_t5_model_from_checkpoint if name.startswith("T5") else create_diffusers_clip_model_from_ldm
        network = read(getattr(transformers, name), own, config=str(file.folder), subfolder=part, torch_dtype=dtype, local_files_only=True)
        network.tie_weights()
    else:
        cls = getattr(diffusers, name)
        with init_empty_weights():
            network = cls.from_config(cls.load_config(file.folder / part, local_files_only=True))
        converted = SINGLE_FILE_LOADABLE_CLASSES[name]["checkpoint_mapping_fn"](checkpoint=own, config=network.config)
        _check_fits(path, file, part, converted, network.state_dict())
        network.load_state_dict(converted, strict=False, assign=True)
        network.eval()
    missing = [each for each, value in network.named_parameters() if value.is_meta]
    if missing:
        # diffusers silently leaves weights that the file lacks on the meta device.
        raise InputError(
            str(path), f"lacks {len(missing)} weights of the {part} that {file.folder} describes, such as {missing[0]}",
            expected="a complete checkpoint and its own configuration",
        )  # fmt: skip
    cast(network.requires_grad_(False), dtype)
    return network


def _check_fits(path: Path, file: OneFile, part: str, found: Mapping[str, Any], described: Mapping[str, Any]) -> None:
    """Refuse tensors that do not fit the configuration: dropping them would turn the file into another, smaller model."""
    wrong = [name for name, value in found.items() if name not in described or described[name].shape != value.shape]
    if wrong:
        shapes = [f"{tuple(each[wrong[0]].shape)}" if wrong[0] in each else "nothing" for each in (found, described)]
        raise InputError(
            str(path), f"cannot be loaded with the configuration in {file.folder}: of its {part} {len(wrong)} tensors do not fit, such as "
            f"{wrong[0]}, {shapes[0]} where the configuration has {shapes[1]}",
            expected=f"a {file.kind.title} checkpoint and its own configuration",
        )  # fmt: skip


def _load_part(folder: Path, part: str, library: str, name: str, dtype: torch.dtype) -> Any:
    import diffusers
    import transformers

    cls = getattr({"diffusers": diffusers, "transformers": transformers}[library], name)
    if part.startswith("tokenizer"):
        return cls.from_pretrained(folder / part, local_files_only=True)
    # Take the half-precision variant only if there is no other.
    names = [path.name for path in (folder / part).glob("*.safetensors")]
    variant = "fp16" if names and all(".fp16" in name for name in names) else None
    network, report = cls.from_pretrained(
        folder / part, output_loading_info=True, torch_dtype=dtype, use_safetensors=True, local_files_only=True, variant=variant
    )
    missing = sorted({*report["missing_keys"], *(name for name, value in network.named_parameters() if value.is_meta)})
    if missing:
        # Otherwise they would hold random numbers, or nothing at all.
        raise InputError(
            str(folder / part), f"lacks {len(missing)} of its weights, such as {missing[0]}", expected="complete weights",
            remedy="save the whole pipeline with save_pretrained",
        )  # fmt: skip
    return network


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide diffusers' and transformers' progress bars and hints while a model is read or written."""
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
