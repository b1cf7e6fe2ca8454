"""Problems of reasoning-gym: which are taken, how they are split and judged. A stand-in for the package draws them, and the package where
it is installed."""

import importlib.util
import random
import sys
import types
from typing import Any

import pytest

from r1lib.errors import R1Error
from r1lib.rewards import accuracy
from r1lib.tasks import reasoning_gym
from r1lib.tasks.benchmarks import Mixture


class Drawn:
    """A data set as reasoning-gym's: item i is made by Random(seed + i). Its scorer must never be asked."""

    def __init__(self, name: str, seed: int, size: int, largest: int = 10**6) -> None:
        if largest < 1:
            raise AssertionError("largest must be positive")
        self.name, self.seed, self.size, self.largest = name, seed, size, largest

    def __getitem__(self, place: int) -> dict[str, Any]:
        if place >= self.size:
            raise IndexError(place)
        rng = random.Random(self.seed + place)
        a, b = rng.randint(1, self.largest), rng.randint(1, self.largest)
        question = f" {a} and {b}? " if self.name == "countdown" else f"What is {a} + {b}? "
        return {"question": question, "answer": f" {a + b}", "metadata": {"numbers": [a, b], "target": a + b}}

    def score_answer(self, *_: Any) -> float:
        raise AssertionError("a scorer of reasoning-gym was asked")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Puts the stand-in in the package's place; returns (generator, seed) of each data set that is made."""
    asked: list[tuple[str, int]] = []

    def create_dataset(name: str, *, seed: int, size: int, **settings: Any) -> Drawn:
        asked.append((name, seed))
        return Drawn(name, seed, size, **settings)

    monkeypatch.setitem(sys.modules, "reasoning_gym", types.SimpleNamespace(create_dataset=create_dataset))
    return asked


def test_as_many_different_questions_as_asked_for_the_same_for_a_seed(stand_in: list) -> None:
    made = reasoning_gym.problems("chain_sum", 50, seed=3, largest=20)
    assert len({problem.question for problem in made}) == 50 and made == reasoning_gym.problems("chain_sum", 50, seed=3, largest=20)
    assert {(problem.domain, problem.kind, problem.answer_type) for problem in made} == {("math", "gym_chain_sum", "number")}
    assert all(problem.question == problem.question.strip() for problem in made)


def test_what_is_trained_on_is_never_evaluated_on_whatever_the_seed(stand_in: list) -> None:
    train = {problem.question for seed in (0, 1) for problem in reasoning_gym.problems("products", 60, seed=seed, largest=14)}
    held_out = {problem.question for seed in (0, 2)
                for problem in reasoning_gym.problems("products", 8, seed=seed, split="eval", largest=14)}
    assert len(train) > 60 and len(held_out) >= 8 and not train & held_out


def test_neighbouring_seeds_begin_far_apart(stand_in: list) -> None:
    for seed in range(6):
        reasoning_gym.problems("gcd", 10, seed=seed)
    reasoning_gym.problems("lcm", 10, seed=0)
    begins = sorted(begin for _, begin in stand_in)
    assert len(begins) == 7 and min(b - a for a, b in zip(begins, begins[1:], strict=False)) > 10_000


def test_our_own_rules_judge(stand_in: list) -> None:
    (problem,) = reasoning_gym.problems("chain_sum", 1, seed=0)
    assert accuracy.right(problem.answer_type, gold=problem.gold, answer=f"\\boxed{{{problem.gold}.0}}")
    assert not accuracy.right(problem.answer_type, gold=problem.gold, answer=f"1{problem.gold}")          # for which a part is paid there
    (problem,) = reasoning_gym.problems("countdown", 1, seed=0, largest=99)
    a, b = problem.gold.split(" from ")[1].split(" with ")[0].split()
    assert accuracy.right(problem.answer_type, gold=problem.gold, answer=f"{a} + {b}")
    assert not accuracy.right(problem.answer_type, gold=problem.gold, answer=f"__import__('os').system('true') or {a}+{b}")


def test_they_mix_with_others(stand_in: list) -> None:
    sources = {name: reasoning_gym.problems(name, 20, seed=0) for name in ("chain_sum", "gcd")}
    batch = Mixture(sources, weights={"chain_sum": 3}, seed=0).batch(0, 40)
    kinds = [problem.kind for problem in batch]
    assert kinds.count("gym_chain_sum") == 30 and kinds.count("gym_gcd") == 10


@pytest.mark.parametrize(("arguments", "settings", "message"), [
    (("spell_backward", 5), {}, "'spell_backward' is not offered.*chain_sum"),
    (("chain_sum", 5), {"smallest": 3}, "chain_sum does not take {'smallest': 3}"),
    (("chain_sum", 5), {"largest": 0}, "largest must be positive"),
    (("chain_sum", 30), {"largest": 2}, "gave [0-4] different questions for train in 1200 draws, but 30 were asked for"),
])
def test_what_cannot_be_drawn_is_said(stand_in: list, arguments: tuple, settings: dict, message: str) -> None:
    with pytest.raises(R1Error, match=message):
        reasoning_gym.problems(*arguments, seed=0, **settings)


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(R1Error, match="pip install reasoning-gym"):
        reasoning_gym.problems("chain_sum", 5, seed=0)


@pytest.mark.skipif(importlib.util.find_spec("reasoning_gym") is None, reason="reasoning-gym is not installed")
@pytest.mark.parametrize("generator", reasoning_gym.GENERATORS)
def test_the_package_itself(generator: str) -> None:
    made = reasoning_gym.problems(generator, 20, seed=0)
    for problem in made:
        if problem.answer_type == "number":
            assert accuracy.right("number", gold=problem.gold, answer=problem.gold), problem
        assert accuracy.right(problem.answer_type, gold=problem.gold, answer="no idea") is False
