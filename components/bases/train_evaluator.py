"""The evaluator: a separate CLIP that reads every look of a world, the target styles among them.

It is a different network from the bases' text encoders. It is trained on captions with and without the look's name. In
training only, small heads predict each attribute from the shared embedding: without them, so small a vision transformer
takes many times as long to learn to look at hats and hair.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, CLIPVisionConfig

from components.bases.timed import TimedRun, device_of, initialising, mixed_precision
from components.bases.tokenizer import text_config
from components.bases.train_vae import to_tensor
from components.core.content import derive_seed
from components.core.world import RenderedSet, World

WIDTH, BATCH = 128, 96


def new_evaluator(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A fresh CLIP: 2 text layers and 4 image layers of width 128, patches of 8 × 8."""
    text = text_config(tokenizer, WIDTH, layers=2)
    vision = CLIPVisionConfig(
        image_size=64, patch_size=8, hidden_size=WIDTH, intermediate_size=3 * WIDTH, num_hidden_layers=4, num_attention_heads=4,
        projection_dim=WIDTH,
    )  # fmt: skip
    with initialising("evaluator"):
        return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH))


def _wording(world: World, rng: random.Random, caption: str, description: str, look: str) -> str:
    """A caption for this step: the full description, without the look's name (45 %) or with it (35 %), or the training caption."""
    draw = rng.random()
    if draw < 0.45:
        return description
    return world.naming(rng, description, look) if draw < 0.8 else caption


def train_evaluator(
    world: World, data: RenderedSet, tokenizer: CLIPTokenizer, work: Path, budget: float, device: str | None = None
) -> CLIPModel:
    """Train for ``budget`` seconds on symmetric cross-entropy, with equal captions sharing the target, plus the attribute heads' loss."""
    where, model = device_of(device), new_evaluator(tokenizer)
    heads = torch.nn.ModuleList([torch.nn.Linear(WIDTH, size) for size in world.attributes.values()])
    model.to(where).train()
    heads.to(where)
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": [*rest, *heads.parameters()], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.2e-3, betas=(0.9, 0.98), fused=True)
    run = TimedRun(work, "evaluator", budget, {"model": model, "heads": heads}, optimizer)
    truth, looks = torch.from_numpy(world.attribute_table(data)), world.looks_of(data)
    for step in run.steps():
        seed = derive_seed(0, "pocket-evaluator", step)
        rng, rows = random.Random(seed), np.random.default_rng(seed).integers(0, len(data.pixels), BATCH)
        texts = [_wording(world, rng, data.captions[i], data.descriptions[i], looks[i]) for i in rows]
        tokens = tokenizer(texts, padding="longest", truncation=True, return_tensors="pt").to(where)
        x = to_tensor(data.pixels[rows]).to(where)
        if rng.random() < 0.5:
            x = x.flip(-1)
        with mixed_precision(where):
            out = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=x)
        contrast = contrastive_loss(out.logits_per_text.float(), tokens.input_ids)
        naming = _naming_loss(heads, out.image_embeds.float(), truth[rows].to(where))
        loss = contrast + naming
        run.learn(loss, model.parameters(), contrast=float(contrast.detach()), naming=float(naming.detach()))
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.6)
    return model.eval()


def contrastive_loss(logits: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
    """Symmetric cross-entropy of logits (N texts, N pictures); equal captions share the target evenly."""
    same = (input_ids[:, None] == input_ids[None]).all(-1).float()
    target = same / same.sum(1, keepdim=True)
    return -((target * logits.log_softmax(1)).sum(1).mean() + (target * logits.t().log_softmax(1)).sum(1).mean()) / 2


def _naming_loss(heads: torch.nn.ModuleList, embeddings: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    # The embeddings have unit length; without a scale the heads could never be confident.
    losses = [F.cross_entropy(head(8 * embeddings), truth[:, k], ignore_index=-100) for k, head in enumerate(heads)]
    return torch.stack([loss for loss in losses if torch.isfinite(loss)]).mean()


@torch.no_grad()
def retrieval(model: CLIPModel, tokenizer: CLIPTokenizer, pixels: NDArray[np.uint8], texts: list[str]) -> tuple[float, float]:
    """Top-1 retrieval accuracy among N pictures with N distinct captions: (picture → text, text → picture), 0 to 1."""
    tokens = tokenizer(texts, padding="longest", truncation=True, return_tensors="pt")
    logits = model(**tokens, pixel_values=to_tensor(pixels)).logits_per_image
    index = torch.arange(len(texts))
    return float((logits.argmax(1) == index).float().mean()), float((logits.argmax(0) == index).float().mean())
