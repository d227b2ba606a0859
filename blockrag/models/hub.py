"""The Hugging Face hub: whole models, and single files at a pinned revision."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from blockrag.errors import WeightsError
from blockrag.models.catalog import HubFile

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "README.md"]
"""Files that are fetched; none needs to be unpickled."""

TWICE = ["consolidated*"]
"""Files that are left out: the same weights again, in their publisher's own format."""

TIMEOUT_S = 5.0
"""Time that the hub has to answer before the next source is tried."""


def fetch_from_hub(name: str) -> Path:
    """Folder of the model `name` (``org/name``); without a network, what the hub's cache has of it.

    Raises
    ------
    WeightsError
        If the hub has no such model or cannot be reached, and its cache does not have it either.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (slow to import, rarely needed)

    try:
        return Path(snapshot_download(name, allow_patterns=FILES, ignore_patterns=TWICE))
    except (OSError, ValueError) as error:  # includes the hub's own errors
        raise WeightsError(
            f"{name} cannot be fetched from the Hugging Face hub, and its cache does not have it: {error}. Check the "
            "name and the network, or give a folder."
        ) from error


def fetch_gguf_from_hub(repository: str, file: str) -> Path:
    """A GGUF file of a repository, by the hub's own cache.

    Raises
    ------
    WeightsError
        If the hub does not have it or cannot be reached, and its cache does not have it either.
    """
    from huggingface_hub import hf_hub_download  # noqa: PLC0415

    try:
        return Path(hf_hub_download(repository, file))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{repository}/{file} cannot be fetched from the Hugging Face hub, and its cache does not have it: "
            f"{error}. Check the name and the network, or give a file."
        ) from error


def fetch_hub_file(source: HubFile, folder: Path, report: Callable[[int, int], None]) -> Path:
    """Fetch one file into `folder`, going on from where an earlier try broke off.

    `report` is called with the bytes that are here, and the bytes in all.

    Raises
    ------
    WeightsError
        If the hub does not answer within `TIMEOUT_S`, or does not have the file.
    OSError
        If the disk is full.
    """
    import huggingface_hub as hub  # noqa: PLC0415

    where = {"repo_id": source.repository, "filename": source.file, "revision": source.revision}
    cached = hub.try_to_load_from_cache(**where)
    if isinstance(cached, str):
        return Path(cached)
    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(**where), timeout=TIMEOUT_S)  # hf_hub_download tries for 20 s and more
        return Path(hub.hf_hub_download(**where, local_dir=folder, tqdm_class=_reporting_bar(report)))
    except Exception as error:  # the classes depend on the hub's HTTP library, which differs from release to release
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise WeightsError(f"the Hugging Face hub did not give {source.repository}/{source.file}: {error}.") from error


def _reporting_bar(report: Callable[[int, int], None]) -> type[tqdm]:
    """A progress bar that draws nothing and calls `report`."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **settings: Any):
            settings.pop("name", None)
            super().__init__(*args, **{**settings, "disable": True})
            self.n_here, self.n_total = settings.get("initial") or 0, settings.get("total") or 0

        def update(self, n: float | None = 1) -> bool | None:
            self.n_here += int(n or 0)
            report(self.n_here, max(self.n_total, self.n_here))
            return None

    return Bar
