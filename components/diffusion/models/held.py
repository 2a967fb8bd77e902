"""Layers that store their weights in a smaller type than they compute in, or on the CPU, and fetch them only for each call.

diffusers has hooks for both (layer-wise casting, group offloading), but made for inference: they swap a parameter's data, so in training
the backward pass finds other numbers than the forward pass had (measured: a 1×1 convolution fails, and a linear layer keeps everything
it fetched in the graph). Its quantizers read only folders and do not run on a CPU. The mechanism here serves training and drawing, all
precisions, files and folders: autograd keeps a note of how to fetch the weight, not the weight itself, and fetches it again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

BLOCK = 64
"""Number of nf4 weights that share a scale (Dettmers et al., 2023)."""
_SCALE = "held_scale"


@dataclass(frozen=True)
class Format:
    """How a matrix is held: ``encode`` returns the held tensor and its scales, ``decode`` restores the matrix in a given shape and type."""

    encode: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]
    decode: Callable[[torch.Tensor, torch.Tensor | None, torch.Size, torch.dtype], torch.Tensor]


def _by_rows(dtype: torch.dtype, largest: float) -> Format:
    """8-bit numbers with a scale for each row."""

    def encode(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = weight.float().flatten(1)
        scale = rows.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / largest
        rows = rows / scale
        return (rows if dtype.is_floating_point else rows.round()).to(dtype), scale

    def decode(held: torch.Tensor, scale: torch.Tensor | None, shape: torch.Size, wanted: torch.dtype) -> torch.Tensor:
        assert scale is not None
        return (held.float() * scale).to(wanted).view(shape)

    return Format(encode, decode)


def _to_nf4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(weight.float().flatten(1).contiguous(), blocksize=BLOCK, quant_type="nf4")
    return packed, state.absmax


def _from_nf4(held: torch.Tensor, scale: torch.Tensor | None, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    from bitsandbytes.functional import QuantState, dequantize_4bit, get_4bit_type

    code = get_4bit_type("nf4", device=held.device)
    # On the CPU, bitsandbytes takes a slow path if the last dimension is odd, as it is in the shape of 1×1 kernels.
    columns = shape.numel() // shape[0]
    rows = torch.Size((shape[0], columns) if columns % 2 == 0 else (1, shape.numel()))
    state = QuantState(absmax=scale, shape=rows, code=code, blocksize=BLOCK, quant_type="nf4", dtype=dtype)
    weight: torch.Tensor = dequantize_4bit(held, state)
    return weight.view(shape)


FORMATS = {
    "fp8": _by_rows(torch.float8_e4m3fn, 448.0),
    "int8": _by_rows(torch.int8, 127.0),
    "nf4": Format(_to_nf4, _from_nf4),
}
PLAIN = Format(lambda weight: (weight, None), lambda held, _, __, dtype: held.to(dtype))


@dataclass(frozen=True)
class _Note:
    """What autograd keeps in place of a fetched tensor: how to fetch it again, and the view of it that an operation used."""

    fetch: Callable[[], torch.Tensor]
    size: torch.Size
    stride: tuple[int, ...]
    offset: int

    def read(self) -> torch.Tensor:
        return self.fetch().as_strided(self.size, self.stride, self.offset)


class Holding:
    """The held layers of one part; while the part is called, fetched weights are kept out of autograd's graph."""

    def __init__(self, part: torch.nn.Module) -> None:
        self._fetched: dict[int, Callable[[], torch.Tensor]] = {}
        self._own: dict[torch.nn.Module, dict[str, Any]] = {}
        self._keeping: list[Any] = []
        part.register_forward_pre_hook(self._begin)
        part.register_forward_hook(self._end, always_call=True)

    def hold(self, layer: torch.nn.Module, form: Format, dtype: torch.dtype) -> None:
        """Make a frozen layer hold its matrix in ``form``, and compute in ``dtype`` on its input's device."""
        weight = layer.get_parameter("weight")
        shape, (held, scale) = weight.shape, form.encode(weight.data)
        layer._parameters["weight"] = torch.nn.Parameter(held, requires_grad=False)
        layer.register_buffer(_SCALE, scale, persistent=False)
        layer.register_forward_pre_hook(lambda each, inputs: self._fetch(each, inputs, form, shape, dtype))
        layer.register_forward_hook(self._put_back, always_call=True)

    def _begin(self, *_: Any) -> None:
        hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept.read() if isinstance(kept, _Note) else kept)
        hooks.__enter__()
        self._keeping.append(hooks)

    def _end(self, *_: Any) -> None:
        self._keeping.pop().__exit__(None, None, None)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor | _Note:
        fetch = self._fetched.get(tensor.untyped_storage().data_ptr())
        if fetch is None:
            return tensor
        return _Note(fetch, tensor.size(), tensor.stride(), int(tensor.storage_offset()))

    def _fetch(self, layer: torch.nn.Module, inputs: Any, form: Format, shape: torch.Size, dtype: torch.dtype) -> None:
        device = inputs[0].device
        own, scale = layer._parameters, layer._buffers[_SCALE]
        self._own[layer] = own

        def weight() -> torch.Tensor:
            held = own["weight"]
            assert held is not None
            near = None if scale is None else scale.to(device, non_blocking=True)
            return form.decode(held.detach().to(device, non_blocking=True), near, shape, dtype)

        fresh = {name: None if value is None else value.to(device, non_blocking=True) for name, value in own.items() if name != "weight"}
        layer._parameters = {"weight": weight(), **fresh}  # type: ignore[dict-item]
        self._fetched[layer._parameters["weight"].untyped_storage().data_ptr()] = weight  # type: ignore[union-attr]

    def _put_back(self, layer: torch.nn.Module, *_: Any) -> None:
        self._fetched.pop(layer._parameters["weight"].untyped_storage().data_ptr(), None)  # type: ignore[union-attr]
        layer._parameters = self._own.pop(layer)


def leave(layer: torch.nn.Module, home: torch.device) -> None:
    """Move a held layer's tensors to ``home``; pinned if that is the CPU of a machine with a GPU, so that copies do not block."""

    def moved(value: torch.Tensor) -> torch.Tensor:
        value = value.to(home)
        return value.pin_memory() if home.type == "cpu" and torch.cuda.is_available() else value

    for name, value in layer._parameters.items():
        layer._parameters[name] = None if value is None else torch.nn.Parameter(moved(value.data), requires_grad=False)
    for name, buffer in layer._buffers.items():
        layer._buffers[name] = None if buffer is None else moved(buffer)
