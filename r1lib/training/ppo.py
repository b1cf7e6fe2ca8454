"""PPO, to compare GRPO with (Nature supplement; v2 A.3): a second network foretells the reward, and its errors say what each token did.

GRPO compares an answer with its siblings. PPO (Schulman et al. 2017, arXiv 1707.06347) needs no siblings: its critic has learnt what can be
expected from each token on, and generalised advantage estimation (GAE, arXiv 1506.02438) blames or praises each token by how the
expectation moved behind it. The loop is GRPO's:

    grpo.train(policy, ..., recipe=(recipe := PPORecipe(gae_lambda=1.0)), learner=PPO(policy, recipe))

The price is a second network to store and to train, and lambda: the paper found 0.95, the usual value, far worse than GRPO, and 1 nearly
as good.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.rewards import Rewards
from r1lib.sampling import Rollout
from r1lib.seeds import rng
from r1lib.training import objective
from r1lib.training.forward import group_log_probabilities, pack
from r1lib.training.grpo import GRPORecipe
from r1lib.training.metrics import Row
from r1lib.training.reward_model import RewardModel
from r1lib.training.run import matrix_products_in, micro_batches, require_finite, sums_in_one_order


@dataclass(frozen=True)
class PPORecipe(GRPORecipe):
    """GRPO's settings, and those of the critic. advantage_scale, beta and reference_refresh have no meaning here."""

    TITLE: ClassVar[str] = "PPO recipe"

    gae_lambda: float = 1.0             # paper: 0.95 and 1 compared; with 1 a token is judged by the reward itself, below also by hopes
    critic_learning_rate: float = 5e-4  # paper: not said; that of our reward models, which are such networks
    critic_updates: int = 2             # paper: not said; passes of the critic over each share of the answers

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(whole=dict(critic_updates=1), above_zero=("critic_learning_rate",), not_below_zero=("gae_lambda",), one_of={})
        if self.gae_lambda > 1:
            raise R1Error(f"PPO recipe: gae_lambda={self.gae_lambda!r}, but it must be at most 1.")
        if self.beta:
            raise R1Error(f"PPO recipe: beta={self.beta!r}, but PPO is compared without a KL term here: set it to 0.")


def generalised_advantages(values: Tensor, rewards: Tensor, mask: Tensor, gae_lambda: float) -> tuple[Tensor, Tensor]:
    """How much better each token turned out than was expected (GAE, arXiv 1506.02438 eq. 16), with nothing discounted over time.

    values: [rows, tokens], what was expected before each token; rewards: [rows], earned with the last token; mask: [rows, tokens].
    Returns advantages and returns, [rows, tokens] each, 0 on padding: the sum over what follows of lambda^k times the change of
    expectation, and what the critic should have said. With lambda 1 an advantage is the reward minus the expectation.
    """
    rows, tokens = values.shape
    last = mask.sum(dim=1) - 1
    advantages, ahead, expected = torch.zeros_like(values), values.new_zeros(rows), values.new_zeros(rows)
    for token in reversed(range(tokens)):
        earned = torch.where(last == token, rewards, 0.0)
        ahead = (earned + expected - values[:, token] + gae_lambda * ahead) * mask[:, token]
        expected = values[:, token] * mask[:, token]
        advantages[:, token] = ahead
    return advantages, (advantages + values) * mask


class PPO:
    """A learner for `grpo.train`. The critic begins as a copy of the policy's trunk with a head of 0: it expects nothing.

    The critic is not part of a run's checkpoints, so a run that was stopped cannot go on: `R1Error`.
    """

    def __init__(self, policy: Policy, recipe: PPORecipe) -> None:
        self.critic = RewardModel.from_policy(policy).model
        self.optimizer = torch.optim.AdamW(self.critic.parameters(), lr=recipe.critic_learning_rate, betas=recipe.betas, fused=True)
        self.step = 0

    def compare(self, rewards: Rewards, recipe: PPORecipe) -> Tensor:
        """What each answer earned, [prompts, samples]: nothing is compared with its siblings."""
        return torch.tensor(rewards.total).view(-1, recipe.samples_per_prompt)

    def improve(self, policy: Policy, optimizer: torch.optim.Optimizer, rollouts: Sequence[Rollout], advantages: Tensor,
                recipe: PPORecipe, *, step: int, seed: int, reference: nn.Module | None = None) -> Row:
        """Learn from a batch: judge every token by the critic as it is, then move the policy and the critic.

        advantages: [prompts, samples], of `compare`: the rewards. Rows as of `grpo.improve`, with `critic/loss` and `critic/explained`, the
        share of the returns' variance that the critic foretold.
        """
        if step != self.step:
            raise R1Error(f"step {step}: a PPO run that was stopped cannot go on, its critic is not kept. Remove its folder to start over.")
        self.step += 1
        rate = recipe.learning_rate * min(1.0, (step + 1) / max(recipe.warmup_steps, 1))
        for group in optimizer.param_groups:
            group["lr"] = rate
        device, earned = policy.model.device, advantages.flatten()
        judged = self._judged(rollouts, earned.to(device), recipe)
        share = len(rollouts) // recipe.updates_per_rollout
        order = list(range(len(rollouts)))
        if recipe.updates_per_rollout > 1:
            rng("minibatches", seed, step).shuffle(order)
        losses, norms, parts = [], [], []
        for start in range(0, share * recipe.updates_per_rollout, share):
            chosen = sorted(order[start:start + share])
            with sums_in_one_order(policy.model), matrix_products_in(recipe.precision, device.type):
                loss, norm, measured = self._policy_update(policy, optimizer, rollouts, chosen, judged, recipe, step)
                critic_losses = [self._critic_update(rollouts, chosen, judged, recipe, step) for _ in range(recipe.critic_updates)]
            losses.append(loss)
            norms.append(norm)
            parts += measured
        entropy = float(sum(part["entropy"] for part in parts)) / max(float(sum(part["tokens"] for part in parts)), 1.0)
        return {"loss": sum(losses) / len(losses), "grad_norm": sum(norms) / len(norms), "learning_rate": rate, **objective.summary(parts),
                "entropy": entropy, "critic/loss": critic_losses[-1], "critic/explained": judged.explained}

    def _values(self, rollouts: Sequence[Rollout]) -> tuple[Tensor, Tensor]:
        """What the critic expects before each token, [rows, longest answer], 0 on padding, and the mask."""
        packed = pack(self.critic, [rollout.prompt_ids for rollout in rollouts], [rollout.ids[:-1] for rollout in rollouts])
        lengths = torch.tensor([len(rollouts[row].ids) for row in packed.order], device=packed.hidden.device)
        columns = torch.arange(int(lengths.max()), device=lengths.device)
        mask = columns < lengths[:, None]
        before = torch.where(columns > 0, packed.starts[:, None] + columns - 1, packed.prompt_ends[:, None])
        values = torch.zeros(mask.shape, device=lengths.device).masked_scatter(
            mask, self.critic.score(packed.hidden.index_select(0, before[mask]))[:, 0].float())
        back = torch.tensor(packed.order, device=lengths.device).argsort()
        return values[back], mask[back]

    @torch.no_grad()
    def _judged(self, rollouts: Sequence[Rollout], earned: Tensor, recipe: PPORecipe) -> "_Judged":
        rows: dict[int, tuple[Tensor, Tensor]] = {}
        for some in micro_batches(rollouts, recipe.tokens_per_micro_batch):
            values, mask = self._values([rollouts[i] for i in some])
            advantages, returns = generalised_advantages(values, earned[some], mask, recipe.gae_lambda)
            for place, i in enumerate(some):
                rows[i] = (advantages[place, :len(rollouts[i].ids)], returns[place, :len(rollouts[i].ids)])
        every, returns = torch.cat([rows[i][0] for i in range(len(rollouts))]), torch.cat([rows[i][1] for i in range(len(rollouts))])
        explained = 1 - float(every.var() / returns.var()) if float(returns.var()) > 0 else 0.0
        mean, spread = every.mean(), every.std() + 1e-4
        return _Judged([(rows[i][0] - mean) / spread for i in range(len(rollouts))], [rows[i][1] for i in range(len(rollouts))], explained)

    def _policy_update(self, policy: Policy, optimizer: torch.optim.Optimizer, rollouts: Sequence[Rollout], chosen: Sequence[int],
                       judged: "_Judged", recipe: PPORecipe, step: int) -> tuple[float, float, list[dict[str, Tensor]]]:
        """One update by the clipped objective, each token with its own advantage."""
        device = policy.model.device
        normaliser = objective.batch_normaliser(torch.tensor([len(rollouts[i].ids) for i in chosen]), recipe.aggregation,
                                                recipe.max_new_tokens)
        optimizer.zero_grad(set_to_none=True)
        total, parts = 0.0, []
        for some in micro_batches([rollouts[i] for i in chosen], recipe.tokens_per_micro_batch):
            rows = [rollouts[chosen[place]] for place in some]
            logprobs, mask, entropy = group_log_probabilities(policy.model, [row.prompt_ids for row in rows], [row.ids for row in rows],
                                                              temperature=recipe.temperature)
            old, advantages = torch.zeros(mask.shape, device=device), torch.zeros(mask.shape, device=device)
            old[mask] = torch.tensor([logprob for row in rows for logprob in row.logprobs], device=device)
            advantages[mask] = torch.cat([judged.advantages[chosen[place]] for place in some])
            ratio = objective.importance_ratio(logprobs, old, mask)
            per_token = -objective.clipped_surrogate(ratio, advantages, recipe.epsilon_low, recipe.epsilon_high)
            loss = objective.aggregate(per_token, mask, recipe.aggregation, normaliser)
            loss.backward()
            total += float(loss.detach())
            cut_low, cut_high = (ratio < 1 - recipe.epsilon_low) & (advantages < 0), (ratio > 1 + recipe.epsilon_high) & (advantages > 0)
            parts.append({"tokens": mask.sum(), "clip_low": (cut_low * mask).sum(), "clip_high": (cut_high * mask).sum(),
                          "entropy": entropy.sum()})
        norm = float(nn.utils.clip_grad_norm_(policy.model.parameters(), recipe.max_grad_norm))
        require_finite(step, total, norm, recipe.learning_rate, optimizer)
        optimizer.step()
        return total, norm, parts

    def _critic_update(self, rollouts: Sequence[Rollout], chosen: Sequence[int], judged: "_Judged", recipe: PPORecipe, step: int) -> float:
        """One update of the critic towards the returns: half the squared error, the mean over tokens."""
        tokens = sum(len(rollouts[i].ids) for i in chosen)
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for some in micro_batches([rollouts[i] for i in chosen], recipe.tokens_per_micro_batch):
            values, mask = self._values([rollouts[chosen[place]] for place in some])
            loss = 0.5 * (values[mask] - torch.cat([judged.returns[chosen[place]] for place in some])).square().sum() / tokens
            loss.backward()
            total += float(loss.detach())
        norm = float(nn.utils.clip_grad_norm_(self.critic.parameters(), recipe.max_grad_norm))
        require_finite(step, total, norm, recipe.critic_learning_rate, self.optimizer)
        self.optimizer.step()
        return total


@dataclass(frozen=True)
class _Judged:
    """Of each answer, the advantage of each token, brought to mean 0 and spread 1 over the batch, and what the critic should say."""

    advantages: list[Tensor]
    returns: list[Tensor]
    explained: float
