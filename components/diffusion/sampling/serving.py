"""A style model behind MLflow's scoring server: prompts come in, pictures go out. MLflow finds ``_load_pyfunc`` by its name."""

from __future__ import annotations

import base64
import importlib.util
import logging
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from components.core.errors import InputError, first_line
from components.core.model_card import read_card, sampling_settings
from components.core.model_ref import EMBEDDED_BASES
from components.core.paths import REPOSITORY, embedded_weights, read_jsonl
from components.diffusion.models.bundle import Bundle, load_bundle
from components.diffusion.models.deltas import is_delta, read_delta
from components.diffusion.models.sources import locate
from components.diffusion.sampling.guidance import formula_of
from components.diffusion.sampling.jobs import PromptRequest
from components.diffusion.sampling.limits import PREFIX, Limits, Request, check_request
from components.diffusion.sampling.requests import prompt_requests
from components.diffusion.sampling.sampler import sample_bank

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.exceptions import MlflowException

BASE = "STYLEFORGE_SERVE_BASE"
TIMEOUT = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
_logger = logging.getLogger(__name__)


def _load_pyfunc(path: str) -> StyleModel:
    """Load a model from its folder, for MLflow."""
    return StyleModel(Path(path))


class StyleModel:
    """A loaded style model that draws as ``styleforge sample`` does, one request at a time.

    Raises:
        InputError: the folder is not a whole model, its base is missing, or a limit is not a positive whole number.
        ServiceUnreachable: the base is on a hub that does not answer.
    """

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self._limits = limits or Limits.from_environment()
        self._card = read_card(folder)
        self._own = sampling_settings(self._card, {"batch_size": self._limits.batch})
        formula = formula_of(self._own)
        needs_base = is_delta(folder) or bool(formula.base_branches)
        self._bundle: Bundle = load_bundle(folder, base=_find_base(folder) if needs_base else None)
        if formula.base_branches:
            _logger.info("guided by its base too, digest %s", self._bundle.frozen.digest[:16])
        self._scaled = formula.scaled
        # Every picture names its model by this digest, and hashing gigabytes belongs in the start-up, not in somebody's first request.
        _logger.info("serving %s, digest %s, on %s", folder, self._bundle.digest[:16], self._bundle.family.device)
        self._turn = threading.Lock()

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Draw ``count`` pictures of every prompt.

        ``model_input`` has the column ``prompt``; ``params`` are those of :func:`components.diffusion.sampling.limits.check_request`.

        Returns:
            One row per picture, in the order of the prompts: ``prompt``, ``full_prompt``, ``seed`` (the picture's own, derived
            from the request's), ``width`` and ``height`` in pixels, and ``image``, a PNG in base64.

        Raises:
            MlflowException: status 400 for a request out of bounds, 429 if memory runs out, 503 if the request times out before
                its turn comes, 500 for anything else.
        """
        try:
            request = check_request(
                list(model_input["prompt"]),
                params or {},
                self._bundle.family.drawing(self._own),
                self._bundle.family.picture_size(self._own),
                self._limits,
                scaled=self._scaled,
            )
            requests = prompt_requests(self._card, self._own, request.prompts)
            with self._in_turn():
                self._check_lengths(requests)
                try:
                    rows = self._draw(requests, request)
                # What goes wrong in drawing is not the client's fault, but MLflow would answer 400, with a stack trace.
                except torch.OutOfMemoryError as error:
                    _logger.exception("out of memory")
                    raise _answer(429, f"too little memory for a batch; the server's operator can set {PREFIX}BATCH") from error
                except Exception as error:
                    _logger.exception("drawing failed")
                    raise _answer(500, f"drawing failed ({type(error).__name__}: {first_line(error)})") from error
        except InputError as error:
            raise _answer(400, str(error)) from error
        return [row for prompt in request.prompts for row in rows[prompt]]

    def _check_lengths(self, requests: Sequence[PromptRequest]) -> None:
        """Refuse (InputError) a prompt whose end would be cut off, since nobody reads the server's warnings."""
        family = self._bundle.family
        for row, length in zip(requests, family.prompt_lengths([row.full_prompt for row in requests]), strict=True):
            if length > family.limit:
                raise InputError(
                    f"prompt {row.prompt[:40]!r}…", f"has {length} tokens as {row.full_prompt[:80]!r}…",
                    expected=f"at most {family.limit}, start and end included",
                )  # fmt: skip

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Admit one request at a time: the device has no capacity for more, and tokenizers are not thread-safe."""
        # By then the server has told the client that time is up, so drawing would only hold up those who still wait.
        seconds = float(os.environ.get(TIMEOUT) or -1)
        if not self._turn.acquire(timeout=seconds):
            raise _answer(503, f"busy with other requests for more than {seconds:g} s; try again later")
        try:
            yield
        finally:
            self._turn.release()

    def _draw(self, requests: Sequence[PromptRequest], request: Request) -> dict[str, list[dict[str, Any]]]:
        settings = self._own.model_copy(update={"repeats": request.count, "steps": request.steps, "guidance": request.guidance})
        drawn: dict[str, list[dict[str, Any]]] = {}
        height, width = self._bundle.family.picture_size(self._own)
        with tempfile.TemporaryDirectory(prefix="styleforge-") as name:
            out = sample_bank(self._bundle, requests, settings, request.seed, Path(name))
            for row in sorted(read_jsonl(out / "metadata.jsonl"), key=lambda row: int(row["repeat"])):
                answer = {key: row[key] for key in ("prompt", "full_prompt", "seed")} | {"width": width, "height": height}
                answer["image"] = base64.b64encode((out / row["file_name"]).read_bytes()).decode("ascii")
                drawn.setdefault(row["prompt"], []).append(answer)
        return drawn


def _answer(status: int, message: str) -> MlflowException:
    """An error that the scoring server passes on with this HTTP status and message."""
    from mlflow.exceptions import MlflowException, get_error_code

    return MlflowException(message, error_code=get_error_code(status))


def _find_base(folder: Path) -> Path:
    """The folder or file of a style model's base: where ``STYLEFORGE_SERVE_BASE`` points, else where it was in training."""
    delta = read_delta(folder)
    model = os.environ.get(BASE) or delta.model
    try:
        return _pocket_base(model) if model in EMBEDDED_BASES else locate(model, delta.revision)
    except InputError as error:
        raise InputError(
            str(folder), f"needs the base {delta.model}, which is missing ({error.where}: {error.problem})",
            expected="the base that it was trained on",
            remedy=f"set {BASE} to the base's folder" + (", or install StyleForge, which includes it" if model in EMBEDDED_BASES else ""),
        ) from error  # fmt: skip


def _pocket_base(model: str) -> Path:
    """The embedded weights. The code that comes with a registered model has none, so an installed StyleForge is looked for."""
    here = embedded_weights(EMBEDDED_BASES[model])
    if here.is_dir():
        return here
    # Not imported: that would put the installed code before the model's own.
    installed = importlib.util.find_spec("styleforge")
    if installed is None or installed.origin is None:
        raise InputError("styleforge", "is not installed")
    # The tree lies in the package (the wheel), or beside it (a clone).
    places = [folder / here.relative_to(REPOSITORY) for folder in Path(installed.origin).parents[:2]]
    return locate(str(next((place for place in places if place.is_dir()), places[0])))
