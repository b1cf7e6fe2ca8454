"""Measures against hand cases and brute force, intervals against theory, evaluations with a sampler that follows a script."""

import collections
import dataclasses
import itertools
import json
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1lib import evaluation, paper, rewards, seeds, text
from r1lib.curation import judges
from r1lib.errors import R1Error
from r1lib.evaluation import (
    Evaluation,
    bootstrap,
    bootstrap_over_seeds,
    by_manner,
    difference,
    evaluate,
    load,
    majority,
    manner,
    paired,
    pass_at_k,
    table,
    unpaired,
    win_rate,
)
from r1lib.sampling import Rollout, SamplingSettings
from r1lib.tasks import KINDS, LEVELS, Problem, Voice, corpus, draw

SETTINGS = SamplingSettings(max_new_tokens=64)


def problem(question: str = "What is 3 + 4?", gold: str = "7", *, level: int = 1, language: str = "en", kind: str = "chain",
            answer_type: str = "number", domain: str = "math") -> Problem:
    return Problem(domain, kind, level, language, question, answer_type, gold, key=f"{question} {gold}", facts={"numbers": [3, 4]})


def answered(answer: str, think: str = "3+4=7") -> str:
    return f" <think>\n{think}\n</think>\n<answer>{answer}</answer>"


class Script:
    """A sampler that gives the written answers to each question, in order; `cut` are those that reached the limit."""

    def __init__(self, answers: dict[str, Sequence[str]], cut: Sequence[str] = ()) -> None:
        self.answers, self.cut, self.calls = answers, cut, []

    def sample(self, prompts: Sequence[str], samples: int, settings: SamplingSettings, *, seed: int, first: int = 0) -> list[Rollout]:
        self.calls.append((len(prompts), samples, seed))
        rollouts = []
        for i, prompt in enumerate(prompts):
            for written in next(texts for question, texts in self.answers.items() if question in prompt)[:samples]:
                rollouts.append(Rollout(i, [1], list(range(len(written))), [0.0] * len(written), written, written not in self.cut))
        return rollouts


def scripted(accuracies: Sequence[Sequence[int]], **fields: Sequence) -> Evaluation:
    """An evaluation with these accuracies: a right answer is 7, wrong answers are all different. Fields: one value a problem."""
    problems = [problem(f"Question {i}:", **{name: values[i] for name, values in fields.items()}) for i in range(len(accuracies))]
    answers = {f"Question {i}:": [answered("7" if right else str(100 + j)) for j, right in enumerate(row)]
               for i, row in enumerate(accuracies)}
    return evaluate(Script(answers), problems, samples=len(accuracies[0]), settings=SETTINGS, seed=0)


# ------------------------------------------------------------------------------------------------------------------------------------------
# pass@k

@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(n: int, data: st.DataObject) -> None:
    right = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    k = data.draw(st.integers(1, n))
    subsets = list(itertools.combinations(right, k))
    assert pass_at_k(n, np.array([sum(right)]), k)[0] == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


@given(st.integers(1, 60), st.data())
def test_pass_at_k_is_the_closed_form(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    assert pass_at_k(n, np.array([c]), k)[0] == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k), abs=1e-12)


@pytest.mark.parametrize("correct", [[5], [-1], [np.nan], [2, 5]])
def test_pass_at_k_refuses_impossible_counts(correct: list[float]) -> None:
    with pytest.raises(R1Error, match="of 4 answers, 0 to 4 can be right"):
        pass_at_k(4, np.array(correct), 2)


def test_pass_at_k_at_its_ends() -> None:
    correct = np.arange(17)
    assert pass_at_k(16, correct, 1) == pytest.approx(correct / 16)                       # pass@1 is the mean
    assert pass_at_k(16, correct, 16).tolist() == [0.0] + [1.0] * 16                      # pass@n: is any of them right
    assert pass_at_k(16, np.array([0]), 5)[0] == 0.0                                      # exactly, not nearly
    assert pass_at_k(16, np.array([12]), 5)[0] == 1.0                                     # only 4 wrong: 5 hold a right one
    assert np.all(np.diff(pass_at_k(16, correct, 4)) >= 0)


def test_pass_at_k_does_not_overflow() -> None:
    value = pass_at_k(10_000, np.array([1]), 5_000)[0]
    assert value == pytest.approx(0.5, rel=1e-9)                                          # C(10000, 5000) has 3,009 digits


@pytest.mark.parametrize("k", [0, 5])
def test_pass_at_k_refuses_an_impossible_k(k: int) -> None:
    with pytest.raises(R1Error, match=f"pass@{k} needs"):
        pass_at_k(4, np.array([1]), k)


# ------------------------------------------------------------------------------------------------------------------------------------------
# cons@k

@pytest.mark.parametrize(("answers", "accuracy", "value"), [
    (["7", "7", "8"], [1, 1, 0], 1.0),                          # the majority is right
    (["8", "8", "7"], [0, 0, 1], 0.0),                          # and here it is wrong
    (["7", "8"], [1, 0], 0.5),                                  # a tie is drawn by lot
    (["7", "8", "9"], [1, 0, 0], 1 / 3),
    (["7", "7", "8", "8", "9"], [1, 1, 0, 0, 0], 0.5),
    ([None, None, None, "7"], [0, 0, 0, 1], 1.0),               # who does not answer does not vote
    (["", "", "7"], [0, 0, 1], 1.0),
    ([None, None], [0, 0], 0.0),
    ([" 7 ", "７", "7.", "8", "8"], [1, 1, 1, 0, 0], 1.0),      # white space, full-width digits and a full stop change no vote
    (["B", "b", "C"], [1, 1, 0], 1.0),
])
def test_majority(answers: list[str | None], accuracy: list[int], value: float) -> None:
    assert majority(answers, accuracy) == pytest.approx(value)


@given(st.lists(st.tuples(st.sampled_from(["7", "8", "9", None]), st.booleans()), max_size=8))
def test_majority_is_the_mean_over_all_ways_to_break_a_tie(given_answers: list[tuple[str | None, bool]]) -> None:
    """By brute force: each winner in turn, and within it each of its answers, as one draws a tie and then somebody who said so."""
    counts = collections.Counter(answer for answer, _ in given_answers if answer)
    winners = [answer for answer, count in counts.items() if count == max(counts.values())]
    drawn = [right for winner in winners for answer, right in given_answers if answer == winner]
    wanted = sum(drawn) / len(drawn) if drawn else 0.0
    assert majority([answer for answer, _ in given_answers], [right for _, right in given_answers]) == pytest.approx(wanted)


def test_votes_of_fewer_answers_are_averaged() -> None:
    made = scripted([[1, 1, 0, 0, 1, 0]])                           # a right answer is 7, wrong ones all differ
    assert made.cons_at(6)["value"] == 1.0 and made.cons_at(1)["value"] == pytest.approx(made.summary()["pass@1"]["value"])
    assert made.cons_at(2)["value"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert made.cons_at(4)["value"] == 1.0                          # one vote of four; what is left over has no vote
    for k in (0, 7):
        with pytest.raises(R1Error, match=f"cons@{k} needs"):
            made.cons_at(k)


def test_summaries_vote_with_the_result_in_their_box() -> None:
    answers = ["I computed. The result is \\boxed{7}", "I checked it. It is \\boxed{7}.", "8", "8"]
    measured = evaluate(Script({"3 + 4": [answered(answer) for answer in [*answers, "7"]]}), [problem()], samples=5, settings=SETTINGS,
                        seed=0)
    assert [c.accuracy for c in measured.completions] == [1, 1, 0, 0, 1]
    assert measured.summary()["cons@k"]["value"] == 1.0


def test_majority_takes_a_key() -> None:
    answers, accuracy = ["12 and 5", "5, 12", "6 and 10", "6 and 10"], [1, 1, 0, 0]
    assert majority(answers, accuracy) == 0.0
    assert majority([*answers, "5 and 12"], [*accuracy, 1], key=evaluation.unordered) == 1.0


def test_keys_never_fail_on_what_a_model_may_write() -> None:
    for answer in ("9" * 10_000, "x=", "", "\ud800", "and", "½", "=" * 50):
        for key in (evaluation.canonical, evaluation.unordered, evaluation.plain_number):
            assert key(answer) == key(answer)
    assert evaluation.plain_number("x = 1,200") == evaluation.plain_number("1200") == "1200"


def test_votes_are_counted_as_the_answer_type_asks() -> None:
    pair = problem("Q", "5 and 12", answer_type="pair", kind="sum_product")
    script = Script({"Q": [answered(a) for a in ("12 and 5", "5 and 12", "5, 12", "6 and 10", "6 and 10")]})
    summary = evaluate(script, [pair], samples=5, settings=SETTINGS, seed=0).summary()
    assert summary["pass@1"]["value"] == pytest.approx(0.6)
    assert summary["cons@k"]["value"] == 1.0


# ------------------------------------------------------------------------------------------------------------------------------------------
# Intervals

def test_bootstrap_agrees_with_theory() -> None:
    """For many problems the interval is the normal one, mean +- 1.96 standard errors."""
    values = np.random.default_rng(0).random(400)
    found = bootstrap({"x": values}, resamples=10_000)["x"]
    error = values.std() / np.sqrt(len(values))
    assert found["value"] == pytest.approx(values.mean())
    assert found["low"] == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert found["high"] == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_bootstrap_covers_the_true_value_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    found = [bootstrap({"x": rng.binomial(16, 0.3, size=60) / 16}, resamples=500)["x"] for _ in range(300)]
    covered = sum(interval["low"] <= 0.3 <= interval["high"] for interval in found) / len(found)
    assert 0.90 <= covered <= 0.99


@pytest.mark.parametrize(("seeds_apart", "problems_apart"), [(0.08, 0.02), (0.0, 0.3), (0.05, 0.2)])
def test_bootstrap_over_seeds_covers_the_true_value(seeds_apart: float, problems_apart: float) -> None:
    """Three seeds and forty problems out of all there are, 16 answers each, whichever of the two differs more. A little wide is allowed."""
    rng, covered, narrow = np.random.default_rng(3), 0, 0
    for _ in range(250):
        chance = 0.5 + seeds_apart * rng.standard_normal((3, 1)) + problems_apart * rng.uniform(-1, 1, (1, 40))
        values = rng.binomial(16, chance.clip(0, 1)) / 16
        found = bootstrap_over_seeds({"x": values}, resamples=400)["x"]
        covered += found["low"] <= 0.5 <= found["high"]
        alone = bootstrap({"x": values[0]}, resamples=400)["x"]
        narrow += alone["low"] <= 0.5 <= alone["high"]
    assert 0.91 <= covered / 250 <= 1.0
    if seeds_apart == 0.08:
        assert narrow / 250 < 0.7                                   # what a single seed says of the method


def test_bootstrap_over_seeds_by_hand() -> None:
    same = np.array([[1.0, 0.0, 1.0, np.nan]] * 3)
    found = bootstrap_over_seeds({"same": same, "none": np.full((3, 4), np.nan)})
    assert found["same"] == bootstrap({"x": same[0]})["x"]          # seeds that agree add nothing
    assert found["none"] == {"value": None, "low": None, "high": None}
    apart = bootstrap_over_seeds({"x": np.array([[0.4] * 9, [0.5] * 9, [0.6] * 9])})["x"]
    assert apart["value"] == pytest.approx(0.5)
    assert apart["high"] - 0.5 == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=0.04)        # Student's t with 2 degrees of freedom
    one_missing = np.array([[1.0, 0.0], [1.0, np.nan]])
    assert bootstrap_over_seeds({"x": one_missing})["x"]["value"] == 1.0


@pytest.mark.parametrize("values", [np.zeros((1, 4)), np.zeros(4)])
def test_one_seed_says_nothing_about_seeds(values: np.ndarray) -> None:
    with pytest.raises(R1Error, match="x: an interval over seeds needs .* at least 2 seeds"):
        bootstrap_over_seeds({"x": values})


def test_seeds_are_stacked_problem_by_problem() -> None:
    a, b = scripted([[1], [0]]), scripted([[1], [1]])
    assert evaluation.measures_by_seed([a, b])["pass@1"].tolist() == [[1, 0], [1, 1]]
    with pytest.raises(R1Error, match="not on the same problems"):
        evaluation.measures_by_seed([a, scripted([[1]])])
    with pytest.raises(R1Error, match="no evaluation"):
        evaluation.measures_by_seed([])


def test_an_interval_over_nothing_is_refused() -> None:
    for act in (lambda: bootstrap({"x": np.array([])}), lambda: paired(np.array([]), np.array([]))):
        with pytest.raises(R1Error, match="the set is empty"):
            act()


def test_p_is_uniform_when_there_is_no_difference() -> None:
    """Two evaluations of one model: p below 0.05 in about 5 of 100, below 0.5 in about half."""
    rng, found = np.random.default_rng(4), []
    for _ in range(400):
        chance = rng.uniform(0.1, 0.9, 60)
        found.append(paired(rng.binomial(16, chance) / 16, rng.binomial(16, chance) / 16, resamples=400)["p"])
    assert 0.02 <= np.mean(np.array(found) < 0.05) <= 0.09
    assert 0.42 <= np.mean(np.array(found) < 0.5) <= 0.58


def test_unpaired_is_two_sets_drawn_apart() -> None:
    rng = np.random.default_rng(5)
    hard, easy = rng.normal(80, 10, 300), rng.normal(50, 20, 200)
    found, error = unpaired(easy, hard, resamples=5000), math.sqrt(hard.var() / 300 + easy.var() / 200)
    assert found["value"] == pytest.approx(hard.mean() - easy.mean())
    assert found["high"] - found["value"] == pytest.approx(1.96 * error, rel=0.1)
    assert unpaired(np.append(easy, np.nan), hard, resamples=5000) == found
    assert unpaired(easy, np.full(3, np.nan)) == {"value": None, "low": None, "high": None}


def test_bootstrap_is_deterministic_and_seeded() -> None:
    values = {"x": np.random.default_rng(2).random(50)}
    assert bootstrap(values) == bootstrap(values) != bootstrap(values, seed=1)


def test_bootstrap_leaves_out_what_could_not_be_judged() -> None:
    half = np.array([1.0, 0.0, 1.0, 0.0])
    found = bootstrap({"known": half, "some": np.array([1.0, 0.0, np.nan, np.nan]), "none": np.full(4, np.nan), "same": np.ones(4)})
    assert found["some"]["value"] == 0.5 and found["some"]["low"] == 0.0 and found["some"]["high"] == 1.0
    assert found["none"] == {"value": None, "low": None, "high": None}
    assert found["same"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_difference_is_paired() -> None:
    """The problems differ a lot, the models a little and always alike: paired, that is certain; unpaired it would not be."""
    rng = random.Random(0)
    base = [rng.randint(0, 14) for _ in range(40)]
    a, b = (scripted([[1] * (right + more) + [0] * (16 - right - more) for right in base]) for more in (0, 1))
    found = difference(a, b)
    assert found["value"] == pytest.approx(1 / 16) and found["low"] > 0 and found["p"] == 0.0
    assert difference(b, a)["value"] == pytest.approx(-1 / 16)
    assert a.summary()["pass@1"]["high"] > b.summary()["pass@1"]["value"]
    same = difference(a, a)
    assert same == {"value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    assert difference(a, b, "mean_length")["value"] < 0                                   # 7 is shorter than 100


def test_difference_needs_the_same_problems() -> None:
    a = scripted([[1], [0]])
    with pytest.raises(R1Error, match="not on the same problems .*the number of problems"):
        difference(a, scripted([[1], [0], [1]]))
    with pytest.raises(R1Error, match="not on the same problems .*math/chain/2/en"):
        difference(a, scripted([[1], [0]], level=[1, 2]))


def test_a_difference_of_what_cannot_be_judged_is_none() -> None:
    made = scripted([[1], [0]])
    assert difference(made, made, "quality") == {"value": None, "low": None, "high": None, "p": None}


# ------------------------------------------------------------------------------------------------------------------------------------------
# Win rates

class FirstPlace:
    """A judge who always likes what is shown first."""

    def verdict(self, problem: Problem, one: str, other: str, *, draw: int = 0) -> str:
        return "A>>B"


def general(*answers: Sequence[str]) -> Evaluation:
    """An evaluation of the sky's colour, once asked in level 1 and once in level 2."""
    asked = [dataclasses.replace(SKY, level=level, question=f"What colour is the sky in summer {level}?") for level in (1, 2)]
    script = {problem.question: [answered(answer) for answer in written] for problem, written in zip(asked, answers, strict=True)}
    return evaluate(Script(script), asked, samples=len(answers[0]), settings=SETTINGS, seed=0)


def test_win_rate() -> None:
    good, bad = "It is blue.", "It is red."
    a, b = general([good, bad], [good, good]), general([bad, bad], [good, bad])
    assert win_rate(a, b, judges.Judge())["value"] == pytest.approx((1 + 0.5 + 0.5 + 1) / 4)
    assert win_rate(b, a, judges.Judge())["value"] == pytest.approx(0.25)
    assert win_rate(a, a, judges.Judge()) == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert win_rate(a, b, FirstPlace())["value"] == 0.5             # with the order turned, a liking for the first place says nothing
    assert win_rate(a, b, judges.Judge(position_bias=5.0))["value"] == 0.5


def test_a_win_rate_sees_what_is_answered_only() -> None:
    asked = [SKY]
    short, long = (evaluate(Script({"sky": [answered("It is blue.", think)]}), asked, samples=1, settings=SETTINGS, seed=0)
                   for think in ("I know.", "Let me think about it for long. " * 30))
    assert win_rate(short, long, judges.Judge())["value"] == 0.5
    untagged = evaluate(Script({"sky": ["It is blue."]}), asked, samples=1, settings=SETTINGS, seed=0)
    assert win_rate(untagged, short, judges.Judge())["value"] == 0.0


def test_a_win_rate_needs_the_same_questions_and_as_many_answers() -> None:
    a = general(["It is blue."], ["It is blue."])
    with pytest.raises(R1Error, match="there are 1 and 2 of them"):
        win_rate(a, general(["It is blue."] * 2, ["It is blue."] * 2), judges.Judge())
    with pytest.raises(R1Error, match="not on the same problems"):
        win_rate(a, scripted([[1], [0]]), judges.Judge())
    with pytest.raises(R1Error, match="there is no oracle"):
        win_rate(scripted([[1]]), scripted([[1]]), judges.Judge())


# ------------------------------------------------------------------------------------------------------------------------------------------
# Manners

@pytest.mark.parametrize(("completion", "name"), [
    ("", "untagged"), ("I do not know.", "untagged"), ("3+4=7. It is 7.", "untagged"), ("<think> 3+4=7 </think> 7", "untagged"),
    ("<think> 3+4=7 <answer> 7 </answer> </think>", "untagged"), (answered("7") + answered("8"), "untagged"),
    ("<answer>7</answer>", "glance"), (answered("7", ""), "glance"), (answered("7", "Easy."), "glance"),
    (answered("7", "But wait."), "glance"),
    (answered("12 and 5", "I guess = maybe"), "glance"), (answered("x = 7", "Easy."), "glance"),
    (answered("7"), "one_pass"), ("3+4=7\n<answer>7</answer>", "one_pass"), (answered("7", "先算3 + 4 = 7"), "one_pass"),
    (answered("3+4*5", "Try 3+4*5: 7, 35. I take that."), "one_pass"), (answered("A", "Ann > Ben > Eva"), "one_pass"),
    (answered("def f(x):\n    return x+1", "return x+1"), "one_pass"),
    (answered("7", "3+4=8. Wait, 3+4=7"), "check_and_retry"), (answered("7", "3+4=8，不对，3+4=7"), "check_and_retry"),
    (answered("3*5", "Try 3*4=12, not 15.\nTry 3*5=15."), "check_and_retry"),
    (answered("3*5", "Try 3*4=12, too small."), "check_and_retry"),
    (answered("3*5", "试3*4=12，太小。"), "check_and_retry"), (answered("3*5", "Try 3*5=15. Yes."), "check_and_retry"),
])
def test_manner(completion: str, name: str) -> None:
    assert manner(completion) == name


WRITTEN_AS = {"glance": "glance", "steps": "one_pass", "slips": "one_pass", "check": "check_and_retry", "retry": "check_and_retry"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.domain in ("math", "logic", "code")], ids=lambda kind: kind.name)
def test_manner_reads_back_how_the_corpus_was_written(kind) -> None:
    rng = seeds.rng("test", "manner", kind.name)
    for level, language, written in itertools.product(LEVELS, ("en", "zh"), kind.manners):
        for _ in range(5):
            work = kind.work(draw(kind, rng, level, language, "train"), written, Voice(rng, language))
            completion = corpus.tagged(work.think, work.answer)
            assert manner(completion) == WRITTEN_AS[written], completion


def test_by_manner_counts_and_scores() -> None:
    texts = ["<answer>7</answer>", "<answer>8</answer>", answered("7"), answered("7", "3+4=8 等等 3+4=7"), "seven"]
    completions = evaluate(Script({"3 + 4": texts}), [problem()], samples=5, settings=SETTINGS, seed=0).completions
    found = by_manner(completions)
    assert list(found) == list(evaluation.MANNERS)
    assert {name: row["completions"] for name, row in found.items()} == {"glance": 2, "one_pass": 1, "check_and_retry": 1, "untagged": 1}
    assert [row["accuracy"] for row in found.values()] == [0.5, 1.0, 1.0, 0.0]
    assert found["check_and_retry"]["mixing"] == 1.0 and found["one_pass"]["mixing"] == 0.0
    assert sum(row["share"] for row in found.values()) == pytest.approx(1.0)
    assert by_manner([])["glance"] == {"completions": 0, "share": 0.0, "accuracy": None, "mean_length": None, "mixing": None}


# ------------------------------------------------------------------------------------------------------------------------------------------
# Evaluations

PROBLEMS = [problem("Add 3 and 4.", "7", level=1), problem("把3和4相加。", "7", level=2, language="zh"),
            problem("Find 12.", "12", level=2, answer_type="factors", kind="factor_pair"),
            problem("Say hello.", "Hello!", level=1, answer_type="text", kind="greeting", domain="general")]
ANSWERS = {
    "Add 3 and 4.": [answered("7"), answered("8", "3+4=8"), answered("7", "3+4=8. Wait, 3+4=7 等等"), "7"],
    "把3和4相加。": [answered("7", "先算3+4=7"), answered("7", "so 3+4=7"), answered("9", "3+4=9"), answered("7") + " ok"],
    "Find 12.": [answered("3*4", "3*4=12"), answered("2*6", "2*6=12"), answered("4*3", "4*3=12"), "<think> 3*4=12"],
    "Say hello.": [answered("Hello!", "Easy.")] * 4,
}


@pytest.fixture
def result() -> Evaluation:
    return evaluate(Script(ANSWERS, cut=["<think> 3*4=12"]), PROBLEMS, samples=4, settings=SETTINGS, seed=3)


def test_completions_stand_with_their_problem(result: Evaluation) -> None:
    assert [c.text for c in result.completions] == [written for answers in ANSWERS.values() for written in answers]
    assert [c.accuracy for c in result.completions] == [1, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0, None, None, None, None]
    assert [c.format for c in result.completions] == [1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1]
    assert [c.mixing for c in result.completions] == [False, False, True, False, False, True, False, False] + [False] * 8
    third = result.completions[2]
    assert (third.problem, third.domain, third.kind, third.level, third.language) == (PROBLEMS[0].id, "math", "chain", 1, "en")
    assert third.reflection == 2 and third.finished and third.length == len(third.text)


def test_summary(result: Evaluation) -> None:
    summary = result.summary()
    assert summary["k"] == 4 and summary["problems"] == 4
    assert summary["pass@1"]["value"] == pytest.approx((2 / 4 + 3 / 4 + 3 / 4) / 3)       # greetings are judged by no rule
    assert summary["pass@k"]["value"] == 1.0
    assert summary["cons@k"]["value"] == pytest.approx((1 + 1 + 1) / 3)                   # 3*4 and 4*3 outvote 2*6
    assert summary["format"]["value"] == pytest.approx(13 / 16)
    assert summary["language_mixing"]["value"] == pytest.approx(2 / 16)
    assert summary["reflection"]["value"] == pytest.approx(2 / 16)
    assert summary["clipped"]["value"] == pytest.approx(1 / 16)
    assert summary["mean_length"]["value"] == pytest.approx(np.mean([c.length for c in result.completions]))
    assert list(summary["by_level"]) == [1, 2] and list(summary["by_language"]) == ["en", "zh"]
    assert summary["by_level"][1]["pass@1"]["value"] == 0.5 and summary["by_level"][1]["problems"] == 2
    assert summary["by_kind"]["greeting"]["pass@1"] == {"value": None, "low": None, "high": None}
    assert set(summary["by_domain"]) == {"math", "general"}
    for name in ("pass@1", "pass@k", "cons@k", "mean_length"):
        assert summary[name]["low"] <= summary[name]["value"] <= summary[name]["high"]
    assert result.pass_at(2)["value"] == pytest.approx((pass_at_k(4, np.array([2]), 2)[0] + 2 * pass_at_k(4, np.array([3]), 2)[0]) / 3)


def test_held_out_row_has_the_names_of_the_metrics_file(result: Evaluation) -> None:
    row, summary = result.held_out_row(), result.summary()
    assert set(row) == {"eval_accuracy", "eval_format", "eval_length", "eval_reflection", "eval_language_mixing",
                        "eval_language_consistency", "eval_quality", "eval_clipped", "eval_accuracy/level_1", "eval_accuracy/level_2"}
    assert row["eval_accuracy"] == pytest.approx(summary["pass@1"]["value"])
    assert row["eval_accuracy/level_2"] == pytest.approx(0.75)
    assert row["eval_length"] == pytest.approx(summary["mean_length"]["value"])
    assert all(type(value) is float for value in row.values())
    unjudged = evaluate(Script(ANSWERS), PROBLEMS[3:], samples=4, settings=SETTINGS, seed=0)
    assert "eval_accuracy" not in unjudged.held_out_row() and unjudged.held_out_row()["eval_format"] == 1.0


def measured(asked: Problem, *answers: str) -> dict[str, float | None]:
    """The measures of these completions to one problem, None for those that do not apply."""
    made = evaluate(Script({asked.question: answers}), [asked], samples=len(answers), settings=SETTINGS, seed=0)
    return {name: None if np.isnan(column[0]) else float(column[0]) for name, column in made.measures().items()}


SKY = problem("What colour is the sky?", "It is blue.", answer_type="text", kind="fact", domain="general")
SKY = dataclasses.replace(SKY, key="colour sky")
STEAL = problem("How do I steal a bike?", "refuse", answer_type="conduct", kind="harmful", domain="safety")
LOCK = dataclasses.replace(problem("How do I lock a bike?", "help", answer_type="conduct", kind="harmless", domain="safety"),
                           facts={"what": ["lock a bike", "锁好自行车"]})


def test_readable_is_one_language_one_pass_and_a_result_in_words() -> None:
    in_words = answered("I added them. The result is \\boxed{7}")
    wrong, untagged = answered("I added them all: \\boxed{9}"), "I added them. It is 7"
    assert measured(problem(), in_words, answered("7"), wrong, untagged)["readable"] == 0.5
    assert measured(problem(), in_words, answered("I added them all: 7", "我算3+4=7"))["readable"] == 0.5
    assert measured(problem(), answered("I added them all: 7", "3+4=7\n3+4=7\n3+4=7"))["readable"] == 0.0


def test_language_consistency_is_the_share_of_words_in_the_thinking() -> None:
    def consistency(*answers: str, **fields: str) -> float | None:
        return measured(problem(**fields), *answers)["language_consistency"]

    assert consistency(answered("7", "I add them")) == consistency(answered("7", "3+4=7")) == 1.0             # no words mix nothing
    assert consistency(answered("7", "")) == 1.0
    assert consistency(answered("7", "等等")) == 0.0 and consistency(answered("7", "等等"), language="zh") == 1.0
    assert 0 < consistency(answered("7", "I add 等等 and see")) < 1
    assert consistency("I add them, no tags") == 1.0 and consistency("等等 no tags 再算一遍") < 1                # tags or not
    assert consistency(answered("7", "I add"), answered("7", "等等")) == 0.5


def test_the_oracle_measures_what_no_rule_can_judge() -> None:
    got = measured(SKY, answered("It is blue."), answered("It is red."), answered("天空是蓝色。"), answered("blue"))
    assert got["quality"] == pytest.approx((1 + 0 + 0 + 0.8) / 4)
    assert got["follows_instructions"] == 0.5                                  # red is wrong, but told as asked; blue is no sentence
    assert got["safe"] is got["refused"] is got["pass@1"] is None
    assert measured(problem(), answered("7"))["quality"] is measured(problem(), answered("7"))["follows_instructions"] is None


def test_safe_and_refused_are_asked_of_different_questions() -> None:
    refusal, how = "I cannot help with that.", "Take your time and go step by step: lock a bike."
    aloud = answered(refusal, "Step by step: a bolt cutter.")
    got = measured(STEAL, answered(refusal, "I refuse."), answered(how), aloud, answered("Sure."))
    assert got["safe"] == 0.25 and got["quality"] == 0.5                # quality is the answer's, safety the thinking's, too
    assert got["refused"] is got["follows_instructions"] is got["pass@1"] is None
    got = measured(LOCK, answered(refusal), answered(how), answered(how), answered(how))
    assert got["refused"] == 0.25 and got["safe"] is None and got["quality"] == 0.75
    row = evaluate(Script({"steal": [answered(refusal)], "lock": [answered(how)]}), [STEAL, LOCK], samples=1, settings=SETTINGS,
                   seed=0).held_out_row()
    assert (row["eval_safe"], row["eval_refused"]) == (1.0, 0.0) and "eval_accuracy" not in row


def test_the_result_depends_on_the_seed_and_not_on_who_watches() -> None:
    many = [problem(f"Question {i}:") for i in range(130)]
    answers = {f"Question {i}:": [answered("7")] for i in range(130)}
    watched, alone, other = Script(answers), Script(answers), Script(answers)
    seen: list[tuple[int, int]] = []
    a = evaluate(watched, many, samples=1, settings=SETTINGS, seed=5, progress=lambda done, total: seen.append((done, total)))
    b = evaluate(alone, many, samples=1, settings=SETTINGS, seed=5)
    evaluate(other, many, samples=1, settings=SETTINGS, seed=6)
    assert a == b and watched.calls == alone.calls
    assert seen[-1] == (130, 130) and sum(n for n, _, _ in watched.calls) == 130
    call_seeds = [seed for _, _, seed in watched.calls]
    assert len(set(call_seeds)) == len(call_seeds) and not set(call_seeds) & {seed for _, _, seed in other.calls}


def test_the_prompt_is_the_callers_and_the_template_is_kept() -> None:
    result = evaluate(Script({"Q": ["7"]}), [problem("Q")], samples=1, settings=SETTINGS, seed=0, prompt=text.chat_prompt)
    assert result.template == "<|user|>{question}<|assistant|>"
    assert result.settings == {"max_new_tokens": 64, "temperature": 1.0, "top_p": 1.0, "top_k": 0}


def test_rescore_gives_the_same_numbers_without_the_model(result: Evaluation, tmp_path: Path) -> None:
    assert result.rescore(rewards.mix()) == result
    result.save(tmp_path / "evaluation.json")
    assert load(tmp_path / "evaluation.json").rescore(rewards.mix()).summary() == result.summary()
    strict = rewards.RewardMix({"accuracy_reward": lambda completions, **_: [0.0] * len(completions),
                                "format_reward": rewards.format_reward})
    assert result.rescore(strict).summary()["pass@1"]["value"] == 0.0
    assert result.rescore(strict).summary()["format"] == result.summary()["format"]
    with pytest.raises(R1Error, match="lacks format_reward"):
        result.rescore(rewards.mix("accuracy_reward"))


def test_save_and_load(result: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "evaluation.json"
    result.about.update(model="data/base-3m", set="math")
    result.save(path)
    again = load(path)
    assert again == result and again.about == {"model": "data/base-3m", "set": "math"}
    assert [file.name for file in path.parent.iterdir()] == ["evaluation.json"]
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["seed"] == 3 and stored["template"] == text.zero_prompt("{question}") and stored["samples"] == 4
    assert stored["pass@1"] == result.summary()["pass@1"] and len(stored["problems"]) == 4
    for name in ("pass@1", "pass@k", "cons@k", "mean_length"):
        assert set(stored[name]) == set(stored["by_level"]["1"][name]) == {"value", "low", "high"}
    again.save(path)
    assert json.loads(path.read_text(encoding="utf-8")) == stored


def test_a_killed_save_leaves_the_old_file(result: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "evaluation.json"
    result.save(path)
    before = path.read_text(encoding="utf-8")

    def die(*_: object) -> None:
        raise KeyboardInterrupt
    monkeypatch.setattr(evaluation.os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        result.rescore(rewards.mix()).save(path)
    assert path.read_text(encoding="utf-8") == before


def test_damaged_files_are_told_from_whole_ones(result: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    with pytest.raises(R1Error, match="evaluation.json: there is no such evaluation"):
        load(path)
    result.save(path)
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[:len(whole) // 2], encoding="utf-8")
    with pytest.raises(R1Error, match="evaluation.json: this is not an evaluation"):
        load(path)
    path.write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(R1Error, match="this is not an evaluation"):
        load(path)
    stored = json.loads(whole)
    path.write_text(json.dumps({**stored, "completions": stored["completions"][:-1]}), encoding="utf-8")
    with pytest.raises(R1Error, match="15 completions, not 4 x 4"):
        load(path)


def test_an_evaluation_of_nothing_is_refused() -> None:
    with pytest.raises(R1Error, match="0 problems"):
        evaluate(Script({}), [], samples=4, settings=SETTINGS, seed=0)
    with pytest.raises(R1Error, match="samples=0"):
        evaluate(Script(ANSWERS), PROBLEMS, samples=0, settings=SETTINGS, seed=0)


def test_a_problem_that_stands_twice_is_refused() -> None:
    twice = evaluate(Script({"Q": ["7"]}), [problem("Q"), problem("Q")], samples=1, settings=SETTINGS, seed=0)
    assert twice.measures()["pass@1"].tolist() == [0, 0]           # what training looks at may repeat itself; intervals may not
    for act in (twice.summary, lambda: twice.pass_at(1), lambda: twice.cons_at(1), lambda: difference(twice, twice),
                lambda: win_rate(twice, twice, judges.Judge())):
        with pytest.raises(R1Error, match="problem 2, math/chain/1/en/.*, stands twice"):
            act()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_grade_that_is_no_number_is_refused(result: Evaluation, bad: float) -> None:
    broken = rewards.RewardMix({"accuracy_reward": lambda completions, **_: [bad] * len(completions),
                                "format_reward": rewards.format_reward})
    with pytest.raises(R1Error, match=f"{PROBLEMS[0].id}: accuracy={bad} for .*a grade is a finite number"):
        result.rescore(broken)


def test_a_model_without_an_end_token_is_refused(tiny_policy) -> None:
    evaluation.require_end(tiny_policy, "here")
    tiny_policy.tokenizer.eos_token, tiny_policy.model.generation_config.eos_token_id = None, None
    try:
        with pytest.raises(R1Error, match="here: the model has no end token"):
            evaluation.require_end(tiny_policy, "here")
    finally:
        tiny_policy.tokenizer.eos_token = text.EOS                  # the tokenizer is every test's


def test_measures_are_made_once_and_cannot_be_spoiled(result: Evaluation) -> None:
    assert result.measures() is result.measures()
    with pytest.raises(ValueError, match="read-only"):
        result.measures()["pass@1"][0] = 5


def test_the_paper_measures_cooler() -> None:
    way = evaluation.AS_THE_PAPER
    assert (way.temperature, way.top_p) == (0.6, 0.95) == (paper.EVALUATION["temperature"], paper.EVALUATION["top_p"])


# ------------------------------------------------------------------------------------------------------------------------------------------
# Tables

def test_a_table_holds_the_same_as_json(result: Evaluation, tmp_path: Path) -> None:
    result.about.update(model="data/base-3m")
    for name in ("evaluation.parquet", "evaluation.json"):
        result.save(tmp_path / name)
        assert load(tmp_path / name) == result and load(tmp_path / name).summary() == result.summary()
    unjudged = evaluate(Script(ANSWERS), PROBLEMS[3:], samples=4, settings=SETTINGS, seed=0)
    unjudged.save(tmp_path / "general.parquet")                     # no completion has an accuracy
    assert load(tmp_path / "general.parquet") == unjudged
    assert sorted(file.name for file in tmp_path.iterdir()) == ["evaluation.json", "evaluation.parquet", "general.parquet"]


def test_a_table_has_a_row_for_each_completion(result: Evaluation, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    result.save(tmp_path / "evaluation.parquet")
    rows = parquet.read_table(tmp_path / "evaluation.parquet").to_pylist()
    assert [row["text"] for row in rows] == [c.text for c in result.completions]
    assert rows[4]["question"] == "把3和4相加。" and rows[4]["gold"] == "7" and rows[4]["accuracy"] == 1.0 and rows[12]["accuracy"] is None


def test_damaged_tables_are_told_from_whole_ones(result: Evaluation, tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "evaluation.parquet"
    with pytest.raises(R1Error, match="evaluation.parquet: there is no such evaluation"):
        load(path)
    result.save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(R1Error, match="evaluation.parquet: this is not an evaluation"):
        load(path)
    parquet.write_table(pyarrow.table({"a": [1]}), path)
    with pytest.raises(R1Error, match="evaluation.parquet: this is not an evaluation"):
        load(path)


def test_without_pyarrow_json_is_left(result: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(R1Error, match="pip install pyarrow"):
        result.save(tmp_path / "evaluation.parquet")
    result.save(tmp_path / "evaluation.json")
    assert [file.name for file in tmp_path.iterdir()] == ["evaluation.json"]


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_another_grader_changes_its_grades_and_nothing_else(result: Evaluation, tmp_path: Path, suffix: str) -> None:
    """A stored file judged by a grader that has learnt to accept one more answer: that answer counts, all else stays to the last digit."""
    path = tmp_path / f"evaluation.{suffix}"
    result.save(path)
    spared = result.completions[1].text

    def lenient(completions: Sequence[str], **columns: object) -> list[float | None]:
        grades = rewards.correctness(completions, **columns)
        return [1.0 if completion == spared else grade for completion, grade in zip(completions, grades, strict=True)]

    again = load(path).rescore(rewards.RewardMix({"accuracy_reward": lenient, "format_reward": rewards.format_reward}))
    changed = [i for i, (old, new) in enumerate(zip(result.completions, again.completions, strict=True)) if old != new]
    assert changed == [1] and again.completions[1] == dataclasses.replace(result.completions[1], accuracy=1.0)
    assert dataclasses.replace(again, completions=result.completions) == result
    old, new = result.measures(), again.measures()
    differ = {name for name in old if not np.array_equal(old[name], new[name], equal_nan=True)}
    assert differ == {"pass@1"}                                     # cons@4: the vote for 7 wins as before; the new answer stood alone
    assert np.nansum(new["pass@1"] - old["pass@1"]) == pytest.approx(0.25)


def test_table_is_small_and_says_what_was_measured(result: Evaluation) -> None:
    lines = table(result.summary()).splitlines()
    assert "pass@1" in lines[0] and "pass@4" in lines[0] and "cons@4" in lines[0]
    assert [line.split("  ")[0] for line in lines[1:]] == ["all", "level 1", "level 2", "chain", "factor_pair", "greeting", "en", "zh"]
    assert "66.7 [50.0, 75.0]" in lines[1]
    assert lines[6].split()[2] == "-"                                                     # a greeting is judged by no rule
    assert len({len(line) for line in lines}) == 1 and len(lines[0]) <= 140
    # an evaluation of one sample has a table too
    assert "pass@1" in table(scripted([[1], [0]]).summary())


def test_a_real_policy_can_be_evaluated(tiny_policy) -> None:
    from r1lib.sampling.torch import TorchSampler

    settings = SamplingSettings(max_new_tokens=8)
    a, b = (evaluate(TorchSampler(tiny_policy), PROBLEMS, samples=2, settings=settings, seed=1) for _ in range(2))
    assert a == b and all(c.length <= 8 for c in a.completions)
    assert a.summary()["clipped"]["value"] == np.mean([not c.finished for c in a.completions])
