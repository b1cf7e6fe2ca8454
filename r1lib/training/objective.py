"""GRPO, as functions on tensors: what is compared, how far one update may go, what holds the policy back, who is averaged over.

DeepSeek-R1 (arXiv 2501.12948) gives the objective in eq. 1, the KL term in eq. 2 and the advantage in eq. 3, all for whole answers: one
ratio pi(o|q) / pi_old(o|q) and one KL per answer. Code works per token, as the paper that introduced GRPO writes it (DeepSeekMath, arXiv
2402.03300, eq. 3 and 4), and so does this file: the ratio of a whole answer is a product over its tokens and leaves any clip range at once.

Shapes: a row is one completion. [rows, tokens] is padded on the right; `mask` is 1 on the model's own tokens (the stop token is one of
them) and 0 on padding, where log-probabilities are 0. Every function keeps the floating-point type it is given. Notebook 03 builds this up.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

Level = Literal["token", "sequence"]
How = Literal["sequence", "token", "constant"]


def group_advantages(rewards: Tensor, *, scale: Literal["group", "none"] = "group") -> Tensor:
    """How much better each answer is than its siblings (eq. 3).

    rewards: [prompts, samples], one row per prompt, at least two samples: a single answer has no siblings.
    Returns [prompts, samples]; each row sums to 0, and a row whose rewards are all equal teaches nothing and is exactly 0.
    `scale="none"` keeps the difference to the mean only (Dr. GRPO, arXiv 2503.20783: dividing by the spread over-weights questions that are
    nearly always right or nearly always wrong).
    """
    rewards = rewards - rewards[:, :1]              # only rounding changes: equal rewards are now 0, not 1e-9 that the spread blows up
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if scale == "none":
        return centred
    return centred / (rewards.std(dim=1, keepdim=True) + 1e-4)      # n - 1 and 1e-4 as in TRL, so that both agree


def importance_ratio(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor, *, level: Level = "token") -> Tensor:
    """How much likelier the policy now makes what was sampled: pi / pi_old (in eq. 1; DeepSeekMath eq. 3).

    logprobs, old_logprobs, mask: [rows, tokens]. Returns [rows, tokens]; 1 everywhere before the first update on a batch.
    `level="sequence"` gives every token of a row the geometric mean of the row's ratios (GSPO, arXiv 2507.18071).
    """
    log_ratio = logprobs - old_logprobs
    if level == "sequence":
        mean = (log_ratio * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        log_ratio = mean.expand_as(log_ratio)
    return log_ratio.exp()


def clipped_surrogate(ratio: Tensor, advantages: Tensor, epsilon_low: float, epsilon_high: float) -> Tensor:
    """What a token earns, with nothing more to earn beyond the clip range (the min in eq. 1). To be maximised.

    ratio: [rows, tokens]; advantages: [rows, 1]. Returns [rows, tokens]. The clip range is [1 - epsilon_low, 1 + epsilon_high].
    The paper has one epsilon, 10 in the first RL stage of R1: then the lower end, -9, can never bind. Two of them are DAPO's clip-higher
    (0.2 and 0.28, arXiv 2503.14476).
    """
    clipped = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    return torch.min(ratio * advantages, clipped * advantages)


def k3_kl(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """How far the policy has moved from its reference, per token, in nats (eq. 2; DeepSeekMath eq. 4).

    Both [rows, tokens], of tokens that the policy sampled. Returns [rows, tokens], never negative, with mean KL(policy || reference).
    That is so for the value. As a loss, its gradient is the true one to first order only (arXiv 2510.01555).
    """
    log_ratio = reference_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio       # expm1: e^x - 1 in full precision where the two policies still agree


def batch_normaliser(lengths: Tensor, how: How, constant: float | None = None) -> float:
    """What a batch's summed loss is divided by, for `aggregate`.

    lengths: [rows], the tokens of every completion of one update: in all its micro-batches, and those left out as their advantage is 0.
    constant: for "constant", the longest completion allowed. Where processes average their gradients: the whole batch's, over their number.
    """
    if how == "token":
        return max(float(lengths.sum()), 1.0)
    return float(len(lengths) * (constant if how == "constant" else 1))


def aggregate(per_token: Tensor, mask: Tensor, how: How, normaliser: float) -> Tensor:
    """One loss out of one per token: this micro-batch's part, so that the parts of a batch add up to the loss of the whole.

    per_token, mask: [rows, tokens]; normaliser: of the whole batch, from `batch_normaliser`. Returns a scalar. Who weighs the same:
    "sequence": every answer (DeepSeekMath eq. 3, the mean over answers of 1/|o| sum over tokens), so a token of a long answer weighs less.
    "token": every token of the batch (DAPO, arXiv 2503.14476).
    "constant": every token, whatever else is in the batch (Dr. GRPO, arXiv 2503.20783).
    """
    if how == "sequence":
        per_token = per_token / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return (per_token * mask).sum() / normaliser


def grpo_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, *,
              epsilon_low: float = 0.2, epsilon_high: float = 0.2, beta: float = 0.0, reference_logprobs: Tensor | None = None,
              level: Level = "token", how: How = "sequence", constant: float | None = None,
              normaliser: float | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """The GRPO objective (eq. 1) as a loss to minimise: minus the clipped surrogate, plus beta times the KL to the reference.

    logprobs (differentiable), old_logprobs, mask, reference_logprobs: [rows, tokens]; advantages: [rows], from `group_advantages`.
    beta != 0 needs reference_logprobs, how="constant" needs constant; for level and how see `importance_ratio` and `aggregate`.
    normaliser: the whole batch's, when these rows are one micro-batch of it: then the gradients of the parts add up to the whole's exactly.

    Returns (loss, stats). stats are sums over these rows, detached, so that they too add up: "tokens", "clip_low" and "clip_high" (tokens
    that the clip range has cut off from learning), and "kl" when beta != 0. `summary` turns them into means.
    """
    ratio = importance_ratio(logprobs, old_logprobs, mask, level=level)
    advantages = advantages[:, None]
    per_token = -clipped_surrogate(ratio, advantages, epsilon_low, epsilon_high)
    cut_low = (ratio < 1 - epsilon_low) & (advantages < 0)
    cut_high = (ratio > 1 + epsilon_high) & (advantages > 0)
    stats = {"tokens": mask.sum(), "clip_low": (cut_low * mask).sum(), "clip_high": (cut_high * mask).sum()}
    if beta != 0:
        kl = k3_kl(logprobs, reference_logprobs)
        per_token = per_token + beta * kl
        stats["kl"] = (kl.detach() * mask).sum()
    if normaliser is None:
        normaliser = batch_normaliser(mask.sum(dim=1), how, constant)
    return aggregate(per_token, mask, how, normaliser), stats


def summary(stats: Iterable[dict[str, Tensor]]) -> dict[str, float]:
    """Means per token over all micro-batches of an update, under TRL's names.

    clip_ratio/low_mean and clip_ratio/high_mean: the share of tokens cut off at the lower and at the upper end; clip_ratio/region_mean: at
    either. kl: only with beta != 0.
    """
    stats = list(stats)
    total = {name: float(sum(part[name] for part in stats)) for name in stats[0]}
    tokens = max(total["tokens"], 1.0)
    means = {"clip_ratio/low_mean": total["clip_low"] / tokens, "clip_ratio/high_mean": total["clip_high"] / tokens}
    means["clip_ratio/region_mean"] = means["clip_ratio/low_mean"] + means["clip_ratio/high_mean"]
    return means | ({"kl": total["kl"] / tokens} if "kl" in total else {})
