"""The log on standard error: ids, types and places, and nothing that a visitor wrote.

An exception is logged as its type and the place where it was raised: its message can hold names and texts. What
libraries print to standard error becomes records too, so with `--log-json` every line is JSON.
"""

import io
import json
import logging
import re
import sys
import threading
import traceback
from types import TracebackType
from typing import TextIO

OWN = ("blockrag", "storage", "ui", "stderr", "py.warnings")
"""Loggers whose messages are kept whatever their level. Errors of others can quote what a visitor sent."""

_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'File "(?:[^"]*/)?([^"/]+)", line (\d+)')
_ENDING = re.compile(r"^(?!Traceback )([A-Za-z_][\w.]*)(?=:|\s*$)", re.MULTILINE)


def configure(as_json: bool) -> None:
    """Log to standard error, and make records of all else that is written to it. Call once at startup."""
    stream = sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONLines() if as_json else PlainLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "alembic", "sentence_transformers", "transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.stderr = StderrRecords(stream)
    log = logging.getLogger("stderr")
    sys.excepthook = lambda kind, error, trace: log.critical("the program ends", exc_info=(kind, error, trace))
    threading.excepthook = lambda args: log.error("a thread ends", exc_info=args[:3])  # type: ignore[arg-type]


def describe(record: logging.LogRecord) -> dict[str, object]:
    """Return what is logged of a record: time, level, logger, message, and type and place of its exception."""
    line: dict[str, object] = {"at_s": round(record.created, 3), "level": record.levelname, "from": record.name}
    is_foreign = record.name.partition(".")[0] not in OWN and record.name not in OWN
    has_error = bool(record.exc_info and record.exc_info[0])
    if is_foreign and (has_error or record.levelno >= logging.ERROR):
        line["says"] = f"{record.module}.py:{record.lineno}"
    else:
        line["says"] = record.getMessage()
    if record.exc_info and record.exc_info[0]:
        line["error"], line["raised_at"] = record.exc_info[0].__name__, _place(record.exc_info[2])
    for name in ("error", "raised_at"):  # of a traceback that was printed
        if hasattr(record, name):
            line[name] = getattr(record, name)
    return line


class JSONLines(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return json.dumps(describe(record), ensure_ascii=False)


class PlainLines(logging.Formatter):
    """One line per record."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line = describe(record)
        error = f" [{line['error']} at {line['raised_at']}]" if "error" in line else ""
        return f"{line['level']} {line['from']}: {line['says']}{error}"


class StderrRecords(io.TextIOBase):
    """Stands for standard error: lines become records, and so do tracebacks, without their messages.

    Parameters
    ----------
    stream : text stream
        The real one.
    """

    encoding = "utf-8"

    def __init__(self, stream: TextIO):
        self._stream, self._log = stream, logging.getLogger("stderr")
        self._state = threading.local()

    def write(self, text: str) -> int:
        """Write text, of which a whole traceback or its last part must come in one call, as `traceback` does it."""
        state = self._state
        if getattr(state, "busy", False):  # logging itself failed
            return self._stream.write(text)
        state.busy = True
        try:
            self._take(text)
        finally:
            state.busy = False
        return len(text)

    def _take(self, text: str) -> None:
        state = self._state
        before, header, after = ("", "", text) if getattr(state, "trace", None) else text.partition(_TRACEBACK)
        if header:
            state.trace, text = header, before
        if getattr(state, "trace", None):
            state.trace += after
            ending = _ENDING.search(state.trace, len(_TRACEBACK))
            if ending:
                frames = _FRAME.findall(state.trace[: ending.start()])
                place = ":".join(frames[-1]) if frames else "?"
                self._log.error("a traceback was printed", extra={"error": ending[1], "raised_at": place})
                state.trace = None
            text = before
        *lines, state.line = re.split(r"[\r\n]+", getattr(state, "line", "") + text)
        for line in filter(str.strip, lines):
            self._log.info("%s", line.rstrip())

    def flush(self) -> None:
        """Flush the real stream."""
        self._stream.flush()

    def fileno(self) -> int:
        """Return the file descriptor of the real stream."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Return False: it is a log."""
        return False


def _place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "?"
