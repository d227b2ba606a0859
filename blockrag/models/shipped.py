"""Find an adapter by name: one that ships with this release, a folder, or none."""

import json
import os
from pathlib import Path

from blockrag import arguments
from blockrag.errors import WeightsError
from blockrag.models.adapter import ABOUT, Adapter, load_adapter
from blockrag.models.store import base_id

SHIPPED = Path(__file__).parent / "shipped"
"""Folder of the adapters that ship with this release, each in a folder of its name."""

AUTO, NONE = "auto", "none"


def shipped_adapters(folder: Path = SHIPPED) -> dict[str, Path]:
    """Folders of the shipped adapters by name."""
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{ABOUT}"))}


def shipped_bases(folder: Path = SHIPPED) -> set[str]:
    """Hashes of the models that the shipped adapters were made for; see `base_id`."""
    return {_base_id_of(path) for path in shipped_adapters(folder).values()}


def find_adapter(name: str, model: str, folder: Path = SHIPPED) -> Adapter | None:
    """Load the adapter for a model; see `adapter_folder`."""
    found = adapter_folder(name, model, folder)
    return load_adapter(found) if found else None


def adapter_folder(name: str, model: str, folder: Path = SHIPPED) -> Path | None:
    """Return the folder of the adapter for a model, or None.

    Parameters
    ----------
    name : str
        ``auto`` for the shipped adapter that was made for this model, if any; ``none``; the name of a shipped adapter;
        or a folder.
    model : str
        See `blockrag.models.local_path`.
    folder : Path
        Of the shipped adapters.

    Raises
    ------
    WeightsError
        If no adapter has this name.
    """
    name = os.fspath(arguments.path_of("adapter", name, "auto, none, a name or a folder"))
    shipped = shipped_adapters(folder)
    if name == AUTO:
        made_for = {_base_id_of(path): path for path in shipped.values()}
        return made_for.get(base_id(model)) if made_for else None
    if name == NONE:
        return None
    if name in shipped:
        return shipped[name]
    if Path(name).is_dir():
        return Path(name)
    raise WeightsError(f"no adapter is named {name!r}; give one of {', '.join([AUTO, NONE, *shipped])}, or a folder.")


def _base_id_of(folder: Path) -> str:
    return json.loads((folder / ABOUT).read_text(encoding="utf-8"))["base_id"]
