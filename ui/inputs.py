"""Checks what a browser, or a program in its place, sends to the functions of the page, before any of them runs."""

import math
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.components.api_component import Api
from gradio.processing_utils import check_all_files_in_cache
from gradio_client.utils import is_file_obj, is_http_url_like

from blockrag import arguments
from blockrag.errors import ArgumentError

MAX_TEXT, MAX_CHOICE = 4_000_000, 1_000
"""Characters of a text box, and of what is chosen in a menu."""
MAX_NUMBER = 1 << 53
MAX_CHOICES = 10_000
"""Documents that are chosen at once: as many as a collection has."""

_EVENT: dict[str, Any] = {
    **dict.fromkeys(("char", "to", "by", "turn", "number", "rating", "start", "index"), 0),
    **dict.fromkeys(("doc", "question", "mode", "action", "statement", "value"), ""),
    "add": False,
    "docs": (),
}
"""What events tell (see `components/payloads.py`), and what is taken where they do not."""


class CheckedBlocks(gr.Blocks):
    """A page whose functions get arguments of the types of their components alone, and are told why not."""

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        """See `gr.Blocks`."""
        name = block_fn.api_name or "this function"
        if len(inputs) < len(block_fn.inputs):
            refuse(f"{name} takes {len(block_fn.inputs)} arguments, and {len(inputs)} were given")
        try:
            for number, component in enumerate(block_fn.inputs):
                inputs[number] = checked(component, inputs[number])
        except ArgumentError as error:
            refuse(str(error))

    async def process_api(self, *given: Any, event_data: gr.EventData | None = None, **options: Any) -> dict[str, Any]:
        """See `gr.Blocks`."""
        if event_data is not None:
            try:
                event_data._data = event(event_data._data)
            except ArgumentError as error:
                refuse(str(error))
        return await super().process_api(*given, event_data=event_data, **options)


def refuse(reason: str) -> None:
    """Raise the error that Gradio shows."""
    raise gr.Error(reason, print_exception=False)


def event(data: Any) -> dict[str, Any]:
    """Return what an event tells, complete. Raises ArgumentError."""
    if not isinstance(data, dict | None):
        raise ArgumentError(f"the event is {arguments.shown(data)}; give an object")
    found = dict(_EVENT)
    for name, default in _EVENT.items():
        if (value := (data or {}).get(name)) is None:
            continue
        if isinstance(default, bool):
            found[name] = bool(value)
        elif isinstance(default, tuple):
            found[name] = arguments.texts(name, value)[:MAX_CHOICES]
        elif isinstance(default, int):
            found[name] = arguments.whole(name, value, -MAX_NUMBER, MAX_NUMBER)
        else:
            found[name] = arguments.text(name, value, MAX_TEXT if name == "question" else MAX_TEXT >> 4)
    return found


def checked(component: Any, value: Any) -> Any:
    """Return a component's value, "" of an empty text box. Raises ArgumentError if it cannot have this value."""
    if isinstance(component, gr.State):
        return value  # the server's own
    if isinstance(component, Api):  # calls check theirs; Gradio would fetch what an object of a file names
        if isinstance(value, dict) or isinstance(value, list) and any(isinstance(e, dict | list) for e in value):
            raise ArgumentError(f"an argument is {arguments.shown(value)}; no call takes objects")
        return value
    name = component.elem_id or component.get_block_name()
    if isinstance(component, gr.Textbox) and value is None:
        return ""
    if value is None and not isinstance(component, gr.Number | gr.Dropdown | gr.BrowserState):
        raise ArgumentError(f"{name} has no value")
    for kind, check in _CHECKS.items():
        if isinstance(component, kind):
            if value is not None:
                check(component, name, value)
            return value
    raise ArgumentError(f"{name} takes no value")


def _text(component: Any, name: str, value: Any) -> None:
    arguments.text(name, value, MAX_TEXT)


def _number(component: Any, name: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or abs(value) > MAX_NUMBER:
        raise ArgumentError(f"{name} is {arguments.shown(value)}; give a number")
    low, high = component.minimum, component.maximum
    if low is not None and value < low or high is not None and value > high:
        raise ArgumentError(f"{name} is {value}; give a number from {low} to {high}")


def _switch(component: Any, name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} is {arguments.shown(value)}; give true or false")


def _file(component: Any, name: str, value: Any) -> None:
    files = value if isinstance(value, list) else [value]
    if not all(is_file_obj(file) and not is_http_url_like(file["path"]) for file in files):
        raise ArgumentError(f"{name} is {arguments.shown(value)}; give an uploaded file")
    try:
        component.data_model.model_validate(value)
        check_all_files_in_cache(value)
    except (ValueError, gr.Error) as error:
        raise ArgumentError(f"{name} is no uploaded file") from error


def _one(component: Any, name: str, value: Any) -> None:
    if isinstance(value, int) and not getattr(component, "allow_custom_value", False):
        arguments.whole(name, value, -MAX_NUMBER, MAX_NUMBER)
    elif "\0" in arguments.text(name, value, MAX_CHOICE):
        raise ArgumentError(f"{name} has a character that no choice has")


def _known(component: Any, name: str, value: Any) -> None:
    arguments.one_of(name, value, [choice for _, choice in component.choices])


def _visitor(component: Any, name: str, value: Any) -> None:
    """A few short values under short names."""
    if not isinstance(value, dict) or len(value) > 8:
        raise ArgumentError(f"{name} is {arguments.shown(value)}; give an object of a few values")
    for key, each in value.items():
        arguments.text("a name", key, MAX_CHOICE)
        if each is not None:
            _one(component, key, each)


_CHECKS: dict[type, Callable[[Any, str, Any], None]] = {
    gr.File: _file, gr.UploadButton: _file, gr.BrowserState: _visitor, gr.Textbox: _text, gr.Slider: _number,
    gr.Number: _number, gr.Checkbox: _switch, gr.Radio: _known, gr.Dropdown: _one,
}  # fmt: skip
