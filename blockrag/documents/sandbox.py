"""Parse rich formats in a separate process, so that a parser that crashes or hangs becomes an error.

The process (`worker`) receives bytes on standard input and returns one JSON object. Its time and memory are limited.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from blockrag.documents.document import Content, Limits
from blockrag.errors import DocumentError

COMMAND = (sys.executable, "-P", "-m", "blockrag.documents.worker")
"""``-P`` prevents imports from the working directory."""

_ROOT = Path(__file__).parents[2]


def parse_apart(name: str, media_type: str, data: bytes, limits: Limits) -> Content:
    """Content of a file in a rich format.

    Raises
    ------
    DocumentError
        If it cannot be read, takes too long or too much memory, or crashes its parser.
    """
    task = json.dumps({"name": name, "media_type": media_type, "limits": asdict(limits)}).encode() + b"\n"
    path = os.pathsep.join([str(_ROOT), *filter(None, sys.path)])  # the same import path as this process
    try:
        done = subprocess.run(
            COMMAND,
            input=task + data,
            capture_output=True,
            timeout=limits.timeout_s,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired as error:
        raise DocumentError(name, f"reading it took more than {limits.timeout_s:g} s, which is the limit") from error
    if done.returncode == 1:  # Python's exit code for an unexpected error, such as a missing library
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise DocumentError(name, f"its reader failed ({last[:200]})")
    if done.returncode != 0:
        raise DocumentError(name, "the file is damaged: its parser crashed")
    answer = json.loads(done.stdout)
    if "reason" in answer:
        raise DocumentError(name, answer["reason"])
    return Content(answer["text"], answer["encoding"], tuple(answer["notes"]))
