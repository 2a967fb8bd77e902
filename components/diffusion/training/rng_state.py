"""torch's global random state, where something that is not ours draws from it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch


def forked_rng() -> AbstractContextManager[None]:
    """Put the random state of the CPU and of this process' own GPU back afterwards.

    torch by itself would open every GPU of the machine for it, and so take some hundred megabytes of each.
    """
    return torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else [])


def all_states(device: torch.device, rank: int, world: int) -> dict[str, torch.Tensor]:
    """The random states of all processes, each of which has to ask: ``cpu``, ``cuda``, ``cpu:1``, ``cuda:1`` …"""
    states = {_name("cpu", rank): torch.get_rng_state()}
    if device.type == "cuda":
        states[_name("cuda", rank)] = torch.cuda.get_rng_state(device)
    if world == 1:
        return states
    gathered: list[dict[str, torch.Tensor]] = [{}] * world
    torch.distributed.all_gather_object(gathered, states)
    return {name: state for each in gathered for name, state in each.items()}


def restore_state(states: Mapping[str, torch.Tensor], device: torch.device, rank: int) -> None:
    """Take up this process' own of :func:`all_states`; where it is missing, as there were fewer then, its generators stay."""
    if (state := states.get(_name("cpu", rank))) is not None:
        torch.set_rng_state(state)
    if device.type == "cuda" and (state := states.get(_name("cuda", rank))) is not None:
        torch.cuda.set_rng_state(state, device)


def _name(device: str, rank: int) -> str:
    return f"{device}:{rank}" if rank else device
