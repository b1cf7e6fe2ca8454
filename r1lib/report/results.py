"""The committed results of long runs: a CSV that anyone can plot, a table and a picture made from it, and the README's copy of that table.

    python -m r1lib results --profile cpu --seeds 0 1 2
"""

import csv
import importlib
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r1lib import ledger, machine, paper, paths, profiles, stages
from r1lib.pipeline import MODELS
from r1lib.report import board
from r1lib.report import ledger as shown
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
Scores = dict[str, dict[int, dict[str, float]]]          # stage -> seed -> metric -> value
# The panels of the picture of all stages: metric of `stages.SCORES` -> the colour of its line.
_PANELS = {"math": board.BLUE, "code": board.BLUE, "logic": board.BLUE, "general quality": board.GREEN, "format": board.ORANGE,
           "readability": board.ORANGE, "language consistency": board.ORANGE, "safety": board.PURPLE}
_ROAD = ("base", "zero", "dev1", "dev2", "dev3", "r1")   # the stages in the paper's order; V3 stands beside it
# Experiment -> the module whose measure(profile=..., seed=..., runs=...) keeps its findings.
EXPERIMENTS = {"aha": "r1lib.aha", "distillation": "r1lib.distillation", "evaluation": "r1lib.comparisons",
               "unsuccessful": "r1lib.unsuccessful", "ablations": "r1lib.ablations"}
_STORED = ("stages", "zero", "curves")                   # evidence that the ledger reads from what stages stored


def r1_zero(profile: str, seeds: Sequence[int]) -> None:
    """Train R1-Zero with each seed (what is there is loaded) and write results/r1_zero/: seeds.csv, table.md, learning_curve.png.

    Seed 0 is the notebooks' own run; the others lie in runs/<profile>/seeds/. What the file has of other seeds stays as it is.
    """
    series: Series = defaultdict(lambda: defaultdict(dict))
    for seed, step, name, value in _of_other_seeds("r1_zero", "seeds.csv", seeds, at=0):
        series[name][int(seed)][int(step)] = float(value)
    before = stages.evaluation("base", profile=profile).summary()          # every seed starts from the same base
    for seed in seeds:
        folder = _folder(profile, seed, "zero")
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
    rows = [(seed, step, name, f"{value:.6g}") for seed in sorted(series["pass@1"]) for name in sorted(series)
            for step, value in sorted(series[name][seed].items())]
    _keep("r1_zero", profile, seeds, series["pass@1"], "seeds.csv", ("seed", "step", "metric", "value"), rows,
          _table(series, profiles.get(profile).evaluation_samples), "learning_curve.png", _picture(series))


def r1(profile: str, seeds: Sequence[int]) -> None:
    """Train every stage with each seed (what is there is loaded) and write results/r1/: stages.csv, table.md, stages.png.

    What the file has of other seeds stays as it is.
    """
    scores: Scores = defaultdict(lambda: defaultdict(dict))
    for name, seed, metric, value in _of_other_seeds("r1", "stages.csv", seeds, at=1):
        scores[name][int(seed)][metric] = float(value)
    for seed in seeds:
        for name in MODELS:
            folder = _folder(profile, seed, name)
            if name != "base":
                stages.run(name, profile=profile, seed=seed, folder=folder, watchers=[Progress()])
            measured = stages.scores(name, profile=profile, folder=folder)
            scores[name][seed] = {metric: interval["value"] for metric, interval in measured.items()}
            print(f"seed {seed}, {name}: measured on all fixed sets", flush=True)
    rows = [(name, seed, metric, f"{value:.6g}") for name in MODELS for seed in sorted(scores[name])
            for metric, value in scores[name][seed].items()]
    _keep("r1", profile, seeds, scores["base"], "stages.csv", ("stage", "seed", "metric", "value"), rows, stage_table(scores),
          "stages.png", _stage_picture(scores))


def findings(profile: str, seeds: Sequence[int], experiments: Sequence[str] = tuple(EXPERIMENTS)) -> None:
    """Make what claims are judged by, with each seed, and write results/findings.csv; then the ledger.

    Stages and evaluations that are missing are made, experiments are measured (what is there is loaded). The file's rows of other
    experiments and of other seeds stay as they are.
    """
    for seed in seeds:
        for name in ledger.stages_needed():
            stages.run(name, profile=profile, seed=seed, folder=_folder(profile, seed, name), watchers=[Progress()])
        for name, set_name, many in ledger.evaluations_needed():
            folder = paths.stage(profile, name) if name == "base" else _folder(profile, seed, name)
            stages.evaluation(name, profile=profile, set_name=set_name, folder=folder,
                              samples=None if many else profiles.get(profile).table_samples)
        for experiment in experiments:
            importlib.import_module(EXPERIMENTS[experiment]).measure(profile=profile, seed=seed, runs=ledger.run_folder(profile, seed))
            print(f"seed {seed}, {experiment}: measured", flush=True)
    file, known = ledger.findings_file(), {}
    if file.exists():
        known = ledger.read_findings(file)
    for seed in seeds:
        others = {name: interval for name, interval in known.get(seed, {}).items() if name.split("/")[0] not in (*experiments, *_STORED)}
        now = ledger.gather(profile, seed=seed, runs=ledger.run_folder(profile, seed))
        known[seed] = others | {name: interval for name, interval in now.items() if name.split("/")[0] in (*experiments, *_STORED)}
    ledger.write_findings(known, file)
    print(f"{file.relative_to(paths.root())}: {sum(map(len, known.values()))} numbers, {len(known)} seeds", flush=True)
    claims()


def claims() -> None:
    """Judge every claim by results/findings.csv and write results/ledger.json, results/ledger.png and the README's table."""
    records = ledger.judge(ledger.read_findings(ledger.findings_file()))
    out = paths.root() / "results"
    ledger.write(records, out / "ledger.json")
    (out / "ledger.png").write_bytes(board.png(shown.picture(records)))
    _into_readme("ledger", f"Made by `python -m r1lib results --only ledger` from `results/findings.csv`.\n\n{shown.markdown(records)}")
    print(shown.table(records))


def _folder(profile: str, seed: int, stage: str) -> Path:
    return ledger.run_folder(profile, seed) / stage


def _of_other_seeds(name: str, csv_name: str, seeds: Sequence[int], *, at: int) -> list[list[str]]:
    """The rows of results/<name>/<csv_name> whose seed, in column `at`, is none of these."""
    file = paths.root() / "results" / name / csv_name
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return [row for row in list(csv.reader(lines))[1:] if int(row[at]) not in seeds]


def _keep(name: str, profile: str, seeds: Sequence[int], all_seeds: Iterable[int], csv_name: str, heads: Sequence[str],
          rows: Sequence[Sequence[object]], table: str, picture_name: str, picture: Figure) -> None:
    """Write results/<name>/: the CSV, the table with the command that made it, which goes into the README too, and the picture."""
    out = paths.root() / "results" / name
    out.mkdir(parents=True, exist_ok=True)
    with (out / csv_name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([heads, *rows])
    command = f"python -m r1lib results --only {name} --profile {profile} --seeds {' '.join(map(str, seeds))}"
    here = machine.describe()
    others = sorted(set(all_seeds) - set(seeds))
    before = f"; seed{'s' * (len(others) > 1)} {' and '.join(map(str, others))} as measured before" if others else ""
    text = f"Made by `{command}` on {here.cpu}, {here.cores} cores, torch {here.versions['torch']}{before}.\n\n{table}"
    (out / "table.md").write_text(text + "\n", encoding="utf-8")
    (out / picture_name).write_bytes(board.png(picture))
    _into_readme(name, text)
    print(text)


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
        _dress(axes, title)
        axes.set_ylim(0, 1 if name == "eval_accuracy" else None)
        axes.set_xlabel("step", fontsize=12)
    axes.legend(fontsize=11, frameon=False, loc="upper left")
    return figure


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=13, color=board.INK)
    axes.tick_params(labelsize=11)
    axes.grid(color=board.GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def stage_table(scores: Scores) -> str:
    """A row for each metric, a column for each stage: the mean over seeds, with the lowest and the highest."""
    stages_there = list(scores)
    seeds = sorted(scores[stages_there[0]])
    titles = [paper.PIPELINE[name].title for name in stages_there]
    lines = [f"| {len(seeds)} seeds: mean (lowest to highest) | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    for metric in stages.SCORES:
        unit = "tokens" if metric == "mean length" else "%"
        cells = []
        for name in stages_there:
            values = [scores[name][seed][metric] * (1 if unit == "tokens" else 100) for seed in seeds]
            cells.append(f"**{statistics.mean(values):.0f}** ({min(values):.0f} to {max(values):.0f})")
        lines.append(f"| {metric}, {unit} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _stage_picture(scores: Scores) -> Figure:
    """A panel for each of the main metrics: the road from the base to R1, a dot for each seed and a line through their means."""
    figure = Figure(figsize=(13, 6.6), layout="constrained")
    figure.suptitle("From the base to R1 in miniature, stage by stage, held-out problems", fontsize=16, fontweight="bold",
                    color=board.INK, x=0.01, ha="left")
    panels = figure.subplots(2, len(_PANELS) // 2, sharey=True).flatten()
    for axes, (metric, colour) in zip(panels, _PANELS.items(), strict=True):
        values = [[100 * by_metric[metric] for by_metric in scores[name].values()] for name in _ROAD]
        axes.plot(range(len(_ROAD)), [statistics.mean(of_stage) for of_stage in values], color=colour, linewidth=2)
        for place, of_stage in enumerate(values):
            axes.plot([place] * len(of_stage), of_stage, "o", color=colour, markersize=5, markerfacecolor="white")
        chat = statistics.mean(100 * by_metric[metric] for by_metric in scores["v3"].values())
        axes.axhline(chat, color=board.GREY, linewidth=1, linestyle=(0, (4, 3)))
        above = chat < 90                                      # higher up, the words would run into the title
        axes.annotate("V3", (0, chat), va="bottom" if above else "top", fontsize=11, color=board.GREY, xytext=(0, 2 if above else -3),
                      textcoords="offset points")
        _dress(axes, f"{metric}, %")
        axes.set_xticks(range(len(_ROAD)), [paper.PIPELINE[name].title.removeprefix("R1 ") for name in _ROAD], rotation=35)
        axes.set_ylim(0, 103)
    return figure


def _into_readme(name: str, table: str) -> None:
    """Put a table between the README's two marks of that name."""
    readme = paths.root() / "README.md"
    text = readme.read_text(encoding="utf-8")
    marks = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    readme.write_text(marks.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text), encoding="utf-8")
