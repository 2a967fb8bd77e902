"""What a base's VAE preserves of a picture: nothing that the base draws can be closer to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from PIL import Image

from components.diffusion.models.bundle import Bundle
from components.diffusion.training.buckets import bucket_for, bucket_sizes
from components.diffusion.training.pictures import cut, to_uint8
from components.diffusion.training.variety import Variant


def round_trip(bundle: Bundle, pictures: Sequence[Image.Image]) -> Iterator[tuple[Image.Image, Image.Image]]:
    """Yield each picture as training cuts it at the base's own size, and the decoded mean of its latents; both RGB."""
    family = bundle.family
    sizes = bucket_sizes(family.resolution, family.size_step)
    family.turn("vae")
    for picture in pictures:
        view = cut(picture, bucket_for(picture.size, sizes), Variant(), 0, "")
        with torch.inference_mode():
            moments = family.encode_images(view[None].to(family.device))
            decoded = family.decode_latents(family.sample_latents(moments, None))
        original, returned = to_uint8(torch.stack([view, decoded[0].cpu()]))
        yield Image.fromarray(original), Image.fromarray(returned)
