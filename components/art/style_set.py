"""A family as a style set: StyleRef, an Aux pool from other families, and the rest as reference."""

import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.art.concepts import Dictionary, read_dictionary
from components.art.drawings import Drawing, read_family
from components.art.families import Family
from components.art.packages import needed, require
from components.art.raster import rasterize, require_resvg, trim
from components.core.content import derive_seed
from components.core.errors import InputError
from components.core.paths import atomic_folder, write_jsonl

STYLE_REF = {"character": 10, "background": 10}
"""Number of StyleRef pictures by role."""
POOL_ROLES = {"character": 2, "background": 1, "thing": 2}
"""The Aux pool's roles, in proportion. Things are included because StyleRef shows none: only the pool can keep the model from forgetting
them."""


@dataclass(frozen=True)
class Sizes:
    """The size of a style set: pixels a side, pictures in the pool, and pictures in the reference (None: all that are left).

    ``concepts`` are the names of the only concepts that may be shown (None: all). With ``trimmed`` every drawing fills its picture.
    """

    side: int = 512
    pool: int = 160
    reference: int | None = None
    concepts: Collection[str] | None = None
    trimmed: bool = False

    def drawings(self, family: Family, dictionary: Dictionary) -> dict[str, Drawing]:
        """The family's drawings that may be shown."""
        found = read_family(family, dictionary)
        return {name: drawing for name, drawing in found.items() if self.concepts is None or name in self.concepts}


def render_style_set(family: Family, others: Sequence[Family], out: Path, sizes: Sizes, *, seed: int = 0) -> dict[str, int]:
    """Write ``style_ref/``, ``aux_pool/``, ``reference/`` and ``metadata.jsonl`` into ``out``; returns the number of pictures in each.

    Every row of ``metadata.jsonl`` has ``file_name``, ``text``, ``role``, ``concept``, ``family``, ``license``, ``author`` and ``source``.

    Raises:
        InputError: ``out`` is not empty, a package is missing, no other family is given for the pool, a family has too few pictures of a
            role, or a drawing does not render.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(str(out), "exists and is not empty", expected="a new or empty folder", remedy="choose another --out, or remove it")
    if sizes.pool and not others:
        raise InputError("--pool-family", f"names only {family.name}", expected="another family", remedy="name one, or set --pool 0")
    require_resvg()
    require(needed([family, *others]))
    dictionary = read_dictionary()
    plan = _plan_style(family, dictionary, sizes, seed)
    if sizes.pool:
        plan["aux_pool"] = _plan_pool(others, dictionary, sizes, seed)
    with atomic_folder(out) as folder:
        rows = [row for split, drawings in plan.items() for row in _write(folder, split, drawings, sizes)]
        write_jsonl(folder / "metadata.jsonl", rows)
    return dict(Counter(row["file_name"].partition("/")[0] for row in rows))


def _write(folder: Path, split: str, drawings: Sequence[Drawing], sizes: Sizes) -> Iterator[dict[str, Any]]:
    (folder / split).mkdir()
    for drawing in drawings:
        name = f"{split}/{drawing.name}.png"
        rasterize(trim(drawing) if sizes.trimmed else drawing, sizes.side).save(folder / name)
        yield {"file_name": name, **_annotation(drawing, split)}


def _annotation(drawing: Drawing, split: str) -> dict[str, Any]:
    family, concept = drawing.family, drawing.concept
    # Captions in StyleRef and the reference say only what is shown; those in the pool also say "pictogram", so that this word keeps its
    # meaning apart from the style.
    text = f"a pictogram of {concept.words}" if split == "aux_pool" else concept.words
    rights = {"family": family.name, "license": family.license, "author": family.author, "source": family.source}
    return {"text": text, "role": concept.role, "concept": concept.name, **rights}


def _plan_style(family: Family, dictionary: Dictionary, sizes: Sizes, seed: int) -> dict[str, list[Drawing]]:
    drawings = sizes.drawings(family, dictionary)
    rng = random.Random(derive_seed(seed, "art", family.name, "style_ref"))
    style = [drawing for role, count in STYLE_REF.items() for drawing in _take(rng, family, drawings, role, count)]
    taken = {drawing.concept.name for drawing in style}
    rest = [drawing for name, drawing in drawings.items() if name not in taken]
    if sizes.reference is not None and sizes.reference < len(rest):
        rest = random.Random(derive_seed(seed, "art", family.name, "reference")).sample(rest, sizes.reference)
    return {"style_ref": style, "reference": rest}


def _plan_pool(others: Sequence[Family], dictionary: Dictionary, sizes: Sizes, seed: int) -> list[Drawing]:
    """The pool's drawings: as many from each family, and as many of each role in it, give or take one where it does not divide evenly."""
    turns = [role for role, turn in POOL_ROLES.items() for _ in range(turn)]
    quotas: dict[Family, dict[str, int]] = {family: dict.fromkeys(POOL_ROLES, 0) for family in others}
    for index in range(sizes.pool):
        quotas[others[index % len(others)]][turns[index // len(others) % len(turns)]] += 1
    found = []
    for family, quota in quotas.items():
        drawings = sizes.drawings(family, dictionary)
        rng = random.Random(derive_seed(seed, "art", family.name, "aux_pool"))
        found += [drawing for role, number in quota.items() for drawing in _take(rng, family, drawings, role, number)]
    return found


def _take(rng: random.Random, family: Family, drawings: Mapping[str, Drawing], role: str, count: int) -> list[Drawing]:
    fitting = [drawing for drawing in drawings.values() if drawing.concept.role == role]
    if len(fitting) < count:
        problem = f"has {len(fitting)} images of the role {role}"
        raise InputError(f"--family {family.name}", problem, expected=f"at least {count}", remedy="request fewer, or choose another family")
    return rng.sample(fitting, count)
