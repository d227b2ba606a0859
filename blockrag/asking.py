"""A question takes its turn, gets its sources, and is answered. Knows not where the sources come from."""

from collections.abc import Callable, Iterator

from blockrag.answering import Request, answer, fit
from blockrag.engine import Engine
from blockrag.events import Event, Queued, Retrieved, Source

WAIT_STEP_S = 0.25
"""How often a waiting question tells its place."""


def answer_in_turn(
    engine: Engine, request: Request, find: Callable[[], tuple[Source, ...]], client_id: str = ""
) -> Iterator[Event]:
    """Wait for a place, find the sources, and stream the answer.

    Parameters
    ----------
    engine : Engine
    request : Request
        Without sources yet.
    find : callable
        Gives the sources, best first; its time counts as retrieval.
    client_id : str
        See `FairQueue.ticket`.

    Yields
    ------
    Queued while others go first, Retrieved, then Piece for each piece of text, then Answer
        Closing the generator stops the answer.

    Raises
    ------
    PromptTooLongError, BusyError, DeviceMemoryError
    """
    with engine.queue.ticket(client_id) as ticket:
        while not ticket.wait(WAIT_STEP_S):
            yield Queued(ticket.ahead)
        request.queued_ms = ticket.waited_ms
        with request.watch.stage("retrieval"):
            fit(engine, request, find())
        yield Retrieved(request.sources, request.left_out)
        yield from answer(engine, request)
