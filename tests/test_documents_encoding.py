"""Encodings: found by mark, by structure and by look; ties told; a name given; line breaks and NULs; surrogates."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.documents import Document, load
from blockrag.documents.encodings import guess
from blockrag.errors import DocumentError
from blockrag.segment import SizeBounds
from tests.document_files import FIELD
from tests.segmenting import bpe_counter, segment

NAMED = sorted(path.stem.removeprefix("c06_") for path in FIELD.glob("c06_*.txt"))
CODECS = {"short_sjis": "shift_jis", "iso2022_jp": "iso2022_jp"}
WORDS = {
    "cp1251": "Прилив поднимает море дважды в день, и корабли входят в гавань.",
    "koi8_r": "Прилив поднимает море дважды в день, и корабли входят в гавань.",
    "cp1250": "Zażółć gęślą jaźń. Statki wchodzą do portu.",
    "mac_roman": "L’entrepôt ouvre à huit heures, même l’été.",
    "cp850": "Größere Mengen müssen früher gemeldet werden.",
    "cp1253": "Η αποθήκη ανοίγει κάθε μέρα στις οκτώ το πρωί.",
    "shift_jis": "会議は三時です。資料を読んでください。",
    "euc_jp": "会議は三時です。資料を読んでください。",
    "gbk": "潮汐每天两次抬高海面，船只进入港口。",
    "big5": "倉庫每天早上八點開門。貨物必須登記。",
    "euc_kr": "창고는 매일 아침 여덟 시에 문을 엽니다.",
}


@pytest.mark.parametrize("name", NAMED)
def test_the_field_is_read_in_its_encoding(name):
    path = FIELD / f"c06_{name}.txt"
    encoding = CODECS.get(name, name)
    document = load(path)
    assert document.text == path.read_bytes().decode(encoding)
    assert document.encoding == encoding


@pytest.mark.parametrize("encoding", WORDS)
@pytest.mark.parametrize("n", [1, 40])
def test_one_sentence_or_many_are_read_alike(encoding, n):
    text = (WORDS[encoding] + "\n") * n
    document = load(text.encode(encoding), "a.txt")
    assert document.text == text and document.encoding == encoding


@pytest.mark.parametrize("word", ["été", "für", "Łódź", "naïve", "5 € – ok", "“quoted”"])
def test_a_word_alone_is_no_east_asian_text(word):
    encoding = {"Łódź": "cp1250"}.get(word, "cp1252")
    assert load(f"{word}\n".encode(encoding), "a.txt").text == f"{word}\n"


def test_a_tie_is_told_and_a_name_given_ends_it():
    data = "你好".encode("gbk")
    guessed = load(data, "a.txt")
    assert "gbk" in guessed.encoding or any("gbk" in note and "--encoding" in note for note in guessed.notes)
    given_name = load(data, "a.txt", encoding="gbk")
    assert given_name.text == "你好" and given_name.encoding == "gbk" and given_name.notes == ()


def test_ascii_with_the_escapes_of_iso_2022_is_not_utf_8():
    for text, encoding in (("会議は三時です。\nNext line.\n", "iso2022_jp"), ("회의는 세 시입니다.\n", "iso2022_kr")):
        document = load(text.encode(encoding), "mail.txt")
        assert document.text == text and document.encoding == encoding
    assert load(b"\x1b[31mred\x1b[0m\n", "a.log").encoding == "utf-8"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    "text", ["Quarterly totals\nNorth: 120\n", "Привет, мир\nкак дела\n", "会议三点开始。\n今天很好。\n", "a,b\n1,2\n"]
)
def test_wide_text_without_a_mark_is_text(encoding, text):
    document = load(text.encode(encoding), "a.txt")
    assert document.text == text and document.encoding == encoding


def test_the_wide_field_is_read():
    assert load(FIELD / "c07a_utf16le_nobom.txt").text.startswith("Quarterly totals\nNorth: 120\nSouth: 98\n")
    assert load(FIELD / "c07b_utf16be_nobom.csv").text == "name,total\nNorth,120\nSouth,98\n"
    assert load(FIELD / "c07c_utf16_bom.html").text == "# Totals\n\nNorth sold 120 crates.\n"


def test_nuls_are_left_out_and_told():
    document = load(FIELD / "c29_nul.txt")
    assert document.text == "Alda is 4.5 m deep.\nBrim is 6 m deep.\n" * 20
    assert document.notes == ("20 NUL characters were left out.",)


def test_a_vertical_tab_is_a_line_break():
    text = "# Title\n\nFirst.\n\nSecond.\n\n Third\f Fourth.\u2028Fifth"
    assert load(FIELD / "c29_crlf_bom.md").text == text
    assert load(b"one\x0btwo\r\nthree\rfour", "a.txt").text == "one\ntwo\nthree\nfour"


@pytest.mark.parametrize(
    "encoding, reason",
    [
        ("klingon", "there is no text encoding 'klingon'"),
        ("rot13", "there is no text"),
        ("ascii", "not ascii at byte 2"),
    ],
)
def test_a_wrong_name_of_an_encoding_says_so(encoding, reason):
    with pytest.raises(DocumentError, match=reason):
        load("naïve".encode(), "a.txt", encoding=encoding)


def test_a_name_given_goes_before_what_the_file_declares():
    data = '<meta charset="utf-8"><p>Прилив</p>'.encode("cp1251")
    document = load(data, "a.html", encoding="cp1251")
    assert document.text == "Прилив\n" and document.encoding == "cp1251"


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0\r\v"), max_size=60))
@settings(deadline=None, max_examples=100)
def test_utf_8_is_read_as_it_is(text):
    try:
        document = load(text.encode(), "a.txt")
    except DocumentError:
        assert not text.strip() or any(ord(c) < 32 for c in text)
    else:
        if document.encoding == "utf-8":
            assert document.text == text.removeprefix("\ufeff")


@given(st.binary(min_size=1, max_size=200))
@settings(deadline=None, max_examples=100)
def test_a_guess_decodes_what_it_was_made_from(data):
    found = guess(data)
    if found is not None:
        assert isinstance(data.decode(found.encoding), str)


@pytest.mark.parametrize("half", ["\ud83d", "\udc00", "a\udfffb"])
def test_halves_of_characters_are_cleaned_at_every_entry(half):
    document = Document(half + ".txt", "text/plain", f"x {half} y", source=half)
    segmented = segment(document.text, bounds=SizeBounds(1, 64)).document
    for text in (document.name, document.source, segmented.text):
        assert text.encode() and "\ufffd" in text
    assert bpe_counter().count(half) == bpe_counter().count(document.name.removesuffix(".txt"))
    assert len(bpe_counter().starts(half)) > 0


SHORT = [
    ("Öl", "cp850"), ("où", "cp850"), ("garçon, élève", "mac_roman"), ("¿qué?", "cp1252"), ("ą", "cp1250"), ("ışık", "cp857"),
    ("köszönöm szépen", "cp852"), ("да", "cp1251"), ("да", "cp866"), ("ИТОГО", "cp1251"), ("ИТОГО", "cp866"), ("я", "cp1251"),
    ("Київ", "cp1251"), ("ΕΛΛΑΔΑ", "cp1253"), ("כן", "cp1255"), ("مرحبا", "iso8859_6"), ("潮", "shift_jis"), ("是", "gbk"),
    ("네", "euc_kr"), ("你好", "gbk"), ("はい", "euc_jp"),
]  # fmt: skip


@pytest.mark.parametrize("text, encoding", SHORT)
def test_a_few_letters_are_read_right_or_the_note_names_their_encoding(text, encoding):
    document = load(text.encode(encoding), "a.txt")
    if document.text != text:
        told = next(note for note in document.notes if note.startswith("The encoding"))
        names = told.partition("guess: ")[2].partition(" would")[0].replace(" and ", ", ").split(", ")
        others = [name for name in names if "more" not in name]
        assert any(_read_as(text.encode(encoding), name) == text for name in others) or "more" in names[-1], told


def _read_as(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return ""


@pytest.mark.parametrize(
    "text", ["Größere Mengen müssen früher gemeldet werden.", "Don’t “quote” me — it’s 5 € a piece."]
)
def test_a_sentence_is_no_guess(text):
    assert load(text.encode("cp1252"), "a.txt").notes == ()


@pytest.mark.parametrize("text", ["© 2024 Alda Ltd.", "It costs £5 or ¥10 at 20°C.", "Señor Muñoz llegó."])
def test_signs_and_names_among_latin_letters_are_of_cp1252(text):
    assert load(text.encode("cp1252"), "a.txt").text == text


@pytest.mark.parametrize("encoding", ["koi8_r", "cp1251", "iso8859_5"])
@pytest.mark.parametrize(
    "words",
    ["ПРИВЕТ", "СКЛАД ЗАКРЫТ", "ДОГОВОР АРЕНДЫ", "ВНИМАНИЕ! НЕ ВХОДИТЬ", "Здравствуйте, Анна!", "ПРОТОКОЛ СОБРАНИЯ"],
)
def test_a_few_russian_words_are_neither_greek_nor_chinese(words, encoding):
    assert load(words.encode(encoding), "f.txt").text == words


@pytest.mark.parametrize("encoding", ["koi8_r", "cp1251", "iso8859_5", "cp866", "mac_cyrillic"])
@pytest.mark.parametrize("words", ["ДОГОВОР", "ЦЕНА", "ЗАЯВЛЕНИЕ", "ПОРТ", "ОТЧЁТ ЗА МАЙ"])
def test_a_wrong_guess_at_a_few_capitals_is_told(words, encoding):
    document = load(words.encode(encoding), "f.txt")
    assert document.text == words or any(encoding in note for note in document.notes)
