"""Read blocks and answer in full, naive or block mode with the library's code: encode, store, assemble, generate."""

import argparse
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import cache, partial

import torch

from blockrag.attention.assemble import assemble
from blockrag.attention.encode import encode_blocks, encode_prefix
from blockrag.attention.runner import Runner, make_runner
from blockrag.generate import end_tokens, last_logits
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.key import kv_identity
from blockrag.kv.memory import MemoryTier
from blockrag.kv.tiered import TieredKV
from blockrag.models.answer_model import AnswerModel
from blockrag.models.load import load_answer_model
from blockrag.models.shipped import AUTO, adapter_folder, find_adapter
from blockrag.prompt import Prompt
from training.distill.generation import BatchDecoder, Completion, Request

MODES = ("full", "naive", "block")
"""full: the teacher's weights with causal attention; naive: the same weights in block mode without sinks; block: block
mode of the adapter, or naive mode without one."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of model and adapter."""
    parser.add_argument("--model", default="smollm2", help="base model: catalog name, hub name or folder")
    parser.add_argument(
        "--adapter", default=AUTO, help="folder or none (default: the adapter shipped for the base model)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    rows = 32 if torch.cuda.is_available() else 0
    parser.add_argument(
        "--rows", type=int, default=rows, help="answers decoded at once; 0: one by one (default: %(default)s)"
    )


class Reader:
    """Reads blocks and answers in one mode.

    Parameters
    ----------
    model : AnswerModel
        Weights and block format of the mode.
    runner : callable
        Returns the model's runner; called only by `generate`.
    whole : bool
        Full mode: read prefix and blocks as one text.
    store_nbytes : int
        Budget of the block KV in memory.
    """

    def __init__(self, model: AnswerModel, runner: Callable[[], Runner], *, whole: bool, store_nbytes: int = 1 << 30):
        self.model, self.prompt, self._whole = model, Prompt(model.tokenizer), whole
        self._identity = kv_identity(model)
        self._kv = TieredKV([MemoryTier(store_nbytes, model.device)])
        self._runner = runner
        self._prefix = encode_prefix(model, self.prompt.prefix_ids)
        self._ends = end_tokens(model)

    def read(self, blocks: Sequence[Sequence[int]]) -> list[BlockKV]:
        """KV of prefix and blocks, from the store or encoded now; in full mode one KV of all."""
        if self._whole:
            return [encode_prefix(self.model, [*self.prompt.prefix_ids, *(token for ids in blocks for token in ids)])]
        keys = [self._identity.key(ids) for ids in blocks]
        hits = {key: self._kv.get(key) for key in keys}
        found = {key: hit.kv for key, hit in hits.items() if hit is not None}
        missing = {key: ids for key, ids in zip(keys, blocks, strict=True) if key not in found}
        names = list(missing)
        for encoded in encode_blocks(self.model, list(missing.values()), self._prefix):
            found[names[encoded.number]] = encoded.kv
            self._kv.put(names[encoded.number], encoded.kv)
        return [self._prefix, *(found[key] for key in keys)]

    def generate(self, parts: Sequence[BlockKV], final_ids: Sequence[int], max_new_tokens: int) -> str:
        """Answer greedily."""
        tokens: list[int] = []
        with self._runner().join(parts, len(final_ids) + max_new_tokens) as joined:
            for token in joined.greedy(final_ids):
                if token in self._ends:
                    break
                tokens.append(token)
                if len(tokens) == max_new_tokens:
                    break
        return self.model.tokenizer.decode(tokens, skip_special_tokens=True)

    @torch.inference_mode()
    def log_probabilities(
        self, parts: Sequence[BlockKV], final_ids: Sequence[int], answer_ids: Sequence[int]
    ) -> torch.Tensor:
        """Log-probabilities of the vocabulary at each token of a given answer, float32 ``(answer, vocabulary)``."""
        ids = [*final_ids, *answer_ids[:-1]]
        storage = self.model.kv_storage(sum(part.n_tokens for part in parts) + len(ids))
        cache = assemble(parts, self.model.rope, storage)
        return last_logits(self.model, ids, cache, len(answer_ids)).float().log_softmax(-1)


class BatchAnswerer:
    """Answers questions in batches, or one by one with the library's own runner.

    Parameters
    ----------
    rows : int
        Answers decoded at once per network; 0: one by one.
    capacity : int
        Maximum tokens of prompt and answer together.
    """

    def __init__(self, rows: int, capacity: int):
        self._rows, self._capacity = rows, capacity
        self._decoders: dict[int, tuple[Reader, BatchDecoder]] = {}

    def answer(
        self, key: Hashable, reader: Reader, parts: Sequence[BlockKV], final_ids: Sequence[int], max_new_tokens: int
    ) -> Iterator[tuple[Hashable, str]]:
        """Start to answer a question greedily; yield keys and answers of the questions finished so far."""
        if not self._rows:
            yield key, reader.generate(parts, final_ids, max_new_tokens)
            return
        network = id(reader.model)
        if network not in self._decoders:
            self._decoders[network] = reader, BatchDecoder(reader.model, self._rows, self._capacity)
        request = Request(key, final_ids, (), max_new_tokens)
        yield from self._texts(reader, self._decoders[network][1].submit(request, parts))

    def drain(self) -> Iterator[tuple[Hashable, str]]:
        """Finish and yield the remaining answers."""
        for reader, decoder in self._decoders.values():
            yield from self._texts(reader, decoder.drain())

    @staticmethod
    def _texts(reader: Reader, completions: Iterable[Completion]) -> Iterator[tuple[Hashable, str]]:
        for each in completions:
            yield each.key, reader.model.tokenizer.decode(each.answers[0], skip_special_tokens=True)


def about(args: argparse.Namespace) -> dict[str, str | None]:
    """Adapter (null if none) and base model, as recorded in results."""
    folder = adapter_folder(args.adapter, args.model)
    name = folder.name if folder and args.adapter == AUTO else args.adapter
    return {"adapter": name if folder else None, "base": args.model}


def open_readers(modes: Sequence[str], base: str, adapter: str, device: str) -> dict[str, Reader]:
    """A reader for each mode; modes with the same weights share them. `adapter`: see `adapter_folder`.

    Raises
    ------
    ValueError
        If a mode is unknown.
    """
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown:
        raise ValueError(f"there is no mode {unknown[0]!r}; choose: {', '.join(MODES)}.")
    model = load_answer_model(base, device=device, adapter=find_adapter(adapter, base))
    full = model.full or model
    of_mode = {"full": full, "naive": full, "block": model}
    runners = {
        id(network): cache(partial(make_runner, network)) for network in ((full,) if model is full else (full, model))
    }
    return {mode: Reader(of_mode[mode], runners[id(of_mode[mode])], whole=mode == "full") for mode in modes}
