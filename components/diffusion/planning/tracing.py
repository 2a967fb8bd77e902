"""Count live bytes while real model code runs on tensors that have shapes but no memory (torch's ``meta`` device).

The code that trains and draws runs unchanged, so that what it keeps for the backward pass, what it copies and when it frees memory
is counted, not guessed. Attention and autocast are replaced with what a GPU does, since the meta device has neither.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

META = torch.device("meta")
# Which functions autocast runs in half precision and in fp32 on CUDA: docs.pytorch.org/docs/stable/amp.html, "CUDA Ops that can autocast".
HALF = frozenset((
    "__matmul__", "__rmatmul__", "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "chain_matmul", "conv1d", "conv2d", "conv3d",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "einsum", "linear", "matmul", "mm", "mv", "scaled_dot_product_attention",
    "multi_dot", "prelu",
))  # fmt: skip
FULL = frozenset((
    "__pow__", "__rpow__", "acos", "asin", "binary_cross_entropy_with_logits", "cosh", "cosine_similarity", "cumprod", "cumsum", "dist",
    "erfinv", "exp", "expm1", "group_norm", "kl_div", "l1_loss", "layer_norm", "log", "log10", "log1p", "log2",
    "log_softmax", "logsumexp", "mse_loss", "nll_loss", "norm", "pow", "prod", "reciprocal", "rms_norm", "rsqrt", "sinh",
    "smooth_l1_loss", "softmax", "softplus", "sum", "tan",
))  # fmt: skip


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all live storages that operations have created; those of ``known`` tensors do not count.

    ``now`` is the current number of bytes, ``peak`` the highest so far.
    """

    def __init__(self, known: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._alive: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._results: dict[Any, Any] = {}

    def reset_peak(self) -> None:
        """Begin a new phase, whose peak starts at the bytes that are alive now."""
        self.peak = self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = self._call(func, args, kwargs or {})
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._known and key not in self._alive:
                size = storage.nbytes()
                self._alive[key] = (weakref.ref(storage, partial(self._drop, key)), size)
                self.now += size
                self.peak = max(self.peak, self.now)
        return result

    def _drop(self, key: int, _: Any) -> None:
        self.now -= self._alive.pop(key)[1]

    def _call(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Call an operation, or repeat a known result: inferring shapes in Python takes a millisecond, and networks repeat operations."""
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta and args[0].dtype == torch.bool:
            # Such values are asked of masks, which are all True for the longest prompt.
            return True
        if not _is_pure(func):
            return func(*args, **kwargs)
        key = (func, _shape_key(args), _shape_key(tuple(kwargs.items())))
        try:
            known = self._results.get(key)
        except TypeError:
            return func(*args, **kwargs)
        if known is None:
            result = func(*args, **kwargs)
            self._results[key] = _recipe(result)
            return result
        return known() if known else func(*args, **kwargs)


def _tensors(result: Any) -> Iterator[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, tuple | list):
        for item in result:
            yield from _tensors(item)


_PURE: dict[Any, bool] = {}


def _is_pure(func: Any) -> bool:
    """Whether an operation creates new tensors, and neither changes nor aliases others."""
    if func not in _PURE:
        schema = func._schema
        _PURE[func] = not schema.is_mutable and not any(item.alias_info for item in (*schema.arguments, *schema.returns))
    return _PURE[func]


def _shape_key(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.shape, value.stride(), value.dtype, value.device.type
    if isinstance(value, tuple | list):
        return tuple(_shape_key(item) for item in value)
    # 1, 1.0 and True are equal, but give tensors of different types.
    return type(value), value


def _recipe(result: Any) -> Callable[[], Any] | bool:
    """A function that makes such a result again; False if shapes alone do not determine it."""
    several = isinstance(result, tuple)
    items = result if several else (result,)
    if not all(item is None or (isinstance(item, torch.Tensor) and item.device == META) for item in items):
        return False
    made = [None if item is None else (item.shape, item.stride(), item.dtype) for item in items]

    def make() -> Any:
        again = [None if item is None else torch.empty_strided(item[0], item[1], dtype=item[2], device=META) for item in made]
        return tuple(again) if several else again[0]

    return make


class _Attention(torch.autograd.Function):
    """Fused attention's memory (Dao et al., 2022): the output and one number per row are kept, never the attention matrix."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        output = query.new_empty((*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query, key, value, _, rows = ctx.saved_tensors
        _delta = torch.empty_like(rows)
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


class _Fetched(torch.autograd.Function):
    """A product with a frozen matrix that is offloaded or quantized: it is fetched for the product, and again for the backward pass.

    If the block is recomputed (``keeps``), the matrix stays from the recomputation until the block's backward pass.
    """

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, product: Callable[..., torch.Tensor], keeps: bool) -> torch.Tensor:
        fresh = torch.empty_like(weight, dtype=states.dtype)
        ctx.save_for_backward(fresh if keeps else weight)
        ctx.keeps, ctx.shape = keeps, states.shape
        return product(states, fresh)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        _fresh = weight if ctx.keeps else torch.empty_like(weight, dtype=gradients[0].dtype)
        return gradients[0].new_empty(ctx.shape), None, None, None


@dataclass
class GpuFunctions(TorchFunctionMode):
    """Functions as on a GPU: fused attention, autocast to ``half`` (None: off), and matrices that are ``fetched``, by id.

    ``keeps`` says whether blocks are recomputed in the backward pass.
    """

    half: torch.dtype | None = None
    fetched: frozenset[int] = frozenset()
    keeps: bool = False
    _casts: dict[int, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self.half is not None and (name in HALF or name in FULL):
            wanted = self.half if name in HALF else torch.float32
            args, kwargs = self._cast(args, wanted), self._cast(kwargs, wanted)
        if func is F.scaled_dot_product_attention:
            given = (*args, *(kwargs[key] for key in ("query", "key", "value")[len(args) :]))
            return _Attention.apply(*given[:3])
        if name in ("linear", "conv2d") and len(args) > 1 and id(args[1]) in self.fetched:
            return _Fetched.apply(args[0], args[1], lambda states, weight: func(states, weight, *args[2:], **kwargs), self.keeps)
        return func(*args, **kwargs)

    def _cast(self, value: Any, wanted: torch.dtype) -> Any:
        if isinstance(value, torch.Tensor):
            # A fetched matrix takes the type of the other operand, whatever that is.
            if not value.is_floating_point() or value.dtype in (wanted, torch.float64) or id(value) in self.fetched:
                return value
            if not (value.requires_grad and value.is_leaf and torch.is_grad_enabled()):
                return value.to(wanted)
            # Autocast keeps its copies of trained weights until its block ends.
            if id(value) not in self._casts:
                self._casts[id(value)] = value.to(wanted)
            return self._casts[id(value)]
        if isinstance(value, tuple | list):
            return type(value)(self._cast(item, wanted) for item in value)
        return {key: self._cast(item, wanted) for key, item in value.items()} if isinstance(value, dict) else value

    def end_block(self) -> None:
        """End autocast's block, which releases its copies."""
        self._casts.clear()

    @contextlib.contextmanager
    def autocast(self, *_: Any, enabled: bool = True, **__: Any) -> Iterator[None]:
        """Stands in for ``torch.autocast`` within :func:`on_gpu`: it can turn autocast off for a block, but never on."""
        before, self.half = self.half, self.half if enabled else None
        try:
            yield
        finally:
            self.half = before


@contextlib.contextmanager
def on_gpu(half: torch.dtype | None = None, fetched: Iterable[torch.Tensor] = (), *, keeps: bool = False) -> Iterator[GpuFunctions]:
    """Within the block, code on the meta device uses the functions that it would use on a GPU, see :class:`GpuFunctions`."""
    functions = GpuFunctions(half, frozenset(map(id, fetched)), keeps)
    with patch.object(torch, "autocast", functions.autocast), functions:
        yield functions


def backward(loss: torch.Tensor) -> None:
    """``loss.backward()`` that keeps the functions of :func:`on_gpu` in effect where the forward pass is recomputed."""
    # The public entry points disable such modes while they run.
    engine = torch.autograd.Variable._execution_engine
    engine.run_backward((loss,), (torch.ones_like(loss),), False, False, (), allow_unreachable=True, accumulate_grad=True)
