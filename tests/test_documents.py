"""Loading documents: text and its encodings, names, limits, and every kind of bad file."""

import io
import os
import struct
import sys
import zipfile
from pathlib import Path

import pytest

from blockrag.documents import (
    MAX_NOTE,
    MAX_NOTES,
    SUFFIXES,
    Content,
    Document,
    Limits,
    load,
    load_many,
    readers,
    sandbox,
    worker,
    zips,
)
from blockrag.documents.media import media_type
from blockrag.documents.readers import READERS
from blockrag.documents.zips import MAX_MEMBERS
from blockrag.errors import DocumentError
from tests.document_files import epub, pdf, slides, unzipped, word, zipped

READABLE = {
    "a.txt": (b"plain \xc3\xa9\r\nlines\r", "plain é\nlines\n"),
    "a.md": (b"# Head\n\nText.\n", "# Head\n\nText.\n"),
    "a.py": (b"def f():\n    return 1\n", "def f():\n    return 1\n"),
    "a.rst": (b"Head\n====\n", "Head\n====\n"),
    "noname": (b"just text", "just text"),
    "call Mr. Smith": (b"still text", "still text"),
}


@pytest.mark.parametrize("name", READABLE)
def test_text_is_kept_but_for_its_newlines(name):
    data, text = READABLE[name]
    document = load(data, name)
    assert document.text == text and document.name == name


def test_a_path_is_read_and_its_own_name_used(tmp_path):
    path = tmp_path / "note.md"
    path.write_text("# Note\n")
    for source in (path, str(path)):
        assert load(source) == Document("note.md", "text/markdown", "# Note\n", source=str(path))
    assert load(path, "other.txt").name == "other.txt"


def test_a_source_is_an_absolute_path_a_given_name_or_a_hash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a\nb.md").write_text("# Note\n")
    assert load("a\nb.md").source == f"{tmp_path}/a\\nb.md"
    assert load("a\nb.md", name="letters/a.md").source == "letters/a.md"
    assert load(b"text", name="letters/a.md").name == "a.md"
    one, two = load(b"text"), load(b"other text")
    assert one.name == two.name and one.id != two.id and load(b"text").id == one.id


def test_rich_files_are_read_in_the_worker_and_known_without_a_suffix():
    made = {"pdf": pdf("It is long."), "docx": word(), "pptx": slides(), "epub": epub(), "html": b"<p>It is long.</p>"}
    for suffix, data in made.items():
        document = load(data, f"f.{suffix}")
        assert SUFFIXES[f".{suffix}"] == document.media_type in READERS and document.text.strip()
    assert load(pdf("It is long."), "report").text == "It is long.\n"


# Encodings

RUSSIAN = (
    "Прилив поднимает море дважды в день, и корабли входят в гавань. Ветер дует с запада, а волны бьются о причал. "
)
POLISH = "Zażółć gęślą jaźń. Przypływ podnosi morze dwa razy dziennie, a statki wchodzą do portu. Łódź jest piękna. "
TURKISH = "Gelgit denizi günde iki kez yükseltir ve gemiler limana girer. Şişli'de güneş doğuyor, ığdır. "
JAPANESE = "港は広い。船が来る。潮が満ちる。風が吹いている。"
THAI = "น้ำขึ้นยกทะเลวันละสองครั้ง "
CHINESE = "潮汐每天两次抬高海面，船只进入港口。风从西边吹来，渔民修补渔网。"


@pytest.mark.parametrize(
    "encoding, text",
    [
        *((encoding, "Größe, naïve café – “quoted”. ") for encoding in ("utf-8-sig", "utf-16", "utf-32", "cp1252")),
        ("latin_1", "L'été dernier, nous avons été à la plage ; l'eau était très agréable. "),
        ("cp1250", POLISH),
        ("cp1251", RUSSIAN),
        ("cp1254", TURKISH),
        ("koi8_r", RUSSIAN),
        ("shift_jis", JAPANESE),
        ("gbk", CHINESE),
        ("cp874", THAI),
    ],
)
def test_encodings_are_found(encoding, text):
    assert load((text * 9).encode(encoding), "a.txt").text == text * 9


def test_big_endian_is_told_by_its_mark():
    assert load(b"\xfe\xff" + "Größe".encode("utf-16-be"), "a.txt").text == "Größe"


@pytest.mark.parametrize("encoding, text", [("cp1252", "Größe und Höhe.\n"), ("shift_jis", JAPANESE + "\n")])
def test_an_encoding_shows_wherever_it_shows(encoding, text):
    data = b"plain ascii\n" * 200_000 + (text * 30_000).encode(encoding)
    assert load(data, "a.log").text.endswith(text * 30_000)


def test_damaged_utf8_is_an_error_and_not_read_as_something_else():
    data = ("Größe und Höhe, naïve café. " * 9).encode()
    with pytest.raises(DocumentError, match="UTF-8 with a damaged character at byte 254"):
        load(data[:254] + b"\xff" + data[254:], "a.txt")
    with pytest.raises(DocumentError, match="seems to be utf-16, but not all of it is"):
        load("Größe".encode("utf-16") + b"\0", "a.txt")


def test_marks_of_every_script_are_left_alone():
    text = "e\u0301 👩‍👩‍👧 שלום नमस्ते 🇩🇪 \u200f\n"
    assert load(text.encode(), "a.txt").text == text


# Bad files


def bomb(member: str) -> bytes:
    return zipped({**unzipped(word()), member: b"0" * (30 << 20)})


def lying_bomb() -> bytes:
    """Declares in both places that 30 MB are 10 bytes."""
    size, lie = struct.pack("<I", 30 << 20), struct.pack("<I", 10)
    return bomb("word/media/a.bin").replace(size, lie)


def xml_bomb(member: str, files: dict[str, bytes]) -> bytes:
    entities = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(12))
    xml = files[member].decode().partition("?>")[2] or files[member].decode()
    root = xml.lstrip().removeprefix("<").split()[0]
    body = xml.replace("harbour", "&e12;").replace("First", "&e12;").replace('full-path="', 'full-path="&e12;')
    return zipped({**files, member: f'<!DOCTYPE {root} [<!ENTITY e0 "ha">{entities}]>{body}'})


def encrypted_zip() -> bytes:
    data = bytearray(word())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        flags = archive.start_dir + 8
    data[flags] |= 1
    return bytes(data)


BAD = {
    "empty.txt": (b"", "the file is empty"),
    "blank.txt": (b" \n\t ", "no text"),
    "blank.docx": (zipped({**unzipped(word()), "word/document.xml": b"<w:document/>"}), "damaged"),
    "scan.pdf": (pdf(""), "no text layer"),
    "secret.pdf": (pdf("x", password="p"), "encrypted"),
    "secret.docx": (encrypted_zip(), "encrypted"),
    "old.docx": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "an old Office file; save it as"),
    "drm.epub": (
        epub(**{"META-INF/encryption.xml": '<e><CipherReference URI="two%20b.xhtml"/></e>'}),
        "encrypted",
    ),
    "torn.epub": (epub(**{"OPS/one.xhtml": None, "two b.xhtml": None}), "chapters are missing"),
    "cut.pdf": (pdf("text")[:300], "damaged"),
    "cut.docx": (word()[:-200], "damaged"),
    "hollow.docx": (zipped({"word_document": b""}), "zip archive"),
    "broken.docx": (zipped({"word/document.xml": "<x>"}), "damaged"),
    "deep.html": (b"<div>" * 5000 + b"text", "damaged .*depth"),
    "fake.docx": (pdf("text"), "the content is a PDF"),
    "fake.txt": (word(), "the content is a Word document"),
    "fake.pptx": (word(), "the content is a Word document"),
    "fake.pdf": (b"hello, I am text", "looks like plain text: it is damaged or disguised"),
    "noise.pdf": (bytes(range(256)) * 20, "looks like unknown binary data"),
    "program.pdf": (b"MZ\x90\0" + bytes(500), "a Windows program"),
    "program.txt": (b"\x7fELF" + bytes(500), "a Linux program"),
    "picture.md": (b"\x89PNG\r\n" + bytes(100), "a PNG picture"),
    "binary.txt": (bytes(range(256)) * 20, "binary"),
    "zeros.csv": (bytes(1000), "binary"),
    "a.unknown": (b"still text", "files of the type .unknown are not read"),
    "archive.zip": (zipped({"a": "b"}), "a zip archive"),
    "bomb.docx": (bomb("word/document.xml"), "inflates to more than 20 MB"),
    "liar.docx": (lying_bomb(), "damaged .*CRC"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_an_error_that_names_it_and_the_reason(name):
    data, reason = BAD[name]
    with pytest.raises(DocumentError, match=f"^{name}: .*({reason})"):
        load(data, name, Limits(max_expanded_bytes=20 << 20))


@pytest.mark.parametrize(
    "suffix, member, make",
    [
        ("docx", "word/document.xml", word),
        ("pptx", "ppt/slides/slide1.xml", slides),
        ("epub", "META-INF/container.xml", epub),
    ],
)
def test_entities_are_never_expanded(suffix, member, make):
    try:
        text = load(xml_bomb(member, unzipped(make())), f"f.{suffix}", Limits(memory_bytes=1 << 30)).text
    except DocumentError as error:
        text = error.reason
    assert "haha" not in text and "needs more" not in text and "more than" not in text


def test_a_zip_of_countless_members_is_not_even_listed(monkeypatch):
    monkeypatch.setattr(zips, "MAX_MEMBERS", 5)
    with pytest.raises(DocumentError, match="more than 5 files"):
        load(word(), "h.docx")


def test_the_rest_of_a_batch_goes_on(tmp_path):
    good, bad, folder, pipe = (tmp_path / name for name in ("good.txt", "bad.pdf", "folder", "pipe"))
    good.write_text("fine")
    bad.write_text("not a pdf")
    folder.mkdir()
    os.mkfifo(pipe)
    sources = [bad, tmp_path / "missing.txt", folder, pipe, "a\0b", "n" * 5000, good, b"bytes"]
    found = list(load_many(sources))
    assert [type(f) for f in found] == [DocumentError] * 6 + [Document] * 2
    reasons = [
        "looks like plain text",
        "no such file",
        "a folder",
        "not a regular file",
        "not a valid path",
        "too long",
    ]
    for error, reason in zip(found, reasons, strict=False):
        assert reason in str(error)
    assert [document.text for document in found[6:]] == ["fine", "bytes"]


def test_an_unreadable_file_says_why(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("x")

    def denied(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(DocumentError, match=r"a\.txt: it cannot be opened \(Permission denied\)"):
        load(path)


# Names, limits, the worker


@pytest.mark.parametrize(
    "name, label",
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.txt", "a.txt"),
        ("<img src=x onerror=y>.txt", "<img src=x onerror=y>.txt"),
        ("a\0b\n.txt", "ab.txt"),
        ("\u202etxt.exe.txt", "txt.exe.txt"),
        ("\udcff.txt", ".txt"),
        ("", "unnamed"),
        ("/", "unnamed"),
        ("n" * 300 + ".txt", "n" * 196 + ".txt"),
        ("n" * 300, "n" * 200),
    ],
)
def test_a_name_is_only_a_label(name, label):
    assert load(b"text", name).name == label


def test_limits_are_told_with_their_numbers():
    with pytest.raises(DocumentError, match="more than 0.5 MB"):
        load(b"x" * (3 << 20), "a.txt", Limits(max_bytes=1 << 19))
    with pytest.raises(DocumentError, match="1,000 characters of text; at most 10"):
        load(b"x" * 1000, "a.txt", Limits(max_chars=10))
    with pytest.raises(DocumentError, match="41 characters of text; at most 10"):
        load(b"<p>" + b"x" * 40, "a.html", Limits(max_chars=10))
    with pytest.raises(DocumentError, match="2 pages; at most 1"):
        load(pdf("a", "b"), "a.pdf", Limits(max_pages=1))


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_is_more_than_nothing(value):
    with pytest.raises(ValueError, match=f"timeout_s is {value}"):
        Limits(timeout_s=value)


def test_a_file_too_large_is_not_read_whole(tmp_path):
    with open(tmp_path / "sparse.txt", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DocumentError, match="more than 1 MB"):
        load(tmp_path / "sparse.txt", limits=Limits(max_bytes=1 << 20))


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.mark.parametrize(
    "code, reason",
    [
        ("import time; time.sleep(60)", "more than 0.5 s"),
        ("import os; os.abort()", "its parser crashed"),
        ("import no_such_library", "its reader failed .*No module named 'no_such_library'"),
    ],
)
def test_a_parser_that_hangs_or_dies_is_an_error(monkeypatch, code, reason):
    monkeypatch.setattr(sandbox, "COMMAND", python(code))
    with pytest.raises(DocumentError, match=f"^f.pdf: .*{reason}"):
        load(pdf("text"), "f.pdf", Limits(timeout_s=0.5))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_a_parser_that_wants_too_much_memory_is_an_error():
    with pytest.raises(DocumentError, match="needs more than 30 MB|crashed|failed"):
        load(word(), "h.docx", Limits(memory_bytes=30 << 20))


def test_what_a_parser_prints_is_not_taken_for_its_answer(monkeypatch):
    noisy = "html.read = lambda *given: os.write(1, b'noise') and print('noise') or Content('text', notes=('n',))"
    code = f"import os; from blockrag.documents import Content, html, worker; {noisy}; worker.main()"
    monkeypatch.setattr(sandbox, "COMMAND", python(code))
    document = load(b"<p>a", "a.html")
    assert (document.text, document.notes) == ("text", ("n",))


@pytest.mark.parametrize(
    "text, error, answer",
    [
        ("text", None, {"text": "text", "encoding": "", "notes": ()}),
        ("longer text", None, {"reason": "11 characters of text; at most 5 are allowed; split it"}),
        ("", DocumentError("f", "it is encrypted"), {"reason": "it is encrypted"}),
        ("", MemoryError(), {"reason": "reading it needs more than 2048 MB"}),
        ("", KeyError("x"), {"reason": "the file is damaged (KeyError: 'x')"}),
    ],
)
def test_the_worker_answers_whatever_happens(monkeypatch, text, error, answer):
    def read(*given):
        if error:
            raise error
        return Content(text)

    monkeypatch.setattr(readers, "load", lambda media_type, ocr: read)
    assert worker._answer("a type", "f", b"", Limits(max_chars=5)) == answer


def test_notes_are_few_short_and_on_one_line(monkeypatch):
    notes = ("one\nline", "one\nline", "n" * 5000, "half \ud800", *map(str, range(99)))
    monkeypatch.setattr(readers, "load", lambda media_type: lambda *given: Content("text", "cp1252", notes))
    document = load(b"text", "a.txt")
    assert document.encoding == "cp1252" and document.notes[:3] == ("one line", "n" * MAX_NOTE, "half \ufffd")
    assert len(document.notes) == MAX_NOTES and document.notes[-1] == "53 more notes."


def test_the_worker_imports_what_this_process_does(monkeypatch):
    monkeypatch.setattr(
        sandbox,
        "COMMAND",
        python('import os; print(\'{"encoding": "", "notes": []}\'); print(os.environ["PYTHONPATH"], end="")'),
    )
    monkeypatch.setattr("blockrag.documents.readers.LIBRARIES", ())  # they are not found on this path
    monkeypatch.setattr(sys, "path", ["", "/elsewhere"])
    root = str(Path(sandbox.__file__).parents[2])
    assert load(b"<p>a", "a.html").text.split(os.pathsep) == [root, "/elsewhere"]


def test_the_worker_is_found_from_any_folder_and_takes_nothing_from_it(tmp_path, monkeypatch):
    (tmp_path / "docx.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert "It is long." in load(word(), "h.docx").text


def test_a_text_that_mentions_how_a_pdf_begins_is_a_text():
    text = "# Formats\n\nA PDF begins with `%PDF-1.7`.\n"
    assert load(text.encode(), "formats.md").media_type == "text/markdown"
    with pytest.raises(DocumentError, match="the content is a PDF"):
        load(pdf("text"), "formats.md")


@pytest.mark.slow
def test_fifty_megabytes_and_a_line_of_a_million_characters_load():
    line = "A sentence that fills the file, again and again. "
    assert len(load((line * (50 * (1 << 20) // len(line))).encode(), "big.txt").text) > 52_000_000
    assert load(b"x" * 1_000_000, "line.txt").text == "x" * 1_000_000


def test_equal_text_is_the_same_document_whatever_its_name():
    assert load(b"same", "a.txt").sha256 == load(b"same", "b.md").sha256 != load(b"other", "a.txt").sha256


def test_pages_are_told_where_there_are_some():
    assert load(b"text", "a.txt").page_of(2) is None
    document = load(slides(), "d.pptx")
    assert [document.page_of(document.text.index(title)) for title in ("First", "Second")] == [1, 2]


def test_a_zip_of_millions_of_members_is_refused_before_they_are_listed(monkeypatch):
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("it was taken apart"))
    data = b"PK\x03\x04" + b"PK\x01\x02" * (MAX_MEMBERS + 1)
    for name in ("a.odt", "a.docx", "a"):
        with pytest.raises(DocumentError, match="zip bomb"):
            media_type(name, data)
