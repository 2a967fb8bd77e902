"""Access to ZenML: the connected client, the active stack, and runs with their outputs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from components.core.errors import InputError, ServiceUnreachable, known_error
from orchestration.environment import prepare_environment, set_source_root

if TYPE_CHECKING:
    from zenml.client import Client
    from zenml.models import PipelineRunResponse

    from steps.io.artifacts import Folder

LOCAL = "orchestrator.local"
"""The orchestrator flavor that runs every step in this process."""

_JOINED = {"sample_bank": "join_pictures", "score": "score_joined"}


def connect() -> Client:
    """Return ZenML's client, connected to its store, which is created on first use.

    Raises:
        InputError: the server refuses the credentials.
        ServiceUnreachable: the server does not answer.
    """
    prepare_environment()
    set_source_root()
    from zenml.client import Client

    client = Client()
    try:
        _ = client.active_stack_model
        return client
    except Exception as error:
        said = f"{type(error).__name__} {error}"
        if any(word in said for word in ("CredentialsNotValid", "Authentication error", "AuthorizationException")):
            expected = "a valid ZENML_STORE_API_KEY, of an active account"
            raise InputError("ZenML server", "it refuses the credentials", expected=expected) from error
        if any(word in said for word in ("Connection", "Max retries", "timed out")):
            remedy = "start it, or unset ZENML_STORE_URL to work locally"
            raise ServiceUnreachable("ZenML server", "no answer", expected="a running server", remedy=remedy) from error
        if (known := known_error(error)) is not error:
            raise known from error
        raise


def stack_flavors() -> set[str]:
    """Return the components of the active stack as ``type.flavor``, such as ``orchestrator.local``."""
    from zenml.client import Client

    return {f"{kind.value}.{part.flavor_name}" for kind, parts in Client().active_stack_model.components.items() for part in parts}


def find_run(name: str) -> PipelineRunResponse | None:
    """Return the run of that name; None if ZenML has no record of it."""
    from zenml.client import Client

    try:
        return Client().get_pipeline_run(name, allow_name_prefix_match=False)
    except KeyError:
        return None  # It failed before ZenML recorded it.


def output_folder(run: PipelineRunResponse, step: str) -> Path:
    """Return the folder made by a step of a finished run, or by the step that joined its shards."""
    return output(run, step).path


def output(run: PipelineRunResponse, step: str) -> Folder:
    """Return the same folder as :func:`output_folder`, with its content digest."""
    (artifacts,) = (run.steps.get(step) or run.steps[_JOINED[step]]).outputs.values()
    found: Folder = artifacts[0].load()
    return found


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Within the block, make SIGTERM end the run cleanly, as Ctrl-C does.

    SIGINT is handled too, because a process started in the background of a script ignores it. While a step runs, ZenML's own handler
    runs first, and it treats an ignored signal as a failure of its own.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = {signum: signal.signal(signum, stop) for signum in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # Not the main thread, so signals cannot be handled here.
        yield
        return
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
