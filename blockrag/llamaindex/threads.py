"""Runs blocking work in threads for an event loop."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")

_END = object()


async def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread and return its result."""
    return await asyncio.to_thread(work)


async def each_in_thread(items: Generator[T, Any, Any]) -> AsyncGenerator[T, None]:
    """Yield each item as it comes; closing this generator closes `items`."""
    try:
        while (item := await asyncio.to_thread(next, items, _END)) is not _END:
            yield item  # type: ignore[misc]
    finally:
        items.close()
