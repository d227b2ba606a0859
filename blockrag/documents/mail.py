"""E-mail and mailboxes: decoded headers and text, then the text of attachments that have a reader."""

import email
import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage

from blockrag.documents import markdown, media, readers
from blockrag.documents.document import Content, Limits
from blockrag.documents.html import body_text
from blockrag.documents.text import check_length, cleaned, decode_content
from blockrag.errors import DocumentError

MAX_DEPTH = 4
"""Messages inside messages that are read."""
MAX_PARTS = 500

_SHOWN = ("From", "To", "Cc", "Date")
_MESSAGE = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From [^\n]*\d{2}:\d{2}[^\n]*\n")
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)


def read(name: str, data: bytes, limits: Limits) -> Content:
    """One message: its subject as a heading, who wrote when to whom, its text, its attachments."""
    notes: list[str] = []
    parts = list(_message(_parsed(data), name, limits, notes, 0))
    return Content(_joined(parts), notes=tuple(notes))


def read_mailbox(name: str, data: bytes, limits: Limits) -> Content:
    """Every message of a mailbox, in order."""
    begins = [found.span() for found in _MESSAGE.finditer(data)]
    if not begins:
        return read(name, data, limits)
    notes: list[str] = []
    parts: list[str] = []
    n_chars = 0
    for (_, start), (end, _) in zip(begins, [*begins[1:], (len(data), 0)], strict=True):
        message = _parsed(_QUOTED_FROM.sub(rb"\1", data[start:end]))
        parts += _message(message, name, limits, notes, 0)
        n_chars += sum(map(len, parts[-2:]))
        if n_chars > limits.max_chars:
            break  # refused with the length
    return Content(_joined(parts), notes=tuple(notes))


def _parsed(data: bytes) -> EmailMessage:
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def _message(message: EmailMessage, name: str, limits: Limits, notes: list[str], depth: int) -> Iterator[str]:
    subject = _header(message, "Subject")
    yield markdown.heading(subject or "(no subject)", depth + 1)
    headers = [f"{key}: {value}" for key in _SHOWN if (value := _header(message, key))]
    if headers:
        yield "\n".join(headers)
    for i, part in enumerate(_parts(message)):
        if i == MAX_PARTS:
            notes.append(f"Parts after the first {MAX_PARTS} of a message were left out.")
            return
        yield from _part(part, name, limits, notes, depth)


def _parts(message: EmailMessage) -> Iterator[EmailMessage]:
    """Parts to read: of alternatives the plain one, or else the last one that is text."""
    kind = message.get_content_type()
    if kind == "message/rfc822" or not message.is_multipart():
        yield message
        return
    inner = [part for part in message.iter_parts() if isinstance(part, EmailMessage)]
    if kind == "multipart/alternative":
        plain = [part for part in inner if part.get_content_type() == "text/plain" and _text_of(part)[0].strip()]
        inner = plain[:1] or inner[-1:]
    for part in inner:
        yield from _parts(part)


def _part(part: EmailMessage, name: str, limits: Limits, notes: list[str], depth: int) -> Iterator[str]:
    kind, filename = part.get_content_type(), _filename(part)
    if kind == "message/rfc822":
        inner = part.get_payload()
        if depth < MAX_DEPTH and isinstance(inner, list) and inner and isinstance(inner[0], EmailMessage):
            yield from _message(inner[0], name, limits, notes, depth + 1)
        else:
            notes.append("A message inside the message was left out.")
    elif not filename and kind in ("text/plain", "text/html"):
        text, told = _text_of(part)
        notes += told
        yield (body_text(text) if kind == "text/html" else text).strip("\n")
    elif kind not in ("application/pgp-signature", "application/pkcs7-signature", "text/x-vcard"):
        yield from _attachment(part, filename or f"part.{part.get_content_subtype()}", limits, notes, depth)


def _attachment(part: EmailMessage, filename: str, limits: Limits, notes: list[str], depth: int) -> Iterator[str]:
    data = part.get_payload(decode=True)
    try:
        if not isinstance(data, bytes) or not data:
            raise DocumentError(filename, "it is empty")
        kind = media.media_type(filename, data)
        if kind in (media.EML, media.MBOX) and depth >= MAX_DEPTH:
            raise DocumentError(filename, "messages are nested too deeply")
        content = readers.load(kind)(filename, data, limits)
        check_length(filename, content.text, limits)
    except DocumentError as error:
        notes.append(f"The attachment {filename} was left out: {error.reason}.")
    except (ValueError, KeyError, TypeError, LookupError, ArithmeticError, AttributeError, OSError) as error:
        notes.append(f"The attachment {filename} was left out: it is damaged ({type(error).__name__}).")
    else:
        notes += (f"{filename}: {note}" for note in content.notes)
        yield markdown.heading(f"Attachment: {filename}", depth + 2)
        yield content.text.strip("\n")


def _text_of(part: EmailMessage) -> tuple[str, tuple[str, ...]]:
    """The text of a part in the character set that it names, or else in the one that its bytes suggest."""
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return "", ()
    charset = str(part.get_content_charset() or "ascii")
    try:
        text = data.decode({"gb2312": "gb18030", "iso-8859-1": "cp1252"}.get(charset, charset))
        return cleaned("", text).text, ()
    except (LookupError, UnicodeDecodeError, DocumentError):
        pass  # a wrong name: the bytes decide
    try:
        content = decode_content("", data)
    except DocumentError:
        return data.decode("utf-8", "replace").replace("\0", ""), ("Some characters of the message are damaged.",)
    return content.text, content.notes


def _header(message: EmailMessage, key: str) -> str:
    try:
        return " ".join(str(message.get(key) or "").split())
    except (ValueError, IndexError, AttributeError, TypeError, LookupError):  # a header that its parser cannot take
        return ""


def _filename(part: EmailMessage) -> str:
    try:
        name = part.get_filename() or ""
    except (ValueError, IndexError, AttributeError, TypeError, LookupError):
        name = ""
    return "".join(c for c in name.replace("\\", "/").rpartition("/")[2] if c.isprintable())[:200]


def _joined(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part.strip()) + "\n"
