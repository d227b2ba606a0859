"""Block KV on its way from host memory to a GPU, layer by layer, while the first layers are computed already.

Copies run on a stream of their own, a few layers of all blocks at a time; after each group an event is recorded, for
which a captured graph waits just before it needs these layers. So the first token of an answer whose blocks lie in host
memory takes as long as the longer of loading and computing, and not both.
"""

from collections.abc import Sequence

import torch

from blockrag.kv.block_kv import BlockKV

GROUP = 4
"""Layers of a copy: enough bytes for the full rate of the link."""


class Transfer:
    """Loads the blocks of one answer at a time.

    Parameters
    ----------
    device : torch.device
        A GPU.
    n_layers : int
    """

    def __init__(self, device: torch.device, n_layers: int):
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._groups = [slice(start, start + GROUP) for start in range(0, n_layers, GROUP)]
        self._arrived = [torch.cuda.Event(external=True) for _ in self._groups]
        for event in self._arrived:
            event.record(self._stream)

    def start(self, parts: Sequence[BlockKV]) -> list[BlockKV]:
        """The parts on the device. Those that were there stay as they are; the others' copies have only begun."""
        moved = [part if part.keys.device == self._device else _like(part, self._device) for part in parts]
        coming = [(part, new) for part, new in zip(parts, moved, strict=True) if new is not part]
        if coming:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))  # which used the memory before
            with torch.cuda.stream(self._stream):
                for layers, arrived in zip(self._groups, self._arrived, strict=True):
                    for part, new in coming:
                        new.keys[layers].copy_(part.keys[layers], non_blocking=True)
                        new.values[layers].copy_(part.values[layers], non_blocking=True)
                    arrived.record(self._stream)
        return moved

    def await_layer(self, layer: int) -> None:
        """Have the current stream (or the graph that is captured from it) wait until a layer's KV is there."""
        if layer % GROUP == 0:
            self._arrived[layer // GROUP].wait(torch.cuda.current_stream(self._device))

    def settle(self) -> None:
        """Have the current stream wait for every copy, so that their memory may be used again."""
        torch.cuda.current_stream(self._device).wait_stream(self._stream)


def on_device(parts: Sequence[BlockKV], device: torch.device) -> list[BlockKV]:
    """The parts on the device, those that were not there copied."""
    return [
        part
        if part.keys.device == device
        else BlockKV(part.keys.to(device), part.values.to(device), part.first_position)
        for part in parts
    ]


def _like(part: BlockKV, device: torch.device) -> BlockKV:
    keys, values = (torch.empty_like(t, device=device) for t in (part.keys, part.values))
    return BlockKV(keys, values, part.first_position)
