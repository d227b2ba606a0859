"""Arguments are checked where they enter, and errors name the allowed values."""

import pytest

from blockrag import BlockRAGError, arguments
from blockrag.errors import ArgumentError

QUESTION = "Which river flows through Rome?"


WRONG = [
    ({"mode": "blocks"}, "'blocks'; give one of 'block', 'full'"),
    ({"mode": None}, "None; give one of 'block', 'full'"),
    ({"k": 0}, "k is 0; give a whole number from 1 up"),
    ({"k": "8"}, "k is '8'"),
    ({"k": True}, "k is True"),
    ({"max_new_tokens": 0}, "max_new_tokens is 0"),
    ({"max_new_tokens": -1}, "max_new_tokens is -1"),
    ({"max_new_tokens": 1.5}, "max_new_tokens is 1.5"),
    ({"question": "  "}, "question is '  '; give a text"),
    ({"question": None}, "question is None"),
]


@pytest.mark.parametrize("wrong, message", WRONG)
def test_wrong_arguments_of_a_question_are_refused_at_once(rag, wrong, message):
    given = {"question": QUESTION, **wrong}
    with pytest.raises(ArgumentError, match=message):
        rag.ask(**given)
    with pytest.raises(ArgumentError, match=message):
        rag.stream(**given)  # before anybody reads it


def test_a_whole_number_may_be_a_float(rag):
    assert len(rag.ask(QUESTION, k=2.0, max_new_tokens=2).sources) == 2


@pytest.mark.parametrize(
    "given, expected",
    [
        (None, None),
        (5, 5),
        (1.5e9, 1_500_000_000),
        ("2GB", 2_000_000_000),
        ("1.5 GiB", 3 << 29),
        ("512mb", 512_000_000),
        ("7", 7),
    ],
)
def test_sizes_are_parsed(given, expected):
    assert arguments.nbytes("memory_bytes", given) == expected


@pytest.mark.parametrize("wrong", ["two", "2 XB", -1, True, float("nan"), b"2GB"])
def test_what_is_no_size_is_refused(wrong):
    with pytest.raises(ArgumentError, match="memory_bytes is .*; give bytes"):
        arguments.nbytes("memory_bytes", wrong)


def test_folders_may_be_strings_and_begin_with_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert arguments.folder("directory", "~/store") == tmp_path / "store"
    (tmp_path / "file").touch()
    for wrong in (None, "", 3, tmp_path / "file"):
        with pytest.raises(BlockRAGError, match="directory is .*; give the path|which is a file"):
            arguments.folder("directory", wrong)
