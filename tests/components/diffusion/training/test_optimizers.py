import copy
import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from components.core.config import TrainingSection, parse_config
from components.core.config.sections import OptimizerName
from components.core.content import digest_folder
from components.core.errors import ConfigError
from components.diffusion.training import optimizers
from components.diffusion.training.checkpoints import flatten_optimizer, save_tensors, unflatten_optimizer
from components.diffusion.training.optimizers import OPTIMIZERS, check_optimizer, learning_rate, make_optimizer, state_bytes
from components.diffusion.training.stochastic_rounding import StochasticallyRounded, round_stochastically
from tests.components.diffusion.conftest import Folders, configure, cut_power, train

SHAPES = ((96, 128), (16, 8, 3, 3), (80,))
RATES = {"prodigy": 1.0}
ROUNDED = sorted(set(OPTIMIZERS) - {"prodigy", "schedule-free"})


def build(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
    generator = torch.Generator().manual_seed(0)
    values = [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]
    rate = RATES.get(name, 1e-2)
    groups = [{"params": values[:2], "lr": rate}, {"params": values[2:], "lr": rate}]
    return values, make_optimizer(groups, TrainingSection(optimizer=name, **options))


def move(values: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, step: int) -> None:
    """Towards zero, with noise."""
    generator = torch.Generator().manual_seed(step)
    for value in values:
        value.grad = (value.detach().float() + 0.1 * torch.randn(value.shape, generator=generator)).to(value.dtype)
    optimizer.step()


def through_json(optimizer: torch.optim.Optimizer, folder: Path) -> dict[str, Any]:
    """An optimizer's state as a checkpoint gives it back."""
    from safetensors.torch import load_file

    tensors, plain = flatten_optimizer(optimizer.state_dict())
    save_tensors(folder / "optimizer.safetensors", tensors)
    return unflatten_optimizer(load_file(folder / "optimizer.safetensors"), json.loads(json.dumps(plain, allow_nan=False)))


def test_every_name_of_the_configuration_has_an_optimizer() -> None:
    assert set(OPTIMIZERS) == set(get_args(OptimizerName))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_goes_downhill_and_holds_what_the_table_says(name: str) -> None:
    values, optimizer = build(name)
    before = sum(float(value.detach().square().sum()) for value in values)
    for step in range(30):
        move(values, optimizer, step)
    assert sum(float(value.detach().square().sum()) for value in values) < (0.9999 if name == "prodigy" else 0.95) * before
    for value in values:
        # Counters and bitsandbytes' two tables for all parameters do not count.
        held = [state for key, state in optimizer.state[value].items() if torch.is_tensor(state) and state.dim() and "qmap" not in key]
        assert sum(state.numel() * state.element_size() for state in held) == state_bytes(name, value.shape)


@pytest.mark.parametrize(("name", "dtype"), [(name, torch.float32) for name in OPTIMIZERS] + [(name, torch.bfloat16) for name in ROUNDED])
def test_a_state_that_was_saved_moves_on_bit_for_bit(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    values, optimizer = build(name, dtype)
    for step in range(3):
        move(values, optimizer, step)
    others, other = build(name, dtype)
    with torch.no_grad():
        for own, value in zip(others, values, strict=True):
            own.copy_(value)
    other.load_state_dict(through_json(optimizer, tmp_path))
    for step in range(3, 6):
        move(values, optimizer, step)
        move(others, other, step)
    assert all(torch.equal(own, value) for own, value in zip(others, values, strict=True))


@pytest.mark.parametrize("name", ["prodigy", "lion", "schedule-free", "adafactor", "adamw8bit"])
def test_interrupted_equals_uninterrupted(name: str, tiny_base: Path, folders: Folders) -> None:
    method = {"name": "lora", "train_text_encoder": True}
    config = configure(tiny_base, method=method, training={"optimizer": name, "steps": 4, "learning_rate": None, "warmup_steps": 2})
    whole = train(config, folders, "whole")
    cut_power(config, folders, "parts", 2)
    parts = train(config, folders, "parts")
    for model in (whole, parts):
        (model / "training" / "timing.json").unlink()
    assert digest_folder(whole) == digest_folder(parts)


def test_adafactor_has_adamws_rate() -> None:
    """Whatever the size of the weights: those that begin with zeros, as LoRA's do, would otherwise hardly move."""
    for scale in (0.0, 0.02):
        value = torch.nn.Parameter(torch.full((8, 8), scale))
        optimizer = make_optimizer([{"params": [value], "lr": 1e-3}], TrainingSection(optimizer="adafactor", weight_decay=0.0))
        value.grad = torch.ones(8, 8)
        optimizer.step()
        torch.testing.assert_close(value.detach(), torch.full((8, 8), scale - 1e-3))


def test_schedule_free_is_judged_at_the_average_and_trained_beside_it() -> None:
    """x, y and z of Defazio et al., 2024, equations 1 to 3, for one parameter by hand, without a second moment to speak of."""
    values = [torch.nn.Parameter(torch.tensor([1.0]))]
    optimizer: Any = make_optimizer(
        [{"params": values, "lr": 0.1}], TrainingSection(optimizer="schedule-free", adam_betas=(0.9, 0.5), weight_decay=0.0)
    )
    x = z = 1.0
    second = 0.0
    for step in range(1, 6):
        y = 0.1 * z + 0.9 * x
        assert values[0].item() == pytest.approx(y, abs=1e-6)
        second = 0.5 * second + 0.5 * y * y
        z -= 0.1 * y / math.sqrt(second / (1 - 0.5**step))
        x += (z - x) / step
        values[0].grad = values[0].detach().clone()
        optimizer.step()
    optimizer.eval()
    assert values[0].item() == pytest.approx(x, abs=1e-6)
    optimizer.train()
    assert values[0].item() == pytest.approx(0.1 * z + 0.9 * x, abs=1e-6)


def test_the_default_rate_is_the_optimizers() -> None:
    wanted = {"adamw": 1e-4, "adamw8bit": 1e-4, "adafactor": 1e-4, "prodigy": 1.0, "lion": 2e-5, "schedule-free": 1e-4}
    assert {name: learning_rate(TrainingSection(optimizer=name), 1e-4) for name in OPTIMIZERS} == pytest.approx(wanted)
    assert learning_rate(TrainingSection(optimizer="prodigy", learning_rate=0.5), 1e-4) == 0.5


@pytest.mark.parametrize(("name", "package"), [("adamw8bit", "bitsandbytes"), ("lion", "pytorch-optimizer")])
def test_one_that_is_not_installed_is_refused_with_the_remedy(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=rf"training\.optimizer.*{package}") as caught:
        check_optimizer(TrainingSection(optimizer=name))
    assert f"pip install {package}" in str(caught.value)
    check_optimizer(TrainingSection())


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"optimizer": "prodigy", "learning_rate": 1.0, "text_encoder_learning_rate": 0.5}, "text_encoder_learning_rate"),
        ({"optimizer": "prodigy", "token_learning_rate": 1.0}, "token_learning_rate"),
        ({"optimizer": "schedule-free", "schedule": "cosine"}, "training.schedule"),
        ({"optimizer": "schedule-free", "ema_decay": 0.9}, "training.ema_decay"),
        ({"optimizer": "adam"}, "adamw"),
    ],
)
def test_what_does_not_go_with_an_optimizer_is_refused_as_configuration(training: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config({"style": {"name": "anime", "source": "unused"}, "training": training})


def test_rounding_is_to_a_neighbour_and_right_in_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([1.0, 1.003, -1.003, 3e-5, -7e4, 1.0 + 2**-9])
    drawn = torch.stack([round_stochastically(values, generator).float() for _ in range(4000)])
    step = torch.tensor([math.ldexp(1.0, math.frexp(float(value))[1] - 8) for value in values])
    assert ((drawn - values).abs() < step).all()
    # The mean of 4,000 draws, each off by half a step at most in standard deviation.
    assert ((drawn.mean(dim=0) - values).abs() < 4 * 0.5 * step / math.sqrt(4000)).all()
    # A number that bf16 holds stays, and so does what is no number.
    assert (drawn[:, 0] == 1.0).all()
    odd = torch.tensor([math.inf, -math.inf, math.nan, torch.finfo(torch.bfloat16).max])
    torch.testing.assert_close(round_stochastically(odd, generator), odd.bfloat16(), equal_nan=True)


@pytest.mark.parametrize("name", ROUNDED)
def test_small_updates_are_not_lost_in_bf16(name: str) -> None:
    """An update of a hundredth of bf16's step: rounded to the nearest the weights would stay where they are."""
    means = {}
    for dtype in (torch.float32, torch.bfloat16):
        value = torch.nn.Parameter(torch.ones(64, 128, dtype=dtype))
        optimizer = make_optimizer([{"params": [value], "lr": 4e-5}], TrainingSection(optimizer=name, weight_decay=0.0))
        for _ in range(50):
            value.grad = torch.ones_like(value)
            optimizer.step()
        assert value.dtype == dtype
        means[dtype] = float(value.detach().float().mean())
    assert means[torch.float32] == pytest.approx(1 - 50 * 4e-5, abs=2e-5)
    assert means[torch.bfloat16] == pytest.approx(means[torch.float32], abs=2e-4)


def test_the_same_seed_rounds_alike_and_fp32_stays_as_it_is_among_bf16() -> None:
    def run(seed: int) -> list[torch.nn.Parameter]:
        values, _ = build("adamw", torch.bfloat16)
        values[2] = torch.nn.Parameter(values[2].detach().float())
        optimizer = make_optimizer([{"params": values, "lr": 1e-3}], TrainingSection(), seed)
        assert isinstance(optimizer, StochasticallyRounded)
        torch.manual_seed(seed + 10)
        for step in range(3):
            move(values, optimizer, step)
        return values

    first, again, other = run(1), run(1), run(2)
    assert all(torch.equal(own, value) for own, value in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    plain = copy.deepcopy(build("adamw", torch.bfloat16)[0][2]).float().detach().requires_grad_()
    optimizer = make_optimizer([{"params": [plain], "lr": 1e-3}], TrainingSection())
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        noise = [torch.randn(shape, generator=generator) for shape in SHAPES][2]
        plain.grad = plain.detach() + 0.1 * noise
        optimizer.step()
    assert torch.equal(first[2], plain)
