"""What every tab needs of a visit: the collection behind the page, and errors told as messages."""

import html
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr

from blockrag.errors import BlockRAGError
from blockrag.progress import OnProgress
from ui import strings
from ui.collection_service import CollectionService
from ui.handlers.cache import Watch
from ui.open_collection import GoneError, OpenCollection

_LOG = logging.getLogger(__name__)

QUICK: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Of events that are answered at once, and are no part of the API."""

ASKING: dict[str, Any] = {"concurrency_id": "ask", "concurrency_limit": 72}
"""Of questions: they take turns in the engine's queue, which is fair, and not in Gradio's queue."""

WORKING: dict[str, Any] = {"concurrency_id": "work", "concurrency_limit": 2}
"""Of what runs the models for long: indexing, measuring. Questions do not wait for it."""

MAX_THREADS = 128
"""More than all that may run or wait at once."""


@dataclass(frozen=True)
class Session:
    """The collections, the watch over the cache, and the page's component that holds this visitor's secret and the
    token of the collection they have open."""

    workspaces: CollectionService
    watch: Watch
    id: gr.BrowserState

    @contextmanager
    def open(self, visit: Any, request: gr.Request | None) -> Iterator[OpenCollection]:
        """The collection this visitor has open; an error of ours inside becomes a message on the page."""
        with told():
            yield self.workspaces.get(visit, user_of(request))


@contextmanager
def told() -> Iterator[None]:
    """An error of ours inside becomes a message on the page, or to the program that called; its text is escaped."""
    try:
        yield
    except GoneError as error:
        raise gr.Error(strings.GONE, print_exception=False) from error
    except BlockRAGError as error:
        _LOG.info("refused: %s", type(error).__name__)
        raise gr.Error(html.escape(str(error)), print_exception=False) from error


def show_on(bar: gr.Progress) -> OnProgress:
    """A callback that shows on Gradio's bar how much of a document is scored."""
    return lambda step: bar((step.done, step.total), desc=strings.SCORING, unit="characters")


def user_of(request: gr.Request | None) -> str | None:
    """Who is logged in, where there is a login."""
    return getattr(request, "username", None)
