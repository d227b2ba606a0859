"""Run a parser in a separate process, so that one that crashes, hangs or is taken over becomes an error.

The process finds its task in `TASK`, reads bytes from standard input, and answers on standard output: one line of JSON,
then bytes. Its time, memory and output are limited, its environment holds nothing else, and `confine` takes its rights.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

from blockrag.documents.document import MAX_NOTE, MAX_NOTES, Content, Limits
from blockrag.errors import DocumentError

COMMAND = (sys.executable, "-P", "-S", "-m")
"""``-P`` prevents imports from the working directory, ``-S`` the start of code that is no parser's."""

TASK = "BLOCKRAG_TASK"
"""Variable of the environment that holds the task, as JSON: command lines are public."""

MAX_HEADER_BYTES = 1 << 20
"""Maximum bytes of the answer's first line."""

_ROOT = Path(__file__).parents[2]
_KEPT = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")
"""Variables that Python itself may need to start. All others may be secrets."""

_PLACES = threading.BoundedSemaphore(min(4, os.cpu_count() or 1))
"""Parsers at once: each may take `Limits.memory_bytes`."""


class SandboxError(Exception):
    """The process gave no answer. The message says why."""


def parse_apart(name: str, media_type: str, data: bytes, limits: Limits, ocr: bool = False) -> Content:
    """Content of a file; with `ocr`, of scanned pages too.

    Raises
    ------
    DocumentError
        If it cannot be read, takes too long or too much memory, or crashes its parser.
    """
    if ocr:
        limits = replace(limits, timeout_s=limits.ocr_timeout_s, memory_bytes=limits.ocr_memory_bytes)
    task = {"name": name, "media_type": media_type, "ocr": ocr}
    try:
        with answer_of("blockrag.documents.worker", task, data, limits, 4 * limits.max_chars) as (header, answer):
            if "reason" in header:
                raise DocumentError(name, str(header["reason"])[:1000])
            notes = tuple(str(note)[: 4 * MAX_NOTE] for note in header["notes"][: 2 * MAX_NOTES])
            return Content(answer.read().decode("utf-8", "surrogatepass"), str(header["encoding"])[:64], notes)
    except SandboxError as error:
        raise DocumentError(name, str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise DocumentError(name, "the file is damaged: its parser answered with something else than text") from error


@contextmanager
def answer_of(
    module: str, task: dict[str, Any], data: bytes | BinaryIO, limits: Limits, nbytes: int
) -> Iterator[tuple[dict[str, Any], BinaryIO]]:
    """Run `module` and yield the two parts of its answer, which lie in a file without a name.

    Parameters
    ----------
    module : str
        Calls `worker.serve`.
    task : dict
    data : bytes or file
        Of a file, the process gets the descriptor, so that it can seek.
    limits : Limits
    nbytes : int
        Most bytes of the answer's second part.

    Raises
    ------
    SandboxError
        If it takes too long, ends without an answer, or the answer is not JSON.
    """
    task = {**task, "limits": asdict(limits), "parent": os.getpid(), "max_answer_bytes": nbytes + MAX_HEADER_BYTES}
    given: dict[str, Any] = {"input": data} if isinstance(data, bytes) else {"stdin": data}
    with ExitStack() as stack:
        try:
            answer, printed = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            with _PLACES:
                done = subprocess.run(
                    [*COMMAND, module],
                    **given,
                    stdout=answer,
                    stderr=printed,
                    timeout=limits.timeout_s,
                    env={**_environment(), TASK: json.dumps(task)},
                )
        except subprocess.TimeoutExpired as error:
            raise SandboxError(f"reading it took more than {limits.timeout_s:g} s, which is the limit") from error
        except OSError as error:  # no memory, no room for the answer
            raise SandboxError(f"this machine cannot run its reader now ({error.strerror})") from error
        if done.returncode == 1:  # Python's exit code for an unexpected error, such as a missing library
            raise SandboxError(f"its reader failed ({_last_line(printed)})")
        if done.returncode != 0:
            raise SandboxError("the file is damaged: its parser crashed")
        answer.seek(0)
        try:
            header = json.loads(answer.readline(MAX_HEADER_BYTES))
        except (ValueError, RecursionError) as error:
            raise SandboxError("the file is damaged: its parser gave no answer") from error
        if not isinstance(header, dict):
            raise SandboxError("the file is damaged: its parser gave no answer")
        yield header, answer


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(_ROOT), *filter(None, sys.path)])  # the same import path as this process
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, "PYTHONPATH": path, "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _last_line(printed: BinaryIO) -> str:
    printed.seek(max(0, printed.seek(0, io.SEEK_END) - 4096))
    return printed.read().decode(errors="replace").strip().rpartition("\n")[2][:200]
