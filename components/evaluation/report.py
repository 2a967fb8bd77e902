"""The page that a person reads after a run: one HTML file that holds everything and asks the network for nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.config import RunConfig
from components.core.images import load_rgb
from components.core.metrics import SCORES, SPECS, Metric
from components.core.paths import atomic_file, read_json, read_jsonl
from components.core.prompting import fill_template
from components.evaluation import charts
from components.evaluation.pictures import Picture, pick_pairs, read_pictures
from components.evaluation.verdict import judge, overlap, percent, percent_range, relative_change

TEMPLATES = Path(__file__).parent / "templates"

_SMALL = 96
"""Pictures up to this side are enlarged without blurring: they are meant to be seen pixel by pixel."""


@dataclass(frozen=True)
class Limits:
    """What bounds the file's size: how many pictures go in, and how large."""

    per_category: int = 6
    categories: int = 8
    sheet: int = 24
    thumbnail: int = 256
    listed_failures: int = 20


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data URI, with its size in pixels and whether it is small enough to be shown pixel by pixel."""

    uri: str
    width: int
    height: int
    small: bool


@dataclass(frozen=True)
class Row:
    """One line of the score table, as text."""

    name: str
    better: str
    style: str
    style_interval: str
    base: str
    base_interval: str
    change: str
    improved: bool | None
    bars: str


@dataclass(frozen=True)
class ReportInputs:
    """Folders that a report shows, and the reference pictures; ``attention`` only where heat maps were made."""

    style_set: Path
    split: Path
    aux: Path
    validation: Path
    model: Path
    style_pictures: Path
    base_pictures: Path
    attention: Path | None = None
    reference: Sequence[Path] = ()


def render_report(out: Path, config: RunConfig, scores: Mapping[str, Any], inputs: ReportInputs, limits: Limits = Limits()) -> Path:
    """Write the report of one run. The same inputs give the same bytes: nothing in the page depends on time or place."""
    style, base = read_pictures(inputs.style_pictures), read_pictures(inputs.base_pictures)
    pairs = dict(list(pick_pairs(style, base, limits.per_category).items())[: limits.categories])
    card = read_json(inputs.model / "styleforge.json") if (inputs.model / "styleforge.json").is_file() else {}
    log = inputs.model / "training" / "log.jsonl"
    page = {
        "config": config,
        "verdict": judge(dict(scores)),
        "scores": scores,
        "hero": [thumbnail(p.path, limits.thumbnail) for p in _hero(style)],
        "rows": [_row(SPECS[key], scores["style"][key], scores["base"][key]) for key in SCORES],
        "drift": drift_rows(scores.get("drift")),
        "categories": category_rows(scores.get("by_category") or {}),
        "grids": {category: [_pair(pair, limits.thumbnail) for pair in items] for category, items in pairs.items()},
        "attention": _attention(inputs.attention, limits.thumbnail),
        "counts": {"pictures": len(style), "prompts": len({p.prompt_id for p in style})},
        "sheets": _sheets(inputs, limits),
        "reference_is_style_ref": scores["context"]["reference"] != "held-out",
        "loss": charts.loss_curve(read_jsonl(log)) if log.is_file() else "",
        "validation": _validation(inputs.validation, limits.listed_failures),
        "settings": _sections(config),
        "provenance": _provenance(config, scores, card),
        "prompts": _prompts(config, card),
    }
    with atomic_file(out) as temporary:
        temporary.write_text(environment().get_template("report.html.j2").render(page), encoding="utf-8")
    return out


def thumbnail(path: Path, side: int) -> Thumbnail:
    """A picture as a data URI, at most ``side`` pixels wide and high: small ones as lossless PNG, large ones as WebP."""
    from PIL import Image

    image = load_rgb(path)
    small = max(image.size) <= _SMALL
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if small:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "WEBP", quality=82, method=4)
    kind = "png" if small else "webp"
    return Thumbnail(f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", image.width, image.height, small)


def drift_rows(drift: Mapping[str, Any] | None) -> list[Row]:
    """What changed on prompts without the style token."""
    found = drift or {}
    metrics = [metric for metric in SPECS.values() if metric.group == "drift" and metric.source in found]
    metrics.sort(key=lambda metric: f"{metric.source}_base" not in found)
    return [_row(metric, found[metric.source], found.get(f"{metric.source}_base")) for metric in metrics]


def category_rows(by_category: Mapping[str, Any]) -> dict[str, Row]:
    """CLIP-T by prompt category."""
    metric = SPECS["clip_t"]
    return {
        category: _row(metric, values[metric.key], values[f"{metric.key}_base"])
        for category, values in by_category.items()
        if f"{metric.key}_base" in values
    }


def _row(metric: Metric, style: Mapping[str, Any], base: Mapping[str, Any] | None) -> Row:
    def ends(score: Mapping[str, Any]) -> str:
        return " – ".join(metric.text(score[end], like=score["value"]) for end in ("low", "high"))

    if base is None:
        return Row(metric.label, metric.better, metric.text(style["value"]), ends(style), "–", "", "", None, "")
    change = relative_change(style["value"], base["value"])
    # A difference that may be chance gets no colour.
    improved = None if change is None or overlap(dict(style), dict(base)) else (change < 0) == metric.lower
    return Row(
        name=metric.label,
        better=metric.better,
        style=metric.text(style["value"]),
        style_interval=ends(style),
        base=metric.text(base["value"]),
        base_interval=ends(base),
        change="" if change is None else percent(change),
        improved=improved,
        bars=charts.interval_bars(dict(style), dict(base), metric.factor),
    )


def _hero(style: list[Picture]) -> list[Picture]:
    """Six pictures across the categories for the top of the page."""
    pairs = pick_pairs(style, [], 6)
    columns = [[picture for picture, _ in items] for items in pairs.values()]
    mixed = [column[index] for index in range(6) for column in columns if index < len(column)]
    return mixed[:6]


def _pair(pair: tuple[Picture, Picture | None], side: int) -> dict[str, Any]:
    ours, theirs = pair
    return {
        "prompt": ours.prompt,
        "id": ours.prompt_id,
        "style": thumbnail(ours.path, side),
        "base": thumbnail(theirs.path, side) if theirs else None,
    }


def _attention(folder: Path | None, side: int) -> list[dict[str, Any]]:
    """Pictures with the overlays of their words."""
    listing = folder / "attention.json" if folder else None
    if folder is None or listing is None or not listing.is_file():
        return []
    return [
        {
            "prompt": row["full_prompt"],
            "picture": thumbnail(folder / row["file_name"], side),
            "words": [
                {
                    "word": word["word"],
                    "range": percent_range(word["lowest"], word["highest"]),
                    "overlay": thumbnail(folder / word["file_name"], side),
                }
                for word in row["words"]
            ],
        }
        for row in read_json(listing)["pictures"]
    ]


def _sheets(inputs: ReportInputs, limits: Limits) -> list[dict[str, Any]]:
    """Contact sheets: StyleRef with roles, Aux with sources, reference."""
    split, listing = read_json(inputs.split / "split.json"), inputs.aux / "metadata.jsonl"
    roles = {row["path"]: row.get("role") or "" for row in split["style_ref"]}
    style_ref = [(inputs.style_set / "images" / path, role) for path, role in sorted(roles.items())]
    rows = read_jsonl(listing) if listing.is_file() else []
    aux = [(inputs.aux / row["file_name"], row.get("text") or row.get("prompt") or "") for row in rows]
    reference = [] if split.get("reference_is_style_ref") else [(path, "") for path in inputs.reference]
    sheets = [
        ("StyleRef", "The pictures that the style was learned from.", style_ref),
        ("Aux", "The pictures that preserve what the base knows.", aux),
        ("Reference", "Held-out pictures of the style that FID, KID and CLIP-I are measured to.", reference),
    ]
    return [_sheet(title, note, items, limits) for title, note, items in sheets if items]


def _sheet(title: str, note: str, items: list[tuple[Path, str]], limits: Limits) -> dict[str, Any]:
    count = min(limits.sheet, len(items))
    spaced = [items[index * len(items) // count] for index in range(count)]
    side = min(limits.thumbnail, 160)
    return {
        "title": title,
        "note": note,
        "total": len(items),
        "pictures": [{"picture": thumbnail(path, side), "caption": caption, "name": path.name} for path, caption in spaced],
    }


def _validation(folder: Path, listed: int) -> dict[str, Any]:
    report = read_json(folder / "validation.json")
    rules = []
    for rule in report["rules"]:
        failures = rule.get("failures") or []
        state = "passed" if rule["passed"] else "failed" if rule["severity"] == "hard" else "warning"
        rules.append({**rule, "state": state, "failures": failures[:listed], "more": max(0, len(failures) - listed)})
    rules.sort(key=lambda rule: ("failed", "warning", "passed").index(rule["state"]))
    return {"passed": report["passed"], "rules": rules, "counts": report.get("counts") or {}}


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
        ("reference", f"{context['reference_n']} pictures, {context['reference'].replace('_', ' ')}"),
        *[(f"{name.replace('_', ' ')} pictures", digest) for name, digest in (scores.get("digests") or {}).items()],
        ("versions", ", ".join(f"{name} {version}" for name, version in {**(card.get("versions") or {}), **context["versions"]}.items())),
    ]
    return [(name, _short(str(value))) for name, value in facts if value]


def _short(text: str) -> str:
    head, _, tail = text.rpartition(":")
    if len(tail) == 64 and all(letter in "0123456789abcdef" for letter in tail):
        return f"{head}:{tail[:16]}" if head else tail[:16]
    return text


def environment() -> Any:
    """The jinja2 environment of the pages: everything that users write is escaped, and a missing value is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
