"""The examination of a style set: what is measured on its pictures, the findings, and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL.Image import Image

from components.core.config import ExamineSection
from components.core.errors import GateRefused
from components.core.images import load_rgb
from components.core.pages import thumbnail, write_page
from components.core.paths import read_json, write_json
from components.evaluation.extractors.base import Features
from components.evaluation.set_verdict import FEWEST, Finding, SetFigures, find, limit, psnr
from components.evaluation.style_reader import NAME, StyleReader
from components.evaluation.verdict import judge

FILE, PAGE = "examination.json", "examination.html"
_SIDE = 160


class ImageEncoder(Protocol):
    """Encodes what pictures show."""

    name: str

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, d) features of N RGB pictures."""
        ...


@dataclass
class SetPicture:
    """A StyleRef picture with its path, role and caption.

    ``view`` is what training sees of it, ``returned`` is that view after encoding and decoding by the base's VAE, and ``drawn`` is what the
    base draws for the caption; each is None if it was not made.
    """

    path: str
    role: str
    caption: str | None
    image: Image
    view: Image | None = None
    returned: Image | None = None
    drawn: Image | None = None


@dataclass(frozen=True)
class Examination:
    """The findings about a set of ``pictures`` StyleRef pictures; ``reader`` names the features that style is read from."""

    findings: tuple[Finding, ...]
    pictures: int
    reader: str

    @property
    def warnings(self) -> list[str]:
        """One line for each finding that speaks against the set."""
        return [finding.line() for finding in self.findings if finding.good is False]

    @property
    def headline(self) -> str:
        """The examination in one sentence."""
        against = [finding for finding in self.findings if finding.good is False]
        unknown = [finding for finding in self.findings if finding.good is None]
        if against:
            return "Look at the set first: " + " ".join(finding.says for finding in against)
        if len(unknown) == len(self.findings):
            return "Nothing could be measured on this set."
        return "This set can be learned" + (", as far as was measured." if unknown else ".")

    def as_json(self) -> dict[str, Any]:
        """The content of ``examination.json``."""
        findings = [asdict(finding) | {"pictures": [asdict(named) for named in finding.pictures]} for finding in self.findings]
        return {"headline": self.headline, "pictures": self.pictures, "reader": self.reader, "findings": findings}

    def raise_if_refused(self, hard: bool, page: Path | None = None) -> None:
        """Raise GateRefused if ``hard`` is set and findings speak against the set; the error names ``page``, which shows the pictures."""
        if hard and self.warnings:
            remedy = "change the set, or the thresholds of `examine`" + (f"; the images are shown in {page}" if page else "")
            raise GateRefused("style data", "\n".join(["the examination speaks against training", *self.warnings]), remedy=remedy)

    def write(self, folder: Path, style_set: Path) -> None:
        """Write ``examination.json`` and the self-contained page ``examination.html`` into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, self.as_json())
        page = {"examination": shown(self.as_json(), style_set)}
        write_page(folder / PAGE, Path(__file__).parent / "templates" / "examination.html.j2", page)


def examine_pictures(pictures: Sequence[SetPicture], settings: ExamineSection, content: ImageEncoder, *, asked_base: bool) -> Examination:
    """Examine a set; ``content`` encodes what the pictures show, ``asked_base`` says whether the base was used to encode and draw."""
    images = [picture.image for picture in pictures]
    reader = StyleReader.load()
    reading = reader.read(images)
    # The VAE blurs what the base draws, so StyleRef goes through it too; otherwise the VAE, and not the style, would tell the two apart.
    pairs = [(picture.returned, picture.drawn) for picture in pictures if picture.drawn is not None and picture.returned is not None]
    compared = content.encode_images([image for pair in pairs for image in pair]) if pairs else None
    figures = SetFigures(
        paths=[picture.path for picture in pictures],
        roles=[picture.role for picture in pictures],
        one_style=reader.one_style(reading) if len(pictures) >= FEWEST else None,
        order=reading.order(),
        strangeness=reading.strangeness(),
        content=content.encode_images(images),
        pairs=None if compared is None else (compared[::2], compared[1::2]),
        psnr=[
            psnr(np.asarray(picture.view), np.asarray(picture.returned))
            for picture in pictures
            if picture.view is not None and picture.returned is not None
        ],
        asked_base=asked_base,
    )
    return Examination(find(figures, settings), len(pictures), NAME)


def shown(found: Mapping[str, Any], style_set: Path) -> dict[str, Any]:
    """The content of ``examination.json`` for a page: each picture with a thumbnail, each finding with its figure as text and its state."""
    findings = []
    for finding in found["findings"]:
        pictures = [{**named, "picture": thumbnail(load_rgb(style_set / "images" / named["path"]), _SIDE)} for named in finding["pictures"]]
        state = {True: "passed", False: "warning", None: "unknown"}[finding["good"]]
        findings.append({**finding, "pictures": pictures, "state": state, "figure": figure_text(finding)})
    return {**found, "findings": findings}


def figure_text(finding: Mapping[str, Any]) -> str:
    """The figure beside its threshold, as text."""
    if finding["value"] is None:
        return "not measured"
    digits = 1 if finding["unit"] else 2
    figure = f"{finding['value']:.{digits}f} {finding['unit']}".strip()
    side = "at most" if finding.get("at_most") else "at least"
    return f"{figure} ({side} {finding['threshold']:.{digits}f}; n = {finding['n']})"


def what_limits(found: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    """One sentence on what limits a trained model, from the content of its ``examination.json`` and its ``scores.json``."""
    return limit(found["findings"], judge(dict(scores)).level)


def read_examination(folder: Path) -> dict[str, Any] | None:
    """Read a folder's ``examination.json``; None if the set was not examined."""
    return read_json(folder / FILE) if (folder / FILE).is_file() else None
