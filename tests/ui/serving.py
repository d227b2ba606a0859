"""Collections and pages for tests, inside the test process."""

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from blockrag.engine import Engine
from storage.library import Library
from storage.store import Store
from tests.databases import prepared
from ui.collection_document import CollectionDocument
from ui.collection_service import Access, CollectionService
from ui.components.payloads import DocumentsPayload, ProgressPayload
from ui.handlers import ask, documents, index
from ui.handlers.question import Marks, QuestionState
from ui.limits import Limits
from ui.models import ModelNames
from ui.open_collection import OpenCollection
from ui.server import Server

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

TEXT = "".join(
    f"# River {i}\n\nThe river {i} flows to the sea. It is {i} miles long. Many boats sail on it every day.\n\n"
    for i in range(12)
)
SECRET = {"secret": "s" * 40}

HELD_AT = 2
"""Blocks that a held engine encodes before it waits."""


def hold(warm_blocks, gate):
    """Return an `Engine.warm_blocks` that waits at `HELD_AT` blocks until the gate is open, and can be stopped meanwhile."""

    def held(blocks, on_progress):
        def report(step):
            on_progress(step)
            while step.done == HELD_AT and not gate.wait(0.05):
                on_progress(step)

        warm_blocks(blocks, report)

    return held


def make_service(
    engine: Engine,
    folder: Path,
    access: Access = "private",
    limits: Limits | None = None,
    segmenter: str = "structural",
    clock=None,
    **options,
) -> CollectionService:
    """Return the collections of a folder. The segmenter is the structural one, since these tests are about the page: the
    learned one takes minutes for a million characters on a processor without bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    clocks = {"clock": clock} if clock else {}
    library = Library(Store.open(prepared(folder / "blockrag.sqlite"), **clocks), engine, folder)
    return CollectionService(library, access, segmenter, limits or Limits(), **clocks, **options)


def visitor(service: CollectionService, secret: str | None = None) -> OpenCollection:
    """Return the open collection of a visitor, who is new unless the secret is known."""
    collection = service.get(service.enter({"secret": secret} if secret else {}))
    collection.keep()
    return collection


def load_files(collection: OpenCollection, paths: Sequence[Path]) -> DocumentsPayload:
    """Upload files, read them, and return the view."""
    documents.receive(collection, paths)
    return read_waiting(collection)


def read_waiting(collection: OpenCollection) -> DocumentsPayload:
    """Do what the program's threads do with the waiting files, and return the view."""
    while collection.worker.read_next(collection):
        pass
    return documents.view(collection)


def index_all(collection: OpenCollection) -> ProgressPayload:
    """Do what the button of the Index tab and the program's threads do, and return the view."""
    index.start(collection)
    while collection.worker.index_next(collection):
        pass
    return index.overview(collection)


def only_document(collection: OpenCollection) -> tuple[str, CollectionDocument]:
    ((document_id, document),) = collection.documents.items()
    return document_id, document


def answered(
    collection,
    question: str = "How long is river 3?",
    modes=("block", "full"),
    conversation: int | None = None,
    marks: Marks | None = None,
    k: int = 4,
    max_new_tokens: int = 6,
) -> QuestionState:
    """Return the final state of a question."""
    state = ask.begin(collection, question, modes, conversation, marks)
    *_, state = ask.answer(collection, state, k, max_new_tokens)
    return state


def serve(
    engine: Engine,
    folder: Path,
    access: Access = "private",
    limits: Limits | None = None,
    auth=None,
    port: int | None = None,
    segmenter: str = "structural",
    model_names: ModelNames = ModelNames(),  # noqa: B008  (frozen)
    **options,
):
    """Serve a page; return its address and a function that closes it."""
    service = make_service(engine, folder, access, limits, segmenter, model_names=model_names)
    server = Server(service, folder, auth, **options)
    return server.launch("127.0.0.1", port or free_port()), server.close


def free_port() -> int:
    """Return a port from the system. Gradio would search for one and bind it a moment later, and of two test workers that
    do so at once one fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
