"""Jupyter notebooks: text cells as they are, code and the text of its outputs in fences."""

import json
import re
from collections.abc import Iterator
from typing import Any

from blockrag.documents import markdown
from blockrag.documents.document import Content, Limits
from blockrag.documents.html import body_text
from blockrag.documents.text import decode_content
from blockrag.errors import DocumentError

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|^[^\n]*\r(?=[^\r\n])|\r", re.MULTILINE)
"""Colours of a terminal, and what a line held before a carriage return overwrote it."""
_OLD_KINDS = {"png": "image/png", "jpeg": "image/jpeg", "svg": "image/svg+xml", "html": "text/html",
              "latex": "text/latex", "text": "text/plain", "markdown": "text/markdown"}  # fmt: skip
"""Types of outputs by their keys in version 3."""
_INLINE_PICTURE = re.compile(r"!\[([^\]]*)\]\((?:data:|attachment:)[^)]*\)")


def read(name: str, data: bytes, limits: Limits) -> Content:
    """Cells in order.

    Raises
    ------
    DocumentError
        If it is not a notebook.
    """
    decoded = decode_content(name, data)
    try:
        notebook = json.loads(decoded.text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(name, f"it is not a notebook: its JSON is damaged ({str(error)[:80]})") from error
    cells = _cells(notebook)
    if cells is None:
        raise DocumentError(name, "it is not a notebook: it has no cells")
    language = _language(notebook)
    left_out: dict[str, int] = {}
    parts = [part for cell in cells if isinstance(cell, dict) for part in _cell(cell, language, left_out)]
    notes = tuple(f"Outputs of the type {kind} were left out: {n:,}." for kind, n in sorted(left_out.items()))
    return Content("\n\n".join(filter(str.strip, parts)) + "\n", decoded.encoding, (*decoded.notes, *notes))


def _cells(notebook: Any) -> list[Any] | None:
    if not isinstance(notebook, dict):
        return None
    if isinstance(notebook.get("cells"), list):
        return notebook["cells"]
    sheets = notebook.get("worksheets")  # version 3
    if not isinstance(sheets, list):
        return None
    return [cell for sheet in sheets if isinstance(sheet, dict) for cell in sheet.get("cells") or []]


def _language(notebook: dict[str, Any]) -> str:
    metadata = notebook.get("metadata")
    for key, field in (("kernelspec", "language"), ("language_info", "name")):
        known = metadata.get(key) if isinstance(metadata, dict) else None
        if isinstance(known, dict) and isinstance(known.get(field), str) and known[field].isalnum():
            return known[field].lower()
    return "python"


def _cell(cell: dict[str, Any], language: str, left_out: dict[str, int]) -> Iterator[str]:
    source = _text(cell.get("source", cell.get("input")))
    kind = cell.get("cell_type")
    if kind == "heading":  # version 3
        level = cell.get("level")
        yield markdown.heading(source, level if isinstance(level, int) else 1)
        return
    if kind != "code":
        yield _INLINE_PICTURE.sub(r"[\1]", source).strip("\n")
        return
    if source.strip():
        yield fenced(source, language)
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else ():
        text = _output(output, left_out) if isinstance(output, dict) else ""
        if text.strip():
            yield f"Output:\n{fenced(text)}"


def _output(output: dict[str, Any], left_out: dict[str, int]) -> str:
    if output.get("output_type") in ("error", "pyerr"):
        return _ANSI.sub("", "\n".join(map(str, output.get("traceback") or [])) or _text(output.get("evalue")))
    data = output.get("data")
    if output.get("output_type") in ("pyout", "display_data") and not isinstance(data, dict):
        data = {kind: output[key] for key, kind in _OLD_KINDS.items() if key in output}
    if not isinstance(data, dict):
        return _ANSI.sub("", _text(output.get("text")))
    pictures = [kind for kind in data if kind.startswith(("image/", "video/", "audio/", "application/"))]
    for kind in pictures:
        left_out[kind[:80]] = left_out.get(kind[:80], 0) + 1
    for kind in ("text/markdown", "text/latex", "text/plain"):
        text = _text(data.get(kind))
        if text.strip() and not (pictures and re.fullmatch(r"\s*<[^<>\n]*>\s*", text)):  # <Figure size 640x480>
            return _ANSI.sub("", text)
    return body_text(_text(data.get("text/html")))


def fenced(text: str, language: str = "") -> str:
    """`text` as a fenced block, its fence longer than any inside."""
    longest = max(map(len, re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    body = text.strip("\n")
    return f"{fence}{language}\n{body}\n{fence}"


def _text(value: Any) -> str:
    """A string of a notebook, which may be a list of lines."""
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""
