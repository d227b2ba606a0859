"""Convert chat exports (ChatGPT, Claude, Slack, plain lists) to turns, separated by blank lines.

Each format is recognised by its keys. Any other JSON or CSV is left unchanged.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from blockrag.documents.chat_turns import SPEAKERS, TEXTS, TIMES, names_by_id, speaker, turn, written_time
from blockrag.documents.document import Content, Limits
from blockrag.documents.text import decode_content

LISTS = ("messages", "chat_messages", "conversation", "conversations")
_TITLES = ("title", "name")

_CSV_SPEAKERS = (*SPEAKERS, "name")
_CSV_BESIDE = {
    "", "id", "message_id", "conversation_id", "index", "time", "timestamp", "ts", "date", "datetime", "created_at",
    "channel", "thread",
}  # fmt: skip
"""Columns that a table of turns may lose. With any other column it stays a table, so that nothing is lost."""


def read_json(name: str, data: bytes, limits: Limits) -> Content:
    """Turns of a chat export, or the decoded text of any other file."""
    return _read(name, data, turns_of_json)


def read_jsonl(name: str, data: bytes, limits: Limits) -> Content:
    """See `read_json`; one JSON value per line."""
    return _read(name, data, turns_of_jsonl)


def read_csv(name: str, data: bytes, limits: Limits) -> Content:
    """See `read_json`; a table with a speaker and a text column."""
    return _read(name, data, turns_of_csv)


def turns_of_json(text: str) -> str | None:
    """Turns of a JSON export, or None if the text is not one."""
    try:
        return _joined(_parsed(text))
    except (ValueError, RecursionError):
        return None


def turns_of_jsonl(text: str) -> str | None:
    """Turns of an export with one JSON value per line, or None if the text is not one."""
    try:
        return _joined([_parsed(line) for line in text.split("\n") if line.strip()])
    except (ValueError, RecursionError):
        return None


def turns_of_csv(text: str) -> str | None:
    """Turns of a table with a speaker column, a text column and otherwise only times and ids, or None."""
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=header.count))
    try:
        columns = [column.strip().lower() for column in next(reader)]
        rows = [row for row in reader if row]
    except (csv.Error, StopIteration):
        return None
    who = next((columns.index(key) for key in _CSV_SPEAKERS if key in columns), None)
    content = next((columns.index(key) for key in TEXTS if key in columns), None)
    if who is None or content is None or any(len(row) != len(columns) for row in rows):
        return None
    if not {*columns} - {columns[who], columns[content]} <= _CSV_BESIDE:
        return None
    turns = [
        f"{_stamp(columns, row)}{row[who].strip()}: {row[content].strip()}" for row in rows if row[content].strip()
    ]
    return "\n\n".join(turns) + "\n" if turns else None


def _read(name: str, data: bytes, turns: Callable[[str], str | None]) -> Content:
    content = decode_content(name, data)
    return replace(content, text=turns(content.text) or content.text)


def _parsed(text: str) -> Any:
    return json.loads(text, parse_int=_whole)


def _whole(digits: str) -> int | str:
    """A number; one of thousands of digits, which Python refuses to convert, stays text."""
    return int(digits) if len(digits) < 400 else digits


def _stamp(columns: list[str], row: list[str]) -> str:
    """The time of a row, from the first column that has one."""
    times = (written_time(cell) for column, cell in zip(columns, row, strict=True) if column in TIMES)
    return next((f"[{time}] " for time in times if time), "")


def _joined(value: Any) -> str | None:
    parts = list(_conversations(value))
    return "\n\n".join(parts) + "\n" if parts else None


def _conversations(value: Any) -> Iterator[str]:
    """Titles and turns of every conversation in `value`; nothing for other data."""
    if isinstance(value, dict):
        yield from _titled(value)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        if _are_messages(value):
            names = names_by_id(value)
            yield from filter(None, (turn(message, names) for message in value))
        elif all(_messages(item) is not None for item in value):
            for item in value:
                yield from _titled(item)


def _titled(conversation: dict[str, Any]) -> Iterator[str]:
    """The turns of a conversation, nested ones included, below its title as a heading."""
    found = list(_conversations(_messages(conversation)))
    title = next((conversation[key] for key in _TITLES if isinstance(conversation.get(key), str)), "").strip()
    if found and title:
        yield f"# {title}"
    yield from found


def _messages(conversation: dict[str, Any]) -> list[Any] | None:
    if isinstance(conversation.get("mapping"), dict):
        return _branch(conversation["mapping"], conversation.get("current_node"))
    chats = conversation.get("chats")
    if isinstance(chats, dict) and isinstance(chats.get("list"), list):  # Telegram, all chats
        return chats["list"]
    return next((conversation[key] for key in LISTS if isinstance(conversation.get(key), list)), None)


def _branch(mapping: dict[str, Any], node: Any) -> list[dict[str, Any]]:
    """Messages of a ChatGPT tree: the branch of the current node, or all by time if there is none."""
    entries = {id: entry for id, entry in mapping.items() if isinstance(entry, dict)}
    if not isinstance(node, str) or node not in entries:
        messages = [entry["message"] for entry in entries.values() if isinstance(entry.get("message"), dict)]
        return sorted(messages, key=_time)
    branch = []
    while isinstance(node, str) and node in entries:
        entry = entries.pop(node)  # removed, so that a cycle ends
        branch.append(entry.get("message"))
        node = entry.get("parent")
    return [message for message in reversed(branch) if isinstance(message, dict)]


def _time(message: dict[str, Any]) -> float:
    time = message.get("create_time")
    return time if isinstance(time, int | float) else 0.0


def _are_messages(items: list[dict[str, Any]]) -> bool:
    """Whether most items have a speaker and a text field, which may be empty (a picture); the rest are notices."""
    return 2 * sum(bool(speaker(item)) and any(key in item for key in TEXTS) for item in items) > len(items)
