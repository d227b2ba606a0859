"""What a process of many threads keeps of the memory that they free. Knows nothing of what lay there.

A server has dozens of threads, of which few compute at once. glibc gives them heaps of their own, eight for each core,
and each heap stays about as large as it ever was: block KV of megabytes passes through all of them. MKL keeps the
buffers of its matrix products for each thread that ever made one, 25 MB a thread.
"""

import ctypes
import os
import sys

M_ARENA_MAX = -8
"""Of glibc's `malloc.h`."""

HEAPS = 2
"""As many as answers are computed at once on a CPU."""


def limit() -> bool:
    """Share few heaps from now on, and have MKL keep no buffers, unless `MALLOC_ARENA_MAX` or `MKL_DISABLE_FAST_MM` say
    otherwise. Belongs to the start of a program: heaps that there are stay, and MKL asks once.

    Returns
    -------
    bool
        Whether heaps are shared; with another C library than glibc they are not.
    """
    os.environ.setdefault("MKL_DISABLE_FAST_MM", "1")
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_ARENA_MAX, HEAPS))
