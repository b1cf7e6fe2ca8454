"""PPO on a toy: advantages by hand, a critic that learns what to expect, and a policy that is paid for small letters."""

import copy
import itertools

import pytest
import torch

from r1lib.errors import R1Error
from r1lib.rewards import Rewards
from r1lib.sampling import SamplingSettings
from r1lib.sampling.torch import TorchSampler
from r1lib.tasks import Problem
from r1lib.training import grpo
from r1lib.training.ppo import PPO, PPORecipe, generalised_advantages

RECIPE = PPORecipe(steps=8, prompts_per_step=4, samples_per_prompt=4, max_new_tokens=10, learning_rate=3e-3, warmup_steps=2,
                   evaluate_every=8, checkpoint_every=4, critic_learning_rate=1e-3, critic_updates=2)


class Toys:
    def batch(self, step, n):
        return [Problem("math", "toy", 1, "en", f"{step} + {i}?", "number", "1", f"{step}+{i}") for i in range(n)]


def small_letters(completions, columns):
    return Rewards([sum(letter.islower() for letter in said) / 10 for said in completions], {})


def trained(policy, folder, recipe=RECIPE):
    return grpo.train(policy, sampler=TorchSampler(policy), problems=Toys(), reward=small_letters, recipe=recipe, folder=folder, seed=0,
                      learner=PPO(policy, recipe))


# ----------------------------------------------------------------------------------------------------------------------
# Advantages

def test_advantages_by_hand():
    values, mask = torch.tensor([[0.5, 0.7, 0.2], [0.4, 9.0, 9.0]]), torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()
    rewards = torch.tensor([1.0, 0.0])
    advantages, returns = generalised_advantages(values, rewards, mask, 1.0)
    assert torch.allclose(advantages, torch.tensor([[0.5, 0.3, 0.8], [-0.4, 0, 0]]))          # the reward less what was expected
    assert torch.allclose(returns, torch.tensor([[1.0, 1.0, 1.0], [0, 0, 0]]))
    advantages, _ = generalised_advantages(values, rewards, mask, 0.0)
    assert torch.allclose(advantages, torch.tensor([[0.2, -0.5, 0.8], [-0.4, 0, 0]]))         # the next change of expectation only


@pytest.mark.parametrize("gae_lambda", [0.0, 0.5, 0.95, 1.0])
def test_advantages_are_the_sum_of_the_definition(gae_lambda):
    generator = torch.Generator().manual_seed(0)
    values, lengths = torch.rand(5, 6, generator=generator), torch.tensor([6, 1, 3, 5, 2])
    mask, rewards = torch.arange(6) < lengths[:, None], torch.rand(5, generator=generator)
    advantages, returns = generalised_advantages(values, rewards, mask, gae_lambda)
    for row, length in enumerate(lengths.tolist()):
        expected = [*values[row, :length].tolist(), 0.0]
        deltas = [(rewards[row].item() if t == length - 1 else 0.0) + b - a for t, (a, b) in enumerate(itertools.pairwise(expected))]
        for t in range(length):
            wanted = sum(gae_lambda ** (k - t) * deltas[k] for k in range(t, length))
            assert advantages[row, t].item() == pytest.approx(wanted, abs=1e-6)
            assert returns[row, t].item() == pytest.approx(wanted + expected[t], abs=1e-6)
        assert not advantages[row, length:].any() and not returns[row, length:].any()


# ----------------------------------------------------------------------------------------------------------------------
# The learner

def test_the_reward_rises(tiny_policy, tmp_path):
    rows = trained(tiny_policy, tmp_path / "run", PPORecipe(**{**vars(RECIPE), "steps": 24})).rows
    reward = [row["reward"] for row in rows]
    assert sum(reward[-4:]) / 4 > sum(reward[:4]) / 4 + 0.05
    assert rows[0]["critic/explained"] == pytest.approx(0.0, abs=1e-5)              # a critic that expects nothing explains nothing
    assert {"entropy", "grad_norm", "clip_ratio/region_mean", "learning_rate"} <= rows[0].keys()


def test_the_critic_learns_what_to_expect(tiny_policy):
    """The policy stays as it is; answers to one question earn 1, those to the other nothing."""
    recipe = PPORecipe(**{**vars(RECIPE), "critic_updates": 1})
    learner, rollouts = PPO(tiny_policy, recipe), TorchSampler(tiny_policy).sample(["the 1?", "and 22?"], 8, SamplingSettings(10), seed=0)
    earned, chosen = torch.tensor([1.0] * 8 + [0.0] * 8), list(range(16))
    losses = [learner._critic_update(rollouts, chosen, learner._judged(rollouts, earned, recipe), recipe, 0) for _ in range(40)]
    assert losses[-1] < losses[0] / 4
    assert learner._judged(rollouts, earned, recipe).explained > 0.5


def test_values_are_those_of_a_plain_forward(tiny_policy):
    learner = PPO(tiny_policy, RECIPE)
    with torch.no_grad():
        learner.critic.score.weight.normal_()
        rollouts = TorchSampler(tiny_policy).sample(["the 1?", "and 22?"], 3, SamplingSettings(7), seed=0)
        values, mask = learner._values(rollouts)
        for row, rollout in enumerate(rollouts):
            ids = torch.tensor([[*rollout.prompt_ids, *rollout.ids]])
            hidden = learner.critic.base_model(ids).last_hidden_state[0]
            plain = learner.critic.score(hidden)[len(rollout.prompt_ids) - 1:-1, 0]
            assert torch.allclose(values[row][mask[row]], plain, atol=1e-4)


def test_nothing_is_compared_with_siblings(tiny_policy):
    earned = PPO(tiny_policy, RECIPE).compare(Rewards([1.0, 0.0, 0.5, 0.5] * 4, {}), RECIPE)
    assert earned.tolist() == [[1.0, 0.0, 0.5, 0.5]] * 4


@pytest.mark.parametrize("changes", [{"updates_per_rollout": 4}, {"tokens_per_micro_batch": 40}, {"gae_lambda": 0.95}])
def test_settings_train(tiny_policy, tmp_path, changes):
    rows = trained(tiny_policy, tmp_path / "run", PPORecipe(**{**vars(RECIPE), "steps": 2, **changes})).rows
    assert len(rows) == 2 and all(row["grad_norm"] > 0 for row in rows)


def test_micro_batches_change_nothing(tiny_policy, tmp_path):
    twin = copy.deepcopy(tiny_policy)
    whole = trained(tiny_policy, tmp_path / "a", PPORecipe(**{**vars(RECIPE), "steps": 1}))
    parts = trained(twin, tmp_path / "b", PPORecipe(**{**vars(RECIPE), "steps": 1, "tokens_per_micro_batch": 40}))
    assert whole.rows[0]["loss"] == pytest.approx(parts.rows[0]["loss"], abs=1e-5)
    for one, other in zip(tiny_policy.model.parameters(), twin.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-3)


def test_a_stopped_run_is_refused(tiny_policy, tmp_path):
    trained(tiny_policy, tmp_path / "run", PPORecipe(**{**vars(RECIPE), "steps": 4}))
    with pytest.raises(R1Error, match="cannot go on"):
        trained(tiny_policy, tmp_path / "run")


@pytest.mark.parametrize("wrong", [{"gae_lambda": 1.5}, {"gae_lambda": -0.1}, {"beta": 0.1}, {"critic_learning_rate": 0.0},
                                   {"critic_updates": 0}])
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(R1Error, match=f"PPO recipe: {next(iter(wrong))}"):
        PPORecipe(**wrong)
