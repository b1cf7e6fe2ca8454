"""The worker that compares expressions with math-verify and sympy: a process of its own, because it can only be stopped by killing it.

    python -P math_verify.py SECONDS BYTES

It reads one JSON object a line, {"id", "gold", "answer"}, both as `mathematics` took them apart: a text is one expression, a list is
[kind, *parts]. It writes {"id", "right", "why"}, or "late". The process that starts up only forks; a child of it compares, holds nothing
worth having, lives on a bounded memory, and is ended by the kernel when a comparison needs more than SECONDS of processor time, which does
not depend on how busy the machine is. The next child is there in milliseconds. `mathematics.Worker` is the only user.
"""

import contextlib
import functools
import json
import logging
import os
import random
import re
import resource
import signal
import sys

import math_verify
import sympy
from latex2sympy2_extended import latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from sympy.core.evalf import PrecisionExhausted

_AS_WRITTEN = ConversionConfig(lowercase_symbols=False)          # R and r are two variables
_DIGITS = 150                                                    # to which a difference is looked at; what is 0 to all of them is 0
_SAME = sympy.Rational(1, 10**80)                                # relative to the larger of two values
_PIECES = (sympy.floor, sympy.ceiling, sympy.Abs)                # where equality here says nothing about equality there
_ENOUGH = 4                                                      # places at which two expressions in variables must agree


def compare(gold: str | list, answer: str | list) -> str:
    """What tells the answer from the gold, "" if nothing does.

    Lists are compared in order, kinds "set" and "union" in any order. Equations and inequalities may differ by a factor.
    """
    if type(gold) is not type(answer) or (isinstance(gold, list) and (gold[0], len(gold)) != (answer[0], len(answer))):
        return "it has another form"
    if isinstance(gold, str):
        imaginary = any("i" in re.sub(r"\\[A-Za-z]+", "", text) for text in (gold, answer))
        return "" if _equal(_read(gold, imaginary), _read(answer, imaginary), imaginary) else "it has another value"
    kind, *parts = gold
    found = answer[1:]
    if kind in ("=", "<", "\\leq", "\\neq"):
        sides = [_read(side, False) for side in (*parts, *found)]
        return "" if _proportional(*sides, ordered=kind in ("<", "\\leq")) else "it says something else"
    for part in parts:
        equal = next((other for other in (found if kind in ("set", "union") else found[:1]) if not compare(part, other)), None)
        if equal is None:
            return "a part of it is another one"
        found.remove(equal)
    return ""


@functools.lru_cache(maxsize=1024)                               # the answers of a group share their gold
def _read(latex: str, imaginary: bool) -> sympy.Expr:
    """The parser alone, without math-verify's extraction and repairs: those take `4\\sqrt(2)` for 4 and \\boxed{3}\\boxed{4} for a set.

    Decimals are read as the fractions that they are. Variables are real, i is the imaginary unit.
    """
    latex = re.sub(r"\\[A-Za-z]+|I", lambda word: r"\iota " if word[0] == "I" else word[0], latex)     # the parser takes I^{2} for i
    exact = re.sub(r"([0-9]*)\.([0-9]+)", lambda number: rf"\frac{{{number[1]}{number[2]}}}{{1{'0' * len(number[2])}}}", latex)
    read = latex2sympy(exact, is_real=True, convert_degrees=False, normalization_config=None, conversion_config=_AS_WRITTEN)
    if not isinstance(read, sympy.Expr):
        raise ValueError("not one expression")
    value = (read.xreplace({sympy.Symbol("i", real=True): sympy.I}) if imaginary else read).doit()
    if value.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo) and not re.fullmatch(r" *[-+]? *\\infty *", latex):
        raise ValueError("not finite")
    return value


def _equal(gold: sympy.Expr, answer: sympy.Expr, imaginary: bool) -> bool:
    """Whether two expressions are equal: they agree at every place that is looked at, wherever both are defined.

    Where there are too few such places, or an expression is put together from pieces, math-verify has to agree too.
    """
    if gold == answer:
        return True
    variables = sorted(gold.free_symbols | answer.free_symbols, key=str)
    agreed = 0
    enough = _ENOUGH if variables else 1
    for place in _places(variables):
        if agreed < enough and (imaginary or (_defined(gold, place) and _defined(answer, place))):
            same = _agree(gold.xreplace(place), answer.xreplace(place))
            if same is False:
                return False
            agreed += same is True
    if agreed == enough and not gold.has(*_PIECES) and not answer.has(*_PIECES):
        return True
    return math_verify.verify(gold, answer, float_rounding=15, numeric_precision=30, timeout_seconds=None)


def _places(variables: list[sympy.Symbol]) -> list[dict[sympy.Symbol, sympy.Rational]]:
    """Values for the variables, never whole: small and large, positive first, then of both signs. One empty place without variables."""
    if not variables:
        return [{}]
    chance = random.Random(0)
    return [{variable: sympy.Rational(chance.randrange(1, 101) * size * chance.choice(signs), 101) for variable in variables}
            for size, signs in ((3, [1]), (3, [1, -1]), (1, [1]), (3, [-1]), (3, [1, -1]), (21, [1]), (1, [-1]), (2, [1]), (7, [1]))]


def _defined(expression: sympy.Expr, place: dict) -> bool:
    """Whether its roots and logarithms are of positive numbers here: \\sqrt{x}\\sqrt{y} is \\sqrt{xy} where both are written for."""
    for node in expression.atoms(sympy.Pow, sympy.log):
        if not (isinstance(node, sympy.Pow) and node.exp.is_integer) and not node.args[0].xreplace(place).evalf().is_positive:
            return False
    return True


def _agree(gold: sympy.Expr, answer: sympy.Expr) -> bool | None:
    """Whether two numbers are equal, exactly or to `_DIGITS` digits; None if one of them is no finite number."""
    sizes = [abs(number.evalf()) for number in (gold, answer)]
    if not all(size.is_Number and size.is_finite for size in sizes):
        return None
    difference = gold - answer
    if difference.is_Rational:
        return difference == 0
    try:
        return difference.evalf(maxn=_DIGITS, strict=True) == 0
    except PrecisionExhausted:                                   # 0 to all digits, or at least its real or its imaginary part is
        return bool(abs(difference.evalf(maxn=_DIGITS)) <= max(sizes) * _SAME)


def _proportional(left: sympy.Expr, right: sympy.Expr, other_left: sympy.Expr, other_right: sympy.Expr, *, ordered: bool) -> bool:
    """Whether two relations are the same but for a factor, which is positive where order matters."""
    gold, answer = left - right, other_left - other_right
    if gold.free_symbols != answer.free_symbols:
        return False
    place = _places(sorted(gold.free_symbols, key=str))[0]
    factor, other = gold.xreplace(place), answer.xreplace(place)
    if not all(value.evalf().is_nonzero for value in (factor, other)) or ordered and not (factor / other).evalf().is_positive:
        return False
    return _equal(gold * other, answer * factor, False)


def _answer(asked: dict) -> dict:
    try:
        why = compare(asked["gold"], asked["answer"])
    except MemoryError:
        why = "it needs too much memory"
    except Exception as error:                                   # what the parser does not read, what sympy cannot compare, RecursionError
        why = f"it cannot be read ({type(error).__name__})"
    return {"id": asked["id"], "right": not why, "why": why}


def _line() -> bytes:
    """One line from standard input, b"" at its end; unbuffered, because the next child reads on."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            return b""
        line += chunk
    return line


def _serve(seconds: float, answers_to: int) -> None:
    """Answer every question until the input ends, or until the kernel ends this process because one takes too long."""
    while line := _line():
        signal.setitimer(signal.ITIMER_PROF, seconds)            # not handled, so it ends the process, even inside C
        said = _answer(json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(answers_to, json.dumps(said).encode() + b"\n")


def main(seconds: float, memory: int) -> None:
    answers_to = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)                 # nothing that a library prints is taken for a verdict
    logging.disable(logging.CRITICAL)
    for limit, value in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):           # macOS does not limit address space
            resource.setrlimit(limit, (value, value))
    for gold, answer in (("\\frac{x^{2}-1}{x-1}+\\sin x", "x+1+\\sin x"), ("|x|", "2x")):
        compare(gold, answer)                                    # the first comparison imports half of sympy
    os.write(answers_to, b"ready\n")
    while True:
        child = os.fork()
        if not child:
            _serve(seconds, answers_to)
            os._exit(0)
        ended = os.waitpid(child, 0)[1]
        if not (os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGPROF):
            break                                                # the input has ended, or somebody else has killed it
        os.write(answers_to, b"late\n")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
