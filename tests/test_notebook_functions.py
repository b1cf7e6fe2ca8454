"""Notebook 03 teaches the functions that the package runs; exercises can be solved, and their checks say what is off when they are not."""

import ast
import math
import re
from pathlib import Path

import nbformat
import pytest
import torch

from r1lib import rewards, text
from r1lib.training import objective

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
CELLS = nbformat.read(NOTEBOOKS / "03_grpo_from_scratch.ipynb", as_version=4).cells
NOT_TAUGHT = {"summary"}                        # means for the log


def functions(source: str) -> dict[str, ast.FunctionDef]:
    """The functions at the top level of a source text, without docstrings and annotations: the notebook has other words for its readers."""
    found = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        node.returns = None
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        found[node.name] = node
    return found


PACKAGE = functions(Path(objective.__file__).read_text(encoding="utf-8"))
TAUGHT = {name: node for cell in CELLS if cell.cell_type == "code" for name, node in functions(cell.source).items()}


@pytest.mark.parametrize("name", sorted(PACKAGE.keys() - NOT_TAUGHT))
def test_the_notebook_writes_what_the_package_runs(name):
    assert name in TAUGHT, f"notebook 03 does not write {name}"
    assert ast.unparse(TAUGHT[name]) == ast.unparse(PACKAGE[name])


def test_each_is_written_in_a_short_cell_and_then_imported():
    for name in PACKAGE.keys() - NOT_TAUGHT:
        importing = re.compile(rf"^from r1lib.training.objective import .*\b{name}\b", re.MULTILINE)
        code = {i: cell.source for i, cell in enumerate(CELLS) if cell.cell_type == "code"}
        written, = (i for i, source in code.items() if name in functions(source))
        imported, = (i for i, source in code.items() if importing.search(source))
        assert written < imported
        assert len(code[written].splitlines()) <= 25


# ----------------------------------------------------------------------------------------------------------------------
# Exercises: a stub in a cell tagged "exercise", its check in the next cell, its solution folded away in the one after

# what the notebook's cells before an exercise have made and imported, as far as its checks need it
WORLDS = {
    "02_rewards": {"re": re, "rewards": rewards, "text": text},
    "03_grpo_from_scratch": {"torch": torch, "math": math, "group_advantages": objective.group_advantages, "k3_kl": objective.k3_kl},
}
EXERCISES = [(name, nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells, i) for name in WORLDS
             for i, cell in enumerate(nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells)
             if "exercise" in cell.metadata.get("tags", [])]
OF_GRPO = [(cells, i) for name, cells, i in EXERCISES if name == "03_grpo_from_scratch"]


def check(name: str, cells: list, at: int, attempt: str, capsys) -> str:
    """What the check of the exercise in this cell prints for an attempt."""
    world = dict(WORLDS[name])
    exec(attempt, world)
    exec(cells[at + 1].source, world)
    return capsys.readouterr().out


@pytest.mark.parametrize(("name", "cells", "at"), EXERCISES, ids=[f"{name}-{at}" for name, _, at in EXERCISES])
def test_an_open_exercise_gives_a_hint_and_its_solution_passes(name, cells, at, capsys):
    assert cells[at + 1].metadata.tags == ["check"]
    assert " is open. Hint: " in check(name, cells, at, cells[at].source, capsys)
    solution = re.search(r"<details>.*?```python\n(.*?)```\n.*?</details>", cells[at + 2].source, re.S).group(1)
    assert check(name, cells, at, solution, capsys).startswith("Right")


@pytest.mark.parametrize(("exercise", "attempt", "says"), [
    (0, "def leave_one_out_advantages(r): return r - r.mean(dim=1, keepdim=True)", "your own reward is still in the mean"),
    (0, "def leave_one_out_advantages(r): return (r.sum(dim=1) - r[:, 0]) / 3", "the shape is (3,)"),
    (0, "def leave_one_out_advantages(r): return (r.sum(dim=1, keepdim=True) - r) / 3 - r", "the sign is turned round"),
    (0, "def leave_one_out_advantages(r): return r - (r.sum(dim=1, keepdim=True) - r) / 4", "number 1 should get 0.0000 and gets 0.2500"),
    (1, "def share_that_teaches(p, samples): return 1 - (1 - p) ** samples", "at least one success"),
    (1, "def share_that_teaches(p, samples): return p ** samples + (1 - p) ** samples", "the share that teaches nothing"),
    (1, "def share_that_teaches(p, samples): return 0.25", "it should be 0.5000 and is 0.2500"),
    (2, "def corrected_kl(new, old, ref): return k3_kl(new, ref)", "still that of plain k3"),
    (2, "def corrected_kl(new, old, ref): return (new - old).exp().detach() * k3_kl(new, ref)", "still that of plain k3"),
    (2, "def corrected_kl(new, old, ref): return (new - ref) ** 2 / 2", "right gradient, but the value"),
    (2, "def corrected_kl(new, old, ref): return (old - new).exp() * k3_kl(new, ref)", "Which way round is the ratio"),
])
def test_a_check_says_what_is_off(exercise, attempt, says, capsys):
    said = check("03_grpo_from_scratch", *OF_GRPO[exercise], attempt, capsys)
    assert said.startswith("Not yet") and says in said
