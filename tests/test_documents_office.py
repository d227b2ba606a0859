"""Word, PowerPoint and EPUB: the files of the field, and what each kind may hold."""

import docx
import pptx
import pytest
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import parse_xml
from hypothesis import given
from hypothesis import strategies as st
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from blockrag.documents import Limits, load, powerpoint, word
from blockrag.documents.document import Content
from blockrag.documents.number_formats import format_of, number_text
from blockrag.documents.word_numbering import Numbering
from blockrag.documents.word_runs import formula, shifted
from tests.document_files import CONTAINER, FIELD, ONE, PACKAGE, epub, saved, zipped

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
M = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'

FIELD_TEXTS = {
    "c01_footnotes.docx": [
        "Header: contract 77-B\n\n# Lease of the Mill House\n\nThe tenant pays a deposit[^1] before moving in.\n\n"
        "[^1]: The deposit is 1,850 guilders, returned within 14 days.\n\nRepairs are shared[^2].\n\n"
        "[^2]: The roof is the landlord's concern alone.\n"
    ],
    "c02_autonumber.docx": [
        "# 1. Definitions\n\n  1.1 \"Barge\" means", "# 2. Payment\n\n  2.1 The toll falls due on entry.\n  2.2 Late payment",
        "    (a) at five per cent in the first month;\n    (b) at nine per cent thereafter.\n",
    ],
    "c17_tracked_box_tables.docx": [
        "The fee is 650 marks.\n\nBoxed warning: keep dry.\n\n| Merged over three |  |  |\n| --- | --- | --- |\n"
        "| r1a | r1b | r1c |\n| r1a | r2b | in1, in2; in3, in4 |\n\nInside a content control.\n\nVisible end.\n\n"
        "Water is Hαcooperate漢字\n"
    ],
    "c38_super.docx": ["The store holds 10^6 litres of H_2O.\n"],
    "c18_groups_chart.pptx": [
        "# Ferry plan\n", "Inner group: return 19:10", "Grouped: leave at 07:30", "Nested twice: berth 4",
        "Chart: Passengers by season\n\n|  | Passengers |\n| --- | --- |\n| Spring | 310 |\n| Summer | 870 |\n",
        "| Both |  |\n| --- | --- |\n| a | b |", "- SmartArt step: cast off", "draught 2.4 m\n\nMention the strike.\n",
    ],
    "c03a_selfclosed_script.epub": ["The heron waited by the weir.", "The miller slept."],
    "c03b_selfclosed_title.epub": ["The heron waited by the weir.", "The miller slept."],
    "c03c_selfclosed_anchor.epub": ["First paragraph.\n\nSecond paragraph with tail and more text.\n\nThird.\n"],
    "c03d_spine_missing_item.epub": ["# One\n\nThe heron waited."],
    "c03f_encodings.epub": ["Цапля ждала.", "鷺が待つ。"],
    "c03g_svg_cover_nav.epub": ["# One\n\nText\xa0with — entities ©.\n"],
}  # fmt: skip

FIELD_NOTES = {
    "c17_tracked_box_tables.docx": (
        "16 characters of hidden text were left out.",
        "1 reading above a word (ruby) was left out.",
    ),
    "c03d_spine_missing_item.epub": ("The book lists cover-page, but does not hold it.",),
}


@pytest.mark.parametrize("name", FIELD_TEXTS)
def test_files_of_the_field(name):
    document = load(FIELD / name)
    for expected in FIELD_TEXTS[name]:
        assert document.text.count(expected) == 1
    assert document.notes == FIELD_NOTES.get(name, document.notes)


# Word


def read_word(document) -> Content:
    return word.read("f.docx", saved(document), Limits())


def with_body(xml: str):
    document = docx.Document()
    for element in reversed(parse_xml(f"<w:body {W} {M}>{xml}</w:body>")):
        document.element.body.insert(0, element)
    return document


def with_part(document, kind: str, xml: str) -> None:
    part = Part(PackURI(f"/word/{kind}.xml"), f"application/{kind}+xml", xml.encode(), document.part.package)
    document.part.relate_to(part, f"{RELATIONSHIP_TYPE.STYLES.rpartition('/')[0]}/{kind}")


def test_a_comment_follows_its_paragraph():
    document = docx.Document()
    run = document.add_paragraph("The fee is high.").runs[0]
    document.add_comment(run, text="Is it?\nAsk.", author="Ann")
    document.add_paragraph("The end.")
    assert read_word(document).text == "The fee is high.\n\n[Comment by Ann: Is it? Ask.]\n\nThe end.\n"


def test_headers_and_footers_are_read_once_and_page_numbers_are_not():
    document = docx.Document()
    document.add_paragraph("Text.")
    for section in (document.sections[0], document.add_section()):
        section.header.is_linked_to_previous = False
        section.header.paragraphs[0].text = "Contract 77-B"
        section.footer.is_linked_to_previous = False
        section.footer.paragraphs[0].text = "Page 1 of 3"
    assert read_word(document).text == "Contract 77-B\n\nText.\n"


def test_an_unknown_note_is_no_error():
    xml = '<w:p><w:r><w:t>Text</w:t><w:footnoteReference w:id="9"/></w:r></w:p>'
    assert read_word(with_body(xml)).text == "Text\n"


def test_hidden_styles_hide_and_may_be_overruled():
    document = with_body(
        '<w:p><w:r><w:t xml:space="preserve">a </w:t></w:r><w:r><w:rPr><w:rStyle w:val="Secret"/></w:rPr><w:t>bcd</w:t></w:r>'
        '<w:r><w:rPr><w:rStyle w:val="Secret"/><w:vanish w:val="0"/></w:rPr><w:t>e</w:t></w:r></w:p>'
    )
    document.styles.element.append(
        parse_xml(f'<w:style {W} w:type="character" w:styleId="Secret"><w:rPr><w:vanish/></w:rPr></w:style>')
    )
    content = read_word(document)
    assert content == Content("a e\n", notes=("3 characters of hidden text were left out.",))


@pytest.mark.parametrize(
    "xml, text",
    [
        ("<m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num><m:den><m:r><m:t>c</m:t></m:r></m:den></m:f>", "(a+b)/c"),
        ("<m:sSup><m:e><m:r><m:t>x</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup>", "x^2"),
        ("<m:rad><m:radPr/><m:deg/><m:e><m:r><m:t>y</m:t></m:r></m:e></m:rad>", "√(y)"),
        ("<m:d><m:e><m:r><m:t>a</m:t></m:r></m:e><m:e><m:r><m:t>b</m:t></m:r></m:e></m:d>", "(a, b)"),
    ],
)
def test_formulas_are_on_one_line(xml, text):
    assert formula(parse_xml(f"<m:oMath {M}>{xml}</m:oMath>")) == text
    assert read_word(with_body(f"<w:p><m:oMath>{xml}</m:oMath></w:p>")).text == text + "\n"


def test_scripts_above_and_below_the_line():
    assert (
        shifted("6", "superscript") == "^6"
        and shifted("2", "subscript") == "_2"
        and shifted("-3 ", "superscript") == "^-3 "
    )
    assert shifted("st", "superscript") == "st" and shifted("[^1]", "superscript") == "[^1]"


def numbering(*levels: str, numbers: str = '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>') -> Numbering:
    inside = "".join(f'<w:lvl w:ilvl="{i}">{level}</w:lvl>' for i, level in enumerate(levels))
    return Numbering(
        parse_xml(
            f'<w:numbering {W}><w:abstractNum w:abstractNumId="0">{inside}</w:abstractNum>{numbers}</w:numbering>'
        )
    )


def level(format: str, text: str, more: str = "") -> str:
    return f'<w:start w:val="1"/><w:numFmt w:val="{format}"/>{more}<w:lvlText w:val="{text}"/>'


CLAUSES = (level("decimal", "%1."), level("decimal", "%1.%2"), level("lowerLetter", "(%3)"))


def test_numbers_restart_below_a_higher_level_and_go_on_otherwise():
    lists = numbering(*CLAUSES)
    labels = [lists.label("1", depth) for depth in (0, 1, 1, 2, 2, 1, 2, 0, 1, 2)]
    assert labels == ["1.", "1.1", "1.2", "(a)", "(b)", "1.3", "(a)", "2.", "2.1", "(a)"]


def test_a_list_may_never_restart_and_a_level_may_be_legal():
    lists = numbering(level("upperRoman", "%1"), level("decimal", "%1.%2", '<w:isLgl/><w:lvlRestart w:val="0"/>'))
    assert [lists.label("1", depth) for depth in (0, 1, 0, 1)] == ["I", "1.1", "II", "2.2"]


def test_numbers_of_one_list_go_on_and_an_override_starts_anew():
    numbers = "".join(
        f'<w:num w:numId="{i}"><w:abstractNumId w:val="0"/>{override}</w:num>'
        for i, override in enumerate(["", "", '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride>'])
    )
    lists = numbering(*CLAUSES, numbers=numbers)
    assert [lists.label(id, 0) for id in "0112211"] == ["1.", "2.", "3.", "5.", "6.", "7.", "8."]


def test_bullets_unknown_lists_and_depths():
    assert numbering(level("bullet", "•")).label("1", 0) == "-"
    assert numbering(*CLAUSES).label("7", 0) is None and numbering(*CLAUSES).label("1", 8) is None


@given(st.integers(1, 3999))
def test_roman_numbers_read_back(number):
    values = dict(zip("ivxlcdm", (1, 5, 10, 50, 100, 500, 1000), strict=True))
    found = [values[letter] for letter in number_text(number, "lowerRoman")]
    assert number == sum(-a if a < b else a for a, b in zip(found, [*found[1:], 0], strict=True))


@given(
    st.integers(-5, 10**6), st.sampled_from(["lowerLetter", "upperRoman", "ordinal", "decimalZero", "chicago", "none"])
)
def test_any_number_has_a_short_text(number, format):
    assert len(number_text(number, format)) <= 60


# PowerPoint


def read_slides(deck) -> Content:
    return powerpoint.read("f.pptx", saved(deck), Limits())


def test_hidden_slides_are_told_and_pictures_counted():
    deck = pptx.Presentation()
    for title in ("One", "Two"):
        deck.slides.add_slide(deck.slide_layouts[5]).shapes.title.text = title
    deck.slides[1].element.set("show", "0")
    content = read_slides(deck)
    assert content == Content("# One\n\f# Two\n", notes=("1 slide is hidden but read: 2.",))


def test_a_chart_of_several_series_is_a_table():
    deck = pptx.Presentation()
    data = CategoryChartData()
    data.categories = ["Spring", "Summer"]
    data.add_series("Boats", (3, 4))
    data.add_series("Fees | crowns", (None, 8.5))
    slide = deck.slides.add_slide(deck.slide_layouts[6])
    slide.shapes.add_chart(XL_CHART_TYPE.LINE, 0, 0, Inches(2), Inches(2), data)
    assert read_slides(deck).text == (
        "Chart\n\n|  | Boats | Fees \\| crowns |\n| --- | --- | --- |\n| Spring | 3 |  |\n| Summer | 4 | 8.5 |\n"
    )


# EPUB


def test_names_are_found_regardless_of_case_and_missing_ones_are_told():
    book = {
        "meta-inf/CONTAINER.xml": CONTAINER, "ops/P.OPF": PACKAGE.replace('idref="b"', 'idref="nowhere"'), "OPS/ONE.xhtml": ONE,
    }  # fmt: skip
    document = load(zipped(book), "b.epub")
    assert document.text == "# Start\n\nIt began\nat sea.\n"
    assert document.notes == ("The book lists nowhere, but does not hold it.",)


def test_elements_that_close_themselves_close_nothing_else():
    chapter = ONE.replace("<h1>", '<div class="a"/><script src="x.js" /><textarea/><h1>').replace(
        "at sea", "at<b/> sea"
    )
    assert load(epub(**{"OPS/one.xhtml": chapter}), "b.epub").text.startswith("# Start\n\nIt began\nat sea.\n")


def test_lists_of_slides_have_the_numbers_that_powerpoint_shows():
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    frame = slide.placeholders[1].text_frame
    for i, (text, level, sign) in enumerate(
        [
            ("Fifth", 0, '<a:buAutoNum xmlns:a="{}" type="arabicPeriod" startAt="5"/>'),
            ("inner", 1, '<a:buAutoNum xmlns:a="{}" type="alphaLcParenBoth"/>'),
            ("Sixth", 0, '<a:buAutoNum xmlns:a="{}" type="arabicPeriod" startAt="5"/>'),
            ("plain", 0, '<a:buNone xmlns:a="{}"/>'),
            ("Again", 0, '<a:buAutoNum xmlns:a="{}" type="romanUcPeriod"/>'),
        ]
    ):
        paragraph = frame.paragraphs[0] if i == 0 else frame.add_paragraph()
        paragraph.text, paragraph.level = text, level
        paragraph._p.get_or_add_pPr().append(
            parse_xml(sign.format("http://schemas.openxmlformats.org/drawingml/2006/main"))
        )
    found = powerpoint.read("f.pptx", saved(deck), Limits()).text
    assert found == "5. Fifth\n  (a) inner\n6. Sixth\n\nplain\n\nI. Again\n"


@pytest.mark.parametrize(
    "number, format, text",
    [
        (3, "russianLower", "в"), (30, "russianUpper", "АА"), (21, "japaneseCounting", "二十一"), (110, "chineseCounting", "百十"),
        (105, "ideographDigital", "一〇五"), (12, "koreanCounting", "십이"), (3, "decimalEnclosedCircle", "③"),
        (21, "decimalEnclosedCircle", "21"), (4, "aiueoFullWidth", "エ"), (2, "iroha", "ロ"), (3, "ganada", "다"),
        (15, "hebrew1", "טו"), (22, "hebrew1", "כב"), (2, "arabicAlpha", "ب"), (10, "thaiNumbers", "๑๐"), (12, "hindiNumbers", "१२"),
        (21, "ordinalText", "Twenty-first"), (20, "ordinalText", "Twentieth"), (12, "cardinalText", "Twelve"),
        (2, "ideographTraditional", "乙"), (26, "hex", "1A"), (3, "numberInDash", "- 3 -"), (7, "unknown", "7"),
    ],
)  # fmt: skip
def test_numbers_in_the_scripts_of_the_world(number, format, text):
    assert number_text(number, format) == text
    assert (
        format_of("一") == "japaneseCounting"
        and format_of("①") == "decimalEnclosedCircle"
        and format_of("?") == "decimal"
    )
