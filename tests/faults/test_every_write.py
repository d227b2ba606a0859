"""Every write of the database, the indexes and the KV, under a full disk, a failing disk, and a kill at any step.

Afterwards the state is the one before or the one after, the error is one of ours, and the doctor leaves nothing. Each
fault is tried at a few steps in the suite, and at all of them by

    BLOCKRAG_FAULTS=full python -m pytest tests/faults/test_every_write.py
"""

import errno
import hashlib
import itertools
import os
import resource
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
from sqlalchemy import event

from blockrag.errors import BlockRAGError
from blockrag.pipeline import Pipeline
from blockrag.segment import Edit, SizeBounds
from storage.archive import export, import_
from storage.backup import back_up, problems
from storage.collections import IMPORTING
from storage.database import sqlite_url
from storage.doctor import mend
from storage.library import Library
from storage.store import Store
from tests.faults.conftest import FULL
from tests.storage.samples import TEXT, answer_of, document, other_segmentation
from tests.tiny import tiny_engine

pytestmark = pytest.mark.slow

NAME = "blockrag.sqlite"


class World:
    """A data folder and an index in a folder, with something of everything."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.library = Library(Store.open(sqlite_url(folder / NAME), lambda: 1.0), tiny_engine(folder / "kv"), folder)
        self.store, self.files = self.library.store, Pipeline.open(self.library.engine, folder / "files")

    @property
    def collection(self):
        return next(c for c in self.store.collections.all() if c.name == "Rivers")

    def document(self, name: str) -> int:
        return self.store.documents.get(self.collection.id, document(name).id).id

    def add(self, name: str, text: str = TEXT) -> None:
        doc = document(name, text)
        _, saved = self.library.segment(doc, "structural", SizeBounds(16, 128), 0.5)
        self.store.documents.add(self.collection.id, doc, saved)

    def index(self, name: str) -> None:
        id = self.document(name)
        doc, saved = self.store.documents.read(id), self.store.segmentations.get(id)
        self.library.index(self.collection, id, doc, self.library.restore(doc, id, saved).blocks(saved.granularity))

    def upload(self, name: str = "up.txt") -> None:
        self.library.receive(self.collection.id, Path(__file__), name)

    def the_upload(self):
        return self.store.documents.uploads()[0]

    def add_to_files(self, name: str, text: str = TEXT) -> None:
        self.files.add(self.files.segment(document(name, text), "structural", SizeBounds(16, 128)))

    def close(self) -> None:
        self.files.index.close()
        self.library.close()


WRITES: dict[str, Callable[[World], object]] = {
    "create a collection": lambda w: w.store.collections.create("anna", "New"),
    "rename one": lambda w: w.store.collections.rename(w.collection.id, "Lakes"),
    "give one": lambda w: w.store.collections.give(w.collection.id, "bert", "Given"),
    "delete one": lambda w: w.library.delete_collection(w.collection),
    "add a document": lambda w: w.add("new.md", TEXT * 3),
    "replace one": lambda w: w.add("indexed.md", "Another text altogether. " * 90),
    "delete a document": lambda w: w.library.delete_document(
        w.collection, w.store.documents.get(w.collection.id, document("indexed.md").id)
    ),
    "segment": lambda w: w.store.segmentations.put(w.document("loaded.md"), other_segmentation()),
    "edit": lambda w: w.store.segmentations.edit(w.document("loaded.md"), [Edit(TEXT.index("# River 5"), "added")]),
    "undo": lambda w: w.store.segmentations.undo(w.document("indexed.md")),
    "granularity": lambda w: w.store.segmentations.set_granularity(w.document("loaded.md"), 0.9),
    "index": lambda w: w.index("loaded.md"),
    "answer": lambda w: w.store.conversations.add(w.collection.id, 1, [answer_of(document("indexed.md"))]),
    "begin a conversation": lambda w: w.store.conversations.begin(w.collection.id, "why?"),
    "delete a conversation": lambda w: w.store.conversations.delete(w.collection.id, 1),
    "settings": lambda w: w.store.settings.put("anna", {"k": 9, "long": "x" * 9000}),
    "receive an upload": lambda w: w.upload("second.txt"),
    "an upload fails": lambda w: w.store.documents.fail(w.the_upload().id, "damaged"),
    "dismiss an upload": lambda w: w.library.dismiss(w.the_upload()),
    "export": lambda w: export(w.library, w.collection, w.folder / "c.zip"),
    "import": lambda w: import_(w.library, "anna", w.folder / "in.zip", name="Copy"),
    "back up": lambda w: back_up(sqlite_url(w.folder / NAME), w.folder / "b.sqlite"),
    "add to an index in a file": lambda w: w.add_to_files("new.md", TEXT * 2),
    "replace in it": lambda w: w.add_to_files("a.md", "Another text altogether. " * 90),
    "delete from it": lambda w: w.files.index.delete(document("a.md").id),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder to copy worlds from."""
    world = World(tmp_path_factory.mktemp("world"))
    world.store.collections.create("anna", "Rivers")
    world.add("loaded.md")
    world.add("indexed.md")
    world.store.segmentations.edit(world.document("indexed.md"), [Edit(TEXT.index("# River 5"), "added")])
    world.index("indexed.md")
    world.store.conversations.begin(world.collection.id, "first")
    world.store.settings.put("anna", {"k": 8})
    world.upload()
    world.add_to_files("a.md")
    export(world.library, world.collection, world.folder / "in.zip")
    world.close()
    return world.folder


@pytest.fixture(scope="module")
def before(made, tmp_path_factory):
    """What a user sees of it."""
    return visible(Path(shutil.copytree(made, tmp_path_factory.mktemp("before") / "w")))


@pytest.fixture
def new_world(made, tmp_path, monkeypatch):
    """Makes worlds; closes them at the end. Tokens are alike in all of them."""
    worlds: list[World] = []
    monkeypatch.setattr("secrets.token_hex", lambda n=32: "ab" * n)

    def make() -> World:
        worlds.append(World(Path(shutil.copytree(made, tmp_path / f"w{len(worlds)}"))))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def visible(folder: Path, leftovers: int = 0) -> dict[str, object]:
    """What a user sees of a folder whose program is gone, after the doctor. It must be whole, but for `leftovers`, files
    that a program was writing beside a target of the user's."""
    for path in (folder / NAME, folder / "files" / "index.sqlite", *folder.glob("b.sqlite")):
        assert problems(path) == []
    for aside in folder.glob("kv/*/*.tmp"):  # what even removing failed for is removed once it is old
        os.utime(aside, (0, 0))
    world = World(folder)
    try:
        assert mend(world.library)[1] == []
        store, found = world.store, {}
        for collection in store.collections.all():
            assert collection.owner != IMPORTING
            documents = [
                (r.name, store.documents.read(r.id).text, r.sha256, store.segmentations.get(r.id),
                 [(b.start, b.end, b.kv_key) for b in store.blocks.of(r.id)])
                for r in store.documents.of(collection.id)
            ]  # fmt: skip
            turns = [
                [(t.question, t.answers, t.sources) for t in store.conversations.turns(collection.id, c.id)]
                for c in store.conversations.of(collection.id)
            ]
            found[f"{collection.owner}: {collection.name}"] = documents, turns
        index = world.files.index
        read = [(d.source, index.read(d.id).text, d.n_blocks) for d in index.documents()]
        uploads = [(u.name, u.state, world.library.upload_path(u).is_file()) for u in store.documents.uploads()]
        assert len([*folder.rglob("*.tmp"), *folder.glob(".*")]) <= leftovers
        return {"collections": found, "files": read, "uploads": uploads, "settings": store.settings.of("anna")}
    finally:
        world.close()


_watching: list[Callable[[], None]] = []
"""What is called before each write of a file by Python, while it is watched for."""


def _audit(name: str, given: tuple) -> None:
    if _watching and (name in ("os.rename", "os.remove") or name == "open" and _is_writing(given)):
        _watching[-1]()


def _is_writing(given: tuple) -> bool:
    path, mode, flags = given
    return isinstance(path, str | os.PathLike) and bool(
        flags & (os.O_WRONLY | os.O_RDWR) if mode is None else set(mode) & set("wax+")
    )


sys.addaudithook(_audit)


@contextmanager
def before_each_write(call: Callable[[], None]) -> Iterator[None]:
    def once() -> None:
        _watching.append(lambda: None)  # what `call` writes itself
        try:
            call()
        finally:
            _watching.pop()

    _watching.append(once)
    try:
        yield
    finally:
        _watching.remove(once)


def some(n: int, k: int = 2) -> list[int]:
    """Steps to try: all `n` of them, or `k` spread over them."""
    return list(range(n)) if FULL or n <= k else sorted({round(i * (n - 1) / (k - 1)) for i in range(k)})


def failing(error: int, step: int) -> AbstractContextManager[None]:
    """Have the write number `step` fail."""
    left = step

    def fail() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(error, os.strerror(error))

    return before_each_write(fail)


@contextmanager
def short_files(most: int) -> Iterator[None]:
    """Have the system refuse to write files on beyond `most` bytes."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def outcome(world: World, write: str, before: dict, after: dict, fault: AbstractContextManager[None]) -> None:
    """Run a write under a fault: it fails with an error of ours and changes nothing, or is done."""
    failed = None
    with fault:
        try:
            WRITES[write](world)
        except BlockRAGError as error:
            failed = error
    world.close()
    found = visible(world.folder, leftovers=2 if failed else 0)  # as a disk that fails may not remove a file either
    assert found == after or failed and found == before, (failed, "neither before nor after")


def watch(world: World, call: Callable[[sqlite3.Connection], object]) -> None:
    """Call for each connection that a write of the world will use."""
    world.store.database._engine.dispose()
    event.listen(world.store.database._engine, "connect", lambda connection, _: call(connection))
    call(world.files.index._sql)


def run(world: World, write: str, at_step: Callable[[], None], at_file: Callable[[], None]) -> None:
    """Run and close, with a call before each statement of SQL and each write of a file."""
    watch(world, lambda connection: connection.set_trace_callback(lambda _: at_step()))
    with before_each_write(at_file):
        WRITES[write](world)
    world.close()


def count(world: World, write: str) -> tuple[int, int, int]:
    """Run, and count the steps, the writes of files among them, and the most bytes of a write-ahead log."""
    n_steps = n_writes = n_log = 0

    def at_step() -> None:
        nonlocal n_steps, n_log
        n_steps += 1
        n_log = max([n_log, *(path.stat().st_size for path in logs if path.is_file())])

    def at_file() -> None:
        nonlocal n_writes
        n_writes += 1
        at_step()

    logs = [Path(f"{path}-wal") for path in (world.folder / NAME, world.folder / "files" / "index.sqlite")]
    run(world, write, at_step, at_file)
    return n_steps, n_writes, n_log


def state_of(folder: Path) -> str:
    """What a kill leaves of a folder, as a hash."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")):
        found.update(f"{path.relative_to(folder)} {path.stat().st_size} ".encode() + path.read_bytes())
    return found.hexdigest()


def snapshot(world: World, write: str, steps: list[int], to: Path) -> None:
    """Run, and copy the files at these steps, each state once: most statements of a write change no file."""
    numbers, known = itertools.count(), set()

    def copy() -> None:
        if (step := next(numbers)) in steps and (state := state_of(world.folder)) not in known:
            known.add(state)
            shutil.copytree(world.folder, to / str(step), ignore=shutil.ignore_patterns("*-shm"))

    run(world, write, copy, copy)


@pytest.mark.timeout(1_200 if FULL else 120)
@pytest.mark.parametrize("write", WRITES)
def test_a_write_is_whole_whatever_happens(new_world, before, tmp_path, write):
    world, snapshots = new_world(), tmp_path / "killed"
    n_steps, n_writes, n_log = count(world, write)
    snapshot(new_world(), write, some(n_steps), snapshots)
    after = visible(world.folder)

    for step in snapshots.iterdir():  # a kill leaves what a copy of the files has
        assert visible(step, leftovers=2) in (before, after), ("killed", step.name)
    both, steps = (errno.ENOSPC, errno.EIO), some(n_writes)
    for error, step in itertools.product(both, steps) if FULL else zip(both, steps, strict=False):
        outcome(new_world(), write, before, after, failing(error, step))
    world = new_world()  # the database may not grow
    watch(world, lambda connection: connection.execute("PRAGMA max_page_count = 1"))
    outcome(world, write, before, after, nullcontext())
    for share in range(4) if FULL else (2,):  # the disk fails in the middle of a write
        outcome(new_world(), write, before, after, short_files(n_log * share // 4))
