"""Install into this Python's environment with uv from PyPI, or with pip if uv is not available.

    python infra/install.py [ARGUMENTS of `pip install`]

uv does not read pip's configuration, so the indexes, wheels and certificates configured for pip are passed on to it. uv's own
variables take precedence if they are set.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PIP = (sys.executable, "-m", "pip")
CONSTRAINTS = str(Path(__file__).resolve().parent.parent / "constraints.txt")
SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
}
"""pip's settings, each with uv's variable for it and the separator between its values."""


def uv_environment(listed: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` plus the settings ``listed`` by ``pip config list``, as variables that uv reads."""
    found: dict[str, str] = {}
    # pip's order, later ones winning: global settings in files, their settings for `pip install`, the environment.
    for scope in ("global.", "install.", ":env:."):
        for line in listed.splitlines():
            key, _, value = line.partition("=")
            if key.startswith(scope) and (setting := key.removeprefix(scope)) in SETTINGS:
                variable, separator = SETTINGS[setting]
                found[variable] = separator.join(str(ast.literal_eval(value)).split())
    # pip takes the best version from all indexes; by default, uv uses only the first index that has the name.
    return {"UV_INDEX_STRATEGY": "unsafe-best-match", **found, **environment}


def main(arguments: list[str]) -> int:
    """Install with ``arguments``; return the exit status of uv or pip."""
    quiet = ("--quiet", "--disable-pip-version-check")
    if subprocess.run([*PIP, "install", *quiet, "-c", CONSTRAINTS, "uv"], check=False).returncode:
        print("uv is not available; installing with pip, which takes some minutes", file=sys.stderr)
        return subprocess.run([*PIP, "install", *quiet, *arguments], check=False).returncode
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=True).stdout
    # Compile bytecode, as pip does: where Python may not write it, as in many containers, each command would compile all its imports.
    command = [sys.executable, "-m", "uv", "pip", "install", "--compile-bytecode", "--python", sys.executable, *arguments]
    return subprocess.run(command, env=uv_environment(listed, os.environ), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
