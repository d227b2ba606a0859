"""Search by words: how a text is taken apart, and SQLite's full-text index (FTS5, ranked by BM25)."""

import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import regex

TABLE = "block_words"

TOKENIZER = "porter unicode61 remove_diacritics 0 categories ''L* N* M* Co''"
"""FTS5's, over the words of `words_of`. Porter's stemmer is for English and leaves other alphabets alone."""

MAX_POSTINGS = 20_000
"""Occurrences that one question may score. Beyond, its most frequent words are left out, which rank little: the time of
a search stays below a tenth of a second with a million blocks."""

MAX_WORDS = 64
"""Different words of a question."""

MAX_WORD_CHARS = 64

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_RUN = regex.compile(rf"(?V1)([{_UNSPACED}]+)|[\p{{L}}\p{{M}}\p{{N}}--[{_UNSPACED}]]+")
_ACCENT = regex.compile(r"(?<=[\p{Latin}\p{Greek}\p{Cyrillic}])\p{Mn}+")

Execute = Callable[[str, Sequence[Any]], Iterable[Sequence[Any]]]
"""Runs a statement with ``?`` for its values; gives the rows."""


def words_of(text: str) -> list[str]:
    """The words of a text in order: lower case, without accents; of scripts without spaces, pairs of characters."""
    plain = _ACCENT.sub("", unicodedata.normalize("NFKD", text))
    words = []
    for run in _RUN.finditer(unicodedata.normalize("NFC", plain).casefold()):
        found = run[0]
        if run[1] and len(found) > 1:
            words += [found[i : i + 2] for i in range(len(found) - 1)]
        else:
            words.append(found[:MAX_WORD_CHARS])
    return words


def words_to_find(question: str) -> list[str]:
    """The different words of a question."""
    return list(dict.fromkeys(words_of(question)))[:MAX_WORDS]


def rarest(counts: Mapping[str, int]) -> list[str]:
    """Words that occur, rarest first, as many as have `MAX_POSTINGS` occurrences together; one in any case."""
    kept: list[str] = []
    left = MAX_POSTINGS
    for word in sorted((word for word, n in counts.items() if n), key=lambda word: counts[word]):
        left -= counts[word]
        if kept and left < 0:
            break
        kept.append(word)
    return kept


def create_table(columns: str = "words") -> str:
    """The statement that makes the full-text index; its ``rowid`` is a vector's id."""
    return f"CREATE VIRTUAL TABLE {TABLE} USING fts5({columns}, tokenize = '{TOKENIZER}')"


def create_trigger() -> str:
    """The statement that has the words of a vector deleted with it."""
    return f"CREATE TRIGGER {TABLE}_gone AFTER DELETE ON vectors BEGIN DELETE FROM {TABLE} WHERE rowid = old.id; END"


def match(
    execute: Execute, question: str, k: int, among: Collection[int] | None = None, scope: str | None = None
) -> list[int]:
    """Ids of the `k` texts that match a question's words best, best first.

    Parameters
    ----------
    execute : callable
        On the database that holds the table.
    question : str
    k : int
    among : collection of int, optional
        Ids that may be found.
    scope : str, optional
        What the table's first column, ``scope``, must hold; it does not count for the rank.
    """

    def expression(words: Iterable[str]) -> str:
        quoted = " OR ".join(f'"{word}"' for word in words)
        return quoted if scope is None else f'scope : "{scope}" AND words : ({quoted})'

    count = f"SELECT count(*) FROM (SELECT 1 FROM {TABLE} WHERE {TABLE} MATCH ? LIMIT {MAX_POSTINGS + 1})"
    counts = {word: next(iter(execute(count, (expression([word]),))))[0] for word in words_to_find(question)}
    words = rarest(counts)
    if not words:
        return []
    values: list[Any] = [expression(words)]
    allowed = ""
    if among is not None:
        allowed = "AND rowid IN (SELECT value FROM json_each(?)) "
        values.append(f"[{','.join(map(str, among))}]")
    rank = f"bm25({TABLE})" if scope is None else f"bm25({TABLE}, 0.0, 1.0)"
    best = f"SELECT rowid FROM {TABLE} WHERE {TABLE} MATCH ? {allowed}ORDER BY {rank}, rowid LIMIT ?"
    return [id for (id,) in execute(best, (*values, k))]


def forget_deleted(execute: Execute) -> None:
    """Have deleted words leave the table's segments, where FTS5 marks them as deleted until it merges these."""
    execute(f"INSERT INTO {TABLE} ({TABLE}) VALUES ('optimize')", ())
