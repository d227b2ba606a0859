"""Which commit this is: results carry it."""

import os
import subprocess
from pathlib import Path

from blockrag import __version__


def commit() -> str:
    """The checkout's commit, ``-dirty`` where files differ from it; outside of a checkout ``$BLOCKRAG_COMMIT``, or
    ``unknown`` and the release, so that a run's results are kept wherever it runs."""
    given = os.environ.get("BLOCKRAG_COMMIT")
    if given:
        return given
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"unknown (release {__version__})"
