"""Several visitors at once, with real clients: no error, nobody sees another's text, everyone gets answers.

The long run, against the real application: see `benchmarks/visitors.py`.
"""

import pytest

from benchmarks.visitors import measure, rss_mb
from tests.tiny import tiny_engine
from tests.ui.serving import serve
from ui.limits import Limits


@pytest.mark.timeout(240)
def test_visitors_get_their_own_answers(tmp_path):
    limits = Limits(questions_a_minute=10_000)
    url, close = serve(tiny_engine(tmp_path / "kv"), tmp_path / "data", limits=limits)
    try:
        seen = measure(url, n_visitors=6, n_uploaders=2, minutes=0.1, pause_s=0.1, pid=None)
    finally:
        close()
    assert seen["errors"] == [] and seen["leaks"] == [], seen
    assert seen["answers"] >= 6 and seen["fewest_of_most_answers"] > 0


def test_memory_of_a_process_is_read():
    import os  # noqa: PLC0415

    assert rss_mb(os.getpid()) > 10
