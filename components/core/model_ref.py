"""What the name of a model refers to: an embedded pocket model, a path on this machine, or an id on the Hugging Face Hub."""

import re
from pathlib import Path

from components.core.errors import InputError
from components.core.paths import pocket_weights

POCKET_BASES = {"pocket": "base", "pocket-flow": "flow"}
"""Names of the embedded bases, and the part of the embedded weights that holds each."""
_EVALUATOR = {"pocket": "evaluator"}
"""What ``pocket`` refers to in settings other than ``base.model``."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WEIGHTS = (".safetensors", ".ckpt", ".pt", ".bin")


def local_model(name: str, field: str) -> Path | None:
    """Path of a model on this machine, file or folder; None for a hub id, InputError for what is neither.

    ``field`` is the setting that names the model: it decides what ``pocket`` refers to, and appears in errors.
    """
    embedded = POCKET_BASES if field == "base.model" else _EVALUATOR
    if name in embedded:
        path = pocket_weights(embedded[name])
        if path.is_dir():
            return path
        remedy = "reinstall, or run `styleforge pocket train` (for pocket-flow, with `--base flow`)"
        raise InputError(f"{field}={name}", f"the embedded weights are missing ({path})", remedy=remedy)
    if is_hub_id(name):
        return None
    path = Path(name).expanduser()
    if not path.exists():
        expected = f"{', '.join(f'`{name}`' for name in embedded)}, a folder, a .safetensors file or a hub id owner/name"
        raise InputError(f"{field}={name}", f"no such file or folder ({path})", expected=expected, remedy=f"fix {field}")
    return path


def is_hub_id(name: str) -> bool:
    """Whether a name is a hub id, ``owner/name``. A path that exists is not."""
    path = Path(name).expanduser()
    return bool(_HUB_ID.fullmatch(name)) and path.suffix not in _WEIGHTS and not path.exists()
