"""Data classes of an answer: sources, citations, the report of its cost, and the events of its stream."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Mode = Literal["block", "full"]


@dataclass(frozen=True)
class Source:
    """A block given to the model.

    Attributes
    ----------
    number : int
        From 1, in prompt order, as shown to the reader.
    document, document_id : str
        The document's name (behind folders where names clash), and its id.
    start, end : int
        Span of the block in the document's text, in characters.
    text : str
        ``document.text[start:end]``.
    score : float
        Cosine similarity of block and question.
    n_tokens : int
        Tokens of the block in the prompt, sinks not counted; where there is no `kv_key`, an estimate will do.
    page : int or None
        Page of the block's first character, where the document has pages.
    kv_key : str
        Key of the block's KV; empty if it is not computed. Not compared: it follows from text and model.
    source : str
        Where the document is from; see `Document.source`.
    """

    number: int
    document: str
    document_id: str
    start: int
    end: int
    text: str
    score: float
    n_tokens: int
    page: int | None = None
    kv_key: str = field(default="", compare=False)
    source: str = ""


@dataclass(frozen=True)
class Citation:
    """A statement of the answer, ``answer.text[start:end]``, and the `number` of the source that supports it best.

    `support` in (0, 1] is the share of the statement's words that the source contains; rare words weigh more.
    """

    start: int
    end: int
    number: int
    support: float


@dataclass(frozen=True)
class Report:
    """What one answer cost. Times in milliseconds; TTFT counts retrieval, KV load (and encoding of blocks that were
    not cached), assembly and prefill, from the moment the question is complete to the first token.

    `n_context_tokens` counts the blocks' tokens; `n_prefill_tokens` the tokens computed after the question came;
    `n_tokens_saved` the tokens reused from the cache. `kv_hits` counts blocks by tier. `path` names the runner's path:
    see `blockrag.attention.runner`. `queued_ms` is the time in the queue, and no part of TTFT. `kv_again` counts blocks
    that a slow tier has and that were encoded again instead; `kv_choice` says why, see `blockrag.kv.costs`.
    """

    mode: Mode
    retrieval_ms: float
    kv_load_ms: float
    encode_ms: float
    assemble_ms: float
    prefill_ms: float
    ttft_ms: float
    tokens_per_s: float
    n_context_tokens: int
    n_prefill_tokens: int
    n_tokens_saved: int
    n_new_tokens: int
    kv_hits: dict[str, int] = field(default_factory=dict)
    kv_misses: int = 0
    path: str = ""
    queued_ms: float = 0.0
    notes: tuple[str, ...] = ()
    kv_again: int = 0
    kv_choice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class Queued:
    """The question is waiting, and `ahead` others go first. May come several times, before all other events."""

    ahead: int


@dataclass(frozen=True)
class Retrieved:
    """First event of an answer: the blocks it gets, and those left out because the context has no room."""

    sources: tuple[Source, ...]
    left_out: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A piece of the answer's text, in order; the first has the time to the first token (TTFT)."""

    text: str
    ttft_ms: float | None = None


@dataclass(frozen=True)
class Answer:
    """Last event: the whole answer, whose text ``str`` gives. `stopped` says why it ended: an end token or a stop
    string, `max_new_tokens` were reached, or, where a program kept what there was, the reader closed it."""

    question: str
    text: str
    sources: tuple[Source, ...]
    report: Report
    citations: tuple[Citation, ...] = ()
    stopped: Literal["end", "length", "closed"] = "end"
    left_out: tuple[Source, ...] = ()

    def __str__(self) -> str:
        return self.text


Event = Queued | Retrieved | Piece | Answer
