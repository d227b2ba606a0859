"""Subtitles (SubRip, WebVTT): one line a cue, ``[0:01:05] text``, without tags and numbers."""

import html
import re

from blockrag.documents.document import Content, Limits
from blockrag.documents.text import decode_content

_TIMES = re.compile(r"^[ \t]*(?P<start>(?:\d{1,4}:)?\d{1,2}:\d{2}[.,]\d{1,3})[ \t]*-->[^\n]*$", re.MULTILINE)
_VOICE = re.compile(r"<v(?:\.[\w.]*)?[ \t]+([^>]{1,80})>")
_TAG = re.compile(r"</?[a-zA-Z][^<>\n]{0,200}>|<(?:\d+:)?\d{2}:\d{2}[.,]\d{3}>|\{\\[^{}\n]{0,200}\}")
_READING = re.compile(r"<rt\b[^>\n]{0,80}>([^<\n]{0,80})(?:</rt>)?")
_NUMBER = re.compile(r"\n[ \t]*\n[^\n]{0,80}\n?\Z")
"""The number or the name of the next cue, which stands below a blank line at the end of a cue's text."""


def read(name: str, data: bytes, limits: Limits) -> Content:
    """Cues in order; the text of the file if it has none."""
    content = decode_content(name, data)
    cues = list(_TIMES.finditer(content.text))
    lines = []
    for i, cue in enumerate(cues):
        is_last = i + 1 == len(cues)
        body = content.text[cue.end() : len(content.text) if is_last else cues[i + 1].start()]
        spoken = _spoken(body if is_last else _NUMBER.sub("\n", body))
        if spoken:
            lines.append(f"[{_clock(cue['start'])}] {spoken}\n")
    return Content("".join(lines), content.encoding, content.notes) if lines else content


def _spoken(body: str) -> str:
    text = re.split(r"\n[ \t]*\n[ \t]*(?:NOTE|STYLE|REGION)\b", body)[0]
    text = _TAG.sub("", _VOICE.sub(r"\1: ", _READING.sub(r"(\1)", text))).replace("\\N", "\n")
    return " ".join(html.unescape(text).split())


def _clock(time: str) -> str:
    """``0:01:05``: hours, minutes and whole seconds."""
    parts = [int(part) for part in re.split(r"[.,]", time)[0].split(":")]
    hours, minutes, seconds = [0] * (3 - len(parts)) + parts
    return f"{hours}:{minutes:02}:{seconds:02}"
