"""The jobs' own shell lines against a real ZenML server, with a service account's key, and a real MLflow server."""

import json
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.paths import REPOSITORY
from tests.infra.ci.workflows import Runner, github_steps, plain_environment
from tests.infra.ci.zenml_server import ZenServer, zenml_server
from tests.pipelines.test_end_to_end import Machine
from tests.servers import mlflow_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# What a model of three steps can reach, and what none can.
LENIENT = {"rules": [{"metric": "n", "at_least": 2}]}
STRICT = {"rules": [{"metric": "n", "at_least": 10_000}]}


@pytest.fixture
def zenml(tmp_path: Path) -> Iterator[ZenServer]:
    with zenml_server(tmp_path / "zenml") as server:
        yield server


class Team:
    """A team's repository with one tiny style."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder / "work", folder / "user"
        self.folder.mkdir()
        self.home.mkdir()
        Machine(self.folder)
        (self.folder / "styles" / "anime").mkdir(parents=True)
        shutil.move(self.folder / "config.yaml", self.folder / "styles" / "anime" / "config.yaml")
        for name, rules in {"lenient": LENIENT, "strict": STRICT}.items():
            (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(rules))
        (self.folder / "styleforge").symlink_to(REPOSITORY)
        (self.folder / ".gitignore").write_text("/styleforge\n/base\n/clip\n/.styleforge\n/results\n")
        self.git("init", "-q", "-b", "main")
        self.git("commit", "-q", "--allow-empty", "-m", "first")
        self.base = self.git("rev-parse", "HEAD")
        self.git("add", ".")
        self.git("commit", "-qm", "a style")

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout.strip()

    def models(self, uri: str) -> list[dict[str, Any]]:
        known = plain_environment() | {"HOME": str(self.home), "MLFLOW_TRACKING_URI": uri}
        done = subprocess.run(["styleforge", "models", "--json"], cwd=self.folder, env=known, check=True, capture_output=True, text=True)
        return list(json.loads(done.stdout.splitlines()[-1])["models"])

    def result(self, name: str) -> str:
        return (self.folder / "results" / "anime" / name).read_text(encoding="utf-8")


def test_a_pull_request_from_its_push_to_its_merge(zenml: ZenServer, tmp_path: Path) -> None:
    """Comments, pictures and a promotion by force are in test_scripts.py and tests/runs/test_promotion.py."""
    team = Team(tmp_path)
    variables = {"GITHUB_REPOSITORY": "team/styles", "GITHUB_RUN_ID": "77", "GITHUB_SERVER_URL": "https://forge.example.org"}
    values = defaultdict(
        str,
        {
            "github.event.pull_request.base.sha": team.base,
            "github.event.pull_request.number": "12",
            "vars.STYLEFORGE_GATE": "lenient.yaml",
            "secrets.ZENML_STORE_URL": zenml.url,
            "secrets.ZENML_STORE_API_KEY": zenml.key,
        },
    )
    runner = Runner(team.folder, plain_environment() | variables | {"HOME": str(team.home)}, values)
    steps, promote = github_steps("style-pull-request.yml", "run"), github_steps("promote.yml", "promote")["Promote"]
    with mlflow_server(tmp_path / "mlflow") as uri:
        values["secrets.MLFLOW_TRACKING_URI"] = uri
        (values["matrix.config"],) = json.loads(runner.github(github_steps("style-pull-request.yml", "list")["List"])["configs"])

        # The run is done, the gate would pass it, nothing is promoted yet.
        values["steps.run.outputs.name"] = runner.github(steps["Run"])["name"]
        (row,) = team.models(uri)
        assert row["aliases"] == ["pr-12"] and row["name"] == "styleforge-anime"
        assert "styleforge-anime version 1" in team.result("summary.md") and "](grid.png)" in team.result("summary.md")
        (run,) = zenml.get("runs?size=10&hydrate=true")["items"]
        assert run["body"]["user_id"] == zenml.account and run["body"]["status"] == "completed"
        kept = [file for place in (".styleforge", "results") for file in (team.folder / place).rglob("*") if file.is_file()]
        assert not [file for file in kept if zenml.key.encode() in file.read_bytes()]
        runner.github(steps["Show"])
        assert "Gate: ✓ passed" in (team.folder / "GITHUB_STEP_SUMMARY.txt").read_text(encoding="utf-8")

        # The next push meets a stricter gate, and so does the merge; then it passes.
        values["vars.STYLEFORGE_GATE"] = "strict.yaml"
        runner.github(steps["Run"], code=3)
        assert "Gate: ✗ refused" in team.result("summary.md")
        assert set(json.loads(team.result("result.json"))["cached"]) == set(json.loads(team.result("result.json"))["seconds"])
        runner.github(promote, code=3)
        values["vars.STYLEFORGE_GATE"] = "lenient.yaml"
        runner.github(promote)
        assert [row["aliases"] for row in team.models(uri)] == [["champion", "pr-12"]]

    # Services that are gone, and a key that is not taken.
    runner.github(promote, code=4)
    values |= {"secrets.ZENML_STORE_API_KEY": "ZENKEY_wrong", "secrets.MLFLOW_TRACKING_URI": ""}
    runner.github(steps["Run"], code=2)
    assert "refuses the credentials" in team.result("summary.md")
