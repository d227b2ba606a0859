"""Turns the events of an answer into LlamaIndex's responses, with the report of its cost."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseGen,
    MessageRole,
)

from blockrag.answering import Request
from blockrag.events import Answer, Event, Piece

REPORT = "blockrag"
"""Key of the report of an answer's cost in `raw` of a response, and in the metadata of a query's response."""


@dataclass(frozen=True)
class Run:
    """A request and the events of its answer."""

    request: Request
    events: Iterator[Event]


def chat_responses(run: Run) -> ChatResponseGen:
    """A response for each piece of text, then one with the report."""
    for text, delta, raw in _texts(run):
        message = ChatMessage(role=MessageRole.ASSISTANT, content=text)
        yield ChatResponse(message=message, delta=delta, raw=raw, additional_kwargs=raw["usage"] if raw else {})


def completions(run: Run) -> CompletionResponseGen:
    """Like `chat_responses`, for a completion."""
    for text, delta, raw in _texts(run):
        yield CompletionResponse(text=text, delta=delta, raw=raw, additional_kwargs=raw["usage"] if raw else {})


def _texts(run: Run) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """The text so far, the new part of it, and, at the end, ``raw``."""
    text = ""
    for event in run.events:
        if isinstance(event, Piece):
            text += event.text
            yield text, event.text, None
        elif isinstance(event, Answer):
            yield text, "", _raw(event, run.request)


def _raw(answer: Answer, request: Request) -> dict[str, Any]:
    report = answer.report
    n_prompt = report.n_prefill_tokens + report.n_tokens_saved
    if report.mode == "block" and request.framing is not None:
        n_prompt += len(request.framing.prefix_ids)
    usage = {
        "prompt_tokens": n_prompt,
        "completion_tokens": report.n_new_tokens,
        "total_tokens": n_prompt + report.n_new_tokens,
    }
    left_out = [source.document_id for source in answer.left_out]
    return {"usage": usage, REPORT: {**report.to_dict(), "stopped": answer.stopped, "left_out": left_out}}


def last(responses: Iterator[Any]) -> Any:
    """The last response, which is the whole answer, without a delta."""
    *_, response = responses
    response.delta = None
    return response
