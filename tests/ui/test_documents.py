"""Load, list and remove documents."""

import sqlite3
import time

import pytest

from blockrag.errors import BlockRAGError
from blockrag.events import Source
from storage.errors import LimitError
from tests.document_files import FIELD
from tests.samples import LANGUAGES
from tests.ui.conftest import Slow
from tests.ui.serving import SECRET, TEXT, index_all, load_files, only_document, read_waiting, visitor
from ui import strings
from ui.collection_service import CollectionService
from ui.handlers import blocks, documents, settings


def test_a_bad_file_says_why_and_the_others_load(service, tmp_path):
    collection = visitor(service)
    paths = [tmp_path / "a.txt", tmp_path / "b.pdf", tmp_path / "c.txt"]
    for path in paths:
        path.write_text(f"text of {path.name}")
    documents.receive(collection, paths)
    assert [(row["name"], row["state"]) for row in documents.view(collection)["rows"]] == [
        (path.name, strings.WAITING) for path in paths
    ]
    last = read_waiting(collection)
    good, bad = last["rows"][:2], last["rows"][2]
    waiting = strings.WAITING_TO_INDEX
    assert [(row["name"], row["state"]) for row in good] == [("a.txt", waiting), ("c.txt", waiting)]
    assert bad["name"] == "b.pdf" and "disguised" in bad["state"] and bad["failed"]
    assert not list(collection.library.received.iterdir())
    assert len(documents.remove(collection, bad["id"])["rows"]) == 2, "what could not be read can be dismissed"


def test_a_row_tells_what_was_left_out_and_guessed(service, tmp_path):
    collection = visitor(service)
    path = tmp_path / "a.txt"
    path.write_bytes("Größe und Höhe der Tür, für Müller.\n".encode("cp1252") * 9)
    last = load_files(collection, [path, FIELD / "c32_pagecross.pdf"])
    guessed, left_out = (row["notes"] for row in last["rows"])
    assert guessed[0].startswith("Read as ") and left_out[0].startswith('The line "Harbour Rules')


def test_a_row_tells_that_the_models_do_not_know_a_documents_language(service, tmp_path):
    collection = visitor(service)
    service.library.engine.embedder.languages = frozenset({"en"})
    spanish = tmp_path / "es.txt"
    spanish.write_text(LANGUAGES["es"] * 9)
    (row,) = load_files(collection, [spanish])["rows"]
    assert row["notes"][0].startswith("The text seems to be Spanish: the encoder knows English")


def test_loading_stops_and_resumes_after_a_restart(service, tmp_path):
    collection = visitor(service, SECRET["secret"])
    paths = [tmp_path / f"{i}.txt" for i in range(4)]
    for path in paths:
        path.write_text(f"text of {path.name}")
    documents.receive(collection, paths)
    service.worker.work()
    collection.worker.stop(collection.record.id)
    assert not service.worker.work()
    stopped = documents.view(collection)
    assert stopped["waiting"] == 4 and [row["state"] for row in stopped["rows"]].count(strings.STOPPED) == 4
    assert documents.status(collection)["action"] == "resume"
    again = visitor(CollectionService(service.library, "private"), SECRET["secret"])
    again.worker.resume(again.record.id)
    while again.worker.work():
        pass
    done = documents.view(again)
    assert done["waiting"] == 0 and [row["state"] for row in done["rows"]] == ["indexed"] * 4
    assert documents.status(again) == {}


def test_a_file_that_waits_or_is_read_can_be_removed(service, slow_file, tmp_path):
    collection = visitor(service)
    (tmp_path / "other.txt").write_text("Another text. " * 20)
    documents.receive(collection, [tmp_path / "other.txt", slow_file])
    first, second = (row["id"] for row in documents.view(collection)["rows"])
    documents.remove(collection, first)
    Slow.then = lambda: documents.remove(collection, second)
    read_waiting(collection)
    assert documents.view(collection)["rows"] == [] and not list(collection.library.received.iterdir())
    assert documents.remove(collection, second)["rows"] == [], "what is gone is gone"


def test_the_table_and_the_status_show_progress(service, slow_file):
    collection, states, said = visitor(service), [], []

    def look():
        states.append(documents.view(collection)["rows"][0]["state"])
        said.append(documents.status(collection)["text"])

    Slow.then = look
    last = load_files(collection, [slow_file])
    assert states == [f"cutting into blocks, {percent} %" for percent in (25, 50, 75, 100)]
    assert said[0].startswith("Reading slow.md: cutting into blocks, 25 %")
    assert last["rows"][0]["state"] == strings.WAITING_TO_INDEX


@pytest.mark.parametrize("stop", ["button", "end of the application"])
def test_a_file_stopped_while_segmenting_waits_again(service, slow_file, stop):
    collection = visitor(service, SECRET["secret"])
    if stop == "button":
        Slow.then = lambda: collection.worker.stop(1)
    else:  # without waiting, since the thread to wait for is this one
        Slow.then = lambda: collection.shutdown.begin(wait_s=0)
    documents.receive(collection, [slow_file])
    service.worker.work()
    assert documents.view(collection)["rows"][0]["name"] == "slow.md" and not collection.documents
    Slow.then = lambda: None
    again = visitor(CollectionService(service.library, "private"), SECRET["secret"])
    again.worker.resume(again.record.id)
    assert read_waiting(again)["rows"][0]["state"] == strings.WAITING_TO_INDEX


def test_the_same_file_again_says_so(collection, tmp_path):
    index_all(collection)
    view = load_files(collection, [tmp_path / "rivers.md"])
    assert view["notices"] == ["rivers.md is here already, with the same text."]
    assert [row["state"] for row in view["rows"]] == [strings.INDEXED]
    assert not list(collection.library.received.iterdir())


def test_documents_are_indexed_automatically_unless_a_setting_says_no(service, collection, tmp_path, clock):
    clock.now += 10
    assert service.worker.work() and documents.view(collection)["rows"][0]["state"] == strings.INDEXED
    settings.save(collection, {"auto_index": False})
    (tmp_path / "lakes.md").write_text("# Lakes\n\nThe lake is deep and cold. " * 9)
    assert load_files(collection, [tmp_path / "lakes.md"])["rows"][1]["state"] == strings.READY_TO_INDEX
    assert not service.worker.work()


def test_a_file_loaded_again_replaces_the_one_of_its_name(collection, tmp_path):
    for folder in ("same", "changed"):
        (tmp_path / folder).mkdir()
    (tmp_path / "same" / "rivers.md").write_text(TEXT)
    (tmp_path / "same" / "copy.md").write_text(TEXT)
    view = load_files(collection, sorted((tmp_path / "same").iterdir()))
    assert [row["name"] for row in view["rows"]] == ["rivers.md", "copy.md"]
    index_all(collection)
    document_id = documents.choices(collection)[0][1]
    before = blocks.view(collection, document_id)
    (tmp_path / "changed" / "rivers.md").write_text("# Lakes\n\nThe lake is deep and cold. " * 9)
    view = load_files(collection, [tmp_path / "changed" / "rivers.md"])
    assert [(row["name"], row["state"]) for row in view["rows"]] == [
        ("rivers.md", strings.WAITING_TO_INDEX), ("copy.md", strings.INDEXED),
    ]  # fmt: skip
    again = blocks.view(collection, document_id)
    assert again["length"] != before["length"] and again["version"] > before["version"]
    assert "lake" in collection.find(document_id).content.text


def test_a_source_of_a_changed_document_says_so(collection, tmp_path):
    text = TEXT[20:90]
    source = Source(1, "rivers.md", documents.choices(collection)[0][1], 20, 90, text, 0.5, 9)
    assert blocks.source_view(collection, source)["highlight"] == 20
    (tmp_path / "rivers.md").write_text("Another text. " * 30)
    load_files(collection, [tmp_path / "rivers.md"])
    assert blocks.source_view(collection, source) == {"empty": strings.SOURCE_CHANGED}


def test_too_many_files_are_refused(collection, tmp_path):
    paths = [tmp_path / f"{i}.txt" for i in range(collection.limiter.limits.n_files + 1)]
    for path in paths:
        path.write_text("one of too many")
    with pytest.raises(LimitError, match="at most"):
        documents.receive(collection, paths)
    assert not list(collection.library.received.iterdir())


def test_two_visitors_upload_the_same_file_at_once(service, tmp_path):
    """Gradio has it once for both: who is first must not take it from the other."""
    one, two = visitor(service), visitor(service)
    (tmp_path / "handout.md").write_text(TEXT)
    for collection in (one, two):
        documents.receive(collection, [tmp_path / "handout.md"])
    for collection in (one, two):
        view = read_waiting(collection)
        assert [(row["name"], row["state"]) for row in view["rows"]] == [("handout.md", strings.WAITING_TO_INDEX)]


def test_a_pasted_text_becomes_a_document(service):
    collection = visitor(service)
    documents.receive_text(collection, " Tides ", "The tide comes in twice a day. " * 20)
    documents.receive_text(collection, "", "# Moon\n\nThe moon pulls the water. " * 20)
    view = read_waiting(collection)
    assert [row["name"] for row in view["rows"]] == ["Tides.txt", "# Moon The moon pulls the water. # Moon .txt"]
    for text, error in (("  ", "Paste a text first"), ("x" * (service.limits.file_bytes + 1), "larger than")):
        with pytest.raises(BlockRAGError, match=error):
            documents.receive_text(collection, "big", text)


def test_a_named_encoding_is_used_even_after_a_restart(service, tmp_path):
    collection = visitor(service, SECRET["secret"])
    (tmp_path / "a.txt").write_bytes("Größe und Höhe der Tür. ".encode("cp850") * 20)
    with pytest.raises(BlockRAGError, match="no encoding 'cp-none'"):
        documents.receive(collection, [tmp_path / "a.txt"], "cp-none")
    documents.receive(collection, [tmp_path / "a.txt"], " CP850 ")
    again = visitor(CollectionService(service.library, "private"), SECRET["secret"])
    assert read_waiting(again)["rows"][0]["name"] == "a.txt"
    (document,) = again.documents.values()
    assert document.content.text.startswith("Größe und Höhe")


def test_the_page_tells_while_deleted_text_is_still_in_the_log(service, collection, tmp_path, monkeypatch):
    monkeypatch.setattr("storage.database.WIPE_S", 0.05)
    monkeypatch.setattr("storage.database.WIPE_WAIT_MS", 50)
    reader = sqlite3.connect(tmp_path / "data" / "blockrag.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM documents").fetchall()
    documents.remove(collection, only_document(collection)[0])
    assert documents.status(collection) == {"text": strings.STATUS_IN_LOG}
    reader.close()
    deadline = time.monotonic() + 20
    while documents.status(collection) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert documents.status(collection) == {}
