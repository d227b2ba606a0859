"""Collections with their indexes and KV; the doctor; archives; the command line."""

import json
import logging
import shutil
import sqlite3
import zipfile

import pytest

from blockrag.documents import Document
from blockrag.engine import Engine
from blockrag.errors import Stopped
from blockrag.segment import Edit, SizeBounds
from storage.__main__ import main
from storage.archive import export, import_
from storage.database import sqlite_url
from storage.doctor import examine, mend
from storage.documents import Quota
from storage.errors import ArchiveError, ConflictError, NotFoundError
from storage.library import Library
from storage.store import Store
from tests.storage.samples import TEXT, document
from tests.tiny import tiny_engine

BOUNDS = SizeBounds(16, 128)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def open_library(folder, url=None, **options) -> Library:
    folder.mkdir(exist_ok=True)
    engine = tiny_engine(folder / "kv")
    return Library(Store.open(url or sqlite_url(folder / "blockrag.sqlite")), engine, folder, **options)


@pytest.fixture
def library(folder):
    library = open_library(folder)
    yield library
    library.close()


@pytest.fixture
def collection(library):
    return library.store.collections.create("anna", "Rivers")


def fresh(library, collection):
    return library.store.collections.get(None, collection.token)


def add(library, collection, doc=None, granularity=0.5) -> int:
    doc = doc or document()
    _, cut = library.segment(doc, "structural", BOUNDS, granularity)
    return library.store.documents.add(collection.id, doc, cut, library.quota)


def index(library, collection, document_id, granularity=None):
    doc, cut = library.store.documents.read(document_id), library.store.segmentations.cut(document_id)
    blocks = library.restore(doc, document_id, cut).blocks(cut.granularity if granularity is None else granularity)
    steps = []
    library.index(fresh(library, collection), document_id, doc, blocks, steps.append)
    return steps, blocks


def search(library, collection, question="river 7"):
    vector = library.engine.embedder.embed([question])[0]
    return [found.text for found in library.rag(fresh(library, collection)).index.search(vector, 3)]


def files(folder):
    return sorted((folder / "kv").glob("*/*.safetensors"))


def test_what_is_indexed_is_found_and_where_its_kv_is_is_known(library, collection):
    kept = add(library, collection)
    steps, blocks = index(library, collection, kept)
    assert {step.stage for step in steps} == {"embed", "encode"} and "river 7" in search(library, collection)[0]
    places = library.store.blocks.places(kept)
    assert set(places.values()) == {("disk",)} and len(blocks) >= len(places)


def test_only_what_changed_is_computed_again(library, collection, monkeypatch):
    kept = add(library, collection)
    _, blocks = index(library, collection, kept)
    embedded, embed = [], library.engine.embedder.embed
    monkeypatch.setattr(library.engine.embedder, "embed", lambda texts: embedded.extend(texts) or embed(texts))
    before = library.store.blocks.ids(collection.id, library.made_by)[kept]
    library.store.segmentations.edit(kept, [Edit(blocks[2].start, "removed")])
    steps, now = index(library, collection, kept)
    assert embedded == [
        TEXT[b.start : b.end]
        for b in now
        if b not in blocks
        and b.start != 0
        or b.end - b.start != next((o.end - o.start for o in blocks if o.start == b.start), 0)
    ]
    assert 0 < len(embedded) <= 2
    assert steps[-1].reused == len(now) - len(embedded)
    after = library.store.blocks.ids(collection.id, library.made_by)[kept]
    assert len(set(after) - set(before)) == len(embedded)
    assert library.rag(fresh(library, collection)).index.ids()[document().sha256] == after


def nothing_to_encode(parts, notes):
    assert not parts
    return iter(())


def test_a_restart_finds_everything_and_computes_nothing(library, folder, collection, monkeypatch):
    kept = add(library, collection)
    index(library, collection, kept)
    found = search(library, collection)
    library.close()
    again = open_library(folder)
    monkeypatch.setattr(again.engine, "encode", nothing_to_encode)
    assert search(again, collection) == found and [*examine(again)] == []
    assert [step.reused for step in index(again, collection, kept)[0]][-1] > 0
    again.close()


def test_an_index_that_is_lost_is_made_again_from_the_database(library, folder, collection):
    kept = add(library, collection)
    index(library, collection, kept)
    found = search(library, collection)
    library.close()
    shutil.rmtree(folder / "indexes")
    again = open_library(folder)
    assert search(again, collection) == found
    again.close()


def test_two_programs_see_each_others_changes(library, folder, collection):
    other = open_library(folder)
    kept = add(library, collection)
    index(library, collection, kept)
    assert search(other, collection) == search(library, collection)
    more = add(other, collection, document("lake.md", "The lake of Grimsund is deep and cold. " * 9))
    index(other, collection, more)
    assert "Grimsund" in search(library, collection, "lake of Grimsund")[0]
    other.delete_document(fresh(other, collection), other.store.documents.get(collection.id, document().sha256))
    assert all("river" not in text for text in search(library, collection))
    other.close()


def test_of_many_open_indexes_the_idle_ones_are_closed(library, collection, monkeypatch):
    index(library, collection, add(library, collection))
    found = search(library, collection)
    monkeypatch.setattr("storage.indexes.MAX_OPEN", 1)
    library.indexes._open[collection.id].used_s -= 3600
    other = library.store.collections.create("anna", "Other")
    library.rag(other)
    assert set(library.indexes._open) == {other.id}
    assert search(library, collection) == found, "it is opened again when it is asked"


def test_deleted_means_gone_rows_vectors_kv_files(library, folder, collection):
    secret = document("secret.md", "".join(f"The word of day {i} is swordfish{i}.\n\n" for i in range(60)))
    kept = add(library, collection, secret)
    index(library, collection, kept)
    assert files(folder)
    library.delete_document(fresh(library, collection), library.store.documents.get(collection.id, secret.sha256))
    assert files(folder) == [] and library.store.blocks.keys() == set()
    assert len(library.rag(fresh(library, collection)).index) == 0
    assert not [path for path in folder.rglob("*") if path.is_file() and b"swordfish" in path.read_bytes()]
    assert all(len(tier.keys()) == 0 for tier in library.engine.kv.tiers)


def test_a_deleted_collection_leaves_nothing(library, folder, collection, tmp_path):
    kept = add(library, collection)
    index(library, collection, kept)
    (tmp_path / "up.txt").write_text("swordfish")
    library.receive(collection.id, tmp_path / "up.txt", "up.txt")
    assert (tmp_path / "up.txt").exists(), "another may be about to take it in"
    library.delete_collection(collection)
    assert files(folder) == [] and list(library.indexes.folder.iterdir()) == [] == list(library.received.iterdir())
    with pytest.raises(NotFoundError):
        library.store.collections.get("anna", collection.token)


def test_equal_blocks_of_two_collections_share_kv_until_the_last_goes(library, folder, collection):
    other = library.store.collections.create("bert", "Too")
    for where in (collection, other):
        index(library, where, add(library, where))
    n = len(files(folder))
    library.delete_collection(collection)
    assert len(files(folder)) == n
    library.delete_collection(other)
    assert files(folder) == []


def test_a_document_deleted_while_it_is_indexed_stays_deleted(library, folder, collection):
    kept = add(library, collection)
    doc, cut = library.store.documents.read(kept), library.store.segmentations.cut(kept)
    blocks = library.restore(doc, kept, cut).blocks(cut.granularity)

    def delete(step):
        for record in library.store.documents.of(collection.id):
            library.delete_document(fresh(library, collection), record)

    with pytest.raises(NotFoundError):
        library.index(fresh(library, collection), kept, doc, blocks, delete)
    assert files(folder) == [] and len(library.rag(fresh(library, collection)).index) == 0


def test_stopped_indexing_keeps_its_kv_and_deleting_removes_it(library, folder, collection):
    kept = add(library, collection)
    doc, cut = library.store.documents.read(kept), library.store.segmentations.cut(kept)
    blocks = library.restore(doc, kept, cut).blocks(1.0)

    def stop(step):
        if step.stage == "encode" and step.done == 2:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        library.index(fresh(library, collection), kept, doc, blocks, stop)
    assert files(folder) and [*examine(library)] == [], "what is encoded is known, and waits for the next time"
    library.delete_document(fresh(library, collection), library.store.documents.get(collection.id, doc.sha256))
    assert files(folder) == []


def test_other_models_have_documents_indexed_anew(library, folder, collection):
    kept = add(library, collection)
    index(library, collection, kept)
    library.close()
    other = Library(Store.open(sqlite_url(folder / "blockrag.sqlite")), tiny_engine(folder / "kv", seed=5), folder)
    assert (
        len(other.rag(fresh(other, collection)).index) == 0
        and other.store.blocks.starts(collection.id, other.made_by) == {}
    )
    index(other, collection, kept)
    assert search(other, collection) and {r.made_by for r in other.store.blocks.of(kept)} == {other.made_by}
    other.close()


# The doctor


def damage_index(library, folder, collection):
    path = library.indexes.path(collection) / "index.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM blocks WHERE id IN (SELECT min(id) FROM blocks)")


def damage_blocks(library, folder, collection):
    with sqlite3.connect(folder / "blockrag.sqlite") as connection:
        connection.execute("DELETE FROM blocks WHERE id IN (SELECT min(id) FROM blocks)")


def lose_kv(library, folder, collection):
    library.engine.kv.delete(next(iter(library.store.blocks.keys())))


def add_foreign_kv(library, folder, collection):
    library.engine.warm(["a text of no document"])


def lose_upload(library, folder, collection):
    library.store.documents.receive(collection.id, "lost.pdf", "0" * 32, 10)


def leave_upload(library, folder, collection):
    (library.received / "stray").write_text("x")


def leave_index(library, folder, collection):
    (library.indexes.folder / "stray").mkdir()


def spoil_scores(library, folder, collection):
    with sqlite3.connect(folder / "blockrag.sqlite") as connection:
        connection.execute("INSERT INTO edits VALUES (99, 1, 1000000, 'added', 'done', 0)")


def half_import(library, folder, collection):
    library.store.collections.create("importing", "half")


def spoil_index(library, folder, collection):
    for path in library.indexes.path(collection).iterdir():
        path.write_bytes(b"no index")


DAMAGES = [
    damage_index, damage_blocks, lose_kv, add_foreign_kv, lose_upload, leave_upload, leave_index, spoil_scores,
    half_import, spoil_index,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_doctor_finds_and_mends(library, folder, collection, damage):
    kept = add(library, collection)
    index(library, collection, kept)
    assert [*examine(library)] == []
    damage(library, folder, collection)
    library.close()
    library = open_library(folder)
    found, left = mend(library)
    assert found and left == [], (found, left)
    index(library, collection, kept)
    assert "river 7" in search(library, collection)[0] and [*examine(library)] == []
    library.close()


def test_a_text_that_was_altered_is_told(library, folder, collection):
    add(library, collection)
    with sqlite3.connect(folder / "blockrag.sqlite") as connection:
        connection.execute("UPDATE documents SET text = X'6869'")
    found, left = mend(library)
    assert found == left and "not the one that was loaded" in found[0].what


# Archives


def test_a_collection_travels_as_one_file(library, folder, collection, tmp_path):
    kept = add(library, collection, granularity=0.75)
    add(library, collection, document("b.txt", "a whole \U0001f30a and a NUL \x00. " * 20))
    library.store.segmentations.edit(kept, [Edit(TEXT.index("# River 5"), "added")])
    export(library, collection, tmp_path / "c.zip")
    with pytest.raises(ConflictError):
        import_(library, "anna", tmp_path / "c.zip")
    there = open_library(tmp_path / "elsewhere")
    imported = import_(there, "bert", tmp_path / "c.zip")
    assert (imported.name, imported.owner, imported.n_documents) == ("Rivers", "bert", 2)
    for ours, theirs in zip(
        library.store.documents.of(collection.id), there.store.documents.of(imported.id), strict=True
    ):
        assert library.store.documents.read(ours.id) == there.store.documents.read(theirs.id)
        here, gone = library.store.segmentations.cut(ours.id), there.store.segmentations.cut(theirs.id)
        assert (here.segmenter, here.bounds, here.granularity, here.edits) == (
            gone.segmenter, gone.bounds, gone.granularity, gone.edits,
        )  # fmt: skip
    assert [*examine(there)] == []
    there.close()


def rewrite(path, change):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["collection.json"])
    change(manifest, members)
    members.setdefault("collection.json", b"")
    if members["collection.json"] != b"broken":
        members["collection.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


ATTACKS = {
    "another text": lambda m, f: f.update({"documents/0.txt": b"swapped"}),
    "a path out of the folder": lambda m, f: f.update({"../../evil.txt": b"x"}),
    "a bomb": lambda m, f: f.update({"documents/0.txt": b"\0" * (64 << 20)}),
    "another format": lambda m, f: m.update(format="other"),
    "a later version": lambda m, f: m.update(version=99),
    "no list": lambda m, f: m.update(documents=7),
    "broken JSON": lambda m, f: f.update({"collection.json": b"broken"}),
    "an edit outside": lambda m, f: m["documents"][0].update(edits=[[10**9, "added"]]),
    "an edit of another kind": lambda m, f: m["documents"][0].update(edits=[[5, "'; DROP TABLE edits; --"]]),
    "candidates of text": lambda m, f: m["documents"][0].update(chars=["a"], scores=[0.5]),
    "scores too high": lambda m, f: m["documents"][0].update(chars=[5], scores=[7.5]),
    "NaN": lambda m, f: m["documents"][0].update(granularity=float("nan")),
    "candidates beyond": lambda m, f: m["documents"][0].update(chars=[10**8], scores=[0.5]),
    "huge numbers": lambda m, f: m["documents"][0].update(chars=[10**40], scores=[0.5]),
    "bounds that cannot be": lambda m, f: m["documents"][0].update(bounds=[5, 5]),
    "a document twice listed": lambda m, f: m["documents"].append(m["documents"][0]),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_that_lies_is_refused_whole(library, folder, collection, tmp_path, attack):
    add(library, collection)
    export(library, collection, tmp_path / "c.zip")
    rewrite(tmp_path / "c.zip", ATTACKS[attack])
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(ArchiveError):
        import_(library, "anna", tmp_path / "c.zip", name="Copy")
    assert [c.name for c in library.store.collections.all()] == ["Rivers"]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_an_import_keeps_to_the_quota(library, folder, collection, tmp_path):
    add(library, collection)
    export(library, collection, tmp_path / "c.zip")
    library.quota = Quota(5, 100)
    with pytest.raises((ArchiveError, Exception), match="more than a collection may|characters"):
        import_(library, "anna", tmp_path / "c.zip", name="Copy")
    assert len(library.store.collections.all()) == 1


@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_are_refused_or_come_in_as_they_were(library, collection, tmp_path, seed):
    import random  # noqa: PLC0415

    add(library, collection)
    export(library, collection, tmp_path / "c.zip")
    rng, data = random.Random(seed), bytearray((tmp_path / "c.zip").read_bytes())
    for _ in range(12):
        data[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / "d.zip").write_bytes(data)
        try:
            imported = import_(library, "anna", tmp_path / "d.zip", name="Copy")
        except ArchiveError:
            continue
        assert library.store.documents.of(imported.id)[0].sha256 == document().sha256
        library.delete_collection(imported)


# The command line


def test_the_command_line_does_it_all(library, folder, collection, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    kept = add(library, collection)
    index(library, collection, kept)
    (library.received / "stray").write_text("x")
    library.close()
    monkeypatch.setattr(Engine, "from_pretrained", lambda *args, kv_dir, **kwargs: tiny_engine(kv_dir))
    data = ["--data-dir", str(folder)]
    assert main(["migrate", *data]) == 0 and main(["list", *data]) == 0 and collection.token in caplog.text
    assert main(["doctor", *data]) == 1 and "belongs to no upload" in caplog.text
    assert main(["doctor", "--mend", *data]) == 0 and main(["doctor", *data]) == 0
    assert main(["export", *data, collection.token, str(tmp_path / "c.zip")]) == 0
    assert main(["import", *data, "--owner", "bert", str(tmp_path / "c.zip")]) == 0
    assert main(["export", *data, "nothing", str(tmp_path / "d.zip")]) == 1 and "no such collection" in caplog.text


def test_names_never_become_paths(library, folder, collection, tmp_path):
    evil = Document("../../../evil.txt", "text/plain", TEXT)
    index(library, collection, add(library, collection, evil))
    (tmp_path / "u").write_text("x")
    library.receive(collection.id, tmp_path / "u", "../../../etc/passwd")
    export(library, collection, tmp_path / "c.zip")
    assert set(zipfile.ZipFile(tmp_path / "c.zip").namelist()) == {"collection.json", "documents/0.txt"}
    assert not (tmp_path.parent / "evil.txt").exists() and [p.parent for p in library.received.iterdir()] == [
        library.received
    ]
