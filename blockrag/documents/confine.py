"""Take rights away from the process that parses files: memory, time, files, the network, other processes.

Every system applies the limits that it has. On Linux, where the kernel has them, Landlock leaves nothing of the file
system but reading installed code, and a seccomp filter forbids sockets, programs and signals.
"""

import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

MAX_OPEN_FILES = 64

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""Number of rights on files by the version of Landlock that brought them."""
_READABLE = ("/usr/lib", "/usr/share", "/lib", "/lib64", "/etc/mime.types", "/dev/null", "/dev/urandom")
"""Besides Python's own folders: libraries, and what the standard library opens by itself."""

_EPERM, _ENOSYS = 1, 38
_CLONE_THREAD = 0x10000
_FORBIDDEN = {
    "x86_64": (
        0xC000003E,
        56,  # clone, then: socket, connect, socketpair, fork, vfork, execve, kill, ptrace, ...
        (41, 42, 53, 57, 58, 59, 62, 101, 165, 200, 248, 250, 272, 298, 308, 310, 311, 321, 322, 323, 425, 434, 438),
    ),
    "aarch64": (
        0xC00000B7,
        220,
        (198, 203, 199, 221, 129, 117, 40, 130, 217, 219, 97, 241, 268, 270, 271, 280, 281, 282, 425, 434, 438),
    ),
}
"""By machine: its number in filters, its ``clone``, and the system calls that no parser needs."""
_CLONE3 = 435


def die_with(parent: int) -> None:
    """End this process when `parent`, which started it, ends (Linux)."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)


def limit(cpu_s: float, memory_bytes: int, file_bytes: int) -> None:
    """Bound processor time, address space, and the size and number of files."""
    if sys.platform == "win32":  # no such limits; the parent's time limit still applies
        return
    import resource  # noqa: PLC0415

    def lower(kind: int, amount: int) -> None:
        hard = resource.getrlimit(kind)[1]
        most = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(kind, (most, most if kind != resource.RLIMIT_CPU else hard))

    lower(resource.RLIMIT_CPU, int(cpu_s) + 1)
    lower(resource.RLIMIT_FSIZE, file_bytes)
    lower(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    lower(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":  # macOS defines this limit but ignores it
        lower(resource.RLIMIT_AS, memory_bytes)
    else:  # Linux counts threads too; there, `isolate` forbids processes
        lower(resource.RLIMIT_NPROC, 0)


def isolate(readable: Iterable[str | Path] = ()) -> None:
    """Give up the file system but for installed code and `readable`, the network, and all other processes (Linux).

    Raises
    ------
    OSError
        If the kernel has such a protection and refuses it.
    """
    if sys.platform == "linux":
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _landlock([*_READABLE, sys.base_prefix, sys.prefix, *readable])
        _seccomp()


def _landlock(readable: Iterable[str | Path]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_SYS_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return
    n_rights = max(n for since, n in _FILE_RIGHTS.items() if since <= version)
    no_network, no_signals = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    rights = struct.pack("QQQ", (1 << n_rights) - 1, no_network, no_signals)[: 24 if version >= 6 else 16]
    rules = _called(libc, _SYS_LANDLOCK_CREATE, rights, len(rights) if version >= 4 else 8, 0)
    for path in readable:
        if os.path.exists(path):
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            right = _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)
            _called(libc, _SYS_LANDLOCK_ADD, rules, 1, struct.pack("=Qi", right, folder), 0)
            os.close(folder)
    _called(libc, _SYS_LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)


def _seccomp() -> None:
    """Let the calls in `_FORBIDDEN` fail. New threads are allowed, new processes are not."""
    if platform.machine() not in _FORBIDDEN:
        return
    machine, clone, forbidden = _FORBIDDEN[platform.machine()]
    load, equal, less, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, fail, kill = 0x7FFF0000, 0x00050000, 0x80000000
    program = [(load, 0, 0, 4), (equal, 1, 0, machine), (answer, 0, 0, kill), (load, 0, 0, 0)]
    program += [(less, 0, 1, 0x40000000), (answer, 0, 0, fail | _EPERM)]  # x86's second table of calls
    program += [(equal, 0, 1, _CLONE3), (answer, 0, 0, fail | _ENOSYS)]  # its flags cannot be read; libc uses clone
    for number in forbidden:
        program += [(equal, 0, 1, number), (answer, 0, 0, fail | _EPERM)]
    program += [(equal, 0, 3, clone), (load, 0, 0, 16), (any_bit, 1, 0, _CLONE_THREAD)]
    program += [(answer, 0, 0, fail | _EPERM), (answer, 0, 0, allow)]
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    kept = ctypes.create_string_buffer(code, len(code))
    _prctl(_PR_SET_SECCOMP, 2, struct.pack("H6xQ", len(program), ctypes.addressof(kept)))


def _prctl(option: int, *values: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_ulong(v) if isinstance(v, int) else v for v in (*values, 0, 0, 0, 0)[:4]]
    if libc.prctl(option, *given) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")


def _called(libc: ctypes.CDLL, number: int, *given: object) -> int:
    result = int(libc.syscall(number, *given))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number} failed")
    return result
