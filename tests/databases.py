"""Empty SQLite databases without their migrations, which take longer than most tests."""

import tempfile
from functools import cache
from pathlib import Path

from storage.database import sqlite_url
from storage.store import Store


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "empty.sqlite")
        Store.open(sqlite_url(path)).close()
        return path.read_bytes()


def prepared(path: Path) -> str:
    """Return the URL of the database at `path`; a new one is a copy of an empty one."""
    if not path.exists():
        path.write_bytes(_empty())
    return sqlite_url(path)
