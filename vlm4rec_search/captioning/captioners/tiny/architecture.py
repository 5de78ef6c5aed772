"""The parts of the small model, built from configurations: LLaVA-NeXT with a CLIP vision tower and a Llama decoder.

LLaVA-NeXT looks at a photo twice: once as a whole, and once in tiles of twice the resolution. Tiles of 128 pixels show
the shop's photos of 256 pixels at full resolution, at which a weave is visible. Patches of 32 pixels, about the repeat
of a pattern, give only 4 x 4 + 8 x (8 + 1) = 88 image tokens.
"""

from typing import TYPE_CHECKING

from vlm4rec_search.captioning.captioners.tiny.sentences import vocabulary

if TYPE_CHECKING:
    from transformers import (
        CLIPVisionConfig,
        GenerationConfig,
        LlamaConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextProcessor,
        PreTrainedTokenizerFast,
    )
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

TILE, PATCH, TILES = 128, 32, 5
WIDTH, INNER, HEADS, VISION_LAYERS, TEXT_LAYERS = 160, 640, 5, 4, 2
LONGEST = 40
"""The largest number of tokens of a caption."""

_RESOLUTIONS = [[2 * TILE, 2 * TILE]]
_SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
_IMAGE = "<image>"
# The template drops all text of a conversation and keeps the photos, so that no title or prompt reaches the model.
_CHAT = (
    "{% for message in messages %}{% if message['content'] is not string %}{% for part in message['content'] %}"
    "{% if 'image' in part['type'] %}<image>{% endif %}{% endfor %}{% endif %}{% endfor %}<s>"
)


def new_tokenizer() -> "PreTrainedTokenizerFast":
    """Return a tokenizer with one token for each word and punctuation mark of the sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # The space before a word belongs to its token, so that decoding inserts no space before a comma.
    words = [form for word in vocabulary() for form in ((f"▁{word}",) if word.isalnum() else (word,))]
    names = [*_SPECIAL.values(), _IMAGE, *words]
    backend = Tokenizer(
        models.WordLevel({name: position for position, name in enumerate(names)}, unk_token=_SPECIAL["unk_token"])
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    backend.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, padding_side="left", extra_special_tokens={"image_token": _IMAGE}, **_SPECIAL
    )


def new_image_processor() -> "LlavaNextImageProcessorPil":
    """Return the processor that cuts a photo into TILES tiles (3, TILE, TILE) with values in [-1, 1]."""
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    return LlavaNextImageProcessorPil(
        size={"shortest_edge": TILE},
        crop_size={"height": TILE, "width": TILE},
        image_grid_pinpoints=_RESOLUTIONS,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def new_processor() -> "LlavaNextProcessor":
    """Return the processor that turns a chat with photos into the model's inputs."""
    from transformers import LlavaNextProcessor

    return LlavaNextProcessor(  # type: ignore[no-untyped-call]
        image_processor=new_image_processor(),
        tokenizer=new_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_CHAT,
    )


def new_model(tokenizer: "PreTrainedTokenizerFast") -> "LlavaNextForConditionalGeneration":
    """Return a float32 model with random weights from torch's global generator; it generates greedily."""
    from transformers import LlavaNextConfig
    from transformers import LlavaNextForConditionalGeneration as Model

    vocabulary = tokenizer.get_vocab()
    config = LlavaNextConfig(
        vision_config=_vision_config(),
        text_config=_text_config(vocabulary),
        image_token_index=vocabulary[_IMAGE],
        image_grid_pinpoints=_RESOLUTIONS,
        vision_feature_layer=-1,
        image_seq_length=(TILE // PATCH) ** 2,
    )
    model = Model(config)
    model.generation_config = _generation_config(vocabulary)
    return model


def _vision_config() -> "CLIPVisionConfig":
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_attention_heads=HEADS,
        num_hidden_layers=VISION_LAYERS,
        image_size=TILE,
        patch_size=PATCH,
        projection_dim=WIDTH,
    )


def _text_config(vocabulary: dict[str, int]) -> "LlamaConfig":
    from transformers import LlamaConfig

    return LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_attention_heads=HEADS,
        num_hidden_layers=TEXT_LAYERS,
        vocab_size=len(vocabulary),
        max_position_embeddings=512,
        pad_token_id=vocabulary[_SPECIAL["pad_token"]],
        bos_token_id=vocabulary[_SPECIAL["bos_token"]],
        eos_token_id=vocabulary[_SPECIAL["eos_token"]],
    )


def _generation_config(vocabulary: dict[str, int]) -> "GenerationConfig":
    from transformers import GenerationConfig

    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=LONGEST,
        pad_token_id=vocabulary[_SPECIAL["pad_token"]],
        bos_token_id=vocabulary[_SPECIAL["bos_token"]],
        eos_token_id=vocabulary[_SPECIAL["eos_token"]],
    )
