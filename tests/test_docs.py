"""The documentation tells the truth: its code runs, its commands exist, it builds, and no public name is left out."""

import importlib
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import blockrag
from blockrag.cli import _parser
from blockrag.engine import Engine
from tests.tiny import tiny_engine, tiny_tokenizer

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LLAMAINDEX = importlib.util.find_spec("llama_index") is not None


def blocks_of(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


# what application.md shows runs in tests/ui/test_app.py, where there is a page to call
WITH_CODE = [p for p in PAGES if blocks_of(p, "python") and p.stem != "application"]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """In the order of the page, on tiny models in place of those that are fetched."""
    code = "\n".join(blocks_of(page, "python"))
    if "llama_index.vector_stores.qdrant" in code:
        pytest.importorskip("llama_index.vector_stores.qdrant", reason="llama-index-vector-stores-qdrant is absent")
    monkeypatch.setattr(Engine, "from_pretrained", lambda *args, kv_dir=None, **settings: tiny_engine(kv_dir))
    monkeypatch.setattr("blockrag.models.load.load_tokenizer", lambda name: tiny_tokenizer())
    monkeypatch.chdir(ROOT)
    exec(compile(code, str(page), "exec"), {"folder": tmp_path, "__name__": "guide"})


def test_commands_exist():
    for page in PAGES:
        for line in "".join(blocks_of(page, "bash")).splitlines():
            words = shlex.split(line)
            if words[:3] == ["python", "-m", "blockrag"]:
                _parser().parse_args(words[3:])
            else:
                assert words[:2] == ["pip", "install"], line
                extras = re.findall(r"\[(.*?)\]", line)
                project = (ROOT / "pyproject.toml").read_text()
                assert all(f"\n{extra} = [" in project for group in extras for extra in group.split(",")), line


def test_scripts_that_are_named_exist():
    for page in [*PAGES, ROOT / "examples" / "README.md"]:
        for name in re.findall(r"\b((?:examples|tests|blockrag)/[\w/]+\.py)\b", page.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{page.name} names {name}"


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


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="MkDocs is not installed")
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "site" / "guides" / "llamaindex" / "index.html").is_file()
