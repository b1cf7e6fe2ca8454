"""Models of other families: their shapes, end tokens and padding, through our sampler, our trainer and TRL's, from a folder on disk."""

import dataclasses
from pathlib import Path

import pytest
import torch
from test_grpo import Toys, small_letters
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen3Config

from r1lib import text
from r1lib.policy import Policy, log_probabilities
from r1lib.sampling import SamplingSettings
from r1lib.sampling.torch import TorchSampler
from r1lib.training import grpo, sft, trl

SIZES = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=512,
             initializer_range=0.25, bos_token_id=None)
FAMILIES = {
    "qwen2": Qwen2Config(**SIZES, num_key_value_heads=1, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True),
    "llama": LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=False),
}
RECIPE = grpo.GRPORecipe(steps=1, prompts_per_step=4, samples_per_prompt=8, max_new_tokens=16, learning_rate=1e-3, warmup_steps=0)


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """A model with an end of text and an end of turn, as chat models have, and many more of them, so that a random model ends."""
    config = FAMILIES[request.param]
    config.vocab_size, config.pad_token_id = len(tiny_tokenizer), tiny_tokenizer.pad_token_id
    config.eos_token_id = tiny_tokenizer.eos_token_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    model.generation_config.eos_token_id = [tiny_tokenizer.eos_token_id, *range(150, 200)]
    Policy(model, tiny_tokenizer).save(tmp_path / "model")
    return tmp_path / "model"


def test_answers_end_at_any_end_token_and_probabilities_are_the_models(folder: Path) -> None:
    policy = Policy.load(folder)
    prompts = [text.chat_prompt("1 + 1?"), text.chat_prompt("and then the end?")]
    rollouts = TorchSampler(policy).sample(prompts, 8, SamplingSettings(24), seed=0)
    ended = [rollout for rollout in rollouts if rollout.finished]
    assert len({rollout.ids[-1] for rollout in ended}) > 2 and all(rollout.ids[-1] in policy.stop_ids for rollout in ended)
    assert all(id not in policy.stop_ids for rollout in rollouts for id in rollout.ids[:-1])
    found, _, _ = log_probabilities(policy.model, [rollout.prompt_ids for rollout in rollouts], [rollout.ids for rollout in rollouts])
    for rollout, row in zip(rollouts, found.tolist(), strict=True):
        assert rollout.logprobs == pytest.approx(row[:len(rollout.ids)], abs=1e-3)


def test_both_trainers_train_it_and_it_loads_again(folder: Path, tmp_path: Path) -> None:
    for backend in ("ours", "trl"):
        policy = Policy.load(folder)
        task = dict(problems=Toys(), reward=small_letters, recipe=RECIPE, folder=tmp_path / backend, seed=0)
        done = trl.train(policy, **task) if backend == "trl" else grpo.train(policy, sampler=TorchSampler(policy), **task)
        assert done.rows[0]["completions/clipped_ratio"] < 1 and done.rows[0]["grad_norm"] > 0
        policy.save(tmp_path / backend / "model")
        again = Policy.load(tmp_path / backend / "model")
        assert again.stop_ids == policy.stop_ids and again.pad_id == policy.pad_id
        assert all(torch.equal(one, other) for one, other in zip(again.model.parameters(), policy.model.parameters(), strict=True))


def test_marks_are_one_token_each_and_stay_in_the_text(folder: Path) -> None:
    policy = Policy.load(folder)
    written = f"{text.chat_prompt('1?')}<think> a </think> <answer> 2 </answer>"
    (ids,) = policy.encode([written])
    assert policy.decode(ids) == written
    assert [len(row) for row in policy.encode([text.USER, text.ASSISTANT, *text.TAGS])] == [1] * 6


def test_fine_tuning_ends_each_answer(folder: Path) -> None:
    policy = Policy.load(folder)
    rows, _ = sft.encode(policy, [sft.Example(text.chat_prompt("1?"), "<think> a </think> <answer> 1 </answer>", "toy")], max_tokens=99)
    assert rows[0].ids[-1] == policy.tokenizer.eos_token_id and policy.pad_id != policy.tokenizer.eos_token_id
    assert dataclasses.asdict(rows[0])["prompt_index"] == 0
