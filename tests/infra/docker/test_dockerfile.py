"""The Dockerfile, read and not built: stages, base, user, what is copied, and what can never get into an image."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess

import pytest

from components.core.paths import FLOORS, REPOSITORY

FILE = REPOSITORY / "infra" / "docker" / "Dockerfile"
Instruction = tuple[str, str]


def _parse(text: str) -> dict[str, tuple[str, list[Instruction]]]:
    """Stages by name: what each stands on, and its instructions."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    stages: dict[str, tuple[str, list[Instruction]]] = {}
    current = ""
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            if word == "FROM":
                base, _, current = rest.partition(" AS ")
                assert current and current not in stages, line
                stages[current] = (base, [])
            else:
                assert current, line
                stages[current][1].append((word, rest.strip()))
    return stages


STAGES = _parse(FILE.read_text(encoding="utf-8"))


def _all(target: str) -> list[Instruction]:
    """All instructions of a target, those of the stages below it first."""
    base, own = STAGES[target]
    return [*(_all(base) if base in STAGES else []), *own]


def _ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out: the last pattern that takes it, or a folder above it, decides."""
    parts = path.split("/")
    out = False
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            heads = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
            names = parts if pattern.startswith("**/") else heads
            if any(fnmatch.fnmatchcase(name, pattern.removeprefix("**/")) for name in names):
                out = not line.startswith("!")
    return out


def _environment(target: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for word, rest in _all(target) if word == "ENV" for pair in shlex.split(rest))


def test_targets_and_their_default() -> None:
    assert {"cpu", "cuda"} <= set(STAGES)
    assert list(STAGES)[-1] == "cpu"


def test_bases_are_pinned_to_a_full_version() -> None:
    bases = {base for base, _ in STAGES.values()} - set(STAGES)
    assert bases and all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base) for base in bases), bases


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_last_stage_is_for_running_only(target: str) -> None:
    instructions = _all(target)
    commands = " ".join(rest for word, rest in instructions if word == "RUN")
    assert not re.search(r"\b(apt-get|apt|gcc|git|curl|pip[^;&]* install)\b", commands.replace("install -d", "")), commands
    assert "uninstall" in commands
    assert [rest for word, rest in instructions if word == "USER"] == ["10001:10001"]
    assert "--uid 10001" in commands
    # Copied as root, so that the user that runs cannot change the code.
    assert all("--chown" not in rest and "--from=build" in rest for word, rest in instructions if word in ("COPY", "ADD"))


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_all_that_is_written_to_is_a_volume(target: str) -> None:
    values = _environment(target)
    volumes = re.findall(r'"([^"]+)"', next(rest for word, rest in _all(target) if word == "VOLUME"))
    assert {values[name] for name in ("STYLEFORGE_HOME", "HF_HOME", "TMPDIR")} == set(volumes)
    assert values["HOME"] in volumes and values["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_image_for_gpus_finds_the_driver_and_wants_a_gpu() -> None:
    """GKE mounts the driver's libraries there, and no program finds them by itself; other nodes put them where the linker looks."""
    values = _environment("cuda")
    assert "/usr/local/nvidia/lib64" in values["LD_LIBRARY_PATH"].split(":") and "/usr/local/nvidia/bin" in values["PATH"].split(":")
    assert values["PATH"].startswith("$PATH:") and values["STYLEFORGE_DEVICE"] == "cuda"
    assert not {"LD_LIBRARY_PATH", "STYLEFORGE_DEVICE"} & set(_environment("cpu"))


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_labels_health_and_command(target: str) -> None:
    words = dict(_all(target))
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", words["LABEL"]))
    assert {"title", "description", "licenses", "version", "revision"} <= labels
    assert '["styleforge"' in words["HEALTHCHECK"] and words["ENTRYPOINT"] == '["styleforge"]'


@pytest.mark.parametrize("stage", ["build-cpu", "build-cuda"])
def test_every_install_is_constrained(stage: str) -> None:
    runs = [part for word, rest in _all(stage) if word == "RUN" for part in rest.split("&&") if " install " in part]
    assert runs and all("-c constraints.txt" in run or "--no-deps -e ." in run for run in runs), runs
    assert any("-e '.[cluster]'" in run for run in runs)


def test_both_targets_copy_the_same_code() -> None:
    copied = [[rest for word, rest in STAGES[stage][1] if word == "COPY"] for stage in ("build-cpu", "build-cuda")]
    assert copied[0] == copied[1]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    sources = [s for _, own in STAGES.values() for word, rest in own if word == "COPY" and "--from" not in rest for s in rest.split()[:-1]]
    assert {*FLOORS, "configs", "zenml.yaml", "constraints.txt"} <= set(sources)
    for source in sources:
        assert (REPOSITORY / source).exists() and not _ignored(source), source
    assert not _ignored("components/evaluation/templates/report.html.j2") and not _ignored("components/pocket/weights/a.safetensors")


@pytest.mark.parametrize(
    "path",
    [".git/config", ".styleforge/zenml/credentials.yaml", ".venv/bin/python", "data/a.png", ".env", "configs/.env", "components/.env.local",
     "configs/server.key", "pipelines/ca.pem", "tests/a.py", "components/__pycache__/a.pyc", "id_rsa", "result.json"],
)  # fmt: skip
def test_secrets_and_state_stay_out(path: str) -> None:
    assert _ignored(path), path


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_make_builds_each_target(target: str) -> None:
    make = shutil.which("make")
    if not make:
        pytest.skip("make is not installed")
    # Under `make test` a make inherits flags, and prints the folder that it enters before the command.
    command = [make, "--no-print-directory", "-n", "image", f"TARGET={target}", "BUILDER=buildah"]
    outside = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, env=outside)
    words = shlex.split(done.stdout.replace("\\\n", " "))
    version = re.search(r'^version = "(.*)"', (REPOSITORY / "pyproject.toml").read_text(), re.M)
    assert version and words[:2] == ["buildah", "build"] and words[words.index("--target") + 1] == target
    assert words[words.index("--tag") + 1] == f"styleforge:{version[1]}-{target}"
    assert (REPOSITORY / words[words.index("--file") + 1]) == FILE
    assert {value.partition("=")[0] for value in words if "=" in value} == set(re.findall(r"^ARG (\w+)", FILE.read_text(), re.M)) - {
        "TORCH_INDEX"
    }
