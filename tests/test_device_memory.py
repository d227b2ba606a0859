"""A device out of memory: cached blocks are evicted, it is tried once more, then there is a clear error."""

import pytest
import torch

from blockrag.errors import DeviceMemoryError
from blockrag.events import Answer
from blockrag.models.answer_model import AnswerModel
from blockrag.pipeline import Pipeline
from tests.samples import RIVERS
from tests.tiny import tiny_engine

QUESTION = "How long is river 3?"


@pytest.fixture
def pipeline(tmp_path):
    pipeline = Pipeline.open(tiny_engine(tmp_path / "kv"), tmp_path)
    pipeline.add(pipeline.segment(RIVERS))
    return pipeline


def answer(pipeline, mode="block") -> Answer:
    return [*pipeline.ask(QUESTION, mode, k=3, max_new_tokens=6)][-1]


def out_of_memory(monkeypatch, owner, name: str, times: int) -> None:
    """The first `times` calls fail as an allocator does."""
    original, left = getattr(owner, name), [times]

    def failing(*args, **kwargs):
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)


@pytest.mark.parametrize("mode", ["block", "full"])
def test_joining_is_tried_again_with_the_device_cleared(pipeline, monkeypatch, mode):
    expected = answer(pipeline, mode).text
    assert pipeline.engine.kv.tiers[0].nbytes
    out_of_memory(monkeypatch, pipeline.engine.runner, "join", 1)
    again = answer(pipeline, mode)
    assert again.text == expected and "memory was full" in again.report.notes[0]
    if mode == "block":
        assert sum(again.report.kv_hits.values()) == 3 and again.report.n_tokens_saved > 0, "counted once"


def test_a_second_failure_is_a_clear_error_and_the_next_question_works(pipeline, monkeypatch):
    expected = answer(pipeline).text
    out_of_memory(monkeypatch, pipeline.engine.runner, "join", 2)
    with pytest.raises(DeviceMemoryError, match="Ask for fewer blocks"):
        answer(pipeline)
    assert answer(pipeline).text == expected


def test_encoding_goes_on_where_it_stopped(pipeline, monkeypatch):
    expected = answer(pipeline).text
    for key in pipeline.engine.kv.tiers[1].keys():
        pipeline.engine.kv.delete(key)
    out_of_memory(monkeypatch, AnswerModel, "embed", 1)
    again = answer(pipeline)
    assert again.text == expected and again.report.kv_misses == 3 and "memory was full" in again.report.notes[0]


def test_encoding_that_never_fits_is_a_clear_error(pipeline, monkeypatch):
    out_of_memory(monkeypatch, AnswerModel, "embed", 10**6)
    with pytest.raises(DeviceMemoryError):
        pipeline.engine.warm(["a block that is not known"])
    monkeypatch.undo()
    pipeline.engine.warm(["a block that is not known"])
