import fnmatch
import os
import re
import shlex
import shutil
import subprocess

import pytest

from components.core.paths import REPOSITORY
from infra.wheel import TREE

FILE = REPOSITORY / "infra" / "docker" / "Dockerfile"
Instruction = tuple[str, str]


def _parse(text: str) -> dict[str, tuple[str, list[Instruction]]]:
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


both = pytest.mark.parametrize("target", ["cpu", "cuda"])


@both
def test_the_last_stage_is_for_running_only(target: str) -> None:
    instructions = _all(target)
    commands = " ".join(rest for word, rest in instructions if word == "RUN").replace("install -d", "")
    assert "uninstall" in commands and not re.search(r"\b(apt-get|apt|gcc|git|curl|pip[^;&]* install)\b", commands), commands
    assert [rest for word, rest in instructions if word == "USER"] == ["10001:10001"] and "--uid 10001" in commands
    # Copied as root, so that the user that runs cannot change the code.
    assert all("--chown" not in rest and "--from=build" in rest for word, rest in instructions if word in ("COPY", "ADD"))
    assert dict(instructions)["ENTRYPOINT"] == '["styleforge"]'


@both
def test_all_that_is_written_to_is_a_volume(target: str) -> None:
    values = _environment(target)
    volumes = re.findall(r'"([^"]+)"', next(rest for word, rest in _all(target) if word == "VOLUME"))
    assert {values[name] for name in ("STYLEFORGE_HOME", "HF_HOME", "TMPDIR")} == set(volumes)
    assert values["HOME"] in volumes and values["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_image_for_gpus_finds_the_driver_and_wants_a_gpu() -> None:
    """GKE mounts the driver's libraries there, and no program finds them by itself; other nodes put them where the linker looks."""
    values = _environment("cuda")
    assert "/usr/local/nvidia/lib64" in values["LD_LIBRARY_PATH"].split(":") and values["PATH"] == "$PATH:/usr/local/nvidia/bin"
    assert values["STYLEFORGE_DEVICE"] == "cuda" and not {"LD_LIBRARY_PATH", "STYLEFORGE_DEVICE"} & set(_environment("cpu"))


def test_what_is_needed_is_copied_and_secrets_and_state_stay_out() -> None:
    needed = {*TREE, "styleforge/__init__.py", "components/evaluation/templates/a.j2", "components/bases/weights/a.json"}
    others = {
        ".git/config", ".styleforge/zenml/credentials.yaml", ".venv/bin/python", "data/a.png", ".env", "configs/.env", "id_rsa",
        "components/.env.local", "configs/server.key", "pipelines/ca.pem", "tests/a.py", "components/__pycache__/a.pyc", "result.json",
    }  # fmt: skip
    assert {path for path in needed | others if _ignored(path)} == others


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@both
def test_make_builds_each_target(target: str) -> None:
    # Under `make test` a make inherits flags, and prints the folder that it enters before the command.
    command = ["make", "--no-print-directory", "-n", "image", f"TARGET={target}", "BUILDER=buildah"]
    outside = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, env=outside)
    words = shlex.split(done.stdout.replace("\\\n", " "))
    assert words[:2] == ["buildah", "build"] and words[words.index("--target") + 1] == target
    assert re.fullmatch(rf"styleforge:[\d.]+-{target}", words[words.index("--tag") + 1])
    given = {value.partition("=")[0] for value in words if "=" in value}
    assert given == set(re.findall(r"^ARG (\w+)", FILE.read_text(), re.M)) - {"TORCH_INDEX"}
