"""Liveness, readiness, numbers for Prometheus; what a full disk leaves, and what its visitors read."""

import errno
import threading

import pytest
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.testclient import TestClient

from storage.errors import StorageError
from tests.ui.serving import answered, index_all
from ui.handlers import documents
from ui.monitoring import Monitoring


@pytest.fixture
def stop():
    return threading.Event()


@pytest.fixture
def client(service, stop, tmp_path):
    return TestClient(Starlette(routes=Monitoring(service, tmp_path, stop, metrics=True).routes))


def test_numbers_tell_what_happened_and_no_names(collection, client):
    index_all(collection)
    for _ in range(2):
        assert not answered(collection).error
    told = client.get("/metrics").text
    numbers = dict(line.rsplit(" ", 1) for line in told.splitlines() if not line.startswith("#"))
    assert float(numbers['blockrag_first_token_seconds_count{mode="block"}']) >= 2
    assert float(numbers['blockrag_kv_hits{tier="memory"}']) > 0 and float(numbers["blockrag_documents"]) == 1
    for name in ("process_open_fds", "process_resident_memory_bytes", "blockrag_disk_free_bytes"):
        assert float(numbers[name]) > 0
    assert float(numbers["blockrag_questions_waiting"]) == float(numbers["blockrag_deleted_text_in_log"]) == 0
    assert not any(word in told for word in ("rivers", collection.token, collection.owner))


def test_ready_means_that_the_database_takes_a_write(service, client, stop, monkeypatch):
    assert client.get("/readyz").status_code == client.get("/health").status_code == 200
    stop.set()
    assert client.get("/readyz").status_code == 503 and client.get("/livez").status_code == 200
    stop.clear()
    monkeypatch.setattr("ui.monitoring.CHECKED_S", -1)
    with service.library.store.database.write():  # another writer holds it
        pass
    monkeypatch.setattr("storage.settings.Settings.put", full_disk)
    assert client.get("/readyz").status_code == 503 and client.get("/livez").status_code == 200


def full_disk(*given):
    raise StorageError("the database cannot be used: database or disk is full")


@pytest.mark.parametrize("fault", ["disk", "database"])
def test_a_full_disk_leaves_no_part_of_an_upload(collection, tmp_path, monkeypatch, fault):
    (tmp_path / "new.txt").write_text("some text")

    def copy_part(source, target):
        target.write_text("some")
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    if fault == "disk":
        monkeypatch.setattr("storage.library.shutil.copyfile", copy_part)
    else:
        monkeypatch.setattr("storage.documents.Documents.receive", full_disk)
    with pytest.raises(StorageError, match="No space left|full") as error:
        documents.receive(collection, [tmp_path / "new.txt"])
    assert str(tmp_path) not in str(error.value)
    assert list(collection.library.received.iterdir()) == [] == collection.store.documents.uploads()


def test_no_visitor_reads_where_the_database_is(service, monkeypatch):
    database = service.library.store.database
    with pytest.raises(StorageError) as error, database.read() as session:
        session.connection().exec_driver_sql("SELECT * FROM no_table")
    assert str(database.url.database) not in str(error.value) and "no such table" in str(error.value)
    monkeypatch.setattr(type(database), "dialect", "postgresql")
    refused = OperationalError("", {}, Exception('connection to server at "10.0.0.5", port 5432 failed'))
    with pytest.raises(StorageError, match=r"cannot be used \(Exception\)") as error, database._failures():
        raise refused
    assert "10.0.0.5" not in str(error.value)
