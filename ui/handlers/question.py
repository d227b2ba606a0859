"""A question and what has come of it so far, and how the page draws it: answers, source cards, time bars."""

from dataclasses import dataclass, field

from blockrag.events import Answer, Mode, Report, Source
from blockrag.index import BlockRef
from ui import strings
from ui.components.payloads import AnswerPayload, SourceCard, SourcesPayload, TimeBar, TimesPayload

TITLES: dict[Mode, str] = {"block": strings.BLOCK_MODE, "full": strings.FULL_MODE}
STAGES = {
    "retrieval": "retrieval_ms",
    "KV load": "kv_load_ms",
    "encode": "encode_ms",
    "assembly": "assemble_ms",
    "prefill": "prefill_ms",
}
EXCERPT_CHARS = 400


@dataclass
class QuestionState:
    """One question and what has come of it so far.

    Attributes
    ----------
    cached : frozenset of int
        Numbers of the sources whose KV was cached when the question came.
    ahead : int
        Questions that the model answers first.
    pinned, excluded : tuple
        Blocks that the next question must have, or must not have.
    """

    question: str = ""
    modes: tuple[Mode, ...] = ()
    sources: tuple[Source, ...] = ()
    left_out: tuple[Source, ...] = ()
    cached: frozenset[int] = frozenset()
    texts: dict[Mode, str] = field(default_factory=dict)
    answers: dict[Mode, Answer] = field(default_factory=dict)
    stopped: bool = False
    error: str = ""
    ahead: int = 0
    conversation: int | None = None
    pinned: tuple[BlockRef, ...] = ()
    excluded: tuple[BlockRef, ...] = ()

    @classmethod
    def begin(cls, question: str, modes: tuple[Mode, ...], previous: "QuestionState | None" = None) -> "QuestionState":
        """Return the state before the model starts; an empty question is an error."""
        empty = not question.strip()
        state = cls(question, modes, stopped=empty, error=strings.EMPTY_QUESTION if empty else "")
        if previous is not None:
            state.conversation = previous.conversation
            state.pinned, state.excluded = previous.pinned, previous.excluded
        return state

    def source(self, number: int) -> Source | None:
        """Return the source with this number."""
        return next((source for source in self.sources if source.number == number), None)

    def mark(self, number: int, action: str) -> None:
        """Pin or exclude a source for the next question (`action` is "pin" or "exclude"), or undo that."""
        source = self.source(number)
        if source is None:
            return
        block = BlockRef(source.document_id, source.start)
        pinned, excluded = block in self.pinned, block in self.excluded
        self.pinned = tuple(other for other in self.pinned if other != block)
        self.excluded = tuple(other for other in self.excluded if other != block)
        if action == "pin" and not pinned:
            self.pinned += (block,)
        if action == "exclude" and not excluded:
            self.excluded += (block,)


def answer_view(state: QuestionState, mode: Mode) -> AnswerPayload:
    """Draw the answer of one mode."""
    if mode not in state.modes:
        return {"empty": strings.NO_ANSWER if mode == "block" else strings.NO_FULL_ANSWER}
    answer, text = state.answers.get(mode), state.texts.get(mode)
    return {
        "title": TITLES[mode],
        "text": text or "",
        "status": _status(state, answer, text),
        "busy": answer is None and text is not None and not state.stopped,
        "citations": [(c.end, c.number) for c in answer.citations] if answer else [],
    }


def _status(state: QuestionState, answer: Answer | None, text: str | None) -> str:
    if answer is not None:
        return strings.ANSWER_DONE.format(n=answer.report.n_new_tokens, rate=answer.report.tokens_per_s)
    if state.stopped:
        return state.error or strings.STOPPED
    if state.ahead:
        return strings.AHEAD.format(n=state.ahead)
    return strings.QUEUED if text is None else strings.READING if not text else ""


def sources_view(state: QuestionState, selected: int | None = None) -> SourcesPayload:
    """Draw the source cards."""
    cards = [_card(source, state) for source in state.sources]
    return {"sources": cards, "selected": selected, "empty": strings.NO_SOURCES}


def _card(source: Source, state: QuestionState) -> SourceCard:
    where = (
        strings.SOURCE_PAGE.format(page=source.page)
        if source.page
        else strings.SOURCE_SPAN.format(start=source.start, end=source.end)
    )
    block = (source.document_id, source.start)
    return {
        "number": source.number,
        "title": source.document,
        "detail": strings.SOURCE_DETAIL.format(where=where, n_tokens=source.n_tokens, similarity=source.score),
        "badge": strings.CACHED if source.number in state.cached else "",
        "text": source.text[:EXCERPT_CHARS].strip(),
        "pinned": block in state.pinned,
        "excluded": block in state.excluded,
    }


def times_view(state: QuestionState) -> TimesPayload:
    """Draw the time to first token of each mode, and what the cache saved."""
    reports = {mode: answer.report for mode, answer in state.answers.items()}
    return {
        "bars": [_bar(mode, state) for mode in state.modes if mode in state.texts],
        "headline": _headline(reports),
        "detail": _detail(state, reports),
        "empty": strings.NO_TIMES,
    }


def _bar(mode: Mode, state: QuestionState) -> TimeBar:
    answer = state.answers.get(mode)
    if answer is None:
        return {"name": TITLES[mode], "total": 0, "pending": not state.stopped, "stages": {}, "done": 0}
    report = answer.report
    stages = {name: getattr(report, key) for name, key in STAGES.items()}
    decode_ms = 1000 * (report.n_new_tokens - 1) / report.tokens_per_s if report.tokens_per_s else 0
    done = report.ttft_ms + decode_ms
    return {"name": TITLES[mode], "total": report.ttft_ms, "pending": False, "stages": stages, "done": done}


def _headline(reports: dict[Mode, Report]) -> str:
    if not reports:
        return strings.FIRST_TOKEN
    if len(reports) == 1:
        (report,) = reports.values()
        return strings.FIRST_TOKEN_AFTER.format(time=format_ms(report.ttft_ms))
    block, full = reports["block"].ttft_ms, reports["full"].ttft_ms
    return strings.FIRST_TOKEN_COMPARED.format(
        block=format_ms(block),
        full=format_ms(full),
        ratio=max(full, block) / min(full, block),
        faster=strings.FASTER if block <= full else strings.SLOWER,
    )


def _detail(state: QuestionState, reports: dict[Mode, Report]) -> str:
    notes: list[str] = []
    if "block" in reports:
        report = reports["block"]
        hits = [strings.HITS_IN_TIER.format(n=n, tier=tier) for tier, n in report.kv_hits.items()]
        total = report.n_tokens_saved + report.n_prefill_tokens
        tiers = ", ".join(hits) or strings.NO_HITS
        notes.append(strings.TOKENS_REUSED.format(n=report.n_tokens_saved, total=total, tiers=tiers))
        notes += report.notes
    elif state.left_out:
        numbers = ", ".join(str(source.number) for source in state.left_out)
        notes.append(strings.LEFT_OUT.format(numbers=numbers))
    return " ".join(notes)


def format_ms(ms: float) -> str:
    """Format a time in milliseconds or seconds."""
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"
