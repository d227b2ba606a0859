"""Chat exports -> turns, ``Name: text`` with a blank line between. Knows ChatGPT, Claude, Slack and plain lists.

Each shape is recognised by its own keys; JSON or CSV that is none of them stays the text that it is.
"""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

SPEAKERS = ("role", "author", "from", "sender", "speaker", "user", "username", "user_name", "name")
TEXTS = ("content", "text", "message", "body", "value")
LISTS = ("messages", "chat_messages", "conversation", "conversations")
_TITLES = ("title", "name")


def turns_of_json(text: str) -> str | None:
    """Turns of a JSON export, or None where it is none (or no JSON)."""
    try:
        return _join(_conversations(json.loads(text)))
    except (ValueError, RecursionError):
        return None


def turns_of_jsonl(text: str) -> str | None:
    """Turns of an export of one JSON value a line, or None where it is none."""
    try:
        values = [json.loads(line) for line in text.split("\n") if line.strip()]
        return _join(_conversations(values))
    except (ValueError, RecursionError):
        return None


def turns_of_csv(text: str) -> str | None:
    """Turns of a table with a column of speakers and one of texts, or None where it has none."""
    try:
        rows = list(csv.DictReader(io.StringIO(text), dialect=_dialect(text)))
    except csv.Error:
        return None
    return _join(["\n\n".join(filter(None, map(_turn, [{k.lower(): v for k, v in row.items() if k} for row in rows])))])


def _dialect(text: str) -> type[csv.Dialect] | csv.Dialect:
    return csv.excel_tab if "\t" in text.split("\n", 1)[0] else csv.excel


def _join(conversations: Any) -> str | None:
    found = [conversation for conversation in conversations if conversation]
    return "\n\n".join(found) + "\n" if found else None


def _conversations(value: Any) -> Iterator[str]:
    """Text of every conversation in `value`, with its title as a heading where it has one."""
    if isinstance(value, dict):
        yield _titled(value, _messages(value))
    elif isinstance(value, list):
        turns = [_turn(item) for item in value if isinstance(item, dict)]
        if turns and all(turns):
            yield "\n\n".join(turns)
        else:
            for item in value:
                yield from _conversations(item) if isinstance(item, dict) else ()


def _messages(conversation: dict[str, Any]) -> list[Any]:
    if isinstance(conversation.get("mapping"), dict):  # ChatGPT: a tree of messages
        nodes = [node.get("message") for node in conversation["mapping"].values() if isinstance(node, dict)]
        return sorted((n for n in nodes if isinstance(n, dict)), key=lambda n: n.get("create_time") or 0)
    return next((conversation[key] for key in LISTS if isinstance(conversation.get(key), list)), [])


def _titled(conversation: dict[str, Any], messages: list[Any]) -> str:
    turns = [turn for turn in (_turn(m) for m in messages if isinstance(m, dict)) if turn]
    title = next((conversation[key] for key in _TITLES if isinstance(conversation.get(key), str)), "")
    return "\n\n".join([*([f"# {title}"] if title and turns else []), *turns])


def _turn(message: dict[str, Any]) -> str:
    """``Name: text``, or nothing where the message has no speaker or no text."""
    speaker = next((_name(message[key]) for key in SPEAKERS if message.get(key)), "")
    text = next((_text(message[key]) for key in TEXTS if message.get(key)), "")
    return f"{speaker}: {text}" if speaker and text else ""


def _name(value: Any) -> str:
    if isinstance(value, dict):
        return next((value[key] for key in ("role", "name", "username") if isinstance(value.get(key), str)), "")
    return value.strip() if isinstance(value, str) else ""


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, dict):  # ChatGPT: {"content_type": "text", "parts": [...]}
        return _text(value.get("parts") or value.get("text"))
    if isinstance(value, list):
        return "\n".join(filter(None, map(_text, value)))
    return ""
