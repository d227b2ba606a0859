"""The process that `sandbox` starts: takes a task and bytes, answers with a line of JSON and the text."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from blockrag.documents import confine, readers
from blockrag.documents.document import Limits
from blockrag.documents.sandbox import TASK
from blockrag.documents.text import check_length
from blockrag.errors import DocumentError

Answer = tuple[dict[str, Any], Iterator[bytes]]
"""The answer's two parts, see `sandbox`."""


def serve(read: Callable[[dict[str, Any], BinaryIO, Limits], Answer]) -> None:
    """Answer one task with ``read(task, file, limits)``, without rights that it does not need. A failure is reported in
    the answer; a crash shows in the exit code."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keeps output of parsers out of the answer
    task = json.loads(os.environ[TASK])
    confine.die_with(task["parent"])
    limits = Limits(**task["limits"])
    if "media_type" in task:
        readers.load(task["media_type"], task["ocr"])  # imports need more memory and rights than there will be
    confine.limit(limits.timeout_s, limits.memory_bytes, task["max_answer_bytes"])
    confine.isolate(_import_path())
    with answers:
        header, rest = read(task, sys.stdin.buffer, limits)
        answers.write(json.dumps(header).encode() + b"\n")
        answers.writelines(rest)


def _import_path() -> list[Path]:
    """Folders to import from, without the rest of a checkout: a data folder may lie in it."""
    root = Path(__file__).parents[2]
    folders = {Path(path).resolve() for path in sys.path if path} - {root.resolve()}
    return [root / "blockrag", root / "storage", *sorted(folders)]


def _parsed(task: dict[str, Any], file: BinaryIO, limits: Limits) -> Answer:
    answer = _answer(task["media_type"], task["name"], file.read(), limits, task["ocr"])
    return answer, iter([answer.pop("text", "").encode("utf-8", "surrogatepass")])


def _answer(media_type: str, name: str, data: bytes, limits: Limits, ocr: bool = False) -> dict[str, Any]:
    try:
        content = readers.load(media_type, ocr)(name, data, limits)
        check_length(name, content.text, limits)
    except DocumentError as error:
        return {"reason": error.reason}
    except (MemoryError, SystemError):  # how native modules report that memory ran out
        return {"reason": f"reading it needs more than {limits.memory_bytes >> 20} MB"}
    except Exception as error:  # parsers raise anything on malicious bytes; all of it is reported
        return {"reason": f"the file is damaged ({type(error).__name__}: {str(error)[:200]})"}
    return {"text": content.text, "encoding": content.encoding, "notes": content.notes}


def main() -> None:
    """Parse standard input."""
    serve(_parsed)


if __name__ == "__main__":
    main()
