"""Components made of a JavaScript and a CSS file of the same name, on `gr.HTML`. What they draw: `payloads.py`.

`gr.HTML` evaluates its template as JavaScript, so document text must never reach it: the templates here are constants,
values are JSON, and the scripts insert text with `textContent` only.
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
    """The documents of a collection, one per row. Event: `remove` (`doc`)."""

    file = "documents"


class BlockView(_Static):
    """A document split into blocks. Events: `toggle` (a boundary was clicked), `move` (by one step), `drop` (where a
    boundary was dragged to), `undo`, `redo`."""

    file = "blocks"

    def postprocess(self, value: dict[str, Any] | None) -> dict[str, Any] | None:
        """Send lists as one string: Gradio's page wraps every number of a list in a proxy and copies it, which takes
        seconds for the blocks of a million characters."""
        lists = {name: item for name, item in (value or {}).items() if isinstance(item, list)}
        return {**value, **dict.fromkeys(lists), "lists": json.dumps(lists)} if value and lists else value


class ProgressView(_Static):
    """One bar per document while it is indexed."""

    file = "progress"


class AnswerView(_Static):
    """A streamed answer with citations. Event: `cite` (`number`)."""

    file = "answer"


class SourcesView(_Static):
    """Numbered cards of the retrieved blocks. Events: `show` (`number`), `mark` (`number`, `action` pin or exclude)."""

    file = "sources"


class TimesView(_Static):
    """Time to first token of each mode, as stacked bars."""

    file = "times"


class TurnsView(_Static):
    """The questions of a conversation. Event: `recall` (`turn`)."""

    file = "turns"


class KVCacheView(_Static):
    """The KV tiers, now and over the last hour."""

    file = "kv_cache"


class TablesView(_Static):
    """Measured tables."""

    file = "tables"
