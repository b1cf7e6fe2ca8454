"""The kernels in C: what torch computes, whatever the shape and the number of threads; without a compiler torch does the work."""

import pytest
import torch
import torch.nn.functional as F
import transformers

from r1lib import paths, tasks, text
from r1lib.policy import Policy
from r1lib.sampling import SamplingSettings, native
from r1lib.sampling import torch as ours
from r1lib.sampling.torch import TorchSampler

pytestmark = pytest.mark.skipif(native.kernels(4, 2, 8, 64) is None, reason="there is no C compiler here")
PROMPTS = [text.zero_prompt(problem.question) for problem in tasks.stream(["math", "logic"], seed=0).batch(0, 8)]


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    yield lambda: torch.set_num_threads(1)
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=2),
                                   dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=3),
                                   dict(hidden_size=140, num_attention_heads=14, num_key_value_heads=2)],
                         ids=["two share", "each its own", "seven share"])
@pytest.mark.parametrize("kind", ["Qwen2", "Qwen3", "Llama"])
def test_answers_are_those_of_torch(kind, shape, monkeypatch):
    policy = Policy.load(paths.data() / "base-0.4m")
    wide = dict(head_dim=12) if kind == "Qwen3" else {}
    torch.manual_seed(0)
    policy.model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(
        vocab_size=policy.model.config.vocab_size + 1, intermediate_size=96, num_hidden_layers=2, max_position_embeddings=512,
        initializer_range=0.1, **shape, **wide))
    settings = SamplingSettings(120, temperature=0.7)                     # more than the slots that are weighed at a time
    sampler = TorchSampler(policy)
    found = sampler.sample(PROMPTS, 4, settings, seed=1)
    assert sampler._network.kernels and max(len(rollout.ids) for rollout in found) > 100
    monkeypatch.setattr(ours, "_kernels", lambda *_: None)
    expected = TorchSampler(policy).sample(PROMPTS, 4, settings, seed=1)
    for mine, its in zip(found, expected, strict=True):
        same = next((at for at, (a, b) in enumerate(zip(mine.ids, its.ids, strict=False)) if a != b), len(mine.ids))
        torch.testing.assert_close(mine.logprobs[:same], its.logprobs[:same], atol=2e-5, rtol=0)
    assert sum(mine.ids == its.ids for mine, its in zip(found, expected, strict=True)) >= 0.95 * len(found)


def attended(rows, threads):
    torch.set_num_threads(threads)
    normal = torch.Generator().manual_seed(0)
    joint, prompts, own = (torch.randn(*size, generator=normal) for size in ((9, 8, 24), (2, 3, 2, 70, 24), (2, 9, 2, 90, 24)))
    angles, answer = torch.randn(200, 24, generator=normal), torch.arange(9)
    prompt = answer % 3
    return native.kernels(4, 2, 24, 64).attend(
        joint[:rows], angles.cos(), angles.sin(), prompts, own, prompt[:rows], torch.tensor([70, 1, 64])[prompt][:rows], answer,
        torch.tensor([80]), heads=4, norms=(angles[0], angles[1]), eps=1e-6)


def test_a_row_does_not_depend_on_threads_or_neighbours(one_thread):
    one_thread()
    whole = attended(9, 2)
    assert torch.equal(whole, attended(9, 1)) and torch.equal(whole[:2], attended(2, 2))


@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(1, 1, 4), (3, 3, 16), (4, 1, 48), (4, 4, 20), (5, 1, 22), (9, 3, 64), (14, 2, 64),
                                                        (12, 2, 128), (32, 8, 128), (8, 8, 96)])
def test_attention_of_every_shape(heads, kv_heads, dim):
    """A compiler that takes memory for better aligned than it is would end the process here."""
    joint, prompts = torch.randn(3, heads + 2 * kv_heads, dim), torch.randn(2, 2, kv_heads, 9, dim)
    own, angles, rows = torch.randn(2, 3, kv_heads, 6, dim), torch.randn(20, dim), torch.arange(3)
    prompt, length = torch.tensor([1, 0, 1]), torch.tensor([9, 4, 9])
    found = native.kernels(heads, kv_heads, dim, 64).attend(
        joint, torch.ones_like(angles), torch.zeros_like(angles), prompts, own, prompt, length, rows, torch.tensor([5]), heads=heads)
    assert torch.equal(own[0, :, :, 5], joint[:, heads:heads + kv_heads]) and torch.equal(own[1, :, :, 5], joint[:, heads + kv_heads:])
    for row in rows:
        keys, values = torch.cat([prompts[:, prompt[row], :, :length[row]], own[:, row]], dim=2)
        expected = F.scaled_dot_product_attention(joint[row, :heads, None][None], keys[None], values[None], enable_gqa=True)
        torch.testing.assert_close(found[row], expected.flatten(), atol=1e-5, rtol=1e-4)


def test_the_smallest_numbers_of_the_process_stay():
    """A library that is linked with fast-math flushes them to zero, for all that runs after it."""
    assert native.kernels(2, 1, 6, 16)
    assert 2.0**-1074 * 1.0 > 0 and (torch.tensor([2.0**-149]) * 1.0).item() > 0


def test_what_lies_between_the_products():
    kernels = native.kernels(4, 2, 24, 64)
    x, weight, both = torch.randn(40, 3, 24)[:, :2], torch.randn(24), torch.randn(2, 50, 200)
    torch.testing.assert_close(kernels.norm(x, weight, 1e-6), F.rms_norm(x, (24,), weight, 1e-6))
    torch.testing.assert_close(kernels.gated(both.clone()), F.silu(both[0]) * both[1])


@pytest.mark.parametrize("vocabulary", [5, 64, 1000])
def test_draws_are_those_of_torch(vocabulary):
    logits, steps = 3 * torch.randn(200, vocabulary), 4
    logits[:, [0, -1]] = -1000.0                                          # no weight at either end, where rounding would look
    uniform = torch.rand(200, steps, dtype=torch.float64)
    uniform[:3, 2] = torch.tensor([0.0, 1 - 2.0**-53, 0.5])
    answer, stops = torch.randperm(200), torch.arange(vocabulary) % 7 == 2
    ids, all_ids, all_logprobs = torch.zeros(200, dtype=torch.long), torch.zeros(200, steps, dtype=torch.long), torch.zeros(200, steps)
    ended = torch.zeros(200, dtype=torch.bool)
    native.kernels(4, 2, 24, vocabulary).draw(logits, uniform, answer, torch.tensor([2]), 0.7, ids, all_ids, all_logprobs, ended, stops)
    wanted, logprobs = ours.draw(logits, uniform[answer, 2], SamplingSettings(1, temperature=0.7))
    assert torch.equal(ids, wanted) and torch.equal(all_ids[answer, 2], wanted) and torch.equal(ended, stops[wanted])
    torch.testing.assert_close(all_logprobs[answer, 2], logprobs, atol=1e-5, rtol=1e-5)
    assert not all_ids[:, [0, 1, 3]].any()


@pytest.mark.parametrize(("compiler", "said"), [(None, "there is no C compiler"), ("false", "false fails and does not say why")])
def test_without_a_compiler_torch_does_the_work(compiler, said, monkeypatch, capsys, tiny_policy):
    monkeypatch.setattr("shutil.which", lambda name: compiler)
    native.kernels.cache_clear()
    sampler = TorchSampler(tiny_policy)
    assert sampler.sample(["a"], 2, SamplingSettings(4), seed=0) and sampler._network.kernels is None
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and "does without its kernels in C" in printed and said in printed
    native.kernels.cache_clear()
