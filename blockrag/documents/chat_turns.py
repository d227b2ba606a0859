"""One message of a chat export as text: ``[time] Name: text``, with all that it carries besides."""

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

SPEAKERS = ("user_profile", "role", "author", "from", "sender", "speaker", "user", "username", "user_name")
"""Keys of the speaker, most specific first: Slack's ``user`` is an id, its ``user_profile`` has the name."""

TEXTS = ("content", "text", "message", "body", "value", "parts")
TIMES = ("timestamp", "create_time", "created_at", "date", "ts", "time", "datetime", "sent_at")
_NAMES = ("role", "display_name", "real_name", "name", "username")
_FILES = ("fileName", "file_name", "filename", "name", "title")
_CARD = ("pretext", "author_name", "title", "name", "description", "text", "value", "extracted_content")
"""Texts of an attachment or an embed, in the order shown."""
_INNER = ("parts", "text", "content", "result", "thinking", "thoughts", "user_profile", "user_instructions", "elements")
_CONTACT = ("first_name", "last_name", "phone_number")
_CARD_KEYS = ("text", "description", "pretext", "author", "footer")
_LEAST_TIME, _MOST_TIME = 946_684_800, 4_102_444_800
"""From 2000 to 2100, seconds since 1970; other numbers are no times."""
_MAX_DEPTH = 20
_CITATION = re.compile("[ \t]*\ue200[^\ue201\n]{0,500}\ue201|[\ue200-\ue20f]|【\\d+(?::\\d+)?†[^】\n]{0,100}】")
_SLACK_PARTS = {"user": ("<@", "user_id", ">"), "link": ("<", "url", ">"), "emoji": (":", "name", ":"),
                "channel": ("<#", "channel_id", ">")}  # fmt: skip
"""Parts of a Slack block, as its text has them."""
_SLACK = re.compile(r"<([@#!]?)([^<>|\n]{1,2000})(?:\|([^<>\n]{0,500}))?>")


def turn(message: dict[str, Any], names: dict[str, str]) -> str:
    """A message's turn; empty for one that carries nothing to read.

    Parameters
    ----------
    message : dict
    names : dict
        Names of the people by id, see `names_by_id`.
    """
    metadata = message.get("metadata")
    if isinstance(metadata, dict) and metadata.get("is_visually_hidden_from_conversation"):
        return ""
    said = next((text for key in TEXTS if (text := text_of(message.get(key)).strip())), "")
    if is_slack(message):
        said = slack_text(said or text_of(message.get("blocks")).strip(), names)
    body = "\n".join(filter(None, (_CITATION.sub("", said).strip(), *_carried(message, names))))
    if not body:
        return ""
    who = speaker(message)
    return time_of(message) + ": ".join(filter(None, (names.get(who, who), body)))


def speaker(message: dict[str, Any]) -> str:
    """The sender of a message, as named in the export."""
    return next((name for key in SPEAKERS if (name := _name(message.get(key)))), "")


def names_by_id(messages: list[dict[str, Any]]) -> dict[str, str]:
    """Names of people by the ids that other messages use for them (Slack)."""
    found = {}
    for message in messages:
        user, name = message.get("user"), _name(message.get("user_profile"))
        if isinstance(user, str) and name:
            found[user] = name
    return found


def time_of(message: dict[str, Any]) -> str:
    """``[2024-03-01 10:00] ``, or nothing if the message tells no time."""
    return next((f"[{time}] " for key in TIMES if (time := written_time(message.get(key)))), "")


def written_time(value: Any) -> str:
    """A time as ``2024-03-01 10:00``, UTC if it is a number; empty if it is none."""
    if isinstance(value, str):
        iso = re.match(r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}))?", value)
        if iso:
            return " ".join(filter(None, iso.groups()))
        value = float(value) if re.fullmatch(r"\d{9,13}(?:\.\d{1,9})?", value) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    seconds = value / 1000 if value > _MOST_TIME else value
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}" if _LEAST_TIME < seconds < _MOST_TIME else ""


def is_slack(message: dict[str, Any]) -> bool:
    """Whether a message is Slack's, whose texts have mark-up of their own."""
    return message.get("type") == "message" and "ts" in message


def slack_text(text: str, names: dict[str, str]) -> str:
    """Slack's mark-up as its reader sees it: names for ids, links with their labels, ``&`` ``<`` ``>``."""

    def shown(found: re.Match[str]) -> str:
        sign, target, label = found[1], found[2], found[3]
        if sign:
            return ("#" if sign == "#" else "@") + (label or names.get(target, target.partition("^")[0]))
        return f"{label} ({target})" if label and label != target else target

    return html.unescape(_SLACK.sub(shown, text))


def text_of(value: Any, depth: int = 0) -> str:
    """The text of a message's field: a string, a list of parts, or a part by its type."""
    if isinstance(value, str):
        return value
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(value, list):
        inline = {type(part) for part in value} >= {str, dict}  # Telegram: strings with links between
        is_telegram = inline and not any(isinstance(part, dict) and "content_type" in part for part in value)
        return ("" if is_telegram else "\n").join(filter(None, (text_of(part, depth + 1) for part in value)))
    if not isinstance(value, dict):
        return ""
    kind = str(value.get("type") or value.get("content_type") or "")
    if kind == "tool_use":
        return _tool(value)
    if kind.startswith("rich_text_") and kind != "rich_text_list" and isinstance(value.get("elements"), list):
        return "".join(text_of(part, depth + 1) for part in value["elements"])
    if kind in _SLACK_PARTS and isinstance(value.get(_SLACK_PARTS[kind][1]), str):
        before, key, after = _SLACK_PARTS[kind]
        label = f"|{value['text']}" if kind == "link" and isinstance(value.get("text"), str) else ""
        return f"{before}{value[key]}{label}{after}"
    if kind == "section" and isinstance(value.get("fields"), list):
        return "\n".join(filter(None, (text_of(part, depth + 1) for part in (value.get("text"), *value["fields"]))))
    if "image" in kind and not isinstance(value.get("text"), str):
        return "[image]"
    if kind == "user_editable_context":
        return "\n".join(
            filter(None, (text_of(value.get(key), depth + 1) for key in ("user_profile", "user_instructions")))
        )
    if kind == "" and "summary" in value and isinstance(value.get("content"), str):  # one of ChatGPT's thoughts
        return value["content"]
    return next((text for key in _INNER if (text := text_of(value.get(key), depth + 1)).strip()), "")


def _tool(value: dict[str, Any]) -> str:
    """What a tool was given: the strings of its input, such as an artifact's title and content."""
    given = value.get("input")
    texts = [text for text in given.values() if isinstance(text, str)] if isinstance(given, dict) else []
    name = value.get("name") if isinstance(value.get("name"), str) else "tool"
    return "\n".join([f"[{name}]", *texts]) if texts else ""


def _carried(message: dict[str, Any], names: dict[str, str]) -> Iterator[str]:
    """Attachments, embeds, file names, calls of tools, polls and notices of a message."""
    metadata = message.get("metadata")
    lists = [message.get(key) for key in ("attachments", "embeds", "files", "files_v2", "stickers")]
    lists += [metadata.get("attachments")] if isinstance(metadata, dict) else []
    for items in lists:
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict):
                text = _card(item)
                yield slack_text(text, names) if is_slack(message) else text
    for key in ("file", "photo"):  # Telegram
        if isinstance(message.get(key), str):
            yield f"[file: {message.get('file_name') or message[key].rpartition('/')[2]}]"
    if isinstance(message.get("sticker_emoji"), str):
        yield f"[sticker {message['sticker_emoji']}]"
    if isinstance(message.get("forwarded_from"), str):
        yield f"[forwarded from {message['forwarded_from']}]"
    contact = message.get("contact_information")
    if isinstance(contact, dict):
        yield " ".join(["[contact]", *(text for key in _CONTACT if (text := text_of(contact.get(key)).strip()))])
    place = message.get("location_information")
    if isinstance(place, dict):
        yield f"[location {place.get('latitude')}, {place.get('longitude')}]"
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict) and isinstance(call.get("function"), dict):
            yield f"[{text_of(call['function'].get('name'))}]\n{text_of(call['function'].get('arguments'))}".strip()
    poll = message.get("poll")
    if isinstance(poll, dict):
        answers = [text_of(answer) for answer in poll.get("answers") or [] if isinstance(answer, dict)]
        yield "\n- ".join([text_of(poll.get("question")), *answers])
    if message.get("type") == "service" and isinstance(message.get("action"), str):
        members = message.get("members")
        whom = ", ".join(filter(None, map(text_of, members))) if isinstance(members, list) else ""
        said = (message.get("actor"), message["action"].replace("_", " "), whom, message.get("title"))
        yield " ".join(part for part in said if isinstance(part, str) and part)


def _card(item: dict[str, Any]) -> str:
    """An attachment or an embed: the file's name, then its texts."""
    is_file = any(key in item for key in ("fileName", "file_name", "filename", "mimetype", "mimeType", "url_private"))
    file = next((item[key] for key in _FILES if isinstance(item.get(key), str) and item[key]), "")
    is_card = any(item.get(key) for key in _CARD_KEYS)
    texts = [f"[file: {file}]"] if file and (is_file or not is_card) else []
    texts += [
        text
        for key in _CARD
        if (text := text_of(item.get(key)).strip()) and text != file or (key == "title" and is_card and text)
    ]
    texts += [text for key in ("author", "footer") if (text := _aside(item.get(key)))]
    for field in item.get("fields") or []:
        if isinstance(field, dict):
            texts.append(": ".join(filter(None, (text_of(field.get(key)) for key in ("title", "name", "value")))))
    fallback = text_of(item.get("fallback")).strip()
    return "\n".join(dict.fromkeys(texts)) or fallback


def _aside(value: Any) -> str:
    """The author or the footer of an embed."""
    return text_of(value.get("name") or value.get("text") if isinstance(value, dict) else value).strip()


def _name(value: Any) -> str:
    if isinstance(value, dict):
        return next((name for key in _NAMES if (name := _name(value.get(key)))), "")
    return " ".join(value.split()) if isinstance(value, str) else ""
