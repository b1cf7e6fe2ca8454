"""The learning curves: live while a run trains, and the same picture from its file afterwards.

Figures are made with matplotlib's object API and shown as PNG with a line of text, because that is what looks the same in JupyterLab, in a
batch run and in HTML: no widget, no state of pyplot, no backend that decides whether a picture appears.
"""

import base64
import io
import itertools
import math
import sys
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from PIL import Image

from r1lib.errors import R1Error
from r1lib.training.metrics import MetricsLog

Row = Mapping[str, Any]
Curve = tuple[list[float], list[float]]        # steps, values

INK, GRID, GREY = "#1f2933", "#e3e7eb", "#66717c"
BLUE, ORANGE, GREEN, PURPLE = "#1f5fa8", "#c9580a", "#2b7a4b", "#7a4fa3"
_COLOURS = (BLUE, GREEN, PURPLE, ORANGE)       # told apart by every kind of colour vision, and by the line style beside it
_STYLES = ("-", "--", "-.", ":")
_TRAIN = dict(color=BLUE, linewidth=1.5)
_HELD_OUT = dict(color=ORANGE, linewidth=2.2, marker="o", markersize=6, markerfacecolor="white", markeredgewidth=1.6)
_BEFORE = dict(color=INK, linewidth=1, linestyle=(0, (4, 3)), alpha=0.7)
_DPI = 100                                     # 12 inches are 1200 px, the width of a notebook column on a projector
_CROWDED = 60                                  # more steps than this are drawn pale under their running mean


# ------------------------------------------------------------------------------------------------------------------------------------------
# Showing a figure

def png(figure: Figure, *, scale: float = 1.5) -> bytes:
    """A figure as PNG with `scale` pixels for each CSS pixel, sharp on a projector; equal figures give equal bytes.

    It is reduced to 256 colours: a third of the bytes, in every notebook that is committed, and no difference to the eye.
    """
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI * scale)
    Image.open(drawn).convert("RGB").quantize(256).save(small, "png", optimize=True)
    return small.getvalue()


def entitle(figure: Figure, title: str, size: float, *, room: float = 1.0) -> None:
    """Write a title at the left above a figure, in `size` points, or in fewer where it would be wider than `room` of the figure."""
    margin = 0.012
    fits = (room - 2.5 * margin) * figure.get_figwidth() * 72                                   # points, of which an inch has 72
    width = TextPath((0, 0), title, size=size, prop=FontProperties(weight="bold")).get_extents().width if title else 0
    figure.suptitle(title, fontsize=size * fits / max(fits, width), fontweight="bold", color=INK, x=margin, ha="left")


def show(figure: Figure, text: str, alt: str | None = None) -> None:
    """Show a figure in the notebook, and print one line that says what it shows; outside a notebook only the line.

    text: one line with the numbers, for readers of plain text and for search.
    alt: what a screen reader says for the picture; by default the same line.
    """
    _publish(figure, text, alt or text)
    print(text)


def _publish(figure: Figure, text: str, alt: str, *, display_id: str | None = None, update: bool = False, scale: float = 1.5) -> None:
    """Send a figure to the notebook that runs this code, if one does."""
    if not _in_notebook():
        return
    from IPython.display import display  # IPython is loaded already, or we would not be here

    width, height = (round(inches * _DPI) for inches in figure.get_size_inches())
    bundle = {"image/png": base64.b64encode(png(figure, scale=scale)).decode(), "text/plain": text}
    metadata = {"image/png": {"alt": alt, "width": width, "height": height}}
    display(bundle, raw=True, metadata=metadata, display_id=display_id, update=update)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


# ------------------------------------------------------------------------------------------------------------------------------------------
# The board

class LiveBoard:
    """Panels that grow while a run trains: call it with the metrics of each step, close it (or leave its `with` block) at the end.

    interval: seconds between two drawings at least. Drawing also never takes more than a tenth of the run's time.
    paper: what the paper saw, one short line a panel, by the names in `PANELS` or, for a run over fixed examples, `FITTING`:
    {"accuracy": "paper: 0.16 to 0.78 (AIME 2024)"}.
    Outside a notebook nothing is drawn and the rows are only collected: `board.rows` keeps them in either case.
    """

    def __init__(self, title: str, *, interval: float = 0.5, paper: Mapping[str, str] | None = None) -> None:
        self.title, self.paper, self.interval = title, paper, interval
        self.rows: list[dict[str, Any]] = []
        self._id, self._shown = uuid.uuid4().hex, False
        self._next = 0.0

    def __call__(self, row: Row) -> None:
        """Take the metrics of one step. A second row of the same step (the held-out numbers) is added to the first."""
        self.rows.append(dict(row))
        if time.monotonic() >= self._next:
            self._draw(scale=1.0)

    def close(self) -> None:
        """Draw everything there is, once more and sharp, and print the summary. An interrupted run keeps its picture this way."""
        if self.rows:
            self._draw(scale=1.5)
            print(summary(self.rows))

    def __enter__(self) -> "LiveBoard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _draw(self, scale: float) -> None:
        if not _in_notebook():
            return
        started = time.monotonic()
        text, figure = summary(self.rows), draw(self.rows, self.title, paper=self.paper)
        _publish(figure, text, f"{self.title}: {text}", display_id=self._id, update=self._shown, scale=scale)
        self._shown = True
        ended = time.monotonic()
        self._next = ended + max(self.interval, 9 * (ended - started))


def draw(rows: Iterable[Row], title: str, *, paper: Mapping[str, str] | None = None) -> Figure:
    """The board of a run as one figure of 1200 px, and beside what training changes its value before training.

    Reinforcement learning has eight panels. A run over fixed examples has those of `FITTING` for which something was logged.
    """
    rows = merge(rows)
    panels = {name: panel for name, panel in FITTING.items() if _is_logged(name, rows)} if _fits(rows) else PANELS
    lines = math.ceil(len(panels) / 4)
    figure = Figure(figsize=(12, 3 * lines + 0.3 * (lines == 1)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.02, hspace=0.03)
    entitle(figure, title, 15, room=0.65)                           # beside it stands the legend
    styles = {"train": _TRAIN, "held-out": _HELD_OUT, "before training": _BEFORE}
    key = [Line2D([], [], **style, label=name) for name, style in styles.items()]
    figure.legend(handles=key, loc="upper right", ncols=3, frameon=False, fontsize=11, labelcolor=INK, borderaxespad=0.3)
    places = list(figure.subplots(lines, 4, squeeze=False).flat)
    for axes in places[len(panels):]:
        axes.set_axis_off()
    for axes, (name, (heading, panel)) in zip(places, panels.items(), strict=False):
        _dress(axes, heading, caption=None if paper is None else paper.get(name, ""))
        panel(axes, rows)
    return figure


def from_file(path: str | Path, title: str | None = None) -> Figure:
    """The board of a run from its metrics.jsonl; the title is the stage's folder unless given."""
    path = Path(path)
    if not path.exists():
        raise R1Error(f"{path}: no metrics here; run the stage that writes them first.")
    return draw(MetricsLog(path).rows(), title or path.resolve().parent.name)


def learning_curve(rows: Iterable[Row], *, title: str) -> Figure:
    """The picture of a run to put on a page: held-out accuracy above the length of the answers, both with their value at step 0."""
    rows = merge(rows)
    figure = Figure(figsize=(9, 6.2), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    entitle(figure, title, 17)
    names = ("in training", "held-out", "before training")
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 2], sharex=True)
    _dress(upper, "Accuracy: share of answers that are right", size=12)
    _dress(lower, "Length of an answer, in tokens", size=12)
    _train_and_held_out(upper, rows, _accuracy_key(rows), "eval_accuracy", top=1.0, size=12, names=names)
    _train_and_held_out(lower, rows, "completions/mean_length", "eval_length", size=12, names=names)
    lower.set_xlabel("step (one update of the weights)", fontsize=12, color=INK)
    return figure


def summary(rows: Iterable[Row]) -> str:
    """One line: where the run stands, and where it stood before training."""
    rows = merge(rows)
    if not rows:
        return "no step yet"
    numbers = [("reward", "reward", 2), ("accuracy in training", _accuracy_key(rows), 2), ("held-out accuracy", "eval_accuracy", 2),
               ("answer length", "eval_length", 0), ("reflection words an answer", "eval_reflection", 2)]
    if not _curve(rows, "eval_length")[1]:
        numbers[3] = ("answer length in training", "completions/mean_length", 0)
    if _fits(rows):
        numbers[0] = ("loss", "loss", 3)
    parts = [f"step {rows[-1]['step']}"]
    for name, key, digits in numbers:
        steps, values = _curve(rows, key)
        if values:
            first = f" ({values[0]:.{digits}f} at step {steps[0]:g})" if len(values) > 1 else ""
            parts.append(f"{name} {values[-1]:.{digits}f}{first}")
    return ", ".join(parts)


def merge(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows in the order of their steps, one a step: what was measured on held-out problems joins the row of its step."""
    merged: dict[float, dict[str, Any]] = {}
    for row in rows:
        merged.setdefault(row["step"], {}).update(row)
    return [merged[step] for step in sorted(merged)]


# ------------------------------------------------------------------------------------------------------------------------------------------
# The panels

def _reward(axes: Axes, rows: list[dict]) -> None:
    names = sorted({key for row in rows for key in row if key.startswith("rewards/") and key.endswith("/mean")})
    lines = [("total", _curve(rows, "reward"))]
    lines += [(key.split("/")[1].removesuffix("_reward").removesuffix("_consistency"), _curve(rows, key)) for key in names]
    _lines(axes, lines)


def _accuracy(axes: Axes, rows: list[dict]) -> None:
    _train_and_held_out(axes, rows, _accuracy_key(rows), "eval_accuracy", top=1.0)


def _length(axes: Axes, rows: list[dict]) -> None:
    _train_and_held_out(axes, rows, "completions/mean_length", "eval_length")
    cut = _curve(rows, "completions/clipped_ratio")[1]
    if cut:
        axes.text(0.97, 0.04, f"{cut[-1]:.0%} cut off", transform=axes.transAxes, ha="right", fontsize=10, color=GREY)


def _reflection(axes: Axes, rows: list[dict]) -> None:
    _train_and_held_out(axes, rows, "reflection", "eval_reflection")


def _language(axes: Axes, rows: list[dict]) -> None:
    _train_and_held_out(axes, rows, "language_mixing", "eval_language_mixing")


def _entropy(axes: Axes, rows: list[dict]) -> None:
    _lines(axes, [("", _curve(rows, "entropy"))])


def _kl(axes: Axes, rows: list[dict]) -> None:
    curve = _curve(rows, "kl")
    if curve[1] and not any(curve[1]):
        _note(axes, "not used\n(beta = 0)")
    else:
        _lines(axes, [("", curve)])


def _format(axes: Axes, rows: list[dict]) -> None:
    _train_and_held_out(axes, rows, "well_formed", "eval_format", top=1.0)


def _loss(axes: Axes, rows: list[dict]) -> None:
    _lines(axes, [("", _curve(rows, "loss"))])


def _rate(axes: Axes, rows: list[dict]) -> None:
    steps, values = _curve(rows, "learning_rate")
    _lines(axes, [("", (steps, [1e4 * value for value in values]))])


def _margin(axes: Axes, rows: list[dict]) -> None:
    _lines(axes, [("", _curve(rows, "margin"))])


def _signal(axes: Axes, rows: list[dict]) -> None:
    _lines(axes, [("no signal", _curve(rows, "frac_reward_zero_std")), ("clipped", _curve(rows, "clip_ratio/region_mean"))])


PANELS = {
    "reward": ("Reward", _reward),
    "accuracy": ("Accuracy", _accuracy),
    "length": ("Answer length, tokens", _length),
    "reflection": ("Reflection words an answer", _reflection),
    "language": ("Answers that mix languages", _language),
    "entropy": ("Entropy, nats a token", _entropy),
    "kl": ("KL to the reference", _kl),
    "signal": ("No-signal groups, clipping", _signal),
}
# Of supervised fine-tuning and of reward models. The length in training is that of the examples.
FITTING = {
    "loss": ("Loss of the batch", _loss),
    "accuracy": ("Accuracy", _accuracy),
    "margin": ("Margin, chosen over rejected", _margin),
    "format": ("Answers in the format", _format),
    "length": ("Answer length, tokens", _length),
    "reflection": ("Reflection words an answer", _reflection),
    "language": ("Answers that mix languages", _language),
    "entropy": ("Entropy, nats a token", _entropy),
    "rate": ("Learning rate, 1e-4", _rate),
}
_LOGGED_AS = {"loss": ("loss",), "accuracy": ("accuracy", "eval_accuracy"), "margin": ("margin",), "format": ("eval_format",),
              "length": ("eval_length",), "reflection": ("eval_reflection",), "language": ("eval_language_mixing",),
              "entropy": ("entropy",), "rate": ("learning_rate",)}


def _fits(rows: Sequence[Row]) -> bool:
    """Whether these are rows of a training over fixed examples: a loss, and no reward."""
    return any("loss" in row for row in rows) and not any("reward" in row for row in rows)


def _is_logged(name: str, rows: Sequence[Row]) -> bool:
    return any(key in row for row in rows for key in _LOGGED_AS[name])


# ------------------------------------------------------------------------------------------------------------------------------------------
# Drawing

def _curve(rows: Sequence[Row], key: str) -> Curve:
    """Steps and values of one metric, where it was measured and is a number."""
    points = [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float) and math.isfinite(row[key])]
    return [float(step) for step, _ in points], [float(value) for _, value in points]


def _accuracy_key(rows: Sequence[Row]) -> str:
    """Accuracy in training goes by the name of its reward function; a reward model has its own."""
    keys = sorted({key for row in rows for key in row if key.startswith("rewards/accuracy") and key.endswith("/mean")})
    return keys[0] if keys else "accuracy"


def _dress(axes: Axes, heading: str, caption: str | None = None, *, size: float = 11) -> None:
    axes.set_title(heading, loc="left", fontsize=size, fontweight="bold", color=INK, pad=6 if caption is None else 18)
    if caption:
        axes.text(0, 1.02, caption, transform=axes.transAxes, fontsize=10, color=GREY)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=size - 1, colors=INK, length=0)
    axes.locator_params(axis="x", nbins=5, integer=True)
    axes.locator_params(axis="y", nbins=5)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)


def _note(axes: Axes, text: str) -> None:
    """Say why a panel is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=11, color=GREY)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _plot(axes: Axes, curve: Curve, **style: Any) -> None:
    """One curve; a crowded one is drawn pale, with its running mean over a twentieth of the run on top."""
    steps, values = curve
    if len(steps) > _CROWDED:
        axes.plot(steps, values, color=style["color"], linewidth=0.8, alpha=0.3)
        half = len(values) // 40
        windows = [values[max(0, i - half):i + half + 1] for i in range(len(values))]
        values = [sum(window) / len(window) for window in windows]
    axes.plot(steps, values, **({"marker": "o"} if len(steps) == 1 else {}) | style)


def _lines(axes: Axes, lines: Sequence[tuple[str, Curve]]) -> None:
    """Several curves, each named at its end."""
    lines = [(name, curve) for name, curve in lines if curve[1]]
    if not lines:
        _note(axes, "not logged")
        return
    ends = []
    for number, ((name, (steps, values)), colour) in enumerate(zip(lines, itertools.cycle(_COLOURS), strict=False)):
        style = _STYLES[(number + number // len(_COLOURS)) % len(_STYLES)]          # a colour that comes again comes in another style
        _plot(axes, (steps, values), color=colour, linestyle=style, linewidth=1.7)
        ends.append((values[-1], f"{name} {_short(values[-1])}".strip(), colour))
    _from_zero(axes, [value for _, curve in lines for value in curve[1]])
    _label_ends(axes, ends, 10)


def _train_and_held_out(axes: Axes, rows: Sequence[Row], train: str, held_out: str, *, top: float | None = None, size: float = 10,
                        names: tuple[str, str, str] = ("", "", "")) -> None:
    """A metric on training problems and on held-out ones, with its value before training as a dashed line and the numbers at the right.

    Training answers come from the policy before the step, so a run without held-out problems has the line as well; TRL counts from step 1.
    """
    trained, held = _curve(rows, train), _curve(rows, held_out)
    if not trained[1] and not held[1]:
        _note(axes, "not logged")
        return
    ends = []
    (first, *_), (before, *_) = held if held[1] else trained
    if first <= 1:
        axes.axhline(before, **_BEFORE)
        ends.append((before, f"{_short(before)} {names[2]}", INK))
    for (steps, values), name, style in ((trained, names[0], _TRAIN), (held, names[1], _HELD_OUT)):
        if values:
            _plot(axes, (steps, values), **style)
            ends.append((values[-1], f"{_short(values[-1])} {name}", style["color"]))
    _from_zero(axes, trained[1] + held[1], top)
    _label_ends(axes, ends, size)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2f}"


def _from_zero(axes: Axes, values: Sequence[float], top: float | None = None) -> None:
    """Every scale of the board holds 0, so that a small change looks small."""
    low, high = min(0.0, *values), max(0.0, *values)
    axes.set_ylim(low * 1.08, (top or high or 1.0) * 1.08)


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], size: float) -> None:
    """Write each curve's name to the right of its last value, moved apart where two would touch; no legend to decode."""
    low, high = axes.get_ylim()
    rows = axes.get_subplotspec().get_gridspec().nrows
    apart = 1.3 * size / 72 / (0.68 * axes.figure.get_figheight() / rows)       # the height of a line of text, as a share of the panel's
    ends, heights = sorted(ends), []
    for value, _, _ in ends:                                                    # upwards, each at least so far above the one below
        heights.append(max((value - low) / (high - low), heights[-1] + apart if heights else -math.inf))
    ceiling = 1.0
    for place in reversed(range(len(ends))):                                    # and down again, so that none runs into the title
        heights[place] = min(heights[place], ceiling)
        ceiling = heights[place] - apart
    for height, (_, text, colour) in zip(heights, ends, strict=True):
        axes.text(1.02, height, text, transform=axes.transAxes, va="center", fontsize=size, color=colour)
