"""The index in a file: what it refuses, what a killed process leaves, other versions' files; and the vector index. What
every index does is tested in `storage/test_index_contract.py`."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.documents import Document
from blockrag.errors import IndexStoreError
from blockrag.index import FileIndex, IndexedBlock
from blockrag.retrieve.vectors import VectorIndex

MAKER = {"model": "m" * 64, "embedder": "e" * 64}


def unit(seed: int, n: int = 1) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def open_index(folder, **maker) -> FileIndex:
    return FileIndex(Path(folder), {**MAKER, **maker}, 8)


def add(index: FileIndex, name: str, seed: int, text: str = "") -> Document:
    document = Document(name, "text/plain", text or f"text of {name}, first. And second.")
    middle, end = 10, len(document.text)
    key = f"{name}{len(text) or ''}"  # a key is a hash of the block's text
    blocks = [IndexedBlock(0, middle, 3, 1.0, f"{key}-1"), IndexedBlock(middle, end, 4, 0.5, f"{key}-2")]
    index.add(document, blocks, unit(seed, 2))
    return document


def test_an_index_reopens_as_it_was_and_keeps_no_second_file_of_vectors(tmp_path):
    first = open_index(tmp_path)
    add(first, "a", 1)
    first.close()
    (tmp_path / "vectors.faiss").write_bytes(b"what a version before wrote")
    again = open_index(tmp_path)
    assert len(again) == 2 and [d.name for d in again.documents()] == ["a"] and again.documents()[0].n_tokens == 7
    assert again.search(unit(1, 2)[1], 1)[0].block.start == 10
    again.close()
    assert [path.name for path in tmp_path.iterdir()] == ["index.sqlite"]


def test_a_file_without_what_readers_say_gets_the_columns(tmp_path):
    first = open_index(tmp_path)
    add(first, "a", 1)
    for column in ("encoding", "n_pages", "notes"):
        first._sql.execute(f"ALTER TABLE documents DROP COLUMN {column}")
    first.close()
    again = open_index(tmp_path)
    (record,) = again.documents()
    assert (record.encoding, record.n_pages, record.notes) == ("", None, ()) and again.read(record.id).notes == ()
    add(again, "b", 2)
    assert len(again.documents()) == 2
    again.close()


def test_a_process_killed_while_it_writes_leaves_what_was_there(tmp_path):
    code = (
        "import os, sys; from tests import test_index as t\n"
        "index = t.open_index(sys.argv[1]); t.add(index, 'a', 1)\n"
        "index._settle = lambda *args: os._exit(9)\n"
        "t.add(index, 'a', 2, 'another text of some length'); t.add(index, 'b', 2)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=os.getcwd()).returncode == 9
    index = open_index(tmp_path)
    assert len(index) == 2 and index.search(unit(1, 2)[1], 1)[0].similarity > 0.99
    assert index.read(index.documents()[0].id).text == "text of a, first. And second."


def test_processes_that_write_at_once_take_turns(tmp_path):
    code = (
        "import sys; from tests import test_index as t\n"
        "index = t.open_index(sys.argv[1])\n"
        "for i in range(20): t.add(index, f'{sys.argv[2]}{i}', i)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    writers = [subprocess.Popen([*command, name], cwd=os.getcwd()) for name in "ab"]
    index = open_index(tmp_path)
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len(index) == 80 == index.n_vectors and len(index.documents()) == 40


def test_deleted_and_replaced_text_is_in_no_file_any_more(tmp_path):
    index, secret = open_index(tmp_path), "the password is swordfish. " * 200

    def in_files() -> bool:
        return any(b"swordfish" in path.read_bytes() for path in tmp_path.iterdir())

    for remove in (lambda document: index.delete(document.id), lambda document: add(index, "a", 2)):
        document = add(index, "a", 1, secret)
        assert in_files()
        remove(document)
        assert not in_files()


def test_other_models_and_formats_are_refused_by_name(tmp_path):
    open_index(tmp_path).close()
    with pytest.raises(IndexStoreError, match="made with embedder eeee.*but ffff.*Choose the model"):
        open_index(tmp_path, embedder="f" * 64)
    with sqlite3.connect(tmp_path / "index.sqlite") as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    with pytest.raises(IndexStoreError, match="made with format 99"):
        open_index(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "index.sqlite").write_bytes(b"not a database, surely" * 100)
    with pytest.raises(IndexStoreError, match="no readable index"):
        open_index(tmp_path)


def test_quotes_and_markup_are_only_text(tmp_path):
    index = open_index(tmp_path)
    name = "'); DROP TABLE blocks; --<script>"
    add(index, name, 1)
    assert index.documents()[0].name == name and index.search(unit(1, 2)[0], 1)[0].source == name


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 15)), max_size=40))
def test_the_vector_index_agrees_with_a_dictionary(steps):
    index, expected = VectorIndex(8), {}
    for is_addition, i in steps:
        if is_addition and i not in expected:
            expected[i] = unit(i)[0]
            index.add([i], unit(i))
        elif not is_addition:
            expected.pop(i, None)
            index.delete([i])
    assert sorted(index.ids) == sorted(expected) and len(index) == len(expected)
    for i, vector in expected.items():
        assert index.search(vector, 1)[0][0] == i


def test_an_id_given_twice_is_refused():
    index = VectorIndex(8)
    index.add([7], unit(7))
    with pytest.raises(ValueError, match=r"\[7\] are in the index already"):
        index.add([7], unit(8))
