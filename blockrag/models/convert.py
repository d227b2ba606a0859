"""Convert a GGUF file once into a folder that `transformers` loads: config, safetensors and tokenizer.

Tensors are dequantised and written one after the other, so that memory stays bounded whatever the size of the model.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from gguf import GGUFReader, ReaderTensor, dequantize
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedConfig

from blockrag.errors import BlockRAGError, UnsupportedModelError, WeightsError
from blockrag.models.gguf_tokenizer import GGUFFields, make_tokenizer

CHUNK = 1 << 22
"""Elements that are dequantised at once."""

SAFETENSORS_TYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}

OUTER_TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Names of a layer's tensors in the file and in the network; all supported architectures share them."""

ROPE_FREQS = "rope_freqs.weight"
"""Llama 3's factors of the rotary wavelengths; computed from the file's configuration everywhere else."""


@dataclass(frozen=True)
class Architecture:
    """How a GGUF architecture differs from Llama's.

    Attributes
    ----------
    permuted : bool
        Whether the file orders the rows of queries and keys for interleaved rotation.
    end_tokens : tuple of str
        Tokens that end an answer, besides the one that the file names.
    has_bos : bool
        Whether the publisher's tokenizer has a token for the beginning of text.
    """

    permuted: bool = False
    end_tokens: tuple[str, ...] = ()
    has_bos: bool = False


QWEN = Architecture(end_tokens=("<|im_end|>", "<|endoftext|>"))

ARCHITECTURES = {"llama": Architecture(permuted=True, has_bos=True), "qwen2": QWEN, "qwen3": QWEN}
"""By `general.architecture`; each has the same name as its `model_type`."""


def convert_gguf(file: Path, target: Path, dtype_name: str = "bfloat16") -> None:
    """Write config, weights (in the type named) and tokenizer of a GGUF file to the new folder `target`.

    Raises
    ------
    WeightsError
        If the file is damaged or incomplete, or holds tensors of an unknown type.
    UnsupportedModelError
        If its architecture, rotary positions or tokenizer cannot be converted.
    """
    dtype: torch.dtype = getattr(torch, dtype_name)
    reader, fields = _open(file)
    architecture = _architecture(fields, file)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    try:
        config = _config(fields, tensors, file, dtype)
        tokenizer, end_ids = make_tokenizer(fields, architecture.end_tokens, has_bos=architecture.has_bos)
    except BlockRAGError:
        raise
    except Exception as error:  # tokenizers raises no narrower class
        raise WeightsError(
            f"{file}: its settings or its tokenizer contradict themselves ({error}). Fetch the file again, or give the "
            "model's Hugging Face name or folder."
        ) from error
    names = _names(config, tensors, file)
    target.mkdir()
    heads = _permuted_heads(config) if architecture.permuted else {}
    _write_safetensors(target / "model.safetensors", names, dtype, heads, file)
    config.save_pretrained(target)
    GenerationConfig(eos_token_id=end_ids, pad_token_id=tokenizer.pad_token_id).save_pretrained(target)
    tokenizer.save_pretrained(target)


def _open(file: Path) -> tuple[GGUFReader, GGUFFields]:
    try:
        reader = GGUFReader(file)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"{file} is not a whole GGUF file that this release can read: {error}. Compare its size with the "
            "publisher's and fetch it again, or use a file with common tensor types such as Q4_K_M or Q8_0."
        ) from error
    fields = GGUFFields(reader, file)
    if fields.get("split.count", 1) > 1:
        raise WeightsError(
            f"{file} is one of {fields['split.count']} parts of a model; join them first (llama-gguf-split --merge)."
        )
    return reader, fields


def _architecture(fields: GGUFFields, file: Path) -> Architecture:
    name = fields["general.architecture"]
    if name not in ARCHITECTURES or fields.get(f"{name}.expert_count", 0) > 0:
        kind = f"{name} with experts" if name in ARCHITECTURES else name
        raise UnsupportedModelError(
            f"{file} holds a model of architecture {kind!r}; GGUF files are converted for {', '.join(ARCHITECTURES)} "
            "(dense). Give the model's Hugging Face name or folder instead."
        )
    return ARCHITECTURES[name]


def _config(fields: GGUFFields, tensors: dict[str, ReaderTensor], file: Path, dtype: torch.dtype) -> PreTrainedConfig:
    name = fields["general.architecture"]
    if "token_embd.weight" not in tensors:
        raise WeightsError(f"{file} lacks tensor token_embd.weight: it is incomplete, or holds no language model.")
    vocab_size = int(tensors["token_embd.weight"].shape[1])
    n_heads, hidden_size = fields[f"{name}.attention.head_count"], fields[f"{name}.embedding_length"]
    n_kv_heads = fields.get(f"{name}.attention.head_count_kv", n_heads)
    head_dim = fields.get(f"{name}.attention.key_length", hidden_size // n_heads)
    n_rotated = fields.get(f"{name}.rope.dimension_count", head_dim)
    value_dim = fields.get(f"{name}.attention.value_length", head_dim)
    if isinstance(n_kv_heads, list) or not head_dim == n_rotated == value_dim:
        raise UnsupportedModelError(
            f"{file}: its layers differ from one another, or its heads are rotated in part only (key/value heads "
            f"{n_kv_heads}, components {head_dim}, rotated {n_rotated}); use a model whose layers are alike."
        )
    biases = {"attention_bias": "blk.0.attn_q.bias" in tensors} if name in ("llama", "qwen3") else {}
    config = AutoConfig.for_model(
        name,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        head_dim=head_dim,
        intermediate_size=fields[f"{name}.feed_forward_length"],
        num_hidden_layers=fields[f"{name}.block_count"],
        num_attention_heads=n_heads,
        num_key_value_heads=n_kv_heads,
        max_position_embeddings=fields[f"{name}.context_length"],
        rms_norm_eps=_as_written(fields[f"{name}.attention.layer_norm_rms_epsilon"]),
        rope_parameters=_rope(fields, tensors, head_dim, file),
        tie_word_embeddings=_is_tied(tensors),
        bos_token_id=fields.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=fields.get("tokenizer.ggml.eos_token_id"),
        pad_token_id=fields.get("tokenizer.ggml.padding_token_id"),
        **biases,
    )
    config.dtype = dtype
    config.architectures = [AutoModelForCausalLM._model_mapping[type(config)].__name__]
    return config


def _as_written(value: float) -> float:
    """The shortest decimal of a float32: 1e-06 and not 9.999999974752427e-07."""
    return float(str(np.float32(value)))


def _is_tied(tensors: dict[str, ReaderTensor]) -> bool:
    """Whether the output matrix is the embedding: absent, or the same bytes."""
    output, embedding = tensors.get("output.weight"), tensors["token_embd.weight"]
    if output is None:
        return True
    return output.tensor_type == embedding.tensor_type and np.array_equal(output.data, embedding.data)


def _rope(fields: GGUFFields, tensors: dict[str, ReaderTensor], head_dim: int, file: Path) -> dict[str, Any]:
    name = fields["general.architecture"]
    theta = _as_written(fields.get(f"{name}.rope.freq_base", 10_000.0))
    scaling = fields.get(f"{name}.rope.scaling.type", "none")
    factor = fields.get(f"{name}.rope.scaling.factor", 1.0)
    if ROPE_FREQS in tensors:
        return {"rope_theta": theta, **_llama3_rope(tensors[ROPE_FREQS].data, theta, head_dim, file)}
    if scaling == "none" or factor == 1.0:
        return {"rope_type": "default", "rope_theta": theta}
    if scaling == "linear":
        return {"rope_type": "linear", "rope_theta": theta, "factor": factor}
    if scaling == "yarn":
        original = fields[f"{name}.rope.scaling.original_context_length"]
        return {
            "rope_type": "yarn",
            "rope_theta": theta,
            "factor": factor,
            "original_max_position_embeddings": original,
        }
    raise UnsupportedModelError(
        f"{file}: rotary positions scaled by {scaling!r} are not converted (only linear and yarn are); give the "
        "model's Hugging Face name or folder instead."
    )


def _llama3_rope(factors: np.ndarray, theta: float, head_dim: int, file: Path) -> dict[str, Any]:
    """Llama 3's settings, which the file holds only as factors of the wavelengths."""
    settings: dict[str, Any] = {
        "rope_type": "llama3",
        "factor": float(factors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    wavelengths = 2 * np.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = (settings["original_max_position_embeddings"] / wavelengths - 1.0) / (4.0 - 1.0)
    expected = 1 / ((1 - smooth.clip(0, 1)) / settings["factor"] + smooth.clip(0, 1))
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-3):
        raise UnsupportedModelError(
            f"{file}: its rotary factors ({ROPE_FREQS}) are not those of Llama 3.1 to 3.3; give the model's Hugging "
            "Face name or folder instead."
        )
    return settings


def _names(config: PreTrainedConfig, tensors: dict[str, ReaderTensor], file: Path) -> dict[str, ReaderTensor]:
    """The file's tensors by their names in the network, all there and of the right shape."""
    named = {}
    for name, tensor in tensors.items():
        if name == ROPE_FREQS or (name == "output.weight" and config.tie_word_embeddings):
            continue
        named[_name(name) or name] = tensor
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    expected = {name: tuple(tensor.shape) for name, tensor in network.named_parameters()}
    found = {name: tuple(int(n) for n in reversed(tensor.shape)) for name, tensor in named.items()}
    wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
    if wrong:
        first = wrong[0]
        raise WeightsError(
            f"{file}: {len(wrong)} tensors are missing, unknown or of another shape, first {first}: found "
            f"{found.get(first)}, expected {expected.get(first)}. The file is damaged, or no plain "
            f"{config.model_type} model."
        )
    return named


def _name(name: str) -> str | None:
    if name in OUTER_TENSORS:
        return OUTER_TENSORS[name]
    match name.split("."):
        case ["blk", number, layer, kind] if layer in LAYER_TENSORS:
            return f"model.layers.{number}.{LAYER_TENSORS[layer]}.{kind}"
    return None


def _permuted_heads(config: PreTrainedConfig) -> dict[str, int]:
    """Heads of the projections whose rows the file permutes."""
    return {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}


def _write_safetensors(
    path: Path, named: dict[str, ReaderTensor], dtype: torch.dtype, heads: dict[str, int], file: Path
) -> None:
    """Write the tensors as they are dequantised; safetensors' own writer wants all of them in memory."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in named.items():
        start, end = end, end + int(tensor.n_elements) * dtype.itemsize
        shape = [int(n) for n in reversed(tensor.shape)]
        header[name] = {"dtype": SAFETENSORS_TYPES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tqdm(named.items(), desc=f"converting {file.name}", unit=" tensors"):
            _write_tensor(out, tensor, dtype, heads.get(name.split(".")[-2]), file)
        out.flush()
        os.fsync(out.fileno())


def _write_tensor(out: BinaryIO, tensor: ReaderTensor, dtype: torch.dtype, n_heads: int | None, file: Path) -> None:
    chunks = _dequantised(tensor, file)
    if n_heads is not None:
        chunks = iter([_unpermuted(np.concatenate(list(chunks)), n_heads)])
    for chunk in chunks:
        out.write(torch.from_numpy(chunk).to(dtype).contiguous().view(torch.uint8).numpy().data)


def _dequantised(tensor: ReaderTensor, file: Path) -> Iterator[np.ndarray]:
    """Rows of a tensor as float32, some at a time."""
    data = tensor.data
    n_rows = max(1, CHUNK // int(tensor.shape[0])) if data.ndim > 1 else len(data)
    for start in range(0, len(data), n_rows):
        try:
            rows = dequantize(data[start : start + n_rows], tensor.tensor_type)
        except NotImplementedError as error:
            raise WeightsError(
                f"{file}: tensor {tensor.name} is of type {tensor.tensor_type.name}, which cannot be dequantised; use "
                "a file with other types, such as Q4_K_M or Q8_0."
            ) from error
        yield np.array(rows, np.float32)


def _unpermuted(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Undo the order for interleaved rotation: rows (2 i, 2 i + 1) of a head go to (i, i + half)."""
    halves = weight.reshape(n_heads, -1, 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)
