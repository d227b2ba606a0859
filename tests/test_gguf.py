"""GGUF files: converted once, exactly, with the publisher's tokenizer; each failure names the way out."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from blockrag.errors import UnsupportedModelError, WeightsError
from blockrag.generate import end_tokens
from blockrag.models import local_path, remove
from blockrag.models.catalog import CATALOG
from blockrag.models.convert import LAYER_TENSORS, OUTER_TENSORS, convert_gguf
from blockrag.models.fetch import sha256
from blockrag.models.load import load_answer_model, load_tokenizer
from blockrag.models.store import base_id, list_converted, list_models
from tests.tiny import tiny_model, tiny_tokenizer

NAMES = {hf: name for name, hf in OUTER_TENSORS.items()}
LAYER_NAMES = {hf: name for name, hf in LAYER_TENSORS.items()}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOCKRAG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def tensors_of(network, family: str) -> dict[str, np.ndarray]:
    """A network's tensors as a GGUF file names and orders them."""
    tensors, config = {}, network.config
    for name, tensor in network.named_parameters():
        array = tensor.detach().numpy()
        if family == "llama" and ("q_proj" in name or "k_proj" in name):
            n_heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            array = array.reshape(n_heads, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
        if name in NAMES:
            tensors[NAMES[name]] = array
        else:
            _, _, number, *layer, kind = name.split(".")
            tensors[f"blk.{number}.{LAYER_NAMES['.'.join(layer)]}.{kind}"] = array
    return tensors


def write_gguf(path: Path, family: str = "llama", *, quantised=None, tensors=None, drop=(), fields=None, **changes):
    """A tiny random model as a GGUF file; `fields` overwrites metadata, None leaves one out."""
    model = tiny_model(family, **changes)
    config, tokenizer = model.network.config, tiny_tokenizer()
    core = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    words = [token for token, _ in sorted(core["vocab"].items(), key=lambda item: item[1])]
    metadata = {
        f"{family}.block_count": config.num_hidden_layers,
        f"{family}.context_length": config.max_position_embeddings,
        f"{family}.embedding_length": config.hidden_size,
        f"{family}.feed_forward_length": config.intermediate_size,
        f"{family}.attention.head_count": config.num_attention_heads,
        f"{family}.attention.head_count_kv": config.num_key_value_heads,
        f"{family}.attention.key_length": config.head_dim,
        f"{family}.attention.value_length": config.head_dim,
        f"{family}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        f"{family}.rope.freq_base": config.rope_parameters["rope_theta"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [3 if word in ("<pad>", "<s>", "</s>") else 1 for word in words],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in core["merges"]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": tokenizer.chat_template,
        **(fields or {}),
    }
    architecture = metadata.pop("general.architecture", family)
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in metadata.items():
        if value is not None:
            add(writer, name, value)
    for name, array in {**tensors_of(model.network, family), **(tensors or {})}.items():
        if name in drop:
            continue
        kind = quantised if quantised and array.ndim > 1 and array.shape[1] % 32 == 0 else None
        data = gguf.quantize(array, kind) if kind else np.ascontiguousarray(array, np.float32)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def add(writer: gguf.GGUFWriter, name: str, value) -> None:
    match value:
        case bool():
            writer.add_bool(name, value)
        case int():
            writer.add_uint32(name, value)
        case float():
            writer.add_float32(name, value)
        case str():
            writer.add_string(name, value)
        case list():
            writer.add_array(name, value)


def logits(network) -> torch.Tensor:
    with torch.no_grad():
        return network(torch.arange(5, 45)[None]).logits


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
LLAMA3 |= {"original_max_position_embeddings": 8192}
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 1024}


@pytest.mark.parametrize(
    "family, changes",
    [
        ("llama", {}),
        ("llama", {"attention_bias": True, "tie_word_embeddings": True}),
        ("qwen2", {"tie_word_embeddings": False}),
        ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    ],
)
def test_a_converted_file_computes_what_the_network_did(home, tmp_path, family, changes):
    before = write_gguf(tmp_path / "m.gguf", family, **changes)
    convert_gguf(tmp_path / "m.gguf", tmp_path / "out", "float32")
    after = load_answer_model(str(tmp_path / "out"))
    assert torch.equal(logits(after.network), logits(before.network))
    assert after.network.config.tie_word_embeddings == changes.get("tie_word_embeddings", False)


@pytest.mark.parametrize(
    "rope, fields",
    [
        ({"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}, {"type": "linear", "factor": 2.0}),
        (YARN, {"type": "yarn", "factor": 4.0, "original_context_length": 1024}),
    ],
)
def test_scaled_positions_are_kept(home, tmp_path, rope, fields):
    fields = {f"qwen2.rope.scaling.{name}": value for name, value in fields.items()}
    before = write_gguf(tmp_path / "m.gguf", "qwen2", rope_parameters=rope, fields=fields)
    convert_gguf(tmp_path / "m.gguf", tmp_path / "out", "float32")
    assert torch.equal(logits(load_answer_model(str(tmp_path / "out")).network), logits(before.network))


def test_llama_3s_positions_are_recognised_by_their_factors(home, tmp_path):
    before = write_gguf(tmp_path / "plain.gguf", rope_parameters=LLAMA3)
    plain = 1 / 500_000.0 ** (np.arange(0, 16, 2) / 16)
    factors = plain / before.network.model.rotary_emb.inv_freq.double().numpy()
    write_gguf(tmp_path / "m.gguf", rope_parameters=LLAMA3, tensors={"rope_freqs.weight": factors})
    convert_gguf(tmp_path / "m.gguf", tmp_path / "out", "float32")
    assert torch.equal(logits(load_answer_model(str(tmp_path / "out")).network), logits(before.network))
    write_gguf(tmp_path / "x.gguf", rope_parameters=LLAMA3, tensors={"rope_freqs.weight": factors**2})
    with pytest.raises(UnsupportedModelError, match="rotary factors.*not those of Llama 3.1"):
        convert_gguf(tmp_path / "x.gguf", tmp_path / "other")


def test_an_output_matrix_of_the_embeddings_bytes_is_tied(home, tmp_path):
    embedding = tensors_of(tiny_model("qwen2").network, "qwen2")["token_embd.weight"]
    write_gguf(tmp_path / "m.gguf", "qwen2", tensors={"output.weight": embedding})
    convert_gguf(tmp_path / "m.gguf", tmp_path / "out")
    assert load_answer_model(str(tmp_path / "out")).network.config.tie_word_embeddings


def test_quantised_tensors_are_dequantised_in_pieces_and_kept_in_bfloat16(home, tmp_path, monkeypatch):
    kind = gguf.GGMLQuantizationType.Q8_0
    before = write_gguf(tmp_path / "m.gguf", quantised=kind)
    monkeypatch.setattr("blockrag.models.convert.CHUNK", 1000)
    folder = local_path(tmp_path / "m.gguf")
    network = load_answer_model(str(folder), dtype=torch.bfloat16).network
    weight = before.network.model.layers[1].mlp.up_proj.weight.detach().numpy()
    expected = torch.from_numpy(gguf.dequantize(gguf.quantize(weight, kind), kind)).bfloat16()
    assert torch.equal(network.model.layers[1].mlp.up_proj.weight, expected)


def test_a_file_is_converted_once_and_known_by_its_hash(home, tmp_path, monkeypatch):
    file = tmp_path / "m.gguf"
    write_gguf(file)
    folder = local_path(file)
    assert folder.parent == home / "models" and base_id(file) == sha256(file)
    [kept] = list_converted()
    assert (kept.file, kept.name) == ("m.gguf", folder.name) and kept.nbytes > 10_000
    monkeypatch.setattr("blockrag.models.convert.convert_gguf", None)
    assert local_path(tmp_path) == folder, "the folder with the file means the file"
    remove(folder.name)
    assert list_converted() == []


def test_a_published_file_given_by_its_path_is_the_catalogs_model(home, tmp_path, monkeypatch):
    write_gguf(tmp_path / "m.gguf")
    weights = CATALOG["smollm2"]
    monkeypatch.setitem(
        CATALOG, "toy", type(weights)(**{**vars(weights), "name": "toy", "weights_sha256": sha256(tmp_path / "m.gguf")})
    )
    assert local_path(tmp_path / "m.gguf") == home / "models" / "toy" == local_path("toy")


def test_of_several_files_in_a_folder_one_must_be_named(home, tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(WeightsError, match=r"holds 2 GGUF files; name one of them, such as .*a\.gguf"):
        local_path(tmp_path)


def test_a_file_of_another_kind_is_refused(home, tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"weights\.bin is no GGUF file"):
        local_path(tmp_path / "weights.bin")


@pytest.mark.parametrize("kept", [0, 3, 100, 5000, -100])
def test_a_file_that_is_cut_off_says_so(home, tmp_path, kept):
    write_gguf(tmp_path / "m.gguf")
    whole = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(whole[:kept])
    with pytest.raises(WeightsError, match="not a whole GGUF file.*fetch it again"):
        local_path(tmp_path / "m.gguf")
    assert not list((home / "models").glob("*"))


@pytest.mark.parametrize(
    "fields, error, message",
    [
        ({"general.architecture": "mamba"}, UnsupportedModelError, "'mamba'.*converted for llama, qwen2, qwen3"),
        ({"llama.expert_count": 8}, UnsupportedModelError, "'llama with experts'"),
        ({"llama.rope.dimension_count": 8}, UnsupportedModelError, "rotated in part"),
        ({"llama.attention.head_count_kv": [2, 1]}, UnsupportedModelError, "differ from one another"),
        (
            {"llama.rope.scaling.type": "longrope", "llama.rope.scaling.factor": 2.0},
            UnsupportedModelError,
            "'longrope'",
        ),
        ({"split.count": 3}, WeightsError, "one of 3 parts.*--merge"),
        ({"llama.block_count": 3}, WeightsError, r"missing.*model\.layers\.2"),
        ({"llama.block_count": None}, WeightsError, r"no llama\.block_count"),
        ({"tokenizer.ggml.model": None}, WeightsError, "holds no tokenizer"),
        ({"tokenizer.ggml.model": "t5"}, UnsupportedModelError, "of kind 't5'"),
        ({"tokenizer.ggml.pre": "tekken"}, UnsupportedModelError, "rule 'tekken'"),
        ({"tokenizer.ggml.eos_token_id": None}, WeightsError, "no end token"),
        ({"llama.attention.head_count": 0}, WeightsError, "contradict themselves.*zero"),
        ({"tokenizer.ggml.merges": ["nowhere tobefound"]}, WeightsError, "contradict themselves.*out of vocabulary"),
        ({"tokenizer.ggml.token_type": [5] * 400}, WeightsError, "contradict themselves"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(home, tmp_path, fields, error, message):
    write_gguf(tmp_path / "m.gguf", fields=fields)
    with pytest.raises(error, match=message):
        local_path(tmp_path / "m.gguf")
    assert not list((home / "models").glob("*"))


def test_missing_tensors_and_tensors_of_another_architecture_are_named(home, tmp_path):
    write_gguf(tmp_path / "a.gguf", drop=["blk.1.ffn_up.weight"])
    with pytest.raises(WeightsError, match=r"1 tensors are missing.*layers\.1\.mlp\.up_proj\.weight: found None"):
        local_path(tmp_path / "a.gguf")
    write_gguf(tmp_path / "b.gguf", tensors={"blk.0.ssm_a": np.ones(4)})
    with pytest.raises(WeightsError, match=r"blk\.0\.ssm_a: found \(4,\), expected None"):
        local_path(tmp_path / "b.gguf")
    write_gguf(tmp_path / "c.gguf", drop=["token_embd.weight"])
    with pytest.raises(WeightsError, match=r"lacks tensor token_embd\.weight"):
        local_path(tmp_path / "c.gguf")


def test_a_tensor_type_that_is_not_known_is_named(home, tmp_path):
    write_gguf(tmp_path / "m.gguf")
    data = bytearray((tmp_path / "m.gguf").read_bytes())
    at = (
        data.index(b"output_norm.weight") + len(b"output_norm.weight") + 4 + 8
    )  # behind the number of dimensions, and one
    data[at : at + 4] = (999).to_bytes(4, "little")
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(
        WeightsError, match="not a whole GGUF file that this release can read: .*999.*common tensor types"
    ):
        local_path(tmp_path / "m.gguf")


def test_a_tensor_type_that_cannot_be_dequantised_is_named(home, tmp_path, monkeypatch):
    def unknown(data, kind):
        raise NotImplementedError

    write_gguf(tmp_path / "m.gguf")
    monkeypatch.setattr("blockrag.models.convert.dequantize", unknown)
    with pytest.raises(WeightsError, match="tensor .* is of type F32.*Q4_K_M"):
        local_path(tmp_path / "m.gguf")
    assert not list((home / "models").glob("*"))


def test_the_files_tokenizer_is_rebuilt(home, tmp_path):
    write_gguf(tmp_path / "m.gguf", fields={"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.eot_token_id": 0})
    folder = local_path(tmp_path / "m.gguf")
    made, original = AutoTokenizer.from_pretrained(folder), tiny_tokenizer()
    text = "the question </s> and 12 more\n é 你"
    assert made(text, add_special_tokens=False).input_ids == original(text).input_ids
    assert made(text).input_ids == [1, *original(text).input_ids] and made.decode(original("é 你").input_ids) == "é 你"
    assert made.chat_template == original.chat_template and made.pad_token_id == 0
    assert load_answer_model(str(folder)).network.generation_config.eos_token_id == [2, 0]


def test_sentencepiece_vocabularies_merge_by_score(home, tmp_path):
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    words = ["▁", "a", "b", "c", "ab", "bc", "▁a", "▁ab", "abc"]
    tokens = ["<unk>", "<s>", "</s>", *bytes_, *words]
    scores = [0.0] * 259 + [-9.0, -8.0, -7.0, -6.0, -3.0, -1.0, -4.0, -5.0, -2.0]
    kinds = [2, 3, 3, *([6] * 256), *([1] * len(words))]
    fields = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": None,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": None,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": None,
    }
    write_gguf(tmp_path / "m.gguf", fields=fields, vocab_size=len(tokens))
    made = AutoTokenizer.from_pretrained(local_path(tmp_path / "m.gguf"))
    assert made.tokenize("abc ab é") == ["▁", "abc", "▁ab", "▁", "<0xC3>", "<0xA9>"]
    assert made("ab").input_ids == [1, tokens.index("▁ab")] and made.decode(made("abc é").input_ids[1:]) == "abc é"


QWEN_TOKENS = {
    "add(12345, 67.89)\n\n\tdon't I'LL": [
        718,
        7,
        16,
        17,
        18,
        19,
        20,
        11,
        220,
        21,
        22,
        13,
        23,
        24,
        692,
        2698,
        263,
        944,
        358,
        6,
        4086,
    ],
    "e\u0301 = \u00e9, \ufb01 \u4f60\u597d\uff0c\u4e16\u754c \U0001f600": [
        963,
        284,
        3958,
        11,
        32495,
        70731,
        220,
        108386,
        3837,
        99489,
        90316,
    ],
    "   spaces   \n \n\n  x\r\n": [256, 12621, 5872, 4710, 220, 856, 319],
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0661\u0662\u0663 \u216b \u00bd": [
        60096,
        87244,
        78368,
        30484,
        97,
        34370,
        220,
        149,
        94,
        149,
        95,
        149,
        96,
        220,
        70467,
        104,
        220,
        26062,
    ],
    "<|im_start|>user\nHi<|im_end|>\n<tool_call>[PAD151665]": [
        151644,
        872,
        198,
        13048,
        151645,
        198,
        151657,
        42347,
        1808,
        16,
        20,
        16,
        21,
        21,
        20,
        60,
    ],
}
"""By `transformers`' class of the publisher's tokenizer, Qwen2Tokenizer, given the vocabulary and merges of the published
file; the ids of control tokens are those of the file's list."""

QUESTION = "What is the capital of France? Answer in one sentence, then count from 1 to 5."
QWEN_PROMPT = [
    151644, 8948, 198, 2610, 525, 1207, 16948, 11, 3465, 553, 54364, 14817, 13, 1446, 525, 264, 10950, 17847, 13, 151645,
    198, 151644, 872, 198, 3838, 374, 279, 6722, 315, 9625, 30, 21806, 304, 825, 11652, 11, 1221, 1760, 504, 220, 16, 311,
    220, 20, 13, 151645, 198, 151644, 77091, 198,
]  # fmt: skip
QWEN_ANSWERS = {
    "0.5b": [785, 6722, 315, 9625, 374, 12095, 13, 4504, 287, 504, 220, 16, 311, 220, 20, 11, 12095, 374, 279, 220],
    "1.5b": [785, 6722, 315, 9625, 374, 12095, 13, 220, 16, 13, 12095, 220, 17, 13, 55201, 220, 18, 13, 87693, 220],
}
"""The first greedy tokens of the published files, as `transformers` itself dequantises them to float32."""


@pytest.mark.weights
@pytest.mark.parametrize("size", QWEN_ANSWERS)
def test_the_real_qwen_reads_and_writes_as_published(size):
    """Only where the weights are here already: a test does not fetch gigabytes."""
    name = f"qwen2.5-coder-{size}"
    if not next(entry for entry in list_models() if entry.weights.name == name).nbytes:
        pytest.skip(f"{name} is not here")
    tokenizer = load_tokenizer(name)
    assert {text: tokenizer(text).input_ids for text in QWEN_TOKENS} == QWEN_TOKENS
    assert len(tokenizer) == 151665 and tokenizer.decode([151643, 151645]) == "<|endoftext|><|im_end|>"
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (None, "<|im_end|>", "<|endoftext|>")
    chat = [{"role": "user", "content": QUESTION}]
    assert tokenizer.apply_chat_template(chat, add_generation_prompt=True).input_ids == QWEN_PROMPT
    model = load_answer_model(name, dtype=torch.bfloat16)
    assert end_tokens(model) == {151645, 151643}
    n_known, text = len(QWEN_PROMPT), torch.tensor([QWEN_PROMPT + QWEN_ANSWERS[size]])
    with torch.inference_mode():  # one pass tells what would be chosen after each token
        logits = model.network(text[:, :-1]).logits[0, n_known - 1 :]
    assert logits.argmax(-1).tolist() == QWEN_ANSWERS[size]
