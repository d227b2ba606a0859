"""Choose the answering model for a machine, and remember the choice with an index."""

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from blockrag.errors import ArgumentError
from blockrag.models.catalog import CATALOG

AUTO = "auto"
LARGE, MEDIUM, SMALL = "qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", "smollm2"

REST_NBYTES = 1_500_000_000
"""Memory for everything besides the weights: libraries, sentence encoder, activations, some block KV."""

BLOCK_NETWORK = 0.7
"""Share of the weights that an adapter gives block mode again."""

_NOTE = "model.txt"


@dataclass(frozen=True)
class Choice:
    """A model's name, and why it was chosen."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def checked_device(device: str | None) -> str:
    """The name of a device of this machine; None is a GPU where there is one.

    Raises
    ------
    ArgumentError
        If there is no such device.
    """
    import torch  # noqa: PLC0415  (blockrag.models imports without it)

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device is None:
        return "cuda" if n_gpus else "cpu"
    try:
        parsed = torch.device(device)
    except (RuntimeError, TypeError):
        parsed = None
    if parsed is None or parsed.type not in ("cpu", "cuda"):
        raise ArgumentError(f"device is {device!r}; give 'cpu', 'cuda', or a GPU by number such as 'cuda:0'")
    if parsed.type == "cuda" and (parsed.index or 0) >= n_gpus:
        raise ArgumentError(
            f"device is {str(device)!r}, but torch sees {n_gpus} GPUs. Use 'cpu', or install a CUDA build of torch and "
            "the NVIDIA driver"
        )
    return str(parsed)


@cache
def choose_model(device: str | None = None) -> Choice:
    """The model of the catalog for this machine; one process gets one answer.

    Only models with a shipped adapter are chosen: without one, block mode loses right answers.

    Parameters
    ----------
    device : str, optional
        Such as ``"cpu"`` or ``"cuda"``; by default a GPU if there is one.

    Raises
    ------
    ArgumentError
        If there is no such device.
    """
    import torch  # noqa: PLC0415

    from blockrag.models.load import cpu_multiplies_bfloat16  # noqa: PLC0415

    device = checked_device(device)
    if not device.startswith("cpu"):
        return _fitting((LARGE, MEDIUM), torch.cuda.mem_get_info(device)[0], 1, "of the GPU's memory")
    scale = 1 if cpu_multiplies_bfloat16() else 2
    return _fitting((MEDIUM,), free_memory(), scale, "of memory")


def choose_for_store(store: Path, device: str | None = None) -> Choice:
    """The model that made the index in the folder `store`; for a new one see `choose_model`.

    An index of a release that noted no model was made by `SMALL`, if by none that was named.
    """
    note = store / _NOTE
    if note.exists():
        return Choice(note.read_text(encoding="utf-8").strip(), f"the index in {store} was made with it")
    if (store / "index.sqlite").exists():
        return Choice(SMALL, f"the index in {store} was made when it was the default")
    return choose_model(device)


def note_model(store: Path, name: str) -> None:
    """Note the model of an index, so that ``auto`` means it from then on."""
    note = store / _NOTE
    if note.parent.is_dir() and not note.exists():
        note.write_text(f"{Path(name).resolve() if Path(name).exists() else name}\n", encoding="utf-8")


def free_memory() -> int | None:
    """Bytes of memory that a process may still take; None if the system does not say."""
    try:
        match = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        free = int(match[1]) * 1024 if match else None
    except OSError:
        free = None
    if free is None and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return (
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        )  # macOS says how much there is, not is free
    limit = _container_limit()
    return min((n for n in (free, limit) if n is not None), default=None)


def _container_limit(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes left below a container's limit (cgroup v2)."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        match = re.search(r"^inactive_file (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):
        return None
    reclaimable = int(match[1]) if match else 0
    return None if limit == "max" else max(0, int(limit) - used + reclaimable)


def has_adapter(name: str) -> bool:
    """Whether an adapter for this model of the catalog ships with this release."""
    from blockrag.models.shipped import shipped_bases  # noqa: PLC0415  (it imports this module)

    return CATALOG[name].weights_sha256 in shipped_bases()


def _fitting(names: tuple[str, ...], free: int | None, scale: int, where: str) -> Choice:
    """The first that has an adapter and fits, or `SMALL`."""
    others = [name for name in names if not has_adapter(name)]
    names = tuple(name for name in names if has_adapter(name))
    if not names:
        return Choice(
            SMALL, f"no adapter ships yet for {' and '.join(others)}, and without one block mode loses answers"
        )
    if free is None:
        return Choice(names[0], "this system does not say how much memory is free")
    for name in names:
        needed = _needed(name, scale)
        if free >= needed:
            return Choice(name, f"{free / 1e9:.1f} GB {where} are free; it takes about {needed / 1e9:.1f}")
    return Choice(SMALL, f"{free / 1e9:.1f} GB {where} are free; {names[-1]} takes about {needed / 1e9:.1f}")


def _needed(name: str, scale: int) -> int:
    """Bytes that a model takes with its adapter, weights in 16 bits times `scale`."""
    return int(CATALOG[name].kept_nbytes * scale * (1 + BLOCK_NETWORK)) + REST_NBYTES
