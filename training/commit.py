"""Which commit this is: results carry it."""

import os
import subprocess
from pathlib import Path


def commit() -> str:
    """The checkout's commit, ``-dirty`` where files differ from it; ``$BLOCKRAG_COMMIT`` where it is no checkout."""
    given = os.environ.get("BLOCKRAG_COMMIT")
    if given:
        return given
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
