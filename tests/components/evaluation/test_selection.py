"""The rule: the best inside the limits, ties to the one preferred; and what is kept of a search."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from components.core.config import Limit, ScoringSection
from components.core.errors import InputError
from components.core.paths import read_json, write_json, write_jsonl
from components.evaluation.features import measure_extractors
from components.evaluation.selection import Option, Point, Rule, check_measurable, choose, excess, judged_with
from components.evaluation.selection_page import selection_section
from components.evaluation.selection_record import Drawn, search, write_selection
from tests.components.evaluation.conftest import option

RULE = Rule("kid", [Limit(metric="clip_t", at_least=50.0)], 0.68)


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        # What is common to all is no reason for a tie.
        ([option(0.12), option(0.10), option(0.11)], 1),
        # A difference inside its own interval is one, and goes to the first.
        ([option(0.105, own=0.02), option(0.10, own=0.02), option(0.3)], 0),
        # The best is outside a limit, and what ties with it as well.
        ([option(0.05, 49.0), option(0.2), option(0.1)], 2),
        # None is inside: the one that is outside by the least, however good the others are.
        ([option(0.05, 40.0), option(0.2, 49.0), option(0.1, 45.0)], 1),
    ],
)
def test_the_rule(options: list[Option], chosen: int) -> None:
    assert choose(options, RULE).chosen == chosen


def test_a_score_that_is_better_higher_and_one_without_pairs() -> None:
    options = [option(0.1, 60.0), option(0.1, 61.0), option(0.1, 59.0)]
    assert choose(options, Rule("clip_t", [], 0.68)).best == 1
    # Without replicates nothing ties.
    alone = [Option(each.at, each.scores) for each in options]
    assert choose(alone, Rule("clip_t", [], 0.68)).chosen == 1


def test_limits_are_on_the_right_side() -> None:
    scores = option(0.2, 60.0).scores
    kid, clip_t = Limit(metric="kid", at_most=0.1), Limit(metric="clip_t", at_least=80.0)
    assert excess(scores, [kid]) == pytest.approx(1.0) and excess(scores, [clip_t]) == pytest.approx(0.25)
    assert excess(scores, [kid, clip_t]) == pytest.approx(1.0)
    assert excess(scores, [Limit(metric="kid", at_most=0.3), Limit(metric="clip_t", at_least=50.0)]) < 0 and excess(scores, []) == 0
    for wrong in ({}, {"at_most": 1.0, "at_least": 0.0}):
        with pytest.raises(ValueError, match="either at_most or at_least"):
            Limit(metric="kid", **wrong)


def test_only_what_decides_is_measured() -> None:
    settings = ScoringSection(measures=("truth", "copies", "cmmd"), kd_extractor="texture")
    by_kid, by_more = judged_with(settings, ["kid", "clip_t"]), judged_with(settings, ["kd", "copies", "style_score"])
    assert (by_kid.measures, measure_extractors(by_kid)) == ((), {})
    assert set(by_more.measures) == {"kd", "copies", "style_score"}
    assert measure_extractors(by_more) == {"style_extractor": "look", "copy_extractor": "thumbnail", "kd_extractor": "texture"}
    check_measurable(settings, ["kid", "kd", "copies", "leakage", "diversity", "cmmd", "style_score"])
    for names, message in ((["kid", "truth_style"], "truth_style: cannot be measured"), (["kd"], r"kd: scoring\.kd_extractor is not set")):
        with pytest.raises(InputError, match=message):
            check_measurable(settings.model_copy(update={"kd_extractor": None}), names)


@pytest.fixture
def draw(tmp_path: Path) -> Callable[[Mapping[tuple[float, ...], float]], Callable[[Point], Drawn]]:
    """Options whose KID is told, with two pictures each."""

    def of(kids: Mapping[tuple[float, ...], float]) -> Callable[[Point], Drawn]:
        def drawn(at: Point) -> Drawn:
            folder = tmp_path / str(at)
            (folder / "images").mkdir(parents=True)
            rows: list[dict[str, Any]] = []
            for name, category in (("a", "people"), ("b", "things")):
                Image.new("RGB", (8, 8), (at.step % 255, 0, 0)).save(folder / "images" / f"{name}.png")
                rows.append({"file_name": f"images/{name}.png", "prompt_id": name, "category": category, "prompt": f"a {category}"})
            write_jsonl(folder / "metadata.jsonl", rows)
            kid = kids[tuple(value for value in at if value is not None)]
            return Drawn(folder, replace(option(kid), at=at))

        return drawn

    return of


def test_a_search_draws_each_once_and_prefers_the_default(draw: Any, tmp_path: Path) -> None:
    kids = {(30, 2.5): 0.3, (30, 1.5): 0.1, (30, 2.0): 0.2, (10, 1.5): 0.2, (20, 1.5): 0.05}
    # Drawing one twice would fail: its folder is there.
    found = search(Point(30, 2.5), [(10, None), (20, None), (30, None)], [1.5, 2.0], [], RULE, draw(kids))
    assert found.chosen == (20, 1.5, None, None) and list(found.groups) == ["guidances", "checkpoints"]
    assert [item.option.at.guidance for item in found.groups["guidances"][0]] == [2.5, 2.0, 1.5]
    assert [item.option.at.step for item in found.groups["checkpoints"][0]] == [10, 20, 30]
    record = {"bank": "pocket-selection", "prompts": 2, "reference_n": 20, "base": {}}
    write_selection(tmp_path / "model" / "training" / "selection", found, RULE, record)
    written = read_json(tmp_path / "model" / "training" / "selection" / "selection.json")
    assert written["chosen"] == {"step": 20, "guidance": 1.5} and written["default"] == {"step": 30, "guidance": 2.5}
    assert [row["chosen"] for row in written["checkpoints"]] == [False, True, False]
    section = selection_section(tmp_path / "model")
    assert section is not None and section["ended"] is None
    write_json(tmp_path / "model" / "styleforge.json", {"training": {"steps": 800, "ended_at": 480}})
    section = selection_section(tmp_path / "model")
    assert section is not None and section["ended"] == (480, 800)
    assert section is not None and [group["title"] for group in section["groups"]] == ["checkpoint", "guidance scale"]
    assert [column["state"] for column in section["groups"][0]["columns"]] == ["", "chosen", ""]
    assert all(len(column["pictures"]) == 2 for group in section["groups"] for column in group["columns"])
    assert all("ring" in curve for group in section["groups"] for _, curve in group["curves"])


def test_ties_go_to_the_default_guidance(draw: Any) -> None:
    kids = {(30, 2.5): 0.1, (30, 1.5): 0.1}
    assert search(Point(30, 2.5), [(30, None)], [1.5], [], RULE, draw(kids)).chosen.guidance == 2.5


def test_trainings_with_several_seeds_are_chosen_from_alike(draw: Any, tmp_path: Path) -> None:
    kids = {(20, 2.5, 7): 0.3, (20, 1.5, 7): 0.2, (10, 1.5, 7): 0.25, (10, 1.5, 8): 0.4, (20, 1.5, 8): 0.1}
    found = search(Point(20, 2.5, seed=7), [(10, 7), (10, 8), (20, 7), (20, 8)], [1.5], [], RULE, draw(kids))
    assert found.chosen == Point(20, 1.5, seed=8)
    record = {"bank": "pocket-selection", "prompts": 2, "reference_n": 20, "base": {}}
    write_selection(tmp_path / "model" / "training" / "selection", found, RULE, record)
    section = selection_section(tmp_path / "model")
    assert section is not None and section["chosen"] == {"step": 20, "guidance": 1.5, "seed": 8}
    titles = ["checkpoint, seed 7", "checkpoint, seed 8", "guidance scale"]
    assert [group["title"] for group in section["groups"]] == titles
    assert [[column["name"] for column in group["columns"]] for group in section["groups"][:2]] == [["10", "20"]] * 2
    assert ["ring" in group["curves"][0][1] for group in section["groups"]] == [False, True, True]
    # Of those that tie the earlier step, and of one step the run's own seed.
    even = dict.fromkeys([*kids, (10, 2.5, 7), (10, 2.5, 8), (20, 2.5, 8)], 0.3)
    for folder in tmp_path.glob("step-*"):
        shutil.rmtree(folder)
    assert search(Point(20, 2.5, seed=7), [(10, 7), (10, 8), (20, 7), (20, 8)], [], [], RULE, draw(even)).chosen == Point(10, 2.5, seed=7)


def test_the_style_has_a_scale_of_its_own(draw: Any, tmp_path: Path) -> None:
    """After the guidance, before the checkpoint; a page shows it, and it goes into the card."""
    kids = {(20, 2.5, 1.75): 0.3, (20, 1.5, 1.75): 0.4, (20, 2.5, 1.25): 0.1, (20, 2.5, 1.5): 0.2, (10, 2.5, 1.25): 0.15}
    found = search(Point(20, 2.5, 1.75), [(10, None), (20, None)], [1.5], [1.25, 1.5], RULE, draw(kids))
    assert found.default == (20, 2.5, 1.75, None) and found.chosen == (20, 2.5, 1.25, None)
    record = {"bank": "pocket-selection", "prompts": 2, "reference_n": 20, "base": {}}
    write_selection(tmp_path / "model" / "training" / "selection", found, RULE, record)
    written = read_json(tmp_path / "model" / "training" / "selection" / "selection.json")
    assert written["chosen"] == {"step": 20, "guidance": 2.5, "style_guidance": 1.25}
    assert [row["style_guidance"] for row in written["style_guidances"]] == [1.25, 1.5, 1.75]
    section = selection_section(tmp_path / "model")
    assert section is not None and [group["title"] for group in section["groups"]][2] == "guidance scale of the style"


def test_without_a_choice_there_is_no_section(tmp_path: Path) -> None:
    assert selection_section(tmp_path) is None
