"""A copy of the repository whose heavy components are replaced by quick ones, so that whole runs take seconds and files can be edited."""

import atexit
import compileall
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any
from unittest import mock

from PIL import Image

from components.core.paths import FLOORS, REPOSITORY
from orchestration.environment import prepare_environment

QUICK = {
    "components/styledata/validation.py": '''
from components.core.errors import GateRefused
from components.core.paths import read_jsonl, write_json
class Verdict:
    warnings = []
    def __init__(self, refused): self.passed = not refused
    def raise_if_failed(self, page=None):
        if not self.passed: raise GateRefused("style data", f"refused.png is not wanted; {page}")
def validate_style_set(style_set, *, minimum_side, needs_roles, out, captioned=False, rights=None, least_style_ref=0):
    out.mkdir(parents=True)
    write_json(out / "validation.json", {"minimum_side": minimum_side})
    return Verdict(any(row["path"] == "refused.png" for row in read_jsonl(style_set / "manifest.jsonl")))
''',
    "components/styledata/split.py": '''
from components.core.paths import read_jsonl, write_json
def split_style_set(style_set, out, encoder):
    out.mkdir(parents=True)
    names = [row["path"] for row in read_jsonl(style_set / "manifest.jsonl")]
    write_json(out / "split.json", {"reference": names, "reference_is_style_ref": True, "names": names})
''',
    "components/styledata/auxiliary.py": '''
from components.core.paths import write_json
def curate(style_set, out, *, count, form, encoder, roles=None):
    out.mkdir(parents=True)
    write_json(out / "aux.json", {"count": count, "form": form})
def no_aux(out):
    out.mkdir(parents=True)
    write_json(out / "aux.json", {})
''',
    "components/captioning/sources.py": '''
def captioner_id(model, revision):
    return f"{model}@1"
def check_captioner(model, revision):
    pass
def locate_captioner(model, revision, *, weights=True):
    raise NotImplementedError
''',
    "components/captioning/model.py": '''
Captioner = object
def request_of(settings, *, chats):
    return settings.prompt or ""
class VisionLanguageModel:
    def __init__(self, settings):
        pass
    def describe(self, pictures):
        numbers = [picture.getpixel((0, 0))[0] for picture in pictures]
        print(*numbers, file=open("captioned.txt", "a"))
        return [f"A watercolor painting of house {number}." for number in numbers]
''',
    "components/diffusion/models/bundle.py": '''
def load_bundle(model, revision=None, device=None, base=None, memory=None):
    return model
''',
    "components/diffusion/training/fine_tuning.py": '''
import os, time
from components.core.content import digest_folder
from components.diffusion.objectives import losses
from components.core.paths import write_json, write_jsonl
def fine_tune(config, style_set, split, aux, out, checkpoints, *, load_image=None, on_checkpoint=None, watch=None):
    checkpoints.mkdir(parents=True, exist_ok=True)
    (checkpoints / "step-1").write_text("half way")
    told = os.environ.get("STAND_IN")
    if told == "fail" or os.environ.get("FAIL_SEED") == str(config.seed) or (style_set / "images" / "boom.png").is_file():
        raise RuntimeError("the loss is nan | step 3")
    if told == "full":
        raise OSError(28, "No space left on device", str(checkpoints))
    if told == "wait":
        print("waiting", flush=True)
        while not os.path.exists("go"):
            time.sleep(0.05)
    print("trained", file=open("trainings.txt", "a"))
    facts = [digest_folder(style_set), digest_folder(aux), config.model_dump(mode="json"), losses.NAME]
    (out / "training").mkdir(parents=True)
    write_json(out / "model_index.json", facts)
    write_json(out / "styleforge.json", {"schema": 1, "identifier": config.method.identifier, "manifest_digest": "m"})
    write_json(out / "training" / "timing.json", {"seconds": time.time()})
    write_jsonl(out / "training" / "log.jsonl", [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}])
''',
    "components/diffusion/objectives/losses.py": "NAME = 'mse'\n",
    "components/diffusion/sampling/sampler.py": '''
from dataclasses import dataclass
from PIL import Image
from components.core.content import digest_folder, digest_value
from components.core.paths import write_jsonl
from pathlib import Path
@dataclass(frozen=True)
class PromptRequest:
    id: str
    category: str
    prompt: str
    full_prompt: str
def sample_bank(bundle_or_path, prompts, settings, seed, out, shard=(0, 1), *, in_training=False):
    (out / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    model = Path(bundle_or_path)
    what = digest_folder(model / "unet" if (model / "unet").is_dir() else model)
    for prompt in prompts:
        for repeat in range(settings.repeats):
            tone = int(digest_value([what, prompt.full_prompt, repeat, seed, settings.steps])[:2], 16)
            name = f"images/{prompt.id}-r{repeat}.png"
            Image.new("RGB", (8, 8), (tone, 0, 0)).save(out / name)
            rows.append({"file_name": name, "prompt_id": prompt.id, "category": prompt.category, "prompt": prompt.prompt,
                         "full_prompt": prompt.full_prompt, "seed": seed, "repeat": repeat})
    write_jsonl(out / "metadata.jsonl", rows)
''',
    "components/diffusion/attention/capture.py": '''
def has_maps(bundle):
    return True
def words_to_map(request, identifiers, chosen=(), count=3):
    return [*identifiers, *chosen]
''',
    "components/diffusion/attention/heatmaps.py": '''
from components.core.content import digest_folder
from components.core.paths import write_json
from pathlib import Path
def explain(bundle, requests, settings, seed, out):
    what = digest_folder(Path(bundle))
    write_json(out / "attention.json", {"pictures": [[what, request.full_prompt, words] for request, words in requests]})
    return out
def write_nothing(out):
    write_json(out / "attention.json", {"pictures": []})
    return out
''',
    "components/evaluation/protocol.py": '''
from components.core.content import digest_folder
from components.core.paths import read_json, write_json
PROTOCOL, VALUES = "protocol.json", "values.safetensors"
def read_protocol(folder):
    return read_json(folder / PROTOCOL)
def paired_replicates(folder, resamples=2000):
    raise AssertionError("no values were kept")
def score_and_keep(
    out, folders, reference, *, reference_kind, settings, seed, tokens, digests, style_ref=None, concepts=None, extractors=None
):
    value = {"value": int(digest_folder(folders["style"])[:4], 16) / 65536, "low": 0.0, "high": 1.0, "n": settings.bootstrap}
    four = {name: value for name in ("kid", "fid", "clip_t", "clip_i")}
    scores = {"style": four, "base": four, "drift": None, "by_category": {}, "context": {"reference": reference_kind}}
    out.mkdir(parents=True)
    write_json(out / "scores.json", scores | {"digests": dict(digests)})
    write_json(out / PROTOCOL, {"same": {"reference": reference_kind}})
''',
    "components/evaluation/report.py": '''
class ReportInputs:
    def __init__(self, *folders):
        pass
def render_report(out, config, scores, inputs):
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("<!doctype html><title>report</title>" + str(sorted(config.flat().items())))
''',
    "components/evaluation/record.py": '''
from dataclasses import dataclass
from components.core.paths import read_json, write_json
def write_record(out, *, evaluation, model, style_pictures, base_pictures):
    out.mkdir(parents=True)
    write_json(out / "cell.json", {"scores": read_json(evaluation / "scores.json"), "model": read_json(model / "model_index.json")})
    return out
@dataclass
class Record:
    value: dict
def read_record(folder):
    return Record(read_json(folder / "cell.json"))
def resample(record, resamples, seed):
    return {}
''',
    "components/evaluation/comparison_page.py": '''
from components.core.paths import write_json
from components.evaluation.comparison import Outcome
def render_comparison(out, config, outcomes, settings):
    out.mkdir(parents=True)
    cells = [{"id": o.id, "variants": list(o.variants), "style": o.style, "seed": o.seed, "steps": o.steps, "error": o.error,
              "status": "failed" if o.record is None else "completed", "scores": o.record and o.record.value["scores"]["style"]}
             for o in outcomes]
    open_ = {"verdict": "undecided", "seeds": 2, "seeds_needed": 5, "missing": []}
    claims = [{**claim.model_dump(mode="json"), **open_} for claim in config.claims]
    metrics = {m: {"rows": {v.name: {} for v in config.methods}, "ranks": {}} for m in ("kid", "fid", "clip_t", "clip_i")}
    costs = {v.name: {"seconds": 1.0, "peak_memory_bytes": None, "saved_bytes": 5} for v in config.variants}
    result = {"name": config.name, "equal": config.equal, "styles": [s.name for s in config.styles], "seeds": list(config.seeds),
              "variants": [{"name": v.name, "label": v.title} for v in config.variants], "cells": cells, "claims": claims, "costs": costs,
              "base": {metric: {} for metric in metrics},
              "tables": [{"name": "methods", "variants": [v.name for v in config.methods], "metrics": metrics}]}
    write_json(out / "comparison.json", result)
    (out / "comparison.html").write_text("<!doctype html>")
    return result
''',
    "components/evaluation/banks/two.tsv": "id\tcategory\tprompt\na\tpeople\ta man\nb\tthings\ta house\n",
}  # fmt: skip

CONFIG = """
style: {name: test, source: pictures}
aux: {source: curated, count: 3, pool: pool}
base: {model: base}
training: {steps: 2}
sampling: {bank: components/evaluation/banks/two.tsv, repeats: 1, steps: 2}
scoring: {extractor: extractor, bootstrap: 5}
examine: {enabled: false}
"""


GATES = {
    # The stand-in's scores are made of digests, so which model is better is chance.
    "any": "rules: [{metric: kid, at_most: 100, decide: value}]",
    "none": "rules: [{metric: kid, at_most: -1, decide: value}]",
    "open": "rules: [{metric: kid, at_most: 0.999}]",
}

# Importing ZenML and MLflow takes most of a short run's time, so one process does it for all tests, and every command is a fork of it.
COMMAND = "from cli.app import main; main()"
SERVER = """
import json, os, signal, sys, traceback
import typer, rich.console, yaml, pydantic
import zenml, zenml.client, zenml.zen_stores.sql_zen_store, zenml.pipelines.pipeline_definition, zenml.materializers
import zenml.deployers, zenml.image_builders.local_image_builder, zenml.orchestrators.local.local_orchestrator
import zenml.integrations.kubernetes.flavors, zenml.log_stores, kubernetes.client, imagehash
import mlflow, mlflow.store.tracking.sqlalchemy_workspace_store, mlflow.store.model_registry.sqlalchemy_workspace_store
def run(job):
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION = os.environ.get("KUBECONFIG", "~/.kube/config")  # It read it when imported.
    # Where the tests run in the background, SIGINT is ignored, and children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv, sys.path[0] = ["styleforge", *job["arguments"]], job["path"]
    try:
        exec(job["code"], {"__name__": "__main__"})
        return 0
    except SystemExit as stop:
        return stop.code or 0
    except BaseException:
        traceback.print_exc()
        return 99
for line in sys.stdin:
    job = json.loads(line)
    if isinstance(job, int):
        print(os.waitstatus_to_exitcode(os.waitpid(job, 0)[1]), flush=True)
        continue
    child = os.fork()
    if child == 0:
        code = run(job)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(child, flush=True)
"""


@cache
def _server() -> subprocess.Popen[str]:
    """The warm process; it ends when its input does."""
    folder = Path(tempfile.mkdtemp(prefix="stand-in-server-"))
    with mock.patch.dict(os.environ, {"HOME": str(folder), "STYLEFORGE_HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}):
        # Some variables are read when ZenML is imported.
        prepare_environment()
        environment = dict(os.environ)
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.communicate)
    return server


def _tell(message: object) -> int:
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(message) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.stdout.splitlines()[-1]))


@dataclass
class Running:
    pid: int
    stdout: Path
    stderr: Path

    def wait_for(self, line: str) -> None:
        deadline = time.monotonic() + 120
        while f"{line}\n" not in self.stdout.read_text(encoding="utf-8"):
            assert time.monotonic() < deadline, self.stderr.read_text(encoding="utf-8")
            time.sleep(0.05)

    def wait(self) -> Done:
        code = _tell(self.pid)
        return Done(code, self.stdout.read_text(encoding="utf-8"), self.stderr.read_text(encoding="utf-8"))


def start(code: str, *arguments: str, folder: Path, environment: dict[str, str], path: Path | None = None) -> Running:
    """Run Python in a fork of the warm process, in ``folder`` and with only this environment; our packages are those of ``path``."""
    files = [Path(tempfile.mkstemp(dir=folder, prefix=f"{name}-", suffix=".txt")[1]) for name in ("stdout", "stderr")]
    job = {"code": code, "arguments": arguments, "folder": str(folder), "environment": environment, "path": str(path or folder)}
    return Running(_tell(job | {"stdout": str(files[0]), "stderr": str(files[1])}), *files)


NEW_HOME = """
from orchestration.environment import prepare_environment
prepare_environment()
from components.registry.tracking import open_tracking
from orchestration.client import connect
connect()
open_tracking().client.search_registered_models()
"""


@cache
def _new_home() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="stand-in-home-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    environment = {"HOME": str(folder / "user"), "STYLEFORGE_HOME": str(folder / "home")}
    done = start(NEW_HOME, folder=folder, environment=environment, path=REPOSITORY).wait()
    assert done.returncode == 0, done.stderr
    return folder / "home"


def new_home(home: Path) -> Path:
    """A home in which ZenML's and MLflow's empty stores are made already, which takes them seconds."""
    shutil.copytree(_new_home(), home)
    # It names the place of the database.
    configuration = home / "zenml" / "config.yaml"
    configuration.write_text(configuration.read_text().replace(str(_new_home()), str(home)))
    return home


@dataclass
class StandIn:
    """The copy, with a configuration, pictures and models in it; ``home`` is where its state goes, ``first`` its first run's result."""

    folder: Path
    first: dict[str, Any] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self, **extra: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TMPDIR", "VIRTUAL_ENV")}
        user = self.folder / "user"
        user.mkdir(exist_ok=True)
        return kept | {"HOME": str(user), "STYLEFORGE_HOME": str(self.home), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"} | extra

    def start(self, *arguments: str, **environment: str) -> Running:
        """Run a command in a fork of the warm process."""
        return start(COMMAND, *arguments, folder=self.folder, environment=self.environment(**environment))

    def python(self, code: str, **environment: str) -> str:
        """What Python prints that finds the copy."""
        done = start(textwrap.dedent(code), folder=self.folder, environment=self.environment(**environment)).wait()
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def styleforge(self, *arguments: str, **environment: str) -> Done:
        return self.start(*arguments, **environment).wait()

    def run(self, *arguments: str, code: int = 0, **environment: str) -> dict[str, Any]:
        """``styleforge run``; the JSON of its last line, after checking the exit code."""
        done = self.styleforge("run", "config.yaml", "--json", *arguments, **environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.json

    def again(self, *arguments: str) -> set[str]:
        """The steps that another ``styleforge run`` did not take from the cache."""
        result = self.run(*arguments)
        return set(result["seconds"]) - set(result["cached"])

    def edit(self, name: str, old: str = "", new: str = "\n# edited\n") -> None:
        """Replace ``old`` in a file of the copy, or add ``new`` at its end."""
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new) if old else text + new, encoding="utf-8")


def make_stand_in(folder: Path) -> StandIn:
    for package in FLOORS:
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    shutil.copyfile(REPOSITORY / "zenml.yaml", folder / "zenml.yaml")
    (folder / "configs").mkdir()
    shutil.copyfile(REPOSITORY / "configs" / "gate.yaml", folder / "configs" / "gate.yaml")
    texts = {"config.yaml": CONFIG, "trainings.txt": "", **QUICK, **{f"{name}.yaml": rules for name, rules in GATES.items()}}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    # Compiled once; a file that is edited is compiled again by each command.
    compileall.compile_dir(folder, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    for name in ("pictures/0.png", "pictures/1.png", "pictures/2.png", "pool/9.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (int(Path(name).stem), 0, 0)).save(folder / name)
    for part, config in {"unet": {"sample_size": 16}, "vae": {"block_out_channels": [8, 16]}}.items():
        (folder / "base" / part).mkdir(parents=True)
        (folder / "base" / part / "config.json").write_text(json.dumps(config))
    for part in ("text_encoder", "tokenizer", "scheduler"):
        (folder / "base" / part).mkdir()
    (folder / "base" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (folder / "extractor").mkdir()
    (folder / "extractor" / "config.json").write_text("{}")
    new_home(folder / "home")
    return StandIn(folder)
