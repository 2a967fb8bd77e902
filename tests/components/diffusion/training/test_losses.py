import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from components.core.config import LossSection, MethodSection
from components.core.errors import ConfigError
from components.core.paths import read_json, read_jsonl
from components.diffusion.models.bundle import load_bundle
from components.diffusion.objectives.flow import FlowObjective
from components.diffusion.objectives.losses import calibrated_target
from components.diffusion.training.loop import Trainer
from components.diffusion.training.losses import Losses, Noised
from components.diffusion.training.methods import method_for
from components.diffusion.training.samples import Words, read_training_set
from tests.components.diffusion.conftest import LATENTS, Folders, configure, cut_power, train, write_folders

WORDS = [Words(f"style {n}", f"class {n}", f"plain {n}", f"not {n}") for n in range(3)]
DISTILLED = {"prior": "distilled", "instance_prompt": "a photo of {token} style, {caption}"}


def noised(count: int = 3) -> Noised:
    generator = torch.Generator().manual_seed(0)
    latents, target = (torch.randn((count, 2, 2, 2), generator=generator) for _ in range(2))
    return Noised(latents, torch.arange(count), torch.zeros((count, 6)), target)


def answers(weight: torch.Tensor) -> Callable[[Noised, Sequence[str]], torch.Tensor]:
    """Predictions that tell every prompt from any other, and belong to their latents."""

    def predict(at: Noised, prompts: Sequence[str]) -> torch.Tensor:
        assert len(prompts) == len(at.latents)
        return torch.stack([weight * value * (sum(map(ord, prompt)) % 7 + 1) for value, prompt in zip(at.latents, prompts, strict=True)])

    return predict


def losses(section: LossSection) -> tuple[Losses, torch.Tensor]:
    weight = torch.tensor(0.3, requires_grad=True)
    return Losses(section, answers(weight), answers(torch.tensor(0.2))), weight


def by_hand(name: str, n: int) -> tuple[list[float], list[float], list[float], list[float], list[float]]:
    """Values of sample n, flat: target, e(p), e(n), e₀(p), e₀(q)."""
    at, one = noised(), lambda prompt: sum(map(ord, prompt)) % 7 + 1
    latents, target = at.latents[n].flatten().tolist(), at.target[n].flatten().tolist()
    words = WORDS[n]

    def of(weight: float, prompt: str) -> list[float]:
        return [weight * value * one(prompt) for value in latents]

    return target, of(0.3, words.prompt), of(0.3, words.against), of(0.2, words.prompt), of(0.2, words.unstyled)


def square(left: Sequence[float], right: Sequence[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(left, right, strict=True)) / len(left)


@pytest.mark.parametrize("name", ["denoising", "guided", "calibrated", "dco"])
def test_each_loss_by_hand_and_of_samples_one_by_one(name: str) -> None:
    # Public code of the guided loss is right for one sample alone: each of several must have its own.
    section = LossSection(name=name, **({"beta": 2.0} if name == "dco" else {}))  # type: ignore[arg-type]
    loss, weight = losses(section)
    found = loss.style(noised(), WORDS)
    for n in range(3):
        y, e, against, base, base_class = by_hand(name, n)
        wanted = {
            "denoising": square(e, y),
            "guided": square([a + 5.0 * (b - a) for a, b in zip(against, e, strict=True)], y),
            "calibrated": square(e, [a + (b - a) / 1.5 for a, b in zip(base_class, y, strict=True)]),
            "dco": -math.log(1 / (1 + math.exp(2.0 * (square(e, y) - square(base, y))))),
        }[name]
        assert found[n].item() == pytest.approx(wanted, rel=1e-6, abs=1e-6)
        alone = loss.style(noised().rows(slice(n, n + 1)), WORDS[n : n + 1])
        torch.testing.assert_close(alone[0], found[n], rtol=0, atol=1e-6)
        # No term without a gradient, as the public content loss of Specialist Diffusion is.
        (gradient,) = torch.autograd.grad(alone.sum(), weight, retain_graph=True)
        assert gradient.abs() > 1e-3


def test_gradients_of_the_guided_loss_flow_through_both_prompts() -> None:
    towards, against = (torch.tensor(value, requires_grad=True) for value in (0.3, 0.4))

    def predict(at: Noised, prompts: Sequence[str]) -> torch.Tensor:
        return torch.stack([(against if "not" in p else towards) * value for value, p in zip(at.latents, prompts, strict=True)])

    Losses(LossSection(name="guided", scale=3.0), predict, predict).style(noised(), WORDS).sum().backward()
    assert towards.grad is not None and against.grad is not None
    # d/d(against) of (a + 3 (t − a)) is −2, of towards 3.
    assert (against.grad / towards.grad).item() == pytest.approx(-2 / 3, rel=1e-5)


def test_distillation_by_hand_has_a_gradient_of_the_trained_alone() -> None:
    loss, weight = losses(LossSection())
    found = loss.distillation(noised(), WORDS)
    factor = [sum(map(ord, words.preserved)) % 7 + 1 for words in WORDS]
    wanted = [(0.1 * n) ** 2 * value.square().mean().item() for n, value in zip(factor, noised().latents, strict=True)]
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)
    found.sum().backward()
    assert weight.grad is not None and weight.grad > 0


def test_guiding_a_calibrated_prediction_gives_the_target_in_every_parametrization() -> None:
    generator = torch.Generator().manual_seed(1)
    base, noise, clean = (torch.randn((2, 1, 2, 2), generator=generator, dtype=torch.float64) for _ in range(3))
    wanted = calibrated_target(base, noise, 1.7)
    torch.testing.assert_close(base + 1.7 * (wanted - base), noise)
    # As velocities of a flow: v = (ε − x) / (1 − σ) for the noisy latent x.
    times = torch.tensor([300.0, 700.0], dtype=torch.float64)
    noisy, velocity = FlowObjective({}).corrupt(clean, noise, times)

    def as_velocity(epsilon: torch.Tensor) -> torch.Tensor:
        return (epsilon - noisy) / (1 - times.view(-1, 1, 1, 1) / 1000)

    torch.testing.assert_close(as_velocity(noise), velocity)
    torch.testing.assert_close(calibrated_target(as_velocity(base), velocity, 1.7), as_velocity(wanted))


METHODS: dict[str, dict[str, Any]] = {
    "single-styleforge": {"identifier_rows": True}, "lora": {"train_text_encoder": True, "lora": {"dora": True}},
    "lora pissa": {"lora": {"init": "pissa"}}, "lora oft": {"lora": {"kind": "oft"}}, "textual-inversion": {"identifier": "<v>"},
    "custom-diffusion": {}, "svdiff": {},
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_while_a_method_trains_the_base_answers_as_before(name: str, tiny_base: Path, folders: Folders) -> None:
    settings = {"name": name.split()[0], "loss": "dco", **METHODS[name]}
    config = configure(tiny_base, method=settings, training={"batch_size": 1, "learning_rate": 0.01})
    method = method_for(config.method)
    trainer = Trainer(config, method, read_training_set(*folders.inputs, method), load_bundle(tiny_base, device="cpu"), folders.checkpoints)
    trainer._encode_all()
    at = Noised(LATENTS, torch.tensor([500]), torch.tensor([[32, 32, 0, 0, 32, 32]]), LATENTS)
    base = load_bundle(tiny_base, device="cpu").family
    with torch.no_grad():
        wanted = base.predict(LATENTS, at.times, base.encode_prompts(["a man"]), None, at.time_ids)
    for step in (1, 2):
        trainer._step(step)
    before = {key: value.detach().clone() for key, value in trainer.trained.named().items()}
    found = trainer.denoising._predict_base(at, ["a man"])
    # PiSSA moves a part of each matrix into the adapter, and DoRA divides by the norm it multiplies with: equal up to rounding.
    exact = 0.0 if name not in ("lora", "lora pissa") else 1e-5
    torch.testing.assert_close(found, wanted, rtol=0, atol=exact)
    assert not found.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in trainer.trained.named().items())
    trained = trainer.denoising._predict(at, ["a man"])
    assert trained.requires_grad and (name == "textual-inversion" or (trained - wanted).abs().max() > 1e-4)


CASES: list[dict[str, Any]] = [
    {"loss": "dco", "name": "lora"}, {"prior": "distilled"}, {"name": "specialist-diffusion"}, {"name": "styledrop", "style_ref_count": 1},
]  # fmt: skip
# They ask what these ask: two prompts as DreamArtist does, and the base.
SLOW_CASES: list[dict[str, Any]] = [{"loss": "guided"}, {"loss": {"name": "calibrated", "scale": 2.0}}]


@pytest.mark.parametrize("method", [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW_CASES)], ids=str)
def test_interrupted_is_bit_for_bit_uninterrupted_with_every_loss(method: dict[str, Any], tiny_base: Path, folders: Folders) -> None:
    config = configure(
        tiny_base, method={**DISTILLED, "prior": None, **method}, training={"steps": 3, "validate_every": 3, "caption_dropout": 0.2}
    )
    whole = train(config, folders, "whole")
    cut_power(config, folders, "parts", 2)
    parts = train(config, folders, "parts")
    assert read_json(parts / "training" / "timing.json")["resumed_from"] == 2
    assert read_jsonl(whole / "training" / "log.jsonl") == read_jsonl(parts / "training" / "log.jsonl")
    for file in whole.rglob("*.safetensors"):
        assert file.read_bytes() == (parts / file.relative_to(whole)).read_bytes()


def test_a_checkpoint_of_another_loss_is_passed_over(tiny_base: Path, folders: Folders) -> None:
    def mark(**method: Any) -> str:
        config = configure(tiny_base, method={"name": "lora", **method})
        chosen = method_for(config.method)
        data = read_training_set(*folders.inputs, chosen)
        return Trainer(config, chosen, data, load_bundle(tiny_base, device="cpu"), folders.checkpoints).checkpoints._fingerprint

    settings: list[dict[str, Any]] = [
        {}, {"loss": "dco"}, {"loss": {"name": "dco", "beta": 10}}, {"loss": "guided"}, {"loss": {"name": "guided", "scale": 2}},
        {"prior": "distilled"}, {"prior": "distilled", "prior_weight": 0.5},
    ]  # fmt: skip
    assert len({mark(**each) for each in settings}) == len(settings)
    # What is said but is the default leaves checkpoints of earlier versions valid.
    assert mark() == mark(loss="denoising", prior="aux")


def test_distillation_needs_no_aux_and_weighs_by_the_prior(tiny_base: Path, tmp_path: Path) -> None:
    for aux in (0, 4):
        config = configure(tiny_base, method={**DISTILLED, "prior_weight": 0.25}, training={"steps": 2})
        out = train(config, write_folders(tmp_path / f"run-{aux}", aux=aux))
        first, second = read_jsonl(out / "training" / "log.jsonl")
        # Before the first step the model is the base.
        assert first["aux_loss"] == 0 and second["aux_loss"] > 0
        assert second["loss"] == pytest.approx(second["instance_loss"] + 0.25 * second["aux_loss"], rel=1e-5)


def test_the_loss_is_named_alone_or_with_its_settings_and_what_it_lacks_is_refused() -> None:
    assert method_for(MethodSection(loss="dco")).loss == LossSection(name="dco")  # type: ignore[arg-type]
    assert LossSection(name="guided").guidance == 5.0 and LossSection(name="calibrated", scale=2.0).guidance == 2.0
    with pytest.raises(ConfigError, match=r"method\.loss\.scale.*dco"):
        method_for(MethodSection(loss=LossSection(name="dco", scale=2.0)))
