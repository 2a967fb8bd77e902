"""The result of a comparison as plain data: tables of means over seeds, claims, costs, failures; every page is made from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.core.comparison import ALL_STYLES, Claim, CompareConfig, Variant
from components.core.content import derive_seed
from components.core.metrics import HYPERVOLUME, MAIN, MEASURES, SCORES, SPECS, scores_in
from components.evaluation.fronts import front_points, hypervolume
from components.evaluation.record import Record, resample
from components.evaluation.significance import Resampled, advantages, decide, join, mean_over_seeds

SCHEMA = 1


@dataclass(frozen=True)
class Outcome:
    """What became of one cell: its record, or the reason why there is none."""

    id: str
    variants: tuple[str, ...]
    style: str
    seed: int
    steps: int
    record: Record | None = None
    error: str | None = None


def compare(config: CompareConfig, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Combine the cells into one plain result, ``comparison.json``: KID in natural units, CLIP scores 0–100, costs in seconds and bytes."""
    found = _Cells(config, outcomes)
    measured = found.measured()
    groups: list[tuple[str, Sequence[Variant]]] = [("methods", config.methods), *((item.name, item.variants) for item in config.ablations)]
    return {
        "schema": SCHEMA,
        "name": config.name,
        "equal": config.equal,
        "confidence": config.confidence,
        "resamples": config.resamples,
        "styles": [style.name for style in config.styles],
        "seeds": list(config.seeds),
        "variants": [{"name": item.name, "label": item.title, "steps": found.steps(item.name)} for item in config.variants],
        "base": {metric: found.base_row(metric) for metric in measured},
        "tables": [
            {"name": name, "variants": [item.name for item in variants], "metrics": {m: table(found, variants, m) for m in measured}}
            for name, variants in groups
        ],
        "fronts": [front for item in config.methods if (front := front_of(found, item.name))],
        "claims": [decide_claim(found, claim) for claim in config.claims],
        "costs": {item.name: found.cost(item.name) for item in config.variants},
        "cells": [_cell(outcome) for outcome in outcomes],
        "context": next((outcome.record.scores["context"] for outcome in outcomes if outcome.record), {}),
    }


class _Cells:
    """The finished cells by variant, style and seed; resampled scores are computed on first use."""

    def __init__(self, config: CompareConfig, outcomes: Sequence[Outcome]) -> None:
        self.config = config
        self.outcomes = outcomes
        self._known = {(name, outcome.style, outcome.seed): outcome for outcome in outcomes for name in outcome.variants}
        self._resampled: dict[str, dict[str, Resampled]] = {}

    def record(self, variant: str, style: str, seed: int) -> Record | None:
        outcome = self._known.get((variant, style, seed))
        return outcome.record if outcome else None

    def records(self, variant: str) -> list[Record]:
        found = (self.record(variant, style, seed) for style in self.config.styles_of(variant) for seed in self.config.seeds_of(variant))
        return [record for record in found if record is not None]

    def value(self, variant: str, style: str, seed: int, metric: str, group: str = "style") -> float | None:
        record = self.record(variant, style, seed)
        score = None if record is None else record.scores[group].get(metric)
        return None if score is None else float(score["value"])

    def measured(self) -> list[str]:
        """The scores that any cell has."""
        known = [set(scores_in(outcome.record.scores["style"])) for outcome in self.outcomes if outcome.record]
        return [key for key in SCORES if key not in MEASURES or any(key in scores for scores in known)]

    def resampled(self, variant: str, style: str, seed: int, metric: str) -> Resampled | None:
        if metric == HYPERVOLUME:
            return hypervolume(self.config, variant, style, seed, self)
        outcome = self._known.get((variant, style, seed))
        if outcome is None or outcome.record is None:
            return None
        if outcome.id not in self._resampled:
            # With one seed, all cells resample the same prompts, so that differences are paired.
            self._resampled[outcome.id] = resample(outcome.record, self.config.resamples, derive_seed(0, "comparison"))
        return self._resampled[outcome.id].get(metric)

    def steps(self, variant: str) -> int | None:
        return next((outcome.steps for outcome in self.outcomes if variant in outcome.variants), None)

    def base_row(self, metric: str) -> dict[str, Any]:
        """The untouched base's scores: the baseline, with no rank."""
        variants = {outcome.style: outcome.variants[0] for outcome in self.outcomes if outcome.record}

        def value(style: str, seed: int) -> float | None:
            known = [name for name in (variants.get(style), *(v.name for v in self.config.variants)) if name]
            found = (self.value(name, style, seed, metric, "base") for name in known)
            return next((item for item in found if item is not None), None)

        return _row(value, [style.name for style in self.config.styles], list(self.config.seeds), self.config.confidence)

    def cost(self, variant: str) -> dict[str, Any]:
        """Mean seconds and largest memory and bytes over the variant's cells."""
        costs = [record.cost for record in self.records(variant)]
        seconds = [cost["seconds"] for cost in costs if cost.get("seconds") is not None]
        selection = [cost["selection_seconds"] for cost in costs if cost.get("selection_seconds") is not None]
        return {
            "seconds": float(np.mean(seconds)) if seconds else None,
            "selection_seconds": float(np.mean(selection)) if selection else None,
            "peak_memory_bytes": max((cost["peak_memory_bytes"] for cost in costs if cost.get("peak_memory_bytes")), default=None),
            "saved_bytes": max((cost["saved_bytes"] for cost in costs), default=None),
            "devices": sorted({cost["device"] for cost in costs if cost.get("device")}),
            "resumed": sum(bool(cost.get("resumed")) for cost in costs),
        }


def table(found: _Cells, variants: Sequence[Variant], metric: str) -> dict[str, Any]:
    """A row for each variant, of style → mean, half-width, n and values, and the best and second-best variant of each column."""
    rows = {
        item.name: _row(
            lambda style, seed, name=item.name: found.value(name, style, seed, metric),  # type: ignore[misc]
            found.config.styles_of(item.name), found.config.seeds_of(item.name), found.config.confidence,
        )
        for item in variants
    }  # fmt: skip
    columns = [*(style.name for style in found.config.styles), ALL_STYLES]
    return {"rows": rows, "ranks": {column: _rank(rows, column, metric) for column in columns}}


def front_of(found: _Cells, method: str) -> dict[str, Any] | None:
    """A method's front over guidance, and the area that it dominates in each style; None for a method drawn at a single guidance."""
    variants, styles, seeds = list(found.config.front_of(method)), found.config.styles_of(method), found.config.seeds_of(method)
    if len(variants) < 2:
        return None

    def area(style: str, seed: int) -> float | None:
        whole = found.resampled(method, style, seed, HYPERVOLUME)
        return None if whole is None else whole.value

    rows = {
        key: {
            name: _row(lambda style, seed, name=name, key=key: found.value(name, style, seed, key), styles, seeds, found.config.confidence)  # type: ignore[misc]
            for name in variants
        }
        for key in MAIN
    }  # fmt: skip
    return {
        "method": method,
        "area": _row(area, styles, seeds, found.config.confidence),
        "points": front_points(found.config, method, rows, ALL_STYLES),
    }


def _row(value: Callable[[str, int], float | None], styles: Sequence[str], seeds: Sequence[int], confidence: float) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for style in styles:
        values = {str(seed): found for seed in seeds if (found := value(style, seed)) is not None}
        if values:
            row[style] = {**vars(mean_over_seeds(list(values.values()), confidence)), "values": values, "asked": len(seeds)}
    # A seed that lacks a style would shift the mean over styles, so only complete seeds count.
    whole = [str(seed) for seed in seeds if all(str(seed) in row.get(style, {}).get("values", {}) for style in styles)]
    if whole:
        values = {seed: float(np.mean([row[style]["values"][seed] for style in styles])) for seed in whole}
        row[ALL_STYLES] = {**vars(mean_over_seeds(list(values.values()), confidence)), "values": values, "asked": len(seeds)}
    return row


def _rank(rows: Mapping[str, Any], column: str, metric: str) -> dict[str, str | None]:
    """Names of the best and second-best in a column; with a single row there is no best, with two no second."""
    means = {name: row[column]["mean"] for name, row in rows.items() if column in row}
    if len(means) < 2:
        return {"best": None, "second": None}
    order = sorted(means, key=lambda name: means[name] if SPECS[metric].lower else -means[name])
    return {"best": order[0], "second": order[1] if len(order) > 2 else None}


def decide_claim(found: _Cells, claim: Claim) -> dict[str, Any]:
    """The verdict on a claim, with the figures of each pair, over all styles and for each style alone."""
    pairs = [_decide_pair(found, claim, other) for other in claim.than]
    decided = [pair for pair in pairs if pair["decision"] is not None]
    verdict = join([pair["decision"]["verdict"] for pair in decided]) if len(decided) == len(pairs) else "undecided"
    needed = [pair["decision"]["seeds_needed"] for pair in decided if pair["decision"]["verdict"] == "undecided"]
    return {
        **claim.model_dump(mode="json"),
        "verdict": verdict,
        "pairs": pairs,
        "seeds": min((pair["decision"]["seeds"] for pair in decided), default=0),
        "seeds_needed": None if not needed or None in needed else max(needed),
        "missing": [pair["than"] for pair in pairs if pair["decision"] is None],
    }


def _decide_pair(found: _Cells, claim: Claim, other: str) -> dict[str, Any]:
    styles: dict[str, list[Resampled]] = {}
    required = [style for style in found.config.styles_of(claim.better) if style in found.config.styles_of(other)]
    for style in required:
        for seed in found.config.seeds:
            mine, theirs = found.resampled(claim.better, style, seed, claim.metric), found.resampled(other, style, seed, claim.metric)
            if mine is not None and theirs is not None:
                gap = advantages(mine, theirs, lower=SPECS[claim.metric].lower, margin=claim.margin)
                styles.setdefault(style, []).append(gap)
    seed_of = derive_seed(0, "claim", claim.name, other)
    # With a style missing, the verdict would be on a claim about fewer styles.
    whole = bool(required) and len(styles) == len(required)
    return {
        "than": other,
        "decision": vars(decide(styles, found.config.confidence, seed_of)) if whole else None,
        "styles": {style: vars(decide({style: cells}, found.config.confidence, seed_of)) for style, cells in styles.items()},
    }


def _cell(outcome: Outcome) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "id": outcome.id, "variants": list(outcome.variants), "style": outcome.style, "seed": outcome.seed, "steps": outcome.steps,
        "status": "failed" if outcome.record is None else "completed", "error": outcome.error,
    }  # fmt: skip
    if outcome.record is not None:
        cell |= {"scores": outcome.record.scores["style"], "drift": outcome.record.scores["drift"], "cost": outcome.record.cost}
    return cell
