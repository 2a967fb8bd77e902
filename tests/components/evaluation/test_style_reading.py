import numpy as np
import pytest

from components.evaluation.metrics import Bootstrap
from components.evaluation.style_reading import Reading, read_style_and_content

ARTISTS, CONCEPTS = 4, 30
WHO = [f"artist {index}" for _ in range(CONCEPTS) for index in range(ARTISTS)]
WHAT = [f"concept {index}" for index in range(CONCEPTS) for _ in range(ARTISTS)]


def _features(style: float, content: float, noise: float = 0.5) -> np.ndarray:
    """Axes of artists and of concepts, and noise."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([style * np.repeat(np.eye(ARTISTS)[None], CONCEPTS, 0).reshape(-1, ARTISTS),
                           content * np.repeat(np.eye(CONCEPTS), ARTISTS, axis=0)], axis=1)  # fmt: skip
    return rows + noise * rng.normal(size=rows.shape)


def _read(features: np.ndarray) -> Reading:
    return read_style_and_content(features, WHO, WHAT, Bootstrap(resamples=200))


@pytest.mark.parametrize(
    ("style", "content", "reads"), [(9, 0, "style"), (0, 9, "content"), (99, 99, "both"), (0, 0, "neither")], ids=lambda value: str(value)
)
def test_what_features_read(style: float, content: float, reads: str) -> None:
    found = _read(_features(style, content))
    assert found.reads == reads
    assert (found.style_chance, found.content_chance) == (1 / ARTISTS, 1 / CONCEPTS)
    assert found.style.n == ARTISTS * CONCEPTS
    if reads == "style":
        assert found.style.value > 0.7 and found.content.value < 0.2
    if reads == "content":
        assert found.content.value > 0.9 and found.style.value < 0.5


def test_neighbours_by_hand() -> None:
    """Two artists, two concepts: each image's nearest of the other concept, and of the other artist, read off by eye."""
    features = np.array([[1.0, 0.1], [0.1, 1.0], [1.0, -0.2], [-1.0, -0.8]])
    found = read_style_and_content(features, ["a", "b", "a", "b"], ["x", "x", "y", "y"], Bootstrap(resamples=10))
    z = (features - features.mean(0)) / features.std(0)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    cosine = z @ z.T
    # Rows: a x, b x, a y, b y. For style each chooses between the two images of the other concept.
    style = [cosine[0, 2] > cosine[0, 3], cosine[1, 3] > cosine[1, 2], cosine[2, 0] > cosine[2, 1], cosine[3, 1] > cosine[3, 0]]
    content = [cosine[0, 1] > cosine[0, 3], cosine[1, 0] > cosine[1, 2], cosine[2, 3] > cosine[2, 1], cosine[3, 2] > cosine[3, 0]]
    assert found.style.value == np.mean(style) and found.content.value == np.mean(content)
    assert found.advantage.value == pytest.approx(2 * (found.style.value - found.content.value))


def test_scale_and_constant_features_do_not_matter() -> None:
    features = _features(2, 3)
    other = np.concatenate([features * np.linspace(0.01, 100, features.shape[1]) + 7, np.full((len(features), 1), 0.1)], axis=1)
    assert _read(other) == _read(features)


def test_plain_data() -> None:
    data = _read(_features(5, 0)).as_dict()
    assert data["reads"] == "style" and set(data["style"]) == {"value", "low", "high", "n", "chance"}
