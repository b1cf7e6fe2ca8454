"""The ledger: every claim of the paper, what this project measured, and a verdict that nobody typed.

    records = ledger.of_runs("cpu")                          # the notebooks' run in runs/cpu: a single seed
    records = ledger.judge(ledger.read_findings(path))       # results/findings.csv: several seeds

Evidence is a number with an interval under a name, for each seed. It is read, never sampled:
    aha/..., distillation/..., evaluation/..., unsuccessful/..., ablations/...     what experiments found (`findings`)
    stages/<metric of stages.SCORES>/<models>                                      stored evaluations of all stages on all fixed sets
    zero/<measure>/<models>                                                        stored evaluations of the base and R1-Zero, many samples
    curves/<stage>/<metric of metrics.jsonl>                                       the last quarter of a run's steps minus the first
where <models> is one model, two as "dev2 - dev1" (paired: the same problems) or "zero : base" (a ratio), and <measure> one or, as
"pass@1 - cons@k", the difference of two.
"""

import csv
import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from r1lib import evaluation as evaluations
from r1lib import findings, lineage, paths, profiles, stages
from r1lib.claims import CLAIMS, Claim, Unit, Verdict
from r1lib.errors import R1Error
from r1lib.evaluation import Evaluation, Interval
from r1lib.training.metrics import MetricsLog

Evidence = dict[str, Interval]                               # name -> {"value", "low", "high"}; without what could not be measured
Record = dict[str, Any]                                      # a row of ledger.json

_FINDINGS_PROFILE = "cpu"                                    # in which results/findings.csv was measured
_MINUS = " minus "                                           # of two that were not measured in pairs
# Student's t, 97.5 %, for 1, 2, ... degrees of freedom; the last one for more of them, which errs on the wide side.
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)


# ------------------------------------------------------------------------------------------------------------------------------------------
# The evidence of one run

def run_folder(profile: str, seed: int) -> Path:
    """Where the stages and findings of a seed lie: seed 0 is the notebooks' own run."""
    return paths.runs(profile) if seed == 0 else paths.runs(profile) / "seeds" / str(seed)


def seed_of(profile: str) -> int:
    """The seed of the notebooks' run, which need not be 0."""
    made = lineage.read(paths.stage(profile, "zero"))
    return made.get("seed", 0) if made else 0


def gather(profile: str, *, seed: int, runs: Path) -> Evidence:
    """All evidence that the claims ask for and that the run in this folder has.

    What was made from something else than lies there now, or with another seed, is left out, and a line says so.
    """
    profiles.get(profile)
    if not runs.is_dir():
        raise R1Error(f"{runs}: there is no run here; `python -m r1lib report --profile {profile}` makes that of the notebooks, "
                      f"`python -m r1lib results --only findings --seeds {seed}` that of a seed.")
    stored = _Stored(profile, runs, seed)
    evidence = _findings(stored)
    for name in sorted(asked()):
        experiment, _, rest = name.partition("/")
        if experiment in _READERS and (found := _READERS[experiment](stored, rest)):
            evidence[name] = found
    return evidence


def checked(interval: Mapping[str, Any], name: str) -> Interval:
    """An interval as its three numbers, None for what is none. `R1Error` for one that is upside down or made of something else."""
    bounds = {bound: interval.get(bound) for bound in ("value", "low", "high")}
    if strange := [bound for bound in bounds.values() if isinstance(bound, bool) or not isinstance(bound, int | float | None)]:
        raise R1Error(f"{name}: {strange[0]!r} is not a number. Remove its findings: the notebook makes them again.")
    known = {bound: None if value is None or not math.isfinite(value) else float(value) for bound, value in bounds.items()}
    if known["low"] is not None and known["high"] is not None and known["low"] > known["high"]:
        raise R1Error(f"{name}: the interval ends at {known['high']:g} below its start {known['low']:g}. Remove its findings: the notebook "
                      f"makes them again.")
    return known


def evaluations_needed() -> list[tuple[str, str, bool]]:
    """(stage, fixed set, whether with the many samples of R1-Zero's evaluation) of every stored evaluation that claims go by."""
    needed = set()
    for name in asked():
        experiment, _, rest = name.partition("/")
        if experiment in ("stages", "zero"):
            metric, models = rest.rsplit("/", 1)
            sets = stages.SCORES[metric][0] if experiment == "stages" else ("math",)
            needed |= {(stage, set_name, experiment == "zero") for stage in _models(models) for set_name in sets}
    return sorted(needed)


def stages_needed() -> list[str]:
    """Every stage whose stored evaluations or metrics claims go by, but the base."""
    curves = {name.split("/")[1] for name in asked() if name.startswith("curves/")}
    return sorted({stage for stage, _, _ in evaluations_needed() if stage != "base"} | curves)


def asked(claims: Iterable[Claim] = CLAIMS) -> set[str]:
    """The name of every piece of evidence that claims go by."""
    return {part for claim in claims for test in claim.tests for name in test.evidence for part in name.split(_MINUS)}


def _models(models: str) -> list[str]:
    return re.split(r" [-:] ", models)


@dataclass
class _Stored:
    """What a run has stored; weights are hashed and evaluations are read once."""

    profile: str
    runs: Path
    seed: int
    _weights: dict[str, str | None] = field(default_factory=dict)
    _measured: dict[tuple[str, str, bool], tuple[list[str], Mapping[str, np.ndarray]] | None] = field(default_factory=dict)

    def weights(self, stage: str) -> str | None:
        """The hash of a stage's weights; None where it is not finished or was trained with another seed."""
        if stage not in self._weights:
            self._weights[stage] = self._hash(stage)
        return self._weights[stage]

    def measured(self, stage: str, set_name: str, many: bool) -> tuple[list[str], Mapping[str, np.ndarray]] | None:
        """(problems, measure -> [problems]) of what `stages.evaluation` stored of the model that lies there now; None where it did not.

        many: with as many samples as before and after R1-Zero, instead of the fewer of the table of all stages.
        """
        key = stage, set_name, many
        if key not in self._measured:
            made = self._evaluation(*key)
            self._measured[key] = made and ([problem.id for problem in made.problems], made.measures())
        return self._measured[key]

    def _hash(self, stage: str) -> str | None:
        if stage == "base":
            return lineage.weights_sha256(stages.base_folder(profiles.get(self.profile).base))
        made = lineage.read(self.runs / stage)
        if made and made["finished"] and made.get("seed") != self.seed:
            print(f"{lineage.shown(self.runs / stage)}: trained with seed {made.get('seed')}, not {self.seed}: left out.")
        elif made and made["finished"]:
            return lineage.weights_sha256(self.runs / stage / "model")
        return None

    def _evaluation(self, stage: str, set_name: str, many: bool) -> Evaluation | None:
        name = "evaluation.json" if many else f"evaluation-{set_name}-{profiles.get(self.profile).table_samples}.json"
        folders = [self.runs / stage, *([paths.stage(self.profile, "base")] if stage == "base" else [])]     # all seeds share the base
        for kept in (folder / name for folder in folders):
            if kept.exists() and (weights := self.weights(stage)):
                made = evaluations.load(kept)
                if (made.about.get("stage"), made.about.get("weights_sha256")) == (stage, weights):
                    return made
        return None


def _findings(stored: _Stored) -> Evidence:
    """What experiments found, under <experiment>/<name>, unless they were made from models that have been replaced since."""
    evidence: Evidence = {}
    for experiment, made in findings.read_all(stored.runs).items():
        place = f"{lineage.shown(stored.runs)}/findings/{experiment}.json"
        replaced = [stage for stage, weights in _hashes(made["made_from"])
                    if (stored.runs / stage / "model").is_dir() and weights != stored.weights(stage)]
        if made["seed"] != stored.seed or replaced:
            why = f"made from another {replaced[0]}" if replaced else f"made with seed {made['seed']}, not {stored.seed}"
            print(f"{place}: {why}: left out. Notebook {made['notebook']} makes it again.")
            continue
        for name, interval in made["findings"].items():
            known = checked(interval, f"{place}, {name}")
            if known["value"] is not None:
                evidence[f"{experiment}/{name}"] = known
    return evidence


def _hashes(made_from: Any) -> Iterable[tuple[str, str]]:
    """(stage, hash of its weights) wherever `made_from` names one, at any depth."""
    for name, value in made_from.items() if isinstance(made_from, Mapping) else ():
        if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
            yield name, value
        yield from _hashes(value)


def _of_stages(stored: _Stored, name: str) -> Interval | None:
    metric, models = name.rsplit("/", 1)
    sets, measure = stages.SCORES[metric]
    return _compared(stored, models, sets, measure, many=False)


def _of_zero(stored: _Stored, name: str) -> Interval | None:
    measure, models = name.rsplit("/", 1)
    return _compared(stored, models, ("math",), measure, many=True)


def _compared(stored: _Stored, models: str, sets: Sequence[str], measure: str, *, many: bool) -> Interval | None:
    """One model, or two on the same problems; as in `stages.scores`, the problems of several sets stand behind each other."""
    columns, problems = [], []
    for stage in _models(models):
        parts = [stored.measured(stage, set_name, many) for set_name in sets]
        if None in parts:
            return None
        problems.append([ids for ids, _ in parts])
        first, *minus = (np.concatenate([measures[one] for _, measures in parts]) for one in measure.split(" - "))
        columns.append(first - minus[0] if minus else first)
    if any(ids != problems[0] for ids in problems):
        return None
    if len(columns) == 1:
        return _interval(columns[0])
    return _ratio(*columns) if " : " in models else _interval(columns[0] - columns[1])


def _interval(column: np.ndarray) -> Interval | None:
    found = evaluations.bootstrap({"": column})[""]
    return None if found["value"] is None else found


def _ratio(after: np.ndarray, before: np.ndarray) -> Interval | None:
    """The ratio of two means over the same problems, its interval by what each problem adds to it (the delta method)."""
    below = np.nanmean(before)
    if not below > 0:
        return None
    ratio = float(np.nanmean(after) / below)
    around = _interval((after - ratio * before) / below)
    return around and {"value": ratio, "low": ratio + around["low"], "high": ratio + around["high"]}


def _of_curve(stored: _Stored, name: str) -> Interval | None:
    """How much higher a metric is in the last quarter of a run's steps than in the first.

    Each step has its own prompts, so the steps are taken as draws; a trend within a quarter makes the interval wider than it need be.
    """
    stage, metric = name.split("/", 1)
    if not stored.weights(stage):
        return None
    values = [row[metric] for row in MetricsLog(stored.runs / stage / "metrics.jsonl").rows() if row.get(metric) is not None]
    quarter = len(values) // 4
    if quarter < 2:
        return None
    first, last = values[:quarter], values[-quarter:]
    change = statistics.fmean(last) - statistics.fmean(first)
    half = _t(2 * quarter - 2) * math.sqrt((statistics.variance(first) + statistics.variance(last)) / quarter)
    return {"value": change, "low": change - half, "high": change + half}


_READERS = {"stages": _of_stages, "zero": _of_zero, "curves": _of_curve}


# ------------------------------------------------------------------------------------------------------------------------------------------
# Several seeds, and verdicts

def pool(intervals: Sequence[Interval]) -> Interval:
    """One number for several seeds: their mean; of one seed, that seed's own.

    Two things could have come out differently: the training, which seeds show, and the problems, which are the same for all seeds, so that
    their number says nothing about them. The first gives Student's t interval of the mean (a few runs know little about their own spread,
    and the range of three would hold the true mean in three cases of four only), the second the mean of the seeds' own intervals.
    They are independent, so their halves are added in squares. Without an interval of every seed there is none over problems.
    """
    values = [interval["value"] for interval in intervals]
    if len(values) == 1:
        return dict(intervals[0])
    value, between = statistics.fmean(values), _t(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    pooled: Interval = {"value": value}
    for bound, side in (("low", -1), ("high", 1)):
        within = [side * (interval[bound] - interval["value"]) for interval in intervals if interval[bound] is not None]
        among_problems = statistics.fmean(within) if len(within) == len(values) else 0.0
        pooled[bound] = value + side * math.hypot(between, among_problems)
    return pooled


def judge(evidence: Mapping[int, Mapping[str, Interval]], claims: Sequence[Claim] = CLAIMS) -> list[Record]:
    """A record for each claim: claim, source, paper, ours, interval, seeds, rule, verdict, notebook, and all its evidence.

    evidence: seed -> what its run has. A claim is judged by the seeds that have all of its evidence.
    """
    return [_record(claim, evidence) for claim in claims]


def of_runs(profile: str, seeds: Sequence[int] | None = None) -> list[Record]:
    """The ledger of what lies in runs/<profile>/: of the notebooks' run, or of these seeds.

    What no notebook has the time to measure, the ablations, the ledger of the notebooks' run takes from the project's own findings, where
    these are of the same profile. Such a record says so (`taken_from`), and has the seeds of those.
    """
    if seeds is not None:
        return judge({seed: gather(profile, seed=seed, runs=run_folder(profile, seed)) for seed in seeds})
    seed = seed_of(profile)
    records = judge({seed: gather(profile, seed=seed, runs=paths.runs(profile))})
    if profile != _FINDINGS_PROFILE or not findings_file().exists():
        return records
    known = judge(read_findings(findings_file()))
    return [{**theirs, "taken_from": "results/findings.csv"} if _too_long(record) and theirs["seeds"] else record
            for record, theirs in zip(records, known, strict=True)]


def _too_long(record: Record) -> bool:
    """Whether nothing was measured because no notebook does."""
    return bool(record["missing"]) and all(name.startswith("ablations/") for name in record["missing"])


def keep(profile: str, seeds: Sequence[int] | None = None) -> list[Record]:
    """`of_runs`, kept as runs/<profile>/ledger.json."""
    records = of_runs(profile, seeds)
    write(records, file(profile))
    return records


def _record(claim: Claim, evidence: Mapping[int, Mapping[str, Interval]]) -> Record:
    names = [name for test in claim.tests for name in test.evidence]
    of_seeds = {seed: {name: _look_up(name, run) for name in names} for seed, run in evidence.items()}
    seeds = sorted(seed for seed, run in of_seeds.items() if names and all(run.values()))
    missing = [] if seeds else [name for name in names if not of_seeds or not all(run[name] for run in of_seeds.values())]
    known = {name: pool([of_seeds[seed][name] for seed in seeds]) for name in names} if seeds else {}
    verdicts = [test.rule.judge(*(known[name] for name in test.evidence)) if known or not test.evidence else "not measured"
                for test in claim.tests]
    rule = claim.tests[0].rule
    shown = _within(known[names[0]], rule.unit) if known else None
    return {
        "name": claim.name, "title": claim.title, "claim": claim.text, "source": claim.source, "paper": claim.paper,
        "theirs": claim.theirs and list(claim.theirs), "ours": shown and shown["value"],
        "interval": [shown["low"], shown["high"]] if shown and None not in shown.values() else None, "unit": rule.unit,
        "origin": rule.origin, "side": rule.side, "seeds": seeds, "rule": _rule_of(claim),
        "verdict": together(verdicts), "notebook": claim.notebook, "evidence": known, "missing": missing, "taken_from": None}


def _within(interval: Interval, unit: Unit) -> Interval:
    """An interval without what cannot be: a t interval of few seeds may reach beyond a share or a difference of two."""
    lowest, highest = {"share": (0.0, 1.0), "points": (-1.0, 1.0)}.get(unit, (-math.inf, math.inf))
    return {name: None if bound is None else min(max(bound, lowest), highest) for name, bound in interval.items()}


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a claim with several tests: all of them, none of them, or partly."""
    odd = [verdict for verdict in verdicts if verdict in ("not measured", "needs a real model")]
    if odd:
        return odd[0]
    return verdicts[0] if len(set(verdicts)) == 1 else "partly"


def _rule_of(claim: Claim) -> str:
    if len(claim.tests) == 1:
        return f"Reproduced if {claim.tests[0].rule.sentence}."
    parts = "; ".join(f"of {', '.join(test.evidence)}: {test.rule.sentence}" for test in claim.tests)
    return f"Reproduced if all of this holds, partly if some of it does. {parts[0].upper()}{parts[1:]}."


def _look_up(name: str, run: Mapping[str, Interval]) -> Interval | None:
    """Evidence by its name; "a minus b" with intervals whose halves are added in squares, as those of independent measurements."""
    parts = [run.get(part) for part in name.split(_MINUS)]
    if any(part is None or part["value"] is None for part in parts):
        return None
    first, *rest = parts
    if not rest:
        return first
    (second,) = rest
    value = first["value"] - second["value"]
    if None in first.values() or None in second.values():
        return {"value": value, "low": None, "high": None}
    return {"value": value, "low": value - math.hypot(first["value"] - first["low"], second["high"] - second["value"]),
            "high": value + math.hypot(first["high"] - first["value"], second["value"] - second["low"])}


def _t(freedom: int) -> float:
    return _T[min(freedom, len(_T)) - 1]


def chosen(records: Sequence[Record], names: Sequence[str]) -> list[Record]:
    """The records of these claims. `R1Error` for a claim that is not known."""
    by_name = {record["name"]: record for record in records}
    if unknown := [name for name in names if name not in by_name]:
        raise R1Error(f"claim {unknown[0]!r} is not known: choose from {', '.join(by_name)}.")
    return [by_name[name] for name in names]


# ------------------------------------------------------------------------------------------------------------------------------------------
# Files

def file(profile: str) -> Path:
    """Where the ledger of a run lies."""
    return paths.runs(profile) / "ledger.json"


def findings_file() -> Path:
    """What the project itself has measured, with several seeds."""
    return paths.root() / "results" / "findings.csv"


def write(records: Sequence[Record], path: Path) -> None:
    """ledger.json, whole or not at all."""
    paths.write_whole(path, json.dumps(records, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


HEADS = ("experiment", "seed", "name", "value", "low", "high")


def write_findings(evidence: Mapping[int, Evidence], path: Path) -> None:
    """The evidence of all seeds as a CSV that anyone can judge again; an empty cell is a bound that was not measured."""
    rows = sorted((*name.split("/", 1), seed, interval) for seed, run in evidence.items() for name, interval in run.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as written:
        table = csv.writer(written, lineterminator="\n")
        table.writerow(HEADS)
        for experiment, name, seed, interval in rows:
            table.writerow([experiment, seed, name, *("" if bound is None else f"{bound:.6g}" for bound in interval.values())])


def read_findings(path: Path) -> dict[int, Evidence]:
    """What `write_findings` wrote: seed -> evidence. `R1Error` names the row that is none."""
    if not path.exists():
        raise R1Error(f"{path}: there is no such file; make it with `python -m r1lib results --only findings`.")
    evidence: dict[int, Evidence] = {}
    with path.open(encoding="utf-8", newline="") as written:
        for number, row in enumerate(csv.DictReader(written), start=2):
            where = f"{path}, row {number}"
            try:
                name, seed = f"{row['experiment']}/{row['name']}", int(row["seed"])
                interval = {bound: float(row[bound]) if row[bound] else None for bound in ("value", "low", "high")}
            except (KeyError, ValueError, TypeError) as error:
                raise R1Error(f"{where}: not a finding ({type(error).__name__}: {error}). Columns are {', '.join(HEADS)}.") from None
            evidence.setdefault(seed, {})[name] = checked(interval, f"{where}, {name}")
    return evidence
