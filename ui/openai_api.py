"""OpenAI-style routes: ``/v1/chat/completions``, also streaming, and ``/v1/models``.

Any client of that API can ask a collection, whose token is its API key, or documents that the request itself holds.
"""

import json
import secrets
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread  # of Gradio's own
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from blockrag import arguments
from blockrag.admission import Stream
from blockrag.documents import load
from blockrag.errors import ArgumentError, BlockRAGError, BusyError
from blockrag.events import Answer, Event, Piece, Source
from blockrag.generate import Sampling
from blockrag.pipeline import Pipeline
from storage.errors import LimitError
from ui import strings
from ui.api import MAX_CHARS
from ui.collection_service import LOCAL, CollectionService
from ui.handlers.ask import MAX_K, MAX_NEW_TOKENS, admit
from ui.open_collection import GoneError, OpenCollection
from ui.session import address_of

DEFAULT_TOKENS, MAX_STOPS, MAX_STOP_CHARS = 128, 16, 1_000
FIELDS = frozenset(
    "model messages stream stream_options max_tokens max_completion_tokens temperature top_p seed stop n user "
    "collection documents k mode".split()
)


MAX_CALLS, MAX_CALLS_EACH, MAX_READERS = 72, 16, 2
"""Questions that wait or are answered at once, those of one address, and those whose documents are being read."""


class _EventStream(StreamingResponse):
    """Gives back what it holds however it ends, also if the client left before it began."""

    def __init__(self, content: AsyncGenerator[str], held: ExitStack):
        super().__init__(content, media_type="text/event-stream")
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._held.close()


def routes(service: CollectionService) -> list[Route]:
    """Return the routes."""
    calls = _Calls(service)
    return [
        Route("/v1/chat/completions", calls.complete, methods=["POST"]),
        Route("/v1/models", calls.models, methods=["GET"]),
    ]


class _Calls:
    def __init__(self, service: CollectionService):
        self._service = service
        self._calls: Counter[str] = Counter()
        self._threads, self._readers = anyio.CapacityLimiter(MAX_CALLS), threading.Semaphore(MAX_READERS)

    async def models(self, _request: Request) -> JSONResponse:
        """List the model in use."""
        return JSONResponse(
            {"object": "list", "data": [{"id": self._model, "object": "model", "owned_by": "blockrag"}]}
        )

    async def complete(self, request: Request) -> Response:
        """Answer the last message."""
        held = ExitStack()
        try:
            self._count(request, held)
            body = _checked(await request.body())
            stream = await anyio.to_thread.run_sync(self._begin, request, body, held, limiter=self._threads)
        except BlockRAGError as error:
            held.close()
            return _refusal(error)
        if body.get("stream"):
            held.callback(stream.close)
            return _EventStream(self._stream(stream), held)
        try:
            answer = await anyio.to_thread.run_sync(_last, stream, limiter=self._threads)
        except BlockRAGError as error:
            return _refusal(error)
        finally:
            held.close()
        message = {"role": "assistant", "content": answer.text}
        choice = {"index": 0, "message": message, "finish_reason": _reason(answer)}
        return JSONResponse(self._head("chat.completion") | {"choices": [choice]} | _told(answer))

    def _count(self, request: Request, held: ExitStack) -> None:
        """Count the calls of an address while they are answered. Raises LimitError."""
        address = address_of(request)
        if address and self._calls[address] >= MAX_CALLS_EACH:
            raise LimitError(f"{MAX_CALLS_EACH} of your calls are not answered yet; try again in a moment")
        self._calls[address] += 1
        held.callback(self._discount, address)

    def _discount(self, address: str) -> None:
        self._calls[address] -= 1
        if not self._calls[address]:
            del self._calls[address]

    @property
    def _model(self) -> str:
        return Path(self._service.model_names.model or "blockrag").name

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "object": kind,
            "created": int(time.time()),
            "model": self._model,
        }

    async def _stream(self, stream: Stream[Event]) -> AsyncGenerator[str]:
        """Server-sent events; the last one with content has the sources and the usage."""
        head = self._head("chat.completion.chunk")
        try:
            yield _event(head, {"role": "assistant", "content": ""})
            async for event in stream:
                if isinstance(event, Piece):
                    yield _event(head, {"content": event.text})
                elif isinstance(event, Answer):
                    yield _event(head | _told(event), {}, _reason(event))
        except BlockRAGError as error:
            yield f"data: {json.dumps({'error': _said(error)})}\n\n"
        yield "data: [DONE]\n\n"

    def _begin(self, request: Request, body: dict[str, Any], held: ExitStack) -> Stream[Event]:
        question, search = _question(body["messages"])
        collection = self._open(request, str(body.get("collection") or ""))
        admit(collection, question)
        held.enter_context(collection.limiter.job(collection.owner))
        pipeline = collection.pipeline
        if "documents" in body:
            with self._readers:
                pipeline = _pipeline_over(collection, body["documents"], held)
        return pipeline.ask(
            question,
            arguments.one_of("mode", body.get("mode", "block"), ("block", "full")),
            arguments.whole("k", body.get("k", 8), 1, MAX_K),
            arguments.whole("max_tokens", _n_tokens(body), 1, MAX_NEW_TOKENS),
            client_id=collection.client_id,
            search=search,
            sampling=_sampling(body),
        )

    def _open(self, request: Request, token: str) -> OpenCollection:
        """Open the collection that the key or the body names; in shared mode the first, if neither does."""
        service = self._service
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        user = next((u for t, u in getattr(request.app, "tokens", {}).items() if t in request.cookies.values()), None)
        address = address_of(request)
        owner = {"shared": LOCAL, "private": None}.get(service.access) or (
            service.owner("", user) if service.access == "login" else None
        )
        if token or service.access == "private":
            return service.open(owner, token or bearer, address)
        try:
            return service.open(owner, bearer or "none", address)
        except GoneError:  # clients send a key of no meaning where none is needed
            opened = service.open(owner, service.enter({}, user)["collection"], address)
            opened.keep()
            return opened


def _checked(data: bytes) -> dict[str, Any]:
    """Return the body of a request. Raises ArgumentError."""
    try:
        body = json.loads(data)
    except ValueError as error:
        raise ArgumentError("the body is not JSON") from error
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise ArgumentError("give a JSON object with a list of messages")
    if unknown := set(body) - FIELDS:
        raise ArgumentError(f"{', '.join(sorted(unknown))}: not supported here; there are {', '.join(sorted(FIELDS))}")
    if body.get("n") not in (None, 1):
        raise ArgumentError(f"n is {body['n']!r}; one answer at a time is given")
    return body


def _question(messages: list[Any]) -> tuple[str, str | None]:
    """Return the last message with what belongs to it, and what to search for, if not for all of that."""
    said = [(str(m.get("role")), _text(m.get("content"))) for m in messages if isinstance(m, dict)]
    asked = [text for role, text in said if role == "user"]
    if not asked or said[-1][0] != "user" or not asked[-1].strip():
        raise ArgumentError("the last message must be the user's question")
    question, search = asked[-1], asked[-1]
    answers = [text for role, text in said if role == "assistant"]
    if len(asked) > 1 and answers:
        question = strings.FOLLOW_UP_PROMPT.format(question=asked[-2], answer=answers[-1], now=question)
        search = f"{asked[-2]} {asked[-1]}"
    told = [text for role, text in said if role in ("system", "developer")]
    return "\n\n".join([*told, question]), search


def _text(content: Any) -> str:
    """Return the text of a message's content: a string, or parts of type text. Raises ArgumentError."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    if not all(isinstance(part, dict) and part.get("type") == "text" for part in parts):
        raise ArgumentError("the content of a message must be text")
    return "\n".join(str(part.get("text", "")) for part in parts)


def _n_tokens(body: dict[str, Any]) -> Any:
    given = body.get("max_completion_tokens", body.get("max_tokens"))
    return DEFAULT_TOKENS if given is None else given


def _sampling(body: dict[str, Any]) -> Sampling:
    given = body.get("stop") or []
    stop = [given] if isinstance(given, str) else given
    if not isinstance(stop, list) or len(stop) > MAX_STOPS:
        raise ArgumentError(f"stop is {arguments.shown(given)}; give a text, or a list of at most {MAX_STOPS}")
    for each in stop:
        arguments.text("stop", each, MAX_STOP_CHARS)
    values = {name: body[name] for name in ("temperature", "top_p", "seed") if body.get(name) is not None}
    return Sampling(**{"temperature": 0.0, **values}, stop=tuple(stop))


def _pipeline_over(collection: OpenCollection, documents: Any, held: ExitStack) -> Pipeline:
    """Return what answers from documents that a request holds: strings, or objects with `name` and `text`. Their block
    KV is cached, so that the same documents cost little the next time."""
    if not isinstance(documents, list) or not documents:
        raise ArgumentError("documents must be a list of texts, or of objects with name and text")
    collection.limiter.upload(collection.owner, len(documents))
    folder = held.enter_context(tempfile.TemporaryDirectory(prefix="blockrag-request-"))
    pipeline = Pipeline.open(collection.library.engine, folder)
    held.callback(pipeline.index.close)
    settings, n_chars = collection.settings, 0
    for number, given in enumerate(documents, start=1):
        entry = given if isinstance(given, dict) else {"text": given}
        name, text = str(entry.get("name") or f"document-{number}.txt"), entry.get("text")
        if not isinstance(text, str):
            raise ArgumentError(f"document {number} has no text")
        n_chars += len(text)
        if n_chars > MAX_CHARS:
            raise LimitError(f"the documents have more than {MAX_CHARS:,} characters; add them to a collection")
        document = load(text.encode("utf-8", "replace"), name=name)
        with collection.shutdown.guarding(None) as report:
            made = pipeline.segment(document, settings["segmenter"], on_progress=report)
            pipeline.add(made, float(settings["granularity"]), report)
    return pipeline


def _last(stream: Stream[Event]) -> Answer:
    (answer,) = [event for event in stream if isinstance(event, Answer)]
    return answer


def _reason(answer: Answer) -> str:
    return "length" if answer.stopped == "length" else "stop"


def _told(answer: Answer) -> dict[str, Any]:
    """Usage, and, beyond OpenAI's fields, sources, citations and the report."""
    report = answer.report
    n_prompt = report.n_prefill_tokens + report.n_tokens_saved
    return {
        "usage": {
            "prompt_tokens": n_prompt,
            "completion_tokens": report.n_new_tokens,
            "total_tokens": n_prompt + report.n_new_tokens,
            "prompt_tokens_details": {"cached_tokens": report.n_tokens_saved},
        },
        "sources": [_source(source) for source in answer.sources],
        "citations": [{"start": c.start, "end": c.end, "number": c.number} for c in answer.citations],
        "report": report.to_dict(),
    }


def _source(source: Source) -> dict[str, Any]:
    return {
        "number": source.number,
        "document": source.document,
        "start": source.start,
        "end": source.end,
        "page": source.page,
        "text": source.text,
    }


def _event(head: dict[str, Any], delta: dict[str, str], reason: str | None = None) -> str:
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    return f"data: {json.dumps(head | {'choices': choices})}\n\n"


def _refusal(error: BlockRAGError) -> JSONResponse:
    status = 404 if isinstance(error, GoneError) else 429 if isinstance(error, LimitError | BusyError) else 400
    return JSONResponse({"error": _said(error)}, status)


def _said(error: BlockRAGError) -> dict[str, str]:
    return {"message": strings.GONE if isinstance(error, GoneError) else str(error), "type": type(error).__name__}
