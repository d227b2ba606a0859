"""Encode: computes the KV of blocks, each alone at local positions.

Isolation to the bit (rule 4) needs more than a mask: matrix products of different shapes add in different orders, so
that a block encoded beside a longer neighbour would differ in its last bits. Here the shape of a block's batch depends
on the block's own length alone. In rows (everywhere), rows are padded to a multiple of `LENGTH_STEP`, and a batch
always has the same number of rows for its length, filled up with empty ones. In packs (`blockrag.attention.varlen`, on
CUDA), blocks of any length are concatenated in packs of one size. Of a mixture of experts, each block is a batch by
itself: how many tokens an expert computes together depends on all tokens of the batch.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from blockrag.attention.kv_cache import PreallocatedCache, sized
from blockrag.attention.varlen import encode_pack, has_packs, pack
from blockrag.kv.block_kv import BlockKV
from blockrag.models.answer_model import AnswerModel

LENGTH_STEP = 32
BATCH_TOKENS = {"cpu": 256, "cuda": 16384}
"""Tokens of a batch of rows; larger batches are no faster."""


@dataclass(frozen=True)
class Encoded:
    """An encoded block: its index in the sequence that was given, and its KV."""

    number: int
    kv: BlockKV


def encode_blocks(
    model: AnswerModel, blocks: Sequence[Sequence[int]], prefix: BlockKV | None = None
) -> Iterator[Encoded]:
    """Encode blocks in batches, yielding each when its batch is done (not in the order given).

    Parameters
    ----------
    model : AnswerModel
        Its format says which sinks precede every block and whether blocks see the prefix.
    blocks : sequence of token id sequences
        Each of at least one token; without sinks.
    prefix : BlockKV, optional
        The encoded prefix; used only where blocks see it.

    Yields
    ------
    Encoded
        Closing the generator stops before the next batch.
    """
    seen_prefix = prefix if model.format.prefix_visible else None
    if model.format.prefix_visible and prefix is None:
        raise ValueError("blocks of this format see the prefix: encode it first and pass it")
    yield from _encode(model, blocks, model.embed_sinks(), seen_prefix)


def encode_prefix(model: AnswerModel, token_ids: Sequence[int]) -> BlockKV:
    """Encode the prompt's prefix, at position 0 and without sinks (its first token is one)."""
    no_sinks = model.embed_sinks()[:0]
    return next(_encode(model, [token_ids], no_sinks, None)).kv


def pass_tokens(model: AnswerModel, lengths: Sequence[int]) -> int:
    """Tokens that the passes compute which encode blocks of these lengths (sinks included), padding included."""
    if has_packs(model):
        return sum(n_tokens for _, n_tokens in pack(lengths))
    buckets = Counter(_padded(length) for length in lengths)
    return sum(-(-n // rows) * rows * length for length, n in buckets.items() for rows in [_n_rows(model, length)])


def _encode(
    model: AnswerModel, parts: Sequence[Sequence[int]], sinks: torch.Tensor, prefix: BlockKV | None
) -> Iterator[Encoded]:
    yield from (_in_packs if has_packs(model) else _in_rows)(model, parts, sinks, prefix)


def _in_packs(
    model: AnswerModel, parts: Sequence[Sequence[int]], sinks: torch.Tensor, prefix: BlockKV | None
) -> Iterator[Encoded]:
    for numbers, n_tokens in pack([len(sinks) + len(token_ids) for token_ids in parts]):
        blocks = encode_pack(model, [parts[n] for n in numbers], sinks, prefix, n_tokens)
        yield from (Encoded(n, kv) for n, kv in zip(numbers, blocks, strict=True))


def _in_rows(
    model: AnswerModel, parts: Sequence[Sequence[int]], sinks: torch.Tensor, prefix: BlockKV | None
) -> Iterator[Encoded]:
    by_length = defaultdict(list)
    for number, token_ids in enumerate(parts):
        length = len(sinks) + len(token_ids)
        by_length[_padded(length)].append(number)
    for length, numbers in sorted(by_length.items()):
        n_rows = _n_rows(model, length)
        for i in range(0, len(numbers), n_rows):
            batch = numbers[i : i + n_rows]
            rows = _encode_batch(model, [parts[n] for n in batch], sinks, prefix, (n_rows, length))
            yield from (Encoded(n, kv) for n, kv in zip(batch, rows, strict=True))


def _padded(length: int) -> int:
    """Tokens of the row of a block of `length` tokens."""
    return -(-length // LENGTH_STEP) * LENGTH_STEP


def _n_rows(model: AnswerModel, length: int) -> int:
    """Rows of a batch of rows of `length` tokens."""
    return 1 if model.has_experts else max(1, BATCH_TOKENS[model.device.type] // length)


@torch.inference_mode()
def _encode_batch(
    model: AnswerModel,
    parts: Sequence[Sequence[int]],
    sinks: torch.Tensor,
    prefix: BlockKV | None,
    shape: tuple[int, int],
) -> list[BlockKV]:
    n_rows, length = shape
    n_sinks, start = len(sinks), 0 if prefix is None else prefix.n_tokens
    token_ids = torch.zeros(n_rows, length - n_sinks, dtype=torch.long)
    for row, part in enumerate(parts):
        token_ids[row, : len(part)] = torch.tensor(part)
    embeddings = torch.cat(
        [sinks.expand(n_rows, -1, -1), model.embed(token_ids.to(model.device))], dim=1
    )  # (rows, length, hidden_size)
    storage = model.kv_storage(start + length, batch=n_rows)
    if prefix is not None:
        keys, values = sized(storage, model.rope)
        keys[..., :start, :], values[..., :start, :] = prefix.keys[:, None], prefix.values[:, None]
    positions = torch.arange(start, start + length, device=model.device)[None]
    cache = PreallocatedCache(storage, start, rope=model.rope)
    model.network(
        inputs_embeds=embeddings, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
    )
    ends = [start + n_sinks + len(part) for part in parts]
    return [BlockKV.cut(sized(storage[:, :, row, :, start:end], model.rope), start) for row, end in enumerate(ends)]
