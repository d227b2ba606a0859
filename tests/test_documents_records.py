"""E-mail, mailboxes, notebooks, subtitles."""

import json
import random
import struct
from email.message import EmailMessage

import pytest

from blockrag.documents import load, mail, tnef
from blockrag.errors import DocumentError
from tests.document_files import FIELD, word


def message(subject: str = "Brücke", body: str = "Die Brücke öffnet.") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "Ida <i@example.org>", "Per <p@example.org>", subject
    made.set_content(body)
    return made


def test_a_message_of_the_field_is_decoded():
    text = load(FIELD / "c12a_base64.eml").text
    assert text.startswith("# Verspätung Träger\n") and "From: Lager <l@example.org>" in text
    assert "Die Lieferung verspätet sich bis Donnerstag.\nBitte den Kran für 9 Uhr bestellen.\n" in text


def test_alternatives_are_read_once_and_html_as_text():
    both = message()
    both.add_alternative("<p>Die <b>HTML</b>-Fassung</p>", subtype="html")
    assert "HTML" not in load(bytes(both), "a.eml").text
    alone = EmailMessage()
    alone["Subject"] = "x"
    alone.set_content("<h1>Kopf</h1><p hidden>versteckt</p><p>Text</p>", subtype="html")
    assert load(bytes(alone), "a.eml").text == "# x\n\n# Kopf\n\nText\n"


def test_attachments_with_a_reader_are_read_and_others_named():
    sent = message()
    sent.add_attachment(word(), maintype="application", subtype="octet-stream", filename="../harbour.docx")
    sent.add_attachment(b"\x89PNG\r\n\x1a\n" + b"\0" * 50, maintype="image", subtype="png", filename="map.png")
    sent.add_attachment(message("Innen", "Im Innern."), filename="inner.eml")
    document = load(bytes(sent), "a.eml")
    assert "## Attachment: harbour.docx" in document.text and "Ships come in at high tide." in document.text
    assert "# Innen" in document.text and "Im Innern." in document.text
    assert any("map.png was left out" in note for note in document.notes)


def test_messages_in_messages_end():
    nested = message()
    for _ in range(10):
        outer = message()
        outer.add_attachment(nested)
        nested = outer
    document = load(bytes(nested), "a.eml")
    assert document.text.count("Die Brücke") == 1 + mail.MAX_DEPTH
    assert any("left out" in note for note in document.notes)


def test_a_charset_that_is_wrong_or_unknown_does_no_harm():
    head = b"Subject: x\nContent-Type: text/plain; charset=%s\nContent-Transfer-Encoding: 8bit\n\n"
    for charset in (b"utf-8", b"nonsense", b"x-\xff"):
        text = load(head % charset + "Größere Mengen müssen früher".encode("cp1252"), "a.eml").text
        assert "Größere Mengen müssen früher" in text


def test_every_message_of_a_mailbox():
    box = b"From a@b Mon Mar  4 10:00:00 2024\nSubject: One\n\n>From here on.\n\nFrom a@b Tue Mar  5 10:00:00 2024\nSubject: Two\n\nLast.\n"
    assert load(box, "a.mbox").text == "# One\n\nFrom here on.\n\n# Two\n\nLast.\n"
    assert load(box.replace(b"\n", b"\r\n"), "a.mbox").text == "# One\n\nFrom here on.\n\n# Two\n\nLast.\n"


def test_no_encoding_is_named_for_a_message():
    with pytest.raises(DocumentError, match="names its own"):
        load(bytes(message()), "a.eml", encoding="cp1252")


def notebook(*cells: dict) -> bytes:
    return json.dumps({"nbformat": 4, "cells": cells, "metadata": {"kernelspec": {"language": "R"}}}).encode()


def code(source: str, *outputs: dict) -> dict:
    return {"cell_type": "code", "source": source.splitlines(keepends=True), "outputs": outputs}


def test_a_notebook_has_text_code_and_outputs():
    stream = {"output_type": "stream", "text": ["24", ".8\n"]}
    picture = {
        "output_type": "display_data",
        "data": {"image/png": "iVBORw0KGgo" * 99, "text/plain": "<Figure size 2x2>"},
    }
    error = {"output_type": "error", "traceback": ["\x1b[31mValueError\x1b[0m: x"]}
    table = {"output_type": "execute_result", "data": {"text/html": "<table><tr><td>1<td>2</table>"}}
    markdown = {"cell_type": "markdown", "source": "# Tide\n![a](attachment:x.png)"}
    document = load(notebook(markdown, code("a <- 1\n", stream), code("b", picture, error, table)), "a.ipynb")
    assert document.text == (
        "# Tide\n[a]\n\n```r\na <- 1\n```\n\nOutput:\n```\n24.8\n```\n\n```r\nb\n```\n\n"
        "Output:\n```\nValueError: x\n```\n\nOutput:\n```\n| 1 | 2 |\n```\n"
    )
    assert document.notes == ("Outputs of the type image/png were left out: 1.",)


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"cells": 3}', b'{"a": 1}'])
def test_what_is_no_notebook_says_so(data):
    with pytest.raises(DocumentError, match="not a notebook"):
        load(data, "a.ipynb")


@pytest.mark.parametrize(
    "data", [b'{"cells": [3, null, {"cell_type": 1}, {"cell_type": "code", "outputs": [[]], "source": "x"}]}']
)
def test_odd_cells_do_no_harm(data):
    assert "x" in load(data, "a.ipynb").text


def test_cues_are_lines_without_tags():
    text = load(FIELD / "c25b.vtt").text
    assert text.startswith("[0:00:00] Ida: and the tide 0\n[0:00:02] Ida: and the tide 2\n")
    text = load(FIELD / "c25a.srt").text
    assert text.startswith("[0:00:03] over the flats and the men\n[0:00:06] men wait") and "-->" not in text


def test_cues_of_other_shapes():
    srt = "\ufeff1\n00:59:58,000 --> 00:59:59,000 X1:1\n<i>Two</i>\n{\\an8}lines &amp; 3\n\n2\n01:00:00,000 --> 01:00:01,000\n5\n"
    assert load(srt.encode(), "a.srt").text == "[0:59:58] Two lines & 3\n[1:00:00] 5\n"
    vtt = "WEBVTT\n\nSTYLE\n::cue {}\n\nNOTE x\n\nintro\n00:01.000 --> 00:02.000\nA\n\nNOTE y\n\n00:03.000 --> 00:04.000\nB < C\n"
    assert load(vtt.encode(), "a.vtt").text == "[0:00:01] A\n[0:00:03] B < C\n"
    assert load(b"no cues at all", "a.srt").text == "no cues at all"


def wrapped(attachments: dict[str, bytes], rtf: bytes = b"") -> bytes:
    """A `winmail.dat` in code page 1251."""

    def attribute(level: int, number: int, value: bytes) -> bytes:
        return struct.pack("<BHHI", level, number, 6, len(value)) + value + struct.pack("<H", sum(value) & 0xFFFF)

    def properties(*found: tuple[int, int, bytes]) -> bytes:
        packed = struct.pack("<I", len(found) + 2) + struct.pack("<HHI", 3, 0x0E20, 7)
        packed += struct.pack("<HH16sIIHxxI", 0x1E, 0x8001, bytes(16), 1, 2, 97, 1) + struct.pack("<I4s", 2, b"x")
        for kind, number, value in found:
            packed += struct.pack("<HHII", kind, number, 1, len(value)) + value + bytes(-len(value) % 4)
        return packed

    data = tnef.SIGNATURE + b"\0\0" + attribute(1, 0x9007, struct.pack("<II", 1251, 0))
    if rtf:
        data += attribute(1, 0x9003, properties((0x102, 0x1009, rtf)))
    for name, content in attachments.items():
        data += attribute(2, 0x9002, bytes(14)) + attribute(2, 0x8010, "~СМЕТА.CSV".encode("cp1251") + b"\0")
        data += attribute(2, 0x800F, content)
        data += attribute(2, 0x9005, properties((0x1F, 0x3707, f"{name}\0".encode("utf-16-le"))))
    return data


HELLO = bytes.fromhex(
    "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
)
"""The example of [MS-OXRTFCP]: {\\rtf1\\ansi\\ansicpg1252\\pard hello world}."""


def test_attachments_in_a_winmail_dat_are_read():
    data = wrapped({"Смета на май.csv": "имя,цена\nАлда,12\n".encode(), "../harbour.docx": word(), "x.bin": b"\0\1"})
    sent = message()
    sent.add_attachment(data, maintype="application", subtype="ms-tnef", filename="winmail.dat")
    document = load(bytes(sent), "a.eml")
    assert "## Attachment: Смета на май.csv\n\nимя,цена\nАлда,12\n" in document.text
    assert "## Attachment: harbour.docx\n\n# The harbour" in document.text
    (note,) = document.notes
    assert note.startswith("The attachment x.bin was left out: ")


def test_the_text_in_a_winmail_dat_is_read_if_it_stands_nowhere_else():
    data = wrapped({}, HELLO)
    alone, beside = EmailMessage(), message()
    alone["Subject"] = "x"
    alone.set_content(data, maintype="application", subtype="ms-tnef", filename="winmail.dat")
    assert load(bytes(alone), "a.eml").text == "# x\n\nhello world\n"
    beside.add_attachment(data, maintype="application", subtype="ms-tnef", filename="winmail.dat")
    assert "hello" not in load(bytes(beside), "a.eml").text


def test_a_damaged_winmail_dat_is_told():
    data, chance = wrapped({"a.csv": b"a,b\n1,2\n"}, HELLO), random.Random(1)
    for _ in range(1_000):
        at = chance.randrange(4, len(data))
        try:
            tnef.unwrap("winmail.dat", data[:at] + bytes([chance.randrange(256)]) + data[at + chance.randrange(1, 9) :])
        except DocumentError as error:
            assert error.name == "winmail.dat" and "damaged" in error.reason
    sent = message()
    sent.add_attachment(data[:300], maintype="application", subtype="ms-tnef", filename="winmail.dat")
    assert load(bytes(sent), "a.eml").notes == ("The attachment winmail.dat was left out: it is damaged.",)
