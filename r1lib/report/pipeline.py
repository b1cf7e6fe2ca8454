"""The pipeline as one picture: which model grows out of which, by what training, from whose samples (as in Figure 2 of Nature)."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch
from matplotlib.path import Path

from r1lib import lineage, paths
from r1lib.errors import R1Error
from r1lib.paper import PIPELINE, Stage
from r1lib.report.board import BLUE, GREY, INK, ORANGE, PURPLE

_COLOURS = {"pretraining": INK, "SFT": ORANGE, "RL": BLUE, "reward model": PURPLE}
_PALE = 0.3                                    # how much of a stage is seen when others are highlighted
_SIZE = (12.0, 6.9)                            # inches, which are also the unit of every coordinate below

_DASHES = (0, (4, 2.5))

Point = tuple[float, float]


class _Box(NamedTuple):
    """A place by its centre, width and height."""

    x: float
    y: float
    width: float = 2.0
    height: float = 0.84


class _Route(NamedTuple):
    """The corners of an arrow, and where its label stands (None for a branch of another one); `side` is the label's alignment."""

    corners: Sequence[Point]
    label: Point | None
    side: str = "center"


# Four rows: R1-Zero, cold start and reasoning RL, R1, its helpers. The base stands beside all of them, because four stages start from it.
_A, _B, _C, _D = 5.5, 4.1, 2.65, 0.8
_BOXES = {
    "base": _Box(0.9, (_A + _D) / 2, 1.2, _A - _D + 0.84),
    "zero": _Box(4.05, _A), "dev1": _Box(4.05, _B), "dev3": _Box(4.05, _C), "v3": _Box(4.05, _D),
    "dev2": _Box(7.5, _B), "rm_safe": _Box(7.5, 1.5, 1.8, 0.74), "rm_helpful": _Box(7.5, 0.55, 1.8, 0.74),
    "r1": _Box(10.6, _C), "distilled": _Box(10.6, _A),
}
_ELSEWHERE = _Box(7.5, _A, 1.8, 0.5)           # where a stage starts that has no parent in the graph
# Whatever goes straight from left to right needs no entry.
_ROUTES = {
    ("zero", "dev1"): _Route([(4.05, 5.08), (4.05, 4.52)], (4.15, 4.80), "left"),
    ("dev2", "dev3"): _Route([(7.5, 3.68), (7.5, 3.37), (4.05, 3.37), (4.05, 3.07)], (5.78, 3.5)),
    ("v3", "dev3"): _Route([(4.05, 1.22), (4.05, 2.23)], (4.15, 1.72), "left"),
    ("v3", "rm_helpful"): _Route([(5.05, 0.46), (6.6, 0.46)], (5.78, 0.32)),
    ("dev3", "rm_safe"): _Route([(5.05, 2.4), (5.6, 2.4), (5.6, 1.5), (6.6, 1.5)], (5.72, 2.02), "left"),
    ("dev3", "rm_helpful"): _Route([(5.6, 1.6), (5.6, 0.74), (6.6, 0.74)], None),
    ("rm_safe", "r1"): _Route([(8.4, 1.5), (10.4, 1.5), (10.4, 2.23)], (9.4, 1.63)),
    ("rm_helpful", "r1"): _Route([(8.4, 0.55), (10.8, 0.55), (10.8, 2.23)], (9.4, 0.68)),
    ("r1", "distilled"): _Route([(10.6, 3.07), (10.6, 5.08)], (10.72, 4.1), "left"),
}


def draw(pipeline: Mapping[str, Stage], *, highlight: Collection[str] = (), notes: Mapping[str, str] | None = None) -> Figure:
    """The graph of stages. A solid arrow carries weights and says by what training, a dashed one carries samples or judgements.

    highlight: names of stages that stand out while the others turn pale, so that a notebook can show where it is.
    notes: stage -> a few words at the bottom of its box, such as those of `lineage_notes`.
    """
    if unknown := [name for name in (*pipeline, *highlight) if name not in _BOXES or name not in pipeline]:
        raise R1Error(f"stage {unknown[0]!r} has no place in the picture of the pipeline: choose from {', '.join(_BOXES)}.")
    figure = Figure(figsize=_SIZE, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, _SIZE[0]), ylim=(0, _SIZE[1]))
    axes.set_axis_off()
    axes.text(0.3, 6.5, "From the base to R1", fontsize=17, fontweight="bold", color=INK, va="center")
    for name, stage in pipeline.items():
        alpha = 1.0 if not highlight or name in highlight else _PALE
        _draw_box(axes, _BOXES[name], stage, alpha, bold=name in highlight, note=(notes or {}).get(name, ""))
        if stage.parent or stage.kind != "pretraining":
            _draw_training(axes, stage, alpha)
        for source, gives in stage.uses.items():
            route = _ROUTES[source, name]
            _arrow(axes, route.corners, GREY, alpha, dashed=True)
            _label(axes, route.label, gives, alpha, ha=route.side)
    _legend(figure)
    return figure


def lineage_notes(profile: str) -> dict[str, str]:
    """Stage -> how long it was trained and the beginning of its weights' hash, of the stages that this machine has trained."""
    notes = {}
    for name in PIPELINE:
        made = lineage.read(folder := paths.stage(profile, name))
        if made and made["finished"]:
            notes[name] = f"{made['seconds'] / 60:.1f} min, {lineage.weights_sha256(folder / 'model')[:7]}"
    return notes


def _draw_box(axes: Axes, box: _Box, stage: Stage, alpha: float, *, bold: bool, note: str) -> None:
    """A stage: its title, the data it learns from, and a note."""
    colour = _COLOURS[stage.kind]
    _frame(axes, box, colour, alpha, bold=bold)
    axes.text(box.x, box.y + 0.14, stage.title, ha="center", va="center", fontsize=14, fontweight="bold", color=colour, alpha=alpha)
    data = stage.data.replace(" of ", "\nof ") if box.width < 1.5 else stage.data
    axes.text(box.x, box.y - 0.03, data, ha="center", va="top", fontsize=10, color=INK, alpha=alpha)
    axes.text(box.x, box.y - box.height / 2 + 0.05, note, ha="center", va="bottom", fontsize=8.5, color=colour, alpha=alpha)


def _frame(axes: Axes, box: _Box, colour: str, alpha: float, *, bold: bool = False) -> None:
    axes.add_patch(FancyBboxPatch(
        (box.x - box.width / 2, box.y - box.height / 2), box.width, box.height, boxstyle="round,pad=0,rounding_size=0.09",
        linewidth=3 if bold else 1.6, edgecolor=(colour, alpha), facecolor=(colour, 0.1 * alpha)))


def _draw_training(axes: Axes, stage: Stage, alpha: float) -> None:
    """The arrow that brings the weights: above it the method, below it what the method goes by."""
    colour, box = _COLOURS[stage.kind], _BOXES[stage.name]
    method, detail = stage.how.split(": ")
    if route := _ROUTES.get((stage.parent or "", stage.name)):
        _arrow(axes, route.corners, colour, alpha)
        _label(axes, route.label, method, alpha, ha=route.side, colour=colour)
        return
    if stage.parent:
        source = _BOXES[stage.parent]
        below = detail
    else:
        source, below = _ELSEWHERE, ""
        _frame(axes, source, INK, alpha)
        _label(axes, (source.x, source.y), detail, alpha)
    start, end = source.x + source.width / 2, box.x - box.width / 2
    _arrow(axes, [(start, box.y), (end, box.y)], colour, alpha)
    _label(axes, ((start + end) / 2, box.y + 0.18), method, alpha, colour=colour)
    _label(axes, ((start + end) / 2, box.y - 0.18), below, alpha)


def _label(axes: Axes, place: Point | None, words: str, alpha: float, *, ha: str = "center", colour: str | None = None) -> None:
    """Words beside an arrow; a method is written larger and in the colour of its arrow."""
    if place:
        axes.text(*place, words, ha=ha, va="center", fontsize=12 if colour else 10, fontweight="bold" if colour else "normal",
                  color=colour or INK, alpha=alpha)


def _arrow(axes: Axes, corners: Sequence[Point], colour: str, alpha: float, *, dashed: bool = False) -> None:
    axes.add_patch(FancyArrowPatch(
        path=Path(corners), arrowstyle="-|>", mutation_scale=15, linewidth=1.5 if dashed else 2.2, linestyle=_DASHES if dashed else "-",
        color=(colour, alpha), joinstyle="round", capstyle="butt"))


def _legend(figure: Figure) -> None:
    swatches = [Patch(facecolor=(colour, 0.1), edgecolor=colour, linewidth=1.6, label=kind) for kind, colour in _COLOURS.items()]
    lines = [Line2D([], [], color=INK, linewidth=2.2, label="weights"),
             Line2D([], [], color=GREY, linewidth=1.5, linestyle=_DASHES, label="samples, judgements")]
    figure.legend(handles=swatches + lines, loc="center right", bbox_to_anchor=(0.985, 6.5 / _SIZE[1]), ncols=6, frameon=False, fontsize=10,
                  labelcolor=INK, handlelength=2.0, handleheight=1.0, columnspacing=1.4, borderaxespad=0.0)
