"""The stages together, on a tiny engine: index, ask, stop, delete, reopen, refuse."""

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from blockrag.attention.kv_cache import PreallocatedCache
from blockrag.documents import Document
from blockrag.errors import IndexStoreError, PromptTooLongError, Stopped
from blockrag.events import Answer, Piece, Queued, Retrieved
from blockrag.pipeline import Pipeline
from blockrag.prompt import Prompt
from blockrag.segment import SizeBounds
from tests.samples import BOUNDS, CITIES
from tests.tiny import VOCABULARY, no_garbage_collection, tensor_nbytes, tiny_engine


@pytest.fixture
def pipeline(tmp_path):
    return Pipeline.open(tiny_engine(tmp_path / "kv"), tmp_path)


def add(pipeline, document=CITIES, granularity=1.0):
    steps = []
    pipeline.add(pipeline.segment(document, bounds=BOUNDS), granularity, steps.append)
    return steps


def ask(pipeline, question="Which river flows through Rome?", **options):
    asked = pipeline.ask(question, **{"max_new_tokens": 8, **options})
    events = [event for event in asked if not isinstance(event, Queued)]
    assert isinstance(events[0], Retrieved) and isinstance(events[-1], Answer)
    return events[-1]


def test_an_answer_streams_with_its_sources_and_report(pipeline):
    steps = add(pipeline)
    assert [s.stage for s in steps[:1]] == ["embed"] and steps[-1].done == steps[-1].total == len(pipeline.index)
    events = list(pipeline.ask("Which river flows through Rome?", k=3, max_new_tokens=8))
    answer = events[-1]
    assert "".join(e.text for e in events if isinstance(e, Piece)) == answer.text
    assert "Tiber" in answer.sources[0].text and [s.number for s in answer.sources] == [1, 2, 3]
    for source in answer.sources:
        assert source.text == CITIES.text[source.start : source.end] and source.document_id == CITIES.id


def test_the_report_counts_everything(pipeline):
    add(pipeline)
    report = ask(pipeline).report
    stages = [report.retrieval_ms, report.kv_load_ms, report.encode_ms, report.assemble_ms, report.prefill_ms]
    assert report.ttft_ms == pytest.approx(sum(stages)) and report.prefill_ms > 0 and report.retrieval_ms > 0
    assert report.kv_misses == 0 and sum(report.kv_hits.values()) == len(ask(pipeline).sources)
    assert report.n_tokens_saved >= report.n_context_tokens > 0


def test_block_kv_that_is_gone_is_encoded_anew_and_gives_the_same_answer(pipeline):
    add(pipeline)
    first = ask(pipeline)
    for source in first.sources:
        pipeline.engine.kv.delete(pipeline.engine.kv_key(source.text))
    second = ask(pipeline)
    assert second.text == first.text and second.report.kv_misses == len(first.sources)
    assert second.report.n_prefill_tokens > first.report.n_prefill_tokens and second.report.n_tokens_saved == 0
    assert ask(pipeline).report.kv_misses == 0


def test_damaged_block_kv_is_replaced_and_told(pipeline, tmp_path):
    add(pipeline)
    expected = ask(pipeline).text
    pipeline.engine = tiny_engine(tmp_path / "kv")
    for path in (tmp_path / "kv").glob("*/*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    answer = ask(pipeline)
    assert answer.text == expected and answer.report.kv_misses == len(answer.sources)
    assert len(answer.report.notes) == len(answer.sources) and "not whole" in answer.report.notes[0]


def test_a_block_is_tokenised_when_it_is_indexed_and_then_only_to_be_encoded(pipeline, monkeypatch):
    tokenised, block_ids = [], Prompt.block_ids
    monkeypatch.setattr(Prompt, "block_ids", lambda self, text: tokenised.append(text) or block_ids(self, text))
    add(pipeline)
    assert len(tokenised) == len(pipeline.index), "once"
    tokenised.clear()
    first = ask(pipeline)
    assert tokenised == [] and first.report.n_tokens_saved > 0
    assert [s.n_tokens for s in first.sources] == [
        len(block_ids(pipeline.engine.prompt, s.text)) for s in first.sources
    ]
    pipeline.engine.kv.delete(first.sources[1].kv_key)
    assert ask(pipeline).text == first.text and tokenised == [first.sources[1].text]
    tokenised.clear()
    ask(pipeline, mode="full")
    assert tokenised == [source.text for source in first.sources]


def test_full_mode_answers_from_the_same_blocks_without_the_cache(pipeline):
    add(pipeline)
    block, full = ask(pipeline, mode="block"), ask(pipeline, mode="full")
    assert full.sources == block.sources and full.report.kv_hits == {} and full.report.n_tokens_saved == 0
    assert full.report.n_prefill_tokens > block.report.n_prefill_tokens


def test_full_mode_is_the_models_own_generate(pipeline):
    add(pipeline)
    answer = ask(pipeline, mode="full")
    prompt, model = pipeline.engine.prompt, pipeline.engine.model
    ids = [*prompt.prefix_ids, *(t for s in answer.sources for t in prompt.block_ids(s.text))]
    ids = torch.tensor([[*ids, *prompt.final_ids(answer.question)]])
    expected = model.network.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0
    )[0, ids.shape[1] :]
    assert answer.text == model.tokenizer.decode(expected, skip_special_tokens=True)


def test_an_answer_ends_at_an_end_token_or_at_its_length(pipeline):
    add(pipeline)
    long = ask(pipeline, max_new_tokens=12)
    assert long.stopped == "length" and long.report.n_new_tokens == 12
    pipeline.engine.model.network.generation_config.eos_token_id = list(range(VOCABULARY))
    empty = ask(pipeline, max_new_tokens=12)
    assert empty.stopped == "end" and empty.text == "" and empty.report.n_new_tokens == 0


def test_answers_do_not_depend_on_the_tier(pipeline, tmp_path):
    add(pipeline)
    in_memory = ask(pipeline)
    pipeline.engine = tiny_engine(tmp_path / "kv")
    from_disk = ask(pipeline)
    assert in_memory.report.kv_hits.keys() == {"memory"} and from_disk.report.kv_hits.keys() == {"disk"}
    assert from_disk.text == in_memory.text


def n_caches() -> int:
    gc.collect()
    return sum(isinstance(o, PreallocatedCache) for o in gc.get_objects())


def test_closing_an_answer_frees_its_cache(pipeline):
    add(pipeline)
    stream = pipeline.ask("Which river?", max_new_tokens=64)
    assert isinstance(next(stream), Retrieved) and isinstance(next(stream), Piece)
    assert n_caches() == 1
    stream.close()
    assert n_caches() == 0


def test_answers_hold_no_more_than_the_budget_when_they_are_done(tmp_path):
    """Blocks that come from disk again and again must not wait for the garbage collector, which counts objects, not
    bytes: what survives a young collection waits for hundreds of answers."""
    memory_bytes = 40_000
    pipeline = Pipeline.open(tiny_engine(tmp_path / "kv", memory_bytes=memory_bytes), tmp_path)
    add(pipeline)
    ask(pipeline)
    with no_garbage_collection():
        before = tensor_nbytes()
        with ThreadPoolExecutor(8) as visitors:
            answers = list(visitors.map(lambda i: ask(pipeline, client_id=str(i)), range(24)))
        assert sum(answer.report.kv_hits["disk"] for answer in answers) > 24
        assert tensor_nbytes() - before <= memory_bytes


def test_stopping_an_addition_leaves_the_index_as_it_was(pipeline):
    add(pipeline)
    other = Document("other.txt", "text/plain", "Lima lies by the sea. " * 40)

    def stop(step):
        raise Stopped("enough")

    with pytest.raises(Stopped):
        pipeline.add(pipeline.segment(other, bounds=BOUNDS), 1.0, stop)
    assert [d.name for d in pipeline.index.documents()] == ["cities.md"]
    assert add(pipeline, other)[-1].done > 0 and len(pipeline.index.documents()) == 2


def test_only_changed_blocks_are_encoded_again(pipeline):
    add(pipeline)
    assert add(pipeline)[-1].reused == len(pipeline.index)
    longer = Document(
        "cities.md", "text/markdown", CITIES.text + "\n# Lima\n\nThe river Rimac flows through Lima, by the sea.\n"
    )
    last = add(pipeline, longer)[-1]
    assert 0 < last.reused < last.total


def test_a_new_cut_replaces_the_old_one(pipeline):
    segmentation = pipeline.segment(CITIES, bounds=SizeBounds(16, 500))
    pipeline.add(segmentation, 1.0)
    assert len(pipeline.index) > 3
    pipeline.add(segmentation, 0.0)
    assert len(pipeline.index) == 1 and len(pipeline.index.documents()) == 1


def test_delete_means_gone(pipeline, tmp_path):
    add(pipeline)
    pipeline.delete(CITIES.id)
    assert len(pipeline.index) == 0 and pipeline.index.documents() == []
    assert not list((tmp_path / "kv").glob("*/*.safetensors"))
    with pytest.raises(IndexStoreError, match="empty"):
        ask(pipeline)


def test_blocks_shared_with_another_document_survive_its_deletion(pipeline):
    add(pipeline)
    longer = Document("more.md", "text/markdown", CITIES.text + "\n# Lima\n\nThe river Rimac flows through Lima.\n" * 3)
    add(pipeline, longer)
    pipeline.delete(longer.id)
    assert ask(pipeline).report.kv_misses == 0


def test_sources_of_documents_with_one_name_are_told_apart_by_folder(pipeline):
    for folder, river in (("north", "Torne"), ("south", "Po")):
        text = f"# River\n\nThe river {river} flows through the {folder} to the sea, and ships go on it.\n"
        add(pipeline, Document("rivers.md", "text/markdown", text, f"/data/{folder}/rivers.md"))
    assert {source.document for source in pipeline.search("river", 9)} == {"north/rivers.md", "south/rivers.md"}
    assert pipeline.search("river Torne", 1)[0].document == "rivers.md"
    assert pipeline.search("river Torne", 1)[0].source == "/data/north/rivers.md"


def test_a_text_is_given_once_even_if_two_documents_have_it(pipeline):
    add(pipeline)
    add(pipeline, Document("copy.md", "text/markdown", CITIES.text))
    found = pipeline.search("Which river flows through Rome?", 20)
    assert len({source.kv_key for source in found}) == len(found) < len(pipeline.index)
    copy = next(d.id for d in pipeline.index.documents() if d.name == "copy.md")
    pinned = pipeline.search("Which river flows through Rome?", 2, pinned=[(copy, found[0].start)])
    assert pinned[0].document_id == copy and pinned[1].kv_key != pinned[0].kv_key


def test_an_index_is_there_after_a_restart(pipeline, tmp_path):
    add(pipeline)
    before = ask(pipeline)
    pipeline.index.close()
    again = Pipeline.open(tiny_engine(tmp_path / "kv"), tmp_path)
    assert ask(again).text == before.text and ask(again).sources == before.sources


def test_an_index_of_another_model_is_refused(pipeline, tmp_path):
    add(pipeline)
    with pytest.raises(IndexStoreError, match="made with model"):
        Pipeline.open(tiny_engine(seed=1), tmp_path)


def test_an_empty_index_says_so(pipeline):
    with pytest.raises(IndexStoreError, match="empty: add a document"):
        ask(pipeline)


def test_a_question_longer_than_the_context_says_so(pipeline):
    add(pipeline)
    with pytest.raises(PromptTooLongError, match="4096"):
        ask(pipeline, "why " * 5000)


def test_blocks_beyond_the_context_are_left_out_and_named(tmp_path):
    pipeline = Pipeline.open(tiny_engine(max_position_embeddings=400), tmp_path)
    add(pipeline, granularity=0.0)
    answer = ask(pipeline, "river? " * 20)
    assert answer.left_out and answer.sources
    assert {s.number for s in answer.sources} | {s.number for s in answer.left_out} == set(
        range(1, 1 + len(pipeline.index))
    )
    assert f"blocks {answer.left_out[0].number}" in answer.report.notes[0]
    used = answer.report.n_prefill_tokens + answer.report.n_tokens_saved + len(pipeline.engine.prompt.prefix_ids)
    assert used + 8 <= 400


def test_an_answer_from_no_block_says_so(tmp_path):
    pipeline = Pipeline.open(tiny_engine(max_position_embeddings=400), tmp_path)
    long = Document("long.txt", "text/plain", "The river flows through the city and on to the sea. " * 60)
    pipeline.add(pipeline.segment(long, bounds=SizeBounds(16, 2000)), 0.0)
    answer = ask(pipeline)
    assert answer.sources == () and answer.left_out
    assert "the answer is from no document" in answer.report.notes[-1]


def test_questions_at_once_do_not_disturb_each_other(pipeline):
    add(pipeline)
    questions = ["Which river flows through Rome?", "What stands near the Seine?", "Where are the pyramids?"]
    expected = [ask(pipeline, question).text for question in questions]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda question: ask(pipeline, question).text, questions * 6))
    assert answers == expected * 6
