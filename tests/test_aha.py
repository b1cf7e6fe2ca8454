"""Reflection: words and numbers tell it apart, comparisons are on the same problem, probes differ by nothing but the cut."""

import re
from collections import Counter

import nbformat
import numpy as np
import pytest
import torch

from r1lib import aha, evaluation, paths, seeds, text
from r1lib.evaluation import Completion, Evaluation
from r1lib.policy import Policy, log_probabilities
from r1lib.sampling import Rollout
from r1lib.sampling.torch import TorchSampler
from r1lib.tasks import Problem

CHAIN = Problem("math", "chain", 2, "en", "From left to right, what is 8 + 5 - 3?", "number", "10", "8+5-3")
EQUATION = Problem("math", "equation", 3, "en", "If 3x + 24 = 63, what is x?", "number", "13", "3x+24=63")
PAIR = Problem("math", "sum_product", 1, "en", "Which two numbers add to 8 and multiply to 15?", "pair", "3 and 5", "8 15")
FACTORS = Problem("math", "factor_pair", 1, "zh", "把259写成两个大于1的整数的积。", "factors", "259", "259")
COUNTDOWN = Problem("math", "countdown", 1, "en", "Use 3, 7, 5 ...", "expression", "1 from 3 7 5 with + -", "k")
CODE = Problem("code", "function", 1, "en", "Write f.", "code", "", "k", tests=({"input": 1, "output": 2},))


def response(think: str, answer: str = "-") -> str:
    return f" <think>\n{think}\n</think>\n<answer>{answer}</answer>"


def evaluation_of(problems, texts, right) -> Evaluation:
    """problems: each answered by as many of the texts in a row; right: of each text."""
    samples = len(texts) // len(problems)
    completions = tuple(
        Completion(problems[i // samples].id, "math", problems[i // samples].kind, 1, "en", answer, 9, True, float(good), 1.0,
                   text.reflection_count(answer), False) for i, (answer, good) in enumerate(zip(texts, right, strict=True)))
    settings = {"max_new_tokens": 16, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
    return Evaluation(tuple(problems), completions, samples, settings, 0, text.zero_prompt("{question}"))


# ------------------------------------------------------------------------------------------------------------------------------------------
# Words and numbers

def test_words_are_counted_an_answer_in_both_languages():
    rates = aha.word_rates(["Wait, wait. But 再检查一下", "没错", ""])
    assert rates["wait"] == pytest.approx(2 / 3) and rates["but"] == rates["检查"] == pytest.approx(1 / 3)
    assert rates["错"] == 0 and set(rates) == {*text.REFLECTION_WORDS, *text.REFLECTION_WORDS_ZH}
    assert aha.word_rates([])["wait"] == 0
    assert aha.phrase_rates([response("Now try 3*5=15, not 24, too small.\n再试2*6=12，太小。")])["too small"] == 2


def test_no_phrase_of_the_miniature_is_one_of_the_papers_words():
    assert not [name for name in aha.PHRASES if text.reflection_count(name)]


@pytest.mark.parametrize(("think", "found"), [
    ("First 12+7=19\n再算19 * 2 = 38", [("12+7", 19), ("19*2", 38)]),
    ("Try (3+7-5)*8: 10, 5, 40, that is wrong.", [("(3+7-5)*8", 40)]),
    ("试8+8+3：16，19，就是它。", [("8+8+3", 19)]),
    ("Try 3*27=74, not 81.", [("3*27", 74)]),
    ("x = 5, so the result is 5. A: 12", []),
    ("1+1+1", []),
])
def test_calculations_are_read_as_written(think, found):
    answer = response(think)
    steps = aha.calculations(answer)
    assert [(step.left, step.value) for step in steps] == found
    assert all(re.sub(r"\s", "", answer[step.start:step.end]).startswith(step.left) for step in steps)


@pytest.mark.parametrize(("problem", "think", "stood"), [
    (CHAIN, "8+5=13\n13-3=10", []),
    (CHAIN, "Wait, let me check.\n8+5=13\n13-3=10\nWait. Right.", []),                   # words without a deed
    (CHAIN, "8+5=13\n13-3=11\n8+5=13\n13-3=10", ["11"]),                                # a deed without words
    (CHAIN, "8+5=13\n13-5=8\n8-3=5", []),
    (EQUATION, "63-24=39\n39/3=13\nLet me verify.\n3*13=39\n39+24=63\nRight.", ["13"]),
    (EQUATION, "63-24=37\n37/3=12\n再检查一遍。\n3*12=36\n36+24=60，不是63。\n63-24=39\n39/3=13", ["12", "60"]),
    (EQUATION, "63-24=39\n39/3=13", []),
    (PAIR, "Try 3*5=15. Yes.", []),
    (PAIR, "Try 2*6=12, too small.\nTry 3*5=15, right.", ["2 and 6"]),
    (PAIR, "2*6=12, no, that is wrong.", []),
    (PAIR, "3*5=15\n5*3=15", []),                                                       # after a hit nothing is retried
    (FACTORS, "试3*87=251，不是259。等等，试7*37=259，对。", ["3*87"]),                        # on one line
    (COUNTDOWN, "Try 3+7-5: 10, 5, not 1.\nWait, try 3-7+5: -4, 1. Yes.", ["3+7-5"]),
    (CODE, "f(1)=1+1=2\nf(1)=1+1=2", []),
    (PAIR, "", []),
])
def test_second_looks_are_told_by_numbers_alone(problem, think, stood):
    answer = response(think)
    found = aha.looks(problem, answer)
    assert [look.stood for look in found] == stood
    for look in found:
        assert answer[:look.at].rstrip("，。.").endswith(tuple("0123456789")) or answer[look.at] == "\n"


def test_an_answer_without_tags_is_read_too():
    assert len(aha.looks(PAIR, "2*6=12\n3*5=15 <answer>3 and 5</answer>")) == 1


def test_the_detector_agrees_with_those_who_wrote_the_corpus():
    known = aha.written(25)
    said = np.array([bool(aha.looks(problem, answer)) for problem, answer, _ in known])
    truth = np.array([looked for _, _, looked in known])
    assert (said & truth).sum() / said.sum() > 0.98 and (said & truth).sum() / truth.sum() > 0.98
    words = np.array([text.reflection_count(answer) > 0 for _, answer, _ in known])
    assert (words & truth).sum() / truth.sum() < 0.9, "words miss retries: that is why there is a detector of numbers"


# ------------------------------------------------------------------------------------------------------------------------------------------
# Comparisons and probes

MISS_FIRST = response("Try 2*6=12, too small.\nWait, try 3*5=15, right.", "3 and 5")
AT_ONCE = response("Try 3*5=15, right.", "3 and 5")
GAVE_UP = response("Try 2*6=12, too small.\nWait, try 1*7=7. No.", "1 and 7")
SPOILT = response("8+5=13\n13-3=10\nWait, let me check.\n8+5=14\n14-3=11", "11")
CONFIRMED = response("8+5=13\n13-3=10\nLet me verify.\n8+5=13\n13-3=10", "10")
MADE = evaluation_of([PAIR, CHAIN], [MISS_FIRST, AT_ONCE, GAVE_UP, SPOILT, CONFIRMED, response("8+5=13\n13-3=10", "10")],
                     [True, True, False, False, True, True])


def test_answers_are_compared_on_the_same_problem():
    found = aha.with_and_without(MADE, lambda problem, c: c.reflection > 0)
    assert found["with"].tolist() == [0.5, 0.5] and found["without"].tolist() == [1, 1]
    assert found["difference"].tolist() == [-0.5, -0.5]
    only = aha.with_and_without(MADE, lambda problem, c: problem.kind == "chain")
    assert np.isnan(only["difference"]).all() and np.isnan(only["with"][0]) and only["with"][1] == pytest.approx(2 / 3)


def test_changes_tell_where_a_second_look_led():
    found = aha.changes(MADE)
    assert {name: column[0] for name, column in found.items()} == {
        "right, kept": 0, "right to wrong": 0, "wrong to right": 0.5, "wrong, kept": 0.5}
    assert {name: column[1] for name, column in found.items()} == {
        "right, kept": 0.5, "right to wrong": 0.5, "wrong to right": 0, "wrong, kept": 0}
    assert np.isnan(aha.changes(evaluation_of([PAIR], [AT_ONCE], [True]))["right, kept"]).all()


def test_cuts_leave_the_beginning_as_it_was():
    assert aha.one_more_check(PAIR, AT_ONCE) == " <think>\nTry 3*5=15, right.\nWait,"
    assert aha.one_more_check(PAIR, "3*5=15 <answer>3 and 5</answer>") is None
    assert aha.stopped_before_looking(PAIR, MISS_FIRST) == " <think>\nTry 2*6=12, too small.\n</think>\n<answer>"
    assert aha.stopped_before_looking(CHAIN, CONFIRMED) == " <think>\n8+5=13\n13-3=10\n</think>\n<answer>"
    assert aha.stopped_before_looking(PAIR, AT_ONCE) is None
    assert aha.stopped_after(1)(CHAIN, CONFIRMED) == " <think>\n8+5=13\n</think>\n<answer>"
    assert aha.stopped_after(2)(PAIR, MISS_FIRST) is None


class Scripted:
    """A sampler that continues every prompt in the same way, and keeps what it was asked."""

    def __init__(self, says: str) -> None:
        self.says, self.prompts = says, []

    def sample(self, prompts, samples, settings, *, seed):
        self.prompts += prompts
        self.settings = settings
        return [Rollout(i, [1], [1], [0.0], self.says, True) for i in range(len(prompts) * samples)]


def test_a_probe_goes_on_from_the_cut_and_is_judged_again():
    sampler = Scripted("3 and 5</answer>")
    found = aha.probe(sampler, MADE, aha.stopped_before_looking, answers=3, max_new_tokens=7, seed=0)
    assert [(one.before_right, one.after_right) for one in found] == [(True, True), (False, True), (False, False), (True, False)]
    assert sampler.prompts[0] == text.zero_prompt(PAIR.question) + " <think>\nTry 2*6=12, too small.\n</think>\n<answer>"
    assert found[0].after.endswith("<answer>3 and 5</answer>") and sampler.settings.max_new_tokens == 7
    effect = aha.effect(found)
    assert (effect["before"]["value"], effect["after"]["value"], effect["difference"]["value"]) == (0.5, 0.5, 0)
    assert len(aha.probe(sampler, MADE, aha.stopped_before_looking, answers=1, max_new_tokens=7, seed=0)) == 2


def test_nothing_probed_is_nothing_judged():
    nothing = aha.probe(Scripted(""), MADE, lambda problem, answer: None, answers=3, max_new_tokens=4, seed=0)
    assert nothing == [] and aha.effect(nothing)["difference"] == {"value": None, "low": None, "high": None}
    assert aha.opposite(aha.effect(nothing)["difference"])["value"] is None
    assert aha.opposite({"value": 1, "low": 0, "high": 3}) == {"value": -1, "low": -3, "high": 0}


def test_more_tries_are_never_fewer_right_when_the_stopped_are_wrong():
    curve = aha.by_tries(Scripted("9 and 9</answer>"), MADE, (1, 2), answers=3, seed=0)
    assert curve[None]["value"] == pytest.approx(2 / 3) and curve[2]["value"] == pytest.approx(2 / 3)
    assert curve[1]["value"] == pytest.approx(1 / 3), "the answer that was right at once is left as it is"


# ------------------------------------------------------------------------------------------------------------------------------------------
# Tokens

def test_tokens_hold_what_the_model_thought(tiny_policy):
    answer = "the in 等 1"
    tokens = aha.inspect(tiny_policy, "User: 3", answer, openers=("the", "等"))
    (prompt,), (ids,) = tiny_policy.encode(["User: 3"]), tiny_policy.encode([answer])
    logps, _, entropy = log_probabilities(tiny_policy.model, [prompt], [ids])
    assert [token.probability for token in tokens] == pytest.approx(logps[0].exp().tolist(), rel=1e-4)
    assert [token.entropy for token in tokens] == pytest.approx(entropy[0].tolist(), rel=1e-4)
    with torch.no_grad():
        after_prompt = torch.softmax(tiny_policy.model(torch.tensor([prompt])).logits[0, -1], -1)
    watched = [tiny_policy.encode([opener])[0][0] for opener in ("the", "等")]
    assert tokens[0].opener == pytest.approx(float(after_prompt[watched].sum()), rel=1e-4)
    assert "".join(token.text for token in tokens) == answer, "a character of several tokens is shown whole, once"


def test_openings_are_sorted_by_what_stood_before(tiny_policy):
    found = aha.openings(tiny_policy, MADE, 3)
    assert all(column.shape == (1,) for column in found.values()), "searches only"
    assert all(0 <= column[0] <= 1 for column in found.values())
    shuffled = aha.openings(tiny_policy, evaluation_of([PAIR], [AT_ONCE], [True]), 1)
    assert np.isnan(shuffled["after a miss"][0]) and not np.isnan(shuffled["after a hit"][0])


# ------------------------------------------------------------------------------------------------------------------------------------------
# All of it

FINDINGS = {"reflection_base", "reflection_zero", "reflection_ratio", "search_reflection_base", "search_reflection_zero",
            "structural_checks_base", "structural_checks_zero", "accuracy_with_reflection_zero", "accuracy_without_reflection_zero",
            "reflection_helps_zero", "wrong_to_right", "right_to_wrong", "forced_wait_gain", "going_on_gain"}


def test_everything_is_measured_where_stages_lie(tmp_path, monkeypatch):
    runs = tmp_path / "smoke"
    (runs / "zero").mkdir(parents=True)
    (runs / "zero" / "model").symlink_to(paths.data() / "base-0.4m", target_is_directory=True)
    monkeypatch.setattr(aha, "PROBES", {name: (cut, 1, 8) for name, (cut, _, _) in aha.PROBES.items()})
    found = aha.measure(profile="smoke", runs=runs)
    assert set(found) == FINDINGS
    assert found["reflection_base"] == found["reflection_zero"], "the same model"
    assert found["reflection_ratio"]["value"] in (1, None)
    assert all(set(interval) == {"value", "low", "high"} for interval in found.values())
    (runs / "findings" / "aha.json").unlink()
    assert found == aha.measure(profile="smoke", runs=runs), "the same numbers again"


def test_a_base_without_words_has_no_ratio(tmp_path, monkeypatch):
    silent = evaluation_of([PAIR, CHAIN], [AT_ONCE, response("8+5=13\n13-3=10", "10")], [True, False])
    monkeypatch.setattr(aha, "answers_of", lambda stage, **_: silent)
    found = aha.measure(profile="smoke", runs=tmp_path, probed={name: [] for name in aha.PROBES})
    assert found["reflection_ratio"]["value"] is None and found["wrong_to_right"]["value"] is None
    assert found["accuracy_without_reflection_zero"]["value"] == 0.5 and found["forced_wait_gain"]["value"] is None


# ------------------------------------------------------------------------------------------------------------------------------------------
# The notebook's exercises

CELLS = nbformat.read(paths.root() / "notebooks" / "05_the_aha_moment.ipynb", as_version=4).cells
EXERCISES = [i for i, cell in enumerate(CELLS) if "exercise" in cell.metadata.get("tags", [])]
SOLUTIONS = [re.search(r"<details>.*?```python\n(.*?)```\n.*?</details>", CELLS[i + 2].source, re.S).group(1) for i in EXERCISES]


def check(number: int, attempt: str, capsys, sampler=None) -> str:
    """What an exercise's check prints for an attempt."""
    world = {"Counter": Counter, "aha": aha, "text": text, "Problem": Problem, "seeds": seeds, "seed": 0, "evaluation": evaluation,
             "before": MADE, "after": MADE, "sampler": sampler or Scripted(" it is 10.\n</think>\n<answer>10</answer>")}
    exec(attempt, world)
    exec(CELLS[EXERCISES[number] + 1].source, world)
    return capsys.readouterr().out


def test_there_are_three_exercises():
    assert len(EXERCISES) == 3 and all(CELLS[i + 1].metadata.tags == ["check"] for i in EXERCISES)


@pytest.mark.parametrize("number", range(3))
def test_an_open_exercise_gives_a_hint_and_its_solution_passes(number, capsys):
    assert " is open. Hint: " in check(number, CELLS[EXERCISES[number]].source, capsys)
    assert "Right" in check(number, SOLUTIONS[number], capsys)


@pytest.mark.parametrize(("number", "attempt", "says"), [
    (0, "def is_empty(problem, answer): return text.reflection_count(answer) > 0", "a word and a second try should give False"),
    (0, "def is_empty(problem, answer): return not aha.looks(problem, answer)", "neither should give False"),
    (1, "def on_the_same_problem(a): return (lambda w, o: sum(w) / len(w) - sum(o) / len(o))([r for _, f, r in a if f], "
        "[r for _, f, r in a if not f])", "is the pooled difference"),
    (1, "def on_the_same_problem(answers): return 0.375", "the mean is +0.1875, yours +0.3750"),
    (2, "def when_it_is_due(problem, answer): return aha.one_more_check(problem, answer)", "has to be left alone"),
    (2, "def when_it_is_due(problem, answer): return None if '10</answer>' in answer else answer", "should go on from"),
])
def test_a_check_says_what_is_off(number, attempt, says, capsys):
    said = check(number, attempt, capsys)
    assert said.startswith("Not yet") and says in said


def test_probes_of_the_shipped_model_are_the_same_again():
    policy = Policy.load(paths.data() / "base-0.4m")
    runs = [aha.probe(TorchSampler(policy), MADE, aha.one_more_check, answers=1, max_new_tokens=6, seed=3) for _ in range(2)]
    assert runs[0] == runs[1] and runs[0][0].after.startswith(" <think>\nTry 2*6=12, too small.\nWait, try 3*5=15, right.\nWait,")
