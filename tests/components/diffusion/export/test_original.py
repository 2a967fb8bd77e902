import dataclasses
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from components.core.errors import InputError
from components.diffusion.export.original import kind_of, original_tensors, rename, write_original
from components.diffusion.models.bundle import Bundle, load_bundle
from components.diffusion.models.layouts import FILE_KINDS
from tests.components.diffusion.conftest import edit
from tests.fixtures_models import tiny_sdxl_folder
from tests.fixtures_original import KINDS, SIZES

PROMPTS = ("a photo of sks style, a man", "a house", "a dog wearing hat, city")


def write(base: Path, folder: Path) -> tuple[Bundle, Path]:
    bundle = load_bundle(base, device="cpu")
    file = write_original(bundle.family, folder / "model.safetensors")
    bundle.family.save(folder / "model", weights=False)
    return bundle, file


def at_home(networks: Any) -> None:
    """Give every weight memory of its own: products round otherwise where weights lie otherwise, as mapped from two files."""
    for network in networks:
        for value in network.parameters():
            value.data = value.data.clone(memory_format=torch.contiguous_format)


@pytest.mark.parametrize("kind", KINDS)
def test_from_single_file_draws_the_same_pictures(bases: dict[str, Path], tmp_path: Path, kind: str) -> None:
    bundle, file = write(bases[kind], tmp_path)
    assert kind_of(bundle.family).title == KINDS[kind]
    cls = getattr(diffusers, bundle.family.layout.pipeline)
    pictures = []
    for pipeline in (cls.from_pretrained(bases[kind]), cls.from_single_file(str(file), config=str(tmp_path / "model"))):
        pipeline.set_progress_bar_config(disable=True)
        at_home(part for part in pipeline.components.values() if isinstance(part, torch.nn.Module))
        generator = torch.Generator().manual_seed(3)
        pictures.append(pipeline(PROMPTS[0], num_inference_steps=3, generator=generator, output_type="np").images[0])
    assert np.array_equal(*pictures) and pictures[0].std() > 0.01


def test_v_prediction_is_marked(bases: dict[str, Path], tmp_path: Path) -> None:
    plain = original_tensors(load_bundle(bases["sdxl"], device="cpu").family)
    assert not {"v_pred", "ztsnr"} & set(plain)
    base = tiny_sdxl_folder(tmp_path / "v", prediction_type="v_prediction")
    edit(base / "scheduler" / "scheduler_config.json", rescale_betas_zero_snr=True)
    _, file = write(base, tmp_path / "out")
    assert set(load_file(file)) == {*plain, "v_pred", "ztsnr"}
    assert load_bundle(file, device="cpu").family.objective.prediction_type == "v_prediction"


@pytest.mark.parametrize(
    "name", ["time_embedding.linear_9.weight", "down_blocks.0.motion_modules.0.x", "up_blocks.0.resnets.0.conv9.weight"]
)
def test_what_has_no_place_is_refused(bases: dict[str, Path], name: str) -> None:
    family = load_bundle(bases["sd1"], device="cpu").family
    parts = {part: dict(network.state_dict()) for part, network in family.parts.items()}
    parts["unet"][name] = torch.zeros(1)
    with pytest.raises(InputError, match="does not fit a one-file checkpoint"):
        rename(parts, {part: network.config for part, network in family.parts.items()}, FILE_KINDS[1])


# Names that published checkpoints are known by, of blocks that a tiny model does not have.
PUBLISHED = {
    "down_blocks.0.downsamplers.0.conv.weight": "input_blocks.3.0.op.weight",
    "down_blocks.1.attentions.1.proj_in.weight": "input_blocks.5.1.proj_in.weight",
    "down_blocks.3.resnets.1.conv1.weight": "input_blocks.11.0.in_layers.2.weight",
    "mid_block.attentions.0.norm.weight": "middle_block.1.norm.weight",
    "mid_block.resnets.1.time_emb_proj.bias": "middle_block.2.emb_layers.1.bias",
    "up_blocks.0.upsamplers.0.conv.bias": "output_blocks.2.1.conv.bias",
    "up_blocks.1.upsamplers.0.conv.bias": "output_blocks.5.2.conv.bias",
    "up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_k.weight": "output_blocks.11.1.transformer_blocks.0.attn2.to_k.weight",
    "up_blocks.3.resnets.0.conv_shortcut.weight": "output_blocks.9.0.skip_connection.weight",
}


@pytest.mark.parametrize("name", SIZES)
def test_a_network_of_the_published_size_comes_back_name_by_name(name: str) -> None:
    from diffusers.loaders import single_file_utils

    config, count = SIZES[name]
    part, cls, prefix, back = {
        "vae": ("vae", diffusers.AutoencoderKL, "first_stage_model.", single_file_utils.convert_ldm_vae_checkpoint),
    }.get(name, ("unet", diffusers.UNet2DConditionModel, "model.diffusion_model.", single_file_utils.convert_ldm_unet_checkpoint))
    with torch.device("meta"):
        network = cls(**config)
    tensors = dict(network.state_dict())
    kind = dataclasses.replace(FILE_KINDS[1], prefixes={part: prefix})
    renamed = rename({part: tensors}, {part: network.config}, kind)
    # As many as the published file holds of it.
    assert len(renamed) == len(tensors) == count
    if name == "sd1":
        assert [old for old, new in PUBLISHED.items() if renamed[prefix + new] is not tensors[old]] == []
    if name == "vae":
        assert renamed["first_stage_model.decoder.mid.attn_1.q.weight"].shape == (512, 512, 1, 1)
    shapes = {name: value.shape for name, value in tensors.items()}
    assert {name: value.shape for name, value in back(dict(renamed), network.config).items()} == shapes
