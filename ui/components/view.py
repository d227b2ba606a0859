"""Components made of a JavaScript and a CSS file, on `gr.HTML`. What they draw: `payloads.py`.

`gr.HTML` evaluates its template as JavaScript, so document text must never reach it: the templates here are constants,
values are JSON, and the scripts insert text with `textContent` only.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

_FOLDER = Path(__file__).parent


class View(gr.HTML):
    """A component that draws a payload.

    Parameters
    ----------
    name : str
        Of its script ``<name>.js`` and style ``<name>.css``.
    value : payload, optional
        See `payloads.py`, also for its events.
    server_functions : list of callables, optional
        What the script can call.
    scripts : sequence of str
        Names of scripts that it uses.
    """

    def __init__(
        self,
        name: str,
        value: Any = None,
        *,
        server_functions: list[Callable] | None = None,
        scripts: Sequence[str] = (),
        **options: Any,
    ):
        super().__init__(
            value=value,
            html_template=f"<div class='{name}' data-root></div>",
            css_template=(_FOLDER / f"{name}.css").read_text(encoding="utf-8"),
            js_on_load="".join(_script(part) for part in ("shared", *scripts, name)),
            apply_default_css=False,
            server_functions=server_functions,
            **options,
        )

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


class BlockView(View):
    """The view of `blocks.js`. It sends lists as one string: Gradio's page wraps every number of a list in a proxy and
    copies it, which takes seconds for the blocks of a million characters."""

    def __init__(self, value: Any = None, **options: Any):
        super().__init__("blocks", value, **options)

    def postprocess(self, value: dict[str, Any] | None) -> dict[str, Any] | None:
        lists = {name: item for name, item in (value or {}).items() if isinstance(item, list)}
        return {**value, **dict.fromkeys(lists), "lists": json.dumps(lists)} if value and lists else value


def _script(name: str) -> str:
    return (_FOLDER / f"{name}.js").read_text(encoding="utf-8")
