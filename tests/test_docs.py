"""The README and the documentation: code runs, commands parse, tables match their results, the site builds."""

import importlib
import importlib.util
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from functools import wraps
from pathlib import Path

import pytest

import blockrag
from benchmarks import tables
from blockrag.cli import COMMANDS, _parser
from blockrag.engine import Engine
from blockrag.segment import SEGMENTERS
from tests.tiny import tiny_engine, tiny_tokenizer

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
LLAMAINDEX = importlib.util.find_spec("llama_index") is not None


@wraps(Engine.from_pretrained)  # its signature is read when `blockrag.llamaindex` is first imported
def tiny(*args, kv_dir=None, **settings):
    return tiny_engine(kv_dir)


def test_every_promise_of_security_has_its_test():
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8")))
    assert len(named) > 60 and sorted(name for name in named if f"def {name}(" not in tests) == []


def blocks_of(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


# what application.md shows runs in tests/ui/test_app.py, where there is a page to call
WITH_CODE = [p for p in PAGES if blocks_of(p, "python") and p.stem != "application"]
OF_LLAMAINDEX = [p for p in WITH_CODE if any("llama_index" in code for code in blocks_of(p, "python"))]


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] if p in OF_LLAMAINDEX else []) for p in WITH_CODE],
)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """In the order of the page, on tiny models in place of those that are fetched."""
    code = "\n".join(blocks_of(page, "python"))
    if page in OF_LLAMAINDEX:
        pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")
    if "llama_index.vector_stores.qdrant" in code:
        pytest.importorskip("llama_index.vector_stores.qdrant", reason="llama-index-vector-stores-qdrant is absent")
    monkeypatch.setattr(Engine, "from_pretrained", tiny)
    monkeypatch.setattr("blockrag.models.load.load_tokenizer", lambda name: tiny_tokenizer())
    monkeypatch.setitem(SEGMENTERS, "neural", SEGMENTERS["structural"])  # which has tests of its own, and takes longer
    monkeypatch.chdir(ROOT)
    exec(compile(code, str(page), "exec"), {"folder": tmp_path, "__name__": "guide"})


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize("page", [pytest.param(p, id=p.stem) for p in WITH_CODE if blocks_of(p, "text")])
def test_pages_print_what_they_show(page, tmp_path, capsys):
    """With the real model; a page that shows what it prints shows all of it."""
    pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")
    exec(compile("\n".join(blocks_of(page, "python")), str(page), "exec"), {"folder": tmp_path, "__name__": "guide"})
    assert capsys.readouterr().out == "".join(blocks_of(page, "text"))


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    cells = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    installs, *runs = ["".join(cell["source"]) for cell in code]
    extras = re.findall(r"\[(.*?)\]", installs)
    project = (ROOT / "pyproject.toml").read_text()
    assert extras and all(f"\n{extra} = [" in project for group in extras for extra in group.split(","))
    monkeypatch.setattr(Engine, "from_pretrained", tiny)
    monkeypatch.chdir(tmp_path)
    variables: dict[str, object] = {"__name__": "notebook"}
    for cell, source in zip(code[1:], runs, strict=True):
        exec(compile(source, "quickstart.ipynb", "exec"), variables)
        assert bool(capsys.readouterr().out) == bool(cell["outputs"]), "the outputs shown are those of this code"


def test_commands_parse():
    shown = set()
    for page in PAGES:
        indented = re.findall(r"^ {4}(python -m blockrag .*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        for line in [*indented, *"".join(blocks_of(page, "bash")).splitlines()]:
            words = shlex.split(line, comments=True)
            if words[:3] == ["python", "-m", "blockrag"]:
                _parser().parse_args(words[3:])
                shown.add(words[3])
            else:
                assert words[:2] == ["pip", "install"], line
                extras = re.findall(r"\[(.*?)\]", line)
                project = (ROOT / "pyproject.toml").read_text()
                assert all(f"\n{extra} = [" in project for group in extras for extra in group.split(",")), line
    assert shown == set(COMMANDS)


def test_tables_are_those_of_the_results():
    right = tables.PAGE.read_text(encoding="utf-8")
    assert tables.rewrite(right) == right, "run `make tables`"
    damaged = right.replace("| 512 | 22 |", "| 512 | 2 |")
    assert tables.rewrite(damaged) == right != damaged


def test_every_public_name_is_in_the_reference_and_documented():
    reference = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    modules = [blockrag]
    if LLAMAINDEX:
        modules.append(importlib.import_module("blockrag.llamaindex"))
    for module in modules:
        for name in module.__all__:
            public = getattr(module, name)
            home = public.__module__
            assert f"::: {home}.{name}" in reference or f"::: {home}\n" in reference, f"{home}.{name}"
            assert inspect.getdoc(public), name
            for member, value in vars(public).items() if inspect.isclass(public) else ():
                if inspect.isfunction(value) and not member.startswith("_") and value.__module__ == home:
                    assert inspect.getdoc(value), f"{name}.{member}"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="MkDocs is not installed")
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "site" / "guides" / "llamaindex" / "index.html").is_file()
