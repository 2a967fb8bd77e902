import subprocess
import sys

import pytest

from components.core.paths import REPOSITORY
from infra import install
from infra.install import uv_environment

LISTED = """\
:env:.find-links='/from/environment'
global.cert='/ca.pem'
global.extra-index-url='https://one/simple\\nhttps://two/simple'
global.find-links='/wheels /more'
install.index-url='https://mirror/simple'
global.quiet='1'
"""


def test_uv_is_told_what_pip_is_told() -> None:
    told = uv_environment(LISTED, {"HOME": "/home"})
    assert told == {
        "HOME": "/home",
        "SSL_CERT_FILE": "/ca.pem",
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_FIND_LINKS": "/from/environment",
        "UV_INDEX": "https://one/simple https://two/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_what_uv_is_told_itself_wins() -> None:
    told = uv_environment(LISTED, {"UV_FIND_LINKS": "/mine", "UV_INDEX_STRATEGY": "first-index"})
    assert (told["UV_FIND_LINKS"], told["UV_INDEX_STRATEGY"]) == ("/mine", "first-index")


@pytest.mark.parametrize(("status", "tool"), [(0, "uv"), (1, "pip")])
def test_pip_installs_where_uv_cannot_be_had(monkeypatch: pytest.MonkeyPatch, status: int, tool: str) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, status if command[-1] == "uv" else 0, stdout="")

    monkeypatch.setattr(install.subprocess, "run", run)
    assert install.main(["-e", "."]) == 0
    assert ran[-1][1:4] == ["-m", tool, "pip" if tool == "uv" else "install"] and ran[-1][-2:] == ["-e", "."]


@pytest.mark.slow
def test_plain_pip_finds_what_is_pinned_installed() -> None:
    """`pip install -e '.[dev]' -c constraints.txt` resolves, and has nothing to add to what `make dev` installed."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-build-isolation", "-c", "constraints.txt", "-e", ".[dev]"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "Would install styleforge-0.1.0"
