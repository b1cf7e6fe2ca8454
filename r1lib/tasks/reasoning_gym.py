"""Problems that reasoning-gym's generators draw, without end and at any difficulty, judged by our own rules.

    train = problems("chain_sum", 2000, seed=0, max_terms=3, max_digits=2)
    held_out = problems("chain_sum", 200, seed=0, split="eval", max_terms=3, max_digits=2)

Its scorers are never asked: several run what a model has written, and several pay a part for what is wrong. So only those generators are
offered whose answers a rule of `rewards.accuracy` can judge. The package is optional: pip install reasoning-gym==0.1.25
"""

import importlib
from typing import Any, Literal

from r1lib import seeds
from r1lib.errors import R1Error
from r1lib.tasks.problem import LEVELS, Problem, split_of

# Whose answers are a number, and countdown, whose answer is any expression that reaches the target.
NUMBERS = ("basic_arithmetic", "chain_sum", "count_bits", "gcd", "gsm_symbolic", "lcm", "letter_counting", "products", "simple_equations")
GENERATORS = (*NUMBERS, "countdown")
_DRAWN = 2**31                     # item i of a data set is made by Random(seed + i): data sets begin far apart in so many
_TRIES = 40                        # draws a problem that is wanted: one in eight is held out, and a small world says things twice


def problems(generator: str, count: int, *, seed: int, split: Literal["train", "eval"] = "train", level: int = LEVELS[2],
             **settings: Any) -> list[Problem]:
    """`count` different questions of a generator, on one side of the wall between training and evaluation whatever the seed.

    settings: the generator's own, such as max_digits; without them it is as difficult as its authors made it. level: how difficult these
    are called here. `R1Error`: a generator that is not offered, a setting that it does not take, the package is missing, or the generator
    knows fewer questions than were asked for.
    """
    if generator not in GENERATORS:
        raise R1Error(f"reasoning-gym: generator {generator!r} is not offered, as no rule here judges its answers: choose one of "
                      f"{', '.join(GENERATORS)}.")
    try:
        gym = importlib.import_module("reasoning_gym")
    except ImportError:
        raise R1Error("problems of reasoning-gym need the package, which is not installed: pip install reasoning-gym==0.1.25") from None
    try:
        drawn = gym.create_dataset(generator, seed=seeds.derive("reasoning-gym", generator, seed) % _DRAWN, size=_TRIES * count, **settings)
    except (TypeError, ValueError, AssertionError) as error:
        raise R1Error(f"reasoning-gym: {generator} does not take {settings} ({error}).") from None
    found: dict[str, Problem] = {}
    for place in range(_TRIES * count):
        problem = _problem(generator, drawn[place], level)
        if split_of(problem) == split:
            found.setdefault(problem.question, problem)
        if len(found) == count:
            return list(found.values())
    raise R1Error(f"reasoning-gym: {generator} with {settings or 'its own settings'} gave {len(found)} different questions for {split} in "
                  f"{_TRIES * count} draws, but {count} were asked for. Give settings that make more, or ask for fewer.")


def _problem(generator: str, entry: dict[str, Any], level: int) -> Problem:
    question, answer_type, gold = entry["question"].strip(), "number", str(entry["answer"]).strip()
    if generator == "countdown":
        drawn = entry["metadata"]
        answer_type, gold = "expression", f"{drawn['target']} from {' '.join(map(str, drawn['numbers']))} with + - * /"
    return Problem("math", f"gym_{generator}", level, "en", question, answer_type, gold, key=question)
