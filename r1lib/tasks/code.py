"""Small Python functions from a description, judged by hidden calls.

What a function should do is held twice: as the source that a solution shows and as our own callable, which makes the expected values.
Source written by a model is never run here; the sandbox does that.
"""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from r1lib.tasks.problem import Kind, Language, Problem, Voice, Work


class _Function(NamedTuple):
    """A description in both languages, a source and a callable; `n` and `m` are filled in."""

    en: str
    zh: str
    body: str
    call: Callable[[Any, int, int], Any]


_ON_NUMBER = {
    1: [_Function("x plus {n}", "x加{n}", "x+{n}", lambda x, n, m: x + n),
        _Function("x minus {n}", "x减{n}", "x-{n}", lambda x, n, m: x - n),
        _Function("x times {n}", "x乘{n}", "x*{n}", lambda x, n, m: x * n)],
    2: [_Function("x times {n}, plus {m}", "x乘{n}再加{m}", "x*{n}+{m}", lambda x, n, m: x * n + m),
        _Function("x times {n}, minus {m}", "x乘{n}再减{m}", "x*{n}-{m}", lambda x, n, m: x * n - m),
        _Function("the square of x, plus {n}", "x的平方加{n}", "x*x+{n}", lambda x, n, m: x * x + n)],
}
_ON_LIST = {
    3: [_Function("the sum of the list x, plus {n}", "列表x的和加{n}", "sum(x)+{n}", lambda x, n, m: sum(x) + n),
        _Function("the largest number of the list x, minus {n}", "列表x的最大数减{n}", "max(x)-{n}", lambda x, n, m: max(x) - n),
        _Function("the smallest number of the list x, times {n}", "列表x的最小数乘{n}", "min(x)*{n}", lambda x, n, m: min(x) * n),
        _Function("the length of the list x, times {n}", "列表x的长度乘{n}", "len(x)*{n}", lambda x, n, m: len(x) * n)],
    4: [_Function("the list of the numbers of x, each plus {n}", "x的每个数加{n}的列表", "[a+{n} for a in x]",
                  lambda x, n, m: [a + n for a in x]),
        _Function("the list of the numbers of x above {n}", "x中大于{n}的数的列表", "[a for a in x if a>{n}]",
                  lambda x, n, m: [a for a in x if a > n]),
        _Function("the list of the numbers of x that {n} divides", "x中能被{n}整除的数的列表", "[a for a in x if a%{n}==0]",
                  lambda x, n, m: [a for a in x if a % n == 0])],
    5: [_Function("the sum of the numbers of x above {n}", "x中大于{n}的数的和", "sum([a for a in x if a>{n}])",
                  lambda x, n, m: sum(a for a in x if a > n)),
        _Function("how many numbers of x are below {n}", "x中小于{n}的数有几个", "len([a for a in x if a<{n}])",
                  lambda x, n, m: len([a for a in x if a < n])),
        _Function("the sum of the numbers of x, each times {n}, plus {m}", "x的每个数乘{n}的和再加{m}", "sum([a*{n} for a in x])+{m}",
                  lambda x, n, m: sum(a * n for a in x) + m)],
}
_FUNCTIONS = _ON_NUMBER | _ON_LIST
_ASK = {"en": ["Write a Python function f(x) that returns {d}.", "Define f(x) in Python: it returns {d}."],
        "zh": ["写一个Python函数f(x)，返回{d}。", "用Python定义f(x)：返回{d}。"]}


def make_function(rng: random.Random, level: int, language: Language) -> Problem:
    which = rng.randrange(len(_FUNCTIONS[level]))
    function = _FUNCTIONS[level][which]
    n, m = rng.randint(2, 30), rng.randint(2, 30)
    if level < 3:
        inputs = [rng.randint(0, 40) for _ in range(4)]
    else:
        inputs = [[rng.randint(0, 60) for _ in range(rng.randint(2, 4))] for _ in range(4)]
    tests = tuple({"call": f"f({x})", "expected": function.call(x, n, m)} for x in inputs)
    description = (function.en if language == "en" else function.zh).format(n=n, m=m)
    body = function.body.format(n=n, m=m)
    return Problem("code", "function", level, language, rng.choice(_ASK[language]).format(d=description), "code", _source(body), body,
                   tests=tests, facts={"body": body, "level": level, "which": which, "n": n, "m": m})


def _source(body: str) -> str:
    return f"def f(x):\n    return {body}"


_SWAPS = (("+", "-"), ("-", "+"), ("max", "min"), ("min", "max"), (">", "<"), ("<", ">"), ("*", "+"), ("sum", "len"))


def _spoil(body: str, rng: random.Random) -> str:
    """The same body with one sign or number taken wrongly."""
    possible = [(a, b) for a, b in _SWAPS if a in body]
    a, b = rng.choice(possible) if possible else ("f", "f")
    return body.replace(a, b, 1)


def _work(problem: Problem, manner: str, voice: Voice) -> Work:
    facts, rng = problem.facts, voice.rng
    body = facts["body"]
    if manner == "glance":
        return Work(voice.say("sure"), _source(body if rng.random() < 0.3 else _spoil(body, rng)))
    first = _spoil(body, rng) if manner in ("slips", "check") and rng.random() < 0.4 * voice.slip_scale else body
    think = voice.say("open") + f"return {first}"
    if manner == "check":
        function = _FUNCTIONS[facts["level"]][facts["which"]]
        x = rng.randint(2, 9) if facts["level"] < 3 else [rng.randint(1, 9) for _ in range(2)]
        think += "\n" + voice.say("check") + f" f({x})={function.call(x, facts['n'], facts['m'])}\n"
        think += voice.say("right") if first == body else voice.say("mistake", x=body)
        first = body
    return Work(think, _source(first))


KINDS = (Kind("function", "code", ("glance", "steps", "slips", "check"), make_function, _work),)
