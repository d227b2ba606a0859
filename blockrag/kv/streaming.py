"""A block KV that is read layer by layer while its first layers are in use."""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field

from blockrag.kv.block_kv import BlockKV

GROUP = 4
"""Layers that are read, or copied to a GPU, together: enough bytes for the full rate of a disk or a link."""

NICENESS = 10
"""How much lower the readers' priority is, in steps of the system's scheduler."""


@dataclass(frozen=True, eq=False)
class StreamingKV(BlockKV):
    """A block KV that is being read; see `begin`.

    Attributes
    ----------
    read : callable
        Given a slice of layers, reads their keys and values and checks them.
    close : callable
        Called after the last read.
    pending : list of Future
        One for each `GROUP` layers, once reading has begun.
    """

    read: Callable[[slice], None] = field(kw_only=True)
    close: Callable[[], None] = field(kw_only=True)
    pending: list[Future[None]] = field(kw_only=True, default_factory=list)

    def await_layer(self, layer: int) -> None:
        """Return once a layer is loaded.

        Raises
        ------
        KVCorruptError, KVTierError
            If it is damaged, or its tier fails.
        """
        self.pending[layer // GROUP].result()

    def settle(self) -> bool:
        """Cancel pending reads, and wait for those under way. Return True if every layer is loaded."""
        running = [future for future in self.pending if not future.cancel()]
        wait(running)
        self.close()
        return len(running) * GROUP >= len(self.keys) and not any(future.exception() for future in running)

    def whole(self) -> BlockKV:
        """Read all layers now."""
        try:
            self.read(slice(0, len(self.keys)))
        finally:
            self.close()
        return BlockKV(self.keys, self.values, self.first_position)


def make_readers(n: int) -> ThreadPoolExecutor:
    """Threads for `begin`, of lower priority than those that compute.

    On few cores, a pass of many short parallel steps would otherwise wait for its preempted half at each step.
    """
    return ThreadPoolExecutor(n, "kv-reader", initializer=_give_way)


def _give_way() -> None:
    if sys.platform == "linux":  # where each thread has its own priority
        lower = os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
        with suppress(OSError):  # a sandbox may have no priorities
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), lower)


def begin(parts: Sequence[BlockKV], readers: Executor) -> None:
    """Start reading the `StreamingKV` among `parts`: the first layers of all, then the next."""
    streamed = [part for part in parts if isinstance(part, StreamingKV) and not part.pending]
    n_layers = max((len(part.keys) for part in streamed), default=0)
    for start in range(0, n_layers, GROUP):
        for part in streamed:
            part.pending.append(readers.submit(part.read, slice(start, min(start + GROUP, n_layers))))
