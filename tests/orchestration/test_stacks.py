import base64
import contextlib
import json
import shutil
import sqlite3
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.paths import REPOSITORY
from tests.components.cluster.kube import write_kubeconfig
from tests.infra.ci.zenml_server import zenml_server
from tests.servers import free_port
from tests.stand_in import Done, StandIn, make_stand_in, new_home

GIVEN = {"STYLEFORGE_BUCKET": "bucket", "STYLEFORGE_KUBE_CONTEXT": "nowhere"}
PARTS = {
    "local": {"orchestrator": "local", "artifact_store": "local"},
    "kubernetes": {"orchestrator": "kubernetes", "artifact_store": "s3", "container_registry": "default", "image_builder": "local"},
    "kubeflow": {"orchestrator": "kubeflow", "artifact_store": "s3", "container_registry": "default", "image_builder": "local"},
}


class Store:
    def __init__(self, stand_in: StandIn, home: Path) -> None:
        self.stand_in, self.home = stand_in, home

    def environment(self, **extra: str) -> dict[str, str]:
        places = {"ZENML_CONFIG_PATH": str(self.home / "zenml"), "ZENML_LOCAL_STORES_PATH": str(self.home / "zenml" / "stores")}
        return {"STYLEFORGE_HOME": str(self.home), **places, **GIVEN, **extra}

    def stack(self, *arguments: str, **environment: str) -> Done:
        return self.stand_in.styleforge("stack", *arguments, **self.environment(**environment))

    def json(self, *arguments: str, **environment: str) -> dict[str, Any]:
        done = self.stack(*arguments, "--json", **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.json

    def listed(self) -> dict[str, dict[str, Any]]:
        return {stack["name"]: stack for stack in self.json("list")["stacks"]}

    def stacks(self) -> dict[str, dict[str, str]]:
        """Name of each part by its type, of each stack."""
        query = "SELECT s.name, c.type, c.name FROM stack s JOIN stack_composition j ON j.stack_id = s.id "
        found: dict[str, dict[str, str]] = {}
        for stack, kind, name in self.query(query + "JOIN stack_component c ON c.id = j.component_id"):
            found.setdefault(stack, {})[kind] = name
        return found

    def query(self, text: str) -> list[Any]:
        """Straight from the database: a command takes seconds."""
        (file,) = self.home.rglob("zenml.db")
        with contextlib.closing(sqlite3.connect(file)) as connection:
            return connection.execute(text).fetchall()

    def python(self, code: str, **environment: str) -> Any:
        begin = "import json\nfrom zenml.client import Client\nfrom orchestration.environment import set_source_root\n"
        begin += "set_source_root()\nclient = Client()\n"
        return json.loads(self.stand_in.python(begin + textwrap.dedent(code), **self.environment(**environment)).splitlines()[-1])

    def components(self) -> dict[tuple[str, str], tuple[str, dict[str, Any]]]:
        """Id and configuration of each component by type and name."""
        rows = self.query("SELECT type, name, id, configuration FROM stack_component")
        return {(kind, name): (str(id), json.loads(base64.b64decode(stored))) for kind, name, id, stored in rows}

    def configuration(self, kind: str, name: str) -> dict[str, Any]:
        return self.components()[kind, name][1]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    made = make_stand_in(tmp_path_factory.mktemp("stand-in"))
    shutil.copytree(REPOSITORY / "infra" / "stacks", made.folder / "infra" / "stacks")
    return made


@pytest.fixture
def store(stand_in: StandIn, tmp_path: Path) -> Store:
    return Store(stand_in, new_home(tmp_path / "home"))


def _file(folder: Path, name: str = "mine", kind: str = "kubernetes", **configuration: Any) -> str:
    """A definition of one's own: a local artifact store, and an orchestrator with this configuration."""
    orchestrator = {"flavor": kind, "configuration": configuration}
    data = {"name": name, "components": {"orchestrator": orchestrator, "artifact_store": {"name": "shared", "flavor": "local"}}}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return str(path)


def _actions(result: dict[str, Any]) -> dict[str, str]:
    return {item["type"]: item["action"] for item in result["components"]}


# Kubeflow's stack has all that the others have.
@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == "kubeflow" else pytest.mark.slow) for name in sorted(PARTS)])
def test_a_second_apply_changes_nothing(store: Store, name: str) -> None:
    planned = store.json("apply", name, "--dry-run")
    assert planned["dry_run"] and set(store.stacks()) == {"default"}
    first = store.json("apply", name)
    assert (first["action"], set(_actions(first).values())) == ("created", {"created"})
    assert first["components"] == planned["components"]
    stack = store.listed()[name]
    assert {item["type"]: item["flavor"] for item in stack["components"]} == PARTS[name]
    assert not stack["active"]
    before = store.stacks()
    second = store.stack("apply", name, "--json")
    assert second.json["changed"] is False
    assert f"stack {name} is as defined; nothing to change" in second.stdout
    assert store.stacks() == before


def test_a_changed_definition_changes_the_parts_in_place(store: Store, tmp_path: Path) -> None:
    pod = {"labels": {"a": "1", "b": "2"}}
    file = _file(tmp_path, kubernetes_context="one", kubernetes_namespace="team", max_parallelism=2, pod_settings=pod)
    store.json("apply", file)
    before = store.components()["orchestrator", "mine"][0]
    _file(tmp_path, kubernetes_context="two", max_parallelism=2, pod_settings={"labels": {"a": "1"}})
    planned, changed = store.json("apply", file, "--dry-run"), store.json("apply", file)
    assert planned["components"] == changed["components"]
    assert _actions(changed) == {"orchestrator": "updated", "artifact_store": "unchanged"}
    assert changed["action"] == "unchanged"
    assert changed["components"][0]["fields"] == ["kubernetes_context", "kubernetes_namespace", "pod_settings"]
    stored = store.configuration("orchestrator", "mine")
    # The namespace that was taken out of the file is gone, and one label of two.
    assert "kubernetes_namespace" not in stored
    assert (stored["kubernetes_context"], stored["max_parallelism"], stored["pod_settings"]["labels"]) == ("two", 2, {"a": "1"})
    assert store.components()["orchestrator", "mine"][0] == before
    assert store.json("apply", file)["changed"] is False


def test_parts_come_and_go_with_the_definition(store: Store, tmp_path: Path) -> None:
    file = _file(tmp_path, kind="local")
    registry = ["--set", "components.container_registry={flavor: default, configuration: {uri: registry.invalid}}"]
    store.json("apply", file, *registry)
    changed = store.json("apply", file, "--set", "components.orchestrator.name=other")
    assert (changed["action"], _actions(changed)["orchestrator"]) == ("updated", "created")
    assert store.stacks()["mine"] == {"orchestrator": "other", "artifact_store": "shared"}


def test_activation(store: Store) -> None:
    first = store.json("apply", "local", "--activate")
    assert first["activated"] and first["active"]
    store.json("apply", "kubernetes", "--activate", "--dry-run")
    assert [name for name, stack in store.listed().items() if stack["active"]] == ["local"]
    again = store.json("apply", "local", "--activate")
    assert (again["changed"], again["activated"], again["active"]) == (False, False, True)
    assert store.json("apply", "local", "--no-activate")["active"]


def test_notes_say_what_is_missing_for_runs(store: Store) -> None:
    told = " ".join(store.json("apply", "kubernetes", STYLEFORGE_S3_SECRET="s3")["warnings"])
    assert "ZenML has no secret s3" in told and "no pod can reach" in told
    store.python("client.create_secret('s3', {'aws_access_key_id': 'a', 'aws_secret_access_key': 'b'}); print(0)")
    assert "secret" not in " ".join(store.json("apply", "kubernetes", STYLEFORGE_S3_SECRET="s3")["warnings"])
    assert store.json("apply", "local")["warnings"] == []


def test_the_doctor_ends_as_the_stacks_cluster_does(store: Store, tmp_path: Path) -> None:
    store.json("apply", "kubernetes")
    dead = write_kubeconfig(tmp_path / "dead", f"http://127.0.0.1:{free_port()}", context="nowhere")
    for stack, kubeconfig, code, said in (
        ("kubernetes", dead, 4, "API server"),
        ("kubernetes", tmp_path / "none", 1, "kubeconfig"),
        ("default", dead, 0, "there is no cluster to check"),
        ("nobody", dead, 2, "expected one of default, kubernetes"),
    ):
        environment = store.environment(KUBECONFIG=str(kubeconfig))
        done = store.stand_in.styleforge("doctor", "--stack", stack, "--namespace", "other", "--json", **environment)
        assert done.returncode == code and said in done.stdout + done.stderr, done.stdout + done.stderr
        assert done.json.get("namespace", "other") == "other"


def test_another_flavor_is_refused(store: Store, tmp_path: Path) -> None:
    store.json("apply", _file(tmp_path, kind="local"))
    before = store.stacks()
    done = store.stack("apply", _file(tmp_path, kind="local_docker"), "--json")
    assert done.returncode == 3 and done.json["status"] == "refused"
    assert "has one of the flavor local, but the definition wants local_docker" in done.stderr
    assert "--set components.orchestrator.name=" in done.stderr
    assert store.stacks() == before


@pytest.mark.parametrize(
    ("kind", "configuration", "wanted"),
    [
        ("kubernets", {}, "ZenML knows no such flavor (did you mean kubernetes?)"),
        ("kubernetes", {"kubernetes_namespac": "a"}, "did you mean kubernetes_namespace?"),
        ("kubernetes", {"max_parallelism": "many"}, "components.orchestrator.configuration.max_parallelism"),
        ("kubernetes", {"pod_settings": {"resources": 3}}, "components.orchestrator.configuration.pod_settings.resources"),
    ],
)
def test_wrong_parts(store: Store, tmp_path: Path, kind: str, configuration: dict[str, Any], wanted: str) -> None:
    done = store.stack("apply", _file(tmp_path, kind=kind, **configuration), "--json")
    assert (done.returncode, done.json["error"]["kind"]) == (2, "ConfigError")
    assert wanted in done.stderr
    assert set(store.stacks()) == {"default"}


def test_wrong_places(store: Store) -> None:
    done = store.stack("apply", "kubernetes", "--set", "components.artifact_store.configuration.path=gs://bucket")
    assert done.returncode == 2
    assert "components.artifact_store.configuration" in done.stderr and "s3://" in done.stderr
    missing = store.stack("apply", "kubernetes", STYLEFORGE_BUCKET="")
    assert (missing.returncode, "export STYLEFORGE_BUCKET" in missing.stderr.replace("Export", "export")) == (2, True)


def test_removal_takes_what_nobody_else_uses(store: Store) -> None:
    store.json("apply", "kubernetes")
    # Parts that two stacks share are one.
    assert _actions(store.json("apply", "kubeflow")) == dict.fromkeys(PARTS["kubeflow"], "unchanged") | {"orchestrator": "created"}
    result = store.json("remove", "kubernetes")
    assert [item["name"] for item in result["removed"]] == ["styleforge-kubernetes"]
    kept = {item["type"]: item["reason"] for item in result["kept"]}
    assert kept == dict.fromkeys(("artifact_store", "container_registry", "image_builder"), "is used by kubeflow")
    assert len(store.json("remove", "kubeflow")["removed"]) == 4
    assert set(store.stacks()) == {"default"}
    assert len(store.components()) == 3


def test_an_artifact_store_with_artifacts_stays(store: Store) -> None:
    store.json("apply", "local", "--activate")
    store.python("from zenml import save_artifact; save_artifact(1, 'kept'); print(0)")
    store.python("client.activate_stack('default'); print(0)")
    result = store.json("remove", "local")
    assert [item["reason"] for item in result["kept"]] == ["holds artifacts of runs"]
    assert store.python("print(json.dumps(client.get_artifact_version('kept').load()))") == 1


@pytest.mark.parametrize(
    ("name", "code", "wanted"),
    [("default", 3, "ZenML's own stack"), ("local", 3, "is the active stack"), ("loca", 2, "expected one of default, local")],
)
def test_removals_that_are_refused(store: Store, name: str, code: int, wanted: str) -> None:
    store.json("apply", "local", "--activate")
    before = store.stacks()
    done = store.stack("remove", name)
    assert (done.returncode, wanted in done.stderr) == (code, True), done.stderr
    assert store.stacks() == before


def _at_once(store: Store, count: int, *arguments: str, **environment: str) -> list[dict[str, Any]]:
    running = [store.stand_in.start("stack", *arguments, "--json", **store.environment(**environment)) for _ in range(count)]
    ended = [command.wait() for command in running]
    assert [done.returncode for done in ended] == [0] * count, [done.stderr[-500:] for done in ended]
    return [done.json for done in ended]


def test_several_at_once_end_in_one_stack(store: Store) -> None:
    results = _at_once(store, 2, "apply", "kubernetes")
    assert any(result["changed"] for result in results)
    assert store.json("apply", "kubernetes")["changed"] is False
    assert store.query("SELECT name FROM stack ORDER BY name") == [("default",), ("kubernetes",)]
    assert len(store.components()) == 3 + len(PARTS["kubernetes"])


def test_a_lost_race_is_run_again(store: Store) -> None:
    """The moment between looking and writing, made to happen: another makes the stack just then."""
    code = """
        from orchestration import stacks
        tries, look = [], stacks.find_stack
        def late(client, name):
            found = look(client, name)
            tries.append(name)
            if len(tries) == 1:
                stacks.find_stack = look
                stacks.apply_stack("local")
                stacks.find_stack = late
            return found
        stacks.find_stack = late
        result = stacks.apply_stack("local")
        print(json.dumps([len(tries), result.action, [item.action for item in result.components]]))
    """
    assert store.python(code) == [2, "unchanged", ["unchanged", "unchanged"]]
    assert sorted(store.stacks()) == ["default", "local"]


@pytest.mark.slow
def test_on_a_server(store: Store, tmp_path: Path) -> None:
    with zenml_server(tmp_path / "server") as server:
        login = {"ZENML_STORE_URL": server.url, "ZENML_STORE_API_KEY": server.key}
        results = _at_once(store, 2, "apply", "kubeflow", **login)
        assert any(result["changed"] for result in results)
        again = store.json("apply", "kubeflow", **login)
        assert again["changed"] is False and "no pod can reach" not in " ".join(again["warnings"])
        assert len(store.json("remove", "kubeflow", **login)["removed"]) == 4
