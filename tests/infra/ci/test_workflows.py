"""The workflows keep to docs/how-to/ci.md (Rights), and name only what exists. Their form is for zizmor, shellcheck and actionlint."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.paths import REPOSITORY
from tests.infra.ci.workflows import GITHUB, GITLAB, SCRIPTS, jobs

SHELL = sorted(SCRIPTS.glob("*.sh"))
SECRETIVE = re.compile(r"(?i)token|key|password|secret|credential|_ur[il]$")
FROM_HERE = "github.event.pull_request.head.repo.full_name == github.repository"


def _linter(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([Path(sys.executable).with_name(name), *arguments], capture_output=True, text=True)


def _zizmor(*files: Path) -> subprocess.CompletedProcess[str]:
    return _linter(
        "zizmor", "--offline", "--persona", "pedantic", "--config", REPOSITORY / ".github" / "zizmor.yml", "--format", "plain", *files
    )


def test_linters_find_nothing() -> None:
    """zizmor: triggers, permissions, concurrency, pinned actions, kept credentials, expressions in scripts."""
    done = _zizmor(*GITHUB.values())
    assert done.returncode == 0, done.stdout + done.stderr
    done = _linter("shellcheck", "-x", "--source-path=SCRIPTDIR", *SHELL, REPOSITORY / ".ci" / "run")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", GITHUB)
def test_secrets_stay_where_they_are_needed(name: str) -> None:
    """A secret is a variable of one step, under its own name; its job may not write, and runs for nobody's fork."""
    text = GITHUB[name].read_text(encoding="utf-8")
    own_name = r"\b(\w+): \$\{\{ secrets\.\1 \}\}|token: \$\{\{ secrets\.\w+ \|\| github\.token \}\}"
    assert "secrets." not in re.sub(own_name, "", text)
    for job in jobs(name).values():
        assert "timeout-minutes" in job and "env" not in job
        variables = [item for step in job["steps"] for item in step.get("env", {}).items()]
        assert all("${{" in str(value) for key, value in variables if SECRETIVE.search(key))
        if any("secrets." in str(value) for _, value in variables):
            assert "write" not in job.get("permissions", {}).values()
            assert "pull_request:" not in text or FROM_HERE in job["if"]


def test_gitlab_holds_no_secret_and_promotes_by_hand_in_an_environment() -> None:
    data = yaml.safe_load(GITLAB.read_text(encoding="utf-8"))
    variables = [item for job in [data, *data.values()] if isinstance(job, dict) for item in (job.get("variables") or {}).items()]
    assert len(variables) > 5
    assert [name for name, value in variables if SECRETIVE.search(name) and not value.startswith("$")] == []
    assert data[".promote"]["environment"]
    for name in ("promote", "promote-by-hand"):
        assert data[name]["extends"] == ".promote"
        for rule in data[name]["rules"]:
            assert rule["when"] == "manual" and not rule["allow_failure"] and "$CI_DEFAULT_BRANCH" in rule["if"]


def test_secrets_that_are_not_set_are_taken_away() -> None:
    """A secret that is not set arrives empty, and must be gone before a library reads it."""
    names = [
        "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "ZENML_STORE_URL", "ZENML_STORE_API_KEY", "ZENML_ACTIVE_STACK_ID",
        "STYLEFORGE_HOME",
    ]  # fmt: skip
    script = '. "$0"; env | cut -d= -f1'
    given = {"PATH": "/usr/bin:/bin", **dict.fromkeys(names, ""), "MLFLOW_TRACKING_USERNAME": "kept"}
    done = subprocess.run(["bash", "-c", script, str(SCRIPTS / "lib.sh")], env=given, check=True, capture_output=True, text=True)
    assert "MLFLOW_TRACKING_USERNAME" in done.stdout.split() and not set(names) & set(done.stdout.split())
    steps: list[dict[str, Any]] = [step for name in GITHUB for job in jobs(name).values() for step in job["steps"]]
    passed = {name for step in steps for name, value in step.get("env", {}).items() if re.search(r"\b(secrets|vars)\.", str(value))}
    assert passed - set(names) == {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "STYLEFORGE_GATE"}
