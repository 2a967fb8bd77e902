"""A champion that was scored otherwise is drawn and scored as the challenger was: with real models, tiny ones, and a real registry."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from components.core.config import ScoringSection, validate_model
from components.core.errors import GateRefused
from components.core.model_card import sampling_settings
from components.core.paths import read_json, write_json
from components.diffusion.sampling.sampler import sample_bank
from components.evaluation.prompts import Prompt
from components.evaluation.protocol import read_protocol, score_and_keep
from components.registry.gate import GateConfig
from components.registry.promotion import Promotion, PromotionRequest, alias_holder, promote
from components.registry.tracking import Tracking, open_tracking
from components.registry.versions import register_model
from steps.evaluation.rescoring import replicates, same_protocol, tools
from steps.sampling.requests import requests_for
from tests.components.evaluation.conftest import picture
from tests.fixtures_models import tiny_clip_folder, tiny_sd_folder

BANKS = {
    "old": [Prompt("a", "a house", "things"), Prompt("b", "a man", "people")],
    "new": [Prompt("a", "a house", "things"), Prompt("b", "a tree", "things"), Prompt("c", "a woman", "people")],
}
GATE = validate_model(GateConfig, {"rules": [{"metric": "kid", "against": "champion", "at_most": 1.0, "decide": "value"}]}, "gate")


class World:
    """Tiny models that are drawn with, scored and registered as the steps do it."""

    def __init__(self, folder: Path, tracking: Tracking) -> None:
        self.folder, self.tracking = folder, tracking
        self.clip = tiny_clip_folder(folder / "clip", seed=1)
        (folder / "reference").mkdir()
        self.reference = [folder / "reference" / f"{index}.png" for index in range(6)]
        for index, path in enumerate(self.reference):
            picture(index, (120, 20, 20), 32).save(path)

    def register(self, seed: int, bank: str) -> str:
        model = tiny_sd_folder(self.folder / f"model-{seed}-{bank}", seed=seed)
        card = {"identifier": "sks", "sampling": {"steps": 2, "guidance": 2.0, "style_template": f"{{token}} style {seed}, {{prompt}}"}}
        write_json(model / "styleforge.json", card)
        settings = sampling_settings(card, {"repeats": 2})
        drawn = {}
        for kind, template in (("style", settings.style_template), ("plain", settings.plain_template)):
            requests = requests_for(BANKS[bank], template, [{"token": "sks", "categories": None}])
            drawn[kind] = sample_bank(model, requests, settings, 3, self.folder / f"{kind}-{seed}-{bank}")
        scoring = ScoringSection(extractor=str(self.clip), bootstrap=10, kid_subset_size=4, kid_subsets=3)
        score_and_keep(
            model / "evaluation", {**drawn, "base": drawn["plain"]}, self.reference, reference_kind="held-out", settings=scoring, seed=3,
            tokens=["sks"], digests={},
        )  # fmt: skip
        scores = read_json(model / "evaluation" / "scores.json")
        made = register_model(
            self.tracking, name="m", alias="challenger", experiment="e", model=model, params={}, tags={"style": "x"}, scores=scores
        )
        return f"m/{made.version}"

    def promote(self, reference: str, **options: Any) -> Promotion:
        return promote(self.tracking, PromotionRequest(reference, GATE, **options), tools(self.tracking))


@pytest.fixture
def world(empty_registry: Path, tmp_path: Path) -> World:
    shutil.copyfile(empty_registry, tmp_path / "mlflow.db")
    return World(tmp_path, open_tracking(f"sqlite:///{tmp_path}/mlflow.db"))


def test_the_champion_is_scored_on_the_challengers_prompts(world: World, tmp_path: Path) -> None:
    champion, challenger = world.register(1, "old"), world.register(2, "new")
    assert world.promote(champion, force=True, reason="the first").promoted
    result = world.promote(challenger, force=True, reason="whatever it is")
    assert result.rescored and result.champion == "1"
    (place,) = (tmp_path / "home" / "cache" / "rescored").iterdir()
    # What the champion would have got had it been registered on the new bank.
    world.register(1, "new")
    direct = read_json(tmp_path / "model-1-new" / "evaluation" / "scores.json")["style"]
    for metric, score in read_json(place / "scores.json")["style"].items():
        assert score["value"] == pytest.approx(direct[metric]["value"], rel=1e-3, abs=1e-6) and score["n"] == 6
    assert same_protocol(place, tmp_path / "model-2-new" / "evaluation")
    rescored, own = replicates(place), replicates(tmp_path / "model-1-new" / "evaluation")
    assert rescored is not None and own is not None and rescored["kid"] == pytest.approx(own["kid"], rel=1e-2, abs=1e-5, nan_ok=True)
    # Its own template was used, not the challenger's.
    assert read_protocol(place)["same"] == read_protocol(tmp_path / "model-2-new" / "evaluation")["same"]


def test_models_on_one_measure_are_compared_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = world.register(1, "old"), world.register(2, "old")
    world.promote(first)
    monkeypatch.setattr("steps.evaluation.rescoring.rescore", lambda *_: pytest.fail("drawn anew for nothing"))
    result = world.promote(second)
    assert not result.rescored
    kids = [read_json(world.folder / f"model-{seed}-old" / "evaluation" / "scores.json")["style"]["kid"]["value"] for seed in (1, 2)]
    assert result.promoted == (kids[1] <= kids[0]) and alias_holder(world.tracking, "m", "champion") == ("2" if result.promoted else "1")


def test_a_challenger_that_keeps_no_protocol_cannot_be_compared_across(world: World, tmp_path: Path) -> None:
    world.promote(world.register(1, "old"))
    model = tmp_path / "model-1-old"
    (model / "evaluation" / "protocol.json").unlink()
    register_model(world.tracking, name="m", alias="x", experiment="e", model=model, params={}, tags={"style": "x"}, scores={})
    with pytest.raises(GateRefused, match="has no record of what it was scored on"):
        world.promote("m/2")
