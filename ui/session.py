"""What every tab needs: the visitor's open collection, error messages, progress bars, event options."""

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
from ui.handlers.kv_cache import TierMonitor
from ui.open_collection import GoneError, OpenCollection

_LOG = logging.getLogger(__name__)

Updates = dict[Any, Any]
"""What a handler returns: new values by component. Components that are not in it stay as they are."""

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUICK: dict[str, Any] = {"show_progress": "hidden", **PRIVATE}
"""For events that answer at once and are not part of the API."""

QUESTIONS: dict[str, Any] = {"concurrency_id": "ask", "concurrency_limit": 72}
"""For questions: they wait in the engine's fair queue, not in Gradio's."""

JOBS: dict[str, Any] = {"concurrency_id": "work", "concurrency_limit": 2}
"""For long use of the models, such as indexing. Questions do not wait for it."""

MAX_THREADS = 128
"""More than can run or wait at once."""


@dataclass(frozen=True)
class Session:
    """The page's connection to the collections. `visitor` is the component that holds the visitor's secret and the
    token of their open collection, in their browser."""

    service: CollectionService
    monitor: TierMonitor
    visitor: gr.BrowserState

    @contextmanager
    def open(self, visitor: Any, request: gr.Request | None) -> Iterator[OpenCollection]:
        """Open the visitor's collection. A BlockRAGError inside becomes a message on the page."""
        with user_errors():
            yield self.service.get(visitor, user_of(request))


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a BlockRAGError into an escaped message for the page or the API's caller."""
    try:
        yield
    except GoneError as error:
        raise gr.Error(strings.GONE, print_exception=False) from error
    except BlockRAGError as error:
        _LOG.info("refused: %s", type(error).__name__)
        raise gr.Error(html.escape(str(error)), print_exception=False) from error


def with_progress(bar: gr.Progress) -> OnProgress:
    """Return a callback that shows on Gradio's bar how much of a document is scored."""
    return lambda step: bar((step.done, step.total), desc=strings.SCORING, unit="characters")


def user_of(request: gr.Request | None) -> str | None:
    """Return the name of the user who is logged in, if there is a login."""
    return getattr(request, "username", None)
