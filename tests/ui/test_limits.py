"""Limits per visitor and in all."""

import secrets
import subprocess
import sys
import types
from pathlib import Path

import gradio as gr
import pytest

from storage.documents import Quota
from storage.errors import LimitError
from tests.tiny import tiny_engine
from tests.ui.serving import SECRET, answered, load_files, make_service, read_waiting, visitor
from ui import strings
from ui.collection_service import FIRST_COLLECTION
from ui.connections import address_group
from ui.guard import VISITOR_COOKIE
from ui.handlers import ask, blocks, collections, documents, index, settings
from ui.limits import Limits, RateLimiter
from ui.session import Session

ROOT = Path(__file__).parents[2]


def test_a_refusal_says_the_limit_and_when_to_try_again(clock):
    limiter = RateLimiter(Limits(questions_a_minute=2, uploads_an_hour=3, n_files=2, jobs=1), clock)
    limiter.question("anna")
    limiter.question("anna")
    with pytest.raises(LimitError, match="2 questions per minute.*60 seconds"):
        limiter.question("anna")
    limiter.question("bert")
    clock.now += 61
    limiter.question("anna")
    with pytest.raises(LimitError, match="at most 2"):
        limiter.upload("anna", 3)
    limiter.upload("anna", 2)
    with pytest.raises(LimitError, match="3 files per hour"):
        limiter.upload("anna", 2)
    with limiter.job("anna"):
        with pytest.raises(LimitError, match="limit: 1"), limiter.job("anna"):
            pass
        with limiter.job("bert"):
            pass
    with limiter.job("anna"):
        pass


def test_new_collections_are_charged_to_an_address_and_to_all(tmp_path, clock):
    limits = Limits(collections_an_hour=3, collections_an_hour_in_all=7)
    service = make_service(tiny_engine(), tmp_path / "data", limits=limits, clock=clock)
    service.limiter = RateLimiter(limits, clock)

    def enter(address: str) -> None:
        service.open(service.owner(secrets.token_hex(20), None), "", address).keep()

    for _ in range(3):
        enter("192.0.2.1")
    with pytest.raises(LimitError, match="3 new collections per hour"):
        enter("192.0.2.1")
    for address in ("192.0.2.2", "", "", ""):  # "" is a proxy that names nobody
        enter(address)
    with pytest.raises(LimitError, match="7 new collections per hour"):
        enter("192.0.2.3")
    clock.now += 3601
    enter("192.0.2.1")
    service.library.close()


def test_a_visitor_who_looks_has_no_row_and_the_first_document_makes_it(tmp_path, clock):
    """2,000 page loads were 2,000 collections."""
    service = make_service(tiny_engine(), tmp_path, limits=Limits(collections_an_hour=2), clock=clock)
    stored, session = service.library.store.collections, Session(service, None, None)

    def visit(n: int) -> types.SimpleNamespace:
        client = types.SimpleNamespace(host="192.0.2.1")
        return types.SimpleNamespace(cookies={VISITOR_COOKIE: f"{n:043}"}, username=None, client=client)

    for n in range(50):
        assert session.enter({}, None, visit(n)) == {"collection": 0}
        with session.open({"collection": 0}, visit(n)) as opened:
            assert documents.view(opened)["rows"] == [] and documents.status(opened) == {}
            assert index.overview(opened)["rows"] == [] and blocks.view(opened, None) == {"empty": strings.NO_BLOCKS}
            assert collections.choices(opened) == [(FIRST_COLLECTION, "")]
            with pytest.raises(LimitError, match="no documents yet"):
                ask.begin(opened, "why?", ("block",))
    assert stored.count() == 0
    for n in (0, 0, 1):
        with session.open({"collection": 0}, visit(n)) as opened:
            documents.receive_sample(opened)
            assert documents.view(opened)["rows"]
    assert stored.count() == 2, "both tabs of visitor 0 have one"
    with pytest.raises(gr.Error, match="2 new collections"), session.open({"collection": 0}, visit(2)) as opened:
        documents.receive_sample(opened)
    assert stored.count() == 2 and session.enter({}, None, visit(0))["collection"] > 0
    service.library.close()


def test_settings_go_with_the_last_collection_of_a_visitor_who_left(tmp_path, clock):
    service = make_service(tiny_engine(), tmp_path, clock=clock, expire=True)
    left = visitor(service)
    settings.save(left, {"k": 5})
    clock.now += 5 * 3600
    service.delete_expired()
    assert service.library.store.settings.of(left.owner) == {}
    service.library.close()


def test_empty_collections_of_visitors_who_left_give_way(tmp_path, clock):
    """2,000 calls locked a demo for four hours."""
    service = make_service(tiny_engine(), tmp_path / "data", limits=Limits(n_collections_in_all=4), clock=clock)
    with_file = visitor(service)
    (tmp_path / "a.txt").write_text("some text")
    load_files(with_file, [tmp_path / "a.txt"])
    user = service.library.store.collections.create("user:anna", "empty, but of a user")
    empty = [visitor(service) for _ in range(2)]
    with pytest.raises(LimitError, match="too many collections"):
        visitor(service)
    clock.now += 601
    new = visitor(service)
    left = {record.token for record in service.library.store.collections.all()}
    assert left == {with_file.token, user.token, new.token} and not {e.token for e in empty} & left
    service.library.close()


def test_files_that_wait_are_bounded(tmp_path):
    """A collection that is stopped keeps what it is sent."""
    limits = Limits(quota=Quota(waiting_bytes=150, waiting_bytes_in_all=250))
    service = make_service(tiny_engine(), tmp_path / "data", limits=limits)
    (tmp_path / "a.txt").write_text("x" * 100)
    anna, bert, carl = (visitor(service) for _ in range(3))
    anna.worker.stop(anna.record.id)
    for each in (anna, bert):
        documents.receive(each, [tmp_path / "a.txt"])
    for each in (anna, carl):
        with pytest.raises(LimitError, match="wait to be read"):
            documents.receive(each, [tmp_path / "a.txt"])
    assert len(list(anna.library.received.iterdir())) == 2
    read_waiting(bert)
    documents.receive(carl, [tmp_path / "a.txt"])
    service.library.close()


def test_addresses_are_counted_by_network():
    counted = [
        address_group(a) for a in ("192.0.2.7", "2001:db8::1", "2001:db8::ffff", "127.0.0.1", "::1", "testclient")
    ]
    assert counted == ["192.0.2.7", "2001:db8::/64", "2001:db8::/64", "", "", ""]


def test_a_limit_of_open_files_is_raised_or_told():
    code = (
        "import resource as r; from ui.connections import allow_open_files as allow; from blockrag.errors import BlockRAGError\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (200, 4096)); allow(); print(r.getrlimit(r.RLIMIT_NOFILE))\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (200, 300))\n"
        "try: allow()\n"
        "except BlockRAGError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("(2048, 4096)\na process may have 300 files open here; the server needs 2048"), done


def test_limits_hold_in_the_handlers(tmp_path):
    limits = Limits(
        n_collections=2, quota=Quota(2, 2_000, 2_500), n_files=3, file_bytes=5_000, question_chars=50,
        questions_a_minute=2, n_collections_in_all=3,
    )  # fmt: skip
    service = make_service(tiny_engine(), tmp_path / "data", limits=limits)
    collection = visitor(service, SECRET["secret"])

    def load(**texts):
        paths = [tmp_path / f"{name}.txt" for name in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text)
        view = load_files(collection, paths)
        return {row["name"]: row["state"] for row in view["rows"]}

    with pytest.raises(LimitError, match="at most 3"):
        load(a="a", b="b", c="c", d="d")
    states = load(a="word " * 60, big="x" * 6_000)
    assert states["a.txt"] == strings.WAITING_TO_INDEX and "split it" in states["big.txt"]
    assert "characters" in load(b="word " * 360)["b.txt"]
    assert "2 documents" in load(c="one ", d="two ")["d.txt"]
    with pytest.raises(LimitError, match="50"):
        answered(collection, "why? " * 20)
    service.create(collection.owner, "second")
    with pytest.raises(LimitError, match="2 collections"):
        service.create(collection.owner, "third")
    visitor(service)
    with pytest.raises(LimitError, match="too many collections"):
        visitor(service)
    service.library.close()
