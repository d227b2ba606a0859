"""Step 4: a question in block mode, full mode, or both, as the page draws it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from blockrag.answer import Answer, Mode, Piece, Queued, Report, Retrieved, Source
from blockrag.errors import BlockRAGError
from ui import strings
from ui.workspace import Workspace

TITLES: dict[Mode, str] = {"block": strings.BLOCK_MODE, "full": strings.FULL_MODE}
STAGES = {
    "retrieval": "retrieval_ms",
    "KV load": "kv_load_ms",
    "encode": "encode_ms",
    "assembly": "assemble_ms",
    "prefill": "prefill_ms",
}

CARD_CHARS = 400


@dataclass
class Exchange:
    """One question and what has come of it so far: all that step 4 shows."""

    question: str = ""
    modes: tuple[Mode, ...] = ()
    sources: tuple[Source, ...] = ()
    left_out: tuple[Source, ...] = ()
    cached: frozenset[int] = frozenset()
    texts: dict[Mode, str] = field(default_factory=dict)
    answers: dict[Mode, Answer] = field(default_factory=dict)
    stopped: bool = False
    error: str = ""


def begin(question: str, modes: tuple[Mode, ...]) -> Exchange:
    """The exchange as it is before the model's turn; stopped with an error where nothing was asked."""
    empty = not question.strip()
    return Exchange(question, modes, stopped=empty, error=strings.EMPTY_QUESTION if empty else "")


def ask(
    workspace: Workspace, question: str, modes: tuple[Mode, ...], k: int, max_new_tokens: int
) -> Iterator[Exchange]:
    """Answer in each mode, one after the other, yielding the exchange after every event. Closing it stops the answer.

    An error of ours (no question, an empty index, a question too long) ends it and becomes part of the exchange.
    """
    exchange = begin(question, modes)
    if exchange.error:
        yield exchange
        return
    try:
        for mode in modes:
            exchange.texts[mode] = ""
            yield exchange
            for event in workspace.rag.ask(question, mode, k, max_new_tokens, asker=workspace.id):
                if isinstance(event, Retrieved):
                    _take_sources(exchange, event, workspace)
                else:
                    _take(exchange, mode, event)
                yield exchange
    except BlockRAGError as error:
        exchange.error, exchange.stopped = str(error), True
        yield exchange


def _take_sources(exchange: Exchange, event: Retrieved, workspace: Workspace) -> None:
    """What was retrieved, and which of it was cached when the question came: before the first mode caches the rest."""
    engine = workspace.rag.engine
    if not exchange.sources:
        exchange.cached = frozenset(s.number for s in event.sources if engine.kv_key(s.text) in engine.kv)
    exchange.sources, exchange.left_out = event.sources, event.left_out


def _take(exchange: Exchange, mode: Mode, event: Queued | Piece | Answer) -> None:
    if isinstance(event, Piece):
        exchange.texts[mode] += event.text
    elif isinstance(event, Answer):
        exchange.answers[mode] = event


def answer_view(exchange: Exchange, mode: Mode) -> dict[str, Any]:
    """The answer of one mode."""
    if mode not in exchange.modes:
        return {"empty": strings.NO_ANSWER if mode == "block" else strings.NO_FULL_ANSWER}
    answer, text = exchange.answers.get(mode), exchange.texts.get(mode)
    if answer is not None:
        report = answer.report
        state = f"{report.n_new_tokens} tokens, {report.tokens_per_s:.0f} a second"
    elif exchange.stopped:
        state = exchange.error or strings.STOPPED
    else:
        state = strings.QUEUED if text is None else strings.READING if not text else ""
    return {
        "title": TITLES[mode],
        "text": text or "",
        "state": state,
        "busy": answer is None and text is not None and not exchange.stopped,
        "citations": [{"end": c.end, "number": c.number} for c in answer.citations] if answer else [],
    }


def sources_view(exchange: Exchange, shown: int | None = None) -> dict[str, Any]:
    """Cards of the sources."""
    cards = [_card(source, source.number in exchange.cached) for source in exchange.sources]
    return {"sources": cards, "shown": shown, "empty": strings.NO_SOURCES}


def _card(source: Source, cached: bool) -> dict[str, Any]:
    where = f"page {source.page}" if source.page else f"characters {source.start:,} to {source.end:,}"
    return {
        "number": source.number,
        "title": source.document,
        "detail": f"{where} · {source.n_tokens} tokens · similarity {source.score:.2f}",
        "badge": strings.CACHED if cached else "",
        "text": source.text[:CARD_CHARS].strip(),
    }


def times_view(exchange: Exchange) -> dict[str, Any]:
    """Time to first token of each mode, and what the cache saved."""
    bars = [_bar(mode, exchange) for mode in exchange.modes if mode in exchange.texts]
    reports = {mode: answer.report for mode, answer in exchange.answers.items()}
    return {
        "bars": bars,
        "headline": _headline(reports),
        "detail": _detail(exchange, reports),
        "empty": strings.NO_TIMES,
    }


def _bar(mode: Mode, exchange: Exchange) -> dict[str, Any]:
    answer = exchange.answers.get(mode)
    if answer is None:
        return {"name": TITLES[mode], "total": 0, "pending": not exchange.stopped, "stages": []}
    stages = [{"name": name, "ms": getattr(answer.report, key)} for name, key in STAGES.items()]
    return {"name": TITLES[mode], "total": answer.report.ttft_ms, "pending": False, "stages": stages}


def _headline(reports: dict[Mode, Report]) -> str:
    if "block" not in reports:
        return "First token" + (f" after {_time(reports['full'].ttft_ms)}" if "full" in reports else "")
    block = reports["block"].ttft_ms
    if "full" not in reports:
        return f"First token after {_time(block)}"
    ratio = reports["full"].ttft_ms / block
    return f"First token after {_time(block)} instead of {_time(reports['full'].ttft_ms)}: {ratio:.1f} times sooner"


def _detail(exchange: Exchange, reports: dict[Mode, Report]) -> str:
    notes = []
    if "block" in reports:
        report = reports["block"]
        hits = ", ".join(f"{n} from {tier}" for tier, n in report.kv_hits.items()) or "none cached"
        notes.append(
            f"{report.n_tokens_saved:,} of {report.n_tokens_saved + report.n_prefill_tokens:,} tokens were not "
            f"computed ({hits})."
        )
        notes += report.notes
    if exchange.left_out:
        numbers = ", ".join(str(source.number) for source in exchange.left_out)
        notes.append(f"Left out for want of room in the model's context: blocks {numbers}.")
    return " ".join(notes)


def _time(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"


def find_source(exchange: Exchange, number: int) -> Source | None:
    """The source of this number."""
    return next((source for source in exchange.sources if source.number == number), None)
