"""The examples run on a tiny model and a few questions."""

import json
import re
import runpy
import sys
from functools import wraps
from pathlib import Path

import pytest

from blockrag.engine import Engine
from tests.tiny import tiny_engine

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent / "examples"
RIVERS = {"Rome": "Tiber", "Cairo": "Nile", "Paris": "Seine", "Lima": "Rimac", "Vienna": "Danube", "London": "Thames"}


@pytest.fixture
def data(tmp_path):
    documents = {
        city: {"title": city, "text": f"The river {river} flows through {city}, as it always did."}
        for city, river in RIVERS.items()
    }
    rows = [
        {
            "question": f"Which river flows through {city}?",
            "answers": [river],
            "split": "test",
            "documents": [{**documents[other], "is_gold": other == city} for other in RIVERS],
        }
        for city, river in RIVERS.items()
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


@pytest.fixture
def run(monkeypatch, capsys):
    @wraps(Engine.from_pretrained)
    def tiny(*args, kv_dir=None, **settings):
        return tiny_engine(kv_dir)

    monkeypatch.setattr(Engine, "from_pretrained", tiny)
    for folder in (EXAMPLES, EXAMPLES / "llamaindex"):
        monkeypatch.syspath_prepend(str(folder))

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out.strip().splitlines()

    return run


def test_before_and_after(run, data):
    lines = run("rag_before_after.py", data, "--questions", 4, "--tokens", 60, "--max-tokens", 4)
    result = json.loads(lines[-1])
    assert result["questions"] == 4 and result["same_nodes"] and result["kv_misses"] == 0
    assert result["before_ttft_ms"] > 0 and result["after_ttft_ms"] > 0 and result["ttft_ratio"] > 0
    for apart in result["difference"].values():
        assert apart["low"] <= apart["mean"] <= apart["high"]
        assert apart["judged_alike"] == (apart["low"] <= 0 <= apart["high"])
    assert result["difference"].keys() == {"before", "full"} and result["full_ttft_ms"] > 0


def test_questions_without_a_match_are_told(run, data):
    with pytest.raises(SystemExit, match="no question of split 'dev'"):
        run("rag_before_after.py", data, "--split", "dev")


def test_evaluation(run, data):
    result = json.loads(run("evaluate.py", data, "--questions", 3, "--top-k", 2, "--max-tokens", 4)[-1])
    assert result["retrieval"]["hit_rate"] == 1.0 and result["questions"] == 3
    assert {"similarity", "contains_answer", "ttft_ms"} == set(result["block"]) == set(result["full"])


def test_a_chat_remembers_and_only_changes_are_indexed(run, tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    for city, river in RIVERS.items():
        (folder / f"{city}.txt").write_text(f"The river {river} flows through {city}. " * 6)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    arguments = (folder, "--store", tmp_path / "store", "--top-k", 2, "--max-tokens", 4, "--ask", "Which river?")
    assert run("chat_over_collection.py", *arguments)[0] == "6 of 6 documents are new or changed"
    (folder / "Rome.txt").write_text("The river Aniene flows near Rome. " * 6)
    (folder / "Lima.txt").unlink()
    again = run("chat_over_collection.py", *arguments)
    assert again[0] == "1 of 5 documents are new or changed" and "first token after" in again[-1]
    assert len(json.loads((tmp_path / "store" / "chat.json").read_text())) == 4


@pytest.fixture
def documents(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    for city, river in RIVERS.items():
        (folder / f"{city}.txt").write_text(f"The river {river} flows through {city}. " * 6)
    return folder


@pytest.mark.parametrize(
    "program, arguments, expected",
    [
        ("starter", ["--ask", "Which river flows through Rome?"], "first token after"),
        ("ingestion", ["--workers", "1"], "^7 nodes, then 1 of the changed document$"),
        ("rerank", ["--ask", "Which river flows through Lima?"], "hybrid: .*Lima.txt"),
        ("router", ["--ask", "Which river flows through Cairo?"], "from: Cairo.txt"),
        ("chat", ["--ask", "Which river flows through Rome?", "Which else?"], "4 messages"),
        ("questions", [], "10: "),
        ("agent", ["--ask", "Which river flows through Rome?"], "agent:"),
    ],
)
def test_programs_of_llamaindex(run, documents, tmp_path, program, arguments, expected):
    given = (documents, "--store", tmp_path / "store", "--model", "tiny", "--max-tokens", 4, *arguments)
    out = "\n".join(run(f"llamaindex/{program}.py", *given))
    assert re.search(expected, out), out
    if program == "starter":
        assert out.endswith("0 blocks computed")


def test_every_program_is_listed():
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.rglob("*.py"):
        assert (
            f"`{path.relative_to(EXAMPLES)}`" in listed or path.stem in ("qa_data", "common") or "generate" in str(path)
        )
