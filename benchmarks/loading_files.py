"""Files of every type, about `n` bytes long, for `benchmarks.loading`. Zip formats are not compressed, so that the size
of a file is that of its contents."""

import email.message
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping

import docx
import pptx

SENTENCE = "The warden keeps a list of all vessels that pass under the bridge, and sends it to the town. "
_ODF = "urn:oasis:names:tc:opendocument:xmlns"
_OFFICE = "http://schemas.openxmlformats.org"


def text(n: int) -> bytes:
    """Sentences in lines of seven."""
    return _repeated(SENTENCE * 7 + "\n\n", n)


def markdown(n: int) -> bytes:
    """Sections with a fenced block each."""
    return _repeated(f"## Head\n\n{SENTENCE * 3}\n\n```py\n# no head\nx = 1\n```\n\n", n)


def html(n: int) -> bytes:
    """Sections with lists and tables."""
    row = "<tr><td>Alda</td><td rowspan=1>12</td></tr>"
    part = f"<h2>Head</h2><p>{SENTENCE}</p><ol><li>one<li>two</ol><table>{row * 4}</table><pre>x\n y</pre>"
    return b"<html><body><main>" + _repeated(part, n) + b"</main></body></html>"


def table(n: int) -> bytes:
    """Rows with a cell of several lines."""
    return b"id,port,remark\n" + _repeated(f'7,Alda,"{SENTENCE}\nSecond ""line""."\n', n)


def jsonl(n: int) -> bytes:
    """Objects, one a line."""
    return _repeated(json.dumps({"id": 7, "title": "Port", "note": SENTENCE}) + "\n", n)


def chat(n: int) -> bytes:
    """A list of messages."""
    message = json.dumps({"role": "user", "content": SENTENCE})
    return ("[" + ",".join([message] * max(2, n // len(message))) + "]").encode()


def mail(n: int) -> bytes:
    """One message in base64."""
    made = email.message.EmailMessage()
    made["Subject"] = "Brücke"
    made.set_content(text(n * 3 // 4).decode() + "ü", cte="base64")
    return bytes(made)


def mailbox(n: int) -> bytes:
    """Short messages."""
    return _repeated(f"From a@b Mon Mar  4 10:00:00 2024\nSubject: One\n\n{SENTENCE * 3}\n\n", n)


def notebook(n: int) -> bytes:
    """Cells with code and its output."""
    cell = {"cell_type": "code", "source": [SENTENCE], "outputs": [{"output_type": "stream", "text": [SENTENCE]}]}
    return json.dumps({"cells": [cell] * (n // len(json.dumps(cell)) + 1)}).encode()


def subtitles(n: int) -> bytes:
    """Cues of one line."""
    return _repeated("1\n00:00:03,000 --> 00:00:05,500\n<i>over the flats</i> and the men\n\n", n)


def log(n: int) -> bytes:
    """Stamped lines."""
    return _repeated("2024-03-01T10:00:00.123Z INFO [worker] Request took 7 ms. Retrying soon.\n", n)


def latex(n: int) -> bytes:
    """Sections with a listing each."""
    return _repeated(f"\\section{{Head}}\n{SENTENCE * 3}\n\\begin{{verbatim}}\n# no\n\\end{{verbatim}}\n\n", n)


def markup(sign: str) -> Callable[[int], bytes]:
    """A maker of sections whose headings begin with, or are underlined by, a sign."""
    head = f"Head\n{sign * 4}" if sign == "=" else f"{sign} Head"
    return lambda n: _repeated(f"{head}\n\n{SENTENCE * 3}\n\n", n)


def settings(n: int) -> bytes:
    """Keys with values."""
    return _repeated("- port: Alda\n  depth: 4.5\n  note: open all year\n", n)


def code(n: int) -> bytes:
    """Functions."""
    return _repeated("def fee(port, depth):\n    if depth > 4:\n        return 12\n    return port\n\n\n", n)


def rich_text(n: int) -> bytes:
    """Paragraphs with a table row each."""
    part = rf"\pard {SENTENCE * 3}\par \trowd\cellx900\cellx1900\intbl Alda\cell 12\cell\row "
    return b"{\\rtf1\\ansi " + _repeated(part, n) + b"}"


def pdf(n: int) -> bytes:
    """Pages of 36 lines with a picture each, as much as makes 10 kB a page."""
    lines = " ".join(f"1 0 0 1 60 {760 - 18 * i} Tm ({SENTENCE[:88]}) Tj" for i in range(36))
    content = f"BT /F 11 Tf {lines} ET q 90 0 0 90 450 20 cm /I Do Q".encode()
    picture = bytes(range(256)) * 20
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Times-Roman>>"]
    n_pages = max(1, n // (len(content) + len(picture)))
    for i in range(n_pages):
        first = 4 + 3 * i
        resources = f"/Resources<</Font<</F 3 0 R>>/XObject<</I {first + 2} 0 R>>>>"
        objects += [
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents {first + 1} 0 R{resources}>>".encode(),
            b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
            b"<</Type/XObject/Subtype/Image/Width 64/Height 80/BitsPerComponent 8/ColorSpace/DeviceGray"
            b"/Length %d>>stream\n%s\nendstream" % (len(picture), picture),
        ]
    kids = " ".join(f"{4 + 3 * i} 0 R" for i in range(n_pages))
    objects[1] = f"<</Type/Pages/Count {n_pages}/Kids[{kids}]>>".encode()
    out, places = io.BytesIO(), []
    out.write(b"%PDF-1.4\n")
    for number, content in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    table, size = out.tell(), len(objects) + 1
    out.write(f"xref\n0 {size}\n0000000000 65535 f \n".encode())
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    out.write(f"trailer\n<</Root 1 0 R/Size {size}>>\nstartxref\n{table}\n%%EOF\n".encode())
    return out.getvalue()


def word(n: int) -> bytes:
    """Headings, paragraphs and small tables."""
    cell = "<w:tc><w:p><w:r><w:t>Alda</w:t></w:r></w:p></w:tc>"
    part = (
        '<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>Head</w:t></w:r></w:p>'
        f"<w:p><w:r><w:t>{SENTENCE * 3}</w:t></w:r></w:p><w:tbl><w:tr>{cell * 2}</w:tr><w:tr>{cell * 2}</w:tr></w:tbl>"
    )
    return _filled(docx.Document(), "word/document.xml", b"<w:body>", part, n)


def slides(n: int) -> bytes:
    """Slides of twenty paragraphs."""
    deck = pptx.Presentation()
    part = f"<a:p><a:r><a:t>{SENTENCE}</a:t></a:r></a:p>"
    n_slides = max(1, min(200, n // (20 * len(part))))
    for _ in range(n_slides):
        deck.slides.add_slide(deck.slide_layouts[1])
    out = io.BytesIO()
    deck.save(out)
    with zipfile.ZipFile(out) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    added = _repeated(part, n // n_slides)
    for name in [name for name in members if re.fullmatch(r"ppt/slides/slide\d+\.xml", name)]:
        first, end, rest = members[name].rpartition(b"</p:txBody>")
        members[name] = first + added + end + rest
    return _zipped(members)


def workbook(n: int) -> bytes:
    """One sheet of rows with four cells."""
    cell = '<c t="inlineStr"><is><t>Alda</t></is></c><c><v>4.5</v></c>'
    main, links = f"{_OFFICE}/spreadsheetml/2006/main", f"{_OFFICE}/officeDocument/2006/relationships"
    target = f'<Relationship Id="r" Type="{links}/{{}}" Target="{{}}"/>'
    relations = f'<Relationships xmlns="{_OFFICE}/package/2006/relationships">{target}</Relationships>'
    return _zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{_OFFICE}/package/2006/content-types"/>',
            "_rels/.rels": relations.format("officeDocument", "xl/workbook.xml"),
            "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{links}"><sheets>'
            '<sheet name="S" sheetId="1" r:id="r"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": relations.format("worksheet", "worksheets/sheet1.xml"),
            "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>'.encode()
            + _repeated(f"<row>{cell * 2}</row>", n)
            + b"</sheetData></worksheet>",
        }
    )


def opendocument(kind: str, media_type: str, part: str) -> Callable[[int], bytes]:
    """A maker of files with a repeated element in their body."""
    spaces = " ".join(f'xmlns:{name}="{_ODF}:{name}:1.0"' for name in ("office", "text", "table"))
    spaces += f' xmlns:draw="{_ODF}:drawing:1.0"'
    head = f"<office:document-content {spaces}><office:body><office:{kind}>"
    end = f"</office:{kind}></office:body></office:document-content>"
    if kind == "spreadsheet":
        head, end = head + "<table:table>", "</table:table>" + end
    return lambda n: _zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{media_type}",
            "content.xml": head.encode() + _repeated(part, n) + end.encode(),
        }
    )


def book(n: int) -> bytes:
    """Chapters of 20 kB."""
    chapter = html(20_000)
    names = [f"c{i}.xhtml" for i in range(max(1, n // len(chapter)))]
    items = "".join(f'<item id="{name}" href="{name}"/>' for name in names)
    spine = "".join(f'<itemref idref="{name}"/>' for name in names)
    return _zipped(
        {
            "META-INF/container.xml": '<container><rootfile full-path="p.opf"/></container>',
            "p.opf": f"<package><manifest>{items}</manifest><spine>{spine}</spine></package>",
            **dict.fromkeys(names, chapter),
        }
    )


_PARAGRAPH = f"<text:p>{SENTENCE * 3}</text:p>"
_ROW = "<table:table-row>" + "<table:table-cell><text:p>Alda</text:p></table:table-cell>" * 4 + "</table:table-row>"
_PAGE = f"<draw:page><draw:frame><draw:text-box>{_PARAGRAPH * 5}</draw:text-box></draw:frame></draw:page>"

MAKERS: dict[str, Callable[[int], bytes]] = {
    ".txt": text, ".md": markdown, ".html": html, ".csv": table, ".jsonl": jsonl, ".json": chat, ".eml": mail,
    ".mbox": mailbox, ".ipynb": notebook, ".srt": subtitles, ".log": log, ".yaml": settings, ".py": code, ".tex": latex,
    ".rst": markup("="), ".org": markup("*"), ".adoc": markup("=="), ".rtf": rich_text, ".pdf": pdf, ".docx": word,
    ".pptx": slides, ".xlsx": workbook, ".odt": opendocument("text", "text", _PARAGRAPH),
    ".ods": opendocument("spreadsheet", "spreadsheet", _ROW),
    ".odp": opendocument("presentation", "presentation", _PAGE), ".epub": book,
}  # fmt: skip


def _filled(document: docx.document.Document, member: str, after: bytes, part: str, n: int) -> bytes:
    """A saved document with `part` repeated in one of its members."""
    out = io.BytesIO()
    document.save(out)
    with zipfile.ZipFile(out) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    first, found, rest = members[member].partition(after)
    return _zipped({**members, member: first + found + _repeated(part, n) + rest})


def _zipped(members: Mapping[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def _repeated(part: str, n: int) -> bytes:
    return (part * max(1, n // len(part))).encode()
