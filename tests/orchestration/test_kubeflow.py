"""``styleforge compile``: kfp's own loader takes the file, and its containers' commands, run one after the other, give what a run gives."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cli.app import app
from components.core.paths import REPOSITORY
from pipelines.names import PERSONALIZE
from steps.io.artifacts import content_digest
from tests.stand_in import CONFIG, StandIn, make_stand_in

# Run by a Python that has kfp and kfp-kubernetes: they pin packages that do not go together with ours.
CHECK = """
import json, sys
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2 as executor_config
loaded = components.load_component_from_file(sys.argv[1])
platform = list(yaml.safe_load_all(open(sys.argv[1])))[1]
for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
    json_format.ParseDict(executor, executor_config.KubernetesExecutorConfig())
tasks = loaded.pipeline_spec.root.dag.tasks
print(json.dumps({"name": loaded.name, "tasks": {name: sorted(task.dependent_tasks) for name, task in tasks.items()}}))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("style: {name: Test.1, source: s3://bucket/test}")
    return tmp_path


def compiled(*arguments: str, code: int = 0) -> tuple[list[dict[str, Any]], str]:
    result = CliRunner().invoke(app, ["compile", "config.yaml", "--out", "out/pipeline.yaml", *arguments])
    assert result.exit_code == code and "Traceback" not in result.stderr, result.output
    file = Path("out/pipeline.yaml")
    return list(yaml.safe_load_all(file.read_text())) if file.is_file() else [], result.stderr


def test_the_steps_are_those_of_the_pipeline(folder: Path) -> None:
    (pipeline, platform), _ = compiled()
    tasks = pipeline["root"]["dag"]["tasks"]
    assert {name.replace("-", "_") for name in tasks} == set(PERSONALIZE) - {"caption", "select"} and pipeline["pipelineInfo"][
        "name"
    ] == "personalize-test-1"
    assert tasks["fine-tune"]["dependentTasks"] == ["scan", "split", "build-aux"]
    assert tasks["split"]["dependentTasks"] == ["scan", "validate"]
    assert tasks["report"]["inputs"]["artifacts"]["pictures"]["taskOutputArtifact"]["producerTask"] == "sample-bank"
    text = Path("out/pipeline.yaml").read_text()
    assert "&id" not in text and str(folder) not in text
    # The pods are those of zenml.yaml.
    executors, pods = pipeline["deploymentSpec"]["executors"], platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors["exec-fine-tune"]["container"]["image"].endswith("-cuda") and executors["exec-scan"]["container"]["image"].endswith(
        "-cpu"
    )
    assert executors["exec-fine-tune"]["container"]["resources"]["accelerator"]["count"] == "1"
    assert "accelerator" not in executors["exec-register"]["container"].get("resources", {})
    assert pods["exec-fine-tune"]["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert any(item["constant"] == "hub-cache" for item in pods["exec-fine-tune"]["pvcMount"])


def test_twice_the_same_file(folder: Path) -> None:
    compiled("--image", "sf:1", "--set", "training.steps=7")
    first = Path("out/pipeline.yaml").read_bytes()
    (pipeline, _), _ = compiled("--image", "sf:1", "--set", "training.steps=7")
    assert Path("out/pipeline.yaml").read_bytes() == first
    assert {item["container"]["image"] for item in pipeline["deploymentSpec"]["executors"].values()} == {"sf:1"}
    constant = pipeline["root"]["dag"]["tasks"]["fine-tune"]["inputs"]["parameters"]["parameters"]["runtimeValue"]["constant"]
    assert json.loads(constant)["training"]["steps"] == 7


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--set", "style.source=pictures"), "--source pictures"), (("--set", "base.model=./mine"), "base.model"),
        (("--set", "sampling.bank=mine.csv"), "sampling.bank"), (("--set", "training.stepz=1"), "training.steps"),
        (("--settings", "none.yaml"), "none.yaml"), (("--settings", "empty.yaml"), "Give --image"),
        (("--settings", "affinity.yaml"), "affinity has no Kubeflow equivalent"),
    ],
)  # fmt: skip
def test_bad_input(folder: Path, arguments: tuple[str, ...], named: str) -> None:
    pod = "settings: {docker: {parent_image: a}, orchestrator.kubernetes: {pod_settings: {%s}}}"
    Path("empty.yaml").write_text("settings: {}")
    Path("affinity.yaml").write_text(pod % "affinity: {nodeAffinity: {}}")
    made, stderr = compiled(*arguments, code=2)
    assert named in stderr and made == []


# kfp's own loader


def kfp_python() -> str:
    found = os.environ.get("KFP_PYTHON") or str(REPOSITORY / ".venv-kfp" / "bin" / "python")
    if not Path(found).is_file():
        pytest.skip("no Python with kfp: `make kfp` makes one, or KFP_PYTHON names one")
    return found


def load(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([kfp_python(), "-c", CHECK, str(file)], capture_output=True, text=True, timeout=120)


def test_kfp_loads_it(folder: Path) -> None:
    (pipeline, _), _ = compiled()
    done = load(Path("out/pipeline.yaml"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    tasks = pipeline["root"]["dag"]["tasks"]
    assert found["name"] == "personalize-test-1"
    assert found["tasks"] == {name: sorted(task.get("dependentTasks", [])) for name, task in tasks.items()}


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    made = make_stand_in(tmp_path_factory.mktemp("stand-in"))
    shutil.copytree(REPOSITORY / "infra" / "kubernetes", made.folder / "infra" / "kubernetes")
    config = yaml.safe_load(CONFIG)
    config["style"]["source"], config["base"]["model"] = str(made.folder / "pictures"), str(made.folder / "base")
    config["aux"]["pool"] = str(made.folder / "pool")
    config["sampling"]["bank"] = str(made.folder / config["sampling"]["bank"])
    config["scoring"]["extractor"] = str(made.folder / "extractor")
    (made.folder / "config.yaml").write_text(yaml.safe_dump(config))
    # The folder plays a volume of the pods.
    pod = {
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "volume_mounts": [{"name": "data", "mountPath": str(made.folder)}],
    }
    settings = {"docker": {"parent_image": "sf:1"}, "orchestrator.kubernetes": {"pod_settings": pod}}
    (made.folder / "kubeflow.yaml").write_text(yaml.safe_dump({"settings": settings}))
    return made


def _filled(word: str, values: dict[str, str]) -> str:
    return re.sub(r"\{\{\$\.(.*?)\}\}", lambda match: values[match[1]], word)


def execute(stand_in: StandIn, pipeline: dict[str, Any], out: Path) -> dict[str, Path]:
    """What Kubeflow does with the file, without containers: each command once its inputs are there, its placeholders filled in."""
    tasks, made = dict(pipeline["root"]["dag"]["tasks"]), {}
    while tasks:
        name, task = next(item for item in tasks.items() if set(item[1].get("dependentTasks", [])) <= set(made))
        component = pipeline["components"][task["componentRef"]["name"]]
        (output,) = component["outputDefinitions"]["artifacts"]
        values = {f"outputs.artifacts['{output}'].path": str(out / name)}
        for key, item in task["inputs"]["parameters"].items():
            values[f"inputs.parameters['{key}']"] = item["runtimeValue"]["constant"]
        for key, item in task["inputs"].get("artifacts", {}).items():
            values[f"inputs.artifacts['{key}'].path"] = str(made[item["taskOutputArtifact"]["producerTask"]])
        container = pipeline["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        words = [_filled(word, values) for word in container["command"] + container["args"]]
        assert words[0] == "styleforge"
        done = stand_in.styleforge(*words[1:])
        assert done.returncode == 0, done.stderr
        made[name] = out / name
        del tasks[name]
    return made


@pytest.mark.slow
def test_what_the_commands_make_is_what_a_run_makes(stand_in: StandIn, tmp_path: Path) -> None:
    arguments = ("--out", "pipeline.yaml", "--settings", "kubeflow.yaml")
    assert stand_in.styleforge("compile", "config.yaml", *arguments).returncode == 0
    (pipeline, _) = yaml.safe_load_all((stand_in.folder / "pipeline.yaml").read_text())
    made = execute(stand_in, pipeline, tmp_path)
    registration = json.loads((made["register"] / "registration.json").read_text())
    assert (registration["name"], registration["version"], registration["alias"]) == ("styleforge-test", "1", "challenger")
    result = stand_in.run()
    assert result["cached"] == [] and result["model"]["version"] == "2"
    # Up to the model; what is drawn with the stand-in's model depends on the time in one of its files.
    for step in ("scan", "validate", "split", "build_aux", "fine_tune"):
        (stored,) = (stand_in.home / "zenml" / "stores").rglob(f"{step}/*/*/*/data")
        assert content_digest(made[step.replace("_", "-")]) == content_digest(stored), step
    # Nothing is left in the work folder.
    assert list((stand_in.home / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("nothing", "--parameters", "{}"), "is not a step"), (("scan", "--parameters", "{"), "not JSON"),
        (("scan", "--parameters", "[]"), "holds a list"), (("scan", "--parameters", '{"source": "a"}'), "missing a required argument"),
        (("validate", "--parameters", "{}", "--input", "style_set=nowhere"), "is not a folder"),
        (("validate", "--parameters", "{}", "--input", "here"), "is not a folder"),
    ],
)  # fmt: skip
def test_a_step_that_cannot_be_run(folder: Path, arguments: tuple[str, ...], named: str) -> None:
    result = CliRunner().invoke(app, ["step", *arguments, "--out", "out"])
    assert result.exit_code == 2 and named in result.stderr and not Path("out").exists()


def test_a_step_that_refuses(stand_in: StandIn, tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"path": "refused.png"}\n')
    words = ("--parameters", '{"minimum_side": 8, "needs_roles": false}', "--input", f"style_set={tmp_path}")
    done = stand_in.styleforge("step", "validate", *words, "--out", str(tmp_path / "out"))
    assert done.returncode == 3 and "refused.png is not wanted" in done.stderr and not (tmp_path / "out").exists()
