"""Files as Gradio receives them. It keeps equal files of all visitors as one, so that who has taken one in leaves it to
the others for a while."""

import threading
import time
from pathlib import Path

LEFT_S = 60.0
"""Longer than an upload waits to be taken in."""


def leave(path: Path) -> None:
    """Delete a file that has been taken in, once nobody else can be about to."""
    timer = threading.Timer(LEFT_S, delete, [path])
    timer.daemon = True
    timer.start()


def delete(path: Path) -> None:
    """Unless it has come again meanwhile: who takes it in then leaves it too."""
    try:
        if time.time() - path.stat().st_ctime > LEFT_S / 2:
            path.unlink()
    except FileNotFoundError:
        pass  # it had come twice, and the other has deleted it
