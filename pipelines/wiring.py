"""Connects the steps that make one style model, for a single run and for each cell of a comparison."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from steps.data.build_aux import build_aux
from steps.data.caption import caption
from steps.data.examine import examine
from steps.data.scan import scan
from steps.data.split import split
from steps.data.validate import validate
from steps.evaluation.score import extract_shard, score, score_joined
from steps.sampling.sample_bank import join_pictures, sample_bank, sample_base, sample_shard
from steps.training.fine_tune import fine_tune
from steps.training.select import select

# Starts a step: call(step, *inputs, after=[outputs of steps to wait for], **parameters) returns the step's output.
Call = Callable[..., Any]
STEPS = (scan, validate, caption, split, examine, build_aux, fine_tune, select, sample_bank, sample_base, score)
SHARDED_STEPS = (
    scan,
    validate,
    caption,
    split,
    examine,
    build_aux,
    fine_tune,
    select,
    sample_shard,
    join_pictures,
    sample_base,
    extract_shard,
    score_joined,
)


@dataclass(frozen=True)
class Scored:
    """The outputs of the steps, from the style's pictures to its model's scores."""

    style_set: Any
    validation: Any
    division: Any
    aux: Any
    model: Any
    pictures: Any
    base_pictures: Any
    scores: Any


def train_and_score(plan: Mapping[str, Mapping[str, Any]], call: Call, shards: int = 1) -> Scored:
    """Connect the steps, with sampling and feature extraction divided into ``shards``, whose number changes no result.

    ``caption``, ``examine`` and ``select`` are left out if the plan lacks them. Training waits for the examination only if that may
    refuse the set. Splitting, selecting and scoring do not need generated captions, so those steps take the set as scanned.
    """
    style_set = call(scan, **plan["scan"])
    validation = call(validate, style_set, **plan["validate"])
    division = call(split, style_set, after=[validation], **plan["split"])
    captioned = call(caption, style_set, after=[validation], **plan["caption"]) if "caption" in plan else style_set
    examined = call(examine, captioned, validation, division, **plan["examine"]) if "examine" in plan else validation
    gate = [examined] if plan.get("examine", {}).get("settings", {}).get("hard") else []
    aux = call(build_aux, captioned, after=[validation], **plan["build_aux"])
    model = call(fine_tune, captioned, division, aux, after=gate, **plan["fine_tune"])
    if "select" in plan:
        model = call(select, model, style_set, **plan["select"])
    base_pictures = call(sample_base, after=[validation], **plan["sample_base"])
    pictures = _draw(plan, call, shards, model)
    scores = _judge(plan, call, shards, style_set, division, pictures, base_pictures)
    return Scored(style_set, examined, division, aux, model, pictures, base_pictures, scores)


def _draw(plan: Mapping[str, Mapping[str, Any]], call: Call, shards: int, model: Any) -> Any:
    if shards == 1:
        return call(sample_bank, model, **plan["sample_bank"])
    parts = [call(sample_shard, model, **plan["sample_bank"], shard=shard, shards=shards) for shard in range(shards)]
    return call(join_pictures, parts)


def _judge(plan: Mapping[str, Mapping[str, Any]], call: Call, shards: int, *inputs: Any) -> Any:
    if shards == 1:
        return call(score, *inputs, **plan["score"])
    shared = {key: plan["score"][key] for key in ("scoring", "weights")}
    features = [call(extract_shard, *inputs, **shared, shard=shard, shards=shards) for shard in range(shards)]
    return call(score_joined, features, *inputs, **plan["score"])
