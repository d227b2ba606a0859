"""Whatever the bytes: a Document or a DocumentError, and nothing else."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.documents import SUFFIXES, load, media
from blockrag.documents.readers import IN_PROCESS, READERS
from blockrag.errors import DocumentError
from tests import coverage_fuzz, fuzzing

pytestmark = pytest.mark.slow

HERE = sorted(suffix for suffix, kind in SUFFIXES.items() if kind in IN_PROCESS or kind in media.RICH)
HEADS = [b"", b"PK\x03\x04", b"PK\x05\x06", b"%PDF-", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"[{", b"user,text\n"]
ROOT = Path(__file__).parents[1]


def is_read_or_refused(data: bytes, name: str) -> None:
    try:
        assert load(data, name).text.strip()
    except DocumentError as error:
        assert error.name == name and error.reason


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(HEADS), st.binary(max_size=300), st.sampled_from(HERE))
def test_any_bytes(head, data, suffix):
    if b"%PDF-" in head + data and suffix in ("", ".pdf"):
        suffix = ".txt"  # a process each; below
    is_read_or_refused(head + data, "f" + suffix)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from([".pdf", ".html"]), st.binary(max_size=300))
def test_any_bytes_for_the_worker(suffix, data):
    is_read_or_refused((b"%PDF-1.7\n" if suffix == ".pdf" else b"<p>") + data, "f" + suffix)


MUTATED = [suffix for suffix in sorted(SUFFIXES) if suffix and fuzzing.seeds(suffix)]


@pytest.fixture(scope="module")
def problems():
    """What went wrong with mutations: type and problem."""
    command = [sys.executable, "-m", "tests.fuzzing", os.environ.get("BLOCKRAG_FUZZ", "20"), "1", *MUTATED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("suffix", MUTATED)
def test_mutated_files(problems, suffix):
    """``BLOCKRAG_FUZZ=1000`` reads so many mutations of each type; a crash of the parser would end the process."""
    assert not [problem for of, problem in problems if of == suffix]


@pytest.mark.parametrize("path", sorted(fuzzing.FIELD.iterdir()), ids=lambda path: path.name)
def test_a_file_of_the_field_takes_less_than_two_seconds(path):
    started = time.process_time()
    assert not fuzzing.problem(path.name, path.read_bytes())
    assert time.process_time() - started < 2


def test_every_accepted_suffix_has_a_reader():
    assert {*READERS} == {*SUFFIXES.values()} and {*media.RICH, media.HTML}.isdisjoint(IN_PROCESS)


@pytest.mark.parametrize("target", coverage_fuzz.TARGETS)
def test_what_coverage_guided_fuzzing_begins_with_is_read(target):
    """The run itself needs Atheris: ``python -m tests.coverage_fuzz --minutes 10``."""
    coverage_fuzz.target_of(target)(coverage_fuzz.seeds_of(target)[0])


def test_what_was_found():
    """Inputs on which a reader once failed."""
    for path in sorted(coverage_fuzz.FOUND.glob("*-*")):
        target = path.name.partition("-")[0]
        coverage_fuzz.target_of(target if target in coverage_fuzz.TARGETS else f".{target}")(path.read_bytes())
