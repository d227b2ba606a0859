"""Wheel and sdist, built and installed as a stranger would, in an environment where nothing else is.

By default the wheel without the dependencies, which must not be needed to import the package. With
``BLOCKRAG_INSTALL=full`` the wheel with all of them, and a question is answered there, and the sdist; CI does both.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import blockrag

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
FULL = os.environ.get("BLOCKRAG_INSTALL") == "full"
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "build", "dist", "site", "results")

IMPORT = """
import sys, time
start = time.perf_counter()
import blockrag
took = time.perf_counter() - start
heavy = {"torch", "transformers", "faiss", "gradio", "sentence_transformers", "llama_index", "numpy"} & set(sys.modules)
assert not heavy and took < 1, (heavy, took)
from importlib.metadata import entry_points, metadata, version
assert version("blockrag") == blockrag.__version__
assert entry_points(group="console_scripts")["blockrag"].value == "blockrag.cli:main"
extras = set(metadata("blockrag").get_all("Provides-Extra"))
assert {"cpu", "gpu", "documents", "llamaindex", "train", "app", "docs"} <= extras, extras
assert blockrag.__file__.startswith(sys.prefix), blockrag.__file__
"""

ASK = """
from blockrag import BlockRAG, Document
from blockrag.llamaindex import BlockAttentionLLM, BlockRAGRetriever, BlockSynthesizer
from llama_index.core.query_engine import RetrieverQueryEngine
rag = BlockRAG.from_pretrained("smollm2")
rag.index(Document("a.txt", "text/plain", "The river Tiber flows through Rome. " * 10))
answer = rag.ask("Which river flows through Rome?", max_new_tokens=8)
assert answer.text and answer.report.kv_misses == 0, answer
llm = BlockAttentionLLM(rag.engine, max_tokens=8)
response = RetrieverQueryEngine(BlockRAGRetriever(rag), BlockSynthesizer(llm)).query("Which river flows through Rome?")
assert response.response and response.metadata["blockrag"]["kv_misses"] == 0, response.metadata
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel that is made of it."""
    pytest.importorskip("build", reason="build is not installed")
    folder = tmp_path_factory.mktemp("source")
    checkout = folder / "checkout"
    shutil.copytree(ROOT, checkout, ignore=LEFT_OUT)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


def test_the_sdist_holds_what_a_wheel_is_made_of(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "NOTICE",
        "blockrag/py.typed",
        "blockrag/llamaindex/llm.py",
    } <= names
    assert not [name for name in names if name.startswith(("ui", "storage", "training", ".ci"))]


def test_the_wheel_holds_blockrag_alone(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "blockrag").rglob("*.py")}
    shipped = {str(path.relative_to(ROOT)) for path in (ROOT / "blockrag").rglob("shipped/**/*") if path.is_file()}
    assert "blockrag/segment/neural/shipped/model.safetensors" in shipped
    info = f"blockrag-{blockrag.__version__}.dist-info"
    assert {name for name in names if not name.startswith(f"{info}/")} == modules | shipped | {"blockrag/py.typed"}
    assert {f"{info}/licenses/{name}" for name in ("LICENSE", "NOTICE")} <= names


@pytest.mark.parametrize("kind", ["*.whl", *(["*.tar.gz"] if FULL else [])])
@pytest.mark.timeout(1800 if FULL else 240)
def test_it_installs_where_nothing_is(built, kind, tmp_path):
    (package,) = built.glob(kind)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    python = str(tmp_path / "env" / "bin" / "python")
    whole = FULL and kind == "*.whl"
    what = ["torch==2.13.0", f"{package}[cpu,llamaindex]"] if whole else ["--no-deps", str(package)]
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *what], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for code in [IMPORT, *([ASK] if whole else [])]:
        done = subprocess.run([python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert not any((tmp_path / name).exists() for name in ("blockrag", "ui"))
