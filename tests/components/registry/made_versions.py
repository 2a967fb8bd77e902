"""Registered versions with scores that are known beforehand, made in milliseconds."""

import json
import shutil
from pathlib import Path
from typing import Any

from components.core.config import validate_model
from components.core.content import digest_folder
from components.core.paths import read_json
from components.registry.gate import GateConfig
from components.registry.promotion import Scored, Tools
from components.registry.tracking import Tracking
from components.registry.versions import ARTIFACT_DIGEST, EVALUATION, EVALUATION_DIGEST, ensure_model

BETTER = validate_model(GateConfig, {"rules": [{"metric": "kid", "against": "champion", "at_most": 1.0, "decide": "value"}]}, "gate")


def write_model(
    folder: Path, kid: float, *, same: str = "bank-1", weights: bytes = b"weights", scores: Any = None, card: Any = None
) -> Path:
    """A model folder with nothing in it but what the registry looks at."""
    evaluation = folder / EVALUATION
    evaluation.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "weights.safetensors").write_bytes(weights)
    if card is not None:
        (folder / "styleforge.json").write_text(json.dumps(card))
    scores = scores or {"style": {"kid": {"value": kid, "low": kid, "high": kid, "n": 128}}, "base": {"kid": {"value": 1.0, "n": 128}}}
    (evaluation / "scores.json").write_text(json.dumps(scores))
    (evaluation / "protocol.json").write_text(json.dumps({"same": {"bank": same}}))
    return folder


class Shelf:
    """One run whose artifacts hold the models, so that a version costs one call."""

    def __init__(self, tracking: Tracking, folder: Path) -> None:
        self.tracking, self.folder = tracking, folder
        self.run_id = tracking.start("test", "shelf", {})
        self.place = tracking.client.get_run(self.run_id).info.artifact_uri
        tracking.end(self.run_id, "FINISHED")

    def add(self, name: str, kid: float, **options: Any) -> str:
        """Register a model as the next version of ``name``; gives ``name/version``."""
        ensure_model(self.tracking, name)
        number = len(self.tracking.versions(name)) + 1 if "number" not in options else options.pop("number")
        path = f"{name}-{number}"
        local = write_model(self.folder / path, kid, **options)
        if self.place.startswith("file:"):
            # As if it had been logged.
            shutil.copytree(local, Path(self.place.removeprefix("file://")) / path)
        else:
            self.tracking.client.log_artifacts(self.run_id, str(local), path)
        tags = {ARTIFACT_DIGEST: digest_folder(local), EVALUATION_DIGEST: digest_folder(local / EVALUATION), "styleforge.kid": f"{kid:.6g}"}
        made = self.tracking.client.create_model_version(name, f"{self.place}/{path}", run_id=self.run_id, tags=tags)
        return f"{name}/{made.version}"


def fails(mine: Scored, theirs: Scored) -> Path:
    raise AssertionError("nothing was to be scored anew")


def same(mine: Path, theirs: Path) -> bool:
    return bool(read_json(mine / "protocol.json")["same"] == read_json(theirs / "protocol.json")["same"])


TOOLS = Tools(same=same, rescore=fails, replicates=lambda _: None)
