import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components.core.config import RunConfig, parse_config
from components.core.content import digest_file
from components.diffusion.models.bundle import Bundle, load_bundle
from components.diffusion.training.checkpoints import Checkpoints
from components.diffusion.training.fine_tuning import fine_tune
from tests.fixtures_models import tiny_sd_folder, tiny_sdxl_folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sd_folder(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="session")
def tiny_v_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sd_folder(tmp_path_factory.mktemp("base") / "tiny-v", prediction_type="v_prediction")


@pytest.fixture(scope="session")
def tiny_xl_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl_folder(tmp_path_factory.mktemp("base") / "tiny-xl")


@pytest.fixture(scope="module")
def bundle(tiny_base: Path) -> Bundle:
    return load_bundle(tiny_base, device="cpu")


@pytest.fixture(scope="module")
def xl(tiny_xl_base: Path) -> Bundle:
    return load_bundle(tiny_xl_base, device="cpu")


@pytest.fixture
def copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


@pytest.fixture
def xl_copy(tiny_xl_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_xl_base, tmp_path / "copy"))


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.fixture(scope="session")
def bases(tiny_base: Path, tiny_v_base: Path, tiny_xl_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    # The second generation's text encoder is OpenCLIP's, which has another activation.
    second = Path(shutil.copytree(tiny_v_base, tmp_path_factory.mktemp("second") / "base"))
    edit(second / "text_encoder" / "config.json", hidden_act="gelu")
    return {"sd1": tiny_base, "sd2": second, "sdxl": tiny_xl_base}


class Folders:
    def __init__(self, root: Path) -> None:
        self.style_set, self.split, self.aux, self.out, self.checkpoints = (
            root / name for name in ("style_set", "split", "aux", "model", "ck")
        )

    @property
    def inputs(self) -> tuple[Path, Path, Path]:
        return self.style_set, self.split, self.aux


def write_folders(root: Path, style: int = 5, aux: int = 4, reference: int = 0, backgrounds: int = 0) -> Folders:
    """Random pictures; the last ``backgrounds`` of StyleRef show no people, and Aux then has a concept for either."""
    folders = Folders(root)
    generator = np.random.default_rng(0)

    def draw(file: Path, size: tuple[int, int]) -> str:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (*size, 3), dtype=np.uint8)).save(file)
        return digest_file(file)

    rows: list[dict[str, Any]] = []
    for split, count in (("style_ref", style), ("reference", reference)):
        for index in range(count):
            path = f"{split}/{index}.png"
            digest = draw(folders.style_set / "images" / path, (40, 52))
            rows.append({"path": path, "sha256": digest, "caption": f"a man {index}", "role": "character", "split": split, "problem": None})
    (folders.style_set / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folders.split.mkdir()
    chosen = [
        {"path": row["path"], "role": role, "confidence": 1.0, "source": "metadata"}
        for row, role in zip(rows, ["character"] * (style - backgrounds) + ["background"] * backgrounds, strict=False)
    ]
    held_out = [row["path"] for row in rows if row["split"] == "reference"]
    split_file = {"method": "metadata", "style_ref": chosen, "reference": held_out, "reference_is_style_ref": not held_out}
    (folders.split / "split.json").write_text(json.dumps(split_file))
    listed = []
    for index in range(aux):
        draw(folders.aux / "images" / f"{index}.png", (48, 36))
        listed.append({"file_name": f"images/{index}.png", "text": "a woman", "prompt": None, "source": "curated", "origin": "pool"})
        if backgrounds:
            listed[-1]["concept"] = ("sks", "ukj")[index % 2]
    folders.aux.mkdir(exist_ok=True)
    (folders.aux / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    return folders


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return write_folders(tmp_path / "run")


def configure(base: Path, /, **settings: Any) -> RunConfig:
    """A short run on a base; each of ``settings`` is a section's changes, or a value."""
    data: dict[str, Any] = {
        "seed": 3, "style": {"name": "anime", "source": "unused"}, "base": {"model": str(base)},
        "training": {"steps": 6, "learning_rate": 1e-3, "batch_size": 2, "checkpoint_every": 2, "validate_every": 3, "buckets": False},
        "sampling": {"steps": 3, "repeats": 2, "batch_size": 4},
    }  # fmt: skip
    for section, values in settings.items():
        data[section] = {**data.get(section, {}), **values} if isinstance(values, dict) else values
    return parse_config(data)


def train(config: RunConfig, folders: Folders, name: str = "model", **options: Any) -> Path:
    """A model beside the folders; its checkpoints go to ``ck-<name>``."""
    root = folders.out.parent
    return fine_tune(config, *folders.inputs, root / name, root / f"ck-{name}", **options)


class PowerCutError(Exception):
    pass


def cut_power(config: RunConfig, folders: Folders, name: str, step: int) -> None:
    """Train until a power cut right after the checkpoint of ``step``."""
    original = Checkpoints.write

    def write(self: Checkpoints, at: int, tensors: Any, state: Any) -> Path:
        path = original(self, at, tensors, state)
        if at == step:
            raise PowerCutError
        return path

    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(Checkpoints, "write", write)
        train(config, folders, name)
    assert not (folders.out.parent / name).exists()


class Trained:
    """Models of two steps at a high rate, each trained once for the whole suite: nothing may change them."""

    def __init__(self, root: Path, base: Path) -> None:
        self._root, self._base = root, base
        self._done: dict[str, Path] = {}

    def __call__(self, name: str, base: Path | None = None, **method: Any) -> Path:
        key = json.dumps([name, str(base), method], sort_keys=True)
        if key not in self._done:
            folders = write_folders(self._root / f"{len(self._done)}-{name}")
            training = {"steps": 2, "learning_rate": 0.05, "validation_prompts": ["a photo of {token} style, a man"]}
            sampling = {"negative_prompt": "a dog"}
            config = configure(base or self._base, method={"name": name, **method}, training=training, sampling=sampling)
            self._done[key] = fine_tune(config, *folders.inputs, folders.out, folders.checkpoints)
        return self._done[key]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"), tiny_base)


LATENTS = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(0))


def predict(model: Path, prompt: str) -> torch.Tensor:
    """A model's prediction for the same latents each time."""
    family = load_bundle(model, device="cpu").family
    with torch.no_grad():
        return family.predict(LATENTS, torch.tensor([500]), family.encode_prompts([prompt]))


def predict_with(pipeline: Any, prompt: str) -> torch.Tensor:
    """The same through diffusers alone."""
    with torch.no_grad():
        encoded = pipeline.encode_prompt(prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
        added: dict[str, Any] = {}
        if len(encoded) == 4:
            added = {"added_cond_kwargs": {"text_embeds": encoded[2], "time_ids": torch.tensor([[32.0, 32, 0, 0, 32, 32]])}}
        prediction: torch.Tensor = pipeline.unet(LATENTS, torch.tensor([500]), encoder_hidden_states=encoded[0], **added).sample
    return prediction
