"""torch's global random state, which library code draws from (dropout, for example)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch


def forked_rng() -> AbstractContextManager[None]:
    """After the block, restore the random state of the CPU and of this process's own GPU.

    By default torch would do so for every GPU of the machine, which takes some hundred megabytes on each.
    """
    return torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else [])


def all_states(device: torch.device, rank: int, world: int) -> dict[str, torch.Tensor]:
    """The random states of all processes, ``cpu``, ``cuda``, ``cpu:1``, ``cuda:1`` …; each process must call this."""
    states = {_name("cpu", rank): torch.get_rng_state()}
    if device.type == "cuda":
        states[_name("cuda", rank)] = torch.cuda.get_rng_state(device)
    if world == 1:
        return states
    gathered: list[dict[str, torch.Tensor]] = [{}] * world
    torch.distributed.all_gather_object(gathered, states)
    return {name: state for each in gathered for name, state in each.items()}


def restore_state(states: Mapping[str, torch.Tensor], device: torch.device, rank: int) -> None:
    """Restore this process's own state of :func:`all_states`; if it is missing, as there were fewer processes, nothing changes."""
    if (state := states.get(_name("cpu", rank))) is not None:
        torch.set_rng_state(state)
    if device.type == "cuda" and (state := states.get(_name("cuda", rank))) is not None:
        torch.cuda.set_rng_state(state, device)


def _name(device: str, rank: int) -> str:
    return f"{device}:{rank}" if rank else device
