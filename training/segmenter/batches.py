"""Turn examples into batches: the windows of several texts, the positions of their markers, and the loss."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from blockrag.segment.neural.encoding import lay
from blockrag.segment.neural.network import SegmenterNetwork
from training.segmenter.config import SegmenterConfig
from training.segmenter.examples import Example, Sampler


@dataclass(frozen=True, eq=False)
class Batch:
    """Several texts.

    Attributes
    ----------
    ids, cases : torch.Tensor
        int64 ``(windows, size)`` of all texts.
    rows, columns : torch.Tensor
        int64 ``(markers,)``: position of each marker.
    texts, slots : torch.Tensor
        int64 ``(markers,)``: text of each marker, and its number there.
    levels : torch.Tensor
        int64 ``(texts, most markers)``; 0 for padding and for the start of a text, which is not predicted.
    """

    ids: torch.Tensor
    cases: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    texts: torch.Tensor
    slots: torch.Tensor
    levels: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`."""
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


def make_batch(examples: Sequence[Example], window: int, overlap: int) -> Batch:
    """Split each text into windows and stack them."""
    laid = [lay(example.encoded, window, overlap) for example in examples]
    size = max(windows.ids.shape[1] for windows in laid)
    first_rows = np.cumsum([0, *(len(windows.ids) for windows in laid)])
    counts = [len(example.levels) for example in examples]
    levels = np.zeros((len(examples), max(counts)), np.int64)
    for i, example in enumerate(examples):
        levels[i, 1 : counts[i]] = example.levels[1:]
    columns = {
        "ids": np.concatenate([_padded(windows.ids, size) for windows in laid]),
        "cases": np.concatenate([_padded(windows.cases, size) for windows in laid]),
        "rows": np.concatenate([w.rows + first for w, first in zip(laid, first_rows, strict=False)]),
        "columns": np.concatenate([windows.columns for windows in laid]),
        "texts": np.repeat(np.arange(len(examples)), counts),
        "slots": np.concatenate([np.arange(count) for count in counts]),
        "levels": levels,
    }
    return Batch(**{name: torch.from_numpy(array) for name, array in columns.items()})


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    return np.pad(rows, ((0, 0), (0, size - rows.shape[1])))


def logits(network: SegmenterNetwork, batch: Batch) -> torch.Tensor:
    """Logits ``(texts, most markers, 3)``."""
    read = network.read(batch.ids, batch.cases, (batch.rows, batch.columns))
    states = read.new_zeros(*batch.levels.shape, read.shape[-1]).index_put((batch.texts, batch.slots), read)
    seen = torch.zeros_like(batch.levels, dtype=torch.bool).index_put(
        (batch.texts, batch.slots), torch.ones_like(batch.texts, dtype=torch.bool)
    )
    return network.logits(states, seen)


def loss(found: torch.Tensor, levels: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Cross-entropy of "level k or coarser", k = 1, 2, 3: mean over a text's candidates, then over texts.

    Parameters
    ----------
    found : torch.Tensor
        Logits ``(texts, markers, 3)``.
    levels : torch.Tensor
        int64 ``(texts, markers)``, 1 to 3, 4 (`NO_LEVEL`), or 0 to ignore.
    weights : Sequence[float]
        Weights of the three levels.
    """
    counts = levels > 0
    wanted = levels[..., None] <= torch.arange(1, 4, device=levels.device)
    each = torch.nn.functional.binary_cross_entropy_with_logits(found, wanted.float(), reduction="none")
    weighted = (each * each.new_tensor(weights)).sum(-1) * counts
    return (weighted.sum(1) / counts.sum(1).clamp_min(1)).mean()


class Stream(IterableDataset):
    """Endless batches; each worker has its own seed."""

    def __init__(self, examples: Sequence[Example], config: SegmenterConfig):
        self._examples, self._config = examples, config

    def __iter__(self) -> Iterator[Batch]:
        worker, config = get_worker_info(), self._config
        drawn = iter(Sampler(self._examples, config, seed=1000 * config.seed + (worker.id if worker else 0)))
        while True:
            yield make_batch(list(islice(drawn, config.texts)), config.window, config.overlap)


def load_batches(examples: Sequence[Example], config: SegmenterConfig, n_workers: int) -> Iterator[Batch]:
    """Batches from background processes, determined by seed and number of workers."""
    return iter(DataLoader(Stream(examples, config), batch_size=None, num_workers=n_workers, pin_memory=False))
