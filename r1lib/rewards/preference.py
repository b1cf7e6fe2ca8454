"""Rewards by reward models, for what no rule can judge: how helpful a summary is, how safe a whole response (Nature Methods, eq. 9).

    mix = RewardMix({"accuracy_reward": accuracy_reward, "helpful_reward": helpful(model), "safe_reward": safe(guard)})

A model here is anything that scores responses, such as `training.reward_model.RewardModel`. Its score s, which has no bounds and no unit,
becomes 1 / (1 + exp(-s)): so it weighs at most as much as the rules' rewards, which are 0 to 1, and there is ever less to gain from a
score far out, where a reward model knows least. Each question belongs to one of the two models, as in the paper; rows of others are None.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from r1lib import text
from r1lib.errors import R1Error
from r1lib.rewards.completion import Completion, Reward, content


class Scorer(Protocol):
    """What gives a response to a prompt a score: the higher, the better."""

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]: ...


def helpful(model: Scorer, *, answer_types: Sequence[str] = ("text",)) -> Reward:
    """A reward, 0 to 1, for the summary alone: the text in `<answer>`, as the paper wants the thinking left free.

    The model has to be trained on such texts (`summary`). A response in which no answer can be read earns 0, which no score falls below.
    answer_types: of the rows that it judges, by the column of that name; without the column, it judges all of them.
    """

    def helpful_reward(completions: Sequence[Completion], prompts: Sequence[Completion] | None = None,
                       answer_type: Sequence[str] | None = None, **_: Any) -> list[float | None]:
        read = [summary(content(completion)) for completion in completions]
        return _rewards(model, "helpful_reward", read, prompts, answer_type, answer_types)

    return helpful_reward


def safe(model: Scorer, *, answer_types: Sequence[str] = ("conduct",)) -> Reward:
    """A reward, 0 to 1, for the whole response, thinking and summary: what must not be written must not be thought aloud either.

    An empty response earns 0. answer_types as in `helpful`.
    """

    def safe_reward(completions: Sequence[Completion], prompts: Sequence[Completion] | None = None,
                    answer_type: Sequence[str] | None = None, **_: Any) -> list[float | None]:
        read = [content(completion).split(text.EOS, 1)[0] for completion in completions]
        return _rewards(model, "safe_reward", read, prompts, answer_type, answer_types)

    return safe_reward


def summary(completion: str) -> str | None:
    """What the helpful model reads of a completion: the text in `<answer>`, or None where it cannot be told or is empty."""
    return text.parse(completion).answer or None


def _rewards(model: Scorer, name: str, responses: Sequence[str | None], prompts: Sequence[Completion] | None,
             answer_type: Sequence[str] | None, judged: Sequence[str]) -> list[float | None]:
    """None for the rows of other judges, 0 for those without a response, and for the rest the model's scores, squashed.

    `R1Error`: no prompts, too few of them, or a score that is not a finite number.
    """
    if prompts is None:
        raise R1Error(f"{name} needs the column prompts, to which the completions respond, as trainers pass it: give it here too.")
    ours = [answer_type is None or answer_type[row] in judged for row in range(len(responses))]
    rewards: list[float | None] = [0.0 if mine else None for mine in ours]
    rows = [row for row, mine in enumerate(ours) if mine and (responses[row] or "").strip()]
    if len(prompts) != len(responses):
        raise R1Error(f"{name}: {len(prompts)} prompts for {len(responses)} completions, but there must be one each.")
    scores = model.score([_prompt(prompts[row]) for row in rows], [responses[row] for row in rows])
    for row, score in zip(rows, scores, strict=True):
        if not math.isfinite(score):
            raise R1Error(f"row {row}: {name}'s model gave the score {score}: train it again, or with a smaller learning_rate.")
        rewards[row] = _sigmoid(score)
    return rewards


def _sigmoid(score: float) -> float:
    """1 / (1 + exp(-score)), without an overflow far from 0."""
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))


def _prompt(prompt: Completion) -> str:
    """A prompt's text: as it is, or a conversation's user message in the chat format."""
    if isinstance(prompt, str):
        return prompt
    if [message.get("role") for message in prompt] != ["user"]:
        raise R1Error(f"a prompt has messages of the roles {[message.get('role') for message in prompt]}, but a reward model reads one of "
                      "the user's: pass the prompt as text.")
    return text.chat_prompt(content(prompt))
