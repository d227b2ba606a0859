"""What each component draws: the JSON values that handlers return and the scripts beside this file read.

Offsets count code points, as in Python. A payload with only `empty` shows that sentence instead.
"""

from typing import TypedDict

Lines = dict[str, list[tuple[float, float]]]
"""Points by name: seconds before now (negative), value."""


class DocumentRow(TypedDict):
    """A document, or an uploaded file that is not one (yet) and cannot be chosen. `notes` say what was left out or
    guessed; `length` is in characters."""

    id: str
    name: str
    kind: str
    size: str
    length: int
    choosable: bool
    state: str
    notes: list[str]
    failed: bool
    busy: bool


class DocumentsPayload(TypedDict):
    """`documents.js`. `chosen` are the ids of the documents that questions are answered from, all if it is empty.
    `waiting` counts the stopped jobs, to resume; `busy` says whether jobs run. Events: `remove` (`doc`), `choose`
    (`docs`)."""

    rows: list[DocumentRow]
    chosen: list[str]
    waiting: int
    busy: bool
    notices: list[str]
    empty: str


class StatusPayload(TypedDict, total=False):
    """`status.js`. `action` is the event that the button triggers: `stop` or `resume`."""

    text: str
    label: str
    action: str


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


class ThreadAnswer(TypedDict):
    """A question's answer in one mode. A citation is where its statement starts and ends in the text, and the number of
    the source. `ended` says why the text ends, if not by itself; `rating` is 1, -1 or 0."""

    mode: str
    title: str
    text: str
    ended: str
    busy: bool
    citations: list[tuple[int, int, int]]
    rating: int


class ThreadTurn(TypedDict):
    """A question with its answers; `id` is its turn, or 0 before it is saved, `key` tells it from others. `compare` and
    `longer` are labels of buttons, empty where there is none; `notes` tell what the first answer's report notes."""

    id: int
    key: str
    question: str
    note: str
    notes: list[str]
    answers: list[ThreadAnswer]
    status: str
    failed: bool
    cost: str
    detail: str
    selected: bool
    sources: int
    compare: str
    longer: str
    done: bool


class ThreadPayload(TypedDict):
    """`thread.js`. Events: `ask` (`question`), `edit` (`question`), `cite` (`turn`, `number`, `statement`), `select`
    (`turn`), `compare`, `longer` (`turn`), `rate` (`turn`, `mode`, `rating`), `sample`."""

    turns: list[ThreadTurn]
    suggestions: list[str]
    busy: bool
    welcome: str
    sample: str
    saved: str


class SourceCard(TypedDict):
    """A block given to the model."""

    number: int
    title: str
    detail: str
    badge: str
    text: str
    pinned: bool
    excluded: bool


class ExcludedBlock(TypedDict):
    """A block that the next questions must not have."""

    name: str
    doc: str
    start: int


class SourcesPayload(TypedDict):
    """`sources.js`. `selected` is the number of the open source. Events: `show` (`number`), `mark` (`number`, `action`:
    pin or exclude), `restore` (`doc`, `start`)."""

    sources: list[SourceCard]
    excluded: list[ExcludedBlock]
    selected: int | None
    empty: str


class PagePayload(TypedDict, total=False):
    """`pdf_page.js`. `image` is a data URL; empty where the source has no page to show."""

    image: str
    caption: str


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
