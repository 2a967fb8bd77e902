"""Many pictures with a stand-in that answers sentences: what becomes of them, and what is asked only once."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from components.captioning.describe import Picture, describe
from components.core.config import CaptionsSection
from components.core.errors import InputError
from components.core.paths import state

ANSWERS = {0: "A watercolor painting of a dog in a garden.", 1: "a woman on a beach", 2: "An illustration.", 3: "", 4: "two ships at sea"}


class StandIn:
    """Knows a picture by its red."""

    def __init__(self, answers: dict[int, str] = ANSWERS, fails_at: int | None = None) -> None:
        self.answers, self.fails_at = answers, fails_at
        self.batches: list[list[int]] = []

    def __call__(self, settings: CaptionsSection) -> "StandIn":
        return self

    def describe(self, pictures: Sequence[Image.Image]) -> list[str]:
        seen = [picture.getpixel((0, 0))[0] for picture in pictures]  # type: ignore[index]
        self.batches.append(seen)
        if self.fails_at in seen:
            raise KeyboardInterrupt
        return [self.answers[red] for red in seen]


def pictures(*reds: int) -> list[Picture]:
    return [Picture(f"{red}.png", f"sha{red}", partial(Image.new, "RGB", (4, 4), (red, 0, 0))) for red in reds]


@pytest.fixture
def settings(tmp_path: Path) -> CaptionsSection:
    (tmp_path / "model").mkdir()
    return CaptionsSection(model=str(tmp_path / "model"), batch_size=2)


def test_batches_without_style_words(settings: CaptionsSection) -> None:
    captioner = StandIn()
    assert list(describe(pictures(0, 1, 2, 3, 4), settings, captioner)) == [
        {"0.png": "a dog in a garden", "1.png": "a woman on a beach"}, {"2.png": "", "3.png": ""}, {"4.png": "two ships at sea"},
    ]  # fmt: skip
    assert captioner.batches == [[0, 1], [2, 3], [4]]


def test_an_answer_is_given_once(settings: CaptionsSection) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(describe(pictures(0, 1, 2, 4), settings, StandIn(fails_at=2)))
    # What was answered before the interruption is known; half a line is forgotten.
    (file,) = state("cache", "captions").iterdir()
    with file.open("a") as log:
        log.write('{"sha256": "sha4", "ans')
    captioner = StandIn()
    first, _ = describe(pictures(0, 1, 2, 4), settings, captioner)
    assert first == {"0.png": "a dog in a garden", "1.png": "a woman on a beach"}
    assert captioner.batches == [[2, 4]]
    # From memory no model is loaded; another request, length or precision is another memory.
    assert len(list(describe(pictures(1, 4), settings, load=None))) == 1  # type: ignore[arg-type]
    for changed in ({"prompt": "What?"}, {"max_tokens": 3}, {"precision": "bf16"}, {"omit": ("dog",)}):
        captioner = StandIn()
        list(describe(pictures(1), settings.model_copy(update=changed), captioner))
        assert captioner.batches == [[1]], changed


def test_words_are_left_out_of_what_is_remembered_too(settings: CaptionsSection) -> None:
    fixed = settings.model_copy(update={"prompt": "What?"})
    list(describe(pictures(0), fixed, StandIn()))
    changed = fixed.model_copy(update={"omit": ("garden",)})
    assert list(describe(pictures(0), changed, load=None)) == [{"0.png": "a watercolor painting of a dog"}]  # type: ignore[arg-type]


def test_a_model_without_anything_to_say(settings: CaptionsSection) -> None:
    assert list(describe(pictures(2, 3), settings, StandIn())) == [{"2.png": "", "3.png": ""}]
    assert list(describe([], settings, StandIn())) == []
    with pytest.raises(InputError, match=r"gave no usable caption for any of 3 images, such as 'An illustration\.' for 2\.png"):
        list(describe(pictures(2, 3, 9), settings, StandIn({**ANSWERS, 9: "art"})))
