"""Step: register model, scores and report in MLflow with the alias `challenger`."""

from pathlib import Path
from typing import Annotated, Any

from zenml import step

from components.core.config import RunConfig
from components.core.model_card import as_chosen, as_scored
from components.core.paths import link_or_copy, read_json, read_jsonl, write_json
from components.core.rights import summarize
from components.registry.packaging import shipped_files
from components.registry.versions import EVALUATION
from components.styledata.manifest import Manifest
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch

LOGGED_PICTURES = 32
TRAINING = ("style_ref", "aux_pool")
TAG_LENGTH = 4000
"""Longest tag value; MLflow refuses longer ones."""


@step(environment=code_of(__file__, shipped_files()))
def register(
    style_set: Folder, model: Folder, pictures: Folder, scores: Folder, report: Folder, config: dict[str, Any], base_digest: str,
    tracking: str,
) -> Annotated[Folder, "registration"]:  # fmt: skip
    """Record the run in MLflow and register the model under its alias; ``tracking`` is the URI without credentials."""
    from components.registry.packaging import package
    from components.registry.tracking import open_tracking
    from components.registry.versions import SOURCE_DIGEST, register_model, source_digest

    run = RunConfig.model_validate(config)
    out = scratch("register")
    out.mkdir(parents=True)
    finished = _finish_model(run, style_set, model, scores, out / "model")
    package(finished)
    card = read_json(finished / "styleforge.json")
    reference = register_model(
        open_tracking(run.registry.tracking_uri), name=run.model_name, alias=run.registry.alias, experiment=run.registry.experiment,
        model=finished, params=run.flat(), scores=read_json(scores.path / "scores.json"), report=report.path / "report.html",
        pictures=_some_pictures(pictures.path / "style"),
        tags={
            "manifest_digest": card.get("manifest_digest") or style_set.digest, "config_digest": run.digest(), "method": run.method.name,
            "identifier": card.get("identifier") or run.method.identifier, "style": run.style.name, "base": run.base.model,
            "base_revision": run.base.revision or "", "base_digest": base_digest, "model_digest": model.digest,
            SOURCE_DIGEST: source_digest(style_set.path, run, base_digest), **_rights_tags(card.get("rights")),
        },
    )  # fmt: skip
    result = out / "registration"
    result.mkdir()
    write_json(result / "registration.json", {**vars(reference), "tracking_uri": tracking})
    return Folder(result)


def _finish_model(run: RunConfig, style_set: Folder, model: Folder, scores: Folder, target: Path) -> Path:
    """Assemble the model folder with its scores, and add to ``styleforge.json`` what training did not know, such as the style's name.

    The sampling settings are added too and, if they are recorded, the rights of the images in ``style_ref`` and ``aux_pool``.
    """
    for relative in model.files():
        if relative.as_posix() != "styleforge.json":
            link_or_copy(model.path / relative, target / relative)
    for relative in scores.files():
        link_or_copy(scores.path / relative, target / EVALUATION / relative)
    source = model.path / "styleforge.json"
    card: dict[str, Any] = read_json(source) if source.is_file() else {"schema": 1}
    drawing = as_scored(as_chosen(model.path, run.sampling))
    card |= {"style": run.style.name, "sampling": drawing, "model_digest": model.digest, "config_digest": run.digest()}
    if run.rights.recorded:
        trained = [entry for split in TRAINING for entry in Manifest.load(style_set.path).usable(split)]
        card["rights"] = [{"path": entry.path, **(entry.rights or {})} for entry in trained]
    write_json(target / "styleforge.json", card)
    return target


def _rights_tags(rows: list[dict[str, Any]] | None) -> dict[str, str]:
    """Summarize licences, authors and consent of the training images as MLflow tags; empty if rights were not recorded."""
    if rows is None:
        return {}
    found = summarize(rows)
    texts = {key: ", ".join(found[key])[:TAG_LENGTH] for key in ("licenses", "authors", "share_alike")}
    # Only how many: who consented, and where that is written down, stays in the card.
    consented = sum(bool(row.get("consent")) for row in rows)
    counts = {
        "images_without_license": len(found["without"]), "images_with_consent": consented, "images_without_consent": len(rows) - consented,
    }  # fmt: skip
    return {**texts, **{key: str(count) for key, count in counts.items()}}


def _some_pictures(folder: Path) -> list[Path]:
    names = [row["file_name"] for row in read_jsonl(folder / "metadata.jsonl") if row.get("repeat", 0) == 0]
    stride = max(1, len(names) // LOGGED_PICTURES)
    return [folder / name for name in names[::stride][:LOGGED_PICTURES]]
