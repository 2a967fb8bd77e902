import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cli.app import app
from components.core.errors import InputError
from components.evaluation.extractors.convert import convert
from components.evaluation.extractors.factory import make_extractor
from tests.components.evaluation.extractors.conftest import csd_weights, images, save_csd_checkpoint, sscd_weights


def _header(file: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(file, "np") as content:
        return json.loads(content.metadata()["styleforge"])


def test_csd_as_its_authors_publish_it(tmp_path: Path) -> None:
    """With an optimizer's numpy scalars and the arguments of the training in it, which ``weights_only`` alone refuses."""
    weights = csd_weights()
    file = save_csd_checkpoint(tmp_path / "pytorch_model.bin", weights)
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(file, weights_only=True)
    written = convert("csd", file)
    assert written == tmp_path / "pytorch_model.safetensors"
    assert _header(written).items() >= {"network": "csd", "source": "pytorch_model.bin"}.items()
    extractor = make_extractor(f"csd:{written}", "x", device="cpu")
    assert extractor.encode_images(images(2)).shape == (2, 12)
    again = convert("csd", file, tmp_path / "again" / "csd.safetensors")
    assert again.read_bytes() == written.read_bytes()
    plain = tmp_path / "state.pth"
    torch.save({name: value.half() for name, value in weights.items()}, plain)
    half = make_extractor(f"csd:{convert('csd', plain)}", "x", device="cpu")
    np.testing.assert_allclose(half.encode_images(images(2)), extractor.encode_images(images(2)), atol=1e-2)


def _classy(name: str) -> str:
    """Classy Vision's name of a weight that torchvision's ResNet has."""
    name = re.sub(r"^backbone\.(conv|bn)1\.", lambda of: f"backbone.initial_block._module.{int(of[1] == 'bn')}.", name)
    name = re.sub(r"^backbone\.fc\.", "embeddings.1.", name)
    name = re.sub(r"layer(\d)\.(\d)\.", lambda of: f"blocks.{int(of[1]) - 1}.{of[2]}._module.", name)
    name = re.sub(r"\.bn3\.", ".bn.", name)
    return re.sub(r"\.(conv|bn)(\d)\.", lambda of: f".convolutional_block.{3 * int(of[2]) - 3 + (of[1] == 'bn')}.", name)


def test_sscd_in_both_of_its_namings(tmp_path: Path) -> None:
    weights = sscd_weights()
    torch.save(weights, tmp_path / "sscd_disc_mixup.torchvision.pt")
    classy = {_classy(name): value for name, value in weights.items()}
    assert not set(classy) & set(weights) and len(classy) == len(weights)
    torch.save(classy, tmp_path / "sscd_disc_mixup.classy.pt")
    written = [convert("sscd", tmp_path / f"sscd_disc_mixup.{kind}.pt") for kind in ("torchvision", "classy")]
    assert [file.name for file in written] == [f"sscd_disc_mixup.{kind}.safetensors" for kind in ("torchvision", "classy")]
    first, second = (make_extractor(f"sscd:{file}", "x", device="cpu").encode_images(images(2)) for file in written)
    np.testing.assert_array_equal(first, second)


class _Runs:
    """Creates a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Path]]:
        return Path.touch, (self.file,)


def test_bad_input(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    torch.save({"model_state_dict": csd_weights(), "extra": _Runs(tmp_path / "ran")}, tmp_path / "code.pt")
    torch.save(sscd_weights(), tmp_path / "other.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    torch.save({"model_state_dict": 3}, tmp_path / "number.pt")
    (tmp_path / "text.pt").write_text("no weights")
    save_file(csd_weights(), tmp_path / "done.pt")
    for name, message in (
        ("missing", "no such file"),
        ("script", "TorchScript archive, whose code would have to run"),
        ("code", "cannot be read as tensors"),
        ("other", "weights of another network"),
        ("tensor", "holds a Tensor"),
        ("number", "its weights are a int"),
        ("text", "cannot be read as tensors"),
        ("done", "safetensors already"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            convert("csd", tmp_path / f"{name}.pt")
        assert caught.value.where == str(tmp_path / f"{name}.pt") and caught.value.expected and caught.value.remedy
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        convert("csd", tmp_path / "other.pt", tmp_path / "out.bin")
    same = (tmp_path / "other.pt").rename(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="would be overwritten"):
        convert("sscd", same)
    same.rename(tmp_path / "other.pt")
    assert not (tmp_path / "ran").exists()
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".safetensors" or path.name.startswith(".")]


def test_the_command(tmp_path: Path) -> None:
    file, out = save_csd_checkpoint(tmp_path / "a.bin", csd_weights()), tmp_path / "b.safetensors"
    result = CliRunner().invoke(app, ["convert", "csd", str(file), "--out", str(out), "--json"])
    answer = json.loads(result.stdout.splitlines()[-1])
    assert result.exit_code == 0 and answer["extractor"] == f"csd:{out}" and out.is_file()
    result = CliRunner().invoke(app, ["convert", "sscd", str(file)])
    assert result.exit_code == 2 and "weights of another network" in result.stderr
    assert not file.with_suffix(".safetensors").exists()
    assert CliRunner().invoke(app, ["convert", "vgg", str(file)]).exit_code == 2
