"""Counts of the published shapes, from configurations alone."""

from pathlib import Path

import pytest
import torch

from components.core.errors import InputError
from components.diffusion.planning.shapes import family_from_configuration, network_of
from tests.components.diffusion.conftest import edit
from tests.components.diffusion.planning.published import COUNTS, Part, write, write_base


@pytest.mark.parametrize(("part", "millions"), COUNTS.values(), ids=COUNTS)
def test_parameters_are_as_many_as_is_published(part: Part, millions: float, tmp_path: Path) -> None:
    library, cls, config = part
    write(tmp_path / "config.json", config)
    network = network_of(tmp_path, library, cls)
    assert {value.device for value in network.parameters()} == {torch.device("meta")}
    assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_a_family_is_made_of_its_configuration_without_weights(tmp_path: Path) -> None:
    family = family_from_configuration(write_base("sdxl", tmp_path))
    assert family.resolution == 1024
    assert {value.device.type for part in family.parts.values() for value in (*part.parameters(), *part.buffers())} == {"meta"}


def test_a_configuration_that_makes_no_network_is_refused(tmp_path: Path) -> None:
    folder = write_base("sd15", tmp_path)
    edit(folder / "unet" / "config.json", down_block_types=["NoSuchBlock"] * 4)
    with pytest.raises(InputError, match="no network can be built"):
        family_from_configuration(folder)
