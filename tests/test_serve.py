"""The benchmark of servers against one of this test, and the simulation of many replicas against cases done by hand."""

import importlib
import json
import re
from pathlib import Path

import pytest

from benchmarks import plot, serve
from benchmarks.serve_sizing import Ring, draw_questions, main, simulate
from blockrag.vllm.client import AFFINITY
from blockrag.vllm.store import Settings
from tests.fake_vllm import FakeVLLM
from tests.tiny import tiny_engine


def test_questions_are_drawn_as_documents_are_asked_about():
    blocks = [[n] for n in range(50)]
    questions = serve.draw_questions(400, blocks, 4, 1.0, seed=0)
    drawn = [[block[0] for block in picked] for picked, _ in questions]
    assert all(len(set(picked)) == 4 for picked in drawn)
    counts = [sum(n in picked for picked in drawn) for n in range(50)]
    assert counts[0] > 3 * counts[10] > 3 * counts[49] > 0
    assert len({tuple(final) for _, final in questions}) == 400
    assert questions == serve.draw_questions(400, blocks, 4, 1.0, seed=0)


def test_both_sides_get_the_same_questions_in_turn(monkeypatch, tmp_path):
    server = FakeVLLM(tiny_engine())
    monkeypatch.setattr(serve, "VOCABULARY", 20)
    monkeypatch.setattr(serve, "prefix_hits", lambda url: 0.5)
    monkeypatch.setattr("tests.fake_vllm.end_tokens", lambda model: ())
    flags = "--clients 2 --blocks 5 --block-tokens 3 --per-question 2 --answer-tokens 3 --questions 4 --rounds 2"
    clients = {side: serve.Endless(server.url) for side in serve.SIDES}
    result = serve.measure(serve.parse(flags.split()), dict.fromkeys(serve.SIDES, server.url), clients)
    server.shutdown()
    server.server_close()
    assert [(row["round"], row["side"]) for row in result["rows"]] == [
        (1, "ordinary"), (1, "block"), (2, "block"), (2, "ordinary"),
    ]  # fmt: skip
    streamed = [body for body in server.bodies if body.get("stream")]
    ordinary, block = ({tuple(b["prompt"]) for b in streamed if (b["model"] == mode)} for mode in ("full", "block"))
    assert ordinary == block and all(body["ignore_eos"] for body in streamed)
    assert [total["questions"] for total in result["totals"]] == [8, 8] == [len(v) for v in result["ttft_ms"].values()]
    path = tmp_path / "serve-tiny.json"
    path.write_text(json.dumps({"machine": "two cores", **result}))
    assert plot.draw(path).stat().st_size > 5000


def test_a_key_keeps_its_replica_when_another_joins():
    one, more = Ring(10), Ring(11)
    keys = range(4000)
    moved = [key for key in keys if one.replica(key) != more.replica(key)]
    assert 0.04 < len(moved) / len(keys) < 0.16 and {more.replica(key) for key in moved} == {10}
    shares = [sum(one.replica(key) == replica for key in keys) for replica in range(10)]
    assert min(shares) > 200 and max(shares) < 700


def test_hits_are_those_counted_by_hand():
    questions = [(0, [1, 2]), (0, [3, 3]), (0, [1, 2]), (0, [3, 4])]
    assert simulate(questions, 1, 3, lambda *_: 0) == {"host_hits": 0.75, "busiest": 1.0}
    assert simulate(questions, 1, 2, lambda *_: 0)["host_hits"] == 0
    assert simulate(questions, 2, 3, lambda collection, blocks: blocks[0] // 3)["host_hits"] == 0.75
    assert simulate(questions, 2, 3, lambda collection, blocks: 1)["busiest"] == 2.0


def test_affinity_saves_reads_and_collections_weigh_unevenly(capsys, tmp_path):
    flags = "--blocks 20000 --collections 200 --replicas 10 --questions 20000 --block-tokens 100 --token-bytes 1000"
    path = tmp_path / "sizing.json"
    main([*flags.split(), "--host-gb", "0.03", "--json", str(path)])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result == json.loads(path.read_text())
    assert result["sizes"]["store_tb"] == 2e-3 and result["sizes"]["blocks_in_host_memory"] == 300
    assert result["sizes"]["share_in_all_host_memory"] == 0.15 and result["sizes"]["question_mb"] == pytest.approx(0.8)
    by = {row["routed by"]: row for row in result["rows"]}
    hits = [by[name]["host_hits"] for name in ("random", "first block", "collection in 8 parts", "collection")]
    assert hits == sorted(hits) and len(set(hits)) == 4
    assert by["random"]["busiest"] < by["collection in 8 parts"]["busiest"] < by["collection"]["busiest"]
    for row in result["rows"]:
        assert row["store_gb_per_s"] == pytest.approx(5 * 10 * row["read_mb_per_question"] / 1e3)


def test_blocks_belong_to_their_collection():
    for collection, blocks in draw_questions(50, 100, 10, 4, 1.0, seed=3):
        assert {block // 10 for block in blocks} == {collection}


def test_the_benchmark_is_importable_without_vllm():
    assert importlib.import_module("benchmarks.serve").SIDES == ("ordinary", "block")


EXAMPLES = Path(__file__).parent.parent / "examples" / "vllm"


@pytest.mark.parametrize("name", ["compose", "kubernetes", "production-stack"])
def test_the_examples_of_deployment_have_settings_that_are_read(name, tmp_path):
    """The flags around them are tested against vLLM's parser in tests/vllm."""
    text = " ".join((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8").split())
    (given,) = re.findall(r'"kv_connector_extra_config": ({.*?})', text)
    (tmp_path / "secret").write_text("s" * 64)
    paths = {"kv_dir": str(tmp_path / "kv"), "kv_remote_secret": str(tmp_path / "secret")}
    extra = {key: paths.get(key, value) for key, value in json.loads(given).items()}
    settings = Settings.read(extra)
    assert settings.kv_remote == "s3://blockrag/kv" and settings.allow_untested and settings.memory_bytes > 1 << 30


def test_the_examples_route_by_the_header_that_the_client_sends():
    compose, kubernetes, stack = (
        (EXAMPLES / f"{n}.yaml").read_text() for n in ("compose", "kubernetes", "production-stack")
    )
    assert "--policy consistent_hash" in compose and "--policy=consistent_hash" in kubernetes
    assert f"sessionKey: {AFFINITY.lower()}" in stack and "routingLogic: session" in stack


def test_every_trap_of_the_guide_has_its_test():
    root = Path(__file__).parent.parent
    named = set(re.findall(r"`(test_\w+)`", (root / "docs" / "guides" / "vllm.md").read_text(encoding="utf-8")))
    files = [*(root / "tests" / "vllm").glob("test_*.py"), *(root / "tests").glob("test_vllm*.py")]
    tests = "".join(path.read_text(encoding="utf-8") for path in files)
    assert len(named) > 20 and [name for name in named if f"def {name}(" not in tests] == []
