"""The ledger as it is read: in a terminal, in a notebook, in the README, and as one picture of all intervals beside the paper's side."""

import html
import shutil
import textwrap
from collections import Counter
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from r1lib import ledger
from r1lib.claims import SCALE, VERDICTS, WORD
from r1lib.ledger import Record
from r1lib.report import board, page
from r1lib.report.board import BLUE, GREY, GRID, INK, ORANGE

_LOOK = {"reproduced": (BLUE, "o"), "partly": (GREY, "D"), "not reproduced": (ORANGE, "s")}
_SIGNED = ("points", "tokens", "steps")                      # units of differences
_GAP = "  "
_PARTLY = "*Partly* is a number that points the paper's way without an interval that shows it, or a claim of which one half holds."


def counted(records: Sequence[Record]) -> str:
    """How many claims came to each verdict, as one sentence."""
    counts = Counter(record["verdict"] for record in records)
    words = {verdict: verdict for verdict in VERDICTS} | {"needs a real model": "that only a real model can show"}
    return f"{len(records)} claims: " + ", ".join(f"{counts[verdict]} {words[verdict]}" for verdict in VERDICTS if counts[verdict])


def seeds_of(records: Sequence[Record]) -> list[int]:
    """Every seed of this run that some verdict goes by."""
    return sorted({seed for record in records if not record["taken_from"] for seed in record["seeds"]})


def ours(record: Record) -> str:
    """What was measured here, with its interval: +52.0 points [46.5, 57.6]. A claim that fewer seeds can judge than others says so."""
    if record["ours"] is None:
        return "–"
    scale, unit = SCALE.get(record["unit"], 1), WORD.get(record["unit"], record["unit"])
    digits = 1 if scale == 100 or record["unit"] == "tokens" else 2
    sign = "+" if record["unit"] in _SIGNED else ""
    around = ""
    if record["interval"]:
        around = " [{}]".format(", ".join(f"{scale * bound:.{digits}f}" for bound in record["interval"]))
    return f"{scale * record['ours']:{sign}.{digits}f} {unit}{around}"


def _here(records: Sequence[Record]) -> str:
    """The head of the column of our numbers."""
    seeds = seeds_of(records)
    if not seeds:
        return "here"
    return f"here, single seed ({seeds[0]})" if len(seeds) == 1 else f"here, {len(seeds)} seeds"


def _ours_and_seeds(record: Record, records: Sequence[Record]) -> str:
    if record["taken_from"]:
        return f"{ours(record)}, not of this run: {len(record['seeds'])} seeds of {record['taken_from']}"
    fewer = record["seeds"] and record["seeds"] != seeds_of(records)
    return ours(record) + (f", seed {' and '.join(map(str, record['seeds']))} only" if fewer else "")


# ------------------------------------------------------------------------------------------------------------------------------------------
# As text

def table(records: Sequence[Record], width: int | None = None) -> str:
    """All claims in aligned columns, as wide as the terminal; cells that are too long are wrapped."""
    width = width or min(shutil.get_terminal_size((120, 24)).columns, 160)
    first, last = max(map(len, VERDICTS)), 2
    rest = max(width - first - last - 4 * len(_GAP), 48)
    widths = (first, rest * 36 // 100, rest * 32 // 100, rest - rest * 36 // 100 - rest * 32 // 100, last)
    lines = _row(("verdict", "claim", "the paper", _here(records), "nb"), widths)
    lines.append(_GAP.join("-" * column for column in widths))
    for record in records:
        cells = (record["verdict"], record["title"], record["paper"], _ours_and_seeds(record, records), record["notebook"][:2])
        lines += _row(cells, widths)
    return "\n".join([*lines, "", *textwrap.wrap(counted(records) + ".", width)])


def _row(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    wrapped = [textwrap.wrap(cell, column) or [""] for cell, column in zip(cells, widths, strict=True)]
    height = max(map(len, wrapped))
    padded = [lines + [""] * (height - len(lines)) for lines in wrapped]
    return [_GAP.join(f"{line:{column}}" for line, column in zip(line, widths, strict=True)).rstrip() for line in zip(*padded, strict=True)]


def explained(record: Record) -> str:
    """One claim in full: what it says and where, the rule, and everything that was measured."""
    lines = [f"{record['name']}: {record['claim']}", f"  source    {record['source']}", f"  paper     {record['paper']}",
             f"  here      {ours(record)}", f"  rule      {record['rule']}",
             f"  verdict   {record['verdict']}, by {_seeds(record)}", f"  notebook  {record['notebook']}"]
    for name, interval in record["evidence"].items():
        value, low, high = ("?" if bound is None else f"{bound:.4g}" for bound in interval.values())
        lines.append(f"  evidence  {name}: {value} [{low}, {high}]")
    return "\n".join([*lines, *(f"  missing   {name}" for name in record["missing"])])


def _seeds(record: Record) -> str:
    seeds = record["seeds"]
    said = "no seed" if not seeds else f"a single seed ({seeds[0]})" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    return f"{said} of {record['taken_from']}" if record["taken_from"] else said


def markdown(records: Sequence[Record]) -> str:
    """The table of the README."""
    lines = [f"| verdict | claim | the paper | {_here(records)} | notebook |", "|---|---|---|---|---|"]
    for record in records:
        number, name = record["notebook"][:2], record["notebook"]
        cells = (f"**{record['verdict']}**", record["title"], record["paper"], _ours_and_seeds(record, records),
                 f"[{number}](notebooks/{name}.ipynb)")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([f"{counted(records)}. {_PARTLY}", "", *lines])


# ------------------------------------------------------------------------------------------------------------------------------------------
# In a notebook

def show(profile: str, seeds: Sequence[int] | None = None) -> list[Record]:
    """The ledger of the notebooks' run, or of these seeds: the picture, what it says in a few words, and every claim with its rule.

    It is kept as runs/<profile>/ledger.json.
    """
    records = ledger.keep(profile, seeds)
    said = counted(records)
    board.show(picture(records), said, alt=f"Forest plot: our interval for each claim beside the paper's side. {said}")
    by = seeds_of(records)
    page.say(f"**{said}.** {_PARTLY} " + (
        "Nothing was measured in this run." if not by else
        f"All verdicts are of seed {by[0]} only: their intervals are over problems, and say nothing about another training run."
        if len(by) == 1 else f"The intervals hold what differs between problems and between the seeds {', '.join(map(str, by))}.")
        + _taken(records) + _waiting(records))
    rows = [[_coloured(record["verdict"]), _sourced(record), record["paper"], _unbroken(_ours_and_seeds(record, records)), record["rule"],
             record["notebook"][:2]] for record in records]
    page.sheet("The claims ledger", ["verdict", "claim", "the paper", _here(records), "the rule", "nb"], rows)
    return records


def _taken(records: Sequence[Record]) -> str:
    """Which verdicts are not of this run."""
    taken = [record for record in records if record["taken_from"]]
    if not taken:
        return ""
    return (f" {len(taken)} verdicts are not of this run but of the project's own findings ({taken[0]['taken_from']}), because what they "
            "go by takes too long for a notebook; they say so.")


def _waiting(records: Sequence[Record]) -> str:
    """Which notebooks would measure what this run has not."""
    if not (notebooks := sorted({record["notebook"][:2] for record in records if record["verdict"] == "not measured"})):
        return ""
    return (f" Claims of notebook {', '.join(notebooks)} wait to be measured: a notebook does so when it runs, and what is too long for "
            "one is done by `python -m r1lib results --only findings`.")


def _coloured(verdict: str) -> page.Cell:
    colour = f"color: {_LOOK[verdict][0]}; " if verdict in _LOOK else ""
    return f'<b style="{colour}white-space: nowrap">{html.escape(verdict)}</b>', verdict


def _sourced(record: Record) -> page.Cell:
    claim, source = record["claim"], record["source"]
    quiet = f'<span style="opacity: 0.65">{html.escape(source)}</span>'
    return f'<div style="min-width: 16em">{html.escape(claim)} {quiet}</div>', f"{claim} ({source})"


def _unbroken(number: str) -> page.Cell:
    """A number with its interval below it."""
    parts = number.replace(" [", "\n[").replace("], ", "],\n").split("\n")
    return f'<span style="white-space: nowrap">{"<br>".join(map(html.escape, parts))}</span>', number


# ------------------------------------------------------------------------------------------------------------------------------------------
# As a picture

# Panel -> (units, its axis). "share" is drawn from its level on, other units each on a scale of their own.
_PANELS = ((("points", "share"), "points, a share from its level on"), (("times",), "times"),
           (("tokens", "steps", "words"), "each in its own unit"))


def picture(records: Sequence[Record]) -> Figure:
    """A forest plot: a row for each claim that was measured, our interval in the colour of its verdict, the paper's side pale behind it.

    The rows are in the order of the verdicts, and within these in the paper's. The paper's number is marked where it has one in the unit.
    """
    measured = [record for verdict in _LOOK for record in records if record["verdict"] == verdict]
    panels = [(units, name, rows) for units, name in _PANELS if (rows := [record for record in measured if record["unit"] in units])]
    heights = [len(rows) + 1.6 for *_, rows in panels] or [3]
    figure = Figure(figsize=(12, 1.3 + 0.34 * sum(heights)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
    figure.suptitle("The claims ledger: what the miniature shows, beside what the paper says\n", fontsize=16, fontweight="bold", color=INK,
                    x=0.012, ha="left")
    figure.text(0.012, 1 - 0.52 / figure.get_figheight(), counted(records), fontsize=11.5, color=INK, va="top")
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False).flatten()
    for panel, (units, name, rows) in zip(axes, panels, strict=False):
        _forest(panel, rows, name, units)
    if not panels:
        axes[0].set(xticks=[], yticks=[])
        axes[0].set_axis_off()
        axes[0].text(0.5, 0.5, "nothing was measured in this run", ha="center", va="center", fontsize=13, color=GREY)
    figure.legend(handles=_key(), loc="outside lower center", ncols=5, frameon=False, fontsize=11, labelcolor=INK)
    return figure


def _forest(panel: Axes, rows: Sequence[Record], name: str, units: Sequence[str]) -> None:
    numbers = [_numbers(record) for record in rows]
    own = units == _PANELS[-1][0]
    if own:                                                                       # 1 is the farthest that a row's numbers reach
        numbers = [[point and point / max(abs(known) for known in points if known) for point in points] for points in numbers]
    inner = [abs(point) for value, _, _, *theirs, _ in numbers for point in (value, *theirs) if point is not None]
    if units == ("times",):
        panel.set_xscale("log")
        left, right = 0.5, max(2.0, *inner) * 1.4
        panel.set_xticks([tick for tick in (0.5, 1, 2, 5, 10, 20, 50) if tick <= right])
        panel.xaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
    else:
        right = 1.15 if own else max(20.0, *inner) * 1.12
        left = -right
    for place, (record, (value, low, high, from_, to, origin)) in enumerate(zip(rows, numbers, strict=True)):
        colour, marker = _LOOK[record["verdict"]]
        side = (origin, right) if record["side"] > 0 else (left, origin)
        panel.fill_betweenx([place - 0.36, place + 0.36], *side, color=BLUE, alpha=0.1, linewidth=0)
        if from_ is not None:
            panel.plot([from_, to], [place, place], color=INK, linewidth=5, alpha=0.35, solid_capstyle="round")
            panel.plot([(from_ * to) ** 0.5 if units == ("times",) else (from_ + to) / 2], [place], marker="d", markersize=9, color="white",
                       markeredgecolor=INK, markeredgewidth=1.5)
        if low is not None and high is not None:
            panel.plot([max(low, left), min(high, right)], [place, place], color=colour, linewidth=2.6)
            for bound, edge, arrow in ((low, left, "<"), (high, right, ">")):
                if (bound < left) if edge == left else (bound > right):           # it goes on beyond the edge
                    panel.plot([edge], [place], arrow, color=colour, markersize=8, clip_on=False)
        panel.plot([value], [place], marker, color=colour, markersize=8, zorder=4)
        panel.text(1.012, place, ours(record), transform=panel.get_yaxis_transform(), va="center", fontsize=11, color=colour)
    panel.axvline(1 if units == ("times",) else 0, color=INK, linewidth=1.1)
    panel.set(xlim=(left, right), ylim=(len(rows) - 0.4, -0.6))
    panel.set_yticks(range(len(rows)), [record["title"] for record in rows])
    panel.set_xlabel(name, fontsize=11, color=GREY)
    panel.tick_params(length=0, labelsize=11.5, labelcolor=INK)
    panel.grid(axis="x", color=GRID)
    panel.set_axisbelow(True)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.spines["bottom"].set_color(GREY)
    if own:
        panel.set_xticks([0], ["0"])


def _numbers(record: Record) -> list[float | None]:
    """value, low, high, the paper's lowest and highest, and where its side begins, as they are drawn."""
    low, high = record["interval"] or (None, None)
    start = record["origin"] if record["unit"] == "share" else 0.0
    return [None if point is None else SCALE.get(record["unit"], 1) * (point - start)
            for point in (record["ours"], low, high, *(record["theirs"] or (None, None)), record["origin"])]


def _key() -> list[Line2D | Patch]:
    drawn = [Line2D([], [], color=colour, marker=marker, markersize=8, linewidth=2.6, label=verdict)
             for verdict, (colour, marker) in _LOOK.items()]
    return [*drawn, Patch(color=BLUE, alpha=0.1, linewidth=0, label="the paper's side"),
            Line2D([], [], color=(0, 0, 0, 0), marker="d", markersize=9, markerfacecolor="white", markeredgecolor=INK, markeredgewidth=1.5,
                   label="the paper's number")]
