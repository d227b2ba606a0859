"""PDF: lines, columns, tables, running heads, hyphens, forms; and properties of its layout."""

import re

import pypdfium2 as pdfium
import pytest
from fpdf import FPDF
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.documents import PAGE_BREAK, Limits, load, pdf_words
from blockrag.documents import pdf as pdf_module
from blockrag.documents.document import Content
from blockrag.documents.pdf_layout import text_of
from blockrag.documents.pdf_rows import rows_of
from blockrag.documents.pdf_words import HYPHEN, Segment
from blockrag.errors import DocumentError
from tests.document_files import FIELD, pdf

SENTENCE = "The tide tables are printed every year by the harbour office and sold in all the shops of the town. "


def read(data: bytes) -> Content:
    return pdf_module.read("f.pdf", data, Limits())


def page(size: int = 12, font: str = "helvetica") -> FPDF:
    document = FPDF()
    document.add_page()
    document.set_font(font, size=size)
    return document


def text(document: FPDF) -> str:
    return read(bytes(document.output())).text


def cells(document: FPDF, rows, widths=(60, 40, 40)) -> None:
    for row in rows:
        for width, cell in zip(widths, row, strict=False):
            document.cell(width, 6, cell)
        document.ln(6)


# Files of the field

FIELD_TEXTS = {
    "c05a_owner_only": ["The manual may be read by anyone. The pump needs oil every 200 hours."],
    "c14a_ligature": ["The office confirmed the flow of the effort.\n"],
    "c14b_softhyphen": ["whole transportation network", "the inhabitants", "the well-known", "Anglo-Saxon", "the station."],
    "c14c_hyphen_ru": ["а, и транспортировка грузов", "без задержек,", "в контору порта заранее"],
    "c14d_hyphen_pl": ["nieświadomy", "poźniejszego"],
    "c14f_hyphen_de": ["Warenübergabe", "Tages- und Wochenkarten", "E-Mail-Adresse", "Größenordnung", "Ölwechsel"],
    "c15a_twocol_rowmajor": ["in good order. It thanked the treasurer for his work.\n\nFishing licences are now issued at the"],
    "c15b_twocol_colmajor": ["in good order. It thanked the treasurer for his work.\n\nFishing licences are now issued at the"],
    "c16a_rotated90": ["Rotated table of the tides\nHigh water at 06:12 and 18:40\nLow water at 00:05 and 12:20\n"],
    "c16b_rotated180": ["Upside page first line of text second line of text here third line of text here\n"],
    "c23_acroform": ["Name of applicant: Marta Quill\nBoat registration: HB-4471\n", "Approved on 3 May by the warden"],
    "c30_invisible": ["total is 120 crowns.\n", "orders and say the total is zero."],
    "c31_table": ["| Port | Depth | Fee |\n| --- | --- | --- |\n| Alda | 4.5 m | 12 |\n| Brim | 6.0 m | 18 |\n| Corr | 3.2 m | 9 |\n"],
    "c31b_table": [
        "as of spring.\n\n| Port | Depth at low water | Fee per night | Warden |\n| --- | --- | --- | --- |\n| Alda | 2.0 m |",
        "| Elver | 4.0 m | 16 crowns | Nils Aas |\n\nFees are due on entry.\n",
    ],
    "c31c_numeric_table": ["| Year | Income | Costs | Result |\n", "| 2019 | 183.90 | 145.95 | 38.95 |\n"],
    "c32_pagecross": ["shall report to the\n", "before noon. A vessel without a master is towed at the expense of its\n"],
}  # fmt: skip


@pytest.mark.parametrize("name", FIELD_TEXTS)
def test_files_of_the_field(name):
    found = read((FIELD / f"{name}.pdf").read_bytes()).text
    for expected in FIELD_TEXTS[name]:
        assert expected in found


def test_what_was_left_out_or_guessed_is_noted():
    (note,) = load(FIELD / "c30_invisible.pdf").notes
    assert note == "43 characters on page 1 are drawn invisibly, as under a scan; they were read."
    document = load(FIELD / "c32_pagecross.pdf")
    assert "Harbour Rules" not in document.text and "Page 1 of 3" not in document.text
    assert document.notes == tuple(
        f'The line "{line}", repeated on 3 pages, was left out.'
        for line in ("Harbour Rules 2024 - CONFIDENTIAL", "Page 1 of 3")
    )
    assert load(pdf("One.", "", "Three.", "", ""), "a.pdf").notes == ("Pages 2, 4-5 have no text (scanned?).",)


def test_a_damaged_page_is_left_out_and_told(monkeypatch):
    class Torn(pdfium.PdfDocument):
        def __getitem__(self, i):
            if i == 1:
                raise pdfium.PdfiumError("Failed to load page.")
            return super().__getitem__(i)

    monkeypatch.setattr(pdf_module.pdfium, "PdfDocument", Torn)
    assert read(pdf("One.", "Two.", "Three.")) == Content(
        "One.\n\f\fThree.\n", notes=("Page 2 is damaged and left out.",)
    )


def test_a_file_whose_pages_are_all_damaged_is_refused(monkeypatch):
    def fail(*given):
        raise pdfium.PdfiumError("Failed to load page.")

    monkeypatch.setattr(pdfium.PdfDocument, "__getitem__", fail)
    with pytest.raises(DocumentError, match="none of its pages can be opened"):
        read(pdf("One.", "Two."))


def test_an_encrypted_file_is_refused_as_such():
    with pytest.raises(DocumentError, match="encrypted; save it without a password"):
        load(FIELD / "c05c_user_password.pdf")


# Lines


def test_verse_stays_lines():
    verse = "The wind blew hard, the sails were torn,\nThe captain stood upon the deck,\nAnd from the night until the morn\nHe saw the floating wreck."
    document = page()
    document.multi_cell(0, 6, verse)
    assert text(document) == verse + "\n"


def test_code_keeps_its_lines_and_indentation():
    code = "def main():\n    for i in range(10):\n        print(i)  # one\n    return 0\nx = 1      # first\nyy = 2     # second\nzzz = 3    # third"
    document = page(font="courier")
    document.multi_cell(0, 6, code)
    assert text(document) == code + "\n"


def test_a_list_of_short_lines_stays_lines():
    document = page()
    document.multi_cell(0, 6, "apples\npears\nplums\nbread and salt\nfish")
    assert text(document) == "apples\npears\nplums\nbread and salt\nfish\n"


def test_labels_and_values_stay_lines():
    document = page()
    cells(document, [("Invoice no:", "2024-17"), ("Date:", "3 May 2024"), ("Customer:", "Ida Berg")])
    assert text(document) == "Invoice no: 2024-17\nDate: 3 May 2024\nCustomer: Ida Berg\n"


def test_a_numbered_list_is_no_table():
    document = page()
    cells(document, [("1.", "Bread"), ("2.", "Salt"), ("3.", "Fish")], widths=(15, 60))
    assert text(document) == "1. Bread\n2. Salt\n3. Fish\n"


def test_scripts_above_and_below_the_line_are_marked():
    document = page()
    for part, position in (
        ("It holds 10", "LINE"),
        ("6", "SUP"),
        (" litres of x", "LINE"),
        ("2", "SUB"),
        (" today", "LINE"),
    ):
        document.char_vpos = position
        document.write(6, part)
    assert text(document) == "It holds 10^6 litres of x_2 today\n"


def test_a_numbered_heading_begins_a_line_and_so_does_text_of_another_size():
    document = page()
    prose = f"{SENTENCE}{SENTENCE[:-20]}"
    document.multi_cell(0, 6, f"{prose}\n1.2. What is this?\n{prose}", new_x="LMARGIN", new_y="NEXT")
    document.set_font("helvetica", size=18)
    document.multi_cell(0, 6, "a large heading")
    lines = text(document).splitlines()
    assert "1.2. What is this?" in lines and lines[-1] == "a large heading"


def test_letters_that_the_file_does_not_name_are_told(monkeypatch):
    monkeypatch.setattr(pdf_words.pdfium_c, "FPDFText_GetUnicode", lambda handle, i: 0 if i == 1 else ord("abc"[i % 3]))
    monkeypatch.setattr(pdfium.PdfTextPage, "get_text_range", lambda self: "less")
    assert read(pdf("abcabc")) == Content(
        "a\ufffdcabc\n", notes=("1 letter is not named in the file; \ufffd stands for each.",)
    )


def test_compounds_that_the_document_knows_are_kept():
    document = page()
    document.multi_cell(
        0, 6, f"The dry-dock of the port is old. {SENTENCE}\nA ship lies in the dry-\ndock for a life-\nboat."
    )
    assert text(document).endswith("A ship lies in the dry-dock for a lifeboat.\n")


# Tables and columns


def test_a_table_between_paragraphs():
    document = page()
    document.multi_cell(0, 6, SENTENCE * 4 + "\n")
    cells(document, [("Item", "Qty", "Price"), ("Rope | 20 m", "2", "14.00"), ("Anchor", "", "80.50")])
    document.ln(6)
    document.multi_cell(0, 6, SENTENCE * 3)
    assert text(document) == (
        f"{(SENTENCE * 4).strip()}\n\n| Item | Qty | Price |\n| --- | --- | --- |\n| Rope \\| 20 m | 2 | 14.00 |\n"
        f"| Anchor |  | 80.50 |\n\n{(SENTENCE * 3).strip()}\n"
    )


def test_a_ruled_table_keeps_the_lines_of_a_cell_together():
    document = page(10)
    document.multi_cell(0, 6, SENTENCE * 3)
    with document.table(col_widths=(20, 60, 20)) as table:
        for row in (("Port", "What is said of it", "Fee"), ("Alda", SENTENCE, "12"), ("Brim", "Short.", "18")):
            table.row(row)
    document.multi_cell(0, 6, "Fees are due on entry.")
    assert text(document) == (
        f"{(SENTENCE * 3).strip()}\n\n| Port | What is said of it | Fee |\n| --- | --- | --- |\n"
        f"| Alda | {SENTENCE.strip()} | 12 |\n| Brim | Short. | 18 |\n\nFees are due on entry.\n"
    )


def test_a_frame_around_text_is_no_table():
    document = page(10)
    document.rect(8, 8, 190, 100)
    document.line(8, 9, 198, 9)
    document.multi_cell(0, 6, SENTENCE * 6)
    assert text(document) == (SENTENCE * 6).strip() + "\n"


def test_a_table_with_narrow_gaps():
    document = page(11)
    cells(
        document,
        [("Port", "Description here", "Fee"), ("Alda", "Deep", "12"), ("Brim", "Shallow, narrow", "18")],
        (12, 33, 20),
    )
    assert text(document) == (
        "| Port | Description here | Fee |\n| --- | --- | --- |\n| Alda | Deep | 12 |\n| Brim | Shallow, narrow | 18 |\n"
    )


def test_columns_with_a_title_and_lines_at_other_heights():
    document = page(10)
    document.set_font("helvetica", size=16)
    document.cell(0, 10, "A title across both of the columns of this page", align="C")
    document.ln(14)
    top = document.get_y()
    document.set_font("helvetica", size=10)
    document.multi_cell(85, 5, SENTENCE * 6)
    document.set_xy(110, top + 2)
    document.multi_cell(85, 5, SENTENCE.replace("tide", "star") * 5)
    assert text(document) == (
        f"A title across both of the columns of this page\n\n{(SENTENCE * 6).strip()}\n\n"
        f"{(SENTENCE.replace('tide', 'star') * 5).strip()}\n"
    )


def test_text_that_repeats_within_the_page_is_no_running_head():
    document = FPDF()
    document.set_auto_page_break(False)
    for number in range(4):
        document.add_page()
        document.set_font("helvetica", size=12)
        document.cell(0, 6, "Annual report", align="C")
        document.ln(12)
        document.multi_cell(0, 6, SENTENCE * 5)
        document.set_y(-20)
        document.cell(0, 6, f"{number + 1} / 4", align="C")
    assert read(bytes(document.output())).text == PAGE_BREAK.join([(SENTENCE * 5).strip() + "\n"] * 4)


# Properties

SEGMENTS = st.lists(
    st.builds(
        lambda text, x, y, width, turn: Segment(text, x, x + width, y, y + 10, turn),
        st.text(alphabet="abZé9.-:" + HYPHEN, min_size=1, max_size=12),
        st.integers(0, 500),
        st.integers(0, 800),
        st.integers(1, 300),
        st.sampled_from([0, 0, 0, 1, 2, 3]),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(SEGMENTS)
def test_the_layout_loses_nothing_but_hyphens_and_space(found):
    def bare(parts: str) -> list[str]:
        return sorted(re.sub(r"[^abZé9.:]", "", parts))

    assert bare(text_of(rows_of(found), 595)) == bare("".join(segment.text for segment in found))


def drawn(stream: str) -> bytes:
    """A page with this content, Times as /F."""
    font = "<</Type/Font/Subtype/Type1/BaseFont/Times-Roman>>"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F {font}>>>>>>",
        f"<</Length {len(stream)}>>stream\n{stream}\nendstream",
    ]
    body = "".join(f"{i} 0 obj\n{content}\nendobj\n" for i, content in enumerate(objects, start=1))
    return f"%PDF-1.4\n{body}trailer\n<</Root 1 0 R/Size 5>>\n%%EOF\n".encode()


def test_narrow_blanks_in_justified_text_are_seen_but_no_word_is_torn():
    text = "BT /F 10 Tf 50 700 Td [(licences are now)-300(issued, tw)20(o)-300(photographs)] TJ ET"
    assert read(drawn(text)).text == "licences are now issued, two photographs\n"
    spaced = "BT /F 10 Tf 2.2 Tc 50 700 Td (harbour) Tj ET"
    assert read(drawn(spaced)).text == "harbour\n"


def test_small_letters_inside_a_word_are_above_or_below_it():
    parts = "(E = mc) Tj /F 7 Tf 4 Ts (2) Tj /F 12 Tf 0 Ts (, H) Tj /F 7 Tf -2.5 Ts (2) Tj /F 12 Tf 0 Ts (O ) Tj"
    small_capitals = "(H) Tj /F 9 Tf (ARBOUR) Tj"
    assert read(drawn(f"BT /F 12 Tf 50 700 Td {parts} {small_capitals} ET")).text == "E = mc^2, H_2O HARBOUR\n"


def test_a_paper_is_read_column_by_column_whatever_stands_in_its_columns():
    document, words = page(9, "times"), SENTENCE.split()
    columns = [[" ".join(words[:9])] * 26, [" ".join(words[:9])] * 12]
    columns[1] += ["", "E = mc (1)", "", "Port Fee", "Alda 12", "Brim 18", "", "Table 1: Fees."]
    for x, lines in zip((15, 110), columns, strict=True):
        for i, line in enumerate(lines):
            document.text(x, 40 + 4 * i, line)
    found = text(document)
    assert "|" not in found and found.index("E = mc") > 26 * 9 and found.count("The tide tables") == 38
    assert found.index("Table 1") > found.rindex("The tide tables")


def test_columns_keep_the_lines_that_stand_above_and_below_the_other():
    document = page(10)
    for i in range(6):
        document.text(15, 50 + 5 * i, "The council met in May and found the")
    for i in range(4):
        document.text(110, 46 + 5 * i, "Fishing licences are issued at the")
    found = text(document)
    assert found.rindex("The council") < found.index("Fishing")


def test_a_table_whose_columns_are_near_each_other_is_one():
    document = page(12, "times")
    for i, row in enumerate(
        [("Item", "Qty", "Price"), ("Rope", "12", "3.50"), ("Anchor", "1", "120.00"), ("Oil", "3", "9.75")]
    ):
        for x, cell in zip((20, 40, 48.5), row, strict=True):
            document.text(x, 40 + 7 * i, cell)
    assert text(document).startswith("| Item | Qty | Price |\n| --- | --- | --- |\n| Rope | 12 | 3.50 |\n")


def test_a_few_long_lines_among_many_short_ones_are_wrapped():
    document = page()
    document.multi_cell(0, 6, SENTENCE * 2)
    for i in range(25):
        document.text(12, 60 + 6 * i, f"{i}. Step")
    assert text(document).startswith((SENTENCE * 2).strip())


def test_justified_lines_with_wide_blanks_are_no_table():
    document = page(10)
    for i, line in enumerate(
        ["Extraordinarily voluminous merchandise", "is transported exclusively", "following arrangements"]
    ):
        words = line.split()
        blank = (80 - sum(map(document.get_string_width, words))) / (len(words) - 1)
        x = 20
        for word in words:
            document.text(x, 40 + 5 * i, word)
            x += document.get_string_width(word) + blank
    document.text(20, 55, "of the office.")
    assert text(document).startswith("Extraordinarily voluminous merchandise\nis transported exclusively\n")


def test_arabic_is_read_from_right_to_left_on_one_line():
    words = ["الميناء", "واسع", "جدا"]
    rows = rows_of([Segment(word, 100 - 40 * i, 130 - 40 * i, 50, 55 + 5 * (i % 2)) for i, word in enumerate(words)])
    assert [row.text for row in rows] == [" ".join(words)]
    (row,) = rows_of([Segment("בשעה", 60, 90, 50, 60), Segment(".14:30", 20, 50, 50, 60)])
    assert row.text == "בשעה 14:30."


# Pages as people make them


def paged(lines, foot) -> FPDF:
    document = page()
    document.set_auto_page_break(False)
    for number in range(3):
        if number:
            document.add_page()
        for line in lines(number):
            document.multi_cell(0, 6, line, new_x="LMARGIN", new_y="NEXT")
            document.ln(3)
        document.set_y(260)
        for line in foot(number):
            document.cell(0, 5, line, new_x="LMARGIN", new_y="NEXT")
    return document


@pytest.mark.parametrize(
    "foot",
    [
        lambda i: [f"{2 * i + 1} Berg, p. {7 * i + 3}.", "2 See Annex A."],
        lambda i: ["* Figures in thousands."],
        lambda i: ["1 Figures in thousands."],
    ],
)
def test_footnotes_alike_at_one_height_are_no_running_feet(foot):
    found = read(bytes(paged(lambda i: [f"Part {i}{j}. {SENTENCE}" for j in range(6)], foot).output()))
    assert found.notes == () and all(found.text.count(line) >= 1 for i in range(3) for line in foot(i))
    assert found.text.count("sold in all the") == 18, "the last lines of the text are alike too"


@pytest.mark.parametrize(
    "foot", [["Harbour Rules 2024"], ["Harbour Rules 2024", "CONFIDENTIAL"], ["© 2024 Harbour office"]]
)
def test_feet_below_text_whose_end_is_alike_are_left_out(foot):
    found = read(bytes(paged(lambda i: [f"Part {i}{j}. {SENTENCE}" for j in range(6)], lambda i: foot).output()))
    assert len(found.notes) == len(foot) and not any(line in found.text for line in foot)
    assert found.text.count("of the town.") == 18


@pytest.mark.parametrize(
    "parts",
    [
        ["Dear Ms Berg,", 3 * SENTENCE, "Yours sincerely,", "Ola Moe"],
        ["Dear Ms Berg,", "The lock is closed.", "Yours, Ola"],
    ],
)
def test_a_short_letter_keeps_its_gaps(parts):
    document = page()
    for part in parts:
        document.multi_cell(0, 6, part.strip(), align="L", new_x="LMARGIN", new_y="NEXT")
        document.ln(6)
    assert text(document) == "\n\n".join(part.strip() for part in parts) + "\n"


def test_running_heads_with_roman_numbers_are_left_out():
    document = FPDF()
    document.set_font("helvetica", size=11)
    for number in ("i", "ii", "iii", "iv"):
        document.add_page()
        document.text(10, 12, "Preface")
        document.text(180, 12, number)
        document.set_y(25)
        document.multi_cell(0, 6, SENTENCE * 4)
    content = read(bytes(document.output()))
    assert "Preface" not in content.text and content.notes == (
        'The line "Preface i", repeated on 4 pages, was left out.',
    )


def columns(document: FPDF, top: float, width: float, *texts: str) -> None:
    for i, column in enumerate(texts):
        document.set_xy(12 + i * (width + 8), top)
        document.multi_cell(width, 5, column)


def test_a_title_in_the_middle_stands_before_three_columns():
    document = page(9)
    document.set_font("helvetica", "B", 14)
    document.cell(0, 10, "On the Tides", align="C")
    document.set_font("helvetica", size=9)
    columns(document, 25, 56, *(f"{name} begins. {SENTENCE * 4}" for name in ("Alpha", "Beta", "Gamma")))
    found = text(document)
    places = [found.index(part) for part in ("On the Tides", "Alpha begins", "Beta begins", "Gamma begins")]
    assert places == sorted(places)


def test_a_table_across_two_columns_of_text_is_whole():
    document = page(10)
    columns(document, 20, 85, *(f"{name} one. {SENTENCE * 4}" for name in ("Left", "Right")))
    document.set_y(100)
    cells(document, [("Port", "Depth", "Fee"), ("Alda", "4.5 m", "12"), ("Brim", "6.0 m", "18")], (60, 60, 50))
    columns(document, 140, 85, *(f"{name} two. {SENTENCE * 4}" for name in ("Left", "Right")))
    found = text(document)
    assert "| Port | Depth | Fee |\n| --- | --- | --- |\n| Alda | 4.5 m | 12 |" in found
    places = [found.index(part) for part in ("Left one", "Right one", "| Port", "Left two", "Right two")]
    assert places == sorted(places)


def test_a_table_begins_below_the_address_of_an_invoice():
    document = page(10)
    for left, right in (("Bill to:", "Invoice no: 7"), ("Marta Quill", "Date: 3 May"), ("4 Pier Road", "Due: 3 June")):
        cells(document, [(left, right)], (120, 60))
    document.ln(8)
    cells(
        document,
        [("Item", "Qty", "Price"), ("Rope", "2", "14.50"), ("Anchor", "1", "99.00"), ("Sum", "", "113.50")],
        (90, 30, 30),
    )
    assert "| Item | Qty | Price |\n| --- | --- | --- |\n| Rope | 2 | 14.50 |" in text(document)


def test_a_cell_goes_on_in_the_next_line():
    document = page(10)
    cells(
        document,
        [
            ("Name", "Duties", "Since"),
            ("Anna", "Keeps the gate and", "2019"),
            ("", "the lamp", ""),
            ("Ben", "Counts", "2021"),
        ],
    )
    assert "| Anna | Keeps the gate and the lamp | 2019 |\n| Ben |" in text(document)


def test_french_compounds_keep_their_hyphen():
    lines = ["Les bateaux entrent dans le port deux fois, peut-", "être trois, avec la ma-", "rée."]
    rows = rows_of([Segment(line, 50, 50 + 5 * len(line), 700 - 14 * i, 710 - 14 * i) for i, line in enumerate(lines)])
    assert "peut-être trois, avec" in text_of(rows, 350)


def test_an_address_on_the_right_stays_lines():
    document = page(11)
    for line in ("Harbour Office", "1 Quay", "Northport"):
        document.cell(0, 6, line, align="R", new_x="LMARGIN", new_y="NEXT")
    document.multi_cell(0, 6, SENTENCE * 3)
    assert text(document).startswith("Harbour Office\n1 Quay\nNorthport\n" + SENTENCE)
