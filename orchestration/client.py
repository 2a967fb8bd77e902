"""ZenML's client: the store opened, the active stack, and runs with what they made."""

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
"""The flavor of the orchestrator that runs every step in this process."""

_JOINED = {"sample_bank": "join_pictures", "score": "score_joined"}


def connect() -> Client:
    """ZenML's client with its store open; the first use creates it."""
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
    """The components of the active stack as ``type.flavor``, such as ``orchestrator.local``."""
    from zenml.client import Client

    return {f"{kind.value}.{part.flavor_name}" for kind, parts in Client().active_stack_model.components.items() for part in parts}


def find_run(name: str) -> PipelineRunResponse | None:
    """The run of that name; None if ZenML has no record of it."""
    from zenml.client import Client

    try:
        return Client().get_pipeline_run(name, allow_name_prefix_match=False)
    except KeyError:
        return None  # It failed before ZenML had a record of it.


def output_folder(run: PipelineRunResponse, step: str) -> Path:
    """The folder that a step of a finished run made, or the step that joins its shards."""
    return output(run, step).path


def output(run: PipelineRunResponse, step: str) -> Folder:
    """The same with its content digest."""
    (artifacts,) = (run.steps.get(step) or run.steps[_JOINED[step]]).outputs.values()
    found: Folder = artifacts[0].load()
    return found


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does, cleanly; and SIGINT too where the process began with it ignored, as in a script's background.

    ZenML's handler comes before these while a step runs, and takes an ignored signal for a failure of its own.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = {signum: signal.signal(signum, stop) for signum in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # Not the main thread: signals are somebody else's.
        yield
        return
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
