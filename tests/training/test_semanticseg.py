"""Construction of the data set: sources, annotators, filters, lengths, reproducible bytes."""

import json
import os
import subprocess
from dataclasses import asdict, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from training.corpus import SPLITS, check
from training.semanticseg import build, language_model, pieces, structure
from training.semanticseg.agreement import agreement
from training.semanticseg.build import assign_split
from training.semanticseg.config import BuildConfig, Filters, LanguageModel, Pass, Source, load_config
from training.semanticseg.duplicates import find_duplicates, signature
from training.semanticseg.engines import ENGINES
from training.semanticseg.filters import refuse_document, refuse_instance
from training.semanticseg.language_model import UnusableAnswerError, parse
from training.semanticseg.sources import expand, read_source


class CharCounter:
    """A token every four characters, so that no tokenizer is needed."""

    def starts(self, text):
        return np.arange(0, len(text), 4)

    def count(self, text):
        return -(-len(text) // 4)


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    monkeypatch.setattr(pieces, "counter", lambda name: CharCounter())


def row(text="", boundaries=((0, 1),), headings=(), **fields):
    marks = [{"char": char, "level": level} for char, level in boundaries]
    known = {"id": "a", "category": "news", "source": "s", "licence": "CC0-1.0", "split": "train"}
    made = {"dataset": "s", "parent": "a", "short": False, "headings": [list(span) for span in headings]}
    return {**known, **made, "text": text, "boundaries": marks, **fields}


def article(n, words="The tide comes in twice a day and nobody waits for it. "):
    """Numbered sections with headings, and their offsets."""
    text, boundaries, headings = "", [], []
    for i in range(n):
        boundaries.append((len(text), 1 if i % 3 == 0 else 2))
        title = f"## Part {i}"
        headings.append((len(text), len(text) + len(title)))
        text += f"{title}\n\n{words * 4}{i}.\n\n"
    return text, boundaries, headings


# sources and configuration


def test_every_file_of_a_folder_becomes_a_row_and_a_bad_one_is_reported(tmp_path):
    (tmp_path / "a.md").write_text("# One\n\nText.\n")
    (tmp_path / "b.pdf").write_text("no")
    refused = []
    source = Source("docs", "folder", ".", "web text", "CC0-1.0", "structure")
    ((name, path),) = expand(source, tmp_path)
    rows = list(read_source(source, name, path, lambda *why: refused.append(why)))
    assert [(r["id"], r["category"], r["licence"], r["split"]) for r in rows] == [("a.md", "web text", "CC0-1.0", "")]
    assert [name for name, _ in refused] == ["b.pdf"]


def test_a_checkout_is_read_like_a_folder(tmp_path):
    (tmp_path / "a.md").write_text("# One\n\nText.\n")
    as_somebody = ["-c", "user.name=n", "-c", "user.email=e@x"]
    for command in (["init", "-q"], ["add", "."], [*as_somebody, "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    source = Source("docs", "git", tmp_path.as_uri(), annotator="structure")
    ((name, path),) = expand(source, tmp_path)
    assert [r["text"] for r in read_source(source, name, path, lambda *why: None)] == ["# One\n\nText.\n"]


def test_passages_come_once_with_their_title_as_heading(tmp_path):
    passages = [{"title": "Tide", "text": "It rises."}, {"title": "Moon", "text": "It shines."}]
    (tmp_path / "qa.jsonl").write_text(2 * (json.dumps({"documents": passages, "split": "train"}) + "\n"))
    source = Source("wiki", "passages", "qa.jsonl", "wikipedia")
    ((name, path),) = expand(source, tmp_path)
    rows = list(read_source(source, name, path, lambda *why: None))
    assert [r["text"] for r in rows] == ["Tide\n\nIt rises.\n\n", "Moon\n\nIt shines.\n\n"]
    assert all(r["short"] and r["text"][slice(*r["headings"][0])] in ("Tide", "Moon") for r in rows)


def test_nothing_at_a_path_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no file at"):
        expand(Source("x", "jsonl", "none*.jsonl"), tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("colour = 1\n[[sources]]\nname='a'\nkind='jsonl'\npath='x'", "colour"),
        ("[[sources]]\nname='a'\nkind='tape'\npath='x'", "Unknown kind 'tape'"),
        ("", "distinct names"),
        ("[[sources]]\nname='a'\nkind='jsonl'\npath='x'\n[[passes]]\nleast=9\nmost=3", "9 to 3"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(tmp_path, text, reason):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ValueError, match=reason):
        load_config(tmp_path / "c.toml")


# annotators


def test_structure_finds_three_levels_and_headings():
    text = "# A\n\nOne.\n\nTwo.\n\n## B\n\nThree.\n\n# C\n\nFour.\n\n## D\n\nFive.\n\nSix.\n"
    found = structure.annotate(row(text, ()))
    levels = {text[b["char"] :].split("\n")[0]: b["level"] for b in found["boundaries"]}
    assert levels == {"# A": 1, "## B": 2, "# C": 1, "## D": 2, "Two.": 3, "Six.": 3}
    assert [text[a:b] for a, b in found["headings"]] == ["# A", "## B", "# C", "## D"]


def test_headings_in_fenced_code_are_none():
    assert structure.find_headings("```\n# no\n```\n\nTitle\n=====\n") == [[14, 25]]


@pytest.mark.parametrize(
    "answer", ["", "{}", '{"boundaries": [{"mark": 9, "level": 1}]}', '{"boundaries": [{"mark": 1, "level": 4}]}']
)
def test_an_unusable_answer_is_refused(answer):
    with pytest.raises(UnusableAnswerError):
        parse(answer, 5)


def test_an_answer_is_asked_for_again_with_what_was_wrong_and_then_kept(monkeypatch, tmp_path):
    monkeypatch.setenv(language_model.CACHE_VARIABLE, str(tmp_path))
    asked = []

    def chat(messages):
        asked.append(list(messages))
        return "no" if len(asked) == 1 else 'Here: {"boundaries": [{"mark": 2, "level": 1}]}'

    text = "One is here. Two is here. Three is here."
    for _ in range(2):
        found = language_model.annotate(row(text, ()), LanguageModel(), chat)
        assert [(text[b["char"] :][:5], b["level"]) for b in found["boundaries"]] == [("One i", 1), ("Three", 1)]
    assert len(asked) == 2, "the second time it was kept"
    assert "no JSON object" in asked[1][-1]["content"]


def test_a_long_text_is_asked_about_in_parts(monkeypatch, tmp_path):
    monkeypatch.setenv(language_model.CACHE_VARIABLE, str(tmp_path))
    text = "".join(f"Sentence {i} is here. " for i in range(10))
    found = language_model.annotate(
        row(text, ()), LanguageModel(candidates=4), lambda _: '{"boundaries": [{"mark": 1, "level": 2}]}'
    )
    starts = [text[b["char"] :][:10] for b in found["boundaries"]]
    assert starts == ["Sentence 0", "Sentence 1", "Sentence 5", "Sentence 9"]


def test_no_usable_answer_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv(language_model.CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(UnusableAnswerError):
        language_model.annotate(row("One is here. Two is here.", ()), LanguageModel(), lambda _: "no")


def test_a_service_that_speaks_openais_protocol_annotates(monkeypatch, tmp_path):
    pytest.importorskip("openai")
    monkeypatch.setenv(language_model.CACHE_VARIABLE, str(tmp_path))

    class Service(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert "<1>Two" in asked["messages"][0]["content"]
            content = '{"boundaries": [{"mark": 1, "level": 3}]}'
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
            body = json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        settings = LanguageModel(endpoint=f"http://127.0.0.1:{server.server_port}/v1", model="m")
        found = language_model.annotate(row("One is here. Two is here.", ()), settings)
    finally:
        server.shutdown()
    assert found["boundaries"][1] == {"char": 13, "level": 3}


def test_annotators_agree_fully_with_themselves_and_hardly_with_chance():
    texts = [row("".join(f"Sentence {i} is here. " for i in range(20)), [(0, 1), (18, 1), (180, 2)])]
    assert agreement({"one": texts, "other": texts}, 2)["kappa"] == pytest.approx(1)
    others = [{**texts[0], "boundaries": [{"char": 54, "level": 1}]}]
    assert agreement({"one": texts, "other": others}, 2)["kappa"] < 0.1
    with pytest.raises(ValueError, match="same texts"):
        agreement({"one": texts, "other": [row("Another.")]}, 1)


# filters, duplicates, splits


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("short", "under 200 characters"),
        (" \n" * 200, "no visible character"),
        ("#$% " * 100, "over 60% symbols"),
        ("The same line comes again and again.\n" * 20, "repeated lines"),
        ("".join(f"Line {i} is like no other line here.\n" for i in range(20)), ""),
    ],
)
def test_a_document_is_left_out_for_a_reason(text, reason):
    assert reason in refuse_document(row(text), Filters()) and bool(reason) == bool(
        refuse_document(row(text), Filters())
    )


def test_an_instance_without_boundaries_or_all_in_one_block_is_left_out():
    assert refuse_instance(row("x" * 1000), Filters()) == "no boundary"
    assert "in one block" in refuse_instance(row("x" * 1000, [(0, 1), (995, 1)]), Filters())
    assert not refuse_instance(row("x" * 1000, [(0, 1), (500, 2)]), Filters())


def test_near_duplicates_are_found_and_test_keeps_its_own():
    base = " ".join(f"word{i}" for i in range(400))
    rows = [row(base), row(base + " one more", split="test"), row(" ".join(f"other{i}" for i in range(400)))]
    assert find_duplicates(rows, [signature(r["text"]) for r in rows], 0.8) == {0: 1}


def test_all_pieces_of_a_parent_are_in_one_split_and_splits_are_of_their_size():
    found = [assign_split(f"parent {i}") for i in range(2000)]
    assert found == [assign_split(f"parent {i}") for i in range(2000)]
    shares = [found.count(split) / 2000 for split in SPLITS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


# pieces


def test_cut_instances_keep_to_their_lengths_and_begin_at_boundaries():
    text, boundaries, headings = article(60)
    document = row(text, boundaries, headings, packed=False)
    found = list(pieces.cut(document, (Pass(200, 600), Pass(200, 100_000)), "any", 0))
    assert {piece["cut"] for piece in found} == {0, 1}
    starts = {char for char, _ in boundaries}
    for piece in found:
        check(piece)
        begin = int(piece["id"].rsplit(".")[-1])
        assert text[begin:].startswith(piece["text"]) and begin in starts
        assert 200 <= len(piece["text"]) / 4 <= (600 if piece["cut"] == 0 else 100_000) + 1
        assert all(piece["text"][b["char"] :].startswith("## Part") for b in piece["boundaries"])
        assert all(piece["text"][a:b].startswith("## Part") for a, b in piece["headings"])
    assert "".join(piece["text"] for piece in found if piece["cut"] == 1) == text


def test_a_block_that_is_too_long_is_left_out_and_cutting_goes_on():
    text, boundaries, headings = article(60)
    long = "It goes on. " * 400
    at = boundaries[30][0]
    later = [(char + len(long) * (char >= at), level) for char, level in boundaries]
    document = row(text[:at] + long + text[at:], [*later[:30], (at, 1), *later[30:]], packed=False)
    found = list(pieces.cut(document, (Pass(200, 600),), "any", 0))
    whole = "".join(piece["text"] for piece in found)
    assert long not in whole and len(whole) > len(text) / 2 and whole.endswith(text[-500:])


def test_packed_texts_put_the_documents_a_level_above_their_own():
    rows = [row(f"Text {i}. More of it.", [(0, 1), (8, 1)], short=True, id=f"{i}", parent=f"{i}") for i in range(5)]
    first, second = pieces.pack(rows, 40)
    assert first["packed"] and first["text"] == "Text 0. More of it.Text 1. More of it.Text 2. More of it."
    assert [(b["char"], b["level"]) for b in first["boundaries"]] == [
        (0, 1),
        (8, 2),
        (19, 1),
        (27, 2),
        (38, 1),
        (46, 2),
    ]
    assert second["text"].startswith("Text 3")


def test_an_instance_with_headings_comes_a_second_time_without():
    text, boundaries, headings = article(4)
    kept, stripped = pieces.variants(row(text, boundaries, headings, n_tokens=9), "any", True)
    assert (kept["variant"], stripped["variant"]) == ("kept", "stripped")
    assert "##" not in stripped["text"] and len(stripped["boundaries"]) == 4
    check(stripped)
    assert [r["variant"] for r in pieces.variants(row("No heading.", n_tokens=2), "any", True)] == ["kept"]


# the whole build


@pytest.fixture
def config(tmp_path):
    lines = []
    for i in range(12):
        text, boundaries, headings = article(40, f"The harbour of town {i} has {i} quays and {i + 3} boats. ")
        made = row(text, boundaries, headings, id=f"d{i}", split=SPLITS[i % 3] if i else "")
        del made["dataset"], made["parent"], made["short"]
        lines.append(json.dumps(made))
    lines.append(lines[1].replace('"d1"', '"copy"'))
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    text = "".join(
        f"# Chapter {i}\n\nIt was a day like no other, said the {i}th of them.\n\nAnd so on.\n\n" for i in range(150)
    )
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "book.md").write_text(text)
    sources = (
        Source("a", "jsonl", "a.jsonl"),
        Source("docs", "folder", "docs", "books", "CC0-1.0", annotator="structure"),
    )
    filters = replace(Filters(), most_repeated=1.0)
    return BuildConfig(sources, tmp_path, (Pass(200, 800),), filters, engine="inline", tokenizer="any")


def test_a_build_twice_gives_the_same_bytes_and_its_card(config, tmp_path, monkeypatch):
    counts = build.build(config, tmp_path / "one", 1)
    build.build(config, tmp_path / "two", 1)
    for name in ("train.parquet", "dev.parquet", "test.parquet", "dropped.jsonl", "README.md", "manifest.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    rows = [r for split in SPLITS for r in pq.read_table(tmp_path / "one" / f"{split}.parquet").to_pylist()]
    assert sum(counts.values()) == len(rows) > 24
    for each in rows:
        check(each)
        assert each["licence"] and each["variant"] in ("kept", "stripped") and not each["packed"]
    assert {r["annotator"] for r in rows} == {"given", "structure"}
    by_parent = {}
    for each in rows:
        assert by_parent.setdefault(each["parent"], each["split"]) == each["split"]
    drops = [json.loads(line) for line in (tmp_path / "one" / "dropped.jsonl").read_text().splitlines()]
    assert any(drop["reason"].startswith("near-duplicate of") for drop in drops)
    card = DatasetCard((tmp_path / "one" / "README.md").read_text())
    assert "| books |" in card.text and card.data.size_categories == ["n<1K"]
    files = {each["split"]: each["path"] for each in card.data.configs[0]["data_files"]}
    assert files == {split: f"{split}.parquet" for split in SPLITS}


def test_an_interrupted_build_resumes(config, tmp_path, monkeypatch):
    build.build(config, tmp_path / "whole", 1)
    with monkeypatch.context() as patch:
        patch.setattr(build, "find_duplicates", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build.build(config, tmp_path / "stopped", 1)
    monkeypatch.setattr(build, "read_source", lambda *_: pytest.fail("this source was read before"))
    build.build(config, tmp_path / "stopped", 1)
    for name in ("train.parquet", "manifest.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_source_that_changed_is_read_again(config, tmp_path):
    build.build(config, tmp_path / "out", 1)
    before = set((tmp_path / "out" / ".stages").iterdir())
    source = next(source for source in config.sources if source.kind == "jsonl")
    path = expand(source, config.folder)[0][1]
    os.utime(path, ns=(0, 0))
    build.build(config, tmp_path / "out", 1)
    assert len(set((tmp_path / "out" / ".stages").iterdir()) - before) == 1


@pytest.mark.parametrize("engine", ["datasets", "ray"])
def test_every_engine_gives_what_one_process_gives(engine):
    pytest.importorskip(engine)
    step = partial(pieces.variants, tokenizer="any", stripped=False)
    rows = [row(f"ü{i}\n", id=str(i)) for i in range(20)]
    assert ENGINES[engine](step, rows, 2, "x") == ENGINES["inline"](step, rows, 1, "x")


def test_the_recipe_can_be_read():
    config = load_config(Path(__file__).parents[2] / "training/recipes/semanticseg.toml")
    assert asdict(config)["passes"][0]["least"] == 2000
