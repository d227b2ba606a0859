"""The other side of `sandbox`: ``python -m blockrag.documents.worker``. Reads a task and bytes, writes JSON."""

import json
import os
import sys
from importlib import import_module
from typing import Any

from blockrag.documents import media
from blockrag.documents.limits import Limits
from blockrag.documents.text import check_length
from blockrag.errors import DocumentError

READERS = {
    media.PDF: "pdf",
    media.DOCX: "word",
    media.PPTX: "powerpoint",
    media.EPUB: "epub",
    media.HTML: "html",
}
"""Module that reads a media type, imported only then: its ``read(name, data, limits)`` gives the text."""


def main() -> None:
    """Parse what stands on standard input; a failure is part of the answer, a crash is seen by the exit code."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a parser prints must not stand in the answer
    task = json.loads(sys.stdin.buffer.readline())
    limits = Limits(**task["limits"])
    data = sys.stdin.buffer.read()
    reader = import_module(f"blockrag.documents.{READERS[task['media_type']]}")
    _bound(limits)
    with answers:
        answers.write(json.dumps(_answer(reader, task["name"], data, limits)))


def _answer(reader: Any, name: str, data: bytes, limits: Limits) -> dict[str, str]:
    try:
        text = reader.read(name, data, limits)
        check_length(name, text, limits)
    except DocumentError as error:
        return {"reason": error.reason}
    except (MemoryError, SystemError):  # what a native module says where it could not have memory
        return {"reason": f"it needs more than {limits.memory_bytes >> 20} MB to read"}
    except Exception as error:  # a parser may raise anything on bytes made to break it; all of it is told
        return {"reason": f"the file is damaged ({type(error).__name__}: {str(error)[:200]})"}
    return {"text": text}


def _bound(limits: Limits) -> None:
    if sys.platform == "win32":  # no such limits there; the time limit of `sandbox` holds still
        return
    import resource  # noqa: PLC0415

    def lower(kind: int, amount: int) -> None:
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard))

    lower(resource.RLIMIT_CPU, int(limits.timeout_s) + 1)
    if sys.platform == "linux":  # macOS has the name of this limit only
        lower(resource.RLIMIT_AS, limits.memory_bytes)


if __name__ == "__main__":
    main()
