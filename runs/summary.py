"""Summarizes a run and its gate in files that a pull request can show: a Markdown text, a picture grid and the report."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from components.core.errors import InputError
from components.core.paths import atomic_file, write_text
from orchestration.environment import prepare_environment

_logger = logging.getLogger(__name__)
TEXT, GRID, REPORT = "summary.md", "grid.png", "report.html"


def summarize(result_file: Path | None, gate_file: Path | None, out: Path, *, title: str = "", links: Sequence[str] = ()) -> dict[str, Any]:
    """Write ``summary.md`` and, for a finished run, ``grid.png`` and ``report.html`` into ``out``; return their paths, or None.

    Args:
        result_file: output of ``styleforge run --json``; its last line counts.
        gate_file: output of ``styleforge promote --json``, read the same way.
        out: created if missing.
        links: ``TEXT=URL``, for the last line of the text.

    Raises:
        InputError: neither file is given, a file is not such an output, or a link is not ``TEXT=URL``.
        ServiceUnreachable: ZenML's server does not answer.
    """
    prepare_environment()
    if result_file is None and gate_file is None:
        raise InputError("summary", "neither RESULT nor --gate is given", expected="the output of a run, of its gate, or both")
    result, gate = (None if file is None else read_answer(file) for file in (result_file, gate_file))
    more = [_link(text) for text in links]
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, Any] = {"grid": None, "report": None}
    found: list[tuple[str, str]] = []
    if result is not None and result.get("status") == "completed":
        files, found = _from_run(result, out)
    found += _model_link((result or gate or {}).get("model") or {})
    from components.evaluation.summary_text import summary_markdown

    text = summary_markdown(result, gate, title=title, grid=files["grid"] and GRID, links=[*found, *more])
    write_text(out / TEXT, text)
    return {"summary": str(out / TEXT), **files}


def read_answer(file: Path) -> dict[str, Any]:
    """Return the JSON object on the last line of a command's output; InputError if there is none."""
    try:
        answer = json.loads(file.read_text(encoding="utf-8").strip().rpartition("\n")[2])
    except OSError as error:
        raise InputError(str(file), f"cannot be read ({error.strerror})", expected="the output of a command with --json") from error
    except ValueError as error:
        raise InputError(str(file), "its last line is not JSON", expected="the output of a command with --json") from error
    if not isinstance(answer, dict):
        raise InputError(str(file), "its last line is not a JSON object", expected="the output of a command with --json")
    return answer


def _link(text: str) -> tuple[str, str]:
    name, separator, url = text.partition("=")
    if not (name and separator and url):
        raise InputError(f"--link {text}", "not of the form TEXT=URL", expected="for example log=https://ci.example.org/1")
    return name, url


def _from_run(result: Mapping[str, Any], out: Path) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Write the grid and the report into ``out`` and link the run's ZenML page; files not on this machine are skipped with a warning."""
    from orchestration.client import connect, find_run, output_folder

    connect()
    run = find_run(str(result.get("run_id")))
    files: dict[str, Any] = {"grid": None, "report": None}
    if run is None:
        _logger.warning("ZenML knows no run %s: the summary is written without images", result.get("run_id"))
        return files, []
    from zenml.utils.dashboard_utils import get_run_url

    from components.evaluation.grid import bank_grid

    try:
        pictures, base = output_folder(run, "sample_bank") / "style", output_folder(run, "sample_base")
        files["grid"] = str(bank_grid(pictures, base, out / GRID))
        with atomic_file(out / REPORT) as temporary:
            shutil.copyfile(output_folder(run, "report") / REPORT, temporary)
        files["report"] = str(out / REPORT)
    except (InputError, FileNotFoundError) as error:
        _logger.warning("the run's files are not on this machine, so the summary omits them (%s)", error)
    url = get_run_url(run)
    return files, [("run in ZenML", url)] if url else []


def _model_link(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    server = str(model.get("tracking_uri") or "").rstrip("/")
    if not server.startswith("http") or not model.get("name"):
        return []
    return [("model in MLflow", f"{server}/#/models/{quote(str(model['name']), safe='')}/versions/{model.get('version')}")]
