"""Finished style models in the formats that other programs load, each as a folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from components.core.content import digest_value
from components.core.errors import InputError
from components.core.model_card import CARD, read_card, sampling_settings
from components.core.model_ref import EMBEDDED_BASES, is_hub_id
from components.core.paths import embedded_weights, read_json, write_json
from components.diffusion.export.comfy import workflow
from components.diffusion.export.formats import KOHYA_FILE, PORTABLE_KINDS, file_stem
from components.diffusion.export.guided import guided
from components.diffusion.export.original import write_original
from components.diffusion.models.bundle import Bundle, load_bundle, load_weights
from components.diffusion.models.deltas import Delta, check_base, is_delta, read_delta
from components.diffusion.models.families import Family
from components.diffusion.models.interpolation import interpolate, weights_of
from components.diffusion.models.layouts import LAYOUTS, WHOLE_KINDS, Drawing, Layout
from components.diffusion.models.loading import quiet
from components.diffusion.models.sources import check_folder, folder_beside
from components.diffusion.models.tokens import row_names, stage_names
from components.diffusion.objectives.schedulers import make_scheduler, samplers_for
from components.diffusion.sampling.jobs import PromptRequest
from components.diffusion.sampling.requests import request_for

FORMATS = {
    "diffusers": "a folder for diffusers' from_pretrained",
    "single-file": "one checkpoint in the original layout",
    "a1111-lora": "a LoRA in kohya's format",
    "a1111-embedding": "an embedding file for each token",
    "comfyui": "the folders of ComfyUI's models/, with a workflow",
}
EXAMPLE = "a house by a river"
"""What an example prompt asks for, in the model's template."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Widths of the UNet's first level and of the text states in Stable Diffusion 1.x, 2.x and XL.
_PUBLISHED_WIDTH, _PUBLISHED_STATES = 320, (768, 1024, 2048)
_OTHER_SIZE = (
    "AUTOMATIC1111 and ComfyUI know only the networks of Stable Diffusion 1.x, 2.x and XL. This one has another size, so they do "
    "not load it; diffusers and StyleForge do."
)


@dataclass(frozen=True)
class StyleModel:
    """A model folder: its card, and ``record``, which says what was trained on which base (None if that is not recorded).

    ``strength`` is α in the exported weights θ₀ + α (θ − θ₀), where θ₀ are the base's weights and θ the model's.
    """

    folder: Path
    card: dict[str, Any]
    record: Delta | None
    strength: float = 1.0

    @property
    def trains(self) -> frozenset[str]:
        """The ways in which it was trained, see :class:`components.diffusion.training.recipe.Recipe`."""
        return self.record.recipe.trains if self.record else frozenset()

    @property
    def embeddings(self) -> dict[str, Path]:
        """The embedding file of each token that has rows of its own."""
        tokens = self.record.recipe.new_tokens if self.record else ()
        return {token: self.folder / f"{file_stem(token)}.safetensors" for token in tokens}

    @property
    def concepts(self) -> list[dict[str, Any]]:
        """The concepts that the card lists, each with its ``token`` and its ``negative`` token, if any."""
        return list(self.card.get("concepts") or [{"token": self.card.get("identifier", "")}])

    @property
    def tokens(self) -> list[str]:
        """The identifiers, as prompts name them."""
        return [str(row["token"]) for row in self.concepts if row["token"]]

    @property
    def stages(self) -> dict[str, list[str]]:
        """The tokens that have rows for each stage of noise, and their names at each stage, least noise first."""
        recipe = self.record.recipe if self.record and "tokens" in self.trains else None
        return {token: stage_names(token, recipe.stages) for token in recipe.tokens} if recipe and recipe.stages > 1 else {}

    @property
    def layout(self) -> Layout | None:
        """The layout of its family; None for a delta that was written before deltas recorded it."""
        if (self.folder / "model_index.json").is_file():
            return check_folder(self.folder, weights=False)
        return LAYOUTS.get(self.card.get("base", {}).get("pipeline", ""))

    def for_one_stage(self, text: str) -> str:
        """A prompt for programs that use one prompt for all steps: staged tokens are written as those of the middle stage."""
        for token, names in self.stages.items():
            text = text.replace(token, names[len(names) // 2])
        return text

    @property
    def low_rank(self) -> bool:
        """Whether nothing but low-rank updates was trained."""
        return bool(self.trains) and all(way.endswith(".low-rank") for way in self.trains)

    @property
    def kind(self) -> str:
        """The kind of the low-rank updates, if there are any."""
        return self.record.recipe.lora.kind if self.record else ""

    @property
    def lora(self) -> Path | None:
        """The file of the low-rank updates in kohya's format, if nothing else was trained and other programs read their kind."""
        return self.folder / KOHYA_FILE if self.low_rank and self.kind in PORTABLE_KINDS else None


@dataclass(frozen=True)
class Written:
    """The result of an export: notes for its users, and what code that loads it in diffusers needs.

    ``drawing`` is how the model was scored. ``pipeline`` and ``scheduler`` are classes of diffusers, ``scheduler_options`` what
    differs from the base's own scheduler. ``embeddings`` gives for each token its file and the file's keys.
    """

    notes: list[str]
    drawing: Drawing
    pipeline: str
    scheduler: str
    scheduler_options: dict[str, Any]
    embeddings: dict[str, tuple[str, list[str]]]


def open_model(folder: Path, strength: float = 1.0) -> StyleModel:
    """Read a model folder's card and record; no weights are opened."""
    card = read_card(folder)
    return StyleModel(folder, card, read_delta(folder) if is_delta(folder) or {"recipe", "base"} <= set(card) else None, strength)


def formats_of(model: StyleModel) -> list[str]:
    """The formats that a model can be exported in, in the order of ``FORMATS``."""
    return [name for name in FORMATS if not _why_not(model, name)]


def check_format(model: StyleModel, target: str, where: str) -> None:
    """Refuse (InputError) a format that a model does not have, naming those that it has."""
    if reason := _why_not(model, target):
        what = f"a model of the method {model.card['method']}" if model.card.get("method") else "this model"
        known = formats_of(model)
        expected = f"--format {' or '.join(known)}" if known else "a strength of 1"
        raise InputError(where, f"{what} has no {target} ({FORMATS[target]}): {reason}", expected=expected)


def _why_not(model: StyleModel, target: str) -> str:
    """Why a model cannot be exported in a format; empty where it can.

    A LoRA file holds all of a model only if nothing but low-rank updates was trained, and embeddings only if nothing but new tokens
    was. New tokens alone have no checkpoint, since their base is unchanged.
    """
    low_rank, tokens = model.low_rank, model.trains == {"tokens"}
    if model.record and model.record.aligned_to:
        return "it is its base, drawn in line with an image, which only StyleForge does"
    if model.strength != 1.0 and (tokens or model.record is None or target.startswith("a1111")):
        if tokens or model.record is None:
            what = "it trained only new tokens, which the base does not have" if tokens else "its base is not recorded"
            return f"a strength of {model.strength:g} lies between the base and the model, and {what}"
        return "programs that load this file have a strength of their own"
    if target == "diffusers":
        return ""
    if target in ("single-file", "comfyui") and (layout := model.layout) and layout not in [kind.layout for kind in WHOLE_KINDS]:
        return f"StyleForge cannot write {layout.title} as one file for other programs"
    if target == "single-file" and tokens:
        return "it trained only new tokens, so the checkpoint would be its base's"
    if (target == "a1111-lora" and not low_rank) or (target == "a1111-embedding" and not tokens):
        return f"it trained {', '.join(sorted(model.trains))}" if model.trains else "what it trained is not recorded"
    if target == "a1111-lora" and model.lora is None:
        return f"its adapters are of kind {model.kind}, which no other program reads"
    # Files for other programs are written in training; a whole pipeline that such a model was merged into lacks them.
    files = [*model.embeddings.values(), *([model.lora] if model.lora else [])]
    gone = [file.name for file in files if not file.is_file()]
    return f"{', '.join(gone)} is missing from {model.folder}" if gone and (target != "single-file" or model.embeddings) else ""


def write_format(model: StyleModel, target: str, name: str, out: Path, dtype: str = "fp32") -> Written:
    """Write a model into ``out``, an empty folder, in one of its :func:`formats_of`; its checkpoint or LoRA is called ``name``.

    ``dtype``, one of ``DTYPES``, is the precision of whole networks. LoRA and embedding files stay as they were trained.

    Raises:
        InputError: the model or its base is damaged, or has no place in the format.
        ServiceUnreachable: the base must be fetched, and the hub does not answer.
    """
    if target == "diffusers":
        return _write_diffusers(model, out, DTYPES[dtype])
    if target == "single-file":
        return _write_single_file(model, name, out, DTYPES[dtype])
    if target == "comfyui":
        return _write_comfyui(model, name, out, DTYPES[dtype])
    if target == "a1111-embedding":
        return _written(model, embeddings=_copy_embeddings(model, out))
    assert model.lora is not None
    shutil.copyfile(model.lora, out / f"{name}.safetensors")
    return _written(model)


def _write_diffusers(model: StyleModel, out: Path, dtype: torch.dtype) -> Written:
    bundle = _whole(model)
    for part in bundle.family.parts.values():
        part.to(dtype)
    bundle.save(out)
    if (model.folder / CARD).is_file():
        write_json(out / CARD, {**public_card(model.card), "save": "full", "files": [], **_strength(model)})
    return _written(model, bundle.family, notes=[])


def _write_single_file(model: StyleModel, name: str, out: Path, dtype: torch.dtype) -> Written:
    family = _whole(model).family
    _checkpoint(model, family, out / f"{name}.safetensors", dtype)
    with quiet():
        family.save(out / name, weights=False)
    for tokenizer in family.tokenizers:
        _drop_tokens(out / name / tokenizer.replace("text_encoder", "tokenizer"), _row_names(model))
    return _written(model, family, _notes(family), _copy_embeddings(model, out))


def _write_comfyui(model: StyleModel, name: str, out: Path, dtype: torch.dtype) -> Written:
    """Write a workflow and everything that it loads, including the checkpoint of an unchanged base."""
    lora = f"{name}.safetensors" if model.lora else None
    unchanged = lora is not None or model.trains == {"tokens"}
    family = _base(model) if unchanged else _whole(model).family
    checkpoint = f"{base_name(model.card)}.safetensors" if unchanged else f"{name}.safetensors"
    _checkpoint(model, family, out / "checkpoints" / checkpoint, dtype)
    if lora and model.lora:
        (out / "loras").mkdir()
        shutil.copyfile(model.lora, out / "loras" / lora)
    embeddings = _copy_embeddings(model, out / "embeddings") if model.embeddings else {}
    settings = sampling_settings(model.card)
    known = {*embeddings, *model.stages}
    request = example_request(model, EXAMPLE, lambda token: _spelled(token) if token in known else token)
    stages = {_spelled(token): [_spelled(name) for name in names] for token, names in model.stages.items()}
    by = guided(settings, family.drawing(settings).guidance, request, middle=True)
    write_json(out / "workflow.json", workflow(family, settings, checkpoint, lora, request.full_prompt, by, model.strength, stages))
    return _written(model, family, _notes(family), embeddings, middle=True)


def _spelled(token: str) -> str:
    """A token's embedding as ComfyUI's prompts name it."""
    return f"embedding:{file_stem(token)}"


def example_request(model: StyleModel, text: str, spell: Callable[[str], str] = str) -> PromptRequest:
    """A text in the model's template, with its tokens as ``spell`` writes them."""
    rows = [{key: spell(str(row[key])) for key in ("token", "negative") if row.get(key)} for row in model.concepts]
    return request_for("example", "", text, sampling_settings(model.card).style_template, [row for row in rows if row])


def _whole(model: StyleModel) -> Bundle:
    """The model with all of its weights, at its strength."""
    if model.strength == 1.0:
        return load_bundle(model.folder, device="cpu")
    bundle = load_weights(model.folder)
    interpolate(bundle.family, weights_of(_base(model)), model.strength)
    return bundle


def _strength(model: StyleModel) -> dict[str, float]:
    return {} if model.strength == 1.0 else {"strength": model.strength}


def _base(model: StyleModel) -> Family:
    """The model's base, checked to have the weights that the model was trained on."""
    assert model.record is not None
    bundle = load_bundle(model.record.model, model.record.revision, "cpu")
    check_base(model.record, bundle.digest)
    return bundle.family


def _checkpoint(model: StyleModel, family: Family, file: Path, dtype: torch.dtype) -> None:
    """Write one file, without the rows of new tokens, since other programs only accept a table of CLIP's own size."""
    for name, encoder in family.text_encoders.items():
        added = [family.tokenizers[name].get_vocab()[row] for row in _row_names(model) if row in family.tokenizers[name].get_vocab()]
        if added:
            table = encoder.get_input_embeddings().weight[: min(added)].detach().clone()
            encoder.set_input_embeddings(torch.nn.Embedding.from_pretrained(table))
            encoder.config.vocab_size = len(table)
    write_original(family, file, dtype)


def _row_names(model: StyleModel) -> list[str]:
    """The tokenizer's names of the rows of all new tokens."""
    tokens = model.record.recipe.new_tokens if model.record else {}
    return [name for token, count in tokens.items() for name in row_names(token, count)]


def _drop_tokens(folder: Path, names: list[str]) -> None:
    """Remove added tokens from a saved tokenizer."""
    file = folder / "tokenizer.json"
    if names and file.is_file():
        content = read_json(file)
        content["added_tokens"] = [row for row in content["added_tokens"] if row["content"] not in names]
        write_json(file, content)


def _copy_embeddings(model: StyleModel, out: Path) -> dict[str, tuple[str, list[str]]]:
    copied = {}
    for token, file in model.embeddings.items():
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, out / file.name)
        with safe_open(file, framework="pt") as opened:
            copied[token] = (file.name, sorted(opened.keys(), reverse=True))
    return copied


def _notes(family: Family) -> list[str]:
    config = family.denoiser.config
    published = config.block_out_channels[0] == _PUBLISHED_WIDTH and config.cross_attention_dim in _PUBLISHED_STATES
    return [] if published else [_OTHER_SIZE]


def _written(
    model: StyleModel, family: Family | None = None, notes: list[str] | None = None,
    embeddings: dict[str, tuple[str, list[str]]] | None = None, *, middle: bool = False,
) -> Written:  # fmt: skip
    """Describe an export; ``middle`` says that its format takes guidance by three prompts."""
    settings = sampling_settings(model.card)
    # Files without a base are for programs that read one-file checkpoints.
    drawing = family.drawing(settings) if family else WHOLE_KINDS[0].layout.settled(settings, {})
    name = drawing.scheduler
    pipeline = family.layout.pipeline if family else "AutoPipelineForText2Image"
    if family is None and model.card.get("base", {}).get("model") in EMBEDDED_BASES:
        notes = [_OTHER_SIZE]
    note = guided(settings, drawing.guidance, example_request(model, EXAMPLE), middle=middle).note
    if model.strength != 1.0:
        notes = [*(notes or []), f"The weights are the base's plus {model.strength:g} times the trained change."]
    for token, names in model.stages.items() if not middle else ():
        lost = f"which is {names[len(names) // 2]} here. Images differ; `styleforge sample` and a served model draw as it was scored."
        staged = f"At each step, StyleForge replaces {token} with one of {names[0]} … {names[-1]}, by noise level."
        notes = [*(notes or []), f"{staged} This format uses one for all steps, {lost}"]
    notes = [*(notes or []), *([note] if note else [])]
    base = family.scheduler_config if family else _scheduler_of_base(model)
    samplers = samplers_for(base or {})
    if base:
        options = _differences(name, base)
    else:
        # What our scheduler needs whatever the base: its own options, and those in which bases differ.
        ours = make_scheduler(name, {}).config
        options = {key: ours[key] for key in (*samplers[name][1], "clip_sample", "timestep_spacing") if key in ours}
    return Written(notes, drawing, pipeline, samplers[name][0], options, embeddings or {})


def _scheduler_of_base(model: StyleModel) -> dict[str, Any] | None:
    """The base's scheduler configuration, if the base is a folder on this machine, or a file with one beside it."""
    base = str(model.card.get("base", {}).get("model", ""))
    folder = embedded_weights(EMBEDDED_BASES[base]) if base in EMBEDDED_BASES else Path(base).expanduser()
    if folder.is_file():
        folder = folder_beside(folder) or folder
    file = folder / "scheduler" / "scheduler_config.json"
    return dict(read_json(file)) if file.is_file() else None


def _differences(name: str, base: dict[str, Any]) -> dict[str, Any]:
    """Options that diffusers needs besides the base's own configuration to draw as :func:`make_scheduler`'s scheduler does."""
    import diffusers

    ours = make_scheduler(name, base)
    plain = type(ours).from_config(getattr(diffusers, base["_class_name"]).from_config(base).config).config
    return {key: value for key, value in ours.config.items() if not key.startswith("_") and plain.get(key) != value}


def public_card(card: dict[str, Any]) -> dict[str, Any]:
    """A card without this machine's paths (of a local base only a name is kept), and without who gave which consent."""
    if "rights" in card:
        card = {**card, "rights": [{key: value for key, value in row.items() if key != "consent"} for row in card["rights"]]}
    if "base" not in card or is_public(str(card["base"]["model"])):
        return card
    return {**card, "base": {**card["base"], "model": base_name(card)}}


def is_public(base: str) -> bool:
    """Whether a base is known by this name elsewhere: a pocket base, or a model on the hub."""
    return base in EMBEDDED_BASES or is_hub_id(base)


def base_name(card: dict[str, Any]) -> str:
    """The last part of the base's name, made fit for a file name: ``stable-diffusion-v1-5``."""
    stem = re.sub(r"\.safetensors$", "", re.split(r"[/\\]", str(card["base"]["model"]).rstrip("/\\"))[-1])
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.") or digest_value(stem)[:8]
