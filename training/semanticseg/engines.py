"""Runs a function of one row over many rows: in this process, over its processors, or over a cluster.

The results are in the order of the rows, whoever computed them.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from tqdm import tqdm

from training.corpus import Row

Step = Callable[[Row], list[Any]]
"""One row to any number of results; a module's function or a `partial` of one, so that it can be sent."""


def run_inline(step: Step, rows: list[Row], n_workers: int, title: str) -> list[Any]:
    """One after the other, here."""
    return [found for row in tqdm(rows, desc=title, unit="row") for found in step(row)]


def run_datasets(step: Step, rows: list[Row], n_workers: int, title: str) -> list[Any]:
    """`datasets.map` over the processes of this machine."""
    from datasets import Dataset, disable_caching  # noqa: PLC0415  # slow to import

    if not rows:
        return []
    disable_caching()  # `training.semanticseg.build` keeps what is done, by the configuration that made it
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
    """Ray Data over the cluster that ``RAY_ADDRESS`` names, or over this machine."""
    import ray  # noqa: PLC0415  # only where it is asked for

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
    """JSON, so that every engine carries rows of any fields alike."""
    return json.dumps(value).encode()


def _unpack(data: bytes) -> Any:
    return json.loads(data)
