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
from ui.connections import address_group
from ui.guard import VISITOR_COOKIE
from ui.handlers.kv_cache import TierMonitor
from ui.monitoring import REFUSALS
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


class NoCookieError(BlockRAGError):
    """The browser keeps no cookie."""


@dataclass(frozen=True)
class Session:
    """The page's connection to the collections. `visitor` is the component that holds the number of the open
    collection, in the browser, 0 for a new visitor's. Who the visitor is, a cookie or a login tells."""

    service: CollectionService
    monitor: TierMonitor
    visitor: gr.BrowserState

    def owner(self, request: gr.Request | None) -> str:
        """Return the visitor's name in the database. Raises GoneError."""
        return self.service.owner(secret_of(request), user_of(request))

    def enter(self, visitor: Any, former: Any, request: gr.Request) -> dict[str, int]:
        """Return what `visitor` is to hold, of a visitor who is new or returns. `former` is what browsers kept before
        there was a cookie: its collections become the visitor's."""
        with user_errors():
            if self.service.access == "private" and not secret_of(request):
                raise NoCookieError(strings.NEEDS_COOKIE)
            owner, token = self.owner(request), self._token(visitor, request) or ""
            if isinstance(former, dict) and former.get("secret"):
                self.service.adopt(str(former["secret"]), owner)
                token = token or str(former.get("collection", ""))
            known = {"secret": secret_of(request), "collection": token}
            entered = self.service.enter(known, user_of(request))
            chosen = self.choose(entered["collection"], request)
            visitor = visitor if isinstance(visitor, dict) else {}
            of_before = visitor.get("collection")
            is_same = of_before in (0, chosen["collection"])  # 0 until the collection has its row
            if not is_same and visitor.get("linked"):
                gr.Warning(strings.LINK_GONE)
            kept = {name: value for name, value in visitor.items() if name != "linked"} if is_same else {}
            return {**kept, **chosen}

    def choose(self, token: str, request: gr.Request) -> dict[str, int]:
        """Return what `visitor` is to hold when this collection of theirs is open. Raises GoneError."""
        return {"collection": self.service.open(self.owner(request), token).record.id}

    @contextmanager
    def open(self, visitor: Any, request: gr.Request | None) -> Iterator[OpenCollection]:
        """Open the visitor's collection. A BlockRAGError inside becomes a message on the page."""
        with user_errors():
            token = self._token(visitor, request)
            if token is None:
                raise GoneError("there is no such collection")
            yield self.service.open(self.owner(request), token, address_of(request))

    def _token(self, visitor: Any, request: gr.Request | None) -> str | None:
        """Return the token of the open collection, "" for a new visitor's, None if there is no such collection."""
        number = visitor.get("collection") if isinstance(visitor, dict) else None
        if number == 0:
            return ""
        mine = self.service.library.store.collections.of(self.owner(request))
        return next((record.token for record in mine if record.id == number), None)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a BlockRAGError into an escaped message for the page or the API's caller."""
    try:
        yield
    except GoneError as error:
        raise gr.Error(strings.GONE, print_exception=False) from error
    except BlockRAGError as error:
        _LOG.info("refused: %s", type(error).__name__)
        REFUSALS.labels(type(error).__name__).inc()
        raise gr.Error(html.escape(str(error)), print_exception=False) from error


def with_progress(bar: gr.Progress) -> OnProgress:
    """Return a callback that shows on Gradio's bar how much of a document is scored."""
    return lambda step: bar((step.done, step.total), desc=strings.SCORING, unit="characters")


def secret_of(request: gr.Request | None) -> str:
    """Return the secret in the visitor's cookie, or "" without one."""
    cookies = getattr(request, "cookies", None) or {}
    return str(cookies.get(VISITOR_COOKIE, ""))


def address_of(request: Any) -> str:
    """Return the visitor's address, as limits count it."""
    client = getattr(request, "client", None)
    return address_group(str(client.host)) if client else ""


def user_of(request: gr.Request | None) -> str | None:
    """Return the name of the user who is logged in, if there is a login."""
    return getattr(request, "username", None)
