"""The report on a run: one self-contained HTML file that loads nothing from the network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.config import RunConfig
from components.core.images import load_rgb
from components.core.metrics import MEASURES, SCORES, SPECS
from components.core.pages import thumbnail, write_page
from components.core.paths import read_json, read_jsonl
from components.core.prompting import fill_template
from components.evaluation import charts
from components.evaluation.examination import read_examination, shown, what_limits
from components.evaluation.pictures import Picture, in_turn, pick_pairs, read_pictures
from components.evaluation.proof_page import proof
from components.evaluation.score_rows import score_row
from components.evaluation.selection_page import preview_rows, selection_section
from components.evaluation.verdict import judge, percent_range

TEMPLATES = Path(__file__).parent / "templates"

# What bounds the file's size: how many pictures go in, and how large.
PER_CATEGORY, CATEGORIES, SHEET, HERO = 6, 8, 24, 6
SIDE, SHEET_SIDE = 256, 160
LISTED_FAILURES = 20


@dataclass(frozen=True)
class ReportInputs:
    """Folders that a report shows, and the reference pictures; ``attention`` is set only if heat maps were made."""

    style_set: Path
    split: Path
    aux: Path
    validation: Path
    model: Path
    style_pictures: Path
    base_pictures: Path
    attention: Path | None = None
    reference: Sequence[Path] = ()


def render_report(out: Path, config: RunConfig, scores: Mapping[str, Any], inputs: ReportInputs) -> Path:
    """Write the report of one run. The same inputs give the same bytes: nothing in the page depends on time or place."""
    style, base = read_pictures(inputs.style_pictures), read_pictures(inputs.base_pictures)
    pairs = dict(list(pick_pairs(style, base, PER_CATEGORY).items())[:CATEGORIES])
    card = read_json(inputs.model / "styleforge.json") if (inputs.model / "styleforge.json").is_file() else {}
    log = inputs.model / "training" / "log.jsonl"
    page = {
        "config": config,
        "verdict": judge(dict(scores)),
        "scores": scores,
        "hero": [_picture(ours.path) for ours, _ in in_turn(pick_pairs(style, [], HERO), HERO)],
        "rows": [score_row(SPECS[key], scores["style"][key], scores["base"][key]) for key in SCORES if key not in MEASURES],
        "proof": proof(scores, inputs.style_pictures, _style_ref(inputs)),
        "drift": drift_rows(scores.get("drift")),
        "categories": category_rows(scores.get("by_category") or {}),
        "grids": {category: [_pair(*pair) for pair in items] for category, items in pairs.items()},
        "attention": _attention(inputs.attention),
        "counts": {"pictures": len(style), "prompts": len({p.prompt_id for p in style})},
        "sheets": _sheets(inputs),
        "selection": selection_section(inputs.model),
        "previews": preview_rows(inputs.model),
        "reference_is_style_ref": scores["context"]["reference"] != "held-out",
        "loss": charts.loss_curve(read_jsonl(log)) if log.is_file() else "",
        "validation": _validation(inputs.validation),
        "examination": _examination(inputs, scores),
        "settings": _sections(config),
        "provenance": _provenance(config, scores, card),
        "prompts": _prompts(config, card),
    }
    return write_page(out, TEMPLATES / "report.html.j2", page)


def drift_rows(drift: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What changed on prompts without the style token."""
    found = drift or {}
    metrics = [metric for metric in SPECS.values() if metric.group == "drift" and metric.source in found]
    metrics.sort(key=lambda metric: f"{metric.source}_base" not in found)
    return [score_row(metric, found[metric.source], found.get(f"{metric.source}_base")) for metric in metrics]


def category_rows(by_category: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """CLIP-T by prompt category."""
    metric = SPECS["clip_t"]
    return {
        category: score_row(metric, values[metric.key], values[f"{metric.key}_base"])
        for category, values in by_category.items()
        if f"{metric.key}_base" in values
    }


def _style_ref(inputs: ReportInputs) -> list[Path]:
    return [inputs.style_set / "images" / row["path"] for row in read_json(inputs.split / "split.json")["style_ref"]]


def _picture(path: Path, side: int = SIDE) -> dict[str, Any]:
    return thumbnail(load_rgb(path), side)


def _pair(ours: Picture, theirs: Picture | None) -> dict[str, Any]:
    shown = {"style": _picture(ours.path), "base": _picture(theirs.path) if theirs else None}
    return {"prompt": ours.prompt, "id": ours.prompt_id, **shown}


def _attention(folder: Path | None) -> list[dict[str, Any]]:
    """Pictures, each with a heat map overlay for every word."""
    listing = folder / "attention.json" if folder else None
    if folder is None or listing is None or not listing.is_file():
        return []
    return [
        {
            "prompt": row["full_prompt"],
            "picture": _picture(folder / row["file_name"]),
            "words": [
                {
                    "word": word["word"],
                    "range": percent_range(word["lowest"], word["highest"]),
                    "overlay": _picture(folder / word["file_name"]),
                }
                for word in row["words"]
            ],
        }
        for row in read_json(listing)["pictures"]
    ]


def _sheets(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Contact sheets: StyleRef with roles, Aux with captions or prompts, and the reference."""
    split, listing = read_json(inputs.split / "split.json"), inputs.aux / "metadata.jsonl"
    roles = {row["path"]: row.get("role") or "" for row in split["style_ref"]}
    style_ref = [(inputs.style_set / "images" / path, role) for path, role in sorted(roles.items())]
    rows = read_jsonl(listing) if listing.is_file() else []
    aux = [(inputs.aux / row["file_name"], row.get("text") or row.get("prompt") or "") for row in rows]
    reference = [] if split.get("reference_is_style_ref") else [(path, "") for path in inputs.reference]
    sheets = [
        ("StyleRef", "The images that the style was learned from.", style_ref),
        ("Aux", "The images that preserve what the base knows.", aux),
        ("Reference", "Held-out images of the style that FID, KID and CLIP-I are measured to.", reference),
    ]
    return [_sheet(title, note, items) for title, note, items in sheets if items]


def _sheet(title: str, note: str, items: list[tuple[Path, str]]) -> dict[str, Any]:
    count = min(SHEET, len(items))
    spaced = [items[index * len(items) // count] for index in range(count)]
    return {
        "title": title,
        "note": note,
        "total": len(items),
        "pictures": [{"picture": _picture(path, SHEET_SIDE), "caption": caption, "name": path.name} for path, caption in spaced],
    }


def _validation(folder: Path) -> dict[str, Any]:
    report = read_json(folder / "validation.json")
    rules = []
    for rule in report["rules"]:
        failures = rule.get("failures") or []
        state = "passed" if rule["passed"] else "failed" if rule["severity"] == "hard" else "warning"
        rules.append({**rule, "state": state, "failures": failures[:LISTED_FAILURES], "more": max(0, len(failures) - LISTED_FAILURES)})
    rules.sort(key=lambda rule: ("failed", "warning", "passed").index(rule["state"]))
    return {"passed": report["passed"], "rules": rules, "counts": report.get("counts") or {}}


def _examination(inputs: ReportInputs, scores: Mapping[str, Any]) -> dict[str, Any] | None:
    """The examination for the page; its ``limit`` says what stands in the way of a better result. None if the set was not examined."""
    found = read_examination(inputs.validation)
    return found and {**shown(found, inputs.style_set), "limit": what_limits(found, scores)}


def _sections(config: RunConfig) -> dict[str, list[tuple[str, str]]]:
    """The configuration by section, as text."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for key, value in config.flat().items():
        section, _, field = key.rpartition(".")
        sections.setdefault(section or "run", []).append((field or key, _value(value)))
    return sections


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "–"
    return str(value)


def _prompts(config: RunConfig, card: Mapping[str, Any]) -> dict[str, str]:
    tokens = [str(concept["token"]) for concept in card.get("concepts") or [{"token": config.method.identifier}]]
    return {
        "style": fill_template(config.sampling.style_template, tokens, "…"),
        "plain": config.sampling.plain_template.replace("{prompt}", "…"),
        "negative": config.sampling.negative_prompt,
        "formula": formula.as_text(config.sampling.guidance) if (formula := config.sampling.guidance_formula) else "",
    }


def _provenance(config: RunConfig, scores: Mapping[str, Any], card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where every number came from: content digests, models, versions. Long digests keep their first 16 characters."""
    context = scores["context"]
    base = card.get("base") or {}
    facts: list[tuple[str, Any]] = [
        ("configuration", config.digest()),
        ("style set", card.get("manifest_digest")),
        ("base", " ".join(str(part) for part in (base.get("model", config.base.model), base.get("revision")) if part)),
        ("base weights", base.get("digest")),
        ("method", card.get("method", config.method.name)),
        ("extractor", context["extractor"]),
        ("extractor weights", context.get("extractor_id")),
        ("FID and KID features", f"{context['fid_kid_features']} ({context['dimension']}-d)"),
        ("resize", context["fid_kid_resize"]),
        ("KID", f"{context['kid_subsets']} subsets of {context['kid_subset_size']}, kernel {context['kid_kernel']}"),
        (
            "intervals",
            f"{context['confidence']:.0%} bootstrap over prompts, {context['bootstrap']} resamples (FID {context['fid_bootstrap']})",
        ),
        ("reference", f"{context['reference_n']} images, {context['reference'].replace('_', ' ')}"),
        *[(f"{name.replace('_', ' ')} images", digest) for name, digest in (scores.get("digests") or {}).items()],
        ("versions", ", ".join(f"{name} {version}" for name, version in {**(card.get("versions") or {}), **context["versions"]}.items())),
    ]
    return [(name, _short(str(value))) for name, value in facts if value]


def _short(text: str) -> str:
    head, _, tail = text.rpartition(":")
    if len(tail) == 64 and all(letter in "0123456789abcdef" for letter in tail):
        return f"{head}:{tail[:16]}" if head else tail[:16]
    return text
