"""Direction of imports, imports without side effects, and requirements."""

import ast
import hashlib
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import blockrag

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "blockrag": {"blockrag"},
    "storage": {"blockrag", "storage"},
    "ui": {"blockrag", "storage", "ui"},
    "training": {"blockrag", "training"},
    "benchmarks": {"blockrag", "benchmarks"},
}
GRADIO = (
    "api.py",
    "page.py",
    "server.py",
    "session.py",
    "*_tab.py",
    "*_panel.py",
    "components/view.py",
    "inputs.py",
    "pending.py",
)
"""Files of ui/ that may import gradio."""

OWN = {*ALLOWED, "app", "tests"}
HELPERS = {path.stem for path in (ROOT / "tests").rglob("*.py")} - {"__init__"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("package", [name for name in ALLOWED if (ROOT / name).is_dir()])
def test_imports_point_one_way(package):
    for path in (ROOT / package).rglob("*.py"):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not (roots & OWN) - ALLOWED[package], f"{path.relative_to(ROOT)} imports what stands above it"
        if package == "blockrag":
            assert not roots & {"gradio", "sqlalchemy"}, path


def test_no_test_imports_another():
    for path in (ROOT / "tests").rglob("*.py"):
        for name in imports(path):
            assert not any(part.startswith("test_") for part in name.split(".")), f"{path.relative_to(ROOT)}: {name}"
            assert name.split(".")[0] not in HELPERS, f"{path.relative_to(ROOT)} imports {name} by its bare name"


def test_gradio_stays_in_the_files_of_the_page():
    page = {path for pattern in GRADIO for path in (ROOT / "ui").glob(pattern)}
    for path in {*(ROOT / "ui").rglob("*.py")} - page:
        assert not any(name.startswith("gradio") for name in imports(path)), path


def modules(package: str) -> dict[str, set[str]]:
    """Return the modules of a package and which of them each imports, also for types only."""
    paths = [path for path in (ROOT / package).rglob("*.py") if path.stem != "__init__"]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    return {
        name: {
            f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in names else str(node.module)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        & names.keys()
        for name, path in names.items()
    }


def test_no_import_ring_inside_ui():
    left = modules("ui")
    assert "ui.collection_service" in left["ui.session"]
    while leaves := {name for name, imported in left.items() if not imported & left.keys()}:
        left = {name: imported for name, imported in left.items() if name not in leaves}
    assert not left, f"these modules import one another in a ring, or import from one: {sorted(left)}"


def test_importing_blockrag_loads_no_model_library():
    code = (
        "import sys, blockrag, blockrag.documents, blockrag.segment, blockrag.models\n"
        "heavy = {'torch', 'transformers', 'faiss', 'gradio', 'sentence_transformers', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_importing_the_application_does_nothing():
    code = "import sys, app; assert not {'torch', 'gradio'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.slow
def test_the_application_tells_what_keeps_it_from_starting(monkeypatch):
    monkeypatch.setattr("ui.malloc.limit_arenas", lambda: True)  # it would hold for all tests of this process
    monkeypatch.setattr(sys, "argv", ["app.py", "--model", "nonsense"])
    with pytest.raises(SystemExit, match="^blockrag: there is no model 'nonsense'; give one of .*smollm2"):
        runpy.run_path(str(ROOT / "app.py"), run_name="__main__")


def test_every_public_name_can_be_had():
    for name in blockrag.__all__:
        assert getattr(blockrag, name).__module__.startswith("blockrag")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        blockrag.nothing  # noqa: B018


def test_requirements_agree_with_the_project():
    text = (ROOT / "pyproject.toml").read_text()
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    gpu = (ROOT / "requirements-gpu.txt").read_text().splitlines()
    for line in lines:
        if line and not line.startswith(("#", "torch==", "gradio", "sqlalchemy", "alembic")):
            assert f'"{line}"' in text, f"{line} is not in pyproject.toml"
            assert line in gpu or line.startswith("faiss-cpu"), f"{line} is not in requirements-gpu.txt"


def test_every_public_name_is_there():
    for name in blockrag.__all__:
        getattr(blockrag, name)


def test_the_hashes_of_the_shipped_weights_are_those_of_the_files():
    listed = dict(line.split()[::-1] for line in (ROOT / "SHA256SUMS").read_text().splitlines())
    shipped = [path for path in (ROOT / "blockrag").rglob("*.safetensors") if "shipped" in path.parts]
    assert listed == {str(p.relative_to(ROOT)): hashlib.sha256(p.read_bytes()).hexdigest() for p in shipped}


def test_one_version_everywhere():
    version, minor = blockrag.__version__, ".".join(blockrag.__version__.split(".")[:2])
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == version
    for path in ROOT.glob("integrations/*/pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        assert project["version"] == version and any(f">={minor}," in each for each in project["dependencies"]), path
