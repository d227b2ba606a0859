"""The tables: columns and constraints. The repositories beside this file read and write them.

Times are seconds since 1970 (``*_s``). Texts of documents and arrays are bytes, since PostgreSQL's text holds no NUL.
An id is never used again, so that an id in a stale page or in FAISS is gone and not another's.
"""

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, MetaData, String, UniqueConstraint, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAME_CHARS = 200
DIGEST_CHARS = 64
OWNER_CHARS = 128
PART_CHARS = 4096
TOKEN_CHARS = 64
WORD_CHARS = 32

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
_FOREVER = {"sqlite_autoincrement": True}


class Base(DeclarativeBase):
    """Names every constraint, so that migrations can refer to it."""

    metadata = MetaData(naming_convention=NAMING)


class Collection(Base):
    """Documents of one owner that are searched together.

    `clock` counts the changes of its segmentations, `index_version` those of its blocks; `owner` is a user's name, the
    digest of a visitor's secret, or "local". `token` is what pages and programs call it by.
    """

    __tablename__ = "collections"
    __table_args__ = (UniqueConstraint("owner", "name"), _FOREVER)

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(String(TOKEN_CHARS), unique=True)
    owner: Mapped[str] = mapped_column(String(OWNER_CHARS), index=True)
    name: Mapped[str] = mapped_column(String(NAME_CHARS))
    created_s: Mapped[float]
    used_s: Mapped[float] = mapped_column(index=True)
    clock: Mapped[int] = mapped_column(default=0)
    index_version: Mapped[int] = mapped_column(default=0)
    paused: Mapped[bool] = mapped_column(default=False, server_default=false())


class Document(Base):
    """A text in a collection, one of each source. `document_id` is the source's hash, `sha256` the text's, `notes` a
    JSON list of what the reader left out or guessed, `about` its metadata as a JSON object. `file` is the name, in the
    folder of uploads, of the file it was read from, if that is kept."""

    __tablename__ = "documents"
    __table_args__ = (UniqueConstraint("collection_id", "document_id"), _FOREVER)

    id: Mapped[int] = mapped_column(primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), index=True)
    document_id: Mapped[str] = mapped_column(String(DIGEST_CHARS))
    source: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(DIGEST_CHARS))
    name: Mapped[str] = mapped_column(String(NAME_CHARS))
    media_type: Mapped[str] = mapped_column(String(NAME_CHARS))
    n_chars: Mapped[int]
    added_s: Mapped[float]
    encoding: Mapped[str | None] = mapped_column(String(TOKEN_CHARS))
    notes: Mapped[str | None]
    n_pages: Mapped[int | None]
    about: Mapped[str | None] = mapped_column("metadata")
    file: Mapped[str | None] = mapped_column(String(TOKEN_CHARS))


class DocumentPart(Base):
    """A part of a document's text, `PART_CHARS` characters (the last one fewer): a block is read without the rest."""

    __tablename__ = "document_parts"

    document_id: Mapped[int] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[bytes] = mapped_column(LargeBinary)


class Segmentation(Base):
    """How a document is divided into blocks: candidates (int64) and their scores (float32), both little-endian, size
    bounds, and granularity.

    `version` is the collection's clock at its last change. `indexed_cut` is the cut (see `SegmentationRecord`) that was
    indexed last: empty if there is none, null if an earlier program indexed the document.
    """

    __tablename__ = "segmentations"

    document_id: Mapped[int] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True)
    segmenter: Mapped[str] = mapped_column(String(WORD_CHARS))
    min_tokens: Mapped[int]
    max_tokens: Mapped[int]
    granularity: Mapped[float]
    version: Mapped[int]
    indexed_cut: Mapped[str | None] = mapped_column(String(WORD_CHARS))
    chars: Mapped[bytes] = mapped_column(LargeBinary, deferred=True, deferred_group="scored")
    scores: Mapped[bytes] = mapped_column(LargeBinary, deferred=True, deferred_group="scored")


class Edit(Base):
    """A user's change of a boundary, in order of id, kept forever: ``done``, ``undone`` (can be redone), or ``dropped``
    (undone before another edit, or made to an earlier text)."""

    __tablename__ = "edits"
    __table_args__ = (
        CheckConstraint("kind IN ('added', 'removed')", name="kind"),
        CheckConstraint("state IN ('done', 'undone', 'dropped')", name="state"),
        _FOREVER,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    document_id: Mapped[int] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), index=True)
    char: Mapped[int]
    kind: Mapped[str] = mapped_column(String(WORD_CHARS))
    state: Mapped[str] = mapped_column(String(WORD_CHARS))
    made_s: Mapped[float]


class Vector(Base):
    """The vector of a text, for all blocks of a collection that have this text. `made_by` names the models; `kv_key` is
    the key of the blocks' KV, and says which text it is."""

    __tablename__ = "vectors"
    __table_args__ = (UniqueConstraint("collection_id", "made_by", "kv_key"), _FOREVER)

    id: Mapped[int] = mapped_column(primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"))
    made_by: Mapped[str] = mapped_column(String(DIGEST_CHARS))
    kv_key: Mapped[str] = mapped_column(String(DIGEST_CHARS), index=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)


class Block(Base):
    """An indexed block. `n_tokens` is what it takes in a prompt, or, where `is_estimate`, what an earlier version
    counted. `page` is that of its first character."""

    __tablename__ = "blocks"
    __table_args__ = (_FOREVER,)

    id: Mapped[int] = mapped_column(primary_key=True)
    document_id: Mapped[int] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), index=True)
    vector_id: Mapped[int] = mapped_column(ForeignKey("vectors.id"), index=True)
    start: Mapped[int]
    end: Mapped[int]
    n_tokens: Mapped[int]
    is_estimate: Mapped[bool]
    score: Mapped[float]
    page: Mapped[int | None]


class Encoding(Base):
    """KV that belongs to a document but to none of its blocks: its indexing has not ended, or its text was replaced and
    is not indexed yet. The next indexing uses it or releases it."""

    __tablename__ = "encodings"

    document_id: Mapped[int] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True)
    kv_key: Mapped[str] = mapped_column(String(DIGEST_CHARS), primary_key=True, index=True)


class Upload(Base):
    """An uploaded file that is not read yet (``waiting``) or could not be read (``failed``).

    `file` is its name in the folder of uploads, chosen by this program; `encoding` is null where it is to be detected,
    `source` where it is the name; `ocr` says whether scanned pages are read.
    """

    __tablename__ = "uploads"
    __table_args__ = (CheckConstraint("state IN ('waiting', 'failed')", name="state"), _FOREVER)

    id: Mapped[int] = mapped_column(primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(NAME_CHARS))
    file: Mapped[str] = mapped_column(String(TOKEN_CHARS), unique=True)
    nbytes: Mapped[int]
    state: Mapped[str] = mapped_column(String(WORD_CHARS))
    reason: Mapped[str]
    received_s: Mapped[float]
    encoding: Mapped[str | None] = mapped_column(String(TOKEN_CHARS))
    source: Mapped[str | None]
    ocr: Mapped[bool | None]


class IndexRequest(Base):
    """A document to index, not before `due_s`; `reason` says why the attempt failed, if it did."""

    __tablename__ = "index_requests"

    document_id: Mapped[int] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True)
    due_s: Mapped[float]
    reason: Mapped[str]


class Conversation(Base):
    """Questions to one collection, in order."""

    __tablename__ = "conversations"
    __table_args__ = (_FOREVER,)

    id: Mapped[int] = mapped_column(primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), index=True)
    title: Mapped[str] = mapped_column(String(NAME_CHARS))
    created_s: Mapped[float]


class Turn(Base):
    """A question of a conversation, with its answers and sources; `is_follow_up` if the turn before was told too."""

    __tablename__ = "turns"
    __table_args__ = (_FOREVER,)

    id: Mapped[int] = mapped_column(primary_key=True)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"), index=True)
    question: Mapped[str]
    asked_s: Mapped[float]
    is_follow_up: Mapped[bool] = mapped_column(default=False, server_default=false())


class Answer(Base):
    """A turn's answer in one mode; `report` and `citations` are JSON; `rating` is 1 or -1."""

    __tablename__ = "answers"

    turn_id: Mapped[int] = mapped_column(ForeignKey("turns.id", ondelete="CASCADE"), primary_key=True)
    mode: Mapped[str] = mapped_column(String(WORD_CHARS), primary_key=True)
    text: Mapped[str]
    stopped: Mapped[str] = mapped_column(String(WORD_CHARS))
    report: Mapped[str]
    citations: Mapped[str]
    rating: Mapped[int | None]


class Source(Base):
    """A block that a turn's answers were given. `text` is a copy, so that a later version of the document does not
    change it; a deleted document's is gone here too."""

    __tablename__ = "sources"

    turn_id: Mapped[int] = mapped_column(ForeignKey("turns.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    document_id: Mapped[int] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"), index=True)
    start: Mapped[int]
    end: Mapped[int]
    score: Mapped[float]
    n_tokens: Mapped[int]
    left_out: Mapped[bool]
    page: Mapped[int | None]
    text: Mapped[bytes] = mapped_column(LargeBinary)


class Setting(Base):
    """A setting of one owner, or, with owner "", of the whole application; `value` is JSON."""

    __tablename__ = "settings"

    owner: Mapped[str] = mapped_column(String(OWNER_CHARS), primary_key=True)
    key: Mapped[str] = mapped_column(String(WORD_CHARS), primary_key=True)
    value: Mapped[str]
