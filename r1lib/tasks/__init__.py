"""The miniature's world: five domains, two languages, levels 1 to 5; infinite, seeded, split so that no evaluation problem is trained on.

Nothing here is learned and nothing is downloaded. A problem is plain data; `corpus.py` writes what the base models read.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from r1lib import paths, seeds
from r1lib.errors import R1Error
from r1lib.tasks import arithmetic, code, general, logic, safety, search
from r1lib.tasks.problem import LEVELS, Kind, Language, Problem, Voice, Work, split_of

__all__ = ["DOMAINS", "EVALUATION_SETS", "KINDS", "LEVELS", "Kind", "Language", "Phases", "Problem", "ProblemStream", "Voice", "Work",
           "draw", "evaluation_set", "read_problems", "split_of", "stream", "write_evaluation_sets", "write_problems"]

KINDS: dict[str, Kind] = {kind.name: kind for module in (arithmetic, search, logic, code, general, safety) for kind in module.KINDS}
DOMAINS = tuple(dict.fromkeys(kind.domain for kind in KINDS.values()))
ENGLISH_SHARE = 0.75


def draw(kind: Kind, rng: random.Random, level: int, language: Language, split: str) -> Problem:
    """A problem of this kind on this side of the wall between training and evaluation."""
    for _ in range(2000):
        problem = kind.make(rng, level, language)
        if split_of(problem) == split:
            return problem
    raise R1Error(f"{kind.name} at level {level} has no problem for the split {split!r}: its space is too small.")


@dataclass(frozen=True)
class ProblemStream:
    """An endless supply.

    The batch of a step depends on nothing but (seed, step), so a resumed run sees what an uninterrupted one would have seen.
    """

    kinds: tuple[Kind, ...]
    seed: int
    levels: tuple[int, ...]
    languages: tuple[Language, ...]
    split: str

    def batch(self, step: int, n: int) -> list[Problem]:
        """`n` problems; kinds and levels alike often, English three times as often as Chinese."""
        rng = seeds.rng("problems", self.split, self.seed, step)
        problems = []
        for _ in range(n):
            kind, level = rng.choice(self.kinds), rng.choice(self.levels)
            language = self.languages[0] if len(self.languages) == 1 or rng.random() < ENGLISH_SHARE else self.languages[1]
            problems.append(draw(kind, rng, level, language, self.split))
        return problems


def stream(domains: Sequence[str], *, seed: int, levels: Sequence[int] = LEVELS, languages: Sequence[Language] = ("en", "zh"),
           split: str = "train") -> ProblemStream:
    """Problems of these domains (or of single kinds, by name), for training unless told otherwise."""
    kinds = []
    for name in domains:
        if name in KINDS:
            kinds.append(KINDS[name])
        elif name in DOMAINS:
            kinds += [kind for kind in KINDS.values() if kind.domain == name]
        else:
            raise R1Error(f"domain {name!r} is not known: choose from {', '.join(DOMAINS)}, or a kind from {', '.join(KINDS)}.")
    if bad := [level for level in levels if level not in LEVELS]:
        raise R1Error(f"levels {bad} do not exist: they go from {LEVELS[0]} to {LEVELS[-1]}.")
    return ProblemStream(tuple(kinds), seed, tuple(levels), tuple(languages), split)


@dataclass(frozen=True)
class Phases:
    """Two streams one after the other: from step `change` on, `share` of every batch comes from the second."""

    first: ProblemStream
    second: ProblemStream
    change: int
    share: float

    def batch(self, step: int, n: int) -> list[Problem]:
        """`n` problems, a function of the step like a stream's own batch."""
        others = round(n * self.share) if step >= self.change else 0
        return [*self.first.batch(step, n - others), *self.second.batch(step, others)]


# Fixed evaluation sets

# name -> (kinds, levels, problems for each kind and level); math-hard plays the part of AIME
EVALUATION_SETS: dict[str, tuple[tuple[str, ...], tuple[int, ...], int]] = {
    "math": (("chain", "word", "equation", "sum_product", "factor_pair", "countdown"), LEVELS, 6),
    "math-hard": (("chain", "sum_product", "factor_pair", "countdown"), (5,), 15),
    "logic": (("ordering", "comparison", "sequence"), LEVELS, 6),
    "code": (("function",), LEVELS, 12),
    "general": (("fact", "translation", "self", "greeting", "writing"), LEVELS, 4),
    "safety": (("harmful", "harmless"), LEVELS, 6),
}


def _fixed_set(name: str) -> list[Problem]:
    """The problems of a fixed set, made anew: distinct questions, one in four in Chinese."""
    kinds, levels, count = EVALUATION_SETS[name]
    problems: dict[str, Problem] = {}                      # by question
    for kind in kinds:
        for level in levels:
            rng = seeds.rng("evaluation", name, kind, level)
            before = len(problems)
            for _ in range(500):                           # a small space may run out of distinct questions before `count`
                if len(problems) - before == count:
                    break
                language = "zh" if (len(problems) - before) % 4 == 3 else "en"
                problem = draw(KINDS[kind], rng, level, language, "eval")
                problems.setdefault(problem.question, problem)
    return list(problems.values())


def write_evaluation_sets(folder: Path | None = None) -> list[Path]:
    """Write every fixed set as JSON lines; the shipped files are what this function makes."""
    folder = folder or paths.data() / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    return [write_problems(_fixed_set(name), folder / f"{name}.jsonl") for name in EVALUATION_SETS]


def write_problems(problems: Sequence[Problem], path: Path) -> Path:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in problems), encoding="utf-8")
    return path


def read_problems(path: Path) -> list[Problem]:
    """The problems of a file that `write_problems` made; a bad row is named."""
    if not path.is_file():
        raise R1Error(f"{path}: there is no such file of problems.")
    try:
        written = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise R1Error(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8.") from None
    problems = []
    for number, line in enumerate(written.removesuffix("\n").split("\n") if written else [], 1):      # a question may hold other line ends
        try:
            row = json.loads(line)
            problem = Problem(**{**row, "tests": tuple(row["tests"])})
            for name in ("domain", "kind", "question", "answer_type", "gold", "key"):
                if not isinstance(getattr(problem, name), str):
                    raise ValueError(f"{name}={getattr(problem, name)!r} must be a string")
            for name, choices in (("level", LEVELS), ("language", ("en", "zh"))):
                if getattr(problem, name) not in choices:
                    raise ValueError(f"{name}={getattr(problem, name)!r} must be one of {', '.join(map(str, choices))}")
            problems.append(problem)
        except (ValueError, TypeError, KeyError) as error:
            raise R1Error(f"{path}, row {number}: not a problem ({error}).") from None
    return problems


def evaluation_set(name: str) -> list[Problem]:
    """A fixed set that ships with the project: math, math-hard, logic, code, general or safety."""
    if name not in EVALUATION_SETS:
        raise R1Error(f"evaluation set {name!r} is not known: choose one of {', '.join(EVALUATION_SETS)}.")
    return read_problems(paths.data() / "evaluation" / f"{name}.jsonl")
