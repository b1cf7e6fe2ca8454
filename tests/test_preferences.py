"""Pairs and labels for reward models: the better answer is chosen, order and noise average out, and length gives nothing away."""

import re
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lib import seeds, tasks, text
from r1lib.curation import preferences
from r1lib.curation.judges import Grade, Judge, quality
from r1lib.curation.preferences import Labelled, Pair, gap, labelled, pairs
from r1lib.errors import R1Error
from r1lib.sampling import Rollout
from r1lib.tasks import KINDS, Problem, safety
from r1lib.tasks.corpus import tagged


def rollout(index: int, written: str) -> Rollout:
    return Rollout(index, [], [], [], written, True)


def some(kind: str, count: int = 1, language: str = "en") -> list[Problem]:
    rng = seeds.rng("preferences", kind)
    return [tasks.draw(KINDS[kind], rng, 1, language, "train") for _ in range(count)]


class Recorder:
    """A judge that always gives the same verdict and keeps what it was asked."""

    def __init__(self, grade: Grade) -> None:
        self.grade, self.asked = grade, []

    def verdict(self, problem: Problem, one: str, other: str, *, draw: int = 0) -> Grade:
        self.asked.append((one, other, draw))
        return self.grade


def test_the_order_is_turned_in_every_second_asking():
    judge, (problem,) = Recorder("A>>B"), some("fact")
    assert gap(judge, problem, "x", "y") == 0                                # who always prefers what stands first says nothing
    assert judge.asked == [("x", "y", 0), ("y", "x", 1), ("x", "y", 2), ("y", "x", 3)]
    assert gap(judge, problem, "x", "y", askings=1) == 2
    with pytest.raises(R1Error, match="askings=0"):
        gap(judge, problem, "x", "y", askings=0)


def test_a_bias_for_the_place_cancels_out():
    (problem,) = some("fact")
    assert gap(Judge(position_bias=0.4), problem, problem.gold, problem.gold) == 0
    assert gap(Judge(position_bias=0.4), problem, problem.gold, "It is not so.") == 2
    assert gap(Judge(), problem, problem.gold, "It is not so.") == -gap(Judge(), problem, "It is not so.", problem.gold) == 2


def test_four_askings_are_more_reliable_than_one():
    (problem,) = some("greeting")
    name = problem.question.split()[-1].rstrip(".")

    def mistaken(askings: int) -> int:
        return sum(gap(Judge(noise=0.6, seed=seed), problem, f"Hello, {name}!", "Hello!", askings=askings) <= 0 for seed in range(200))

    assert mistaken(4) < mistaken(1)


def answered(problem: Problem) -> list[str]:
    """A good answer, a bad one as long as it, and an unreadable one."""
    return [tagged("I think.", problem.gold), tagged("I think.", re.sub(r"[a-z]", "x", problem.gold)), "no tags"]


def test_pairs_hold_the_better_answer_first():
    problems = some("fact", 12)
    rollouts = [rollout(index, written) for index, problem in enumerate(problems) for written in answered(problem)]
    found = pairs(problems, rollouts, Judge(noise=0.1))
    assert len(found) == 12
    for pair, problem in zip(found, problems, strict=True):
        assert pair.prompt == text.chat_prompt(problem.question)
        assert pair.chosen == problem.gold and pair.gap > 1
        assert quality(problem, pair.chosen) > quality(problem, pair.rejected)
    assert found == pairs(problems, rollouts, Judge(noise=0.1)) == pairs(problems, rollouts[:3][::-1] + rollouts[3:], Judge(noise=0.1))


def test_no_clear_winner_is_no_pair():
    (problem,) = some("fact")
    rollouts = [rollout(0, tagged("I think.", problem.gold)), rollout(0, tagged("I think.", problem.gold.rstrip(".")))]
    with pytest.raises(R1Error, match="no pair is left: 1 problems, 1 pairs judged, 0 with a gap above 1.0"):
        pairs([problem], rollouts, Judge())
    assert len(pairs([problem], rollouts, Judge(), least_gap=0.5, length=lambda answer: 1)) == 1
    with pytest.raises(R1Error, match="0 pairs judged"):
        pairs([problem], rollouts[:1], Judge())
    with pytest.raises(R1Error, match="per_problem=0"):
        pairs([problem], rollouts, Judge(), per_problem=0)
    with pytest.raises(R1Error, match="sample 0 answers problem 5"):
        pairs([problem], [rollout(5, "?")], Judge())


def made(lengths: list[tuple[int, int]]) -> list[Pair]:
    return [Pair(f"{i}", "c" * chosen, "r" * rejected, 2.0) for i, (chosen, rejected) in enumerate(lengths)]


def means(found: list[Pair]) -> tuple[float, float]:
    return statistics.mean(len(pair.chosen) for pair in found), statistics.mean(len(pair.rejected) for pair in found)


def test_lengths_are_balanced_over_the_set():
    rng = seeds.rng("lengths")
    lengths = [(rng.randint(20, 90), rng.randint(10, 60)) for _ in range(300)]
    found = made(lengths)
    kept = preferences._balanced(found, len)
    chosen, rejected = means(kept)
    assert abs(chosen - rejected) <= 0.05 * max(chosen, rejected)
    assert len(kept) > 150 and kept == [pair for pair in found if pair in kept]
    assert preferences._balanced(kept, len) == kept


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=12))
def test_any_set_ends_balanced(lengths):
    kept = preferences._balanced(made(lengths), len)
    if kept:
        chosen, rejected = means(kept)
        assert abs(chosen - rejected) <= 0.05 * max(chosen, rejected) + 1e-9


def test_labels():
    problems = [*some("harmful"), *some("harmless")]
    refusal, helped = safety.REFUSAL[0], "Take your time, use the right tools and go step by step."
    samples = [tagged("I refuse.", refusal), tagged("I help.", helped), tagged(helped, refusal), refusal, tagged("I refuse.", refusal)]
    rows = labelled(problems, [rollout(index, written) for index in (0, 1) for written in samples])
    assert rows[0] == Labelled(text.chat_prompt(problems[0].question), samples[0], True)
    assert [row.good for row in rows] == [True, False, False, True, True, True, True, True]


def test_what_cannot_be_labelled():
    with pytest.raises(R1Error, match="sample 0: general/fact/.*not about conduct"):
        labelled(some("fact"), [rollout(0, "?")])
    with pytest.raises(R1Error, match="1 labelled answers, all of one label"):
        labelled(some("harmless"), [rollout(0, "?")])
    with pytest.raises(R1Error, match="sample 0 answers problem 5"):
        labelled(some("harmful"), [rollout(5, "?")])
