"""Tiny, random, seeded vision-language models in transformers' layout: one with a chat template, one that captions unasked."""

from pathlib import Path
from typing import Any

SAYS = ("a", "dog", "cat", "woman", "house", "ship", "in", "on", "the", "garden", "beach", "hat", "red", "with", "near", "sits")
TEMPLATE = (
    "{% for message in messages %}USER {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT {% endif %}"
)
SIDE = 32
_VISION = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8}


def tiny_llava_folder(path: Path, *, seed: int = 3) -> Path:
    """Save a LLaVA: CLIP's vision tower, a Llama of two layers, and a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers import PreTrainedTokenizerFast as WordTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    special = ("<unk>", "<pad>", "<s>", "</s>", "<image>")
    words = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate((*special, *SAYS, "USER", "ASSISTANT"))}, unk_token="<unk>")
    )
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = WordTokenizer(
        tokenizer_object=words, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=["<image>", "USER", "ASSISTANT"],
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        pad_token_id=1, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=16, **_VISION), text_config=text, image_token_id=4, vision_feature_layer=-1
    )
    _save(LlavaForConditionalGeneration, config, path, seed)
    pixels = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    LlavaProcessor(
        pixels, tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=TEMPLATE
    ).save_pretrained(path)
    return path


def tiny_blip_folder(path: Path, *, seed: int = 1) -> Path:
    """Save a BLIP, which has no chat template. As in the real one, its first token is none of the tokenizer's."""
    from transformers import BertTokenizerFast, BlipConfig, BlipForConditionalGeneration, BlipProcessor
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    path.mkdir(parents=True, exist_ok=True)
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    (path / "vocab.txt").write_text("\n".join((*special, *SAYS)), encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab=str(path / "vocab.txt"))
    text = {
        "vocab_size": len(tokenizer) + 1, "bos_token_id": len(tokenizer), "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0,
        "hidden_size": 16, "encoder_hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 64,
    }  # fmt: skip
    config = BlipConfig(text_config=text, vision_config={"hidden_size": 16, **_VISION}, projection_dim=16, image_text_hidden_size=16)
    _save(BlipForConditionalGeneration, config, path, seed)
    BlipProcessor(BlipImageProcessorPil(size={"height": SIDE, "width": SIDE}), tokenizer).save_pretrained(path)
    return path


def _save(kind: Any, config: Any, path: Path, seed: int) -> None:
    """Larger weights than training begins with, so that other pictures get other answers."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(config)
        for parameter in model.parameters():
            parameter.data.normal_(std=0.4)
    model.save_pretrained(path)
