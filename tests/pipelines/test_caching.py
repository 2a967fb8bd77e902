"""The cache in three real runs: touching nothing, editing a helper, changing a picture.

Which setting and file reach which step is in ``tests/runs/test_plan.py``, which code in ``tests/steps/io/test_caching.py``.
"""

from PIL import Image

from tests.stand_in import StandIn

ALL = {
    "scan", "validate", "split", "build_aux", "fine_tune", "sample_bank", "explain", "sample_base", "score", "report", "register",
}  # fmt: skip


def test_touching_nothing_reruns_nothing(finished: StandIn) -> None:
    result = finished.run()
    assert result["status"] == "completed" and set(result["cached"]) == ALL
    assert result["model"] == finished.first["model"]


def test_a_helper_edited_without_effect_reruns_its_step_alone(finished: StandIn) -> None:
    # Its output is the same, and what follows knows it by its content.
    finished.edit("components/diffusion/objectives/losses.py")
    assert finished.again() == {"fine_tune"}


def test_one_changed_picture(finished: StandIn) -> None:
    Image.new("RGB", (8, 8), (9, 9, 9)).save(finished.folder / "pictures" / "1.png")
    assert finished.again() == ALL - {"sample_base"}
