"""Cite: finds the source that supports each statement of an answer.

Small models number their sources unreliably, so the model is not asked: a statement is cited to the source that
contains most of its words, weighted by how few of the sources contain them (inverse document frequency).
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from blockrag.events import Citation, Source
from blockrag.segment import find_candidates

MIN_SUPPORT = 0.5
"""A statement is cited only if at least half of its weighted words are in the source."""

_REFUSAL = re.compile(
    r"\b(?:documents?|passages?|sources?|text|context|information)\b[^.!?]{0,40}?"
    r"\b(?:do|does|did|is|are)(?:\s+not|n['\u2019]t)\b[^.!?]{0,20}?"
    r"\b(?:say|tell|state|mention|contain|include|provide|specify|provided|mentioned|stated|specified)\b"
    r"|\bnot\s+(?:mentioned|stated|specified|provided|given|said|found)\s+(?:in|by)\s+(?:the|these|any)\s+"
    r"(?:documents?|passages?|sources?|text|context)\b"
    r"|^\W*(?:i\s+(?:do\s+not|don['\u2019]t)\s+know|they\s+do\s+not\s+say|unanswerable)\b",
    re.IGNORECASE,
)
"""A statement that the documents do not answer."""

_WORD = re.compile(r"\w+")


def cite(text: str, sources: Sequence[Source]) -> tuple[Citation, ...]:
    """Cite each statement of `text` that one of the sources supports, in order. A refusal is not cited.

    Parameters
    ----------
    text : str
        The answer.
    sources : sequence of Source
        The blocks that the model was given.
    """
    in_source = [set(_words(source.text)) for source in sources]
    frequency = Counter(word for words in in_source for word in words)
    weight = {word: math.log(1 + len(sources) / n) for word, n in frequency.items()}
    cuts = [0, *find_candidates(text).tolist(), len(text)]
    citations = []
    for start, end in zip(cuts, cuts[1:], strict=False):
        if _REFUSAL.search(text[start:end]):
            continue
        words = set(_words(text[start:end]))
        total = sum(weight.get(word, math.log(1 + len(sources))) for word in words)
        support = [sum(weight[word] for word in words & known) / total if total else 0.0 for known in in_source]
        best = max(range(len(sources)), key=support.__getitem__, default=None)
        if best is not None and support[best] >= MIN_SUPPORT:
            citations.append(Citation(start, end, sources[best].number, support[best]))
    return tuple(citations)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
