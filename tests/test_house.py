"""What stands at the top of the repository, and what must not be in it."""

import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import r1lib

ROOT = Path(__file__).parent.parent
PINS = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().split("\n") if line and not line.startswith("#"))
LIMIT = 10_000_000
# Imported where it is asked for; who lacks it is told what to install.
OPTIONAL = {"lingua", "triton", "unsloth", "vllm"}
# Paths of one machine. Written in pieces, so that this file does not hold them.
FORBIDDEN = ["/" + folder + "/" for folder in ("work", "home", "root", "Users")]


def project_files() -> list[Path]:
    """What git tracks or would track."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("not a git repository")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("name", ["README.md", "requirements.txt", "environment.yml", "pyproject.toml", "Makefile", "LICENSE", ".ci/run"])
def test_is_there(name):
    assert (ROOT / name).is_file()


def test_ci_can_be_executed():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_conda_users_get_the_same_packages():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert [line for line in pip if not line.startswith("--")] == [f"{name}=={version}" for name, version in PINS.items()]


@pytest.mark.parametrize("name", PINS)
def test_pinned_package_is_installed_and_importable(name):
    assert importlib.metadata.version(name).split("+")[0] == PINS[name], "run `make test`, which installs requirements.txt"
    modules = [module for module, names in importlib.metadata.packages_distributions().items() if name.lower() in map(str.lower, names)]
    modules = [module for module in modules if not module.startswith("_")]
    assert not modules or any(importlib.util.find_spec(module) for module in modules)             # some bring a program and no module


def third_party(source: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"r1lib"}


def test_everything_imported_is_pinned():
    sources = {file: file.read_text(encoding="utf-8") for folder in ("r1lib", "tests") for file in (ROOT / folder).rglob("*.py")}
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        sources[file] = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    distributions = importlib.metadata.packages_distributions()
    pinned = {name.lower() for name in PINS}
    local = {file.stem for file in (ROOT / "tests").glob("*.py")}
    missing = {(file.name, name) for file, source in sources.items() for name in third_party(source) - local - OPTIONAL
               if not pinned & set(map(str.lower, distributions.get(name, [name])))}
    assert not missing


def test_version_is_said_once():
    assert re.fullmatch(r"\d+\.\d+\.\d+", r1lib.__version__)
    assert r1lib.__version__ not in (ROOT / "pyproject.toml").read_text()


def test_make_has_its_targets():
    targets = re.findall(r"^([a-z]+):.*## \S", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"run", "test", "lab", "clean", "lint", "notebooks", "help"} <= set(targets)


def test_readme_lists_every_notebook():
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("no README yet")
    text = readme.read_text(encoding="utf-8")
    assert [file.name for file in sorted((ROOT / "notebooks").glob("*.ipynb")) if f"notebooks/{file.name}" not in text] == []


def test_no_large_files():
    assert [file.name for file in project_files() if file.stat().st_size > LIMIT] == []


def test_weights_are_safetensors():
    """Formats that can hold code, or that nobody can look into."""
    assert [file.name for file in project_files() if file.suffix in {".pt", ".pth", ".bin", ".pkl", ".pickle", ".npy", ".ckpt"}] == []


def test_no_path_of_one_machine():
    found = []
    for file in project_files():
        data = file.read_bytes()
        if b"\0" not in data[:8192] and file.suffix != ".ipynb":            # notebooks: test_notebooks.py, which knows pictures from text
            text = data.decode("utf-8")
            found += [f"{file.relative_to(ROOT)}: {word}" for word in FORBIDDEN if word in text]
    assert not found
