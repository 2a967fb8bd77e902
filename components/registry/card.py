"""The model card of an export: a README.md with Hugging Face metadata, rendered from plain data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.pages import render
from components.core.paths import write_text

NAME = "README.md"
UNDECIDED = "other"
"""The placeholder licence: the owner has yet to choose one."""


def write_card(folder: Path, facts: Mapping[str, Any]) -> Path:
    """Write ``README.md`` into ``folder`` and return it."""
    write_text(folder / NAME, render_card(facts))
    return folder / NAME


def render_card(facts: Mapping[str, Any]) -> str:
    """Render the card as Markdown, metadata first. Users' text (names, prompts) is escaped, so it cannot break the markup.

    ``facts`` come from :func:`runs.export.export_model`. In them, ``base`` is None or has ``name``, ``public`` (whether it is a model on
    the hub) and ``revision``; ``usage`` is what the example code needs, such as the diffusers classes ``pipeline`` and ``scheduler``, the
    stem of the model's file as ``file``, and ``embeddings``: (token, path, keys in the file, name without brackets) for each token that
    has rows of its own. Table rows are (label, value); those of ``scores`` are (score, style model, base, number of pictures).
    """
    page = {"facts": facts, "metadata": metadata(facts), "undecided": UNDECIDED}
    return render(Path(__file__).with_name("model_card.md.j2"), page)


def metadata(facts: Mapping[str, Any]) -> str:
    """The card's metadata as YAML, with the fields that Hugging Face reads: licence, base model, library, tags, prompt, sample pictures."""
    from huggingface_hub import ModelCardData

    base = facts["base"]["name"] if facts["base"] and facts["base"]["public"] else None
    kind = {"a1111-lora": ["lora"], "a1111-embedding": ["textual_inversion"]}.get(facts["format"], [])
    extra: dict[str, Any] = {"base_model_relation": "adapter" if kind else "finetune"} if base else {}
    if facts["instance_prompt"]:
        extra["instance_prompt"] = facts["instance_prompt"]
    if facts["pictures"]:
        extra["widget"] = [{"text": prompt, "output": {"url": path}} for path, prompt in facts["pictures"]]
    tags = ["text-to-image", "diffusers", *facts["tags"], *kind, "style", "styleforge"]
    data = ModelCardData(
        base_model=base, library_name="diffusers", license=facts["license"], pipeline_tag="text-to-image", tags=list(dict.fromkeys(tags)),
        **extra,
    )  # fmt: skip
    return str(data.to_yaml())
