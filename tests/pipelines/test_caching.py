"""Touching nothing re-runs nothing; one edit, one picture, one setting re-run exactly what depends on them.

Each test leaves the copy so that another run would take all from the cache: that is what the next one begins with.
"""

from __future__ import annotations

from PIL import Image

from tests.stand_in import StandIn

END = {"score", "report", "register"}
ALL = {"scan", "validate", "split", "build_aux", "fine_tune", "sample_bank", "explain", "sample_base"} | END


def test_touching_nothing_reruns_nothing(finished: StandIn) -> None:
    result = finished.run()
    assert result["status"] == "completed"
    assert set(result["cached"]) == ALL
    assert finished.run()["model"] == result["model"]


def test_a_helper_edited_without_effect_reruns_its_step_alone(finished: StandIn) -> None:
    finished.edit("components/diffusion/training/objective.py")
    assert finished.again() == {"fine_tune"}
    finished.edit("components/evaluation/scoring.py")
    assert finished.again() == {"score"}


def test_a_helper_edited_with_effect_reruns_what_follows(finished: StandIn) -> None:
    finished.edit("components/diffusion/training/objective.py", "'mse'", "'huber'")
    assert finished.again() == {"fine_tune", "sample_bank", "explain"} | END


def test_one_changed_picture(finished: StandIn) -> None:
    Image.new("RGB", (8, 8), (9, 9, 9)).save(finished.folder / "pictures" / "1.png")
    assert finished.again() == ALL - {"sample_base"}


def test_a_changed_bank_reruns_sampling(finished: StandIn) -> None:
    bank = finished.folder / "bank.tsv"
    bank.write_text("id\tcategory\tprompt\na\tpeople\ta man\n", encoding="utf-8")
    finished.edit("config.yaml", "components/evaluation/banks/two.tsv", "bank.tsv")
    assert finished.again() == {"sample_bank", "explain", "sample_base"} | END
    bank.write_text("id\tcategory\tprompt\na\tpeople\ta woman\n", encoding="utf-8")
    assert finished.again() == {"sample_bank", "explain", "sample_base"} | END


def test_changed_weights_of_the_base(finished: StandIn) -> None:
    (finished.folder / "base" / "unet" / "weights.safetensors").write_bytes(b"other")
    assert finished.again() >= {"fine_tune", "sample_base"}


def test_one_changed_setting(finished: StandIn) -> None:
    assert finished.again("--set", "scoring.bootstrap=6") == END
    assert finished.again("--set", "scoring.bootstrap=6", "--set", "registry.alias=other") == {"register"}
    assert finished.again("--set", "scoring.bootstrap=6", "--set", "registry.alias=other", "--set", "sampling.steps=3") == {
        "sample_bank",
        "explain",
        "sample_base",
        *END,
    }


def test_heat_maps_draw_and_train_nothing_again(finished: StandIn) -> None:
    assert finished.again("--set", "attention.prompts=1") == {"explain", "report", "register"}
    assert finished.again("--set", "attention.prompts=0") == {"explain", "report", "register"}
    finished.edit("components/diffusion/attention/heatmaps.py")
    assert finished.again("--set", "attention.prompts=0") == {"explain"}


def test_another_name_trains_nothing_again(finished: StandIn) -> None:
    finished.again()  # Code was edited above.
    assert finished.again("--set", "style.name=renamed") == {"report", "register"}
