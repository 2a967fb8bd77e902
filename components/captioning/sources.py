"""Where a captioner is: its folder, checked and if need be fetched from the hub, and the id by which captions record it."""

import json
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.core.fingerprint import fingerprint
from components.core.hub import fetch
from components.core.model_ref import local_model

TEXTS = ("*.json", "*.txt", "*.jinja", "*.model")
WEIGHTS = ("*.safetensors",)
EXPECTED = "a folder or hub id of a vision-language model in transformers layout, with safetensors"


def captioner_id(model: str, revision: str | None) -> str:
    """The id by which captions record the model that wrote them: ``owner/name@commit``, or a folder's name and a digest of its content."""
    folder = local_model(model, "captions.model")
    return f"{folder.resolve().name}@sha256:{fingerprint(folder)[:16]}" if folder else f"{model}@{revision}"


def check_captioner(model: str, revision: str | None) -> None:
    """Refuse a model that, by its configuration, cannot write captions; no weights of a hub model are fetched.

    Raises:
        InputError: the model does not exist, is not pinned, is gated, or is not one that transformers knows to turn pictures into text.
        ServiceUnreachable: the hub does not answer.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    where = f"captions.model={model}"
    config = _read(locate_captioner(model, revision, weights=False) / "config.json", where)
    kind = str(config.get("model_type"))
    if kind in KNOWN:
        return
    own_code = " with its own code, which is not run" if config.get("auto_map") else ""
    raise InputError(
        where, f"a {kind}{own_code}: not a model that turns images into text", expected=EXPECTED,
        remedy="choose a model of the task image-text-to-text or image-to-text, such as a BLIP, LLaVA, SmolVLM or Qwen-VL",
    )  # fmt: skip


def locate_captioner(model: str, revision: str | None, *, weights: bool = True) -> Path:
    """The folder of a captioner, fetched if need be; without ``weights``, only its text files.

    Raises:
        InputError: the model does not exist, is not pinned or is gated, or lacks ``config.json`` or (with ``weights``) safetensors.
        ServiceUnreachable: the hub does not answer.
    """
    where = f"captions.model={model}"
    folder = local_model(model, "captions.model")
    if folder is None:
        folder = fetch(model, revision, (*TEXTS, *WEIGHTS) if weights else TEXTS, "captions.model")
    elif folder.is_file():
        raise InputError(where, "is a file", expected=EXPECTED, remedy="give the folder that save_pretrained wrote")
    if not (folder / "config.json").is_file():
        raise InputError(where, "has no config.json", expected=EXPECTED, remedy="give the folder that save_pretrained wrote")
    if weights and not any(folder.glob(WEIGHTS[0])):
        raise InputError(
            where, "has no safetensors: pickled weights can run code when they are opened, so nothing else is read", expected=EXPECTED,
            remedy="convert them with save_pretrained(..., safe_serialization=True) on a machine where they can do no harm",
        )  # fmt: skip
    return folder


def _read(file: Path, where: str) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(where, f"its config.json cannot be read ({error})", expected=EXPECTED) from error
    return config if isinstance(config, dict) else {}
