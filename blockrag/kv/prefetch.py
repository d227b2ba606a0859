"""Copies block KV from host memory to a GPU, layer by layer, while the first layers are computed.

Copies run on their own stream, a few layers of all blocks at a time; after each group an event is recorded, for which a
captured graph waits just before it needs these layers. So the first token of an answer whose blocks are in host memory
takes as long as the longer of loading and computing, not both. For blocks that are still being read from disk, a group
is copied when it is loaded; the computation waits for that, which a graph cannot.
"""

from collections.abc import Sequence

import torch

from blockrag.kv.block_kv import BlockKV
from blockrag.kv.streaming import GROUP, StreamingKV


class Prefetch:
    """Copies the blocks of one answer at a time.

    Parameters
    ----------
    device : torch.device
        A GPU.
    n_layers : int
    """

    def __init__(self, device: torch.device, n_layers: int):
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._groups = [slice(start, min(start + GROUP, n_layers)) for start in range(0, n_layers, GROUP)]
        self._copied = [torch.cuda.Event(external=True) for _ in self._groups]
        self._loading: list[tuple[BlockKV, BlockKV]] = []
        self._n_sent = len(self._groups)
        for event in self._copied:
            event.record(self._stream)

    @property
    def is_loading(self) -> bool:
        """Whether copies still wait for reads; such a pass cannot be a graph."""
        return self._n_sent < len(self._groups)

    def start(self, parts: Sequence[BlockKV]) -> list[BlockKV]:
        """The parts on the device. Those already there stay as they are; copies of the others have begun, or begin when
        they are awaited."""
        moved = [part if part.keys.device == self._device else _like(part, self._device) for part in parts]
        self._loading = [(part, new) for part, new in zip(parts, moved, strict=True) if new is not part]
        self._n_sent = 0 if self._loading else len(self._groups)
        if self._loading:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))  # it used this memory before
            if not any(isinstance(part, StreamingKV) for part, _ in self._loading):
                self.send_all()
        return moved

    def send_all(self) -> None:
        """Wait for pending reads, and copy everything.

        Raises
        ------
        KVCorruptError, KVTierError
            See `StreamingKV.await_layer`.
        """
        while self.is_loading:
            self._send()

    def _send(self) -> None:
        """Copy the next group, once it is read."""
        group = self._groups[self._n_sent]
        for part, _ in self._loading:
            part.await_layer(group.start)
        with torch.cuda.stream(self._stream):
            for part, new in self._loading:
                new.keys[group].copy_(part.keys[group], non_blocking=True)
                new.values[group].copy_(part.values[group], non_blocking=True)
            self._copied[self._n_sent].record(self._stream)
        self._n_sent += 1

    def await_layer(self, layer: int) -> None:
        """Make the current stream (or the graph captured from it) wait until a layer's KV is copied."""
        if layer % GROUP == 0:
            group = layer // GROUP
            while self._n_sent <= group:
                self._send()
            self._copied[group].wait(torch.cuda.current_stream(self._device))

    def settle(self) -> None:
        """Copy no more; make the current stream wait for all copies, so that their memory can be reused."""
        self._loading, self._n_sent = [], len(self._groups)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)


def _like(part: BlockKV, device: torch.device) -> BlockKV:
    keys, values = (torch.empty_like(t, device=device) for t in (part.keys, part.values))
    return BlockKV(keys, values, part.first_position)
