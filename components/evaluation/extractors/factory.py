"""Extractors by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.model_ref import is_hub_id
from components.evaluation.extractors import csd, efficientnet, sscd
from components.evaluation.extractors.base import Extractor
from components.evaluation.extractors.clip import ClipEncoder
from components.evaluation.extractors.colours import ColourExtractor
from components.evaluation.extractors.statistics import split_name
from components.evaluation.extractors.texture import LookExtractor, TextureExtractor
from components.evaluation.extractors.thumbnail import ThumbnailExtractor
from components.evaluation.extractors.vision import VisionExtractor, check_folder, model_type
from components.evaluation.extractors.weights import check_header

WITHOUT_NETWORK: dict[str, Callable[[], Extractor]] = {
    item.name: item for item in (ColourExtractor, TextureExtractor, LookExtractor, ThumbnailExtractor)
}
_OF_A_FILE = {**dict.fromkeys(csd.NAMES, "csd"), sscd.NAME: sscd.NAME}
"""Extractors that are named with a file of weights, each with its network."""


def make_extractor(name: str, field: str, *, device: str | None = None, batch_size: int | None = None) -> Extractor:
    """Make the extractor of this name.

    Args:
        name: ``colours``, ``texture``, ``look`` (the two together) or ``thumbnail``; ``pocket``, a folder, or a hub id such as
            ``owner/name`` or ``owner/name@commit``, of a CLIP or another image model of transformers; ``efficientnet-lite0``; any of these
            networks followed by a statistic of a layer, ``:moments-L`` or ``:gram-L``; ``csd:FILE``, ``csd-content:FILE`` or ``sscd:FILE``.
        field: the setting or argument that names it, for errors.
        device: torch device; default: CUDA where there is one.
        batch_size: images at once; default: the extractor's own.

    Raises:
        InputError: there is no such extractor; a package is not installed; weights are missing, pickled or of another network.
        ServiceUnreachable: the name is a hub id and the hub does not answer.
    """
    options: dict[str, Any] = {"field": field, "device": device} | ({"batch_size": batch_size} if batch_size else {})
    kind = name.partition(":")[0]
    if name in WITHOUT_NETWORK:
        return WITHOUT_NETWORK[name]()
    if kind == efficientnet.MODEL:
        return efficientnet.EfficientNetExtractor(name, **options)
    if kind in _OF_A_FILE:
        file = _file(name, field)
        return sscd.SscdExtractor(file, **options) if kind == sscd.NAME else csd.CsdExtractor(file, csd.NAMES[kind], **options)
    model, statistic = split_name(name)
    model, revision = _pinned(model)
    if statistic is None and model_type(model, revision, field) == "clip":
        return ClipEncoder(model, revision, **options)
    return VisionExtractor(model, revision, statistic, **options)


def weights_of(name: str) -> tuple[str, str | None] | None:
    """The file, folder or hub id of an extractor's weights, with its commit; None if they come in a package or there are none."""
    kind, _, rest = name.partition(":")
    if name in WITHOUT_NETWORK or kind == efficientnet.MODEL:
        return None
    return (rest, None) if kind in _OF_A_FILE else _pinned(split_name(name)[0])


def check_extractor(name: str, field: str) -> None:
    """Refuse what :func:`make_extractor` would, as far as names, headers and configurations tell: no weights are read, no hub is asked.

    Raises:
        InputError: as :func:`make_extractor` raises it.
    """
    kind = name.partition(":")[0]
    if name in WITHOUT_NETWORK:
        return
    if kind == efficientnet.MODEL:
        efficientnet.statistic_of(name, field)
    elif kind in _OF_A_FILE:
        file, network = _file(name, field), _OF_A_FILE[kind]
        check_header(file, f"{field}={kind}:{file}", network, sscd.build if network == sscd.NAME else csd.build)
    else:
        model, statistic = split_name(name)
        model, revision = _pinned(model)
        if not is_hub_id(model):
            check_folder(model, revision, statistic, field)


def _file(name: str, field: str) -> Path:
    """The file that a name ends with; InputError if it does not."""
    kind, _, rest = name.partition(":")
    if not rest:
        raise InputError(f"{field}={name}", "no file is named", expected=f"{kind}:FILE.safetensors")
    return Path(rest).expanduser()


def _pinned(model: str) -> tuple[str, str | None]:
    """Split a model from its commit: ``owner/name@commit`` is a hub id unless a file or folder of that name exists."""
    owner, at, commit = model.partition("@")
    return (owner, commit) if at and is_hub_id(owner) and not Path(model).expanduser().exists() else (model, None)
