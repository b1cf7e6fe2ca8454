"""The sampler and the trainer on a GPU: the answers and gradients of a CPU, by recordings that are replayed. Skipped without one."""

import pytest
import torch

from r1lib import paths, tasks, text
from r1lib.policy import Policy
from r1lib.sampling import SamplingSettings
from r1lib.sampling import torch as ours
from r1lib.sampling.torch import TorchSampler
from r1lib.training.forward import group_log_probabilities

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

PROMPTS = [text.zero_prompt(problem.question) for problem in tasks.stream(["math", "logic"], seed=0).batch(0, 12)]
SETTINGS = SamplingSettings(200)


def load(device: str) -> Policy:
    return Policy.load(paths.data() / "base-3m", device=device)


@pytest.mark.parametrize("copied", [0, 256], ids=["shared prompts", "copied prompts"])
def test_a_gpu_gives_the_answers_of_a_cpu(copied, monkeypatch):
    habits = ours._HABITS["cuda"]
    monkeypatch.setitem(ours._HABITS, "cuda", ours._Habits(512, False, 8, fewest_rows=16, slots=32, width=32, copied=copied))
    assert habits.rows == 2048
    expected = TorchSampler(load("cpu")).sample(PROMPTS, 8, SETTINGS, seed=3)
    sampler = TorchSampler(load("cuda"))
    for repetition in range(3):                              # for real, recorded, replayed
        rollouts = sampler.sample(PROMPTS, 8, SETTINGS, seed=3)
        same = [mine.ids == its.ids for mine, its in zip(rollouts, expected, strict=True)]
        assert sum(same) >= 0.95 * len(same), f"repetition {repetition}"           # products round, which moves a draw now and then
        differences = [abs(a - b) for mine, its, equal in zip(rollouts, expected, same, strict=True) if equal
                       for a, b in zip(mine.logprobs, its.logprobs, strict=True)]
        assert max(differences) < 1e-3
    assert sum(graph is not None for graph in next(iter(sampler._batches.values())).recordings.values()) > 4


def test_a_replay_reads_the_weights_of_its_moment():
    policy = load("cuda")
    sampler = TorchSampler(policy)
    for _ in range(3):
        before = sampler.sample(PROMPTS, 2, SETTINGS, seed=0)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(0.98)
    after = sampler.sample(PROMPTS, 2, SETTINGS, seed=0)
    assert [rollout.ids for rollout in after] != [rollout.ids for rollout in before]
    fresh = TorchSampler(policy).sample(PROMPTS, 2, SETTINGS, seed=0)
    assert sum(a.ids == b.ids for a, b in zip(after, fresh, strict=True)) >= 0.95 * len(after)


def test_log_probabilities_are_the_models():
    policy = load("cuda")
    sampler = TorchSampler(policy)
    for seed in range(3):
        rollouts = sampler.sample(PROMPTS, 4, SETTINGS, seed=seed)
    logprobs, mask, _ = group_log_probabilities(policy.model, [r.prompt_ids for r in rollouts], [r.ids for r in rollouts])
    drawn = torch.tensor([value for rollout in rollouts for value in rollout.logprobs], device="cuda")
    assert (logprobs[mask] - drawn).abs().max() < 1e-3


def test_gradients_are_those_of_a_cpu():
    rollouts = TorchSampler(load("cpu")).sample(PROMPTS, 2, SETTINGS, seed=0)
    gradients = []
    for device in ("cpu", "cuda"):
        model = load(device).model
        logprobs, _, _ = group_log_probabilities(model, [r.prompt_ids for r in rollouts], [r.ids for r in rollouts])
        logprobs.sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten().cpu() for parameter in model.parameters()]))
    assert (gradients[0] - gradients[1]).norm() / gradients[0].norm() < 1e-3
