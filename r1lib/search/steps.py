"""What a step of an answer is, and whether it is right.

A step is a line of the answer; lines that hold tags only belong to the step behind them, and the answer is the last step. In general
reasoning nobody can say where a step begins or whether it is right (v1 section 4.2). In the miniature a rule can, because every kind of
mathematics knows which calculations lead to its answer and which candidates its question allows.
"""

import functools
import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from r1lib import rewards, text
from r1lib.tasks import Problem
from r1lib.tasks.arithmetic import calculate
from r1lib.tasks.search import expressions

# true: what it says holds and belongs to the question. beside: it holds, but the question does not ask for it, as behind a number that was
# copied wrongly or a mistake that is carried on; or it has numbers that nobody can make sense of. false: it does not hold. silent: it says
# nothing that could be false.
Verdict = Literal["true", "beside", "false", "silent"]
GOOD: tuple[Verdict, ...] = ("true", "silent")

_MARKS = re.compile("|".join(map(re.escape, (*text.TAGS, text.EOS))))
# Numbers of more than six digits are none of this world, and Python refuses to read very long ones.
_CALCULATION = re.compile(r"(?<![-+*/\d.=])(\d{1,6})([-+*/])(\d{1,6})=(-?\d{1,6})(?!\d)")
_RUNNING = re.compile(r"(?P<tried>[(\d][-+*()\d]{0,40}\d)[:：] ?(?P<values>-?\d{1,6}(?:, ?-?\d{1,6})*)(?!\d)")
_NUMBER = re.compile(r"(?<!\d)-?\d{1,6}(?!\d)")
_NOT_THIS = re.compile(r"\bnot (\d{1,6})(?!\d)|不是(\d{1,6})(?!\d)")
_SAYS = {"small": re.compile("too small|太小"), "large": re.compile("too large|太大"),
         "no": re.compile(r"\bNo\.|that is wrong|不对|不行"), "yes": re.compile(r"\bYes\b|\b[Tt]hat is it\b|, right\b|对了|就是它|，对")}
_HOLDS = {"small": int.__lt__, "large": int.__gt__, "no": int.__ne__, "yes": int.__eq__}
_DIGIT = re.compile(r"\d")
_CONFIRMS = re.compile(r"(?:Right|It is right|Good)\.|(?:对|没错|正确)。")
_ANSWER = re.compile("<answer>(.*?)(?:</answer>|$)", re.DOTALL)
_APPLY = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": lambda a, b: a / b if b else None}


# ------------------------------------------------------------------------------------------------------------------------------------------
# Where a step ends

@dataclass(frozen=True)
class Step:
    """A part of an answer. end: how many of the answer's tokens are written when it is complete."""

    text: str
    end: int


@functools.lru_cache(maxsize=4)
def newlines(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end a line: a newline, or signs with a newline behind them."""
    return frozenset(id for id, written in enumerate(_texts(tokenizer, [[id] for id in range(len(tokenizer))])) if written.endswith("\n"))


def cut(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], ends: frozenset[int]) -> list[Step]:
    """The steps of an answer. ids: its tokens; ends: `newlines` of the tokenizer. What lies behind the last newline is a step as well."""
    bounds = sorted({0, len(ids), *(place + 1 for place, id in enumerate(ids) if id in ends)})
    lines = _texts(tokenizer, [ids[start:end] for start, end in itertools.pairwise(bounds)])
    steps: list[Step] = []
    before = ""                                    # tags that stand on a line of their own
    for line, end in zip(lines, bounds[1:], strict=True):
        if _MARKS.sub("", line).strip():
            steps.append(Step(before + line, end))
        before = "" if steps and steps[-1].end == end else before + line
    return steps


def _texts(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> list[str]:
    return tokenizer.batch_decode(rows, skip_special_tokens=False, clean_up_tokenization_spaces=False) if rows else []


# ------------------------------------------------------------------------------------------------------------------------------------------
# Whether it is right

def judge(problem: Problem, steps: Sequence[str]) -> list[Verdict]:
    """A verdict on each step of an answer to a problem of mathematics; what a step says is read in the light of those before it."""
    verdicts: list[Verdict] = []
    last: int | None = None                        # the latest number that was worked out
    for step in steps:
        verdict, last = _judged(problem, step, last)
        verdicts.append(verdict)
    return verdicts


def _judged(problem: Problem, step: str, last: int | None) -> tuple[Verdict, int | None]:
    """The verdict on a step, and the latest number after it."""
    if answer := _ANSWER.search(step):
        return ("true" if _solves(problem, answer[1]) else "false"), last
    if "numbers" in problem.facts and (found := _RUNNING.search(step)):
        values = [int(value) for value in _NUMBER.findall(found["values"])]
        allowed = _expressions(tuple(problem.facts["numbers"]), problem.facts["signs"]).get(found["tried"])
        return _tried(problem, step[found.end():], values[-1], None if allowed is None else allowed == values), values[-1]
    if found := _CALCULATION.search(step):
        left, sign, right, value = int(found[1]), found[2], int(found[3]), int(found[4])
        if _APPLY[sign](left, right) != value:
            return "false", value
        if "calculations" in problem.facts:
            asked = found[0] in _path(problem, last)
            return (("true" if asked and _claims_hold(problem, step[found.end():], value) else "false" if asked else "beside"), value)
        fits = sign == "*" and (problem.kind == "factor_pair" or left + right == problem.facts.get("a", 0) + problem.facts.get("b", 0))
        return _tried(problem, step[found.end():], value, True if fits else None), value
    if "calculations" in problem.facts and _CONFIRMS.search(step) and last is not None:
        return ("true" if last in (int(problem.gold), problem.facts.get("target")) else "false"), last
    if "calculations" in problem.facts and (found := _NUMBER.search(step)):
        return ("true" if int(found[0]) == int(problem.gold) else "false"), int(found[0])
    return ("beside" if _DIGIT.search(step) else "silent"), last


def _solves(problem: Problem, answer: str) -> bool:
    return rewards.accuracy_reward([f"<think>-</think><answer>{answer}</answer>"], **{
        name: [value] for name, value in problem.columns().items()})[0] == 1


def _tried(problem: Problem, said: str, value: int, holds: bool | None) -> Verdict:
    """The verdict on a candidate. holds: whether its calculation does, None where the question does not allow it; said: what follows."""
    if holds is None:
        return "beside"
    target = problem.facts["target"]
    if not holds or not _claims_hold(problem, said, value):
        return "false"
    settled = not any(pattern.search(said) for pattern in _SAYS.values()) and not _NOT_THIS.search(said)
    return "false" if settled and value != target else "true"           # it takes a candidate that does not fit


def _claims_hold(problem: Problem, said: str, value: int) -> bool:
    """Whether what is said of a value ("not 24", "too small", "Yes") is so."""
    target = problem.facts.get("target")
    if target is None:
        return True
    named = _NOT_THIS.search(said)
    if named and (int(named[1] or named[2]) != target or value == target):
        return False
    return all(_HOLDS[claim](value, target) for claim, pattern in _SAYS.items() if pattern.search(said))


def _path(problem: Problem, last: int | None) -> set[str]:
    """The calculations that lead to the answer, and those that check it or, in an equation, the latest number."""
    path = _lines(problem.facts["calculations"])
    for value in {int(problem.gold), last} - {None} if problem.facts.get("substitution") else ():
        path |= _lines([[value if x == "x" else x for x in calculation] for calculation in problem.facts["substitution"]])
    return path


def _lines(calculations: Sequence[Sequence[int | str]]) -> set[str]:
    return {line for line, _ in calculate([tuple(calculation) for calculation in calculations], random.Random())}


@functools.lru_cache(maxsize=512)
def _expressions(numbers: tuple[int, ...], signs: str) -> dict[str, list[int]]:
    return expressions(list(numbers), signs)
