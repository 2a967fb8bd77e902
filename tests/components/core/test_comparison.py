from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.comparison import Comparison, load_comparison
from components.core.config import load_config
from components.core.errors import ConfigError

RUN = {"style": {"name": "x", "source": "x"}, "training": {"steps": 10, "batch_size": 2}, "sampling": {"guidance": 3.0}}
COMPARISON: dict[str, Any] = {
    "run": "run.yaml",
    "styles": [{"name": "anime"}, {"name": "mine", "source": "data/mine", "reference": "data/held-out"}],
    "methods": [
        {"name": "dreambooth", "set": {"aux.source": "generated"}},
        {"name": "single", "label": "Single", "set": {"method.name": "single-styleforge"}},
    ],
    "seeds": [0, 1],
}


def load(folder: Path, *overrides: str, **changes: Any) -> Comparison:
    (folder / "run.yaml").write_text(yaml.safe_dump(RUN))
    (folder / "compare.yaml").write_text(yaml.safe_dump(COMPARISON | changes))
    return load_comparison(folder / "compare.yaml", overrides)


def test_every_method_meets_every_style_and_seed(tmp_path: Path) -> None:
    cells = load(tmp_path).cells()
    assert [(cell.seed, cell.style, cell.variants) for cell in cells] == [
        (seed, style, (name,)) for seed in (0, 1) for style in ("anime", "mine") for name in ("dreambooth", "single")
    ]
    first, last = cells[0].config, cells[-1].config
    assert (first.method.name, first.aux.source, first.seed, first.style.source) == ("dreambooth", "generated", 0, "data/pocket/anime")
    assert (last.method.name, last.seed, last.style.source, last.style.reference) == ("single-styleforge", 1, "data/mine", "data/held-out")
    assert first.training.batch_size == 2 and first.sampling.guidance == 3.0


def test_a_cell_is_what_the_same_run_would_be(tmp_path: Path) -> None:
    cell = load(tmp_path).cells()[0]
    settings = ["method.name=dreambooth", "aux.source=generated", "style.name=anime", "style.source=data/pocket/anime"]
    assert cell.config == load_config(tmp_path / "run.yaml", settings)


def test_overrides_are_of_the_comparison_or_of_all_runs(tmp_path: Path) -> None:
    made = load(tmp_path, "seeds=[4]", "training.steps=7", "equal=compute")
    assert [cell.seed for cell in made.cells()] == [4] * 4 and made.config.equal == "compute"
    assert {cell.config.training.steps for cell in made.cells()} == {7}


ABLATION = {"name": "λ", "styles": ["anime"], "seeds": [1], "variants": [
    {"name": "l-1", "like": "single"}, {"name": "l-3", "like": "single", "set": {"method.prior_weight": 3.0}},
]}  # fmt: skip


def test_ablations_share_equal_cells_and_keep_to_their_styles_and_seeds(tmp_path: Path) -> None:
    cells = load(tmp_path, ablations=[ABLATION]).cells()
    assert len(cells) == 8 + 1
    (shared,) = [cell for cell in cells if "l-1" in cell.variants]
    assert shared.variants == ("single", "l-1") and (shared.style, shared.seed) == ("anime", 1)
    (other,) = [cell for cell in cells if cell.variants == ("l-3",)]
    assert other.config.method.name == "single-styleforge" and other.config.method.prior_weight == 3.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stiles": []}, "unknown key stiles (did you mean styles?)"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [0, 0]}, "seeds: 0 appears twice"),
        ({"styles": [{"name": "all"}]}, "styles: all appears twice"),
        ({"methods": [{"name": "dreambooth"}, {"name": "dreambooth"}]}, "dreambooth appears twice"),
        ({"methods": [{"name": "dreamboth"}]}, "method.name"),
        ({"methods": [{"name": "single", "like": "dreambooth"}]}, "there is no dreambooth (did you mean single?)"),
        ({"methods": [{"name": "dreambooth", "set": {"seed": 3}}]}, "methods.0.set: seed must be the same for all"),
        ({"methods": [{"name": "dreambooth", "set": {"scoring.bootstrap": 3}}]}, "scoring.bootstrap must be the same"),
        ({"methods": [{"name": "dreambooth", "set": {"training.stepz": 3}}]}, "did you mean training.steps"),
        ({"ablations": [ABLATION | {"styles": ["anine"]}]}, "ablations.0.styles: there is no anine (did you mean anime?)"),
        ({"ablations": [ABLATION | {"seeds": [7]}]}, "ablations.0.seeds: there is no 7"),
        ({"claims": [{"name": "c", "better": "singel", "than": ["dreambooth"]}]}, "claims.0: there is no singel (did you mean single?)"),
        ({"claims": [{"name": "c", "better": "single", "than": ["single"]}]}, "single is compared with itself"),
        ({"claims": [{"name": "c", "metric": "fid", "better": "single", "than": ["dreambooth"]}]}, "claims.0.metric"),
        ({"run": "https://user:secret@host/run.yaml"}, "a user name"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, **changes)
    assert words in str(caught.value)


def test_an_ablation_may_change_the_sampler(tmp_path: Path) -> None:
    variants = [{"name": f"g-{value}", "like": "single", "set": {"sampling.guidance": value}} for value in (2, 4)]
    cells = load(tmp_path, ablations=[{"name": "Guidance", "variants": variants}]).cells()
    assert {cell.config.sampling.guidance for cell in cells} == {2.0, 3.0, 4.0}


def test_guidance_by_several_prompts_belongs_to_the_method(tmp_path: Path) -> None:
    formula = {"terms": [{"scale": 2, "away_from": "negative", "toward": "prompt"}]}
    methods = [{"name": "own", "set": {"method.name": "lora", "sampling.guidance_formula": formula}}, {"name": "lora"}]
    cells = {cell.variants: cell.config.sampling.guidance_formula for cell in load(tmp_path, methods=methods).cells()}
    own = cells[("own",)]
    assert own is not None and own.terms[0].scale == 2.0 and cells[("lora",)] is None
