"""Weights that train in bf16: each optimizer step is computed in fp32 and rounded at random, so that small updates are not lost."""

from collections.abc import Callable
from typing import Any

import torch

from components.core.content import derive_seed

Make = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


def round_stochastically(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Round fp32 ``values`` to bf16, up or down at random so that the expectation is the value itself.

    A bf16 number is the upper half of an fp32 one: uniform 16-bit noise is added, and the lower half cut off. Libraries that do the same
    (torchao, pytorch-optimizer) draw from the global stream, which differs between processes whose weights have to stay equal.
    """
    bits = values.view(torch.int32)
    noise = torch.randint(0, 1 << 16, bits.shape, dtype=torch.int32, device=bits.device, generator=generator)
    rounded = ((bits + noise) & -(1 << 16)).view(torch.float32)
    # Where the noise would carry into the bits of infinity or NaN, round to nearest instead.
    return torch.where(rounded.isfinite(), rounded, values).bfloat16()


class StochasticallyRounded(torch.optim.Optimizer):
    """An optimizer over parameters some of which are bf16. ``make`` builds it for fp32 parameters; state stays in fp32.

    Each parameter has its own optimizer, which updates an fp32 copy that exists only during the step, so there is at most one such copy
    at a time. This suits optimizers whose update of a tensor depends on no other tensor.
    """

    def __init__(self, groups: list[dict[str, Any]], make: Make, seed: int) -> None:
        super().__init__(groups, {})
        self._seed, self._steps = seed, 0
        self._inner = [
            [make([{**group, "params": [torch.nn.Parameter(torch.empty(0, device=value.device))]}]) for value in group["params"]]
            for group in self.param_groups
        ]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient. ``closure`` is ignored."""
        self._steps += 1
        generators: dict[torch.device, torch.Generator] = {}
        for group, inner in zip(self.param_groups, self._inner, strict=True):
            for value, optimizer in zip(group["params"], inner, strict=True):
                if value.grad is None:
                    continue
                if value.device not in generators:
                    seed = derive_seed(self._seed, "rounding", self._steps)
                    generators[value.device] = torch.Generator(value.device).manual_seed(seed)
                moved = _move(value, optimizer, group["lr"])
                value.copy_(round_stochastically(moved, generators[value.device]) if value.dtype == torch.bfloat16 else moved)

    def state_dict(self) -> dict[str, Any]:
        """The inner optimizers' state by parameter number, and the number of steps, which seeds the rounding."""
        found = [optimizer.state_dict() for inner in self._inner for optimizer in inner]
        groups = [{key: value for key, value in group.items() if key != "params"} for each in found for group in each["param_groups"]]
        state = {index: each["state"][0] for index, each in enumerate(found) if each["state"]}
        return {"state": state, "param_groups": [{"steps": self._steps, "rates": [group["lr"] for group in self.param_groups]}, *groups]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        own, *groups = state_dict["param_groups"]
        self._steps = own["steps"]
        for group, rate in zip(self.param_groups, own["rates"], strict=True):
            group["lr"] = rate
        values = [value for group in self.param_groups for value in group["params"]]
        for index, optimizer in enumerate(optimizer for inner in self._inner for optimizer in inner):
            state = state_dict["state"].get(index)
            # State is loaded onto the parameter's device, which may have changed since.
            optimizer.param_groups[0]["params"][0].data = torch.empty(0, device=values[index].device)
            optimizer.load_state_dict({"state": {0: state} if state else {}, "param_groups": [{**groups[index], "params": [0]}]})


def _move(value: torch.Tensor, optimizer: torch.optim.Optimizer, rate: float) -> torch.Tensor:
    """The parameter after a step of its optimizer, in fp32."""
    assert value.grad is not None
    group = optimizer.param_groups[0]
    stand_in, group["lr"] = group["params"][0], rate
    stand_in.data, stand_in.grad = value.float(), None
    stand_in.grad = value.grad.float()
    optimizer.step()
    moved: torch.Tensor = stand_in.data
    stand_in.grad, stand_in.data = None, torch.empty(0, device=value.device)
    return moved
