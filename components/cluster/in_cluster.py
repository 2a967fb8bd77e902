"""Script for the probe's pod: examines the cluster from inside, with the standard library alone, and prints one line of JSON.

The pod runs this file's text, so nothing from StyleForge is imported at the top.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MARK = "styleforge-probe "
REQUEST = "STYLEFORGE_PROBE"
SECONDS = 6.0


def look(request: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the pod can report: its packages, our code, writable folders, and the services."""
    wanted: Mapping[str, str] = request["versions"]
    found = {name: version(name) for name in wanted}
    named = os.environ.get("MLFLOW_TRACKING_URI")
    services = together({
        "zenml": lambda: server(os.environ.get("ZENML_STORE_URL") or request.get("zenml"), "/health"),
        "mlflow": lambda: server(named or request.get("mlflow"), "/health"),
        "artifacts": lambda: artifacts(request.get("artifacts"), request.get("endpoint")),
    })  # fmt: skip
    return {
        "python": platform.python_version(),
        "missing": [name for name, there in found.items() if there is None],
        "other": {name: there for name, there in found.items() if there is not None and public(there) != public(wanted[name])},
        "code": code(),
        "folders": {name: writable(place) for name, place in folders().items()},
        "mlflow_named": bool(named),
        **services,
    }


def together(looks: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """The answers of all looks, run in parallel. A host name that does not resolve may take long, so the wait is limited."""
    answers: dict[str, Any] = {}

    def take(name: str) -> None:
        answers[name] = looks[name]()

    threads = [threading.Thread(target=take, args=(name,), daemon=True) for name in looks]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 1.5 * SECONDS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = {"ok": False, "said": f"no answer within {1.5 * SECONDS:.0f} s"}
    return {name: answers.get(name, late) for name in looks}


def version(name: str) -> str | None:
    """The installed version of a distribution; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def public(text: str) -> str:
    """A version without its local part, such as ``+cpu``."""
    return text.partition("+")[0]


def code() -> dict[str, Any]:
    """Whether StyleForge starts; ``ok`` is None if the image does not contain it, since ZenML can bring the code along."""
    if importlib.util.find_spec("styleforge") is None:
        return {"ok": None, "said": "not in the image"}
    done = subprocess.run([sys.executable, "-m", "styleforge", "--help"], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"ok": False, "said": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300]}
    return {"ok": True, "said": "starts"}


def folders() -> dict[str, str]:
    """The folders that a step writes to."""
    try:
        temporary = tempfile.gettempdir()
    except OSError:
        temporary = "/tmp"
    return {"temporary files": temporary, "home": os.environ.get("STYLEFORGE_HOME") or ".styleforge"}


def writable(place: str) -> dict[str, Any]:
    """Whether a folder exists or can be created, and a file can be written to it."""
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return {"ok": False, "said": f"{place}: {error.strerror}"}
    return {"ok": True, "said": place}


def server(address: str | None, path: str) -> dict[str, Any] | None:
    """Whether an HTTP server answers; None without an address, ``ok`` None if the address is not a server's."""
    if not address or urlsplit(address).scheme not in ("http", "https"):
        return {"ok": None, "said": address.partition(":")[0]} if address else None
    return ask(plain(address).rstrip("/") + path, "GET", plain(address))


def artifacts(root: str | None, endpoint: str | None) -> dict[str, Any] | None:
    """Whether the artifact store is usable: a folder must be writable, a bucket's server must answer, and not with 404."""
    if not root:
        return None
    parts = urlsplit(root)
    if parts.scheme in ("", "file"):
        # A folder created anew in the pod would not be the store.
        return writable(parts.path) if Path(parts.path).is_dir() else {"ok": False, "said": f"{parts.path}: no such folder in the pod"}
    if parts.scheme == "s3":
        base = plain(endpoint).rstrip("/") if endpoint else "https://s3.amazonaws.com"
        return ask(f"{base}/{parts.netloc}", "HEAD", root, absent="no such bucket")
    if parts.scheme == "gs":
        return ask(f"https://storage.googleapis.com/storage/v1/b/{parts.netloc}", "GET", root, absent="no such bucket")
    return {"ok": None, "said": f"{parts.scheme}: not checked"}


def plain(address: str) -> str:
    """An address without user name and password."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def ask(url: str, method: str, name: str, absent: str = "") -> dict[str, Any]:
    """Send one request. Any response will do, even a refusal, except a gateway error and, if ``absent`` gives its message, a 404."""
    context = ssl.create_default_context(cafile=os.environ.get("REQUESTS_CA_BUNDLE") or None)
    try:
        request = urllib.request.Request(url, method=method)
        with urllib.request.urlopen(request, timeout=SECONDS, context=context) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    except (OSError, ValueError) as error:
        return {"ok": False, "said": f"{name}: {str(getattr(error, 'reason', None) or error)[:200]}"}
    if status == 404 and absent:
        return {"ok": False, "said": f"{name}: {absent}"}
    return {"ok": status not in (502, 503, 504), "said": name if status < 500 else f"{name}: answers with status {status}"}


if __name__ == "__main__":
    print(MARK + json.dumps(look(json.loads(os.environ[REQUEST]))), flush=True)
