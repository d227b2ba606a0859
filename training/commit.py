"""The current commit, which results record."""

import os
import subprocess
from pathlib import Path

from blockrag import __version__


def commit() -> str:
    """``$BLOCKRAG_COMMIT``, or the checkout's commit (``-dirty`` if files differ), or ``unknown`` and the version."""
    given = os.environ.get("BLOCKRAG_COMMIT")
    if given:
        return given
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"unknown (release {__version__})"
