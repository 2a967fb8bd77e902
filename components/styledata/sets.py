"""Several style sets in one place: each sub-folder of a folder or bucket is one, named after the sub-folder."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from components.core.config import StyleSection, parse_config, validate_model
from components.core.errors import ConfigError, InputError
from components.core.nested import leaves
from components.core.yaml_text import load_yaml
from components.styledata.source import list_folders, read_beside

SETTINGS = "styleforge.yaml"
"""The file in a set with settings for that set alone."""
MAX_BYTES = 16 * 2**10
"""Largest size of that file."""
OPEN: dict[str, float | None] = {
    "seed": 2**32,
    "aux.source": None, "aux.count": 200, "aux.generated_count": 1000, "aux.form": None, "aux.prompt": None,
    "captions.prompt": None, "captions.omit": None, "captions.max_tokens": 200,
    "method.name": None, "method.identifier": None, "method.descriptor": None, "method.instance_prompt": None,
    "method.instance_prompts": None, "method.aux_prompt": None,
    "method.prior_weight": 10, "method.prior": None, "method.loss.name": None, "method.loss.scale": 30, "method.loss.beta": 1e6,
    "method.train_text_encoder": None, "method.identifier_rows": None, "method.style_ref": None,
    "method.style_ref_count": 1000, "method.vectors": 16, "method.initial_word": None,
    "method.concepts.identifier": None, "method.concepts.roles": None, "method.concepts.categories": None,
    "method.concepts.instance_prompt": None, "method.concepts.aux_prompt": None, "method.concepts.aux_form": None,
    "method.concepts.aux_count": 200,
    "method.lora.rank": 128, "method.lora.alpha": 256, "method.lora.dora": None,
    "training.steps": 5000, "training.learning_rate": 1, "training.text_encoder_learning_rate": 1, "training.token_learning_rate": 1,
    "training.batch_size": 8, "training.aux_batch_size": 8, "training.gradient_accumulation": 8, "training.mixed_precision": None,
    "training.gradient_checkpointing": None, "training.weight_decay": 1, "training.schedule": None, "training.warmup_steps": 5000,
    "training.ema_decay": 1, "training.min_snr_gamma": 100, "training.noise_offset": 1, "training.flip": 1, "training.crops": 16,
    "training.caption_dropout": 1, "training.caption_only_dropout": 1, "training.transforms": None, "training.transform_probability": 1,
    "sampling.repeats": 8, "sampling.limit": 2000, "sampling.scheduler": None, "sampling.steps": 100, "sampling.guidance": 30,
    "sampling.style_template": None, "sampling.negative_prompt": None,
    "attention.prompts": 64, "attention.words": None,
}  # fmt: skip
"""Settings that a set may decide for itself, with the largest number allowed (None: any value). None of them names a place (a file, URL,
model, bank, pool or registry) or takes a machine's resources without a bound: not everyone who may put images into a bucket may decide
that."""


@dataclass(frozen=True)
class Place:
    """A set: its name, and the folder or URL of its pictures."""

    name: str
    location: str

    def check(self) -> None:
        """Raise ConfigError unless the folder's name can be a style's."""
        validate_model(StyleSection, {"name": self.name, "source": self.location}, self.location)


def list_sets(source: str) -> list[Place]:
    """The sub-folders of ``source``, sorted by name; files and hidden folders are skipped."""
    if "::" in source:
        raise InputError(source, "is inside an archive", expected="a folder or bucket with a sub-folder for each style set")
    names = list_folders(source)
    if not names:
        raise InputError(
            source, "has no sub-folders", expected="a sub-folder for each style set", remedy="give the folder above the style set's own"
        )
    return [Place(name, f"{source.rstrip('/')}/{name}") for name in names]


def read_settings(place: Place) -> dict[str, Any]:
    """The settings in the set's ``styleforge.yaml``, by section; ConfigError for a setting that a set may not decide."""
    data = read_beside(place.location, SETTINGS, MAX_BYTES + 1)
    if data is None:
        return {}
    where = str(PurePosixPath(place.name) / SETTINGS)
    if len(data) > MAX_BYTES:
        raise ConfigError(where, f"is larger than {MAX_BYTES} bytes", expected="a few settings")
    found = _read(data, where)
    written = dict(leaves(found, into_lists=True))
    closed = [name for name in written if name not in OPEN]
    problems = [f"a set cannot decide {', '.join(closed)}"] if closed else []
    try:
        # Limits apply to the values as a run reads them: a number may be written as text.
        config = parse_config({"style": {"name": "style", "source": "."}, **found}, where=where)
    except ConfigError as error:
        problems.append(error.problem)
    else:
        problems += [
            f"{name}={value} is above a set's limit of {limit:g}"
            for name, value in leaves(config.model_dump(mode="json"), into_lists=True)
            if name in written and (limit := OPEN.get(name)) is not None and value is not None and value > limit
        ]
    if problems:
        remedy = "see docs/how-to/retrain.md for what a set may decide; all else applies to all sets"
        raise ConfigError(where, "; ".join(problems), remedy=remedy)
    return found


def _read(data: bytes, where: str) -> dict[str, Any]:
    try:
        text = data.decode("utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            # A few lines of aliases can expand to gigabytes.
            raise ConfigError(where, "has YAML aliases", expected="plain settings")
        found = load_yaml(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(where, f"not YAML ({' '.join(str(error).split())})", expected="a YAML mapping of sections") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(where, f"holds a {type(found).__name__}", expected="a YAML mapping of sections")
    return found
