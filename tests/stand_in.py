"""A copy of the repository whose heavy components are replaced by quick ones, so that caching can be tested by editing files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from components.core.paths import FLOORS, REPOSITORY

QUICK = {
    "components/styledata/manifest.py": '''
import shutil
from pathlib import Path
from components.core.paths import write_jsonl
def scan_style(style, aux, out):
    (out / "images").mkdir(parents=True)
    names = sorted(p.name for p in Path(style.source).iterdir())
    for name in names:
        shutil.copyfile(Path(style.source) / name, out / "images" / name)
    write_jsonl(out / "manifest.jsonl", [{"path": name} for name in names])
''',
    "components/styledata/validation.py": '''
from components.core.errors import GateRefused
from components.core.paths import read_jsonl, write_json
class Verdict:
    warnings = []
    def __init__(self, refused): self.passed = not refused
    def raise_if_failed(self, page=None):
        if not self.passed: raise GateRefused("style data", f"refused.png is not wanted; {page}")
def validate_style_set(style_set, *, minimum_side, needs_roles, out):
    out.mkdir(parents=True)
    write_json(out / "validation.json", {"minimum_side": minimum_side})
    return Verdict(any(row["path"] == "refused.png" for row in read_jsonl(style_set / "manifest.jsonl")))
''',
    "components/styledata/split.py": '''
from components.core.paths import read_jsonl, write_json
def split_style_set(style_set, out, towers):
    out.mkdir(parents=True)
    names = [row["path"] for row in read_jsonl(style_set / "manifest.jsonl")]
    write_json(out / "split.json", {"reference": names, "reference_is_style_ref": True, "names": names})
''',
    "components/styledata/auxiliary.py": '''
from components.core.paths import write_json
def curate(style_set, out, *, count, form, towers, roles=None):
    out.mkdir(parents=True)
    write_json(out / "aux.json", {"count": count, "form": form})
def no_aux(out):
    out.mkdir(parents=True)
    write_json(out / "aux.json", {})
''',
    "components/diffusion/models/bundle.py": '''
def load_bundle(model, revision=None, device=None):
    return model
''',
    "components/diffusion/training/loop.py": '''
import os, time
from components.core.content import digest_folder
from components.diffusion.training import objective
from components.core.paths import write_json, write_jsonl
def fine_tune(config, style_set, split, aux, out, checkpoints, *, on_checkpoint=None):
    checkpoints.mkdir(parents=True, exist_ok=True)
    (checkpoints / "step-1").write_text("half way")
    if os.environ.get("STAND_IN") == "fail":
        raise RuntimeError("the stand-in was told to fail")
    if os.environ.get("STAND_IN") == "full":
        raise OSError(28, "No space left on device", str(checkpoints))
    if os.environ.get("STAND_IN") == "wait":
        print("waiting", flush=True)
        time.sleep(60)
    facts = [digest_folder(style_set), digest_folder(aux), config.model_dump(mode="json"), objective.NAME]
    (out / "training").mkdir(parents=True)
    write_json(out / "model_index.json", facts)
    write_json(out / "styleforge.json", {"schema": 1, "identifier": config.method.identifier, "manifest_digest": "m"})
    write_json(out / "training" / "timing.json", {"seconds": time.time()})
    write_jsonl(out / "training" / "log.jsonl", [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}])
''',
    "components/diffusion/training/objective.py": "NAME = 'mse'\n",
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
def sample_bank(bundle, prompts, settings, seed, out, shard=(0, 1)):
    (out / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    what = digest_folder(Path(bundle) / "unet") if (Path(bundle) / "unet").is_dir() else digest_folder(Path(bundle))
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
def words_to_map(request, identifiers, chosen=()):
    return [*identifiers, *chosen]
''',
    "components/diffusion/attention/heatmaps.py": '''
from components.core.content import digest_folder
from components.core.paths import write_json
from pathlib import Path
def explain(bundle, asked, settings, seed, out):
    what = digest_folder(Path(bundle))
    write_json(out / "attention.json", {"pictures": [[what, request.full_prompt, words] for request, words in asked]})
    return out
def write_nothing(out):
    write_json(out / "attention.json", {"pictures": []})
    return out
''',
    "components/evaluation/scoring.py": '''
from components.core.content import digest_folder
def score(style, base, plain, base_plain, reference, settings, seed, identifier, *, reference_kind="held-out"):
    value = {"value": int(digest_folder(style)[:4], 16) / 65536, "low": 0.0, "high": 1.0, "n": settings.bootstrap}
    four = {name: value for name in ("kid", "fid", "clip_t", "clip_i")}
    return {"style": four, "base": four, "drift": None, "by_category": {}, "context": {"reference": reference_kind}, "digests": {}}
''',
    "components/evaluation/protocol.py": '''
from components.evaluation.scoring import score
from components.core.paths import read_json, write_json
PROTOCOL, VALUES = "protocol.json", "values.safetensors"
def read_protocol(folder):
    return read_json(folder / PROTOCOL)
def paired_replicates(folder):
    raise AssertionError("no values were kept")
def score_and_keep(out, *, style_pictures, base_pictures, plain_pictures, reference, reference_kind, settings, seed, identifier, digests):
    pictures = (style_pictures, base_pictures, plain_pictures, None)
    scores = score(*pictures, reference, settings, seed, identifier, reference_kind=reference_kind)
    scores["digests"] = dict(digests)
    out.mkdir(parents=True)
    write_json(out / "scores.json", scores)
    write_json(out / PROTOCOL, {"same": {"reference": reference_kind}})
''',
    "components/evaluation/report.py": '''
def render_report(out, **parts):
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("<!doctype html><title>report</title>" + str(sorted(parts["config"].flat().items())))
''',
    "components/evaluation/banks/two.tsv": "id\tcategory\tprompt\na\tpeople\ta man\nb\tthings\ta house\n",
}  # fmt: skip

CONFIG = """
style: {name: test, source: pictures}
aux: {source: curated, count: 3}
base: {model: base}
training: {steps: 2}
sampling: {bank: components/evaluation/banks/two.tsv, repeats: 1, steps: 2}
scoring: {extractor: extractor, bootstrap: 5}
"""


# Importing ZenML and MLflow takes most of a short run's time, so it is done once, and every command is a fork of that process.
SERVER = """
import json, os, sys, traceback
import typer, rich.console, yaml, pydantic
import zenml, zenml.client, zenml.zen_stores.sql_zen_store, zenml.pipelines.pipeline_definition, zenml.materializers
import mlflow, mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        os.environ.update(job["environment"])
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["styleforge", *job["arguments"]]
        code = 99
        try:
            from cli.app import main
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])), flush=True)
"""


@dataclass
class Done:
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.stdout.splitlines()[-1]))


@dataclass
class StandIn:
    """The copy, with a configuration, pictures and models in it; ``home`` is where its state goes."""

    folder: Path
    server: subprocess.Popen[str] | None = None

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self, **extra: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TMPDIR", "VIRTUAL_ENV")}
        user = self.folder / "user"
        user.mkdir(exist_ok=True)
        return kept | {"HOME": str(user), "STYLEFORGE_HOME": str(self.home), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"} | extra

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cli.app", *arguments]

    def _start(self) -> subprocess.Popen[str]:
        quiet = {"ZENML_ANALYTICS_OPT_IN": "false", "ZENML_LOGGING_VERBOSITY": "CRITICAL", "ZENML_CONFIG_PATH": str(self.home / "zenml")}
        quiet |= {"ZENML_LOCAL_STORES_PATH": str(self.home / "zenml" / "stores"), "MLFLOW_DISABLE_TELEMETRY": "true"}
        return subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=self.folder, env=self.environment(**quiet), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def styleforge(self, *arguments: str, **environment: str) -> Done:
        """Run a command in a fork of the warm process."""
        self.server = self.server or self._start()
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        files = {name: self.folder / f"{name}.txt" for name in ("stdout", "stderr")}
        job = {"arguments": arguments, "environment": environment, **{name: str(path) for name, path in files.items()}}
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        code = json.loads(self.server.stdout.readline())
        return Done(code, files["stdout"].read_text(encoding="utf-8"), files["stderr"].read_text(encoding="utf-8"))

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

    def close(self) -> None:
        if self.server is not None and self.server.stdin is not None and self.server.stdout is not None:
            self.server.stdin.close()
            self.server.wait(60)
            self.server.stdout.close()


def make_stand_in(folder: Path) -> StandIn:
    """Write the copy into ``folder``."""
    for package in FLOORS:
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    shutil.copyfile(REPOSITORY / "zenml.yaml", folder / "zenml.yaml")
    (folder / "configs").mkdir()
    shutil.copyfile(REPOSITORY / "configs" / "gate.yaml", folder / "configs" / "gate.yaml")
    for name, text in QUICK.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "pictures").mkdir()
    for index in range(3):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(folder / "pictures" / f"{index}.png")
    for part, config in {"unet": {"sample_size": 16}, "vae": {"block_out_channels": [8, 16]}}.items():
        (folder / "base" / part).mkdir(parents=True)
        (folder / "base" / part / "config.json").write_text(json.dumps(config))
    (folder / "extractor").mkdir()
    (folder / "extractor" / "config.json").write_text("{}")
    return StandIn(folder)
