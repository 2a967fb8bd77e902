import pytest

from components.core.errors import InputError, ServiceUnreachable, StorageError, known_error
from orchestration.client import connect


def test_an_error_that_is_its_own_cause_comes_back() -> None:
    error = ValueError("no")
    error.__cause__ = error
    assert known_error(error) is error
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one
    assert known_error(one) is one


def test_our_error_is_found_behind_others() -> None:
    behind, full = InputError("a", "b"), OSError(28, "No space left on device", "file")
    error = RuntimeError("outer")
    error.__cause__ = behind
    assert known_error(error) is behind
    error.__cause__ = full
    assert isinstance(known_error(error), StorageError)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("Authentication error: could not verify key value for API key ci"), InputError),
        (ConnectionError("Max retries exceeded"), ServiceUnreachable),
        (ValueError("something else"), ValueError),
    ],
)
def test_zenml_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]) -> None:
    def fail(self: object) -> None:
        raise error

    monkeypatch.setattr("orchestration.client.prepare_environment", lambda: None)
    monkeypatch.setattr("zenml.client.Client.active_stack_model", property(fail))
    with pytest.raises(kind) as caught:
        connect()
    # What reports the error walks along its causes.
    assert isinstance(known_error(caught.value), kind)
