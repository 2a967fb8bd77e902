"""Decides which settings each step receives as parameters, and runs the checks that cost next to nothing."""

import functools
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.captioning.sources import check_captioner
from components.core.config import SAMPLER, AuxSection, RunConfig, ScoringSection
from components.core.content import digest_value
from components.core.errors import ConfigError, InputError, Problems
from components.core.fingerprint import fingerprint
from components.core.model_ref import local_model
from components.core.paths import REPOSITORY, home
from components.core.rights import check_rule
from components.diffusion.models.sources import BaseFacts, base_facts, content_digest
from components.diffusion.training.fit import check_fit
from components.diffusion.training.launch import refuse_external_launcher
from components.diffusion.training.methods import ALL_ROLES, Concept, Method, fill_prompt, method_for, with_method
from components.evaluation.features import measure_extractors
from components.registry.tracking import check_reachable, public_uri, tracking_uri
from steps.io.caching import code_of

Plan = dict[str, dict[str, Any]]
NAMED = 5
"""Most prompts that an error message lists."""


def lookups() -> Callable[..., Any]:
    """Return a cached ``look_up(function, *arguments)``, so that plans which share it read each file or service only once."""
    return functools.cache(lambda function, *arguments: function(*arguments))


def plan_run(config: RunConfig, look_up: Callable[..., Any] | None = None) -> Plan:
    """Return the parameters of every step of ``personalize``.

    ``caption`` is absent if ``captions.model`` is not set, ``examine`` if it is off, and ``select`` if there is nothing to choose from.
    A step gets exactly the settings that its result depends on, and a digest of each file or folder that they name, so a changed
    setting, picture or weight re-runs the steps that depend on it and no others.

    Raises:
        InputError: a folder, file or model that the configuration names does not exist (all of them are reported together),
            STYLEFORGE_HOME is not writable, or a launcher such as torchrun started several runs at once.
        ServiceUnreachable: MLflow does not answer.
    """
    refuse_external_launcher()
    home()
    look_up = look_up or lookups()
    config, method = with_method(config)
    aux = effective_aux(config)
    found = _found(config, look_up)
    facts: BaseFacts = found["facts"]
    check_fit(config, method, facts)
    config = settled(config, facts)
    tracking = tracking_uri(config.registry.tracking_uri)
    look_up(check_reachable, tracking)
    base = {**config.base.model_dump(mode="json"), "digest": found["base"]}
    extractor = {"model": config.scoring.extractor, "revision": config.scoring.extractor_revision, "digest": found["extractor"]}
    bank = found["bank"]
    sampling = config.sampling.model_dump(mode="json")
    dump = config.model_dump(mode="json")
    concepts = [concept.as_json() for concept in method.concepts]
    return {
        **_data_steps(config, method, aux, found),
        **_caption_step(config, found),
        "split": {"extractor": extractor},
        **_examine_step(config, base, extractor),
        "build_aux": _aux_parameters(config, method, base, extractor),
        **_training_steps(config, method, base, found),
        "sample_bank": {"seed": config.seed, "concepts": concepts, "sampling": sampling, "bank": bank},
        "explain": {
            "seed": config.seed, "concepts": concepts, "bank": bank, **dump["attention"],
            "sampling": {key: value for key, value in sampling.items() if key not in ("repeats", "plain_template")},
        },
        "sample_base": {
            "seed": config.seed, "base": base, "bank": bank,
            "sampling": {key: value for key, value in sampling.items() if key not in ("style_template", "guidance_formula")},
        },
        "score": {
            "seed": config.seed, "tokens": list(method.tokens), "scoring": dump["scoring"],
            "weights": {"extractor": found["extractor"], "inception": found["inception"], **found["measures"]},
        },
        # The report does not depend on where the model is registered.
        "report": {"config": {key: value for key, value in dump.items() if key != "registry"}},
        "register": {"config": dump, "base_digest": base["digest"], "tracking": public_uri(tracking)},
    }  # fmt: skip


def _data_steps(config: RunConfig, method: Method, aux: AuxSection, found: dict[str, Any]) -> Plan:
    rights = config.rights.model_dump(mode="json")
    return {
        "scan": {
            "source": config.style.source, "reference": config.style.reference, "max_pixels": config.style.max_pixels,
            "curated": aux.source == "curated", "pool": _pool(config), "content": found["content"], **recorded(config),
        },
        "validate": {
            "minimum_side": config.training.resolution or found["facts"].side, "needs_roles": needs_roles(method),
            "captioned": bool(config.captions.model), **({"rights": rights} if config.rights.licenses else {}), **_least_style_ref(config),
        },
    }  # fmt: skip


def _least_style_ref(config: RunConfig) -> dict[str, int]:
    """The number of StyleRef images that the choice among candidates needs, if it asks for copies."""
    from components.evaluation.yardstick import FEWEST

    return {"least_style_ref": FEWEST} if config.selection.chooses and "copies" in config.selection.scores else {}


def recorded(config: RunConfig) -> dict[str, bool]:
    """Return the flags for the optional facts that the manifest of this run records: rights and concepts."""
    asked = {"rights": config.rights.recorded, "concepts": "truth" in config.scoring.measures}
    return {name: True for name, value in asked.items() if value}


def settled(config: RunConfig, facts: BaseFacts) -> RunConfig:
    """The configuration with the settings of ``sampling`` that the base's family decides."""
    drawing = vars(facts.layout.settled(config.sampling, facts.denoiser, facts.index, facts.scheduler))
    return config.model_copy(update={"sampling": config.sampling.model_copy(update=drawing)})


def _found(config: RunConfig, look_up: Callable[..., Any]) -> dict[str, Any]:
    """Look up the base's facts and a digest of everything that the configuration names; report all that is missing in one error."""
    problems = Problems()

    def find(function: Callable[..., Any], *arguments: Any) -> Any:
        with problems.collect():
            return look_up(function, *arguments)

    base, scoring, sampling, selection = config.base, config.scoring, config.sampling, config.selection
    places = {"style.source": config.style.source, "style.reference": config.style.reference, "aux.pool": _pool(config)}
    found: dict[str, Any] = {
        "content": " ".join(f"{field}={find(_folder_digest, place, field)}" for field, place in places.items() if place),
        "base": find(model_digest, base.model, base.revision, "base.model"),
        "extractor": find(model_digest, scoring.extractor, scoring.extractor_revision, "scoring.extractor"),
        "inception": find(_inception_digest, scoring.inception_weights),
        "measures": {key: find(_extractor_digest, name, f"scoring.{key}") for key, name in measure_extractors(scoring).items()},
        "judged_by": {},
        "bank": find(_bank_digest, sampling.bank, sampling.limit),
        "selection": find(_selection_digest, selection.bank, selection.limit, sampling.bank, sampling.limit) if selection.chooses else None,
    }
    if selection.chooses:
        judged = find(_judged_with, scoring, selection.scores)
        digests = {key: find(_extractor_digest, name, f"scoring.{key}") for key, name in measure_extractors(judged or scoring).items()}
        found["judged_by"] = {key: digest for key, digest in digests.items() if digest}
    if found["base"]:
        found["facts"] = find(base_facts, base.model, base.revision)
    if (captions := config.captions).model:
        found["captioner"] = find(model_digest, captions.model, captions.revision, "captions.model")
        if found["captioner"]:
            find(check_captioner, captions.model, captions.revision)
        with problems.collect():
            _check_captions_are_read(config)
    with problems.collect():
        check_rule(config.rights, "rights.licenses")
    problems.raise_all()
    return found


def effective_aux(config: RunConfig) -> AuxSection:
    """Return the Aux section with ``source`` filled in: the configured one, or else the default of the method."""
    return config.aux.model_copy(update={"source": config.aux.source or method_for(config.method).preserves})


def _aux_parameters(config: RunConfig, method: Method, base: dict[str, Any], extractor: dict[str, Any]) -> dict[str, Any]:
    aux = effective_aux(config)
    parts = [_aux_part(aux, concept, len(method.concepts)) for concept in method.concepts]
    if aux.source == "curated":
        return {"source": aux.source, "parts": parts, "extractor": extractor}
    if aux.source == "generated":
        drawing = config.sampling.model_dump(mode="json", include={*SAMPLER, "batch_size"} - {"negative_prompt"})
        return {"source": aux.source, "parts": parts, "base": base, "sampling": drawing, "seed": config.seed}
    return {"source": aux.source, "parts": parts}


def _aux_part(aux: AuxSection, concept: Concept, concepts: int) -> dict[str, Any]:
    """Describe a concept's share of the Aux pictures; unless it has its own count, the total is divided evenly and rounded up."""
    part: dict[str, Any] = {"concept": None, "roles": None}
    if concept.own_aux:
        part = {"concept": concept.token, "roles": sorted(str(role) for role in concept.roles if role)}
    if aux.source == "curated":
        part |= {"count": concept.aux_count or -(-aux.count // concepts), "form": concept.aux_form or aux.form}
    if aux.source == "generated":
        prompt = aux.prompt or fill_prompt(concept.aux_prompt, None)
        part |= {"count": concept.aux_count or -(-aux.generated_count // concepts), "prompt": prompt}
    return part


def _caption_step(config: RunConfig, found: dict[str, Any]) -> Plan:
    if not config.captions.model:
        return {}
    settings = config.captions.model_dump(mode="json")
    return {"caption": {"captions": settings, "splits": captioned_splits(config), "digest": found["captioner"]}}


def _training_steps(config: RunConfig, method: Method, base: dict[str, Any], found: dict[str, Any]) -> Plan:
    """Return the parameters of ``fine_tune``, and of ``select`` if there is something to choose from."""
    selection, sampling, dump = config.selection, config.sampling, config.model_dump(mode="json")
    training = {"seed": config.seed, "base": base, "method": dump["method"], "training": dump["training"]}
    if selection.candidates > 1:
        training["candidates"] = selection.candidates
    if selection.seeds:
        training["seeds"] = list(selection.seeds)
    if config.training.validation_prompts:
        training["sampling"] = sampling.model_dump(mode="json", include={*SAMPLER, "guidance_formula", "batch_size"})
    if not selection.chooses:
        return {"fine_tune": training}
    drawing = sampling.model_copy(update={"bank": selection.bank, "limit": selection.limit, "repeats": selection.repeats})
    judged = {
        "concepts": [concept.as_json() for concept in method.concepts], "tokens": list(method.tokens),
        "sampling": drawing.model_dump(mode="json"), "bank": found["selection"], "scoring": config.scoring.model_dump(mode="json"),
        "weights": {"extractor": found["extractor"], "inception": found["inception"], **found["judged_by"]},
    }  # fmt: skip
    # ``sampling`` already says what is drawn. How candidates are judged does not affect training, unless judging can stop it early.
    rules = selection.model_dump(mode="json", exclude={"candidates", "seeds", "bank", "limit", "repeats", "patience"})
    if selection.patience is not None:
        watched = selection.model_dump(mode="json", include={"candidates", "patience", "score", "clip_t_margin", "limits", "confidence"})
        code = code_of(str(REPOSITORY / "steps" / "training" / "patience.py"))
        training["watch"] = {**judged, "selection": watched, "code": digest_value(code)}
    return {"fine_tune": training, "select": {"seed": config.seed, "base": base, **judged, "selection": rules}}


def _examine_step(config: RunConfig, base: dict[str, Any], extractor: dict[str, Any]) -> Plan:
    if not config.examine.enabled:
        return {}
    settings = config.examine.model_dump(mode="json", exclude={"enabled"})
    # As with class pictures, the negative prompt is left out: it is meant for pictures in the style.
    drawing = config.sampling.model_dump(mode="json", include={*SAMPLER, "batch_size"} - {"negative_prompt"})
    return {"examine": {"settings": settings, "base": base, "sampling": drawing, "extractor": extractor, "seed": config.seed}}


def captioned_splits(config: RunConfig) -> list[str]:
    """Return the splits of the style set whose captions are used in a training prompt."""
    method, aux = method_for(config.method), effective_aux(config).source
    concepts = method.concepts
    of_aux = any("{caption}" in concept.aux_prompt for concept in concepts)
    templates = [template for concept in concepts for template in (concept.prompt, *concept.more_prompts)]
    of_style = any("{caption}" in template for template in templates) or method.distills or (of_aux and aux == "target")
    return [*(["style_ref"] if of_style else []), *(["aux_pool"] if of_aux and aux == "curated" else [])]


def _check_captions_are_read(config: RunConfig) -> None:
    if not captioned_splits(config):
        raise ConfigError(
            f"captions.model={config.captions.model}", "no prompt contains {caption}, so its captions would not be used",
            expected="{caption} in method.instance_prompt or method.aux_prompt",
            remedy="for example method.instance_prompt: a photo of {token} style, {caption}",
        )  # fmt: skip


def _pool(config: RunConfig) -> str | None:
    return config.aux.pool if effective_aux(config).source == "curated" else None


def _folder_digest(place: str, field: str) -> str:
    if "://" in place:
        # Content behind a URL can change unnoticed, so every command reads it again; later steps are still cached by content.
        return uuid.uuid4().hex
    folder = Path(place).expanduser()
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "no such folder"
        raise InputError(f"{field}={place}", problem, expected="a folder of images or an fsspec URL", remedy=f"fix {field}")
    return fingerprint(folder)


_REVISIONS = {
    "base.model": "base.revision", "captions.model": "captions.revision", "scoring.extractor": "scoring.extractor_revision",
}  # fmt: skip
"""Fields that name a model, each with the field that pins its commit."""


def model_digest(model: str, revision: str | None, field: str) -> str:
    """Identify a model: by the digest of its local files, or by its hub id and pinned revision.

    Raises:
        InputError: the file or folder does not exist, the file is not a base, or a hub id has no revision.
        ServiceUnreachable: a one-file base's configuration must be fetched, and the hub does not answer.
    """
    path = local_model(model, field)
    if path is not None and path.is_file() and field == "base.model":
        return content_digest(path)
    if path is not None:
        return fingerprint(path)
    if not revision:
        raise InputError(
            f"{field}={model}", "a hub model without a revision", expected="a local model, or a hub id with a pinned commit",
            remedy=f"write it as {model}@COMMIT" if field not in _REVISIONS else f"set {_REVISIONS[field]}, or fix the path",
        )  # fmt: skip
    return f"{model}@{revision}"


def _inception_digest(weights: str | None) -> str | None:
    if weights is None:
        return None
    path = Path(weights).expanduser()
    if not path.is_file():
        expected = "torch-fidelity's Inception weights"
        raise InputError(f"scoring.inception_weights={weights}", "no such file", expected=expected, remedy="fix the path or remove the key")
    return fingerprint(path)


def _extractor_digest(name: str, field: str) -> str | None:
    """Identify the weights of a measure's extractor as :func:`model_digest` does; None if it has no weights of its own.

    Raises:
        InputError: as :func:`model_digest`, or it can be told without loading them that they are not the extractor's.
    """
    from components.evaluation.extractors.factory import check_extractor, weights_of

    check_extractor(name, field)
    found = weights_of(name)
    if found is None:
        return None
    model, revision = found
    return model_digest(model, revision, field)


def _judged_with(scoring: ScoringSection, names: tuple[str, ...]) -> ScoringSection:
    """The settings that candidates are scored with; InputError if a score in ``names`` cannot be had before the choice."""
    from components.evaluation.selection import check_measurable, judged_with

    check_measurable(scoring, names)
    return judged_with(scoring, names)


def _bank_digest(bank: str, limit: int | None) -> str:
    from components.evaluation.prompts import bank_path, load_bank

    load_bank(bank, limit)
    return fingerprint(bank_path(bank))


def _selection_digest(own: str, own_limit: int | None, bank: str, limit: int | None) -> str:
    """Return the digest of the selection bank ``own``; InputError if it shares a prompt with the scoring bank ``bank``."""
    from components.evaluation.prompts import load_bank, shared_prompts

    digest = _bank_digest(own, own_limit)
    if shared := shared_prompts(load_bank(own, own_limit), load_bank(bank, limit)):
        named = ", ".join(repr(text) for text in shared[:NAMED]) + (f" and {len(shared) - NAMED} more" if len(shared) > NAMED else "")
        raise InputError(
            f"selection.bank={own}", f"shares prompts with sampling.bank={bank}: {named}",
            expected="prompts that the scores do not use: a choice looks better than it is on the prompts it was based on",
            remedy="remove them from one of the two, or set selection.bank to another bank",
        )  # fmt: skip
    return digest


def needs_roles(method: Method) -> bool:
    """Whether the method binds people and backgrounds separately, so that the set must contain both."""
    return any(concept.roles != ALL_ROLES for concept in method.concepts)
