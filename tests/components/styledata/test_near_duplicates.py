from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.core.images import inspect_image
from components.styledata.manifest import ImageEntry
from components.styledata.near_duplicates import HASH_DISTANCE, exact_duplicates, near_duplicates
from tests.components.styledata.helpers import encoded, picture


def entry(style_set: Path, name: str, data: bytes, split: str = "style_ref") -> ImageEntry:
    file = style_set / "images" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    facts = inspect_image(data)
    return ImageEntry(name, str(hash(data)), facts.phash, 64, 64, "RGB", "PNG", facts.spread, False, None, None, None, split, None)


def test_exact_within_one_list_names_the_first() -> None:
    entries = [
        ImageEntry(path, sha, None, None, None, None, None, None, False, None, None, None, "style_ref", None)
        for path, sha in (("a", "1"), ("b", "2"), ("c", "1"), ("d", "1"))
    ]
    assert exact_duplicates(entries) == {"c": "a", "d": "a"}
    assert exact_duplicates(entries[:2], entries[2:]) == {"a": "c"}
    assert exact_duplicates([]) == {}


@pytest.mark.parametrize("change", ["jpeg", "larger", "brighter"])
def test_a_changed_copy_is_near(tmp_path: Path, change: str) -> None:
    image = picture(1)
    changed = {
        "jpeg": lambda: encoded(image, "JPEG", quality=50),
        "larger": lambda: encoded(image.resize((150, 150), Image.Resampling.BICUBIC), "PNG"),
        "brighter": lambda: encoded(image.point(lambda value: min(255, value + 3)), "PNG"),
    }[change]()
    first, second = entry(tmp_path, "a.png", encoded(image, "PNG")), entry(tmp_path, "b.png", changed)
    assert near_duplicates(tmp_path, [first, second]) == {"b.png": "a.png"}
    assert near_duplicates(tmp_path, [first], [second]) == {"a.png": "b.png"}


def test_one_composition_in_other_colours_is_another_picture(tmp_path: Path) -> None:
    """Drawn scenes of one kind share their composition, so the hash alone would call them copies."""
    image = picture(1)
    shifted = Image.fromarray(np.clip(np.asarray(image, int) + np.array([40, -10, -12]), 0, 255).astype(np.uint8))
    first, second = entry(tmp_path, "a.png", encoded(image, "PNG")), entry(tmp_path, "b.png", encoded(shifted, "PNG"))
    assert bin(int(str(first.phash), 16) ^ int(str(second.phash), 16)).count("1") <= HASH_DISTANCE
    assert near_duplicates(tmp_path, [first, second]) == {}


def test_different_pictures_are_not_near(tmp_path: Path) -> None:
    entries = [entry(tmp_path, f"{index}.png", encoded(picture(index), "PNG")) for index in range(60)]
    assert near_duplicates(tmp_path, entries) == {}
    assert near_duplicates(tmp_path, [], entries) == near_duplicates(tmp_path, entries, []) == {}
