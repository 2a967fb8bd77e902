import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from components.core.config import PLAIN, RunConfig, parse_config
from components.core.content import digest_value
from components.core.errors import ConfigError, InputError
from components.diffusion.models.sources import base_facts
from components.diffusion.training.method_table import METHODS
from runs.plan import plan_run
from tests.components.evaluation.extractors.conftest import csd_weights, sscd_weights

END = {"score", "report", "register"}
FORMULA = "{start: class, branches: {class: {prompt: a photo of style}}, terms: [{scale: 3, away_from: class, toward: prompt}]}"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    for part, config in {"unet": {"sample_size": 16}, "vae": {"block_out_channels": [8, 16, 32]}}.items():
        (tmp_path / "base" / part).mkdir(parents=True)
        (tmp_path / "base" / part / "config.json").write_text(json.dumps(config))
    for part in ("text_encoder", "tokenizer", "scheduler"):
        (tmp_path / "base" / part).mkdir()
    (tmp_path / "base" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    for name in ("pictures", "extractor", "pool", "reference"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(name.encode())
    (tmp_path / "bank.txt").write_text("a man\na house\n", encoding="utf-8")
    return {
        "style": {"name": "test", "source": str(tmp_path / "pictures")},
        "base": {"model": str(tmp_path / "base")},
        "sampling": {"bank": str(tmp_path / "bank.txt")},
        "scoring": {"extractor": str(tmp_path / "extractor")},
    }


def _config(settings: dict[str, Any], *overrides: str) -> RunConfig:
    return parse_config(settings, overrides=overrides)


def _changed(settings: dict[str, Any], *overrides: str) -> set[str]:
    before, after = plan_run(_config(settings)), plan_run(_config(settings, *overrides))
    return {step for step in before if before[step] != after[step]}


def test_rights_cost_nothing_where_they_are_not_asked_for(settings: dict[str, Any]) -> None:
    plan, config = plan_run(_config(settings)), _config(settings)
    assert "rights" not in plan["scan"] and "rights" not in plan["validate"]
    # As if there were no such section.
    assert config.digest() == digest_value({key: value for key, value in config.model_dump(mode="json").items() if key != "rights"})
    assert _changed(settings, "rights.record=true") == {"scan", "report", "register"}
    asked = plan_run(_config(settings, "rights.licenses=any"))
    assert asked["scan"]["rights"] is True and asked["validate"]["rights"]["licenses"] == ["any"]
    assert _changed(settings, "scoring.measures=[truth]") == {"scan", *END}
    with pytest.raises(ConfigError, match=r"rights\.licenses: CC-BY: not an SPDX id"):
        plan_run(_config(settings, "rights.licenses=[CC-BY]"))


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("scoring.bootstrap=9", END),
        ("registry.alias=other", {"register"}),
        ("style.name=other", {"report", "register"}),
        ("sampling.guidance=2.0", {"examine", "sample_bank", "explain", "sample_base", "report", "register"}),
        (f"sampling.guidance_formula={FORMULA}", {"sample_bank", "explain", "report", "register"}),
        ("sampling.style_template='{token} {prompt}'", {"sample_bank", "explain", "report", "register"}),
        ("training.learning_rate=0.1", {"fine_tune", "report", "register"}),
        ("method.prior_weight=2.0", {"fine_tune", "report", "register"}),
        ("aux.count=3", {"build_aux", "report", "register"}),
        ("aux.generated_count=3", {"report", "register"}),
        ("style.max_pixels=99", {"scan", "report", "register"}),
        ("seed=1", {"examine", "fine_tune", "sample_bank", "explain", "sample_base", *END}),
        ("sampling.repeats=2", {"sample_bank", "sample_base", "report", "register"}),
        ("attention.prompts=2", {"explain", "report", "register"}),
        ("attention.words=[hat]", {"explain", "report", "register"}),
        ("captions.max_tokens=9", {"report", "register"}),
        ("examine.coherence=0.4", {"examine", "report", "register"}),
    ],
)
def test_a_setting_reaches_only_the_steps_that_depend_on_it(settings: dict[str, Any], override: str, steps: set[str]) -> None:
    assert _changed(settings, override) == steps


def test_changed_files_change_the_steps_that_read_them(settings: dict[str, Any], tmp_path: Path) -> None:
    before = plan_run(_config(settings))
    (tmp_path / "pictures" / "a.png").write_bytes(b"other")
    assert plan_run(_config(settings))["scan"] != before["scan"]
    (tmp_path / "base" / "unet" / "weights.safetensors").write_bytes(b"new")
    after = plan_run(_config(settings))
    assert after["fine_tune"] != before["fine_tune"]
    assert after["sample_base"] != before["sample_base"]
    assert after["score"] == before["score"]
    (tmp_path / "bank.txt").write_text("a woman\n", encoding="utf-8")
    other = plan_run(_config(settings))
    assert {step for step in after if after[step] != other[step]} == {"sample_bank", "explain", "sample_base"}


def test_all_that_is_not_there_is_said_at_once(settings: dict[str, Any], tmp_path: Path) -> None:
    config = _config(settings, "style.source=gone-1", "base.model=./gone-2", "scoring.extractor=./gone-3", "sampling.bank=gone-4.txt")
    with pytest.raises(InputError) as caught:
        plan_run(config)
    assert all(f"gone-{number}" in str(caught.value) for number in (1, 2, 3, 4)) and caught.value.exit_code == 2


@pytest.fixture
def one_file(tmp_path: Path) -> Path:
    """A checkpoint by its tensors' names alone, with the configuration of Stable Diffusion 1.x at 64 pixels beside it."""
    folder = tmp_path / "one" / "model"
    for part in ("text_encoder", "tokenizer", "scheduler"):
        (folder / part).mkdir(parents=True)
        (folder / part / f"{part}_config.json").write_text("{}")
    for part in ("unet", "vae"):
        (tmp_path / "base" / part).rename(folder / part)
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    names = ("model.diffusion_model.x", "first_stage_model.x", "cond_stage_model.transformer.x")
    save_file({name: np.zeros(1, dtype=np.float32) for name in names}, folder.with_suffix(".safetensors"))
    return folder.with_suffix(".safetensors")


def test_a_file_is_known_by_its_content_and_its_configuration(settings: dict[str, Any], one_file: Path) -> None:
    assert base_facts(str(one_file)).side == 64
    override = f"base.model={one_file}"
    before = plan_run(_config(settings, override))
    scheduler = one_file.with_suffix("") / "scheduler" / "scheduler_config.json"
    scheduler.write_text('{"prediction_type": "v_prediction"}')
    after = plan_run(_config(settings, override))
    assert after["fine_tune"] != before["fine_tune"]
    assert after["split"] == before["split"]


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("style.source=nowhere", "style.source=nowhere: no such folder"),
        ("base.model=./nowhere", "base.model=./nowhere: no such file or folder"),
        ("base.model=some/model", "base.model=some/model: a hub model without a revision"),
        ("scoring.extractor=./nowhere", "scoring.extractor=./nowhere"),
        ("scoring.inception_weights=nowhere.pth", "scoring.inception_weights=nowhere.pth: no such file"),
        ("sampling.bank=nowhere.txt", "nowhere.txt: no such prompt bank"),
        ("sampling.bank=double.tsv", "double.tsv"),
        ("style.source=bank.txt", "is a file"),
        ("base.model=./lora.safetensors", "this is a LoRA"),
        ("base.model=./extractor", "no model_index.json"),
        ("base.model=./silent", "the base has no text_encoder"),
    ],
)
def test_what_cannot_be_used_is_named(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, wanted: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "double.tsv").write_text("id\tprompt\na\ta man\na\ta house\n", encoding="utf-8")
    shutil.copytree(tmp_path / "base", tmp_path / "silent", ignore=shutil.ignore_patterns("text_encoder"))
    save_file({"lora_unet_x": np.zeros(1, dtype=np.float32)}, tmp_path / "lora.safetensors")
    with pytest.raises(InputError) as caught:
        plan_run(_config(settings, override))
    assert wanted in str(caught.value)


def test_no_secret_becomes_a_parameter(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runs.plan.check_reachable", lambda uri: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:pa55word@tracking:5000")
    plan = plan_run(_config(settings))
    assert "pa55word" not in json.dumps(plan)
    assert plan["register"]["tracking"] == "http://tracking:5000"


@pytest.mark.parametrize(
    ("name", "source"),
    [("dreambooth", "generated"), ("lora", "none"), ("custom-diffusion", "generated"), ("single-styleforge", "curated")],
)
def test_aux_follows_the_method_unless_it_is_named(settings: dict[str, Any], name: str, source: str) -> None:
    plan = plan_run(_config(settings, f"method.name={name}"))
    assert plan["build_aux"]["source"] == source
    assert plan["scan"]["curated"] == (source == "curated") and ("base" in plan["build_aux"]) == (source == "generated")
    assert plan_run(_config(settings, f"method.name={name}", "aux.source=target"))["build_aux"]["source"] == "target"


def test_concepts_share_the_aux_pictures(settings: dict[str, Any]) -> None:
    plan = plan_run(_config(settings, "method.name=multi-styleforge", "aux.count=15"))
    people, places = plan["build_aux"]["parts"]
    assert people == {"concept": "sks", "roles": ["character"], "count": 8, "form": "digital painting"}
    assert (places["concept"], places["roles"]) == ("ukj", ["background", "thing"])
    assert plan["validate"]["needs_roles"]
    assert [row["token"] for row in plan["sample_bank"]["concepts"]] == plan["score"]["tokens"] == ["sks", "ukj"]
    learnt = plan_run(_config(settings, "method.name=textual-inversion"))
    assert learnt["sample_bank"]["concepts"][0]["token"] == "<sks>" and learnt["score"]["tokens"] == ["<sks>"]
    assert (learnt["build_aux"]["source"], learnt["validate"]["minimum_side"]) == ("none", 64)


def test_class_prompts_hold_no_caption(settings: dict[str, Any]) -> None:
    overrides = ("method.name=dreambooth", "method.aux_prompt='a photo of style, {caption}'")
    assert plan_run(_config(settings, *overrides))["build_aux"]["parts"][0]["prompt"] == "a photo of style"
    own = plan_run(_config(settings, *overrides, "aux.prompt=illustration style"))
    assert own["build_aux"]["parts"][0]["prompt"] == "illustration style"


def test_a_run_in_each_of_several_processes_is_refused(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"WORLD_SIZE=2.*training\.processes"):
        plan_run(_config(settings))


# Captions


@pytest.fixture
def captioner(tmp_path: Path) -> str:
    (tmp_path / "vlm").mkdir()
    (tmp_path / "vlm" / "config.json").write_text('{"model_type": "blip"}')
    return f"captions.model={tmp_path / 'vlm'}"


STYLE, AUX = "method.instance_prompt='a photo of {token} style, {caption}'", "method.aux_prompt='a photo of style, {caption}'"


def test_captions_are_a_step_of_their_own_where_a_model_is_set(settings: dict[str, Any], captioner: str, tmp_path: Path) -> None:
    before = plan_run(_config(settings, STYLE))
    after = plan_run(_config(settings, STYLE, captioner))
    assert "caption" not in before and before["validate"]["captioned"] is False
    assert {step for step in before if before[step] != after[step]} == {"validate", "report", "register"}
    assert after["caption"]["splits"] == ["style_ref"] and after["validate"]["captioned"] is True
    longer = plan_run(_config(settings, STYLE, captioner, "captions.max_tokens=9"))
    assert {step for step in after if after[step] != longer[step]} == {"caption", "report", "register"}
    (tmp_path / "vlm" / "model.safetensors").write_bytes(b"weights")
    assert plan_run(_config(settings, STYLE, captioner))["caption"]["digest"] != after["caption"]["digest"]


@pytest.mark.parametrize(
    ("overrides", "splits"),
    [
        ([STYLE, AUX], ["style_ref", "aux_pool"]), ([AUX, "aux.source=curated"], ["aux_pool"]), ([AUX, "aux.source=target"], ["style_ref"]),
        ([STYLE, AUX, "aux.source=none"], ["style_ref"]), ([STYLE, AUX, "method.name=dreambooth"], ["style_ref"]),
        (["method.name=multi-styleforge", STYLE, "aux.source=none"], ["style_ref"]),
    ],
)  # fmt: skip
def test_only_pictures_whose_captions_are_read_are_captioned(
    settings: dict[str, Any], captioner: str, overrides: list[str], splits: list[str]
) -> None:
    assert plan_run(_config(settings, captioner, *overrides))["caption"]["splits"] == splits


def test_a_captioner_that_nothing_would_read_or_that_cannot_caption(settings: dict[str, Any], captioner: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"captions\.model=.*no prompt contains \{caption\}.*For example method\.instance_prompt"):
        plan_run(_config(settings, captioner))
    (tmp_path / "vlm" / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(InputError, match="a clip: not a model that turns images into text"):
        plan_run(_config(settings, captioner, STYLE))
    for model, message in (("./gone", "no such file or folder"), ("owner/vlm", r"without a revision.*Set captions\.revision")):
        with pytest.raises(InputError, match=rf"captions\.model={model}.*{message}"):
            plan_run(_config(settings, STYLE, f"captions.model={model}"))


# Selection

CHOICE = ("selection.candidates=4", "selection.guidances=[1.5, 2.5]")


def test_selection_is_a_step_of_its_own_and_asks_training_for_candidates(settings: dict[str, Any]) -> None:
    before, after = plan_run(_config(settings)), plan_run(_config(settings, *CHOICE))
    assert "select" not in before and "candidates" not in before["fine_tune"]
    assert {step for step in before if before[step] != after[step]} == {"fine_tune", "report", "register"}
    assert after["fine_tune"] == {**before["fine_tune"], "candidates": 4}
    chosen = after["select"]
    assert (chosen["sampling"]["bank"], chosen["sampling"]["repeats"]) == ("builtin-selection", 1)
    assert chosen["sampling"]["guidance"] == after["sample_bank"]["sampling"]["guidance"] == 7.5
    assert chosen["selection"]["guidances"] == [1.5, 2.5] and chosen["tokens"] == ["sks"]
    # Another rule trains nothing anew, and neither does another guidance.
    for override in (
        "selection.clip_t_margin=0.2",
        "selection.guidances=[3]",
        "selection.limit=8",
        "selection.limits=[{metric: clip_i, at_least: 20}]",
    ):
        other = plan_run(_config(settings, *CHOICE, override))
        assert {step for step in after if after[step] != other[step]} == {"select", "report", "register"}
    only = plan_run(_config(settings, "selection.guidances=[1.5]"))
    assert only["fine_tune"] == before["fine_tune"] and "select" in only


def test_patience_makes_the_training_depend_on_what_judges_it(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = plan_run(_config(settings, *CHOICE)), plan_run(_config(settings, *CHOICE, "selection.patience=2"))
    assert {step for step in before if before[step] != after[step]} == {"fine_tune", "report", "register"}
    assert after["fine_tune"]["watch"]["sampling"] == after["select"]["sampling"]
    for override in ("selection.clip_t_margin=0.2", "selection.limit=8", "sampling.guidance=3"):
        assert plan_run(_config(settings, *CHOICE, "selection.patience=2", override))["fine_tune"] != after["fine_tune"]
    other = plan_run(_config(settings, "selection.candidates=4", "selection.patience=2", "selection.guidances=[3]"))
    assert other["fine_tune"] == after["fine_tune"]
    monkeypatch.setattr("steps.io.caching.version", lambda name: "0.0.1")
    assert plan_run(_config(settings, *CHOICE, "selection.patience=2"))["fine_tune"] != after["fine_tune"]


@pytest.mark.parametrize(
    ("override", "message"),
    [("selection.patience=3", "takes at least 5"), ("selection.choose=[guidance]", "patience needs `checkpoint` in `choose`")],
)
def test_a_patience_that_can_end_nothing_is_refused(settings: dict[str, Any], override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _config(settings, *CHOICE, "selection.patience=1", override)


def test_further_seeds_are_trained_with_and_chosen_from(settings: dict[str, Any]) -> None:
    before, after = plan_run(_config(settings)), plan_run(_config(settings, "selection.seeds=[7, 8]"))
    assert after["fine_tune"] == {**before["fine_tune"], "seeds": [7, 8]} and "select" in after
    for seeds in ("[7, 7]", "[0]"):
        with pytest.raises(ConfigError, match=r"selection\.seeds: .* and seed=0 must all differ"):
            _config(settings, f"selection.seeds={seeds}")
    with pytest.raises(ConfigError, match="seeds needs `checkpoint` in `choose`"):
        _config(settings, "selection.seeds=[7]", "selection.guidances=[3]", "selection.choose=[guidance]")


def test_a_bank_to_select_by_that_the_scores_see_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("a tree\nA house!\n", encoding="utf-8")
    bank = f"selection.bank={tmp_path / 'own.txt'}"
    with pytest.raises(InputError, match=r"selection\.bank=.*shares prompts with sampling\.bank=.*: 'A house!'"):
        plan_run(_config(settings, *CHOICE, bank))
    # Nobody draws it.
    plan_run(_config(settings, bank))
    # Only the prompts that are drawn count.
    plan_run(_config(settings, *CHOICE, bank, "sampling.limit=1"))
    with pytest.raises(ConfigError, match=r"selection\.score"):
        _config(settings, "selection.score=beauty")


def test_a_choice_depends_on_the_extractors_that_it_is_judged_by(settings: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "sscd.safetensors"
    given = (*CHOICE, "selection.patience=2", f"scoring.copy_extractor=sscd:{file}")
    save_torch(sscd_weights(), file)
    limited = (*given, "selection.limits=[{metric: copies, at_most: 5}]")
    before, plain = (plan_run(_config(settings, *overrides)) for overrides in (limited, given))
    save_torch({name: value + 1 for name, value in sscd_weights().items()}, file)
    after, other = (plan_run(_config(settings, *overrides)) for overrides in (limited, given))
    assert {step for step in before if before[step] != after[step]} == {"fine_tune", "select", "score"}
    assert before["select"]["weights"] == before["fine_tune"]["watch"]["weights"] != after["select"]["weights"]
    # What does not decide changes nothing.
    assert {step for step in plain if plain[step] != other[step]} == {"score"}
    assert plain["select"]["weights"].keys() == {"extractor", "inception"}
    # A measure that decides is read even if the scores leave it out.
    only = plan_run(_config(settings, *limited, "scoring.measures=[]"))
    assert only["select"]["weights"] == after["select"]["weights"] and "copy_extractor" not in only["score"]["weights"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("selection.score=style_held_out", "selection: style_held_out: cannot be measured before the model is chosen"),
        ("selection.score=truth", "selection: truth: cannot be measured"),
        ("selection.limits=[{metric: truth_lines, at_most: 5}]", "selection: truth_lines: cannot be measured"),
        ("selection.score=kd", r"selection: kd: scoring\.kd_extractor is not set.*Set it"),
    ],
)
def test_a_score_that_cannot_be_had_before_the_choice_is_refused(settings: dict[str, Any], override: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        plan_run(_config(settings, *CHOICE, override))
    assert caught.value.exit_code == 2 and caught.value.remedy
    # Nobody chooses by it.
    plan_run(_config(settings, override))


def test_few_pictures_refuse_a_choice_by_copies(settings: dict[str, Any]) -> None:
    limited = "selection.limits=[{metric: copies, at_most: 5}]"
    assert plan_run(_config(settings, *CHOICE, limited))["validate"]["least_style_ref"] == 5
    for overrides in ((*CHOICE,), (limited,)):
        assert "least_style_ref" not in plan_run(_config(settings, *overrides))["validate"]


# Extractors of measures


@pytest.mark.parametrize("field", ["style_extractor", "copy_extractor", "kd_extractor"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("csd:gone.safetensors", "no such file.*Run `styleforge convert csd"),
        ("csd:weights/gone", "no such file"),
        ("sscd:pickled.safetensors", "not a safetensors file.*Run `styleforge convert sscd"),
        ("csd-content:sscd.safetensors", r"weights of another network \(without backbone.conv1.weight, last_layer_style"),
        ("sscd:holes.safetensors", r"weights of another network \(.*is missing"),
        ("sscd:", "no file is named"),
        ("./gone", "no such file or folder"),
        ("./extractor", "cannot be loaded as an image model"),
        ("./pickled", "cannot be loaded as an image model .*Convert pickled weights"),
        ("efficientnet-lite0:gram-16", "no such layer"),
        ("pocket:gram-9", "no such layer"),
        ("owner/name", "without a revision"),
    ],
)
def test_extractors_that_cannot_be_loaded_are_refused_before_anything_runs(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = sscd_weights()
    torch.save(weights, tmp_path / "pickled.safetensors")
    save_torch(weights, tmp_path / "sscd.safetensors")
    save_torch({key: value for key, value in weights.items() if not key.endswith("bn3.bias")}, tmp_path / "holes.safetensors")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text('{"model_type": "dinov2"}')
    torch.save({}, tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(InputError, match=message) as caught:
        plan_run(_config(settings, f"scoring.{field}={name}"))
    assert caught.value.exit_code == 2 and str(caught.value).startswith(f"scoring.{field}=") and "problems" not in str(caught.value)


def test_extractors_that_can_be_loaded_are_planned_with(settings: dict[str, Any], tmp_path: Path) -> None:
    save_torch(csd_weights(), tmp_path / "csd.safetensors")
    names = ("thumbnail", f"csd:{tmp_path}/csd.safetensors", "pocket:moments-2", "efficientnet-lite0:gram-15", "owner/name@commit")
    planned = [plan_run(_config(settings, f"scoring.kd_extractor={name}"))["score"]["weights"]["kd_extractor"] for name in names]
    assert [digest is None for digest in planned] == [True, False, False, True, False] and planned[4] == "owner/name@commit"


def test_a_method_brings_its_guidance_and_the_configuration_wins(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    own = parse_config(settings, overrides=[f"sampling.guidance_formula={FORMULA}"]).sampling.guidance_formula
    assert plan_run(_config(settings))["sample_bank"]["sampling"]["guidance_formula"] is None
    monkeypatch.setitem(METHODS, "single-styleforge", replace(METHODS["single-styleforge"], guidance=own))
    assert own is not None
    planned = plan_run(_config(settings, "training.validation_prompts=[a]"))
    assert all(
        planned[step]["sampling"]["guidance_formula"] == own.model_dump(mode="json") for step in ("sample_bank", "explain", "fine_tune")
    )
    assert planned["register"]["config"]["sampling"]["guidance_formula"] == own.model_dump(mode="json")
    assert "guidance_formula" not in planned["sample_base"]["sampling"]
    plain = plan_run(_config(settings, "sampling.guidance_formula=plain"))
    assert plain["sample_bank"]["sampling"]["guidance_formula"] == PLAIN.model_dump(mode="json")
    with pytest.raises(ConfigError, match=r"selection\.guidances.*nothing to choose"):
        plan_run(_config(settings, "selection.guidances=[2.0]"))
