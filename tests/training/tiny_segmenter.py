"""A segmenter with a few thousand weights, and texts with obvious boundaries."""

import random

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertModel

from blockrag.segment.neural.network import NetworkConfig, SegmenterNetwork

WORDS = "now then the tide comes in and goes out boats wait men sing it is late here .".split()
SIZES = {
    "vocab_size": 200,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}


def make_tokenizer() -> Tokenizer:
    """Word pieces with BERT's special tokens and their ids."""
    special = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: i for i, token in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def make_network(**changes) -> SegmenterNetwork:
    """The same random weights in every run."""
    torch.manual_seed(0)
    return SegmenterNetwork(NetworkConfig(SIZES, **{"n_layers": 1, "window": 64, "overlap": 16, **changes})).eval()


def write_encoder(folder) -> None:
    """A folder with the encoder that `training.segmenter` starts from."""
    torch.manual_seed(0)
    BertModel(BertConfig(**SIZES)).save_pretrained(folder)
    make_tokenizer().save(str(folder / "tokenizer.json"))


def make_row(seed: int, n: int = 40, **fields) -> dict:
    """Lines; a block begins at each line that follows a blank one and starts with "Now"."""
    draw = random.Random(seed)
    text, boundaries = "The tide comes in.\n", [{"char": 0, "level": 1}]
    for _ in range(n):
        begins = draw.random() < 0.2
        text += "\n" if begins else ""
        if begins:
            boundaries.append({"char": len(text), "level": 2})
        words = [draw.choice(WORDS[2:-1]) for _ in range(draw.randint(3, 9))]
        text += ("Now " if begins else "Then ") + " ".join(words) + ".\n"
    known = {"id": str(seed), "category": "news", "source": "s", "licence": "x", "split": "train", "headings": []}
    return {**known, "text": text, "boundaries": boundaries, **fields}
