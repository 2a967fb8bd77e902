"""``styleforge restyle``: redraws a user's pictures in a learned style, with two baselines, scores and a page."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.config import CaptionsSection, SamplingSection
from components.core.content import digest_file, digest_value
from components.core.errors import InputError
from components.core.images import load_rgb
from components.core.logs import Advance, progress
from components.core.model_card import read_card, sampling_settings
from components.core.paths import state, storage_errors, write_json, write_jsonl
from orchestration.environment import prepare_environment
from runs.restyle_input import find_captions, find_pictures, find_style_ref

if TYPE_CHECKING:
    from numpy import ndarray

    from components.core.config import ScoringSection
    from components.diffusion.models.bundle import Bundle
    from components.diffusion.sampling.restyle import Content
    from components.diffusion.training.buckets import Size

RESULT, PAGE = "restyle.json", "restyle.html"
SOURCE, ADAIN, GRAM, RESTYLED = "source", "adain", "gram", "restyled"
FOLDERS = {SOURCE: "source", ADAIN: "adain", GRAM: "gram", RESTYLED: "images"}
"""Output folder of each version of the pictures."""


@dataclass(frozen=True)
class RestyleOptions:
    """What to restyle, and how.

    ``caption`` describes every picture and replaces the captions in ``metadata.jsonl``; ``captioner`` names the model that writes
    missing ones. ``style_set`` is the folder of the style's pictures; by default, the one that the registering run used. ``changes``
    override sampling settings; None values are ignored.
    """

    pictures: Sequence[Path]
    out: Path
    strength: float = 0.6
    keep_structure: bool = False
    caption: str | None = None
    captioner: CaptionsSection = field(default_factory=CaptionsSection)
    style_set: Path | None = None
    baselines: bool = True
    seed: int = 0
    changes: Mapping[str, Any] = field(default_factory=dict)


def restyle(model: str, options: RestyleOptions) -> dict[str, Any]:
    """Restyle pictures with a style model: a folder, or a registered ``name``, ``name@alias`` or ``name/version``.

    Writes into ``options.out``: ``images/``, and beside it ``source/`` (the cropped originals), ``adain/`` and ``gram/``;
    ``metadata.jsonl``, ``restyle.json`` and the page ``restyle.html``. Existing pictures that were made in the same way are kept.

    Returns:
        The content of ``restyle.json`` and the path of the ``page``: ``model``, ``style``, the settings, ``n`` (number of pictures),
        ``methods`` with the mean scores of each version, ``pictures`` with their files, prompts and scores, ``extractors``,
        ``confidence`` and ``notes``.

    Raises:
        InputError: a picture cannot be read, there are no pictures, two have the same name, the strength is out of range, there is no
            such model, or the baselines need a StyleRef and there is none. Nothing is written.
        ConfigError: a sampling setting is wrong.
        StorageError: the disk refused a write; finished pictures are kept.
    """
    prepare_environment()
    if not 0.0 <= options.strength <= 1.0:
        raise InputError(f"--strength {options.strength:g}", "is out of range", expected="a number from 0 (unchanged) to 1")
    pictures = find_pictures(options.pictures)
    captions = find_captions(pictures, options.caption, options.captioner)
    from components.evaluation.restyling import Judge
    from components.registry.versions import EVALUATION, resolve_model

    folder = resolve_model(model)
    card = read_card(folder)
    settings = sampling_settings(card, options.changes)
    with tempfile.TemporaryDirectory(dir=state("work")) as scratch:
        style_ref = find_style_ref(model, options.style_set, Path(scratch) / "style_set", needed=options.baselines)
        judge = Judge.of(folder / EVALUATION)
        drawn = _draw(folder, card, settings, dict(zip(pictures, captions, strict=True)), style_ref, judge.settings, options)
        found = judge.score(drawn.files, style_ref, options.seed)
    return _write(model, str(card.get("style") or model), drawn, found, options)


@dataclass(frozen=True)
class _Drawn:
    """The restyled pictures, the files of each version in the same order, and the settings that they were drawn with."""

    contents: Sequence[Content]
    files: Mapping[str, Sequence[Path]]
    about: Mapping[str, Any]


def _draw(
    folder: Path, card: Mapping[str, Any], settings: SamplingSection, captions: Mapping[Path, str], style_ref: Sequence[Path],
    scoring: ScoringSection, options: RestyleOptions,
) -> _Drawn:  # fmt: skip
    """Restyle the pictures and make the baselines, one picture size at a time."""
    from components.diffusion.models.bundle import load_bundle
    from components.diffusion.sampling.jobs import safe_name
    from components.diffusion.sampling.requests import picture_request
    from components.diffusion.sampling.restyle import Content, Manner, as_cut, group_by_size, restyle

    contents = [
        Content(path, digest_file(path), load_rgb(path).size, picture_request(card, settings, path.stem, caption))
        for path, caption in captions.items()
    ]
    bundle, manner = load_bundle(folder), Manner(options.strength, options.keep_structure)
    versions = [version for version in FOLDERS if options.baselines or version in (SOURCE, RESTYLED)]
    files = {
        version: {item: options.out / FOLDERS[version] / f"{safe_name(item.path.stem)}.png" for item in contents} for version in versions
    }
    with storage_errors(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    baselines = _baselines(bundle, style_ref, settings, scoring) if options.baselines else {}
    with progress("restyling", len(contents) * len(versions)) as advance:
        for size, group in group_by_size(bundle.family, contents, settings).items():
            _make(group, files[SOURCE], {"size": size}, lambda paths, size: [as_cut(path, size) for path in paths], 1, advance)
            places = {item.request.id: files[RESTYLED][item] for item in group}
            for count in restyle(bundle, group, size, settings, options.seed, manner, places):
                advance(count)
            for version, (about, make) in baselines.items():
                _make(group, files[version], {**about, "size": size}, make, settings.batch_size, advance)
    drawing = bundle.family.drawing(settings)
    about = {**vars(manner), "seed": options.seed, "steps": drawing.steps, "guidance": drawing.guidance, "scheduler": drawing.scheduler}
    return _Drawn(contents, {version: list(paths.values()) for version, paths in files.items()}, about)


Make = Callable[[Sequence[Path], "Size"], Iterable["ndarray"]]
"""Makes one picture, uint8 (H, W, 3), of the given size for each of the given files."""


def _make(
    contents: Sequence[Content], files: Mapping[Content, Path], about: Mapping[str, Any], make: Make, batch_size: int, advance: Advance
) -> None:
    """Write the missing pictures of one version and size, batch by batch; ``about`` is what the version depends on."""
    from components.diffusion.sampling import sampler

    abouts = {item: {**about, "size": list(about["size"]), "source": item.sha256} for item in contents}
    missing = [item for item in contents if not sampler.is_drawn(files[item], abouts[item])]
    advance(len(contents) - len(missing))
    for start in range(0, len(missing), batch_size):
        batch = missing[start : start + batch_size]
        for item, pixels in zip(batch, make([item.path for item in batch], about["size"]), strict=True):
            sampler.write_png(files[item], pixels, abouts[item])
        advance(len(batch))


def _baselines(
    bundle: Bundle, style_ref: Sequence[Path], settings: SamplingSection, scoring: ScoringSection
) -> dict[str, tuple[dict[str, Any], Make]]:
    """Return what each baseline depends on besides the picture, and a function that makes it; StyleRef is analysed on first use."""
    from PIL import Image

    from components.diffusion.sampling.restyle import as_cut, style_moments, transfer_moments
    from components.evaluation.extractors.vision import VisionExtractor
    from components.evaluation.gram_transfer import GramSettings, GramTransfer

    style = digest_value([digest_file(path) for path in style_ref])
    network, gram = VisionExtractor(scoring.extractor, scoring.extractor_revision), GramSettings()
    size = bundle.family.picture_size(settings)
    moments = cache(lambda: style_moments(bundle, style_ref, size))
    transfer = cache(lambda: GramTransfer(network, [load_rgb(path) for path in style_ref], gram, settings.batch_size))

    def by_moments(paths: Sequence[Path], size: Size) -> Iterable[ndarray]:
        return transfer_moments(bundle, paths, size, moments())

    def by_grams(paths: Sequence[Path], size: Size) -> Iterable[ndarray]:
        return transfer().transfer([Image.fromarray(as_cut(path, size)) for path in paths])

    return {
        ADAIN: ({"method": ADAIN, "model": bundle.digest, "style": style}, by_moments),
        GRAM: ({"method": GRAM, "extractor": network.id, "style": style, **asdict(gram)}, by_grams),
    }


def _write(model: str, style: str, drawn: _Drawn, found: Mapping[str, Any], options: RestyleOptions) -> dict[str, Any]:
    """Write ``metadata.jsonl``, ``restyle.json`` and the page, and return the result."""
    from components.evaluation.restyle_page import write_restyle_page

    rows = []
    for index, content in enumerate(drawn.contents):
        request = content.request
        scores = {version: {name: row and row[index] for name, row in found["images"][version].items()} for version in drawn.files}
        named = {version: str(paths[index].relative_to(options.out)) for version, paths in drawn.files.items()}
        rows.append({
            "file_name": named[RESTYLED], "original": str(content.path), "caption": request.prompt, "full_prompt": request.full_prompt,
            "files": named, "scores": scores,
        })  # fmt: skip
    uncaptioned = sum(not row["caption"] for row in rows)
    notes = [*found["notes"], *([f"images without a caption, drawn from the style's words alone: {uncaptioned}"] if uncaptioned else [])]
    result = {
        "model": model, "style": style, **drawn.about, "n": len(rows), "methods": found["methods"], "extractors": found["extractors"],
        "confidence": found["confidence"], "notes": notes, "pictures": rows,
    }  # fmt: skip
    write_jsonl(options.out / "metadata.jsonl", rows)
    write_json(options.out / RESULT, result)
    names, prompts = zip(*((item.path.name, item.request.full_prompt) for item in drawn.contents), strict=True)
    about = {"model": Path(model).name if Path(model).is_dir() else model, "style": style, **drawn.about}
    page = write_restyle_page(options.out / PAGE, names, prompts, drawn.files, {**found, "notes": notes}, about)
    return {**result, "page": str(page)}
