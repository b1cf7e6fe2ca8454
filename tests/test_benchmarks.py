"""Published benchmark files, mixtures and decontamination. Rows here have the form of the published ones, and words of our own."""

import json
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from r1lib import rewards, tasks
from r1lib.errors import R1Error
from r1lib.tasks import benchmarks
from r1lib.tasks.benchmarks import Mixture, decontaminate, read

GSM8K = {"question": "Ann has 3 bags of 4 nuts. How many nuts?", "answer": "Each has 4.\n3*4=<<3*4=12>>12 nuts.\n#### 1,012"}
MATH = {"problem": "What is $1/2+1/3$?", "level": "Level 4", "type": "Algebra", "solution": "So it is $\\boxed{\\frac{5}{6}}$."}
MATH_500 = {"problem": "Find $x$.", "answer": "\\left( 3, \\frac{\\pi}{2} \\right)", "level": 2, "subject": "Precalculus",
            "solution": "..."}
AIME = {"ID": "2024-I-1", "Problem": "Find the sum.", "Answer": 73}
HUMANEVAL = {"task_id": "HumanEval/0", "prompt": "def double(x: int) -> int:\n    \"\"\" Twice x. \"\"\"\n", "entry_point": "double",
             "canonical_solution": "    return 2 * x\n",
             "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-1) == -2\n"}
MBPP = {"task_id": 7, "text": "Write a function that gives the set of the letters that two words share.", "test_setup_code": "",
        "code": "def helper(x):\n    return set(x)\ndef shared(a, b):\n    return helper(a) & helper(b)",
        "test_list": ["assert set(shared('abc', 'bcd')) == set('bc')", "assert shared('a', 'b') == set()"]}
IFEVAL = {"key": 1001, "prompt": "Write a letter without commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
COUNTDOWN = {"target": 20, "nums": [3, 4, 8]}
ROWS = {"gsm8k": GSM8K, "math": MATH, "aime": AIME, "humaneval": HUMANEVAL, "mbpp": MBPP, "ifeval": IFEVAL, "countdown": COUNTDOWN}


def written(folder: Path, *rows: object, name: str = "file.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def one(folder: Path, name: str, row: dict) -> tasks.Problem:
    (problem,) = read(name, written(folder, row))
    return problem


def judged(problem: tasks.Problem, answer: str) -> list[float | None]:
    columns = {name: [value] for name, value in problem.columns().items()}
    return rewards.correctness([f"<think> t </think> <answer> {answer} </answer>"], **columns)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Readers

@pytest.mark.parametrize(("name", "row", "right", "wrong"), [
    ("gsm8k", GSM8K, "1012", "12"), ("gsm8k", GSM8K | {"answer": "So\n#### -3"}, "-3", "3"), ("math", MATH, "\\frac{5}{6}", "\\frac{6}{5}"),
    ("math", MATH, "The result is \\boxed{5/6}", "0.8"), ("math", MATH_500, "(3, \\pi/2)", "(3, \\pi)"), ("aime", AIME, "073", "72"),
    ("aime", {"problem": "p", "answer": "025"}, "25", "26"), ("countdown", COUNTDOWN, "4*(8-3)", "3+4+8"),
    ("humaneval", HUMANEVAL, "def double(x):\n    return x + x", "def double(x):\n    return x"),
    ("mbpp", MBPP, "def shared(a, b):\n    return set(a) & set(b)", "def shared(a, b):\n    return set(a)"),
    ("ifeval", IFEVAL, "Dear Ann", "Dear Ann, hello"),
], ids=lambda value: value if isinstance(value, str) and value.isalnum() else "")
def test_our_rules_judge_the_answers(tmp_path: Path, name: str, row: dict, right: str, wrong: str) -> None:
    problem = one(tmp_path, name, row)
    assert (judged(problem, right), judged(problem, wrong)) == ([1.0], [0.0])


def test_solutions_of_the_files_are_right(tmp_path: Path) -> None:
    for name in ("humaneval", "mbpp"):
        problem = one(tmp_path, name, ROWS[name])
        assert judged(problem, f"```python\n{problem.facts['solution']}\n```") == [1.0]


def test_what_a_problem_is_made_of(tmp_path: Path) -> None:
    gsm8k, math, mbpp, ifeval = (one(tmp_path, name, ROWS[name]) for name in ("gsm8k", "math", "mbpp", "ifeval"))
    assert (gsm8k.domain, gsm8k.answer_type, gsm8k.gold, gsm8k.level, gsm8k.language) == ("math", "number", "1012", 1, "en")
    assert "<<" not in gsm8k.facts["solution"] and gsm8k.facts["solution"].startswith("Each has 4.")
    assert (math.answer_type, math.gold, math.level, math.facts["subject"]) == ("math", "\\frac{5}{6}", 4, "Algebra")
    assert one(tmp_path, "math", MATH | {"level": "Level ?"}).level == 3 and one(tmp_path, "math", MATH_500).level == 2
    assert "assert set(shared('abc', 'bcd')) == set('bc')" in mbpp.question and "assert shared('a', 'b')" not in mbpp.question
    assert mbpp.tests[0]["entry_point"] == "shared"
    assert (ifeval.domain, ifeval.answer_type, ifeval.gold) == ("general", "instructions", '[["punctuation:no_comma"], [{}]]')
    assert judged(ifeval, "x") == [1.0]


def test_a_list_is_read_as_well_as_lines(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps([GSM8K, GSM8K | {"question": "Another?"}]))
    assert read("gsm8k", tmp_path / "list.json")[0] == one(tmp_path, "gsm8k", GSM8K)
    (tmp_path / "lines.jsonl").write_text(json.dumps(GSM8K) + "\n\n" + json.dumps(GSM8K) + "\n")
    assert len(read("gsm8k", tmp_path / "lines.jsonl")) == 2
    problems = read("gsm8k", tmp_path / "list.json")
    assert tasks.read_problems(tasks.write_problems(problems, tmp_path / "ours.jsonl")) == problems           # and goes into our own form


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_lacks_a_field_is_named(tmp_path: Path, name: str) -> None:
    needed = {"gsm8k": "question", "math": "problem", "aime": "Answer", "humaneval": "test", "mbpp": "test_list", "ifeval": "prompt",
              "countdown": "target"}[name]
    broken = {key: value for key, value in ROWS[name].items() if key != needed}
    file = written(tmp_path, ROWS[name], broken)
    with pytest.raises(R1Error, match=f"file.jsonl, row 2: has no field '?{needed.lower()}") as error:
        read(name, file)
    assert "\n" not in str(error.value) and str(error.value).endswith("Mend or remove that row.")


@pytest.mark.parametrize(("name", "change", "said"), [
    ("gsm8k", {"answer": "twelve"}, "answer does not end in '#### '"), ("gsm8k", {"question": float("nan")}, "question is nan"),
    ("gsm8k", {"question": " "}, "question has no text"), ("aime", {"Answer": float("nan")}, "Answer is nan"),
    ("aime", {"Answer": 1000}, "lies between 0 and 999"), ("aime", {"Answer": "x"}, "not a whole number"),
    ("aime", {"Answer": 1.5}, "not a whole number"),
    ("math", {"solution": "no box"}, "neither an 'answer' nor a solution"), ("math", {"solution": "\\boxed{1"}, "neither an 'answer'"),
    ("mbpp", {"test_list": []}, "holds no asserts"), ("mbpp", {"test_list": ["assert 1 ="], "code": ""}, "no function is called"),
    ("countdown", {"nums": [3, "4"]}, "not a list of whole numbers"), ("countdown", {"nums": "3 4"}, "not of the type list"),
    ("countdown", {"target": float("inf")}, "target is inf"), ("ifeval", {"instruction_id_list": "x"}, "not of the type list"),
    ("ifeval", {"kwargs": []}, "kwargs is [], not an object for each of 1 instructions"),
])
def test_a_row_that_is_wrong_is_named(tmp_path: Path, name: str, change: dict, said: str) -> None:
    with pytest.raises(R1Error) as error:
        read(name, written(tmp_path, ROWS[name] | change))
    assert "file.jsonl, row 1: " in str(error.value) and said in str(error.value)


@pytest.mark.parametrize("name", ROWS)
def test_parquet_holds_the_problems_of_json_lines(tmp_path: Path, name: str) -> None:
    row = ROWS[name] | ({"kwargs": [{"num_words": None}]} if name == "ifeval" else {})          # a table has every argument in every row
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "file.parquet")
    assert read(name, tmp_path / "file.parquet") == read(name, written(tmp_path, row))


def test_files_that_are_none_of_theirs(tmp_path: Path) -> None:
    for content, said in (("", "holds no problems"), ("{", "row 1: not JSON"), ("[1]", "row 1: not an object"), ("[{]", "not JSON"),
                          ("3\n", "not an object with fields, but 3")):
        (tmp_path / "x.jsonl").write_text(content)
        with pytest.raises(R1Error, match=said):
            read("gsm8k", tmp_path / "x.jsonl")
    (tmp_path / "x.parquet").write_bytes(b"PAR1\xff\xfe")
    with pytest.raises(R1Error, match=r"x.parquet: not a parquet file"):
        read("gsm8k", tmp_path / "x.parquet")
    (tmp_path / "x.bin").write_bytes(b"PAR1\xff\xfe")
    with pytest.raises(R1Error, match="x.bin: not UTF-8 text"):
        read("gsm8k", tmp_path / "x.bin")
    with pytest.raises(R1Error, match="there is no such file"):
        read("gsm8k", tmp_path / "y.jsonl")
    with pytest.raises(R1Error, match="benchmark 'gsm' is not known: choose one of gsm8k"):
        read("gsm", tmp_path / "y.jsonl")


def test_new_countdown_problems_can_be_solved() -> None:
    problems = benchmarks.countdown(40, seed=1)
    assert problems == benchmarks.countdown(40, seed=1) != benchmarks.countdown(40, seed=2)
    assert Counter(len(problem.facts["numbers"]) for problem in problems) == {3: 20, 4: 20} and len({p.key for p in problems}) == 40
    assert all(10 <= problem.facts["target"] <= 100 and problem.level == len(problem.facts["numbers"]) - 1 for problem in problems)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Mixtures

def some(name: str, count: int, level: int = 1) -> list[tasks.Problem]:
    return [tasks.Problem("math", name, level, "en", f"{name} {i}?", "number", str(i), f"{name}{i}") for i in range(count)]


def test_a_mixture_keeps_its_weights_and_depends_on_the_step_alone() -> None:
    mixture = Mixture({"a": some("a", 100), "b": some("b", 100), "c": some("c", 100)}, weights={"a": 3, "c": 0}, seed=5)
    batches = [mixture.batch(step, 10) for step in range(40)]
    assert batches == [mixture.batch(step, 10) for step in range(40)]
    counts = [Counter(problem.kind for problem in batch) for batch in batches]
    assert all(len(batch) == 10 == len(set(map(id, batch))) for batch in batches) and all(count["a"] in (7, 8) for count in counts)
    assert sum(count["a"] for count in counts) / 400 == pytest.approx(0.75, abs=0.03) and not any(count["c"] for count in counts)
    assert batches[0] != Mixture(mixture.sources, mixture.weights, seed=6).batch(0, 10)
    assert len({problem.question for batch in batches for problem in batch if problem.kind == "a"}) > 80


def test_a_mixture_of_levels() -> None:
    mixture = Mixture({"a": some("a", 5, level=1) + some("hard", 5, level=5)}, levels=(5,))
    assert {problem.kind for problem in mixture.batch(0, 20)} == {"hard"}


@pytest.mark.parametrize(("settings", "said"), [
    (dict(weights={"z": 1}), "weights name 'z', which is no source"), (dict(weights={"a": -1}), "the weight of a is -1"),
    (dict(weights={"a": float("nan")}), "the weight of a is nan"), (dict(levels=(4,)), "a has no problems of the levels 4"),
    (dict(weights={"a": 0, "b": 0}), "all weights are 0")])
def test_a_mixture_that_makes_no_sense_is_said(settings: dict, said: str) -> None:
    with pytest.raises(R1Error, match=said):
        Mixture({"a": some("a", 3), "b": some("b", 3)}, **settings)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Decontamination

def asked(*questions: str) -> list[tasks.Problem]:
    return [tasks.Problem("math", "q", 1, "en", question, "number", "1", question) for question in questions]


def test_ten_words_in_a_row_are_too_many() -> None:
    ten = "one two three four five six seven eight nine ten"
    train = asked(f"Well, {ten.upper()}!", ten.rsplit(" ", 1)[0] + " eleven twelve", "short one", "Short one?", "short two")
    kept, report = decontaminate(train, {"A": asked(f"So {ten} and on"), "B": asked("SHORT, one")})
    assert [problem.question for problem in kept] == [train[1].question, "short two"]
    assert [(overlap.benchmark, overlap.words) for overlap in report.overlaps] == [("A", ten), ("B", "short one"), ("B", "short one")]
    assert (report.before, report.short) == (5, 3) and "3 of 5 problems share 10 words" in str(report) and "B: 2" in str(report)


def test_chinese_characters_are_words() -> None:
    train = asked("小明有三个苹果和两个梨子，一共几个？", "小红有五本书。")
    kept, report = decontaminate(train, {"zh": asked("问：小明有三个苹果和两个梨子？")})
    assert [problem.question for problem in kept] == ["小红有五本书。"] and len(report.overlaps) == 1


def test_nothing_shared_nothing_removed() -> None:
    train = tasks.stream(["math"], seed=0).batch(0, 50)
    kept, report = decontaminate(train, {"none": []})
    assert kept == train and report.overlaps == ()
    with pytest.raises(R1Error, match="n=0"):
        decontaminate(train, {}, n=0)
