"""Fixtures of all tests: the real weights, fetched once and kept; silence from progress bars; one core a worker, and the
whole machine for a test that measures what a person waits for."""

import fcntl
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("ci", derandomize=True)  # what CI finds, it finds again; elsewhere examples are drawn anew
settings.load_profile("ci" if os.environ.get("CI") else "default")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "0")
RECEIVED = tempfile.TemporaryDirectory(prefix="blockrag-tests-")
os.environ["GRADIO_TEMP_DIR"] = RECEIVED.name  # each worker's own: a page that closes deletes all that came in to it

from blockrag.models import local_path  # noqa: E402  (the variables are read at import)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A test marked `alone` runs while no other worker runs any: it takes a lock that the others share."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    locks = Path(tempfile.gettempdir(), f"blockrag-tests-{os.getuid()}")
    with open(f"{locks}.door", "w") as door, open(f"{locks}.room", "w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)  # who waits for the room keeps the door, so that nobody slips in before
        fcntl.flock(room, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        return (yield)


@pytest.fixture(scope="session")
def smollm2_path():
    """Folder of the real SmolLM2, through the real way of fetching it."""
    return local_path("smollm2")


@pytest.fixture(scope="session")
def smollm2(smollm2_path):
    """The real SmolLM2, loaded once for all tests that change nothing in it."""
    from blockrag.models.load import load_answer_model  # noqa: PLC0415  (torch and transformers, when it is asked for)

    return load_answer_model(str(smollm2_path))


@pytest.fixture(scope="session")
def minilm_path():
    """Folder of the real MiniLM."""
    return local_path("minilm")
