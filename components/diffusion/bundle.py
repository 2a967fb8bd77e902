"""A base or fine-tuned model with everything that belongs to it, loaded from wherever it lives; safetensors only."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from components.content import digest_value
from components.diffusion.families import StableDiffusion
from components.errors import InputError, ServiceUnreachable
from components.fingerprint import fingerprint
from components.paths import pocket_weights, state

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
NETWORKS = ("unet", "vae", "text_encoder")
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
SAFE_ONLY = "pickled weights can run code when they are opened, so only safetensors are read"
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass
class Bundle:
    """A text-to-image model: its family (architecture and parts), and where it came from.

    ``model`` and ``revision`` are what was asked for; ``path`` is the local folder or file.
    """

    family: StableDiffusion
    model: str
    revision: str | None
    path: Path

    @property
    def resolution(self) -> int:
        """Side of its pictures, in pixels."""
        return self.family.resolution

    @property
    def device(self) -> torch.device:
        """Where its networks are."""
        return next(self.family.unet.parameters()).device

    @cached_property
    def digest(self) -> str:
        """sha256 over the files of its parts, as they were loaded; logs and other files beside them do not count."""
        if self.path.is_file():
            return fingerprint(self.path)
        return digest_value([[part, fingerprint(self.path / part)] for part in PARTS])

    def save(self, folder: Path) -> Path:
        """Write the diffusers layout into ``folder`` and return it."""
        with _quiet():
            self.family.save(Path(folder))
        return Path(folder)


def load_bundle(model: str | Path, revision: str | None = None, device: str | torch.device | None = None) -> Bundle:
    """Load a model in fp32, in evaluation mode.

    Args:
        model: ``pocket``, a diffusers folder, a ``.safetensors`` file, or a hub id (``owner/name``).
        revision: full commit hash of a hub model.
        device: where to put it; default: the accelerator, else the CPU.

    Raises:
        InputError: nothing is there, a part is missing, weights are pickled, or the architecture is another one.
        ServiceUnreachable: the hub does not answer.
    """
    where = str(model)
    path = locate(where, revision)
    with _quiet():
        family = _load_file(path) if path.is_file() else _load_folder(path)
    place = torch.device(device) if device else default_device()
    for part in family.parts.values():
        part.requires_grad_(False).eval()
    return Bundle(family.to(place), where, revision, path)


def default_device() -> torch.device:
    """The accelerator of this machine, else the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def locate(model: str, revision: str | None = None) -> Path:
    """The checked local folder or file of a model, fetched from the hub where need be. Nothing is loaded yet.

    Raises:
        InputError, ServiceUnreachable: see :func:`load_bundle`.
    """
    path = pocket_weights("base") if model == "pocket" else Path(model).expanduser()
    if path.is_dir():
        check_folder(path)
        return path
    if path.is_file():
        _check_file(path)
        return path
    if model == "pocket":
        raise InputError(
            str(path), "the pocket base's weights are missing", remedy="reinstall StyleForge, or run `styleforge pocket train`"
        )
    if not HUB_ID.fullmatch(model) or model.startswith((".", "/", "~")):
        raise InputError(
            f"base.model={model}",
            "no such folder or file",
            expected="`pocket`, a diffusers folder, a .safetensors file, or a hub id owner/name",
        )
    return _fetch(model, revision)


def check_folder(folder: Path) -> None:
    """Refuse a folder that is no complete Stable Diffusion 1.x/2.x in diffusers layout with safetensors.

    Raises:
        InputError: naming the folder, the missing part and the reason.
    """
    index = _read_index(folder)
    known = {StableDiffusion.pipeline}
    if index.get("_class_name") not in known:
        raise InputError(
            f"{folder}/model_index.json",
            f"the pipeline is {index.get('_class_name')!r}",
            expected=f"{' or '.join(sorted(known))} (Stable Diffusion 1.x/2.x)",
        )
    for part in PARTS:
        if not (folder / part).is_dir():
            raise InputError(
                str(folder),
                f"the base has no {'VAE' if part == 'vae' else part} (folder {part}/ is missing)",
                expected=f"a diffusers folder with {', '.join(f'{name}/' for name in PARTS)}",
                remedy="save the whole pipeline with save_pretrained",
            )
    for part in NETWORKS:
        _check_weights(folder / part)


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


def _check_weights(part: Path) -> None:
    if any(part.glob("*.safetensors")):
        return
    pickled = sorted(path.name for path in part.iterdir() if path.suffix in PICKLED)
    raise InputError(
        str(part),
        f"{pickled[0]}: {SAFE_ONLY}" if pickled else "no weights",
        expected="*.safetensors",
        remedy="convert the base with save_pretrained(..., safe_serialization=True)",
    )


def _check_file(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise InputError(
            str(path),
            SAFE_ONLY if path.suffix in PICKLED else f"a {path.suffix or 'nameless'} file is no model",
            expected="a .safetensors file",
            remedy="convert it to safetensors on a machine where it may do no harm",
        )


def _load_folder(folder: Path) -> StableDiffusion:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    try:
        parts = {
            "unet": UNet2DConditionModel.from_pretrained(folder / "unet", **_options(folder / "unet")),
            "vae": AutoencoderKL.from_pretrained(folder / "vae", **_options(folder / "vae")),
            "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder", **_options(folder / "text_encoder")),
            "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            "scheduler_config": json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8")),
        }
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            str(folder), f"cannot be loaded ({_first_line(error)})", expected="a whole Stable Diffusion 1.x/2.x folder"
        ) from error
    except Exception as error:
        # safetensors raises a class of its own for a truncated header, which derives from Exception alone.
        if type(error).__name__ != "SafetensorError":
            raise
        raise InputError(str(folder), f"damaged weights ({_first_line(error)})", expected="whole safetensors files") from error
    return StableDiffusion(**parts, where=str(folder))


def _options(part: Path) -> dict[str, Any]:
    """fp32 from safetensors; a half-precision variant only where it is all there is."""
    options: dict[str, Any] = {"torch_dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
    names = [path.name for path in part.glob("*.safetensors")]
    if names and all(".fp16" in name for name in names):
        options["variant"] = "fp16"
    return options


def _load_file(path: Path) -> StableDiffusion:
    """A single file in the original layout. Its configuration is taken from the folder beside it, else from the hub."""
    from diffusers import StableDiffusionPipeline

    beside = (path.parent / "model_index.json").is_file()
    source: dict[str, Any] = {"config": str(path.parent), "local_files_only": True} if beside else {"cache_dir": str(_hub_cache())}
    try:
        pipeline = StableDiffusionPipeline.from_single_file(str(path), torch_dtype=torch.float32, **source)
    except Exception as error:
        if _is_offline(error):
            raise ServiceUnreachable(
                "huggingface.co",
                f"the configuration and tokenizer for {path} cannot be fetched ({_first_line(error)})",
                remedy="put the base's model_index.json and its configuration folders beside the file, or give a diffusers folder",
            ) from error
        raise InputError(
            str(path), f"cannot be loaded ({_first_line(error)})", expected="a Stable Diffusion 1.x/2.x checkpoint in safetensors"
        ) from error
    return StableDiffusion(
        unet=pipeline.unet,
        vae=pipeline.vae,
        text_encoder=pipeline.text_encoder,
        tokenizer=pipeline.tokenizer,
        scheduler_config={**pipeline.scheduler.config, "_class_name": type(pipeline.scheduler).__name__},
        where=str(path),
    )


def _fetch(model: str, revision: str | None) -> Path:
    """Download a pinned hub model: its five parts, safetensors and JSON only."""
    if not revision or not COMMIT.fullmatch(revision):
        raise InputError(
            "base.revision",
            f"{revision!r} does not pin {model}: a branch or tag can change under a finished run"
            if revision
            else f"missing for the hub model {model}",
            expected="a full commit hash of 40 hex digits",
            remedy=f"copy one from https://huggingface.co/{model}/commits/main",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    keep = ["model_index.json"] + [f"{part}/*{ending}" for part in PARTS for ending in (".json", ".txt", ".safetensors")]
    try:
        folder = Path(
            snapshot_download(
                model,
                revision=revision,
                cache_dir=_hub_cache(),
                allow_patterns=keep,
                ignore_patterns=["*.fp16.safetensors", "*.non_ema.safetensors"],
            )
        )
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise InputError(
            f"base.model={model}", f"not on the hub at {revision} ({_first_line(error)})", expected="a public or accessible model"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ServiceUnreachable(
            "huggingface.co", f"{model} cannot be fetched", remedy="check the network, or give a local folder"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise ServiceUnreachable(
            "huggingface.co", f"{model} cannot be fetched ({_first_line(error)})", remedy="check the network, or give a local folder"
        ) from error
    check_folder(folder)
    return folder


def _hub_cache() -> Path:
    return state("cache", "hub")


def _is_offline(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, (ConnectionError, TimeoutError)) or type(error).__name__ in (
            "LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError", "ConnectTimeout", "ProxyError", "HfHubHTTPError",
        ):  # fmt: skip
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep diffusers' and transformers' bars and hints off the screen while a model is read or written."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    levels = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
