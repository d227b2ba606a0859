"""The cache folder: which weights are here, whole, and what their hash is. Knows neither networks nor devices."""

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from blockrag.errors import WeightsError
from blockrag.models.catalog import CATALOG, Weights
from blockrag.models.fetch import fetch

STALE_AFTER_S = 24 * 3600
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "1_Pooling/*"]
"""What is taken from the hub: no file that would have to be unpickled."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class CatalogEntry:
    """A model of the catalog, where it would lie, and the bytes it takes there; 0 where it is not fetched."""

    weights: Weights
    folder: Path
    nbytes: int


def home() -> Path:
    """The cache folder: ``$BLOCKRAG_HOME``, or ``blockrag`` in the user's cache folder."""
    if "BLOCKRAG_HOME" in os.environ:
        return Path(os.environ["BLOCKRAG_HOME"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "blockrag"


def local_path(name: str | os.PathLike[str]) -> Path:
    """Folder of a model, fetching it where it is absent.

    Parameters
    ----------
    name : str or path
        A name of the catalog, a folder, or a name on the Hugging Face hub (``org/name``), in this order.

    Raises
    ------
    WeightsError
        If there is no such model, or it cannot be fetched.
    """
    name = os.fspath(name)
    if name in CATALOG:
        folder = _folder(name)
        return folder if folder.exists() else _install(CATALOG[name])
    if Path(name).is_dir():
        if not (Path(name) / "config.json").exists():
            raise WeightsError(f"{name} is a folder without config.json; expected a model saved by transformers.")
        return Path(name)
    if _HUB_NAME.fullmatch(name):
        return _from_hub(name)
    raise WeightsError(
        f"there is no model {name!r}; give one of {', '.join(CATALOG)}, a folder, or a hub name such as org/name."
    )


def list_models() -> list[CatalogEntry]:
    """Every model of the catalog and whether it is here."""
    folders = {name: _folder(name) for name in CATALOG}
    return [CatalogEntry(weights, folders[name], _nbytes(folders[name])) for name, weights in CATALOG.items()]


def remove(name: str) -> None:
    """Delete the weights of a model of the catalog; nothing happens where they are not here.

    Raises
    ------
    WeightsError
        If the catalog has no such name.
    """
    if name not in CATALOG:
        raise WeightsError(f"{name!r} is not in the catalog, which has {', '.join(CATALOG)}.")
    shutil.rmtree(_folder(name), ignore_errors=not _folder(name).exists())


def weights_sha256(folder: Path) -> str:
    """Hash of the weights and the configuration in `folder`, 64 hexadecimal digits.

    Gigabytes are not hashed again at every start: the result is kept under the files' paths, sizes and times.
    """
    files = sorted(path for pattern in ("*.safetensors", "config.json") for path in Path(folder).glob(pattern))
    stamp = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    memo = home() / "hashes" / f"{hashlib.sha256(json.dumps(stamp).encode()).hexdigest()}.txt"
    if memo.exists():
        return memo.read_text()
    total = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    _write_aside(memo, total.hexdigest())
    return total.hexdigest()


def _folder(name: str) -> Path:
    return home() / "models" / name


def _nbytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _write_aside(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as aside:
        aside.write(text)
    os.replace(aside.name, path)


def _install(weights: Weights) -> Path:
    """Fetch, convert and rename into place: the folder of a model is whole or absent (rule 8)."""
    folder = _folder(weights.name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder.parent)
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=folder.parent) as work:
            _move_into_place(_prepare(weights, Path(work)), folder)
    except OSError as error:
        raise WeightsError(
            f"{weights.name} cannot be kept in {folder}: {error}. Make room or give the right to write there, or set "
            "BLOCKRAG_HOME to another folder."
        ) from error
    return folder


def _prepare(weights: Weights, work: Path) -> Path:
    files = fetch(weights, work)
    if not weights.weights_file.endswith(".gguf"):
        return files
    from blockrag.models.convert import convert_gguf  # noqa: PLC0415  (transformers, only where it is needed)

    convert_gguf(files, weights.weights_file, work / "converted")
    return work / "converted"


def _move_into_place(made: Path, folder: Path) -> None:
    try:
        os.rename(made, folder)
    except OSError:
        if not folder.exists():  # otherwise another process was quicker, and its files are the same
            raise


def _remove_stale(folder: Path) -> None:
    for work in folder.glob("fetching-*"):
        if time.time() - work.stat().st_mtime > STALE_AFTER_S:
            shutil.rmtree(work, ignore_errors=True)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (slow to import, rarely needed)

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except (OSError, ValueError) as error:  # the hub's own errors are among these
        raise WeightsError(
            f"{name} cannot be had from the Hugging Face hub, nor from its cache here: {error}. Check the name and the "
            "network, or give a folder."
        ) from error
