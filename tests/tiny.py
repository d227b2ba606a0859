"""Tiny random models of the real architectures, a tiny real tokenizer, and an embedder without weights.

Two layers, since the second one's keys depend on the mask.
"""

import gc
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from blockrag.attention import gqa
from blockrag.attention.format import PLAIN, BlockFormat
from blockrag.engine import Engine
from blockrag.kv.disk import DiskTier
from blockrag.kv.key import kv_identity
from blockrag.kv.memory import MemoryTier
from blockrag.kv.tiered import TieredKV
from blockrag.models.adapter import Adapter, Change
from blockrag.models.answer_model import AnswerModel

VOCABULARY = 400

ROPE = {
    "default": {"rope_type": "default", "rope_theta": 10_000.0},
    "linear": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {
        "rope_type": "yarn",
        "rope_theta": 10_000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 1024,
    },
}

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Tested with every RoPE type in every format."""

OTHER_FAMILIES = (
    "gemma", "phi3", "granite", "olmo", "olmo2", "smollm3", "arcee", "seed_oss", "apertus", "hyperclovax",
    "phi", "glm", "glm4", "cohere", "ernie4_5", "helium", "starcoder2",
)  # fmt: skip
"""Tested with every RoPE type in one format, and in every format with one RoPE type."""

WINDOWED = ("gemma2", "gemma3_text", "olmo3", "ministral", "gpt_oss")
"""With sliding-window layers; tested in every format with one RoPE type, as the next ones are."""

EXPERTS = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe")
"""Mixtures of experts."""

MORE = (
    "hunyuan_v1_dense", "internlm3", "jais2", "cwm", "granite_swa", "vaultgemma", "cohere2", "exaone4", "afmoe",
    "cohere2_moe", "exaone_moe", "dots1", "ernie4_5_moe", "flex_olmo", "glm4_moe", "granitemoeshared", "hunyuan_v1_moe",
    "minimax_m2", "phimoe", "solar_open",
)  # fmt: skip
"""Tested in two formats."""

LATENT = ("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "axk1", "minicpm3", "youtu")
"""With latent attention; tested in every format, and with every RoPE type that they know."""

ONE_ROPE_TYPE = ("phi3", *WINDOWED, *EXPERTS, *MORE)
"""Families that only support "default" of `ROPE`, or are tested with their own."""

_TWO_ROPES = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
_FOUR = {
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk"), 2),
    **dict.fromkeys(("n_shared_experts", "n_group", "topk_group", "first_k_dense_replace"), 1),
    "moe_intermediate_size": 48,
}
"""Four experts, two for each token, by all names that families give to them."""
_LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 24,
    "q_lora_rank": 20,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 10,
    "head_dim": 8,
}
_MIXED = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}

OWN_SETTINGS = {
    "mistral": {"sliding_window": None},
    "granite": {
        "embedding_multiplier": 12.0,
        "attention_multiplier": 0.1,
        "residual_multiplier": 0.22,
    },
    "olmo": {"clip_qkv": 8.0},
    "smollm3": {"no_rope_layer_interval": 2},
    "cohere": {"use_qk_norm": True, "logit_scale": 1.0},
    "gemma2": {**_MIXED, "attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 16},
    "gemma3_text": {**_MIXED, "rope_parameters": _TWO_ROPES, "query_pre_attn_scalar": 16},
    "olmo3": {**_MIXED, "rope_parameters": _TWO_ROPES},
    "ministral": {"sliding_window": 16},
    "gpt_oss": {**_MIXED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 48,
        "shared_expert_intermediate_size": 64,
    },
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "granitemoe": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "attention_multiplier": 0.25,
        "embedding_multiplier": 4.0,
    },
    **dict.fromkeys(("cwm", "granite_swa", "cohere2", "exaone4"), _MIXED),
    "vaultgemma": {**_MIXED, "attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 16},
    **dict.fromkeys(("afmoe", "cohere2_moe", "exaone_moe", "dots1"), {**_MIXED, **_FOUR}),
    **dict.fromkeys(
        ("ernie4_5_moe", "flex_olmo", "glm4_moe", "hunyuan_v1_moe", "minimax_m2", "phimoe", "solar_open"), _FOUR
    ),
    "granitemoeshared": {**_FOUR, "shared_intermediate_size": 48},
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "axk1"), {**_LATENT, **_FOUR}),
    **dict.fromkeys(("minicpm3", "youtu"), _LATENT),
}
"""Extra settings of a family, with values that have an effect."""


def tiny_model(
    family: str = "llama",
    *,
    rope: str = "default",
    kv_heads: int = 2,
    block_format: BlockFormat = PLAIN,
    seed: int = 0,
    tokenizer=None,
    allow_unverified: bool = False,
    **changes,
) -> AnswerModel:
    """A random model of `family`, float32, 4 query heads of 16, in eval mode."""
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": kv_heads,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "rope_parameters": dict(ROPE[rope]),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "initializer_range": 0.2,
        **OWN_SETTINGS.get(family, {}),
        **changes,
    }
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **settings)
    network = AutoModelForCausalLM.from_config(config, attn_implementation=gqa.NAME).eval()
    weights_id = f"{family}-{rope}-{seed}"
    return AnswerModel(network, tokenizer, weights_id, format=block_format, allow_unverified=allow_unverified)


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `VOCABULARY` tokens with a chat template."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,  # it prints to standard output, which tests of commands read
    )
    core.train_from_iterator(["the question and the documents that answer it, block by block. " * 20], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template="{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}<s>assistant: ",
    )


class WordEmbedder:
    """Fake sentence encoder: unit vectors of hashed words, so that shared words mean similarity."""

    weights_id = "words"
    dimension = 64

    def embed(self, texts) -> np.ndarray:
        vectors = np.full((len(texts), self.dimension), 1e-3, np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.casefold()):
                vectors[row, zlib.crc32(word.encode()) % self.dimension] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_query(self, question) -> np.ndarray:
        return self.embed([question])[0]


def tiny_engine(kv_dir=None, *, memory_bytes: int = 1 << 26, disk_bytes: int = 1 << 26, **model_settings) -> Engine:
    """A complete engine, created in a tenth of a second."""
    model = tiny_model(tokenizer=tiny_tokenizer(), **model_settings)
    tiers = [MemoryTier(memory_bytes)]
    if kv_dir is not None:
        tiers.append(DiskTier(kv_dir, disk_bytes, kv_identity(model).digest))
    return Engine(model, WordEmbedder(), TieredKV(tiers), "tiny")  # its reports note no missing adapter


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Disable the garbage collector, so that objects in reference cycles are not freed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def tensor_nbytes() -> int:
    """Bytes of all tensors known to the garbage collector."""
    storages = (o.untyped_storage() for o in gc.get_objects() if type(o) in (torch.Tensor, torch.nn.Parameter))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


CHANGED = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj")
"""Layers changed by `make_changes`."""


def make_changes(seed: int, network: torch.nn.Module) -> dict[str, Change]:
    generator = torch.Generator().manual_seed(seed)
    changes = {}
    for name in CHANGED:
        n_out, n_in = network.get_submodule(name).weight.shape
        sides = ((n_out, 3), (3, n_in))
        changes[name] = Change(*(torch.randn(*shape, generator=generator).bfloat16() * 0.5 for shape in sides))
    return changes


def make_adapter(base: str = "tiny", base_hash: str = "0" * 64, **changes) -> Adapter:
    network = tiny_model().network
    sinks = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    settings = {"sink_embeddings": sinks, "about": {"recipe": "none"}, **changes}
    return Adapter(base, base_hash, make_changes(1, network), make_changes(2, network), **settings)
