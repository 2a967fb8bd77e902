"""Tiny, random, seeded models in the layouts of real ones: the tests' stand-ins for Stable Diffusion."""

from pathlib import Path
from typing import Any

WORDS = ("a", "photo", "of", "sks", "style", "man", "woman", "house", "dog", "city", "wearing", "hat", "painting", "digital")


def tiny_tokenizer(folder: Path, pad: str = "<|endoftext|>") -> Path:
    """Save a byte-level CLIP tokenizer that takes any text; the words of ``WORDS`` are one token each."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *[letter + "</w>" for letter in alphabet]]
    merges: list[str] = []
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            if (merge := f"{pieces[0]} {pieces[1]}") not in merges:
                merges.append(merge)
                tokens.append(pieces[0] + pieces[1])
            pieces[:2] = [pieces[0] + pieces[1]]
    # The end token has the greatest id, as in the real one: old CLIP configurations find it by that.
    vocabulary = {token: index for index, token in enumerate([*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[tuple(merge.split()) for merge in merges], model_max_length=32, pad_token=pad)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return folder


def _text(tokenizer: Any) -> dict[str, Any]:
    """Settings of a text encoder of one layer."""
    return {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "max_position_embeddings": 32, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip


def _schedule(prediction_type: str) -> dict[str, Any]:
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return {**noise, "prediction_type": prediction_type, "steps_offset": 1}


def tiny_sd_folder(path: Path, *, seed: int = 0, prediction_type: str = "epsilon") -> Path:
    """Save a Stable-Diffusion-1.x-shaped pipeline of 32 pixels with random weights (about 100 k parameters), in diffusers layout."""
    import torch
    from diffusers import DDPMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(tiny_tokenizer(path / "tokenizer"))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet, vae = _networks({"cross_attention_dim": 16, "attention_head_dim": 4}, {"scaling_factor": 0.5})
        text_encoder = CLIPTextModel(CLIPTextConfig(**_text(tokenizer), pad_token_id=tokenizer.pad_token_id))
    scheduler = DDPMScheduler(**_schedule(prediction_type), clip_sample=False)
    parts: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = StableDiffusionPipeline(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler, **parts)
    pipeline.save_pretrained(path, safe_serialization=True)
    _publish(text_encoder, path)
    return path


def _networks(unet: dict[str, Any], vae: dict[str, Any]) -> tuple[Any, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    common: dict[str, Any] = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    network = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **common, **unet,
    )  # fmt: skip
    coder = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, sample_size=32, **common, **vae,
    )  # fmt: skip
    return network, coder


def _publish(text_encoder: Any, path: Path) -> None:
    """Give the text encoder's tensors the prefix that published bases have and new transformers leave out."""
    tensors = {f"text_model.{name}": value for name, value in text_encoder.state_dict().items()}
    text_encoder.save_pretrained(path / "text_encoder", state_dict=tensors)


def tiny_sdxl_folder(path: Path, *, seed: int = 0, prediction_type: str = "epsilon") -> Path:
    """Save a Stable-Diffusion-XL-shaped pipeline with random weights: two text encoders of different width, pooled text, time ids."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(tiny_tokenizer(path / "tokenizer"))
    # The second pads with "!", as the real one does.
    tokenizer_2 = CLIPTokenizer.from_pretrained(tiny_tokenizer(path / "tokenizer_2", pad="!"))
    # 2 as the end token is what published configurations hold, though it is none.
    text = {"vocab_size": len(tokenizer), "num_attention_heads": 2, "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 2}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        of_xl = {
            "cross_attention_dim": 40, "attention_head_dim": (2, 4), "transformer_layers_per_block": (1, 2), "use_linear_projection": True,
            "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 20 + 6 * 8,
        }  # fmt: skip
        unet, vae = _networks(of_xl, {"scaling_factor": 0.13025, "force_upcast": True})
        first = CLIPTextModel(CLIPTextConfig(**text, hidden_size=16, intermediate_size=32, num_hidden_layers=2))
        second = CLIPTextModelWithProjection(
            CLIPTextConfig(
                **text, hidden_size=24, intermediate_size=48, num_hidden_layers=3, hidden_act="gelu", projection_dim=20, pad_token_id=1
            )
        )
    scheduler = EulerDiscreteScheduler(**_schedule(prediction_type), timestep_spacing="leading")
    StableDiffusionXLPipeline(
        vae=vae, text_encoder=first, text_encoder_2=second, tokenizer=tokenizer, tokenizer_2=tokenizer_2, unet=unet,
        scheduler=scheduler, add_watermarker=False,
    ).save_pretrained(path, safe_serialization=True)  # fmt: skip
    _publish(first, path)
    return path


def tiny_clip_folder(path: Path, *, seed: int = 0) -> Path:
    """Save a CLIP with random weights, its tokenizer and its preprocessor (±1 scaling), in transformers layout."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    text = _text(CLIPTokenizer.from_pretrained(tiny_tokenizer(path)))
    sizes = {name: text[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")}
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    model.save_pretrained(path)
    sides = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessor(**sides, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(path)
    return path
