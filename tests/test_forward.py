"""The packed forward against transformers' own, one row at a time and without padding, in float64."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from r1lib.errors import R1Error
from r1lib.training import forward
from r1lib.training.forward import group_log_probabilities

SHAPE = dict(vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=128, initializer_range=0.3)
PROMPTS = [[5, 6, 7, 8], [9] * 9, [3]]
# Groups of different sizes in mixed order; answers of one token, which add nothing to the packed row, and more rows than one block holds.
ROWS = [(group, [(7 * group + 3 * length + i) % 40 for i in range(length)])
        for group, length in ((0, 1), (1, 9), (0, 4), (2, 1), (1, 17), (0, 2), (2, 30), (1, 1), (0, 6), (0, 5), (1, 3))]


@pytest.fixture(params=["qwen2", "qwen2-tied", "qwen3", "llama"])
def model(request):
    config, kind = {"qwen2": (Qwen2Config(**SHAPE), Qwen2ForCausalLM), "qwen3": (Qwen3Config(**SHAPE), Qwen3ForCausalLM),
                    "qwen2-tied": (Qwen2Config(tie_word_embeddings=True, **SHAPE), Qwen2ForCausalLM),
                    "llama": (LlamaConfig(**SHAPE), LlamaForCausalLM)}[request.param]
    torch.manual_seed(0)
    return kind(config).double().eval()


def row_by_row(model, prompt, completion, temperature):
    """Log-probabilities and entropies of one completion, the slow and obvious way."""
    ids = torch.tensor([[*prompt, *completion]])
    logps = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1:-1] / temperature, dim=-1)
    return logps.gather(1, ids[0, len(prompt):, None])[:, 0], -(logps.exp() * logps).sum(-1)


@pytest.mark.parametrize(("logits", "scores"), [(2**27, 2**18), (40 * 7, 1), (40, 2000)], ids=["at once", "in pieces", "token by token"])
def test_equals_transformers_forward_and_gradient(logits, scores, model, monkeypatch):
    monkeypatch.setattr(forward, "_LOGITS_AT_ONCE", logits)
    monkeypatch.setitem(forward._SCORES_PER_BLOCK, "cpu", scores)
    weights = torch.randn(len(ROWS), 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.zeros(len(ROWS), 30, dtype=torch.float64)
    spread = torch.zeros_like(expected)
    for row, (group, completion) in enumerate(ROWS):
        logps, entropy = row_by_row(model, PROMPTS[group], completion, 0.7)
        (logps * weights[row, :len(completion)]).sum().backward()
        expected[row, :len(completion)], spread[row, :len(completion)] = logps.detach(), entropy.detach()
    slow = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    model.zero_grad()
    logps, mask, entropy = group_log_probabilities(model, [PROMPTS[group] for group, _ in ROWS], [row for _, row in ROWS], temperature=0.7)
    (logps * weights).sum().backward()
    assert mask.tolist() == [[i < len(row) for i in range(30)] for _, row in ROWS]
    torch.testing.assert_close(logps, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(entropy, spread, rtol=0, atol=1e-12)
    for name, parameter in model.named_parameters():
        error = (parameter.grad - slow[name]).norm() / slow[name].norm()
        assert error < 1e-6, (name, float(error))      # 4e-8 measured: transformers' norms are float32 in any model


def test_leaves_the_model_as_it_was(model):
    before = model.config._attn_implementation
    ids = torch.tensor([[1, 2, 3]])
    logits = model(input_ids=ids).logits
    group_log_probabilities(model, [[1, 2]], [[3, 4]])
    assert model.config._attn_implementation == before
    assert torch.equal(model(input_ids=ids).logits, logits)


def test_one_answer_of_one_token(model):
    logps, mask, _ = group_log_probabilities(model, [[1, 2, 3]], [[4]])
    torch.testing.assert_close(logps[0], row_by_row(model, [1, 2, 3], [4], 1.0)[0], rtol=0, atol=1e-12)
    assert mask.tolist() == [[True]]


def test_a_sliding_window_is_refused():
    model = Qwen2ForCausalLM(Qwen2Config(use_sliding_window=True, sliding_window=4, max_window_layers=0, **SHAPE))
    with pytest.raises(R1Error, match="sliding window"):
        group_log_probabilities(model, [[1, 2, 3]], [[4, 5]])


def test_logits_of_a_large_vocabulary_never_exist_whole(monkeypatch):
    """Neither forwards nor backwards, where their gradient would be as large."""
    monkeypatch.setattr(forward, "_LOGITS_AT_ONCE", 5 * 5000)
    hidden, head = torch.randn(64, 8, requires_grad=True), torch.randn(5000, 8, requires_grad=True)
    largest = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            largest.append(result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    with Watch():
        chosen, _ = forward._ReadOff.apply(hidden, head, torch.arange(64), 1.0)
        chosen.sum().backward()
    assert 5 * 5000 <= max(largest) < 2 * 8 * 5000


def test_shares_cover_all_rows_once_and_keep_to_their_size():
    lengths = sorted([1, 1, 3, 8, 8, 20, 21, 90])
    shares = list(forward._shares(lengths, heads=4, longest_prompt=10, scores=8000))
    assert [row for share in shares for row in range(len(lengths))[share]] == list(range(len(lengths)))
    assert len(shares) > 2
    for share in shares:
        rows, longest = share.stop - share.start, lengths[share.stop - 1]
        assert rows == 1 or rows * 4 * longest * (10 + longest) <= 8000


def test_bfloat16_products_stay_close(model):
    """Under autocast, as a GPU trains: float32 weights, products in bfloat16, gradients in float32 that point the same way."""
    model = model.float()
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logps, mask, _ = group_log_probabilities(model, [PROMPTS[group] for group, _ in ROWS], [row for _, row in ROWS])
            logps.sum().backward()
        gradients.append((logps[mask].detach(), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])))
    (exact, along), (rounded, other) = gradients
    assert rounded.dtype == torch.float32 and other.dtype == torch.float32
    assert 0 < (exact - rounded).abs().mean() < 0.05
    assert torch.cosine_similarity(along, other, dim=0) > 0.99
