"""What each component draws: the JSON values that handlers return and the scripts beside this file read.

Offsets count code points, as in Python. A payload with only `empty` shows that sentence instead.
"""

from typing import TypedDict

Lines = dict[str, list[tuple[float, float]]]
"""Points by name: seconds before now (negative), value."""


class DocumentRow(TypedDict):
    """A document, or an uploaded file that is not one (yet); `id` is empty where nothing can be removed. `notes` say
    what was left out or guessed."""

    id: str
    name: str
    kind: str
    size: str
    state: str
    notes: list[str]
    failed: bool
    busy: bool


class DocumentsPayload(TypedDict):
    """`documents.js`. `waiting` counts the files to resume with. Event: `remove` (`doc`)."""

    rows: list[DocumentRow]
    waiting: int
    progress: str
    empty: str


class BlocksPayload(TypedDict, total=False):
    """`blocks.js`. `collection` is a token, `doc` a document id. To edit: everything from `version` to `hint` is set.
    To compare: `compared` and `differs`. To read: `highlight`, where the marked block starts.

    Events: `toggle` (a boundary), `move` (a boundary by one step), `drop` (a boundary at `to`), `undo`, `redo`.
    """

    empty: str
    collection: str
    doc: str
    length: int
    starts: list[int]
    tokens: list[int]
    scores: list[float]
    summary: str
    version: int
    granularity: float
    profile: list[int]
    added: list[int]
    edits: int
    redo: int
    cost: str
    hint: str
    compared: bool
    differs: list[int]
    highlight: int


class TextPage(TypedDict):
    """A page of a document's text for `blocks.js`, in pieces: the spans between candidates."""

    offsets: list[int]
    pieces: list[str]
    last: bool


class IndexRow(TypedDict):
    """A document while it is indexed. `state` is waiting, running, done or failed; `cells` names the tier that holds
    each block's KV."""

    id: str
    name: str
    text: str
    done: int
    total: int
    state: str
    cells: list[str]


class ProgressPayload(TypedDict):
    """`progress.js`."""

    rows: list[IndexRow]
    empty: str


class AnswerPayload(TypedDict, total=False):
    """`answer.js`. A citation is its offset in the text and the number of the source. Event: `cite` (`number`)."""

    empty: str
    title: str
    text: str
    status: str
    busy: bool
    citations: list[tuple[int, int]]


class SourceCard(TypedDict):
    """A block given to the model."""

    number: int
    title: str
    detail: str
    badge: str
    text: str
    pinned: bool
    excluded: bool


class SourcesPayload(TypedDict):
    """`sources.js`. `selected` is the number of the open source. Events: `show`, `mark` (`action`: pin or exclude)."""

    sources: list[SourceCard]
    selected: int | None
    empty: str


class TimeBar(TypedDict):
    """One mode: milliseconds to the first token (`total`), of its stages, and to the last token (`done`)."""

    name: str
    total: float
    pending: bool
    stages: dict[str, float]
    done: float


class TimesPayload(TypedDict):
    """`times.js`."""

    bars: list[TimeBar]
    headline: str
    detail: str
    empty: str


class TurnRow(TypedDict):
    """A question of a conversation and the beginning of its answer."""

    id: int
    question: str
    answer: str


class TurnsPayload(TypedDict):
    """`turns.js`. Event: `recall` (`turn`)."""

    turns: list[TurnRow]
    saved: str
    empty: str


class TierCard(TypedDict):
    """A KV tier: bytes used and allowed, blocks held, and how many of them are this collection's (`mine`). `budget` is
    None without a limit; `used`, `blocks` and `mine` are None where they are not counted."""

    name: str
    used: int | None
    budget: int | None
    text: str
    blocks: int | None
    hits: int
    evicted: int
    mine: int | None


class KVCachePayload(TypedDict):
    """`kv_cache.js`. Plots bytes (in MB) per tier, and counts of hits, misses and evictions."""

    tiers: list[TierCard]
    n_mine: int
    misses: int
    nbytes: Lines
    counts: Lines
    empty: str


class Table(TypedDict):
    """A measured table."""

    title: str
    machine: str
    head: list[str]
    rows: list[list[str]]


class TablesPayload(TypedDict, total=False):
    """`tables.js`."""

    tables: list[Table]
    busy: bool
    empty: str
