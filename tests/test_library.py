"""How the library's objects behave: printed, closed, awaited, and with folders and devices given by users."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

import blockrag
import blockrag.llamaindex
from blockrag import BlockRAG, Engine, Pipeline, SizeBounds
from blockrag.cli import main
from blockrag.errors import ArgumentError, BlockRAGError, IndexStoreError, SegmentationError
from blockrag.events import Answer, Piece
from blockrag.progress import Progress, ProgressBars, ignore, progress_bars
from tests.samples import CITIES, RIVERS
from tests.tiny import tiny_engine

QUESTION = "Which river flows through Rome?"


def test_folders_are_strings_or_paths_and_begin_with_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "lima.txt").write_text("The river Rimac flows through Lima. " * 8)
    rag = BlockRAG(tiny_engine(), "~/store")
    assert [record.name for record in rag.index("~/lima.txt")] == ["lima.txt"]
    assert (tmp_path / "store" / "index.sqlite").is_file()
    assert len(Pipeline.open(rag.engine, str(tmp_path / "store")).index.documents()) == 1
    for wrong in (None, tmp_path / "lima.txt"):
        with pytest.raises(ArgumentError, match="directory is"):
            BlockRAG(rag.engine, wrong)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"device": "tpu"}, "device is 'tpu'; give 'cpu', 'cuda'"),
        ({"device": "nonsense:0"}, "device is 'nonsense:0'"),
        ({"device": "cuda:99"}, "device is 'cuda:99', but torch sees"),
        ({"memory_bytes": "two"}, "memory_bytes is 'two'"),
        ({"dtype": "float64"}, "dtype is 'float64'; give one of 'auto'"),
        ({"kv_at_rest": "int3"}, "kv_at_rest is 'int3'; give one of 'exact', 'int8', 'int4'"),
        ({"model": None}, "model is None"),
        ({"kv_dir": __file__}, "kv_dir is .*, which is a file"),
    ],
)
def test_an_engine_says_what_it_cannot_be_made_of(wrong, message):
    with pytest.raises(BlockRAGError, match=message):
        Engine.from_pretrained(**{"model": "smollm2", **wrong})


@pytest.mark.parametrize("device", ["tpu", "cuda:99"])
def test_a_device_is_checked_before_a_model_is_chosen_for_it(device, tmp_path, capsys):
    with pytest.raises(ArgumentError, match=f"device is '{device}'"):
        BlockRAG.from_pretrained(device=device)
    assert main(["ask", "why?", "--store", str(tmp_path), "--device", device]) == 2
    assert f"device is '{device}'" in capsys.readouterr().err


def test_sources_and_bounds_that_are_none_are_refused(rag):
    with pytest.raises(ArgumentError, match="a source is None; give a path, a Document"):
        rag.index(None)
    with pytest.raises(ArgumentError, match="granularity is 2; give a number from 0 to 1"):
        rag.index(CITIES, granularity=2)
    for bounds in ((None, 64), ("16", 64), (16.0, 64)):
        with pytest.raises(SegmentationError, match="impossible"):
            SizeBounds(*bounds)


def test_a_closed_index_says_so(rag):
    pipeline = rag.pipeline
    rag.close()
    rag.close()
    for call in (rag.documents, lambda: rag.ask(QUESTION), lambda: rag.index(CITIES), lambda: rag.delete("x")):
        with pytest.raises(IndexStoreError, match="is closed"):
            call()
    for call in (pipeline.index.documents, lambda: pipeline.search(QUESTION, 2), lambda: pipeline.delete("x")):
        with pytest.raises(IndexStoreError, match="is closed"):
            call()
    assert "closed" in repr(rag)


def test_objects_print_what_they_are(rag, tmp_path):
    answer = rag.ask(QUESTION, max_new_tokens=4)
    assert str(answer) == answer.text
    assert str(tmp_path) in repr(rag) and "1 documents" in repr(rag) and "adapter 'tiny'" in repr(rag.engine)
    assert "1 documents" in repr(rag.pipeline)


def test_async_is_the_same(rag):
    async def ask() -> tuple[Answer, list]:
        return await rag.aask(QUESTION, max_new_tokens=4), [e async for e in rag.stream(QUESTION, max_new_tokens=4)]

    answer, events = asyncio.run(ask())
    assert answer.text == events[-1].text == "".join(e.text for e in events if isinstance(e, Piece))
    assert answer.text == rag.ask(QUESTION, max_new_tokens=4).text
    (record,) = asyncio.run(rag.aindex(CITIES, granularity=0.0))
    assert record.n_blocks == 1


def test_leaving_an_async_stream_gives_its_slot_back(rag):
    async def leave() -> None:
        async for _ in rag.stream(QUESTION):
            break

    before = rag.engine.queue.n_admitted
    asyncio.run(leave())
    assert rag.engine.queue.n_admitted == before


def test_a_cancelled_question_stops(rag):
    async def cancel() -> None:
        task = asyncio.create_task(rag.aask(QUESTION, max_new_tokens=2000))
        while not rag.engine.queue.n_admitted:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            while rag.engine.queue.n_admitted:
                await asyncio.sleep(0.001)

    asyncio.run(cancel())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_a_connection_and_locks_of_its_own(tmp_path):
    rag = BlockRAG(tiny_engine(tmp_path / "kv"), tmp_path / "index")
    rag.index(CITIES, segmenter="structural")
    child = os.fork()
    if not child:
        try:
            rag.index(RIVERS, segmenter="structural")
            rag.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert [record.name for record in rag.documents()] == [CITIES.name, RIVERS.name]
    assert {source.document for source in rag.search("River 3 is 3 kilometres long", k=1)} == {RIVERS.name}
    rag.delete(rag.documents()[0].id)


def test_bars_are_for_terminals(monkeypatch):
    with progress_bars("a.txt") as bars:
        assert bars is ignore
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bars("a.txt") as bars:
        assert isinstance(bars, ProgressBars)
        bars(Progress("embed", 2, 2, reused=1))
        assert bars.n_reused == 1


def test_names_are_found_by_completion():
    for module in (blockrag, blockrag.llamaindex):
        assert set(module.__all__) <= set(dir(module))


def test_importing_the_class_takes_no_model_library():
    code = (
        "import sys\n"
        "from blockrag import BlockRAG\n"
        "heavy = {'torch', 'transformers', 'faiss', 'sentence_transformers', 'gguf', 'accelerate'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


@pytest.mark.slow
def test_loading_a_model_takes_no_gguf_sentence_transformers_or_accelerate():
    code = (
        "import sys\n"
        "for name in ('gguf', 'accelerate', 'sentence_transformers'):\n"
        "    sys.modules[name] = None\n"
        "from blockrag import Document\n"
        "from blockrag.pipeline import Pipeline\n"
        "from tests.tiny import tiny_engine\n"
        "import tempfile\n"
        "pipeline = Pipeline.open(tiny_engine(), tempfile.mkdtemp())\n"
        "pipeline.add(pipeline.segment(Document('a', 'text/plain', 'A river flows to the sea.'), 'structural'))\n"
        "list(pipeline.ask('What flows?', max_new_tokens=2))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_files_whose_libraries_are_missing_name_the_extra():
    code = (
        "import sys\n"
        "for name in ('lxml', 'lxml.etree', 'docx', 'pptx', 'python_calamine', 'pypdfium2'):\n"
        "    sys.modules[name] = None\n"
        "from blockrag import DocumentError, load\n"
        "assert load(b'A text.', name='a.txt').text == load(b'A text.', name='a.md').text == 'A text.'\n"
        "assert load(b'a,b\\n1,2\\n', name='a.csv').text\n"
        "for name, data in (('a.pdf', b'%PDF-1.4'), ('a.html', b'<html><p>x</p></html>'), ('a.rtf', b'{\\\\rtf1 x}')):\n"
        "    try:\n"
        "        load(data, name=name)\n"
        "    except DocumentError as error:\n"
        "        assert \"needs lxml, docx, pptx, python_calamine, pypdfium2; pip install 'blockrag[documents]'\" in str(error)\n"
        "    else:\n"
        "        raise AssertionError(name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
