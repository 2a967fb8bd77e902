"""The benchmarks measure the same work done in two ways: so both ways must come to the same result."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from benchmarks import sampling, scoring, training
from benchmarks.cached_run import measure_cached_run
from benchmarks.measure import Prepare, Work, alternate
from benchmarks.run import app
from benchmarks.world import Sizes, World, build_world
from components.core.config import RunConfig, parse_config
from tests.fixtures_models import tiny_clip_folder, tiny_sd_folder

SIZES = Sizes(steps=3, drawn=3, scored=12, reference=6)


def _settings(base: Path, clip: Path) -> dict[str, Any]:
    return {
        "style": {"name": "benchmark", "source": "rendered"},
        "aux": {"count": 4},
        "base": {"model": str(base)},
        "training": {"batch_size": 2, "learning_rate": 1e-4},
        "sampling": {"bank": "pocket", "steps": 2, "batch_size": 2},
        "scoring": {"extractor": str(clip), "bootstrap": 5, "kid_subsets": 3, "kid_subset_size": 5, "batch_size": 8},
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("bench")
    settings = _settings(tiny_sd_folder(folder / "base"), tiny_clip_folder(folder / "clip"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEFORGE_HOME", str(folder / "home"))
        (folder / "world").mkdir()
        yield build_world(parse_config(settings), folder / "world", SIZES)


def test_training_without_caches_takes_the_same_steps(world: World) -> None:
    logs = [training.new_trainer(world, plain=plain).run()[0] for plain in (False, True)]
    losses = [[row["loss"] for row in log] for log in logs]
    assert len(losses[0]) == SIZES.steps
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_one_prompt_at_a_time_draws_the_same_pictures(world: World) -> None:
    from PIL import Image

    from components.diffusion.models.bundle import load_bundle
    from components.diffusion.sampling.jobs import jobs_for
    from components.diffusion.sampling.sampler import TOLERANCE

    assert sampling.ours(world)(9)() == SIZES.drawn
    bundle, settings = load_bundle(world.config.base.model), sampling.one_each(world)
    for job in jobs_for(sampling.requests(world), 1, world.config.seed):
        ours = np.asarray(Image.open(world.folder / "drawn" / "ours-9" / "images" / job.file_name), dtype=int)
        assert np.abs(ours - sampling.draw_one(bundle, job, settings)).max() <= TOLERANCE


def test_one_score_at_a_time_gives_the_same_scores(world: World) -> None:
    encoder = scoring.load_encoder(world)
    together = scoring.all_at_once(world, encoder, world.folder / "cold")
    apart = scoring.PlainScores(world, encoder).all()
    for group, scores in apart.items():
        for name, score in scores.items():
            assert score == pytest.approx(together[group][name], rel=1e-3, abs=1e-6), f"{group}.{name}"


def test_every_part_counts_its_pictures(world: World) -> None:
    counts = {"training": SIZES.steps * 4, "sampling": SIZES.drawn, "scoring": 2 * SIZES.scored + SIZES.scored // 4 + SIZES.reference}
    for part, module in (("training", training), ("sampling", sampling), ("scoring", scoring)):
        assert [module.ours(world)(5)(), module.plain(world)(5)()] == [counts[part]] * 2


def _quick(world: World) -> Prepare:
    def prepare(number: int) -> Work:
        return lambda: 7 + number

    return prepare


def test_rounds_run_in_processes_of_their_own(world: World) -> None:
    ours, plain = alternate(_quick, _quick, world, rounds=2)
    assert ours.rounds == plain.rounds == 2
    assert 0 < ours.slowest <= ours.rate <= ours.fastest
    assert ours.peak_memory > 1e6


FAKE = """
import json, os, pathlib, sys
home = pathlib.Path(os.environ["STYLEFORGE_HOME"])
seen = home.exists()
home.mkdir(parents=True, exist_ok=True)
assert "ZENML_STORE_URL" not in os.environ and pathlib.Path(sys.argv[2]).is_file()
print("a table")
print(json.dumps({"seconds": {"scan": 1.0, "score": 2.0}, "cached": ["scan"] if seen else []}))
"""


def test_a_cached_run_names_the_steps_that_ran_again(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENML_STORE_URL", "https://example.invalid")
    found = measure_cached_run(world.config, tmp_path, Sizes(reference=2), rounds=2, command=(sys.executable, "-c", FAKE))
    assert (found.steps, found.missed, len(found.again)) == (["scan", "score"], ["score"], 2)
    written = parse_config(yaml.safe_load((tmp_path / "run.yaml").read_text()))
    assert Path(written.style.source).is_dir()
    assert written.base == world.config.base
    assert written.registry == RunConfig.model_fields["registry"].default


def test_the_command_prints_a_table_and_writes_json(world: World, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(world.config.model_dump(mode="json")))
    sizes = ["--steps", "1", "--drawn", "1", "--scored", "8", "--reference", "4", "--rounds", "1"]
    arguments = [str(config), "--part", "training", "--in-process", *sizes, "--json", str(tmp_path / "bench.json")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and "training, images/s" in result.output, result.output
    assert CliRunner().invoke(app, [str(tmp_path / "missing.yaml")]).exit_code == 2
    data = json.loads((tmp_path / "bench.json").read_text())
    assert data["parts"]["training"]["ratio"] > 0
    assert data["settings"]["steps"] == 1 and data["machine"]["versions"]["torch"]
