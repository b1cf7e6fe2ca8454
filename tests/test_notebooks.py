"""Every notebook: its form, and that it runs from top to bottom."""

import ast
import io
import json
import re
import tokenize
from pathlib import Path

import nbformat
import pytest

from r1lib.report import html
from r1lib.report.notebooks import machine_paths, run_notebooks

FOLDER = Path(__file__).parent.parent / "notebooks"
FILES = sorted(FOLDER.glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def read(file: Path) -> nbformat.NotebookNode:
    return nbformat.read(file, as_version=4)


def code(file: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(file).cells if cell.cell_type == "code"]


def markdown(file: Path) -> list[str]:
    return [cell.source for cell in read(file).cells if cell.cell_type == "markdown"]


def without_code(text: str) -> str:
    """Markdown without its code blocks and code words."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def test_there_are_notebooks():
    assert FILES


@each_notebook
def test_name(file):
    assert re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", file.name)


@each_notebook
def test_format(file):
    notebook = json.loads(file.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) >= (4, 5)
    nbformat.validate(notebook)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


@each_notebook
def test_nothing_of_a_run_is_left(file):
    notebook = read(file)
    assert not {"widgets", "papermill"} & notebook.metadata.keys()
    for cell in notebook.cells:
        assert not {"papermill", "execution"} & cell.metadata.keys()
        assert not any("widget" in kind for output in cell.get("outputs", []) for kind in output.get("data", {}))
    assert machine_paths(notebook) == []


@each_notebook
def test_headings(file):
    """One title, and no level is skipped."""
    levels = [len(marks) for text in markdown(file) for marks in re.findall(r"^(#{1,6}) ", without_code(text), re.MULTILINE)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


@each_notebook
def test_opening_says_what_a_reader_wants_to_know(file):
    opening = read(file).cells[0]
    assert opening.cell_type == "markdown"
    first, last = file == FILES[0], file == FILES[-1]
    for word in ("minute", "needs", *([] if first else ["previous"]), *([] if last else ["next"])):
        assert word in opening.source.lower(), f"the first cell says nothing about {word!r}"
    assert opening.source.startswith("# ")


@each_notebook
def test_links_lead_somewhere(file):
    for text in markdown(file):
        for target in re.findall(r"\]\(([^)#\s]+)", without_code(text)):
            if not re.match(r"https?:|mailto:", target):
                assert (FOLDER / target).exists(), f"no {target}"


@each_notebook
def test_one_typed_and_commented_parameters_cell(file):
    tagged = [cell for cell in code(file) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    lines = tagged[0].source.splitlines()
    assert lines[0].startswith('profile: str = "cpu"')
    assert any(line.startswith("seed: int = 0") for line in lines)
    assert all(re.fullmatch(r"\w+: [\w\[\], |]+ = .+  # .+", line) for line in lines if line.strip() and not line.startswith("#"))


@each_notebook
def test_code_is_short_enough_to_read(file):
    for cell in code(file):
        lines = cell.source.splitlines()
        assert len(lines) <= 25, f"{len(lines)} lines: {lines[0]}"
        assert max(map(len, lines), default=0) <= 140, max(lines, key=len)


@each_notebook
def test_code_is_plain_python(file):
    """No shell, no magic, nothing that installs, nothing that executes text."""
    for cell in code(file):
        for node in ast.walk(ast.parse(cell.source)):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            assert called not in {"eval", "exec", "input", "exit", "quit"}, f"{called}() in: {cell.source}"
        names = {token.string for token in tokenize.generate_tokens(io.StringIO(cell.source).readline) if token.type == tokenize.NAME}
        assert "pip" not in names


@each_notebook
def test_outputs_are_those_of_one_run_from_top_to_bottom(file):
    cells = code(file)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


@each_notebook
def test_pictures_have_a_description(file):
    for cell in code(file):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert output.metadata.get("image/png", {}).get("alt"), f"no alt text: {cell.source}"
    for text in markdown(file):
        assert "![](" not in text


@each_notebook
def test_formulas_can_be_drawn(file):
    for text in markdown(file):
        unknown = re.findall(r'<code class="unknown">(.*?)</code>', html.markdown(text), re.DOTALL)
        assert not unknown, f"the report cannot draw {unknown}"


@pytest.mark.notebooks
def test_every_notebook_runs(tmp_path, monkeypatch, capfd):
    """From nothing, in order, in profile smoke; each leaves a page, and the index says that all are done."""
    monkeypatch.setenv("R1_RUNS", str(tmp_path / "runs"))
    failed = run_notebooks("smoke")
    report = tmp_path / "runs" / "smoke" / "report"
    entries = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert failed == 0, [entry for entry in entries if entry["error"]]
    assert [entry["status"] for entry in entries] == ["done"] * len(FILES)
    assert all((report / f"{file.stem}.html").exists() for file in FILES)
    assert "notebooks done" in capfd.readouterr().out
