"""HTML as a reader sees it: what is visible, lists, tables, formulas, code, the main part, the declared encoding."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.documents import Limits, html, load
from blockrag.documents.html_lists import number_sign
from tests.document_files import FIELD


def field(name: str) -> str:
    return load(FIELD / name).text


def test_tables_keep_columns_under_their_heads():
    text = field("c20a_nested_table.html")
    assert "| Row inside a cell stays visible |" in text
    assert "| Port | Fee |\n| --- | --- |\n| Alda | 12 |\n\nSide note\n" in text
    assert "| Both | Both | Tall |\n| --- | --- | --- |\n| 1 | 2 | Tall |" in text


@pytest.mark.parametrize(
    "rows, written",
    [
        ("<tr><td rowspan=2>a<td>b<tr><td>c", ["| a | b |", "| a | c |"]),
        ("<tr><td>a<td rowspan=0>b<tr><td>c<tr><td>d", ["| a | b |", "| c | b |", "| d | b |"]),
        ("<tr><td>x<td rowspan=2 colspan=2>y<tr><td>z", ["| x | y | y |", "| z | y | y |"]),
        ("<tr><td colspan=x>a<td rowspan=-1>b", ["| a | b |"]),
        ("<tr><th>a<tbody><tr><td>b", ["| a |", "| b |"]),
        ("<tr><td rowspan=3>a<td>b<tr><td><p>c<p>d<tr><td>e", ["| a | b |", "c", "d", "| a | e |"]),
    ],
)
def test_spans_are_filled(rows, written):
    text = html.body_text(f"<table>{rows}</table>")
    assert [line for line in text.split("\n") if line and not line.startswith("| ---")] == written


def test_spans_of_hostile_size_stay_small():
    text = html.body_text("<table><tr><td colspan=1000 rowspan=65534>x" + "<tr><td>y" * 50 + "</table>")
    assert len(text) < 60_000


def test_ruby_is_one_word_with_its_reading():
    text = field("c20b_ruby.html")
    assert "表示(ひょうじ)を見て" in text and "東京(とうきょう)です" in text


def test_hidden_text_is_left_out():
    assert field("c20c_hidden.html") == "# Invoice\n\nThe total is 120 crowns.\n\nPay within 30 days.\n"


@pytest.mark.parametrize(
    "hidden",
    [
        "<p hidden>x</p>", "<p style='DISPLAY : none'>x</p>", "<p style='visibility:hidden'>x</p>",
        "<p style='opacity:0'>x</p>", "<p style='opacity: 0.0; color:red'>x</p>", "<p style='font-size:0px'>x</p>",
        "<p style='position:absolute;left:-9999px'>x</p>", "<p style='color:#fff;background:#FFF'>x</p>",
        "<style>.off{display:none}</style><p class='a off'>x</p>", "<style>p#i, b {display:none}</style><p id=i>x</p>",
        "<dialog>x</dialog>", "<template>x</template>", "<input type=hidden value=x>", "<datalist><option>x</datalist>",
    ],
)  # fmt: skip
def test_ways_of_hiding(hidden):
    assert html.body_text(f"<p>a</p>{hidden}<p>b</p>") == "a\n\nb\n"


@pytest.mark.parametrize(
    "shown",
    [
        "<p style='opacity:0.5'>x</p>", "<p style='font-size:0.8em'>x</p>", "<p hidden=until-found>x</p>",
        "<p style='display:block'>x</p>", "<style>@media print{.off{display:none}}</style><p class=off>x</p>",
        "<style>.a .off{display:none}</style><p class=off>x</p>", "<dialog open>x</dialog>",
        "<p style='color:red;background:white'>x</p>", "<p style='margin-left:-5px'>x</p>",
    ],
)  # fmt: skip
def test_what_is_visible_stays(shown):
    assert "x" in html.body_text(f"<p>a</p>{shown}<p>b</p>")


def test_code_keeps_its_shape_in_a_fence_longer_than_any_inside():
    text = field("c20d_pre.html")
    assert "```\ndef f(x):\n    if x:\n\n\n        return 1\n- item\n\n- item two\n```" in text
    assert "````\nline 1\n  indented 2\n\nline 4\n```\nfence inside\n```\n````" in text


def test_the_main_part_is_read_and_the_rest_told():
    document = load(FIELD / "c20e_article_nav.html")
    assert document.text.startswith("# Dredging notice\n") and "channel 12\nchannel 14" in document.text
    assert "Menu" not in document.text and "Copyright" not in document.text
    assert any("left out" in note for note in document.notes)


def test_a_page_of_links_alone_is_kept():
    links = "".join(f"<li><a href=x>Link {i}</a></li>" for i in range(20))
    assert "Link 19" in html.html_text(f"<nav><ul>{links}</ul></nav>")
    assert "Link 19" in html.html_text(f"<ul>{links}</ul>")


def test_lists_terms_and_formulas_of_the_field():
    text = field("c20f_math_dl.html")
    assert "Berth\n: A place to lie.\n\nToll\n: A fee.\n" in text
    assert "5. Fifth step\n6. Sixth step\n  a. sub a\n" in text
    assert "x_2 and y^3 and 10^6" in text and "Chart: fees rise to 18" in text
    assert field("c40c_mathml.html") == "Area: a=r^2\n"


@pytest.mark.parametrize(
    "number, style, sign",
    [(1, "a", "a."), (27, "a", "aa."), (28, "A", "AB."), (4, "i", "iv."), (1999, "I", "MCMXCIX."), (0, "a", "0."), (7, "1", "7.")],
)  # fmt: skip
def test_numbers_of_items(number, style, sign):
    assert number_sign(number, style) == sign


def test_values_and_reversed_lists():
    page = "<ol reversed><li>x</li><li>y</li></ol><ol><li value=9>p</li><li>q</li></ol>"
    assert html.body_text(page) == "2. x\n1. y\n\n9. p\n10. q\n" or html.body_text(page) == "2. x\n1. y\n9. p\n10. q\n"


@pytest.mark.parametrize(
    "page, text",
    [
        ("10<sup>6</sup> m<sup>2</sup>", "10^6 m^2"),
        ("H<sub>2</sub>O, x<sub>i+1</sub>", "H_2O, x_(i+1)"),
        ("the 1<sup>st</sup> of May<sup>[3]</sup>", "the 1st of May[3]"),
        ("<math><mfrac><mn>1</mn><mrow><mi>x</mi><mo>+</mo><mn>1</mn></mrow></mfrac></math>", "1/(x+1)"),
        ("<math><msqrt><mi>x</mi></msqrt></math>", "√(x)"),
        ("<math><semantics><mi>x</mi><annotation encoding='application/x-tex'>\\alpha</annotation></semantics></math>", "$\\alpha$"),
        ("a <select><option>b<option>c</select>", "a b c"),
    ],
)  # fmt: skip
def test_signs_inside_a_line(page, text):
    assert html.body_text(f"<p>{page}</p>") == text + "\n"


@pytest.mark.parametrize(
    "name, encoding, part",
    [
        ("c40a_gb2312_gbk.html", "gb18030", "朱镕基与囍。"),
        ("c40b_latin1_cp1252.html", "cp1252", "It costs 5 € – “now”."),
        ("c40d_xml_decl.xhtml", "gb18030", "会议三点开始。"),
        ("c40e_latin1_long.html", "cp1252", "warden’s fee is €5 – “due on entry” – and the clerk keeps the book…"),
    ],
)
def test_labels_are_taken_as_browsers_take_them(name, encoding, part):
    document = load(FIELD / name)
    assert part in document.text and document.encoding == encoding


@pytest.mark.parametrize("label, codec", [("x-sjis", "cp932"), ("ks_c_5601-1987", "cp949"), ("iso-8859-9", "cp1254")])
def test_other_labels(label, codec):
    text = {"cp932": "①会議は三時です。", "cp949": "똠방각하 창고는", "cp1254": "“Şişli”"}[codec]
    assert load(f'<meta charset="{label}"><p>{text}</p>'.encode(codec), "a.html").text == text + "\n"


def test_a_declaration_that_the_bytes_contradict_is_told():
    document = load('<meta charset="iso-8859-1"><p>Größe – “x”</p>'.encode(), "a.html")
    assert document.text == "Größe – “x”\n" and document.notes == ("The page declares iso-8859-1, but is in utf-8.",)


MARKUP = st.lists(
    st.sampled_from(
        "<p> </p> <ol> <ul> <li> </li> </ol> <table> <tr> <td> <td\xa0rowspan=3> <pre> </pre> <br> <sup> </sup> <ruby>"
        " <rt> </ruby> <math> <msup> <mi> </math> <dl> <dt> <dd> <h2> </h2> word ``` | <b> </b> <p\xa0hidden> </table>".split(" ")
    ),
    max_size=40,
)  # fmt: skip


@given(MARKUP)
@settings(deadline=None, max_examples=150)
def test_any_markup_becomes_text(pieces):
    page = " ".join(pieces).replace("\xa0", " ")
    text = html.body_text(page)
    assert "\ufdd0" not in text and "<" not in text
    shown = html.read("a.html", page.encode() or b" ", Limits()).text
    assert shown.count("word") <= page.count("word")


def test_styles_raise_and_lower_text_as_its_tags_do():
    rules = "<style>.up{vertical-align:super}.dn{position:relative;top:.33em;font-size:.58em}.hi{position:relative;top:-1em}</style>"
    page = "<p>10<span class=up>6</span> H<span class=dn>2</span>O <span style='vertical-align: sub'>i</span> <span class=hi>plain</span>"
    assert html.body_text(rules + page) == "10^6 H_2O _i plain\n"
    assert html.body_text("<p>vessels<a role=doc-noteref href=#n>1</a>") == "vessels^1\n"
    assert html.body_text("<p>a<sup><span style='vertical-align:super'>1</span></sup>") == "a^1\n"


def test_lines_of_a_table_begin_at_the_margin():
    table = "<table>\n <colgroup><col></colgroup>\n <thead>\n <tr> <th>a</th> </tr> </thead>\n <tbody>\n <tr>\n<td>b</td></tr> </tbody> </table>"
    assert html.body_text(table) == "| a |\n| --- |\n| b |\n"


@pytest.mark.parametrize(
    "style", ["height:0;overflow:hidden", "max-height: 0px; overflow-y: clip", "width:0;overflow:hidden"]
)
def test_what_has_no_room_is_hidden(style):
    assert html.body_text(f"<p>shown<p style='{style}'>hidden") == "shown\n"
    assert "kept" in html.body_text("<p style='height:0'>kept<p style='height:0.5em;overflow:hidden'>x")


def test_a_caption_stands_above_its_table():
    table = "<table><caption>Fees</caption><tr><th>a<th>b<tr><td>1<td>2</table>"
    assert html.body_text(table) == "Fees\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"
