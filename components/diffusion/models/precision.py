"""The precisions in which a base's frozen parts are held: what memory each takes, where each works, and how parts are converted."""

import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from components.core.config import PrecisionSection
from components.core.errors import ConfigError
from components.diffusion.models.held import BLOCK, FORMATS, PLAIN, Holding, leave

PLAIN_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precisions:
    """The precision of each kind of part, settled for a device."""

    denoiser: str = "fp32"
    text_encoders: str = "fp32"
    vae: str = "fp32"

    @property
    def lowered(self) -> dict[str, str]:
        """The precisions other than fp32, which change results, by kind of part."""
        return {kind: precision for kind, precision in vars(self).items() if precision != "fp32"}

    def of(self, part: str) -> str:
        """The precision of a part, by its name in the layout."""
        return str(vars(self)[kind_of(part)])


def kind_of(part: str) -> str:
    """The kind of a part by its name in the layout: ``denoiser``, ``text_encoders`` or ``vae``."""
    return "text_encoders" if part.startswith("text_encoder") else part if part == "vae" else "denoiser"


def settle(section: PrecisionSection, device: torch.device) -> Precisions:
    """Resolve ``auto`` for a device: bf16 on CUDA, except for the VAE; fp32 elsewhere.

    Raises ConfigError if a precision needs a package that is not installed, or if the device does not support it.
    """
    usual = "bf16" if device.type == "cuda" else "fp32"
    denoiser, text_encoders = (usual if each == "auto" else each for each in (section.denoiser, section.text_encoders))
    found = Precisions(denoiser, text_encoders, "fp32" if section.vae == "auto" else section.vae)
    for kind, precision in vars(found).items():
        _check(f"base.precision.{kind}", precision, device)
    return found


def _check(field: str, precision: str, device: torch.device) -> None:
    if precision == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            field, "nf4 needs bitsandbytes, which is not installed", expected="int8 or fp8, which need no package",
            remedy="run `pip install bitsandbytes`, or install `styleforge[optimizers]`",
        )  # fmt: skip
    try:
        if precision in FORMATS:
            held, scale = FORMATS[precision].encode(torch.ones(BLOCK, BLOCK, device=device))
            FORMATS[precision].decode(held, scale, torch.Size((BLOCK, BLOCK)), torch.float32)
    except (RuntimeError, TypeError, NotImplementedError, ValueError) as error:
        raise ConfigError(
            field, f"this machine's {device.type} cannot hold {precision} ({str(error).splitlines()[0]})", expected="a device that can",
            remedy="set bf16 or fp32",
        ) from error  # fmt: skip


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type that a part computes in: its own, or, if that is for storage only, bf16 on CUDA and fp32 elsewhere."""
    return PLAIN_DTYPES.get(precision, torch.bfloat16 if device.type == "cuda" else torch.float32)


def weight_bytes(precision: str, shape: Sequence[int]) -> float:
    """Bytes of a layer's matrix in a precision, scales included."""
    size = math.prod(shape)
    if precision in PLAIN_DTYPES:
        return float(size * PLAIN_DTYPES[precision].itemsize)
    return size * (0.5 + 4.0 / BLOCK) if precision == "nf4" else size + 4.0 * shape[0]


def held_layers(part: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The frozen layers of a part's blocks, in order: those that may be held in 8 or 4 bits or offloaded.

    Layers before, between and after the blocks (embeddings, first and last layers, norms) are small, and lowering them does more harm.
    """
    for block in blocks(part):
        # Of an adapted layer only the base's own is held. Adapters are told by name: those that nothing depends on are frozen too.
        adapted = [f"{name}." for name, module in block.named_modules() if hasattr(module, "base_layer")]
        for name, layer in block.named_modules():
            adapter = any(name.startswith(each) and not name.startswith(f"{each}base_layer") for each in adapted)
            # Not ``wo``: transformers' T5 casts its states to the type of this layer's weight.
            matrix = isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) and name.rpartition(".")[2] != "wo" and not adapter
            if matrix and not any(value.requires_grad for value in layer.parameters()):
                yield layer


def blocks(part: torch.nn.Module) -> list[torch.nn.Module]:
    """The blocks that a part repeats: the members of its outermost lists of modules."""
    found: list[torch.nn.Module] = []
    for child in part.children():
        # Some lists hold None where a level has no attention.
        found += [block for block in child if block is not None] if isinstance(child, torch.nn.ModuleList) else blocks(child)
    return found


def lower(part: torch.nn.Module, precision: str, device: torch.device, offload: float = 0.0) -> None:
    """Convert a part's frozen weights to a precision for work on ``device``; trained weights stay as they are, and nothing is moved yet.

    ``offload`` is the share of its blocks, evenly spaced, whose layers stay on the CPU when :func:`place` moves the part. The part's
    inputs are cast to the type that it computes in, and its outputs have that type.
    """
    dtype, form = compute_dtype(precision, device), FORMATS.get(precision)
    cast(part, dtype)
    if dtype != torch.float32:
        part.register_forward_pre_hook(lambda _, inputs, named: _brought(inputs, named, dtype), with_kwargs=True)
    away = {layer for index, block in enumerate(blocks(part)) if is_away(index, offload) for layer in block.modules()}
    layers = [layer for layer in held_layers(part) if form or layer in away]
    holding = Holding(part) if layers else None
    for layer in layers:
        assert holding is not None
        holding.hold(layer, form or PLAIN, dtype)
        if layer in away:
            leave(layer, torch.device("cpu"))
            layer.held_away = True  # type: ignore[assignment]
    # Distributed processes need not synchronise frozen tensors, and their transport does not accept all of these types.
    names = {id(layer): name for name, layer in part.named_modules()}
    ignored = [f"{names[id(layer)]}.{each}" for layer in layers for each in (*layer._parameters, *layer._buffers)]
    part._ddp_params_and_buffers_to_ignore = ignored  # type: ignore[assignment]


def cast(part: torch.nn.Module, dtype: torch.dtype) -> None:
    """Cast frozen weights to a type to compute in, except those that the part's library says must stay in fp32."""
    for name, value in part.named_parameters():
        if not value.requires_grad and value.is_floating_point() and not _stays(part, name, dtype):
            value.data = value.data.to(dtype)


def place(part: torch.nn.Module, device: torch.device) -> None:
    """Move a part, except for the layers that stay on the CPU."""
    for module in part.modules():
        if not getattr(module, "held_away", False):
            module._apply(lambda value: value.to(device), recurse=False)


def part_bytes(part: torch.nn.Module) -> int:
    """Bytes of a part's weights on its device: those that stay on the CPU do not count."""
    here = [module for module in part.modules() if not getattr(module, "held_away", False)]
    tensors = {id(value): value for module in here for value in (*module.parameters(recurse=False), *module.buffers(recurse=False))}
    return sum(value.numel() * value.element_size() for value in tensors.values())


def is_away(index: int, share: float) -> bool:
    """Whether the block of this index is one of the ``share`` that stays on the CPU."""
    return math.floor((index + 1) * share + 1e-9) > math.floor(index * share + 1e-9)


def _stays(part: torch.nn.Module, name: str, dtype: torch.dtype) -> bool:
    """Whether the library says that a weight must stay in fp32: diffusers means in both bf16 and fp16, transformers only in fp16."""
    listed = getattr(part, "_keep_in_fp32_modules", None) or ()
    return (dtype == torch.float16 or hasattr(part, "save_config")) and not set(listed).isdisjoint(name.split("."))


def _brought(inputs: Any, named: Any, dtype: torch.dtype) -> tuple[Any, Any]:
    """A part's inputs with states and latents cast to its type. Vectors (times, guidance) and positions are too fine for 16 bits."""

    def brought(value: Any) -> Any:
        if torch.is_tensor(value):
            return value.to(dtype) if value.is_floating_point() and value.dim() > 1 else value
        if isinstance(value, dict):
            return {key: each if key.endswith("ids") else brought(each) for key, each in value.items()}
        return type(value)(brought(each) for each in value) if type(value) in (list, tuple) else value

    return brought(inputs), brought(named)
