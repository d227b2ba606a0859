"""Limit the memory that a process of many threads keeps after freeing it.

A server has dozens of threads, of which few compute at once. By default glibc gives them up to eight arenas per core,
and each arena stays about as large as it ever was: megabytes of block KV pass through all of them. MKL keeps the
buffers of its matrix products for each thread that ever made one, 25 MB per thread.
"""

import ctypes
import os
import sys

M_ARENA_MAX = -8
"""From glibc's `malloc.h`."""

N_ARENAS = 2
"""As many as answers are computed at once on a CPU."""


def limit_arenas() -> bool:
    """Limit malloc to `N_ARENAS` arenas and keep MKL from caching buffers, unless `MALLOC_ARENA_MAX` or
    `MKL_DISABLE_FAST_MM` say otherwise. Call once at startup; existing arenas are kept, and MKL reads its setting once.

    Returns
    -------
    bool
        Whether the limit was set; C libraries other than glibc have none.
    """
    os.environ.setdefault("MKL_DISABLE_FAST_MM", "1")
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_ARENA_MAX, N_ARENAS))
