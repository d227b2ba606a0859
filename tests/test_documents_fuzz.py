"""Whatever the bytes: a Document or a DocumentError, and nothing else."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.documents import SUFFIXES, load, media
from blockrag.documents.readers import IN_PROCESS, READERS
from blockrag.errors import DocumentError
from tests.document_files import epub, pdf, slides, unzipped, word, zipped

pytestmark = pytest.mark.slow

HERE = sorted(suffix for suffix, kind in SUFFIXES.items() if kind in IN_PROCESS or kind in media.RICH)
HEADS = [b"", b"PK\x03\x04", b"PK\x05\x06", b"%PDF-", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"[{", b"user,text\n"]
MAKERS = {"docx": word, "pptx": slides, "epub": epub}


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


@cache
def real_pdf() -> bytes:
    return pdf("some text", "and more")


def flipped(data: bytes, at: list[int]) -> bytes:
    mutated = bytearray(data)
    for i in at:
        mutated[i % len(data)] ^= 0xFF
    return bytes(mutated)


PLACES = st.lists(st.integers(0, 10**6), min_size=1, max_size=20)


@settings(max_examples=8, deadline=None)
@given(PLACES)
def test_mutated_pdfs(at):
    is_read_or_refused(flipped(real_pdf(), at), "f.pdf")


@pytest.mark.parametrize("suffix", MAKERS)
@settings(max_examples=5, deadline=None)
@given(at=PLACES, member=st.integers(0, 10**6))
def test_mutated_members(suffix, at, member):
    """Members are altered and zipped anew: a flipped byte of the container would only meet its checksum."""
    files = unzipped(MAKERS[suffix]())
    name = sorted(files)[member % len(files)]
    is_read_or_refused(zipped({**files, name: flipped(files[name], at)}), f"f.{suffix}")


def test_every_accepted_suffix_has_a_reader():
    assert {*READERS} == {*SUFFIXES.values()} and {*media.RICH, media.HTML}.isdisjoint(IN_PROCESS)
