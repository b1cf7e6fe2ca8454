"""Rule-based rewards (paper section 2.2.2) in TRL's signature: `reward(completions, **columns) -> [float | None, ...]`.

Completions are strings or conversations, columns are lists as long as they, and None says that a reward does not apply to a row. So every
reward here works in TRL's GRPOTrainer, and every reward written for TRL works here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from r1lib import text
from r1lib.errors import R1Error
from r1lib.rewards import accuracy

Completion = str | Sequence[Mapping[str, str]]
Reward = Callable[..., list[float | None]]


def content(completion: Completion) -> str:
    """The text of a completion, which TRL passes as a string or as a conversation of one message."""
    return completion if isinstance(completion, str) else completion[0]["content"]


def accuracy_reward(completions: Sequence[Completion], solution: Sequence[str], answer_type: Sequence[str] | None = None,
                    **_: Any) -> list[float | None]:
    """1 for a right answer, 0 for a wrong or a missing one, None where no rule can judge. Without `answer_type`, answers are numbers."""
    types = answer_type or ["number"] * len(completions)
    rewards: list[float | None] = []
    for completion, gold, kind in zip(completions, solution, types, strict=True):
        answer = text.parse(content(completion)).answer
        verdict = accuracy.right(kind, gold=gold, answer=answer or "")
        rewards.append(None if verdict is None else float(verdict))
    return rewards


def format_reward(completions: Sequence[Completion], **_: Any) -> list[float | None]:
    """1 for `<think> ... </think> <answer> ... </answer>` and nothing else, 0 otherwise."""
    return [float(text.parse(content(completion)).well_formed) for completion in completions]


REWARDS: dict[str, Reward] = {"accuracy_reward": accuracy_reward, "format_reward": format_reward}


@dataclass(frozen=True)
class Rewards:
    """What a batch of completions earned. total: [n]; parts: name -> [n], with None where a reward did not apply."""

    total: list[float]
    parts: dict[str, list[float | None]]


@dataclass(frozen=True)
class RewardMix:
    """Several rewards as one.

    combine: "sum" adds them, weighted (the paper, eq. 4: accuracy + format with the same weight); "gated" multiplies them, so that no part
        pays without the others. A part that does not apply to a row is left out of it.
    """

    parts: Mapping[str, Reward]
    weights: Mapping[str, float] = field(default_factory=dict)
    combine: Literal["sum", "gated"] = "sum"

    def __post_init__(self) -> None:
        if self.combine not in ("sum", "gated"):
            raise R1Error(f"combine={self.combine!r} is not known: rewards are combined by 'sum' or 'gated'.")
        if unknown := [name for name in self.weights if name not in self.parts]:
            raise R1Error(f"weights name {unknown[0]!r}, which is no part of this mix: its parts are {', '.join(self.parts)}.")

    def __call__(self, completions: Sequence[Completion], columns: Mapping[str, list[Any]]) -> Rewards:
        parts = {name: reward(completions, **columns) for name, reward in self.parts.items()}
        for name, values in parts.items():
            if len(values) != len(completions):
                raise R1Error(f"reward {name!r} gave {len(values)} values for {len(completions)} completions: it must give one each.")
        total = []
        for row in zip(*parts.values(), strict=True):
            weighted = [self.weights.get(name, 1.0) * value for name, value in zip(parts, row, strict=True) if value is not None]
            product = 1.0
            for value in weighted:
                product *= value
            total.append(sum(weighted, 0.0) if self.combine == "sum" else product if weighted else 0.0)
        return Rewards(total, parts)


def mix(*names: str, combine: Literal["sum", "gated"] = "sum", weights: Mapping[str, float] | None = None) -> RewardMix:
    """A mix of registered rewards by name; without names, R1-Zero's: accuracy + format."""
    names = names or ("accuracy_reward", "format_reward")
    if unknown := [name for name in names if name not in REWARDS]:
        raise R1Error(f"reward {unknown[0]!r} is not known: choose from {', '.join(REWARDS)}.")
    return RewardMix({name: REWARDS[name] for name in names}, weights or {}, combine)
