"""Fits the style reader and evaluates its verdict on data with known truth: the pocket world and real art.

``python benchmarks/set_verdict.py judge`` prints the figures in docs/science.md; ``fit`` writes the weights of the reader.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() not in (ROOT, ROOT / "benchmarks"))]

from components.core.content import derive_seed  # noqa: E402
from components.core.paths import state  # noqa: E402
from components.evaluation.brushwork import brushwork, palette_likeness, shading, square  # noqa: E402
from components.evaluation.metrics import Array  # noqa: E402
from components.evaluation.style_reader import WEIGHTS, Space, StyleReader, StyleReading, set_figures  # noqa: E402
from components.pocket.media import MEDIA, STYLES  # noqa: E402

FAMILIES = ("noto", "twemoji", "fluent-emoji-flat", "fluent-emoji-high-contrast", "emojione", "openmoji", "fxemoji", "streamline-emojis")
"""One family for each artist; of two versions of a family, the newer one."""
ROLES = ("character", "background")
OF_A_ROLE, SET, DRAWS = 60, 20, 50
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass
class Pool:
    """The features of all pictures, with the style and role of each."""

    styles: np.ndarray
    roles: np.ndarray
    palettes: Array
    brushwork: Array
    shading: Array

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(self.styles.tolist()))

    def draw(self, rng: np.random.Generator, styles: Sequence[str]) -> np.ndarray:
        """Draw the rows of a realistic set: half characters and half backgrounds, with the same number of each style."""
        count = SET // (len(ROLES) * len(styles))
        fits = [np.flatnonzero((self.styles == style) & (self.roles == role)) for style in styles for role in ROLES]
        return np.concatenate([rng.choice(found, count, replace=False) for found in fits])

    def reading(self, rows: np.ndarray, space: Space) -> StyleReading:
        return StyleReading(self.palettes[np.ix_(rows, rows)], space(self.brushwork[rows]), self.shading[rows])


def pool(name: str, pictures: Callable[[], list[tuple[str, str, np.ndarray]]]) -> Pool:
    file = state("tmp") / f"set-verdict-{name}.npz"
    if not file.exists():
        styles, roles, pixels = zip(*pictures(), strict=True)
        squares = list(pixels)
        np.savez(
            file,
            styles=styles,
            roles=roles,
            palettes=palette_likeness(squares).astype(np.float32),
            brushwork=brushwork(squares),
            shading=shading(squares),
        )
    with np.load(file, allow_pickle=False) as found:
        return Pool(**{key: found[key] for key in ("styles", "roles", "palettes", "brushwork", "shading")})


def pocket_pictures(names: Sequence[str]) -> list[tuple[str, str, np.ndarray]]:
    from components.pocket.render import plain_sample

    plan = [(name, role, index) for name in names for role in ROLES for index in range(OF_A_ROLE)]
    return [
        (name, role, square(plain_sample(derive_seed(7, "set-verdict", name, role, index), name, role).image)) for name, role, index in plan
    ]


def art_pictures() -> list[tuple[str, str, np.ndarray]]:
    import random

    from components.art.concepts import read_dictionary
    from components.art.drawings import read_family
    from components.art.families import FAMILIES as TABLE
    from components.art.raster import rasterize

    found, dictionary = [], read_dictionary()
    for name in FAMILIES:
        drawings = list(read_family(TABLE[name], dictionary).values())
        for role in ROLES:
            fitting = [drawing for drawing in drawings if drawing.concept.role == role]
            chosen = random.Random(derive_seed(7, "set-verdict", name, role)).sample(fitting, min(OF_A_ROLE, len(fitting)))
            found += [(name, role, square(rasterize(drawing, 128))) for drawing in chosen]
    return found


def media() -> Pool:
    return pool("media", lambda: pocket_pictures(list(MEDIA)))


def styles() -> Pool:
    return pool("styles", lambda: pocket_pictures(list(STYLES)))


def art() -> Pool:
    return pool("art", art_pictures)


@dataclass
class Sets:
    """The figures of sets, and the styles in each set."""

    figures: Array
    members: list[frozenset[str]]

    @property
    def one(self) -> np.ndarray:
        return np.array([len(member) == 1 for member in self.members])


def sets(source: Pool, space: Space, seed: int, alone: int, mixed: int, pairs: int | None = None) -> Sets:
    """Draw ``alone`` sets of each single style and ``mixed`` sets of each pair of styles, or of ``pairs`` random pairs."""
    rng = np.random.default_rng(derive_seed(seed, "sets") % 2**32)
    both = list(itertools.combinations(source.names, 2))
    both = [both[place] for place in rng.choice(len(both), pairs, replace=False)] if pairs else both
    plan = [*((name,) for name in source.names for _ in range(alone)), *(pair for pair in both for _ in range(mixed))]
    places = space(source.brushwork)
    rows = [source.draw(rng, members) for members in plan]
    figures = [set_figures(source.palettes[np.ix_(row, row)], places[row]) for row in rows]
    return Sets(np.stack(figures), [frozenset(members) for members in plan])


def fit_reader(space: Space, known: Sequence[Sets]) -> StyleReader:
    """Fit a logistic regression in which each source, and each answer within it, has the same weight."""
    from sklearn.linear_model import LogisticRegression

    rows, one = np.concatenate([each.figures for each in known]), np.concatenate([each.one for each in known])
    weights = np.concatenate([np.where(each.one, 0.5 / each.one.sum(), 0.5 / (~each.one).sum()) for each in known])
    centre, scale = rows.mean(axis=0), rows.std(axis=0)
    model = LogisticRegression(C=0.3, max_iter=800).fit((rows - centre) / scale, one, sample_weight=weights / weights.mean())
    return StyleReader(space, centre, scale, model.coef_[0], float(model.intercept_[0]))


def probabilities(reader: StyleReader, figures: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-((figures - reader.centre) / reader.scale @ reader.weights + reader.intercept))))


def without(found: Sets, names: set[str]) -> Sets:
    keep = [place for place, member in enumerate(found.members) if not member & names]
    return Sets(found.figures[keep], [found.members[place] for place in keep])


@app.command()
def fit() -> None:
    """Fit the space on the media, and the weights on sets of media and of families."""
    space = Space.fit(media().brushwork, media().styles.tolist())
    known = [sets(media(), space, 0, 12, 3, 120), sets(art(), space, 0, DRAWS, 16)]
    reader = fit_reader(space, known)
    reader.save(WEIGHTS)
    typer.echo(f"weights {np.round(reader.weights, 2).tolist()}, intercept {reader.intercept:.2f}: {WEIGHTS}")


@app.command()
def judge(seed: Annotated[int, typer.Option(help="Seed of the judged sets.")] = 1) -> None:
    """Sets of known truth; nothing that is judged was seen by what judges it."""
    space = Space.fit(media().brushwork, media().styles.tolist())
    of_media, of_art, of_styles = (
        sets(media(), space, 0, 12, 3, 120),
        sets(art(), space, seed, DRAWS, DRAWS),
        sets(styles(), space, seed, DRAWS, 20),
    )
    reader = fit_reader(space, [of_media, sets(art(), space, 0, DRAWS, 16)])
    found = probabilities(reader, of_styles.figures) >= 0.5
    typer.echo(f"pocket styles, alone: {_rate(found[of_styles.one])}; two mixed: {_rate(~found[~of_styles.one])}")
    known = sets(art(), space, 0, DRAWS, 16)
    alone: dict[str, list[bool]] = {name: [] for name in FAMILIES}
    mixed: dict[str, float] = {}
    everything: list[bool] = []
    for pair in itertools.combinations(FAMILIES, 2):
        reader = fit_reader(space, [of_media, without(known, set(pair))])
        found = probabilities(reader, of_art.figures) >= 0.5
        for name in pair:
            alone[name] += found[[member == {name} for member in of_art.members]].tolist()
        told = ~found[[member == set(pair) for member in of_art.members]]
        mixed[" + ".join(pair)] = float(told.mean())
        everything += told.tolist()
    for name, values in alone.items():
        typer.echo(f"{name}: {_rate(values)}")
    typer.echo(f"families alone: {_rate([value for values in alone.values() for value in values])}; two mixed: {_rate(everything)}")
    typer.echo(
        "pairs below 90 %: "
        + ", ".join(f"{pair} {100 * rate:.0f} %" for pair, rate in sorted(mixed.items(), key=lambda item: item[1]) if rate < 0.9)
    )


def _rate(values: Sequence[bool] | np.ndarray) -> str:
    return f"{100 * np.mean(values):.1f} % of {len(values)}"


@app.command()
def outliers(limit: Annotated[float, typer.Option(help="Limit, in robust standard deviations.")] = 5.0) -> None:
    """A photograph among drawings (of scikit-learn's two, 10 cuts each), and sets without any."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    reader, rng = StyleReader.load(), np.random.default_rng(3)
    cuts = []
    for image in load_sample_images().images:
        for _ in range(10):
            top, left = (int(rng.integers(0, side - 300)) for side in image.shape[:2])
            cuts.append(square(Image.fromarray(image[top : top + 300, left : left + 300])))
    photographs, shaded = reader.space(brushwork(cuts)), shading(cuts)
    for title, source in (("pocket styles", styles()), ("families", art())):
        named, clean, alarms = [], [], []
        for name in source.names:
            for number in range(DRAWS):
                reading = source.reading(source.draw(rng, [name]), reader.space)
                scores = reading.strangeness()
                clean.append(bool((scores > limit).any()))
                alarms.append(float((scores > limit).mean()))
                reading.places[0], reading.shading[0] = photographs[number % len(cuts)], shaded[number % len(cuts)]
                named.append(bool(reading.strangeness()[0] > limit))
        typer.echo(f"{title}: photograph named {_rate(named)}; sets with an image named wrongly {_rate(clean)}")
        typer.echo(f"images named wrongly: {100 * np.mean(alarms):.2f} %")


@app.command()
def base(media_count: Annotated[int, typer.Option(help="Number of media, asked for by name.")] = 10) -> None:
    """Separability: target styles, which the pocket base has never seen, and media that it has, asked for by name. And the VAE's ceiling.

    A threshold is set without the style or medium that it judges.
    """
    from components.core.config import builtin_config, load_config
    from components.diffusion.models.bundle import load_bundle
    from components.diffusion.sampling.jobs import PromptRequest
    from components.diffusion.sampling.round_trip import round_trip
    from components.diffusion.sampling.sampler import draw_pictures
    from components.evaluation.extractors.clip import ClipEncoder
    from components.evaluation.set_verdict import psnr, separability
    from components.pocket.captions import describe, in_grammar
    from components.pocket.render import plain_sample

    bundle, clip = load_bundle("pocket"), ClipEncoder("pocket")
    drawing = load_config(builtin_config("pocket")).sampling.model_copy(update={"negative_prompt": "", "batch_size": SET})
    rates: dict[str, float] = {}
    for name in [*STYLES, *list(MEDIA)[:media_count]]:
        plan = [(role, index) for role in ROLES for index in range(SET // 2)]
        samples = [plain_sample(derive_seed(11, "separability", name, *cell), name, cell[0]) for cell in plan]
        captions = [describe(sample.scene) for sample in samples]
        captions = [in_grammar(0, caption, name) for caption in captions] if name in MEDIA else captions
        trips = list(round_trip(bundle, [sample.image for sample in samples]))
        requests = [PromptRequest(f"{index:03d}", "", caption, caption) for index, caption in enumerate(captions)]
        drawn = [image for _, image in draw_pictures(bundle, requests, drawing, 1)]
        rates[name] = separability(clip.encode_images([returned for _, returned in trips]), clip.encode_images(drawn))
        ceiling = float(np.median([psnr(np.asarray(view), np.asarray(returned)) for view, returned in trips]))
        typer.echo(f"{name}: told from the base {rates[name]:.2f}, VAE {ceiling:.1f} dB")
    right = []
    for name, rate in rates.items():
        new = [value for other, value in rates.items() if other in STYLES and other != name]
        known = [value for other, value in rates.items() if other not in STYLES and other != name]
        threshold = max(rates.values(), key=lambda limit: min(np.mean(np.array(new) >= limit), np.mean(np.array(known) < limit)))
        right.append((rate >= threshold) == (name in STYLES))
    typer.echo(f"called correctly, with the threshold set on the others: {_rate(right)}")


if __name__ == "__main__":
    app()
