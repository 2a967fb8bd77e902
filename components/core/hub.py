"""The Hugging Face Hub: the commit that a branch or tag points to now, and the files of a pinned model."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from components.core.errors import InputError, ServiceUnreachable, first_line

COMMIT = re.compile(r"[0-9a-f]{40}")
BASE = "base.model"
UNUSED_WEIGHTS = ["*.fp16.safetensors", "*.fp16-*.safetensors", "*.non_ema.safetensors", "*consolidated*.safetensors", "original/*"]
"""Duplicates of the weights that are fetched: in half precision, without moving average, or in the layout of the model's authors."""


def current_commit(model: str, ref: str = "main") -> str:
    """The commit, 40 hex digits, that a branch or tag of a hub model points to now. Raises as :func:`fetch` does."""
    from huggingface_hub import HfApi

    with _hub_errors(model, ref):
        return str(HfApi().model_info(model, revision=ref).sha)


def fetch(model: str, revision: str | None, files: Collection[str], field: str = BASE) -> Path:
    """Fetch a hub model's ``files`` (glob patterns) at a pinned commit; returns their folder. ``field`` is the setting that names it.

    Raises:
        InputError: ``revision`` is not a full commit hash, there is no such model or commit, or it needs an accepted licence and a token.
        ServiceUnreachable: the hub does not answer.
    """
    if not revision or not COMMIT.fullmatch(revision):
        pin = f"run `styleforge base pin {model} --config FILE`, which writes today's"
        raise InputError(
            f"{field.removesuffix('.model')}.revision" if field.endswith(".model") else f"{field}_revision",
            f"{revision!r} does not pin {model}: a branch or tag can change under a finished run"
            if revision
            else f"missing for the hub model {model}",
            expected="a full commit hash of 40 hex digits",
            remedy=pin if field == BASE else f"copy one from https://huggingface.co/{model}/commits/main",
        )
    from huggingface_hub import snapshot_download

    with _hub_errors(model, revision, field):
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(files), ignore_patterns=UNUSED_WEIGHTS))


@contextlib.contextmanager
def _hub_errors(model: str, revision: str, field: str = BASE) -> Iterator[None]:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise InputError(
            f"{field}={model}", "the hub restricts it to accounts that accepted its licence", expected="a token of such an account",
            remedy=f"accept the licence at https://huggingface.co/{model}, then run `hf auth login` or set HF_TOKEN",
        ) from error  # fmt: skip
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise InputError(
            f"{field}={model}", f"not on the hub at {revision} ({first_line(error)})", expected="a public or accessible model"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise ServiceUnreachable(
            "huggingface.co", f"{model} cannot be fetched ({first_line(error)})", remedy="check the network, or give a local folder"
        ) from error
