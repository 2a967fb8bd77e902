"""A real ZenML server on loopback, and a service account with an API key on it."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.servers import background, free_port, wait_for

ADMIN, PASSWORD = "admin", "a-password-for-tests"


@dataclass
class ZenServer:
    """The server's URL, and a service account's id and key."""

    url: str
    account: str = ""
    key: str = ""

    def _headers(self) -> dict[str, str]:
        answer = requests.post(f"{self.url}/api/v1/login", data={"username": ADMIN, "password": PASSWORD}, timeout=30)
        answer.raise_for_status()
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def get(self, path: str) -> Any:
        answer = requests.get(f"{self.url}/api/v1/{path}", headers=self._headers(), timeout=30)
        answer.raise_for_status()
        return answer.json()

    def add_account(self) -> None:
        headers = self._headers()
        account = {"name": "ci", "active": True}
        made = requests.post(f"{self.url}/api/v1/service_accounts", json=account, headers=headers, timeout=30)
        made.raise_for_status()
        self.account = made.json()["id"]
        keys = f"{self.url}/api/v1/service_accounts/{self.account}/api_keys"
        key = requests.post(keys, json={"name": "ci"}, headers=headers, timeout=30)
        key.raise_for_status()
        self.key = key.json()["body"]["key"]


@contextlib.contextmanager
def zenml_server(folder: Path, host: str = "127.0.0.1", port: int | None = None) -> Iterator[ZenServer]:
    """The server with passwords and keys, as ``zenml login --local`` would not start it; its database is SQLite in ``folder``.

    Started again in the same folder, and on the same port, it is the same server; the account is made the first time.
    """
    known = (folder / "output.log").is_file()
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port(host)
    server = ZenServer(f"http://{host}:{port}")
    environment = {
        "HOME": str(folder), "ZENML_CONFIG_PATH": str(folder / "config"), "ZENML_LOCAL_STORES_PATH": str(folder / "stores"),
        "ZENML_SERVER": "true", "ZENML_SERVER_AUTO_ACTIVATE": "true", "ZENML_SERVER_DEPLOYMENT_TYPE": "other",
        "ZENML_SERVER_JWT_SECRET_KEY": "outlives-a-restart" * 2,
        "ZENML_DEFAULT_USER_NAME": ADMIN, "ZENML_DEFAULT_USER_PASSWORD": PASSWORD, "ZENML_ANALYTICS_OPT_IN": "false",
    }  # fmt: skip
    command = [sys.executable, "-m", "uvicorn", "zenml.zen_server.zen_server_api:app", "--host", host, "--port", str(port)]
    with background(command, folder, environment) as (process, log):
        wait_for(lambda: requests.get(f"{server.url}/health", timeout=5).raise_for_status(), process, "the ZenML server", log)
        if not known:
            server.add_account()
        yield server
