"""One program at a time on a data folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from storage.errors import StorageError


class LockedError(StorageError):
    """Another program uses the data folder."""


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Keep every other program off a data folder. The system gives the lock back when a process dies.

    Raises
    ------
    LockedError
        If another program has it.
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(data_dir / "lock", timeout=0, is_singleton=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise LockedError(
            f"{data_dir} is in use by another program (the application, or python -m storage); stop it first, or give "
            "another folder with --data-dir"
        ) from error
    try:
        yield
    finally:
        lock.release()
