"""The block table: addresses and rotations of a prompt's blocks, and which tokens each program attends to.

The table has fixed addresses, so that a captured graph reads the blocks that were written to it last.
"""

from collections.abc import Collection, Sequence

import numpy as np
import torch

from blockrag.attention.cuda.attend import BlockTableView
from blockrag.attention.rope import Rope
from blockrag.kv.block_kv import BlockKV

CAPACITY = 8192
"""Most blocks of one prompt."""

STEP = 64
"""Splits begin at multiples of it, so that few tiles of keys are cut."""


class BlockTable:
    """Tables for each number of splits that the kernels are captured with.

    Parameters
    ----------
    rope : Rope
    splits : collection of int
    device : torch.device
    """

    def __init__(self, rope: Rope, splits: Collection[int], device: torch.device):
        self._interleaved = rope.interleaved
        self._inv_freq = rope.inv_freq.to(device)
        self._splits = sorted(set(splits))
        self._staged = torch.zeros(4 * CAPACITY + 3 * sum(self._splits), dtype=torch.long).pin_memory()
        self._copied = torch.cuda.Event()
        self._device = torch.zeros(self._staged.shape, dtype=torch.long, device=device)
        self._rotations = torch.zeros(CAPACITY, 2, len(rope.inv_freq), device=device)

    def write(self, parts: Sequence[BlockKV]) -> int:
        """Write the parts of a prompt, in order; returns their tokens.

        Raises
        ------
        ValueError
            If there are more than `CAPACITY`.
        """
        if len(parts) > CAPACITY:
            raise ValueError(f"{len(parts)} blocks in one prompt; the table holds {CAPACITY}")
        self._copied.synchronize()  # the last table is copied
        sizes = np.array([part.n_tokens for part in parts], dtype=np.int64)
        ends = sizes.cumsum()
        starts, staged = ends - sizes, self._staged.numpy()
        blocks = staged[: 3 * CAPACITY].reshape(CAPACITY, 3)
        blocks[: len(parts), :2] = np.array([part.addresses for part in parts], dtype=np.int64).reshape(-1, 2)
        blocks[: len(parts), 2] = sizes
        offsets = staged[3 * CAPACITY : 4 * CAPACITY]
        offsets[: len(parts)] = starts - [part.first_position for part in parts]
        for splits in self._splits:
            self._view(self._staged, splits).numpy()[:] = _splits(starts, ends, splits)
        self._device.copy_(self._staged, non_blocking=True)
        self._copied.record()
        self._write_rotations(len(parts))
        return int(sizes.sum())

    def clear(self) -> None:
        """Leave nothing to attend to."""
        self._device[4 * CAPACITY :].zero_()

    def _write_rotations(self, n: int) -> None:
        angles = self._device[3 * CAPACITY : 3 * CAPACITY + n, None] * self._inv_freq
        self._rotations[:n, 0] = angles.cos()
        self._rotations[:n, 1] = angles.sin()

    def view(self, splits: int) -> BlockTableView:
        """The table for one number of splits."""
        blocks = self._device[: 3 * CAPACITY].view(CAPACITY, 3)
        return BlockTableView(blocks, self._rotations, self._view(self._device, splits), self._interleaved)

    def _view(self, tensor: torch.Tensor, splits: int) -> torch.Tensor:
        start = 4 * CAPACITY + 3 * sum(other for other in self._splits if other < splits)
        return tensor[start : start + 3 * splits].view(splits, 3)


def _splits(starts: np.ndarray, ends: np.ndarray, splits: int) -> np.ndarray:
    """Splits of about equal size, shape ``(splits, 3)``: first block, first token in it, tokens."""
    total = int(ends[-1]) if len(ends) else 0
    size = -(-total // (splits * STEP)) * STEP
    begin = np.minimum(np.arange(splits) * size, total)
    n_tokens = np.minimum(size, total - begin)
    first = np.where(n_tokens > 0, np.searchsorted(ends, begin, side="right"), 0)
    token = np.where(n_tokens > 0, begin - starts[first] if total else 0, 0)
    return np.stack([first, token, n_tokens], axis=1)
