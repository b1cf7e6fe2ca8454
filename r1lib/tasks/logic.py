"""Logic with a choice of answers: orderings, comparisons, sequences.

A blind guess is right one time in three, which every reward must be read against.
"""

import random

from r1lib.tasks.arithmetic import SLIP, SLIP_WHEN_CHECKING, calculate
from r1lib.tasks.problem import NAMES, Kind, Language, Problem, Voice, Work

LETTERS = "ABC"


def _choice_problem(kind: str, level: int, language: Language, question: str, options: list[str], right: str, key: str,
                    **facts: object) -> Problem:
    a, b, c = options
    return Problem("logic", kind, level, language, f"{question} A) {a} B) {b} C) {c}", "choice", LETTERS[options.index(right)], key,
                   facts={"options": options, "right": right, **facts})


def _glance(voice: Voice) -> Work:
    return Work(voice.say("sure"), voice.rng.choice(LETTERS))


_THAT_IS = {"en": "So {x}, that is {letter}.", "zh": "所以{x}，选{letter}。"}


def _conclude(problem: Problem, voice: Voice, found: str) -> Work:
    """The closing line; a result that is not among the options leaves a guess."""
    options = problem.facts["options"]
    letter = LETTERS[options.index(found)] if found in options else voice.rng.choice(LETTERS)
    return Work(_THAT_IS[voice.language].format(x=found, letter=letter), letter)


# Orderings

_TALLER = {"en": ["{a} is taller than {b}.", "{b} is shorter than {a}."], "zh": ["{a}比{b}高。", "{b}比{a}矮。"]}
_ASK = {"tallest": {"en": "Who is the tallest?", "zh": "谁最高？"}, "shortest": {"en": "Who is the shortest?", "zh": "谁最矮？"}}


def make_ordering(rng: random.Random, level: int, language: Language) -> Problem:
    """`level + 1` comparisons among `level + 2` people, told in random order."""
    people = rng.sample(NAMES[language], min(level + 2, 6))
    pairs = list(zip(people, people[1:], strict=False))
    told = pairs[:]
    if level > 1:
        rng.shuffle(told)
    ask = rng.choice(sorted(_ASK))
    right = people[0] if ask == "tallest" else people[-1]
    options = rng.sample([p for p in people if p != right], 2) + [right]
    rng.shuffle(options)
    statements = (" " if language == "en" else "").join(rng.choice(_TALLER[language]).format(a=a, b=b) for a, b in told)
    return _choice_problem("ordering", level, language, f"{statements} {_ASK[ask][language]}", options, right, f"{people} {ask}",
                           pairs=[list(p) for p in told], people=people, ask=ask)


def _work_ordering(problem: Problem, manner: str, voice: Voice) -> Work:
    if manner == "glance":
        return _glance(voice)
    people, ask = list(problem.facts["people"]), problem.facts["ask"]
    rng = voice.rng

    def line(slip: float) -> list[str]:
        order = people[:]
        if rng.random() < slip * voice.slip_scale * len(order) / 2:
            i = rng.randrange(len(order) - 1)
            order[i], order[i + 1] = order[i + 1], order[i]
        return order

    order = line(SLIP[manner])
    think = voice.say("open") + " > ".join(order)
    if manner == "check":
        think += "\n" + voice.say("check") + "\n" + ", ".join(f"{a} > {b}" for a, b in problem.facts["pairs"])
        second = line(SLIP_WHEN_CHECKING)
        think += "\n" + (voice.say("right") if second == order else voice.say("mistake", x=" > ".join(second)))
        order = second
    closing = _conclude(problem, voice, order[0] if ask == "tallest" else order[-1])
    return Work(think + "\n" + closing.think, closing.answer)


# Comparisons

_COMPARE = {"largest": {"en": "Which is the largest?", "zh": "哪个最大？"},
            "smallest": {"en": "Which is the smallest?", "zh": "哪个最小？"}}


def make_comparison(rng: random.Random, level: int, language: Language) -> Problem:
    """Three sums, differences or products whose values differ."""
    high = (9, 20, 40, 60, 99)[level - 1]
    while True:
        sums = []
        for _ in LETTERS:
            op = rng.choice("+-" if level < 3 else "+-*")
            a, b = rng.randint(2, high), rng.randint(2, high)
            if op == "*":
                a, b = rng.randint(2, 12), rng.randint(2, 9)
            sums.append((max(a, b), op, min(a, b)))
        values = [value for _, value in calculate(sums, rng)]
        if len(set(values)) == len(values):
            break
    ask = rng.choice(sorted(_COMPARE))
    options = [f"{a} {op} {b}" for a, op, b in sums]
    right = options[values.index((max if ask == "largest" else min)(values))]
    return _choice_problem("comparison", level, language, _COMPARE[ask][language], options, right, f"{sorted(options)} {ask}",
                           sums=sums, ask=ask)


def _work_comparison(problem: Problem, manner: str, voice: Voice) -> Work:
    if manner == "glance":
        return _glance(voice)
    sums, pick = [tuple(s) for s in problem.facts["sums"]], max if problem.facts["ask"] == "largest" else min

    def one_pass(slip: float) -> tuple[str, int]:
        lines = calculate(sums, voice.rng, slip * voice.slip_scale)
        values = [value for _, value in lines]
        return "\n".join(f"{letter}: {text}" for letter, (text, _) in zip(LETTERS, lines, strict=True)), values.index(pick(values))

    text, best = one_pass(SLIP[manner])
    think = voice.say("open") + text
    if manner == "check":
        text, second = one_pass(SLIP_WHEN_CHECKING)
        think += "\n" + voice.say("check") + "\n" + text + "\n"
        think += voice.say("right") if second == best else voice.say("mistake", x=LETTERS[second])
        best = second
    closing = _conclude(problem, voice, problem.facts["options"][best])
    return Work(think + "\n" + closing.think, closing.answer)


# Sequences

_NEXT = {"en": "Which number comes next: {row}?", "zh": "下一个数是几：{row}？"}


def make_sequence(rng: random.Random, level: int, language: Language) -> Problem:
    """Equal steps (levels 1 to 3), doubling (4), steps that grow by one (5)."""
    start, step = rng.randint(1, (20, 40, 60, 40, 30)[level - 1]), rng.randint(2, (6, 9, 12, 4, 9)[level - 1])
    row = [start]
    for i in range(4):
        row.append(row[-1] * step if level == 4 else row[-1] + step + (i if level == 5 else 0))
    *shown, right = row
    wrong = rng.sample([x for x in {right + d for d in (-10, -2, -1, 1, 2, 10)} if x > 0], 2)
    options = [str(x) for x in (right, *wrong)]
    rng.shuffle(options)
    joined = ", ".join(map(str, shown))
    return _choice_problem("sequence", level, language, _NEXT[language].format(row=joined), options, str(right), joined, row=shown)


def _work_sequence(problem: Problem, manner: str, voice: Voice) -> Work:
    if manner == "glance":
        return _glance(voice)
    row, right = problem.facts["row"], int(problem.facts["right"])
    steps = [(b, "/", a) if problem.level == 4 else (b, "-", a) for a, b in zip(row, row[1:], strict=False)]
    last = (row[-1], "*" if problem.level == 4 else "+", right // row[-1] if problem.level == 4 else right - row[-1])

    def one_pass(slip: float) -> tuple[str, str]:
        lines = calculate(steps, voice.rng) + calculate([last], voice.rng, slip * voice.slip_scale)
        return "\n".join(text for text, _ in lines), str(lines[-1][1])

    text, found = one_pass(SLIP[manner])
    think = voice.say("open") + text
    if manner == "check":
        text, second = one_pass(SLIP_WHEN_CHECKING)
        think += "\n" + voice.say("check") + "\n" + text + "\n"
        think += voice.say("right") if second == found else voice.say("mistake", x=second)
        found = second
    closing = _conclude(problem, voice, found)
    return Work(think + "\n" + closing.think, closing.answer)


_MANNERS = ("glance", "steps", "slips", "check")
KINDS = tuple(Kind(name, "logic", _MANNERS, make, work) for name, make, work in (
    ("ordering", make_ordering, _work_ordering), ("comparison", make_comparison, _work_comparison),
    ("sequence", make_sequence, _work_sequence)))
