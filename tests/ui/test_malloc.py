"""Memory that threads leave behind, measured in processes of their own."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import app
from ui.malloc import N_ARENAS

THREADS = """
import ctypes, threading
from ui import malloc
{begin}
def in_threads(work, n_threads=6):
    together = threading.Barrier(n_threads + 1)
    def run():
        work()
        together.wait()
        together.wait()
    for _ in range(n_threads):
        threading.Thread(target=run, daemon=True).start()
    together.wait()  # all have worked, and none has ended
"""

COUNT = """
in_threads(lambda: ctypes.create_string_buffer(1 << 16))
ctypes.CDLL(None).malloc_stats()
"""

MULTIPLY = """
import sys, torch
class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena o s h hblkhd u f uordblks fordblks keepcost".split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo
def used():
    info = libc.mallinfo2()
    return info.uordblks + info.hblkhd
one, other = torch.randn(64, 512), torch.randn(512, 1024)
one @ other
before = used()
in_threads(lambda: one @ other)
print(used() - before, file=sys.stderr)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc")


def stderr_of(code: str, begin: str = "", **variables: str) -> str:
    """Run `begin`, then `code`, in a process and return what it writes to standard error."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "MKL_"))}
    run = subprocess.run(
        [sys.executable, "-c", THREADS.format(begin=begin) + code],
        cwd=Path(__file__).parents[2], env=own | variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return run.stderr


@glibc
def test_threads_share_few_arenas_once_limited():
    assert (
        stderr_of(COUNT, "assert malloc.limit_arenas()").count("Arena ") <= N_ARENAS < stderr_of(COUNT).count("Arena ")
    )


@glibc
def test_the_environment_variable_wins():
    assert stderr_of(COUNT, "assert not malloc.limit_arenas()", MALLOC_ARENA_MAX="4").count("Arena ") > N_ARENAS


def test_the_application_limits_arenas_at_startup(monkeypatch, capsys):
    begun = []
    monkeypatch.setattr("app.malloc.limit_arenas", lambda: begun.append(True))
    monkeypatch.setattr("app.getpass.getpass", lambda: "secret")
    app.main(["--hash-password"])
    assert begun and capsys.readouterr().out.startswith("$argon2id$")


@glibc
@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="of MKL")
def test_mkl_keeps_no_buffers_for_threads():
    limited, unlimited = (
        int(stderr_of(MULTIPLY, begin, OMP_NUM_THREADS="2")) for begin in ("malloc.limit_arenas()", "")
    )
    assert limited < 1 << 20 < unlimited
