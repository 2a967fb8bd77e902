import ast
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from components.core.pages import code, escaped, literal
from components.registry.card import render_card, write_card

USAGE: dict[str, Any] = {
    "prompt": "a photo of sks style, a man", "negative_prompt": "blurry", "steps": 30, "guidance": 7.5, "file": "mine", "embeddings": [],
    "pipeline": "StableDiffusionPipeline", "scheduler": "DDIMScheduler", "scheduler_options": {"clip_sample": False},
}  # fmt: skip
BASE = {"name": "owner/base", "public": True, "revision": "ab" * 20}
LOCAL = {"public": False, "revision": None}
BARE: dict[str, Any] = {
    "title": "bare", "format": "diffusers", "base": None, "usage": USAGE, "license": "other",
    **dict.fromkeys(("method", "style", "version", "template", "instance_prompt", "verdict", "pictures_are", "grid", "attribution"), ""),
    **dict.fromkeys(("tokens", "training", "provenance", "scores", "score_notes", "pictures", "files", "notes", "tags"), ()),
}  # fmt: skip
FACTS: dict[str, Any] = {
    **BARE, "title": "mine", "base": BASE, "method": "lora", "style": "anime", "version": "version 3 of mine", "tokens": ["sks"],
    "template": "a photo of {token} style, {prompt}", "instance_prompt": "a photo of sks style", "training": [("optimizer steps", "800")],
    "provenance": [("digest of the style set's manifest", "ef" * 32)], "verdict": "The style took.", "score_notes": ["Extractor: pocket."],
    "scores": [("CLIP-T ↑", "31.00 (30.00 to 32.00)", "30.00", "16")], "pictures": [("images/a.png", "a photo of sks style, a man")],
    "pictures_are": "Some of the images that were scored.", "grid": "images/grid.png", "files": [("unet/", "the network")],
    "notes": ["Mind this."], "tags": ["stable-diffusion"],
}  # fmt: skip


def block(card: str) -> str:
    (found,) = re.findall(r"^```python\n(.*?)^```$", card, re.M | re.S)
    return str(found)


def test_hugging_face_reads_the_head(tmp_path: Path) -> None:
    data = ModelCard.load(write_card(tmp_path, FACTS)).data
    assert (data.license, data.base_model, data.library_name, data.pipeline_tag) == ("other", "owner/base", "diffusers", "text-to-image")
    assert data.get("base_model_relation") == "finetune" and data.get("instance_prompt") == "a photo of sks style"
    assert data.tags == ["text-to-image", "diffusers", "stable-diffusion", "style", "styleforge"]
    assert data.get("widget") == [{"text": "a photo of sks style, a man", "output": {"url": "images/a.png"}}]
    lora = ModelCard(render_card(dict(FACTS, format="a1111-lora", license="openrail"))).data
    assert (lora.license, lora.get("base_model_relation"), "lora" in (lora.tags or [])) == ("openrail", "adapter", True)
    local = ModelCard(render_card(FACTS | {"base": LOCAL | {"name": "pocket"}})).data
    assert local.base_model is None and local.get("base_model_relation") is None


def test_it_says_all_that_is_known() -> None:
    card = render_card(FACTS)
    for wanted in (
        "version 3 of mine", "![Some of the images", "](images/grid.png)", "`a photo of {token} style, {prompt}`", "**Note.** Mind this.",
        "| CLIP-T ↑ | 31.00 (30.00 to 32.00) | 30.00 | 16 |", "The style took.", "Extractor: pocket.", "| optimizer steps | `800` |",
        "ef" * 32, "No licence has been chosen", "## Intended use and limits", "| `unet/` | the network |",
    ):  # fmt: skip
        assert wanted in card, wanted
    assert "`openrail`, as its owner chose" in render_card(dict(FACTS, license="openrail"))
    bare = render_card(BARE)
    assert "No scores came with this model." in bare and "Nothing is recorded of the images" in bare
    assert "Nothing is recorded of how this model was trained." in bare
    assert "grid.png" not in bare and "**Note.**" not in bare and "Prompts must name" not in bare
    embedded = dict(USAGE, embeddings=[("<sks>", "sks.safetensors", ["emb_params"], "sks")])
    row = "| `sks.safetensors` | `embeddings/`; write `sks` for `<sks>` | `models/embeddings/`; write `embedding:sks` |"
    assert all(row in render_card(dict(FACTS, format=name, usage=embedded)) for name in ("a1111-embedding", "single-file"))
    assert "`<lora:mine:1>`" in render_card(dict(FACTS, format="a1111-lora"))


@pytest.mark.parametrize("name", ["diffusers", "single-file", "a1111-lora", "a1111-embedding"])
@pytest.mark.parametrize("keys", [["emb_params"], ["clip_l", "clip_g"]])
def test_its_code_is_python_whatever_users_write(name: str, keys: list[str]) -> None:
    odd = 'it\'s a "man"\n```\nimport os  \\ # é'
    usage = dict(USAGE, prompt=odd, negative_prompt=odd, embeddings=[("<sks>", "sks.safetensors", keys, "sks")])
    program = ast.parse(block(render_card(dict(FACTS, format=name, usage=usage, base=LOCAL | {"name": odd}))))
    assert odd in {node.value for node in ast.walk(program) if isinstance(node, ast.Constant)}
    modules = {node.module for node in ast.walk(program) if isinstance(node, ast.ImportFrom)}
    assert modules == ({"diffusers"} if len(keys) == 1 else {"diffusers", "safetensors.torch"})
    assert not [node for node in ast.walk(program) if isinstance(node, ast.Import)]


def test_nothing_that_users_wrote_leaves_its_place() -> None:
    odd = "x | y\n# head\n<script>[a](b) `c` ![d](e)"
    card = render_card(dict(FACTS, title=odd, style=odd, tokens=[odd], template=odd, training=[(odd, odd)], verdict=odd, notes=[odd]))
    body = card.split("\n---\n", 1)[1]
    assert [line for line in body.splitlines() if line.startswith("# ")] == [f"# {escaped(odd)}"]
    assert "<script>" not in re.sub(r"(`+) ?.*?[^`] ?\1(?!`)", "", body)
    (row,) = [line for line in body.splitlines() if line.startswith("| x ")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3


def test_escaping_by_hand() -> None:
    assert escaped("a|b\n<c>") == r"a\|b \<c\>"
    assert code("a") == "`a`" and code("a`b") == "`` a`b ``" and code("a|b") == r"`a\|b`" and code("") == ""
    assert literal("a`\n") == r'"a\x60\n"' and literal(2.5) == "2.5" and literal(None) == "None"
