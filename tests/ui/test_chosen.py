"""Documents that are chosen: asked alone, renamed, replaced, cut again, removed; and ways to add documents."""

from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from playwright.sync_api import expect

from blockrag.documents import pdf_picture
from blockrag.errors import ArgumentError, DocumentError
from storage.doctor import mend
from storage.errors import NotFoundError
from tests.document_files import FIELD, pdf
from tests.tiny import tiny_engine
from tests.ui.serving import TEXT, answered, index_all, load_files, make_service, read_waiting, visitor
from tests.ui.steps import ask as type_question
from tests.ui.steps import upload
from ui import fetch, inputs, strings
from ui.conversation_panel import Shown
from ui.guard import VISITOR_COOKIE
from ui.handlers import ask, chosen, documents, settings, thread
from ui.preferences import PreferenceError
from ui.server import Server

LAKES = "# Lakes\n\n" + "".join(f"Lake {i} is deep and cold. It is {i + 40} fathoms deep.\n\n" for i in range(9))


@pytest.fixture
def two(service, tmp_path):
    """A collection with two indexed documents, and their ids."""
    collection = visitor(service)
    for name, text in (("rivers.md", TEXT), ("lakes.md", LAKES)):
        (tmp_path / name).write_text(text)
    load_files(collection, [tmp_path / "rivers.md", tmp_path / "lakes.md"])
    index_all(collection)
    return collection, [*collection.documents]


def asked_in(collection, ids, question="How long is river 3?"):
    state = ask.begin(collection, question, ("block",), documents=tuple(ids))
    *_, state = ask.answer(collection, state, 4, 6)
    return state


def test_only_the_chosen_documents_are_searched_and_the_answer_says_so(two):
    collection, (rivers, lakes) = two
    assert {source.document for source in answered(collection).sources} == {"rivers.md", "lakes.md"}
    state = asked_in(collection, [lakes])
    assert {source.document for source in state.sources} == {"lakes.md"} and not state.error
    note = strings.SEARCHED_ONE.format(name="lakes.md")
    saved = thread.saved(collection, state.conversation)[-1]
    assert note in thread._turn(saved, is_selected=False)["notes"], "and still after a reload"
    again = ask.again(collection, state.conversation, state.turn, "full")
    *_, both = ask.answer(collection, again, 32, 6, ("full",))
    assert not both.error and both.sources == state.sources
    assert "2 chosen documents" in asked_in(collection, [rivers, lakes]).answers["block"].report.notes[-1]


def test_a_question_waits_for_the_chosen_documents_alone(two, tmp_path):
    collection, (rivers, _) = two
    (tmp_path / "new.md").write_text("# New\n\nThe tide comes in twice a day. " * 9)
    load_files(collection, [tmp_path / "new.md"])
    new = [*collection.documents][-1]
    state = ask.begin(collection, "When does the tide come in?", ("block",), documents=(new,))
    steps = ask.answer(collection, state, 4, 6)
    next(steps)
    assert state.is_waiting and not state.error
    steps.close()
    assert not asked_in(collection, [rivers]).error
    collection.worker.stop(collection.record.id)
    assert asked_in(collection, [new]).error == strings.CHOSEN_NOT_INDEXED
    collection.remove(new)
    with pytest.raises(NotFoundError, match="were removed"):
        asked_in(collection, [new])


def test_the_search_of_the_settings_is_used(two):
    collection, _ = two
    settings.save(collection, {"by": "lexical"})
    assert not answered(collection, "fathoms").error
    with pytest.raises(PreferenceError):
        settings.save(collection, {"by": "magic"})


def test_documents_are_renamed_replaced_cut_again_and_removed(two, tmp_path):
    collection, (rivers, lakes) = two
    chosen.rename(collection, lakes, "  The  lakes ")
    assert [row["name"] for row in documents.view(collection)["rows"]] == ["rivers.md", "The lakes"]
    with pytest.raises(PreferenceError, match="Type a name"):
        chosen.rename(collection, lakes, " ")
    (tmp_path / "lakes of 2025.txt").write_text(LAKES + "And one more lake, new this year.\n")
    documents.receive(collection, [tmp_path / "lakes of 2025.txt"], replaced=lakes)
    read_waiting(collection)
    assert [*collection.documents] == [rivers, lakes], "it is the same document, with another text"
    assert collection.find(lakes).record.name == "lakes of 2025.txt"
    assert "new this year" in collection.find(lakes).content.text
    settings.save(collection, {"segmenter": "fixed", "min_tokens": 16, "max_tokens": 64, "granularity": 1.0})
    chosen.recut(collection, [rivers, lakes])
    assert {doc.saved.segmenter for doc in collection.documents.values()} == {"fixed"}
    index_all(collection)
    chosen.remove_all(collection, [rivers, "gone"])
    assert [*collection.documents] == [lakes]
    with pytest.raises(NotFoundError):
        documents.receive(collection, [tmp_path / "lakes of 2025.txt"], replaced=rivers)


def test_what_is_chosen_is_told(two):
    collection, (rivers, lakes) = two
    assert chosen.scope(collection, ()) == ""
    assert chosen.scope(collection, (rivers,)) == "Asking only **rivers.md**"
    assert chosen.scope(collection, (rivers, lakes)) == "Asking only **2 of 2 documents**"
    assert chosen.scope(collection, ("gone",)) == strings.CHOSEN_GONE
    assert documents.view(collection, ("gone", lakes))["chosen"] == [lakes]
    chosen.rename(collection, lakes, "<b>*x*")
    assert chosen.scope(collection, (lakes,)) == r"Asking only **\<b\>\*x\***"


def test_a_folder_is_read_without_what_cannot_be_read(service, tmp_path):
    collection, tmp_path = visitor(service), tmp_path / "folder"
    tmp_path.mkdir()
    for name, text in (("a/one.md", "one " * 40), ("b/one.md", "two " * 40), ("b/film.mp4", "x"), ("b/.git.md", "x")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    said = documents.receive_folder(collection, sorted(p for p in tmp_path.rglob("*") if p.is_file()))
    assert "2 files" in said and "film.mp4" in said
    names = {row["name"] for row in read_waiting(collection)["rows"]}
    assert names == {"one.md", "one (2).md"}, "one does not take the place of the other"
    with pytest.raises(PreferenceError):
        documents.receive_folder(collection, [tmp_path / "b" / "film.mp4"])


def test_a_folder_of_the_machine_is_kept_in_step(service, tmp_path):
    collection, folder = visitor(service), tmp_path / "notes"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text("first " * 40)
    (folder / "sub" / "b.md").write_text("second " * 40)
    load_files(collection, [write(tmp_path / "other.md", "other " * 40)])
    assert "2 files" in documents.sync_folder(collection, str(folder))
    read_waiting(collection)
    (folder / "a.md").write_text("changed " * 40)
    (folder / "sub" / "b.md").unlink()
    assert "1 documents of deleted files" in documents.sync_folder(collection, str(folder))
    read_waiting(collection)
    texts = {doc.record.name: doc.content.text for doc in collection.documents.values()}
    assert set(texts) == {"a.md", "other.md"} and texts["a.md"].startswith("changed")
    for wrong in ("", str(tmp_path / "gone"), str(folder / "a.md")):
        with pytest.raises(PreferenceError, match="no folder"):
            documents.sync_folder(collection, wrong)


@pytest.mark.parametrize("access, host", [("private", "127.0.0.1"), ("shared", "203.0.113.5")])
def test_a_folder_of_the_server_is_read_only_at_the_machine(tmp_path, access, host):
    service = make_service(tiny_engine(), tmp_path / "data", access)
    page = Server(service, tmp_path / "data")._page
    (sync,) = [fn.fn for fn in page.fns.values() if fn.name == "_sync"]
    request = SimpleNamespace(client=SimpleNamespace(host=host), cookies={VISITOR_COOKIE: "s" * 40}, username=None)
    with pytest.raises(gr.Error, match="only where the application runs"):
        sync({"collection": 0}, str(tmp_path), Shown(), "", False, request)
    service.library.close()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_web_page_is_read_and_its_address_is_the_source(service, monkeypatch):
    collection, pages = visitor(service), iter(("one " * 40, "two " * 40))
    got = lambda url, most: fetch.Fetched("page.html", url, f"<html><body><p>{next(pages)}</p></body></html>".encode())  # noqa: E731
    monkeypatch.setattr(fetch, "fetch", got)
    for wanted in ("one", "two"):
        documents.receive_url(collection, "https://example.org/page")
        read_waiting(collection)
        (document,) = collection.documents.values()
        assert document.record.source == "https://example.org/page" and document.content.text.startswith(wanted)
    with pytest.raises(fetch.FetchError):
        documents.receive_url(collection, " ")


def test_a_scanned_pdf_is_read_where_ocr_is_on(service, monkeypatch, tmp_path):
    seen = []
    collection = visitor(service)
    path = write(tmp_path / "s.md", "text " * 40)
    from ui import worker  # noqa: PLC0415

    real = worker.load
    monkeypatch.setattr(worker, "load", lambda *a, **k: (seen.append(k["ocr"]), real(*a, **{**k, "ocr": False}))[1])
    documents.receive(collection, [path], ocr=True)
    documents.receive(collection, [path])
    read_waiting(collection)
    assert seen == [True, False]


def test_the_file_of_a_pdf_is_kept_as_long_as_the_document(service, tmp_path):
    collection, path = visitor(service), tmp_path / "a.pdf"
    path.write_bytes(pdf("The harbour opens at six. " * 20))
    load_files(collection, [path, FIELD / "c32_pagecross.pdf"])
    first = next(iter(collection.documents.values()))
    kept = collection.library.file_of(first.record)
    assert kept.read_bytes() == path.read_bytes() and len([*collection.library.received.iterdir()]) == 2
    path.write_bytes(pdf("The harbour opens at seven. " * 20))
    load_files(collection, [path])
    newer = collection.library.file_of(collection.find(first.record.document_id).record)
    assert not kept.exists() and newer.read_bytes() == path.read_bytes()
    collection.remove(first.record.document_id)
    service.library.delete_collection(collection.record)
    assert not [*collection.library.received.iterdir()]


def test_the_page_of_a_source_is_shown(open_page, shoot, tmp_path):
    (tmp_path / "harbour.pdf").write_bytes(pdf("Ferries sail daily. " * 20, "The harbour opens at six. " * 20))
    page = open_page()
    upload(page, tmp_path / "harbour.pdf")
    type_question(page, "When does the harbour open?")
    expect(page.locator("#thread .acts")).to_be_visible()
    expect(page.locator("#page img")).to_have_count(0)
    page.locator("#sources .card", has_text="page 2").first.click()
    picture = page.get_by_role("img", name="harbour.pdf, page 2")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == pdf_picture.WIDTH
    shoot(page, "pdf")
    page.click("#new-conversation")
    expect(picture).to_have_count(0)


def test_a_page_that_cannot_be_drawn_says_why(tmp_path):
    (tmp_path / "a.pdf").write_bytes(pdf("The harbour opens at six."))
    with (tmp_path / "a.pdf").open("rb") as file, pytest.raises(DocumentError, match="it has 1 pages"):
        pdf_picture.picture("a.pdf", file, 2)
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.7 nothing")
    with (tmp_path / "b.pdf").open("rb") as file, pytest.raises(DocumentError, match="damaged"):
        pdf_picture.picture("b.pdf", file, 1)


def test_files_are_kept_within_a_quota(service, tmp_path):
    collection, path = visitor(service), tmp_path / "a.pdf"
    path.write_bytes(pdf("The harbour opens at six. " * 20))
    from dataclasses import replace  # noqa: PLC0415

    service.library.quota = replace(service.library.quota, file_bytes_in_all=10)
    load_files(collection, [path])
    (document,) = collection.documents.values()
    assert document.record.file is None and not [*collection.library.received.iterdir()]


@pytest.mark.browser
def test_documents_are_chosen_on_the_page(open_page, tmp_path):
    page = open_page()
    paths = [
        write(tmp_path / "rivers.md", TEXT),
        write(tmp_path / "lakes.md", LAKES),
        write(tmp_path / "c.md", LAKES[9:]),
    ]
    upload(page, *paths)
    expect(page.locator("#documents .busy")).to_have_count(0)
    page.get_by_label("Ask lakes.md").check()
    expect(page.locator("#scope")).to_have_text("Asking only lakes.md")
    type_question(page, "How long is river 3?")
    expect(page.locator("#thread .note")).to_have_text(strings.SEARCHED_ONE.format(name="lakes.md"))
    page.locator("#new-name input, #new-name textarea").first.fill("Deep lakes")
    page.locator("#new-name button").click()
    expect(page.locator("#documents")).to_contain_text("Deep lakes")
    expect(page.get_by_label("Ask Deep lakes")).to_be_checked()
    page.set_input_files(
        "#replace input[type=file], #chosen-one input[type=file]", str(write(tmp_path / "d.md", LAKES * 2))
    )
    expect(page.get_by_label("Ask d.md")).to_be_checked()
    page.get_by_label("Ask c.md").check()
    expect(page.locator("#scope")).to_have_text("Asking only 2 of 3 documents")
    page.click("#delete-chosen")
    page.get_by_role("button", name="Delete 2 for good").click()
    expect(page.locator("#documents .row")).to_have_count(1)
    expect(page.locator("#scope")).to_have_count(0)
    page.get_by_label("Ask rivers.md").check()
    page.click("#choose-all")
    expect(page.get_by_label("Ask rivers.md")).not_to_be_checked()


def test_a_kept_file_that_is_lost_is_forgotten(service, tmp_path):
    collection, path = visitor(service), tmp_path / "a.pdf"
    path.write_bytes(pdf("The harbour opens at six. " * 20))
    load_files(collection, [path])
    (document,) = collection.documents.values()
    assert not mend(service.library)[0]
    service.library.file_of(document.record).unlink()
    found, left = mend(service.library)
    assert ["the file that it was read from is gone"] == [trouble.what for trouble in found] and not left
    assert collection.find(document.record.document_id).record.file is None


@pytest.mark.parametrize("docs", ["abc", 3, [1], [["a"]]])
def test_a_choice_is_a_list_of_ids(docs):
    with pytest.raises(ArgumentError):
        inputs.event({"docs": docs})
    assert inputs.event({"docs": ["a"]})["docs"] == ("a",)
