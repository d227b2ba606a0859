"""What it costs to read and to encode block KV on this machine, and which of the two an answer does.

Costs are measured by the work itself: every read from a slow tier, and every encoding, adds to a `Meter`. They are
kept beside the KV files, so that a new process knows them, and follow the machine when it changes. From them `choose`
decides block by block whether to read KV that is kept, or to encode it again.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LOG = logging.getLogger(__name__)

ENCODE = "encode"
"""Name of the meter whose unit is a token of a pass; the other meters are named after tiers, their unit is a byte."""

MEMORY_S = 5.0
"""Work that a meter remembers: about the last so many seconds of it."""

STALE_S = 3600.0
"""After so long without a read, a tier is read once more, since it may have become faster."""

CHANGED = 0.2
"""Costs are written again once one differs by this share from the written one."""

GAIN, GAIN_S = 0.1, 0.010
"""Encoding again must save at least this share of the time of reading everything, and so many seconds."""

TRIES = 32
"""Numbers of blocks to encode again that `choose` compares at most."""


@dataclass
class Work:
    """Work under measurement, in the units of its meter; 0 until it is done."""

    amount: float = 0.0


class Meter:
    """Measures seconds for a unit of work. Safe to use from several threads; work that overlaps counts once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_running, self._since, self._pending = 0, 0.0, 0.0
        self.amount, self.seconds, self.measured_at = 0.0, 0.0, 0.0

    @contextmanager
    def running(self) -> Iterator["Work"]:
        """Measure the body, which sets the amount of the work when it is done."""
        work = Work()
        with self._lock:
            if self._n_running == 0:
                self._since = time.perf_counter()
            self._n_running += 1
        try:
            yield work
        finally:
            with self._lock:
                self._n_running -= 1
                self._pending += work.amount
                if self._n_running == 0:
                    self._add(self._pending, time.perf_counter() - self._since)
                    self._pending = 0.0

    def add(self, amount: float, seconds: float) -> None:
        """Add measured work."""
        with self._lock:
            self._add(amount, seconds)

    def _add(self, amount: float, seconds: float) -> None:
        if amount:
            kept = min(1.0, MEMORY_S / self.seconds) if self.seconds else 0.0
            self.amount, self.seconds = kept * self.amount + amount, kept * self.seconds + seconds
            self.measured_at = time.monotonic()

    @property
    def cost(self) -> float | None:
        """Seconds for one unit; None if nothing is measured yet."""
        return self.seconds / self.amount if self.amount else None


class Costs:
    """The meters of an engine, kept in a file.

    Parameters
    ----------
    meters : mapping of Meter
        By name: `ENCODE`, and the slow tiers.
    path : Path, optional
        A JSON file, shared with other models and machines.
    machine : str
        Everything that costs depend on: device, model, type and format. Others' costs in the file are not used.
    overlap : bool
        Whether reading and encoding run at the same time: on a GPU. On a CPU both need the same cores.
    """

    def __init__(self, meters: Mapping[str, Meter], path: Path | None, machine: str, *, overlap: bool):
        self.meters, self.overlap = dict(meters), overlap
        self._path, self._machine = path, machine
        self._lock = threading.Lock()
        self._written: dict[str, float] = {}
        for name, (amount, seconds) in _read(path).get(machine, {}).items():
            if name in self.meters and self.meters[name].cost is None:
                self.meters[name].add(amount, seconds)
                self._written[name] = seconds / amount

    def of(self, name: str) -> float | None:
        """Seconds for a unit of `name`; None if it is not measured, or the tier was not read for `STALE_S`."""
        meter = self.meters.get(name)
        if meter is None or (name != ENCODE and time.monotonic() - meter.measured_at > STALE_S):
            return None
        return meter.cost

    def keep(self) -> None:
        """Write the costs, if one has changed. A folder that cannot be written is logged; the costs still hold."""
        if self._path is None:
            return
        with self._lock:
            found = {name: meter.cost for name, meter in self.meters.items() if meter.cost is not None}
            if not any(abs(cost / self._written.get(name, -cost) - 1) > CHANGED for name, cost in found.items()):
                return
            rows = {name: [self.meters[name].amount, self.meters[name].seconds] for name in found}
            aside = self._path.with_suffix(f".{os.getpid()}.tmp")
            try:
                aside.write_text(json.dumps(_read(self._path) | {self._machine: rows}, indent=1) + "\n", "utf-8")
                os.replace(aside, self._path)
            except OSError as error:
                _LOG.warning("measured costs cannot be kept in %s: %s", self._path, error)
            self._written = found


def _read(path: Path | None) -> dict[str, dict[str, tuple[float, float]]]:
    """Costs by machine and name; those that are damaged or not positive are measured again."""
    try:
        kept = json.loads(path.read_text("utf-8")) if path else {}
        return {
            str(machine): {str(name): (float(a), float(s)) for name, (a, s) in rows.items() if a > 0 and s > 0}
            for machine, rows in kept.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        _LOG.warning("measured costs in %s cannot be read (%s); they are measured again", path, error)
        return {}


@dataclass(frozen=True)
class Kept:
    """A block whose KV is kept in a slow tier: its tokens, sinks included, and the bytes of its KV in memory."""

    key: str
    tier: str
    n_tokens: int
    nbytes: int


@dataclass(frozen=True)
class Choice:
    """Keys of the blocks to encode again, and the reason, for the report; empty if nothing had to be decided."""

    again: frozenset[str] = frozenset()
    why: str = ""


def choose(kept: Sequence[Kept], missing: Sequence[int], costs: Costs, pass_tokens: Callable[..., int]) -> Choice:
    """Decide which blocks to read and which to encode again, so that all are there soonest.

    Parameters
    ----------
    kept : sequence of Kept
    missing : sequence of int
        Tokens of the blocks that must be encoded in any case.
    costs : Costs
    pass_tokens : callable
        Tokens that the passes compute which encode blocks of given lengths; see `blockrag.attention.encode`.

    Returns
    -------
    Choice
        Everything is read while a cost is not measured, and unless encoding saves enough (`GAIN`, `GAIN_S`).
    """
    if not kept:
        return Choice()
    tiers = " and ".join(dict.fromkeys(block.tier for block in kept))
    encode, links = costs.of(ENCODE), {block.tier: costs.of(block.tier) for block in kept}
    if encode is None or None in links.values():
        return Choice(why=f"read {len(kept)} from {tiers}: reading and encoding are not both measured here lately")
    reading = [block.nbytes * (links[block.tier] or 0.0) for block in kept]
    order = sorted(range(len(kept)), key=lambda i: -reading[i] / kept[i].n_tokens)  # what encoding saves most first

    def seconds(n: int) -> float:
        """Time until all blocks are there if the first `n` in `order` are encoded again."""
        encoded = encode * pass_tokens([*missing, *(kept[i].n_tokens for i in order[:n])])
        read = sum(reading[i] for i in order[n:])
        return max(read, encoded) if costs.overlap else read + encoded

    steps = sorted({round(len(kept) * step / TRIES) for step in range(TRIES + 1)})
    read_all, encode_all = seconds(0), seconds(len(kept))
    best = min(steps, key=seconds)
    if read_all - seconds(best) < max(GAIN * read_all, GAIN_S):
        best = 0
    again = frozenset(kept[i].key for i in order[:best])
    did = f"read {len(kept) - best} from {tiers}" if best < len(kept) else ""
    did += f"{' and ' if did and best else ''}{f'encoded {best} again' if best else ''}"
    return Choice(
        again,
        f"{did}: {1e3 * seconds(best):,.0f} ms expected; reading all {len(kept)} takes {1e3 * read_all:,.0f} ms, "
        f"encoding all {1e3 * encode_all:,.0f} ms",
    )
