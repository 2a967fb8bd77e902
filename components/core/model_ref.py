"""What the name of a model refers to: an embedded model, a path on this machine, or an id on the Hugging Face Hub."""

import re
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import InputError
from components.core.paths import embedded_weights


@dataclass(frozen=True)
class Embedded:
    """The parts of the embedded weights that belong to a base: its own, and the evaluator and the probe of its world."""

    base: str
    evaluator: str
    probe: str


EMBEDDED = {
    "pocket": Embedded("base", "evaluator", "probe"),
    "pocket-flow": Embedded("flow", "evaluator", "probe"),
    "art": Embedded("art", "art-evaluator", "art-probe"),
}
"""The embedded bases by their names in ``base.model``."""
EMBEDDED_BASES = {name: parts.base for name, parts in EMBEDDED.items()}
_EVALUATORS = {name: EMBEDDED[name].evaluator for name in ("pocket", "art")}
"""What these names refer to in settings other than ``base.model``."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WEIGHTS = (".safetensors", ".ckpt", ".pt", ".bin")


def local_model(name: str, field: str) -> Path | None:
    """Path of a model on this machine, file or folder; None for a hub id, InputError for what is neither.

    ``field`` is the setting that names the model: it decides what an embedded name refers to, and appears in errors.
    """
    embedded = EMBEDDED_BASES if field == "base.model" else _EVALUATORS
    if name in embedded:
        path = embedded_weights(embedded[name])
        if path.is_dir():
            return path
        remedy = f"reinstall, or run `styleforge base train {name}`"
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
