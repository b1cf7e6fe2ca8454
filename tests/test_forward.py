"""The packed forward against transformers' own, one row at a time and without padding, in float64."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from r1lib.errors import R1Error
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


def test_equals_transformers_forward_and_gradient(model):
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
