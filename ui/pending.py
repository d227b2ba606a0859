"""Bounds on what Gradio keeps of calls: those that wait, results that nobody has fetched, and sessions."""

import os
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio.queueing import Queue
from gradio.state_holder import SessionState, StateHolder
from starlette.requests import Request

from ui.connections import address_group
from ui.guard import VISITOR_COOKIE

MAX_EVENTS, MAX_EVENTS_EACH = 256, 32
"""Calls that wait, of all, and that wait or run, of one address (or browser, where there is no address). It is half of
the places for questions, so that one address does not take all of them."""

MAX_UNREAD, MAX_UNREAD_EACH = 512, 64
"""Calls whose results nobody has fetched, of all and of one session; the oldest results give way."""

MAX_SESSIONS = 1_000
"""Opened pages that are remembered, those used last."""


def bound(page: gr.Blocks) -> None:
    """Set up the queue of a page that is not served yet."""
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")  # summed up at each event, and shown nowhere
    page.queue(max_size=MAX_EVENTS, default_concurrency_limit=8, api_open=False)
    push, queue = page._queue.push, page._queue

    async def push_within_bounds(body: Any, request: Request, username: str | None) -> tuple[bool, Any, Any]:
        who = _caller(request, body.session_hash)
        waiting = [event for line in queue.event_queue_per_concurrency_id.values() for event in line.queue]
        running = [event for job in queue.active_jobs if job for event in job]
        n_calls = sum(_caller(event.request, event.session_hash) == who for event in (*waiting, *running))
        if n_calls >= MAX_EVENTS_EACH:
            return False, f"{n_calls} of your calls are not answered yet; try again in a moment", "queue_full"
        if len(queue.pending_event_ids_session.get(body.session_hash or "", ())) >= MAX_UNREAD_EACH:
            return False, f"fetch your results first; {MAX_UNREAD_EACH} wait for you", "queue_full"
        forget_unread(queue)
        return await push(body, request, username)

    queue.push = push_within_bounds


def forget_unread(queue: Queue, most: int = MAX_UNREAD) -> None:
    """Drop the oldest results that nobody has fetched, down to fewer than `most`."""
    unread, known = queue.pending_event_ids_session, queue.event_ids_to_events
    n_unread = sum(map(len, unread.values()))
    for session in list(unread):
        if n_unread < most:
            return
        if not any(id in known for id in unread[session]):  # all of them are done
            n_unread -= len(unread.pop(session))
            queue.pending_messages_per_session.pop(session, None)


def _caller(request: Any, session: str | None) -> str:
    """Return who calls, as far as it is known."""
    address = address_group(request.client.host) if getattr(request, "client", None) else ""
    return address or str(getattr(request, "cookies", {}).get(VISITOR_COOKIE) or session)


class Sessions(StateHolder):
    """Gradio's sessions without copies of the page and of all values, which only links to a state of the page need."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:  # made of a page without components: to describe them all takes 0.1 s
            session = SessionState(SimpleNamespace(default_config=self.blocks.default_config, blocks={}))
            session.config_values = _Forgotten()
            self.session_data[session_id] = session
        return super().__getitem__(session_id)


class _Forgotten(dict):
    """Keeps nothing; says that it has everything, so that nothing is described for it."""

    def __contains__(self, key: object) -> bool:
        return True

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __getitem__(self, key: Any) -> dict:
        return {}


def forget_values(page: gr.Blocks) -> None:
    """Have a page that is served keep no values that its components had."""
    page.app.state_holder = Sessions()
    page.app.state_holder.set_blocks(page)
