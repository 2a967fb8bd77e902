import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.core.model_ref import is_hub_id, local_model
from components.core.paths import REPOSITORY
from components.diffusion.models.layouts import latent_size
from tests.hub_stand_in import HubStandIn, hub_stand_in

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tiny_base: Path) -> Iterator[HubStandIn]:
    with hub_stand_in() as stand_in:
        stand_in.model = tiny_base
        yield stand_in


def ask(code: str, hub: HubStandIn, tmp_path: Path, **environment: str) -> str:
    """Run code in a new process, since huggingface_hub reads its variables when it is imported; what it printed."""
    values = {"STYLEFORGE_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "OMP_NUM_THREADS": "1", **environment}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env={**kept, **values}, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_a_plan_fetches_texts_alone_and_a_load_the_weights_once_into_hf_home(hub: HubStandIn, tmp_path: Path) -> None:
    store = tmp_path / "volume"
    plan = f"from runs.plan import base_facts; print(base_facts('someone/base', '{REVISION}').side)"
    assert ask(plan, hub, tmp_path, HF_HOME=str(store)) == "32"
    assert "unet/config.json" in hub.fetched
    assert not [name for name in hub.fetched if name.endswith(".safetensors")]
    texts = set(hub.fetched)
    load = f"from components.diffusion.models.sources import locate; print(locate('someone/base', '{REVISION}'))"
    folder = Path(ask(load, hub, tmp_path, HF_HOME=str(store)))
    assert folder.is_relative_to(store)
    weights = [name for name in hub.fetched if name not in texts]
    assert len(weights) == 3 and all(name.endswith(".safetensors") for name in weights)
    assert len(hub.fetched) == len(set(hub.fetched))


def test_a_plan_leaves_a_whole_model_to_be_fetched_though_the_hub_goes_away(hub: HubStandIn, tmp_path: Path) -> None:
    code = f"""
from components.core.errors import ServiceUnreachable
from components.diffusion.models.sources import base_facts, locate
print(base_facts('someone/base', '{REVISION}').side)
import huggingface_hub.constants
huggingface_hub.constants.HF_HUB_OFFLINE = True
try:
    locate('someone/base', '{REVISION}')
except ServiceUnreachable as error:
    print(error.where)
"""
    prepare = "from orchestration.environment import prepare_environment; prepare_environment()"
    assert ask(prepare + code, hub, tmp_path).split() == ["32", "huggingface.co"]
    assert list((tmp_path / "home" / "cache" / "huggingface" / "hub").glob("models--*"))


@pytest.mark.parametrize(("size", "wanted"), [(64, (64, 64)), ([16, 24], (16, 24)), (None, (64, 64))])
def test_a_size_of_one_side_or_of_both(size: object, wanted: tuple[int, int]) -> None:
    assert latent_size({"sample_size": size}) == wanted


def test_one_rule_tells_paths_from_hub_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert local_model("owner/name", "base.model") == Path("owner/name")
    assert local_model("owner/other", "base.model") is None
    assert local_model("pocket", "scoring.extractor") != local_model("pocket", "base.model")
    assert is_hub_id("owner/other") and not is_hub_id("owner/name")
    for wrong in ("./nowhere", "/no/where", "~/nowhere", "a-word", "a/b/c", "owner/base.safetensors", "owner/base.ckpt"):
        with pytest.raises(InputError, match=r"^base\.model=.*no such file or folder"):
            local_model(wrong, "base.model")
