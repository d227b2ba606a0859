"""The process that `sandbox` starts: reads a task and bytes from standard input, writes JSON."""

import json
import os
import sys
from dataclasses import asdict
from typing import Any

from blockrag.documents import readers
from blockrag.documents.document import Limits
from blockrag.documents.text import check_length
from blockrag.errors import DocumentError


def main() -> None:
    """Parse standard input. A failure is reported in the JSON; a crash shows in the exit code."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # keeps output of parsers out of the JSON
    task = json.loads(sys.stdin.buffer.readline())
    limits = Limits(**task["limits"])
    data = sys.stdin.buffer.read()
    readers.load(task["media_type"])  # imports need more memory than the limit may allow
    _bound(limits)
    with answers:
        answers.write(json.dumps(_answer(task["media_type"], task["name"], data, limits)))


def _answer(media_type: str, name: str, data: bytes, limits: Limits) -> dict[str, Any]:
    try:
        content = readers.load(media_type)(name, data, limits)
        check_length(name, content.text, limits)
    except DocumentError as error:
        return {"reason": error.reason}
    except (MemoryError, SystemError):  # how native modules report that memory ran out
        return {"reason": f"reading it needs more than {limits.memory_bytes >> 20} MB"}
    except Exception as error:  # parsers raise anything on malicious bytes; all of it is reported
        return {"reason": f"the file is damaged ({type(error).__name__}: {str(error)[:200]})"}
    return asdict(content)


def _bound(limits: Limits) -> None:
    if sys.platform == "win32":  # no such limits; the time limit of `sandbox` still applies
        return
    import resource  # noqa: PLC0415

    def lower(kind: int, amount: int) -> None:
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard))

    lower(resource.RLIMIT_CPU, int(limits.timeout_s) + 1)
    if sys.platform == "linux":  # macOS defines this limit but ignores it
        lower(resource.RLIMIT_AS, limits.memory_bytes)


if __name__ == "__main__":
    main()
