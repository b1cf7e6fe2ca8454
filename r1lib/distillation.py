"""Distillation against reinforcement learning on the same small bases: what either has cost, and what came of it.

    found = distillation.measure(profile="cpu", seed=0)
    found["distill_minus_zero_1m"]                      # {"value": ..., "low": ..., "high": ...}, in pass@1 on the fixed set of math

The stages themselves (distill_1m, distill_04m, zero_1m, zero_04m, distill_1m_rl) stand in `pipeline`.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r1lib import evaluation, findings, paths, pipeline, profiles, stages
from r1lib import lineage as lineages
from r1lib.errors import R1Error
from r1lib.evaluation import Evaluation
from r1lib.findings import Findings
from r1lib.stages import StageRun
from r1lib.training.grpo import GRPORecipe
from r1lib.training.metrics import Progress, Row
from r1lib.training.sft import Example

NAME, NOTEBOOK = "distillation", "10_distillation"
TRANSFER = (64, 256)                   # examples for the 1 M student, besides all of them
PAPER_SAMPLING = "_at_0.6"             # behind a name: with the temperature and the nucleus of the paper's evaluation
_RESAMPLED = ("base_1m", "distill_1m", "zero_1m", "distill_1m_rl")


# ------------------------------------------------------------------------------------------------------------------------------------------
# The models

def transfer(count: int, *, profile: str, runs: Path | None = None) -> dict[str, Any]:
    """What `stages.run_side_by_side` is told to teach the 1 M student by the first `count` examples only, beside it in distill_1m_<count>.

    They are gone over more often, so that there are as many updates: after the same epochs there would be so few that not even the format
    would be learnt, and the curve would tell nothing about examples. `R1Error` as long as the student itself has no examples.
    """
    _, recipe = stages.configure("distill_1m", profile=profile)
    runs = runs or paths.runs(profile)
    there = len(pipeline.read_rows(runs / "distill_1m" / "data.jsonl", Example))
    epochs = max(recipe.epochs, round(recipe.epochs * there / min(count, there)))
    return {"name": "distill_1m", "folder": runs / f"distill_1m_{count}", "settings": {"examples": count, "epochs": epochs}}


def transfers(*, profile: str, runs: Path | None = None) -> dict[str, dict[str, Any]]:
    """`transfer` for every number of examples of the curve, by the name of its folder."""
    return {f"distill_1m_{count}": transfer(count, profile=profile, runs=runs) for count in TRANSFER}


def _all(*, profile: str, seed: int, runs: Path) -> dict[str, StageRun]:
    """Everything that is compared, by the name of its folder."""
    def trained(names: Iterable[str], also: Mapping[str, Mapping[str, Any]]) -> dict[str, StageRun]:
        asked = {name: {"folder": runs / name, "watchers": [Progress(30, name)]} for name in names}
        return stages.run_side_by_side({**asked, **also}, profile=profile, seed=seed)

    done = trained(("zero", "r1"), {}) | trained(("distill_1m", "distill_04m"), {})
    done |= trained(("zero_1m", "zero_04m"), transfers(profile=profile, runs=runs))
    return done | trained(("distill_1m_rl",), {})


def student_of(size: str, *, profile: str) -> str:
    """The base that distill_<size> starts from: a name in data/ or a path."""
    return stages.configure(f"distill_{size}", profile=profile)[0].student


def base_answers(student: str, *, profile: str) -> Evaluation:
    """What a student knew before it was taught: its answers to the fixed set of math. They belong to no seed."""
    return stages.evaluation(**_of_base(student, profile), profile=profile)


def _of_base(student: str, profile: str) -> dict[str, Any]:
    """The profile's own base has answered in its own folder already."""
    folder = None if student == profiles.get(profile).base else paths.stage(profile, Path(student).name)
    return {"name": "base", "base": student, "folder": folder}


# ------------------------------------------------------------------------------------------------------------------------------------------
# What they have cost

@dataclass(frozen=True)
class Spent:
    """What a training has cost up to a measurement on held-out problems, and what it found.

    tokens: that were sampled to learn from. seconds: of sampling, judging and learning, on this machine, without measurements.
    accuracy: of the answers to held-out problems, as the training itself measured it after `step` updates.
    """

    step: int
    tokens: int
    seconds: float
    accuracy: float


def spent_by_rl(rows: Sequence[Row], recipe: GRPORecipe) -> list[Spent]:
    """The measurements in a GRPO run's rows of metrics; the first is the base, which has cost nothing."""
    return _spent(rows, recipe.prompts_per_step * recipe.samples_per_prompt, 0, 0.0)


def spent_by_distillation(rows: Sequence[Row], samples: Mapping[str, float]) -> list[Spent]:
    """The measurements in a fine-tuning's rows. Once it begins, all that the teacher was asked is paid, whatever was thrown away.

    samples: the lineage of the teacher's samples. What the teacher's own training has cost is not counted.
    """
    first, *later = _spent(rows, 0, samples["tokens"], samples["seconds"])
    return [Spent(first.step, 0, 0.0, first.accuracy), *later]


def _spent(rows: Sequence[Row], answers_a_step: int, tokens: float, seconds: float) -> list[Spent]:
    found = []
    for row in rows:
        if "eval_accuracy" in row:                      # of the model before this step's update
            found.append(Spent(row["step"], round(tokens), seconds, row["eval_accuracy"]))
        tokens += answers_a_step * row.get("completions/mean_length", 0)
        seconds += row.get("step_time", 0.0)
    return found


def samples_of(run: StageRun) -> Mapping[str, float]:
    """The lineage of the teacher's samples that a distilled stage was made from."""
    made = lineages.read(run.folder)
    folder = run.folder.parent / pipeline.samples_folder(made["settings"]["teacher"])
    found = lineages.read(folder)
    if not found:
        raise R1Error(f"{folder}: the teacher's samples are not there, and what they have cost is not known. Train {run.name} again.")
    return found


def accuracy_at(points: Sequence[Spent], budget: float, unit: str) -> float | None:
    """What a training had reached when it had spent so many tokens or seconds, between two measurements on the straight line.

    unit: "tokens" or "seconds". None where the training ended before.
    """
    for before, after in itertools.pairwise(points):
        low, high = getattr(before, unit), getattr(after, unit)
        if low <= budget <= high and high > low:
            return before.accuracy + (after.accuracy - before.accuracy) * (budget - low) / (high - low)
    return None


# ------------------------------------------------------------------------------------------------------------------------------------------
# What was found

def measure(*, profile: str, seed: int = 0, runs: Path | None = None) -> Findings:
    """The findings "distillation", kept in `runs`: pass@1 on the fixed set of math of every model, differences on the same problems, costs.

    Shares from 0 to 1 with 95 % intervals over problems; tokens_ and seconds_ have none. Whatever is missing is trained.
    """
    runs = runs or paths.runs(profile)
    done = _all(profile=profile, seed=seed, runs=runs)
    few = profiles.get(profile).table_samples
    asked = {f"base_{size}": _of_base(student_of(size, profile=profile), profile) for size in ("1m", "04m")} | {"base": {"name": "base"}}
    asked |= {name: {"name": found.name, "folder": found.folder, "samples": None if name == "zero" else few}
              for name, found in done.items() if name != "r1"}
    measured = stages.evaluate_side_by_side(asked, profile=profile)
    samples = samples_of(done["distill_1m"])
    made_from = {"weights": {name: made.about["weights_sha256"] for name, made in measured.items()},
                 "samples": {name: made.samples for name, made in measured.items()}, "taught": samples["data_sha256"],
                 "problems": len(measured["base"].problems)}

    def make() -> Findings:
        cooler = {name + PAPER_SAMPLING: {**asked[name], "samples": few, "variant": evaluation.AS_THE_PAPER} for name in _RESAMPLED}
        every = measured | stages.evaluate_side_by_side(cooler, profile=profile)
        columns = {name: made.measures()["pass@1"] for name, made in every.items()}
        taught = spent_by_distillation(done["distill_1m"].rows, samples)[-1]
        alone = spent_by_rl(done["zero_1m"].rows, stages.configure("zero_1m", profile=profile)[1])[-1]
        return _compared(columns) | {f"{unit}_{name}": {"value": float(getattr(spent, unit)), "low": None, "high": None}
                                     for unit in ("tokens", "seconds") for name, spent in (("distill_1m", taught), ("zero_1m", alone))}

    return findings.kept(NAME, make, runs=runs, seed=seed, made_from=made_from, notebook=NOTEBOOK)


def _compared(columns: Mapping[str, np.ndarray]) -> Findings:
    """Model -> [problems], its share of right answers; returns what is found, with the differences taken problem by problem."""
    found = {name: column for name, column in columns.items() if name not in ("base", "zero")}
    found |= {f"transfer_{count}": found.pop(f"distill_1m_{count}") for count in TRANSFER}
    found["transfer_all"] = columns["distill_1m"]
    for size in ("1m", "04m"):
        found[f"gain_{size}"] = columns[f"distill_{size}"] - columns[f"base_{size}"]
        found[f"distill_minus_zero_{size}"] = columns[f"distill_{size}"] - columns[f"zero_{size}"]
    at = PAPER_SAMPLING
    found[f"distill_minus_zero_1m{at}"] = columns[f"distill_1m{at}"] - columns[f"zero_1m{at}"]
    found["rl_after_distill_gain"] = columns["distill_1m_rl"] - columns["distill_1m"]
    found["bigger_gains_more"] = found["gain_1m"] - found["gain_04m"]
    found["zero_small_gain"] = columns["zero_04m"] - columns["base_04m"]
    found["zero_3m_gain"] = columns["zero"] - columns["base"]
    return evaluation.bootstrap(found)
