"""Reads mutations of real files: ``python -m tests.fuzzing N SEED SUFFIX...`` prints what went wrong, a line of JSON each.

Each type has a process with the sandbox's limits. A mutation is read, or refused with a reason, in `MOST_S` seconds.
"""

import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterator

from blockrag.documents import SUFFIXES, Limits, confine, media, worker
from blockrag.errors import DocumentError
from tests.document_files import FIELD, epub, opendocument, pdf, slides, unzipped, word, workbook, zipped

MOST_S = 10
NUMBERS = [b"0", b"-1", b"1", b"99999999", b"4294967296", b"1e309"]
PIECES = [b"<", b">", b"&#0;", b"]]>", b"\0", b"\xff\xfe", b"{", b"}", b'"', b"\\", b"\r", b"--", b"\xed\xa0\x80"]
NOTEBOOK = (
    b'{"nbformat": 4, "metadata": {"kernelspec": {"language": "r"}}, "cells": [{"cell_type": "markdown", "source": ["# Head"]},'
    b'{"cell_type": "code", "source": "a <- 1", "outputs": [{"output_type": "stream", "text": ["24\\n"]}, {"data":'
    b'{"image/png": "iVBO", "text/html": "<table><tr><td>1</table>"}}]}]}'
)
MAILBOX = (
    b"From a@b Mon Mar  4 10:00:00 2024\nSubject: =?utf-8?B?VHLDpGdlcg==?=\nContent-Type: multipart/mixed; boundary=x\n\n"
    b"--x\nContent-Type: text/html; charset=gb2312\nContent-Transfer-Encoding: base64\n\nPHA+xOO6wzwvcD4=\n--x\n"
    b"Content-Disposition: attachment; filename=a.csv\n\na,b\n1,2\n--x\nContent-Type: message/rfc822\n\nSubject: in\n\nText.\n"
    b"--x--\n\nFrom a@b Tue Mar  5 10:00:00 2024\nSubject: Two\n\nLast.\n"
)
RTF = (
    rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f1\fcharset204 Cyr;}}{\stylesheet{\s1 heading 1;}}\pard\s1 Head\par Text\'e9 "
    rb"\u26085?{\footnote note}{\v hid}\par\trowd\intbl a\cell b\cell\row\pard {\f1 \'cf}\bin2 xx{\*\x y}}"
)


def seeds(suffix: str) -> list[bytes]:
    """Files of a type: those of the field, and some that are made."""
    body = "<text:h>Head</text:h><text:list><text:list-item><text:p>one</text:p></text:list-item></text:list>"
    table = (
        '<table:table table:name="S"><table:table-row table:number-rows-repeated="2"><table:table-cell><text:p>a</text:p>'
        "</table:table-cell></table:table-row></table:table>"
    )
    made = {
        ".ipynb": lambda: NOTEBOOK,
        ".mbox": lambda: MAILBOX,
        ".pdf": lambda: pdf("some text", "and more"),
        ".docx": word,
        ".pptx": slides,
        ".epub": epub,
        ".rtf": lambda: RTF,
        ".xlsx": lambda: workbook(lambda book: book.add_worksheet().write_row(0, 0, ["Port", 1.5, True])),
        ".odt": lambda: opendocument("text", body + table),
        ".ods": lambda: opendocument("spreadsheet", table),
        ".odp": lambda: opendocument("presentation", f"<draw:page><draw:frame>{body}</draw:frame></draw:page>"),
    }
    return [path.read_bytes() for path in sorted(FIELD.glob(f"*{suffix}"))] + [made[s]() for s in made if s == suffix]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The bytes with a few flips, cuts, copies, pieces of syntax or other numbers."""
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(data) + 1), chance.randint(1, 40)
        kind = chance.randrange(6)
        if kind == 0 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[at + length :]
        elif kind == 2:
            data = data[: at + length] + data[at:]
        elif kind == 3:
            data = data[:at] + chance.choice(PIECES) + data[at:]
        elif kind == 4:
            data = data[: max(at, 1)] if chance.random() < 0.3 else data
        elif numbers := list(re.finditer(rb"\d+", data)):
            found = chance.choice(numbers)
            data = data[: found.start()] + chance.choice(NUMBERS) + data[found.end() :]
    return data


def mutations(suffix: str, n: int, seed: int) -> Iterator[bytes]:
    """`n` mutations. Members of containers are altered and zipped anew, since a flipped byte of the container would
    only meet its checksum."""
    chance, files = random.Random(seed), seeds(suffix)
    for _ in range(n):
        data = chance.choice(files)
        if data.startswith(b"PK") and chance.random() < 0.9:
            members = unzipped(data)
            name = chance.choice([name for name in sorted(members) if len(members[name]) < 1 << 18])
            yield zipped({**members, name: mutated(members[name], chance)})
        else:
            yield mutated(data, chance)


def problem(name: str, data: bytes) -> str:
    """What is wrong with how a file is read; empty if nothing is."""
    started = time.monotonic()
    signal.alarm(2 * MOST_S)
    try:
        kind = media.media_type(name, data)
        answer = worker._answer(kind, name, data, Limits())
    except DocumentError as error:
        return "" if error.reason else "no reason"
    except BaseException as error:  # whatever `worker` does not catch, a panic of native code too
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    if time.monotonic() - started > MOST_S:
        return f"took {time.monotonic() - started:.0f} s"
    return "" if answer.get("reason") or isinstance(answer.get("text"), str) else f"answers {answer}"


def read_mutations(suffix: str, n: int, seed: int) -> None:
    """Print the number and the problem of each mutation that has one, within the sandbox's limits."""
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("hangs")))
    confine.limit(100_000, Limits().memory_bytes, 1 << 30)
    for i, data in enumerate(mutations(suffix, n, seed)):
        sys.stderr.write(f"{suffix} {i}\n")
        if wrong := problem(f"f{suffix}", data):
            print_problem(suffix, f"mutation {i} with seed {seed}: {wrong}")


def print_problem(suffix: str, problem: str) -> None:
    sys.stdout.write(json.dumps([suffix, problem]) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Read the mutations of each type in a process forked for it."""
    n, seed, *suffixes = sys.argv[1:]
    for suffix in suffixes:
        assert suffix in SUFFIXES
        if os.fork() == 0:
            read_mutations(suffix, int(n), int(seed))
            os._exit(0)
        if code := os.waitstatus_to_exitcode(os.wait()[1]):
            print_problem(suffix, f"the process ended with {code}")


if __name__ == "__main__":
    main()
