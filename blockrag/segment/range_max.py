"""The largest value in any range of a fixed array, in constant time. Knows nothing of texts."""

import heapq
from collections.abc import Iterator

import numpy as np

_CELL = 32


class RangeMax:
    """Sparse table over the maxima of cells of 32 values: a range costs two short scans and one look-up.

    The table over cells, not over values, keeps its memory at a fraction of the array's.

    Parameters
    ----------
    values : np.ndarray
        ``(n,)``, float; not changed afterwards.
    """

    def __init__(self, values: np.ndarray):
        self._values = values
        n_cells = len(values) // _CELL
        cells = values[: n_cells * _CELL].reshape(n_cells, _CELL)
        best = cells.argmax(axis=1) + np.arange(n_cells) * _CELL
        self._levels = [best]  # level k holds, for each cell, the best index among 2**k cells from there
        while len(best) > 1 << len(self._levels) - 1:
            step = 1 << len(self._levels) - 1
            left, right = best[:-step], best[step:]
            best = np.where(values[right] > values[left], right, left)
            self._levels.append(best)

    def argmax(self, start: int, stop: int) -> int:
        """Index of the largest of ``values[start:stop]``, which must not be empty."""
        first, last = -(-start // _CELL), stop // _CELL
        if last - first < 1:
            return start + int(self._values[start:stop].argmax())
        level = (last - first).bit_length() - 1
        table = self._levels[level]
        found = [int(table[first]), int(table[last - (1 << level)])]
        for a, b in ((start, first * _CELL), (last * _CELL, stop)):
            if a < b:
                found.append(a + int(self._values[a:b].argmax()))
        return max(found, key=self._values.__getitem__)

    def descending(self, start: int, stop: int) -> Iterator[int]:
        """Indices of ``values[start:stop]``, largest value first; each next one costs a look-up or two."""
        heap: list[tuple[float, int, int, int]] = []

        def push(a: int, b: int) -> None:
            if a < b:
                i = self.argmax(a, b)
                heapq.heappush(heap, (-float(self._values[i]), i, a, b))

        push(start, stop)
        while heap:
            _, i, a, b = heapq.heappop(heap)
            yield i
            push(a, i)
            push(i + 1, b)
