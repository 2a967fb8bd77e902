"""The workflows of GitHub and GitLab as data, and the shell lines of a job run as the forge would run them."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from components.core.paths import REPOSITORY

SCRIPTS = REPOSITORY / "infra" / "ci" / "scripts"
GITHUB = {file.name: file for place in ("infra/ci/github", ".github/workflows") for file in sorted((REPOSITORY / place).glob("*.yml"))}
GITLAB = REPOSITORY / "infra" / "ci" / "gitlab" / ".gitlab-ci.yml"
EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")


def jobs(workflow: str) -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(GITHUB[workflow].read_text(encoding="utf-8"))["jobs"])


def github_steps(workflow: str, job: str) -> dict[str, dict[str, Any]]:
    """The steps of a job that run a script, by their names."""
    return {step["name"]: step for step in jobs(workflow)[job]["steps"] if "run" in step}


@dataclass
class Runner:
    """Runs shell lines in a folder as a runner of the forge does.

    Args:
        folder: the working folder.
        environment: what the runner itself sets.
        values: what the expressions of GitHub come to.
    """

    folder: Path
    environment: Mapping[str, str]
    values: dict[str, str] = field(default_factory=dict)

    def github(self, step: Mapping[str, Any], code: int = 0, **more: str) -> dict[str, str]:
        """Run a step and give its outputs, after checking its exit code. An expression without a value is a mistake of the test."""
        files = {name: self.folder / f"{name}.txt" for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        files["GITHUB_OUTPUT"].write_text("")
        variables = {name: EXPRESSION.sub(lambda found: self.values[found[1]], str(value)) for name, value in step.get("env", {}).items()}
        self._bash(step["run"], code, variables | {name: str(file) for name, file in files.items()} | more)
        return dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())

    def gitlab(self, job: str, code: int = 0, **more: str) -> None:
        """Run a job's script, without what its template does before and without installing."""
        data = yaml.safe_load(GITLAB.read_text(encoding="utf-8"))
        variables: dict[str, str] = {}
        name: str | None = job
        while name:
            variables = data[name].get("variables", {}) | variables
            name = data[name].get("extends")
        known = {**self.environment, **more}
        variables = {key: re.sub(r"\$(\w+)", lambda found: known.get(found[1], ""), value) for key, value in variables.items()}
        lines = [line for line in data[job]["script"] if "install.sh" not in line]
        self._bash("\n".join(lines), code, variables | more)

    def _bash(self, text: str, code: int, variables: Mapping[str, str]) -> None:
        known = {**self.environment, **variables}
        done = subprocess.run(["bash", "-eo", "pipefail", "-c", text], cwd=self.folder, env=known, capture_output=True, text=True)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"


def plain_environment() -> dict[str, str]:
    """What every job finds: the path with our command, and nothing of the session that runs the test."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "GIT_CONFIG_NOSYSTEM": "1"}
