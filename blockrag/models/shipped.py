"""Which adapter a name means: one that came with this release, a folder, or none. Knows no network."""

import json
from pathlib import Path

from blockrag.errors import WeightsError
from blockrag.models.adapter import ABOUT, Adapter, load_adapter
from blockrag.models.store import base_id

SHIPPED = Path(__file__).parent / "shipped"
"""Folder of the adapters that come with this release, each in a folder of its name."""

AUTO, NONE = "auto", "none"


def shipped_adapters(folder: Path = SHIPPED) -> dict[str, Path]:
    """Those that came with this release, by name."""
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{ABOUT}"))}


def find_adapter(name: str, model: str, folder: Path = SHIPPED) -> Adapter | None:
    """The adapter for a model; see `adapter_folder`."""
    found = adapter_folder(name, model, folder)
    return load_adapter(found) if found else None


def adapter_folder(name: str, model: str, folder: Path = SHIPPED) -> Path | None:
    """Where the adapter for a model is; None where it has none.

    Parameters
    ----------
    name : str
        ``auto``: the shipped one that was made for this model, or none where there is none; ``none``; the name of a
        shipped one; or a folder.
    model : str
        See `blockrag.models.local_path`.
    folder : Path
        Of the shipped ones.

    Raises
    ------
    WeightsError
        If there is no such adapter.
    """
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
    raise WeightsError(f"there is no adapter {name!r}; give one of {', '.join([AUTO, NONE, *shipped])}, or a folder.")


def _base_id_of(folder: Path) -> str:
    return json.loads((folder / ABOUT).read_text(encoding="utf-8"))["base_id"]
