"""The other side of `sandbox`: ``python -m blockrag.documents.worker``. Reads a task and bytes, writes JSON."""

import json
import sys

from blockrag.documents.limits import Limits
from blockrag.documents.rich import READERS
from blockrag.errors import DocumentError


def main() -> None:
    """Parse what stands on standard input; a failure is part of the answer, a crash is seen by the exit code."""
    task = json.loads(sys.stdin.buffer.readline())
    data = sys.stdin.buffer.read()
    limits = Limits(**task["limits"])
    _bound(limits)
    try:
        answer = {"text": READERS[task["media_type"]](task["name"], data, limits)}
    except DocumentError as error:
        answer = {"reason": error.reason}
    except MemoryError:
        answer = {"reason": f"it needs more than {limits.memory_bytes >> 20} MB to read"}
    except Exception as error:  # a parser may raise anything on bytes made to break it; all of it is told
        answer = {"reason": f"the file is damaged ({type(error).__name__}: {str(error)[:200]})"}
    sys.stdout.write(json.dumps(answer))


def _bound(limits: Limits) -> None:
    if sys.platform == "win32":  # no such limits there; the time limit of `sandbox` holds still
        return
    import resource  # noqa: PLC0415

    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    seconds = int(limits.timeout_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


if __name__ == "__main__":
    main()
