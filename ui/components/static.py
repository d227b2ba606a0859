"""Components made of a JavaScript and a CSS file of the same name, on `gr.HTML`. Know how to draw, not what it means.

`gr.HTML` evaluates its template as JavaScript, so that document text must never come near it: the templates here are
constants, values are JSON, and the scripts put text into the page with `textContent` alone.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

_FOLDER = Path(__file__).parent
_SHARED = (_FOLDER / "shared.js").read_text(encoding="utf-8")


class _Static(gr.HTML):
    """A component whose script is ``<file>.js`` and whose style is ``<file>.css``."""

    file: str

    def __init__(self, value: Any = None, *, server_functions: list[Callable] | None = None, **options: Any):
        super().__init__(
            value=value,
            html_template=f"<div class='{self.file}' data-root></div>",
            css_template=(_FOLDER / f"{self.file}.css").read_text(encoding="utf-8"),
            js_on_load=_SHARED + (_FOLDER / f"{self.file}.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            server_functions=server_functions,
            **options,
        )

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


class DocumentsView(_Static):
    """The documents of a visit, one a row. Event: `remove` (of a document)."""

    file = "documents"


class BlockView(_Static):
    """A document cut into blocks. Events: `toggle` (a boundary was clicked), `move` (of one, by a step), `place` (where
    it was dragged to), `undo`, `redo`."""

    file = "blocks"

    def postprocess(self, value: dict[str, Any] | None) -> dict[str, Any] | None:
        """Lists go as one string: Gradio's page wraps every number of a list in a proxy and copies it, which takes
        seconds for the blocks of a million characters."""
        lists = {name: item for name, item in (value or {}).items() if isinstance(item, list)}
        return {**value, **dict.fromkeys(lists), "lists": json.dumps(lists)} if value and lists else value


class ProgressView(_Static):
    """One bar a document while it is indexed."""

    file = "progress"


class AnswerView(_Static):
    """A streamed answer with its citations. Event: `cite` (a citation was clicked)."""

    file = "answer"


class SourcesView(_Static):
    """Numbered cards of the blocks given. Events: `show` (a card was clicked), `mark` (pin, exclude)."""

    file = "sources"


class TimesView(_Static):
    """Time to first token of each mode, as stacked bars, and what was saved."""

    file = "times"


class TurnsView(_Static):
    """The questions of a conversation. Event: `recall` (one was clicked)."""

    file = "turns"


class CacheView(_Static):
    """The tiers of block KV, and how they filled over time."""

    file = "cache"


class TablesView(_Static):
    """Measured tables, with bars."""

    file = "tables"
