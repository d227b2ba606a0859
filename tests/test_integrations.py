"""The packages under integrations/ build, hold what they promise, and agree with the library."""

import importlib.util
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import blockrag
import blockrag.llamaindex

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

ROOT = Path(__file__).parent.parent
PACKAGES = sorted(path.parent for path in (ROOT / "integrations").glob("*/pyproject.toml"))
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_builds_and_holds_its_classes(package, tmp_path):
    about = tomllib.loads((package / "pyproject.toml").read_text())
    hub, project = about["tool"]["llamahub"], about["project"]
    source = tmp_path / "source"
    for path in (path for path in package.rglob("*") if path.is_file() and path.suffix in (".py", ".toml", ".md")):
        (source / path.relative_to(package)).parent.mkdir(parents=True, exist_ok=True)
        (source / path.relative_to(package)).write_bytes(path.read_bytes())
    subprocess.run([sys.executable, "-c", BUILD, str(tmp_path)], check=True, cwd=source, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    module = f"{hub['import_path'].replace('.', '/')}/__init__.py"
    held = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")]
    assert held == [module], "no __init__ that would hide LlamaIndex's own packages"
    spec = importlib.util.spec_from_file_location("packed", package / module)
    packed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(packed)
    assert set(packed.__all__) == set(hub["class_authors"]) and all(getattr(packed, name) for name in packed.__all__)
    assert project["name"] == package.name
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["llamaindex"]
    assert set(ours) <= set(project["dependencies"]), "the same LlamaIndex as the library"
    low, high = (part.strip("<>=") for part in project["dependencies"][0].partition("]")[2].split(","))
    version = tuple(map(int, blockrag.__version__.split(".")[:2]))
    assert tuple(map(int, low.split("."))) <= version < tuple(map(int, high.split(".")))


def test_every_class_for_llamaindex_is_in_a_package():
    names = {
        name
        for package in PACKAGES
        for name in tomllib.loads((package / "pyproject.toml").read_text())["tool"]["llamahub"]["class_authors"]
    }
    assert names == set(blockrag.llamaindex.__all__)
