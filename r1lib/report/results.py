"""The committed results of long runs: a CSV that anyone can plot, a table and a picture made from it, and the README's copy of that table.

    python -m r1lib results --profile cpu --seeds 0 1 2
"""

import csv
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from r1lib import machine, paths, profiles, stages
from r1lib.report import board
from r1lib.training.metrics import Progress

Series = dict[str, dict[int, dict[int, float]]]          # metric -> seed -> step -> value

# From the batches that were learnt from; in the CSV with train/ in front, as the measures below have some of the same names.
_FROM_TRAINING = ("reward", "rewards/accuracy_reward/mean", "rewards/format_reward/mean", "completions/mean_length", "entropy",
                  "reflection", "language_mixing", "frac_reward_zero_std")
# With many samples, before and after.
_MEASURED = ("pass@1", "pass@k", "cons@k", "mean_length", "format", "reflection", "language_mixing")
_TABLE = (
    ("pass@1, held-out math", "pass@1", 100, "{:.1f} %"), ("pass@{k}", "pass@k", 100, "{:.1f} %"), ("cons@{k}", "cons@k", 100, "{:.1f} %"),
    *((f"pass@1, level {level}", f"pass@1/level_{level}", 100, "{:.1f} %") for level in (1, 2, 3, 4, 5)),
    ("well-formed answers", "format", 100, "{:.1f} %"), ("mean response length, tokens", "mean_length", 1, "{:.1f}"),
    ("reflection words per response", "reflection", 1, "{:.2f}"), ("responses that mix languages", "language_mixing", 100, "{:.1f} %"),
)
_README_TABLE = re.compile(r"(<!-- r1_zero: begin -->\n).*?(<!-- r1_zero: end -->)", re.DOTALL)


def r1_zero(profile: str, seeds: Sequence[int]) -> None:
    """Train R1-Zero with each seed (what is there is loaded) and write results/r1_zero/: seeds.csv, table.md, learning_curve.png.

    Seed 0 is the notebooks' own run; the others lie in runs/<profile>/seeds/.
    """
    series: Series = defaultdict(lambda: defaultdict(dict))
    before = stages.evaluation("base", profile=profile).summary()          # every seed starts from the same base
    for seed in seeds:
        folder = paths.stage(profile, "zero") if seed == 0 else paths.runs(profile) / "seeds" / str(seed) / "zero"
        done = stages.run("zero", profile=profile, seed=seed, folder=folder, watchers=[Progress()])
        for row in done.rows:
            for name, value in row.items():
                if name.startswith("eval_") or name in _FROM_TRAINING:
                    series[name if name.startswith("eval_") else f"train/{name}"][seed][row["step"]] = value
        last = done.rows[-1]["step"]
        after = stages.evaluation("zero", profile=profile, folder=folder).summary()
        for step, summary in ((0, before), (last, after)):
            for name in _MEASURED:
                series[name][seed][step] = summary[name]["value"]
            for level, measured in summary["by_level"].items():
                series[f"pass@1/level_{level}"][seed][step] = measured["pass@1"]["value"]
    out = paths.root() / "results" / "r1_zero"
    out.mkdir(parents=True, exist_ok=True)
    _write_csv(series, out / "seeds.csv")
    command = f"python -m r1lib results --profile {profile} --seeds {' '.join(map(str, seeds))}"
    table = f"Made by `{command}` on {_machine()}.\n\n{_table(series, profiles.get(profile).evaluation_samples)}"
    (out / "table.md").write_text(table + "\n", encoding="utf-8")
    (out / "learning_curve.png").write_bytes(board.png(_picture(series)))
    _into_readme(table)
    print(table)


def _machine() -> str:
    here = machine.describe()
    return f"{here.cpu}, {here.cores} cores, torch {here.versions['torch']}"


def _write_csv(series: Series, file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("seed", "step", "metric", "value"))
        for seed in sorted({seed for by_seed in series.values() for seed in by_seed}):
            for name in sorted(series):
                writer.writerows((seed, step, name, f"{value:.6g}") for step, value in sorted(series[name][seed].items()))


def _table(series: Series, k: int) -> str:
    """Before and after, the mean over seeds with the lowest and highest; k: that of pass@k and cons@k."""
    seeds = sorted(series["pass@1"])
    lines = [f"| R1-Zero, {len(seeds)} seeds | before (step 0) | after: mean over seeds | lowest to highest |", "|---|---|---|---|"]
    for title, name, scale, form in _TABLE:
        before = form.format(scale * series[name][seeds[0]][0])
        after = [scale * series[name][seed][max(series[name][seed])] for seed in seeds]
        mean, lowest, highest = (form.format(value) for value in (statistics.mean(after), min(after), max(after)))
        lines.append(f"| {title.format(k=k)} | {before} | **{mean}** | {lowest} to {highest} |")
    return "\n".join(lines)


def _picture(series: Series) -> Figure:
    """Three panels over the steps, a line for each seed: accuracy by training and held-out, length, reflection."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    figure.suptitle("R1-Zero in miniature: reinforcement learning alone, held-out problems", fontsize=16, fontweight="bold",
                    color=board.INK, x=0.01, ha="left")
    panels = (("eval_accuracy", "Accuracy", board.BLUE), ("eval_length", "Response length, tokens", board.GREEN),
              ("eval_reflection", "Reflection words per response", board.PURPLE))
    for axes, (name, title, colour) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for seed, style in zip(sorted(series[name]), ("-", "--", "-.", ":") * 9, strict=False):
            steps, values = zip(*sorted(series[name][seed].items()), strict=True)
            axes.plot(steps, values, style, color=colour, linewidth=2, marker="o", markersize=5, markerfacecolor="white",
                      label=f"seed {seed}")
        axes.axhline(values[0], color=board.INK, linewidth=1, linestyle=(0, (4, 3)), alpha=0.7)
        axes.annotate("before training", (steps[-1], values[0]), ha="right", va="bottom", fontsize=11, color=board.INK, xytext=(0, 3),
                      textcoords="offset points")
        axes.set_title(title, loc="left", fontsize=13, color=board.INK)
        axes.set_ylim(0, 1 if name == "eval_accuracy" else None)
        axes.set_xlabel("step", fontsize=12)
        axes.tick_params(labelsize=11)
        axes.grid(color=board.GRID)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=11, frameon=False, loc="upper left")
    return figure


def _into_readme(table: str) -> None:
    """Put the table between the README's two marks."""
    readme = paths.root() / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(_README_TABLE.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text), encoding="utf-8")
