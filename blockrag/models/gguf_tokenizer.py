"""Build a fast tokenizer from the arrays of a GGUF file, equal to the publisher's.

`transformers` reads them too, but differently from release to release: with other end tokens and decoders, and without
the rule that splits digits.
"""

from pathlib import Path
from typing import Any

from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from blockrag.errors import UnsupportedModelError, WeightsError

UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 2, 3, 4, 5
"""Token types of a GGUF file."""

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def _words(digits: str) -> pre_tokenizers.PreTokenizer:
    pattern = Regex(_WORDS.format(digits=digits))
    return pre_tokenizers.Sequence([pre_tokenizers.Split(pattern, behavior="isolated"), _BYTES])


_GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
_SMOLLM = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _GPT2])

PRE_TOKENIZERS = {
    "qwen2": _words(""),
    "deepseek-r1-qwen": _words(""),
    "llama-bpe": _words("{1,3}"),
    "smollm": _SMOLLM,
    "gpt-2": _GPT2,
}
"""How text is split before byte-pair merges, by `tokenizer.ggml.pre`."""


SPECIAL = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
"""Names of special tokens here and in a file."""


class GGUFFields:
    """The metadata of a GGUF file by name."""

    def __init__(self, reader: GGUFReader, file: Path):
        self._fields, self.file = reader.fields, file

    def __getitem__(self, name: str) -> Any:
        if name not in self._fields:
            raise WeightsError(f"{self.file} has no {name}, which conversion needs; use a complete GGUF file.")
        return self._fields[name].contents()

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or `default` where the file has none."""
        return self._fields[name].contents() if name in self._fields else default


def make_tokenizer(
    fields: GGUFFields, end_tokens: tuple[str, ...], *, has_bos: bool
) -> tuple[PreTrainedTokenizerFast, list[int]]:
    """The tokenizer of a GGUF file, and the ids of the tokens that end an answer.

    Raises
    ------
    WeightsError
        If the file holds no tokenizer.
    UnsupportedModelError
        If it is of a kind that cannot be built.
    """
    kind, tokens, types = _vocabulary(fields)
    if kind == "llama":
        core = _sentencepiece(fields, tokens)
    else:
        core = _byte_level(fields, tokens)
    for special, wanted in ((True, CONTROL), (False, USER_DEFINED)):
        found = [token for token, type_ in zip(tokens, types, strict=True) if type_ == wanted]
        added = [AddedToken(token, special=special, normalized=False) for token in found]
        core.add_special_tokens(added) if special else core.add_tokens(added)
    named = {name: _token(fields, tokens, f"{key}_token_id") for name, key in SPECIAL.items()}
    bos = named["bos_token"] if has_bos else None
    if bos is not None and fields.get("tokenizer.ggml.add_bos_token", kind == "llama"):
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokens.index(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        clean_up_tokenization_spaces=False,
        chat_template=fields.get("tokenizer.chat_template"),
        **{**named, "bos_token": bos, "pad_token": named["pad_token"] or named["eos_token"]},
    )
    return tokenizer, _end_ids(fields, tokens, end_tokens)


def _vocabulary(fields: GGUFFields) -> tuple[str, list[str], list[int]]:
    """Kind, tokens and token types; without the unused tokens that fill the embedding up."""
    kind, tokens = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.tokens")
    if not kind or not tokens:
        raise WeightsError(f"{fields.file} holds no tokenizer (tokenizer.ggml.*); use a file that does.")
    if kind not in ("gpt2", "llama"):
        raise UnsupportedModelError(
            f"{fields.file}: its tokenizer is of kind {kind!r}; gpt2 (byte-level) and llama (SentencePiece) are "
            "converted. Give the model's Hugging Face name or folder instead."
        )
    types = fields.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    n_used = max(number for number, type_ in enumerate(types, start=1) if type_ != UNUSED)
    return kind, tokens[:n_used], types[:n_used]


def _byte_level(fields: GGUFFields, tokens: list[str]) -> Tokenizer:
    pre = fields.get("tokenizer.ggml.pre", "none given")
    if pre not in PRE_TOKENIZERS:
        raise UnsupportedModelError(
            f"{fields.file}: its tokenizer splits text by the rule {pre!r}; converted are {', '.join(PRE_TOKENIZERS)}. "
            "Give the model's Hugging Face name or folder instead."
        )
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=pre == "llama-bpe"))
    if pre == "qwen2":
        core.normalizer = normalizers.NFC()
    core.pre_tokenizer = PRE_TOKENIZERS[pre]
    core.decoder = decoders.ByteLevel()
    return core


def _sentencepiece(fields: GGUFFields, tokens: list[str]) -> Tokenizer:
    """Llama 2's: byte-pair merges in the order of the scores, unknown characters as bytes."""
    vocabulary = {token: number for number, token in enumerate(tokens)}
    unknown = _token(fields, tokens, "unknown_token_id")
    merges = _merges(vocabulary, fields["tokenizer.ggml.scores"])
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, byte_fallback=True, fuse_unk=True))
    spaced = fields.get("tokenizer.ggml.add_space_prefix", True)
    prepend, strip = ([normalizers.Prepend("▁")], [decoders.Strip(content=" ", left=1)]) if spaced else ([], [])
    core.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return core


def _merges(vocabulary: dict[str, int], scores: list[float]) -> list[tuple[str, str]]:
    """Every way to make a token of two others; those of the best token first."""
    found = []
    for token, number in vocabulary.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocabulary and right in vocabulary:
                found.append((-scores[number], vocabulary[left], vocabulary[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def _token(fields: GGUFFields, tokens: list[str], key: str) -> str | None:
    number = fields.get(f"tokenizer.ggml.{key}")
    return tokens[number] if number is not None and number < len(tokens) else None


def _end_ids(fields: GGUFFields, tokens: list[str], end_tokens: tuple[str, ...]) -> list[int]:
    named = [fields.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eos", "eot", "eom")]
    known = [tokens.index(token) for token in end_tokens if token in tokens]
    ids = list(dict.fromkeys([number for number in named if number is not None] + known))
    if not ids:
        raise WeightsError(f"{fields.file} names no end token (tokenizer.ggml.eos_token_id); answers would not end.")
    return ids
