"""Reads workflows of GitHub and GitLab: their faults by our rules, and the shell lines of a job as the forge would run them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from components.core.paths import REPOSITORY

SCRIPTS = REPOSITORY / "infra" / "ci" / "scripts"
GITHUB = [*sorted((REPOSITORY / "infra" / "ci" / "github").glob("*.yml")), *sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))]
GITLAB = REPOSITORY / "infra" / "ci" / "gitlab" / ".gitlab-ci.yml"
EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
SECRET = re.compile(r"(?i)token|key|password|secret|credential|_ur[il]$")
FROM_HERE = "github.event.pull_request.head.repo.full_name == github.repository"


def load(text: str) -> dict[str, Any]:
    """A workflow; its ``on``, which YAML 1.1 reads as true, under ``on``."""
    data = yaml.safe_load(text)
    return {"on" if key is True else key: value for key, value in data.items()}


def faults(text: str) -> list[str]:
    """What a GitHub workflow does against our rules."""
    data = load(text)
    found = [f"trigger {name}" for name in ("pull_request_target", "workflow_run") if name in data["on"]]
    if data.get("permissions") != {"contents": "read"}:
        found.append("permissions of the workflow are not contents: read")
    if "concurrency" not in data:
        found.append("no concurrency group")
    if re.search(
        r"\bsecrets\.(\w+)", re.sub(r"\b(\w+): \$\{\{ secrets\.\1 \}\}|token: \$\{\{ secrets\.\w+ \|\| github\.token \}\}", "", text)
    ):
        found.append("a secret elsewhere than in a variable of its own name")
    for name, job in data["jobs"].items():
        found += [f"{name}: {fault}" for fault in [*_job_faults(job, data["on"]), *_step_faults(job)]]
    return found


def _job_faults(job: Mapping[str, Any], triggers: Mapping[str, Any]) -> Iterator[str]:
    if "timeout-minutes" not in job:
        yield "no timeout"
    secret = {name for step in job["steps"] for name, value in step.get("env", {}).items() if "secrets." in str(value)}
    if "env" in job:
        yield "variables for all steps"
    if secret and "write" in (job.get("permissions") or {}).values():
        yield "secrets and a right to write"
    if secret and "pull_request" in triggers and FROM_HERE not in str(job.get("if")):
        yield "secrets in pull requests from forks"


def _step_faults(job: Mapping[str, Any]) -> Iterator[str]:
    for step in job["steps"]:
        if "${{" in step.get("run", ""):
            yield "an expression in a script"
        for name, value in step.get("env", {}).items():
            if SECRET.search(name) and not EXPRESSION.fullmatch(str(value)):
                yield f"a literal {name}"
        action = step.get("uses", "")
        if action and not re.fullmatch(r"actions/[a-z-]+@v\d+|[\w./-]+@[0-9a-f]{40}", action):
            yield f"unpinned {action}"
        if action.startswith("actions/checkout@") and step.get("with", {}).get("persist-credentials") is not False:
            yield "a checkout that keeps its credentials"


def github_steps(workflow: Path, job: str) -> dict[str, dict[str, Any]]:
    """The steps of a job that run a script, by their names."""
    steps = load(workflow.read_text(encoding="utf-8"))["jobs"][job]["steps"]
    return {step["name"]: step for step in steps if "run" in step}


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
        self._bash(step["run"], ["-eo", "pipefail"], code, variables | {name: str(file) for name, file in files.items()} | more)
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
        self._bash("\n".join(lines), ["-eo", "pipefail"], code, variables | more)

    def _bash(self, text: str, options: list[str], code: int, variables: Mapping[str, str]) -> None:
        known = {**self.environment, **variables}
        done = subprocess.run(["bash", *options, "-c", text], cwd=self.folder, env=known, capture_output=True, text=True)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"


def plain_environment() -> dict[str, str]:
    """What every job finds: the path with our command, and nothing of the session that runs the test."""
    import sys

    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "GIT_CONFIG_NOSYSTEM": "1"}
