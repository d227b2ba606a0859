"""Long runs of base64: pictures and keys written as letters, which say nothing to a reader or a model."""

import re

from blockrag.documents.document import Content, counted

MIN_CHARS = 512
"""Shortest run that is left out; shorter ones may be ids, hashes or short keys."""
MIN_DATA_URI = 128

_KINDS = 24
"""Fewest different characters in the first 512 of base64; a sequence of a protein or a hash has fewer."""
_RUN = re.compile(
    rf"(?<![A-Za-z0-9+/_-])(?:(?P<uri>data:[\w.+-]+/[\w.+-]+(?:;[\w=.-]+)*;base64,)[A-Za-z0-9+/]{{{MIN_DATA_URI},}}"
    rf"|[A-Za-z0-9+/]{{{MIN_CHARS},}}|(?:[A-Za-z0-9+/]{{60,76}}\n[ \t]{{0,8}}){{7,}}[A-Za-z0-9+/]{{0,76}})={{0,2}}"
)


def without_base64(content: Content) -> Content:
    """`content` with a short mark for every long run of base64, and a note of how much was left out."""
    n_chars: list[int] = []

    def mark(found: re.Match[str]) -> str:
        if not found["uri"] and not _is_base64(found[0][:MIN_CHARS]):
            return found[0]
        n_chars.append(len(found[0]))
        return f"{found['uri'] or ''}[base64, {len(found[0]):,} characters]"

    text = _RUN.sub(mark, content.text)
    if not n_chars:
        return content
    note = f"Base64 was left out: {counted(len(n_chars), 'run', 'runs')}, {sum(n_chars):,} characters."
    return Content(text, content.encoding, (*content.notes, note))


def _is_base64(sample: str) -> bool:
    """Whether letters of both cases and digits are mixed, as chance mixes them."""
    kinds = set(sample)
    has_all = any(c.isdigit() for c in kinds) and any(c.islower() for c in kinds) and any(c.isupper() for c in kinds)
    return has_all and len(kinds) >= _KINDS
