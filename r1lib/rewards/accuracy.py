"""The accuracy reward: is the answer right? One rule for each type of answer, and nothing that the model wrote is run."""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from r1lib import text
from r1lib.errors import R1Error
from r1lib.rewards import instructions, mathematics
from r1lib.rewards.completion import Completion, content
from r1lib.rewards.expression import NotAnExpression, evaluate

# [0-9] and not \d, which matches the digits of every script; commas only between thousands, lest "1,2" be twelve.
_NUMBER = re.compile(r"(?:[A-Za-z]\s*=\s*)?([-+]?(?:[0-9]{1,3}(?:,[0-9]{3}){1,9}|[0-9]{1,30})(?:\.[0-9]{1,30})?)\.?")
_PAIR = re.compile(r"(-?[0-9]{1,9})\s*(?:and|,|，|、|和|与)\s*(-?[0-9]{1,9})\.?")
_FACTORS = re.compile(r"([0-9]{1,9})\s*(?:\*|×|x|and|和)\s*([0-9]{1,9})\.?")
_CHOICE = re.compile(r"\(?([A-Za-z])[).]?")
_TARGET = re.compile(r"([0-9]{1,9}) from ([0-9]{1,6}(?: [0-9]{1,6})*) with ([-+*/](?: [-+*/])*)")
_BOX = re.compile(r"\\boxed\s*\{")


def unboxed(answer: str) -> str:
    """The result that a summary ends in, \\boxed{here}; an answer without a box at its end, or with several boxes, as it is."""
    boxes = list(_BOX.finditer(answer))
    if len(boxes) != 1:
        return answer
    depth, start = 1, boxes[0].end()
    for position in range(start, len(answer)):
        depth += (answer[position] == "{") - (answer[position] == "}")
        if not depth:
            return answer[start:position].strip() if answer[position + 1:].strip() in ("", ".", "。") else answer
    return answer


def _number(text: str) -> Fraction | None:
    """Whole numbers and decimals, with thousands commas, and with "x =" in front."""
    match = _NUMBER.fullmatch(text.strip())
    return Fraction(match.group(1).replace(",", "")) if match else None


def _equal_numbers(gold: str, answer: str) -> bool:
    return _number(answer) is not None and _number(answer) == _number(gold)


def _equal_pairs(gold: str, answer: str) -> bool:
    """The same two numbers in any order."""
    wanted, found = _PAIR.fullmatch(gold), _PAIR.fullmatch(answer.strip())
    return found is not None and sorted(map(int, found.groups())) == sorted(map(int, wanted.groups()))


def _are_factors(gold: str, answer: str) -> bool:
    """Two whole numbers above 1 whose product is `gold`."""
    found = _FACTORS.fullmatch(answer.strip())
    return found is not None and all(int(x) > 1 for x in found.groups()) and int(found.group(1)) * int(found.group(2)) == int(gold)


def _reaches(gold: str, answer: str) -> bool:
    """An expression over just the given numbers, each once, with no other sign than the allowed ones, that has the value asked for."""
    target, numbers, signs = _TARGET.fullmatch(gold).groups()
    try:
        value, used, used_signs = evaluate(answer)
    except NotAnExpression:
        return False
    return value == int(target) and sorted(used) == sorted(map(int, numbers.split())) and used_signs <= set(signs.split())


def _same_choice(gold: str, answer: str) -> bool:
    found = _CHOICE.fullmatch(answer.strip())
    return found is not None and found.group(1).upper() == gold


# type -> (what a gold answer looks like, the rule); "math" and "instructions" have no pattern because these look at golds themselves
RULES: dict[str, tuple[re.Pattern | None, Callable[[str, str], bool | None]]] = {
    "math": (None, lambda gold, answer: mathematics.grade(gold=gold, answer=answer)),
    "number": (_NUMBER, _equal_numbers),
    "pair": (_PAIR, _equal_pairs),
    "factors": (re.compile(r"[0-9]{1,9}"), _are_factors),
    "expression": (_TARGET, _reaches),
    "choice": (re.compile(r"[A-Z]"), _same_choice),
    "instructions": (None, lambda gold, answer: instructions.followed(gold, answer)),
}
_AS_A_WHOLE = ("instructions",)                        # a box at its end is no result then: everything before it counts, too
JUDGED_ELSEWHERE = ("code", "text", "conduct")         # by tests, by a reward model, by a judge


def right(answer_type: str, *, gold: str, answer: str) -> bool | None:
    """Whether `answer`, or the box that it ends in, is right, or None where no rule can tell (code, text, conduct, some instructions).

    Never raises on an answer, only on a gold that is malformed and on a type that is not known.
    """
    if answer_type in JUDGED_ELSEWHERE:
        return None
    if answer_type not in RULES:
        raise R1Error(f"answer_type {answer_type!r} is not known: choose from {', '.join([*RULES, *JUDGED_ELSEWHERE])}.")
    pattern, rule = RULES[answer_type]
    if pattern and (not isinstance(gold, str) or not pattern.fullmatch(gold)):
        raise R1Error(f"gold answer {gold!r} is not of the type {answer_type!r}: mend the problem's row.")
    return rule(gold, answer if answer_type in _AS_A_WHOLE else unboxed(answer))


def accuracy_reward(completions: Sequence[Completion], solution: Sequence[str], answer_type: Sequence[str] | None = None,
                    **_: Any) -> list[float | None]:
    """1 for a right answer, 0 for a wrong or a missing one, None where no rule can judge. Without `answer_type`, all are "math"."""
    types = answer_type or ["math"] * len(completions)
    rewards: list[float | None] = []
    for completion, gold, kind in zip(completions, solution, types, strict=True):
        answer = text.parse(content(completion)).answer
        verdict = right(kind, gold=gold, answer=answer or "")
        rewards.append(None if verdict is None else float(verdict))
    return rewards
