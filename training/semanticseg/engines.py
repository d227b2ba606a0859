"""Map a function over rows: in this process, over local processes, or over a cluster. Results keep the rows' order."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from tqdm import tqdm

from training.corpus import Row

Step = Callable[[Row], list[Any]]
"""(row) -> list of results; a module-level function or a `partial` of one, so that processes can receive it."""


def run_inline(step: Step, rows: list[Row], n_workers: int, title: str) -> list[Any]:
    """Process rows sequentially in this process."""
    return [found for row in tqdm(rows, desc=title, unit="row") for found in step(row)]


def run_datasets(step: Step, rows: list[Row], n_workers: int, title: str) -> list[Any]:
    """Use `datasets.map` over local processes."""
    from datasets import Dataset, disable_caching  # noqa: PLC0415  # slow to import

    if not rows:
        return []
    disable_caching()  # `training.semanticseg.build` saves finished stages itself
    given = Dataset.from_list([{"row": _pack(row)} for row in rows])
    found = given.map(
        partial(_batch, step=step),
        batched=True,
        batch_size=8,
        num_proc=min(n_workers, len(rows)),
        remove_columns=["row"],
        desc=title,
    )
    return [_unpack(each) for each in found["found"]]


def run_ray(step: Step, rows: list[Row], n_workers: int, title: str) -> list[Any]:
    """Use Ray Data over the cluster at ``RAY_ADDRESS``, or over this machine."""
    import ray  # noqa: PLC0415  # only if configured

    ray.init(ignore_reinit_error=True, log_to_driver=False)
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    packed = ray.data.from_items([{"row": _pack(row)} for row in rows])
    return [_unpack(each["found"]) for each in packed.flat_map(partial(_one, step=step)).take_all()]


ENGINES: dict[str, Callable[[Step, list[Row], int, str], list[Any]]] = {
    "inline": run_inline,
    "datasets": run_datasets,
    "ray": run_ray,
}


def _batch(batch: dict[str, list[bytes]], step: Step) -> dict[str, list[bytes]]:
    return {"found": [_pack(found) for row in batch["row"] for found in step(_unpack(row))]}


def _one(item: dict[str, bytes], step: Step) -> list[dict[str, bytes]]:
    return [{"found": _pack(found)} for found in step(_unpack(item["row"]))]


def _pack(value: Any) -> bytes:
    """Serialise as JSON, so that every engine handles rows with any fields alike."""
    return json.dumps(value).encode()


def _unpack(data: bytes) -> Any:
    return json.loads(data)
