"""Problems that others have written: benchmark files as they are published, mixtures of them for training, and the check that nothing that
is trained on stands in what is measured on.

    train = read("gsm8k", "gsm8k_train.jsonl")
    train, report = decontaminate(train, {"MATH-500": read("math", "math500.jsonl")})
    problems = Mixture({"gsm8k": train, "countdown": countdown(1000, seed=0)}, weights={"gsm8k": 3, "countdown": 1}, seed=0)

Files are JSON lines, one JSON list, or parquet, with the fields that their authors gave them. None of them ships with the project. A file
of the Hugging Face hub is named by its address, hf://datasets/owner/name/file, and fetched once if that is allowed (`hub`).
"""

import ast
import builtins
import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1lib import hub, optional, seeds, text
from r1lib.errors import R1Error
from r1lib.tasks.problem import LEVELS, Problem

Row = Mapping[str, Any]
Reader = Callable[["_Fields"], Problem]

_HARDEST, _MIDDLE = LEVELS[-1], LEVELS[2]


def _short(value: Any) -> str:
    written = repr(value)
    return written if len(written) <= 40 else f"{written[:40]}..."


class _Fields:
    """A row of a file that answers for itself: a field that is missing, of another type, or no number names the file and the row."""

    def __init__(self, row: Row, where: str) -> None:
        self.row, self.where = row, where

    def wrong(self, why: str) -> R1Error:
        return R1Error(f"{self.where}: {why}. Mend or remove that row.")

    def get(self, *names: str, kind: type | tuple[type, ...] = str) -> Any:
        """The first of these fields that is there."""
        name = next((name for name in names if self.row.get(name) is not None), None)
        if name is None:
            raise self.wrong(f"has no field {' or '.join(map(repr, names))}")
        value = self.row[name]
        if isinstance(value, float) and not math.isfinite(value):
            raise self.wrong(f"{name} is {value}")
        if not isinstance(value, kind) or isinstance(value, bool):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            raise self.wrong(f"{name} is {_short(value)}, not of the type {' or '.join(one.__name__ for one in kinds)}")
        if isinstance(value, str) and not value.strip():
            raise self.wrong(f"{name} has no text")
        return value

    def whole(self, *names: str) -> int:
        """A whole number, as a number or as text."""
        value = self.get(*names, kind=(int, float, str))
        try:
            number = float(value.replace(",", "")) if isinstance(value, str) else float(value)
        except ValueError:
            raise self.wrong(f"{names[0]} is {_short(value)}, not a whole number") from None
        if not math.isfinite(number) or number != int(number):
            raise self.wrong(f"{names[0]} is {_short(value)}, not a whole number")
        return int(number)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Readers, one a benchmark

def _problem(domain: str, kind: str, question: str, answer_type: str, gold: str, *, level: int = _MIDDLE, tests: Sequence[dict] = (),
             **facts: Any) -> Problem:
    language = "zh" if text.chinese_share(question) > 0.5 else "en"
    return Problem(domain, kind, level, language, question, answer_type, gold, key=question, tests=tuple(tests), facts=facts)


def _gsm8k(row: _Fields) -> Problem:
    worked = row.get("answer")
    solution, mark, gold = worked.rpartition("####")
    gold = gold.strip().replace(",", "")
    if not mark or not re.fullmatch(r"-?\d+(\.\d+)?", gold):
        raise row.wrong("answer does not end in '#### ' and a number")
    return _problem("math", "gsm8k", row.get("question").strip(), "number", gold, level=min(max(solution.count("<<"), 1), _HARDEST),
                    solution=re.sub(r"<<.*?>>", "", solution).strip())


def _math(row: _Fields) -> Problem:
    """MATH and MATH-500. The gold answer is the last box of the solution where there is no field for it."""
    gold = row.row.get("answer") or _last_box(row.get("solution"))
    if not isinstance(gold, str) or not gold.strip():
        raise row.wrong("has neither an 'answer' nor a solution that ends in a \\boxed one")
    stated = re.search(r"[1-5]", str(row.row.get("level", "")))                # two rows of MATH say "Level ?"
    return _problem("math", "math", row.get("problem").strip(), "math", gold.strip(), level=int(stated.group()) if stated else _MIDDLE,
                    subject=str(row.row.get("subject") or row.row.get("type") or ""), solution=str(row.row.get("solution") or ""))


def _last_box(solution: str) -> str | None:
    start = solution.rfind("\\boxed{")
    depth = 0
    for place in range(start + len("\\boxed"), len(solution)) if start >= 0 else ():
        depth += (solution[place] == "{") - (solution[place] == "}")
        if depth == 0:
            return solution[start + len("\\boxed{"):place]
    return None


def _aime(row: _Fields) -> Problem:
    gold = row.whole("answer", "Answer")
    if not 0 <= gold <= 999:
        raise row.wrong(f"answer is {gold}, and an answer of AIME lies between 0 and 999")
    return _problem("math", "aime", row.get("problem", "Problem", "question").strip(), "number", str(gold), level=_HARDEST)


_CODE = "Write the whole Python program, with this function in it:\n```python\n{given}\n```"


def _humaneval(row: _Fields) -> Problem:
    """Some checks call helpers that the prompt defines, so it stands before the check, its last function without a body."""
    prompt = row.get("prompt")
    return _problem("code", "humaneval", _CODE.format(given=prompt.strip("\n")), "code", "",
                    tests=[{"check": f"{prompt.rstrip()}\n    pass\n\n{row.get('test')}", "entry_point": row.get("entry_point")}],
                    task=row.get("task_id"), solution=prompt + row.get("canonical_solution"))


def _mbpp(row: _Fields) -> Problem:
    """The asserts become one check; which function they are about is read off them, and the first one is shown, as its authors do."""
    asserts = row.get("test_list", kind=list)
    setup = row.row.get("test_setup_code") or "\n".join(row.row.get("test_imports") or [])
    if not asserts or not all(isinstance(line, str) for line in asserts):
        raise row.wrong("test_list holds no asserts")
    name = _function_asked_for(asserts, str(row.row.get("code") or ""))
    if name is None:
        raise row.wrong(f"no function is called in {_short(asserts[0])}")
    body = "\n".join(f"    {line}" for check in asserts for line in check.splitlines())
    question = f"{row.get('text', 'prompt').strip()}\nWrite the whole Python program. This must hold: {asserts[0].strip()}"
    return _problem("code", "mbpp", question, "code", "",
                    tests=[{"check": f"{setup}\ndef check(candidate):\n    {name} = candidate\n{body}".strip("\n"), "entry_point": name}],
                    task=str(row.get("task_id", kind=(int, str))), solution=str(row.row.get("code") or ""))


def _function_asked_for(asserts: Sequence[str], solution: str) -> str | None:
    """The function that the solution defines and the asserts call; without a solution, the first that Python does not have itself."""
    try:
        called = [node.func.id for line in asserts for node in ast.walk(ast.parse(line))
                  if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        defined = {node.name for node in ast.walk(ast.parse(solution)) if isinstance(node, ast.FunctionDef)}
    except SyntaxError:
        return None
    wanted = [name for name in called if name in defined] or [name for name in called if not hasattr(builtins, name)]
    return wanted[0] if wanted else None


def _ifeval(row: _Fields) -> Problem:
    instructions, arguments = row.get("instruction_id_list", kind=list), row.get("kwargs", kind=list)
    if len(instructions) != len(arguments) or not all(isinstance(given, dict) for given in arguments):
        raise row.wrong(f"kwargs is {_short(arguments)}, not an object for each of {len(instructions)} instructions")
    given = [{name: value for name, value in one.items() if value is not None} for one in arguments]
    return _problem("general", "ifeval", row.get("prompt").strip(), "instructions", json.dumps([instructions, given], ensure_ascii=False),
                    number=row.whole("key"))


def _countdown(row: _Fields) -> Problem:
    numbers = row.get("nums", "numbers", kind=list)
    if len(numbers) < 2 or not all(type(number) is int and number > 0 for number in numbers):
        raise row.wrong(f"nums is {_short(numbers)}, not a list of whole numbers above 0")
    return countdown_problem(numbers, row.whole("target"))


def countdown_problem(numbers: Sequence[int], target: int) -> Problem:
    """Countdown in the words of TinyZero's data set, with all four signs; each number is used once."""
    question = (f"Using the numbers {list(numbers)}, create an equation that equals {target}. You can use basic arithmetic operations "
                "(+, -, *, /) and each number can only be used once. Use all of them, and answer with the expression alone.")
    return _problem("math", "countdown_file", question, "expression", f"{target} from {' '.join(map(str, numbers))} with + - * /",
                    level=min(len(numbers) - 1, _HARDEST), numbers=list(numbers), target=target)


READERS: dict[str, Reader] = {"gsm8k": _gsm8k, "math": _math, "aime": _aime, "humaneval": _humaneval, "mbpp": _mbpp, "ifeval": _ifeval,
                              "countdown": _countdown}


def read(name: str, file: str | Path) -> list[Problem]:
    """The problems of a published file: gsm8k, math (MATH and MATH-500), aime, humaneval, mbpp, ifeval or countdown.

    file: a path, or an address on the hub, hf://datasets/owner/name/file.
    `R1Error` that names the file and the row for one that is no object, lacks a field, or holds NaN; for a file that is none of theirs.
    """
    if name not in READERS:
        raise R1Error(f"benchmark {name!r} is not known: choose one of {', '.join(READERS)}.")
    file = hub.data_file(str(file)) if str(file).startswith("hf://") else Path(file)
    problems = [READERS[name](_Fields(row, f"{file}, row {number}")) for number, row in _rows(file)]
    if not problems:
        raise R1Error(f"{file}: holds no problems.")
    return problems


def _rows(file: Path) -> list[tuple[int, Row]]:
    """The objects of a parquet file, of JSON lines or of one JSON list, with their numbers, from 1."""
    if not file.is_file():
        raise R1Error(f"{file}: there is no such file of problems.")
    if file.suffix == ".parquet":
        try:
            return list(enumerate(optional.arrow().parquet.read_table(file).to_pylist(), 1))
        except (OSError, ValueError) as error:
            raise R1Error(f"{file}: not a parquet file ({str(error).splitlines()[0]}).") from None
    try:
        written = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise R1Error(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}).") from None
    if written.lstrip().startswith("["):
        try:
            rows = list(enumerate(json.loads(written), 1))
        except ValueError as error:
            raise R1Error(f"{file}: not JSON ({error}).") from None
    else:
        rows = []
        for number, line in enumerate(written.split("\n"), 1):
            if line.strip():
                try:
                    rows.append((number, json.loads(line)))
                except ValueError as error:
                    raise R1Error(f"{file}, row {number}: not JSON ({error}).") from None
    for number, row in rows:
        if not isinstance(row, dict):
            raise R1Error(f"{file}, row {number}: not an object with fields, but {_short(row)}.")
    return rows


def countdown(count: int, *, seed: int, numbers: Sequence[int] = (3, 4), largest: int = 99) -> list[Problem]:
    """New Countdown problems with a solution: the target is what some expression over the numbers gives. `numbers`: how many, by turns."""
    rng, made = seeds.rng("countdown file", seed), {}
    while len(made) < count:
        drawn = [rng.randint(1, largest) for _ in range(numbers[len(made) % len(numbers)])]
        value = _some_value(drawn, rng)
        if value is not None and 10 <= value <= 100:
            problem = countdown_problem(drawn, value)
            made.setdefault(problem.key, problem)
    return list(made.values())


def _some_value(numbers: Sequence[int], rng: random.Random) -> int | None:
    """The value of a random expression over all the numbers, None where a division leaves a rest or a step falls below 1."""
    left = list(numbers)
    while len(left) > 1:
        a, b = (left.pop(rng.randrange(len(left))) for _ in range(2))
        sign = rng.choice("+-*/")
        if sign == "/" and a % b:
            return None
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
        if value < 1:
            return None
        left.append(value)
    return left[0]


# ------------------------------------------------------------------------------------------------------------------------------------------
# Mixtures

@dataclass(frozen=True)
class Mixture:
    """Sources by weight, as a source of problems for GRPO: the batch of a step depends on (seed, step) alone.

    weights: of the sources, 1 where not given; a batch has as many of each as its weight says, rounded by chance. levels: only these.
    `R1Error`: a weight for no source, or below 0; a source that is empty, or has none of these levels.
    """

    sources: Mapping[str, Sequence[Problem]]
    weights: Mapping[str, float] = field(default_factory=dict)
    levels: Sequence[int] = LEVELS
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := [name for name in self.weights if name not in self.sources]:
            raise R1Error(f"mixture: weights name {unknown[0]!r}, which is no source: sources are {', '.join(self.sources)}.")
        for name, weight in self.weights.items():
            if type(weight) not in (int, float) or not math.isfinite(weight) or weight < 0:
                raise R1Error(f"mixture: the weight of {name} is {weight!r}, but it must be a number of at least 0.")
        chosen = {name: [problem for problem in problems if problem.level in self.levels] for name, problems in self.sources.items()}
        for name, problems in chosen.items():
            if not problems and self.weights.get(name, 1.0):
                raise R1Error(f"mixture: {name} has no problems of the levels {', '.join(map(str, self.levels))}.")
        if not sum(self.weights.get(name, 1.0) for name in chosen):
            raise R1Error("mixture: all weights are 0, so nothing can be drawn.")
        object.__setattr__(self, "_chosen", chosen)

    def batch(self, step: int, n: int) -> list[Problem]:
        """`n` problems in random order; none twice, as long as its source has enough."""
        rng = seeds.rng("mixture", self.seed, step)
        names = list(self._chosen)
        weights = [self.weights.get(name, 1.0) for name in names]
        total, offset = sum(weights), rng.random()
        counts, place, passed = Counter(), 0, 0.0
        for name, weight in zip(names, weights, strict=True):               # n points at equal distances fall into stretches of the weights
            passed += weight / total
            while place < n and (place + offset) / n < passed:
                counts[name] += 1
                place += 1
        counts[next(name for name, weight in zip(names[::-1], weights[::-1], strict=True) if weight)] += n - place        # rounding's last
        problems = []
        for name, count in counts.items():
            source = self._chosen[name]
            problems += rng.sample(source, count) if count <= len(source) else rng.choices(source, k=count)
        rng.shuffle(problems)
        return problems


# ------------------------------------------------------------------------------------------------------------------------------------------
# Decontamination

@dataclass(frozen=True)
class Overlap:
    """A training problem that shares words with one that is measured on. words: the first n-gram that both hold."""

    problem: Problem
    benchmark: str
    other: Problem
    words: str


@dataclass(frozen=True)
class Decontamination:
    """What was taken out. short: problems with fewer words than n, which were compared as a whole."""

    n: int
    before: int
    overlaps: tuple[Overlap, ...]
    short: int

    def __str__(self) -> str:
        by_set = Counter(overlap.benchmark for overlap in self.overlaps)
        lines = [f"{len(self.overlaps)} of {self.before} problems share {self.n} words in a row with what is measured on and were removed; "
                 f"{self.short} shorter ones were compared as a whole"]
        lines += [f"  {name}: {count}" for name, count in by_set.most_common()]
        return "\n".join(lines + [f"  e.g. {overlap.problem.id}: “{overlap.words}”" for overlap in self.overlaps[:3]])


def decontaminate(problems: Sequence[Problem], against: Mapping[str, Sequence[Problem]], *, n: int = 10,
                  ) -> tuple[list[Problem], Decontamination]:
    """The problems without those that share n words in a row with a question measured on, and a report (Nature Methods: 10-grams).

    Words are compared without case and signs; a Chinese character is a word. Problems of one template share its words: keep their
    instructions below n words, or raise n.
    """
    if n < 1:
        raise R1Error(f"n={n}: an n-gram has at least one word.")
    held: dict[tuple[str, ...], tuple[str, Problem]] = {}
    for name, measured in against.items():
        for other in measured:
            for gram in _grams(other.question, n):
                held.setdefault(gram, (name, other))
    kept, overlaps = [], []
    for problem in problems:
        gram = next((gram for gram in _grams(problem.question, n) if gram in held), None)
        if gram is None:
            kept.append(problem)
        else:
            overlaps.append(Overlap(problem, *held[gram], " ".join(gram)))
    short = sum(len(_words(problem.question)) < n for problem in problems)
    return kept, Decontamination(n, len(problems), tuple(overlaps), short)


_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+")


def _words(question: str) -> list[str]:
    return _WORD.findall(text.plain(question).lower())


def _grams(question: str, n: int) -> list[tuple[str, ...]]:
    words = _words(question)
    return [tuple(words[start:start + n]) for start in range(max(len(words) - n + 1, 1))]
