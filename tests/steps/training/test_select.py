"""The step that chooses, with tiny models: everything after it draws with the chosen checkpoint and guidance."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from components.core.config import SamplingSection, parse_config
from components.core.errors import InputError
from components.core.model_card import as_chosen, models_by_seed, read_card, sampling_settings
from components.core.paths import read_json, read_jsonl, write_json, write_jsonl
from components.diffusion.export.candidates import read_candidates
from components.evaluation.selection import Judge, Option, Point, Rule
from components.styledata.manifest import ImageEntry
from steps.io import workspace
from steps.io.artifacts import Folder
from tests.components.diffusion.conftest import Folders, configure, train, write_folders
from tests.components.diffusion.training.test_candidates import equal, tensors
from tests.fixtures_models import tiny_clip_folder, tiny_sd_folder

BANK = "id\tcategory\tprompt\na\tpeople\ta man\nb\tthings\ta house\nc\tthings\ta dog\nd\tpeople\ta woman\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    yield tmp_path / "home"
    workspace.release({"select", "fine_tune"})


def whole_manifest(folders: Folders) -> None:
    whole = dict.fromkeys(field.name for field in fields(ImageEntry))
    rows = [{**whole, **row} for row in read_jsonl(folders.style_set / "manifest.jsonl")]
    write_jsonl(folders.style_set / "manifest.jsonl", rows)


def run_select(folders: Folders, model: Path, base: Path, clip: Path, bank: Path, formula: Any = None, **selection: Any) -> Folder:
    from steps.training.select import select

    parameters = {
        "seed": 3, "concepts": [{"token": "sks", "categories": None}], "tokens": ["sks"], "bank": "digest", "weights": {},
        "base": {"model": str(base), "precision": {}, "digest": "base"},
        "sampling": {"bank": str(bank), "repeats": 1, "steps": 2, "guidance": 2.5, "guidance_formula": formula, "batch_size": 4},
        "scoring": {"extractor": str(clip), "bootstrap": 5, "kid_subsets": 3, "kid_subset_size": 4}, "selection": selection,
    }  # fmt: skip
    return select.entrypoint(Folder(model), Folder(folders.style_set), **parameters)


def test_the_chosen_model_is_what_later_steps_draw_with(home: Path, tmp_path: Path) -> None:
    base, clip = tiny_sd_folder(tmp_path / "base"), tiny_clip_folder(tmp_path / "clip")
    folders = write_folders(tmp_path / "run", reference=2)
    model = train(configure(base, selection={"candidates": 3}, training={"learning_rate": 1e-2}), folders)
    whole_manifest(folders)
    # From here on nobody may open the reference: it is no picture any more.
    for index in range(2):
        (folders.style_set / "images" / "reference" / f"{index}.png").write_text("not looked at")
    bank = tmp_path / "bank.tsv"
    bank.write_text(BANK)
    chosen = run_select(folders, model, base, clip, bank, guidances=[1.0, 4.0], clip_t_margin=1.0)
    found = read_json(chosen.path / "training" / "selection" / "selection.json")
    assert [row["step"] for row in found["checkpoints"]] == [2, 4, 6] and [row["guidance"] for row in found["guidances"]] == [1.0, 2.5, 4.0]
    card = read_json(chosen.path / "styleforge.json")
    assert card["selection"] == found["chosen"]
    step, guidance = found["chosen"]["step"], found["chosen"]["guidance"]
    assert equal(tensors(chosen.path), tensors(read_candidates(model)[step]))
    assert as_chosen(chosen.path, SamplingSection(guidance=9.0)).guidance == guidance
    assert as_chosen(model, SamplingSection(guidance=9.0)).guidance == 9.0
    assert (chosen.path / "training" / "selection" / "timing.json").is_file() and not (chosen.path / "candidates").exists()
    # Interrupted before its end, it draws nothing twice, and gives the same model.
    drawn = {file: file.stat().st_mtime_ns for file in home.rglob("*.png")}
    again = run_select(folders, model, base, clip, bank, guidances=[1.0, 4.0], clip_t_margin=1.0)
    assert again.digest == chosen.digest
    # By another score, inside another limit; and by one that only the reference would give.
    limits = [{"metric": "copies", "at_most": 100.0}]
    other = run_select(folders, model, base, clip, bank, clip_t_margin=1.0, score="style_score", limits=limits)
    rows = read_json(other.path / "training" / "selection" / "selection.json")["checkpoints"]
    assert all(set(row["scores"]) == {"style_score", "clip_t", "copies"} for row in rows)
    # Where nothing is to be chosen, nothing is drawn: the last checkpoint, as it is.
    plain = run_select(folders, model, base, clip, bank, guidances=[4.0], choose=[])
    assert read_json(plain.path / "styleforge.json")["selection"] == {"step": 6, "guidance": 2.5}
    assert not (plain.path / "training" / "selection").exists() and not (plain.path / "candidates").exists()
    only = run_select(folders, model, base, clip, bank, guidances=[4.0], choose=["guidance"], clip_t_margin=1.0)
    found = read_json(only.path / "training" / "selection" / "selection.json")
    assert found["chosen"]["step"] == 6 and len(found["guidances"]) == 2 and len(found["checkpoints"]) == 1
    split_formula = {"terms": [{"scale": "style_guidance", "away_from": "negative", "toward": "prompt"}], "style_guidance": 3.0}
    split = run_select(folders, model, base, clip, bank, split_formula, style_guidances=[1.5], choose=["guidance"], clip_t_margin=1.0)
    found = read_json(split.path / "training" / "selection" / "selection.json")
    assert [row["style_guidance"] for row in found["style_guidances"]] == [1.5, 3.0] and len(found["guidances"]) == 1
    formula = as_chosen(split.path, SamplingSection(guidance_formula=split_formula)).guidance_formula
    assert formula is not None and formula.style_guidance == found["chosen"]["style_guidance"]
    with pytest.raises(InputError, match="selection: style_held_out: cannot be measured before the model is chosen"):
        run_select(folders, model, base, clip, bank, score="style_held_out")
    assert all(file.stat().st_mtime_ns == time for file, time in drawn.items() if file.is_relative_to(home / "pictures"))


def test_a_training_with_another_seed_is_chosen_as_it_came(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from steps.training.fine_tune import fine_tune

    base, clip = tiny_sd_folder(tmp_path / "base"), tiny_clip_folder(tmp_path / "clip")
    folders = write_folders(tmp_path / "run")
    whole_manifest(folders)
    (bank := tmp_path / "bank.tsv").write_text(BANK)
    monkeypatch.setattr("steps.training.fine_tune.checkpoint_store_for", lambda key: None)
    config = configure(base, training={"steps": 3, "learning_rate": 1e-2}, selection={"candidates": 2})
    dump = config.model_dump(mode="json")
    inputs = [Folder(folders.style_set), Folder(folders.split), Folder(folders.aux)]
    section = {**dump["base"], "digest": "base"}
    model = fine_tune.entrypoint(*inputs, 3, section, dump["method"], dump["training"], candidates=2, seeds=[9])
    other = models_by_seed(model.path)[9]
    assert list(models_by_seed(model.path)) == [3, 9] and list(read_candidates(other)) == [2, 3]
    alone = train(config.model_copy(update={"seed": 9}), folders, "alone")
    assert all(equal(tensors(read_candidates(alone)[step]), tensors(read_candidates(other)[step])) for step in (2, 3))
    scored = []

    def seen(judge: Judge, at: Point, pictures: Path, rule: Rule) -> Option:
        scored.append(at)
        return Option(at, {"kid": {"value": 0.1 if at.seed == 9 else 0.2, "low": 0.0, "high": 1.0}, "clip_t": {"value": 1.0}})

    monkeypatch.setattr(Judge, "option", seen)
    chosen = run_select(folders, model.path, base, clip, bank)
    assert scored == [(3, 2.5, None, 3), (2, 2.5, None, 3), (2, 2.5, None, 9), (3, 2.5, None, 9)]
    card = read_json(chosen.path / "styleforge.json")
    assert card["selection"] == {"step": 2, "guidance": 2.5, "seed": 9} and card["seed"] == 9
    assert equal(tensors(chosen.path), tensors(read_candidates(other)[2]))
    costs = [read_json(each / "training" / "timing.json")["seconds"] for each in (chosen.path, model.path, other)]
    assert costs[0] == pytest.approx(costs[1] + costs[2]) and not (chosen.path / "candidates").exists()


def test_what_is_registered_is_drawn_with_as_it_was_scored(tmp_path: Path, home: Path) -> None:
    from steps.registry.register import _finish_model

    model, scores = tmp_path / "model", tmp_path / "scores"
    scores.mkdir()
    write_json(model / "styleforge.json", {"schema": 1, "selection": {"step": 2, "guidance": 1.5}})
    run = parse_config({"style": {"name": "x", "source": "x"}, "sampling": {"guidance": 7.0}})
    finished = _finish_model(run, Folder(tmp_path), Folder(model), Folder(scores), tmp_path / "out")
    assert sampling_settings(read_card(finished)).guidance == 1.5
