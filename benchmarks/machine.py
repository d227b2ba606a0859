"""Measure the machine's limits, which results are compared with."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

DISK_READERS = max(4, min(16, os.cpu_count() or 4))
"""As many threads as the engine uses to read block KV."""


@dataclass(frozen=True)
class Machine:
    """Limits of the hardware. Copies count bytes read and written; transfers and reads count bytes once.

    `pinned_gb_per_s` is None on a CPU.
    """

    device: str
    cores: int
    torch: str
    copy_gb_per_s: float
    pinned_gb_per_s: float | None
    disk_gb_per_s: float
    matmul_tflop_per_s: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def measure_machine(device: torch.device, dtype: torch.dtype, folder: Path | None = None) -> Machine:
    """Measure copy, host-to-device, disk and matrix rates.

    Parameters
    ----------
    device : torch.device
    dtype : torch.dtype
        Of the matrix product.
    folder : Path, optional
        On the disk to measure; by default the system's temporary folder.
    """
    cuda = device.type == "cuda"
    return Machine(
        device=torch.cuda.get_device_name(device) if cuda else f"CPU, {torch.backends.cpu.get_cpu_capability()}",
        cores=len(os.sched_getaffinity(0)),
        torch=torch.__version__,
        copy_gb_per_s=_copy_rate(device, 2**32 if cuda else 2**28),
        pinned_gb_per_s=_pinned_rate(device) if cuda else None,
        disk_gb_per_s=_disk_rate(folder, 2**30 if cuda else 2**27),
        matmul_tflop_per_s=_matmul_rate(device, dtype, 8192 if cuda else 1536),
    )


def median_s(run: Callable[[], Any], device: torch.device, repeats: int, warm: int = 1) -> float:
    """Median wall time of `run` in seconds, including the device's work."""
    times = []
    for i in range(warm + repeats):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        if i >= warm:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def synchronize(device: torch.device) -> None:
    """Wait for the device to finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _copy_rate(device: torch.device, nbytes: int) -> float:
    source = torch.ones(nbytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2e-9 * nbytes / median_s(lambda: target.copy_(source), device, 10, warm=3)


def _pinned_rate(device: torch.device) -> float:
    source = torch.ones(2**30, dtype=torch.uint8).pin_memory()
    target = torch.empty(2**30, dtype=torch.uint8, device=device)
    return 1e-9 * 2**30 / median_s(lambda: target.copy_(source, non_blocking=True), device, 5)


def _matmul_rate(device: torch.device, dtype: torch.dtype, n: int) -> float:
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2e-12 * n**3 / median_s(lambda: a @ b, device, 10, warm=3)


def _disk_rate(folder: Path | None, nbytes: int) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        path = Path(aside) / "read"
        path.write_bytes(os.urandom(2**20) * (nbytes >> 20))
        drop_from_page_cache(path)
        with ThreadPoolExecutor(DISK_READERS) as pool:
            start = time.perf_counter()
            list(
                pool.map(lambda i: _read(path, i * nbytes // DISK_READERS, nbytes // DISK_READERS), range(DISK_READERS))
            )
            return 1e-9 * nbytes / (time.perf_counter() - start)


def _read(path: Path, start: int, nbytes: int) -> None:
    room = bytearray(nbytes)
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        file.readinto(room)


def drop_from_page_cache(path: Path) -> None:
    """Ask the system to drop a file from its page cache. If it does not, the next read is warm."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
