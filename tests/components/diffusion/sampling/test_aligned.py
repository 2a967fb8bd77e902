"""StyleAligned: attention to a picture of the style by hand, and a model that is its base and a picture."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention
from PIL import Image

from components.core.errors import ConfigError, InputError
from components.core.model_card import read_card
from components.diffusion.export.portable import check_format, formats_of, open_model
from components.diffusion.models.bundle import load_bundle
from components.diffusion.models.layouts import LAYOUTS
from components.diffusion.models.sources import BaseFacts
from components.diffusion.sampling.aligned import AlignedAttention
from components.diffusion.sampling.guidance import Guidance
from components.diffusion.sampling.jobs import PromptRequest, jobs_for
from components.diffusion.sampling.sampler import denoise, draw_pictures
from components.diffusion.training.fit import check_fit
from components.diffusion.training.methods import method_for
from tests.components.diffusion.conftest import Folders, configure, train, write_folders

METHOD = {"name": "stylealigned"}


def test_attention_by_hand() -> None:
    """Queries and keys with the first row's mean and spread; keys and values of both."""
    torch.manual_seed(0)
    attention = Attention(query_dim=8, heads=2, dim_head=4, bias=False)
    states = torch.randn(6, 5, 8)
    found = AlignedAttention(3)(attention, states)
    queries, keys, values = attention.to_q(states), attention.to_k(states), attention.to_v(states)

    def in_line(row: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        return first.std(0, unbiased=False) * (row - row.mean(0)) / row.std(0, unbiased=False) + first.mean(0)

    for row in range(6):
        first = row - row % 3
        query = in_line(queries[row], queries[first])
        key = torch.cat([in_line(keys[row], keys[first]), keys[first]])
        value = torch.cat([values[row], values[first]])
        heads = [torch.softmax(query[:, part] @ key[:, part].T / 2.0, dim=-1) @ value[:, part] for part in (slice(0, 4), slice(4, 8))]
        expected = attention.to_out[0](torch.cat(heads, dim=-1))
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-6)
    # The style's picture itself is as if it were alone.
    torch.testing.assert_close(found[[0, 3]], attention(states)[[0, 3]], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return write_folders(tmp_path_factory.mktemp("aligned"))


@pytest.fixture(scope="module")
def model(tiny_base: Path, folders: Folders) -> Path:
    return train(configure(tiny_base, method=METHOD), folders)


def pictures(model: Path | str, *requests: PromptRequest, batch: int = 4) -> list[np.ndarray]:
    settings = configure(Path("unused")).sampling.model_copy(update={"batch_size": batch, "guidance": 3.0})
    return [np.asarray(picture) for _, picture in draw_pictures(load_bundle(model, device="cpu"), requests, settings, 1)]


STYLED = [PromptRequest(name, "people", text, f"a photo of sks style, {text}", ("sks",)) for name, text in (("a", "a man"), ("b", "a dog"))]
PLAIN = PromptRequest("p", "people", "a man", "a photo of a man")


def test_a_model_is_its_base_and_a_picture(model: Path, tiny_base: Path, folders: Folders, tmp_path: Path) -> None:
    card = read_card(model)
    assert card["reference_prompt"].startswith("a photo of sks style") and card["training"]["trains"] == []
    with Image.open(model / "reference.png") as kept:
        rows = [json.loads(line) for line in (folders.style_set / "manifest.jsonl").read_text().splitlines()]
        files = [folders.style_set / "images" / row["path"] for row in rows if row["split"] == "style_ref"]
        assert any(np.array_equal(np.asarray(kept), np.asarray(Image.open(file))) for file in files)
    ours, bases = pictures(model, *STYLED), pictures(tiny_base, *STYLED)
    assert all(not np.array_equal(one, other) for one, other in zip(ours, bases, strict=True))
    # Alone or beside another, a picture is the same to a rounding.
    alone = pictures(model, STYLED[1], batch=1)
    assert np.abs(alone[0].astype(int) - ours[1]).max() <= 1
    # Without the identifier it is the base.
    assert np.array_equal(pictures(model, PLAIN)[0], pictures(tiny_base, PLAIN)[0])
    # Another picture is another model.
    before = load_bundle(model, device="cpu").digest
    other = Path(tmp_path / "other")
    other.mkdir()
    for file in model.iterdir():
        if file.is_file():
            (other / file.name).write_bytes(file.read_bytes())
    (other / "reference.png").unlink()
    with pytest.raises(InputError, match=r"reference\.png: is missing"):
        load_bundle(other, device="cpu")
    Image.new("RGB", (40, 52), "red").save(other / "reference.png")
    assert load_bundle(other, device="cpu").digest != before
    # By latents: the tiny VAE's are so small beside the noise that 8 bits do not show it.
    settings, jobs = configure(Path("unused")).sampling, jobs_for(STYLED, 1, 1)
    with torch.no_grad():
        found = [denoise(bundle, jobs, settings, Guidance(bundle, settings)) for bundle in map(load_bundle, (model, other))]
    assert not torch.allclose(*found, rtol=0, atol=1e-5)


def test_what_it_cannot_do_is_refused(model: Path) -> None:
    opened = open_model(model)
    assert formats_of(opened) == []
    with pytest.raises(InputError, match="its base, drawn in line with an image"):
        check_format(opened, "diffusers", "--format")
    config = configure(Path("base"), method=METHOD)
    with pytest.raises(ConfigError, match=r"method\.name=stylealigned: needs denoiser\.self-attention"):
        check_fit(config, method_for(config.method), BaseFacts(LAYOUTS["StableDiffusion3Pipeline"], {}, {}, {}))
