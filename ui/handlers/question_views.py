"""An exchange as the page draws it: answers, cards of sources, bars of time. Knows no collection."""

from typing import Any

from blockrag.events import Mode, Report, Source
from ui import strings
from ui.handlers.question_state import QuestionState

TITLES: dict[Mode, str] = {"block": strings.BLOCK_MODE, "full": strings.FULL_MODE}
STAGES = {
    "retrieval": "retrieval_ms",
    "KV load": "kv_load_ms",
    "encode": "encode_ms",
    "assembly": "assemble_ms",
    "prefill": "prefill_ms",
}

CARD_CHARS = 400


def answer_view(exchange: QuestionState, mode: Mode) -> dict[str, Any]:
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
        state = _state(text, exchange.ahead)
    return {
        "title": TITLES[mode],
        "text": text or "",
        "state": state,
        "busy": answer is None and text is not None and not exchange.stopped,
        "citations": [{"end": c.end, "number": c.number} for c in answer.citations] if answer else [],
    }


def _state(text: str | None, ahead: int) -> str:
    if ahead:
        return strings.AHEAD.format(n=ahead)
    return strings.QUEUED if text is None else strings.READING if not text else ""


def sources_view(exchange: QuestionState, shown: int | None = None) -> dict[str, Any]:
    """Cards of the sources."""
    cards = [_card(source, exchange) for source in exchange.sources]
    return {"sources": cards, "shown": shown, "empty": strings.NO_SOURCES}


def _card(source: Source, exchange: QuestionState) -> dict[str, Any]:
    where = f"page {source.page}" if source.page else f"characters {source.start:,} to {source.end:,}"
    place = (source.document_id, source.start)
    return {
        "number": source.number,
        "title": source.document,
        "detail": f"{where} · {source.n_tokens} tokens · similarity {source.score:.2f}",
        "badge": strings.CACHED if source.number in exchange.cached else "",
        "text": source.text[:CARD_CHARS].strip(),
        "pinned": place in exchange.pinned,
        "excluded": place in exchange.excluded,
    }


def times_view(exchange: QuestionState) -> dict[str, Any]:
    """Time to first token of each mode, and what the cache saved."""
    bars = [_bar(mode, exchange) for mode in exchange.modes if mode in exchange.texts]
    reports = {mode: answer.report for mode, answer in exchange.answers.items()}
    return {
        "bars": bars,
        "headline": _headline(reports),
        "detail": _detail(exchange, reports),
        "empty": strings.NO_TIMES,
    }


def _bar(mode: Mode, exchange: QuestionState) -> dict[str, Any]:
    answer = exchange.answers.get(mode)
    if answer is None:
        return {"name": TITLES[mode], "total": 0, "pending": not exchange.stopped, "stages": [], "done": 0}
    report = answer.report
    stages = [{"name": name, "ms": getattr(report, key)} for name, key in STAGES.items()]
    writing = 1000 * (report.n_new_tokens - 1) / report.tokens_per_s if report.tokens_per_s else 0
    done = report.ttft_ms + writing
    return {"name": TITLES[mode], "total": report.ttft_ms, "pending": False, "stages": stages, "done": done}


def _headline(reports: dict[Mode, Report]) -> str:
    if "block" not in reports:
        return "First token" + (f" after {time_text(reports['full'].ttft_ms)}" if "full" in reports else "")
    block = reports["block"].ttft_ms
    if "full" not in reports:
        return f"First token after {time_text(block)}"
    full = reports["full"].ttft_ms
    ratio = f"{full / block:.1f} times sooner" if block <= full else f"{block / full:.1f} times later"
    return f"First token after {time_text(block)} instead of {time_text(full)}: {ratio}"


def _detail(exchange: QuestionState, reports: dict[Mode, Report]) -> str:
    notes: list[str] = []
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


def time_text(ms: float) -> str:
    """In the unit that suits it."""
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"
