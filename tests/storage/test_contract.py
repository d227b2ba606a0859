"""What every database must do, on SQLite and on PostgreSQL alike."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from blockrag.segment import Edit
from storage.collections import IMPORTING
from storage.documents import Quota
from storage.errors import ConflictError, LimitError, NotFoundError
from tests.storage.samples import (
    TEXT,
    answer_of,
    blocks_of,
    document,
    indexed,
    other_segmentation,
    segmentation_of,
    vectors,
)


@pytest.fixture
def collection(store):
    return store.collections.create("anna", "Rivers")


@pytest.fixture
def kept(store, collection):
    """Id of a document in the collection."""
    return store.documents.add(collection.id, document(), segmentation_of())


def index(store, document_id, granularity=0.5, keys=None, made_by="models"):
    blocks = blocks_of(granularity=granularity)
    blocks = indexed(blocks, keys or [f"key-{b.start}-{b.end}" for b in blocks])
    return blocks, store.blocks.put(document_id, document(), made_by, blocks, vectors(len(blocks)))


# Collections


def test_a_collection_is_its_owners_alone(store, collection):
    assert store.collections.get("anna", collection.token) == collection
    assert store.collections.get(None, collection.token).name == "Rivers"
    for owner, token in (("bert", collection.token), ("anna", "x"), ("", ""), ("anna", collection.token + "'--")):
        with pytest.raises(NotFoundError):
            store.collections.get(owner, token)
    assert store.collections.of("bert") == [] and len(collection.token) >= 32


def test_names_are_an_owners_own_and_unique(store, collection):
    with pytest.raises(ConflictError, match="already"):
        store.collections.create("anna", " Rivers\n")
    assert store.collections.create("bert", "Rivers").token != collection.token
    for bad in ("", "  ", "\x00\n", "x" * 201):
        with pytest.raises(ConflictError, match="1 to 200"):
            store.collections.create("anna", bad)
    other = store.collections.create("anna", "Lakes")
    with pytest.raises(ConflictError):
        store.collections.rename(other.id, "Rivers")
    store.collections.rename(other.id, "Lakes")
    store.collections.rename(other.id, "Robert'); DROP TABLE collections;--")
    assert [c.name for c in store.collections.of("anna")] == ["Rivers", "Robert'); DROP TABLE collections;--"]
    with pytest.raises(NotFoundError):
        store.collections.rename(9999, "Nothing")


def test_one_owner_has_so_many(store):
    for i in range(3):
        store.collections.create("anna", str(i), most=3)
    with pytest.raises(LimitError, match="3 collections"):
        store.collections.create("anna", "one more", most=3)
    store.collections.create("bert", "mine", most=3)


def test_use_is_noted_and_idle_ones_are_found(store, collection, clock):
    clock.now += 3600
    store.collections.create("bert", "fresh")
    assert [c.name for c in store.collections.idle_since(clock.now - 1800)] == ["Rivers"]
    store.collections.get("anna", collection.token)
    assert store.collections.idle_since(clock.now - 1800) == []


def test_what_is_imported_becomes_its_owners_at_once(store):
    hidden = store.collections.create(IMPORTING, "x")
    store.collections.create("anna", "Taken")
    with pytest.raises(ConflictError):
        store.collections.give(hidden.id, "anna", "Taken")
    with pytest.raises(NotFoundError):
        store.collections.give(9999, "anna", "Free")
    store.collections.give(hidden.id, "anna", "Free")
    assert [c.name for c in store.collections.of("anna")] == ["Free", "Taken"]


def test_ids_are_not_used_again(store, collection):
    first = store.documents.add(collection.id, document(), segmentation_of())
    store.documents.delete(first)
    assert store.documents.add(collection.id, document(), segmentation_of()) > first
    store.collections.delete(collection.id)
    assert store.collections.create("anna", "Rivers").id > collection.id


# Documents


@pytest.mark.parametrize("text", [TEXT, "a\x00b\ud83dc \U0001f30a" * 9, "x" * 300_000])
def test_a_document_comes_back_as_it_was(store, collection, text):
    kept = store.documents.add(collection.id, document(text=text), other_segmentation())
    assert store.documents.read(kept) == document(text=text)
    assert store.documents.get(collection.id, document().id).n_chars == len(text)
    assert store.collections.get("anna", collection.token).n_documents == 1


def test_a_document_is_its_source(store, collection, kept):
    assert store.documents.add(collection.id, document(), other_segmentation()) == kept, (
        "the same text again changes nothing"
    )
    assert store.segmentations.get(kept).segmenter == "structural"
    assert store.documents.add(collection.id, document("other name.txt"), other_segmentation()) != kept
    elsewhere = store.collections.create("anna", "Elsewhere")
    assert store.documents.add(elsewhere.id, document(), segmentation_of()) != kept
    records = store.documents.of(collection.id)
    assert [r.name for r in records] == ["rivers.md", "other name.txt"] and records[0].sha256 == records[1].sha256


def test_another_text_of_a_source_replaces_the_one_before(store, collection, kept):
    blocks, _ = index(store, kept)
    conversation = store.conversations.begin(collection.id, "q")
    answer = answer_of(document())
    store.conversations.add(collection.id, conversation, [answer])
    before = store.segmentations.edit(kept, [Edit(10, "added")]).version
    new = document(text="The whole is new. " * 5)
    assert store.documents.add(collection.id, new, other_segmentation()) == kept
    assert store.documents.read(kept) == new and store.documents.totals() == (1, len(new.text))
    segmentation = store.segmentations.get(kept)
    assert (segmentation.segmenter, segmentation.edits) == ("fixed", ()) and segmentation.version > before
    assert store.blocks.of(kept) == [] and store.blocks.keys() == {block.kv_key for block in blocks}, "KV may serve yet"
    with pytest.raises(ConflictError, match="replaced"):
        index(store, kept)
    (turn,) = store.conversations.turns(collection.id, conversation)
    assert turn.sources == answer.sources, "a conversation shows what was read then"
    assert set(store.documents.delete(kept)) == {block.kv_key for block in blocks} and store.blocks.keys() == set()


def test_a_collection_holds_so_much(store, collection, kept):
    with pytest.raises(LimitError, match="1 documents"):
        store.documents.add(collection.id, document("b", "b" * 50), other_segmentation(), Quota(1, 10_000))
    with pytest.raises(LimitError, match="characters"):
        store.documents.add(collection.id, document("b", "b" * 50), other_segmentation(), Quota(5, len(TEXT) + 49))
    assert store.documents.add(collection.id, document(), segmentation_of(), Quota(1, 1)) == kept, "what is there stays"
    with pytest.raises(LimitError, match="characters"):
        store.documents.add(collection.id, document(text="b" * 50), other_segmentation(), Quota(1, 49))
    assert store.documents.totals(collection.id) == (1, len(TEXT)) == store.documents.totals()


def test_nothing_is_kept_of_a_document_whose_collection_is_gone(store, collection):
    store.collections.delete(collection.id)
    with pytest.raises(NotFoundError):
        store.documents.add(collection.id, document(), segmentation_of())
    assert store.documents.totals() == (0, 0)


def test_an_upload_ends_as_a_document_or_with_a_reason(store, collection):
    one = store.documents.receive(collection.id, "a.pdf", "f1", 10)
    two = store.documents.receive(collection.id, "b.pdf", "f2", 20)
    store.documents.add(collection.id, document("a.pdf"), segmentation_of(), upload_id=one)
    store.documents.fail(two, "it is damaged")
    store.documents.fail(9999, "nothing happens")
    (left,) = store.documents.uploads(collection.id)
    assert (left.id, left.name, left.state, left.reason) == (two, "b.pdf", "failed", "it is damaged")
    assert store.documents.uploads() == [left]
    store.documents.dismiss(two)
    assert store.documents.uploads() == []


# Segmentations and edits


def test_a_segmentation_comes_back_as_it_was(store, kept):
    saved, made = store.segmentations.get(kept), segmentation_of()
    assert (saved.segmenter, saved.bounds, saved.granularity, saved.edits, saved.n_redo) == (
        "structural", made.bounds, 0.5, (), 0,
    )  # fmt: skip
    scored = store.segmentations.scored(kept)
    assert np.array_equal(scored.chars, made.scored.chars) and np.array_equal(scored.scores, made.scored.scores)
    store.segmentations.set_granularity(kept, 0.75)
    assert store.segmentations.get(kept).granularity == 0.75


def test_edits_are_undone_redone_and_never_forgotten(store, kept):
    one, two, three = Edit(10, "added"), Edit(20, "removed"), Edit(30, "added")
    segmentations = store.segmentations
    segmentations.edit(kept, [one])
    assert segmentations.edit(kept, [two]).edits == (one, two)
    assert segmentations.undo(kept).edits == (one,) and segmentations.undo(kept).edits == ()
    assert segmentations.undo(kept).n_redo == 2
    assert segmentations.redo(kept).edits == (one,) and segmentations.redo(kept).edits == (one, two)
    assert segmentations.redo(kept).edits == (one, two)
    segmentations.undo(kept)
    assert segmentations.edit(kept, [three]).edits == (one, three) and segmentations.get(kept).n_redo == 0
    assert [(e.edit, e.state) for e in segmentations.history(kept)] == [
        (one, "done"), (two, "dropped"), (three, "done"),
    ]  # fmt: skip
    segmentations.put(kept, other_segmentation())
    assert segmentations.get(kept).edits == (one, three), "another segmenter leaves the edits"
    segmentations.drop_edits(kept)
    assert segmentations.get(kept).edits == () and len(segmentations.history(kept)) == 3


def test_versions_only_grow_even_over_a_deletion(store, collection, kept):
    versions = [store.segmentations.get(kept).version]
    versions.append(store.segmentations.edit(kept, [Edit(10, "added")]).version)
    versions.append(store.segmentations.undo(kept).version)
    versions.append(store.segmentations.put(kept, other_segmentation()))
    store.documents.delete(kept)
    versions.append(store.segmentations.get(store.documents.add(collection.id, document(), segmentation_of())).version)
    assert versions == sorted(set(versions))


def test_an_edit_of_an_older_version_is_refused_and_changes_nothing(store, kept):
    seen = store.segmentations.get(kept).version
    store.segmentations.edit(kept, [Edit(10, "added")], seen)
    with pytest.raises(ConflictError, match="have changed"):
        store.segmentations.edit(kept, [Edit(20, "added")], seen)
    assert len(store.segmentations.history(kept)) == 1


def test_edits_at_once_are_all_kept(store, kept):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: store.segmentations.edit(kept, [Edit(i, "added")]), range(1, 25)))
    assert {edit.char for edit in store.segmentations.get(kept).edits} == set(range(1, 25))


def test_what_is_gone_cannot_be_changed(store, kept):
    store.documents.delete(kept)
    for use in (
        lambda: store.segmentations.get(kept),
        lambda: store.segmentations.scored(kept),
        lambda: store.segmentations.edit(kept, [Edit(1, "added")]),
        lambda: store.segmentations.undo(kept),
        lambda: store.segmentations.put(kept, other_segmentation()),
        lambda: store.segmentations.set_granularity(kept, 0.1),
        lambda: store.documents.read(kept),
        lambda: store.documents.delete(kept),
        lambda: index(store, kept),
        lambda: store.blocks.begin_encoding(kept, ["k"]),
    ):
        with pytest.raises(NotFoundError):
            use()
    assert store.blocks.keys() == set()


# Blocks


def test_blocks_come_back_as_they_were(store, collection, kept):
    blocks, change = index(store, kept)
    assert store.blocks.of(kept) == blocks == store.blocks.of(kept, "models") and len(change.added) == len(blocks)
    assert store.blocks.of(kept, "other models") == []
    known = store.blocks.vectors("models", [*(block.kv_key for block in blocks), "none"])
    assert np.array_equal(np.stack([known[block.kv_key] for block in blocks]), vectors(len(blocks)))
    assert store.blocks.vectors("other models", [block.kv_key for block in blocks]) == {}
    assert store.blocks.starts(collection.id, "models") == {kept: tuple(b.start for b in blocks)}
    assert store.blocks.starts(collection.id, "other models") == {}


def test_only_blocks_that_changed_get_new_vectors(store, kept):
    fine, first = index(store, kept, 1.0)
    coarse, second = index(store, kept, 0.0)
    shared = {(b.start, b.end) for b in fine} & {(b.start, b.end) for b in coarse}
    assert len(second.added) == len(coarse) - len(shared)
    assert not set(second.orphans) & {f"key-{s}-{e}" for s, e in shared}
    _, third = index(store, kept, 0.0)
    assert (third.added, third.gone, third.orphans) == ({}, [], [])
    _, fourth = index(store, kept, 1.0)
    assert not set(fourth.added.values()) & set(first.added.values()), "ids of removed vectors do not come again"
    assert first.version < second.version < third.version < fourth.version


def test_kv_goes_with_the_last_block_that_uses_it(store, collection, kept):
    blocks, _ = index(store, kept)
    other = store.documents.add(store.collections.create("bert", "Own").id, document(), segmentation_of())
    index(store, other, keys=["shared"] + [f"own-{i}" for i in range(len(blocks) - 1)])
    index(store, kept, keys=["shared"] + [f"anna-{i}" for i in range(len(blocks) - 1)])
    orphans = store.documents.delete(kept)
    assert "shared" not in orphans and set(orphans) == {f"anna-{i}" for i in range(len(blocks) - 1)}
    assert "shared" in store.documents.delete(other) and store.blocks.keys() == set()


def test_kv_that_was_being_made_is_known(store, collection, kept):
    store.blocks.begin_encoding(kept, ["a", "b"])
    store.blocks.begin_encoding(kept, ["b", "c"])
    assert store.blocks.keys() == {"a", "b", "c"} == store.blocks.keys(collection.id)
    _, change = index(store, kept, keys=["a"] * len(blocks_of()))
    assert set(change.orphans) == {"b", "c"} and store.blocks.keys() == {"a"}
    store.blocks.begin_encoding(kept, ["d"])
    assert set(store.collections.delete(collection.id)) == {"a", "d"} and store.blocks.keys() == set()


def test_a_document_can_be_taken_out_of_the_index(store, kept):
    blocks, _ = index(store, kept)
    assert set(store.blocks.remove(kept)) == {block.kv_key for block in blocks} and store.blocks.of(kept) == []


# Conversations and settings


def test_a_conversation_comes_back_with_its_sources(store, collection, kept):
    conversation = store.conversations.begin(collection.id, "How\n long? " * 40)
    answers = [answer_of(document()), answer_of(document(), "full")]
    store.conversations.add(collection.id, conversation, answers)
    (turn,) = store.conversations.turns(collection.id, conversation)
    assert turn.answers == {"block": answers[0], "full": answers[1]}
    assert turn.sources == answers[0].sources and turn.left_out == answers[0].left_out
    (record,) = store.conversations.of(collection.id)
    assert record.title.startswith("How long?") and len(record.title) <= 80


def test_a_deleted_document_is_gone_from_conversations(store, collection, kept):
    conversation = store.conversations.begin(collection.id, "q")
    store.conversations.add(collection.id, conversation, [answer_of(document())])
    store.documents.delete(kept)
    (turn,) = store.conversations.turns(collection.id, conversation)
    assert turn.sources == () and turn.answers["block"].text == "Twelve miles."
    store.conversations.add(collection.id, conversation, [answer_of(document(), question="a\x00b\ud800")])
    assert store.conversations.turns(collection.id, conversation)[1].question == "a\ufffdb?"


def test_a_conversation_is_its_collections_alone(store, collection):
    conversation = store.conversations.begin(collection.id, "q")
    other = store.collections.create("bert", "Own")
    for use in (
        lambda: store.conversations.turns(other.id, conversation),
        lambda: store.conversations.delete(other.id, conversation),
        lambda: store.conversations.add(other.id, conversation, [answer_of(document())]),
        lambda: store.conversations.begin(9999, "q"),
    ):
        with pytest.raises(NotFoundError):
            use()
    assert store.conversations.of(other.id) == []
    store.conversations.delete(collection.id, conversation)
    assert store.conversations.of(collection.id) == []


def test_settings_are_an_owners_own(store):
    store.settings.put("anna", {"k": 4, "mode": "block"})
    store.settings.put("anna", {"k": 8})
    assert store.settings.of("anna") == {"k": 8, "mode": "block"} and store.settings.of("bert") == {}


# Transactions


def test_a_change_that_fails_leaves_nothing(store, kept):
    blocks, _ = index(store, kept)
    with pytest.raises(ValueError):
        store.blocks.put(kept, document(), "m", blocks, vectors(2))
    assert store.blocks.of(kept) == blocks


def test_a_reader_sees_one_state_while_a_writer_writes(store, collection, kept):
    began, go_on = threading.Event(), threading.Event()

    def write():
        with store.database.write() as session:
            from storage import models  # noqa: PLC0415

            session.get(models.Collection, collection.id).name = "Half done"
            session.flush()
            began.set()
            go_on.wait(10)

    writer = threading.Thread(target=write)
    writer.start()
    began.wait(10)
    assert store.collections.of("anna")[0].name == "Rivers", "readers do not wait for writers"
    go_on.set()
    writer.join()
    assert store.collections.of("anna")[0].name == "Half done"


def test_deleting_a_collection_deletes_all_that_was_in_it(store, collection, kept):
    index(store, kept)
    store.documents.receive(collection.id, "b.pdf", "f2", 20)
    conversation = store.conversations.begin(collection.id, "q")
    store.conversations.add(collection.id, conversation, [answer_of(document())])
    store.segmentations.edit(kept, [Edit(1, "added")])
    orphans = store.collections.delete(collection.id)
    assert len(orphans) == len(blocks_of())
    from sqlalchemy import func, select  # noqa: PLC0415

    from storage.models import Base  # noqa: PLC0415

    with store.database.read() as session:
        for table in Base.metadata.sorted_tables:
            assert session.scalar(select(func.count()).select_from(table)) == 0, table.name
