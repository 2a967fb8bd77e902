import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.core.config import BaseSection, SamplingSection, parse_config
from components.core.content import digest_folder
from components.core.errors import ConfigError
from components.core.paths import read_json, read_jsonl
from components.diffusion.models import families
from components.diffusion.models.bundle import Bundle, load_bundle
from components.diffusion.models.precision import Precisions
from components.diffusion.sampling.jobs import PromptRequest
from components.diffusion.sampling.sampler import draw_pictures, sample_bank
from components.diffusion.training.fit import check_machine
from components.diffusion.training.loop import Trainer
from tests.components.diffusion.conftest import Folders, configure, cut_power, train
from tests.tiny_bases import tiny_flux_folder, tiny_sd3_folder, tiny_z_image_folder

UNET = "unet/diffusion_pytorch_model.safetensors"
LORA: dict[str, Any] = {"name": "lora", "train_text_encoder": True}
CLOSE = {"bf16": 0.02, "fp16": 0.005, "fp8": 0.05, "int8": 0.02, "nf4": 0.15}
"""How far off a loss may be, as a share of its size."""


def losses(model: Path) -> list[float]:
    return [row["loss"] for row in read_jsonl(model / "training" / "log.jsonl")]


def lora(base: Path, *, steps: int = 2, method: Any = None, **memory: Any) -> Any:
    training = {"steps": steps, "learning_rate": 1e-3}
    return configure(base, method={**LORA, **(method or {})}, training=training, base=memory)


FLOWS = {"sd3": tiny_sd3_folder, "flux": tiny_flux_folder, "z-image": tiny_z_image_folder}


@pytest.fixture(scope="module")
def in_fp32(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.components.diffusion.conftest import write_folders

    return train(lora(tiny_base), write_folders(tmp_path_factory.mktemp("fp32") / "run"))


@pytest.mark.parametrize("name", CLOSE)
def test_adapters_train_in_fp32_over_what_is_held_in_less(name: str, tiny_base: Path, folders: Folders, in_fp32: Path) -> None:
    model = train(lora(tiny_base, precision={"denoiser": name, "text_encoders": name, "vae": "bf16"}), folders)
    off = [abs(own / fp32 - 1) for own, fp32 in zip(losses(model), losses(in_fp32), strict=True)]
    assert max(off) < CLOSE[name] and min(off) > 0
    tensors, card = load_file(model / "delta.safetensors"), read_json(model / "styleforge.json")
    assert {value.dtype for value in tensors.values()} == {torch.float32} and tensors.keys() == load_file(
        in_fp32 / "delta.safetensors"
    ).keys()
    # What it belongs to are the files, however they were held.
    assert card["base"]["digest"] == read_json(in_fp32 / "styleforge.json")["base"]["digest"]
    assert load_bundle(model).family.precisions == Precisions(name, name, "bf16")


@pytest.mark.parametrize("name", ["bf16", "nf4"])
@pytest.mark.parametrize("base", ["xl", *(pytest.param(name, marks=() if name == "sd3" else pytest.mark.slow) for name in FLOWS)])
def test_positions_times_and_sizes_stay_as_fine_as_they_are(
    base: str, name: str, folders: Folders, tiny_xl_base: Path, tmp_path: Path
) -> None:
    """Of what a denoiser is told, states and latents alone are brought into its type, in every family."""
    folder = FLOWS[base](tmp_path / "base") if base in FLOWS else tiny_xl_base
    method = {"train_text_encoder": False}
    fp32 = losses(train(lora(folder, method=method), folders, "fp32"))
    held = losses(train(lora(folder, method=method, precision=name, offload=0.5), folders, "held"))
    assert held == pytest.approx(fp32, rel=CLOSE[name]) and held != fp32


@pytest.mark.parametrize("memory", [{"precision": "int8"}, {"offload": 0.5}])
def test_a_whole_model_is_the_delta_on_the_bases_own_weights(memory: dict[str, Any], tiny_base: Path, folders: Folders) -> None:
    """Nothing is folded into weights that were rounded."""
    delta = train(lora(tiny_base, **memory), folders, "delta")
    whole = train(lora(tiny_base, method={"save": "full"}, **memory), folders, "whole")
    folded = load_bundle(delta, memory=BaseSection()).family
    for name, folder in (("unet", UNET), ("text_encoder", "text_encoder/model.safetensors")):
        written = {key.removeprefix("text_model."): value for key, value in load_file(whole / folder).items()}
        assert {value.dtype for value in written.values()} == {torch.float32}
        own = {key.removeprefix("text_model."): value for key, value in folded.parts[name].state_dict().items()}
        assert all(torch.equal(written[key], value) for key, value in own.items() if key in written)
        assert len(written) >= 20


def test_offloading_and_turns_change_nothing(tiny_base: Path, folders: Folders, in_fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = load_file(in_fp32 / "delta.safetensors")
    for config in (lora(tiny_base, offload=1.0), lora(tiny_base)):
        tensors = load_file(train(config, folders, f"offload-{config.base.offload}") / "delta.safetensors")
        assert all(torch.equal(value, tensors[key]) for key, value in wanted.items())
        # The second time without turns.
        monkeypatch.setattr(families.Family, "turn", lambda *_: None)


@pytest.mark.parametrize(("train_text_encoder", "cached", "called"), [(False, True, {"unet"}), (True, True, {"unet", "text_encoder"}),
                                                                      (False, False, {"unet", "text_encoder", "vae"})])  # fmt: skip
def test_a_part_is_on_the_device_only_while_it_is_called(
    train_text_encoder: bool, cached: bool, called: set[str], tiny_base: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[set[str]] = []
    steps: list[int] = []
    original = Trainer._step
    monkeypatch.setattr(families.Family, "turn", lambda _, *names: turns.append(set(names)))
    monkeypatch.setattr(Trainer, "_step", lambda self, step: (steps.append(len(turns)), original(self, step))[1])
    options = {"steps": 1, "cache_latents": cached, "cache_text": cached}
    train(configure(tiny_base, method={"name": "lora", "train_text_encoder": train_text_encoder}, training=options), folders)
    assert turns[-1] == called and steps == [len(turns)]
    assert turns[:-1] == [*([{"vae"}] if cached else []), *([] if train_text_encoder else [{"text_encoder"}])]


class Elsewhere:
    """A record of where parts are, in the place of a second device."""

    def __init__(self, family: families.Family, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here = dict.fromkeys(family.parts, False)
        self.together: set[tuple[str, ...]] = set()
        self._names = {id(part): name for name, part in family.parts.items()}
        family.take_turns, family.device = True, torch.device("cpu")
        self._arrive = iter(())
        monkeypatch.setattr(families, "place", self._place)
        self._family = family

    def _place(self, part: torch.nn.Module, device: torch.device) -> None:
        # Both devices are the CPU here: the one that a part is called for is told by the object.
        self.here[self._names[id(part)]] = device is self._family.device
        self.together.add(tuple(name for name, here in self.here.items() if here))


def test_drawing_in_turns_draws_the_same(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [PromptRequest(f"{index}", "c", f"a dog {index}", f"a dog {index}") for index in range(5)]
    settings = SamplingSection(steps=2, batch_size=2, scheduler="ddim")
    wanted = [picture.tobytes() for _, picture in draw_pictures(bundle, requests, settings, 0)]
    from components.diffusion.sampling import sampler

    monkeypatch.setattr(sampler, "TOGETHER", 3)
    elsewhere = Elsewhere(bundle.family, monkeypatch)
    try:
        drawn = [picture.tobytes() for _, picture in draw_pictures(bundle, requests, settings, 0)]
    finally:
        bundle.family.take_turns = False
    assert drawn == wanted
    assert not any({"text_encoder", "unet"} <= set(names) for names in elsewhere.together)
    assert elsewhere.here == {"unet": True, "vae": True, "text_encoder": False}


@pytest.mark.parametrize(
    ("method", "memory", "training"),
    [
        (LORA, {"precision": "nf4", "offload": 0.5}, {"gradient_checkpointing": True}),
        pytest.param({"name": "dreambooth"}, {}, {"weights": "bf16", "gradient_checkpointing": True}, marks=pytest.mark.slow),
        ({"name": "textual-inversion"}, {"precision": "bf16"}, {"weights": "bf16", "optimizer": "lion"}),
    ],
    ids=["nf4", "bf16", "tokens"],
)
def test_interrupted_equals_uninterrupted(
    method: dict[str, Any], memory: dict[str, Any], training: dict[str, Any], tiny_base: Path, folders: Folders
) -> None:
    config = configure(tiny_base, method=method, base=memory, training={"steps": 4, "learning_rate": 1e-4, **training})
    whole = train(config, folders, "whole")
    cut_power(config, folders, "parts", 2)
    parts = train(config, folders, "parts")
    for model in (whole, parts):
        (model / "training" / "timing.json").unlink()
    assert digest_folder(whole) == digest_folder(parts)


def test_another_precision_goes_on_from_no_checkpoint(tiny_base: Path, folders: Folders) -> None:
    cut_power(lora(tiny_base, steps=4, precision="bf16"), folders, "model", 2)
    model = train(lora(tiny_base, steps=4, precision="fp8"), folders, "model")
    assert read_json(model / "training" / "timing.json")["resumed_from"] == 0
    # Where a part lies changes nothing, so it may.
    cut_power(lora(tiny_base, steps=4, precision="bf16"), folders, "moved", 2)
    moved = train(lora(tiny_base, steps=4, precision="bf16", offload=1.0), folders, "moved")
    assert read_json(moved / "training" / "timing.json")["resumed_from"] == 2


def test_whole_weights_in_bf16_follow_those_in_fp32(tiny_base: Path, folders: Folders) -> None:
    """At a rate whose steps are below bf16's resolution: rounded to the nearest they would not move."""
    before = load_file(tiny_base / UNET)
    after = {}
    for weights in ("fp32", "bf16"):
        config = configure(tiny_base, method={"name": "dreambooth"}, training={"weights": weights, "steps": 4, "learning_rate": 5e-5})
        after[weights] = load_file(train(config, folders, weights) / UNET)
    # What every weight was moved by, from where it began.
    begun = {"fp32": before, "bf16": {key: value.bfloat16().float() for key, value in before.items()}}
    moved = {weights: torch.cat([(tensors[key] - begun[weights][key]).flatten() for key in before]) for weights, tensors in after.items()}
    assert after["bf16"]["conv_in.weight"].dtype == torch.float32
    assert float(moved["bf16"] @ moved["fp32"] / (moved["fp32"] @ moved["fp32"])) == pytest.approx(1.0, abs=0.1)


def test_pictures_tell_in_which_precision_they_were_drawn(tiny_base: Path, tmp_path: Path) -> None:
    request = [PromptRequest("a", "c", "a dog", "a dog")]
    settings = SamplingSection(steps=2, repeats=1, scheduler="ddim")
    memory = BaseSection(precision="nf4", offload=0.5)  # type: ignore[arg-type]
    plain, held = load_bundle(tiny_base), load_bundle(tiny_base, memory=memory)
    from components.diffusion.sampling.jobs import Job
    from components.diffusion.sampling.sampler import describe

    job = Job(request[0], 0, 1)
    assert "precision" not in describe(job, plain, settings)
    assert describe(job, held, settings)["precision"] == {"denoiser": "nf4", "text_encoders": "nf4"}
    # So a picture of another precision is drawn anew.
    first = digest_folder(sample_bank(plain, request, settings, 0, tmp_path / "out"))
    assert digest_folder(sample_bank(held, request, settings, 0, tmp_path / "out")) != first


def test_what_does_not_go_with_fetched_layers_is_refused() -> None:
    def refused(said: str, **sections: Any) -> None:
        with pytest.raises(ConfigError, match=said):
            parse_config({"style": {"name": "anime", "source": "unused"}, **sections})

    for base in ({"precision": "int8"}, {"offload": 0.5}):
        refused(r"training\.compile", base=base, training={"compile": True})
        refused(r"method\.lora\.dora", base=base, method={"name": "lora", "lora": {"dora": True}})
    for training in ({"optimizer": "prodigy"}, {"optimizer": "schedule-free"}, {"ema_decay": 0.9}, {"mixed_precision": "fp16"}):
        refused("training", training={"weights": "bf16", **training})


def test_the_card_keeps_how_the_base_was_held(tiny_base: Path, folders: Folders) -> None:
    model = train(lora(tiny_base, precision={"denoiser": "fp8"}, offload=0.5), folders)
    assert read_json(model / "styleforge.json")["base"]["memory"] == {
        "precision": {"denoiser": "fp8", "text_encoders": "auto", "vae": "auto"}, "offload": 0.5,
    }  # fmt: skip
    card = json.loads((model / "styleforge.json").read_text())
    card["base"].pop("memory")
    (model / "styleforge.json").write_text(json.dumps(card))
    # Models of earlier versions say nothing of it.
    assert load_bundle(model).family.precisions == Precisions()


def test_a_machine_that_lacks_something_says_so_before_any_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def checked(**sections: Any) -> None:
        check_machine(parse_config({"style": {"name": "anime", "source": "unused"}, **sections}))

    checked(base={"precision": "nf4"}, training={"optimizer": "lion"})
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"base\.precision\.denoiser.*bitsandbytes"):
        checked(base={"precision": "nf4"})
    with pytest.raises(ConfigError, match=r"training\.optimizer.*pytorch-optimizer"):
        checked(training={"optimizer": "lion"})


def test_compiling_on_the_cpu_without_a_compiler_is_refused_before_any_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFORGE_DEVICE", "cpu")
    config = parse_config({"style": {"name": "anime", "source": "unused"}, "training": {"compile": True}})
    monkeypatch.setenv("CXX", "sh")
    check_machine(config)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match=r"training\.compile.*compiler"):
        check_machine(config)
