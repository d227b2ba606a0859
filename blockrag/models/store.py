"""The cache folder: which weights are here and whole, and what their hash is."""

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError

from blockrag import arguments
from blockrag.errors import WeightsError
from blockrag.models.catalog import CATALOG, Weights
from blockrag.models.choose import AUTO, choose_model
from blockrag.models.fetch import OnProgress, fetch, sha256
from blockrag.models.hub import fetch_from_hub, fetch_gguf_from_hub

KEPT_FORMAT = 1
"""Format of a kept folder. Raise it when other files are made of the same weights, so that they are made anew."""

STALE_AFTER_S = 24 * 3600

HASHED_FILES = ["*.safetensors", "config.json", "modules.json", "[0-9]_*/*.safetensors", "[0-9]_*/config.json"]
"""What determines a model's numbers; an embedder has more modules, in folders such as ``1_Pooling``."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_GGUF = re.compile(r"([\w.-]+/[\w.-]+)/(.+\.gguf)")
_SOURCE = "source.json"
_CONVERTED = "gguf-"
"""How the folders of a user's converted files begin; 16 digits of the file's hash follow."""


@dataclass(frozen=True)
class CatalogEntry:
    """A model of the catalog, where it would lie, and the bytes it takes there; 0 where it is not fetched."""

    weights: Weights
    folder: Path
    nbytes: int


@dataclass(frozen=True)
class ConvertedFile:
    """A converted GGUF file of the user: name of its folder, name of the file, and bytes of the folder."""

    name: str
    file: str
    nbytes: int


def home() -> Path:
    """The cache folder: ``$BLOCKRAG_HOME``, or ``blockrag`` in the user's cache folder."""
    if os.environ.get("BLOCKRAG_HOME"):
        return Path(os.environ["BLOCKRAG_HOME"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "blockrag"


def local_path(name: str | os.PathLike[str], on_progress: OnProgress | None = None) -> Path:
    """Folder of a model, fetched or converted if it is absent.

    Parameters
    ----------
    name : str or path
        ``auto`` (see `choose_model`), a name of the catalog, a folder, a GGUF file or a folder with one, a name on the
        Hugging Face hub (``org/name``) or a GGUF file there (``org/name/file.gguf``), in this order.
    on_progress : OnProgress, optional
        Reports the download of a model of the catalog; by default a bar is drawn on standard error.

    Raises
    ------
    ArgumentError
        If it is neither text nor a path.
    WeightsError
        If there is no such model, or it cannot be fetched.
    UnsupportedModelError
        If a GGUF file is of a kind that cannot be converted.
    """
    name = os.fspath(arguments.path_of("name", name, "the name or the folder of a model"))
    name = choose_model().name if name == AUTO else name
    if name in CATALOG:
        weights = CATALOG[name]
        if not _is_here(name, weights.weights_sha256):
            _install(weights, on_progress)
        return _folder(name)
    if Path(name).is_dir():
        return _model_in(Path(name), name)
    if Path(name).is_file():
        return _converted(Path(name))
    if _HUB_NAME.fullmatch(name):
        return _model_in(fetch_from_hub(name), name)
    if on_hub := _HUB_GGUF.fullmatch(name):
        return _converted(fetch_gguf_from_hub(*on_hub.groups()))
    raise WeightsError(
        f"there is no model {name!r}; give one of {', '.join(CATALOG)}, auto, a folder, a GGUF file, or a hub name "
        "such as org/name."
    )


def list_models() -> list[CatalogEntry]:
    """Every model of the catalog and whether it is here."""
    return [
        CatalogEntry(weights, _folder(name), _nbytes(_folder(name)) if _is_here(name, weights.weights_sha256) else 0)
        for name, weights in CATALOG.items()
    ]


def list_converted() -> list[ConvertedFile]:
    """The user's own GGUF files that were converted, and the size of each."""
    return [
        ConvertedFile(folder.name, (_published_file(folder.name) or {}).get("name", "?"), _nbytes(folder))
        for folder in sorted(_folder("").glob(f"{_CONVERTED}*"))
    ]


def remove(name: str) -> None:
    """Delete a model of the catalog or a converted file, and fetched parts of it, if they are here.

    Raises
    ------
    WeightsError
        If the name is unknown, or the folder may not be changed.
    """
    if name not in CATALOG and name not in [file.name for file in list_converted()]:
        raise WeightsError(f"{name!r} is not in the catalog, which has {', '.join(CATALOG)}.")
    with _locked(name) as downloads:
        shutil.rmtree(downloads, ignore_errors=True)
        if _folder(name).exists():
            with _workplace() as work:
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

    def total() -> str:
        lines = (f"{path.relative_to(folder).as_posix()} {sha256(path)}\n" for path in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    return _remembered(files, total)


def _remembered(files: list[Path], compute: Callable[[], str]) -> str:
    """A hash of files, computed again only when one of them has changed."""
    stamp = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    memo = home() / "hashes" / f"{hashlib.sha256(json.dumps(stamp).encode()).hexdigest()}.txt"
    if memo.exists():
        return memo.read_text()
    result = compute()
    with _explain_disk_errors(f"hash of {files[0].parent if files else 'no file'}"):
        write_aside(memo, result)
    return result


def base_id(name: str | os.PathLike[str]) -> str:
    """How an adapter identifies its base model, 64 hexadecimal digits.

    For a model of the catalog and a GGUF file it is the hash of the published file, since what is made of it here also
    depends on the release of `transformers`. For any other model it is the hash of its files.

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


def _published_file(name: str) -> dict[str, str] | None:
    """Name and hash of the file that a kept folder was made of; None if absent, damaged or of another format."""
    try:
        source = json.loads((_folder(name) / _SOURCE).read_text())
        return source["weights"] if source["format"] == KEPT_FORMAT else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError):
        return None


def _is_here(name: str, file_sha256: str) -> bool:
    return (_published_file(name) or {}).get("sha256") == file_sha256


def _model_in(folder: Path, name: str) -> Path:
    """The folder itself, or that of the one GGUF file in it, converted."""
    missing = [pattern for pattern in ("config.json", "*.safetensors") if not any(folder.glob(pattern))]
    if not missing:
        return folder
    files = sorted(folder.glob("*.gguf"))
    if len(files) == 1:
        return _converted(files[0])
    if files:
        raise WeightsError(f"{name} holds {len(files)} GGUF files; name one of them, such as {files[0]}.")
    raise WeightsError(
        f"{name} holds no {' and no '.join(missing)}, and no GGUF file; expected a model saved by transformers, in "
        "safetensors. Pickled weights (.bin, .pt) are never read; if you trust them, save them as safetensors first."
    )


def _install(weights: Weights, on_progress: OnProgress | None) -> None:
    """Fetch and convert; what was fetched is kept until the model is whole, so that a later try goes on from there."""
    with _locked(weights.name) as downloads:
        if _is_here(weights.name, weights.weights_sha256):  # another process fetched it meanwhile
            return
        downloads.mkdir(exist_ok=True)
        try:
            file = fetch(weights, downloads, on_progress)
        except WeightsError as error:
            others = [e.weights.name for e in list_models() if e.nbytes and e.weights.kind == weights.kind]
            raise WeightsError(f"{error} Here already: {', '.join(others)}." if others else str(error)) from error
        _keep(file, weights.name, weights.weights_sha256, weights.dtype)
        shutil.rmtree(downloads)


def _converted(file: Path) -> Path:
    """Folder of what a GGUF file was converted to; of a published file it is the catalog's."""
    if file.suffix != ".gguf":
        raise WeightsError(f"{file} is no GGUF file (.gguf); give one, or a folder saved by transformers.")
    digest = _remembered([file], lambda: sha256(file))
    published = next((w for w in CATALOG.values() if w.weights_sha256 == digest), None)
    name, dtype = (published.name, published.dtype) if published else (f"{_CONVERTED}{digest[:16]}", "bfloat16")
    if not _is_here(name, digest):
        with _locked(name):
            if not _is_here(name, digest):
                _keep(file, name, digest, dtype)
    return _folder(name)


def _keep(file: Path, name: str, file_sha256: str, dtype: str) -> None:
    """Make the model's folder and rename it into place: it is whole or absent (rule 8)."""
    with _workplace() as work:
        made = file.parent
        if file.suffix == ".gguf":
            from blockrag.models.convert import convert_gguf  # noqa: PLC0415  (transformers, only where it is needed)

            made = work / "converted"
            convert_gguf(file, made, dtype)
        source = {"format": KEPT_FORMAT, "weights": {"name": file.name, "sha256": file_sha256}}
        (made / _SOURCE).write_text(json.dumps(source, indent=2))
        if _folder(name).exists():
            os.rename(_folder(name), work / "outdated")
        os.rename(made, _folder(name))


@contextmanager
def _locked(name: str) -> Iterator[Path]:
    """Lock a model against other processes and threads; gives the folder of its downloads, which need not exist."""
    downloads = home() / "downloads" / name
    with _explain_disk_errors(name):
        downloads.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(downloads.with_name(f"{name}.lock")):
            yield downloads


@contextmanager
def _workplace() -> Iterator[Path]:
    """A folder beside the models that is gone afterwards; those of killed processes go too, in time."""
    models = _folder("")
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
def _explain_disk_errors(what: str) -> Iterator[None]:
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
