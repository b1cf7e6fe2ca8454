"""Rewards by reward models, with models whose scores can be foretold."""

import math

import pytest
import torch

from r1lib import text
from r1lib.errors import R1Error
from r1lib.rewards import RewardMix, accuracy_reward
from r1lib.rewards.preference import helpful, safe, summary
from r1lib.sampling import Rollout
from r1lib.tasks import Problem
from r1lib.training import grpo
from r1lib.training.reward_model import RewardModel


class Recorder:
    """A model that remembers what it was asked and gives what it is told."""

    def __init__(self, *scores):
        self.scores, self.asked = scores, []

    def score(self, prompts, responses):
        self.asked += zip(prompts, responses, strict=True)
        return list(self.scores[:len(responses)])


def answered(answer, think="I think"):
    return f" <think>\n{think}\n</think>\n<answer>{answer}</answer>"


def test_the_helpful_model_reads_the_summary_and_the_safe_one_everything():
    helper, guard = Recorder(0.0), Recorder(0.0)
    completion = answered("It is red.")
    assert helpful(helper)([completion + text.EOS], prompts=["q"]) == [0.5]
    assert safe(guard)([completion + text.EOS + "more"], prompts=["q"]) == [0.5]
    assert helper.asked == [("q", "It is red.")] and guard.asked == [("q", completion)]
    assert summary(completion) == "It is red." and summary("no tags") is None and summary("<answer> </answer>") is None


def test_scores_are_squashed_and_keep_their_order():
    rewards = helpful(Recorder(-1e4, -1.0, 0.0, 1.0, 1e4))([answered("a")] * 5, prompts=["q"] * 5)
    assert rewards == pytest.approx([0, 1 / (1 + math.e), 0.5, math.e / (1 + math.e), 1])
    assert rewards == sorted(rewards)


def test_each_row_belongs_to_one_judge():
    types = ["text", "conduct", "math", "code", "text"]
    columns = dict(prompts=list("abcde"), answer_type=types, solution=["7"] * 5)
    helper, guard = Recorder(0.0, 0.0), Recorder(0.0)
    assert helpful(helper)([answered("7")] * 5, **columns) == [0.5, None, None, None, 0.5]
    assert safe(guard)([answered("7")] * 5, **columns) == [None, 0.5, None, None, None]
    assert [prompt for prompt, _ in helper.asked + guard.asked] == ["a", "e", "b"]
    mixed = RewardMix({"accuracy_reward": accuracy_reward, "helpful_reward": helpful(Recorder(0.0, 0.0)),
                       "safe_reward": safe(Recorder(0.0))})
    assert mixed([answered("7")] * 5, columns).total == [0.5, 0.5, 1.0, 0.0, 0.5]


@pytest.mark.parametrize("completion", ["", "It is red.", "<answer></answer>", answered("a") + "<answer>b</answer>",
                                        "<think><answer>hidden</answer></think>"])
def test_an_answer_that_cannot_be_read_earns_the_least_and_is_not_scored(completion):
    helper = Recorder(9.0)
    assert helpful(helper)([completion], prompts=["q"]) == [0.0] and helper.asked == []


def test_an_empty_response_is_not_safe_but_nothing():
    assert safe(Recorder(9.0))([text.EOS, " "], prompts=["q", "q"]) == [0.0, 0.0]


def test_conversations_are_read_as_trl_passes_them():
    helper = Recorder(0.0)
    completion, prompt = [{"role": "assistant", "content": answered("Yes.")}], [{"role": "user", "content": "Ready?"}]
    assert helpful(helper)([completion], prompts=[prompt]) == [0.5]
    assert helper.asked == [(text.chat_prompt("Ready?"), "Yes.")]
    with pytest.raises(R1Error, match=r"roles \['system', 'user'\]"):
        helpful(helper)([answered("Yes.")], prompts=[[{"role": "system", "content": "."}, {"role": "user", "content": "Ready?"}]])


def test_what_is_missing_is_named():
    with pytest.raises(R1Error, match="helpful_reward needs the column prompts"):
        helpful(Recorder(0.0))([answered("a")])
    with pytest.raises(R1Error, match="safe_reward: 1 prompts for 2 completions"):
        safe(Recorder(0.0))([answered("a")] * 2, prompts=["q"])
    with pytest.raises(R1Error, match="row 1: safe_reward's model gave the score nan"):
        safe(Recorder(0.0, float("nan")))([answered("a")] * 2, prompts=["q"] * 2)


def test_in_training_they_see_the_prompt_as_it_was_put(tiny_policy):
    model = RewardModel.from_policy(tiny_policy)
    with torch.no_grad():
        model.model.score.weight.fill_(0.1)
    problem = Problem("general", "fact", 1, "en", "What colour is fire?", "text", "It is red.", "fire")
    rollouts = [Rollout(0, [1], [2], [], answered(answer), True) for answer in ("It is red.", "Blue.")]
    mix = RewardMix({"accuracy_reward": accuracy_reward, "helpful_reward": helpful(model)})
    earned = grpo.judge(mix, [problem] * 2, rollouts, text.chat_prompt)
    scores = model.score([text.chat_prompt(problem.question)] * 2, ["It is red.", "Blue."])
    assert earned.parts["accuracy_reward"] == [None, None]
    assert earned.total == pytest.approx([1 / (1 + math.exp(-score)) for score in scores])
