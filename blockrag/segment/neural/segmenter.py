"""The learned segmenter: scores any text in overlapping windows, in little memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from blockrag.models.load import cpu_multiplies_bfloat16
from blockrag.progress import OnProgress, Progress, ignore
from blockrag.segment.base import Segmenter
from blockrag.segment.neural.encoding import Windows, encode, lay
from blockrag.segment.neural.network import SegmenterNetwork
from blockrag.segment.neural.weights import SHIPPED, load

_WINDOWS_AT_ONCE, _ON_GPU = 8, 128


class Neural(Segmenter):
    """Scores a candidate by the probability that people begin a block there; coarser boundaries score higher.

    Parameters
    ----------
    folder : Path, optional
        A folder written by `blockrag.segment.neural.weights.save`; by default the shipped segmenter.
    device : str
        Where it runs. It runs in bfloat16 on processors with bfloat16 instructions, which is two to four times as fast,
        and on GPUs; elsewhere in float32.

    Raises
    ------
    WeightsError
        If the folder holds no segmenter.
    """

    name = "neural"
    needs_every_candidate = True

    def __init__(self, folder: Path = SHIPPED, device: str = "cpu"):
        network, self._tokenizer, self._scale = load(folder)
        self._device = torch.device(device)
        self._network = network.to(self._device, fast_dtype(self._device))

    def score(self, text: str, candidates: np.ndarray, on_progress: OnProgress | None = None) -> np.ndarray:
        """See `Segmenter`; a step is a few windows."""
        if not len(candidates):
            return np.empty(0, np.float32)
        return self._scale.apply(self.probabilities(text, candidates, on_progress))

    def probabilities(self, text: str, candidates: np.ndarray, on_progress: OnProgress | None = None) -> np.ndarray:
        """Probabilities of level 1, at most 2, at most 3: float32 ``(candidates, 3)``."""
        encoded = encode(text, candidates, self._tokenizer)
        config, states, n_read = self._network.config, [], 0
        batches = _read_batches(self._network, lay(encoded, config.window, config.overlap))
        while n_read < len(encoded.markers):
            with torch.inference_mode():  # left before the callback, which is not ours to run in it
                states.append(next(batches))
            n_read += len(states[-1])
            done = round(n_read / len(encoded.markers) * len(text))
            (on_progress or ignore)(Progress("segment", done, len(text)))
        with torch.inference_mode():
            return candidate_logits(self._network, torch.cat(states))[1:].sigmoid().cpu().numpy()


def read(network: SegmenterNetwork, windows: Windows) -> torch.Tensor:
    """States of all markers, ``(markers, width)``, a few windows at a time."""
    return torch.cat(list(_read_batches(network, windows)))


def _read_batches(network: SegmenterNetwork, windows: Windows) -> Iterator[torch.Tensor]:
    device = network.head.weight.device
    n_rows = _ON_GPU if device.type == "cuda" else _WINDOWS_AT_ONCE
    for first in range(0, len(windows.ids), n_rows):
        rows = slice(first, first + n_rows)
        ids, cases = (torch.from_numpy(array[rows]).to(device) for array in (windows.ids, windows.cases))
        begin, end = np.searchsorted(windows.rows, (first, first + n_rows))
        row, column = (torch.from_numpy(a[begin:end]).to(device) for a in (windows.rows - first, windows.columns))
        yield network.read(ids, cases, (row, column))


def candidate_logits(network: SegmenterNetwork, states: torch.Tensor) -> torch.Tensor:
    """Logits of all markers, ``(markers, 3)``, in overlapping groups of `reach`, which share an eighth at each edge."""
    n, reach = len(states), network.config.reach
    if n <= reach:
        return network.logits(states[None])[0]
    found, edge = [], reach // 8
    for first in range(0, n - 2 * edge, reach - 2 * edge):
        start = min(first, n - reach)
        logits = network.logits(states[None, start : start + reach])[0][first - start :]
        is_last = first + reach >= n
        found.append(logits[edge if first else 0 : None if is_last else reach - edge])
    return torch.cat(found)


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on GPUs and on processors that multiply it; on others it would take seventy times as long as float32."""
    return torch.bfloat16 if device.type != "cpu" or cpu_multiplies_bfloat16() else torch.float32
