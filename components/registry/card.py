"""The model card of an export: README.md with Hugging Face's metadata, from plain data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.core.paths import atomic_file

NAME = "README.md"
UNDECIDED = "other"
"""The licence that says nothing yet: the owner must choose one."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")


@dataclass(frozen=True)
class CardPicture:
    """A picture beside the card: its path from there, and the prompt that it was drawn for."""

    path: str
    prompt: str


@dataclass(frozen=True)
class Base:
    """What the model was trained on. ``public`` says whether ``name`` is a model on the hub."""

    name: str
    public: bool = False
    revision: str | None = None
    digest: str = ""


@dataclass(frozen=True)
class Usage:
    """What the code in the card needs; ``pipeline`` and ``scheduler`` are classes of diffusers, ``file`` the stem of the model's file.

    ``embeddings`` holds (token, path, keys in the file, name without brackets) for each token with rows of its own.
    """

    prompt: str
    negative_prompt: str
    steps: int
    guidance: float
    pipeline: str
    scheduler: str
    scheduler_options: Mapping[str, Any]
    file: str
    embeddings: Sequence[tuple[str, str, Sequence[str], str]] = ()


@dataclass(frozen=True)
class CardFacts:
    """All that a card says. Rows are (label, value); score rows are (score, style model, base, number of pictures)."""

    title: str
    format: str
    base: Base | None
    usage: Usage
    license: str = UNDECIDED
    method: str = ""
    style: str = ""
    version: str = ""
    tokens: Sequence[str] = ()
    template: str = ""
    instance_prompt: str = ""
    training: Sequence[tuple[str, str]] = ()
    provenance: Sequence[tuple[str, str]] = ()
    verdict: str = ""
    scores: Sequence[tuple[str, str, str, str]] = ()
    score_notes: Sequence[str] = ()
    pictures: Sequence[CardPicture] = ()
    pictures_are: str = ""
    grid: str = ""
    files: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    tags: Sequence[str] = field(default_factory=tuple)


def write_card(folder: Path, facts: CardFacts) -> Path:
    """Write ``README.md`` into ``folder`` and return it."""
    path = Path(folder) / NAME
    with atomic_file(path) as temporary:
        temporary.write_text(render_card(facts), encoding="utf-8")
    return path


def render_card(facts: CardFacts) -> str:
    """The card as Markdown, its metadata first. What users wrote (names, prompts) cannot leave its place in the text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"text": escaped, "code": code, "py": literal}
    return environment.get_template("model_card.md.j2").render(facts=facts, metadata=metadata(facts), undecided=UNDECIDED)


def metadata(facts: CardFacts) -> str:
    """The card's head as YAML, with what Hugging Face reads: licence, base model, library, tags, prompt, sample pictures."""
    from huggingface_hub import ModelCardData

    adapter = facts.format in ("a1111-lora", "a1111-embedding")
    extra: dict[str, Any] = {}
    if facts.base and facts.base.public:
        extra["base_model_relation"] = "adapter" if adapter else "finetune"
    if facts.instance_prompt:
        extra["instance_prompt"] = facts.instance_prompt
    if facts.pictures:
        extra["widget"] = [{"text": picture.prompt, "output": {"url": picture.path}} for picture in facts.pictures]
    tags = ["text-to-image", "diffusers", *facts.tags, *(["lora"] if facts.format == "a1111-lora" else [])]
    tags += ["textual_inversion"] if facts.format == "a1111-embedding" else []
    data = ModelCardData(
        base_model=facts.base.name if facts.base and facts.base.public else None, library_name="diffusers", license=facts.license,
        pipeline_tag="text-to-image", tags=list(dict.fromkeys([*tags, "style", "styleforge"])), **extra,
    )  # fmt: skip
    return str(data.to_yaml())


def escaped(text: Any) -> str:
    """``text`` on one line, with nothing in it that Markdown or a table would read as theirs."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def literal(value: Any) -> str:
    """A Python literal for the card's code, which cannot leave its block."""
    return json.dumps(value, ensure_ascii=False).replace("`", "\\x60") if isinstance(value, str) else repr(value)


def code(text: Any) -> str:
    """``text`` on one line as a code span that it cannot leave, in a table neither."""
    line = " ".join(str(text).split()).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", line)), default=0))
    pad = " " if "`" in line else ""
    return f"{fence}{pad}{line}{pad}{fence}" if line else ""
