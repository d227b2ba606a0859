"""Parse a rich format in a process of its own, so that what crashes or hangs there is an error here.

Bytes go to its standard input, one JSON object comes back; nothing is pickled, and its memory and time are bounded.
"""

import json
import subprocess
import sys
from dataclasses import asdict

from blockrag.documents.limits import Limits
from blockrag.errors import DocumentError


def parse_apart(name: str, media_type: str, data: bytes, limits: Limits) -> str:
    """Text of a file of a rich media type.

    Raises
    ------
    DocumentError
        If it cannot be read, takes too long or too much memory, or crashes its parser.
    """
    task = json.dumps({"name": name, "media_type": media_type, "limits": asdict(limits)}).encode() + b"\n"
    command = [sys.executable, "-m", "blockrag.documents.worker"]
    try:
        done = subprocess.run(command, input=task + data, capture_output=True, timeout=limits.timeout_s)
    except subprocess.TimeoutExpired as error:
        raise DocumentError(name, f"reading it took more than {limits.timeout_s:.0f} s; it was given up") from error
    if done.returncode != 0:
        raise DocumentError(name, "the file is damaged: its parser crashed")
    answer = json.loads(done.stdout)
    if "reason" in answer:
        raise DocumentError(name, answer["reason"])
    return answer["text"]
