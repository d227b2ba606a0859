"""Folders: which files they mean, and an index in step with them."""

import json
from dataclasses import replace
from datetime import date

import pytest

from blockrag import BlockRAG, Document, Retrieval
from blockrag.cli import main, options
from blockrag.documents.folder import files_of, find_files
from blockrag.errors import DocumentError
from blockrag.pipeline import Pipeline
from tests.document_files import pdf
from tests.samples import RIVER_SECTIONS
from tests.tiny import tiny_engine


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "papers"
    (made / "below").mkdir(parents=True)
    (made / "a.md").write_text(RIVER_SECTIONS)
    (made / "below" / "b.txt").write_text("The bridge opens at nine. " * 9)
    (made / "c.xyz").write_text("unknown")
    (made / ".hidden.md").write_text("hidden")
    (made / "link.md").symlink_to(made / "a.md")
    (made / "store").mkdir()
    (made / "store" / "index.sqlite").write_text("")
    (made / "store" / "d.md").write_text("of the index")
    return made


@pytest.fixture
def rag(tmp_path):
    with BlockRAG(tiny_engine(tmp_path / "kv"), tmp_path / "index") as made:
        yield made


def kinds(steps) -> dict[str, str]:
    return {step.source.rpartition("/")[2]: step.kind for step in steps}


def test_a_folder_means_what_it_shows(folder):
    read, others = files_of(folder)
    assert [path.name for path in read] == ["a.md", "b.txt"] and [path.name for path in others] == ["c.xyz"]
    assert [path.name for path in find_files(folder, [str(folder / "below"), folder / "a.md"])] == [
        "a.md",
        "b.txt",
        "b.txt",
        "a.md",
    ]
    assert [path.name for path in find_files(str(folder / "**" / "*.txt"))] == ["b.txt"]
    for nothing in (folder / "store", str(folder / "*.pdf")):
        with pytest.raises(DocumentError, match="no file"):
            list(find_files(nothing))


def test_a_name_with_signs_of_patterns_is_a_file_if_there_is_one(folder):
    odd = folder / "a[1]* 'q' & $HOME.md"
    odd.write_text("odd")
    assert list(find_files(str(odd))) == [odd]


def test_an_index_follows_a_folder(rag, folder, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("Of another folder, and left alone by all that follows here.")
    rag.index(other)
    assert kinds(rag.sync(folder)) == {"a.md": "added", "b.txt": "added", "c.xyz": "skipped"}
    assert kinds(rag.sync(folder)) == {"a.md": "unchanged", "b.txt": "unchanged", "c.xyz": "skipped"}
    (folder / "a.md").write_text("# Changed\n\n" + RIVER_SECTIONS)
    (folder / "below" / "b.txt").unlink()
    (folder / "new.txt").write_text("Something new about the harbour and its pier.")
    assert kinds(rag.sync(folder)) == {"a.md": "replaced", "new.txt": "added", "b.txt": "deleted", "c.xyz": "skipped"}
    (folder / "a.md").write_bytes(b"\x00\x01" * 99)
    steps = {step.source.rpartition("/")[2]: step for step in rag.sync(folder)}
    assert steps["a.md"].kind == "failed" and "binary" in steps["a.md"].notes[0]
    assert sorted(record.name for record in rag.documents()) == ["a.md", "new.txt", "other.txt"]


def test_a_folder_that_is_gone_deletes_nothing(rag, folder):
    rag.index(folder)
    with pytest.raises(DocumentError, match="not a folder"):
        rag.sync(folder / "gone")
    assert len(rag.documents()) == 2


def test_an_encoding_is_that_of_text_files_alone(rag, folder):
    (folder / "c.txt").write_bytes("Größe, Öl und Käse gibt es am Kai. ".encode("cp850") * 9)
    (folder / "d.pdf").write_bytes(pdf("The pier is long."))
    steps = rag.sync(folder, encoding="cp850")
    assert kinds(steps) == {"a.md": "added", "b.txt": "added", "c.txt": "added", "d.pdf": "added", "c.xyz": "skipped"}
    assert {step.record.encoding for step in steps if step.record} == {"cp850", ""}


def test_index_takes_folders_patterns_and_lists(rag, folder):
    records = rag.index([folder / "below", str(folder / "*.md")], folder / "a.md")
    assert [record.name for record in records] == ["b.txt", "a.md", "link.md", "a.md"]


def run(capsys, *argv: str) -> tuple[int, dict]:
    code = main([*argv, "--json"])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_command_line_follows_lists_and_deletes(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(options, "open_store", lambda args: Pipeline.open(tiny_engine(args.store / "kv"), args.store))
    store = str(tmp_path / "s")
    code, result = run(capsys, "sync", str(folder), "--store", store, "--segmenter", "structural")
    assert code == 0 and result["counts"] == {"added": 2, "skipped": 1}
    (folder / "a.md").write_bytes(b"")
    assert run(capsys, "sync", str(folder), "--store", store, "--segmenter", "structural")[0] == 3
    code, result = run(capsys, "documents", "--store", store)
    assert code == 0 and [record["name"] for record in result["documents"]] == ["a.md", "b.txt"]
    first = result["documents"][0]["id"]
    main(["documents", "--store", store])
    assert f"{folder / 'below' / 'b.txt'} (utf-8)\n" in capsys.readouterr().out
    code, result = run(capsys, "delete", first[:12], str(folder / "below" / "b.txt"), "nothing", "--store", store)
    assert code == 3 and len(result["deleted"]) == 2 and result["unknown"] == ["nothing"] and result["n_blocks"] == 0
    code, result = run(capsys, "index", str(folder), "--store", store, "--segmenter", "structural")
    assert code == 3 and [document["document"] for document in result["documents"]] == ["b.txt"]


def test_an_update_indexes_what_changed_and_keeps_what_is_gone(folder, rag):
    rag.index(folder)
    (folder / "a.md").write_text("Changed. " * 9)
    assert kinds(rag.update()) == {"a.md": "replaced", "b.txt": "unchanged"}
    (folder / "below" / "b.txt").unlink()
    (folder / "e.md").write_text("New. " * 9)
    assert kinds(rag.update()) == {"a.md": "unchanged", "b.txt": "failed"} and len(rag.documents()) == 2
    assert kinds(rag.update(folder / "[ae].md")) == {"a.md": "unchanged", "e.md": "added"}
    text = Document("x", "text/plain", "The text. " * 9, metadata={"year": 2020})
    for expected, metadata in (("added", 2020), ("unchanged", 2020), ("replaced", 2021)):
        (done,) = rag.update(replace(text, metadata={"year": metadata}))
        assert done.kind == expected and rag.documents()[-1].metadata == {"year": metadata}
    assert kinds(rag.update(Document("x", "text/plain", text.text))) == {"x": "unchanged"}
    with pytest.raises(DocumentError):
        rag.update(folder / "nothing.pdf")


def test_documents_of_llamaindex_are_indexed_with_their_metadata(rag):
    core = pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")
    pages = [
        core.Document(text=f"Page {n} of the report. " * 9, metadata={"file_path": "/a/r.pdf", "page_label": n, "d": date(2020, 1, n)})
        for n in (1, 2)
    ]  # fmt: skip
    note = core.Document(text="A note. " * 9, id_="note-1")
    records = rag.index(pages, note)
    assert [record.source for record in records] == ["/a/r.pdf#page=1", "/a/r.pdf#page=2", "note-1"]
    assert records[0].metadata == {"file_path": "/a/r.pdf", "page_label": 1, "d": "2020-01-01"}
    assert [step.kind for step in rag.update(pages, note)] == ["unchanged"] * 3
    note.set_content("Another note. " * 9)
    assert [step.kind for step in rag.update(note)] == ["replaced"] and len(rag.documents()) == 3
    found = rag.search("note", retrieval=Retrieval(metadata={"page_label": 2}))
    assert {source.source for source in found} == {"/a/r.pdf#page=2"}
