"""Readers of rich formats: what becomes of headings, lists, tables, pages and everything unusual."""

import docx
import pptx
import pytest
from docx.oxml import parse_xml
from fpdf import FPDF
from pptx.util import Inches

from blockrag.documents import PAGE_BREAK, Limits, html, markdown, powerpoint
from blockrag.documents import epub as epub_module
from blockrag.documents import pdf as pdf_module
from blockrag.documents import word as word_module
from blockrag.errors import DocumentError
from tests.document_files import epub, pdf, saved, slides, word

LIMITS = Limits()
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def read_pdf(data: bytes) -> str:
    return pdf_module.read("f.pdf", data, LIMITS).text


def read_word(document) -> str:
    return word_module.read("f.docx", saved(document), LIMITS).text


# PDF

LONG = "The tide tables are printed every year by the harbour office and sold in all the shops of the town. " * 2


def test_pages_are_parted_and_lines_joined():
    first, second = read_pdf(pdf(LONG, "Page two.")).split(PAGE_BREAK)
    assert first == LONG.strip() + "\n" and second == "Page two.\n"


def test_the_room_between_paragraphs_becomes_a_blank_line():
    document = FPDF()
    document.add_page()
    document.set_font("helvetica", size=20)
    document.cell(0, 12, "The harbour in numbers", new_x="LMARGIN", new_y="NEXT")
    document.set_font("helvetica", size=12)
    document.multi_cell(0, 6, f"{LONG}\n\n{LONG}\n- one item\n- another item\n1. a number")
    long = LONG.strip()
    assert read_pdf(bytes(document.output())) == (
        f"The harbour in numbers\n\n{long}\n\n{long}\n- one item\n- another item\n1. a number\n"
    )


def test_double_spaced_text_is_one_paragraph():
    document = FPDF()
    document.add_page()
    document.set_font("helvetica", size=12)
    document.multi_cell(0, 12, LONG * 2)
    assert read_pdf(bytes(document.output())) == (LONG * 2).strip() + "\n"


def test_a_word_parted_at_the_end_of_a_line_is_whole():
    assert read_pdf(pdf("It is of inter-\nnational use, said the Anglo-\nSaxon.")) == (
        "It is of international use, said the Anglo-Saxon.\n"
    )


def test_an_item_begins_a_line_even_after_a_full_one():
    page = f"{LONG}{LONG[:-20]}\n1. The first of them is that nobody runs here\n2. Quiet"
    assert read_pdf(pdf(page)).splitlines()[-2:] == ["1. The first of them is that nobody runs here", "2. Quiet"]


def test_reading_stops_at_what_is_no_readable_pdf():
    for data, limits, reason in (
        (pdf("x", password="p"), LIMITS, "encrypted"),
        (b"%PDF-1.7 nothing", LIMITS, "damaged"),
        (pdf("a", "b"), Limits(max_pages=1), "2 pages; at most 1"),
        (pdf(""), LIMITS, "no text layer"),
    ):
        with pytest.raises(DocumentError, match=reason):
            pdf_module.read("f.pdf", data, limits)


# Word


def test_docx_keeps_headings_tables_and_order():
    assert word_module.read("h.docx", word(), LIMITS).text == (
        "# The harbour\n\nShips come in at high tide.\n\n| tide | high |\n\n## The pier\n\nIt is long.\n"
    )


def test_docx_lists_are_lists_and_styles_made_from_headings_are_headings():
    document = docx.Document()
    style = document.styles.add_style("Chapter", docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
    style.base_style = document.styles["Heading 2"]
    document.add_paragraph("Ports", "Title")
    document.add_paragraph("The north", "Chapter")
    document.add_paragraph("one", "List Bullet")
    document.add_paragraph("two", "List Number")
    nested = document.add_paragraph("three")
    nested._p.get_or_add_pPr().append(parse_xml(f'<w:numPr {W}><w:ilvl w:val="1"/><w:numId w:val="1"/></w:numPr>'))
    document.add_paragraph("The end.")
    assert read_word(document) == "# Ports\n\n## The north\n\n- one\n1. two\n  - three\n\nThe end.\n"


@pytest.mark.parametrize(
    "xml, text",
    [
        ("<w:p><w:ins><w:r><w:t>added</w:t></w:r></w:ins><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>", "added"),
        ("<w:p><w:moveFrom><w:r><w:t>before</w:t></w:r></w:moveFrom><w:r><w:t>here</w:t></w:r></w:p>", "here"),
        ("<w:sdt><w:sdtContent><w:p><w:r><w:t>controlled</w:t></w:r></w:p></w:sdtContent></w:sdt>", "controlled"),
        ("<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t><w:noBreakHyphen/><w:t>d</w:t></w:r></w:p>", "a\tb\nc-d"),
        ('<w:p><w:pPr><w:tabs><w:tab w:val="left" w:pos="1"/></w:tabs></w:pPr><w:r><w:t>stop</w:t></w:r></w:p>', "stop"),
        ("<w:p><w:r><w:t>outer</w:t><w:pict><w:txbxContent><w:p><w:r><w:t>box</w:t></w:r></w:p></w:txbxContent></w:pict></w:r></w:p>", "outer\n\nbox"),
        ("<w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p><w:tbl><w:tr><w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc></w:tr></w:tbl></w:tc></w:tr></w:tbl>", "a\n\nb"),
    ],
)  # fmt: skip
def test_docx_text_is_read_wherever_it_stands_and_once(xml, text):
    document = docx.Document()
    body = parse_xml(f"<w:body {W}>{xml}</w:body>")
    for element in list(body):
        document.element.body.insert(0, element)
    assert read_word(document) == text + "\n"


# PowerPoint


def test_pptx_slides_are_pages_with_titles_lists_and_notes():
    assert powerpoint.read("s.pptx", slides(), LIMITS).text == (
        f"# First\n\n- One point.\n{PAGE_BREAK}# Second\n\n- Another point.\n\nSpeak slowly.\n"
    )


def test_pptx_groups_tables_and_levels_are_read_in_order():
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Tide\vtables"
    frame = slide.placeholders[1].text_frame
    frame.text = "high"
    frame.add_paragraph().text = "higher"
    frame.paragraphs[1].level = 1
    box = slide.shapes.add_group_shape().shapes.add_textbox(0, 0, Inches(1), Inches(1))
    box.text_frame.text = "in a group\vof shapes"
    table = slide.shapes.add_table(1, 2, 0, 0, Inches(2), Inches(1)).table
    table.cell(0, 0).text, table.cell(0, 1).text = "a", "b"
    assert powerpoint.read("s.pptx", saved(deck), LIMITS).text == (
        "# Tide tables\n\n- high\n  - higher\n\nin a group\nof shapes\n\n| a | b |\n"
    )


# EPUB


def read_epub(data: bytes) -> str:
    return epub_module.read("b.epub", data, LIMITS).text


def test_chapters_come_in_reading_order_and_whole():
    assert read_epub(epub()) == f"# Start\n\nIt began\nat sea.\n{PAGE_BREAK}# End\n\nIt ended on land.\n"


def test_obfuscated_fonts_do_not_make_a_book_secret():
    fonts = '<e><CipherReference URI="OPS/font.otf"/></e>'
    assert read_epub(epub(**{"META-INF/encryption.xml": fonts})) == read_epub(epub())


def test_a_book_without_its_chapters_is_damaged():
    with pytest.raises(DocumentError, match="chapters are missing .*OPS/one.xhtml, two b.xhtml"):
        read_epub(epub(**{"two b.xhtml": None, "OPS/one.xhtml": None}))


# HTML

ARTICLE = """<html><head><title>T</title><meta charset="utf-8"><script>steal()</script><style>p {}</style></head>
<body><nav><a href="/">Home</a></nav><article><h2>Tides</h2><p>%s</p>
<p onclick="steal()">A second paragraph tells of the wind &amp; the waves that it raises on open water.</p>
<ul><li>spring tide</li><li>neap tide</li></ul><table><tr><th>port</th><th>metres</th></tr>
<tr><td>Brest</td><td>7</td></tr></table></article><footer>All rights reserved.</footer><script>steal()</script>
</body></html>""" % (LONG * 3)


def test_an_article_is_kept_without_what_stands_around_it():
    text = html.read("a.html", ARTICLE.encode(), LIMITS).text
    for kept in ("## Tides\n", LONG.strip(), "the wind & the waves", "- spring tide\n- neap tide\n", "| Brest | 7 |"):
        assert kept in text
    for left in ("steal", "{", "Home", "rights reserved"):
        assert left not in text


def test_a_small_page_is_kept_whole_and_in_shape():
    page = """<h1>Note\n of today</h1><p>Short
        and <b>sweet</b>.<br> Next line.</p><ul><li>one</li><li><p>two</p><ol><li>inner</li></ol></li></ul>
        <table><tr><th>a</th><th>b</th></tr><tr><td><p>1</p></td><td>2</td></tr></table>
        <pre>\n  x = 1\n\n  y = 2</pre><!-- secret -->The <noscript>no</noscript>end."""
    assert html.html_text(page) == (
        "# Note of today\n\nShort and sweet.\nNext line.\n\n- one\n- two\n  1. inner\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n"
        "```\n  x = 1\n\n  y = 2\n```\n\nThe end.\n"
    )


def test_tables_for_the_layout_are_no_tables():
    page = (
        "<table><tr><td><p>One.</p><p>Two.</p></td><td><table><tr><td>a</td><td>b</td></tr></table></td></tr></table>"
    )
    assert html.body_text(page) == "One.\n\nTwo.\n\n| a | b |\n"


def test_what_is_no_text_gives_none():
    assert (
        html.body_text("  ") == "" == html.body_text("<h1/>")
        and html.html_text("<script>steal()</script><p> </p>").strip() == ""
    )


@pytest.mark.parametrize("n_levels", [300, 2000])
def test_text_in_many_levels_is_kept(n_levels):
    assert html.body_text("<p>a</p>" + "<div>" * n_levels + "b") == "a\n\nb\n"


def test_levels_beyond_the_parser_are_an_error_and_no_loss():
    with pytest.raises(ValueError, match="depth"):
        html.body_text("<p>a</p>" + "<div>" * 3000 + "b")


@pytest.mark.parametrize(
    "data, text",
    [
        ('<meta charset="windows-1251"><p>Прилив</p>'.encode("cp1251"), "Прилив"),
        ('<meta charset="ascii"><p>Größe</p>'.encode(), "Größe"),
        ('<meta charset="nonsense"><p>Größe</p>'.encode(), "Größe"),
        ('<meta charset="ascii"><p>Größe</p>'.encode("utf-16"), "Größe"),
        ('<?xml version="1.0" encoding="utf-8"?><html><body><p>Größe</p></body></html>'.encode(), "Größe"),
    ],
)
def test_a_declared_charset_is_believed_where_it_fits(data, text):
    assert html.read("a.html", data, LIMITS).text == text + "\n"


# Markdown


def test_parts_are_parted_and_items_are_not():
    parts = ["a", "", "- b", "  - c\n", " ", "d", markdown.heading("e\nf", 9), markdown.row(["1 \n2", "3"])]
    assert markdown.paragraphs(parts) == "a\n\n- b\n  - c\n\nd\n\n###### e f\n\n| 1 2 | 3 |\n"
    assert markdown.paragraphs([]) == ""


def test_style_sheets_of_a_book_are_read():
    page = '<html><head><link rel="stylesheet" href="../S.css"/></head><body><p>10<span class="up">6</span> grains<b class="no">x</b></p></body></html>'
    sheet = ".up {vertical-align: super} .no {display: none}"
    found = read_epub(epub(**{"OPS/one.xhtml": page, "s.css": sheet}))
    assert "10^6 grains\n" in found
