"""What is fetched of a captioner on the hub, and what the hub's refusals say."""

import os
import subprocess
import sys
from pathlib import Path

from components.core.paths import REPOSITORY
from tests.hub_stand_in import hub_stand_in

REVISION = "0123456789abcdef0123456789abcdef01234567"
CODE = f"""
import sys
from components.core.errors import StyleForgeError
from components.captioning.sources import captioner_id, locate_captioner
print(captioner_id("someone/vlm", "{REVISION}"))
for weights in sys.argv[1:]:
    try:
        print(locate_captioner("someone/vlm", "{REVISION}", weights=weights == "all"))
    except StyleForgeError as error:
        print(error.exit_code, error)
"""


def ask(url: str, home: Path, *weights: str, **variables: str) -> list[str]:
    """In a new process, since huggingface_hub reads its variables when it is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {**kept, "HF_ENDPOINT": url, "HF_HOME": str(home), "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run([sys.executable, "-c", CODE, *weights], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()


def test_texts_for_the_plan_weights_for_the_work_and_never_a_pickle(llava: Path, tmp_path: Path) -> None:
    extra = ("pytorch_model.bin", "modeling_own.py", "consolidated.safetensors")
    for name in extra:
        (llava / name).write_bytes(b"x")
    with hub_stand_in() as hub:
        hub.model = llava
        known_as, texts, whole = ask(hub.url, tmp_path, "texts", "all")
        fetched = list(hub.fetched)
    for name in extra:
        (llava / name).unlink()
    assert known_as == f"someone/vlm@{REVISION}" and texts == whole and Path(whole).is_relative_to(tmp_path)
    assert fetched.pop() == "model.safetensors"
    assert {"config.json", "processor_config.json", "tokenizer.json", "chat_template.jinja"} <= set(fetched)
    assert not {name for name in fetched if name.endswith((".bin", ".py", ".safetensors"))}


def test_refusals(llava: Path, tmp_path: Path) -> None:
    for status, code, said in (
        (
            403,
            "GatedRepo",
            ["2 captions.model=someone/vlm: the hub restricts it", "Accept the licence at https://huggingface.co/someone/vlm", "HF_TOKEN"],
        ),
        (404, "RepoNotFound", ["2 captions.model=someone/vlm: not on the hub"]),
        (404, "RevisionNotFound", [f"2 captions.model=someone/vlm: not on the hub at {REVISION}"]),
    ):
        with hub_stand_in() as hub:
            hub.model, hub.status, hub.code = llava, status, code
            (_, refusal) = ask(hub.url, tmp_path / code, "all")
        assert all(part in refusal for part in said), refusal
    (_, refusal) = ask("http://127.0.0.1:9", tmp_path, "all", HF_HUB_OFFLINE="1")
    assert all(part in refusal for part in ("4 huggingface.co: someone/vlm cannot be fetched", "give a local folder")), refusal
