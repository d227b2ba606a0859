"""Requests to index documents, on SQLite and on PostgreSQL alike."""

from tests.storage.samples import document


def test_index_requests_wait_fail_and_are_renewed(store, clock):
    collection = store.collections.create("anna", "Rivers")
    one, two = (store.documents.add(collection.id, document(name, name * 9)) for name in ("a.txt", "b.txt"))
    assert store.jobs.collections() == []
    store.jobs.request(two)
    clock.now += 1
    store.jobs.request(one)
    store.jobs.request(one, delay_s=5)
    store.jobs.request(9999)
    assert store.jobs.collections() == [collection.token]
    first = store.jobs.next_request(collection.id)
    assert first.document_id == two, "the first is not due yet"
    store.jobs.pause(collection.id)
    assert store.jobs.collections() == [] and store.jobs.is_paused(collection.id)
    store.jobs.pause(collection.id, False)
    clock.now += 10
    store.jobs.request(two)  # while it is worked on
    store.jobs.done(first)
    store.jobs.fail(first, "of no account")
    assert sorted(store.jobs.requests(collection.id)) == [one, two]
    later = store.jobs.next_request(collection.id)
    assert later.document_id == one
    store.jobs.fail(later, "the disk is full")
    assert store.jobs.requests(collection.id)[one].reason == "the disk is full"
    store.jobs.done(store.jobs.next_request(collection.id))
    assert store.jobs.collections() == [] == [r for r in store.jobs.requests(collection.id).values() if not r.reason]
    store.documents.delete(one)
    assert store.jobs.requests(collection.id) == {}
