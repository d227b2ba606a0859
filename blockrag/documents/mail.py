"""E-mail and mailboxes: decoded headers and text, then the text of attachments that have a reader."""

import email
import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage

from blockrag.documents import markdown, media, readers
from blockrag.documents.document import Content, Limits
from blockrag.documents.html import body_text
from blockrag.documents.html_encoding import codec_of
from blockrag.documents.text import check_length, cleaned, decode_content
from blockrag.documents.tnef import SIGNATURE, unwrap
from blockrag.errors import DocumentError

MAX_DEPTH = 4
"""Messages inside messages that are read."""
MAX_PARTS = 500

_TEXTS = ("text/plain", "text/html")
_SHOWN = ("From", "To", "Cc", "Date")
_MESSAGE = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From [^\n]*\d{2}:\d{2}[^\n]*\n")
_QUOTES = re.compile(r"(>*)[ ]?(.*)", re.DOTALL)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)


def read(name: str, data: bytes, limits: Limits, ocr: bool = False) -> Content:
    """One message: its subject as a heading, who wrote when to whom, its text, its attachments; with `ocr`, scanned
    pages of attached PDFs by OCR."""
    notes: list[str] = []
    return Content(_joined([*_Reader(limits, ocr, notes).message(_parsed(data), 0)]), notes=tuple(notes))


def read_mailbox(name: str, data: bytes, limits: Limits, ocr: bool = False) -> Content:
    """Every message of a mailbox, in order; see `read`."""
    begins = [found.span() for found in _MESSAGE.finditer(data)]
    if not begins:
        return read(name, data, limits, ocr)
    notes: list[str] = []
    parts: list[str] = []
    n_chars, reader = 0, _Reader(limits, ocr, notes)
    for (_, start), (end, _) in zip(begins, [*begins[1:], (len(data), 0)], strict=True):
        before = len(parts)
        parts += reader.message(_parsed(_QUOTED_FROM.sub(rb"\1", data[start:end])), 0)
        n_chars += sum(map(len, parts[before:]))
        if n_chars > limits.max_chars:
            break  # refused with the length
    return Content(_joined(parts), notes=tuple(notes))


def _parsed(data: bytes) -> EmailMessage:
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


class _Reader:
    def __init__(self, limits: Limits, ocr: bool, notes: list[str]):
        self._limits, self._ocr, self._notes = limits, ocr, notes

    def message(self, message: EmailMessage, depth: int) -> Iterator[str]:
        """A message at a depth of messages inside messages."""
        yield markdown.heading(_header(message, "Subject") or "(no subject)", depth + 1)
        headers = [f"{key}: {value}" for key in _SHOWN if (value := _header(message, key))]
        if headers:
            yield "\n".join(headers)
        has_text = False
        for i, part in enumerate(_parts(message)):
            if i == MAX_PARTS:
                self._notes.append(f"Parts after the first {MAX_PARTS} of a message were left out.")
                return
            has_text = has_text or part.get_content_type() in _TEXTS
            yield from self._part(part, depth, has_text)

    def _part(self, part: EmailMessage, depth: int, has_text: bool) -> Iterator[str]:
        kind, filename = part.get_content_type(), _filename(part)
        if kind == "message/rfc822":
            inner = part.get_payload()
            if depth < MAX_DEPTH and isinstance(inner, list) and inner and isinstance(inner[0], EmailMessage):
                yield from self.message(inner[0], depth + 1)
            else:
                self._notes.append("A message inside the message was left out.")
        elif not filename and kind in _TEXTS:
            text, told = _text_of(part)
            self._notes += told
            yield (body_text(text) if kind == "text/html" else _unflowed(part, text)).strip("\n")
        elif kind not in ("application/pgp-signature", "application/pkcs7-signature", "text/x-vcard"):
            data = part.get_payload(decode=True)
            filename = filename or f"part.{part.get_content_subtype()}"
            if isinstance(data, bytes) and data.startswith(SIGNATURE):
                yield from self._wrapped(filename, data, depth, has_text)
            else:
                yield from self._attachment(filename, data if isinstance(data, bytes) else b"", depth)

    def _wrapped(self, filename: str, data: bytes, depth: int, has_text: bool) -> Iterator[str]:
        """Attachments in a `winmail.dat`, and the text of the message if no other part has it."""
        try:
            wrapped = unwrap(filename, data)
        except DocumentError as error:
            self._notes.append(f"The attachment {filename} was left out: {error.reason}.")
            return
        if wrapped.text and not has_text:
            yield from list(self._attachment(*wrapped.text, depth))[1:]
        if len(wrapped.attachments) > MAX_PARTS:
            self._notes.append(f"Parts after the first {MAX_PARTS} of {filename} were left out.")
        for name, inner in wrapped.attachments[:MAX_PARTS]:
            yield from self._attachment(_printable(name), inner, depth)

    def _attachment(self, filename: str, data: bytes, depth: int) -> Iterator[str]:
        try:
            if not data:
                raise DocumentError(filename, "it is empty")
            kind = media.media_type(filename, data)
            if kind in (media.EML, media.MBOX) and depth >= MAX_DEPTH:
                raise DocumentError(filename, "messages are nested too deeply")
            content = readers.load(kind, self._ocr)(filename, data, self._limits)
            check_length(filename, content.text, self._limits)
        except DocumentError as error:
            self._notes.append(f"The attachment {filename} was left out: {error.reason}.")
        except (ValueError, KeyError, TypeError, LookupError, ArithmeticError, AttributeError, OSError) as error:
            self._notes.append(f"The attachment {filename} was left out: it is damaged ({type(error).__name__}).")
        else:
            self._notes += (f"{filename}: {note}" for note in content.notes)
            yield markdown.heading(f"Attachment: {filename}", depth + 2)
            yield content.text.strip("\n")


def _parts(message: EmailMessage) -> Iterator[EmailMessage]:
    """Parts to read: of alternatives the plain one, or else the last one that is text."""
    kind = message.get_content_type()
    if kind == "message/rfc822" or not message.is_multipart():
        yield message
        return
    inner = [part for part in message.iter_parts() if isinstance(part, EmailMessage)]
    if kind == "multipart/alternative":
        plain = [part for part in inner if part.get_content_type() == "text/plain" and _text_of(part)[0].strip()]
        chosen = plain[0] if plain else inner[-1] if inner else None
        for part in inner:  # attachments beside a version of the text belong to all of them
            if part is chosen:
                yield from _parts(part)
            else:
                yield from (other for other in part.walk() if other.get_content_disposition() == "attachment")
        return
    for part in inner:
        yield from _parts(part)


def _unflowed(part: EmailMessage, text: str) -> str:
    """Text of the format "flowed" (RFC 3676) with the lines joined that a blank at their end goes on."""
    parameters = {key.lower(): str(value).lower() for key, value in part.get_params([]) or []}
    if parameters.get("format") != "flowed":
        return text
    lines: list[list[str]] = []
    goes_on, before = False, ""
    for line in text.split("\n"):
        quotes, body = _QUOTES.fullmatch(line).groups()  # type: ignore[union-attr]  # matches any line
        if goes_on and quotes == before:
            lines[-1].append(body)
        else:
            lines.append([f"{quotes} {body}" if quotes else body])
        goes_on, before = body.endswith(" ") and body != "-- ", quotes
        if goes_on and parameters.get("delsp") == "yes":
            lines[-1][-1] = lines[-1][-1][:-1]
    return "\n".join(map("".join, lines))


def _text_of(part: EmailMessage) -> tuple[str, tuple[str, ...]]:
    """The text of a part in the character set that it names, or else in the one that its bytes suggest."""
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return "", ()
    charset = str(part.get_content_charset() or "ascii")
    try:
        text = data.decode("ascii" if charset.endswith("ascii") else codec_of(charset))
        return cleaned("", text).text, ()
    except (LookupError, UnicodeDecodeError, DocumentError):
        pass  # a wrong name: the bytes decide
    try:
        content = decode_content("", data)
    except DocumentError:
        return data.decode("utf-8", "replace").replace("\0", ""), ("Some characters of the message are damaged.",)
    return content.text, content.notes


def _header(message: EmailMessage, key: str) -> str:
    raw = next((str(value) for name, value in message.raw_items() if name.lower() == key.lower()), "")
    try:
        if not raw.isascii():  # bytes without the encoding that mail prescribes
            raw = _raw_text(raw.encode("utf-8", "surrogateescape"), message.get_content_charset())
            return " ".join(str(email.policy.default.header_factory(key, " ".join(raw.split()))).split())
        return " ".join(str(message.get(key) or "").split())
    except (ValueError, IndexError, AttributeError, TypeError, LookupError):  # a header that its parser cannot take
        return ""


def _raw_text(data: bytes, charset: str | None) -> str:
    """Bytes of a header as UTF-8, or else in the character set of the message."""
    for encoding in ("utf-8", codec_of(charset or "")):
        try:
            return data.decode(encoding)
        except (LookupError, UnicodeDecodeError):
            continue
    return data.decode("cp1252", "replace")


def _filename(part: EmailMessage) -> str:
    try:
        name = part.get_filename() or ""
    except (ValueError, IndexError, AttributeError, TypeError, LookupError):
        name = ""
    return _printable(name)


def _printable(name: str) -> str:
    """The last part of a path, without control characters."""
    return "".join(c for c in name.replace("\\", "/").rpartition("/")[2] if c.isprintable())[:200]


def _joined(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part.strip()) + "\n"
