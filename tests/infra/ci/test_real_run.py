"""The jobs' own shell lines against a real ZenML server, with a service account's key, and a real MLflow server."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from components.core.paths import REPOSITORY
from tests.infra.ci.forges import TOKEN, Forge, serve_forge
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


@pytest.fixture
def forge() -> Iterator[Forge]:
    with serve_forge() as made:
        yield made


class Team:
    """A team's repository with one tiny style, and its bare copy where the forge would keep it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        Machine(self.folder)
        (self.folder / "styles" / "anime").mkdir(parents=True)
        shutil.move(self.folder / "config.yaml", self.folder / "styles" / "anime" / "config.yaml")
        for name, rules in {"lenient": LENIENT, "strict": STRICT}.items():
            (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(rules))
        (self.folder / "styleforge").symlink_to(REPOSITORY)
        (self.folder / ".gitignore").write_text("/styleforge\n/base\n/clip\n/.styleforge\n/results\n")
        self.home = folder / "user"
        self.home.mkdir()
        self.git("init", "-q", "-b", "main")
        self.git("commit", "-q", "--allow-empty", "-m", "first")
        self.base = self.git("rev-parse", "HEAD")
        self.git("add", ".")
        self.git("commit", "-qm", "a style")
        self.bare = folder / "team" / "styles.git"
        subprocess.run(["git", "clone", "-q", "--bare", str(self.folder), str(self.bare)], check=True)
        # The forge's address leads to the bare copy.
        (self.home / ".gitconfig").write_text(f'[url "file://{folder}/"]\n\tinsteadOf = https://forge.example.org/\n')

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout.strip()

    def models(self, uri: str) -> list[dict[str, Any]]:
        known = plain_environment() | {"HOME": str(self.home), "MLFLOW_TRACKING_URI": uri}
        done = subprocess.run(["styleforge", "models", "--json"], cwd=self.folder, env=known, check=True, capture_output=True, text=True)
        return list(json.loads(done.stdout.splitlines()[-1])["models"])

    def holds(self, secret: str) -> list[Path]:
        """Files in the workspace, its home included, with a secret in them."""
        kept = [self.folder / name for name in (".styleforge", "results")]
        return [file for place in kept for file in place.rglob("*") if file.is_file() and secret.encode() in file.read_bytes()]


def _look_at_results(results: Path, verdict: str) -> None:
    text = (results / "summary.md").read_text(encoding="utf-8")
    result = json.loads((results / "result.json").read_text())
    assert f"styleforge-anime version {result['model']['version']}" in text
    assert f"| CLIP-I ↑ | {result['scores']['clip_i']['value']:.2f}".replace("-", "−") in text
    assert f"Gate: {verdict}" in text and "](grid.png)" in text
    with Image.open(results / "grid.png") as grid:
        assert grid.width > 300 and grid.height > 300
    assert b"<img" in (results / "report.html").read_bytes()


def test_a_pull_request_from_its_push_to_its_merge(zenml: ZenServer, forge: Forge, tmp_path: Path) -> None:
    team = Team(tmp_path)
    environment = plain_environment() | forge.github() | {"HOME": str(team.home)}
    values = {
        "github.event.pull_request.base.sha": team.base, "github.event.pull_request.number": "12", "github.token": TOKEN,
        "vars.STYLEFORGE_HOME": "", "vars.ZENML_ACTIVE_STACK_ID": "", "vars.STYLEFORGE_GATE": "lenient.yaml",
        "secrets.MLFLOW_TRACKING_USERNAME": "", "secrets.MLFLOW_TRACKING_PASSWORD": "", "secrets.MLFLOW_TRACKING_TOKEN": "",
        "secrets.ZENML_STORE_URL": zenml.url,
        "secrets.ZENML_STORE_API_KEY": zenml.key, "inputs.model": "", "inputs.to": "", "inputs.force": "", "inputs.reason": "",
    }  # fmt: skip
    runner = Runner(team.folder, environment, values)
    steps = github_steps("style-pull-request.yml", "run")
    comment = github_steps("style-pull-request.yml", "comment")["Comment"]
    promote = github_steps("promote.yml", "promote")["Promote"]

    with mlflow_server(tmp_path / "mlflow") as uri:
        values["secrets.MLFLOW_TRACKING_URI"] = uri
        listed = runner.github(github_steps("style-pull-request.yml", "list")["List"])
        (values["matrix.config"],) = json.loads(listed["configs"])

        # The pull request: the run is done, the gate would pass it, nothing is promoted yet.
        values["steps.run.outputs.name"] = runner.github(steps["Run"])["name"]
        _look_at_results(team.folder / "results" / "anime", "✓ passed")
        (row,) = team.models(uri)
        assert row["aliases"] == ["pr-12"] and row["name"] == "styleforge-anime"
        (run,) = zenml.get("runs?size=10&hydrate=true")["items"]
        assert run["body"]["user_id"] == zenml.account and run["body"]["status"] == "completed"
        assert team.holds(zenml.key) == []
        runner.github(steps["Show"])
        assert "Gate: ✓ passed" in (team.folder / "GITHUB_STEP_SUMMARY.txt").read_text(encoding="utf-8")
        runner.github(comment)

        # The next push meets a stricter gate: the job fails, and the comment says so instead.
        values["vars.STYLEFORGE_GATE"] = "strict.yaml"
        runner.github(steps["Run"], code=3)
        _look_at_results(team.folder / "results" / "anime", "✗ refused")
        result = json.loads((team.folder / "results" / "anime" / "result.json").read_text())
        assert set(result["cached"]) == set(result["seconds"])
        runner.github(comment, GITHUB_RUN_ID="78")
        (written,) = forge.comments
        assert forge.writes == ["POST", "PATCH"] and "Gate: ✗ refused" in written["body"]
        place = "pr-12/78-1/anime/grid.png"
        assert f"](https://forge.example.org/team/styles/raw/styleforge-pictures/{place})" in written["body"]
        assert "](https://forge.example.org/team/styles/actions/runs/78)" not in written["body"]
        shown = subprocess.run(["git", "show", f"styleforge-pictures:{place}"], cwd=team.bare, check=True, capture_output=True).stdout
        assert shown == (team.folder / "results" / "anime" / "grid.png").read_bytes()

        # The merge: refused, then passed, then forced by hand, with a reason.
        runner.github(promote, code=3)
        assert [row["aliases"] for row in team.models(uri)] == [["pr-12"]]
        values["vars.STYLEFORGE_GATE"] = "lenient.yaml"
        runner.github(promote)
        assert [row["aliases"] for row in team.models(uri)] == [["champion", "pr-12"]]
        values |= {"inputs.model": "styleforge-anime/1", "vars.STYLEFORGE_GATE": "strict.yaml", "inputs.to": "show", "inputs.force": "true"}
        runner.github(promote, code=2)
        values["inputs.reason"] = "for the fair"
        runner.github(promote)
        assert [row["aliases"] for row in team.models(uri)] == [["champion", "pr-12", "show"]]

    # Services that are gone, and a key that is not taken.
    runner.github(promote, code=4)
    runner.github(steps["Run"], code=4)
    values["secrets.ZENML_STORE_API_KEY"] = "ZENKEY_wrong"
    values["secrets.MLFLOW_TRACKING_URI"] = ""
    runner.github(steps["Run"], code=2)
    assert "refuses the credentials" in (team.folder / "results" / "anime" / "summary.md").read_text(encoding="utf-8")
