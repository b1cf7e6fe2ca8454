"""Which answers are paid, and which are not however they are dressed up."""

import ast
import re
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lib import paths, rewards, tasks, text
from r1lib.errors import R1Error
from r1lib.rewards import accuracy
from r1lib.rewards.expression import LONGEST, NotAnExpression, evaluate
from r1lib.training import trl

TEN = "10 from 2 3 5 with + - *"
GOLDS = {"math": "x+1", "number": "7", "pair": "7 and 13", "factors": "91", "expression": TEN, "choice": "B",
         "instructions": '[["detectable_format:constrained_response"], [{}]]'}


def response(answer: str, think: str = "Let me see.") -> str:
    return f" <think>\n{think}\n</think>\n<answer>{answer}</answer>"


# The rules, type by type: (type, gold, answers that are right, answers that are wrong)

CASES = {
    "mathematics": ("math", r"\frac{1}{2}", ["1/2", "0.5", r"$\dfrac{1}{2}$", "x = 0.50"], ["", "2", "2/4/1", "1/2 or 1/3", "3/2-1"]),
    "mathematics with variables": ("math", "x+1", ["x+1", "1 + x", "y = x+1"], ["", "x", "x+2", "2 = x+1", "x+1 or x+2"]),
    "a whole number": ("number", "7", ["7", " 7\n", "7.", "+7", "007", "7.0", "7.000", "x = 7", "x=7", "Y = 7."],
                       ["", "8", "-7", "77", "7 7", "7,", "7.5", "7..", "7/1", "14/2", "3+4", "7 and 13 and 1", "7, 8", "x = 7 or 8",
                        "xx = 7", "the answer is 7", "7 apples", "seven", "7!", "7e0", "0x7", "7_0", "[7]", "$7$", "7%", "≈7",
                        "x = x = 7", "7\n8", "nan", "inf"]),
    "nothing": ("number", "0", ["0", "-0", "0.0", "+0"], ["", "O", "00.1", "none"]),
    "a negative number": ("number", "-7", ["-7", "-7.0", "x = -7"], ["7", "--7", "- 7", "+-7"]),
    "a decimal": ("number", "2.5", ["2.5", "2.50", "02.5", "+2.5"], ["2", "25", "2,5", "5/2", "2.5.0", "2.500000001"]),
    "thousands commas": ("number", "1234", ["1234", "1,234", "1,234.0", "x = 1,234"],
                         ["12,34", "123,4", "1,2,3,4", ",1234", "1234,", "1,,234", "1，234", "1, 234", "1 234", "1.234"]),
    "millions": ("number", "1234567", ["1,234,567", "1234567"], ["1234,567", "1,234567", "12,345,67"]),
    "two numbers are not one": ("number", "12", ["12"], ["1,2", "1 2", "1, 2", "1and2"]),
    "a number of thirty digits": ("number", "9" * 30, ["9" * 30], ["9" * 29, "9" * 31, "9" * 30 + ".5"]),
    "digits of other scripts": ("number", "7", [], ["７", "٧", "७", "²", "7²", "⁷", "Ⅶ", "七", "x = ７", "ſ = 7", "\u212a = 7",
                                                    "7\u200b"]),
    "a power is not computed": ("number", "7", [], ["9**9**9", "9^9", "7**1", "5!", "__import__('os')", "1" + "0" * 1000]),
    "a pair": ("pair", "7 and 13", ["7 and 13", "13 and 7", "7, 13", "13,7", "7，13", "7、13", "13和7", "7与13", "7 and 13.",
                                    " 07 and 13 ", "7\nand 13"],
               ["7", "7 13", "713", "7 and", "and 13", "7 and 12", "7 and 7", "13 and 13", "-7 and -13", "-7 and 13", "7 and 13 and 1",
                "1 and 7 and 13", "7, 13, 1", "7 and 13 or 8 and 12", "7 or 13", "7 & 13", "7*13", "7 And 13", "７ and 13", "٧ and 13",
                "7 and 13²", "x = 7 and 13", "7 and 13\n8 and 12", "7.0 and 13"]),
    "a pair of equals": ("pair", "6 and 6", ["6 and 6", "6,6"], ["6", "6 and 6 and 6", "6 and 5", "5 and 6"]),
    "factors": ("factors", "91", ["7*13", "13*7", "7 * 13", "7×13", "7x13", "7 and 13", "13和7", "07*13", "7*13."],
                ["91", "1*91", "91*1", "0*91", "7*12", "-7*-13", "7*13*1", "1*7*13", "7*13=91", "7·13", "7**13", "7.0*13", "７*13",
                 "7*١٣", "²*91", "(7*13)", "7+84", "7*", "*13", "9*" + "9" * 1000]),
    "any factors": ("factors", "60", ["2*30", "3*20", "4*15", "5*12", "6*10", "30*2"], ["1*60", "60*1", "7*9", "2*3*10"]),
    "an expression": ("expression", TEN, ["2+3+5", "5+3+2", "(2+3)+5", "2+(3+5)", "((2)+(3))+5", " 2 + 3 + 5 ", "2+3+05", "2+3\n+5"],
                      ["", "10", "2*5", "2*3+5", "2+3*5", "2+3+5+0", "2+3+5*1", "2+2+3+5-2", "2+3", "5+5", "3+7", "23+5", "25-3*5",
                       "2 3+5", "(2+3)5", "-2+3+5", "+2+3+5", "2--3+5", "2++3+5", "2+3+5=10", "10=2+3+5", "x = 2+3+5", "2+3+5.",
                       "2+3+5)", "(2+3+5", "()", "2+3+()5", "[2+3]+5", "2+3+５", "2+3+٥", "2+3+⁵", "2＋3＋5", "2**3+5-3", "2//3+5",
                       "2+3+5!", "5!", "9**9**9", "2+3+5 and 2+3+5", "2+3+5,", "2.0+3+5", "sum([2,3,5])", "2e0+3+5", "0b10+3+5",
                       "2+3+5#", "2+3+5;1"]),
    "a sign that is not allowed": ("expression", "6 from 2 3 with + -", [], ["2*3", "3*2", "2×3", "2+3", "(2*3)"]),
    "every sign but division": ("expression", "2 from 2 4 with + - *", ["4-2"], ["4/2", "4÷2"]),
    "division": ("expression", "2 from 2 3 12 with + - * /", ["12/(2*3)", "12/2/3", "12÷(3×2)", "12/3/2"],
                 ["12/2*3", "12/(2-2)", "2", "12/0/3"]),
    "fractions are exact": ("expression", "1 from 1 3 3 with + - * /", ["1/3*3", "(1/3)*3", "3/3*1"], ["1/(3*3)", "1*3-3"]),
    "a number twice": ("expression", "10 from 5 5 with + -", ["5+5"], ["5+5+5-5", "5", "10"]),
    "typographic signs": ("expression", "3 from 2 5 with + - *", ["5−2", "5-2"], ["2−5", "5–2", "5—2"]),
    "a choice": ("choice", "B", ["B", "b", "(B)", "B)", "(B", "B.", " B\n"],
                 ["", "A", "C", "AB", "B B", "A B", "B or C", "B) Tom", "Tom", "((B))", "B)) ", "(B).", "ｂ", "Ｂ", "Β", "В", "b!",
                  "B:", "2"]),
    "no comma": ("instructions", '[["punctuation:no_comma"], [{}]]', ["no comma", "7."], ["a, b", ",", "a, b \\boxed{c}"]),
    "letters of other alphabets": ("choice", "K", ["K", "k"], ["\u212a", "К"]),
    "a long s": ("choice", "S", ["S", "s"], ["ſ"]),
}


@pytest.mark.parametrize("name", CASES)
def test_rules(name: str) -> None:
    kind, gold, right, wrong = CASES[name]
    assert [answer for answer in right if accuracy.right(kind, gold=gold, answer=answer) is not True] == []
    assert [answer for answer in wrong if accuracy.right(kind, gold=gold, answer=answer) is not False] == []


def test_cases_cover_every_rule() -> None:
    assert {case[0] for case in CASES.values()} == set(accuracy.RULES) == set(GOLDS)


@pytest.mark.parametrize("kind", ["code", "text", "conduct"])
def test_what_no_rule_can_judge(kind: str) -> None:
    assert accuracy.right(kind, gold="anything at all", answer="7") is None


@pytest.mark.parametrize("kind", ["something else", "", "Math", None])
def test_a_type_that_is_not_known_is_named(kind: str | None) -> None:
    for judge in (lambda: accuracy.right(kind, gold="7", answer="7"), lambda: rewards.accuracy_reward([response("7")], ["7"], [kind])):
        with pytest.raises(R1Error) as caught:
            judge()
        said = str(caught.value)
        assert repr(kind) in said and "math, number, pair" in said and "conduct" in said and "\n" not in said


@pytest.mark.parametrize(("kind", "gold"), [
    ("number", "seven"), ("number", ""), ("number", "1/2"), ("number", "7\n"), ("number", "٧"), ("number", "1,2"), ("pair", "7"),
    ("pair", "7 13"),
    ("pair", "7 and 13 and 1"), ("factors", "7*13"), ("factors", "-91"), ("expression", "10"), ("expression", "10 from 2 3"),
    ("expression", "10 from  with +"), ("expression", "ten from 2 3 with +"), ("choice", "b"), ("choice", "AB"), ("choice", ""),
    ("choice", "1")])
@pytest.mark.parametrize("answer", ["", "7"])
def test_a_malformed_gold_is_named(kind: str, gold: str, answer: str) -> None:
    with pytest.raises(R1Error) as caught:
        accuracy.right(kind, gold=gold, answer=answer)
    said = str(caught.value)
    assert repr(gold) in said and repr(kind) in said and "\n" not in said


@pytest.mark.parametrize("gold", [7, 7.0, None, ["7"]])
def test_a_gold_that_is_no_text_is_named(gold: object) -> None:
    with pytest.raises(R1Error, match=re.escape(repr(gold))):
        rewards.accuracy_reward([response("7")], [gold])


def test_a_malformed_gold_reaches_the_caller_of_the_reward() -> None:
    with pytest.raises(R1Error, match="'seven'"):
        rewards.accuracy_reward(["no tags"], ["seven"], ["number"])
    with pytest.raises(R1Error, match=r"'x \+'"):
        rewards.accuracy_reward(["no tags"], ["x +"])


# Hostile answers

_LONG = {
    "digits": "9" * 10**6, "a number and zeros": "7." + "0" * 10**6, "zeros and a number": "0" * 10**6 + "7", "commas": "," * 10**6 + "7",
    "thousands": "1" + ",000" * 250_000, "spaces inside": "7" + " " * 10**6 + "13", "a pair far apart": "7" + " " * 10**6 + "and x",
    "x, spaces": "x" + " " * 10**6 + "7",
    "opening brackets": "(" * 10**6, "nested": "(" * 500_000 + "7" + ")" * 500_000, "signs": "-" * 10**6,
    "a long sum": "1+" * 500_000 + "1", "factors": "7" + "*7" * 500_000, "letters": "B" * 10**6, "new lines": "\n" * 10**6 + "x",
    "a tall power": "9" + "**9" * 300_000, "tags": "<think>" * 150_000, "answers": "<answer>" * 120_000,
}


@pytest.mark.parametrize("name", _LONG)
def test_a_million_characters_are_refused_fast(name: str) -> None:
    started = time.process_time()
    for kind, gold in GOLDS.items():
        assert accuracy.right(kind, gold=gold, answer=_LONG[name]) is False
    assert rewards.accuracy_reward([response(_LONG[name])], ["7"]) == [0.0]
    rewards.format_reward([response(_LONG[name])])
    assert time.process_time() - started < 2.0


def test_brackets_cannot_exhaust_the_stack() -> None:
    for depth in (40, 200, 100_000):
        nested = "(" * depth + "2+3+5" + ")" * depth
        assert accuracy.right("expression", gold=TEN, answer=nested) is (len(nested) <= LONGEST)
        assert accuracy.right("expression", gold=TEN, answer="(" * depth) is False
    with pytest.raises(NotAnExpression):
        evaluate("(" * LONGEST)


def test_a_number_without_end_is_not_computed() -> None:
    for answer in ("9" * 10**5, "x = " + "1" * 10**5, "1" + "0" * 31, "0." + "0" * 31):
        assert accuracy.right("number", gold="0", answer=answer) is False


@pytest.mark.parametrize("kind", GOLDS)
@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="0123456789+-*/()., =xandABC和，×÷−²٣７\u2028\x00", max_size=30)))
def test_no_answer_raises(kind: str, answer: str) -> None:
    assert accuracy.right(kind, gold=GOLDS[kind], answer=answer) in (True, False)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([*text.TAGS, text.EOS, "7", "7 and 13", " ", "\n"]), st.text(max_size=12)),
max_size=12).map("".join))
def test_no_completion_raises(completion: str) -> None:
    for kind, gold in GOLDS.items():
        (paid,) = rewards.accuracy_reward([completion], [gold], [kind])
        answer = text.parse(completion).answer
        assert paid == float(answer is not None and accuracy.right(kind, gold=gold, answer=answer))
    assert rewards.format_reward([completion]) == [float(text.parse(completion).well_formed)]


@settings(deadline=None)
@given(st.integers(-10**9 + 1, 10**9 - 1), st.integers(-10**9 + 1, 10**9 - 1))
def test_numbers_and_pairs_are_right_exactly_when_they_are_equal(a: int, b: int) -> None:
    assert accuracy.right("number", gold=str(a), answer=str(b)) is (a == b)
    assert accuracy.right("number", gold=str(a), answer=f"{a:,}") is True
    assert accuracy.right("pair", gold=f"{a} and {b}", answer=f"{b}, {a}") is True
    assert accuracy.right("pair", gold=f"{a} and {b}", answer=f"{a} and {a}") is (a == b)


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 400), st.integers(4, 2000))
def test_factors_are_right_exactly_when_they_multiply_to_the_number(a: int, b: int, n: int) -> None:
    for gold in (n, a * b):
        assert accuracy.right("factors", gold=str(gold), answer=f"{a}*{b}") is (a * b == gold and a > 1 and b > 1)


# The parser of expressions

def _by_ast(written: str) -> tuple[Fraction, list[int], set[str]] | None:
    """The same by Python's own parser: None for what is not an expression of the four signs, brackets and whole numbers."""
    signs = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
    numbers: list[int] = []
    used: set[str] = set()

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            numbers.append(node.value)
            return Fraction(node.value)
        if isinstance(node, ast.BinOp) and type(node.op) in signs:
            left, right = value(node.left), value(node.right)
            used.add(signs[type(node.op)])
            match node.op:
                case ast.Add():
                    return left + right
                case ast.Sub():
                    return left - right
                case ast.Mult():
                    return left * right
                case _:
                    return left / right
        raise SyntaxError

    try:
        tree = ast.parse(re.sub(r"(?<![0-9])0+(?=[0-9])", "", written.strip()), mode="eval")     # Python refuses 07
        return value(tree.body), numbers, used
    except (SyntaxError, ZeroDivisionError):
        return None


_EXPRESSION = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.one_of(st.tuples(inner, st.sampled_from("+-*/"), inner).map("".join), inner.map("({})".format),
                            st.tuples(inner, st.sampled_from([" + ", " -", "* "]), inner).map("".join)),
    max_leaves=8)


@settings(max_examples=400, deadline=None)
@given(st.one_of(_EXPRESSION, st.text(alphabet="0123456789+-*/() ", max_size=14)))
def test_expressions_have_the_value_that_python_gives_them(written: str) -> None:
    expected = _by_ast(written)
    if expected is None or len(written) > LONGEST or re.search("[0-9]{7}", written):
        with pytest.raises(NotAnExpression):
            evaluate(written)
    else:
        assert evaluate(written) == expected


def test_signs_bind_as_in_mathematics() -> None:
    assert evaluate("2+3*4-6/3")[0] == 12
    assert evaluate("8-3-2")[0] == 3
    assert evaluate("24/4/2")[0] == 3
    assert evaluate("(8-3)*(2+1)") == (15, [8, 3, 2, 1], {"-", "*", "+"})
    assert evaluate("1/3")[0] == Fraction(1, 3)


# TRL's signature

def test_strings_and_conversations_are_paid_alike() -> None:
    written = [response("7"), response("8"), "7", ""]
    spoken = [[{"role": "assistant", "content": completion}] for completion in written]
    for completions in (written, spoken):
        columns = {"solution": ["7"] * 4, "answer_type": ["number"] * 4, "prompts": ["?"] * 4, "trainer_state": None}
        assert rewards.accuracy_reward(completions=completions, **columns) == [1.0, 0.0, 0.0, 0.0]
        assert rewards.format_reward(completions=completions, **columns) == [1.0, 1.0, 0.0, 0.0]


def test_answers_are_mathematics_unless_a_type_says_otherwise() -> None:
    assert rewards.accuracy_reward([response("7.0"), response("13 and 7")], ["7", "7"]) == [1.0, 0.0]
    types = ["pair", "choice", "code", "text", "conduct", "number"]
    golds = ["7 and 13", "B", "def f(x):\n    return x", "It is blue.", "refuse", "7"]
    assert rewards.accuracy_reward([response("13 and 7")] * 6, golds, types) == [1.0, 0.0, None, None, None, 0.0]


@pytest.mark.parametrize(("completion", "paid"), [
    (response("7"), 1.0), ("<answer>7</answer>", 1.0), ("<think></think><answer>7</answer>", 1.0),
    (response("7") + text.EOS + response("8"), 1.0),
    ("7", 0.0), ("The answer is 7.", 0.0), ("<think>7</think>", 0.0), ("<think><answer>7</answer></think>", 0.0),
    ("<think><answer>7</answer>", 0.0),
    (response("7") + "<answer>8</answer>", 0.0), ("<answer>8</answer>" + response("7"), 0.0), (response("7") + response("7"), 0.0),
    (response("8", think="<answer>7</answer>"), 0.0), (response("7", think="<answer>8</answer>"), 0.0),
    ("<think>7</think><answer></answer>", 0.0),
    ("<answer>7", 0.0), ("7</answer>", 0.0), (text.EOS + response("7"), 0.0)])
def test_only_the_one_answer_behind_the_thinking_is_paid(completion: str, paid: float) -> None:
    assert rewards.accuracy_reward([completion], ["7"]) == [paid]


@pytest.mark.parametrize(("answer", "paid"), [
    ("I computed it. The result is \\boxed{7}", 1.0), ("The result is \\boxed{7}.", 1.0), ("\\boxed{7}", 1.0), ("结果是\\boxed{7}。", 1.0),
    ("The result is \\boxed{8}", 0.0),
    ("\\boxed{7} or \\boxed{8}", 0.0),                        # several results are none
    ("\\boxed{7} is wrong", 0.0),                              # the box does not end the answer
    ("\\boxed{\\boxed{7}}", 0.0), ("\\boxed{7", 0.0), ("\\boxed{}", 0.0)])
def test_a_summary_is_paid_for_the_box_that_it_ends_in(answer: str, paid: float) -> None:
    assert rewards.accuracy_reward([f"<think>3+4</think><answer>{answer}</answer>"], solution=["7"], answer_type=["number"]) == [paid]


def test_trls_trainer_takes_the_rewards_as_they_are(tmp_path: Path) -> None:
    """One step of TRL's own GRPO on a base model: it calls them with its keywords, and knows them by name, None included."""
    if trl.needs_a_gpu():
        pytest.skip("this TRL learns on a GPU alone")
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    problems = [problem for name in ("math", "code") for problem in tasks.evaluation_set(name)[:2]]
    rows = [{"prompt": text.zero_prompt(problem.question), **problem.columns(), "tests": str(problem.tests)} for problem in problems]
    config = GRPOConfig(output_dir=str(tmp_path), max_steps=1, num_generations=4, per_device_train_batch_size=16, max_completion_length=24,
                        bf16=False, use_cpu=True, gradient_checkpointing=False, report_to="none", save_strategy="no", disable_tqdm=True)
    trainer = GRPOTrainer(model=str(paths.data() / "base-0.4m"), args=config, train_dataset=Dataset.from_list(rows),
                          reward_funcs=[rewards.accuracy_reward, rewards.format_reward])
    trainer.train()
    logged = trainer.state.log_history[0]
    assert 0 <= logged["rewards/accuracy_reward/mean"] <= 1 and 0 <= logged["rewards/format_reward/mean"] <= 1


def test_columns_must_be_as_long_as_the_completions() -> None:
    with pytest.raises(ValueError):
        rewards.accuracy_reward([response("7")] * 2, ["7"])


def test_the_gold_of_every_shipped_problem_can_be_judged() -> None:
    for name in tasks.EVALUATION_SETS:
        for problem in tasks.evaluation_set(name):
            right = problem.facts.get("solution", problem.gold) if problem.domain == "math" else problem.gold
            verdict = accuracy.right(problem.answer_type, gold=problem.gold, answer=right)
            assert verdict is (True if problem.domain in ("math", "logic") else None), problem


# Mixes

FOUR = [response("7"), response("8"), "<answer>7</answer>", "no idea"]
SEVEN = {"solution": ["7"] * 4, "answer_type": ["number"] * 4}


def test_the_papers_mix_adds_accuracy_and_format_with_the_same_weight() -> None:
    earned = rewards.mix()(FOUR, SEVEN)
    assert earned.total == [2.0, 1.0, 1.0, 0.0]
    assert earned.parts == {"accuracy_reward": [1.0, 0.0, 1.0, 0.0], "format_reward": [1.0, 1.0, 0.0, 0.0]}


def test_a_gated_mix_pays_nothing_without_every_part() -> None:
    assert rewards.mix(combine="gated")(FOUR, SEVEN).total == [1.0, 0.0, 0.0, 0.0]


def test_weights() -> None:
    assert rewards.mix(weights={"format_reward": 0.5})(FOUR, SEVEN).total == [1.5, 0.5, 1.0, 0.0]
    assert rewards.mix(weights={"format_reward": 0.5, "accuracy_reward": 3.0}, combine="gated")(FOUR, SEVEN).total == [1.5, 0.0, 0.0, 0.0]
    assert rewards.mix("format_reward", weights={"format_reward": 2.0})(FOUR, SEVEN).total == [2.0, 2.0, 0.0, 0.0]


@pytest.mark.parametrize("combine", ["sum", "gated"])
def test_a_part_that_does_not_apply_is_left_out(combine: str) -> None:
    columns = {"solution": ["7", "x"], "answer_type": ["number", "text"]}
    earned = rewards.mix(combine=combine)([response("7")] * 2, columns)
    assert earned.parts["accuracy_reward"] == [1.0, None]
    assert earned.total == ([2.0, 1.0] if combine == "sum" else [1.0, 1.0])
    assert rewards.mix("accuracy_reward", combine=combine)([response("7")] * 2, columns).total == [1.0, 0.0]


def test_a_reward_of_ones_own_sees_every_column() -> None:
    def length(completions: list, level: list[int], **_: object) -> list[float]:
        return [len(completion) / level for completion, level in zip(completions, level, strict=True)]

    mixed = rewards.RewardMix({"length": length, **rewards.mix().parts}, {"length": -1.0})
    assert mixed(["aaaa", "aaaa"], {"level": [1, 2], "solution": ["7", "7"]}).total == [-4.0, -2.0]


def test_a_reward_that_gives_too_few_values_is_named() -> None:
    mixed = rewards.RewardMix({"mine": lambda completions, **_: [1.0], **rewards.mix().parts})
    with pytest.raises(R1Error, match="reward 'mine' gave 1 values for 4 completions"):
        mixed(FOUR, SEVEN)


def test_no_completions_earn_nothing() -> None:
    assert rewards.mix()([], {"solution": [], "answer_type": []}).total == []


def test_a_mix_makes_rewards_with_settings() -> None:
    columns = {"solution": ["7"] * 2, "completion_ids": [[1] * 8, [1] * 20]}
    lengths = {"soft_overlong_punishment": dict(max_length=20, soft_length=10)}
    made = rewards.mix("accuracy_reward", "soft_overlong_punishment", settings=lengths)
    assert made([response("7")] * 2, columns).parts == {"accuracy_reward": [1.0, 1.0], "soft_overlong_punishment": [0.0, -1.0]}
    cosine = rewards.mix("cosine_length_reward", settings={"cosine_length_reward": dict(max_length=20)})
    assert cosine([response("7"), response("8")], columns).total == [pytest.approx(0.8272, abs=1e-4), -0.5]
    mild = rewards.mix("repetition_penalty_reward", settings={"repetition_penalty_reward": dict(max_penalty=0.0)})
    assert mild(["a " * 9], {}).total == [0.0] and rewards.mix("repetition_penalty_reward")(["a " * 9], {}).total[0] < 0


@pytest.mark.parametrize(("wrong", "says"), [
    (dict(names=["soft_overlong_punishment"]), "max_length"),
    (dict(names=["cosine_length_reward"], settings={"cosine_length_reward": {"longest": 3}}), "longest"),
    (dict(names=["accuracy_reward"], settings={"accuracy_reward": {}}), "'accuracy_reward' has no settings"),
    (dict(names=["accuracy_reward"], settings={"acuracy_reward": {}}), "'acuracy_reward' is not known"),
    (dict(names=["accuracy_reward", "repetition_penalty_reward"], combine="gated"), "use combine='sum'")])
def test_settings_that_do_not_fit_are_one_line(wrong: dict, says: str) -> None:
    with pytest.raises(R1Error) as caught:
        rewards.mix(*wrong.pop("names"), **wrong)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_unknown_names_are_one_line() -> None:
    for wrong, names in ((lambda: rewards.mix("acuracy_reward"), ["acuracy_reward", "format_reward"]),
                         (lambda: rewards.mix(combine="product"), ["product", "gated"]),
                         (lambda: rewards.mix(weights={"acuracy_reward": 2.0}), ["acuracy_reward", "accuracy_reward"])):
        with pytest.raises(R1Error) as caught:
            wrong()
        assert all(repr(name) in str(caught.value) or name in str(caught.value) for name in names) and "\n" not in str(caught.value)
