"""Made files of every kind that people bring, each with what must and must not be read from it, and what is noted."""

import io
import json
import re
import time
from email.message import EmailMessage

import pptx
import pytest
import xlsxwriter

from blockrag.documents import Limits, media, readers
from blockrag.documents.document import Content, Document
from blockrag.documents.tables import header_of
from blockrag.documents.text import with_line_breaks
from blockrag.segment.records import record_starts
from tests.document_files import pdf, unzipped, word, zipped


def read(name: str, data: bytes | str) -> Content:
    """Read a file without a sandbox of its own."""
    data = data.encode() if isinstance(data, str) else data
    return readers.load(media.media_type(name, data))(name, data, Limits())


def check(name: str, data: bytes | str, has: list[str], lacks: list[str] = (), notes: list[str] = ()) -> None:
    content = read(name, data)
    for part in has:
        assert part in content.text
    for part in lacks:
        assert part not in content.text
    for part in notes:
        assert any(part in note for note in content.notes)


# HTML


@pytest.mark.parametrize(
    "label, codec, text",
    [
        ("ascii", "cp1252", "Größe – “q”"), ("x-sjis", "cp932", "港は広い①"), ("csISOLatin2", "iso8859_2", "Zażółć"),
        ("iso885915", "iso8859_15", "5 €"), ("866", "cp866", "Прилив"), ("sun_eu_greek", "iso8859_7", "Λιμάνι"),
        ("csisolatin6", "iso8859_10", "ĄĒĢ"), ("iso-ir-101", "iso8859_2", "Zażółć"), ("dos-874", "cp874", "ท่าเรือ"),
        ("unicode11utf8", "utf-8", "Größe"), ("csiso2022jp", "iso2022_jp", "港は広い"), ("hebrew", "iso8859_8", "נמל"),
    ],
)  # fmt: skip
def test_labels_are_taken_as_browsers_take_them(label, codec, text):
    check("a.html", f"<meta charset={label}><p>{text}".encode(codec), [text])


def test_a_late_declaration_counts():
    head = "<style>" + "a{b:c}" * 2_000 + "</style><script>'<meta charset=utf-8>'</script>"
    check("a.html", (head + "<meta charset=koi8-r><p>Порт").encode("koi8_r"), ["Порт"])


HTML = {
    "css numbers": ('<ol style="list-style:upper-roman"><li>x<li style="list-style-type: lower-alpha">y</ol>', ["I. x\nb. y"]),
    "definitions": ("<dl><dt>Tide<dd>rise<dd>fall<dt>Ebb<dd>out</dl>", ["Tide\n: rise\n: fall\n\nEbb\n: out"]),
    "item, then paragraph": ("<ul><li>one<p>more</ul>", ["- one\n\nmore"]),
    "deleted": ("Price <del>400</del><ins>650</ins>", ["Price ~~400~~650"]),
    "foot first": (
        "<table><thead><tr><th>A<th>B</thead><tfoot><tr><td>T<td>9</tfoot><tbody><tr><td>x<td>1</table>",
        ["| x | 1 |\n| T | 9 |"],
    ),
    "table in a cell": (
        "<table><tr><th>A<th>B</tr><tr><td>1<td><table><tr><td>x<td>y</tr><tr><td>z<td>w</table></table>",
        ["| A | B |\n| --- | --- |\n| 1 | x, y; z, w |"],
    ),
    "boxes": ("<input type=checkbox checked> done <input type=radio> open", ["[x] done [ ] open"]),
    "choice": ("<select><option>one<option selected>two</select>", ["two"]),
    "drawing": ("<p>before<svg><title>Fees</title></svg>after", ["before Fees  after"]),
    "characters": ('<html xmlns="x"><p>a<![CDATA[ b < c]]>', ["a b < c"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", HTML)
def test_html(kind):
    check("a.html", *HTML[kind])
    assert "one" not in read("a.html", HTML["choice"][0]).text


# E-mail

PLAIN, PAGE = b"Content-Type: text/plain", b"Content-Type: text/html"
MAIL = {
    "shift_jis by its wider name": (b"Subject: x\n" + PLAIN + b"; charset=shift_jis\n\n" + "①髙".encode("cp932"), ["①髙"]),
    "headers without an encoding": ("From: Jörg\nSubject: Größe\n".encode("latin-1") + PLAIN + b"; charset=latin1\n\nx", ["# Größe", "From: Jörg"]),
    "flowed": (b"Subject: F\n" + PLAIN + b"; format=flowed\n\nLong \nline.\n> a \n> b\n-- \nMe", ["Long line.\n> a b\n-- \nMe"]),
    "an attachment of the other version": (
        b"Subject: A\nContent-Type: multipart/alternative; boundary=Q\n\n--Q\n" + PLAIN + b"\n\nplain\n--Q\n"
        b"Content-Type: multipart/mixed; boundary=R\n\n--R\n" + PAGE + b"\n\n<p>page\n--R\n" + PLAIN
        + b"; name=a.txt\nContent-Disposition: attachment; filename=a.txt\n\nattached\n--R--\n--Q--\n",
        ["plain", "## Attachment: a.txt\n\nattached"],
        ["page"],
    ),
    "winmail": (b"Subject: W\n" + PLAIN + b"; name=winmail.dat\n\nx", [], [], ["winmail.dat was left out"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", MAIL)
def test_mail(kind):
    check("a.eml", *MAIL[kind])


def test_attachments_are_read_and_their_scans_by_ocr_if_asked_for(monkeypatch):
    message = EmailMessage()
    message["Subject"] = "Files"
    message.set_content("Body.")
    for data, name in ((word(), "rules.docx"), (pdf("Words."), "a.pdf"), (b"Subject: In\n\ninner", "in.eml")):
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    check("a.eml", bytes(message), ["Body.", "# The harbour", "Words.", "# In\n\ninner"])
    asked = []
    load = readers.load
    monkeypatch.setattr(readers, "load", lambda kind, ocr=False: asked.append((kind, ocr)) or load(kind))
    load(media.EML, ocr=True)("a.eml", bytes(message), Limits())
    assert (media.PDF, True) in asked


@pytest.mark.parametrize(
    "name, data",
    [
        ("a.eml", b"Content-Type: text/plain; format=flowed\n\n" + b"word \n" * 200_000),
        ("a.html", b"<html xmlns='x'>a" + b"<![CDATA[" * 100_000),
        ("a.html", b"<select><option selected>a</option>" * 200 + b"<option>b" * 20_000),
    ],
    ids=["flowed", "characters", "choices"],
)
def test_hostile_files_take_linear_time(name, data):
    begun = time.process_time()
    read(name, data)
    assert time.process_time() - begun < 3


# Notebooks, subtitles, chats, tables


def test_notebooks_of_version_3_and_overwritten_lines():
    outputs = [
        {"output_type": "pyout", "text": ["42"], "png": "iVBO"},
        {"output_type": "stream", "text": "10%\r50%\r100% done\r\n"},
    ]
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Tides"},
        {"cell_type": "code", "input": "f()", "outputs": outputs},
    ]
    check(
        "a.ipynb", json.dumps({"worksheets": [{"cells": cells}]}),
        ["## Tides\n\n```python\nf()\n```", "```\n42\n```", "```\n100% done\n```"], ["10%"], ["image/png"],
    )  # fmt: skip


def test_readings_in_subtitles():
    check(
        "a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n<ruby>漢字<rt>kanji</rt></ruby>だ\n", ["[0:00:01] 漢字(kanji)だ"]
    )


TELEGRAM = {"name": "Harbour", "messages": [
    {"date": "2024-03-01T10:00:00", "type": "service", "actor": "Anna", "action": "invite_members", "members": ["Ben"], "text": ""},
    {"date": "2024-03-01T10:00:00", "from": "Ben", "text": "", "contact_information": {"first_name": "Kai", "phone_number": "+49 1"}},
    {"date": "2024-03-01T10:00:00", "from": "Ben", "text": ["see ", {"type": "link", "text": "x.org"}]},
]}  # fmt: skip
CHATS = {
    "telegram": (TELEGRAM, ["# Harbour", "Anna invite members Ben", "Ben: [contact] Kai +49 1", "Ben: see x.org"]),
    "telegram, all": ({"chats": {"list": [TELEGRAM, {**TELEGRAM, "name": "Two"}]}}, ["# Harbour", "# Two"]),
    "discord": (
        {"messages": [{"author": {"name": "anna"}, "content": "", "embeds": [
            {"title": "T", "author": {"name": "Desk"}, "footer": {"text": "Foot"}}]}]},
        ["T\nDesk\nFoot"],
    ),
    "gemini": ([{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}], ["user: q\n\nmodel: a"]),
    "slack": (
        [{"type": "message", "ts": "1709290000.1", "user": "U1", "text": "", "blocks": [
            {"type": "section", "text": {"text": "Sec"}, "fields": [{"text": "F1"}, {"text": "F2"}]}]}],
        ["U1: Sec\nF1\nF2"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHATS)
def test_chats(kind):
    export, has = CHATS[kind]
    check("a.json", json.dumps(export), has)


@pytest.mark.parametrize(
    "stamp",
    [
        "3/1/24, 10:00\u202fAM - Anna: ", "[3/1/24, 10:00:01 AM] Anna: ", "01.03.24, 10:00 - Anna: ", "2024/03/01, 10:00 - Anna: ",
        "2024. 3. 1. 오전 10:00, Anna : ", "2024년 3월 1일 오전 10:00, Anna : ", "2024/3/1 上午10:00 - Anna: ",
        "01/03/2024 à 10:00 - Anna : ", "1.3.2024 klo 10.00 - Anna: ", "\u200f١\u200f/٣\u200f/٢٠٢٤، ١٠:٠٠ ص - Anna: ",
        "10:00\tAnna\t", "[10:00] <anna> ", "Anna, [01.03.2024 10:00]\n", "Anna B., [3/1/24 10:00 AM]\n",
    ],
)  # fmt: skip
def test_turns_of_plain_chats_begin_at_their_times_in_every_language(stamp):
    line = f"{stamp}hi\nmore\n"
    assert list(record_starts(3 * line, media.TEXT)) == [0, len(line), 2 * len(line)]


def test_escaped_line_breaks_are_line_breaks():
    assert with_line_breaks("one\vtwo\r\nthree\0") == "one\ntwo\nthree"


@pytest.mark.parametrize(
    "table, header",
    [
        (",Port,Fee\n0,Alda,4\n1,Brim,5\n", ",Port,Fee\n"),
        ("Port,2019,2020\nA,1,2\nB,3,4\n", "Port,2019,2020\n"),
        ("sep=;\nPort;Fee\nA;1\nB;2\n", "Port;Fee\n"),
        ('"Port\nname",Fee\na,1\nb,2\n', '"Port\nname",Fee\n'),
        ("1,2,3\n4,5,6\n7,8,9\n", ""),
        ("2019,2020\n1,2\n3,4\n", ""),
        ("Dear Sir, I write\nto you, as you know, that\nit is late\n", ""),
    ],
)
def test_headers_of_tables(table, header):
    assert header_of(media.CSV, table) == header == Document("a.csv", media.CSV, table).header


# Word

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
TYPES = "application/vnd.openxmlformats-officedocument.wordprocessingml"


def docx(body: str, **parts: str) -> bytes:
    parts = {"styles": "", **parts}
    relations = "".join(f'<Relationship Id="{p}" Type="{OFFICE}/{p}" Target="{p}.xml"/>' for p in parts)
    overrides = "".join(f'<Override PartName="/word/{p}.xml" ContentType="{TYPES}.{p}+xml"/>' for p in parts)
    return zipped({
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" ContentType="'
        'application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" '
        f'ContentType="{TYPES}.document.main+xml"/>{overrides}</Types>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="d" Type="{OFFICE}/officeDocument"'
        ' Target="word/document.xml"/></Relationships>',
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">{relations}</Relationships>',
        "word/document.xml": f'<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>',
        **{f"word/{p}.xml": f'<w:{p} xmlns:w="{W}">{xml}</w:{p}>' for p, xml in parts.items()},
    })  # fmt: skip


def paragraph(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def level(at: int, text: str, style: str = "") -> str:
    linked = f'<w:pStyle w:val="{style}"/>' if style else ""
    return f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/><w:numFmt w:val="decimal"/>{linked}<w:lvlText w:val="{text}"/></w:lvl>'


def style(id: str, name: str, properties: str, base: str = "") -> str:
    return (
        f'<w:style w:type="paragraph" w:styleId="{id}"><w:name w:val="{name}"/><w:basedOn w:val="{base}"/>'
        f"<w:pPr>{properties}</w:pPr></w:style>"
    )


def test_word_headings_take_numbers_and_levels_from_styles():
    numbers = '<w:numPr><w:numId w:val="1"/></w:numPr>'
    styles = style("H1", "heading 1", numbers) + style("H3", "Kapitel", '<w:outlineLvl w:val="2"/>')
    styles += style("H2", "heading 2", '<w:numPr><w:ilvl w:val="1"/></w:numPr>', "H1") + style(
        "H4", "heading 4", numbers
    )
    numbering = (
        f'<w:abstractNum w:abstractNumId="0">{level(0, "Part %1")}{level(1, "Article %1.%2")}{level(2, "§ %3", "H4")}'
        '</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>'
    )
    body = "".join(paragraph(id, f'<w:pStyle w:val="{id}"/>') for id in ("H1", "H2", "H4", "H3"))
    body += paragraph("direct", '<w:outlineLvl w:val="1"/>')
    check(
        "a.docx", docx(body, styles=styles, numbering=numbering),
        ["# Part 1 H1\n\n## Article 1.1 H2\n\n#### § 1 H4\n\n### H3\n\n## direct"],
    )  # fmt: skip


def test_word_forms_rows_and_deleted_ends():
    box = '<w:p><w:r><w:fldChar><w:ffData><w:checkBox><w:checked w:val="{}"/></w:checkBox></w:ffData></w:fldChar></w:r></w:p>'
    row = "<w:tr>{}" + "<w:tc>" + paragraph("a") + "</w:tc></w:tr>"
    body = paragraph("joined ", "<w:rPr><w:del/></w:rPr>") + paragraph("onward") + box.format(1) + box.format(0)
    body += "<w:tbl>" + row.format("") + row.format('<w:trPr><w:gridBefore w:val="1"/></w:trPr>') + "</w:tbl>"
    check("a.docx", docx(body), ["joined onward", "[x]\n\n[ ]", "| a |  |", "|  | a |"])


def test_slides_begin_with_their_title_and_lack_hidden_shapes():
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text, slide.placeholders[1].text = "Tides", "They rise."
    slide.shapes._spTree.append(slide.shapes.title._element)  # drawn last
    box = slide.shapes.add_textbox(0, 0, 9, 9)
    box.text_frame.text = "Secret"
    box._element.nvSpPr.cNvPr.set("hidden", "1")
    out = io.BytesIO()
    deck.save(out)
    check("a.pptx", out.getvalue(), ["# Tides\n\n- They rise."], ["Secret"], ["1 hidden shape was left out."])


# Spreadsheets, OpenDocument, RTF


def test_spreadsheets_tell_errors_and_read_boxes_and_charts_without_points():
    out = io.BytesIO()
    with xlsxwriter.Workbook(out) as book:
        sheet = book.add_worksheet("My fees")
        sheet.write_column(0, 0, ["North", "South"])
        sheet.write_column(0, 1, [1234567890123456, 5])
        sheet.write_formula(5, 0, "=1/0", None, "#DIV/0!")
        sheet.set_row(1, None, None, {"hidden": True})
        sheet.insert_textbox("J2", "Words in a box")
        chart = book.add_chart({"type": "column"})
        chart.add_series({"name": "Income", "categories": "='My fees'!$A$1:$A$2", "values": "='My fees'!$B$1:$B$2"})
        book.add_chartsheet("Alone").set_chart(chart)
    members = unzipped(out.getvalue())
    members["xl/charts/chart1.xml"] = re.sub(
        rb"<c:(num|str)Cache>.*?</c:\1Cache>", b"", members["xl/charts/chart1.xml"]
    )
    data = zipped(members)
    assert b"<c:pt" not in members["xl/charts/chart1.xml"]
    check(
        "a.xlsx", data,
        ["| North | 1234567890123456 |", "Words in a box", "|  | Income |\n| --- | --- |\n| North | 1234567890123456 |\n| South | 5 |"],
        notes=["1 cell holds an error (#DIV/0!), left empty.", "1 row or column is hidden but read."],
    )  # fmt: skip
    assert not any("Alone" in note for note in read("a.xlsx", data).notes)


def test_opendocument_comments_hidden_sections_and_bare_values():
    names = " ".join(f'xmlns:{p}="urn:oasis:names:tc:opendocument:xmlns:{p}:1.0"' for p in ("office", "text", "table"))
    text = (
        f'<office:document-content {names} xmlns:dc="http://purl.org/dc/elements/1.1/"><office:body><office:text>'
        "<text:p>a<office:annotation><dc:creator>Anna</dc:creator><text:p>why</text:p></office:annotation></text:p>"
        '<text:section text:display="none"><text:p>hidden</text:p></text:section><table:table><table:table-row>'
        '<table:table-cell office:value-type="float" office:value="7"/><table:table-cell><text:p>b</text:p>'
        "</table:table-cell></table:table-row></table:table></office:text></office:body></office:document-content>"
    )
    data = zipped({"mimetype": media.ODT, "content.xml": text})
    check("a.odt", data, ["[Comment by Anna: why]", "| 7 | b |"], ["hidden"], ["6 characters of hidden text"])


def test_headings_of_rtf_by_the_outline_level_of_their_style():
    check("a.rtf", r"{\rtf1{\stylesheet{\s2\outlinelevel1 Own;}}\pard\s2 Sub\par\pard Text\par}", ["## Sub\n\nText"])
