"""Our sampler draws exactly what the model means: the same tokens as `generate` when greedy, the right frequencies when not."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from r1lib.errors import R1Error
from r1lib.policy import Policy, log_probabilities
from r1lib.sampling import SamplingSettings, many, native
from r1lib.sampling import torch as ours
from r1lib.sampling.torch import TorchSampler, draw

PROMPTS = ["the 12 + 3", "in", "User: think of the 407 things in the box", "a1", "等等"]      # of different lengths: some are padded


@pytest.fixture(params=["kernels", "torch"], autouse=True)
def engine(request, monkeypatch):
    """All that is promised holds with the kernels in C and without them."""
    if request.param == "torch":
        monkeypatch.setattr(ours, "_kernels", lambda *_: None)
    elif native.kernels(4, 2, 8, 64) is None:
        pytest.skip("there is no C compiler here")


without_kernels = pytest.mark.parametrize("engine", ["torch"], indirect=True)


def ids_of(rollouts):
    return [rollout.ids for rollout in rollouts]


def stop_often(policy, share=0.06, also=()):
    """Make a share of the vocabulary end an answer, so that rows leave the batch at many different times."""
    count = int(share * len(policy.tokenizer))
    policy.model.generation_config.eos_token_id = [1, *range(30, 30 + count), *also]


def noisy(model):
    """Move the biases and norms away from their start values, as in `tiny_policy`."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def other_shapes(tokenizer):
    common = dict(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=256, initializer_range=0.25, pad_token_id=0, eos_token_id=1, bos_token_id=None)
    scaled = dict(rope_type="llama3", rope_theta=5000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                  original_max_position_embeddings=64)
    biased = dict(rope_parameters=scaled, attention_bias=True, mlp_bias=True)
    return {
        "qwen2, theta": lambda: Qwen2ForCausalLM(Qwen2Config(**common, rope_parameters=dict(rope_type="default", rope_theta=300.0))),
        "qwen3, norms and wide heads": lambda: Qwen3ForCausalLM(Qwen3Config(**common, head_dim=16)),
        "llama, untied": lambda: LlamaForCausalLM(LlamaConfig(**common, tie_word_embeddings=False)),
        "llama, scaled, biases": lambda: LlamaForCausalLM(LlamaConfig(**common, **biased)),
    }


@pytest.mark.parametrize("shape", ["tiny", "qwen2, theta", "qwen3, norms and wide heads", "llama, untied", "llama, scaled, biases"])
def test_greedy_tokens_and_probabilities_are_those_of_the_model(shape, tiny_policy):
    policy = tiny_policy
    if shape != "tiny":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            policy = Policy(noisy(other_shapes(policy.tokenizer)[shape]()), policy.tokenizer)
    rollouts = TorchSampler(policy).sample(PROMPTS, 1, SamplingSettings(24, top_k=1), seed=0)
    for prompt, rollout in zip(policy.encode(PROMPTS), rollouts, strict=True):
        expected = policy.model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)[0, len(prompt):].tolist()
        assert rollout.ids == expected and rollout.prompt_ids == prompt
        assert rollout.logprobs == [0.0] * len(expected)                  # of the only token that greedy decoding can draw
    drawn = TorchSampler(policy).sample(PROMPTS, 3, SamplingSettings(24), seed=0)
    logprobs, mask, _ = log_probabilities(policy.model, [rollout.prompt_ids for rollout in drawn], [rollout.ids for rollout in drawn])
    sampled = torch.tensor([value for rollout in drawn for value in rollout.logprobs])
    torch.testing.assert_close(sampled, logprobs[mask], atol=1e-4, rtol=0)


def test_log_probabilities_are_the_models_whoever_leaves_the_batch(tiny_policy):
    """Rows and whole prompts end at all times, the batch is closed up again and again: every number still belongs to its own token."""
    stop_often(tiny_policy)
    rollouts = TorchSampler(tiny_policy).sample(PROMPTS, 12, SamplingSettings(60, temperature=0.8), seed=3)
    lengths = [len(rollout.ids) for rollout in rollouts]
    assert len(set(lengths)) > 20 and max(lengths) == 60                  # the test is about rows of many lengths
    assert [rollout.prompt_index for rollout in rollouts] == [index for index in range(len(PROMPTS)) for _ in range(12)]
    expected, mask, _ = log_probabilities(
        tiny_policy.model, [rollout.prompt_ids for rollout in rollouts], [rollout.ids for rollout in rollouts], temperature=0.8)
    for row, rollout in enumerate(rollouts):
        torch.testing.assert_close(torch.tensor(rollout.logprobs), expected[row, :len(rollout.ids)].detach(), atol=1e-4, rtol=0)
        assert rollout.prompt_ids == tiny_policy.encode([PROMPTS[rollout.prompt_index]])[0]
        assert len(rollout.ids) == len(rollout.logprobs)


@pytest.mark.parametrize("max_rows", [1, 7, 13])
def test_max_rows_changes_no_answer(max_rows, tiny_policy):
    stop_often(tiny_policy)
    settings = SamplingSettings(20, top_p=0.95)
    whole = TorchSampler(tiny_policy).sample(PROMPTS, 5, settings, seed=1)
    parts = TorchSampler(tiny_policy, max_rows=max_rows).sample(PROMPTS, 5, settings, seed=1)
    assert ids_of(parts) == ids_of(whole) and [rollout.text for rollout in parts] == [rollout.text for rollout in whole]


@without_kernels
@pytest.mark.parametrize("copied", [0, 64], ids=["shared prompts", "copied prompts"])
@pytest.mark.parametrize(("look_every", "jump", "width"), [(1, 16, 1), (8, 10, 32), (8, 16, 7), (5, 64, 2)])
def test_the_habits_of_a_gpu_change_no_answer(look_every, jump, width, copied, tiny_policy, monkeypatch):
    """Sizes that change in jumps, rows that leave late, slots that are attended to before they are written: the same tokens."""
    stop_often(tiny_policy)
    settings = SamplingSettings(50)
    at_once = TorchSampler(tiny_policy).sample(PROMPTS, 7, settings, seed=4)
    monkeypatch.setitem(ours._HABITS, "cpu", ours._Habits(512, False, look_every, fewest_rows=4, slots=jump, width=width, copied=copied))
    sizes = []
    write = ours._Batch.write
    monkeypatch.setattr(ours._Batch, "write", lambda batch, slots: sizes.append((batch.rows, slots)) or write(batch, slots))
    sampler = TorchSampler(tiny_policy)
    for _ in range(2):                                                    # the second time in the memory of the first
        rollouts = sampler.sample(PROMPTS, 7, settings, seed=4)
        assert ids_of(rollouts) == ids_of(at_once)
        torch.testing.assert_close([r.logprobs for r in rollouts], [r.logprobs for r in at_once], atol=1e-5, rtol=0)
    assert len(sampler._batches) == 1 and len({rows for rows, _ in sizes}) > 2
    assert {slots for _, slots in sizes} == {min(50, -(-written // jump) * jump) for written in range(1, 50)}


def test_a_seed_gives_the_same_answers_and_another_gives_others(tiny_policy):
    sampler, settings = TorchSampler(tiny_policy), SamplingSettings(12)
    first = sampler.sample(PROMPTS, 4, settings, seed=5)
    assert sampler.sample(PROMPTS, 4, settings, seed=5) == first          # every field, to the last bit
    assert ids_of(sampler.sample(PROMPTS, 4, settings, seed=6)) != ids_of(first)
    assert len({tuple(rollout.ids) for rollout in first}) == len(first)   # and the samples of a prompt are not alike


def test_an_answer_does_not_depend_on_how_many_are_asked_for(tiny_policy):
    few = TorchSampler(tiny_policy).sample(PROMPTS[:2], 2, SamplingSettings(12), seed=5)
    many = TorchSampler(tiny_policy).sample(PROMPTS, 6, SamplingSettings(12), seed=5)
    assert ids_of(few) == ids_of([many[0], many[1], many[6], many[7]])


def test_prompts_asked_in_two_calls_get_the_answers_of_one(tiny_policy):
    sampler, settings = TorchSampler(tiny_policy), SamplingSettings(12)
    whole = sampler.sample(PROMPTS, 3, settings, seed=5)
    parts = sampler.sample(PROMPTS[:2], 3, settings, seed=5) + sampler.sample(PROMPTS[2:], 3, settings, seed=5, first=2)
    assert ids_of(parts) == ids_of(whole)
    assert ids_of(sampler.sample(PROMPTS[2:], 3, settings, seed=5)) != ids_of(whole[6:])


def test_the_same_prompt_twice_gives_different_answers(tiny_policy):
    first, second = TorchSampler(tiny_policy).sample(["the 12", "the 12"], 1, SamplingSettings(12), seed=5)
    assert first.prompt_ids == second.prompt_ids and first.ids != second.ids


def test_a_stop_token_ends_the_answer_and_is_not_in_its_text(tiny_policy):
    tag = tiny_policy.tokenizer.convert_tokens_to_ids("</answer>")
    stop_often(tiny_policy, also=[tag])
    rollouts = TorchSampler(tiny_policy).sample(PROMPTS, 20, SamplingSettings(40), seed=2)
    stops = tiny_policy.stop_ids
    assert {rollout.finished for rollout in rollouts} == {True, False}
    assert any(rollout.ids[-1] == tag for rollout in rollouts)
    for rollout in rollouts:
        assert not stops & set(rollout.ids[:-1])
        assert rollout.finished == (rollout.ids[-1] in stops)
        assert len(rollout.ids) == 40 or rollout.finished
        assert rollout.text == tiny_policy.decode(rollout.ids[:-1] if rollout.finished else rollout.ids)


def test_an_answer_may_be_the_stop_token_alone(tiny_policy):
    tiny_policy.model.generation_config.eos_token_id = list(range(len(tiny_policy.tokenizer)))
    for rollout in TorchSampler(tiny_policy).sample(PROMPTS, 2, SamplingSettings(5), seed=0):
        assert len(rollout.ids) == 1 and rollout.text == "" and rollout.finished


def test_the_models_weights_are_read_at_each_call(tiny_policy):
    sampler, settings = TorchSampler(tiny_policy), SamplingSettings(8)
    before = sampler.sample(PROMPTS, 1, settings, seed=0)
    with torch.no_grad():
        for parameter in tiny_policy.model.parameters():
            parameter.mul_(-0.5)
    after = sampler.sample(PROMPTS, 1, settings, seed=0)
    assert ids_of(after) != ids_of(before)
    assert ids_of(after) == ids_of(TorchSampler(tiny_policy).sample(PROMPTS, 1, settings, seed=0))


def test_a_model_whose_weights_moved_is_read_where_they_are(tiny_policy):
    """As after `model.to(device)`, which keeps the parameters and gives them other memory."""
    sampler, settings = TorchSampler(tiny_policy), SamplingSettings(8)
    before = sampler.sample(PROMPTS, 1, settings, seed=0)
    network = sampler._network
    for parameter in tiny_policy.model.parameters():
        parameter.data = parameter.data.clone()
    assert sampler.sample(PROMPTS, 1, settings, seed=0) == before and sampler._network is not network
    network = sampler._network
    assert sampler.sample(PROMPTS, 1, settings, seed=0) == before and sampler._network is network


def test_training_goes_on_after_sampling(tiny_policy):
    TorchSampler(tiny_policy).sample(PROMPTS, 1, SamplingSettings(4), seed=0)
    log_probabilities(tiny_policy.model, [[20]], [[30]])[0].sum().backward()
    assert all(parameter.grad is not None for parameter in tiny_policy.model.parameters())


def chi_square(counts, probabilities):
    """(statistic, degrees of freedom), with bins that expect fewer than 10 put together."""
    expected = counts.sum() * probabilities
    rare = expected < 10
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    return float(((counts - expected) ** 2 / expected.clamp_min(1e-9)).sum()), len(counts) - 1


@pytest.mark.parametrize("settings", [SamplingSettings(2), SamplingSettings(2, temperature=0.5), SamplingSettings(2, top_p=0.8, top_k=20)])
def test_tokens_come_as_often_as_the_model_means(settings, tiny_policy):
    rollouts = TorchSampler(tiny_policy).sample(["the 12"], 6000, settings, seed=0)
    prompt = rollouts[0].prompt_ids
    first = torch.tensor([rollout.ids[0] for rollout in rollouts])
    with torch.no_grad():
        probabilities = nucleus(tiny_policy.model(torch.tensor([prompt])).logits[0, -1].double(), settings)
        statistic, freedom = chi_square(torch.bincount(first, minlength=len(probabilities)).double(), probabilities)
        assert freedom > 5 and statistic < freedom + 4 * (2 * freedom) ** 0.5
        # the second token, given the most frequent first one
        best = int(first[first != 1].bincount().argmax())
        second = torch.tensor([rollout.ids[1] for rollout in rollouts if rollout.ids[0] == best])
        probabilities = nucleus(tiny_policy.model(torch.tensor([[*prompt, best]])).logits[0, -1].double(), settings)
        statistic, freedom = chi_square(torch.bincount(second, minlength=len(probabilities)).double(), probabilities)
        assert freedom > 3 and statistic < freedom + 4 * (2 * freedom) ** 0.5


def nucleus(logits, settings):
    """The sampling distribution by its definition, a token at a time."""
    probabilities = torch.softmax(logits / settings.temperature, -1)
    order = probabilities.argsort(descending=True).tolist()[:settings.top_k or None]
    mass, kept, held = sum(probabilities[id] for id in order), [], 0.0
    for id in order:
        kept.append(id)
        held += probabilities[id] / mass
        if held >= settings.top_p:
            break
    cut = torch.zeros_like(probabilities)
    cut[kept] = probabilities[kept]
    return cut / cut.sum()


@pytest.mark.parametrize("settings", [
    SamplingSettings(1, top_p=0.3), SamplingSettings(1, top_k=3), SamplingSettings(1, temperature=1.7, top_p=0.6, top_k=5),
    SamplingSettings(1, top_k=10_000), SamplingSettings(1, top_p=1e-6), SamplingSettings(1, temperature=0.01)])
def test_draw_stays_in_the_nucleus_and_knows_its_probabilities(settings):
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(0)) * 2
    exact = nucleus(logits[0].double(), settings)
    uniform = torch.linspace(0, 1, 3001, dtype=torch.float64)[:-1]
    ids, logprobs = draw(logits.expand(len(uniform), -1), uniform, settings)
    assert set(ids.tolist()) <= set(exact.nonzero()[:, 0].tolist())
    torch.testing.assert_close(logprobs.double(), exact[ids].log(), atol=1e-5, rtol=1e-5)
    shares = torch.bincount(ids, minlength=40) / len(uniform)             # a grid of numbers draws each token its share of times
    torch.testing.assert_close(shares.double(), exact, atol=1e-3, rtol=0)


def test_draw_never_takes_an_impossible_token():
    logits = torch.tensor([[-1000.0, 0.0, 1.0, -1000.0]]).expand(2, -1)
    ids, _ = draw(logits, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), SamplingSettings(1))
    assert ids.tolist() == [1, 2]


@without_kernels
@pytest.mark.parametrize("few", [0, 12], ids=["shared to the end", "copied when few are left"])
def test_many_steps_keep_the_shared_prompt_and_the_rows_apart(few, tiny_policy, monkeypatch):
    """The batch is closed up in place: whichever rows and prompts go, what stays reads its own keys and values."""
    monkeypatch.setitem(ours._HABITS, "cpu", ours._Habits(512, few=few))
    closed = []
    shrink = ours._Batch.shrink
    monkeypatch.setattr(ours._Batch, "shrink", lambda batch, going: shrink(batch, going) or closed.append((batch.rows, batch.prompts)))
    stop_often(tiny_policy, share=0.1)
    together = TorchSampler(tiny_policy).sample(PROMPTS, 8, SamplingSettings(50), seed=9)
    assert len(set(closed)) > 10 and (few or closed[-1][1] < len(PROMPTS))     # prompts left as well as rows
    alone = TorchSampler(tiny_policy, max_rows=1).sample(PROMPTS, 8, SamplingSettings(50), seed=9)
    assert ids_of(together) == ids_of(alone)


@pytest.mark.parametrize("habits", [ours._Habits(512), ours._Habits(512, few=12), ours._Habits(512, few=64),
                                    ours._Habits(512, False, 8, fewest_rows=4, slots=16, copied=64)],
                         ids=["shared to the end", "copied when few are left", "copied from the start", "as on a GPU"])
def test_memory_is_not_read_before_it_is_written(habits, tiny_policy, monkeypatch):
    """Where new memory is full of nan, a slot that is read too early shows: nan times a weight of 0 is nan."""
    def poisoned(new):
        return lambda *size, **options: new(*size, **options).fill_(float("nan"))

    monkeypatch.setitem(ours._HABITS, "cpu", habits)
    stop_often(tiny_policy)
    clean = TorchSampler(tiny_policy).sample(PROMPTS, 8, SamplingSettings(50), seed=9)
    for owner, name in [(torch, "empty"), (torch.Tensor, "new_empty")]:
        monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))
    assert torch.empty(1).isnan() and torch.ones(1).new_empty(1).isnan()
    assert TorchSampler(tiny_policy).sample(PROMPTS, 8, SamplingSettings(50), seed=9) == clean


def test_bfloat16_stays_close_to_the_model(tiny_policy):
    tiny_policy.model.bfloat16()
    rollouts = TorchSampler(tiny_policy).sample(PROMPTS, 2, SamplingSettings(10), seed=0)
    expected, mask, _ = log_probabilities(
        tiny_policy.model, [rollout.prompt_ids for rollout in rollouts], [rollout.ids for rollout in rollouts])
    sampled = torch.tensor([value for rollout in rollouts for value in rollout.logprobs])
    assert (sampled - expected[mask]).abs().mean() < 0.1


def test_what_the_sampler_cannot_do_is_one_line(tiny_policy):
    sampler, settings = TorchSampler(tiny_policy), SamplingSettings(8)
    assert sampler.sample([], 4, settings, seed=0) == []
    with pytest.raises(R1Error, match="prompt 1 is empty"):
        sampler.sample(["a", ""], 1, settings, seed=0)
    with pytest.raises(R1Error, match="prompt 0 has 3 tokens, and max_new_tokens=2046 goes beyond the 2048"):
        sampler.sample(["123"], 1, SamplingSettings(2046), seed=0)
    tiny_policy.model.model.rotary_emb.rope_type = "dynamic"
    with pytest.raises(R1Error, match="depend on the length"):
        sampler.sample(["a"], 1, settings, seed=0)
    tiny_policy.model.config.layer_types = ["full_attention", "sliding_attention"]
    with pytest.raises(R1Error, match="sliding window"):
        sampler.sample(["a"], 1, settings, seed=0)
    tiny_policy.model.config = MistralConfig()
    with pytest.raises(R1Error, match="qwen2, qwen3, llama, not mistral"):
        sampler.sample(["a"], 1, settings, seed=0)


@pytest.mark.parametrize("wrong", [dict(max_new_tokens=0), dict(temperature=0.0), dict(temperature=float("nan")), dict(top_p=0.0),
                                   dict(top_p=1.1), dict(top_k=-1)])
def test_settings_that_mean_nothing_are_one_line(wrong):
    with pytest.raises(R1Error, match=next(iter(wrong))) as caught:
        SamplingSettings(**{"max_new_tokens": 8, **wrong})
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Many prompts

@pytest.mark.parametrize("a_call", [2048, 10, 1])
def test_many_prompts_are_answered_as_by_one_call(a_call, tiny_policy, monkeypatch):
    monkeypatch.setattr(many, "_ANSWERS_A_CALL", a_call)
    prompts, settings, told = [f"the {number}" for number in range(11)], SamplingSettings(12), []
    sampler = TorchSampler(tiny_policy)
    whole = sampler.sample(prompts, 3, settings, seed=5)
    found = many.answers(sampler, prompts, 3, settings, seed=5, told=told.append)
    assert told == {2048: [11], 10: [3, 6, 9, 11], 1: list(range(1, 12))}[a_call]
    assert ids_of(found) == ids_of(whole) and [one.prompt_index for one in found] == [one.prompt_index for one in whole]


def test_no_prompts_need_no_answers(tiny_policy):
    assert many.answers(TorchSampler(tiny_policy), [], 3, SamplingSettings(12), seed=5) == []
