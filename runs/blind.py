"""Makes blind pages from runs, folders or registered models, and scores the answers."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from components.core.content import digest_file
from components.core.errors import InputError, Problems
from components.core.paths import read_json, state
from components.evaluation.blind.page import KEY, PAGE, BlindPage, Kind, write_blind
from components.evaluation.blind.pairs import Candidate, match_artist, match_models, matches, role_of_category
from orchestration.environment import prepare_environment

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

_logger = logging.getLogger(__name__)
_LISTED = 5
"""Number of images that a message names."""


@dataclass
class Source:
    """One side of a page: a model's drawn images and, if it is a run, the artist's held-out images and StyleRef."""

    name: str
    drawn: list[Candidate]
    model: str | None = None
    model_digest: str | None = None
    held_out: list[Candidate] = field(default_factory=list)
    style_ref: list[Candidate] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return what the key records about this source."""
        return {"name": self.name, "model": self.model, "model_digest": self.model_digest}


@dataclass(frozen=True)
class BlindOptions:
    """What to ask: with one source, which image is the artist's; with two, ``ask``. ``reference`` is a folder of the artist's images."""

    sources: Sequence[str]
    out: Path
    reference: str | None = None
    pairs: int = 40
    seed: int = 0
    ask: Literal["style", "like"] | None = None


def make_page(options: BlindOptions) -> dict[str, Any]:
    """Write a blind page and its key into ``out``.

    A source is a run (its id, its folder under ``runs/``, or a file with the output of ``run --json``), a folder of drawn images, or a
    registered model (the images logged with it).

    Returns:
        ``page``, ``key``, ``kind``, ``pairs`` and ``matched_by`` (pairs by reason).

    Raises:
        InputError: there is no such source, there are no images by the artist to compare with, or the run learned from some of them,
            the sources share no prompt, or ``out`` is in use.
        ServiceUnreachable: ZenML or MLflow does not answer.
    """
    if len(options.sources) > 2:
        raise InputError("blind", f"{len(options.sources)} sources are given", expected="one, or two to compare")
    if options.ask and len(options.sources) == 1:
        raise InputError(f"--ask {options.ask}", "needs two sources", expected="no --ask: one source is compared with the artist")
    prepare_environment()
    reference = _read_folder(options.reference) if options.reference else []
    with tempfile.TemporaryDirectory(dir=state("scratch")) as scratch:
        sources = [_open(name, Path(scratch) / str(place)) for place, name in enumerate(options.sources)]
        page = _artist_page(sources[0], reference, options) if len(sources) == 1 else _models_page(sources, reference, options)
        key = write_blind(options.out, page)
    if len(page.pairs) < options.pairs:
        _logger.warning("there are images for %d pairs, not %d", len(page.pairs), options.pairs)
    return {
        "page": str(options.out / PAGE), "key": str(options.out / KEY), "kind": key["kind"], "pairs": len(page.pairs),
        "matched_by": dict(matches(page.pairs)),
    }  # fmt: skip


def score(key_file: Path, files: Sequence[Path], model: str | None = None) -> dict[str, Any]:
    """Score the answers in ``files``; with ``model``, log the result with that registered version, where the gate reads it.

    Returns:
        The result of :func:`components.evaluation.blind.votes.score_votes`, plus ``sources`` and ``logged`` (``name/version`` or None).

    Raises:
        InputError: a file is not a key or not a set of answers, the answers belong to another page, or one person has two files.
    """
    from components.evaluation.blind.votes import read_answers, read_key, score_votes

    key = read_key(key_file)
    result = score_votes(key, read_answers(key, files))
    logged = None
    if model is not None:
        from components.registry.tracking import open_tracking
        from components.registry.votes import log_votes

        prepare_environment()
        logged = log_votes(open_tracking(), model, key, result)
    return {**result, "sources": key["sources"], "logged": logged}


def _artist_page(source: Source, reference: Sequence[Candidate], options: BlindOptions) -> BlindPage:
    artist = list(reference) or source.held_out
    if not artist:
        raise InputError(
            source.name, "has no held-out images of the artist, and the training images may have been memorized",
            expected="a run with a held-out reference, by its id or result.json", remedy="or give images with --reference FOLDER",
        )  # fmt: skip
    _check_apart(reference, source, f"--reference {options.reference}")
    pairs = match_artist(artist, source.drawn, options.pairs, options.seed)
    style = [candidate.path for candidate in source.style_ref]
    return BlindPage("artist", pairs, style, {"model": source.as_json()}, options.seed)


def _check_apart(reference: Sequence[Candidate], source: Source, where: str) -> None:
    """Refuse images that are, byte for byte, in the run's StyleRef: the model may have memorized them."""
    learned = {digest_file(candidate.path): candidate.path.name for candidate in source.style_ref} if reference else {}
    found = [f"{image.path.name} is {known}" for image in reference if (known := learned.get(digest_file(image.path)))]
    if found:
        more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        raise InputError(
            where, f"contains images of the run's StyleRef ({'; '.join(found[:_LISTED])}{more})",
            expected="images that the model was not trained on", remedy="remove them from the folder",
        )  # fmt: skip


def _models_page(sources: Sequence[Source], reference: Sequence[Candidate], options: BlindOptions) -> BlindPage:
    kind: Kind = options.ask or "style"
    style = list(reference) or sources[0].style_ref or sources[1].style_ref
    if kind == "style" and not style:
        raise InputError(
            "blind", "neither source has StyleRef images to show the style", expected="a finished run, by its id or result.json",
            remedy="give some with --reference FOLDER, or ask which is liked better with --ask like",
        )  # fmt: skip
    first, second = sources
    pairs = match_models(first.drawn, second.drawn, options.pairs, options.seed)
    told = {"a": first.as_json(), "b": second.as_json()}
    return BlindPage(kind, pairs, [candidate.path for candidate in style], told, options.seed)


def _open(name: str, scratch: Path) -> Source:
    path = Path(name).expanduser()
    if (path / "metadata.jsonl").is_file():
        try:
            return Source(name, _drawn(path))
        except (ValueError, KeyError, TypeError) as error:
            what = "a folder that `styleforge sample` or a run drew"
            raise InputError(str(path / "metadata.jsonl"), "is not a list of drawn images", expected=what) from error
    if path.exists():
        return _of_run(_run_id(path), name)
    from orchestration.client import connect, find_run

    connect()
    if find_run(name) is not None:
        return _of_run(name, name)
    return _of_version(name, scratch)


def _run_id(path: Path) -> str:
    """Return the id of the run that a result file or run folder belongs to."""
    from runs.summary import read_answer

    expected = "a folder of drawn images, or a run's folder or result"
    if path.is_dir():
        if not (path / "result.json").is_file():
            raise InputError(str(path), "holds neither metadata.jsonl nor result.json", expected=expected)
        found = read_json(path / "result.json")
    else:
        found = read_answer(path)
    if not found.get("run_id") or found.get("status") != "completed":
        raise InputError(str(path), "is not from a completed run", expected=expected)
    return str(found["run_id"])


def _of_run(run_id: str, name: str) -> Source:
    from orchestration.client import connect, find_run, output, output_folder

    connect()
    run = find_run(run_id)
    if run is None:
        raise InputError(
            name, f"ZenML knows no run {run_id}", expected="a run on this ZenML store", remedy="see `zenml pipeline runs list`"
        )
    if not {"split", "sample_bank"} <= {*run.steps, *(["sample_bank"] if "join_pictures" in run.steps else [])}:
        raise InputError(name, "is a run that drew no images", expected="a completed run of `styleforge run`")
    source = Source(name, _drawn(output_folder(run, "sample_bank") / "style"))
    source.model_digest = output(run, "select" if "select" in run.steps else "fine_tune").digest
    if "register" in run.steps:
        registered = read_json(output_folder(run, "register") / "registration.json")
        source.model = f"{registered['name']}/{registered['version']}"
    source.held_out, source.style_ref = _artists(run)
    return source


def _artists(run: PipelineRunResponse) -> tuple[list[Candidate], list[Candidate]]:
    """Return the held-out images and the StyleRef of a run; no held-out images if StyleRef serves as the reference."""
    from components.styledata.manifest import Manifest
    from orchestration.client import output_folder

    style_set = output_folder(run, "caption" if "caption" in run.steps else "scan")
    manifest, split = Manifest.load(style_set), read_json(output_folder(run, "split") / "split.json")

    def of(name: str) -> list[Candidate]:
        return [
            Candidate(entry.file(style_set), entry.caption or "", entry.known_role[0], entry.concept) for entry in manifest.usable(name)
        ]

    return [] if split["reference_is_style_ref"] else of("reference"), of("style_ref")


def _of_version(reference: str, scratch: Path) -> Source:
    """Open a registered model through the images that were logged with it."""
    from components.registry.tracking import open_tracking
    from components.registry.versions import find_version
    from components.registry.votes import MODEL_DIGEST
    from runs.export import scored_pictures

    version = find_version(open_tracking(), reference)
    scratch.mkdir(parents=True)
    files = scored_pictures(str(version.run_id), scratch) if version.run_id else []
    drawn = [found for file in files if (found := _from_file(file))]
    if not drawn:
        raise InputError(reference, "has no images in MLflow", expected="a version that `styleforge run` registered")
    return Source(reference, drawn, f"{version.name}/{version.version}", version.tags.get(MODEL_DIGEST))


def _from_file(file: Path) -> Candidate | None:
    """Read a drawn image with its embedded metadata, which does not include its role; None if it has none."""
    import json

    from PIL import Image

    from components.diffusion.sampling.sampler import CHUNK

    try:
        with Image.open(file) as picture:
            about = json.loads(picture.info.get(CHUNK, "null"))
        return Candidate(file, str(about["prompt"]), prompt_id=str(about["prompt_id"]), number=int(about["repeat"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _drawn(folder: Path) -> list[Candidate]:
    from components.evaluation.pictures import read_pictures

    return [
        Candidate(picture.path, picture.prompt, role_of_category(picture.category), None, picture.prompt_id, picture.repeat)
        for picture in read_pictures(folder)
    ]


def _read_folder(name: str) -> list[Candidate]:
    """Read the artist's images in a folder, with their metadata."""
    from components.core.images import EXTENSIONS
    from components.styledata.metadata import Annotation, read_metadata
    from components.styledata.source import walk

    folder = Path(name).expanduser()
    files = [path for path in walk(folder) if PurePosixPath(path).suffix.lower() in EXTENSIONS] if folder.is_dir() else []
    if not files:
        raise InputError(f"--reference {name}", "is not a folder of images", expected="a folder of the artist's images")
    problems = Problems()
    notes = read_metadata(folder, problems)
    problems.raise_all()
    return [
        Candidate(folder / path, note.caption or "", note.role, note.concept) for path in files for note in [notes.get(path, Annotation())]
    ]
