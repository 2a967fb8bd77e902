"""Tiny, random, seeded bases of the flow families, in the layouts of real ones; those of Stable Diffusion are in ``fixtures_models``."""

from pathlib import Path
from typing import Any

from tests.fixtures_models import WORDS, tiny_tokenizer

STATES = 40
"""Width of a T5's states, and of what a joint transformer attends to."""


def tiny_t5_tokenizer(folder: Path) -> Path:
    """Save a T5 tokenizer of a Unigram model, which needs no sentencepiece."""
    from transformers import T5TokenizerFast

    letters = [chr(code) for code in range(33, 127)]
    pieces = [*((f"▁{word}", -1.0) for word in WORDS), ("▁", -2.0), *((letter, -3.0) for letter in letters)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces]
    T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=512).save_pretrained(folder)
    return folder


def tiny_t5(folder: Path) -> tuple[Any, Any]:
    """A T5 encoder of one layer, and its tokenizer, saved into ``folder``."""
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    tokenizer = T5TokenizerFast.from_pretrained(tiny_t5_tokenizer(folder))
    config = T5Config(
        vocab_size=len(tokenizer), d_model=STATES, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu",
        use_cache=False, is_encoder_decoder=False,
    )  # fmt: skip
    return T5EncoderModel(config), tokenizer


def tiny_clip_text(tokenizer: Any, width: int, projection: int | None = None) -> Any:
    """A CLIP text encoder of two layers, with a projection where it has a size."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    sizes: dict[str, Any] = {} if projection is None else {"projection_dim": projection}
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, **sizes,
    )  # fmt: skip
    return CLIPTextModel(config) if projection is None else CLIPTextModelWithProjection(config)


def tiny_vae(channels: int = 8) -> Any:
    """A VAE of two levels for 32 pixels, with the shift of the flow families; no quantizing convolutions."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=channels, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=32, scaling_factor=0.5,
        shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def tiny_sd3_folder(path: Path, *, t5: bool = True, wide: bool = True, seed: int = 0, **transformer: Any) -> Path:
    """Save a Stable-Diffusion-3.5-medium-shaped pipeline of 32 pixels: two CLIPs, a T5 unless ``t5`` is off, a second attention.

    Without T5 and ``wide`` the transformer is as wide as the CLIPs: the project's own small flow base.
    """
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTokenizer

    first, second = (CLIPTokenizer.from_pretrained(tiny_tokenizer(path / name)) for name in ("tokenizer", "tokenizer_2"))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        third, tokenizer = tiny_t5(path / "tokenizer_3") if t5 else (None, None)
        sizes = {
            "sample_size": 16, "patch_size": 2, "in_channels": 8, "out_channels": 8, "num_layers": 2, "attention_head_dim": 8,
            "num_attention_heads": 4, "joint_attention_dim": STATES if wide else 32, "caption_projection_dim": 32,
            "pooled_projection_dim": 20, "pos_embed_max_size": 16, "qk_norm": "rms_norm", "dual_attention_layers": (0,),
        }  # fmt: skip
        parts = {
            "transformer": SD3Transformer2DModel(**{**sizes, **transformer}), "vae": tiny_vae(),
            "text_encoder": tiny_clip_text(first, 16, 8), "text_encoder_2": tiny_clip_text(second, 16, 12), "text_encoder_3": third,
        }  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    tokenizers = {"tokenizer": first, "tokenizer_2": second, "tokenizer_3": tokenizer}
    StableDiffusion3Pipeline(scheduler=scheduler, **parts, **tokenizers).save_pretrained(path, safe_serialization=True)
    return path


def tiny_flux_folder(path: Path, *, guided: bool = True, seed: int = 0) -> Path:
    """Save a FLUX.1-shaped pipeline of 32 pixels: CLIP for the pooled vector, T5 for the states; ``guided`` as dev, else as schnell."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTokenizer

    first = CLIPTokenizer.from_pretrained(tiny_tokenizer(path / "tokenizer"))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        second, tokenizer = tiny_t5(path / "tokenizer_2")
        parts = {
            "transformer": FluxTransformer2DModel(
                in_channels=32, num_layers=1, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
                joint_attention_dim=STATES, pooled_projection_dim=16, guidance_embeds=guided, axes_dims_rope=(4, 6, 6),
            ),
            "vae": tiny_vae(), "text_encoder": tiny_clip_text(first, 16), "text_encoder_2": second,
        }  # fmt: skip
    shifts: dict[str, Any] = {"shift": 3.0, "use_dynamic_shifting": True} if guided else {"shift": 1.0}
    scheduler = FlowMatchEulerDiscreteScheduler(**shifts)
    FluxPipeline(scheduler=scheduler, tokenizer=first, tokenizer_2=tokenizer, **parts).save_pretrained(path, safe_serialization=True)
    return path


CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def tiny_qwen(folder: Path, width: int = 16, layers: int = 2) -> tuple[Any, Any]:
    """A Qwen3 of so many layers, and its byte-level tokenizer with a chat template like the real one, saved into ``folder``."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3Model

    vocabulary = {token: index for index, token in enumerate([*sorted(ByteLevel.alphabet()), "<|endoftext|>"])}
    tokenizer = Qwen2TokenizerFast(vocab=vocabulary, merges=[], model_max_length=4096, chat_template=CHAT)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.save_pretrained(folder)
    config = Qwen3Config(
        vocab_size=len(tokenizer) + 5, hidden_size=width, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=1024,
    )  # fmt: skip
    return Qwen3Model(config), tokenizer


def tiny_z_image_folder(path: Path, *, turbo: bool = False, seed: int = 0, **transformer: Any) -> Path:
    """Save a Z-Image-shaped pipeline of 32 pixels; ``turbo`` with the schedule of the distilled one."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reader, tokenizer = tiny_qwen(path / "tokenizer")
        sizes = {
            "in_channels": 8, "dim": 32, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 16,
            "axes_dims": [4, 6, 6], "axes_lens": [640, 16, 16],
        }  # fmt: skip
        parts = {"transformer": ZImageTransformer2DModel(**{**sizes, **transformer}), "vae": tiny_vae(), "text_encoder": reader}
        # They are made without values.
        for filling in (parts["transformer"].x_pad_token, parts["transformer"].cap_pad_token):
            torch.nn.init.normal_(filling)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0 if turbo else 6.0)
    ZImagePipeline(scheduler=scheduler, tokenizer=tokenizer, **parts).save_pretrained(path, safe_serialization=True)
    return path


def tiny_flux2_folder(path: Path, *, distilled: bool = False, seed: int = 0, **transformer: Any) -> Path:
    """Save a FLUX.2-klein-shaped pipeline of 32 pixels; its VAE keeps statistics as if it had been trained."""
    import torch
    from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # As many layers as the real one is read at.
        reader, tokenizer = tiny_qwen(path / "tokenizer", width=8, layers=28)
        sizes = {
            "in_channels": 16, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
            "joint_attention_dim": 24, "timestep_guidance_channels": 16, "axes_dims_rope": (4, 4, 4, 4), "guidance_embeds": False,
        }  # fmt: skip
        vae = AutoencoderKLFlux2(
            latent_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, sample_size=32,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        )  # fmt: skip
        vae.bn.running_mean.normal_()
        vae.bn.running_var.uniform_(0.5, 2.0)
        parts = {"transformer": Flux2Transformer2DModel(**{**sizes, **transformer}), "vae": vae, "text_encoder": reader}
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    pipeline = Flux2KleinPipeline(scheduler=scheduler, tokenizer=tokenizer, is_distilled=distilled, **parts)
    pipeline.save_pretrained(path, safe_serialization=True)
    return path


def tiny_lumina2_folder(path: Path, *, seed: int = 0, **transformer: Any) -> Path:
    """Save a Lumina-Image-2.0-shaped pipeline of 32 pixels, with a Gemma 2 of two layers that knows single characters."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel
    from transformers import Gemma2Config, Gemma2Model, GemmaTokenizerFast

    characters = ["▁", *(chr(code) for code in range(33, 127))]
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *characters])}
    tokenizer = GemmaTokenizerFast(vocab=vocabulary, merges=[], model_max_length=4096)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reader = Gemma2Model(
            Gemma2Config(
                vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                num_key_value_heads=1, head_dim=8, max_position_embeddings=512,
            )
        )  # fmt: skip
        sizes = {
            "sample_size": 16, "in_channels": 8, "hidden_size": 32, "num_layers": 2, "num_refiner_layers": 1, "num_attention_heads": 2,
            "num_kv_heads": 1, "multiple_of": 16, "axes_dim_rope": (4, 6, 6), "axes_lens": (300, 16, 16), "cap_feat_dim": 16,
        }  # fmt: skip
        parts = {"transformer": Lumina2Transformer2DModel(**{**sizes, **transformer}), "vae": tiny_vae(), "text_encoder": reader}
    scheduler = FlowMatchEulerDiscreteScheduler(shift=6.0)
    Lumina2Pipeline(scheduler=scheduler, tokenizer=tokenizer, **parts).save_pretrained(path, safe_serialization=True)
    return path
