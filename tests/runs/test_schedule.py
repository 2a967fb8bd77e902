import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import app
from components.core.paths import REPOSITORY
from tests.components.cluster.kube import write_kubeconfig
from tests.components.cluster.schedule_server import CORE, ApiServer, api_server
from tests.stand_in import Done, StandIn, make_stand_in

POCKET = str(REPOSITORY / "configs" / "pocket.yaml")
CONFIG = f"{CORE}/configmaps/nightly-config"
ARGUMENTS = ("apply", "nightly", "--cron", "17 3 * * *", "--source", "s3://bucket/styles")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.chdir(tmp_path)
    with api_server() as made:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", made.url)))
        yield made


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["schedule", *arguments])
    assert "Traceback" not in result.stderr
    return result.exit_code, result.stdout, result.stderr


def applied(*arguments: str, config: str = POCKET) -> dict[str, Any]:
    code, stdout, stderr = call(*ARGUMENTS, "--config", config, "--json", *arguments)
    assert code == 0, stderr
    return dict(json.loads(stdout.splitlines()[-1])["schedule"])


def job(server: ApiServer) -> dict[str, Any]:
    return server.objects[f"{server.jobs()}/nightly"]


def test_from_the_command_line(server: ApiServer) -> None:
    assert call("list")[1].splitlines()[0].startswith("schedule")
    result = applied("--set", "training.steps=5", "--to", "production", "--no-promote", "--image", "sf:1", "--service-account", "me")
    assert (result["status"], result["missing"], result["dry_run"]) == ("created", ["ServiceAccount me"], False) and "objects" not in result
    pod = job(server)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "me" and pod["containers"][0]["image"] == "sf:1"
    assert pod["containers"][0]["args"] == [
        "retrain", "/etc/styleforge/config.yaml", "--source", "s3://bucket/styles", "--set", "training.steps=5", "--to", "production",
        "--no-promote", "--json", "--log-format", "json",
    ]  # fmt: skip
    assert server.objects[CONFIG]["data"]["config.yaml"] == Path(POCKET).read_text()

    code, stdout, _ = call("list", "--json")
    (entry,) = json.loads(stdout.splitlines()[-1])["schedules"]
    assert code == 0 and (entry["name"], entry["source"], len(entry["next"])) == ("nightly", "s3://bucket/styles", 3)
    code, stdout, _ = call("remove", "nightly", "--json")
    assert code == 0 and json.loads(stdout.splitlines()[-1])["removed"] == ["CronJob nightly", "ConfigMap nightly-config"]
    assert call("remove", "nightly")[0] == 2


def test_the_rules_travel(server: ApiServer) -> None:
    shutil.copyfile(REPOSITORY / "configs" / "gate.yaml", "mine.yaml")
    code, stdout, _ = call(*ARGUMENTS, "--config", POCKET, "--gate", "mine.yaml", "--home-claim", "art-home", "--suspend")
    assert code == 0 and "missing: PersistentVolumeClaim art-home" in stdout
    (container,) = job(server)["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][4:6] == ["--gate", "/etc/styleforge/gate.yaml"]
    assert server.objects[CONFIG]["data"]["gate.yaml"] == Path("mine.yaml").read_text()
    # Without any the image's count again.
    assert applied()["suspended"] and "gate.yaml" not in server.objects[CONFIG]["data"] and not applied("--resume")["suspended"]


def test_a_dry_run_prints_what_it_would_send(server: ApiServer) -> None:
    code, stdout, _ = call(*ARGUMENTS, "--config", POCKET, "--dry-run")
    assert code == 0 and "kind: CronJob" in stdout and "would be created" in stdout and server.writes == []
    assert [item["kind"] for item in applied("--dry-run")["objects"]] == ["ConfigMap", "CronJob"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--cron", "daily"), "five fields"), (("--source", "s3://me:password@bucket"), "must not contain a user name or password"),
        (("--set", "base.model=models/mine"), "which the pod does not have"), (("--gate", POCKET), "unknown key"),
        (("--to", "no such"), "no such"), (("--namespace", "nowhere"), "namespace nowhere: does not exist"),
    ],
)  # fmt: skip
def test_bad_input(server: ApiServer, arguments: tuple[str, ...], named: str) -> None:
    code, _, stderr = call(*ARGUMENTS, "--config", POCKET, *arguments)
    assert code == 2 and named in stderr, stderr
    assert server.writes == [] and "me:password" not in stderr


def test_forbidden_and_unreachable(server: ApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, _, stderr = call("apply", "nightly", "--cron", "@daily", "--config", POCKET)
    assert code == 2 and "--source: is missing" in stderr
    server.refuse["GET", server.jobs()] = (403, 'User "me" cannot list resource "cronjobs"')
    code, _, stderr = call("list")
    assert code == 1 and "cannot list resource" in stderr and "administrator" in stderr
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9")))
    for arguments in (("list",), ("remove", "nightly"), (*ARGUMENTS, "--config", POCKET)):
        assert call(*arguments)[0] == 4
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, _, stderr = call("list")
    assert code == 2 and "no such file" in stderr


# ZenML

ORCHESTRATOR = '''
"""An orchestrator that keeps schedules and only writes down what it is given."""
import json
from pathlib import Path
from zenml.enums import ExecutionMode
from zenml.orchestrators import BaseOrchestrator, BaseOrchestratorConfig, BaseOrchestratorFlavor
from zenml.orchestrators.base_orchestrator import SubmissionResult
NOTES = Path(__file__).with_name("notes.jsonl")
class Config(BaseOrchestratorConfig):
    is_schedulable = property(lambda self: True)
class Orchestrator(BaseOrchestrator):
    supported_execution_modes = property(lambda self: list(ExecutionMode))
    def get_orchestrator_run_id(self):
        return "none"
    def submit_pipeline(self, snapshot, stack, base_environment, step_environments, placeholder_run=None):
        if Path(__file__).with_name("broken").exists():
            raise RuntimeError("the orchestrator is broken")
        steps = {name: step.config.enable_cache for name, step in snapshot.step_configurations.items()}
        note = {"cron": snapshot.schedule.cron_expression, "steps": steps, "run": snapshot.run_name_template}
        with open(NOTES, "a") as file:
            file.write(json.dumps(note) + "\\n")
        return SubmissionResult(metadata={"job": "made"})
    def delete_schedule(self, schedule):
        with open(NOTES, "a") as file:
            file.write(json.dumps({"deleted": schedule.name}) + "\\n")
class Flavor(BaseOrchestratorFlavor):
    name = property(lambda self: "notebook")
    config_class = property(lambda self: Config)
    implementation_class = property(lambda self: Orchestrator)
'''
REGISTER = """
from orchestration.environment import prepare_environment
prepare_environment()
from orchestration.client import connect
connect()
from zenml.client import Client
from zenml.enums import StackComponentType as Kind
client = Client()
client.create_flavor("steps.orchestrator.Flavor", Kind.ORCHESTRATOR)
client.create_stack_component("notes", flavor="notebook", component_type=Kind.ORCHESTRATOR, configuration={})
stack = client.create_stack("notes", {Kind.ORCHESTRATOR: "notes", Kind.ARTIFACT_STORE: "default"})
print(stack.id)
from zenml.models import ScheduleRequest
foreign = {"name": "foreign", "active": True, "cron_expression": "@daily", "orchestrator_id": None, "pipeline_id": None}
client.zen_store.create_schedule(ScheduleRequest(project=client.active_project.id, **foreign))
"""


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    made = make_stand_in(tmp_path_factory.mktemp("stand-in"))
    shutil.copytree(REPOSITORY / "infra" / "kubernetes", made.folder / "infra" / "kubernetes")
    (made.folder / "components" / "pocket" / "weights").symlink_to(REPOSITORY / "components" / "pocket" / "weights")
    (made.folder / "steps" / "orchestrator.py").write_text(ORCHESTRATOR)
    (made.folder / "config.yaml").write_text("style: {name: test, source: s3://bucket/styles/test}\naux: {count: 3}\n")
    return made


def with_zenml(stand_in: StandIn, *arguments: str, code: int = 0, **environment: str) -> Done:
    done = stand_in.styleforge("schedule", *arguments, "--as", "zenml", "--json", **environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def notes(stand_in: StandIn) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (stand_in.folder / "steps" / "notes.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_zenml_keeps_the_time(stand_in: StandIn) -> None:
    # The stand-in's home is made by the first command; the local stack does not support schedules.
    refused = with_zenml(stand_in, "apply", "nightly", "--config", "config.yaml", "--cron", "17 3 * * *", code=2)
    assert "its orchestrator (local) does not support schedules" in refused.stderr
    zenml = functools.partial(with_zenml, ZENML_ACTIVE_STACK_ID=stand_in.python(REGISTER).split()[-1])
    arguments = ("apply", "nightly", "--config", "config.yaml", "--cron")

    assert zenml(stand_in, *arguments, "17 3 * * *", "--dry-run").json["schedule"]["status"] == "created"
    assert zenml(stand_in, "list").json["schedules"] == []
    assert zenml(stand_in, *arguments, "17 3 * * *").json["schedule"]["status"] == "created"
    assert zenml(stand_in, *arguments, "17 3 * * *").json["schedule"]["status"] == "unchanged"
    (note,) = notes(stand_in)
    assert note["cron"] == "17 3 * * *" and note["run"].startswith("nightly-test-{date}")
    # The pictures are read anew by each run, and nothing else is.
    assert note["steps"].pop("scan") is False and set(note["steps"].values()) <= {True, None}

    assert zenml(stand_in, *arguments, "@daily").json["schedule"]["status"] == "changed"
    assert zenml(stand_in, *arguments, "@daily", "--set", "training.steps=7").json["schedule"]["status"] == "changed"
    assert [note.get("cron", "deleted") for note in notes(stand_in)] == ["17 3 * * *", "deleted", "@daily", "deleted", "@daily"]
    (entry,) = zenml(stand_in, "list").json["schedules"]
    assert (entry["name"], entry["cron"], entry["source"], len(entry["next"])) == ("nightly", "@daily", "s3://bucket/styles/test", 3)

    assert zenml(stand_in, "remove", "nightly").json["removed"] == ["Schedule nightly"]
    refused = [zenml(stand_in, "apply", "foreign", *arguments[2:], "@daily", code=2), zenml(stand_in, "remove", "foreign", code=2)]
    assert all("belongs to another pipeline than personalize" in done.stderr for done in refused)
    assert "no such schedule in ZenML" in zenml(stand_in, "remove", "nightly", code=2).stderr
    # What the orchestrator did not take is not left behind in ZenML either.
    (stand_in.folder / "steps" / "broken").touch()
    assert "the orchestrator is broken" in zenml(stand_in, *arguments, "@daily", code=1).stderr
    assert zenml(stand_in, "list").json["schedules"] == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--namespace", "a"), "--namespace"), (("--time-zone", "Europe/Berlin"), "--time-zone"), (("--suspend",), "--suspend"),
        (("--resume",), "--suspend"), (("--no-promote",), "--no-promote"), (("--to", "production"), "--to"), (("--image", "a"), "--image"),
        (("--source", "pictures"), "--source"), (("--set", "base.model=base"), "base.model"), (("--cron", "soon"), "--cron"),
    ],
)  # fmt: skip
def test_what_zenml_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], named: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("style: {name: a, source: s3://bucket/a}")
    code, _, stderr = call("apply", "nightly", "--as", "zenml", "--config", "config.yaml", "--cron", "@daily", *arguments)
    assert code == 2 and named in stderr and not (tmp_path / ".styleforge").exists()
