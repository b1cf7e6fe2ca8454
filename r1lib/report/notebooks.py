"""Run the notebooks in the order of their numbers, as one batch: executed copies, pages to read, and an index that says what came of each.

The same function runs them on a laptop, in continuous integration and for the outputs that the repository shows.
"""

import ast
import contextlib
import dataclasses
import html as entities
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
from nbformat import NotebookNode
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillExecutionError

from r1lib import machine, paths, profiles
from r1lib.errors import R1Error
from r1lib.report import board, html, kernels
from r1lib.side_by_side import at_once, side_by_side
from r1lib.training.metrics import MetricsLog

# Where a text stops being true on any other machine; an address like https://example.org/home is no path.
_MACHINE_PATH = re.compile(r"(?<![\w./~-])(?:/(?:home|Users|root|tmp|work|workspace|private|var|opt|mnt|srv|usr)/|[A-Z]:\\)[^\s'\"<>)\]]*")
_SECONDS_BETWEEN_LINES = 30     # of a batch run whose output is a file: enough to see that it lives
# Numbers of notebooks in a row that need nothing of each other and keep one core busy at most: they run at the same time.
_INDEPENDENT = (("00", "01", "02", "03"), ("12", "13"))


def run_notebooks(profile: str, *, only: Sequence[str] = (), seed: int | None = None, store: bool = False) -> int:
    """Execute the project's notebooks in this profile and write runs/<profile>/report/.

    only: numbers or names ("3", "03", "03_grpo_from_scratch"); all notebooks unless given.
    seed: the notebooks' own unless given.
    store: also put the outputs into the notebooks themselves, without anything that belongs to this machine or this day.
    Returns how many notebooks failed. A notebook that fails does not stop those after it, and the index is written in any case.
    """
    profiles.get(profile)
    sources = _sources()
    chosen = _choose(sources, only)
    parameters: dict[str, Any] = {"profile": profile} | ({} if seed is None else {"seed": seed})
    for source in chosen:
        _check_parameters(source, parameters, store)
    report = paths.runs(profile) / "report"
    report.mkdir(parents=True, exist_ok=True)
    entries = _entries(sources, report)
    for source in chosen:
        entries[source.stem] = dataclasses.replace(_entry(source), status="waiting")
    started = time.monotonic()

    def ended(name: str, told: tuple[html.Entry, NotebookNode]) -> None:
        entry, executed = told
        entries[name] = entry
        if store and entry.status == "done":
            _store(paths.root() / "notebooks" / f"{name}.ipynb", executed, entry)
        try:
            page = html.notebook_page(executed, entry, list(entries.values()))
            (report / f"{name}.html").write_text(page, encoding="utf-8")
        except Exception as error:  # of nbconvert, for a damaged installation or an output that it cannot draw; the notebook is there
            entry.status, entry.error = "failed", f"its page could not be made: {(str(error).strip() or repr(error)).splitlines()[0]}"
        _write_index(report, profile, list(entries.values()))
        print(f"{name}: {entry.status} in {entry.seconds:.0f} s, at most {entry.peak_bytes / 1e6:.0f} MB"
              + (f": {entry.error}" if entry.error else ""), flush=True)

    may_fork = sys.platform == "linux" and profiles.get(profile).device == "cpu"
    try:
        with _environment(None), kernels.forked() if may_fork else contextlib.nullcontext():
            for together in _groups(chosen, profile):
                for source in together:
                    entries[source.stem].status = "running"
                _write_index(report, profile, list(entries.values()))
                lanes = at_once(len(together))
                threads = machine.cores() // lanes if lanes > 1 else None
                side_by_side({source.stem: partial(_execute, source, report, entries[source.stem], parameters, threads)
                              for source in together}, hear=ended)
    finally:
        for entry in entries.values():
            if entry.status == "running":
                entry.status, entry.error = "failed", "interrupted"
            elif entry.status == "waiting":
                entry.status = "not run"
        _write_index(report, profile, list(entries.values()))
    failed = sum(entries[source.stem].status == "failed" for source in chosen)
    seconds = time.monotonic() - started
    print(f"{len(chosen) - failed} of {len(chosen)} notebooks done in {seconds:.0f} s: {report / 'index.html'}", flush=True)
    return failed


# ------------------------------------------------------------------------------------------------------------------------------------------
# Which notebooks

def _sources() -> list[Path]:
    folder = paths.root() / "notebooks"
    sources = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not sources:
        raise R1Error(f"{folder}: no notebook here; set R1_HOME to the project's folder.")
    return sources


def _choose(sources: Sequence[Path], only: Sequence[str]) -> list[Path]:
    """The notebooks that were asked for, in the order of their numbers."""
    wanted = set()
    for name in only:
        found = [source for source in sources if source.stem == name or source.stem.split("_")[0] == name.zfill(2)]
        if not found:
            raise R1Error(f"notebook {name!r} is not known: choose among {', '.join(source.stem for source in sources)}.")
        wanted.update(found)
    return [source for source in sources if source in wanted or not only]


def _groups(chosen: Sequence[Path], profile: str) -> list[list[Path]]:
    """Those to run at the same time, in order. A GPU is not shared."""
    groups: list[list[Path]] = []
    for source in chosen:
        number = source.stem.split("_")[0]
        before = groups[-1][0].stem.split("_")[0] if groups else ""
        if profiles.get(profile).device == "cpu" and any(number in group and before in group for group in _INDEPENDENT):
            groups[-1].append(source)
        else:
            groups.append([source])
    return groups


def _check_parameters(source: Path, parameters: dict[str, Any], store: bool) -> None:
    """A misspelt parameter is only a warning to papermill, and the run would silently be another one than was asked for."""
    known = papermill.inspect_notebook(source)
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise R1Error(f"{source.name}: no parameter {', '.join(unknown)}; its parameters cell has {', '.join(known) or 'none'}.")
    for name, value in parameters.items():
        if store and ast.literal_eval(known[name]["default"]) != value:
            raise R1Error(f"{source.name}: outputs of {name}={value!r} cannot be stored under a cell that says {known[name]['default']}.")


def _entries(sources: Sequence[Path], report: Path) -> dict[str, html.Entry]:
    """A line for each notebook; what an earlier run of this profile left in the report stays there."""
    entries = {source.stem: _entry(source) for source in sources}
    record = report / "report.json"
    for line in json.loads(record.read_text(encoding="utf-8")) if record.exists() else []:
        if line["name"] in entries and line["status"] in ("done", "failed"):
            entries[line["name"]] = html.Entry(**line)
    return entries


def _entry(source: Path) -> html.Entry:
    """Title and purpose stand in the notebook's first cell: its heading (without the number), and the paragraph under it."""
    opening = nbformat.read(source, as_version=4).cells[0].source
    heading, _, rest = opening.partition("\n")
    title = re.sub(r"^#\s*(\d\d\W+)?", "", heading).strip()
    paragraph = re.sub(r"<[^>]+>", "", html.markdown(rest.strip().split("\n\n")[0]))
    return html.Entry(source.stem, title, entities.unescape(paragraph).strip())


# ------------------------------------------------------------------------------------------------------------------------------------------
# Execution

class _Engine(NBClientEngine):
    """papermill's own engine, which also says which cell it is at."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: NotebookExecutionManager, kernel_name: str, *, watch: "_Watch", **settings: Any) -> Any:
        start = nb_man.cell_start

        def cell_start(cell: NotebookNode, cell_index: int | None = None, **rest: Any) -> Any:
            watch.cell = f"cell {(cell_index or 0) + 1} of {len(nb_man.nb.cells)}"
            return start(cell, cell_index, **rest)

        nb_man.cell_start = cell_start
        return super().execute_managed_notebook(nb_man, kernel_name, **settings)


papermill_engines.register("r1lib", _Engine)


class _Watch(threading.Thread):
    """Looks at a running notebook ten times a second: how much memory its processes hold, and a sign of life for whoever waits.

    peak_bytes: the largest sum of resident memory over the kernel and all that it started.
    """

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True)
        self.title, self.cell, self.peak_bytes = name, "starting", 0
        self.started = self._said = time.monotonic()
        self._others = self._processes()
        self._ended = threading.Event()

    def __enter__(self) -> "_Watch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def run(self) -> None:
        while not self._ended.wait(0.1):
            held = 0
            for process in self._processes() - self._others:
                with contextlib.suppress(psutil.Error):         # it ended while we looked
                    held += process.memory_info().rss
            self.peak_bytes = max(self.peak_bytes, held)
            self._say(held)
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)

    def _processes(self) -> set[psutil.Process]:
        """Those that this one has started, and the kernels that it has asked for, which need not be its children."""
        found = set(psutil.Process().children(recursive=True))
        for pid in kernels.asked_for:
            with contextlib.suppress(psutil.Error):
                kernel = psutil.Process(pid)
                found |= {kernel, *kernel.children(recursive=True)}
        return found

    def _say(self, held: int) -> None:
        terminal = sys.stdout.isatty()
        if time.monotonic() - self._said < (0.5 if terminal else _SECONDS_BETWEEN_LINES):
            return
        self._said = time.monotonic()
        line = f"{self.title}: {self.cell}, {self.seconds:.0f} s, {held / 1e6:.0f} MB"
        print(f"\r\033[K{line}" if terminal else line, end="" if terminal else "\n", flush=True)


def _execute(source: Path, report: Path, entry: html.Entry, parameters: dict[str, Any], threads: int | None,
             tell: Callable[[tuple[html.Entry, NotebookNode]], None]) -> None:
    """Run one notebook in a kernel of its own; tell how that went, in its entry, and the executed copy."""
    copy = report / source.name
    copy.unlink(missing_ok=True)
    with _Watch(entry.name) as watch, _environment(threads):
        try:
            papermill.execute_notebook(source, copy, parameters, engine_name="r1lib", kernel_name="python3", cwd=source.parent,
                                       progress_bar=False, coalesce_streams=True, watch=watch,
                                       shutdown_kernel="immediate",             # what it holds is written; taking it down costs 2 s
                                       extra_arguments=["--log-level=ERROR"])       # not the kernel's daily warning about TCP
            entry.status = "done"
        except PapermillExecutionError as error:
            entry.status, entry.error = "failed", _one_line(f"{error.ename}: {error.evalue}")
        except Exception as error:                              # a dead kernel, a full disk: the other notebooks still have their turn
            entry.status, entry.error = "failed", _one_line(f"{type(error).__name__}: {error}")
        finally:
            entry.seconds, entry.peak_bytes = watch.seconds, watch.peak_bytes
    executed = nbformat.read(copy if copy.exists() else source, as_version=4)
    _clean(executed)
    nbformat.write(executed, copy)
    tell((entry, executed))


@contextlib.contextmanager
def _environment(threads: int | None) -> Iterator[None]:
    """What a kernel inherits: this very r1lib, installed or not, and how many threads it may compute with; None: as many as it likes."""
    ours = str(Path(machine.__file__).parent.parent)
    here = {"PYTHONPATH": os.pathsep.join(filter(None, [ours, os.environ.get("PYTHONPATH")]))}
    if threads:
        here["OMP_NUM_THREADS"] = str(threads)
    before = {name: os.environ.get(name) for name in here}
    os.environ.update(here)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def _clean(notebook: NotebookNode) -> None:
    """Take out what only the run itself needed: papermill's notes, times of day, widgets (empty without their kernel)."""
    for name in ("papermill", "widgets"):
        notebook.metadata.pop(name, None)
    notebook.cells = [cell for cell in notebook.cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if "application/vnd.jupyter.widget-view+json" not in output.get("data", {})]


# ------------------------------------------------------------------------------------------------------------------------------------------
# What stays

def _store(source: Path, executed: NotebookNode, entry: html.Entry) -> None:
    """Put the outputs of a run into the notebook itself; nothing else of it changes."""
    notebook = nbformat.read(source, as_version=4)
    outputs = {cell.id: cell.outputs for cell in executed.cells if cell.cell_type == "code"}
    count = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            count += 1
            cell.outputs, cell.execution_count = outputs[cell.id], count
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = count
    found = machine_paths(notebook)
    if found:
        entry.status, entry.error = "failed", f"not stored, it holds paths of this machine: {'; '.join(found)}"
        return
    _clean(notebook)
    nbformat.write(notebook, source)


def machine_paths(notebook: NotebookNode) -> list[str]:
    """Paths of one machine in a notebook's cells and in the text of its outputs, each with the number of its cell."""
    found = []
    for number, cell in enumerate(notebook.cells, 1):
        texts = [cell.source]
        for output in cell.get("outputs", []):
            texts += [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])]
            texts += [str(data) for kind, data in output.get("data", {}).items() if not kind.startswith("image/")]
        found += [f"cell {number}: {path}" for text in texts for path in _MACHINE_PATH.findall(text)]
    return found


def _write_index(report: Path, profile: str, entries: Sequence[html.Entry]) -> None:
    curve, caption = None, ""
    try:
        rows = MetricsLog(paths.stage(profile, "zero") / "metrics.jsonl").rows()
        if rows:
            curve, caption = board.png(board.learning_curve(rows, title="R1-Zero")), f"R1-Zero in this run: {board.summary(rows)}."
    except R1Error as error:                # a damaged file must not cost the report
        caption = str(error)
    (report / "index.html").write_text(html.index_page(profile, entries, str(machine.describe()), curve, caption), encoding="utf-8")
    record = [dataclasses.asdict(entry) for entry in entries]
    (report / "report.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
