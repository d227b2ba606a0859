"""What a parser that was taken over can do: nothing but answer."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blockrag.documents import Limits, load, sandbox
from blockrag.errors import DocumentError

ROOT = Path(__file__).parents[1]
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such protection")


@pytest.fixture
def taken_over(monkeypatch):
    """Runs code as the parser of a file, and returns what it answers."""

    def run(code: str, answer: bytes = b"<p>a", **limits) -> str:
        lines = "\n ".join(code.split("\n"))
        worker = f"import os\nfrom blockrag.documents import Content, html, worker\ndef read(name, data, limits):\n {lines}\nhtml.read = read\nworker.main()"
        monkeypatch.setattr(sandbox, "COMMAND", (sys.executable, "-P", "-S", "-c", worker))
        return load(answer, "a.html", Limits(**limits)).text

    return run


def test_its_environment_is_empty(taken_over, monkeypatch):
    monkeypatch.setenv("BLOCKRAG_SECRET", "swordfish")
    told = taken_over("return Content(repr(dict(os.environ)))")
    assert "swordfish" not in told and "HOME" not in told and "PYTHONPATH" in told


FORBIDDEN = {
    "reads a file": "open('{folder}/secret').read()",
    "lists a folder": "os.listdir('{folder}')",
    "writes a file": "open('{folder}/new', 'w')",
    "deletes a file": "os.unlink('{folder}/secret')",
    "reads passwords": "open('/etc/passwd').read()",
    "reads another process": "open('/proc/%d/environ' % os.getppid()).read()",
    "opens a socket": "__import__('socket').socket()",
    "runs a program": "os.execv('/bin/true', ['true'])",
    "starts a process": "os.fork()",
    "kills its parent": "os.kill(os.getppid(), 9)",
    "opens many files": "[open('/dev/null') for _ in range(100)]",
}


@linux
@pytest.mark.parametrize("deed", FORBIDDEN)
def test_it_reaches_nothing(taken_over, tmp_path, deed):
    (tmp_path / "secret").write_text("swordfish")
    code = FORBIDDEN[deed].format(folder=tmp_path)
    with pytest.raises(DocumentError, match="PermissionError|OSError"):
        taken_over(f"return Content('done: ' + str({code}))")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize("place", ["tempfile.TemporaryFile", "subprocess.run"])
def test_a_machine_without_room_for_a_reader_is_an_error(monkeypatch, place):
    def full(*given, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"blockrag.documents.sandbox.{place}", full)
    with pytest.raises(DocumentError, match="cannot run its reader now .No space left"):
        load(b"<p>a", "a.html")


@linux
def test_its_answer_is_bounded(taken_over):
    with pytest.raises(DocumentError, match="crashed|characters of text|gave no answer|File too large|failed"):
        taken_over("os.write(3, b'x' * (9 << 20))\nos.write(1, b'y' * (9 << 20))\nreturn Content('z')", max_chars=1000)


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"7\n", b"{}\ntext", b'{"encoding": "", "notes": 3}\ntext', b'{"encoding": "", "notes": []}\n\xff', b"[" * 9999],
)  # fmt: skip
def test_an_answer_of_another_kind_is_an_error(monkeypatch, answer):
    code = f"import sys; sys.stdout.buffer.write({answer!r})"
    monkeypatch.setattr(sandbox, "COMMAND", (sys.executable, "-c", code))
    with pytest.raises(DocumentError, match="^a.html: the file is damaged"):
        load(b"<p>a", "a.html")


@linux
def test_it_dies_with_the_program(tmp_path):
    code = (
        "import sys; from blockrag.documents import load, sandbox\n"
        "w = 'import os, sys, time; from blockrag.documents import worker, html; '\n"
        f"w += 'html.read = lambda *given: (open(\"{tmp_path}/pid\"), time.sleep(60)); '\n"
        'w += \'worker.confine.isolate = lambda *given: open("%s/pid", "w").write(str(os.getpid())); worker.main()\'\n'
        f"sandbox.COMMAND = (sys.executable, '-c', w % '{tmp_path}')\n"
        "load(b'<p>a', 'a.html')"
    )
    program = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text()):
        assert program.poll() is None
        time.sleep(0.02)
    program.kill()
    program.wait()
    for _ in range(500):
        if not os.path.exists(f"/proc/{pid.read_text()}"):
            return
        time.sleep(0.01)
    pytest.fail("the parser outlives the program")


@linux
@pytest.mark.parametrize(
    "suffix, line", [("json", b"[" * 99), ("jsonl", b'{"a":1}\n'), ("csv", b"a,b\n"), ("srt", b"1\n")]
)
def test_every_structured_format_is_parsed_apart(monkeypatch, suffix, line):
    """Sixty megabytes of JSON lines took three gigabytes of the server itself."""
    monkeypatch.setattr(sandbox, "COMMAND", (sys.executable, "-c", "import os; os.abort()"))
    with pytest.raises(DocumentError, match="its parser crashed"):
        load(line * 9, f"a.{suffix}")


@linux
def test_json_that_needs_too_much_memory_is_refused():
    with pytest.raises(DocumentError, match="needs more than 300 MB|failed|crashed"):
        load(b"[" + b"{}," * 9_000_000 + b"{}]", "a.json", Limits(memory_bytes=300 << 20))
