"""GRPO's objective: by hand, by exact enumeration, by property, and against TRL's GRPOTrainer."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from r1lib.training import trl
from r1lib.training.objective import (
    aggregate,
    batch_normaliser,
    clipped_surrogate,
    group_advantages,
    grpo_loss,
    importance_ratio,
    k3_kl,
    summary,
)

rewards_rows = st.integers(2, 8).flatmap(lambda n: st.lists(st.floats(-10, 10, width=32), min_size=n, max_size=n))


def batch(seed: int, rows: int = 6, tokens: int = 7, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """A batch as the trainer has it: ragged rows, padding 0, a policy that has moved from the old one and from the reference."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, tokens + 1, (rows,), generator=generator)
    mask = (torch.arange(tokens) < lengths[:, None]).to(dtype)
    old, moved, drift = (torch.randn(rows, tokens, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3))
    old = -old.abs() * mask
    advantages = torch.randn(rows, generator=generator, dtype=torch.float64).to(dtype)
    return {"logprobs": (old + 0.3 * moved * mask).requires_grad_(), "old_logprobs": old, "mask": mask,
            "reference_logprobs": old + 0.3 * drift * mask, "advantages": advantages}


def gradient(loss: Tensor, *inputs: Tensor) -> Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, inputs)])


# ----------------------------------------------------------------------------------------------------------------------
# Advantages

def test_advantages_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    half = 0.5 / (math.sqrt(1 / 3) + 1e-4)                              # spread of 1 0 0 1 over n - 1: sqrt(4 * 0.25 / 3)
    wrong, right = -0.25 / (0.5 + 1e-4), 0.75 / (0.5 + 1e-4)
    torch.testing.assert_close(group_advantages(rewards),
                               torch.tensor([[half, -half, -half, half], [0.0] * 4, [wrong, wrong, wrong, right]]))
    torch.testing.assert_close(group_advantages(rewards, scale="none"),
                               torch.tensor([[0.5, -0.5, -0.5, 0.5], [0.0] * 4, [-0.25, -0.25, -0.25, 0.75]]))


@given(value=st.floats(-1e6, 1e6, width=32), samples=st.integers(2, 33), scale=st.sampled_from(["group", "none"]))
def test_a_group_of_equals_teaches_exactly_nothing(value, samples, scale):
    assert torch.equal(group_advantages(torch.full((1, samples), value), scale=scale), torch.zeros(1, samples))


@given(rewards=rewards_rows, shift=st.floats(-10, 10), scale=st.sampled_from(["group", "none"]))
def test_advantages_ignore_a_shift_and_sum_to_zero(rewards, shift, scale):
    rewards = torch.tensor([rewards], dtype=torch.float64)
    advantages = group_advantages(rewards, scale=scale)
    torch.testing.assert_close(group_advantages(rewards + shift, scale=scale), advantages, atol=1e-9, rtol=0)
    assert abs(advantages.sum()) < 1e-9


@given(rewards=rewards_rows, stretch=st.floats(0.5, 100))
def test_only_the_spread_of_the_group_takes_the_scale_away(rewards, stretch):
    rewards = torch.tensor([rewards], dtype=torch.float64)
    torch.testing.assert_close(group_advantages(rewards * stretch, scale="none"), group_advantages(rewards, scale="none") * stretch)
    if rewards.std() > 0.5:                                             # far above the 1e-4
        torch.testing.assert_close(group_advantages(rewards * stretch), group_advantages(rewards), atol=1e-3, rtol=1e-3)


@given(rewards=rewards_rows, data=st.data())
def test_the_order_of_the_siblings_does_not_matter(rewards, data):
    order = data.draw(st.permutations(range(len(rewards))))
    rewards = torch.tensor([rewards], dtype=torch.float64)
    torch.testing.assert_close(group_advantages(rewards[:, order]), group_advantages(rewards)[:, order], atol=1e-9, rtol=1e-9)


# ----------------------------------------------------------------------------------------------------------------------
# Ratio and clip

def test_ratio_by_hand():
    logprobs, old = torch.tensor([[0.5, 0.2, 0.0]]).log(), torch.tensor([[0.25, 0.4, 0.5]]).log()
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    torch.testing.assert_close(importance_ratio(logprobs, old, mask)[:, :2], torch.tensor([[2.0, 0.5]]))
    old[0, 2] = logprobs[0, 2] = 0.0
    along_the_row = importance_ratio(logprobs, old, mask, level="sequence")
    torch.testing.assert_close(along_the_row, torch.ones(1, 3))         # the square root of 2 * 0.5, for every token


def test_before_the_first_update_every_ratio_is_one():
    inputs = batch(0)
    for level in ("token", "sequence"):
        ratio = importance_ratio(inputs["logprobs"], inputs["logprobs"].detach(), inputs["mask"], level=level)
        assert torch.equal(ratio, torch.ones(6, 7).double())


@pytest.mark.parametrize(("ratio", "advantage", "value", "slope"), [
    (1.0, 2.0, 2.0, 2.0),          # on policy: the policy gradient
    (1.1, 2.0, 2.2, 2.0),          # inside the range
    (1.5, 2.0, 2.56, 0.0),         # a good token, likelier than the range allows: no more to earn
    (0.5, 2.0, 1.0, 2.0),          # a good token that became unlikely: it must come back, unclipped
    (0.5, -2.0, -1.6, 0.0),        # a bad token, unlikely enough
    (0.9, -2.0, -1.8, -2.0),
    (1.5, -2.0, -3.0, -2.0),       # a bad token that became likely: unclipped, whatever the range
])
def test_each_side_of_the_clip(ratio, advantage, value, slope):
    rho = torch.tensor([[ratio]], dtype=torch.float64, requires_grad=True)
    surrogate = clipped_surrogate(rho, torch.tensor([[advantage]], dtype=torch.float64), 0.2, 0.28)
    assert surrogate.item() == pytest.approx(value)
    assert gradient(surrogate.sum(), rho).item() == pytest.approx(slope)


@given(ratio=st.floats(1e-6, 1e6), advantage=st.floats(-5, 5))
def test_with_the_papers_ten_only_a_good_token_past_eleven_is_cut(ratio, advantage):
    rho, score = torch.tensor([[ratio]], dtype=torch.float64), torch.tensor([[advantage]], dtype=torch.float64)
    cut = clipped_surrogate(rho, score, 10.0, 10.0) != rho * score
    assert cut.item() == (ratio > 11 and advantage * ratio > advantage * 11)


@given(ratio=st.floats(0, 50), advantage=st.floats(-5, 5), low=st.floats(0, 2), high=st.floats(0, 10))
def test_clipping_never_promises_more_than_the_ratio_does(ratio, advantage, low, high):
    rho, score = torch.tensor([[ratio]], dtype=torch.float64), torch.tensor([[advantage]], dtype=torch.float64)
    assert (clipped_surrogate(rho, score, low, high) <= rho * score).all()


# ----------------------------------------------------------------------------------------------------------------------
# The KL term

@given(difference=st.floats(-20, 20), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_k3_is_never_negative(difference, dtype):
    assert k3_kl(torch.zeros(1, 1, dtype=dtype), torch.full((1, 1), difference, dtype=dtype)).item() >= 0


def test_k3_keeps_its_digits_where_the_policies_agree():
    tiny = torch.tensor([[1e-4]])                                       # in float32, e^x - x - 1 has no right digit left here
    assert k3_kl(torch.zeros(1, 1), tiny).item() == pytest.approx(0.5e-8, rel=1e-2)


@given(seed=st.integers(0, 10_000), size=st.integers(2, 9))
def test_the_mean_of_k3_is_the_kl(seed, size):
    policy, reference = torch.randn(2, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log_softmax(dim=1)
    exact = (policy.exp() * (policy - reference)).sum()
    torch.testing.assert_close((policy.exp() * k3_kl(policy, reference)).sum(), exact)


def test_the_gradient_of_k3_is_the_other_kls():
    """Unbiased as a value, not as a loss: over the policy's samples its gradient is that of KL(reference || policy)."""
    logits = torch.randn(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    reference = torch.randn(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).log_softmax(dim=0)
    policy = logits.log_softmax(dim=0)
    as_loss = gradient((policy.exp().detach() * k3_kl(policy, reference)).sum(), logits)
    policy = logits.log_softmax(dim=0)
    torch.testing.assert_close(as_loss, gradient((reference.exp() * (reference - policy)).sum(), logits))
    policy = logits.log_softmax(dim=0)
    assert not torch.allclose(as_loss, gradient((policy.exp() * (policy - reference)).sum(), logits), rtol=0.05)


# ----------------------------------------------------------------------------------------------------------------------
# Aggregation

def test_aggregation_by_hand():
    per_token = torch.tensor([[1.0, 9.0, 9.0, 9.0], [2.0, 2.0, 2.0, 2.0]])
    mask = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    lengths = mask.sum(dim=1)
    by_hand = {"sequence": (1 + 2) / 2, "token": (1 + 8) / 5, "constant": (1 + 8) / (2 * 10)}
    for how, expected in by_hand.items():
        assert aggregate(per_token, mask, how, batch_normaliser(lengths, how, constant=10)).item() == pytest.approx(expected)


def test_padding_and_empty_rows_weigh_nothing():
    inputs = batch(1)
    inputs["mask"][2] = 0
    settings = dict(beta=0.1, how="sequence")
    before, _ = grpo_loss(**inputs, **settings)
    padding = inputs["mask"] == 0
    for name in ("logprobs", "old_logprobs", "reference_logprobs"):
        inputs[name] = torch.where(padding, torch.randn(6, 7).double(), inputs[name])
    after, _ = grpo_loss(**inputs, **settings)
    torch.testing.assert_close(after, before)
    assert torch.isfinite(before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("boolean", [False, True])
def test_the_floating_point_type_is_kept(dtype, boolean):
    inputs = batch(2, dtype=dtype)
    inputs["mask"] = inputs["mask"].bool() if boolean else inputs["mask"]
    assert grpo_loss(**inputs, beta=0.1)[0].dtype == dtype
    assert group_advantages(torch.rand(2, 4).to(dtype)).dtype == dtype


# ----------------------------------------------------------------------------------------------------------------------
# The loss

def test_loss_by_hand():
    """One answer, two tokens, ratios 2 and 1, advantage 1, clip at 1.2, reference as the old policy: mean of -1.2 + b(k3) and -1."""
    old = torch.tensor([[0.25, 0.5]], dtype=torch.float64).log()
    logprobs = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    loss, stats = grpo_loss(logprobs, old, torch.ones(1).double(), torch.ones(1, 2).double(), beta=0.1, reference_logprobs=old)
    k3 = 0.5 - math.log(0.5) - 1
    assert loss.item() == pytest.approx(((-1.2 + 0.1 * k3) + -1.0) / 2)
    assert summary([stats]) == pytest.approx(
        {"clip_ratio/low_mean": 0, "clip_ratio/high_mean": 0.5, "clip_ratio/region_mean": 0.5, "kl": k3 / 2})


def test_on_policy_the_gradient_is_the_policy_gradient():
    """All answers of three tokens from a table that looks at the last token: probability times reward, against dJ/dtheta."""
    generator = torch.Generator().manual_seed(3)
    table = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)      # row: last token, 3 = beginning
    answers = torch.tensor(list(itertools.product(range(3), repeat=3)))
    context = torch.cat([torch.full((27, 1), 3), answers[:, :2]], dim=1)
    rewards = torch.rand(27, generator=generator, dtype=torch.float64)

    logprobs = table.log_softmax(dim=1)[context, answers]
    probability = logprobs.sum(dim=1).exp()
    expected = gradient((probability * rewards).sum(), table)

    logprobs = table.log_softmax(dim=1)[context, answers]
    weights = probability.detach() * rewards                                                     # the expectation over samples, exactly
    loss, _ = grpo_loss(logprobs, logprobs.detach(), weights, torch.ones(27, 3).double(), how="constant", normaliser=1.0)
    torch.testing.assert_close(-gradient(loss, table), expected)


def test_on_policy_the_loss_is_zero_and_the_gradient_is_not():
    inputs = batch(4, rows=8)
    inputs["mask"] = torch.ones_like(inputs["mask"])
    inputs["old_logprobs"] = inputs["logprobs"].detach()
    inputs["advantages"] = group_advantages(torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 1]]).double()).flatten()
    loss, _ = grpo_loss(**inputs)
    assert abs(loss.item()) < 1e-15
    assert gradient(loss, inputs["logprobs"]).abs().max() > 0.01


@pytest.mark.parametrize("how", ["sequence", "token", "constant"])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("cuts", [[3, 3], [1, 5], [1, 1, 1, 1, 1, 1]])
def test_micro_batches_add_up_to_the_whole_batch(how, level, beta, cuts):
    inputs = batch(5)
    settings = dict(epsilon_high=0.28, beta=beta, how=how, level=level, constant=7)
    loss, stats = grpo_loss(**inputs, **settings)
    whole = gradient(loss, inputs["logprobs"])

    normaliser = batch_normaliser(inputs["mask"].sum(dim=1), how, constant=7)
    parts = [dict(zip(inputs, rows, strict=True)) for rows in zip(*(value.split(cuts) for value in inputs.values()), strict=True)]
    losses, part_stats = zip(*(grpo_loss(**part, **settings, normaliser=normaliser) for part in parts), strict=True)
    summed = sum(gradient(part, inputs["logprobs"]) for part in losses)
    torch.testing.assert_close(summed, whole, rtol=0, atol=1e-15)
    torch.testing.assert_close(sum(losses), loss, rtol=0, atol=1e-15)
    assert summary(part_stats) == pytest.approx(summary([stats]))


@pytest.mark.parametrize("how", ["sequence", "token", "constant"])
def test_rows_without_advantage_can_be_left_out_when_they_are_counted(how):
    inputs = batch(6)
    inputs["advantages"][[1, 4]] = 0
    settings = dict(how=how, normaliser=batch_normaliser(inputs["mask"].sum(dim=1), how, constant=7))
    whole = gradient(grpo_loss(**inputs, **settings)[0], inputs["logprobs"])
    kept = {name: value[[0, 2, 3, 5]] for name, value in inputs.items()}
    torch.testing.assert_close(gradient(grpo_loss(**kept, **settings)[0], inputs["logprobs"]), whole, rtol=0, atol=1e-15)


def test_a_kl_without_a_reference_is_refused():
    inputs = batch(7)
    inputs["reference_logprobs"] = None
    with pytest.raises(TypeError):
        grpo_loss(**inputs, beta=0.1)


# ----------------------------------------------------------------------------------------------------------------------
# TRL

@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a random model of 32 words: TRL loads its reference from a folder, so one in memory will not do."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    Qwen2ForCausalLM(Qwen2Config(vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                                 num_key_value_heads=1, pad_token_id=0, eos_token_id=1, bos_token_id=None)).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(32)}, unk_token="w2"))
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1").save_pretrained(folder)
    return folder


def trl_inputs() -> dict[str, Tensor]:
    """Four answers of 9, 5, 1 and 7 tokens to prompts of 4, as TRL's _compute_loss takes them."""
    generator = torch.Generator().manual_seed(0)
    mask = (torch.arange(9) < torch.tensor([[9], [5], [1], [7]])).long()
    old, reference = (torch.randn(4, 9, generator=generator, dtype=torch.float64) * 0.3 - 3.4 for _ in range(2))
    return {"prompt_ids": torch.randint(2, 32, (4, 4), generator=generator), "prompt_mask": torch.ones(4, 4, dtype=torch.long),
            "completion_ids": torch.randint(2, 32, (4, 9), generator=generator), "completion_mask": mask,
            "advantages": torch.tensor([1.0, -0.5, 0.7, -1.2], dtype=torch.float64), "old_per_token_logps": old * mask,
            "ref_per_token_logps": reference * mask, "num_items_in_batch": mask.sum()}


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize(("loss_type", "level", "how"), [
    ("grpo", "token", "sequence"), ("dapo", "token", "token"), ("dr_grpo", "token", "constant"), ("grpo", "sequence", "sequence"),
])
def test_loss_gradient_and_metrics_are_trls(tiny, tmp_path, loss_type, level, how, beta):
    from datasets import Dataset
    from transformers import Qwen2ForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    if trl.needs_a_gpu():
        pytest.skip("this TRL learns on a GPU alone")
    config = GRPOConfig(output_dir=str(tmp_path), loss_type=loss_type, importance_sampling_level=level, beta=beta,
                        use_bias_correction_kl=False, epsilon=0.2, epsilon_high=0.28, max_completion_length=9, num_generations=4,
                        per_device_train_batch_size=4, bf16=False, use_cpu=True, gradient_checkpointing=False, report_to="none")
    trainer = GRPOTrainer(model=Qwen2ForCausalLM.from_pretrained(tiny, dtype=torch.float64), args=config, reward_funcs=lambda **_: [0.0],
                          train_dataset=Dataset.from_list([{"prompt": "w3"}]))
    trainer.model.eval()
    inputs = trl_inputs()
    theirs = trainer._compute_loss(trainer.model, inputs)
    theirs.backward()

    model = Qwen2ForCausalLM.from_pretrained(tiny, dtype=torch.float64)
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    logprobs = model(input_ids=ids).logits[:, 3:-1].log_softmax(dim=-1).gather(2, inputs["completion_ids"][..., None])[..., 0]
    ours, stats = grpo_loss(logprobs, inputs["old_per_token_logps"], inputs["advantages"], inputs["completion_mask"], epsilon_high=0.28,
                            beta=beta, reference_logprobs=inputs["ref_per_token_logps"], level=level, how=how, constant=9)
    ours.backward()

    close = dict(rtol=1e-5, atol=1e-6)                                  # TRL's fused head works in float32 whatever the model's type
    torch.testing.assert_close(ours, theirs, **close)
    for mine, yours in zip(model.parameters(), trainer.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, yours.grad, **close)
    if level == "token":
        assert stats["clip_low"] > 0 and stats["clip_high"] > 0         # the case has something to clip on both sides
        logged = trainer._metrics["eval"]
        for name, value in summary([stats]).items():
            assert value == pytest.approx(logged[name][0], rel=1e-5)
