"""Mathematics that one written pass can solve: chains, word problems, linear equations.

Each problem is a list of calculations, so that one function writes every worked solution, right or with slips. A slip is carried on.
"""

import random

from r1lib.tasks.problem import Kind, Language, Problem, Voice, Work

SLIP = {"steps": 0.0, "slips": 0.18, "check": 0.18}       # the chance that one calculation goes wrong, by manner
SLIP_WHEN_CHECKING = 0.02
_APPLY = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a // b if b else 0}

Operand = int | str                                       # a number, or "r0", "r1" ...: the result of an earlier calculation
Calculation = tuple[Operand, str, Operand]


def calculate(calculations: list[Calculation], rng: random.Random, slip: float = 0.0) -> list[tuple[str, int]]:
    """Carry the calculations out, each going wrong with probability `slip`: [("12+7=19", 19), ...]."""
    results: list[int] = []
    lines = []
    for left, op, right in calculations:
        a, b = (results[int(x[1:])] if isinstance(x, str) else x for x in (left, right))
        value = _APPLY[op](a, b)
        if slip and rng.random() < slip:
            value = max(0, value + rng.choice([-10, -2, -1, 1, 2, 10]))
        results.append(value)
        lines.append((f"{a}{op}{b}={value}", value))
    return lines


def near_miss(value: int, rng: random.Random) -> int:
    """A number that one could take for `value` at a glance."""
    return max(0, value + rng.choice([-20, -10, -5, -3, -2, -1, 1, 2, 3, 5, 10, 20]))


def glance(problem: Problem, voice: Voice) -> Work:
    """An answer without work: right one time in four."""
    gold = int(problem.gold)
    return Work(voice.say("sure"), str(gold if voice.rng.random() < 0.25 else near_miss(gold, voice.rng)))


def _pass(calculations: list[Calculation], voice: Voice, slip: float) -> tuple[str, int]:
    lines = calculate(calculations, voice.rng, slip * voice.slip_scale)
    written = [voice.say("first" if i == 0 else "then") + text for i, (text, _) in enumerate(lines)]
    return "\n".join(written), lines[-1][1]


def _work(problem: Problem, manner: str, voice: Voice) -> Work:
    if manner == "glance":
        return glance(problem, voice)
    calculations = [tuple(step) for step in problem.facts["calculations"]]
    text, value = _pass(calculations, voice, SLIP[manner])
    think = voice.say("open") + text
    if manner == "check":
        substitution = problem.facts.get("substitution")
        think += "\n" + voice.say("check") + "\n"
        if substitution:                                   # an equation is checked by putting the value in
            lines = calculate([tuple(value if x == "x" else x for x in step) for step in substitution], voice.rng)
            think += "\n".join(line for line, _ in lines)
            right = lines[-1][1] == problem.facts["target"]
            if not right:
                think += voice.say("not", x=problem.facts["target"]) + "\n"
                text, value = _pass(calculations, voice, SLIP_WHEN_CHECKING)
                think += text
            else:
                think += "\n" + voice.say("right")
        else:                                              # a chain is checked by doing it again
            text, second = _pass(calculations, voice, SLIP_WHEN_CHECKING)
            think += text + "\n" + (voice.say("right") if second == value else voice.say("mistake", x=second))
            value = second
    elif voice.rng.random() < 0.5:
        think += "\n" + voice.say("so", x=value)
    return Work(think, str(value))


def _problem(kind: str, level: int, language: Language, question: str, calculations: list[Calculation], key: str,
             **facts: object) -> Problem:
    gold = calculate(calculations, random.Random())[-1][1]
    return Problem("math", kind, level, language, question, "number", str(gold), key, facts={"calculations": calculations, **facts})


_CHAIN = {"en": ["From left to right, what is {e}?", "Compute from left to right: {e}", "Left to right, {e} = ?"],
          "zh": ["从左到右计算：{e}", "从左到右，{e}等于几？"]}
_CHAIN_OPERAND = (9, 20, 50, 99, 299)
_CHAIN_TOTAL = (30, 99, 199, 499, 999)


def make_chain(rng: random.Random, level: int, language: Language) -> Problem:
    """`level + 1` operations from left to right, without precedence; never below 0 nor above the level's largest total."""
    operand, total = _CHAIN_OPERAND[level - 1], _CHAIN_TOTAL[level - 1]
    value = first = rng.randint(2, operand)
    calculations: list[Calculation] = []
    for i in range(level + 1):
        op, x = rng.choice("+-"), rng.randint(2, operand)
        if level > 1 and rng.random() < 0.25 and 2 <= value <= total // 2:
            op, x = "*", rng.randint(2, min(9, total // value))
        elif op == "-" and value < x:
            op = "+"
        if op == "+" and value + x > total:
            op, x = "-", min(x, value)
        calculations.append((first if i == 0 else f"r{i - 1}", op, x))
        value = _APPLY[op](value, x)
    expression = str(first) + "".join(f" {op} {x}" for _, op, x in calculations)
    return _problem("chain", level, language, rng.choice(_CHAIN[language]).format(e=expression), calculations, expression)


_PEOPLE = {"en": [("Tom", "He"), ("Ann", "She"), ("Ben", "He"), ("Mia", "She"), ("Sam", "He"), ("Eva", "She")],
           "zh": [("小明", "他"), ("小红", "她"), ("小华", "他"), ("小美", "她")]}
_THINGS = {"en": ["apples", "books", "coins", "pens", "stamps"], "zh": ["苹果", "硬币", "球", "糖"]}
_EVENTS = {
    "+": {"en": ["{he} buys {x} more.", "{he} finds {x} more.", "{he} gets {x} from a friend."],
          "zh": ["{he}又买了{x}个。", "{he}捡到{x}个。"]},
    "-": {"en": ["{he} gives away {x}.", "{he} loses {x}.", "{he} sells {x}."], "zh": ["{he}送出{x}个。", "{he}丢了{x}个。"]},
    "*": {"en": ["Then {he} has {x} times as many."], "zh": ["后来{he}的数量变成{x}倍。"]},
}


def make_word(rng: random.Random, level: int, language: Language) -> Problem:
    """`level` events that happen to a number of things."""
    operand = (20, 20, 40, 60, 99)[level - 1]
    (name, he), thing = rng.choice(_PEOPLE[language]), rng.choice(_THINGS[language])
    value = first = rng.randint(2, operand)
    calculations: list[Calculation] = []
    told = []
    for i in range(level):
        op, x = rng.choice("+-"), rng.randint(2, operand)
        if level > 1 and rng.random() < 0.2 and 2 <= value <= 60:
            op, x = "*", rng.randint(2, 4)
        elif op == "-" and value < x:
            op = "+"
        calculations.append((first if i == 0 else f"r{i - 1}", op, x))
        value = _APPLY[op](value, x)
        pronoun = he.lower() if op == "*" else he
        told.append(rng.choice(_EVENTS[op][language]).format(he=pronoun, x=x))
    if language == "en":
        question = f"{name} has {first} {thing}. {' '.join(told)} How many {thing} does {name} have?"
    else:
        question = f"{name}有{first}个{thing}。{''.join(told)}{name}有几个{thing}？"
    return _problem("word", level, language, question, calculations, f"{first}" + "".join(f"{op}{x}" for _, op, x in calculations))


_SOLVE = {"en": ["Solve {e} for x.", "If {e}, what is x?"], "zh": ["解方程：{e}", "如果{e}，x是几？"]}


def make_equation(rng: random.Random, level: int, language: Language) -> Problem:
    """A linear equation with a whole positive solution: x+b=c, ax=c, ax+b=c, ax+b=dx+e, a(x+b)+c=d."""
    x = rng.randint(2, (20, 20, 15, 20, 30)[level - 1])
    a, b = rng.randint(2, 9), rng.randint(2, (20, 9, 30, 40, 20)[level - 1])
    if level == 1:
        equation, target = f"x + {b} = {x + b}", x + b
        calculations, substitution = [(x + b, "-", b)], [("x", "+", b)]
    elif level == 2:
        equation, target = f"{a}x = {a * x}", a * x
        calculations, substitution = [(a * x, "/", a)], [(a, "*", "x")]
    elif level == 3:
        target = a * x + b
        equation = f"{a}x + {b} = {target}"
        calculations, substitution = [(target, "-", b), ("r0", "/", a)], [(a, "*", "x"), ("r0", "+", b)]
    elif level == 4:
        a, d = rng.randint(4, 12), rng.randint(2, 3)
        target = (a - d) * x + b                                            # e, once dx has been taken from both sides
        equation = f"{a}x + {b} = {d}x + {target}"
        calculations = [(a, "-", d), (target, "-", b), ("r1", "/", "r0")]
        substitution = [(a - d, "*", "x"), ("r0", "+", b)]
    else:
        c = rng.randint(2, 60)
        target = a * (x + b) + c
        equation = f"{a}(x + {b}) + {c} = {target}"
        calculations = [(target, "-", c), ("r0", "/", a), ("r1", "-", b)]
        substitution = [("x", "+", b), ("r0", "*", a), ("r1", "+", c)]
    return _problem("equation", level, language, rng.choice(_SOLVE[language]).format(e=equation), calculations, equation,
                    substitution=substitution, target=target)


_MANNERS = ("glance", "steps", "slips", "check")
KINDS = tuple(Kind(name, "math", _MANNERS, make, _work)
              for name, make in (("chain", make_chain), ("word", make_word), ("equation", make_equation)))
