import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from components.core.config import PrecisionSection, RunConfig, parse_config
from components.core.errors import ConfigError
from components.diffusion.models import precision
from components.diffusion.models.held import FORMATS
from components.diffusion.models.precision import (
    Precisions,
    blocks,
    compute_dtype,
    held_layers,
    lower,
    part_bytes,
    place,
    settle,
    weight_bytes,
)

CPU = torch.device("cpu")
WORST = {"fp32": 0.0, "bf16": 0.01, "fp16": 0.002, "fp8": 0.06, "int8": 0.01, "nf4": 0.2}
"""How far off a prediction may be, as a share of its own size."""


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(32)
        self.up, self.down = torch.nn.Linear(32, 128), torch.nn.Linear(128, 32, bias=False)
        self.conv = torch.nn.Conv2d(32, 32, 1)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        states = states + self.down(torch.nn.functional.gelu(self.up(self.norm(states))))
        side = int(states.shape[1] ** 0.5)
        maps = states.transpose(1, 2).unflatten(2, (side, side))
        return states + self.conv(maps).flatten(2).transpose(1, 2)


class Part(torch.nn.Module):
    """What denoisers have in common: an embedding, blocks, and a last layer."""

    def __init__(self, *, checkpoints: bool = False) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(8, 32), torch.nn.Linear(32, 8)
        self.stack = torch.nn.Module()
        self.stack.blocks = torch.nn.ModuleList([Block() for _ in range(4)])
        self.checkpoints = checkpoints

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        states = self.first(states)
        for block in self.stack.blocks:  # type: ignore[union-attr]
            states = checkpoint(block, states, use_reentrant=False) if self.checkpoints else block(states)
        return self.last(states)


def build(**options: Any) -> Part:
    torch.manual_seed(0)
    return Part(**options).requires_grad_(False)


def run(part: Part, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A prediction, and the gradient of its size with respect to the input."""
    states = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    predicted = part(states)
    predicted.float().square().sum().backward()
    assert states.grad is not None
    return predicted.detach().float(), states.grad.float()


def off(value: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((value - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize("offload", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", WORST)
def test_predictions_and_gradients_are_near_those_of_fp32(name: str, offload: float, checkpoints: bool) -> None:
    wanted = run(build(), torch.float32)
    part = build(checkpoints=checkpoints)
    lower(part, name, CPU, offload)
    found = run(part, compute_dtype(name, CPU))
    assert all(off(own, fp32) <= WORST[name] for own, fp32 in zip(found, wanted, strict=True))
    assert (off(found[0], wanted[0]) > WORST[name] / 100) == (name != "fp32")
    # A second time as the first: nothing is used up, and nothing is left behind.
    assert all(torch.equal(again, own) for again, own in zip(run(part, compute_dtype(name, CPU)), found, strict=True))
    with torch.no_grad():
        states = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(1)).to(compute_dtype(name, CPU))
        assert torch.equal(part(states).float(), found[0])


@pytest.mark.parametrize("name", FORMATS)
def test_the_gradient_is_that_of_the_weights_that_were_held(name: str) -> None:
    """As if the part had these very weights in fp32: the backward pass finds what the forward pass had."""
    part, plain = build(), build()
    lower(part, name, CPU)
    for layer, other in zip(held_layers(part), held_layers(plain), strict=True):
        form, weight = FORMATS[name], other.get_parameter("weight")
        weight.data = form.decode(*form.encode(weight.data), weight.shape, torch.float32)
        assert weight.shape == other.get_parameter("weight").shape and layer is not other
    assert all(torch.equal(own, wanted) for own, wanted in zip(run(part, torch.float32), run(plain, torch.float32), strict=True))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", [(32, 85), (8, 4, 3, 3), (16, 8, 1, 1)])
def test_matrices_of_any_shape_come_back(name: str, shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    decoded = FORMATS[name].decode(*FORMATS[name].encode(weight), weight.shape, torch.float32)
    assert off(decoded, weight) < WORST[name]


def test_autograd_keeps_no_fetched_weight() -> None:
    part = build()
    lower(part, "fp8", CPU)
    kept: list[torch.Tensor] = []
    states = torch.randn(2, 16, 8, requires_grad=True)
    loss = part(states).sum()
    nodes, seen = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        kept += [raw for name in dir(node) if name.startswith("_raw_saved_") and (raw := getattr(node, name)) is not None]
        nodes += [following for following, _ in node.next_functions]
    assert len(kept) > 10
    layer = part.stack.blocks[0].up  # type: ignore[union-attr, index]
    assert layer.weight.dtype == torch.float8_e4m3fn and tuple(layer.weight.shape) == (128, 32)
    loss.backward()
    assert states.grad is not None


@pytest.mark.parametrize("name", WORST)
def test_the_bytes_are_those_that_are_held(name: str) -> None:
    part = build()
    shapes = [tuple(layer.get_parameter("weight").shape) for layer in held_layers(part)]
    lower(part, name, CPU)
    for layer, shape in zip(held_layers(part), shapes, strict=True):
        tensors = [layer.get_parameter("weight"), *layer.buffers()]
        assert sum(value.numel() * value.element_size() for value in tensors) == weight_bytes(name, shape)


def test_only_frozen_layers_of_blocks_are_held_and_what_trains_stays() -> None:
    part = build()
    assert len(blocks(part)) == 4 and len(list(held_layers(part))) == 12
    assert blocks(torch.nn.Sequential(torch.nn.ModuleList([None, part]))) == [part]  # type: ignore[list-item]
    block = part.stack.blocks[1]  # type: ignore[union-attr, index]
    block.up.requires_grad_(True)
    before = copy.deepcopy(block.up.weight)
    lower(part, "int8", CPU)
    assert torch.equal(block.up.weight, before) and block.up.weight.dtype == torch.float32
    assert block.down.weight.dtype == torch.int8 and block.norm.weight.dtype == torch.float32
    assert part.first.weight.dtype == part.last.weight.dtype == torch.float32
    # A part that moves takes its scales along.
    assert {value.device.type for value in (*part.to("meta").parameters(), *part.buffers())} == {"meta"}


@pytest.mark.parametrize(("share", "away"), [(0.0, []), (0.5, [1, 3]), (0.75, [1, 2, 3]), (1.0, [0, 1, 2, 3])])
def test_a_share_of_the_blocks_stays_on_the_cpu(share: float, away: list[int]) -> None:
    part = build()
    lower(part, "bf16", CPU, share)
    held = [index for index, block in enumerate(blocks(part)) if getattr(block.up, "held_away", False)]
    assert held == away
    before = part_bytes(part)
    place(part, torch.device("meta"))
    devices = [{value.device.type for value in block.up.parameters()} for block in blocks(part)]
    assert devices == [{"cpu"} if index in away else {"meta"} for index in range(4)]
    assert {value.device.type for value in (*part.first.parameters(), *part.stack.blocks[1].norm.parameters())} == {"meta"}  # type: ignore[union-attr, index]
    plain = list(held_layers(build()))
    each = 2 * sum(value.numel() for layer in plain for value in layer.parameters()) // 4
    assert before == part_bytes(part) == 2 * sum(value.numel() for value in build().parameters()) - len(away) * each


def test_what_comes_in_is_brought_into_the_parts_type_but_for_times_and_positions() -> None:
    class Denoiser(torch.nn.Linear):
        def forward(self, states: Any, times: Any, img_ids: Any, added_cond_kwargs: Any, several: Any) -> Any:
            return states.dtype, times.dtype, img_ids.dtype, *(each.dtype for each in added_cond_kwargs.values()), several[0].dtype

    def call(part: torch.nn.Module) -> Any:
        added = {"text_embeds": torch.ones(1, 4), "time_ids": torch.ones(1, 6)}
        return part(torch.ones(1, 4), torch.ones(1), img_ids=torch.ones(4, 3), added_cond_kwargs=added, several=[torch.ones(2, 2)])

    part, fp32, bf16 = Denoiser(4, 4).requires_grad_(False), torch.float32, torch.bfloat16
    assert set(call(part)) == {fp32}
    lower(part, "bf16", CPU)
    assert call(part) == (bf16, fp32, fp32, bf16, fp32, bf16)


def test_processes_need_not_agree_on_what_is_frozen(tmp_path: Path) -> None:
    """The transport between them has no fp8."""
    part = build()
    part.last.requires_grad_(True)
    lower(part, "fp8", CPU)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(part)
        wrapped(torch.randn(2, 16, 8)).sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert part.last.weight.grad is not None


def configuration(**base: Any) -> RunConfig:
    return parse_config({"style": {"name": "anime", "source": "unused"}, "base": base})


def test_one_name_is_for_the_denoiser_and_the_text_encoders() -> None:
    def settled(device: str, **base: Any) -> Precisions:
        return settle(configuration(**base).base.precision, torch.device(device))

    assert settled("cpu") == Precisions("fp32", "fp32", "fp32")
    assert settled("cpu", precision="int8") == Precisions("int8", "int8", "fp32")
    mixed = settled("cpu", precision={"denoiser": "nf4", "vae": "bf16"})
    assert [mixed.of(part) for part in ("unet", "transformer", "text_encoder", "text_encoder_2", "vae")] == [
        "nf4",
        "nf4",
        "fp32",
        "fp32",
        "bf16",
    ]
    overridden = parse_config({"style": {"name": "anime", "source": "unused"}}, overrides=["base.precision=bf16", "base.offload=0.5"])
    assert (overridden.base.precision.denoiser, overridden.base.offload) == ("bf16", 0.5)


def test_frozen_parts_are_bf16_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_check", lambda *_: None)
    assert settle(PrecisionSection(), torch.device("cuda")) == Precisions("bf16", "bf16", "fp32")
    assert compute_dtype("fp8", torch.device("cuda")) == torch.bfloat16


@pytest.mark.parametrize("base", [{"precision": "fp4"}, {"precision": {"vae": "nf4"}}, {"precision": {"unet": "bf16"}}, {"offload": 1.5}])
def test_what_is_no_precision_is_refused_as_configuration(base: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"base\."):
        configuration(**base)


def test_nf4_without_bitsandbytes_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"base\.precision\.text_encoders.*bitsandbytes") as caught:
        settle(PrecisionSection(text_encoders="nf4"), CPU)
    assert "pip install bitsandbytes" in str(caught.value)
    settle(PrecisionSection(denoiser="fp8"), CPU)


def test_a_device_that_cannot_hold_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(_: torch.Tensor) -> Any:
        raise TypeError("Trying to convert Float8_e4m3fn to the MPS backend but it does not have support for that dtype.")

    monkeypatch.setitem(precision.FORMATS, "fp8", precision.FORMATS["fp8"].__class__(encode, precision.FORMATS["fp8"].decode))
    with pytest.raises(ConfigError, match=r"base\.precision\.denoiser.*cannot hold fp8.*Set bf16 or fp32"):
        settle(PrecisionSection(denoiser="fp8"), CPU)
