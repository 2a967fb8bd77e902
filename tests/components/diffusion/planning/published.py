"""Configurations as they are published, as far as shapes go: facts from the models' own ``config.json``, and what follows from them."""

import json
from pathlib import Path
from typing import Any

Part = tuple[str, str, dict[str, Any]]
"""Library, class and configuration."""

CLIP_L = {
    "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "max_position_embeddings": 77, "hidden_act": "quick_gelu", "projection_dim": 768, "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
CLIP_G = {
    **CLIP_L, "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20, "hidden_act": "gelu",
    "projection_dim": 1280,
}  # fmt: skip
CLIP_H = {
    **CLIP_L, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16, "hidden_act": "gelu",
    "projection_dim": 512,
}  # fmt: skip
T5_XXL = {
    "vocab_size": 32128, "d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu",
    "relative_attention_num_buckets": 32, "tie_word_embeddings": False,
}  # fmt: skip
QWEN3_4B = {
    "vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True, "max_position_embeddings": 40960,
}  # fmt: skip
VAE = {
    "block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2, "latent_channels": 4, "sample_size": 512,
}  # fmt: skip
VAE_16 = {**VAE, "latent_channels": 16, "sample_size": 1024, "use_quant_conv": False, "use_post_quant_conv": False}
SDXL_UNET = {
    "sample_size": 128, "block_out_channels": [320, 640, 1280], "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
    "up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"], "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048, "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
SD35_MEDIUM = {
    "sample_size": 128, "num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 384,
    "dual_attention_layers": list(range(13)), "qk_norm": "rms_norm",
}  # fmt: skip
SD35_LARGE = {
    "sample_size": 128, "num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "pos_embed_max_size": 192,
    "qk_norm": "rms_norm",
}  # fmt: skip
VAE_FLUX_2 = {"block_out_channels": [128, 256, 512, 512], "latent_channels": 32, "sample_size": 1024}
KLEIN_4B = {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680, "guidance_embeds": False}

TOKENIZERS = {
    "CLIPTextModel": ("CLIPTokenizer", 77), "CLIPTextModelWithProjection": ("CLIPTokenizer", 77), "T5EncoderModel": ("T5Tokenizer", 512),
    "Qwen3ForCausalLM": ("Qwen2Tokenizer", 131072), "Qwen3Model": ("Qwen2Tokenizer", 131072),
}  # fmt: skip
"""Each text encoder's tokenizer, and the length that it cuts to."""
FLOW = {
    "_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15,
    "base_image_seq_len": 256, "max_image_seq_len": 4096,
}  # fmt: skip
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "epsilon"}
BASES: dict[str, tuple[str, dict[str, Part], dict[str, Any]]] = {
    "sd15": (
        "StableDiffusionPipeline",
        {
            "unet": ("diffusers", "UNet2DConditionModel", {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}),
            "vae": ("diffusers", "AutoencoderKL", VAE),
            "text_encoder": ("transformers", "CLIPTextModel", CLIP_L),
        },
        {"_class_name": "PNDMScheduler", **NOISE},
    ),
    "sd21": (
        "StableDiffusionPipeline",
        {
            "unet": (
                "diffusers", "UNet2DConditionModel",
                {"sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
            ),
            "vae": ("diffusers", "AutoencoderKL", {**VAE, "sample_size": 768}),
            "text_encoder": ("transformers", "CLIPTextModel", CLIP_H),
        },
        {"_class_name": "DDIMScheduler", **NOISE, "prediction_type": "v_prediction"},
    ),
    "sdxl": (
        "StableDiffusionXLPipeline",
        {
            "unet": ("diffusers", "UNet2DConditionModel", SDXL_UNET),
            "vae": ("diffusers", "AutoencoderKL", {**VAE, "sample_size": 1024}),
            "text_encoder": ("transformers", "CLIPTextModel", CLIP_L),
            "text_encoder_2": ("transformers", "CLIPTextModelWithProjection", CLIP_G),
        },
        {"_class_name": "EulerDiscreteScheduler", **NOISE},
    ),
    "flux-dev": (
        "FluxPipeline",
        {
            "transformer": ("diffusers", "FluxTransformer2DModel", {"guidance_embeds": True}),
            "vae": ("diffusers", "AutoencoderKL", {**VAE_16, "scaling_factor": 0.3611, "shift_factor": 0.1159}),
            "text_encoder": ("transformers", "CLIPTextModel", CLIP_L),
            "text_encoder_2": ("transformers", "T5EncoderModel", T5_XXL),
        },
        FLOW,
    ),
    "sd35-medium": (
        "StableDiffusion3Pipeline",
        {
            "transformer": ("diffusers", "SD3Transformer2DModel", SD35_MEDIUM),
            "vae": ("diffusers", "AutoencoderKL", {**VAE_16, "scaling_factor": 1.5305, "shift_factor": 0.0609}),
            "text_encoder": ("transformers", "CLIPTextModelWithProjection", CLIP_L),
            "text_encoder_2": ("transformers", "CLIPTextModelWithProjection", CLIP_G),
            "text_encoder_3": ("transformers", "T5EncoderModel", T5_XXL),
        },
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
    ),
    "flux2-klein": (
        "Flux2KleinPipeline",
        {
            "transformer": ("diffusers", "Flux2Transformer2DModel", KLEIN_4B),
            "vae": ("diffusers", "AutoencoderKLFlux2", VAE_FLUX_2),
            "text_encoder": ("transformers", "Qwen3ForCausalLM", QWEN3_4B),
        },
        FLOW,
    ),
    "z-image": (
        "ZImagePipeline",
        {
            "transformer": ("diffusers", "ZImageTransformer2DModel", {}),
            "vae": ("diffusers", "AutoencoderKL", {**VAE_16, "scaling_factor": 0.3611, "shift_factor": 0.1159}),
            "text_encoder": ("transformers", "Qwen3Model", QWEN3_4B),
        },
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 6.0},
    ),
}  # fmt: skip
COUNTS: dict[str, tuple[Part, float]] = {
    "Stable Diffusion 1.5's UNet": (BASES["sd15"][1]["unet"], 859.5),
    "Stable Diffusion XL's UNet": (BASES["sdxl"][1]["unet"], 2567.5),
    "Stable Diffusion 2.1's UNet": (BASES["sd21"][1]["unet"], 865.9),
    "OpenCLIP-H's text encoder": (BASES["sd21"][1]["text_encoder"], 340.4),
    "CLIP-L": (BASES["sd15"][1]["text_encoder"], 123.1),
    "CLIP-G": (BASES["sdxl"][1]["text_encoder_2"], 694.7),
    "VAE": (BASES["sd15"][1]["vae"], 83.7),
    "T5-XXL's encoder": (BASES["flux-dev"][1]["text_encoder_2"], 4762.3),
    # With its table of positions, which is a buffer, it is the 2.5 billion that are published.
    "Stable Diffusion 3.5 medium": (("diffusers", "SD3Transformer2DModel", SD35_MEDIUM), 2243.2),
    "Stable Diffusion 3.5 large": (("diffusers", "SD3Transformer2DModel", SD35_LARGE), 8056.6),
    "FLUX.1": (BASES["flux-dev"][1]["transformer"], 11901.4),
    "FLUX.2-klein-4B": (("diffusers", "Flux2Transformer2DModel", KLEIN_4B), 3875.5),
    "Z-Image": (("diffusers", "ZImageTransformer2DModel", {}), 6154.9),
    "Qwen3-4B": (("transformers", "Qwen3ForCausalLM", QWEN3_4B), 4022.5),
}
"""Millions of parameters: the published figures."""


def write_base(name: str, folder: Path) -> Path:
    """A published base's folder in diffusers layout, with its configuration and no weights."""
    pipeline, parts, schedule = BASES[name]
    index: dict[str, Any] = {"_class_name": pipeline}
    for part, (library, cls, config) in parts.items():
        write(folder / part / "config.json", {"_class_name": cls, **config})
        index[part] = [library, cls]
        if cls in TOKENIZERS:
            tokenizer, length = TOKENIZERS[cls]
            write(folder / part.replace("text_encoder", "tokenizer") / "tokenizer_config.json", {"model_max_length": length})
            index[part.replace("text_encoder", "tokenizer")] = ["transformers", tokenizer]
    write(folder / "scheduler" / "scheduler_config.json", schedule)
    write(folder / "model_index.json", {**index, "scheduler": ["diffusers", schedule["_class_name"]]})
    return folder


def write(file: Path, value: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))
