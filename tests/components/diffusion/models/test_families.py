import shutil
from pathlib import Path

import pytest
import torch

from components.core.content import derive_seed
from components.diffusion.models.bundle import load_bundle
from components.diffusion.models.conditioning import Conditioning
from components.diffusion.training.loop import Trainer
from components.diffusion.training.methods import method_for
from components.diffusion.training.samples import read_training_set
from tests.components.diffusion.conftest import Folders, configure, edit, train


def test_rows_of_a_conditioning_stay_together() -> None:
    both = Conditioning(torch.arange(12.0).view(3, 2, 2), torch.arange(3.0).view(3, 1))
    chosen = both.index_select(torch.tensor([2, 0, 2]))
    assert len(chosen) == 3
    assert chosen.states[:, 0, 0].tolist() == [8, 0, 8]
    assert chosen.pooled is not None and chosen.pooled.flatten().tolist() == [2, 0, 2]
    joined = Conditioning.cat([both, chosen])
    assert joined.states.shape == (6, 2, 2)
    assert joined.pooled is not None and joined.pooled.flatten().tolist() == [0, 1, 2, 2, 0, 2]
    alone = Conditioning(both.states)
    assert Conditioning.cat([alone, alone.index_select(torch.tensor([1]))]).pooled is None


@pytest.mark.parametrize(
    ("kind", "prediction_type", "gamma"),
    [
        ("sd1", "epsilon", None), ("sd1", "v_prediction", None), ("sdxl", "epsilon", 5.0), ("sdxl", "v_prediction", None),
        ("sdxl", "v_prediction", 5.0),
    ],
)  # fmt: skip
def test_one_training_step_by_hand(folders: Folders, bases: dict[str, Path], tmp_path: Path, kind: str, prediction_type: str,
    gamma: float | None,
) -> None:  # fmt: skip
    """Ho et al. 2020 (ε), Salimans & Ho 2022 (v), Podell et al. 2023 (XL), Hang et al. 2023 (min-SNR), with λ = 0.5."""
    from diffusers import DiffusionPipeline

    base = Path(shutil.copytree(bases[kind], tmp_path / "base"))
    edit(base / "scheduler" / "scheduler_config.json", prediction_type=prediction_type)
    settings = {"steps": 1, "min_snr_gamma": gamma, "crops": 2}
    config = configure(base, training=settings, method={"prior_weight": 0.5})
    method = method_for(config.method)
    trainer = Trainer(config, method, read_training_set(*folders.inputs, method), load_bundle(base, device="cpu"), folders.checkpoints)
    pipeline = DiffusionPipeline.from_pretrained(base)
    parts = {name: getattr(pipeline, name).train() for name in ("unet", *trainer.family.text_encoders)}
    optimizer = torch.optim.AdamW([{"params": [*part.parameters()], "lr": 1e-3} for part in parts.values()], fused=True, weight_decay=1e-2)

    batch = trainer.mixer.batch(0)
    trainer._encode_all()
    latent, noisy_, timestep = (torch.Generator().manual_seed(derive_seed(3, name, 0, 0)) for name in ("latent", "noise", "timestep"))
    mean, log_variance = trainer.denoising.latents.moments(batch.samples, batch.variants).chunk(2, 1)
    clean = (mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=latent)) * pipeline.vae.config.scaling_factor
    noise, times = torch.randn(clean.shape, generator=noisy_), torch.randint(0, 1000, (4,), generator=timestep)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float32) ** 2
    alpha = torch.cumprod(1 - betas, 0)[times].view(4, 1, 1, 1)
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    target = noise if prediction_type == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    unique = list(dict.fromkeys(batch.prompts))
    rows = [unique.index(prompt) for prompt in batch.prompts]
    encoded = pipeline.encode_prompt(unique, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    time_ids = trainer.denoising.latents.time_ids(batch.samples, batch.variants).float()
    added = {"added_cond_kwargs": {"text_embeds": encoded[2][rows], "time_ids": time_ids}} if kind == "sdxl" else {}
    losses = (pipeline.unet(noisy, times, encoder_hidden_states=encoded[0][rows], **added).sample - target).square().flatten(1).mean(1)
    if gamma:
        snr = (alpha / (1 - alpha)).flatten()
        losses = losses * snr.clamp(max=gamma) / (snr if prediction_type == "epsilon" else snr + 1)
    loss = losses[:2].mean() + 0.5 * losses[2:].mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([value for part in parts.values() for value in part.parameters()], 1.0)
    optimizer.step()

    log, _ = trainer.run()
    assert log[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    if kind == "sd1":
        for name, part in parts.items():
            values = trainer.family.parts[name].state_dict()
            assert all(torch.equal(values[key], value) for key, value in part.state_dict().items()), name


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_a_compiled_denoiser_trains(name: str, bases: dict[str, Path], folders: Folders) -> None:
    """The same weights as without a compiler, which here passes every call through."""
    settings = {"steps": 1}
    with torch.compiler.set_stance("force_eager"):
        compiled = train(configure(bases[name], training={**settings, "compile": True}), folders, "compiled")
    plain = train(configure(bases[name], training=settings), folders, "plain")
    weights = {file.relative_to(plain): file.read_bytes() for file in plain.rglob("*.safetensors")}
    assert weights == {file.relative_to(compiled): file.read_bytes() for file in compiled.rglob("*.safetensors")}
