"""The probe: a small classifier of what a world's pictures show, trained on rendered ones; no training or score ever uses it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from components.bases.timed import TimedRun, device_of, initialising
from components.bases.train_vae import to_tensor
from components.core.content import derive_seed
from components.core.paths import atomic_folder
from components.core.world import RenderedSet, World

BATCH = 64
MANY = 100
"""Number of names from which the network is wider."""
_WIDTHS = {False: (32, 32, 64, 64, 96, 96, 128), True: (32, 48, 64, 96, 128, 128, 160)}


def _block(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


class Probe(nn.Module):
    """A convolutional network, (N, 3, 64, 64) in [-1, 1] → logits (N, names) for each of the world's classes."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.sizes = [len(names) for names in world.classes.values()]
        widths = (3, *_WIDTHS[sum(self.sizes) >= MANY])
        layers = zip(widths, widths[1:], (2, 1, 2, 1, 2, 1, 2), strict=False)
        self.body = nn.Sequential(*(_block(*layer) for layer in layers), nn.Flatten())
        self.heads = nn.Sequential(nn.Dropout(0.2), nn.Linear(widths[-1] * 16, sum(self.sizes)))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The logits, class by class."""
        return tuple(self.heads(self.body(pixels)).split(self.sizes, dim=1))

    def save(self, folder: Path) -> None:
        """Write the weights as fp16 safetensors."""
        with atomic_folder(folder) as temporary:
            halves = {key: value.half() if value.is_floating_point() else value for key, value in self.state_dict().items()}
            save_file(halves, temporary / "probe.safetensors")


def load_probe(folder: Path, world: World) -> Probe:
    """Read a probe written by :meth:`Probe.save`, as fp32, in eval mode."""
    probe = Probe(world)
    probe.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in load_file(folder / "probe.safetensors").items()}
    )
    return probe.eval()


def train_probe(world: World, data: RenderedSet, work: Path, budget: float, device: str | None = None) -> Probe:
    """Train on rendered pictures of every look for ``budget`` seconds."""
    where = device_of(device)
    with initialising("probe"):
        probe = Probe(world)
    probe.to(where).train()
    optimizer = torch.optim.AdamW(probe.parameters(), lr=3e-3, weight_decay=0.02, fused=True)
    run = TimedRun(work, "probe", budget, {"probe": probe}, optimizer)
    truth = torch.from_numpy(data.labels)
    for step in run.steps(warmup=50):
        rng = np.random.default_rng(derive_seed(0, "pocket-probe", step))
        rows = rng.integers(0, len(data.pixels), BATCH)
        x = to_tensor(data.pixels[rows]).to(where)
        if rng.random() < 0.5:
            x = x.flip(-1)
        y = truth[rows].to(where)
        loss = torch.stack([F.cross_entropy(logits, y[:, k]) for k, logits in enumerate(probe(x))]).sum()
        run.learn(loss)
    return probe.eval()


@torch.no_grad()
def read(probe: Probe, pixels: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Read pictures (N, 64, 64, 3): for each class the indices of its names (N, names), the likeliest first."""
    parts = [probe(to_tensor(pixels[i : i + 128])) for i in range(0, len(pixels), 128)]
    return [torch.cat(logits).argsort(1, descending=True).numpy() for logits in zip(*parts, strict=True)]
