"""Locate and check models: local folders and files, fetched from the hub if need be. No weights are loaded here."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from components.core.content import digest_value
from components.core.errors import InputError, ServiceUnreachable, first_line
from components.core.fingerprint import fingerprint
from components.core.hub import current_commit, fetch
from components.core.model_ref import is_hub_id, local_model
from components.core.paths import read_json
from components.diffusion.models.layouts import (
    DENOISER_PREFIX,
    FILE_KINDS,
    FILE_TITLES,
    LAYOUTS,
    NO_BASES,
    SCALED,
    STABLE_DIFFUSION_XL,
    TITLES,
    FileKind,
    Layout,
)

PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
SAFE_ONLY = "pickled weights can run code when they are opened, so only safetensors are read"
TEXTS = (".json", ".txt", ".jinja")


def locate(model: str, revision: str | None = None) -> Path:
    """The checked local folder or file of a model, fetched from the hub if need be. Nothing is loaded yet.

    Raises:
        InputError: nothing is there, a part is missing, weights are pickled, or the architecture is not supported.
        ServiceUnreachable: the hub does not answer.
    """
    path = local_model(model, "base.model")
    if path is None:
        path = _fetch(model, revision, (*TEXTS, ".safetensors"))
        check_folder(path, fetched=True)
    elif path.is_dir():
        check_folder(path)
    else:
        file_kind(path)
    return path


def base_configuration(model: str, revision: str | None = None) -> Path:
    """The folder with a base's configuration, in diffusers layout; of a hub model only the text files are fetched.

    Raises InputError if it does not exist or the hub model is not a base, ServiceUnreachable if the hub does not answer.
    """
    folder = local_model(model, "base.model")
    if folder is None:
        folder = _fetch(model, revision, TEXTS)
        check_folder(folder, weights=False)
    return configuration_of(folder) if folder.is_file() else folder


@dataclass(frozen=True)
class BaseFacts:
    """What a base's configuration files say: its family's layout, the configurations of denoiser, VAE and scheduler, and the index."""

    layout: Layout
    denoiser: Mapping[str, Any]
    vae: Mapping[str, Any]
    index: Mapping[str, Any] = field(default_factory=dict)
    scheduler: Mapping[str, Any] = field(default_factory=dict)

    @property
    def side(self) -> int:
        """Side of its pictures in pixels."""
        return self.layout.side(self.denoiser, self.vae)


def base_facts(model: str, revision: str | None = None) -> BaseFacts:
    """Read the facts about a base from its configuration files; of a hub model nothing else is fetched.

    Raises InputError if the base is of no known family or lacks a part, ServiceUnreachable if the hub does not answer.
    """
    folder = base_configuration(model, revision)
    layout = check_folder(folder, weights=False)
    found = []
    for part in (layout.denoiser, "vae"):
        file = folder / part / "config.json"
        if not file.is_file():
            raise InputError(
                f"base.model={model}", f"has no {part} ({part}/config.json)", expected=f"a {layout.title} model in diffusers layout",
                remedy="save the whole pipeline with save_pretrained, or fix base.model",
            )  # fmt: skip
        found.append(read_json(file))
    denoiser, vae = found
    schedule = folder / "scheduler" / "scheduler_config.json"
    return BaseFacts(layout, denoiser, vae, _read_index(folder), read_json(schedule) if schedule.is_file() else {})


def pin(model: str, ref: str = "main") -> tuple[str, str]:
    """The commit that a hub model's branch or tag points to now, and the title of its family; only text files are fetched.

    Raises InputError if ``model`` is not a hub id, does not exist or is of no known family, ServiceUnreachable if the hub does not
    answer.
    """
    if not is_hub_id(model):
        raise InputError(model, "is not a hub id", expected="owner/name", remedy="a local folder needs no revision: its content is hashed")
    commit = current_commit(model, ref)
    return commit, check_folder(_fetch(model, commit, TEXTS), weights=False).title


def content_digest(path: Path) -> str:
    """sha256 of a located model: its parts' files, or the one file and what comes from the folder beside it. Other files do not count."""
    if path.is_file():
        file = one_file(path)
        folder = file.folder
        files = [each for part in _present(folder) for each in sorted((folder / part).glob("*")) if each.suffix in file.endings(part)]
        return digest_value([fingerprint(path), [[each.relative_to(folder).as_posix(), fingerprint(each)] for each in files]])
    layout = _layout(path)
    parts: list[list[Any]] = [[part, fingerprint(path / part)] for part in _present(path)]
    if layout is STABLE_DIFFUSION_XL:
        parts.append(["empty prompts are zeros", zeros_for_empty_prompt(path)])
    return digest_value(parts)


def zeros_for_empty_prompt(folder: Path) -> bool:
    """Whether a Stable Diffusion XL folder asks for an empty prompt to be encoded as zeros, which is the default."""
    return bool(_read_index(folder).get("force_zeros_for_empty_prompt", True))


def check_folder(folder: Path, *, weights: bool = True, fetched: bool = False) -> Layout:
    """Check that a folder is a complete model in diffusers layout with safetensors; return its family's layout.

    Without ``weights``, only the configuration is checked. A ``fetched`` folder comes from the hub, without any pickled files that
    are there. The InputError names the folder, the missing part and the reason.
    """
    layout = _layout(folder)
    present = _present(folder)
    for part in present:
        if not (folder / part).is_dir():
            raise InputError(
                str(folder),
                f"the base has no {'VAE' if part == 'vae' else part} (folder {part}/ is missing)",
                expected=f"a diffusers folder with {', '.join(f'{name}/' for name in layout.parts)}",
                remedy="save the whole pipeline with save_pretrained",
            )
    for part in layout.networks if weights else ():
        if part in present:
            _check_weights(folder / part, fetched)
    return layout


def _present(folder: Path) -> list[str]:
    """The parts that a folder must have, in the layout's order: all except optional ones that its index says it lacks."""
    layout, index = _layout(folder), _read_index(folder)
    return [part for part in layout.parts if part not in layout.optional or index.get(part, [None])[0] is not None]


def present_parts(folder: Path) -> dict[str, tuple[str, str]]:
    """The parts of a checked folder with their libraries and classes."""
    layout = _layout(folder)
    return {part: layout.parts[part] for part in _present(folder)}


def _layout(folder: Path) -> Layout:
    name = _read_index(folder).get("_class_name")
    if name not in LAYOUTS:
        raise InputError(f"{folder}/model_index.json", f"the pipeline is {name!r}", expected=f"{' or '.join(sorted(LAYOUTS))} ({TITLES})")
    return LAYOUTS[name]


def _read_index(folder: Path) -> dict[str, Any]:
    file = folder / "model_index.json"
    if not file.is_file():
        pickled = [path.name for path in folder.iterdir() if path.suffix in PICKLED]
        raise InputError(
            str(folder),
            "no model_index.json" + (f"; {pickled[0]}: {SAFE_ONLY}" if pickled else ""),
            expected="a folder in diffusers layout",
            remedy="give the folder that save_pretrained wrote, or a .safetensors file",
        )
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(str(file), f"not JSON ({error})", expected="the index that diffusers writes") from error
    return index if isinstance(index, dict) else {}


def _check_weights(part: Path, fetched: bool) -> None:
    if any(part.glob("*.safetensors")):
        return
    pickled = sorted(path.name for path in part.iterdir() if path.suffix in PICKLED)
    unsafe = pickled[0] if pickled else "only safetensors were fetched" if fetched else ""
    raise InputError(
        str(part),
        f"{unsafe}: {SAFE_ONLY}" if unsafe else "no weights",
        expected="*.safetensors",
        remedy="convert the base with save_pretrained(..., safe_serialization=True)",
    )


def file_kind(path: Path) -> FileKind:
    """The kind of a one-file checkpoint, recognised by the names of its tensors.

    Raises InputError if the file is pickled, damaged or not a base, or if a part is missing.
    """
    if path.suffix != ".safetensors":
        raise InputError(
            str(path),
            SAFE_ONLY if path.suffix in PICKLED else f"a {path.suffix or 'nameless'} file is not a model",
            expected="a .safetensors file",
            remedy="convert it to safetensors on a machine where it can do no harm",
        )
    names = tensor_names(path)
    inner = [name.removeprefix(DENOISER_PREFIX) for name in names]
    for kind in FILE_KINDS:
        if all(_any(inner, mark) for mark in kind.marks) and not any(_any(inner, other) for other in kind.others):
            _check_readable(path, kind, names)
            return kind
    some = ", ".join(names[:3]) + ", …" if names else "none"
    taken_for = next((what for prefix, what in NO_BASES.items() if _any(inner, prefix)), "")
    raise InputError(
        str(path),
        f"this is {taken_for}, not a base that is read from one file" if taken_for
        else f"not a known checkpoint (its tensors: {some})",
        expected=f"a checkpoint of {FILE_TITLES} in the original layout",
        remedy="give the complete checkpoint, or a diffusers folder",
    )  # fmt: skip


def _check_readable(path: Path, kind: FileKind, names: Collection[str]) -> None:
    """Refuse a file that has no denoiser, holds quantized weights, or holds a network that is not read from one file."""
    part, prefix = kind.layout.denoiser, kind.prefixes[kind.layout.denoiser]
    if not kind.bare and not _any(names, prefix):
        raise InputError(
            str(path), f"a {kind.title} file without {part} (no tensor's name begins with {prefix})",
            expected="a complete checkpoint", remedy="give one that contains all its parts, or a diffusers folder",
        )  # fmt: skip
    if scaled := next((name for name in names if name.endswith(SCALED)), None):
        raise InputError(
            str(path), f"a {kind.title} file whose weights are quantized (it holds {scaled})", expected="weights in fp32, bf16 or fp16",
            remedy="give the file before it was quantized; base.precision holds its weights in 8 or 4 bits",
        )  # fmt: skip
    networks = {found[0] for name in names if (found := re.match(r"(vae|first_stage_model|text_encoders\.\w+\.transformer)\.", name))}
    if kind.bare and (unread := sorted(networks - {*kind.prefixes.values()})):
        raise InputError(
            str(path), f"a {kind.title} file that also holds {', '.join(unread)}*, which is not read from one file",
            expected=f"only {', '.join(each + '*' for each in kind.prefixes.values())}",
            remedy=f"give the {part} alone, with the other parts in a folder beside it, or a diffusers folder",
        )  # fmt: skip


def tensor_names(path: Path) -> list[str]:
    """Sorted names of the tensors in a safetensors file; only its header is read. Raises InputError if the file is damaged."""
    try:
        with safe_open(path, framework="np") as file:
            return sorted(file.keys())
    except (SafetensorError, OSError) as error:
        raise InputError(str(path), f"not an intact safetensors file ({first_line(error)})", expected="a safetensors checkpoint") from error


def _any(names: Collection[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


@dataclass(frozen=True)
class OneFile:
    """A one-file checkpoint, and the ``folder`` with its configuration.

    ``prefixes`` gives the prefix of the tensors' names for each network in the file; the networks in ``rest`` come from the folder.
    """

    kind: FileKind
    folder: Path
    prefixes: Mapping[str, str]
    rest: tuple[str, ...]

    def endings(self, part: str) -> tuple[str, ...]:
        """Endings of those files in a part's folder that belong to the model."""
        return (*TEXTS, ".safetensors") if part in self.rest else TEXTS


def one_file(path: Path) -> OneFile:
    """Find out what a file holds, and where the rest of the model is.

    Raises InputError if a network is in neither the file nor the folder; otherwise as :func:`configuration_of`.
    """
    kind, folder = file_kind(path), configuration_of(path)
    prefixes = _prefixes(path, kind)
    rest = tuple(part for part in kind.layout.networks if part in _present(folder) and part not in prefixes)
    if missing := [part for part in rest if not any((folder / part).glob("*.safetensors"))]:
        pickled = next((each.name for part in missing for each in sorted((folder / part).iterdir()) if each.suffix in PICKLED), None)
        raise InputError(
            str(path),
            f"a {kind.title} file without {_named(missing)}, and {folder} has no weights of {'it' if len(missing) == 1 else 'them'}"
            + (f" as safetensors ({pickled}: {SAFE_ONLY})" if pickled else ""),
            expected=f"*.safetensors in {', '.join(f'{part}/' for part in missing)} of that folder",
            remedy="copy them there from a diffusers folder of the base",
        )
    return OneFile(kind, folder, prefixes, rest)


def _prefixes(path: Path, kind: FileKind) -> dict[str, str]:
    names, denoiser = tensor_names(path), kind.layout.denoiser
    found = {part: prefix for part, prefix in kind.prefixes.items() if _any(names, prefix)}
    return found if denoiser in found else {denoiser: "", **found}


def _named(parts: Collection[str]) -> str:
    return ", ".join("VAE" if part == "vae" else part for part in parts)


def folder_beside(path: Path) -> Path | None:
    """The folder beside a file with the file's name, else the one that it is in; whichever has a ``model_index.json``, or None."""
    return next((folder for folder in (path.with_suffix(""), path.parent) if (folder / "model_index.json").is_file()), None)


def configuration_of(path: Path) -> Path:
    """The folder with the configuration and tokenizers of a one-file checkpoint, in diffusers layout; weights are not needed.

    It is :func:`folder_beside`, else the kind's pinned configuration from the hub.

    Raises:
        InputError: the configuration is of another family or lacks a part; or there is none beside the file, and the file lacks a
            network or its kind has no pinned configuration.
        ServiceUnreachable: it must be fetched, and the hub does not answer.
    """
    kind = file_kind(path)
    beside = f"put the base's model_index.json and its configuration folders into {path.with_suffix('')}/"
    if folder := folder_beside(path):
        if check_folder(folder, weights=False) is not kind.layout:
            raise InputError(
                str(folder), f"its model_index.json belongs to another family than {path.name}, a {kind.title} file",
                expected=kind.layout.pipeline, remedy=beside,
            )  # fmt: skip
        return folder
    held = _prefixes(path, kind)
    if missing := [part for part in kind.layout.networks if part not in held and part not in kind.layout.optional]:
        raise InputError(
            str(path), f"a {kind.title} file without {_named(missing)}", expected="a diffusers folder beside it with the rest",
            remedy=f"{beside}, with the weights of {_named(missing)}, or give a diffusers folder",
        )  # fmt: skip
    if kind.configuration is None:
        raise InputError(
            str(path), f"{kind.title} files differ in size and schedule or in what they predict, and the weights do not show which",
            expected="a configuration beside the file", remedy=beside,
        )  # fmt: skip
    model, revision = kind.configuration
    try:
        folder = _fetch(model, revision, TEXTS)
    except ServiceUnreachable as error:
        raise ServiceUnreachable(
            error.where, f"the configuration and tokenizer for {path} cannot be fetched ({error.problem})",
            remedy=f"{beside}, or give a diffusers folder",
        ) from error  # fmt: skip
    check_folder(folder, weights=False)
    return folder


def _fetch(model: str, revision: str | None, endings: Collection[str]) -> Path:
    """Download a pinned hub model's index and, of its parts, the files with these endings."""
    parts = dict.fromkeys(part for layout in LAYOUTS.values() for part in layout.parts)
    return fetch(model, revision, ["model_index.json", *(f"{part}/*{ending}" for part in parts for ending in endings)])
