"""Real servers on loopback for tests: PostgreSQL where one is installed, MLflow on SQLite or PostgreSQL."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from components.registry.tracking import check_reachable

START_SECONDS = 240.0
S3_KEY = "styleforge-test"


def free_port(host: str = "127.0.0.1") -> int:
    with socket.create_server((host, 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(answers: Callable[[], object], process: subprocess.Popen[bytes], what: str, log: Path | None = None) -> None:
    """Return as soon as ``answers()`` raises nothing; fail the test if the process ends or time runs out before."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answers()
            return
        except Exception:
            time.sleep(0.25)
    tail = log.read_text(errors="replace")[-2000:] if log and log.is_file() else ""
    pytest.fail(f"{what} did not start (exit code {process.poll()}): {tail}")


@contextlib.contextmanager
def background(
    command: list[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process of its own group, its output in a file; the whole group ends with the block."""
    log = folder / "output.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **(environment or {})}, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process, log
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


@contextlib.contextmanager
def mlflow_server(folder: Path, backend: str | None = None, workers: int = 1, host: str = "127.0.0.1") -> Iterator[str]:
    """A real MLflow server that serves artifacts; gives its URI. ``backend`` defaults to SQLite in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port(host)
    uri = f"http://{host}:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", str(workers)]
    command += ["--backend-store-uri", backend or f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
    with background(command, folder, {"MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(folder)}) as (process, log):
        wait_for(lambda: check_reachable(uri), process, "the MLflow server", log)
        yield uri


@contextlib.contextmanager
def s3_server(folder: Path, host: str = "127.0.0.1", bucket: str = "styleforge") -> Iterator[str]:
    """A server that speaks S3 (moto), with one bucket; gives its URL. It takes any key."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port(host)
    url = f"http://{host}:{port}"

    def make_bucket() -> None:
        import boto3
        from botocore.config import Config

        options = Config(connect_timeout=2, retries={"max_attempts": 0})
        client = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id=S3_KEY, aws_secret_access_key=S3_KEY, config=options
        )
        client.create_bucket(Bucket=bucket)

    with background([sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)], folder, {"HOME": str(folder)}) as (process, log):
        wait_for(make_bucket, process, "the S3 server", log)
        yield url


def _find(program: str) -> str | None:
    if found := shutil.which(program):
        return found
    return next((str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), reverse=True)), None)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL of its own on loopback; gives ``postgresql://…/mlflow``. Skips the test where none is installed."""
    initdb, server = _find("initdb"), _find("postgres")
    if not initdb or not server:
        pytest.skip("no PostgreSQL is installed")
    # It refuses to run as root; then its own user, or failing that nobody, must own the folder.
    user = None
    if os.getuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = next((name for name in ("postgres", "nobody") if name in names), None)
        if user is None:
            pytest.skip("PostgreSQL does not run as root, and there is no other user")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pg-") as name:
        folder = Path(name)
        data = folder / "data"
        data.mkdir()
        if user:
            for path in (folder, data):
                shutil.chown(path, user)
        options = {"user": user, "extra_groups": []} if user else {}
        subprocess.run(
            [initdb, "-D", str(data), "-U", "styleforge", "--auth=trust", "-N"], check=True, capture_output=True, cwd=folder, **options
        )
        port = free_port()
        command = [server, "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-c", "fsync=off"]
        with open(folder / "output.log", "wb") as output:
            process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, **options)
        try:
            wait_for(lambda: _create_database(port), process, "PostgreSQL", folder / "output.log")
            yield f"postgresql://styleforge@127.0.0.1:{port}/mlflow"
        finally:
            process.send_signal(2)
            process.wait(20)


def _create_database(port: int) -> None:
    import psycopg2

    with contextlib.closing(psycopg2.connect(host="127.0.0.1", port=port, user="styleforge", dbname="postgres")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE mlflow")
