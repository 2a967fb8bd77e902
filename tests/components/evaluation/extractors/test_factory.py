import pytest

from components.core.errors import InputError
from components.evaluation.extractors import factory
from components.evaluation.extractors.clip import ClipEncoder
from components.evaluation.extractors.factory import make_extractor


def test_names_of_extractors() -> None:
    names = ("colours", "pocket", "efficientnet-lite0", "efficientnet-lite0:gram-1", "pocket:moments-2")
    made = [make_extractor(name, "x", device="cpu") for name in names]
    assert [extractor.name for extractor in made] == list(names) and isinstance(made[1], ClipEncoder)
    assert [extractor.unit_norm for extractor in made] == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such-folder", "no such file or folder"),
        ("no-such-folder:gram-2", "no such file or folder"),
        ("efficientnet-lite0:gram", "B from 0 to 15"),
        ("pocket:moments-5", "a layer from 0 to 4"),
        ("pocket:deviations-2", "no such file or folder"),
        ("sscd:", "no file is named"),
        ("", "cannot be loaded"),
    ],
)
def test_what_is_none(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make_extractor(name, "scoring.style_extractor")
    assert caught.value.where.startswith("scoring.style_extractor=")


def test_a_hub_id_may_carry_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[object, ...]] = []
    monkeypatch.setattr(factory, "model_type", lambda model, revision, field: "clip" if "clip" in model else "dinov2")
    monkeypatch.setattr(factory, "ClipEncoder", lambda *parts, **_: made.append(("clip", *parts)))
    monkeypatch.setattr(factory, "VisionExtractor", lambda *parts, **_: made.append(("vision", *parts)))
    for name in ("openai/clip@abc", "facebook/dinov2-small", "facebook/dinov2-small@abc:gram-3", "openai/clip:moments-2"):
        make_extractor(name, "x")
    assert [(kind, model, revision) for kind, model, revision, *_ in made] == [
        ("clip", "openai/clip", "abc"), ("vision", "facebook/dinov2-small", None), ("vision", "facebook/dinov2-small", "abc"),
        ("vision", "openai/clip", None),
    ]  # fmt: skip
    assert [str(parts[3]) for parts in made[1:]] == ["None", "gram-3", "moments-2"]
