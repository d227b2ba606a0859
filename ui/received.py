"""Files as Gradio receives them. It keeps equal files of all visitors as one, so that who has taken one in leaves it to
the others for a while."""

import threading
import time
from pathlib import Path
from queue import SimpleQueue


class Leftovers:
    """Files that have been taken in, to be deleted once nobody else can be about to.

    Parameters
    ----------
    left_s : float
        Longer than an upload waits to be taken in.
    """

    def __init__(self, left_s: float = 60.0):
        self._left_s = left_s
        self._left: SimpleQueue[tuple[float, Path]] = SimpleQueue()
        self._lock, self._thread = threading.Lock(), threading.Thread(target=self._keep_deleting, daemon=True)

    def leave(self, path: Path) -> None:
        """Have a file deleted after a while."""
        self._left.put((time.monotonic() + self._left_s, path))
        with self._lock:
            if not self._thread.ident:
                self._thread.start()

    def _keep_deleting(self) -> None:
        while True:
            due_s, path = self._left.get()
            time.sleep(max(0.0, due_s - time.monotonic()))
            self.delete(path)

    def delete(self, path: Path) -> None:
        """Unless it has come again meanwhile: who takes it in then leaves it too."""
        try:
            if time.time() - path.stat().st_ctime > self._left_s / 2:
                path.unlink()
        except FileNotFoundError:
            pass  # it had come twice, and was deleted for the first


LEFTOVERS = Leftovers()
"""Of this program's page."""
