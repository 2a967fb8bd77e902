"""Text encoders of a flow base, trained alone to say what a caption's picture looks like from afar.

Under a fresh transformer, fresh encoders learn to tell hundreds of things apart very late: the transformer explains the average picture
first, and hardly any gradient is about the words. Predicting the latents at half their resolution from the caption alone is a much
easier task, minutes long, and it leaves encoders that tell the things apart from the transformer's first step on.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from components.bases.timed import TimedRun, device_of, initialising
from components.bases.tokenizer import text_config
from components.bases.train_flow import SECOND_WIDTH, encode_prompts
from components.bases.train_unet import TEXT_WIDTH, tokenize
from components.core.content import derive_seed

BATCH, HIDDEN = 128, 768


def train_text(
    latents: torch.Tensor, captions: list[str], tokenizer: CLIPTokenizer, work: Path, budget: float, device: str | None
) -> tuple[CLIPTextModelWithProjection, CLIPTextModelWithProjection]:
    """Train two text encoders for ``budget`` seconds to predict ``latents`` (N, C, 16, 16), averaged over 2 × 2, from their captions.

    One head reads the pooled embeddings and another the mean of the token states, since the transformer is given both. The loss is
    the share of the variance that they leave unexplained.
    """
    where = device_of(device)
    coarse = F.avg_pool2d(latents.float(), 2).flatten(1)
    mean = coarse.mean(0)
    variance = (coarse - mean).square().mean()
    with initialising("text-alone"):
        encoders = [CLIPTextModelWithProjection(text_config(tokenizer, *size)) for size in ((TEXT_WIDTH, 3), (SECOND_WIDTH, 2))]
        width = TEXT_WIDTH + SECOND_WIDTH
        heads = nn.ModuleList(nn.Sequential(nn.Linear(width, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, coarse.shape[1])) for _ in range(2))
    modules = nn.ModuleList([*encoders, heads]).to(where).train()
    optimizer = torch.optim.AdamW(modules.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=1e-3, fused=True)
    run = TimedRun(work, "text", budget, {"modules": modules}, optimizer)
    ids = tokenize(tokenizer, captions)
    for step in run.steps(warmup=200):
        rows = torch.randint(0, len(coarse), (BATCH,), generator=torch.Generator().manual_seed(derive_seed(0, "text-alone", step)))
        states, pooled = encode_prompts((encoders[0], encoders[1]), ids[rows].to(where))
        target = (coarse[rows] - mean).to(where)
        left = [(head(x) - target).square().mean() / variance for head, x in zip(heads, (pooled, states.mean(1)), strict=True)]
        run.learn(left[0] + left[1], modules.parameters(), pooled=1 - float(left[0].detach()), states=1 - float(left[1].detach()))
    return encoders[0].eval(), encoders[1].eval()
