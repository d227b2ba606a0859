"""``serve``: start the application of a checkout."""

import argparse
import os
import sys
from pathlib import Path

from blockrag.errors import BlockRAGError

HELP = "Start the application in the browser. Other options are those of app.py."
EPILOG = "Example: python -m blockrag serve --port 7860"

APP = Path(__file__).parents[2] / "app.py"
"""The application is not installed with the library, since its packages have common names (ui, storage)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every option goes to the application."""


def run(args: argparse.Namespace) -> int:
    """Become the application's process."""
    if not APP.is_file():
        raise BlockRAGError(
            "the application is not installed with the library. Clone the repository, run "
            "`pip install -r requirements.txt` there, then `python app.py`."
        )
    os.execv(sys.executable, [sys.executable, str(APP), *args.rest])
