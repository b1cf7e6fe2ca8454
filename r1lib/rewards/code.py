"""The code reward: does a program pass all of its tests?

A test is one of
    {"call": "f(2)", "expected": 4}                        an expression, and what it should give: any JSON value or other plain data
    {"input": "2 3\\n", "output": "5\\n"}                    a script's standard input, and what it should print
    {"check": "def check(candidate): ...", "entry_point": "f"}     assertions about the function `f`, as in HumanEval

Programs run in `sandbox`. What is expected stays here, and what comes back is data, compared by `equal`.
"""

import functools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1lib import text
from r1lib.errors import R1Error
from r1lib.rewards import sandbox
from r1lib.rewards.completion import Completion, content
from r1lib.rewards.sandbox import Check, Result, Stdin
from r1lib.rewards.sandbox.child import write

_FENCES = ("```python", "```python3", "```py")
_KINDS = ({"call", "expected"}, {"input", "output"}, {"check", "entry_point"})
_RELATIVE = 1e-6                   # what two floats may differ by
_ZERO = 1e-12                      # near 0 no relative difference is small: 0.1 + 0.2 - 0.3 is meant to be 0


@dataclass(frozen=True)
class Tested:
    """One test of a program. call: what was asked; expected, got: as text; why: what is wrong, "" if it passed; result: the sandbox's."""

    call: str
    expected: str
    got: str
    passed: bool
    why: str
    result: Result


def extract(answer: str) -> str:
    """The program in an answer: the fenced ```python block if there is exactly one, else the whole text."""
    blocks: list[str] = []
    block: list[str] | None = None
    for line in answer.splitlines(keepends=True):        # line by line, since a pattern takes forever for a thousand fences without an end
        if block is None:
            block = [] if line.strip().lower() in _FENCES else None
        elif line.strip() == "```":
            blocks.append("".join(block))
            block = None
        else:
            block.append(line)
    return blocks[0] if len(blocks) == 1 else answer


def passed(answer: str, tests: Sequence[Mapping[str, Any]], **settings: Any) -> bool:
    """Whether the program in `answer` passes every test; settings are those of `sandbox.run`."""
    return all(tested.passed for tested in verdict(answer, tests, **settings))


def verdict(answer: str, tests: Sequence[Mapping[str, Any]], **settings: Any) -> list[Tested]:
    """What became of each test, in order. Never raises on an answer; an `R1Error` names a test that is malformed."""
    calls = _calls(tests, "")
    return [_judge(*row) for row in zip(tests, calls, sandbox.run(extract(answer), calls, **settings), strict=True)]


def code_reward(completions: Sequence[Completion], tests: Sequence[Sequence[Mapping[str, Any]] | None], **_: Any) -> list[float | None]:
    """1 where the program in <answer> passes every test, 0 where it does not or is missing, None where there are no tests."""
    if not isinstance(tests, Sequence) or len(tests) != len(completions):
        raise R1Error(f"column 'tests' must be a list with one entry for each of the {len(completions)} completions.")
    calls = [_calls(of_row or (), f"row {row}, ") for row, of_row in enumerate(tests)]
    answers = [text.parse(content(completion)).answer for completion in completions]
    rewards: list[float | None] = [0.0 if of_row else None for of_row in tests]
    rows = [row for row, answer in enumerate(answers) if answer is not None and tests[row]]
    for row, results in zip(rows, sandbox.run_many([(extract(answers[row]), calls[row]) for row in rows]), strict=True):
        rewards[row] = float(all(_judge(*of_test).passed for of_test in zip(tests[row], calls[row], results, strict=True)))
    return rewards


# ------------------------------------------------------------------------------------------------------------------------------------------
# Tests

def _given(test: Mapping[str, Any]) -> Mapping[str, Any]:
    """A test without the keys of the other kinds, which a table of mixed tests fills with None. `expected` may be None in earnest."""
    return {key: value for key, value in test.items() if value is not None or (key == "expected" and test.get("call") is not None)}


def _calls(tests: Sequence[Mapping[str, Any]], row: str) -> list[sandbox.Call]:
    """What the sandbox is asked for; an `R1Error` names the row and the test that cannot be understood."""
    if isinstance(tests, (str, Mapping)) or not isinstance(tests, Sequence):
        raise R1Error(f"{row}tests: {tests!r:.60} is no list of tests. {_SHAPES}")
    return [_call(test, f"{row}test {number}") for number, test in enumerate(tests)]


_SHAPES = ('A test is {"call": "f(2)", "expected": 4}, {"input": "...", "output": "..."} or '
           '{"check": "def check(candidate): ...", "entry_point": "f"}.')


def _call(test: Mapping[str, Any], where: str) -> sandbox.Call:
    if not isinstance(test, Mapping):
        raise R1Error(f"{where}: {test!r:.60} is no dict. {_SHAPES}")
    given = _given(test)
    if set(given) not in _KINDS:
        raise R1Error(f"{where}: its keys are {', '.join(map(repr, given)) or 'missing'}. {_SHAPES}")
    for key, value in given.items():
        if key != "expected" and not isinstance(value, str):
            raise R1Error(f"{where}: {key!r} must be a text, not {value!r:.60}.")
    if "input" in given:
        return Stdin(given["input"])
    if "check" in given:
        if not given["entry_point"].isidentifier():
            raise R1Error(f"{where}: 'entry_point' must be the name of a function, not {given['entry_point']!r:.60}.")
        if fault := _fault(given["check"], "exec"):
            raise R1Error(f"{where}: 'check' is no Python ({fault}).")
        return Check(given["check"], given["entry_point"])
    if fault := _fault(given["call"].strip(), "eval"):
        raise R1Error(f"{where}: 'call' is no expression ({fault}): {given['call']!r:.60}.")
    try:
        write(given["expected"])
    except ValueError as error:
        raise R1Error(f"{where}: 'expected' cannot be compared with anything: {error}.") from None
    return given["call"].strip()


@functools.lru_cache(maxsize=65536)
def _fault(source: str, mode: str) -> str:
    """Why a test is no Python, "" if it is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")              # about backslashes in docstrings
            compile(source, "test", mode, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return " ".join(f"{error}".split()) or type(error).__name__
    return ""


# ------------------------------------------------------------------------------------------------------------------------------------------
# Comparing

def _judge(test: Mapping[str, Any], call: sandbox.Call, result: Result) -> Tested:
    match call:
        case Check(_, entry_point):
            why = result.error
            return Tested(f"check({entry_point})", "no error", result.error or "no error", not why, why, result)
        case Stdin(text):
            wrong = _different_line(test["output"], result.output)
            why = result.error or wrong
            return Tested(f"input {text!r:.60}", f"{test['output']!r:.200}", f"{result.output!r:.200}", not why, why, result)
        case _:
            same = not result.error and equal(test["expected"], result.value)
            why = result.error or ("" if same else "another value")
            got = result.error or f"{result.value!r:.200}"
            return Tested(call, f"{test['expected']!r:.200}", got, same, why, result)


def equal(expected: Any, value: Any) -> bool:
    """Whether a result is what was expected; both are plain data.

    True is not 1; 4 is 4.0; a float is met by a number within 1e-6 of it, relatively, an int only exactly; nan equals nothing. A list and a
    tuple are alike, since JSON knows no tuples, as are sets of both kinds; the keys of a dict are as strict as its values.
    """
    if type(expected) in (int, float) and type(value) in (int, float):
        return _equal_numbers(expected, value)
    if type(expected) in (list, tuple):
        return type(value) in (list, tuple) and len(expected) == len(value) and all(map(equal, expected, value))
    if type(expected) in (set, frozenset):
        return type(value) in (set, frozenset) and len(expected) == len(value) and all(_among(item, value) for item in expected)
    if type(expected) is dict:
        return type(value) is dict and len(expected) == len(value) and all(
            any(equal(key, other) and equal(item, found) for other, found in _candidates(key, value)) for key, item in expected.items())
    return type(expected) is type(value) and expected == value


def _equal_numbers(expected: float, value: float) -> bool:
    if type(expected) is int:
        return expected == value
    try:
        return math.isclose(expected, value, rel_tol=_RELATIVE, abs_tol=_ZERO)
    except OverflowError:                                # an int that is too large for a float
        return False


def _among(item: Any, values: set | frozenset) -> bool:
    return item in values if type(item) is str else any(equal(item, value) for value in values)


def _candidates(key: Any, values: dict) -> Any:
    """The items whose key may equal `key`: the one of the same text, or all of them where keys are no texts."""
    if type(key) is str:
        return [(key, values[key])] if key in values else []
    return values.items()


def _different_line(expected: str, printed: str) -> str:
    """Where two outputs part, over all lines; white space at the end of a line and empty lines at the end of the output do not count."""
    wanted, found = _lines(expected), _lines(printed)
    for number, (line, other) in enumerate(zip(wanted, found, strict=False), 1):
        if line != other:
            return f"line {number} is {other!r:.60}, not {line!r:.60}"
    return "" if len(wanted) == len(found) else f"it prints {len(found)} lines, not {len(wanted)}"


def _lines(printed: str) -> list[str]:
    return [line.rstrip() for line in printed.rstrip().split("\n")]
