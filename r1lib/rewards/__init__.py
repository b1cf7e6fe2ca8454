"""Rule-based rewards (paper section 2.2.2) in TRL's signature: `reward(completions, **columns) -> [float | None, ...]`.

Completions are strings or conversations, columns are lists as long as they, and None says that a reward does not apply to a row. So every
reward here works in TRL's GRPOTrainer, and every reward written for TRL works here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from r1lib.errors import R1Error
from r1lib.rewards.accuracy import accuracy_reward
from r1lib.rewards.code import code_reward
from r1lib.rewards.completion import Completion, Reward, content
from r1lib.rewards.format import format_reward
from r1lib.rewards.language import language_consistency, language_consistency_reward
from r1lib.rewards.length import cosine_length, repetition_penalty, repetition_penalty_reward, soft_overlong
from r1lib.rewards.mathematics import grade

__all__ = ["REWARDS", "WITH_SETTINGS", "Completion", "Reward", "RewardMix", "Rewards", "accuracy_reward", "code_reward", "content",
           "correctness", "cosine_length", "format_reward", "grade", "language_consistency", "language_consistency_reward", "mix",
           "repetition_penalty", "repetition_penalty_reward", "soft_overlong"]

REWARDS: dict[str, Reward] = {reward.__name__: reward for reward in (
    accuracy_reward, code_reward, format_reward, language_consistency_reward, repetition_penalty_reward)}
# Rewards that mean nothing without a length; the others may be given settings, too.
WITH_SETTINGS: dict[str, Callable[..., Reward]] = {
    "soft_overlong_punishment": soft_overlong, "cosine_length_reward": lambda **settings: cosine_length(correctness, **settings),
    "repetition_penalty_reward": repetition_penalty, "language_consistency_reward": language_consistency}
_BELOW_ZERO = ("repetition_penalty_reward", "soft_overlong_punishment", "cosine_length_reward")


def correctness(completions: Sequence[Completion], **columns: Any) -> list[float | None]:
    """Whether each completion solves its problem, by rule or by tests, whichever judges it; None where neither does."""
    rewards = accuracy_reward(completions, **columns)
    if any(columns.get("tests") or ()):
        tested = code_reward(completions, **columns)
        rewards = [by_tests if by_rule is None else by_rule for by_rule, by_tests in zip(rewards, tested, strict=True)]
    return rewards


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
        parts = {name: reward(completions=completions, **columns) for name, reward in self.parts.items()}
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


def mix(*names: str, combine: Literal["sum", "gated"] = "sum", weights: Mapping[str, float] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None) -> RewardMix:
    """A mix of rewards by name; without names, R1-Zero's: accuracy + format. settings: name -> those of its factory in WITH_SETTINGS."""
    names, settings = names or ("accuracy_reward", "format_reward"), settings or {}
    known = [*REWARDS, *(name for name in WITH_SETTINGS if name not in REWARDS)]
    if unknown := [name for name in (*names, *settings) if name not in known]:
        raise R1Error(f"reward {unknown[0]!r} is not known: choose from {', '.join(known)}.")
    if combine == "gated" and (penalties := [name for name in names if name in _BELOW_ZERO]):
        raise R1Error(f"reward {penalties[0]!r} is 0 at its best or falls below, so a product with it pays nothing: use combine='sum'.")
    if plain := [name for name in settings if name not in WITH_SETTINGS]:
        raise R1Error(f"reward {plain[0]!r} has no settings: only {', '.join(WITH_SETTINGS)} have.")
    return RewardMix({name: _made(name, settings.get(name)) for name in names}, weights or {}, combine)


def _made(name: str, settings: Mapping[str, Any] | None) -> Reward:
    """The registered reward, or one made with these settings."""
    if settings is None and name in REWARDS:
        return REWARDS[name]
    try:
        return WITH_SETTINGS[name](**(settings or {}))
    except TypeError as error:
        raise R1Error(f"reward {name!r} with settings {dict(settings or {})}: {error}.") from None
