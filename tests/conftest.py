"""Shared setup: real weights as session fixtures, no progress bars, one core per worker, the order of tests."""

import asyncio
import gc
import os
import tempfile

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("ci", derandomize=True)  # reproducible in CI, random elsewhere
settings.load_profile("ci" if os.environ.get("CI") else "default")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "0")
RECEIVED = tempfile.TemporaryDirectory(prefix="blockrag-tests-")
os.environ["GRADIO_TEMP_DIR"] = RECEIVED.name  # one per worker: a page that closes deletes its received files

from blockrag.models import local_path  # noqa: E402  (the variables are read at import)


def pytest_collection_modifyitems(items):
    """Run the page's tests first: one worker keeps one browser for them, and the short ones are left to share at the end."""
    items.sort(key=lambda item: "ui" not in item.path.parts)


def pytest_collection_finish():
    """Take the million objects of imported modules out of garbage collection, which takes half a second with them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_running_loop(request):
    """Hide the event loop that an open browser leaves running in this thread: code outside the page starts its own."""
    if "browser" in request.fixturenames:
        yield
        return
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(loop)


@pytest.fixture(scope="session")
def smollm2_path():
    """Folder of the real SmolLM2, fetched as users fetch it."""
    return local_path("smollm2")


@pytest.fixture(scope="session")
def smollm2(smollm2_path):
    """The real SmolLM2, loaded once; tests must not change it."""
    from blockrag.models.load import load_answer_model  # noqa: PLC0415  (imports torch and transformers)

    return load_answer_model(str(smollm2_path))


@pytest.fixture(scope="session")
def minilm_path():
    """Folder of the real MiniLM."""
    return local_path("minilm")


@pytest.fixture
def rag(tmp_path):
    """An index of a text about cities, over a tiny model."""
    from blockrag.rag import BlockRAG  # noqa: PLC0415  (imports torch and transformers)
    from tests.samples import BOUNDS, CITIES  # noqa: PLC0415
    from tests.tiny import tiny_engine  # noqa: PLC0415

    rag = BlockRAG(tiny_engine(tmp_path / "kv"), tmp_path)
    rag.index(CITIES, granularity=1.0, bounds=BOUNDS)
    return rag


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    """A clock in seconds; set `now` to move it."""
    return Clock()
