"""The comparisons of the paper's evaluation: R1-Zero, R1 and V3 side by side, length by difficulty, pass@k, and other ways of asking.

    found = comparisons.measure(profile="cpu", seed=0)

What the stages' folders hold is loaded. Only other ways of asking (`FEW_SHOT`, `OTHER_TEMPLATE`, `AS_JSON`) are sampled, once, and kept
beside the rest, so that a second call takes seconds.
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r1lib import evaluation, findings, lineage, paths, profiles, rewards, seeds, stages, tasks, text
from r1lib.curation import cold_start, judges
from r1lib.evaluation import Evaluation, Interval, Variant
from r1lib.findings import Findings
from r1lib.rewards.completion import Completion, content
from r1lib.tasks.corpus import tagged
from r1lib.training.metrics import MetricsLog

STAGES = ("base", "zero", "v3", "dev3", "r1")          # what `measure` needs
NOTEBOOK = "11_evaluation"
_NOTHING: Interval = {"value": None, "low": None, "high": None}

# ------------------------------------------------------------------------------------------------------------------------------------------
# Other ways of asking

_SHOTS = (("word", "steps"), ("sum_product", "retry"))          # kind and manner of the solved examples, one walked and one searched


@functools.cache
def shots() -> tuple[tuple[str, str], ...]:
    """The solved examples of few-shot prompting, (prompt, completion) each: training problems, answered right and in R1's own manner."""
    solved = []
    for kind_name, manner in _SHOTS:
        kind, rng = tasks.KINDS[kind_name], seeds.rng("few-shot", kind_name)
        problem = tasks.draw(kind, rng, 2, "en", "train")
        work = kind.work(problem, manner, tasks.Voice(rng, "en"))
        example = cold_start.rewrite(problem, tagged(work.think, work.answer))
        solved.append((example.prompt, example.completion))
    return tuple(solved)


def few_shot_prompt(question: str) -> str:
    """The chat prompt behind solved examples, each of which reads as a turn of the talk."""
    return "".join(prompt + completion + text.EOS for prompt, completion in shots()) + text.chat_prompt(question)


def json_prompt(question: str) -> str:
    """The chat prompt with the wish that the answer be JSON."""
    return text.chat_prompt(f'{question} Answer as JSON: {{"answer": ...}}')


def chinese_prompt(question: str) -> str:
    """R1-Zero's prompt with its instruction in Chinese; the question stays as it is."""
    return f"助手先在<think> </think>里思考，再在<answer> </answer>里回答。\n用户：{question}\n助手："


def json_answer(completion: Completion) -> str | None:
    """What the answer element holds under "answer", if it is a JSON object that has it; else None. Takes any text."""
    try:
        found = json.loads(text.parse(content(completion)).answer or "")
    except (ValueError, RecursionError):                                          # no JSON, or brackets deeper than Python's stack
        return None
    if not isinstance(found, dict) or not isinstance(found.get("answer"), str | int | float):
        return None
    return str(found["answer"])


def json_correctness(completions: Sequence[Completion], **columns: Any) -> list[float | None]:
    """Whether the JSON that each completion answers with holds the right answer; what is no such JSON is wrong."""
    answers = [json_answer(completion) for completion in completions]
    return rewards.correctness([f"<answer>{answer or ''}</answer>" for answer in answers], **columns)


def json_format_reward(completions: Sequence[Completion], **_: Any) -> list[float]:
    """Whether each completion answers with JSON as it was asked to, right or wrong."""
    return [float(json_answer(completion) is not None) for completion in completions]


FEW_SHOT = Variant("few-shot", few_shot_prompt)
OTHER_TEMPLATE = Variant("zero-template", text.zero_prompt)                       # R1 asked as R1-Zero is
AS_JSON = Variant("json", json_prompt,
                  judges=rewards.RewardMix({"accuracy_reward": json_correctness, "format_reward": json_format_reward}))
IN_CHINESE = Variant("chinese", chinese_prompt)


# ------------------------------------------------------------------------------------------------------------------------------------------
# What is read off an evaluation

def among(made: Evaluation, measure: str, **wanted: object) -> np.ndarray:
    """A measure where the problems are as wanted (level=5, language="zh"), NaN elsewhere: [problems]."""
    return np.where(_chosen(made, wanted), made.measures()[measure], np.nan)


def _chosen(made: Evaluation, wanted: Mapping[str, object]) -> list[bool]:
    return [all(getattr(problem, name) == value for name, value in wanted.items()) for problem in made.problems]


def over(column: np.ndarray) -> Interval:
    """The mean of [problems] with its interval."""
    return evaluation.bootstrap({"": column})[""]


def pass_curve(made: Evaluation, **wanted: object) -> dict[int, Interval]:
    """k -> pass@k, for 1, 2, 4, ... up to the answers there are, over the problems that are as wanted."""
    ks = [2 ** i for i in range(made.samples.bit_length())]
    return {k: over(np.where(_chosen(made, wanted), made.passes(k), np.nan)) for k in ks}


def crossing(lower: Mapping[int, Interval], upper: Mapping[int, Interval]) -> int | None:
    """The first k of both curves at which `lower` is not below `upper`; None where there is none: the curves do not cross."""
    return next((k for k in sorted(lower.keys() & upper.keys()) if lower[k]["value"] is not None and upper[k]["value"] is not None
                 and lower[k]["value"] >= upper[k]["value"]), None)


def half_gain_step(steps: Sequence[float], values: Sequence[float]) -> float | None:
    """The step at which a curve first reaches half of its final gain, between two measurements in proportion; None without any gain."""
    if not values or not values[-1] > values[0]:
        return None
    half = (values[0] + values[-1]) / 2
    at = next(i for i, value in enumerate(values) if value >= half)
    share = (half - values[at - 1]) / (values[at] - values[at - 1])
    return steps[at - 1] + share * (steps[at] - steps[at - 1])


def level_curves(rows: Iterable[Mapping[str, Any]]) -> dict[int, tuple[list[float], list[float]]]:
    """Level -> steps and held-out accuracy, from the rows of a run's metrics.jsonl."""
    curves: dict[int, tuple[list[float], list[float]]] = {}
    for row in sorted(rows, key=lambda row: row["step"]):
        for level in tasks.LEVELS:
            value = row.get(f"eval_accuracy/level_{level}")
            if value is not None:
                steps, values = curves.setdefault(level, ([], []))
                steps.append(row["step"])
                values.append(value)
    return curves


def easy_first(rows: Iterable[Mapping[str, Any]]) -> Interval:
    """How many steps later the hardest level is half-learnt than the easiest: above 0 when easy problems are learnt first. No interval."""
    curves = level_curves(rows)
    first, last = (half_gain_step(*curves.get(level, ([], []))) for level in (tasks.LEVELS[0], tasks.LEVELS[-1]))
    return {**_NOTHING, "value": None if first is None or last is None else last - first}


# ------------------------------------------------------------------------------------------------------------------------------------------
# All of it

def evaluated(name: str, set_name: str = "math", *, profile: str, runs: Path | None = None, few: bool = True,
              variant: Variant | None = None) -> Evaluation:
    """A stage's answers to a fixed set: as many as in the table of all stages, or, unless `few`, as many as the profile measures with.

    runs: the folder in which the stages lie. The base's answers lie in the profile's own: all seeds start from one base.
    """
    return stages.evaluation(name, profile=profile, set_name=set_name, folder=None if name == "base" or runs is None else runs / name,
                             samples=profiles.get(profile).table_samples if few else None, variant=variant)


def measure(*, profile: str, seed: int = 0, runs: Path | None = None) -> Findings:
    """The numbers of notebook 11 that the ledger judges, kept as findings "evaluation". Shares from 0 to 1, lengths in tokens.

    runs: the folder in which the stages lie, by default that of the profile. All of `STAGES` must be there, trained.
    """
    runs = runs or paths.runs(profile)
    weights = {name: lineage.weights_sha256(runs / name / "model") for name in STAGES if name != "base"}
    asked = [variant.prompt("{question}") for variant in (FEW_SHOT, OTHER_TEMPLATE, AS_JSON)]
    chosen = profiles.get(profile)
    made_from = {"weights": weights, "asked": asked, "samples": [chosen.evaluation_samples, chosen.table_samples]}
    return findings.kept("evaluation", lambda: _measured(profile, runs), runs=runs, seed=seed, made_from=made_from, notebook=NOTEBOOK)


def _measured(profile: str, runs: Path) -> Findings:
    of = functools.partial(evaluated, profile=profile, runs=runs)
    base, zero = of("base", few=False), of("zero", few=False)
    math, general = ({name: of(name, set_name) for name in STAGES} for set_name in ("math", "general"))
    few_shot, template, as_json = (of("r1", variant=variant) for variant in (FEW_SHOT, OTHER_TEMPLATE, AS_JSON))
    voted = zero.measures()
    lengths = {level: among(zero, "mean_length", level=level) for level in (tasks.LEVELS[0], tasks.LEVELS[-1])}
    judge = judges.Judge()
    rows = MetricsLog(runs / "zero" / "metrics.jsonl").rows()

    def mean(made: Evaluation, measure: str = "pass@1", **wanted: object) -> Interval:
        return over(among(made, measure, **wanted))

    def change(before: Evaluation, after: Evaluation, measure: str = "pass@1") -> Interval:
        found = evaluation.difference(before, after, measure)
        return {name: found[name] for name in _NOTHING}

    return {
        "pass1_base": mean(base), "pass1_zero": mean(zero), "pass1_r1": mean(math["r1"]), "pass1_v3": mean(math["v3"]),
        "passk_base": mean(base, "pass@k"), "passk_zero": mean(zero, "pass@k"), "cons_zero": mean(zero, "cons@k"),
        "cons_minus_pass1_zero": over(voted["cons@k"] - voted["pass@1"]),
        "pass1_r1_minus_zero": change(zero, math["r1"]),
        "general_r1_minus_zero": change(general["zero"], general["r1"], "quality"),
        "general_r1_minus_v3": change(general["v3"], general["r1"], "quality"),
        "winrate_r1_vs_v3": evaluation.win_rate(general["r1"], general["v3"], judge),
        "winrate_dev3_vs_v3": evaluation.win_rate(general["dev3"], general["v3"], judge),
        "winrate_r1_vs_dev3": evaluation.win_rate(general["r1"], general["dev3"], judge),
        "length_level1_zero": over(lengths[1]), "length_level5_zero": over(lengths[5]),
        "length_hard_minus_easy_zero": evaluation.unpaired(lengths[1], lengths[5]),
        "zero_shot_r1": mean(math["r1"]), "few_shot_r1": mean(few_shot), "few_minus_zero_shot_r1": change(math["r1"], few_shot),
        "template_changed_r1": mean(template), "json_r1": mean(as_json),
        "chinese_zero": mean(zero, language="zh"), "english_zero": mean(zero, language="en"),
        "mixing_base": mean(base, "language_mixing"), "mixing_zero": mean(zero, "language_mixing"),
        "easy_first": easy_first(rows),
    }
