"""The commands of distillation, from rows to an adapter that answers; synthetic questions; metrics of answers."""

import argparse
import importlib
import json
import os
import random
import re
import runpy
import shlex
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blockrag.cli import main as blockrag
from blockrag.engine import Engine
from blockrag.kv.memory import MemoryTier
from blockrag.kv.tiered import TieredKV
from blockrag.models.adapter import Change, load_adapter
from blockrag.models.load import load_answer_model, load_tokenizer
from blockrag.prompt import Prompt
from tests.processes import start
from tests.tiny import WordEmbedder, tiny_model, tiny_tokenizer
from training.cli import commit
from training.distill import adapt, selfmade
from training.distill.__main__ import COMMANDS as distill_commands
from training.distill.__main__ import main as distill
from training.distill.config import DataConfig
from training.distill.convert import truncate_rank
from training.distill.drafts import Draft
from training.distill.examples import Tokeniser, load, load_all, save
from training.distill.tasks import NO_ANSWER, TASKS, Passage, QAPair, make_question, make_unanswerable
from training.evaluate.__main__ import main as evaluate
from training.evaluate.metrics import contains, exact, f1, ratio_interval

ROOT = Path(__file__).parents[2]
NAMES = "Ada Boyle Curie Dirac Euler Fermi Gauss Hooke".split()

TALK = "\n".join(
    f"{name}: We met in {1900 + 7 * i} and spoke of {subject} for a long while, said nobody else in the room."
    for i, (name, subject) in enumerate(zip(NAMES, "tides looms ferries orchards".split() * 2, strict=True))
)
SECTIONS = [
    Passage(
        "# Tides\nThe harbour of Northwick was closed in 1987 after the storm broke the eastern wall of it.", "# Tides"
    ),
    Passage(
        "# Looms\nIn Eastbridge they wove cloth for seventeen years before the thoroughfare was laid there.", "# Looms"
    ),
    Passage(TALK),
]


def write_rows(folder: Path) -> tuple[Path, Path]:
    """Write a file of questions (who lives where) and one of documents in two sections."""
    towns = "Rome Oslo Bern Riga Kyiv Lima Doha Male".split()
    questions, texts = [], []
    for i, split in enumerate(["train"] * 12 + ["test"] * 3):
        draw = random.Random(i)
        pairs = list(zip(draw.sample(NAMES, 4), draw.sample(towns, 4), strict=True))
        documents = [{"title": n, "text": f"{n} lives in {t}.", "is_gold": not k} for k, (n, t) in enumerate(pairs)]
        row = {"id": str(i), "question": f"Where does {pairs[0][0]} live?", "answers": [pairs[0][1]]}
        questions.append({**row, "documents": documents, "source": "s", "licence": "x", "split": split, "meta": {}})
        text = f"# One\n\n{SECTIONS[0].text}\n\n# Two\n\n{TALK}\n"
        second = text.index("# Two")
        row = {"id": str(i), "category": "news", "source": "s", "licence": "x", "split": split, "text": text}
        spans = [[0, 5], [second, second + 5]]
        texts.append({**row, "boundaries": [{"char": 0, "level": 1}, {"char": second, "level": 1}], "headings": spans})
    paths = folder / "towns.jsonl", folder / "texts.jsonl"
    for path, rows in zip(paths, (questions, texts), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a tiny base, its examples, a teacher and a student."""
    folder = tmp_path_factory.mktemp("distill")
    before = os.environ.get("BLOCKRAG_HOME")
    os.environ["BLOCKRAG_HOME"] = str(folder / "home")
    model = tiny_model(tokenizer=tiny_tokenizer())
    model.network.save_pretrained(folder / "base")
    model.tokenizer.save_pretrained(folder / "base")
    questions, texts = write_rows(folder)
    base = ["--model", str(folder / "base")]
    data = ["--qa", str(questions), "--seg", str(texts), "--out", str(folder / "examples.safetensors")]
    distill(["prepare", *base, *data, "--n", "24", "--max-tokens", "200", "--workers", "1"])
    run = [*base, "--data", str(folder / "examples.safetensors"), "--device", "cpu", "--examples", "4", "--rank", "4"]
    distill(["teacher", *run, "--out", str(folder / "teacher"), "--steps", "12", "--lr", "5e-3"])
    student = ["student", *run, "--teacher", str(folder / "teacher"), "--out", str(folder / "student")]
    distill([*student, "--steps", "12", "--lr", "5e-3", "--n-sinks", "2"])
    yield folder
    os.environ.pop("BLOCKRAG_HOME")
    if before is not None:
        os.environ["BLOCKRAG_HOME"] = before


def test_examples_are_the_tokens_of_serving(trained):
    tokenizer = load_tokenizer(str(trained / "base"))
    tokeniser, prompt = Tokeniser(tokenizer, DataConfig()), Prompt(tokenizer)
    draft = Draft(
        ["One block. ", "Another."], [QAPair("Who?", "Ada", "question"), QAPair("When?", "In 1907", "x")], "s"
    )
    example = tokeniser.example(draft)
    assert [ids.tolist() for ids in example.blocks] == [prompt.block_ids(text) for text in draft.blocks]
    assert example.turns[0][0].tolist() == prompt.final_ids("Who?")
    assert example.turns[0][1].tolist()[-1] == tokenizer.eos_token_id
    whole = [token for turn in example.turns for ids in turn for token in ids]
    messages = [("user", "Who?"), ("assistant", "Ada"), ("user", "Question: When?"), ("assistant", "In 1907")]
    turns = [{"role": role, "content": text} for role, text in messages]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False).split("Who?")[1].removesuffix("<s>assistant: ")
    assert tokenizer.decode(whole).split("Who?")[1] == rendered


def test_the_file_of_examples_is_the_same_for_any_number_of_processes(trained):
    again = trained / "again.safetensors"
    rows = ["--qa", str(trained / "towns.jsonl"), "--seg", str(trained / "texts.jsonl"), "--out", str(again)]
    distill(["prepare", "--model", str(trained / "base"), *rows, "--n", "24", "--max-tokens", "200", "--workers", "2"])
    assert again.read_bytes() == (trained / "examples.safetensors").read_bytes()
    found = load(again)
    assert (
        len(found.items) == 24 and found.provenance["counts"]["towns"] > 0 and found.provenance["counts"]["texts"] > 0
    )


def test_the_student_leaves_the_teacher_as_it_was(trained):
    teacher, student = load_adapter(trained / "teacher"), load_adapter(trained / "student")
    assert teacher.full_format == student.full_format and not teacher.student and student.student
    full = load_answer_model(str(trained / "base"), adapter=student).full
    alone = load_answer_model(str(trained / "base"), adapter=teacher).full
    for name, tensor in full.network.state_dict().items():
        assert torch.equal(tensor, alone.network.state_dict()[name]), name
    assert student.about["student"]["settings"]["n_sinks"] == 2 and "commit" in student.about["teacher"]


def test_the_published_model_can_be_the_teacher(trained, tmp_path):
    """Without --teacher full mode equals the base bit for bit, and the adapter records block mode's divergence from it."""
    examples = str(trained / "examples.safetensors")
    run = ["--model", str(trained / "base"), "--data", examples, "--held-out", examples, "--device", "cpu"]
    distill(["student", *run, "--out", str(tmp_path / "out"), "--steps", "3", "--examples", "2", "--rank", "2"])
    adapter = load_adapter(tmp_path / "out")
    assert not adapter.teacher and adapter.student
    adapted = load_answer_model(str(trained / "base"), adapter=adapter)
    published = load_answer_model(str(trained / "base"), adapter=None).network.state_dict()
    for name, tensor in adapted.full.network.state_dict().items():
        assert torch.equal(tensor, published[name]), name
    found = adapter.about["student"]["held_out"]
    assert set(found) == {"block_answer", "block_question", "naive_answer", "naive_question"}
    assert all(value > 0 for value in found.values())


def test_a_run_ends_within_its_minutes_with_its_schedule_complete(trained, tmp_path):
    run = ["--model", str(trained / "base"), "--data", str(trained / "examples.safetensors"), "--device", "cpu"]
    flags = [
        "--steps",
        "100000",
        "--minutes",
        "0.05",
        "--warmup",
        "0",
        "--examples",
        "2",
        "--rank",
        "2",
        "--lr",
        "1e-3",
    ]
    distill(["student", *run, "--out", str(tmp_path / "out"), *flags])
    last = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] < 10000 and last["lr"] == pytest.approx(0.05 * 1e-3)


def test_a_run_starts_from_an_adapter(trained, tmp_path):
    run = ["student", "--model", str(trained / "base"), "--data", str(trained / "examples.safetensors")]
    run += ["--teacher", str(trained / "teacher"), "--device", "cpu", "--out", str(tmp_path / "out")]
    short = ["--steps", "1", "--lr", "1e-12", "--examples", "2", "--start", str(trained / "small-start")]
    distill(["shrink", "--adapter", str(trained / "student"), "--out", str(trained / "small-start")])
    start = load_adapter(trained / "small-start")
    rank = len(next(iter(start.student.values())).down)
    distill([*run, *short, "--rank", str(rank + 2), "--alpha", "7"])
    found = load_adapter(tmp_path / "out")
    for name, change in start.student.items():
        up, down = (matrix.float() for matrix in found.student[name])
        torch.testing.assert_close(up @ down, change.up.float() @ change.down.float(), rtol=0.02, atol=2e-3)
        torch.testing.assert_close(down[:rank].norm(dim=1), torch.ones(rank), rtol=0.02, atol=0)
    assert found.about["student"]["start"]["student"]["settings"] == start.about["student"]["settings"]
    with pytest.raises(ValueError, match="Raise --rank"):
        distill([*run, *short, "--rank", "1"])


def test_a_lora_is_imported(trained, tmp_path):
    base, folders = ["--model", str(trained / "base")], [str(tmp_path / name) for name in ("lora", "again")]
    merge = ["merge", "--lora", *base, "--adapter", str(trained / "student"), "--mode", "full"]
    assert blockrag([*merge, "--out", folders[0]]) == 0
    distill(["import", "--peft", folders[0], *base, "--out", folders[1], "--no-prefix-visible"])
    before, after = load_adapter(trained / "student"), load_adapter(tmp_path / "again")
    assert after.teacher.keys() == before.teacher.keys() and not after.student and not after.prefix_visible
    for name, change in before.teacher.items():
        up, down = (matrix.float() for matrix in after.teacher[name])
        torch.testing.assert_close(up @ down, change.up.float() @ change.down.float(), rtol=0.02, atol=2e-3)


def test_a_step_that_does_not_fit_names_the_settings_to_change(trained, tmp_path, monkeypatch):
    def fit(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("training.distill.stages.fit", fit)
    run = ["student", "--model", str(trained / "base"), "--data", str(trained / "examples.safetensors")]
    with pytest.raises(MemoryError, match=r"lower --pack-tokens \(49152; .*raise --checkpointing"):
        distill([*run, "--device", "cpu", "--out", str(tmp_path / "out")])


def test_examples_need_a_tokenizer_and_no_weights(trained, tmp_path):
    load_tokenizer(str(trained / "base")).save_pretrained(tmp_path / "tokenizer")
    for name in ("base", "tokenizer"):
        folder = trained if name == "base" else tmp_path
        data = ["--model", str(folder / name), "--qa", str(trained / "towns.jsonl"), "--n", "4", "--workers", "1"]
        distill(["prepare", *data, "--out", str(tmp_path / f"{name}.safetensors")])
    whole, alone = (load(tmp_path / f"{name}.safetensors") for name in ("base", "tokenizer"))
    assert [item.n_tokens for item in whole.items] == [item.n_tokens for item in alone.items]


def test_self_made_conversations_become_examples(trained, tmp_path):
    turns = [
        {"question": "Who?", "answer": "Ada", "kind": "fact", "complete": True},
        {"question": "Why?", "answer": "Because", "kind": "explain", "complete": False},
    ]
    line = {"index": 0, "source": "towns", "blocks": ["Ada built it.", "It stood."], "turns": turns}
    (tmp_path / "made.jsonl").write_text(json.dumps(line) + "\n")
    made = tmp_path / "made.safetensors"
    base = ["--model", str(trained / "base"), "--workers", "1"]
    distill(["prepare", *base, "--made", str(tmp_path / "made.jsonl"), "--out", str(made)])
    both = load_all([trained / "examples.safetensors", made])
    assert len(both.items) == 25 and len(both.items[-1].blocks) == 2
    end = load_tokenizer(str(trained / "base")).eos_token_id
    (_, first), (_, second) = both.items[-1].turns
    assert first[-1] == end and second[-1] != end, "an answer that was cut off has no end"
    other = replace(load(made), prefix=np.array([1, 2], np.int32))
    save(other, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="different prefixes"):
        load_all([made, tmp_path / "other.safetensors"])


def test_an_adapter_for_ones_own_model_is_one_command(tmp_path, monkeypatch):
    base = tiny_model(tokenizer=tiny_tokenizer())
    base.network.generation_config.eos_token_id = list(range(2, 80))  # so that random weights end their answers
    base.network.save_pretrained(tmp_path / "base")
    base.tokenizer.save_pretrained(tmp_path / "base")
    monkeypatch.setattr(
        selfmade, "extract_question", lambda output: "When was the mill built?"
    )  # random weights write no questions
    folder = tmp_path / "documents"
    folder.mkdir()
    for i in range(3):
        text = "".join(
            f"Mill {i} was built in year {100 * i + j}. Its miller was called {NAMES[j % 8]}.\n\n" for j in range(40)
        )
        (folder / f"mill{i}.md").write_text(text)
    (folder / "short.txt").write_text("Too short.")
    (folder / "bad.pdf").write_bytes(b"%PDF-1.4 nothing")
    flags = ["--model", str(tmp_path / "base"), "--documents", str(folder), "--out", str(tmp_path / "adapter")]
    small = ["--minutes", "0.02", "--conversations", "8", "--max-tokens", "600", "--examples", "2", "--rank", "2"]
    result = adapt.run(parsed(adapt, [*flags, *small, "--device", "cpu"]))
    assert load_adapter(tmp_path / "adapter").student and len(result["left_out"]) == 2
    assert any("short.txt: it has 10 characters" in reason for reason in result["left_out"])
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert card.startswith("---\nbase_model:") and f"{result['held_out']['block_answer']:.3f}" in card
    with pytest.raises(ValueError, match="holds 0 usable documents"):
        adapt.run(parsed(adapt, ["--model", "x", "--documents", str(tmp_path / "none"), "--out", str(tmp_path / "o")]))


def test_the_readmes_commands_parse():
    text = (ROOT / "training" / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ {4,}python -m training\.(distill|evaluate) (\S+) ?(.*)$", text, re.MULTILINE)
    assert {name for package, name, _ in lines if package == "distill"} >= {"adapt", "selfmade", "prepare", "student"}
    for package, name, flags in lines:
        if package == "distill":
            add_arguments = distill_commands[name][1]
        else:
            add_arguments = importlib.import_module(f"training.evaluate.{name}").add_flags
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        parser.add_argument("--json", type=Path)
        parser.parse_args(shlex.split(flags, comments=True))


def parsed(module, flags: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return parser.parse_args(flags)


def test_results_outside_of_a_checkout_name_the_release(monkeypatch):
    monkeypatch.delenv("BLOCKRAG_COMMIT", raising=False)
    monkeypatch.setattr(subprocess, "run", raise_no_checkout)
    assert commit().startswith("unknown (release ")


def raise_no_checkout(command: list[str], **_: object) -> None:
    raise subprocess.CalledProcessError(128, command)


def test_a_teacher_may_learn_both_modes(trained, tmp_path):
    flags = ["--model", str(trained / "base"), "--data", str(trained / "examples.safetensors"), "--device", "cpu"]
    run = ["teacher", *flags, "--out", str(tmp_path / "both"), "--steps", "2", "--examples", "2", "--rank", "2"]
    distill([*run, "--objective", "finetune-both", "--agreement", "1"])
    both = load_adapter(tmp_path / "both")
    assert both.teacher and not both.student and both.prefix_visible and "student" not in both.about
    log = [json.loads(line) for line in (tmp_path / "both" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["divergence_answer"] > 0 and log[-1]["nll_answer"] > 0
    near = ["--objective", "distill-both", "--agreement", "1", "--start", str(tmp_path / "both")]
    distill([*run, *near, "--held-out", str(trained / "examples.safetensors"), "--out", str(tmp_path / "near")])
    held_out = load_adapter(tmp_path / "near").about["teacher"]["held_out"]
    assert {"block_answer", "naive_answer", "kept_answer", "kept_question"} <= held_out.keys()
    assert held_out["kept_answer"] > 0 and load_adapter(tmp_path / "near").teacher
    for wrong in (["--objective", "distill"], ["--objective", "finetune"], ["--sinks", "learned"]):
        with pytest.raises(ValueError, match="a teacher"):
            distill([*run, *wrong])


def test_a_shrunk_adapter_says_what_was_measured_of_it(trained, tmp_path):
    scores = {"data": "towns", "mode": "block", "n": 2, "contains": 0.5, "exact": 0.5, "f1": 0.5, "nll": 1.0, "kl": 0.1}
    (tmp_path / "dev.json").write_text(json.dumps({"split": "dev", "rows": [{**scores, "f1_low": 0.1}]}))
    flags = ["--adapter", str(trained / "student"), "--out", str(tmp_path / "small")]
    distill(["shrink", *flags, "--results", str(tmp_path / "dev.json")])
    small, large = load_adapter(tmp_path / "small"), load_adapter(trained / "student")
    assert small.about == {**large.about, "metrics": [{"split": "dev", **scores}]}
    assert small.student.keys() == large.student.keys() and small.prefix_visible == large.prefix_visible


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_a_lower_rank_is_the_nearest_there_is(rank):
    generator = torch.Generator().manual_seed(rank)
    change = Change(torch.randn(20, 8, generator=generator), torch.randn(8, 12, generator=generator))
    whole, values = change.up @ change.down, torch.linalg.svdvals(change.up @ change.down)
    found = truncate_rank(change, rank)
    assert found.up.shape == (20, rank) and found.down.shape == (rank, 12)
    lost = (whole - found.up @ found.down).norm()
    assert torch.allclose(lost, values[rank:].norm(), atol=1e-3)


def test_another_base_is_refused(trained, tmp_path):
    tiny_model(seed=5).network.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    run = ["--data", str(trained / "examples.safetensors"), "--teacher", str(trained / "teacher")]
    with pytest.raises(ValueError, match="--model"):
        distill(["student", "--model", str(tmp_path), *run, "--out", str(tmp_path / "out"), "--device", "cpu"])


def test_answers_are_evaluated_in_all_modes(trained, capsys):
    out = trained / "qa.json"
    flags = ["--model", str(trained / "base"), "--adapter", str(trained / "student"), "--device", "cpu"]
    evaluate(
        [
            "qa",
            "--data",
            str(trained / "towns.jsonl"),
            *flags,
            "--max-new-tokens",
            "4",
            "--show",
            "1",
            "--json",
            str(out),
        ]
    )
    result = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == result
    rows = {row["mode"]: row for row in result["rows"]}
    assert set(rows) == {"full", "naive", "block"} and all(row["n"] == 3 for row in rows.values())
    assert abs(rows["full"]["kl"]) < 1e-6 < rows["block"]["kl"] and rows["naive"]["kl"] > 1e-6
    assert rows["naive"]["nll"] != rows["block"]["nll"] and rows["full"]["nll_low"] <= rows["full"]["nll"]
    shares = {(each["mode"], each["metric"]) for each in result["of_full"]}
    assert shares == {(mode, metric) for mode in ("naive", "block") for metric in ("contains", "f1")}
    assert [set(each) for each in result["answers"]] == [
        {"data", "id", "question", "answers", "full", "naive", "block"}
    ]
    assert result["adapter"] == str(trained / "student") and {"commit", "base"} <= set(result)
    assert result["by_passages"][0]["n_passages"] == 4


@pytest.mark.parametrize("rows", [2, 8])
def test_answers_decoded_together_are_those_decoded_alone(trained, rows):
    flags = ["--model", str(trained / "base"), "--adapter", str(trained / "student"), "--device", "cpu"]
    data = ["--data", str(trained / "towns.jsonl"), "--max-new-tokens", "4", "--show", "3"]
    found = {}
    for each in (0, rows):
        evaluate(["qa", *data, *flags, "--rows", str(each), "--json", str(trained / f"rows-{each}.json")])
        found[each] = json.loads((trained / f"rows-{each}.json").read_text())
    assert found[0]["answers"] == found[rows]["answers"] and found[0]["rows"] == found[rows]["rows"]
    agreement = {row["mode"]: row["agreement"] for row in found[0]["rows"]}
    assert agreement["full"] == 1 and agreement["block"] <= 1


def test_long_text_is_evaluated_by_the_distance_from_a_boundary(trained):
    out = trained / "long.json"
    flags = ["--model", str(trained / "base"), "--adapter", str(trained / "student"), "--device", "cpu"]
    sizes = ["--block-tokens", "16", "128", "--max-tokens", "400", "--limit", "2"]
    evaluate(["perplexity", "--data", str(trained / "texts.jsonl"), *flags, *sizes, "--json", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert {row["position"] for row in rows} >= {"1-15", "16-63"} and {row["category"] for row in rows} == {"news"}
    assert all(row["kl"] < 1e-5 for row in rows if row["mode"] == "full")
    assert all(row["kl"] > 1e-5 for row in rows if row["mode"] != "full")
    picture, points = trained / "curve.png", trained / "curve.json"
    evaluate(["curve", "--data", str(out), "--out", str(picture), "--json", str(points)])
    (point,) = json.loads(points.read_text())["rows"]
    of_block = [row for row in rows if row["mode"] == "block"]
    mean = sum(row["kl"] * row["n_tokens"] for row in of_block) / sum(row["n_tokens"] for row in of_block)
    assert point["modes"]["block"]["kl"] == pytest.approx(mean) and picture.read_bytes().startswith(b"\x89PNG")


def learn(tell, rank: int, environment: dict[str, str], command: list[str]) -> None:
    """One of two processes, as torchrun starts them."""
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    distill(command)


@pytest.mark.timeout(240)
def test_two_processes_learn_what_one_does(trained, tmp_path):
    """Each gets half of the examples; gradients are summed."""
    run = ["--model", str(trained / "base"), "--data", str(trained / "examples.safetensors"), "--device", "cpu"]
    student = ["student", *run, "--teacher", str(trained / "teacher"), "--examples", "4", "--rank", "4", "--steps", "3"]
    distill([*student, "--out", str(tmp_path / "one")])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "BLOCKRAG_HOME": os.environ["BLOCKRAG_HOME"]}
    running = [start(learn, rank, environment, [*student, "--out", str(tmp_path / "two")])[0] for rank in range(2)]
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0, 0]
    logs = [json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[-1]) for name in ("one", "two")]
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=1e-4)
    assert logs[0]["grad_norm"] == pytest.approx(logs[1]["grad_norm"], rel=1e-3)
    assert json.loads((tmp_path / "two" / "adapter.json").read_text())["about"]["student"]["n_processes"] == 2


# tasks


def test_answers_of_built_questions_stand_in_the_blocks():
    text = "\n".join(passage.text for passage in SECTIONS)
    made = {}
    for seed in range(300):
        pair = make_question(SECTIONS, random.Random(seed))
        assert pair.answer in text, pair
        made.setdefault(pair.task, pair)
    assert set(made) == {"go on", "find the section", "who said it", "fill the gap"}
    gap = made["fill the gap"]
    assert gap.answer not in gap.question and text.count(gap.answer) == 1


def test_shares_are_of_the_same_questions():
    share, low, high = ratio_interval([1.0, 0.0, 1.0, 0.5] * 9, [1.0, 0.5, 1.0, 0.5] * 9)
    assert share == pytest.approx(2.5 / 3) and low < share < high <= 1.0
    assert ratio_interval([1.0], [0.0]) == (None, None, None)


def test_the_same_chance_asks_the_same():
    assert [make_question(SECTIONS, random.Random(7)) for _ in range(2)] == [
        make_question(SECTIONS, random.Random(7))
    ] * 2


def test_unanswerable_questions_are_about_another_text():
    pair = make_unanswerable(SECTIONS[:1], SECTIONS[1:], random.Random(0))
    assert pair.answer == NO_ANSWER and pair.task == "unanswerable"
    assert make_unanswerable(SECTIONS, SECTIONS, random.Random(0)) is None


def test_an_unsuitable_text_gives_no_question():
    assert all(task([Passage("Too short.")], random.Random(0)) is None for task in TASKS)


# answers


def test_answers_are_compared_as_words():
    assert contains("It was the Rome of old.", ["rome"]) and not contains("Romeo", ["Rome"])
    assert exact("The Rome!", ["rome"]) and not exact("in Rome", ["rome"])
    assert f1("in Rome", ["Rome"]) == pytest.approx(2 / 3) and f1("Oslo", ["Rome"]) == 0


def test_the_example_trains_answers_and_merges(trained, tmp_path, monkeypatch, capsys):
    def open_tiny(model: str, *, adapter: str, **settings) -> Engine:
        loaded = load_answer_model(model, adapter=load_adapter(Path(adapter)))
        return Engine(loaded, WordEmbedder(), TieredKV([MemoryTier(1 << 26)]))

    monkeypatch.setattr(Engine, "from_pretrained", open_tiny)
    flags = f"--out {tmp_path / 'out'} --model {trained / 'base'} --examples 6 --steps 2 --max-tokens 200"
    monkeypatch.setattr(sys, "argv", ["train_adapter.py", str(trained / "towns.jsonl"), *flags.split()])
    runpy.run_path(str(ROOT / "examples" / "train_adapter.py"), run_name="__main__")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert load_adapter(Path(result["adapter"])).student
    assert (Path(result["merged"]) / "block_format.json").exists() and isinstance(result["answer"], str)
