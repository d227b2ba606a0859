"""Search by words in the rows of a database: FTS5 on SQLite, text search with a GIN index on PostgreSQL."""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.orm import Session

from blockrag.documents import Document
from blockrag.retrieve.words import (
    MAX_POSTINGS,
    TABLE,
    create_table,
    create_trigger,
    match,
    rarest,
    words_of,
    words_to_find,
)
from storage.shared import parts

POSTGRESQL = (
    f"CREATE TABLE {TABLE} (vector_id INTEGER PRIMARY KEY REFERENCES vectors (id) ON DELETE CASCADE, "
    "words TSVECTOR NOT NULL)",
    f"CREATE INDEX ix_{TABLE}_words ON {TABLE} USING gin (words)",
)
SQLITE = (create_table("scope, words"), create_trigger())
"""Statements that make the table. It is no table of the models: each database has its own kind."""

_FOUND = (
    f"FROM {TABLE} w JOIN vectors v ON v.id = w.vector_id "
    "WHERE v.collection_id = :collection AND v.made_by = :made_by AND w.words @@ "
)

_DOCUMENTS = "SELECT id, collection_id, name, media_type FROM documents ORDER BY id"
_PARTS = "SELECT text FROM document_parts WHERE document_id = :id ORDER BY number"
_BLOCKS = (
    'SELECT v.made_by, b.vector_id, b.start, b."end" FROM blocks b JOIN vectors v ON v.id = b.vector_id '
    "WHERE b.document_id = :id ORDER BY b.id"
)


def enter(session: Session, collection_id: int, made_by: str, texts: Mapping[int, str]) -> None:
    """Add the words of texts, given by vector id, that are not there yet."""
    known: set[int] = set()
    id = _id(session)
    for part in parts(list(texts)):
        select = text(f"SELECT {id} FROM {TABLE} WHERE {id} IN :ids").bindparams(bindparam("ids", expanding=True))
        known.update(session.scalars(select, {"ids": part}))
    rows = [{"id": id, "words": " ".join(words_of(each))} for id, each in texts.items() if id not in known]
    if not rows:
        return
    if id == "rowid":
        insert = f"INSERT INTO {TABLE} (rowid, scope, words) VALUES (:id, :scope, :words)"
        rows = [{**row, "scope": _scope(collection_id, made_by)} for row in rows]
    else:
        insert = f"INSERT INTO {TABLE} (vector_id, words) VALUES (:id, to_tsvector('english', :words))"
    session.execute(text(insert), rows)


def fill(session: Session) -> None:
    """Add the words of all blocks that have none."""
    for number, collection_id, name, media_type in session.execute(text(_DOCUMENTS)).all():
        parts_of = session.scalars(text(_PARTS), {"id": number})
        whole = "".join(bytes(part).decode("utf-8", "surrogatepass") for part in parts_of)
        document = Document(name, media_type, whole)
        texts: dict[str, dict[int, str]] = {}
        for made_by, vector_id, start, end in session.execute(text(_BLOCKS), {"id": number}):
            texts.setdefault(made_by, {}).setdefault(vector_id, document.block_text(start, end))
        for made_by, of_models in texts.items():
            enter(session, collection_id, made_by, of_models)


def forget(session: Session, document_id: int) -> None:
    """Delete the words of the texts that only this document has."""
    of_others = "SELECT vector_id FROM blocks WHERE document_id <> :document"
    those = f"SELECT vector_id FROM blocks WHERE document_id = :document AND vector_id NOT IN ({of_others})"
    session.execute(text(f"DELETE FROM {TABLE} WHERE {_id(session)} IN ({those})"), {"document": document_id})


def matching(
    session: Session,
    collection_id: int,
    made_by: str,
    question: str,
    k: int,
    n_texts: int,
    among: Collection[int] | None = None,
) -> list[int]:
    """Ids of the `k` vectors whose texts match a question's words best, best first, of the `n_texts` that one pair of
    models made in a collection.

    SQLite ranks by BM25, with the frequencies of words in the whole database. PostgreSQL ranks by ``ts_rank`` of each
    word, weighted by the word's rarity in the collection.
    """
    if _id(session) == "rowid":

        def execute(statement: str, values: Sequence[Any]) -> Any:
            return session.connection().exec_driver_sql(statement, tuple(values))

        return match(execute, question, k, among, _scope(collection_id, made_by))
    of_these = {"collection": collection_id, "made_by": made_by}
    count = text(
        f"SELECT count(*) FROM (SELECT 1 {_FOUND} plainto_tsquery('english', :word) LIMIT {MAX_POSTINGS + 1}) AS found"
    )
    counts = {word: session.scalar(count, {**of_these, "word": word}) or 0 for word in words_to_find(question)}
    words = rarest(counts)
    if not words:
        return []
    queries = [f"plainto_tsquery('english', :word_{i})" for i in range(len(words))]
    ranks = [f"CAST(:rarity_{i} AS real) * ts_rank(w.words, {query}, 1)" for i, query in enumerate(queries)]
    allowed = "" if among is None else "AND v.id = ANY(:among) "
    best = f"SELECT v.id {_FOUND} ({' || '.join(queries)}) {allowed}ORDER BY {' + '.join(ranks)} DESC, v.id LIMIT :k"
    values: dict[str, Any] = {**of_these, "k": k, "among": list(among or ())}
    for i, word in enumerate(words):
        n = min(counts[word], n_texts)
        values |= {f"word_{i}": word, f"rarity_{i}": math.log(1 + (n_texts - n + 0.5) / (n + 0.5))}
    return list(session.scalars(text(best), values))


def _id(session: Session) -> str:
    """The column that holds a vector's id."""
    return "rowid" if session.connection().dialect.name == "sqlite" else "vector_id"


def _scope(collection_id: int, made_by: str) -> str:
    """A word that stands for one collection and one pair of models."""
    return f"{collection_id}x{hashlib.sha256(made_by.encode()).hexdigest()[:16]}"
