"""The engine: one model, one embedder and one KV store, shared by all collections and clients."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch

from blockrag import arguments
from blockrag.admission import FairQueue
from blockrag.arguments import one_of
from blockrag.attention.encode import Encoded, encode_blocks, encode_prefix, pass_tokens
from blockrag.attention.runner import make_runner
from blockrag.errors import ArgumentError, DeviceMemoryError
from blockrag.events import Report
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.costs import ENCODE, Choice, Costs, Kept, Meter, choose
from blockrag.kv.disk import DiskTier
from blockrag.kv.key import kv_identity
from blockrag.kv.memory import MemoryTier
from blockrag.kv.policy import SegmentedLRU
from blockrag.kv.remote import RemoteTier
from blockrag.kv.streaming import make_readers
from blockrag.kv.tier import KVTier
from blockrag.kv.tiered import TieredKV
from blockrag.kv.writer import AtRest
from blockrag.models import DEFAULT_EMBEDDER, DEFAULT_MODEL, choose_model
from blockrag.models.adapter import load_adapter
from blockrag.models.answer_model import AnswerModel
from blockrag.models.choose import checked_device
from blockrag.models.load import DTYPES, load_answer_model
from blockrag.models.shipped import AUTO, adapter_folder
from blockrag.progress import OnProgress, Progress, ignore
from blockrag.prompt import Prompt
from blockrag.retrieve.embedder import Embedder, check_embedder, load_embedder
from blockrag.retrieve.reranker import Reranker
from blockrag.segment import HFTokenCounter

if TYPE_CHECKING:
    from blockrag.vllm.client import VLLMClient

_LOG = logging.getLogger(__name__)

GIB = 1 << 30

SLOTS = {"cpu": 2, "cuda": 4}
"""Answers at once; each more slows the others down."""

KV_READERS = max(4, min(16, os.cpu_count() or 4))
"""Threads that read block KV: reading and checking a file release the interpreter's lock, and a disk is fastest with
several requests."""

COSTS = "costs.json"
"""File in the folder of the disk tier; see `blockrag.kv.costs`."""

OTHER_PREFIXES = 16
"""Encoded prefixes with a caller's own instruction that are kept."""

NO_MEMORY = (
    "the device's memory is too small, even with every cached block evicted from it. Ask for fewer blocks or a shorter "
    "answer, or use a smaller model."
)

NO_ADAPTER = (
    "block mode runs without an adapter: the model has not learned to read blocks that were encoded apart, which costs "
    "right answers (Qwen2.5-Coder-1.5B: 8 % of Natural Questions instead of 44 % in full mode, with twenty passages). "
    "Use full mode, or train an adapter: "
    "python -m training.distill adapt --model NAME_OR_FOLDER --documents FOLDER --out ADAPTER"
)
NO_ADAPTER_NOTE = (
    "block mode without an adapter: fewer right answers than full mode gives; see python -m training.distill adapt"
)
"""The same for the report of each answer."""


class Engine:
    """Encodes blocks and keeps their KV. Safe to use from several threads.

    Parameters
    ----------
    model : AnswerModel
    embedder : Embedder
    kv : TieredKV
        Made for `kv_identity(model)`.
    adapter : str, optional
        Name of the adapter that `model` was given.
    reranker : Reranker, optional
    kv_salt : str
        See `KVIdentity.salt`; `kv` must have been made with it.

    Attributes
    ----------
    model, full_model : AnswerModel
        What block mode and full mode run; the same without an adapter.
    adapter : str or None
        Name of the adapter's folder; None if block mode runs without one, which `Report.notes` say too.
    prompt : Prompt
    identity : KVIdentity
    prefix_kv : BlockKV
        KV of the prompt's prefix, encoded once.
    runner : Runner
        Joins blocks and runs the question over them.
    full_runner : Runner
        Runs full mode; the same as `runner` without an adapter.
    queue : FairQueue
        Admits questions.
    readers : Executor
        Threads that read block KV while its first layers are in use.
    costs : Costs
        What reading and encoding take here, as measured; see `choose`.
    server : VLLMClient or None
        Where answers are computed, if not here; see `blockrag.vllm.engine.ServedEngine`.
    """

    server: "VLLMClient | None" = None

    def __init__(
        self,
        model: AnswerModel,
        embedder: Embedder,
        kv: TieredKV,
        adapter: str | None = None,
        reranker: Reranker | None = None,
        kv_salt: str = "",
    ):
        self.model, self.full_model = model, model.full or model
        self.adapter = adapter or ("unnamed" if model.full else None)
        self.embedder, self.reranker = embedder, reranker
        self.kv = kv
        self.prompt = Prompt(model.tokenizer)
        self.prompt.final_ids("")  # creates its tokenizers now, not at the first question
        self.identity = kv_identity(model, kv_salt)
        self.prefix_kv = encode_prefix(model, self.prompt.prefix_ids)
        self._other_prefix = lru_cache(OTHER_PREFIXES)(lambda token_ids: encode_prefix(model, token_ids))
        slots = SLOTS[model.device.type]
        self.runner = make_runner(model, slots)
        self.full_runner = self.runner if model.full is None else make_runner(self.full_model, slots)
        self.queue = FairQueue(slots)
        self.observers: list[Callable[[Report], None]] = []  # called with the report of each answer
        self.readers = make_readers(KV_READERS)
        self.costs = self._costs()

    def __repr__(self) -> str:
        name = self.model.tokenizer.name_or_path or self.model.weights_id
        kept = f"KV in {str(self.kv_dir)!r}" if self.kv_dir else "KV in memory"
        return f"Engine({name!r}, adapter {self.adapter!r}, on {self.model.device}, {kept})"

    @classmethod
    def from_pretrained(
        cls,
        model: str = DEFAULT_MODEL,
        *,
        adapter: str = AUTO,
        embedder: str = DEFAULT_EMBEDDER,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        reranker: str | None = None,
        kv_dir: str | os.PathLike[str] | None = None,
        device_bytes: int | str | None = 8 * GIB,
        memory_bytes: int | str | None = 2 * GIB,
        disk_bytes: int | str | None = 20 * GIB,
        kv_remote: str | None = None,
        kv_remote_read_only: bool = False,
        kv_remote_secret: str | os.PathLike[str] | None = None,
        kv_at_rest: AtRest = "exact",
        kv_salt: str = "",
        device: str | None = None,
        dtype: str = "auto",
        allow_unverified: bool = False,
        max_wait_s: float = 120.0,
        max_idle_s: float = 10.0,
    ) -> "Engine":
        """Load models, downloading them if needed. Warns if block mode has no adapter.

        Parameters
        ----------
        model : str or path
            ``auto``: the model of the catalog that suits this machine (see `choose_model`). For other names see
            `blockrag.models.local_path`.
        adapter : str
            See `blockrag.models.shipped.adapter_folder`.
        embedder, query_prefix, passage_prefix
            The sentence encoder; see `load_embedder`.
        reranker : str, optional
            A cross-encoder that orders the blocks found; see `Reranker`.
        kv_dir : path, optional
            Folder of the disk tier; without it block KVs are kept only in memory.
        device_bytes, memory_bytes, disk_bytes : int, str or None
            Budgets of the tiers: a GPU's memory (there is none on a CPU), the machine's memory, the disk; such as
            ``"2GB"``. None is no limit.
        kv_remote : str, optional
            A store behind the disk, shared by a team; see `RemoteTier`.
        kv_remote_read_only : bool
            Read from there only.
        kv_remote_secret : path, optional
            A file with the secret under which the store's files are sealed; see `RemoteTier`.
        kv_at_rest : "exact", "int8" or "int4"
            Form of block KV on disk and in the store. 8 bits take a quarter of float32's room, 4 bits a seventh; they
            are not exact.
        kv_salt : str
            Parts tenants that share a disk or a store: engines with different salts find none of each other's KV.
        device : str, optional
            Such as ``"cpu"`` or ``"cuda"``; by default a GPU where there is one.
        dtype : "auto", "float32", "bfloat16" or "int8"
            Type to compute in (see `blockrag.models.load.best_dtype`), or weights in 8 bits, with which a CPU decodes
            faster, but not exactly (see `blockrag.models.int8`).
        allow_unverified : bool
            See `check_supported`.
        max_wait_s, max_idle_s : float
            See `FairQueue`.

        Raises
        ------
        ArgumentError
            If an argument has a value that is not allowed, or this machine has no such device.
        WeightsError, UnsupportedModelError, KVTierError
        """
        arguments.one_of("dtype", dtype, DTYPES)
        arguments.one_of("kv_at_rest", kv_at_rest, get_args(AtRest))
        device_bytes = arguments.nbytes("device_bytes", device_bytes)
        memory_bytes = arguments.nbytes("memory_bytes", memory_bytes)
        disk_bytes = arguments.nbytes("disk_bytes", disk_bytes)
        kv_folder = None if kv_dir is None else arguments.folder("kv_dir", kv_dir)
        device = checked_device(device)
        given = os.fspath(arguments.path_of("model", model, "a name or a folder"))
        name = choose_model(device).name if given == DEFAULT_MODEL else given
        arguments.flag("allow_unverified", allow_unverified)
        arguments.text("kv_salt", kv_salt)
        arguments.flag("kv_remote_read_only", kv_remote_read_only)
        if kv_remote is not None:
            arguments.filled("kv_remote", kv_remote)
        if kv_remote_secret is not None:
            arguments.path_of("kv_remote_secret", kv_remote_secret)
        if kv_remote is None and (kv_remote_secret is not None or kv_remote_read_only):
            raise ArgumentError("kv_remote is None; kv_remote_secret and kv_remote_read_only are for such a store")
        max_wait_s = arguments.seconds("max_wait_s", max_wait_s)
        max_idle_s = arguments.seconds("max_idle_s", max_idle_s)
        check_embedder(embedder, query_prefix, passage_prefix)
        if reranker is not None:
            arguments.path_of("reranker", reranker, "a name or a folder")
        folder_of_adapter = adapter_folder(adapter, name)
        answer_model = load_answer_model(
            name,
            device=device,
            dtype=DTYPES[one_of("dtype", dtype, DTYPES)],
            allow_unverified=allow_unverified,
            adapter=load_adapter(folder_of_adapter) if folder_of_adapter else None,
        )
        if folder_of_adapter is None:
            _LOG.warning("%s: %s", name, NO_ADAPTER)
        identity = kv_identity(answer_model, kv_salt).digest
        tiers = memory_tiers(answer_model.device, device_bytes, memory_bytes)
        if kv_folder is not None:
            pin_memory = answer_model.device.type == "cuda"
            tiers.append(DiskTier(kv_folder, disk_bytes, identity, at_rest=kv_at_rest, pin_memory=pin_memory))
        if kv_remote is not None:
            secret = b"" if kv_remote_secret is None else arguments.secret("kv_remote_secret", kv_remote_secret)
            read_only, at_rest = kv_remote_read_only, kv_at_rest
            tiers.append(RemoteTier(kv_remote, identity, read_only=read_only, at_rest=at_rest, secret=secret))
        adapter_name = folder_of_adapter.name if folder_of_adapter else None
        encoder = load_embedder(embedder, device, query_prefix, passage_prefix)
        second = None if reranker is None else Reranker(reranker, device)
        engine = cls(answer_model, encoder, TieredKV(tiers), adapter_name, second, kv_salt)
        engine.queue.max_wait_s, engine.queue.max_idle_s = max_wait_s, max_idle_s
        return engine

    @cached_property
    def token_counter(self) -> HFTokenCounter:
        """Counts tokens with the answering model's tokenizer."""
        return HFTokenCounter(self.model.tokenizer)

    @property
    def kv_dir(self) -> Path | None:
        """Folder of the disk tier, if there is one."""
        return next((tier.folder for tier in self.kv.tiers if isinstance(tier, DiskTier)), None)

    def prefix(self, token_ids: tuple[int, ...]) -> BlockKV:
        """KV of the prefix with these tokens: the prompt's own, or another; the last few of those are kept."""
        return self.prefix_kv if token_ids == self.prompt.prefix_ids else self._other_prefix(token_ids)

    def kv_key(self, text: str) -> str:
        """Key of the KV of a block with this text."""
        return self.identity.key(self.prompt.block_ids(text))

    def warm(self, texts: Sequence[str], on_progress: OnProgress | None = None) -> None:
        """Encode and keep every block that is not kept yet. KV that is encoded before ``on_progress`` raises stays."""
        blocks = [self.prompt.block_ids(text) for text in texts]
        self.warm_blocks({self.identity.key(token_ids): token_ids for token_ids in blocks}, on_progress)

    def warm_blocks(self, blocks: Mapping[str, Sequence[int]], on_progress: OnProgress | None = None) -> None:
        """The same for blocks that are tokenised already, given by key."""
        tell = on_progress or ignore
        missing = {key: token_ids for key, token_ids in blocks.items() if key not in self.kv}
        reused = len(blocks) - len(missing)
        tell(Progress("encode", reused, len(blocks), reused))
        for n_done, (key, kv) in enumerate(self.encode(missing, []), start=1):
            self.kv.put(key, kv)
            tell(Progress("encode", reused + n_done, len(blocks), reused))
        self.costs.keep()

    def choose(self, kept: Sequence[Kept], missing: Sequence[int]) -> Choice:
        """Decide which blocks of an answer to encode again although a slow tier has them; see `blockrag.kv.costs`."""
        return choose(kept, missing, self.costs, partial(pass_tokens, self.model))

    def _costs(self) -> Costs:
        """Costs of this machine, kept in the folder of the disk tier."""
        device, model = self.model.device, self.model
        meters = {tier.name: tier.meter for tier in self.kv.tiers if tier.meter is not None}
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPUs"
        machine = f"{name}, torch {torch.__version__}, {model.dtype}, model {model.weights_id[:16]}"
        path = None if self.kv_dir is None else self.kv_dir / COSTS
        return Costs({ENCODE: Meter(), **meters}, path, machine, overlap=device.type == "cuda")

    def encode(self, blocks: Mapping[str, Sequence[int]], notes: list[str]) -> Iterator[tuple[str, BlockKV]]:
        """Encode blocks given by key, yielding each key with its KV, not in the order given.

        If the device's memory runs out, the blocks cached there are evicted and the rest is tried once more.

        Raises
        ------
        DeviceMemoryError
            If it runs out again.
        """
        left, has_evicted = dict(blocks), False
        while left:
            keys = list(left)
            try:
                for encoded in self._measured([left[key] for key in keys]):
                    del left[keys[encoded.number]]
                    yield keys[encoded.number], encoded.kv
            except torch.OutOfMemoryError:
                if has_evicted:
                    raise DeviceMemoryError(NO_MEMORY) from None
                has_evicted = True
            if left:
                self.free_device_memory(notes)

    def _measured(self, blocks: Sequence[Sequence[int]]) -> Iterator[Encoded]:
        """Encode blocks, and add the time to the costs once all are encoded."""
        encoding, seconds = encode_blocks(self.model, blocks, self.prefix_kv), 0.0
        while True:
            start = time.perf_counter()
            encoded = next(encoding, None)
            if self.model.device.type == "cuda":
                torch.cuda.synchronize(self.model.device)
            seconds += time.perf_counter() - start
            if encoded is None:
                break
            yield encoded
        n_sinks = self.model.format.n_sinks
        self.costs.meters[ENCODE].add(pass_tokens(self.model, [n_sinks + len(block) for block in blocks]), seconds)

    def free_device_memory(self, notes: list[str]) -> None:
        """Evict every block KV from the device's memory that no answer in flight needs, and note it."""
        near = [t for t in self.kv.tiers if isinstance(t, MemoryTier) and t.device == self.model.device]
        evicted = [(tier, key) for tier in near for key in tier.keys()]
        for tier, key in evicted:
            tier.delete(key)
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        notes.append(f"the device's memory was full: {len(evicted)} cached blocks were evicted for another try")


def memory_tiers(device: torch.device, device_bytes: int | None, memory_bytes: int | None) -> list[KVTier]:
    """Tiers in a GPU's memory and in the machine's, page-locked; on a CPU only the latter. Blocks that indexing adds
    are evicted before those that questions use."""
    if device.type == "cpu":
        return [MemoryTier(memory_bytes, policy=SegmentedLRU())]
    return [
        MemoryTier(device_bytes, device, "device", policy=SegmentedLRU()),
        MemoryTier(memory_bytes, "cpu", "host", pin_memory=True, policy=SegmentedLRU()),
    ]
