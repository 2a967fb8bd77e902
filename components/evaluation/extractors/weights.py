"""Reads the weight files of single networks, or refuses them. Code in a file is never run."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from components.core.errors import InputError, first_line

_NUMPY_SCALAR = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")


class _Nothing:
    """Stands in for what a checkpoint holds besides tensors, and ignores all arguments and state."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def read_safetensors(file: Path, where: str, network: str) -> dict[str, Any]:
    """Read the tensors of a file that ``styleforge convert`` wrote, or of one with the same tensor names.

    Raises:
        InputError: the file does not exist or is not safetensors.
    """
    from safetensors.torch import load_file

    with _only_safetensors(file, where, network):
        return load_file(file)


def check_header(file: Path, where: str, network: str, build: Callable[[Mapping[str, Any], str], Any]) -> None:
    """Refuse a file that cannot be loaded, from its header alone: ``build`` gets tensors that have a shape but no values.

    Raises:
        InputError: as :func:`read_safetensors` and ``build`` raise it.
    """
    import torch
    from safetensors import safe_open

    # On this device, what is built takes no memory and no time.
    with torch.device("meta"):
        with _only_safetensors(file, where, network), safe_open(file, "pt") as content:
            # An open file is no mapping: it has keys, but cannot be iterated.
            tensors = {name: torch.empty(content.get_slice(name).get_shape()) for name in content.keys()}  # noqa: SIM118
        build(tensors, where)


@contextlib.contextmanager
def _only_safetensors(file: Path, where: str, network: str) -> Iterator[None]:
    """Refuse a file that does not exist, or that the block finds not to be safetensors."""
    from safetensors import SafetensorError

    remedy = f"run `styleforge convert {network} FILE` on the published weights"
    if not file.is_file():
        raise InputError(where, f"no such file ({file})", expected="a .safetensors file", remedy=remedy)
    try:
        yield
    except SafetensorError as error:
        raise InputError(where, f"not a safetensors file ({first_line(error)})", expected="a .safetensors file", remedy=remedy) from error


def read_checkpoint(file: Path, network: str, hint: str) -> Mapping[str, Any]:
    """Read what torch saved into a file, as tensors only: numpy's scalars and argparse's Namespace come back as empty objects.

    ``hint`` says where to get the published file; it is the remedy in most errors.

    Raises:
        InputError: the file does not exist, or is TorchScript, safetensors, or a pickle of anything else.
    """
    import torch

    where, expected = str(file), f"a state dict of {network.upper()}, saved by torch"
    if not file.is_file():
        raise InputError(where, "no such file", expected=expected, remedy=hint)
    zipped = zipfile.is_zipfile(file)
    if zipped and _is_torchscript(file):
        raise InputError(where, "a TorchScript archive, whose code would have to run", expected=expected, remedy=hint)
    if _is_safetensors(file):
        raise InputError(where, "safetensors already", expected=expected, remedy=f"use it as it is: {network}:{file}")
    inert: list[Any] = [(_Nothing, name) for name in (*_NUMPY_SCALAR, "numpy.dtype", "argparse.Namespace")]
    try:
        with torch.serialization.safe_globals(inert):
            # With mmap, the optimizer state in published checkpoints is not read.
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped or None)
    except Exception as error:  # whatever reading a zip, a pickle or something else altogether raises
        raise InputError(where, f"cannot be read as tensors ({first_line(error)})", expected=expected, remedy=hint) from error
    if not isinstance(content, Mapping):
        raise InputError(where, f"holds a {type(content).__name__}", expected=expected, remedy=hint)
    return content


def tensors_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a state dict in float32, without the ``module.`` prefix that training on several GPUs adds to their names."""
    import torch

    tensors = {name.removeprefix("module."): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    return {name: value.float().contiguous() if value.is_floating_point() else value for name, value in tensors.items()}


def fill(make: Callable[[], Any], tensors: Mapping[str, Any], where: str, network: str) -> Any:
    """The model that ``make`` builds, with these weights, for inference.

    Raises:
        InputError: the weights have other names or shapes than the model's.
    """
    import torch
    from transformers.initialization import no_init_weights

    # Initialising weights that are then replaced takes seconds, and uses up random numbers that a caller may rely on.
    with no_init_weights(), torch.random.fork_rng(devices=[]):
        model = make()
    own = {name: tuple(value.shape) for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    given = {name: tuple(value.shape) for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    if own != given:
        name = min(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        raise another(where, network, f"{name} is {given.get(name, 'missing')}, not {own.get(name, 'part of it')}")
    model.load_state_dict(dict(tensors), strict=False)
    return model.eval().requires_grad_(False)


def another(where: str, network: str, reason: str) -> InputError:
    """The error for a file that holds another network."""
    return InputError(
        where, f"weights of another network ({reason})", expected=f"those of {network.upper()}", remedy="give its own weights"
    )


def _is_torchscript(file: Path) -> bool:
    with zipfile.ZipFile(file) as archive:
        return any("/code/" in name or name.endswith("/constants.pkl") for name in archive.namelist())


def _is_safetensors(file: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np"):
            return True
    except SafetensorError:
        return False
