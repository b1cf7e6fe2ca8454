"""The plan of the house: an import goes down the floors, never up or in a circle; a heavy library has one file, named after it."""

import ast
import functools
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "r1lib"
FLOORS = (
    {"__init__", "errors", "hub", "machine", "optional", "paper", "paths", "profiles", "seeds", "side_by_side",
     "text"},
    {"tasks", "rewards"},
    {"policy", "sampling"},
    {"training", "search", "curation"},
    {"ablations", "aha", "claims", "comparisons", "distillation", "doctor", "evaluation", "findings", "ledger", "lineage", "pipeline",
     "report", "smollm2", "stages", "unsuccessful"},
    {"__main__"},
)
HEAVY = {"accelerate", "bitsandbytes", "datasets", "deepspeed", "math_verify", "peft", "reasoning_gym", "trl", "unsloth", "vllm"}
BESIDE = {"r1lib.training.trl": {"datasets"}}           # what a library cannot be called without
FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Everything a module imports, anywhere in it, by full name; `from package import name` is the name's module where it has one."""
    file = MODULES[module]
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found.update(f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names)
    return frozenset(found)


def floor(module: str) -> int:
    room = module.split(".")[1] if "." in module else "__init__"
    floors = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert floors, f"r1lib/{room} has no floor yet: give it one in {Path(__file__).name}"
    return floors[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    upwards = [other for other in imports(module) if other in MODULES and floor(other) > floor(module)]
    assert not upwards, f"{module} (floor {floor(module)}) imports {', '.join(upwards)} from a floor above"


def test_no_imports_in_a_circle():
    finished, path = set(), []

    def visit(module: str) -> None:
        assert module not in path, f"imports in a circle: {' -> '.join([*path[path.index(module):], module])}"
        if module in finished:
            return
        path.append(module)
        for other in sorted(imports(module) & MODULES.keys() - {"r1lib"}):
            visit(other)
        finished.add(path.pop())

    for module in MODULES:
        visit(module)


@pytest.mark.parametrize("module", MODULES)
def test_a_heavy_library_is_imported_in_the_file_of_its_name_only(module):
    strangers = {name.split(".")[0] for name in imports(module)} & HEAVY - {module.split(".")[-1]} - BESIDE.get(module, set())
    assert not strangers, f"{module} imports {', '.join(strangers)}"
