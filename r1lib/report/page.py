"""What a notebook shows besides boards: a sentence made from numbers, a table, an answer to read, a figure's panels, the stages compared.

Everything has a plain text beside the HTML or the picture, for readers of plain text and for search.
"""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r1lib import paper
from r1lib.evaluation import Interval
from r1lib.report.board import BLUE, GREY, GRID, INK, ORANGE, entitle

Cell = str | tuple[str, str]          # a text, or a pair of HTML and text

_LEFT = 'style="text-align: left; vertical-align: top"'
# The benchmark of the paper's table that plays in its world the part that ours plays here, and its columns' names for our stages.
_THEIRS = {"math": "AIME 2024", "math-hard": "CNMO 2024", "code": "LiveCodeBench", "general quality": "ArenaHard",
           "instruction following": "IF-Eval"}
_COLUMNS = {"base": "V3-Base", "zero": "R1-Zero", "dev1": "Dev1", "dev2": "Dev2", "dev3": "Dev3", "r1": "R1"}


def say(markdown: str) -> None:
    """A sentence that is made from a run's numbers."""
    display({"text/markdown": markdown, "text/plain": markdown}, raw=True)


def sheet(caption: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table as HTML and as plain text; a cell is a `Cell`, or anything that has a text."""
    display(table(caption, heads, rows), raw=True)


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> dict[str, str]:
    """What `sheet` displays, by MIME type."""
    pairs = [[cell if isinstance(cell, tuple) else (html.escape(str(cell)), str(cell)) for cell in row] for row in rows]
    body = "".join("<tr>" + "".join(f"<td {_LEFT}>{cell}</td>" for cell, _ in row) + "</tr>" for row in pairs)
    head = "".join(f"<th {_LEFT}>{html.escape(name)}</th>" for name in heads)
    drawn = f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    lines = [" | ".join(plain.strip().replace("\n", " / ") for _, plain in row) for row in pairs]
    return {"text/html": drawn, "text/plain": "\n".join([caption, " | ".join(heads), *lines])}


def tinted(written: str, *, answer: str = "220, 100, 10, 0.3") -> Cell:
    """An answer to read: thinking on blue, the answer on orange or on another colour (red, green, blue, opacity)."""
    shown = html.escape(written.strip()).replace("\n", "<br>")
    for tag, colour in (("think", "31, 95, 168, 0.16"), ("answer", answer)):
        shown = re.sub(f"(&lt;{tag}&gt;.*?(?:&lt;/{tag}&gt;|$))", rf'<span style="background: rgba({colour})">\1</span>', shown)
    return shown, written


def coloured(answer: str, right: bool) -> Cell:
    """An answer that was judged: on green if it is right, on orange if not, its thinking on blue."""
    shown, plain = tinted(answer, answer="43, 160, 75, 0.3") if right else tinted(answer)
    return f"{'✓' if right else '✗'} {shown}", f"{'right' if right else 'wrong'}: {plain}"


def canvas(title: str, rows: int = 1, columns: int = 2, height: float = 4.8, **layout: Any) -> tuple[Figure, list[Axes]]:
    """A figure with a finding as its title, and its panels; layout: what matplotlib's `subplots` takes."""
    figure = Figure(figsize=(12, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    entitle(figure, title, 16)
    panels = list(figure.subplots(rows, columns, squeeze=False, **layout).flatten())
    for panel in panels:
        panel.grid(color=GRID)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=12, length=0)
        panel.xaxis.label.set_size(13)
        panel.yaxis.label.set_size(13)
        panel.spines[["top", "right"]].set_visible(False)
        panel.spines[["left", "bottom"]].set_color(GREY)
    return figure, panels


def changes(panel: Axes, differences: Mapping[str, Mapping[str, float | None]]) -> None:
    """Differences of `evaluation.difference` in points, a line each, with 95 % intervals: blue above 0, orange below, grey around it.

    What could not be judged (value None) is left out; the name of a measure of which less is better should say so.
    """
    shown = {name: change for name, change in differences.items() if change["value"] is not None}
    for place, change in enumerate(shown.values()):
        value, low, high = (100 * change[bound] for bound in ("value", "low", "high"))
        colour, marker = (BLUE, "o") if low > 0 else (ORANGE, "s") if high < 0 else (GREY, "D")
        panel.errorbar([value], [place], xerr=[[value - low], [high - value]], fmt=marker, color=colour, markersize=9, capsize=5,
                       linewidth=2.4)
        panel.text(1.01, place, f"{value:+.1f}", transform=panel.get_yaxis_transform(), va="center", fontsize=12, color=colour)
    panel.axvline(0, color=INK, linewidth=1.2)
    panel.set_yticks(range(len(shown)), list(shown))
    panel.set(ylim=(len(shown) - 0.4, -0.6), xlabel="change in points, with 95 % intervals")


def band(interval: Interval, unit: float = 100, digits: int = 1) -> str:
    """A value with its 95 % interval, as text; a dash where nothing could be judged."""
    if interval["value"] is None:
        return "–"
    value, low, high = (interval[name] * unit for name in ("value", "low", "high"))
    return f"{value:z.{digits}f} [{low:z.{digits}f}, {high:z.{digits}f}]"            # z: no "-0"


def stage_table(caption: str, measured: Mapping[str, Mapping[str, Interval]]) -> None:
    """Stages side by side, with the paper's numbers below ours where its table has a benchmark in the same part.

    measured: stage -> what `stages.scores` says of it. Shares are in percent, with 95 % intervals over problems.
    """
    rows: list[list[object]] = []
    for metric in next(iter(measured.values())):
        unit = 1 if metric == "mean length" else 100
        rows.append([metric, *(band(scores[metric], unit, 0) for scores in measured.values())])
        if theirs := _THEIRS.get(metric):
            cells = [paper.STAGES.cell(theirs, _COLUMNS[stage]) if stage in _COLUMNS else None for stage in measured]
            rows.append([_quiet(f"paper: {theirs}"), *(_quiet("–" if cell is None else f"{cell:g}") for cell in cells)])
    titles = [paper.PIPELINE[stage].title if stage in paper.PIPELINE else stage for stage in measured]
    sheet(caption, ["", *titles], rows)


def _quiet(written: str) -> Cell:
    return f'<span style="opacity: 0.65">{html.escape(written)}</span>', written
