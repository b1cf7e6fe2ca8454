"""The GPU's kernels on a CPU, by triton's interpreter; on a GPU they are tested in test_cuda.

    pip install triton && TRITON_INTERPRET=1 pytest tests/test_triton.py

Skipped without these: no CPU build of torch brings triton, which is as large as torch itself.
"""

import os

import pytest
import torch
import torch.nn.functional as F

from r1lib import paths
from r1lib.policy import Policy
from r1lib.sampling import SamplingSettings
from r1lib.sampling import torch as ours

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("the kernels are not interpreted here", allow_module_level=True)

from r1lib.sampling import triton as kernels  # noqa: E402 - there may be no triton


@pytest.mark.parametrize(("normed", "step", "parts"), [(False, 37, 1), (True, 37, 1), (False, 37, 2), (True, 0, 4), (False, 99, 4)])
def test_attention_to_the_prompt_to_what_was_written_and_to_itself(normed, step, parts, monkeypatch):
    monkeypatch.setattr(kernels, "_parts", lambda programs, slots: parts)
    rows, heads, kv_heads, dim = 7, 6, 2, 48
    torch.manual_seed(0)
    joint, cos, sin = torch.randn(rows, heads + 2 * kv_heads, dim), torch.randn(199, dim), torch.randn(199, dim)
    prompts, own = torch.randn(2, 3, kv_heads, 40, dim), torch.randn(2, rows, kv_heads, 120, dim)
    prompt, answer = torch.tensor([0, 0, 1, 1, 2, 2, 0]), torch.arange(rows).flip(0)
    length = torch.tensor([40, 3, 32])[prompt]
    norms = (torch.rand(dim), torch.rand(dim)) if normed else ()
    queries, keys, values = joint.split([heads, kv_heads, kv_heads], dim=1)
    if normed:
        queries, keys = (F.rms_norm(x, (dim,), weight, 1e-6) for x, weight in zip((queries, keys), norms, strict=True))
    queries, keys = (x * cos[length + step, None] + x.roll(dim // 2, -1) * sin[length + step, None] for x in (queries, keys))
    expected = []
    for row in range(rows):
        seen = [torch.cat([prompts[i, prompt[row], :, :length[row]], own[i, answer[row], :, :step], new[row, :, None]], dim=1)
                for i, new in enumerate((keys, values))]
        q = queries[row].view(kv_heads, -1, dim)
        expected.append((torch.softmax(q @ seen[0].mT * dim ** -0.5, dim=-1) @ seen[1]).flatten())
    found = kernels.attend(joint, cos, sin, prompts, own, prompt, length, answer, torch.tensor([step]), heads=heads, norms=norms, eps=1e-6)
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(own[0, answer, :, step], keys, atol=1e-5, rtol=1e-5)
    assert torch.equal(own[1, answer, :, step], values)


@pytest.mark.parametrize(("rows", "slots", "parts"), [(64, 300, 1), (64, 1100, 4), (64, 8300, 8), (2048, 8300, 1), (1, 64, 1),
                                                      (1, 99_999, 256)])
def test_few_long_rows_are_read_in_parts(rows, slots, parts):
    assert kernels._parts(rows, slots) == parts


@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(4, 1, 48), (14, 2, 64), (12, 2, 128)])
def test_the_heads_of_the_model_are_tried_before_they_are_relied_on(heads, kv_heads, dim, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    asked = (torch.device("cpu"), torch.float32, heads, kv_heads, dim)
    kernels.works.cache_clear()
    assert kernels.works(*asked) and capsys.readouterr().out == ""

    def too_wide(joint, *_, **__):
        if joint.shape == (1, heads + 2 * kv_heads, dim):
            raise RuntimeError("out of resource: shared memory, Required: 131072, Hardware limit: 65536.")

    monkeypatch.setattr(kernels, "attend", too_wide)
    kernels.works.cache_clear()
    assert not kernels.works(*asked) and "does without triton" in capsys.readouterr().out
    kernels.works.cache_clear()


def test_the_gate():
    both = torch.randn(5, 2, 1500).transpose(0, 1)                                    # side by side, as a product leaves them
    for laid in (both, both.contiguous()):
        torch.testing.assert_close(kernels.gated(laid), F.silu(both[0]) * both[1])


@pytest.mark.parametrize("vocabulary", [1000, 1024, 9001])
def test_a_draw_is_that_of_the_cpu(vocabulary):
    torch.manual_seed(0)
    rows, steps, step = 50, 4, torch.tensor([2])
    logits = torch.randn(rows, vocabulary) * 3
    logits[:, :40] = float("-inf")
    uniform, answer = torch.rand(rows, steps, dtype=torch.float64), torch.arange(rows).flip(0)
    uniform[0], uniform[1] = 0, 1 - 2.0 ** -53
    ids, ended = torch.zeros(rows, dtype=torch.long), torch.arange(rows) % 5 == 0
    all_ids, all_logprobs = torch.zeros(rows, steps, dtype=torch.long), torch.zeros(rows, steps)
    stops = torch.arange(vocabulary) % 2 == 0
    before = ended.clone()
    kernels.draw(logits, uniform, answer, step, 0.7, ids, all_ids, all_logprobs, ended, stops)
    expected, logprobs = ours.draw(logits, uniform[answer, 2], SamplingSettings(steps, temperature=0.7))
    assert torch.equal(ids, expected)
    assert torch.equal(all_ids[answer, 2], expected) and not all_ids[:, [0, 1, 3]].any()
    torch.testing.assert_close(all_logprobs[answer, 2], logprobs, atol=1e-5, rtol=1e-5)
    assert torch.equal(ended, before | stops[expected])


def test_whole_answers(monkeypatch):
    policy = Policy.load(paths.data() / "base-0.4m")
    asked = (["1 + 2 =", "Let us count: 1, 2, 3,", "7"], 2, SamplingSettings(10))
    expected = ours.TorchSampler(policy).sample(*asked, seed=1)
    monkeypatch.setattr(ours, "_kernels", lambda *_: kernels)
    monkeypatch.setattr(kernels, "norm", lambda x, weight, eps: F.rms_norm(x, weight.shape, weight, eps), raising=False)
    found = ours.TorchSampler(policy).sample(*asked, seed=1)
    assert [rollout.ids for rollout in found] == [rollout.ids for rollout in expected]
    assert max(abs(x - y) for a, b in zip(found, expected, strict=True) for x, y in zip(a.logprobs, b.logprobs, strict=True)) < 1e-4
