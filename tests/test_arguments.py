"""Arguments are checked where they enter, and errors name the allowed values."""

from inspect import signature

import pytest

from blockrag import (
    BlockRAG,
    BlockRAGError,
    Document,
    Engine,
    Pipeline,
    Retrieval,
    Sampling,
    arguments,
    load,
    load_many,
)
from blockrag.cli import _parser, options
from blockrag.errors import ArgumentError, DocumentError

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


class Odd:
    """What no parameter takes."""


ENGINE = {name: Odd() for name in signature(Engine.from_pretrained).parameters if name != "model"} | {
    "kv_remote": "",
    "max_wait_s": -1,
    "max_idle_s": float("nan"),
    "reranker": "",
    "embedder": None,
    "adapter": None,
}


@pytest.mark.parametrize("name, wrong", ENGINE.items(), ids=ENGINE)
def test_every_argument_of_an_engine_is_checked_before_anything_loads(name, wrong):
    with pytest.raises(ArgumentError, match=f"{name} is "):
        Engine.from_pretrained("no-such-model", **{name: wrong})


def test_what_is_for_a_shared_store_needs_one():
    for given in ({"kv_remote_read_only": True}, {"kv_remote_secret": __file__}):
        with pytest.raises(ArgumentError, match="kv_remote is None"):
            Engine.from_pretrained("no-such-model", **given)


CALLS = ["index", "update", "sync", "ask", "stream", "search", "delete"]
PARAMETERS = [
    (call, name) for call in CALLS for name in signature(getattr(BlockRAG, call)).parameters if name != "self"
]


def test_every_argument_of_the_library_is_checked(rag, tmp_path):
    """Before anything is read: the given folder holds nothing."""
    for call, name in PARAMETERS:
        given = {"question": QUESTION} if call in ("ask", "stream", "search") else {}
        given |= {"folder": tmp_path / "nothing"} if call == "sync" else {}
        with pytest.raises(ArgumentError, match=f"({name}|a source) is "):
            if name == "sources":
                getattr(rag, call)(Odd())
            else:
                getattr(rag, call)(**{**given, name: Odd()})


@pytest.mark.parametrize("kind", [Sampling, Retrieval, Document])
def test_every_value_of_a_data_class_is_checked(kind):
    given = {"name": "a.txt", "media_type": "text/plain", "text": "A text."} if kind is Document else {}
    for name in (
        ("name", "media_type", "text", "source", "metadata") if kind is Document else signature(kind).parameters
    ):
        with pytest.raises(ArgumentError, match=f"{name} is "):
            kind(**{**given, name: Odd()})


def test_an_empty_path_is_not_the_current_folder(rag, monkeypatch, tmp_path):
    """It was: `index("")` took all files below."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "a.txt").write_text("A text.")
    for wrong in ("", None, 3, Odd(), "A text instead of a path. " * 20):
        for call in (rag.index, rag.update, rag.sync, load):
            with pytest.raises(ArgumentError, match="(a source|source|folder) is "):
                call(wrong)
        if isinstance(wrong, str):
            assert [type(each) for each in load_many([wrong, "a.txt"])] == [DocumentError, Document], "a batch goes on"
        else:
            with pytest.raises(ArgumentError, match="a source is "):
                list(load_many([wrong]))
    with pytest.raises(ArgumentError, match="a source is "):
        rag.index({"a": 1})
    assert len(rag.documents()) == 1
    for name in ("abc", tmp_path):
        with pytest.raises(ArgumentError, match="sources is .*; give a list of paths"):
            list(load_many(name))


def test_any_whole_number_is_how_many(rag):
    assert len(rag.search(QUESTION, k=10**30)) == rag.documents()[0].n_blocks
    assert rag.search(QUESTION, retrieval=Retrieval(neighbours=10**30))


def test_parts_of_a_pipeline_are_checked(rag, tmp_path):
    pipeline = rag.pipeline
    for call, name in [
        (lambda: BlockRAG("smollm2", tmp_path / "new"), "engine"),
        (lambda: Pipeline(rag.engine, tmp_path), "index"),
        (lambda: pipeline.segment("A text."), "document"),
        (lambda: pipeline.add("A text."), "segmentation"),
        (lambda: pipeline.ask(QUESTION, pinned="abc"), "pinned"),
        (lambda: pipeline.search(QUESTION, 2, excluded=[3]), "excluded"),
        (lambda: pipeline.ask(QUESTION, search=" "), "search"),
    ]:
        with pytest.raises(ArgumentError, match=f"{name} is .*; give "):
            call()


def test_a_salt_of_the_command_line_is_the_engines():
    args = _parser().parse_args(["ask", "why?", "--store", "S", "--kv-salt", "tenant"])
    assert options.kv_settings(args)["kv_salt"] == "tenant"
    args.engine = "http://localhost:1"
    args.model = "smollm2"
    with pytest.raises(ArgumentError, match="--kv-salt"):
        options.open_store(args)
