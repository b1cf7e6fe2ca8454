"""Mathematics that must be searched: Countdown, two numbers of given sum and product, a pair of factors.

No rule leads to the answer, a candidate is easy to check, and the first one is often wrong. Here reflection pays for a reason of the
problem's own: whoever checks and tries again is right far more often than whoever takes the first candidate. (Slips that a corpus puts in
at random would not do: reinforcement learning removes them, and with them the reason to check.)
"""

import itertools
import random
from collections.abc import Callable, Iterator

from r1lib.tasks.problem import Kind, Language, Problem, Voice, Work

RIGHT_AT_A_GLANCE = 0.12          # how often an unworked answer in the corpus is right
RIGHT_AT_FIRST_TRY = 0.30         # how often somebody who tries only once has looked closely enough
MOST_TRIES = 9
GIVES_UP = 0.02                   # the chance, after each failure, of giving up with the last candidate


def _search(problem: Problem, manner: str, voice: Voice, *, guesses: Callable[[random.Random], Iterator[str]],
            written: Callable[[str], tuple[str, str]], blind: Callable[[random.Random], str]) -> Work:
    """A worked solution of any search problem.

    guesses: candidates in the order in which somebody would try them, the last one right.
    written: candidate -> (how the try is written, "yes" or how it misses).
    blind: an answer that only looks right.
    """
    rng, gold = voice.rng, problem.facts["solution"]
    if manner == "glance":
        return Work(voice.say("sure"), gold if rng.random() < RIGHT_AT_A_GLANCE else blind(rng))
    opening = voice.say("open")
    if manner in ("steps", "slips"):                       # one try, taken as it is
        candidate = gold if manner == "steps" and rng.random() < RIGHT_AT_FIRST_TRY else next(guesses(rng))
        return Work(opening + voice.say("try") + written(candidate)[0] + voice.say("settle"), candidate)
    lines = []
    for i, candidate in enumerate(itertools.islice(guesses(rng), MOST_TRIES)):
        text, verdict = written(candidate)
        lines.append(voice.say("again" if i else "try") + text + voice.say(verdict, x=problem.facts["target"]))
        if verdict == "yes":
            break
        if rng.random() < GIVES_UP:
            lines.append(voice.say("give_up"))
            break
    return Work(opening + "\n".join(lines), candidate)


def _search_problem(kind: str, level: int, language: Language, question: str, answer_type: str, gold: str, key: str,
                    **facts: object) -> Problem:
    return Problem("math", kind, level, language, question, answer_type, gold, key, facts=facts)


# Two numbers of given sum and product

_SUM_PRODUCT = {"en": ["Which two numbers add to {s} and multiply to {p}?", "Two numbers have sum {s} and product {p}. What are they?"],
                "zh": ["两个数的和是{s}，积是{p}，是哪两个数？", "哪两个数相加得{s}，相乘得{p}？"]}


def make_sum_product(rng: random.Random, level: int, language: Language) -> Problem:
    low, high = ((2, 12), (2, 16), (3, 20), (5, 30), (8, 40))[level - 1]
    a, b = sorted((rng.randint(low, high), rng.randint(low, high)))
    question = rng.choice(_SUM_PRODUCT[language]).format(s=a + b, p=a * b)
    return _search_problem("sum_product", level, language, question, "pair", f"{a} and {b}", f"{a + b} {a * b}",
                           solution=f"{a} and {b}", target=a * b, a=a, b=b)


def _work_sum_product(problem: Problem, manner: str, voice: Voice) -> Work:
    a, total, product = problem.facts["a"], problem.facts["a"] + problem.facts["b"], problem.facts["target"]

    def guesses(rng: random.Random) -> Iterator[str]:
        """Begin somewhere near, then let "too small" and "too large" show the way."""
        low = max(1, min(total // 2, a + rng.choice([-4, -3, -2, -1, 0, 1, 2, 3, 4])))
        while True:
            yield f"{low} and {total - low}"
            if low == a:
                return
            distance = abs(a - low)
            low += (1 if low < a else -1) * (1 if distance == 1 else rng.randint(1, min(2, distance)))

    def written(candidate: str) -> tuple[str, str]:
        x, y = map(int, candidate.split(" and "))
        return f"{x}*{y}={x * y}", "yes" if x * y == product else "small" if x * y < product else "large"

    def blind(rng: random.Random) -> str:
        x = max(1, a + rng.choice([-3, -2, -1, 1, 2, 3]))
        return f"{x} and {max(1, total - x)}"

    return _search(problem, manner, voice, guesses=guesses, written=written, blind=blind)


# A pair of factors

_FACTOR_PAIR = {"en": ["Find two whole numbers above 1 whose product is {n}.", "Write {n} as a product of two numbers above 1."],
                "zh": ["把{n}写成两个大于1的整数的积。", "哪两个大于1的整数相乘得{n}？"]}
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)


def make_factor_pair(rng: random.Random, level: int, language: Language) -> Problem:
    """A product whose smallest factor is a prime `a`; level by how large that is. Any two factors above 1 are a right answer."""
    smaller = ((2, 3), (3, 5), (3, 5, 7), (5, 7, 11, 13), (7, 11, 13, 17, 19))[level - 1]
    largest = (60, 80, 97, 97, 97)[level - 1]
    a = rng.choice(smaller)
    b = rng.choice([b for b in range(a, largest) if all(b % p for p in _PRIMES if p < a)])
    return _search_problem("factor_pair", level, language, rng.choice(_FACTOR_PAIR[language]).format(n=a * b), "factors", str(a * b),
                           str(a * b), solution=f"{a}*{b}", target=a * b, a=a, b=b)


def _work_factor_pair(problem: Problem, manner: str, voice: Voice) -> Work:
    a, n = problem.facts["a"], problem.facts["target"]

    def guesses(rng: random.Random) -> Iterator[str]:
        """Primes whose square is not above the number, in order from a random start, those seen to fail left out."""
        possible = [p for p in _PRIMES if p * p <= n]
        obvious = [p for p in possible if p in (2, 5) and n % p and rng.random() < 0.8]     # an odd number, or one not ending in 0 or 5
        possible = [p for p in possible if p not in obvious]
        start = rng.randrange(len(possible)) if rng.random() < 0.5 else 0
        for p in possible[start:] + possible[:start]:
            yield f"{p}*{n // p}"
            if p == a:
                return

    def written(candidate: str) -> tuple[str, str]:
        x, y = map(int, candidate.split("*"))
        return f"{x}*{y}={x * y}", "yes" if x * y == n else "not"

    def blind(rng: random.Random) -> str:
        p = rng.choice(_PRIMES)
        return f"{p}*{max(2, n // p)}"

    return _search(problem, manner, voice, guesses=guesses, written=written, blind=blind)


# Countdown

_COUNTDOWN = {"en": ["Use {numbers}, each once, with {ops} to make {target}.",
                     "Make {target} from {numbers} with {ops}, each number once."],
              "zh": ["用{numbers}各一次和{ops}得到{target}。", "每个数用一次，用{ops}把{numbers}变成{target}。"]}
# How many numbers, the largest, the signs.
_COUNTDOWN_LEVELS = ((3, 12, "+-"), (3, 30, "+-"), (3, 12, "+-*"), (4, 20, "+-"), (4, 12, "+-*"))


def expressions(numbers: list[int], signs: str) -> dict[str, list[int]]:
    """Every left-deep expression that uses each number once: its text -> the value after each sign.

    Brackets stand only where they are needed; what goes below 0 or above 999 on the way is left out.
    """
    found: dict[str, list[int]] = {}
    for order in set(itertools.permutations(numbers)):
        for ops in itertools.product(signs, repeat=len(numbers) - 1):
            text, value, values, sums = str(order[0]), order[0], [], False
            for op, x in zip(ops, order[1:], strict=True):
                if op == "*" and sums:
                    text = f"({text})"
                sums = op != "*"
                text += f"{op}{x}"
                value = value + x if op == "+" else value - x if op == "-" else value * x
                values.append(value)
            if min(values) >= 0 and max(values) <= 999:
                found[text] = values
    return found


def make_countdown(rng: random.Random, level: int, language: Language) -> Problem:
    count, largest, signs = _COUNTDOWN_LEVELS[level - 1]
    while True:
        numbers = [rng.randint(2, largest) for _ in range(count)]
        possible = expressions(numbers, signs)
        solution = rng.choice(sorted(possible))
        target = possible[solution][-1]
        if 1 <= target <= 99 and target not in numbers:
            break
    joined = (", " if language == "en" else "、").join(map(str, numbers))
    shown = (" and " if language == "en" else "和").join(signs) if len(signs) == 2 else ", ".join(signs)
    question = rng.choice(_COUNTDOWN[language]).format(numbers=joined, ops=shown, target=target)
    gold = f"{target} from {' '.join(map(str, numbers))} with {' '.join(signs)}"
    return _search_problem("countdown", level, language, question, "expression", gold, f"{sorted(numbers)} {signs} {target}",
                           solution=solution, target=target, numbers=numbers, signs=signs)


def _work_countdown(problem: Problem, manner: str, voice: Voice) -> Work:
    target = problem.facts["target"]
    possible = expressions(problem.facts["numbers"], problem.facts["signs"])

    def guesses(rng: random.Random) -> Iterator[str]:
        """Expressions drawn by how near they come, as somebody with a feeling for numbers would; no value is tried twice."""
        by_value: dict[int, list[str]] = {}
        for text, values in possible.items():
            by_value.setdefault(values[-1], []).append(text)
        while True:
            value = rng.choices(list(by_value), [1.0 / (3.0 + abs(v - target)) ** 2 for v in by_value])[0]
            yield rng.choice(by_value.pop(value))
            if value == target:
                return

    def written(candidate: str) -> tuple[str, str]:
        values = possible[candidate]
        running = ", ".join(map(str, values))
        return f"{candidate}: {running}", "yes" if values[-1] == target else "not"

    def blind(rng: random.Random) -> str:
        return rng.choice(list(possible))

    return _search(problem, manner, voice, guesses=guesses, written=written, blind=blind)


_MANNERS = ("glance", "steps", "slips", "retry")
KINDS = tuple(Kind(name, "math", _MANNERS, make, work) for name, make, work in (
    ("sum_product", make_sum_product, _work_sum_product), ("factor_pair", make_factor_pair, _work_factor_pair),
    ("countdown", make_countdown, _work_countdown)))
