"""The index directory: own ids, consistency after a crash, refusal of what is not its own; and the vector index."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.documents import Document
from blockrag.errors import IndexStoreError
from blockrag.index import Index
from blockrag.retrieve.vectors import VectorIndex
from blockrag.segment import Block

MAKER = {"model": "m" * 64, "embedder": "e" * 64}


def unit(seed: int, n: int = 1) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def open_index(folder, **maker) -> Index:
    return Index(folder, {**MAKER, **maker}, 8)


def document(name: str) -> tuple[Document, list[Block]]:
    return Document(name, "text/plain", f"text of {name}, first. And second."), [
        Block(0, 10, 3, 1.0),
        Block(10, 20, 4, 0.5),
    ]


def add(index: Index, name: str, seed: int) -> Document:
    doc, blocks = document(name)
    index.add(doc, blocks, unit(seed, 2), [f"{name}-1", f"{name}-2"])
    return doc


def test_found_blocks_are_those_added(tmp_path):
    index = open_index(tmp_path)
    doc = add(index, "a", 1)
    add(index, "b", 2)
    found = index.search(unit(1, 2)[1], 3)
    assert found[0].document == doc and found[0].block == Block(10, 20, 4, 0.5) and found[0].text == doc.text[10:20]
    assert found[0].similarity == pytest.approx(1, abs=1e-6) and len(found) == 3


def test_ids_are_never_reused_after_deletion(tmp_path):
    index = open_index(tmp_path)
    first = add(index, "a", 1)
    add(index, "b", 2)
    index.delete(first.sha256)
    add(index, "c", 3)
    names = [index.search(vector, 1)[0].document.name for vector in (*unit(2, 2), *unit(3, 2))]
    assert names == ["b", "b", "c", "c"] and len(index) == 4
    assert index.search(unit(1, 2)[0], 1)[0].similarity < 0.99


def test_deletion_names_the_keys_nothing_uses(tmp_path):
    index = open_index(tmp_path)
    doc_a, blocks = document("a")
    doc_b, _ = document("b")
    index.add(doc_a, blocks, unit(1, 2), ["shared", "only-a"])
    index.add(doc_b, blocks, unit(2, 2), ["shared", "only-b"])
    assert index.delete(doc_a.sha256) == ["only-a"]
    assert sorted(index.delete(doc_b.sha256)) == ["only-b", "shared"]


def test_an_unchanged_index_reopens_from_its_file(tmp_path):
    first = open_index(tmp_path)
    add(first, "a", 1)
    first.close()
    again = open_index(tmp_path)
    assert len(again) == 2 and [d.name for d in again.documents()] == ["a"] and again.documents()[0].n_tokens == 7


@pytest.mark.parametrize("harm", ["missing", "damaged", "stale"])
def test_the_vector_file_is_made_anew_where_it_disagrees(tmp_path, harm):
    index = open_index(tmp_path)
    add(index, "a", 1)
    path = tmp_path / "vectors.faiss"
    stale = path.read_bytes()
    add(index, "b", 2)
    index.close()
    {"missing": path.unlink, "damaged": lambda: path.write_bytes(b"x" * 50), "stale": lambda: path.write_bytes(stale)}[
        harm
    ]()
    assert open_index(tmp_path).search(unit(2, 2)[0], 1)[0].document.name == "b"


def test_a_process_killed_between_database_and_vectors_loses_nothing(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, '.')\n"
        "import tests.test_index as t\n"
        "index = t.open_index(Path(sys.argv[1])); t.add(index, 'a', 1)\n"
        "index._vectors.save = lambda path: os._exit(9)\n"
        "t.add(index, 'b', 2)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=os.getcwd()).returncode == 9
    index = open_index(tmp_path)
    assert len(index) == 4 and index.search(unit(2, 2)[1], 1)[0].document.name == "b"


def test_other_models_and_formats_are_refused_by_name(tmp_path):
    open_index(tmp_path).close()
    with pytest.raises(IndexStoreError, match="made with embedder eeee.*but ffff.*Choose the model"):
        open_index(tmp_path, embedder="f" * 64)
    with pytest.raises(IndexStoreError, match="made with format"):
        open_index(tmp_path, format="0")


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "index.sqlite").write_bytes(b"not a database, surely" * 100)
    with pytest.raises(IndexStoreError, match="no readable index"):
        open_index(tmp_path)


def test_a_failed_addition_changes_nothing(tmp_path):
    index = open_index(tmp_path)
    add(index, "a", 1)
    doc, blocks = document("b")
    with pytest.raises(ValueError, match="zip"):
        index.add(doc, blocks, unit(2, 2), ["only one key"])
    assert [d.name for d in index.documents()] == ["a"] and len(index) == 2


def test_quotes_and_markup_are_only_text(tmp_path):
    index = open_index(tmp_path)
    name = "'); DROP TABLE blocks; --<script>"
    add(index, name, 1)
    assert index.documents()[0].name == name and index.search(unit(1, 2)[0], 1)[0].document.name == name


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
    assert sorted(index.ids.tolist()) == sorted(expected) and len(index) == len(expected)
    for i, vector in expected.items():
        assert index.search(vector, 1)[0][0] == i


def test_an_id_given_twice_is_refused():
    index = VectorIndex(8)
    index.add([7], unit(7))
    with pytest.raises(ValueError, match=r"\[7\] are in the index already"):
        index.add([7], unit(8))
