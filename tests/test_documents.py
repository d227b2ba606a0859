"""Reading documents: every format, every kind of bad file."""

import io
import json
import os
import zipfile

import docx
import pptx
import pytest
from fpdf import FPDF
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockrag.documents import PAGE_BREAK, Document, Limits, load, load_many
from blockrag.documents.media import BY_SUFFIX
from blockrag.documents.rich import html_text, unwrap
from blockrag.errors import DocumentError


def pdf(*pages: str, password: str | None = None) -> bytes:
    document = FPDF()
    document.set_font("helvetica", size=12)
    for page in pages:
        document.add_page()
        document.multi_cell(0, 6, page)
    if password:
        document.set_encryption(owner_password=password, user_password=password)
    return bytes(document.output())


def word() -> bytes:
    document = docx.Document()
    document.add_heading("The harbour", 1)
    document.add_paragraph("Ships come in at high tide.")
    table = document.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "tide", "high"
    document.add_heading("The pier", 2)
    document.add_paragraph("It is long.")
    return saved(document)


def slides() -> bytes:
    deck = pptx.Presentation()
    for title, body in (("First", "One point."), ("Second", "Another point.")):
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text, slide.placeholders[1].text = title, body
    slide.notes_slide.notes_text_frame.text = "Speak slowly."
    return saved(deck)


def saved(document) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def zipped(**members: str | bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return out.getvalue()


def epub() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as book:
        book.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:x"><rootfiles><rootfile full-path="OPS/p.opf"/></rootfiles></container>',
        )
        book.writestr(
            "OPS/p.opf",
            '<package xmlns="urn:y"><manifest><item id="b" href="two%20b.xhtml"/><item id="a" href="one.xhtml"/></manifest>'
            '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
        )
        book.writestr("OPS/one.xhtml", "<html><body><h1>Start</h1><p>It began at sea.</p></body></html>")
        book.writestr("OPS/two b.xhtml", "<html><body><h1>End</h1><p>It ended on land.</p></body></html>")
    return out.getvalue()


HTML = """<html><head><title>T</title><script>steal()</script><style>p {}</style></head><body><nav>Home</nav><article>
<h2>Tides</h2><p>The moon pulls the sea, and the sea rises twice a day along most coasts of the world.</p>
<p onclick="steal()">A second paragraph tells of the wind &amp; the waves that it raises on open water.</p>
</article><script>steal()</script></body></html>"""

READABLE = {
    "a.txt": (b"plain \xc3\xa9\r\nlines\r", "plain é\nlines\n"),
    "a.md": (b"# Head\n\nText.\n", "# Head\n\nText.\n"),
    "a.py": (b"def f():\n    return 1\n", "def f():\n    return 1\n"),
    "a.rst": (b"Head\n====\n", "Head\n====\n"),
    "noname": (b"just text", "just text"),
    "a.unknown": (b"still text", "still text"),
}


@pytest.mark.parametrize("name", READABLE)
def test_text_is_kept_but_for_its_newlines(name):
    data, text = READABLE[name]
    document = load(data, name)
    assert document.text == text and document.name == name


def test_pdf_pages_are_parted_and_lines_joined():
    long = "The tide tables are printed every year by the harbour office and sold in all the shops of the town. " * 2
    document = load(pdf(long, "Page two."), "tides.pdf")
    first, second = document.text.split(PAGE_BREAK)
    assert long.strip() in first and second == "Page two.\n" and document.media_type == "application/pdf"
    assert document.page_of(0) == 1 and document.page_of(document.text.index("two")) == 2


def test_unwrapping_keeps_paragraphs_and_mends_hyphens():
    page = "A line that is as wide as the others of this para-\ngraph and goes on.\nShort.\n\nNext paragraph\n- item\n"
    assert unwrap(page) == (
        "A line that is as wide as the others of this paragraph and goes on.\nShort.\n\nNext paragraph\n- item\n"
    )


def test_docx_keeps_headings_tables_and_order():
    assert load(word(), "h.docx").text == (
        "# The harbour\n\nShips come in at high tide.\n\n| tide | high |\n\n## The pier\n\nIt is long.\n"
    )


def test_pptx_slides_are_pages_with_titles_and_notes():
    text = load(slides(), "s.pptx").text
    assert text == f"# First\n\nOne point.\n{PAGE_BREAK}# Second\n\nAnother point.\n\nSpeak slowly.\n"


def test_epub_chapters_come_in_reading_order():
    text = load(epub(), "b.epub").text
    assert text.index("It began at sea.") < text.index(PAGE_BREAK) < text.index("It ended on land.")


def test_html_keeps_the_text_and_no_script():
    text = load(HTML.encode(), "page.html").text
    assert "Tides" in text and "wind & the waves" in text and "steal" not in text and "{" not in text


def test_a_small_page_is_kept_whole():
    assert (
        html_text("<h1>Note</h1><p>Short.</p><ul><li>one</li><li>two</li></ul>").split()
        == "# Note Short. one two".split()
    )


RUSSIAN = (
    "Прилив поднимает море дважды в день, и корабли входят в гавань. Ветер дует с запада, а волны бьются о старый "
    "причал. Рыбаки чинят сети и ждут утра. "
)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252", "cp1251", "shift_jis"])
def test_encodings_are_found(encoding):
    other = {"shift_jis": "港は広い。船が来る。潮が満ちる。風が吹いている。", "cp1251": RUSSIAN}
    text = other.get(encoding, "Größe, naïve café – “quoted”. ") * 9
    data = text.encode(encoding)
    if encoding == "utf-16-be":
        data = b"\xfe\xff" + data
    assert load(data, "a.txt").text == text


def test_marks_of_every_script_are_left_alone():
    text = "e\u0301 👩‍👩‍👧 שלום नमस्ते 🇩🇪 \u200f\n"
    assert load(text.encode(), "a.txt").text == text


CHATGPT = [
    {
        "title": "Tides",
        "mapping": {
            "2": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["The moon."]}, "create_time": 2}},
            "1": {"message": {"author": {"role": "user"}, "content": {"parts": ["Why tides?"]}, "create_time": 1}},
            "0": {"message": None},
        },
    }
]
CLAUDE = [
    {"name": "Tides", "chat_messages": [{"sender": "human", "text": "Why?"}, {"sender": "assistant", "text": "Moon."}]}
]


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("c.json", CHATGPT, "# Tides\n\nuser: Why tides?\n\nassistant: The moon.\n"),
        ("c.json", CLAUDE, "# Tides\n\nhuman: Why?\n\nassistant: Moon.\n"),
        ("c.json", [{"user": "U1", "text": "hi"}, {"user": "U2", "text": "ho"}], "U1: hi\n\nU2: ho\n"),
        ("c.json", {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, "user: hi\n"),
    ],
)
def test_chat_exports_become_turns(name, value, text):
    assert load(json.dumps(value).encode(), name).text == text


def test_chat_lines_and_tables_become_turns():
    lines = b'{"role": "user", "content": "hi"}\n{"role": "assistant", "content": "ho"}\n'
    assert load(lines, "c.jsonl").text == "user: hi\n\nassistant: ho\n"
    assert load(b"time,Speaker,Text\n1,Ann,hi\n2,Ben,ho\n", "c.csv").text == "Ann: hi\n\nBen: ho\n"


@pytest.mark.parametrize("name, data", [("a.json", b'{"k": [1, 2]}'), ("a.json", b"{broken"), ("a.csv", b"a,b\n1,2\n")])
def test_data_that_is_no_chat_stays_as_it_is(name, data):
    assert load(data, name).text == data.decode()


def test_half_an_emoji_in_json_does_no_harm():
    document = load(b'[{"role": "user", "content": "cut \\ud83d"}]', "c.json")
    assert document.text == "user: cut \ufffd\n" and document.sha256


def bomb() -> bytes:
    return zipped(**{"word__document.xml": b"0" * (30 << 20)})


def entity_bomb() -> bytes:
    entities = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(12))
    return zipped(**{"META-INF__container.xml": f'<!DOCTYPE x [<!ENTITY e0 "ha">{entities}]><x>&e12;</x>'})


BAD = {
    "empty.txt": (b"", "the file is empty"),
    "blank.txt": (b" \n\t ", "no text"),
    "scan.pdf": (pdf(""), "no text layer"),
    "secret.pdf": (pdf("x", password="p"), "encrypted"),
    "cut.pdf": (pdf("text")[:300], "damaged"),
    "cut.docx": (word()[:-200], "damaged"),
    "hollow.docx": (zipped(word__document=b""), "zip archive"),
    "broken.docx": (zipped(**{"word__document.xml": "<x>"}), "damaged"),
    "fake.docx": (pdf("text"), "the content is a PDF"),
    "fake.pdf": (b"hello, I am text", "damaged or disguised"),
    "program.txt": (b"MZ\x90\0" + bytes(500), "a Windows program"),
    "picture.md": (b"\x89PNG\r\n" + bytes(100), "a PNG picture"),
    "binary.txt": (bytes(range(256)) * 20, "binary"),
    "old.doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "Office file"),
    "archive.zip": (zipped(a="b"), "a zip archive"),
    "bomb.docx": (bomb(), "zip bomb"),
    "entities.epub": (entity_bomb(), "damaged|no text"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_an_error_that_names_it_and_the_reason(name):
    data, reason = BAD[name]
    with pytest.raises(DocumentError, match=f"^{name}: .*({reason})"):
        load(data, name, Limits(max_expanded_bytes=20 << 20))


def test_the_rest_of_a_batch_goes_on(tmp_path):
    good, bad, folder = tmp_path / "good.txt", tmp_path / "bad.pdf", tmp_path / "folder"
    good.write_text("fine")
    bad.write_text("not a pdf")
    folder.mkdir()
    found = list(load_many([bad, tmp_path / "missing.txt", folder, good]))
    assert [type(f) for f in found] == [DocumentError] * 3 + [Document]
    assert "no such file" in str(found[1]) and "folder" in str(found[2]) and found[3].text == "fine"


@pytest.mark.parametrize(
    "name, label",
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.txt", "a.txt"),
        ("<img src=x onerror=y>.txt", "<img src=x onerror=y>.txt"),
        ("a\0b\n.txt", "ab.txt"),
        ("\u202etxt.exe.txt", "txt.exe.txt"),
        ("", "unnamed"),
        ("n" * 300 + ".txt", "n" * 196 + ".txt"),
    ],
)
def test_a_name_is_only_a_label(name, label):
    assert load(b"text", name).name == label


def test_too_large_is_told_with_both_numbers():
    with pytest.raises(DocumentError, match="3 MB; at most 1 MB"):
        load(b"x" * (3 << 20), "a.txt", Limits(max_bytes=1 << 20))
    with pytest.raises(DocumentError, match="1,000 characters of text; at most 10"):
        load(b"x" * 1000, "a.txt", Limits(max_chars=10))
    with pytest.raises(DocumentError, match="2 pages; at most 1"):
        load(pdf("a", "b"), "a.pdf", Limits(max_pages=1))


def test_a_parser_that_takes_too_long_or_too_much_is_given_up():
    with pytest.raises(DocumentError, match="more than 0 s"):
        load(word(), "h.docx", Limits(timeout_s=0.01))
    with pytest.raises(DocumentError, match="needs more than 30 MB|crashed"):
        load(word(), "h.docx", Limits(memory_bytes=30 << 20))
    with pytest.raises(ValueError, match="max_pages is 0"):
        Limits(max_pages=0)


def test_fifty_megabytes_and_a_line_of_a_million_characters_load():
    line = "A sentence that fills the file, again and again. "
    assert len(load((line * (50 * (1 << 20) // len(line))).encode(), "big.txt").text) > 52_000_000
    assert load(b"x" * 1_000_000, "line.txt").text == "x" * 1_000_000


def test_equal_text_is_the_same_document_whatever_its_name():
    assert load(b"same", "a.txt").sha256 == load(b"same", "b.md").sha256 != load(b"other", "a.txt").sha256


def test_an_unreadable_file_says_why(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(DocumentError, match="cannot be opened"):
        load(path)


@settings(max_examples=150, deadline=None)
@given(
    data=st.binary(max_size=300), suffix=st.sampled_from([s for s in BY_SUFFIX if s not in (".html", ".htm", ".xhtml")])
)
def test_any_bytes_give_a_document_or_its_error(data, suffix):
    try:
        assert load(data, "f" + suffix).text.strip()
    except DocumentError as error:
        assert error.name == "f" + suffix and error.reason


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(["pdf", "docx", "pptx", "epub"]), at=st.lists(st.integers(0, 10**6), min_size=1, max_size=20)
)
def test_mutated_files_never_do_worse_than_an_error(kind, at):
    data = bytearray({"pdf": lambda: pdf("some text"), "docx": word, "pptx": slides, "epub": epub}[kind]())
    for i in at:
        data[i % len(data)] ^= 0xFF
    try:
        load(bytes(data), f"f.{kind}")
    except DocumentError as error:
        assert error.reason
