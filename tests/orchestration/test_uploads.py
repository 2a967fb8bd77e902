import os
from pathlib import Path

from components.core.paths import REPOSITORY
from tests.servers import S3_KEY, s3_server
from tests.stand_in import new_home, start

PROGRAM = """
import json, logging, sys
from pathlib import Path
from orchestration.environment import prepare_environment, set_source_root
prepare_environment(); set_source_root()
from zenml.client import Client
from zenml.enums import StackComponentType as Kind
keys = {"key": sys.argv[2], "secret": sys.argv[2], "client_kwargs": {"endpoint_url": sys.argv[1], "region_name": "us-east-1"}}
client = Client()
client.create_stack_component("s3", "s3", Kind.ARTIFACT_STORE, {"path": "s3://styleforge/zenml", **keys})
client.create_stack("s3", {Kind.ARTIFACT_STORE: "s3", Kind.ORCHESTRATOR: "default"})
client.activate_stack("s3")
from steps.io.uploads import localize, within_reach
from steps.io.checkpoint_store import CheckpointStore
store = client.active_stack.artifact_store
found = {}
pictures = Path("pictures")
plan = {"scan": {"source": str(pictures), "reference": None, "pool": "s3://elsewhere/pool", "content": "c"}, "split": {}}
first = within_reach(plan)
(pictures / "a" / "1.png").write_bytes(b"changed")
second = within_reach(plan)
found["places"] = [first["scan"], second["scan"]]
for name, place in (("first", first), ("second", second)):
    folder = Path(localize(place["scan"]["source"], Path(name)))
    found[name] = {file.relative_to(folder).as_posix(): file.read_bytes().decode() for file in sorted(folder.rglob("*")) if file.is_file()}
found["elsewhere"] = localize("s3://elsewhere/pool", Path("x"))

def checkpoint(step, text):
    folder = Path("checkpoints") / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_text(text)
    (folder / "state.json").write_text("{}")
    return folder

checkpoints = CheckpointStore(f"{store.path}/styleforge/checkpoints/x")
checkpoints.keep(checkpoint(10, "ten"))
checkpoints.keep(checkpoint(20, "twenty"))
candidate = Path("checkpoints/candidates/step-00000015-0123456789abcdef.safetensors")
candidate.parent.mkdir()
candidate.write_text("fifteen")
checkpoints.keep(candidate)
found["kept"] = sorted(store.listdir(checkpoints.uri))
# Half-written by a machine that was lost: without its state a checkpoint is none.
with store.open(f"{checkpoints.uri}/step-00000030/weights.safetensors", "wb") as file:
    file.write(b"half")
checkpoints.fetch(Path("elsewhere"))
files = [file for file in sorted(Path("elsewhere").rglob("*")) if file.is_file()]
found["fetched"] = {file.relative_to("elsewhere").as_posix(): file.read_text() for file in files}
checkpoints.fetch(Path("checkpoints"))
checkpoints.clear()
found["left"] = store.exists(checkpoints.uri)
checkpoints.fetch(Path("nothing"))
found["nothing"] = Path("nothing").exists()
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("steps.io.checkpoint_store").addHandler(handler)
logging.getLogger("steps.io.checkpoint_store").setLevel("WARNING")
gone = CheckpointStore("s3://no-such-bucket/x")
gone.keep(Path("checkpoints/step-00000020"))
gone.fetch(Path("gone"))
found["said"] = said
print(json.dumps(found))
"""


def test_pictures_and_checkpoints_travel_through_the_artifact_store(tmp_path: Path) -> None:
    for name, text in {"a/1.png": "one", "metadata.jsonl": "{}", ".hidden": "no"}.items():
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / name).write_text(text)
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TMPDIR")}
    environment = kept | {"HOME": str(tmp_path), "STYLEFORGE_HOME": str(new_home(tmp_path / "home"))}
    with s3_server(tmp_path / "s3") as url:
        done = start(PROGRAM, url, S3_KEY, folder=tmp_path, environment=environment, path=REPOSITORY).wait()
    assert done.returncode == 0, done.stderr
    found = done.json
    first, second = found["places"]
    assert first["source"].startswith("s3://styleforge/zenml/styleforge/sources/") and first["source"] != second["source"]
    assert (first["reference"], first["pool"], first["content"]) == (None, "s3://elsewhere/pool", "c") and found["elsewhere"] == first[
        "pool"
    ]
    # What was there first is not overwritten by what came after.
    assert {key: value for key, value in found["first"].items() if key != ".whole"} == {"a/1.png": "one", "metadata.jsonl": "{}"}
    assert found["second"]["a/1.png"] == "changed" and ".hidden" not in found["second"]
    assert found["kept"] == ["candidates", "step-00000020"]
    assert found["fetched"] == {
        "step-00000020/state.json": "{}", "step-00000020/weights.safetensors": "twenty",
        "candidates/step-00000015-0123456789abcdef.safetensors": "fifteen",
    }  # fmt: skip
    assert not found["left"] and not found["nothing"]
    # A store that is away costs the training nothing but a line.
    assert found["said"][0].startswith("the artifact store did not accept a checkpoint")
