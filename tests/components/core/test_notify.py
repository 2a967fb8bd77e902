import logging
from collections.abc import Iterator

import pytest

from components.core.errors import InputError
from components.core.notify import WEBHOOK_VARIABLE, check_webhook, notify
from tests.servers import free_port
from tests.web_hook import Hook, web_hook


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with web_hook() as made:
        monkeypatch.setenv(WEBHOOK_VARIABLE, made.url)
        yield made


def test_a_message_is_slacks_json(hook: Hook) -> None:
    assert notify("anime: <b> & “more”")
    assert hook.messages == [("application/json", {"text": "anime: &lt;b&gt; &amp; “more”"})]
    assert notify("x" * 100_000)
    assert 100 < len(hook.messages[1][1]["text"]) < 5000


@pytest.mark.parametrize("status", [404, 500])
def test_a_refusal_is_a_warning_without_the_address(hook: Hook, status: int, caplog: pytest.LogCaptureFixture) -> None:
    hook.status = status
    with caplog.at_level(logging.DEBUG):
        assert not notify("hello")
    assert f"HTTP {status}" in caplog.text and WEBHOOK_VARIABLE in caplog.text and "secret-part" not in caplog.text


def test_a_slow_webhook_is_left(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    hook.delay = 2.0
    assert not notify("hello", seconds=0.2)
    assert "did not accept a message (ReadTimeout)" in caplog.text


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}/secret-part", "secret-part", "file:///secret-part", "http://[secret-part"])
def test_an_address_that_leads_nowhere_is_a_warning(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(WEBHOOK_VARIABLE, address.format(port=free_port()))
    assert not notify("hello")
    assert "did not accept a message" in caplog.text and "secret-part" not in caplog.text


def test_without_an_address_nothing_happens(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv(WEBHOOK_VARIABLE, raising=False)
    check_webhook(WEBHOOK_VARIABLE)
    assert not notify("hello") and not caplog.text


@pytest.mark.parametrize(("variable", "value"), [("https://hooks/secret-part", None), ("OTHER_HOOK", None), ("OTHER_HOOK", "secret-part")])
def test_a_wrong_variable_is_found_early_and_the_address_is_not_shown(
    variable: str, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTHER_HOOK", raising=False)
    if value is not None:
        monkeypatch.setenv(variable, value)
    with pytest.raises(InputError) as caught:
        check_webhook(variable)
    assert "secret-part" not in str(caught.value)
    monkeypatch.setenv("OTHER_HOOK", "https://hooks.example/secret-part")
    check_webhook("OTHER_HOOK")
