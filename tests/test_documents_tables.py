"""Spreadsheets, OpenDocument and RTF: what is read of each, and that damage and bombs are errors."""

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.documents import Limits, load, media, rtf, spreadsheet
from blockrag.documents.spreadsheet import cell_text, grids
from blockrag.errors import DocumentError
from tests.document_files import SPACES, opendocument, unzipped, workbook, zipped

# Excel


def two_sheets(book) -> None:
    fees = book.add_worksheet("Fees")
    fees.write("A1", "Fees of the harbour")
    for row, values in enumerate((["Port", "Fee", "Since"], ["Alda", 12, ""], ["Brim | Head", 18.5, ""]), start=2):
        fees.write_row(row, 1, values)
    fees.write_datetime("D4", datetime.datetime(2024, 5, 3), book.add_format({"num_format": "yyyy-mm-dd"}))
    fees.write_formula("C6", "=SUM(C4:C5)", None, 30.5)
    fees.write_comment("B4", "Ask Ann.")
    chart = book.add_chart({"type": "column"})
    chart.add_series({"name": "Fee of a night", "values": "=Fees!$C$4:$C$5"})
    chart.set_title({"name": "Fees by port"})
    fees.insert_chart("H1", chart)
    old = book.add_worksheet("Old")
    old.write("A1", True)
    old.hide()


def test_a_workbook_is_read_sheet_by_sheet():
    document = load(workbook(two_sheets), "f.xlsx")
    first, second, rest = document.text.split("\f")
    assert first == (
        "# Fees\n\nFees of the harbour\n\n| Port | Fee | Since |\n| --- | --- | --- |\n| Alda | 12 | 2024-05-03 |\n"
        "| Brim \\| Head | 18.5 |  |\n|  | 30.5 |  |\n"
    )
    assert second == "# Old\n\nTRUE\n" and document.notes == ('The sheet "Old" is hidden but read.',)
    assert "Chart: Fees by port\n\n|  | Fee of a night |" in rest and "[Comment at B4: " in rest and "Ask Ann." in rest


def test_a_cell_far_away_is_no_bomb():
    data = workbook(
        lambda book: book.add_worksheet().write(1_048_575, 16_383, "far") or book.worksheets()[0].write(0, 0, "near")
    )
    with pytest.raises(DocumentError, match="1,048,576 rows and 16,384 columns"):
        load(data, "f.xlsx")


def test_cells_as_text():
    values = [3.0, 0.1, True, datetime.datetime(2024, 5, 3), datetime.datetime(2024, 5, 3, 7, 30), " a\n b ", 1e300]
    assert [cell_text(value) for value in values] == [
        "3", "0.1", "TRUE", "2024-05-03", "2024-05-03 07:30:00", "a b", "1e+300",
    ]  # fmt: skip


@given(st.lists(st.lists(st.sampled_from(["", "a", "b c"]), max_size=5), max_size=20))
def test_grids_lose_no_cell(rows):
    text = "\n".join(grids(rows))
    assert text.count("a") == sum(row.count("a") for row in rows) and text.count("b c") == sum(
        row.count("b c") for row in rows
    )


# OpenDocument

NUMBERED = (
    '<text:list-style style:name="L"><text:list-level-style-number text:level="1" style:num-format="1" style:num-suffix="."/>'
    '<text:list-level-style-number text:level="2" style:num-format="a" style:num-prefix="(" style:num-suffix=")"/></text:list-style>'
    '<style:style style:name="H"><style:text-properties text:display="none"/></style:style>'
    '<style:style style:name="Up"><style:text-properties style:text-position="super 58%"/></style:style>'
)


def test_an_opendocument_text():
    body = (
        '<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes><text:h text:outline-level="2">The port</text:h>'
        '<text:p>It holds 10<text:span text:style-name="Up">6</text:span><text:s text:c="2"/>litres'
        "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>1,850 guilders</text:p></text:note-body>"
        '</text:note>.<text:span text:style-name="H">secret</text:span><text:line-break/>End</text:p>'
        '<text:list text:style-name="L"><text:list-item><text:p>one</text:p><text:list><text:list-item><text:p>inner</text:p>'
        "</text:list-item></text:list></text:list-item><text:list-item><text:p>two</text:p></text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell><table:table-cell><text:p>b</text:p>"
        "</table:table-cell></table:table-row></table:table><text:p><draw:frame><draw:text-box><text:p>Boxed.</text:p>"
        "</draw:text-box></draw:frame></text:p><text:p>Asked<office:annotation><text:p>By Ann</text:p></office:annotation>.</text:p>"
    )
    header = (
        f"<office:document-styles {SPACES}><office:master-styles><style:master-page><style:header><text:p>Contract 77-B</text:p>"
        "</style:header></style:master-page></office:master-styles></office:document-styles>"
    )
    document = load(opendocument("text", body, NUMBERED, **{"styles.xml": header}), "f.odt")
    assert document.text == (
        "Contract 77-B\n\n## The port\n\nIt holds 10^6  litres[^1].\nEnd\n\n[^1]: 1,850 guilders\n\n1. one\n  (a) inner\n2. two\n\n"
        "| a | b |\n\nBoxed.\n\nAsked.\n\n[Comment: By Ann]\n"
    )
    assert document.notes == ("6 characters of hidden text were left out.",)


def test_an_opendocument_spreadsheet_shows_what_its_reader_sees():
    body = (
        '<table:table table:name="Fees"><table:table-row><table:table-cell><text:p>Port</text:p></table:table-cell>'
        '<table:table-cell><text:p>Share</text:p></table:table-cell><table:table-cell table:number-columns-repeated="16000"/>'
        '</table:table-row><table:table-row table:number-rows-repeated="2"><table:table-cell office:value="0.12"><text:p>12 %</text:p>'
        '</table:table-cell></table:table-row><table:table-row table:number-rows-repeated="1048573"><table:table-cell '
        'table:number-columns-repeated="16384"/></table:table-row></table:table>'
    )
    assert load(opendocument("spreadsheet", body), "f.ods").text == (
        "# Fees\n\n| Port | Share |\n| --- | --- |\n| 12 % |  |\n| 12 % |  |\n"
    )


def test_an_opendocument_presentation():
    page = (
        '<draw:page><draw:frame presentation:class="title"><draw:text-box><text:p>{}</text:p></draw:text-box></draw:frame><draw:g>'
        "<draw:frame><draw:text-box><text:p>Leave at 07:30</text:p></draw:text-box></draw:frame></draw:g>"
        "<presentation:notes><draw:frame><draw:text-box><text:p>Mention it.</text:p></draw:text-box></draw:frame></presentation:notes></draw:page>"
    )
    assert load(opendocument("presentation", page.format("One") + page.format("Two")), "f.odp").text == (
        "# One\n\nLeave at 07:30\n\nMention it.\n\f# Two\n\nLeave at 07:30\n\nMention it.\n"
    )


def test_repeated_text_is_bounded_and_told():
    body = (
        '<table:table table:name="S"><table:table-row table:number-rows-repeated="999999999"><table:table-cell><text:p>x</text:p>'
        "</table:table-cell></table:table-row></table:table>"
    )
    document = load(opendocument("spreadsheet", body), "f.ods")
    assert document.text.count("x") == 1000 and document.notes == ("999,998,999 repeated rows or cells were left out.",)


def test_an_encrypted_opendocument_is_refused():
    manifest = f"<manifest:manifest {SPACES}><manifest:encryption-data/></manifest:manifest>"
    with pytest.raises(DocumentError, match="encrypted"):
        load(opendocument("text", "", **{"META-INF/manifest.xml": manifest}), "f.odt")


# RTF


def read_rtf(text: str) -> str:
    return rtf.read("f.rtf", b"{\\rtf1\\ansi\\ansicpg1252 " + text.encode("latin-1") + b"}", Limits()).text


@pytest.mark.parametrize(
    "text, expected",
    [
        (r"One.\par Two\'e9 \u233?\u26085? {\b bold}.\par", "One.\n\nTwoé é日 bold.\n"),
        (r"{\fonttbl{\f0 Arial;}{\f1\fcharset204 Arial Cyr;}}\f1 \'cf\'ee\'f0\'f2", "Порт\n"),
        (r"{\fonttbl{\f1\fcharset128 MS Mincho;}}\f1 \'93\'fa\'96{", "日"),
        (r"Pays{\footnote {\super 1} 1,850 guilders} now.\par Next.", "Pays[^1] now.\n\n[^1]: ^1 1,850 guilders\n\nNext.\n"),
        (r"{\header Contract\par}Text{\*\unknown secret}{\v hidden}{\pict 0102}.", "Contract\n\nText.\n"),
        (r"{\stylesheet{\s1 heading 1;}{\s0 Normal;}}\pard\s1 Head\par\pard Text\par\pard\outlinelevel1 Sub\par", "# Head\n\nText\n\n## Sub\n"),
        (r"{\listtext\tab 1.\tab}one\par{\listtext\'b7\tab}two\par", "1. one\n- two\n"),
        (r"\trowd\intbl a\cell b\cell\row\intbl 1\cell 2\cell\row\pard After", "| a | b |\n| --- | --- |\n| 1 | 2 |\n\nAfter\n"),
        (r"10{\super 6} H{\sub 2}O", "10^6 H_2O\n"),
        (r"\uc2\u228\'61\'65x {\upr{ansi}{\*\ud{unicode}}}", "äx\n"),
        (r"\u-10179?\u-8704?", "😀\n"),
        ("a\\bin3 }}}b", "ab\n"),
        (r"{\field{\*\fldinst HYPERLINK http://x}{\fldrslt link}}", "link\n"),
    ],
)  # fmt: skip
def test_rtf(text, expected):
    assert read_rtf(text).startswith(expected)


def test_rtf_tells_what_it_left_out():
    data = rb"{\rtf1 Text{\v hidden}{\pict 0102}{\*\annotation Ask.}}"
    document = load(data, "f.rtf")
    assert document.text == "Text\n\n[Comment: Ask.]\n"
    assert document.notes == ("6 characters of hidden text were left out.", "1 picture was left out.")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="\\{}*'ab09 \n;parutblcelowfnd", max_size=200))
def test_any_rtf_is_read(text):
    try:
        rtf.read("f.rtf", b"{\\rtf1 " + text.encode(), Limits())
    except DocumentError as error:
        assert error.reason


def test_groups_without_end_are_refused_when_too_deep():
    with pytest.raises(DocumentError, match="groups are inside each other"):
        rtf.read("f.rtf", b"{\\rtf1 " + b"{" * 20_000, Limits())


# Refused by name


@pytest.mark.parametrize(
    "name, data, reason",
    [
        ("f.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "type .doc are not read; save it as .docx"),
        (
            "f",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "WordDocument".encode("utf-16-le"),
            "old Word document; save it as .docx",
        ),
        (
            "f.xlsx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "encrypted Office file",
        ),
        ("f.pages", b"PK\x03\x04", "type .pages are not read; save it as .docx"),
        ("f.numbers", b"text", "type .numbers are not read; save it as .xlsx"),
        ("f.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "Workbook".encode("utf-16-le"), "damaged"),
        ("f.ods", zipped({"mimetype": media.ODT}), "the name says .ods, but the content is an OpenDocument text"),
        ("f.rtf", b"no rtf", "the name says .rtf, but the content looks like plain text"),
    ],
)
def test_other_types_are_refused_by_their_name(name, data, reason):
    with pytest.raises(DocumentError, match=f"^{name}: .*{reason}"):
        load(data, name)


def test_a_damaged_workbook_is_an_error():
    with pytest.raises(DocumentError, match="damaged"):
        spreadsheet.read("f.xlsx", zipped({"xl/workbook.xml": "<x>"}), Limits())


MATH = '<math xmlns="http://www.w3.org/1998/Math/MathML"><mfrac><mi>a</mi><mi>b</mi></mfrac></math>'
CHART = (
    '<o xmlns:chart="urn:oasis:names:tc:opendocument:xmlns:chart:1.0" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"><chart:title><text:p>Catch</text:p></chart:title>'
    "<table:table><table:table-row><table:table-cell><text:p>cod</text:p></table:table-cell><table:table-cell><text:p>7</text:p>"
    "</table:table-cell></table:table-row></table:table></o>"
)


def test_formulas_and_charts_of_an_opendocument_text_are_read():
    frame = '<draw:frame><draw:object xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="./{}"/></draw:frame>'
    body = f"<text:p>Half\n   is {frame.format('M')}.</text:p><text:p>{frame.format('C/')}</text:p><text:p>{frame.format('X')}</text:p>"
    document = load(opendocument("text", body, **{"M/content.xml": MATH, "C/content.xml": CHART}), "f.odt")
    assert document.text == "Half is a/b.\n\nCatch\n\n| cod | 7 |\n"
    assert document.notes == ("1 embedded object was left out.",)


def test_titles_are_headings_and_page_numbers_no_text():
    style = '<style:style style:name="P1" style:family="paragraph" style:parent-style-name="Title"/>'
    body = '<text:p text:style-name="P1">Handbook</text:p><text:p>Page <text:page-number>3</text:page-number></text:p>'
    assert load(opendocument("text", body, style), "f.odt").text == "# Handbook\n\nPage\n"


def test_lists_of_an_opendocument_text_are_numbered_in_any_script():
    level = '<text:list-level-style-number text:level="1" style:num-format="一, 二, 三, ..." style:num-suffix="、"/>'
    body = '<text:list text:style-name="L"><text:list-item><text:p>港</text:p></text:list-item></text:list>'
    document = load(opendocument("text", body, f'<text:list-style style:name="L">{level}</text:list-style>'), "f.odt")
    assert document.text == "一、 港\n"


def numbered(level: int, shown: int = 1, **more: str) -> str:
    extra = "".join(f' {key.replace("_", ":")}="{value}"' for key, value in more.items())
    return (
        f'<text:list-level-style-number text:level="{level}" style:num-format="1" style:num-suffix="." '
        f'text:display-levels="{shown}"{extra}/>'
    )


def items(*texts: str, attributes: str = "") -> str:
    inner = "".join(
        text if text.startswith("<") else f"<text:list-item><text:p>{text}</text:p></text:list-item>" for text in texts
    )
    return f'<text:list text:style-name="L"{attributes}>{inner}</text:list>'


def test_headings_in_lists_are_headings_and_clauses_show_the_levels_above():
    styles = f'<text:list-style style:name="L">{numbered(1)}{numbered(2, 2)}</text:list-style>'
    head = (
        '<text:list-item><text:h text:outline-level="2">Payment</text:h>'
        + items("Due on entry.", "Late.")
        + "</text:list-item>"
    )
    body = items("First.", head)
    assert (
        load(opendocument("text", body, styles), "f.odt").text
        == "1. First.\n\n## 2. Payment\n\n2.1. Due on entry.\n2.2. Late.\n"
    )


def test_lists_continue_where_they_say_so_and_start_where_they_say_so():
    styles = f'<text:list-style style:name="L">{numbered(1)}{numbered(2, 2)}</text:list-style>'
    apart = "<text:p>Between.</text:p>"
    nested = "<text:list-item>" + items("inner") + "</text:list-item>"
    body = items("a") + apart + items("b", attributes=' text:continue-numbering="true"') + apart
    body += items(nested, attributes=' text:continue-list="x"') + apart + items("again")
    body += apart + items('<text:list-item text:start-value="7"><text:p>seven</text:p></text:list-item>')
    found = load(opendocument("text", body, styles), "f.odt").text.split("\n\nBetween.\n\n")
    assert [part.strip() for part in found] == ["1. a", "2. b", "2.1. inner", "1. again", "7. seven"]


def test_headings_are_numbered_by_the_outline():
    outline = numbered(1).replace("list-level", "outline-level").replace("-number", "") + numbered(2, 2).replace(
        "list-level", "outline-level"
    ).replace("-number", "")
    spaces = SPACES
    styles = (
        f"<office:document-styles {spaces}><text:outline-style>{outline}</text:outline-style></office:document-styles>"
    )
    body = "".join(
        f'<text:h text:outline-level="{level}"{more}>{text}</text:h>'
        for level, text, more in (
            (1, "A", ""),
            (2, "B", ""),
            (2, "C", ""),
            (1, "D", ' text:is-list-header="true"'),
            (1, "E", ""),
            (2, "F", ""),
        )
    )
    document = load(opendocument("text", body, **{"styles.xml": styles}), "f.odt")
    assert document.text == "# 1. A\n\n## 1.1. B\n\n## 1.2. C\n\n# D\n\n# 2. E\n\n## 2.1. F\n"


def test_hidden_sheets_of_opendocument_are_told():
    style = '<style:style style:name="ta2" style:family="table"><style:table-properties table:display="false"/></style:style>'
    sheet = '<table:table table:name="S" table:style-name="ta2"><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell></table:table-row></table:table>'
    assert load(opendocument("spreadsheet", sheet, style), "f.ods").notes == ('The sheet "S" is hidden but read.',)


def test_formulas_without_values_are_told_and_comments_found_wherever_they_are():
    def fill(book):
        sheet = book.add_worksheet("S")
        sheet.write_row(0, 0, ["a", "b"])
        sheet.write_formula(1, 0, "=1+1", value=2)
        sheet.write_comment(0, 0, "a remark")

    members = unzipped(workbook(fill))
    name = "xl/worksheets/sheet1.xml"
    bare = members[name].replace(b"<f>1+1</f><v>2</v>", b"<f>1+1</f><v></v>")
    assert bare != members[name]
    moved = {
        ("xl/comments/comment1.xml" if key == "xl/comments1.xml" else key): value for key, value in members.items()
    }
    document = load(zipped({**moved, name: bare}), "f.xlsx")
    assert document.notes == (
        "1 formula has no saved value and was left empty; open and save the file in a spreadsheet program.",
    )
    assert "[Comment at A1: a remark]" in document.text
    assert load(zipped(members), "f.xlsx").notes == ()
