"""A store and a database that the version before sources made (commit ba18559, with the tiny model of `tiny.py`): two
documents of one name, one with pages, an edit, a conversation, and the KV of all blocks. `said.json` is what that version
answered."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from blockrag.documents import Document, load
from blockrag.index import labels
from blockrag.pipeline import Pipeline
from blockrag.segment import Block, SizeBounds
from storage.database import sqlite_url
from storage.doctor import examine
from storage.library import Library
from storage.store import Store
from tests.tiny import tiny_engine

FORMER = Path(__file__).parent / "fixtures" / "version_1"
SAID = json.loads((FORMER / "said.json").read_text())
BOUNDS = SizeBounds(8, 48)
CITIES = "# Paris\n\nThe Seine flows through Paris.\n\n# Rome\n\nThe Tiber flows through Rome.\n\n"


def nothing_to_encode(parts, notes):
    assert not parts, "KV that the version before made is not used"
    return iter(())


def engine(folder):
    made = tiny_engine(folder / "kv")
    made.encode = nothing_to_encode
    embed = made.embedder.embed
    made.embedder.embed = lambda texts: embed(texts) if len(texts) == 1 else pytest.fail("a block is embedded again")
    return made


@pytest.fixture
def files(tmp_path):
    shutil.copytree(FORMER / "files", tmp_path / "files")
    return tmp_path / "files"


@pytest.fixture
def rows(tmp_path):
    shutil.copytree(FORMER / "rows", tmp_path / "rows")
    return tmp_path / "rows"


def open_library(folder) -> Library:
    return Library(Store.open(sqlite_url(folder / "blockrag.sqlite")), engine(folder), folder)


def check_answers(pipeline, said):
    for expected in said["answers"]:
        *_, answer = pipeline.ask(expected["question"], k=2, max_new_tokens=6)
        assert [[s.document, s.text, s.page, round(s.score, 5)] for s in answer.sources] == expected["sources"]
        assert answer.report.kv_misses == 0
        assert [s.n_tokens for s in answer.sources] == [
            len(pipeline.engine.prompt.block_ids(s.text)) for s in answer.sources
        ]


def test_a_store_opens_answers_and_loses_nothing(files):
    pipeline = Pipeline.open(engine(files), files)
    records = pipeline.index.documents()
    assert [[r.name, r.n_blocks, r.n_tokens] for r in records] == SAID["files"]["documents"]
    assert labels([(r.name, r.source) for r in records]) == ["cities.md", "5974b0999625/cities.md", "pages.pdf"]
    assert len(pipeline.index) == SAID["files"]["n_blocks"] and not (files / "vectors.faiss").exists()
    assert pipeline.index.read(records[0].id).text == CITIES
    check_answers(pipeline, SAID["files"])
    pipeline.index.close()
    check_answers(Pipeline.open(engine(files), files), SAID["files"])


def test_a_document_of_the_store_gets_its_source_when_it_is_indexed_again(files, tmp_path):
    (tmp_path / "cities.md").write_text(CITIES)
    with sqlite3.connect(files / "index.sqlite") as connection:
        select = 'SELECT start, "end", n_tokens, score FROM blocks WHERE document = 1 ORDER BY start'
        former = [Block(*row) for row in connection.execute(select)]
    pipeline = Pipeline.open(engine(files), files)
    n_blocks = len(pipeline.index)
    segmentation = pipeline.segment(load(tmp_path / "cities.md"), "structural", SizeBounds(1, 1024))
    object.__setattr__(segmentation, "blocks", lambda granularity: former)
    pipeline.add(segmentation, 1.0)
    assert [r.source for r in pipeline.index.documents()] == [
        str(tmp_path / "cities.md"), "5974b0999625/cities.md", "pages.pdf",
    ]  # fmt: skip
    assert len(pipeline.index) == n_blocks
    assert [r.name for r in pipeline.index.documents()] == ["cities.md", "cities.md", "pages.pdf"]


def test_a_store_that_is_damaged_or_of_other_models_is_left_as_it_was(files):
    before = (files / "index.sqlite").read_bytes()
    with pytest.raises(Exception, match="made with model"):
        Pipeline.open(tiny_engine(seed=1), files)
    assert (files / "index.sqlite").read_bytes() == before
    with sqlite3.connect(files / "index.sqlite") as connection:
        connection.execute("DELETE FROM blocks WHERE id = 2")
    with pytest.raises(Exception, match="do not tile"):
        Pipeline.open(engine(files), files)
    with sqlite3.connect(files / "index.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM documents").fetchone() == (3,)


def test_a_database_opens_answers_and_loses_nothing(rows):
    library = open_library(rows)
    collection = library.store.collections.get("local", SAID["rows"]["token"])
    records = library.store.documents.of(collection.id)
    assert [[r.name, len(library.store.blocks.of(r.id))] for r in records] == SAID["rows"]["documents"]
    assert len({r.document_id for r in records}) == 3 and library.store.documents.read(records[0].id).text == CITIES
    check_answers(library.pipeline(collection), SAID["rows"])
    (edit,) = library.store.segmentations.get(records[0].id).edits
    assert CITIES[edit.char :].startswith("Seine") and library.store.settings.of("local") == {"k": 4}
    (conversation,) = library.store.conversations.of(collection.id)
    turns = library.store.conversations.turns(collection.id, conversation.id)
    for turn, expected in zip(turns, SAID["rows"]["answers"], strict=True):
        assert (turn.question, turn.answers["block"].text) == (expected["question"], expected["text"])
        assert [[s.document, s.text, s.page, round(s.score, 5)] for s in turn.sources] == expected["sources"]
    assert not (rows / "indexes").exists() and [*examine(library)] == []
    with library.store.database.read() as session:
        assert session.execute(text("PRAGMA foreign_key_check")).all() == []
    library.close()


def test_nothing_of_the_database_is_computed_again(rows):
    library = open_library(rows)
    collection = library.store.collections.get("local", SAID["rows"]["token"])
    for record in library.store.documents.of(collection.id):
        document, kept = library.store.documents.read(record.id), library.store.segmentations.get(record.id)
        blocks = library.restore(document, record.id, kept).blocks(kept.granularity)
        library.index(collection, record.id, document, blocks)
    assert [*examine(library)] == []
    known = library.store.documents.of(collection.id)[0]
    again = Document("cities.md", "text/markdown", CITIES)
    assert library.store.documents.add(collection.id, again) == known.id, "its name is its source"
    library.close()
