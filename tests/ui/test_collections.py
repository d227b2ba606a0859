"""Who owns which collection; create, rename, delete, export, import, expire, restart."""

import shutil

import pytest

from storage.errors import NotFoundError
from tests.tiny import tiny_engine
from tests.ui.serving import SECRET, answered, index_all, make_service, only_document, visitor
from ui.collection_service import CollectionService
from ui.handlers import ask, blocks, collections, index
from ui.open_collection import GoneError


def test_visitors_share_nothing(service, collection):
    other = visitor(service)
    assert other.token != collection.token and len(other.token) >= 32 and other.documents == {}
    index_all(collection)
    assert len(other.pipeline.index) == 0
    with pytest.raises(NotFoundError, match="no such document"):
        other.remove(only_document(collection)[0])
    assert len(collection.pipeline.index) > 0 and len(collection.documents) == 1


def test_two_tabs_that_enter_at_once_share_the_first_collection(service, monkeypatch):
    collections, other = service.library.store.collections, []
    of, create = collections.of, service.create

    def create_second(*arguments):
        other.append(create(*arguments))  # by the other tab, after this one has looked
        return create(*arguments)

    monkeypatch.setattr(service, "create", create_second)
    assert visitor(service, SECRET["secret"]).token == other[0].token
    assert len(of(other[0].owner)) == 1


def test_a_wrong_visitor_opens_nothing(service, collection):
    good = {"secret": SECRET["secret"], "collection": collection.token}
    assert service.get(good).token == collection.token
    for wrong in (
        None,
        "",
        [],
        {},
        {"secret": "t" * 40, "collection": collection.token},
        {"secret": "", "collection": collection.token},
        {"secret": SECRET["secret"], "collection": "../.."},
        {"secret": {"a": 1}, "collection": ["b"]},
    ):
        with pytest.raises(GoneError):
            service.get(wrong)


def test_idle_collections_expire_with_everything_in_them(service, collection, clock, tmp_path):
    index_all(collection)
    assert list((tmp_path / "kv").glob("*/*.safetensors"))
    clock.now += 3 * 3600
    good = {"secret": SECRET["secret"], "collection": collection.token}
    service.get(good)
    clock.now += 3 * 3600
    service.delete_expired()
    assert service.get(good).token == collection.token, "three idle hours are not enough"
    clock.now += 5 * 3600
    service.delete_expired()
    with pytest.raises(GoneError):
        service.get(good)
    assert not list((tmp_path / "kv").glob("*/*.safetensors"))


def test_a_restart_loses_nothing(service, collection, tmp_path):
    document_id, _ = only_document(collection)
    collection.set_granularity(document_id, 1.0)
    blocks.toggle(collection, document_id, blocks.view(collection, document_id)["starts"][2], add=False)
    index_all(collection)
    state = answered(collection)
    before = blocks.view(collection, document_id)
    service.library.close()
    restarted = make_service(tiny_engine(tmp_path / "kv"), tmp_path / "data")
    again = visitor(restarted, SECRET["secret"])
    view = blocks.view(again, document_id)
    assert {k: v for k, v in view.items() if k != "cost"} == {k: v for k, v in before.items() if k != "cost"}
    assert index.overview(again)["rows"][0]["state"] == "done"
    ((title, conversation),) = ask.conversation_choices(again)
    (turn,) = ask.turns(again, conversation)
    recalled = ask.recall(again, turn)
    assert title == state.question and recalled.sources == state.sources
    assert recalled.answers == state.answers and recalled.texts == state.texts
    restarted.library.close()


def test_collections_are_created_renamed_exported_imported_deleted(service, collection, tmp_path):
    path = collections.to_file(collection)
    assert path.name == "My-documents.zip"
    shutil.copy(path, tmp_path / "in.zip")
    token = collections.from_file(service, collection, tmp_path / "in.zip")
    assert [name for name, _ in collections.choices(collection)] == ["My documents", "My documents (2)"]
    imported = service.get({**SECRET, "collection": token})
    imported.store.collections.rename(imported.record.id, "../../Rivers <b>")
    imported = service.get({**SECRET, "collection": token})
    assert (
        blocks.view(imported, only_document(imported)[0])["starts"]
        == blocks.view(collection, only_document(collection)[0])["starts"]
    )
    assert collections.to_file(imported).name == "Rivers-b.zip"
    assert not collections.delete(service, imported, "no")
    assert collections.delete(service, imported, "../../Rivers <b>")
    with pytest.raises(GoneError):
        service.get({**SECRET, "collection": token})
    assert service.enter({**SECRET, "collection": token})["collection"] == collection.token


def test_shared_collections_are_shared_and_users_have_their_own(service):
    shared = CollectionService(service.library, "shared")
    assert visitor(shared).token == visitor(shared).token
    users = CollectionService(service.library, "login")
    for user in ("anna", "bert"):
        users.open(users.owner("", user), "").keep()
    anna, bert = users.enter({}, "anna"), users.enter({}, "bert")
    assert anna["collection"] != bert["collection"] and users.enter({}, "anna")["collection"] == anna["collection"]
    for known, user in ((anna, "bert"), (anna, None), ({"collection": anna["collection"]}, None)):
        with pytest.raises(GoneError):
            users.get(known, user)
