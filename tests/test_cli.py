"""The command line: the contract of ``--json``, exit codes, help; and the whole way on real weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fpdf import FPDF

import blockrag
from blockrag.cli import COMMANDS, main, options
from blockrag.pipeline import Pipeline
from blockrag.segment import SEGMENTERS
from tests.document_files import FIELD
from tests.samples import RIVER_SECTIONS
from tests.tiny import tiny_engine, tiny_tokenizer

ROOT = Path(__file__).parent.parent


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "rivers.md"
    path.write_text(RIVER_SECTIONS)
    return str(path)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(options, "open_store", lambda args: Pipeline.open(tiny_engine(args.store / "kv"), args.store))
    monkeypatch.setattr("blockrag.models.load.load_tokenizer", lambda name: tiny_tokenizer())
    monkeypatch.setitem(SEGMENTERS, "neural", SEGMENTERS["structural"])
    return str(tmp_path / "store")


WITHOUT_NETWORK = """
import runpy, socket
def refuse(*arguments): raise AssertionError("weights that are here need no network")
socket.socket.connect = refuse
runpy.run_module("blockrag", run_name="__main__", alter_sys=True)
"""


def run(capsys, *argv: str) -> tuple[int, dict]:
    code = main([*argv, "--json"])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_segment_gives_tiles(capsys, document, store):
    for segmenter in ("structural", "fixed"):
        code, result = run(capsys, "segment", document, "--granularity", "0.4", "--segmenter", segmenter)
        assert code == 0 and result["document"] == "rivers.md" and result["granularity"] == 0.4
        blocks = result["blocks"]
        assert (
            result["n_blocks"] == len(blocks) and blocks[0]["start"] == 0 and blocks[-1]["end"] == len(RIVER_SECTIONS)
        )
        assert all(a["end"] == b["start"] for a, b in zip(blocks, blocks[1:], strict=False))
        assert all({"start", "end", "n_tokens", "score"} <= b.keys() and b["n_tokens"] <= 512 for b in blocks)


def test_segment_shows_lines_for_people(capsys, document, store):
    assert main(["segment", document]) == 0
    assert "tokens" in capsys.readouterr().out.splitlines()[0]


def test_read_prints_the_text_and_how_it_was_read(capsys):
    files = [str(FIELD / name) for name in ("c06_koi8_r.txt", "c32_pagecross.pdf", "c05c_user_password.pdf")]
    assert main(["read", files[0]]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Склад открывается") and "text/plain, koi8_r, 237 characters" in captured.err
    code, result = run(capsys, "read", *files)
    text, pages = result["documents"]
    assert code == 3 and text["encoding"] == "koi8_r" and text["n_pages"] is None and text["notes"] == []
    assert pages["n_pages"] == 6 and len(pages["notes"]) == 2 and pages["text"].startswith("The master of a vessel")
    assert pages["media_type"] == "application/pdf" and len(pages["sha256"]) == 64
    assert result["errors"][0]["document"] == "c05c_user_password.pdf"
    assert run(capsys, "read", files[2])[0] == 1


def test_read_sends_no_control_characters_to_a_terminal(capsys, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a\x1b[2Jb\n" + "words " * 50)
    assert main(["read", str(tmp_path)]) == 0 and "\x1b" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["read", str(tmp_path)]) == 0 and "a\ufffd[2Jb" in capsys.readouterr().out


def test_what_was_left_out_is_told(capsys, store):
    path, note = str(FIELD / "c32_pagecross.pdf"), 'The line "Harbour Rules 2024 - CONFIDENTIAL", repeated on 3 pages'
    for command in (["segment", path], ["index", path, "--store", store]):
        assert main([*command, "--json"]) == 0
        captured = capsys.readouterr()
        result = json.loads(captured.out.splitlines()[-1])
        result = result.get("documents", [result])[0]
        assert result["notes"][0].startswith(note) and result["encoding"] == ""
        assert f"blockrag: c32_pagecross.pdf: {note}" in captured.err


def test_index_and_ask_keep_the_contract(capsys, document, store):
    code, result = run(capsys, "index", document, "--store", store, "--max-tokens", "64", "--granularity", "1")
    assert code == 0 and result["errors"] == [] and result["documents"][0]["n_blocks"] == result["n_blocks"] > 3
    code, result = run(capsys, "ask", "How long is river 3?", "--store", store, "--max-new-tokens", "4")
    assert code == 0 and {"question", "answer", "sources", "report"} <= result.keys()
    assert {"document", "start", "end", "text", "score"} <= result["sources"][0].keys()
    wanted = {"mode", "retrieval_ms", "kv_load_ms", "assemble_ms", "prefill_ms", "ttft_ms", "tokens_per_s"}
    assert wanted | {"n_context_tokens", "kv_hits", "kv_misses"} <= result["report"].keys()
    assert result["report"]["mode"] == "block" and sum(result["report"]["kv_hits"].values()) == 8


def test_a_file_indexed_again_replaces_itself_and_computes_what_changed(capsys, document, store, tmp_path, monkeypatch):
    arguments = ("--store", store, "--max-tokens", "64", "--granularity", "1")
    _, first = run(capsys, "index", document, *arguments)
    (tmp_path / "rivers.md").write_text(RIVER_SECTIONS + "# Lake\n\nThe lake of Grimsund is deep.\n")
    monkeypatch.chdir(tmp_path)
    _, second = run(capsys, "index", "rivers.md", *arguments)
    (before,), (after,) = first["documents"], second["documents"]
    assert before["source"] == after["source"] == document and before["document_id"] == after["document_id"]
    assert before["sha256"] != after["sha256"] and second["n_blocks"] == after["n_blocks"] > before["n_blocks"]
    assert after["n_reused"] >= before["n_blocks"] - 1
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "rivers.md").write_text(RIVER_SECTIONS)
    _, third = run(capsys, "index", "copy/rivers.md", *arguments)
    assert third["documents"][0]["document_id"] != after["document_id"]
    assert third["n_blocks"] == after["n_blocks"] + before["n_blocks"]


def test_compare_holds_both_and_their_ratio(capsys, document, store):
    run(capsys, "index", document, "--store", store)
    _, result = run(capsys, "ask", "How long?", "--store", store, "--mode", "compare", "--max-new-tokens", "4")
    block, full = result["block"], result["full"]
    assert (
        block["report"]["mode"] == "block" and full["report"]["mode"] == "full" and block["answer"] == result["answer"]
    )
    assert result["ttft_ratio"] == pytest.approx(full["report"]["ttft_ms"] / block["report"]["ttft_ms"])


def test_answers_for_people_tell_sources_and_cost(capsys, document, store):
    main(["index", document, "--store", store])
    assert main(["ask", "How long?", "--store", store, "--mode", "compare", "--max-new-tokens", "4"]) == 0
    out = capsys.readouterr().out
    assert "[1] rivers.md, characters" in out and "block mode: first token after" in out and "times sooner" in out


def test_exit_codes(capsys, document, store, tmp_path):
    (tmp_path / "bad.pdf").write_text("no")
    code, result = run(capsys, "index", str(tmp_path / "bad.pdf"), document, "--store", store)
    assert code == 3 and result["errors"][0]["document"] == "bad.pdf" and len(result["documents"]) == 1
    assert main(["index", str(tmp_path / "bad.pdf"), "--store", store]) == 1
    assert main(["ask", "why?", "--store", str(tmp_path / "empty")]) == 1
    assert "the index is empty" in capsys.readouterr().err
    for wrong in (
        ["segment", document, "--granularity", "2"],
        ["ask", "x"],
        ["ask", "x", "--store", "s", "--k", "0"],
        [],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(wrong)
        assert stopped.value.code == 2


def test_an_interrupt_is_130(monkeypatch, document, store):
    monkeypatch.setattr(options, "open_store", lambda args: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["ask", "why?", "--store", store]) == 130


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "Example: python -m blockrag" in capsys.readouterr().out


@pytest.mark.weights
def test_the_whole_way_with_a_real_pdf_and_real_models(tmp_path, capsys, smollm2_path, minilm_path):
    pdf = FPDF()
    pdf.set_font("helvetica", size=11)
    pdf.add_page()
    towns = (f"The harbour of town {i} was built in {1800 + i}. " + "Ships call there. " * 12 for i in range(8))
    pdf.multi_cell(0, 6, "\n".join(towns))
    pdf.output(tmp_path / "harbours.pdf")

    store = ["--store", str(tmp_path / "S"), "--model", "smollm2", "--json"]
    assert main(["index", str(tmp_path / "harbours.pdf"), "--max-tokens", "128", *store]) == 0
    indexed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert indexed["documents"][0]["document"] == "harbours.pdf"
    ask = ["ask", "When was the harbour of town 7 built?", "--mode", "compare", "--k", "4", "--max-new-tokens", "8"]
    command = [sys.executable, "-c", WITHOUT_NETWORK, *ask, *store]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["block"]["report"]["kv_hits"] == {"disk": 4} and result["block"]["report"]["kv_misses"] == 0
    assert result["ttft_ratio"] > 1 and result["sources"][0]["document"] == "harbours.pdf"


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0 and capsys.readouterr().out == f"blockrag {blockrag.__version__}\n"


def test_serve_starts_the_application_with_its_options(monkeypatch):
    started = []
    monkeypatch.setattr("os.execv", lambda program, argv: started.append(argv))
    main(["serve", "--port", "7000", "--shared"])
    assert (
        started == [[sys.executable, str(ROOT / "app.py"), "--port", "7000", "--shared"]] and (ROOT / "app.py").exists()
    )


def test_serve_says_where_the_application_is(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("blockrag.cli.serve.APP", tmp_path / "app.py")
    assert main(["serve"]) == 1
    assert "Clone the repository" in capsys.readouterr().err


def test_wrong_arguments_are_2(capsys, document, store):
    main(["index", document, "--store", store])
    assert main(["ask", " ", "--store", store]) == 2
    assert "question is ' '; give a text that is not empty" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["ask", "why?", "--store", store, "--speed", "2"])
    assert stopped.value.code == 2 and "unrecognized arguments: --speed 2" in capsys.readouterr().err
