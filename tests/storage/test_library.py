"""Collections with their KV; the doctor; archives; the command line."""

import json
import logging
import secrets
import sqlite3
import tracemalloc
import zipfile

import pytest

from blockrag.documents import Document
from blockrag.engine import Engine
from blockrag.errors import Stopped, UnknownDocumentError
from blockrag.segment import Edit, SizeBounds
from storage.__main__ import main
from storage.archive import export, import_
from storage.database import sqlite_url
from storage.doctor import examine, mend
from storage.documents import Quota
from storage.errors import ArchiveError, ConflictError, LimitError, NotFoundError
from storage.library import Library
from storage.store import Store
from tests.databases import prepared
from tests.storage.samples import TEXT, document
from tests.tiny import tiny_engine

BOUNDS = SizeBounds(16, 128)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def open_library(folder, url=None, **options) -> Library:
    folder.mkdir(exist_ok=True)
    engine = tiny_engine(folder / "kv")
    return Library(Store.open(url or prepared(folder / "blockrag.sqlite")), engine, folder, **options)


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
    _, saved = library.segment(doc, "structural", BOUNDS, granularity)
    return library.store.documents.add(collection.id, doc, saved, library.quota)


def index(library, collection, document_id, granularity=None):
    doc, saved = library.store.documents.read(document_id), library.store.segmentations.get(document_id)
    blocks = library.restore(doc, document_id, saved).blocks(saved.granularity if granularity is None else granularity)
    steps = []
    library.index(fresh(library, collection), document_id, doc, blocks, steps.append)
    return steps, blocks


def search(library, collection, question="river 7"):
    vector = library.engine.embedder.embed([question])[0]
    return [found.text for found in library.index_of(collection.id).search(vector, 3)]


def files(folder):
    return sorted((folder / "kv").glob("*/*.safetensors"))


def test_what_is_indexed_is_found(library, collection):
    kept = add(library, collection)
    steps, blocks = index(library, collection, kept)
    assert {step.stage for step in steps} == {"embed", "encode"} and "river 7" in search(library, collection)[0]
    tokens = [len(library.engine.prompt.block_ids(TEXT[b.start : b.end])) for b in blocks]
    assert [b.n_tokens for b in library.store.blocks.of(kept)] == tokens


def test_only_what_changed_is_computed_again(library, collection, monkeypatch):
    kept = add(library, collection)
    _, blocks = index(library, collection, kept)
    embedded, embed = [], library.engine.embedder.embed
    monkeypatch.setattr(library.engine.embedder, "embed", lambda texts: embedded.extend(texts) or embed(texts))
    before = {(b.start, b.end) for b in blocks}
    library.store.segmentations.edit(kept, [Edit(blocks[2].start, "removed")])
    steps, now = index(library, collection, kept)
    assert embedded == [TEXT[b.start : b.end] for b in now if (b.start, b.end) not in before]
    assert 0 < len(embedded) <= 2 and steps[-1].reused == len(now) - len(embedded)
    assert [block.start for block in library.store.blocks.of(kept)] == [block.start for block in now]


def test_a_new_version_of_a_source_computes_what_changed_alone(library, folder, collection, monkeypatch):
    kept = add(library, collection)
    _, blocks = index(library, collection, kept, 1.0)
    embedded, embed = [], library.engine.embedder.embed
    monkeypatch.setattr(library.engine.embedder, "embed", lambda texts: embedded.extend(texts) or embed(texts))
    last = TEXT[blocks[-1].start :]
    new = document(text=TEXT.removesuffix(last) + "The river ends in a lake of salt. No ship is on it at all.\n")
    assert add(library, collection, new) == kept
    assert "river 7" not in "".join(search(library, collection)), "it is not indexed yet"
    index(library, collection, kept, 1.0)
    assert embedded[0] == "river 7" and 0 < len(embedded) - 1 <= 3 and "lake of salt" in "".join(embedded[1:])
    assert "lake of salt" in search(library, collection, "lake of salt")[0]
    assert len(files(folder)) == len({block.kv_key for block in library.store.blocks.of(kept)})
    assert [*examine(library)] == []


def test_two_sources_with_one_text_are_computed_once(library, folder, collection, monkeypatch):
    index(library, collection, add(library, collection))
    n_files = len(files(folder))
    monkeypatch.setattr(library.engine, "encode", nothing_to_encode)
    monkeypatch.setattr(library.engine.embedder, "embed", None)
    copy = add(library, collection, document("copy.md"))
    index(library, collection, copy)
    monkeypatch.undo()
    assert [d.name for d in library.index_of(collection.id).documents()] == ["rivers.md", "copy.md"]
    library.delete_document(collection, library.store.documents.get(collection.id, document().id))
    assert len(files(folder)) == n_files and "river 7" in search(library, collection)[0]
    with pytest.raises(UnknownDocumentError):
        library.index_of(collection.id).delete(document().id)


def test_a_document_replaced_while_it_is_indexed_is_not_indexed(library, folder, collection):
    kept = add(library, collection)
    doc, saved = library.store.documents.read(kept), library.store.segmentations.get(kept)

    def replace(step):
        if step.stage == "encode":
            add(library, collection, document(text="Another text altogether. " * 9))

    with pytest.raises(ConflictError, match="replaced"):
        library.index(collection, kept, doc, library.restore(doc, kept, saved).blocks(0.5), replace)
    assert library.store.blocks.of(kept) == []
    index(library, collection, kept)
    assert "Another" in search(library, collection)[0]
    assert len(files(folder)) == len({block.kv_key for block in library.store.blocks.of(kept)})


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


def test_two_programs_see_each_others_changes(library, folder, collection):
    other = open_library(folder)
    kept = add(library, collection)
    index(library, collection, kept)
    assert search(other, collection) == search(library, collection)
    more = add(other, collection, document("lake.md", "The lake of Grimsund is deep and cold. " * 9))
    index(other, collection, more)
    assert "Grimsund" in search(library, collection, "lake of Grimsund")[0]
    other.delete_document(fresh(other, collection), other.store.documents.get(collection.id, document().id))
    assert all("river" not in text for text in search(library, collection))
    other.close()


def test_of_the_folder_of_former_indexes_only_indexes_are_removed(folder):
    for name in ("token-a", "token-b"):
        (folder / "indexes" / name).mkdir(parents=True)
        (folder / "indexes" / name / "index.sqlite").touch()
    (folder / "indexes" / "mine.txt").touch()
    open_library(folder).close()
    assert [path.name for path in (folder / "indexes").iterdir()] == ["mine.txt"]


def test_of_many_collections_those_used_last_stay_in_memory(library, collection, monkeypatch):
    index(library, collection, add(library, collection))
    found = search(library, collection)
    monkeypatch.setattr("storage.library.MAX_OPEN", 1)
    first, other = library.index_of(collection.id), library.store.collections.create("anna", "Other")
    library.index_of(other.id)
    assert search(library, collection) == found and library.index_of(collection.id) is not first
    monkeypatch.undo()
    monkeypatch.setattr("storage.library.MAX_OPEN_NBYTES", 1)
    kept = library.index_of(collection.id)
    assert library.index_of(collection.id) is kept, "the last one stays"
    library.index_of(other.id)
    assert library.index_of(collection.id) is not kept


def test_deleted_means_gone_rows_vectors_kv_files(library, folder, collection):
    secret = document("secret.md", "".join(f"The word of day {i} is swordfish{i}.\n\n" for i in range(60)))
    kept = add(library, collection, secret)
    index(library, collection, kept)
    assert files(folder)
    library.delete_document(fresh(library, collection), library.store.documents.get(collection.id, secret.id))
    assert files(folder) == [] and library.store.blocks.keys() == set()
    assert len(library.index_of(collection.id)) == 0
    assert not [path for path in folder.rglob("*") if path.is_file() and b"swordfish" in path.read_bytes()]
    assert all(len(tier.keys()) == 0 for tier in library.engine.kv.tiers)


def test_a_deleted_collection_leaves_nothing(library, folder, collection, tmp_path):
    kept = add(library, collection)
    index(library, collection, kept)
    (tmp_path / "up.txt").write_text("swordfish")
    library.receive(collection.id, tmp_path / "up.txt", "up.txt")
    assert (tmp_path / "up.txt").exists(), "another may be about to take it in"
    library.delete_collection(collection)
    assert files(folder) == [] == list(library.received.iterdir())
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
    doc, saved = library.store.documents.read(kept), library.store.segmentations.get(kept)
    blocks = library.restore(doc, kept, saved).blocks(saved.granularity)

    def delete(step):
        for record in library.store.documents.of(collection.id):
            library.delete_document(fresh(library, collection), record)

    with pytest.raises(NotFoundError):
        library.index(fresh(library, collection), kept, doc, blocks, delete)
    assert files(folder) == [] and len(library.index_of(collection.id)) == 0


def test_stopped_indexing_keeps_its_kv_and_deleting_removes_it(library, folder, collection):
    kept = add(library, collection)
    doc, saved = library.store.documents.read(kept), library.store.segmentations.get(kept)
    blocks = library.restore(doc, kept, saved).blocks(1.0)

    def stop(step):
        if step.stage == "encode" and step.done == 2:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        library.index(fresh(library, collection), kept, doc, blocks, stop)
    assert files(folder) and [*examine(library)] == [], "what is encoded is known, and waits for the next time"
    library.delete_document(fresh(library, collection), library.store.documents.get(collection.id, doc.id))
    assert files(folder) == []


def test_other_models_have_documents_indexed_anew(library, folder, collection):
    kept = add(library, collection)
    index(library, collection, kept)
    library.close()
    other = Library(Store.open(sqlite_url(folder / "blockrag.sqlite")), tiny_engine(folder / "kv", seed=5), folder)
    assert len(other.index_of(collection.id)) == 0 and other.store.blocks.starts(collection.id, other.made_by) == {}
    index(other, collection, kept)
    assert search(other, collection) and other.store.blocks.of(kept) == other.store.blocks.of(kept, other.made_by)
    other.close()


# The doctor


def damage_blocks(library, folder, collection):
    with sqlite3.connect(folder / "blockrag.sqlite") as connection:
        connection.execute("DELETE FROM blocks WHERE id IN (SELECT min(id) FROM blocks)")


def add_foreign_kv(library, folder, collection):
    library.engine.warm(["a text of no document"])


def lose_upload(library, folder, collection):
    library.store.documents.receive(collection.id, "lost.pdf", "0" * 32, 10)


def leave_upload(library, folder, collection):
    (library.received / "stray").write_text("x")


def spoil_scores(library, folder, collection):
    with sqlite3.connect(folder / "blockrag.sqlite") as connection:
        connection.execute("INSERT INTO edits VALUES (99, 1, 1000000, 'added', 'done', 0)")


def half_import(library, folder, collection):
    library.store.collections.create("importing", "half")


DAMAGES = [damage_blocks, add_foreign_kv, lose_upload, leave_upload, spoil_scores, half_import]


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
        connection.execute("UPDATE document_parts SET text = X'6869'")
    found, left = mend(library)
    assert found == left and "not the one that was loaded" in found[0].what


# Archives


def test_a_collection_travels_as_one_file(library, folder, collection, tmp_path):
    kept = add(library, collection, granularity=0.75)
    add(library, collection, document("b.txt", "a whole \U0001f30a and a NUL \x00. " * 20))
    told = Document("c.txt", "text/plain", "Told. " * 9, encoding="cp1252", notes=("One line left out.",))
    add(library, collection, told)
    library.store.segmentations.edit(kept, [Edit(TEXT.index("# River 5"), "added")])
    export(library, collection, tmp_path / "c.zip")
    with pytest.raises(ConflictError):
        import_(library, "anna", tmp_path / "c.zip")
    there = open_library(tmp_path / "elsewhere")
    imported = import_(there, "bert", tmp_path / "c.zip")
    assert (imported.name, imported.owner, imported.n_documents) == ("Rivers", "bert", 3)
    for ours, theirs in zip(
        library.store.documents.of(collection.id), there.store.documents.of(imported.id), strict=True
    ):
        assert library.store.documents.read(ours.id) == there.store.documents.read(theirs.id)
        assert (ours.encoding, ours.notes) == (theirs.encoding, theirs.notes)
        here, gone = library.store.segmentations.get(ours.id), there.store.segmentations.get(theirs.id)
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
    with pytest.raises(ArchiveError, match="more than a collection may"):
        import_(library, "anna", tmp_path / "c.zip", name="Copy")
    library.quota = Quota(5, 10 * len(TEXT), 2 * len(TEXT) - 1)
    with pytest.raises(LimitError, match="no room"):
        import_(library, "anna", tmp_path / "c.zip", name="Copy")
    assert len(library.store.collections.all()) == 1


@pytest.mark.parametrize("n_bytes, word", [(1, "list of contents"), (70_000, "what it lists")])
def test_a_list_of_contents_of_another_size_than_the_texts_costs_nothing_here(library, tmp_path, n_bytes, word):
    """64 MB of empty documents took 4.4 GB of the server."""
    salt = secrets.token_hex(1 << 17)  # packs to half
    entries = b"{}," * (1 << 20)
    manifest = b'{"format": "blockrag-collection", "version": 1, "name": "%s", "documents": [%s{}]}'
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("collection.json", manifest % (salt.encode(), entries))
        archive.writestr("documents/0.txt", secrets.token_hex(n_bytes))
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match=word):
            import_(library, "anna", tmp_path / "bomb.zip")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert library.store.collections.all() == []


def test_an_import_that_is_stopped_leaves_nothing(library, collection, tmp_path):
    for name in ("a.md", "b.md"):
        add(library, collection, document(name))
    export(library, collection, tmp_path / "c.zip")

    def stop(step):
        if step.done == 1:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        import_(library, "anna", tmp_path / "c.zip", name="Copy", on_progress=stop)
    assert [c.name for c in library.store.collections.all()] == ["Rivers"] and library.store.documents.totals()[0] == 2


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_are_refused_or_come_in_as_they_were(library, collection, tmp_path, seed):
    import random  # noqa: PLC0415

    add(library, collection)
    export(library, collection, tmp_path / "c.zip")
    rng, data = random.Random(seed), bytearray((tmp_path / "c.zip").read_bytes())
    for _ in range(4):
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
