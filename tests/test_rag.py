"""The library in three calls, on a tiny engine and without a directory."""

from pathlib import Path

import pytest

from blockrag import BlockRAG, DocumentError
from blockrag.engine import Engine
from blockrag.events import Answer, Retrieved
from tests.samples import BOUNDS, CITIES
from tests.tiny import tiny_engine


@pytest.fixture
def rag(tmp_path):
    return BlockRAG(tiny_engine(tmp_path / "kv"), tmp_path)


def test_index_and_ask(rag, tmp_path):
    (tmp_path / "lima.txt").write_text("The river Rimac flows through Lima. " * 8)
    steps = []
    records = rag.index(CITIES, tmp_path / "lima.txt", granularity=1.0, bounds=BOUNDS, on_progress=steps.append)
    assert [r.name for r in records] == ["cities.md", "lima.txt"] and list(records) == rag.documents()
    assert {step.stage for step in steps} == {"segment", "embed", "encode"}
    answer = rag.ask("Which river flows through Rome?", k=2, max_new_tokens=4)
    assert isinstance(answer, Answer) and len(answer.sources) == 2 and "Tiber" in answer.sources[0].text
    assert answer.report.kv_misses == 0 and answer.report.mode == "block"
    events = list(rag.stream("Which river flows through Rome?", k=2, max_new_tokens=4))
    assert isinstance(events[0], Retrieved) and events[-1].text == answer.text
    rag.delete(records[0].id)
    assert [r.name for r in rag.documents()] == ["lima.txt"]


def test_an_unreadable_source_is_an_error(rag, tmp_path):
    with pytest.raises(DocumentError, match="no such file"):
        rag.index(CITIES, tmp_path / "nothing.txt", bounds=BOUNDS)
    assert [r.name for r in rag.documents()] == ["cities.md"]


def test_without_a_directory_everything_goes_when_it_is_closed(monkeypatch):
    monkeypatch.setattr(Engine, "from_pretrained", lambda *args, kv_dir, **kwargs: tiny_engine(kv_dir))
    with BlockRAG.from_pretrained("smollm2") as rag:
        rag.index(CITIES, bounds=BOUNDS)
        folder = Path(rag.pipeline.index.directory)
        assert list(folder.glob("kv/*/*.safetensors"))
    assert not folder.exists()
