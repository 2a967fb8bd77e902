"""Exports a finished model in a format that other programs read, with a model card, and can push it to the Hugging Face Hub."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import InputError
from components.core.model_card import sampling_settings
from components.core.model_ref import EMBEDDED_BASES
from components.core.paths import atomic_folder, read_json, write_text
from components.core.prompting import fill_tokens
from components.core.rights import attribution
from components.diffusion.models.layouts import LAYOUTS, Layout
from components.registry.card import write_card
from components.registry.hub import open_hub
from orchestration.environment import prepare_environment

if TYPE_CHECKING:
    from components.diffusion.export.portable import StyleModel, Written

SHOWN = 8
"""Most pictures on a card."""
MOST = 2.0
"""Largest strength, as a multiple of the trained change."""
SCORES = Path("evaluation") / "scores.json"
ATTRIBUTION = "ATTRIBUTION.txt"
_TRAINING = {
    "steps": "optimizer steps", "batch_size": "StyleRef images a step", "aux_batch_size": "Aux images a step",
    "gradient_accumulation": "micro-batches a step", "learning_rate": "learning rate",
    "text_encoder_learning_rate": "learning rate of the text encoder", "token_learning_rate": "learning rate of token rows",
    "schedule": "schedule", "prior_weight": "weight of the Aux loss", "mixed_precision": "mixed precision",
}  # fmt: skip

_REFERENCES = {"held-out": "held-out images of the style", "style_ref": "the images that were trained on"}


@dataclass(frozen=True)
class Shown:
    """A picture for the card: its file, its prompt as in the bank, and the full prompt."""

    file: Path
    prompt: str
    full_prompt: str


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and how; see :func:`export_model`."""

    model: str
    format: str
    out: Path
    dtype: str = "fp32"
    license: str = "other"
    push: str | None = None
    public: bool = False
    strength: float = 1.0


def export_model(options: ExportOptions) -> dict[str, Any]:
    """Write a model in a format, with a card, completely or not at all; then push it if ``push`` is given.

    ``out`` is a new or empty folder, ``push`` a repository on the hub, private unless ``public``. ``strength`` is α in the weights
    θ₀ + α (θ − θ₀), for the base's θ₀ and the model's θ.

    Returns:
        ``format``, ``name``, ``folder``, ``files`` (paths relative to it), ``notes``, ``pictures`` (how many the card shows),
        ``scored`` (whether the card has scores) and ``pushed`` (an address, or None).

    Raises:
        InputError: there is no such model, it cannot be written in this format, ``strength`` or ``license`` is invalid, ``out`` is in
            use, or there is no token for the push.
        ServiceUnreachable: MLflow or the hub does not answer.
    """
    prepare_environment()
    _check(options.out, options.license)
    if not 0.0 <= options.strength <= MOST:
        raise InputError(f"--strength {options.strength:g}", "out of bounds", expected=f"0, the base, to {MOST:g}; 1 is the model")
    hub = open_hub(options.push, private=not options.public) if options.push else None
    from components.registry.versions import resolve_model

    folder = resolve_model(options.model)
    from components.diffusion.export.portable import check_format, open_model, write_format

    model = open_model(folder, options.strength)
    check_format(model, options.format, f"export {options.model}")
    version = _registered(options.model)
    name = _name(options.model, model, version)
    with tempfile.TemporaryDirectory(prefix="styleforge-") as scratch:
        pictures, origin = _pictures(model, version, Path(scratch))
        with atomic_folder(options.out) as target:
            written = write_format(model, options.format, name, target, options.dtype)
            facts = _facts(options, model, version, name, written, _place(pictures, target), origin, target)
            if facts["attribution"]:
                write_text(target / ATTRIBUTION, facts["attribution"])
            write_card(target, facts)
    files = sorted(path.relative_to(options.out).as_posix() for path in options.out.rglob("*") if path.is_file())
    pushed = hub.push(options.out, f"StyleForge: {name} as {options.format}") if hub else None
    return {
        "format": options.format, "name": name, "folder": str(options.out), "files": files, "notes": written.notes,
        "pictures": len(facts["pictures"]), "scored": bool(facts["scores"]), "pushed": pushed,
    }  # fmt: skip


def _check(out: Path, licence: str) -> None:
    if (out.exists() or out.is_symlink()) and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(
            f"--out {out}", "already exists, and an export never overwrites anything", expected="a new or empty folder",
            remedy="choose another place, or remove it first",
        )  # fmt: skip
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", licence):
        raise InputError(
            f"--license {licence}", "is not on Hugging Face's list of licences", expected="its identifier: openrail, apache-2.0, other, …"
        )


def _registered(reference: str) -> dict[str, Any] | None:
    """Return the registry's row of a version; None for a folder."""
    if Path(reference).expanduser().is_dir():
        return None
    from components.registry.versions import list_models, parse_reference

    name, number, alias = parse_reference(reference)
    rows = [row for row in list_models() if row["name"] == name]
    if number or alias:
        rows = [row for row in rows if row["version"] == number or alias in row["aliases"]]
    return rows[0] if rows else None


def _name(reference: str, model: StyleModel, version: Mapping[str, Any] | None) -> str:
    """Return the name used for the files: the registered name, else the style's, else the folder's."""
    style = str(model.card.get("style") or "")
    name = str(version["name"]) if version else f"styleforge-{style}" if style else Path(reference).expanduser().resolve().name
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.") or "model"


def _pictures(model: StyleModel, version: Mapping[str, Any] | None, scratch: Path) -> tuple[list[Shown], str]:
    """Return at most ``SHOWN`` pictures for the card and a description: scored pictures, else those drawn after training."""
    files = scored_pictures(str(version["run_id"]), scratch) if version and version.get("run_id") else []
    shown = [picture for picture in map(_with_prompt, files) if picture]
    if shown:
        # Evenly spaced, because the ids of a bank are sorted by category.
        chosen = [shown[round(index * (len(shown) - 1) / max(1, min(SHOWN, len(shown)) - 1))] for index in range(min(SHOWN, len(shown)))]
        return chosen, "Some of the images that were scored: one seed each, none chosen by its looks."
    prompts = model.card.get("training", {}).get("validation_prompts") or ()
    drawn = [(model.folder / "training" / f"validation_{index:02d}.png", str(text)) for index, text in enumerate(prompts)]
    found = [Shown(file, text := fill_tokens(prompt, model.tokens), text) for file, prompt in drawn if file.is_file()]
    return found[:SHOWN], "Drawn at the end of training."


def scored_pictures(run_id: str, scratch: Path) -> list[Path]:
    """Download the pictures logged with a registered version's run into ``scratch``; return their files, possibly none."""
    from components.registry.tracking import open_tracking, service_errors

    tracking = open_tracking()
    with service_errors(tracking.uri):
        if not tracking.client.list_artifacts(run_id, "pictures"):
            return []
        return sorted(Path(tracking.client.download_artifacts(run_id, "pictures", str(scratch))).glob("*.png"))


def _with_prompt(file: Path) -> Shown | None:
    """Return a picture with the prompts stored in its file; None if there are none."""
    from PIL import Image

    from components.diffusion.sampling.sampler import CHUNK

    try:
        with Image.open(file) as picture:
            about = json.loads(picture.info.get(CHUNK, "null"))
    except (OSError, ValueError):
        return None
    return Shown(file, str(about["prompt"]), str(about["full_prompt"])) if about else None


def _place(pictures: Sequence[Shown], target: Path) -> list[Shown]:
    """Copy the pictures beside the card and make a grid of them; return the copies."""
    if not pictures:
        return []
    from components.evaluation.grid import contact_sheet

    images = target / "images"
    images.mkdir()
    placed = []
    for picture in pictures:
        shutil.copyfile(picture.file, images / picture.file.name)
        placed.append(Shown(images / picture.file.name, picture.prompt, picture.full_prompt))
    contact_sheet([each.file for each in placed], images / "grid.png", columns=4, captions=[each.prompt for each in placed])
    return placed


def _facts(
    options: ExportOptions, model: StyleModel, version: Mapping[str, Any] | None, name: str, written: Written, pictures: Sequence[Shown],
    origin: str, target: Path,
) -> dict[str, Any]:  # fmt: skip
    from components.diffusion.training.methods import fill_prompt

    card, settings, method = model.card, sampling_settings(model.card), str(model.card.get("method") or "")
    concepts = card.get("concepts") or []
    scores = read_json(model.folder / SCORES) if (model.folder / SCORES).is_file() else None
    verdict, rows, remarks = _scores(scores) if scores else ("", [], [])
    return {
        "title": name,
        "format": options.format,
        "base": _base(card),
        "usage": _usage(model, name, written, pictures),
        "license": options.license,
        "method": method,
        "style": str(card.get("style") or ""),
        "version": f"version {version['version']} of {version['name']}" if version else "",
        "tokens": model.tokens,
        "template": settings.style_template,
        "instance_prompt": fill_prompt(str(concepts[0].get("prompt", "")), None) if concepts else "",
        "training": _training(card),
        "provenance": _provenance(card),
        "attribution": attribution(rights, name) if (rights := card.get("rights")) else "",
        "verdict": verdict,
        "scores": rows,
        "score_notes": remarks,
        "pictures": [(each.file.relative_to(target).as_posix(), each.full_prompt) for each in pictures],
        "pictures_are": origin if pictures else "",
        "grid": "images/grid.png" if pictures else "",
        "files": _files(target, name, options.format),
        "notes": written.notes,
        "tags": [LAYOUTS.get(written.pipeline, Layout).tag, *([method] if method else [])],
    }


def _base(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """Describe the base of the model; ``public`` says whether ``name`` is a model on the hub."""
    from components.diffusion.export.portable import is_public, public_card

    if "base" not in card:
        return None
    base = public_card(dict(card))["base"]
    public = base["model"] not in EMBEDDED_BASES and is_public(str(card["base"]["model"]))
    return {"name": str(base["model"]), "public": public, "revision": base.get("revision"), "digest": base.get("digest")}


def _usage(model: StyleModel, name: str, written: Written, pictures: Sequence[Shown]) -> dict[str, Any]:
    from components.diffusion.export.formats import file_stem
    from components.diffusion.export.guided import guided
    from components.diffusion.export.portable import EXAMPLE, example_request

    request = example_request(model, pictures[0].prompt if pictures else EXAMPLE)
    by = guided(sampling_settings(model.card), written.drawing.guidance, request)
    return {
        "prompt": model.for_one_stage(pictures[0].full_prompt if pictures else request.full_prompt),
        "negative_prompt": model.for_one_stage(by.negative), "steps": written.drawing.steps, "guidance": by.scale,
        "pipeline": written.pipeline, "scheduler": written.scheduler, "scheduler_options": written.scheduler_options, "file": name,
        "embeddings": [(token, file, keys, file_stem(token)) for token, (file, keys) in written.embeddings.items()],
    }  # fmt: skip


def _training(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    training = card.get("training") or {}
    versions = ", ".join(f"{name} {number}" for name, number in (card.get("versions") or {}).items())
    rows = [
        ("method", card.get("method") or None), *((label, training.get(key)) for key, label in _TRAINING.items()),
        ("what trained", ", ".join(training.get("trains") or ()) or None), ("seed", card.get("seed")), ("made with", versions or None),
    ]  # fmt: skip
    return [(label, str(value)) for label, value in rows if value is not None]


def _provenance(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    base = _base(card)
    facts = [
        ("style", card.get("style")), ("StyleRef images", card.get("style_ref_pictures")),
        ("digest of the style set's manifest", card.get("manifest_digest")),
        ("base", base and " at ".join(filter(None, (base["name"], base["revision"])))),
        ("digest of the base's files", base and base["digest"]), ("digest of the run's configuration", card.get("config_digest")),
    ]  # fmt: skip
    return [(label, str(value)) for label, value in facts if value]


def _scores(scores: Mapping[str, Any]) -> tuple[str, list[tuple[str, str, str, str]], list[str]]:
    """Return the verdict's headline, a row for each score, and notes on how they were measured."""
    from components.core.metrics import score_rows
    from components.evaluation.verdict import judge

    rows, context = score_rows(scores["style"], scores.get("base") or {}), scores.get("context") or {}
    kind = _REFERENCES.get(context.get("reference", ""))
    remarks = [f"In brackets: {100 * context['confidence']:g} % intervals."] if context.get("confidence") else []
    if kind:
        remarks.append(f"FID, KID and CLIP-I are measured to {context.get('reference_n', '?')} images: {kind}.")
    if context.get("extractor"):
        remarks.append(f"Extractor: {context['extractor']}.")
    verdict = judge(dict(scores))
    return verdict.headline, rows, [*remarks, *verdict.caveats]


def _files(target: Path, name: str, format_: str) -> list[tuple[str, str]]:
    """Describe the files beside the card."""
    what = {
        "single-file": {f"{name}.safetensors": "the checkpoint", f"{name}/": "its configuration and tokenizers"},
        "a1111-lora": {f"{name}.safetensors": "the LoRA, in kohya's format"},
        "comfyui": {
            "checkpoints/": "the checkpoint", "loras/": "the LoRA", "embeddings/": "a file for each token",
            "workflow.json": "draws one image with them",
        },
        "diffusers": {
            "model_index.json": "the pipeline's index", "unet/": "the denoiser", "transformer/": "the denoiser",
            "vae/": "images to latents and back", "text_encoder/": "the text encoder", "text_encoder_2/": "the second text encoder",
            "tokenizer/": "its tokenizer", "tokenizer_2/": "the second tokenizer", "scheduler/": "the base's noise schedule",
            "styleforge.json": "how the model came to be, and how to prompt it",
        },
    }  # fmt: skip
    rows = [(file, text) for file, text in what.get(format_, {}).items() if (target / file).exists()]
    if format_ in ("a1111-embedding", "single-file"):
        known = {file for file, _ in rows}
        rows += [(file.name, "an embedding") for file in sorted(target.glob("*.safetensors")) if file.name not in known]
    return [*rows, *([("images/", "the images of this card")] if (target / "images").is_dir() else [])]
