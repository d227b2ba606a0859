"""Back up, restore and salvage a database; the doctor on damaged ones."""

import logging
import random
import shutil
import sqlite3
import threading
from functools import partial
from pathlib import Path

import pytest

from blockrag.retrieve.words import TABLE
from storage.__main__ import main
from storage.backup import back_up, problems, restore
from storage.database import sqlite_url
from storage.doctor import examine, mend
from storage.errors import DamagedError, StorageError
from storage.library import Library
from storage.salvage import salvage
from storage.store import Store
from tests.storage.samples import blocks_of, document, indexed, segmentation_of, vectors
from tests.tiny import tiny_engine

PAGE = 4096


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A database with two collections of six documents each, indexed, closed."""
    path = tmp_path_factory.mktemp("made") / "x.sqlite"
    store = Store.open(sqlite_url(path))
    for owner in ("anna", "bert"):
        collection = store.collections.create(owner, f"Of {owner}")
        for number in range(6):
            text = f"# Number {number} of {owner}\n\n" + "".join(f"Line {i} of {number} is long. " for i in range(400))
            id = store.documents.add(collection.id, document(f"{number}.md", text), segmentation_of(text))
            blocks = indexed(blocks_of(text), [f"{owner}{number}-{i}" for i in range(10_000)][: len(blocks_of(text))])
            store.blocks.put(id, document(text=text), "models", blocks, vectors(len(blocks)))
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def path(made, tmp_path):
    return Path(shutil.copy(made, tmp_path / "blockrag.sqlite"))


def texts(path) -> dict[tuple[int, str], str]:
    store = Store.open(sqlite_url(path))
    found = {
        (collection.id, record.name): store.documents.read(record.id).text
        for collection in store.collections.all()
        for record in store.documents.of(collection.id)
    }
    store.close()
    return found


def spoil(path: Path, page: int) -> None:
    with open(path, "r+b") as file:
        file.seek(page * PAGE)
        file.write(random.Random(page).randbytes(PAGE))


def pages_of(path: Path, table: str) -> list[int]:
    """Pages of a table's rows, its root excepted."""
    with sqlite3.connect(path) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    data, found, todo = path.read_bytes(), [], [root]
    while todo:
        page = data[(todo[0] - 1) * PAGE : todo.pop(0) * PAGE]
        if page[0] == 5:  # inner: cells point to pages
            n = int.from_bytes(page[3:5], "big")
            cells = [int.from_bytes(page[12 + 2 * i : 14 + 2 * i], "big") for i in range(n)]
            below = [int.from_bytes(page[c : c + 4], "big") for c in cells] + [int.from_bytes(page[8:12], "big")]
            todo, found = todo + below, found + below
    return [number - 1 for number in found]


def test_a_backup_is_whole_and_made_while_others_write(path, tmp_path):
    store, stop = Store.open(sqlite_url(path)), threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            store.collections.create("writer", f"Number {(n := n + 1)}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            back_up(sqlite_url(path), tmp_path / "b.sqlite")
            assert problems(tmp_path / "b.sqlite") == []
    finally:
        stop.set()
        writer.join()
    assert (tmp_path / "b.sqlite").stat().st_mode & 0o077 == 0, "readable by the owner alone"
    assert texts(tmp_path / "b.sqlite") == texts(path)
    store.close()
    assert sorted(p.name for p in tmp_path.iterdir() if "tmp" in p.name) == []


def test_what_is_restored_is_what_was_backed_up(path, tmp_path):
    before = texts(path)
    back_up(sqlite_url(path), tmp_path / "b.sqlite")
    store = Store.open(sqlite_url(path))
    store.collections.delete(store.collections.all()[0].id)
    store.close()
    former = restore(sqlite_url(path), tmp_path / "b.sqlite")
    assert texts(path) == before and len(texts(former)) == 6


def test_a_damaged_database_does_not_replace_a_good_backup(path, tmp_path):
    back_up(sqlite_url(path), tmp_path / "b.sqlite")
    good = (tmp_path / "b.sqlite").read_bytes()
    spoil(path, pages_of(path, "document_parts")[2])
    with pytest.raises(DamagedError, match="salvage"):
        back_up(sqlite_url(path), tmp_path / "b.sqlite")
    assert (tmp_path / "b.sqlite").read_bytes() == good
    with pytest.raises(DamagedError):
        restore(sqlite_url(tmp_path / "b.sqlite"), path)
    assert (tmp_path / "b.sqlite").read_bytes() == good


def test_what_cannot_be_backed_up_says_why(path, tmp_path):
    for url, target, said in (
        ("postgresql://host/db", tmp_path / "b", "pg_dump"),
        (sqlite_url(tmp_path / "none.sqlite"), tmp_path / "b", "no database"),
        (sqlite_url(path), tmp_path / "no" / "folder", "cannot be written"),
    ):
        with pytest.raises(StorageError, match=said):
            back_up(url, target)
    with pytest.raises(StorageError, match="no backup"):
        restore(sqlite_url(path), tmp_path / "none")


@pytest.mark.parametrize("table", ["collections", "documents", "document_parts", "segmentations", "blocks", "vectors"])
def test_what_can_be_read_of_a_damaged_database_is_saved(path, made, table, monkeypatch):
    original = texts(made)
    pages = pages_of(path, table) or [0]
    if pages == [0]:  # one page holds the table
        with sqlite3.connect(path) as connection:
            query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
            pages = [connection.execute(query, (table,)).fetchone()[0] - 1]
    spoil(path, pages[len(pages) // 2])
    assert problems(path)
    done = salvage(path)
    assert problems(path) == [] and done.losses and problems(done.former)
    saved = texts(path)
    whole = [key for key, text in saved.items() if text == original[key]]
    if table != "documents":
        assert len(saved) == 12 and len(whole) >= (9 if table == "document_parts" else 12)
        assert all(len(text) in {len(t) for t in original.values()} for text in saved.values()), (
            "edits keep their places"
        )
    library = Library(Store.open(sqlite_url(path)), tiny_engine(), path.parent)
    monkeypatch.setattr(library, "segment", partial(library.segment, segmenter="structural"))
    found, left = mend(library)
    assert left == [], left
    if table not in ("documents", "vectors", "blocks"):
        with sqlite3.connect(path) as connection:
            (n_words,), (n_vectors,) = (
                connection.execute(f"SELECT count(*) FROM {t}").fetchone() for t in (TABLE, "vectors")
            )
        assert n_words == n_vectors > 0, "words are searched again"
    library.close()


def test_any_page_may_be_lost(path, made):
    n_pages = path.stat().st_size // PAGE
    for page in random.Random(0).sample(range(12, n_pages), 6):
        shutil.copy(made, path)
        spoil(path, page)
        done = salvage(path)
        assert problems(path) == [], page
        done.former.unlink()


def test_without_its_first_page_nothing_is_saved_and_it_says_so(path):
    spoil(path, 0)
    before = path.read_bytes()
    with pytest.raises(DamagedError, match="nothing can be salvaged|not a database"):
        salvage(path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_command_line_tells_of_damage_and_repairs_it(path, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("storage.__main__._library", lambda args: pytest.fail("the models are loaded for nothing"))
    folder = ["--data-dir", str(path.parent)]
    assert main(["backup", *folder, str(tmp_path / "b.sqlite")]) == 0
    spoil(path, pages_of(path, "document_parts")[1])
    assert main(["doctor", *folder]) == 1 and "is damaged" in caplog.text and "storage restore" in caplog.text
    damaged = path.read_bytes()
    assert main(["salvage", *folder]) == 1 and "lost: documents" in caplog.text and problems(path) == []
    path.write_bytes(damaged)
    assert main(["restore", *folder, str(tmp_path / "b.sqlite")]) == 0 and len(texts(path)) == 12


def test_a_check_of_the_doctor_that_fails_does_not_end_the_others(path, monkeypatch):
    library = Library(Store.open(sqlite_url(path)), tiny_engine(), path.parent)
    (library.received / "stray").write_text("x")
    monkeypatch.setattr(library.store.documents, "of", lambda id: 1 / 0)
    told = [(trouble.where, trouble.what) for trouble in examine(library)]
    assert ("uploads", "stray belongs to no upload") in told
    assert sum("could not be checked (ZeroDivisionError" in what for _, what in told) == 2
    library.close()
