# ruff: noqa: E402
"""vLLM answers in block mode as our own engine does, ordinary requests stay as they were, and each guard is needed.

A test whose name has "would" runs with a guard off, and shows the wrong answer that the guard prevents.
"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("vllm", reason="needs vLLM, in an environment of its own: requirements-vllm.txt")

from vllm.distributed.kv_transfer import get_kv_transfer_group
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
from vllm.v1.core.sched.scheduler import Scheduler

from blockrag.attention.rope import Rope
from blockrag.errors import UnsupportedModelError
from blockrag.kv.tier import KVTier
from blockrag.vllm import connector
from blockrag.vllm.connector import BlockRAGConnector, check_rope, check_setup
from blockrag.vllm.store import Settings
from tests.vllm.cases import NAMES, TOLERANCE, WRONG, text_of
from tests.vllm.served import Case, difference


@pytest.fixture(scope="session")
def encoded(server, own):
    """All blocks, encoded by vLLM."""
    answers = server.encode_all(own.case([text_of(name) for name in NAMES], ""))
    assert {answer.report["mode"] for answer in answers} == {"encode"}


@pytest.fixture
def scheduler(server):
    return server.llm.llm_engine.engine_core.engine_core.scheduler


def forget_memory():
    """Empty the worker's host memory, so that blocks are read from disk."""
    memory = get_kv_transfer_group()._store._memory
    for key in memory.keys():
        memory.delete(key)


def alone(server, case: Case, **more):
    return server.ask((case.prompt, case.params), **more)[0]


def in_full(server, case: Case, **more):
    return server.ask((case.prompt, None), **more)[0]


def test_block_mode_is_that_of_our_own_engine(server, encoded, cases, expected):
    for case, ours in zip(cases, expected, strict=True):
        answer = alone(server, case)
        assert answer.report == {"mode": "block", "n_loaded": len(case.prompt) - len(case.final)}
        assert difference(answer, ours) < TOLERANCE
        assert answer.token_ids == ours.token_ids


def test_a_mixed_batch_that_is_chunked_and_preempted_answers_the_same(server, encoded, cases, expected, monkeypatch):
    """The batch has more tokens than fit a step or the pages, and ordinary requests too."""
    n_preempted = 0
    preempt = Scheduler._preempt_request

    def count(*args, **kwargs):
        nonlocal n_preempted
        n_preempted += 1
        return preempt(*args, **kwargs)

    monkeypatch.setattr(Scheduler, "_preempt_request", count)
    ordinary = cases[:3]
    before = [in_full(server, case, n=64) for case in ordinary]
    blocks = list(zip(cases, expected, strict=True))[:11]
    requests = [(case.prompt, None) for case in ordinary] + [(case.prompt, case.params) for case, _ in blocks]
    answers = server.ask(*requests, n=64)  # long enough that each needs two more pages
    for full, answer in zip(before, answers, strict=False):
        assert difference(answer, full) < TOLERANCE and answer.token_ids == full.token_ids and not answer.report
    for (_, ours), answer in zip(blocks, answers[len(ordinary) :], strict=True):
        assert difference(answer, ours) < TOLERANCE and answer.token_ids[: len(ours.token_ids)] == ours.token_ids
    assert n_preempted > 0


def test_kv_of_our_own_engine_is_used(server, own, encoded):
    case = own.case([text_of(name).replace("river", "lake") for name in NAMES[:4]], "Which lake is the longest?")
    own.store(case, server.kv_dir)
    answer, ours = alone(server, case), own.ask(case)
    assert not answer.error and difference(answer, ours) < TOLERANCE and answer.token_ids == ours.token_ids


def test_a_stored_block_is_not_encoded_again(server, own):
    case = own.case([text_of("Ulva")], "?")
    prompt = case.prefix + case.blocks[0]
    assert server.encode_all(case)[-1].report == {"mode": "encode", "n_loaded": 0}
    forget_memory()
    assert server.encode((prompt, len(case.prefix)))[0].report == {"mode": "encode", "n_loaded": len(prompt) - 1}


def test_one_block_is_full_attention_and_two_are_not(server, own, encoded):
    """The self-test: with the prefix in view, a single block is encoded as full attention computes it."""
    one, two = (own.case([text_of(name) for name in names], "Where does it rise?") for names in (NAMES[:1], NAMES[:2]))
    assert difference(alone(server, one), in_full(server, one)) < TOLERANCE
    assert difference(alone(server, two), in_full(server, two)) > WRONG


# Traps


def in_both_modes(server, own, name):
    """Answers in full mode, block mode, block mode with other spans, and full mode again, of new tokens."""
    case = own.case([text_of(name + suffix) for suffix in ("", "ta", "va")], f"Which towns does the {name} pass?")
    joined = replace(case, blocks=[case.blocks[0] + case.blocks[1], case.blocks[2]])
    for each in (case, joined):
        server.encode_all(each)
    answers = [in_full(server, case), alone(server, case), alone(server, joined), in_full(server, case)]
    return answers, own.ask(case), own.ask(joined)


def test_modes_and_spans_never_share_pages(server, own):
    (full, block, other_spans, again), ours, our_other_spans = in_both_modes(server, own, "Petra")
    assert difference(block, ours) < TOLERANCE and difference(other_spans, our_other_spans) < TOLERANCE
    assert difference(full, again) < TOLERANCE and difference(full, block) > WRONG


def test_without_a_salt_they_would(server, own, monkeypatch):
    plan = connector.make_plan
    monkeypatch.setattr(connector, "make_plan", lambda *args: replace(plan(*args), salt=None))
    (_, block, other_spans, _), ours, our_other_spans = in_both_modes(server, own, "Quarta")
    assert max(difference(block, ours), difference(other_spans, our_other_spans)) > WRONG


def test_with_a_salt_but_the_old_hashes_they_would_too(server, own, monkeypatch):
    plan = BlockRAGConnector.on_new_request

    def keep_hashes(self, request):
        hashes = list(request.block_hashes)
        plan(self, request)
        request.block_hashes[:] = hashes

    monkeypatch.setattr(BlockRAGConnector, "on_new_request", keep_hashes)
    (_, block, other_spans, _), ours, our_other_spans = in_both_modes(server, own, "Sexta")
    assert max(difference(block, ours), difference(other_spans, our_other_spans)) > WRONG


def test_log_probabilities_of_the_prompt_are_refused(server, own, encoded):
    """vLLM computes the whole prompt then, so that the answer is one of full attention, and says so."""
    case = own.case([text_of(name) for name in NAMES[:3]], "Which one?")
    answer = server.ask((case.prompt, case.params), prompt_logprobs=1)[0]
    assert answer.report["mode"] == "full" and "cannot give log-probabilities" in answer.report["error"]
    assert difference(answer, in_full(server, case)) < TOLERANCE
    assert difference(alone(server, case), own.ask(case)) < TOLERANCE, "the pages of full attention are not used"


def test_without_the_refusal_they_would_be_those_of_full_attention(server, own, encoded, monkeypatch):
    case = own.case([text_of(name) for name in NAMES[:3]], "Which two?")
    plan = BlockRAGConnector.on_new_request

    def overlook(self, request):
        skip, request.skip_reading_prefix_cache = request.skip_reading_prefix_cache, False
        plan(self, request)
        request.skip_reading_prefix_cache = skip

    monkeypatch.setattr(BlockRAGConnector, "on_new_request", overlook)
    answer = server.ask((case.prompt, case.params), prompt_logprobs=1)[0]
    assert answer.report["mode"] == "block", "it is not true"
    assert difference(answer, own.ask(case)) > WRONG and difference(answer, in_full(server, case)) < TOLERANCE


def test_missing_kv_fails_its_request_alone(server, own, encoded):
    missing = own.case(["Nobody has encoded this text.", text_of(NAMES[0])], "What now?")
    good = own.case([text_of(name) for name in NAMES[:3]], "Which one?")
    answers = server.ask((good.prompt, good.params), (missing.prompt, missing.params), (good.prompt, None))
    assert [answer.error for answer in answers] == [False, True, False]
    assert difference(answers[0], own.ask(good)) < TOLERANCE
    assert not in_full(server, missing).error


def test_nothing_matched_for_missing_kv_would_be_full_attention(server, own, monkeypatch):
    case = own.case(["Nobody has encoded this one either.", text_of(NAMES[0])], "What now?")
    monkeypatch.setattr(BlockRAGConnector, "get_num_new_matched_tokens", lambda *args: (0, False))
    assert difference(alone(server, case), in_full(server, case)) < TOLERANCE, "and nobody is told"


def test_a_policy_of_recomputing_would_load_again_and_again(server, own, scheduler, monkeypatch):
    case = own.case(["Nor has anybody encoded this.", text_of(NAMES[0])], "What now?")
    match, n_tries = BlockRAGConnector.get_num_new_matched_tokens, 0

    def count(self, request, n_computed):
        nonlocal n_tries
        n_tries += 1
        return match(self, request, n_computed) if n_tries <= 20 else (0, False)

    monkeypatch.setattr(BlockRAGConnector, "get_num_new_matched_tokens", count)
    monkeypatch.setattr(scheduler, "recompute_kv_load_failures", True)
    answer = alone(server, case)
    assert n_tries > 20 and not answer.error, "it would never end"
    assert difference(answer, in_full(server, case)) < TOLERANCE, "and computes full attention where it does"


def test_no_error_leaves_the_scheduler(server, own, encoded, scheduler, monkeypatch):
    """Not even one that nobody thought of, such as a folder that cannot be read: it would end the engine for all."""
    case = own.case([text_of(NAMES[1])], "Which one?")

    def unreadable(part):
        raise OSError("the disk is gone")

    monkeypatch.setattr(scheduler.connector._store, "is_in_folder", unreadable)
    assert server.encode((case.prefix, len(case.prefix)))[0].error
    assert not alone(server, case).error


@pytest.mark.parametrize(
    "params", [{"v": 2}, {"v": 1, "prefix": 0, "blocks": [3]}, {"v": 1, "prefix": 3, "blocks": [10**6]}, {"v": 1}, "x"]
)
def test_a_request_that_is_refused_fails_alone(server, own, encoded, params):
    case = own.case([text_of(NAMES[1])], "Which one?")
    answers = server.ask((case.prompt, params), (case.prompt, case.params))
    assert [answer.error for answer in answers] == [True, False]


def test_an_adapter_that_was_not_written_for_block_mode_is_refused(server, own, encoded):
    case = own.case([text_of(NAMES[1])], "Which one?")
    assert alone(server, case, lora="full").error


def test_a_damaged_block_fails_its_request_and_is_encoded_again(server, own):
    case = own.case([text_of("Rosta"), text_of("Sarna")], "Which one?")
    before = set(server.kv_dir.rglob("*.safetensors"))
    server.encode_all(case)
    for file in set(server.kv_dir.rglob("*.safetensors")) - before:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    forget_memory()
    assert alone(server, case).error
    server.encode_all(case)
    server.encode_all(case)  # those whose damage the first encoding found
    assert difference(alone(server, case), own.ask(case)) < TOLERANCE


def test_matching_is_without_side_effects(server, scheduler, monkeypatch):
    own_connector = scheduler.connector
    request = SimpleNamespace(request_id="r")
    assert own_connector.get_num_new_matched_tokens(request, 0) == (0, False)
    plan = SimpleNamespace(end=10)
    monkeypatch.setitem(own_connector._tracked, "r", SimpleNamespace(plan=plan))
    assert [own_connector.get_num_new_matched_tokens(request, n) for n in (0, 0, 3, 10, 12)] == [
        (10, True), (10, True), (7, True), (0, False), (0, False),
    ]  # fmt: skip
    assert not own_connector._waiting


def test_a_store_without_room_is_no_crash(server, own, monkeypatch):
    case = own.case([text_of("Tarna")], "Which one?")
    monkeypatch.setattr(KVTier, "_make_room", lambda *args: False)
    forget_memory()
    assert not any(answer.error for answer in server.encode_all(case))
    assert alone(server, case).error


def setup(**changes):
    transfer = {"kv_load_failure_policy": "fail", "kv_role": "kv_both"}
    config = SimpleNamespace(
        kv_transfer_config=SimpleNamespace(**{name: changes.pop(name, value) for name, value in transfer.items()}),
        parallel_config=SimpleNamespace(
            pipeline_parallel_size=changes.pop("pipeline", 1),
            decode_context_parallel_size=changes.pop("context", 1),
        ),
        cache_config=SimpleNamespace(cache_dtype=changes.pop("cache_dtype", "auto")),
        speculative_config=changes.pop("speculative", None),
    )
    return config, SimpleNamespace(kv_cache_groups=[None] * changes.pop("groups", 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_load_failure_policy": "recompute"}, "or answers in full attention"),
        ({"kv_role": "kv_consumer"}, "expected kv_both"),
        ({"groups": 2}, "more than one group"),
        ({"cache_dtype": "fp8"}, "another type"),
        ({"pipeline": 2}, "pipeline"),
        ({"context": 2}, "context parallelism"),
        ({"speculative": object()}, "speculative"),
    ],
)
def test_a_server_that_would_answer_wrongly_does_not_start(change, message):
    with pytest.raises(UnsupportedModelError, match=message):
        check_setup(*setup(**change), Settings(None, "file:///x"))


def test_other_versions_are_refused(monkeypatch):
    monkeypatch.setattr(connector.vllm, "__version__", "0.33.0", raising=False)
    with pytest.raises(UnsupportedModelError, match="vLLM 0.33.0"):
        check_setup(*setup(), Settings(None, "file:///x"))


def test_other_angles_are_refused():
    worker = get_kv_transfer_group()
    check_rope(worker._rope, torch.float32)
    for rope in (Rope(worker._rope.inv_freq * 1.01), Rope(worker._rope.inv_freq, interleaved=True)):
        with pytest.raises(UnsupportedModelError, match="rotary positions"):
            check_rope(rope, torch.float32)
    with pytest.raises(UnsupportedModelError, match="0 compared"):
        check_rope(worker._rope, torch.float32, modules=[])


def test_a_connector_beside_another_is_refused():
    worker = get_kv_transfer_group()
    second = BlockRAGConnector(worker._vllm_config, KVConnectorRole.WORKER, worker._kv_cache_config)
    with pytest.raises(UnsupportedModelError, match="beside another connector"):
        second.register_kv_caches({})
