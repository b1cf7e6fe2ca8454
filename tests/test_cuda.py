"""The sampler and the trainer on a GPU: the answers and gradients of a CPU, by recordings that are replayed. Skipped without one."""

import pytest
import torch
import transformers

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


@pytest.mark.parametrize(("kernels", "copied"), [(True, 0), (False, 0), (False, 256)], ids=["kernels", "shared prompts", "copied prompts"])
def test_a_gpu_gives_the_answers_of_a_cpu(kernels, copied, monkeypatch):
    monkeypatch.setitem(ours._HABITS, "cuda", ours._Habits(512, False, 8, fewest_rows=16, slots=32, width=32, copied=copied))
    if not kernels:
        monkeypatch.setattr(ours, "_kernels", lambda *_: None)
    expected = TorchSampler(load("cpu")).sample(PROMPTS, 8, SETTINGS, seed=3)
    sampler = TorchSampler(load("cuda"))
    for repetition in range(3):                              # for real, recorded, replayed
        rollouts = sampler.sample(PROMPTS, 8, SETTINGS, seed=3)
        same = [mine.ids == its.ids for mine, its in zip(rollouts, expected, strict=True)]
        assert sum(same) >= 0.95 * len(same), f"repetition {repetition}"           # products round, which moves a draw now and then
        differences = [abs(a - b) for mine, its, equal in zip(rollouts, expected, same, strict=True) if equal
                       for a, b in zip(mine.logprobs, its.logprobs, strict=True)]
        assert max(differences) < 1e-3
    assert bool(sampler._network.kernels) == kernels
    recordings = next(iter(sampler._batches.values())).recordings
    assert sum(graph is not None for graph in recordings.values()) >= (3 if kernels else 5)        # of 96, 48 and 24 rows, and of slots


@pytest.mark.parametrize("shape", [dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=2),
                                   dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=3),
                                   dict(hidden_size=256, num_attention_heads=14, num_key_value_heads=2, head_dim=128)],
                         ids=["two share", "each its own", "seven share"])
@pytest.mark.parametrize(("kind", "parts"), [("Qwen2", 1), ("Qwen3", 1), ("Llama", 1), ("Llama", 4)])
def test_kernels_compute_what_torch_computes(kind, parts, shape, monkeypatch):
    monkeypatch.setattr("r1lib.sampling.triton._parts", lambda programs, slots: parts)
    if kind != "Qwen3" and "head_dim" in shape:
        shape = shape | {"hidden_size": 14 * 128}                                        # of which a head is a part
    policy = load("cpu")
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=policy.model.config.vocab_size, intermediate_size=96, num_hidden_layers=2, max_position_embeddings=512, **shape)
    torch.manual_seed(0)
    policy.model = getattr(transformers, f"{kind}ForCausalLM")(config).to("cuda")
    settings = SamplingSettings(100, temperature=0.7)
    found = TorchSampler(policy).sample(PROMPTS, 4, settings, seed=1)
    monkeypatch.setattr(ours, "_kernels", lambda *_: None)
    expected = TorchSampler(policy).sample(PROMPTS, 4, settings, seed=1)
    same = [a.ids == b.ids for a, b in zip(found, expected, strict=True)]
    assert sum(same) >= 0.95 * len(same)
    assert max(abs(x - y) for a, b, equal in zip(found, expected, same, strict=True) if equal
               for x, y in zip(a.logprobs, b.logprobs, strict=True)) < 1e-4


def test_where_triton_fails_torch_does_the_work(monkeypatch, capsys):
    from r1lib.sampling import triton

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to find C compiler.")

    monkeypatch.setattr(triton, "attend", fails)
    triton.works.cache_clear()
    sampler = TorchSampler(load("cuda"))
    assert len(sampler.sample(PROMPTS[:1], 2, SamplingSettings(8), seed=0)) == 2
    assert sampler._network.kernels is None
    assert capsys.readouterr().out.count("does without triton, which would be faster: Failed to find C compiler.") == 1
    triton.works.cache_clear()


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
