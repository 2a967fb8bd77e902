"""Converts published weights of CSD and SSCD to safetensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from components.core.content import digest_file
from components.core.errors import InputError
from components.core.paths import atomic_file
from components.evaluation.extractors import csd, sscd
from components.evaluation.extractors.weights import read_checkpoint, tensors_of

Network = Literal["csd", "sscd"]


class _Published(NamedTuple):
    """How a network is published: how to select its weights in a checkpoint, how to build it from them, and where to get them."""

    select: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    build: Callable[[Mapping[str, Any], str], Any]
    hint: str


_PUBLISHED: dict[Network, _Published] = {
    "csd": _Published(csd.select, csd.build, csd.HINT),
    "sscd": _Published(sscd.select, sscd.build, sscd.HINT),
}


def convert(network: Network, file: Path, out: Path | None = None) -> Path:
    """Write a published checkpoint as safetensors, completely or not at all; the same checkpoint gives the same bytes.

    Args:
        network: which network it is.
        file: what its authors published, saved by torch. It is read as tensors only.
        out: default: the same name, ending in .safetensors.

    Returns:
        The file written; its header names the network and the source file.

    Raises:
        InputError: the file does not exist, is TorchScript, safetensors or a pickle of anything but tensors, or holds weights of another
            network; or ``out`` is the same file or does not end in .safetensors.
    """
    from safetensors.torch import save_file

    out = out or file.with_suffix(".safetensors")
    if out.suffix != ".safetensors":
        raise InputError(f"--out {out}", "not a .safetensors file", expected="a name that ends in .safetensors")
    if out.resolve() == file.resolve():
        raise InputError(str(file), "would be overwritten by the output", remedy="choose another file with --out")
    published = _PUBLISHED[network]
    content = published.select(read_checkpoint(file, network, published.hint))
    if not isinstance(content, Mapping):
        raise InputError(str(file), f"its weights are a {type(content).__name__}", expected="a state dict", remedy=published.hint)
    tensors = tensors_of(content)
    published.build(tensors, str(file))
    # A single entry, since safetensors writes several in arbitrary order.
    header = {"styleforge": json.dumps({"network": network, "source": file.name, "sha256": digest_file(file)}, sort_keys=True)}
    with atomic_file(out) as temporary:
        save_file(tensors, temporary, metadata=header)
    return out
