"""Loads models in transformers' layout from a folder or the hub: only safetensors, and only complete weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.content import digest_folder
from components.core.errors import InputError, ServiceUnreachable, first_line
from components.core.model_ref import local_model


@dataclass(frozen=True)
class Source:
    """Where a model is read from: ``folder``, or ``model`` on the hub. Errors call it ``where`` and ``what``, such as "a CLIP"."""

    model: str
    revision: str | None
    folder: Path | None
    where: str
    what: str
    expected: str

    @classmethod
    def find(cls, model: str, revision: str | None, field: str, what: str, expected: str) -> Source:
        """The source of ``pocket``, a folder or a hub id; ``field`` is the setting that names it. Raises InputError for anything else."""
        folder = local_model(model, field)
        return cls(model, None if folder else revision, folder, f"{field}={model}", what, expected)

    @property
    def name(self) -> str:
        """The model's name for people."""
        return self.folder.name if self.folder and self.model != "pocket" else self.model

    def digest(self, loaded: Any) -> str:
        """An identifier that changes whenever the model does: a digest of the folder's files, or the commit that was ``loaded``."""
        return digest_folder(self.folder) if self.folder else f"{self.model}@{commit(loaded)}"

    def load(self, loader: Callable[..., Any], **options: Any) -> Any:
        """Load from this source with ``loader``, a ``from_pretrained`` method.

        Raises:
            InputError: what it loads is missing, pickled, damaged or of another network, or needs a package that is not installed.
            ServiceUnreachable: the source is a hub id and the hub does not answer.
        """
        from safetensors import SafetensorError

        try:
            return loader(str(self.folder or self.model), revision=self.revision, **options)
        except ImportError as error:
            problem = f"{self.what} that needs a package that is not installed ({first_line(error)})"
            raise InputError(self.where, problem, remedy="install it, or use another model") from error
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = first_line(error)
            if isinstance(error, ConnectionError) or "connect" in reason.lower() or "offline" in reason.lower():
                raise ServiceUnreachable(self.where, f"the hub does not answer ({reason})", remedy="name a local folder instead") from error
            raise self._unusable(reason) from error

    def check_weights(self) -> None:
        """Raise InputError, as :meth:`load` does, if the source is a folder without safetensors."""
        if self.folder and not any(self.folder.glob("*.safetensors")):
            raise self._unusable("the folder has no .safetensors file")

    def _unusable(self, reason: str) -> InputError:
        return InputError(
            self.where, f"cannot be loaded as {self.what} ({reason})", expected=self.expected,
            remedy="convert pickled weights to safetensors first: pickles can run code and are refused",
        )  # fmt: skip

    def load_model(self, loader: Callable[..., Any], may_lack: tuple[str, ...] = (), **options: Any) -> tuple[Any, list[str]]:
        """Load a model in float32 for inference; also returns the names of missing weights, all of which begin with one of ``may_lack``.

        Raises:
            InputError: as for :meth:`load`, or other weights are missing, which transformers would initialise at random.
        """
        with _quietly():
            model, info = self.load(loader, use_safetensors=True, output_loading_info=True, **options)
        missing = sorted(info["missing_keys"])
        if lacking := [name for name in missing if not name.startswith(may_lack)]:
            problem = f"weights of another network: {len(lacking)} of its tensors are missing, such as {lacking[0]}"
            raise InputError(self.where, problem, expected=self.expected)
        return model.eval().float(), missing


def commit(model: Any) -> str | None:
    """The commit of a model that came from the hub."""
    return getattr(model.config, "_commit_hash", None)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers' progress bar over weights and its list of unused ones out of the log, then restore its settings."""
    from transformers.utils import logging

    enabled, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if enabled:
            logging.enable_progress_bar()
