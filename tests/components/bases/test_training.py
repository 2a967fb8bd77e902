import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from components.bases.bases import BASES
from components.bases.probe import Probe, load_probe, read
from components.bases.saving import save_base
from components.bases.timed import TimedRun
from components.bases.tokenizer import MAX_LENGTH, build_tokenizer, read_tokenizer, stored_tokenizer
from components.bases.train import Plan, _tokenizer, cached_latents, train
from components.bases.train_evaluator import contrastive_loss
from components.bases.train_unet import (
    NOISE,
    NOISE_OFFSET,
    draw_noise,
    draw_times,
    new_text_encoder,
    new_unet,
    time_shares,
    tokenize,
    whole_captions,
)
from components.bases.train_vae import encode, new_vae, psnr
from components.core.errors import InputError, TrainingDiverged
from components.core.paths import embedded_weights
from components.core.world import RenderedSet
from components.pocket.captions import RARE_TOKENS
from components.pocket.render import LOOKS, render_set
from components.pocket.world import ATTRIBUTES, POCKET, attribute_table


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(POCKET.corpus())


def test_tokenizer_takes_any_text_and_keeps_identifiers_whole(tokenizer, tmp_path) -> None:
    for text in ("Ünï 日本 🎨 café", "a photo of sks style, a blue car", "1,562 prompts!"):
        assert tokenizer.unk_token_id not in tokenizer(text, add_special_tokens=False).input_ids
        back = tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True).replace(" ", "")
        assert back == text.lower().replace(" ", "")
    for token in RARE_TOKENS:
        assert len(tokenizer(token, add_special_tokens=False).input_ids) == 1
    tokenizer.save_pretrained(tmp_path)
    from transformers import CLIPTokenizer

    text = "a mosaic of a girl with red hair, snow background"
    assert CLIPTokenizer.from_pretrained(tmp_path)(text).input_ids == tokenizer(text).input_ids
    assert tokenize(tokenizer, [text, ""]).shape == (2, MAX_LENGTH)
    # Captions that would be cut are left out.
    assert whole_captions(tokenizer, [text, "a photo of " + "vivid " * 20 + "style, a cat, beach background", text]) == [0, 2]
    first = stored_tokenizer(tmp_path / "tokenizer", POCKET.corpus)
    assert stored_tokenizer(tmp_path / "tokenizer", POCKET.corpus).get_vocab() == first.get_vocab()
    assert not (set(RARE_TOKENS) - {token.removesuffix("</w>") for token in first.get_vocab()})


def _one_weight(folder, budget: float) -> tuple[TimedRun, torch.nn.Linear]:
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(module.weight)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    return TimedRun(folder, "part", budget, {"module": module}, optimizer), module


def test_timed_run_resumes_where_it_was(tmp_path) -> None:
    run, module = _one_weight(tmp_path, 1000.0)
    for step in run.steps(warmup=1):
        loss = module.weight.square().sum()
        loss.backward()
        run.optimizer.step()
        run.report(loss)
        if step == 9:
            break
    run.elapsed = 500.0
    run.save()
    again, restored = _one_weight(tmp_path, 1000.0)
    assert again.step == run.step and again.share == pytest.approx(0.5)
    assert torch.equal(restored.weight, module.weight)
    assert again.optimizer.state_dict()["state"][0]["step"] == run.optimizer.state_dict()["state"][0]["step"]
    finished, _ = _one_weight(tmp_path, 400.0)
    assert list(finished.steps()) == []


def test_timed_run_logs_and_stops_on_nan(tmp_path) -> None:
    run, _ = _one_weight(tmp_path, 1000.0)
    with pytest.raises(TrainingDiverged, match="pocket part: the loss is nan at step"):
        for step in run.steps():
            run.report(torch.tensor(1.0 if step < 30 else float("nan")))
    rows = [json.loads(line) for line in (tmp_path / "part-log.jsonl").read_text().splitlines()]
    assert rows[0]["step"] == 25 and rows[0]["loss"] == 1.0


def test_contrastive_loss_by_hand() -> None:
    ids = torch.tensor([[1, 2], [3, 4]])
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    # Each row and column: -log(e² / (e² + 1)) = log(1 + e⁻²).
    assert float(contrastive_loss(logits, ids)) == pytest.approx(float(np.log1p(np.exp(-2.0))), rel=1e-5)
    same = torch.tensor([[1, 2], [1, 2]])
    # Equal captions share the target: the mean of log(1 + e⁻²) and log(1 + e²).
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(2.0))) / 2
    assert float(contrastive_loss(logits, same)) == pytest.approx(float(expected), rel=1e-5)


def test_attributes_are_read_from_descriptions() -> None:
    labels = np.array([[1, 1, 0], [2, 4, 3], [0, 12, 5]])
    texts = [
        "a woman with blond hair in an orange dress wearing a red hat, full body, beach background",
        "a blue car, city background",
        "a view of mountains",
    ]
    table = attribute_table(RenderedSet(np.zeros((3, 64, 64, 3), np.uint8), texts, texts, labels))
    named = dict(zip(ATTRIBUTES, table[0].tolist(), strict=True))
    assert named == {"background": 1, "subject": 1, "look": 0, "hair": 0, "clothes": 5, "hat": 1, "full": 1, "colour": -100}
    assert table[1].tolist() == [2, 4, 3, -100, -100, -100, -100, 1]
    assert table[2].tolist() == [0, 12, 5, -100, -100, -100, -100, -100]


def test_psnr_by_hand() -> None:
    class Off(torch.nn.Module):
        device = torch.device("cpu")

        def encode(self, x):
            return type("Out", (), {"latent_dist": type("Dist", (), {"mean": x})})

        def decode(self, z):
            return type("Out", (), {"sample": z + 10 / 127.5})

    pixels = np.full((2, 64, 64, 3), 100, dtype=np.uint8)
    assert psnr(Off(), pixels) == pytest.approx(20 * np.log10(255 / 10), abs=1e-3)


def test_latents_are_kept_for_one_vae_only(tmp_path) -> None:
    pixels = render_set("test-latents", 4).pixels
    vae = new_vae()
    first = cached_latents(tmp_path, vae, "one", pixels, mirror=True)
    assert first.shape == (4, 8, 16, 16)
    # Only close: a batch of another size rounds differently, and some processors encode in bf16.
    by_hand, unmirrored = (encode(vae, view)[0] * vae.config.scaling_factor for view in (pixels[3:, :, ::-1], pixels[3:]))
    torch.testing.assert_close(first[3].float(), by_hand, rtol=1e-2, atol=5e-3)
    assert (first[3].float() - unmirrored).abs().max() > 1e-2
    as_they_are = cached_latents(tmp_path, vae, "three", pixels, mirror=False)
    torch.testing.assert_close(as_they_are[3].float(), unmirrored, rtol=1e-2, atol=5e-3)
    for value in vae.parameters():
        torch.nn.init.normal_(value.data, std=0.05)
    assert torch.equal(cached_latents(tmp_path, vae, "one", pixels, mirror=True), first)
    assert not torch.equal(cached_latents(tmp_path, vae, "two", pixels, mirror=True), first)


def test_a_saved_base_is_small_halves_without_paths(tokenizer, tmp_path) -> None:
    from diffusers import AutoencoderKL, StableDiffusionPipeline

    new_vae().save_pretrained(tmp_path / "vae")
    vae = AutoencoderKL.from_pretrained(tmp_path / "vae")
    save_base(tmp_path / "base", vae, new_unet(), new_text_encoder(tokenizer), tokenizer)
    files = [path for path in (tmp_path / "base").rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) <= 15e6
    assert not any(str(tmp_path) in path.read_text() for path in files if path.suffix == ".json")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "base")
    assert sum(p.numel() for p in pipeline.unet.parameters()) == sum(p.numel() for p in new_unet().parameters())


def test_committed_weights_keep_to_their_size_and_name_no_machine() -> None:
    files = [path for path in embedded_weights("base").parent.rglob("*") if path.is_file()]
    flow, art = ([path for path in files if path.is_relative_to(embedded_weights(name))] for name in ("flow", "art"))
    assert all(sum(path.stat().st_size for path in base) <= 16e6 for base in (flow, art))
    assert sum(path.stat().st_size for path in {*files} - {*flow, *art}) <= 30e6
    assert max(path.stat().st_size for path in files) <= 15e6
    assert {path.suffix for path in files} <= {".json", ".safetensors"}
    assert not any("_name_or_path" in path.read_text() for path in files if path.suffix == ".json")


def test_probe_saves_and_reads(tmp_path) -> None:
    torch.manual_seed(0)
    probe = Probe(POCKET).eval()
    probe.save(tmp_path / "probe")
    data = render_set("test-probe", 4, LOOKS)
    first, second = read(probe, data.pixels), read(load_probe(tmp_path / "probe", POCKET), data.pixels)
    assert [found.shape for found in first] == [(4, len(names)) for names in POCKET.classes.values()]
    assert np.array_equal(first[0][:, 0], second[0][:, 0]) or np.array_equal(first[1][:, 0], second[1][:, 0])


def test_rendered_pictures_are_kept(tmp_path) -> None:
    counts = []

    def render_few(purpose: str, count: int, workers: int) -> RenderedSet:
        counts.append(count)
        return POCKET.render(purpose, count, 0)

    world = replace(POCKET, sets={"train": 5}, render=render_few)
    plan = Plan(BASES["pocket"], world, tmp_path, tmp_path, tmp_path, None, False)
    first, again = plan.data("train"), plan.data("train")
    assert counts == [5]
    assert np.array_equal(first.pixels, again.pixels) and np.array_equal(first.labels, again.labels)
    assert (first.captions, first.descriptions) == (again.captions, again.descriptions)


def test_going_on_begins_with_the_tokenizer_of_the_weights(tmp_path) -> None:
    """An evaluator that was trained before in the same place leaves a tokenizer that the weights' text encoders do not know."""
    world = replace(POCKET, corpus=lambda: iter(["other words of another world"] * 50))
    plan = Plan(BASES["pocket"], world, embedded_weights("base").parent, tmp_path, tmp_path, None, False)
    other, given = _tokenizer(plan).get_vocab(), read_tokenizer(embedded_weights("base") / "tokenizer").get_vocab()
    assert other != given
    going_on = replace(plan, go_on=True)
    assert _tokenizer(going_on).get_vocab() == given
    # A denoiser that has begun keeps the one that it began with.
    (tmp_path / "unet-checkpoint.pt").touch()
    build_tokenizer(world.corpus()).save_pretrained(tmp_path / "tokenizer")
    assert _tokenizer(going_on).get_vocab() == other


def test_train_refuses_unknown_parts_and_a_unet_without_vae(tmp_path) -> None:
    with pytest.raises(InputError, match="--part vea: no such part"):
        train(tmp_path, POCKET, parts=["vea"], work=tmp_path)
    with pytest.raises(InputError, match="the vae part first"):
        train(tmp_path, POCKET, parts=["unet"], work=tmp_path)


def test_times_are_drawn_in_proportion_to_their_min_snr_weights_one_in_each_stratum() -> None:
    # Three times with SNR 15, 5 and 0.25 by hand: weights 5/15, 1 and 1.
    shares = time_shares(torch.tensor([15 / 16, 5 / 6, 0.2]))
    torch.testing.assert_close(shares, torch.tensor([1 / 7, 4 / 7, 1], dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    counts = torch.stack([draw_times(shares, 14, generator).bincount(minlength=3) for _ in range(50)])
    # Stratified: 14 strata hold the three times 2, 6 and 6 times, in every batch.
    assert counts.eq(torch.tensor([2, 6, 6])).all()
    times = draw_times(time_shares(DDPMScheduler(**NOISE).alphas_cumprod), 32, generator)
    assert times.shape == (32,) and 0 <= int(times.min()) <= int(times.max()) <= 999 and torch.equal(times, times.sort().values)


def test_the_means_of_planes_are_noised_too() -> None:
    noise = draw_noise(torch.Size((500, 8, 16, 16)), torch.Generator().manual_seed(0))
    # The mean of 256 independent standard normal numbers has the variance 1/256; the offset adds its square.
    assert noise.mean(dim=(2, 3)).var().item() == pytest.approx(1 / 256 + NOISE_OFFSET**2, rel=0.1)
    assert (noise - noise.mean(dim=(2, 3), keepdim=True)).var().item() == pytest.approx(255 / 256, rel=0.02)
