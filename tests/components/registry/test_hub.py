from collections.abc import Iterator
from pathlib import Path

import pytest

from components.core.errors import InputError, ServiceUnreachable
from components.registry.hub import Hub, open_hub
from tests.hub_stand_in import HubStandIn, hub_stand_in

SECRET = "hf_" + "s" * 30


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    with hub_stand_in() as stand_in:
        monkeypatch.setenv("HF_TOKEN", SECRET)
        monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
        # The library reads it when it is imported, to check the addresses that it is given.
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", stand_in.url)
        yield stand_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out" / "unet").mkdir(parents=True)
    (tmp_path / "out" / "README.md").write_text("---\nlicense: other\n---\nhello\n")
    (tmp_path / "out" / "unet" / "weights.safetensors").write_bytes(bytes(1000))
    return tmp_path / "out"


def test_the_folder_is_sent_as_one_commit(hub: HubStandIn, folder: Path) -> None:
    address = open_hub("me/my-model").push(folder, "a model")
    assert address == f"{hub.url}/me/my-model"
    assert hub.committed == {"README.md": b"---\nlicense: other\n---\nhello\n", "unet/weights.safetensors": bytes(1000)}
    assert (hub.created["organization"], hub.created["name"]) == ("me", "my-model")
    assert {token for _, token, _ in hub.requests} == {f"Bearer {SECRET}"}
    assert not any(SECRET.encode() in body for _, _, body in hub.requests)
    assert SECRET not in repr(Hub("me/x", True, SECRET))
    assert open_hub("me/x").private and hub.created["visibility"] == "private"
    hub.requests.clear()
    open_hub("me/x", private=False).push(folder, "m")
    assert hub.created["visibility"] == "public"


def test_without_a_token_or_a_repository_nothing_is_asked(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x", "me/", "me/x/y", "https://huggingface.co/me/x", "me/x y", "/x"):
        with pytest.raises(InputError, match="OWNER/NAME"):
            open_hub(name)
    for value in (None, "", "  "):
        monkeypatch.delenv("HF_TOKEN") if value is None else monkeypatch.setenv("HF_TOKEN", value)
        with pytest.raises(InputError, match="no token in the environment variable HF_TOKEN"):
            open_hub("me/x")
    assert hub.requests == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_told_without_the_token(hub: HubStandIn, folder: Path, status: int) -> None:
    hub.status, hub.answer = status, f"you may not, {SECRET}"
    with pytest.raises(InputError, match="the hub refused") as caught:
        open_hub("me/x").push(folder, "m")
    assert SECRET not in str(caught.value) and str(folder) in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_hub_that_is_not_there(hub: HubStandIn, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ServiceUnreachable, match="was not pushed") as caught:
        open_hub("me/x").push(folder, "m")
    assert caught.value.exit_code == 4
