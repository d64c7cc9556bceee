"""Models of two layers with random weights, one of each architecture, and tokenizers for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers import models as token_models
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    MptConfig,
    Olmo2Config,
    OPTConfig,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from tests.tiny_llama import some_texts

VOCABULARY = 400
MAX_CTX = 32

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": MAX_CTX,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 0,
}
_LLAMA: dict[str, Any] = {**_SIZES, "intermediate_size": 24, "num_key_value_heads": 2}
_GEMMA: dict[str, Any] = {**_LLAMA, "head_dim": 6, "sliding_window": 4}
_GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_positions": MAX_CTX,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": 24,
    "bos_token_id": 1,
    "eos_token_id": 0,
}
_NEOX: dict[str, Any] = {**_SIZES, "intermediate_size": 24}
_FALCON: dict[str, Any] = {**_SIZES, "ffn_hidden_size": 24}
_OPT: dict[str, Any] = {**_SIZES, "ffn_dim": 24, "word_embed_proj_dim": 16}
_VISION = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}

CONFIGS: Mapping[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**_LLAMA, attention_bias=True, mlp_bias=True),
    "mistral": lambda: MistralConfig(**_LLAMA, head_dim=6, sliding_window=4),
    "qwen2": lambda: Qwen2Config(**_LLAMA),
    "qwen3": lambda: Qwen3Config(**_LLAMA, head_dim=6),
    "gemma2": lambda: Gemma2Config(**_GEMMA, query_pre_attn_scalar=6),
    "gemma3": lambda: Gemma3TextConfig(**_GEMMA, query_pre_attn_scalar=6),
    "gemma3-with-images": lambda: Gemma3Config(
        text_config=_GEMMA, vision_config=_VISION, mm_tokens_per_image=1, image_token_index=399
    ),
    "olmo2": lambda: Olmo2Config(**_LLAMA),
    "gpt2": lambda: GPT2Config(**_GPT2),
    "gpt-neox": lambda: GPTNeoXConfig(**_NEOX),
    "gpt-neox-sequential": lambda: GPTNeoXConfig(**_NEOX, use_parallel_residual=False),
    "opt": lambda: OPTConfig(**_OPT),
    "opt-norm-after": lambda: OPTConfig(
        **{**_OPT, "word_embed_proj_dim": 8}, do_layer_norm_before=False
    ),
    "phi": lambda: PhiConfig(**_NEOX, num_key_value_heads=2),
    "falcon": lambda: FalconConfig(**_FALCON, new_decoder_architecture=False, multi_query=True),
    "falcon-new": lambda: FalconConfig(
        **_FALCON, new_decoder_architecture=True, num_kv_heads=2, bias=True
    ),
    "falcon-sequential": lambda: FalconConfig(
        **_FALCON, parallel_attn=False, multi_query=False, alibi=True
    ),
    "bloom": lambda: BloomConfig(
        vocab_size=VOCABULARY, hidden_size=16, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=0
    ),
    "mpt": lambda: MptConfig(
        vocab_size=VOCABULARY,
        d_model=16,
        n_layers=2,
        n_heads=4,
        max_seq_len=MAX_CTX,
        expansion_ratio=2,
    ),
    "mixtral": lambda: MixtralConfig(**_LLAMA, num_local_experts=4, num_experts_per_tok=2),
    "qwen3-moe": lambda: Qwen3MoeConfig(
        **{**_LLAMA, "head_dim": 6},
        moe_intermediate_size=12,
        num_experts=4,
        num_experts_per_tok=2,
        mlp_only_layers=[1],
    ),
}
"""From a name to the configuration of its tiny model; layer 1 of `qwen3-moe` has no experts."""

MODELS = tuple(CONFIGS)


def tiny_model(name: str, seed: int = 0, std: float = 0.3) -> Any:
    """The model of that name in evaluation mode; every weight random, norms and biases included."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = CONFIGS[name]()
        model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn_like(parameter) * std
                parameter.copy_(noise if parameter.dim() > 1 else parameter + noise)
    return model.eval()


def tiny_tokenizer(adds: Literal["nothing", "start", "end"] = "nothing") -> Any:
    """A tokenizer of bytes and a few pairs; whatever it adds to a text, it adds by itself.

    With `nothing` it has no special token; else the end-of-text token 0, and with `start` the start
    token 1.
    """
    tokenizer = Tokenizer(token_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [] if adds == "nothing" else ["<|endoftext|>", "<s>"]
    tokenizer.train_from_iterator(
        some_texts(20),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    if adds != "nothing":
        single = "<s> $A" if adds == "start" else "$A <|endoftext|>"
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, special_tokens=[("<|endoftext|>", 0), ("<s>", 1)]
        )
    names = {"eos_token": "<|endoftext|>"} if special else {}
    if adds == "start":
        names["bos_token"] = "<s>"
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)  # type: ignore[no-untyped-call]
    return fast
