"""A question and what has come of it so far, and how the page draws its sources and times."""

import secrets
from dataclasses import dataclass, field

from blockrag.events import Answer, Mode, Report, Source
from blockrag.index import BlockRef
from ui import strings
from ui.components.payloads import ExcludedBlock, SourceCard, SourcesPayload, TimeBar, TimesPayload

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
    first_token_ms : dict
        Time to the first token of each mode, as soon as it is known.
    stopped : bool
        The reader stopped it, or it failed (`error`).
    ahead : int
        Questions that the model answers first.
    is_waiting : bool
        The documents are being read first.
    conversation, turn : int or None
        Rows of the conversation and, once the question is saved, of the question.
    is_follow_up : bool
        It was asked with the question before.
    previous : QuestionState or None
        That question, where it is needed.
    pinned, excluded : tuple
        Blocks that it must have, or must not have.
    ratings : dict
        Of its answers: 1 or -1.
    documents : tuple of str
        Ids of the documents to answer from; all, if it is empty.
    key : str
        Tells it from other questions on the page.
    """

    question: str = ""
    modes: tuple[Mode, ...] = ()
    sources: tuple[Source, ...] = ()
    left_out: tuple[Source, ...] = ()
    cached: frozenset[int] = frozenset()
    texts: dict[Mode, str] = field(default_factory=dict)
    answers: dict[Mode, Answer] = field(default_factory=dict)
    first_token_ms: dict[Mode, float] = field(default_factory=dict)
    stopped: bool = False
    error: str = ""
    ahead: int = 0
    is_waiting: bool = False
    conversation: int | None = None
    turn: int | None = None
    is_follow_up: bool = False
    previous: "QuestionState | None" = None
    pinned: tuple[BlockRef, ...] = ()
    excluded: tuple[BlockRef, ...] = ()
    ratings: dict[Mode, int] = field(default_factory=dict)
    documents: tuple[str, ...] = ()
    key: str = field(default_factory=lambda: secrets.token_hex(8))

    def source(self, number: int) -> Source | None:
        """Return the source with this number."""
        return next((source for source in self.sources if source.number == number), None)


@dataclass
class Marks:
    """Blocks that the reader pinned or excluded for the next questions. `names` says where they are from."""

    pinned: tuple[BlockRef, ...] = ()
    excluded: tuple[BlockRef, ...] = ()
    names: dict[BlockRef, str] = field(default_factory=dict)

    def mark(self, source: Source | None, action: str) -> None:
        """Pin or exclude a source (`action` is "pin" or "exclude"), or undo that."""
        if source is None:
            return
        block = BlockRef(source.document_id, source.start)
        pinned, excluded = block in self.pinned, block in self.excluded
        self.restore(block)
        self.names[block] = f"{source.document}, {_where(source)}"
        if action == "pin" and not pinned:
            self.pinned += (block,)
        if action == "exclude" and not excluded:
            self.excluded += (block,)

    def restore(self, block: BlockRef) -> None:
        """Remove the pin or the exclusion of a block."""
        self.pinned = tuple(other for other in self.pinned if other != block)
        self.excluded = tuple(other for other in self.excluded if other != block)


def sources_view(state: QuestionState, marks: Marks, selected: int | None = None) -> SourcesPayload:
    """Draw the source cards, and the blocks that are excluded."""
    excluded: list[ExcludedBlock] = [
        {"name": marks.names.get(block, ""), "doc": block.document_id, "start": block.start} for block in marks.excluded
    ]
    cards = [_card(source, state, marks) for source in state.sources]
    return {"sources": cards, "excluded": excluded, "selected": selected, "empty": strings.NO_SOURCES}


def _where(source: Source) -> str:
    if source.page:
        return strings.SOURCE_PAGE.format(page=source.page)
    return strings.SOURCE_SPAN.format(start=source.start, end=source.end)


def _card(source: Source, state: QuestionState, marks: Marks) -> SourceCard:
    block = BlockRef(source.document_id, source.start)
    detail = strings.SOURCE_DETAIL.format(where=_where(source), n_tokens=source.n_tokens, similarity=source.score)
    return {
        "number": source.number,
        "title": source.document,
        "detail": detail,
        "badge": strings.CACHED if source.number in state.cached else "",
        "text": source.text[:EXCERPT_CHARS].strip(),
        "pinned": block in marks.pinned,
        "excluded": block in marks.excluded,
    }


def times_view(state: QuestionState) -> TimesPayload:
    """Draw the time to first token of each mode, and what the cache saved."""
    reports = {mode: answer.report for mode, answer in state.answers.items()}
    return {
        "bars": [_bar(mode, state) for mode in state.modes if mode in state.texts],
        "headline": headline(state),
        "detail": _detail(state, reports),
        "empty": strings.NO_TIMES,
    }


def _bar(mode: Mode, state: QuestionState) -> TimeBar:
    answer = state.answers.get(mode)
    if answer is None:
        first = state.first_token_ms.get(mode, 0)
        return {"name": TITLES[mode], "total": first, "pending": not (first or state.stopped), "stages": {}, "done": 0}
    report = answer.report
    stages = {name: getattr(report, key) for name, key in STAGES.items()}
    decode_ms = 1000 * (report.n_new_tokens - 1) / report.tokens_per_s if report.tokens_per_s else 0
    done = report.ttft_ms + decode_ms
    return {"name": TITLES[mode], "total": report.ttft_ms, "pending": False, "stages": stages, "done": done}


def headline(state: QuestionState) -> str:
    """Say how long the first words took; empty until they are there."""
    first = {**state.first_token_ms, **{mode: answer.report.ttft_ms for mode, answer in state.answers.items()}}
    if "block" in first and "full" in first:
        block, full = first["block"], first["full"]
        return strings.FIRST_TOKEN_COMPARED.format(
            block=format_ms(block),
            full=format_ms(full),
            ratio=max(full, block) / max(min(full, block), 0.001),
            faster=strings.FASTER if block <= full else strings.SLOWER,
        )
    return strings.FIRST_TOKEN_AFTER.format(time=format_ms(next(iter(first.values())))) if first else ""


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
