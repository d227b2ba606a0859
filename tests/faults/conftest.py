"""How long the fault tests run: shortened in the ordinary suite, in full with ``BLOCKRAG_FAULTS=full``."""

import os

import pytest

FULL = os.environ.get("BLOCKRAG_FAULTS") == "full"


@pytest.fixture
def rounds(record_property):
    """How often a fault is caused: `rounds(short, full)`."""

    def choose(short: int, full: int) -> int:
        n = full if FULL else short
        record_property("rounds", n)
        return n

    return choose
