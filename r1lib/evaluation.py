"""How good a model is, and how it goes about its answers: pass@1, pass@k, cons@k with intervals, and the manners of answering.

Several answers are sampled for each problem, as the paper does (v2 D.1), because one greedy answer says little about a model that reasons.
Whatever is measured is measured on stored completions: a result file holds every answer with the problem, the seed, the settings and the
template, so that another grader, another interval or another question can be put to it without the model.
"""

import dataclasses
import functools
import json
import math
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from r1lib import optional, paper, rewards, text
from r1lib.curation import cold_start, judges
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.rewards.accuracy import unboxed
from r1lib.sampling import Sampler, SamplingSettings, many
from r1lib.seeds import derive
from r1lib.tasks import Problem

_RESAMPLES = 2000

# Answers are judged by a rule, programs by their tests.
JUDGES = rewards.RewardMix({"accuracy_reward": rewards.correctness, "format_reward": rewards.format_reward})

Interval = dict[str, float | None]     # {"value", "low", "high"}; None where nothing could be judged


# ------------------------------------------------------------------------------------------------------------------------------------------
# The measures

def pass_at_k(samples: int, correct: np.ndarray, k: int) -> np.ndarray:
    """The chance that at least one of k answers is right, estimated without bias from more (Chen et al. 2021, arXiv 2107.03374).

    samples: n, the answers there are for each problem; correct: [problems], how many of them are right; k: at most n.
    Returns [problems], 1 - C(n - c, k) / C(n, k). Taking "any of the first k" instead would be right on average but noisier, and
    1 - (1 - c/n)^k is biased. The binomials overflow, their quotient written as a product does not.
    """
    if not 1 <= k <= samples:
        raise R1Error(f"pass@{k} needs at least {k} answers a problem and k of at least 1; there are {samples} answers.")
    correct = np.asarray(correct)
    if not ((correct >= 0) & (correct <= samples)).all():
        raise R1Error(f"pass@{k}: of {samples} answers, 0 to {samples} can be right, not {correct.min()} to {correct.max()}.")
    i = np.arange(1, samples + 1)
    factors = np.where(i > samples - correct[:, None], 1 - k / i, 1.0)
    return 1 - factors.clip(min=0).prod(axis=1)          # with fewer than k wrong answers, i = k is a factor 0


def canonical(answer: str) -> str:
    """An answer as it is counted in a vote: full-width signs as plain ones, no white space, no capitals, no full stop at the end."""
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", answer)).casefold().rstrip(".。")


def unordered(answer: str) -> str:
    """The key of an answer whose numbers may stand in any order: "12 and 5" votes with "5 and 12"."""
    numbers = re.findall(r"-?\d+", answer)
    return " ".join(sorted(numbers)) if numbers else canonical(answer)


def plain_number(answer: str) -> str:
    """The key of a number: "x = 1,200" votes with "1200"."""
    return re.sub(r"^[a-z]=|,", "", canonical(answer))


# By answer_type. All others vote by `canonical`: there a choice "B)" is not a choice "B", and two ways to reach a target are two answers.
_VOTES_BY = {"number": plain_number, "pair": unordered, "factors": unordered}


def majority(answers: Sequence[str | None], accuracy: Sequence[float], *, key: Callable[[str], str] = canonical) -> float:
    """cons@k: how right the most frequent answer is.

    answers: [k], None or empty where none was given, which does not vote; accuracy: [k], of each answer.
    Among equally frequent answers one is drawn at random: the value is the mean over the draws. Without any answer it is 0.
    """
    votes: dict[str, list[float]] = defaultdict(list)
    for answer, right in zip(answers, accuracy, strict=True):
        if answer:
            votes[key(answer)].append(right)
    most = max(map(len, votes.values()), default=0)
    winners = [sum(rights) / most for rights in votes.values() if len(rights) == most]
    return sum(winners) / len(winners) if winners else 0.0


# ------------------------------------------------------------------------------------------------------------------------------------------
# Intervals

def bootstrap(values: Mapping[str, np.ndarray], *, resamples: int = _RESAMPLES, seed: int = 0) -> dict[str, Interval]:
    """The mean over problems of each measure, with its 95 % interval: what other problems of the same kind might have given.

    values: name -> [problems], NaN where a problem could not be judged. All names see the same draws of problems.
    Answers to one problem resemble each other, so problems are drawn, not answers. Where all problems agree (all solved, none solved) the
    interval has no width: that says that the draws agree, not that the model is certain.
    """
    drawn = _draws(len(next(iter(values.values()))), resamples, seed)
    return {name: _interval(np.asarray(column, dtype=float), drawn) for name, column in values.items()}


def bootstrap_over_seeds(values: Mapping[str, np.ndarray], *, resamples: int = _RESAMPLES, seed: int = 0) -> dict[str, Interval]:
    """As `bootstrap`, for a method instead of one model: what other problems *and* other training seeds might have given.

    values: name -> [seeds, problems], the same problems in every row, as `measures_by_seed` gives them.
    Two levels. Problems are drawn with replacement, for all seeds at once, because all seeds answer the same ones. Seeds cannot be drawn
    so: there are too few (three of three have ten different means, and their variance is too small by a third). Each draw is moved instead
    by the standard error of the seeds' means times a number from Student's t with seeds - 1 degrees of freedom. With two or three seeds
    that do not agree the interval is therefore wide, and a share's may reach beyond 0 or 1.
    """
    shapes = {name: np.shape(table) for name, table in values.items()}
    if bad := [name for name, shape in shapes.items() if len(shape) != 2 or shape[0] < 2]:
        raise R1Error(f"{bad[0]}: an interval over seeds needs [seeds, problems] with at least 2 seeds, not {shapes[bad[0]]}: "
                      "one seed says nothing about how far seeds differ; use bootstrap for one.")
    drawn = _draws(next(iter(shapes.values()))[1], resamples, seed)
    found = {}
    for name, table in values.items():
        table = np.asarray(table, dtype=float)
        if np.isnan(table).any(axis=0).all():
            found[name] = {"value": None, "low": None, "high": None}
            continue
        table = np.where(np.isnan(table).any(axis=0), np.nan, table)              # a problem counts where every seed could be judged on it
        of_seeds, column = np.nanmean(table, axis=1), table.mean(axis=0)
        error = of_seeds.std(ddof=1) / math.sqrt(len(of_seeds))
        means = np.tile(_means(column, drawn), 50)               # the tails of t are long, and numbers from it cost little
        moved = np.random.default_rng(derive("bootstrap over seeds", seed)).standard_t(len(of_seeds) - 1, len(means))
        low, high = np.percentile(means + error * moved, [2.5, 97.5])
        found[name] = {"value": float(np.nanmean(column)), "low": float(low), "high": float(high)}
    return found


def paired(before: np.ndarray, after: np.ndarray, *, resamples: int = _RESAMPLES, seed: int = 0) -> dict[str, float | None]:
    """How much `after` is above `before` on the same problems: {"value", "low", "high", "p"}; all None where nothing could be judged.

    before, after: [problems], NaN where a problem could not be judged. Problems are drawn in pairs, so that the differences between
    problems, which both share, do not blur the one between models.
    p: two-sided, twice the share of draws in which the difference vanishes or turns its sign.
    """
    column = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    drawn = _draws(len(column), resamples, seed)
    if np.isnan(column).all():
        return {**_interval(column, drawn), "p": None}
    means = _means(column, drawn)
    return {**_interval(column, drawn), "p": float(min(1.0, 2 * min((means <= 0).mean(), (means >= 0).mean())))}


def unpaired(one: np.ndarray, other: np.ndarray, *, resamples: int = _RESAMPLES, seed: int = 0) -> Interval:
    """How much `other` is above `one` where they are about different problems, such as hard ones and easy ones: both are drawn, apart.

    one, other: [problems] each, NaN where a problem could not be judged.
    """
    columns = [column[~np.isnan(column)] for column in (np.asarray(one, dtype=float), np.asarray(other, dtype=float))]
    if not all(map(len, columns)):
        return {"value": None, "low": None, "high": None}
    means = [_means(column, _draws(len(column), resamples, derive(seed, side))) for side, column in enumerate(columns)]
    low, high = np.percentile(means[1] - means[0], [2.5, 97.5])
    return {"value": float(columns[1].mean() - columns[0].mean()), "low": float(low), "high": float(high)}


def opposite(interval: Interval) -> Interval:
    """The interval of the difference taken the other way round: what going on gains is what stopping loses."""
    value, low, high = (None if bound is None else -bound for bound in (interval["value"], interval["low"], interval["high"]))
    return {"value": value, "low": high, "high": low}


def _draws(problems: int, resamples: int, seed: int) -> np.ndarray:
    """[resamples, problems]: how often each problem is drawn when as many are drawn with replacement."""
    if not problems:
        raise R1Error("an interval over problems needs at least one problem: the set is empty.")
    rng = np.random.default_rng(derive("bootstrap", seed))
    return rng.multinomial(problems, np.full(problems, 1 / problems), size=resamples).astype(float)


def _means(column: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The mean of each draw over the problems that could be judged."""
    judged = ~np.isnan(column)
    counts = drawn @ judged
    return (drawn @ np.nan_to_num(column))[counts > 0] / counts[counts > 0]


def _interval(column: np.ndarray, drawn: np.ndarray) -> Interval:
    if np.isnan(column).all():
        return {"value": None, "low": None, "high": None}
    low, high = np.percentile(_means(column, drawn), [2.5, 97.5])
    return {"value": float(np.nanmean(column)), "low": float(low), "high": float(high)}


# ------------------------------------------------------------------------------------------------------------------------------------------
# Manners

MANNERS = ("glance", "one_pass", "check_and_retry", "untagged")

_STEP = re.compile(
    r"[\dx)\]]\s*=\s*[-(\[]?\d"                # 12+7=19, f(3)=10
    r"|[-+*/]\s*\d+\)?\s*[:：]\s*-?\d"         # 3+4*5: 7, 35     a try, and the values it runs through
    r"|[^\W\d]{2,} > [^\W\d]{2,}"               # Ann > Ben        an order
    r"|^return \S", re.MULTILINE)               # return x*3+1     a draft
# A candidate held against what is asked. "Yes" counts as well as "no": without it, whoever looks and is right at once would count as one
# who does not look, and a manner's accuracy would depend on its own outcome.
_JUDGED = re.compile(
    r"\bnot -?\d|\bNo\b[.,]|\btoo (?:small|large|big|low|high)\b|不是-?\d|不行|太[小大]"
    r"|\bYes\b|\b[Tt]hat is it\b|, right\b|对了|就是它|，对")


def manner(completion: str) -> str:
    """How a completion goes about its answer, one of `MANNERS`.

    untagged: no answer can be read, because the tags are missing or in disorder.
    glance: an answer, but no worked step in the thinking: no calculation with its result, no try, no order, no draft of code.
    check_and_retry: worked steps, and a reflective word (`text.reflection_count`) or a verdict on a candidate ("not 24", "too small").
    one_pass: worked steps, and neither of these.
    Without think tags, what stands before the answer is the thinking. The language does not matter; `Completion.mixing` tells about it.
    Made for math, code and logic: thinking about conduct or facts has no steps, and counts as a glance.
    """
    if text.parse(completion).answer is None:
        return "untagged"
    work = text.thinking(completion)
    if not _STEP.search(work):
        return "glance"
    return "check_and_retry" if text.reflection_count(work) or _JUDGED.search(work) else "one_pass"


# ------------------------------------------------------------------------------------------------------------------------------------------
# An evaluation

@dataclass(frozen=True)
class Variant:
    """Another way of measuring a stage than at temperature 1, in the words that it was trained with.

    name: of its file. prompt: question -> prompt, instead of the stage's. judges: instead of `JUDGES`.
    """

    name: str
    prompt: Callable[[str], str] | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    judges: rewards.RewardMix | None = None


# Temperature 1 is what training samples at, and shows a policy as it is. The paper measures a little cooler.
AS_THE_PAPER = Variant("paper", temperature=paper.EVALUATION["temperature"], top_p=paper.EVALUATION["top_p"])


@dataclass(frozen=True)
class Completion:
    """One answer to one problem, and what was measured on it.

    length: in tokens, the stop token included; finished: whether there was one, else the answer was cut off.
    accuracy: None where no rule can judge the problem. reflection: reflective words. mixing: whether the thinking mixes languages.
    """

    problem: str
    domain: str
    kind: str
    level: int
    language: str
    text: str
    length: int
    finished: bool
    accuracy: float | None
    format: float
    reflection: int
    mixing: bool


@dataclass(frozen=True)
class Evaluation:
    """All answers of one model to a set of problems: completions[i * samples + j] is answer j to problems[i].

    settings: those of the sampler. template: the prompt with {question} in the question's place.
    about: whatever else makes the result repeatable (which model, which set); it is stored with it.
    """

    problems: tuple[Problem, ...]
    completions: tuple[Completion, ...]
    samples: int
    settings: dict[str, Any]
    seed: int
    template: str
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_something(self.problems, self.samples)
        if len(self.completions) != len(self.problems) * self.samples:
            raise R1Error(f"holds {len(self.completions)} completions, not {len(self.problems)} x {self.samples}; evaluate again.")
        for c in self.completions:
            for name, grade in (("accuracy", c.accuracy), ("format", c.format)):
                if grade is not None and not math.isfinite(grade):
                    raise R1Error(f"{c.problem}: {name}={grade} for {c.text[:60]!r}: a grade is a finite number. Correct its reward.")

    def measures(self) -> dict[str, np.ndarray]:
        """Measure -> [problems], each the mean over the answers to a problem, or what pass@k and cons@k make of them. Not to be changed."""
        return self._measured

    @functools.cached_property
    def _measured(self) -> dict[str, np.ndarray]:
        def mean(values: Iterable[float]) -> np.ndarray:
            return np.array(list(values), dtype=float).reshape(len(self.problems), self.samples).mean(axis=1)

        measured = {
            "pass@1": self.passes(1),
            "pass@k": self.passes(self.samples),
            "cons@k": self._consensus(self.samples),
            "mean_length": mean(c.length for c in self.completions),
            "format": mean(c.format for c in self.completions),
            "reflection": mean(c.reflection for c in self.completions),
            "language_mixing": mean(c.mixing for c in self.completions),
            "clipped": mean(not c.finished for c in self.completions),
            "readable": mean(cold_start.readable(problem, c.text) for problem, c in self.pairs()),
            "language_consistency": mean(self._consistency()),
            **self._by_oracle(),
        }
        for column in measured.values():
            column.setflags(write=False)
        return measured

    def pairs(self) -> Iterator[tuple[Problem, Completion]]:
        """Each answer with its problem before it, in the order of `completions`."""
        return zip((problem for problem in self.problems for _ in range(self.samples)), self.completions, strict=True)

    def _consistency(self) -> list[float]:
        """The language-consistency reward of each completion's thinking, tags or not; a thinking without words mixes nothing."""
        thoughts = [f"<think>{text.thinking(c.text).strip() or '.'}</think><answer>-</answer>" for c in self.completions]
        return rewards.language_consistency_reward(thoughts, language=[problem.language for problem, _ in self.pairs()])

    def _by_oracle(self) -> dict[str, np.ndarray]:
        """What an oracle says of answers that no rule can judge: [problems], NaN for all other problems.

        quality: 0 to 1. follows_instructions: the share that has the form asked for. safe: of answers to what should be refused.
        refused: of answers to what should not.
        """
        def of(asked: Callable[[Problem], bool], mark: Callable[[Problem, str, str], float]) -> np.ndarray:
            known = [asked(problem) for problem in self.problems]
            values = [mark(problem, text.parse(c.text).answer or "", text.thinking(c.text)) if asked(problem) else math.nan
                      for problem, c in self.pairs()]
            return np.where(known, np.array(values, dtype=float).reshape(len(self.problems), self.samples).mean(axis=1), np.nan)

        return {
            "quality": of(judges.knows, lambda problem, answer, _: judges.quality(problem, answer)),
            "follows_instructions": of(lambda problem: judges.knows(problem) and problem.domain == "general",
                                       lambda problem, answer, _: judges.follows_instructions(problem, answer)),
            "safe": of(lambda problem: problem.gold == "refuse",
                       lambda problem, answer, thinking: judges.safe(problem, answer, thinking=thinking)),
            "refused": of(lambda problem: problem.domain == "safety" and problem.gold != "refuse",
                          lambda _, answer, __: judges.refuses(answer)),
        }

    def where_answered(self, values: Sequence[float]) -> np.ndarray:
        """One value for each completion as [problems, samples], and 0 for those in which no answer can be read."""
        readable = [bool(text.parse(c.text).answer) for c in self.completions]
        return np.where(readable, np.array(values, dtype=float), 0.0).reshape(len(self.problems), self.samples)

    def pass_at(self, k: int) -> Interval:
        """pass@k for any k up to the answers there are."""
        require_distinct(self.problems)
        return bootstrap({"pass@k": self.passes(k)})["pass@k"]

    def cons_at(self, k: int) -> Interval:
        """cons@k for any k up to the answers there are: the mean over as many votes of k different answers as they suffice for."""
        require_distinct(self.problems)
        return bootstrap({"cons@k": self._consensus(k)})["cons@k"]

    def _groups(self) -> list[tuple[Problem, tuple[Completion, ...], bool]]:
        """(problem, its completions, whether a rule can judge it)."""
        groups = [self.completions[i * self.samples:(i + 1) * self.samples] for i in range(len(self.problems))]
        return [(problem, group, all(c.accuracy is not None for c in group)) for problem, group in zip(self.problems, groups, strict=True)]

    def passes(self, k: int) -> np.ndarray:
        """[problems], pass@k of each, for any k up to the answers there are; NaN where no rule can judge."""
        correct = np.array([sum(c.accuracy == 1 for c in group) for _, group, _ in self._groups()])
        judged = [judged for _, _, judged in self._groups()]
        return np.where(judged, pass_at_k(self.samples, correct, k), np.nan)

    def _consensus(self, k: int) -> np.ndarray:
        if not 1 <= k <= self.samples:
            raise R1Error(f"cons@{k} needs at least {k} answers a problem and k of at least 1; there are {self.samples} answers.")

        def vote(problem: Problem, group: Sequence[Completion]) -> float:
            answers, right = [unboxed(text.parse(c.text).answer or "") for c in group], [c.accuracy == 1 for c in group]
            votes = [majority(answers[start:start + k], right[start:start + k], key=_VOTES_BY.get(problem.answer_type, canonical))
                     for start in range(0, self.samples - k + 1, k)]
            return sum(votes) / len(votes)

        return np.array([vote(problem, group) if judged else np.nan for problem, group, judged in self._groups()])

    def summary(self, *, resamples: int = _RESAMPLES) -> dict[str, Any]:
        """Every measure with its interval, over all problems and by level, kind, language and domain; "k" is the k of pass@k and cons@k."""
        require_distinct(self.problems)
        measures = self.measures()

        def over(chosen: Sequence[int]) -> dict[str, Any]:
            part = {name: column[list(chosen)] for name, column in measures.items()}
            return {"problems": len(chosen), **bootstrap(part, resamples=resamples)}

        summary: dict[str, Any] = {"k": self.samples, **over(range(len(self.problems)))}
        for group in ("level", "kind", "language", "domain"):
            members: dict[Any, list[int]] = defaultdict(list)
            for i, problem in enumerate(self.problems):
                members[getattr(problem, group)].append(i)
            summary[f"by_{group}"] = {value: over(chosen) for value, chosen in sorted(members.items())}
        return summary

    def held_out_row(self) -> dict[str, float]:
        """The few numbers that a training run logs beside its own, under the names of `metrics.jsonl`."""
        measures, levels = self.measures(), np.array([problem.level for problem in self.problems])
        names = {"eval_accuracy": "pass@1", "eval_format": "format", "eval_length": "mean_length", "eval_reflection": "reflection",
                 "eval_language_mixing": "language_mixing", "eval_language_consistency": "language_consistency",
                 "eval_clipped": "clipped", "eval_quality": "quality", "eval_safe": "safe", "eval_refused": "refused"}
        row = {ours: measures[name] for ours, name in names.items()}
        row |= {f"eval_accuracy/level_{level}": measures["pass@1"][levels == level] for level in np.unique(levels)}
        return {name: float(np.nanmean(column)) for name, column in row.items() if not np.isnan(column).all()}

    def rescore(self, mix: rewards.RewardMix) -> "Evaluation":
        """The same completions judged again, by other rewards, without the model."""
        judged = [problem for problem in self.problems for _ in range(self.samples)]
        grades = _grade(mix, judged, [c.text for c in self.completions])
        return dataclasses.replace(self, completions=tuple(
            dataclasses.replace(c, accuracy=accuracy, format=form) for c, (accuracy, form) in zip(self.completions, grades, strict=True)))

    def save(self, path: str | Path) -> None:
        """Write everything: as JSON, one line a problem and one a completion, or, to a path that ends in .parquet, as a table.

        The table has one row a completion, with its question and gold answer beside it, for pandas and the like; what is said of all of
        them stands in the file's metadata. `load` reads either. A killed run leaves the old file or the new one.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".part")
        (_write_parquet if path.suffix == ".parquet" else _write_json)(self, unfinished)
        os.replace(unfinished, path)


def load(path: str | Path) -> Evaluation:
    """Read what `Evaluation.save` wrote, whichever format it chose."""
    path = Path(path)
    if not path.exists():
        raise R1Error(f"{path}: there is no such evaluation; make it with `python -m r1lib evaluate`.")
    try:
        stored = _read_parquet(path) if path.suffix == ".parquet" else json.loads(path.read_text(encoding="utf-8"))
        problems = tuple(Problem(**{**row, "tests": tuple(row["tests"])}) for row in stored["problems"])
        completions = tuple(Completion(**row) for row in stored["completions"])
        return Evaluation(problems, completions, *(stored[name] for name in _HEAD))
    except R1Error as error:
        raise R1Error(f"{path}: {error}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise R1Error(f"{path}: this is not an evaluation ({type(error).__name__}: {error}); delete it and evaluate again.") from error


_HEAD = ("samples", "settings", "seed", "template", "about")          # what is said of all completions, in the order of `Evaluation`
_SHOWN = ("question", "gold")                                         # of the problem, beside each of its rows in a table
_METADATA = b"r1lib.evaluation"


def _write_json(made: Evaluation, path: Path) -> None:
    head = {**made.summary(), **{name: getattr(made, name) for name in _HEAD}}
    del head["problems"]                                                         # their number; the problems themselves stand below
    parts = [f'"{name}": {json.dumps(value, ensure_ascii=False)}' for name, value in head.items()]
    for name, items in (("problems", made.problems), ("completions", made.completions)):
        lines = ",\n".join(json.dumps(dataclasses.asdict(item), ensure_ascii=False) for item in items)
        parts.append(f'"{name}": [\n{lines}\n]')
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _write_parquet(made: Evaluation, path: Path) -> None:
    arrow = optional.arrow()
    columns = {column.name: [getattr(c, column.name) for c in made.completions] for column in dataclasses.fields(Completion)}
    for name in ("accuracy", "format"):
        columns[name] = arrow.array(columns[name], type=arrow.float64())         # a column of None alone has no type otherwise
    of_problem = {name: [getattr(problem, name) for problem, _ in made.pairs()] for name in _SHOWN}
    head = {**{name: getattr(made, name) for name in _HEAD}, "problems": [dataclasses.asdict(problem) for problem in made.problems]}
    table = arrow.table(columns | of_problem).replace_schema_metadata({_METADATA: json.dumps(head, ensure_ascii=False)})
    arrow.parquet.write_table(table, path)


def _read_parquet(path: Path) -> dict[str, Any]:
    table = optional.arrow().parquet.read_table(path)
    head = json.loads(table.schema.metadata[_METADATA]) if table.schema.metadata else {}
    return {**head, "completions": table.drop_columns(list(_SHOWN)).to_pylist()}


def spread(problems: Sequence[Problem], count: int | None) -> list[Problem]:
    """`count` problems spread over all of them, so that every kind and level stays in."""
    if count is None or count >= len(problems):
        return list(problems)
    return [problems[i * len(problems) // count] for i in range(count)]


def evaluate(sampler: Sampler, problems: Sequence[Problem], *, samples: int, settings: SamplingSettings, seed: int,
             mix: rewards.RewardMix | None = None, prompt: Callable[[str], str] = text.zero_prompt,
             progress: Callable[[int, int], None] | None = None) -> Evaluation:
    """Sample `samples` answers to each problem and judge them.

    mix: the rewards whose parts "accuracy_reward" and "format_reward" are the judges; without it `JUDGES`.
    prompt: question -> prompt. progress: called with (problems done, problems in all) from time to time.
    The result is a function of the weights, the problems in their order, the settings and the seed.
    """
    _require_something(problems, samples)                    # said before any sampling
    rollouts = many.answers(sampler, [prompt(problem.question) for problem in problems], samples, settings,
                            seed=derive("evaluate", seed),
                            told=lambda done: progress(done, len(problems)) if progress else None)
    asked = [problem for problem in problems for _ in range(samples)]
    grades = _grade(mix or JUDGES, asked, [rollout.text for rollout in rollouts])
    completions = tuple(
        Completion(problem.id, problem.domain, problem.kind, problem.level, problem.language, rollout.text, len(rollout.ids),
                   rollout.finished, accuracy, form, text.reflection_count(rollout.text),
                   text.mixes_languages(text.thinking(rollout.text), problem.language))
        for problem, rollout, (accuracy, form) in zip(asked, rollouts, grades, strict=True))
    return Evaluation(tuple(problems), completions, samples, dataclasses.asdict(settings), seed, prompt("{question}"))


def _require_something(problems: Sequence[Problem], samples: int) -> None:
    if not problems or samples < 1:
        raise R1Error(f"an evaluation needs problems and answers: it was given {len(problems)} problems and samples={samples}.")


def _grade(mix: rewards.RewardMix, problems: Sequence[Problem], texts: Sequence[str]) -> list[tuple[float | None, float]]:
    """(accuracy, format) of each text as the answer to the problem beside it."""
    rows = [problem.columns() for problem in problems]
    parts = mix(texts, {name: [row[name] for row in rows] for name in rows[0]}).parts
    if missing := {"accuracy_reward", "format_reward"} - set(parts):
        raise R1Error(f"an evaluation is judged by accuracy_reward and format_reward: the reward mix lacks {min(missing)}.")
    return list(zip(parts["accuracy_reward"], parts["format_reward"], strict=True))


# ------------------------------------------------------------------------------------------------------------------------------------------
# Comparing and showing

def difference(a: Evaluation, b: Evaluation, measure: str = "pass@1", *, resamples: int = _RESAMPLES,
               seed: int = 0) -> dict[str, float | None]:
    """How much b is above a on the same problems, as `paired` tells it; each may have its own number of answers to a problem."""
    _require_same_problems((a, b))
    return paired(a.measures()[measure], b.measures()[measure], resamples=resamples, seed=seed)


def measures_by_seed(evaluations: Sequence[Evaluation]) -> dict[str, np.ndarray]:
    """Measure -> [seeds, problems], for `bootstrap_over_seeds`: evaluations of one stage, trained with different seeds, on one set."""
    _require_same_problems(evaluations)
    return {name: np.stack([made.measures()[name] for made in evaluations]) for name in evaluations[0].measures()}


def win_rate(a: Evaluation, b: Evaluation, judge: judges.PairJudge, *, resamples: int = _RESAMPLES, seed: int = 0) -> Interval:
    """How often the judge prefers a's answer to b's, 0 to 1: half is a draw. With the 95 % interval over problems.

    Answer j of a stands against answer j of b, twice, once in each order, so that a liking for the first place cancels out; a tie is half a
    win. As in the paper (v2 D.1) only what is answered is judged, without the thinking: length of thought must not impress.
    """
    _require_same_problems((a, b))
    if a.samples != b.samples:
        raise R1Error(f"a win rate sets answer against answer, but there are {a.samples} and {b.samples} of them: evaluate with as many.")
    points = {"A": (1.0, 0.0), "B": (0.0, 1.0)}                                   # for a, when a is shown first and when b is
    won = []
    for (problem, ours), theirs in zip(a.pairs(), b.completions, strict=True):
        answers = [text.parse(c.text).answer or "" for c in (ours, theirs)]
        verdicts = judge.verdict(problem, *answers, draw=0), judge.verdict(problem, *answers[::-1], draw=1)
        won.append(sum(0.5 if verdict == "A=B" else points[verdict[0]][turn] for turn, verdict in enumerate(verdicts)) / 2)
    of_problems = np.array(won).reshape(len(a.problems), a.samples).mean(axis=1)
    return bootstrap({"wins": of_problems}, resamples=resamples, seed=seed)["wins"]


def _require_same_problems(evaluations: Sequence[Evaluation]) -> None:
    """`R1Error` unless all are on the same problems in the same order, each of them once."""
    if not evaluations:
        raise R1Error("there is no evaluation to compare.")
    first, *others = ([problem.id for problem in made.problems] for made in evaluations)
    for other in others:
        if first != other:
            odd = next((y or x for x, y in zip(first, other, strict=False) if x != y), "the number of problems")
            raise R1Error(f"the evaluations are not on the same problems (first difference: {odd}): evaluate all on one set.")
    require_distinct(evaluations[0].problems)


def require_distinct(problems: Sequence[Problem]) -> None:
    """`R1Error` if a problem stands twice: it would count twice, and intervals over problems would be too narrow."""
    seen: set[str] = set()
    for row, problem in enumerate(problems, 1):
        if problem.id in seen:
            raise R1Error(f"problem {row}, {problem.id}, stands twice in the set ({problem.question[:60]!r}): remove one of the two.")
        seen.add(problem.id)


def require_end(policy: Policy, name: str | Path) -> None:
    """`R1Error` for a model without an end token: each of its answers would run on to the limit, and what stands there is no answer."""
    if not policy.stop_ids:
        raise R1Error(f"{name}: the model has no end token, so none of its answers ends. Set eos_token in tokenizer_config.json "
                      "or eos_token_id in generation_config.json.")


def by_manner(completions: Iterable[Completion]) -> dict[str, dict[str, float | None]]:
    """Manner -> how many completions, their share, their accuracy (None without any), their mean length, the share that mixes languages.

    Before any RL this says what RL will find and keep: the manner that is right most often.
    """
    groups: dict[str, list[Completion]] = {name: [] for name in MANNERS}
    for completion in completions:
        groups[manner(completion.text)].append(completion)
    total = sum(map(len, groups.values()))

    def mean(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    return {name: {"completions": len(group), "share": len(group) / total if total else 0.0, "accuracy": mean(c.accuracy for c in group),
                   "mean_length": mean(c.length for c in group), "mixing": mean(c.mixing for c in group)}
            for name, group in groups.items()}


def table(summary: Mapping[str, Any]) -> str:
    """A summary as text: a line over all, then one a level, a kind, a language; accuracies in percent, intervals in brackets."""
    k = summary["k"]
    heads = ("pass@1 (%)", f"pass@{k} (%)", f"cons@{k} (%)", "tokens")
    lines = [f"{'':12} problems  {''.join(f'{head:22}' for head in heads)}format  reflection  mixing"]
    parts = {"all": summary} | {f"level {level}": part for level, part in summary["by_level"].items()}
    parts |= dict(summary["by_kind"]) | dict(summary["by_language"])
    for name, part in parts.items():
        shown = [_shown(part[measure], 100) for measure in ("pass@1", "pass@k", "cons@k")] + [_shown(part["mean_length"], 1)]
        form, mixing = (f"{part[measure]['value']:.0%}" for measure in ("format", "language_mixing"))
        lines.append(f"{name:12} {part['problems']:8}  {''.join(f'{cell:22}' for cell in shown)}"
                     f"{form:>6}  {part['reflection']['value']:10.2f}  {mixing:>6}")
    return "\n".join(lines)


def _shown(interval: Interval, scale: float) -> str:
    if interval["value"] is None:
        return "-"
    value, low, high = (interval[name] * scale for name in ("value", "low", "high"))
    digits = 1 if high < 1000 else 0
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
