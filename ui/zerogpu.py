"""Hugging Face's ZeroGPU: a GPU that is lent a function for seconds, in a process forked for the call.

Block KV made in such a process is gone when it ends, database connections must not cross a fork, and the CPU answers
from the small default model in a second or two; so the models stay on the CPU there, and the GPU is asked for nothing
but to let the Space start, which takes one decorated function.
"""

import importlib
import os
from collections.abc import Callable


def is_here() -> bool:
    """Whether this is a Space on ZeroGPU."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")


def announce() -> Callable[[], str]:
    """Register the one function that ZeroGPU wants to see; returns it."""
    spaces = importlib.import_module("spaces")

    def device() -> str:
        """Name of the device that was lent."""
        return str(importlib.import_module("torch").cuda.get_device_name())

    return spaces.GPU(duration=5)(device)
