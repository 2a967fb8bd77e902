"""Draws with a finished model and maps its attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.config import RunConfig, SamplingSection, builtin_config, load_config
from components.core.config.guidance import NEGATIVE, PLAIN
from components.core.errors import InputError
from components.core.model_card import read_card, sampling_settings
from components.core.paths import read_json, read_jsonl, write_jsonl
from orchestration.environment import prepare_environment

if TYPE_CHECKING:
    from components.diffusion.sampling.jobs import PromptRequest


def demo_config(style: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Load the demo's configuration for a style of the pocket world."""
    return load_config(builtin_config("demo"), [f"style.name={style}", f"style.source={pocket_style(style)}", *overrides])


def pocket_style(style: str, folder: Path | None = None, reference: int = 400) -> Path:
    """Return the folder of a pocket-world style, rendered if it does not exist; ``folder`` defaults to ``data/pocket/<style>``.

    Raises:
        InputError: there is no such style.
    """
    folder = folder or Path("data") / "pocket" / style
    if not folder.is_dir():
        from components.pocket.render import render_dataset

        render_dataset(style, folder, reference=reference)
    return folder


def draw(
    model: str,
    prompts: Sequence[str],
    out: Path,
    *,
    repeats: int = 1,
    seed: int = 0,
    plain: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Draw pictures with a style model, with the settings it was scored with except for ``changes`` (None values are ignored).

    Args:
        model: a folder, or a registered ``name``, ``name@alias`` or ``name/version``.
        prompts: a prompt that contains an identifier is used as it is; others are put into the style's template.
        out: folder for ``images/`` and ``metadata.jsonl``; pictures drawn into it earlier stay listed.
        repeats: pictures for each prompt.
        plain: use the plain template and draw without the style.

    Returns:
        The ``path``, ``prompt``, ``full_prompt`` and ``seed`` of each picture.

    Raises:
        InputError: there is no such model, or a prompt is empty.
        ConfigError: a sampling setting is wrong.
    """
    prepare_environment()
    from components.diffusion.sampling.sampler import sample_bank

    folder, settings, requests = _requests(model, prompts, repeats, plain, changes or {})
    listing = out / "metadata.jsonl"
    before = read_jsonl(listing) if listing.is_file() else []
    sample_bank(folder, requests, settings, seed, out)
    drawn = read_jsonl(listing)
    names = {row["file_name"] for row in drawn}
    earlier = [row for row in before if row["file_name"] not in names and (out / row["file_name"]).is_file()]
    if earlier:
        write_jsonl(listing, sorted([*earlier, *drawn], key=lambda row: row["file_name"]))
    shown = ("prompt", "full_prompt", "seed")
    return [{"path": str(out / row["file_name"]), **{key: row[key] for key in shown if key in row}} for row in drawn]


def explain(
    model: str,
    prompt: str,
    words: Sequence[str],
    out: Path,
    *,
    seed: int = 0,
    plain: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Draw a picture as :func:`draw` does, and map where it attends to ``words`` of its prompt; no words means all but function words.

    Returns:
        ``folder``, ``picture`` and ``sheet`` (paths), ``full_prompt``, ``seed``, and ``words``, each with its ``path`` and figures.

    Raises:
        InputError: as for :func:`draw`, or a word is not in the prompt.
        ConfigError: a sampling setting is wrong.
    """
    prepare_environment()
    from components.diffusion.attention import heatmaps
    from components.diffusion.attention.capture import telling_words
    from components.diffusion.models.bundle import load_bundle
    from components.evaluation.grid import GridStyle, contact_sheet
    from components.evaluation.verdict import percent_range

    place, settings, (request,) = _requests(model, [prompt], 1, plain, changes or {})
    target = out / request.id
    mapped = [(request, words or telling_words(request.full_prompt))]
    folder = heatmaps.explain(load_bundle(str(place)), mapped, settings, seed, target)
    (row,) = read_json(folder / heatmaps.LISTING)["pictures"]
    pictures = [folder / row["file_name"], *(folder / word["file_name"] for word in row["words"])]
    captions = [row["full_prompt"], *(f"{word['word']}  {percent_range(word['lowest'], word['highest'])}" for word in row["words"])]
    sheet = contact_sheet(pictures, folder / "sheet.png", columns=4, captions=captions, style=GridStyle(cell=heatmaps.SMALLEST))
    words_found = [{**word, "path": str(folder / word["file_name"])} for word in row["words"]]
    found = {"folder": str(folder), "picture": str(pictures[0]), "sheet": str(sheet)}
    return {**found, "full_prompt": row["full_prompt"], "seed": row["seed"], "words": words_found}


def _requests(
    model: str, prompts: Sequence[str], repeats: int, plain: bool, changes: Mapping[str, Any]
) -> tuple[Path, SamplingSection, list[PromptRequest]]:
    """Return the model's folder, its sampling settings, and the prompts put into its template."""
    from components.diffusion.sampling.requests import prompt_requests
    from components.registry.versions import resolve_model

    folder = resolve_model(model)
    card = read_card(folder)
    own = sampling_settings(card)
    own = own.without_style() if plain else own
    _check_changes(changes, own)
    settings = sampling_settings(card, {**changes, "repeats": repeats})
    settings = settings.without_style() if plain else settings
    return folder, settings, prompt_requests(card, settings, prompts, plain=plain)


def _check_changes(changes: Mapping[str, Any], settings: SamplingSection) -> None:
    """Refuse (InputError) options that would have no effect because the model's guidance does not use them."""
    formula = settings.guidance_formula or PLAIN
    used = {"--guidance": formula.scaled, "--style-guidance": formula.splits, "--negative-prompt": formula.uses(NEGATIVE)}
    for option, is_used in used.items():
        if not is_used and changes.get(option.removeprefix("--").replace("-", "_")) is not None:
            raise InputError(option, f"plays no part in this model's guidance: {formula.as_text()}", expected="no such option, or --plain")
