"""Load, list and remove documents."""

import pytest

from blockrag.events import Source
from storage.errors import LimitError
from tests.document_files import FIELD
from tests.ui.serving import SECRET, TEXT, load_files, visitor
from ui import strings
from ui.collection_service import CollectionService
from ui.handlers import blocks, documents, index


def test_a_bad_file_says_why_and_the_others_load(service, tmp_path):
    collection = visitor(service)
    paths = [tmp_path / "a.txt", tmp_path / "b.pdf", tmp_path / "c.txt"]
    for path in paths:
        path.write_text(f"text of {path.name}")
    first, *_, last = load_files(collection, paths)
    assert [(row["name"], row["state"]) for row in first["rows"]] == [
        ("a.txt", "reading …"),
        ("b.pdf", "waiting to be read"),
        ("c.txt", "waiting to be read"),
    ]
    good, bad = last["rows"][:2], last["rows"][2]
    assert [(row["name"], row["state"]) for row in good] == [("a.txt", "ready to index"), ("c.txt", "ready to index")]
    assert bad["name"] == "b.pdf" and "disguised" in bad["state"] and bad["failed"]
    assert not list(collection.library.received.iterdir())
    assert len(documents.remove(collection, bad["id"])["rows"]) == 2, "what could not be read can be dismissed"


def test_a_row_tells_what_was_left_out_and_guessed(service, tmp_path):
    collection = visitor(service)
    path = tmp_path / "a.txt"
    path.write_bytes("Größe und Höhe der Tür, für Müller.\n".encode("cp1252") * 9)
    *_, last = load_files(collection, [path, FIELD / "c32_pagecross.pdf"])
    guessed, left_out = (row["notes"] for row in last["rows"])
    assert guessed[0].startswith("Read as ") and left_out[0].startswith('The line "Harbour Rules')


def test_loading_stops_and_resumes_after_a_restart(service, tmp_path):
    collection = visitor(service, SECRET["secret"])
    paths = [tmp_path / f"{i}.txt" for i in range(4)]
    for path in paths:
        path.write_text(f"text of {path.name}")
    running = load_files(collection, paths)
    next(running)
    documents.stop(collection)
    *_, stopped = running
    assert stopped["waiting"] == 3 and [row["state"] for row in stopped["rows"]].count("ready to index") == 1
    again = CollectionService(service.library, "private")
    *_, done = documents.read_waiting(visitor(again, SECRET["secret"]))
    assert done["waiting"] == 0 and len(done["rows"]) == 4


def test_closing_the_page_while_files_load_loses_none(service, tmp_path):
    collection = visitor(service)
    paths = [tmp_path / f"{i}.txt" for i in range(3)]
    for path in paths:
        path.write_text(f"text of {path.name}")
    running = load_files(collection, paths)
    next(running)
    running.close()
    assert documents.view(collection)["waiting"] == 3


def states(views) -> list[str]:
    return [view["rows"][0]["state"] for view in views]


def test_the_table_shows_segmenting_progress(service, slow_file):
    seen = states(load_files(visitor(service), [slow_file]))
    assert seen == ["reading …", *(f"segmenting, {percent} %" for percent in (25, 50, 75, 100)), "ready to index"]


@pytest.mark.parametrize("stop", ["button", "closed page", "end of the application"])
def test_a_file_stopped_while_segmenting_waits_again(service, slow_file, stop):
    collection = visitor(service, SECRET["secret"])
    running = load_files(collection, [slow_file])
    assert states([next(running), next(running)])[-1] == "segmenting, 25 %"
    if stop == "button":
        documents.stop(collection)
    if stop == "end of the application":
        service.stop_jobs()
    running.close() if stop == "closed page" else list(running)
    assert states([documents.view(collection)]) == ["waiting to be read"] and not collection.documents
    again = visitor(CollectionService(service.library, "private"), SECRET["secret"])
    assert states(documents.read_waiting(again))[-1] == "ready to index"


def test_a_file_loaded_again_replaces_the_one_of_its_name(collection, tmp_path):
    for folder in ("same", "changed"):
        (tmp_path / folder).mkdir()
    (tmp_path / "same" / "rivers.md").write_text(TEXT)
    (tmp_path / "same" / "copy.md").write_text(TEXT)
    *_, view = load_files(collection, sorted((tmp_path / "same").iterdir()))
    assert [row["name"] for row in view["rows"]] == ["rivers.md", "copy.md"]
    list(index.index_all(collection))
    document_id = documents.choices(collection)[0][1]
    before = blocks.view(collection, document_id)
    (tmp_path / "changed" / "rivers.md").write_text("# Lakes\n\nThe lake is deep and cold. " * 9)
    *_, view = load_files(collection, [tmp_path / "changed" / "rivers.md"])
    assert [(row["name"], row["state"]) for row in view["rows"]] == [
        ("rivers.md", strings.READY_TO_INDEX), ("copy.md", strings.INDEXED),
    ]  # fmt: skip
    again = blocks.view(collection, document_id)
    assert again["length"] != before["length"] and again["version"] > before["version"]
    assert "lake" in collection.find(document_id).content.text


def test_a_source_of_a_changed_document_says_so(collection, tmp_path):
    text = TEXT[20:90]
    source = Source(1, "rivers.md", documents.choices(collection)[0][1], 20, 90, text, 0.5, 9)
    assert blocks.source_view(collection, source)["highlight"] == 20
    (tmp_path / "rivers.md").write_text("Another text. " * 30)
    list(load_files(collection, [tmp_path / "rivers.md"]))
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
        *_, view = documents.read_waiting(collection)
        assert [(row["name"], row["state"]) for row in view["rows"]] == [("handout.md", "ready to index")]


def test_the_sample_file_stays_where_it_is(collection, tmp_path):
    (tmp_path / "sample.md").write_text("A sample. " * 20)
    assert (
        len(documents.load_sample(collection, tmp_path / "sample.md")["rows"]) == 2
        and (tmp_path / "sample.md").exists()
    )
