"""The README tells the truth: its code runs, its tree is complete, its commands and fields exist."""

import argparse
import json
import re
from pathlib import Path

import pytest

import app
from blockrag.cli import COMMANDS, _parser
from blockrag.engine import Engine
from blockrag.events import Report
from tests.tiny import tiny_engine

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Engine, "from_pretrained", lambda *args, kv_dir, **kwargs: tiny_engine(kv_dir))
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"folder": tmp_path})
    assert "Answer(" in capsys.readouterr().out


def test_the_tree_names_every_file():
    tree = README[README.index("## The tree") :]
    for path in [*ROOT.glob("blockrag/**/*.py"), *ROOT.glob("ui/*.py")]:
        if path.name != "__init__.py":
            assert re.search(rf"\b{re.escape(path.name)}|\b{path.stem}\b", tree), f"{path} is not in the README's tree"


def test_every_command_parses():
    lines = re.findall(r"^    python -m blockrag (.*)$", README, re.MULTILINE)
    assert {line.split()[0] for line in lines} == set(COMMANDS)
    for line in lines:
        words = [a or b for a, b in re.findall(r'"([^"]*)"|(\S+)', line.split("  #")[0].split(" && ")[0])]
        _parser().parse_args(words)


def test_every_field_of_a_report_is_described():
    for field in Report.__dataclass_fields__:
        assert f"`{field}`" in README, field


def test_flags_of_the_application_are_as_the_readme_says():
    with pytest.raises(SystemExit):
        app.parse(["--nothing"])
    args = app.parse(["--port", "1", "--data-dir", "x"])
    assert isinstance(args, argparse.Namespace) and args.port == 1 and args.model == "smollm2"
    for flag in re.findall(r"`(--kv-[a-z-]+)`", README):
        assert hasattr(args, flag.removeprefix("--").replace("-", "_"))


@pytest.mark.parametrize("column, model", [(0, "llama-3.1-8b"), (1, "qwen3-4b")])
def test_figures_are_those_of_the_results(column, model):
    rows = json.loads((ROOT / "benchmarks" / "results" / f"ttft-{model}.json").read_text())["rows"]
    assert len(rows) == 6
    for row in rows:
        n = row["context"]
        (line,) = re.findall(rf"^\| {f'{n // 1024}K' if n >= 1024 else n} \|.*$", README, re.MULTILINE)
        full, block, sooner, floor = [cell.strip(" *×") for cell in line.strip("|").split("|")[1:]][4 * column :][:4]
        assert full == f"{row['full_ms']:,.0f}" and block == f"{row['block_ms']:.1f}"
        assert float(sooner) == pytest.approx(row["ratio"], abs=0.5) and floor == f"{row['times_floor']:.2f}"
