"""The trainer on a toy: a random model of twenty thousand parameters is paid for small letters."""

import dataclasses
import json
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from r1lib import text
from r1lib.errors import R1Error
from r1lib.policy import Policy, log_probabilities
from r1lib.rewards import Rewards
from r1lib.sampling import Rollout
from r1lib.sampling.torch import TorchSampler
from r1lib.tasks import Problem
from r1lib.training import grpo, objective
from r1lib.training.grpo import GRPORecipe, train
from r1lib.training.metrics import MetricsLog

RECIPE = GRPORecipe(steps=6, prompts_per_step=4, samples_per_prompt=4, max_new_tokens=12, learning_rate=3e-3, warmup_steps=2,
                    evaluate_every=2, checkpoint_every=2, rollouts_kept_per_step=6)
TIMES = ("step_time", "memory/peak_gb", "time/sample", "time/reward", "time/learn")       # the fields that no seed determines


class Toys:
    """Questions that differ in length and depend on the step alone."""

    def batch(self, step, n):
        return [Problem("math", "toy", 1 + i % 5, "zh" if i % 3 == 2 else "en", f"{step} + {i}" + " + 1" * (i % 3) + "?", "number",
                        str(step + i), f"{step}+{i}") for i in range(n)]


def small_letters(completions, columns):
    """The share of an answer that is small letters, and whether it begins with one."""
    assert set(columns) >= {"solution", "language", "answer_type"} and all(len(column) == len(completions) for column in columns.values())
    share = [sum("a" <= letter <= "z" for letter in answer) / max(len(answer), 1) for answer in completions]
    form = [float("a" <= answer[:1] <= "z") for answer in completions]
    return Rewards([a + f for a, f in zip(share, form, strict=True)], {"accuracy_reward": share, "format_reward": form})


@pytest.fixture
def policy(tiny_policy):
    return often_stopping(tiny_policy)


def often_stopping(policy):
    """Ends an answer at any of fifty tokens: a random model would all but never find the one."""
    policy.model.generation_config.eos_token_id = [policy.tokenizer.eos_token_id, *range(150, 200)]
    return policy


def run(policy, folder, *, recipe=RECIPE, reward=small_letters, seed=0, **options):
    return train(policy, sampler=TorchSampler(policy), problems=Toys(), reward=reward, recipe=recipe, folder=folder, seed=seed, **options)


def held_out(policy):
    """An evaluation that looks at the weights."""
    return lambda step: {"eval_accuracy": sum(parameter.sum().item() for parameter in policy.model.parameters())}


def timeless(rows):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def weights(policy):
    return {name: parameter.detach().clone() for name, parameter in policy.model.named_parameters()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


# ------------------------------------------------------------------------------------------------------------------------------------------
# The recipe

def test_settings_make_a_recipe():
    recipe = GRPORecipe.from_settings({"steps": 3, "betas": [0.9, 0.99], "temperature": 1})
    assert (recipe.steps, recipe.betas, recipe.temperature) == (3, (0.9, 0.99), 1)
    assert GRPORecipe.from_settings({}) == GRPORecipe()


def test_an_unknown_setting_is_named_with_the_known_ones():
    with pytest.raises(R1Error, match="'learning_rte'.*learning_rate"):
        GRPORecipe.from_settings({"learning_rte": 1e-4})


@pytest.mark.parametrize(("name", "value"), [
    ("steps", 0), ("steps", 2.0), ("steps", "3"), ("steps", True), ("prompts_per_step", 0), ("samples_per_prompt", 1),
    ("max_new_tokens", 0), ("learning_rate", 0), ("learning_rate", float("nan")), ("temperature", 0.0), ("max_grad_norm", -1.0),
    ("beta", -0.1), ("epsilon_low", "0.2"), ("aggregation", "mean"), ("advantage_scale", None), ("betas", (0.9,)), ("betas", (0.9, 1.0)),
    ("updates_per_rollout", 5),
    ("checkpoint_every", 0), ("evaluate_every", 0), ("tokens_per_micro_batch", 0), ("warmup_steps", -1)])
def test_a_value_that_makes_no_sense_is_named(name, value):
    with pytest.raises(R1Error) as error:
        GRPORecipe.from_settings({name: value})
    assert f"{name}={value!r}" in str(error.value) and "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Learning from a batch

def batch(policy, questions=3, samples=4, seed=0):
    """Sampled answers, and advantages of which a third of the groups are 0."""
    prompts = [text.zero_prompt(problem.question) for problem in Toys().batch(0, questions)]
    rollouts = TorchSampler(policy).sample(prompts, samples, grpo.SamplingSettings(max_new_tokens=12), seed=seed)
    advantages = torch.randn(questions, samples, generator=torch.Generator().manual_seed(3))
    advantages[1] = 0
    return rollouts, advantages


def optimizer_of(policy):
    return torch.optim.SGD(policy.model.parameters(), lr=0)


def gradient(policy, rollouts, advantages, recipe, reference=None):
    """What `improve` leaves in the weights' `.grad` (a learning rate of nearly 0, and no clipping of the norm, keep them readable)."""
    recipe = dataclasses.replace(recipe, learning_rate=1e-30, max_grad_norm=1e9)
    row = grpo.improve(policy, optimizer_of(policy), rollouts, advantages, recipe, step=0, seed=0, reference=reference)
    return {name: parameter.grad.clone() for name, parameter in policy.model.named_parameters()}, row


def plain_gradient(policy, rollouts, advantages, recipe, reference=None):
    """The same by the book: every row at once, those of advantage 0 too, through the plain forward."""
    policy.model.zero_grad()
    prompts, answers = [rollout.prompt_ids for rollout in rollouts], [rollout.ids for rollout in rollouts]
    logprobs, mask, _ = log_probabilities(policy.model, prompts, answers, temperature=recipe.temperature)
    old = torch.zeros_like(logprobs)
    for row, rollout in enumerate(rollouts):
        old[row, :len(rollout.ids)] = torch.tensor(rollout.logprobs)
    with torch.no_grad():
        referred = log_probabilities(reference, prompts, answers, temperature=recipe.temperature)[0] if reference else None
    loss, _ = objective.grpo_loss(logprobs, old, advantages.flatten(), mask, epsilon_low=recipe.epsilon_low,
                                  epsilon_high=recipe.epsilon_high, beta=recipe.beta, reference_logprobs=referred, how=recipe.aggregation,
                                  constant=recipe.max_new_tokens)
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in policy.model.named_parameters()}, loss.item()


def close(a, b):
    return all((a[name] - b[name]).norm() <= 2e-5 * b[name].norm() + 1e-9 for name in b)


@pytest.mark.parametrize("aggregation", ["sequence", "token", "constant"])
@pytest.mark.parametrize("tokens", [1, 100, 10**6])
def test_the_gradient_is_the_whole_batchs_however_it_is_cut(policy, aggregation, tokens):
    rollouts, advantages = batch(policy)
    recipe = dataclasses.replace(RECIPE, aggregation=aggregation, tokens_per_micro_batch=tokens)
    expected, loss = plain_gradient(policy, rollouts, advantages, recipe)
    found, row = gradient(policy, rollouts, advantages, recipe)
    assert close(found, expected)
    assert row["loss"] == pytest.approx(loss, abs=1e-6)
    norm = torch.stack([part.norm() for part in expected.values()]).norm().item()
    assert row["grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert row["sampling/sampling_logp_difference/max"] < 1e-4 and row["clip_ratio/region_mean"] == 0 and row["entropy"] > 0


@pytest.mark.parametrize(("ratio", "low", "high"), [(0.75, True, False), (0.85, False, False), (1.25, False, False), (1.3, False, True)])
def test_off_policy_the_ratio_and_the_clip_count(policy, ratio, low, high):
    rollouts, advantages = batch(policy)
    for rollout in rollouts:
        rollout.logprobs = [logprob - math.log(ratio) for logprob in rollout.logprobs]
    found, row = gradient(policy, rollouts, advantages, RECIPE)
    assert close(found, plain_gradient(policy, rollouts, advantages, RECIPE)[0])
    assert (row["clip_ratio/low_mean"] > 0, row["clip_ratio/high_mean"] > 0) == (low, high)         # the clip range is 0.8 ... 1.28
    assert row["sampling/sampling_logp_difference/mean"] == pytest.approx(abs(math.log(ratio)), abs=1e-4)


def test_with_a_reference_rows_without_advantage_are_held_back_too(policy):
    rollouts, advantages = batch(policy)
    reference = grpo.copy.deepcopy(policy.model)
    with torch.no_grad():
        reference.model.norm.weight *= 0.9
    recipe = dataclasses.replace(RECIPE, beta=0.5, tokens_per_micro_batch=100)
    found, row = gradient(policy, rollouts, advantages, recipe, reference)
    assert close(found, plain_gradient(policy, rollouts, advantages, recipe, reference)[0])
    assert row["kl"] > 0
    without, row = gradient(policy, rollouts, advantages, RECIPE)
    assert not close(without, found) and "kl" not in row


def test_a_batch_without_signal_moves_nothing_not_even_by_momentum(policy):
    rollouts, advantages = batch(policy)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-3)
    grpo.improve(policy, optimizer, rollouts, advantages, RECIPE, step=0, seed=0)
    before = weights(policy)
    row = grpo.improve(policy, optimizer, rollouts, torch.zeros_like(advantages), RECIPE, step=1, seed=0)
    assert same(before, weights(policy))
    assert (row["loss"], row["grad_norm"]) == (0, 0)
    grpo.improve(policy, optimizer, rollouts, advantages, RECIPE, step=2, seed=0)
    assert not same(before, weights(policy))


def test_warm_up_then_constant(policy):
    rollouts, advantages = batch(policy)
    recipe = dataclasses.replace(RECIPE, warmup_steps=4, learning_rate=1e-3)
    rows = [grpo.improve(policy, optimizer_of(policy), rollouts, advantages, recipe, step=step, seed=0) for step in range(6)]
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])


def test_several_updates_of_a_rollout_batch_take_each_question_once(policy, monkeypatch):
    rollouts, advantages = batch(policy, questions=4)
    advantages += 0.1
    seen = []
    real = grpo._gradient

    def gradient(policy, chosen, *rest):
        seen.append([rollout.prompt_index for rollout in chosen])
        return real(policy, chosen, *rest)

    monkeypatch.setattr(grpo, "_gradient", gradient)
    recipe = dataclasses.replace(RECIPE, updates_per_rollout=2, learning_rate=0.02, warmup_steps=0)
    row = grpo.improve(policy, optimizer_of(policy), rollouts, advantages, recipe, step=0, seed=0)
    assert [len(part) for part in seen] == [8, 8] and sorted(sum(seen, [])) == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert row["sampling/sampling_logp_difference/max"] < 1e-4          # of the first update, which is on-policy
    for step in range(1, 9):
        grpo.improve(policy, optimizer_of(policy), rollouts, advantages, recipe, step=step, seed=0)
    assert len({frozenset(part) for part in seen}) > 2                  # drawn anew each step


def test_micro_batches_hold_every_row_once_within_the_budget():
    rollouts = [Rollout(i // 4, [1] * (10 + i // 4), [2] * (1 + 7 * i % 13), [], "", True) for i in range(24)]
    for tokens in (1, 30, 64, 10**6):
        cut = list(grpo.micro_batches(rollouts, tokens))
        assert sum(cut, []) == list(range(24))
        for rows in cut:
            used = sum(len(rollouts[row].ids) for row in rows) + sum(10 + group for group in {row // 4 for row in rows})
            assert used <= tokens or len(rows) == 1
    assert len(list(grpo.micro_batches(rollouts, 10**6))) == 1 and len(list(grpo.micro_batches(rollouts, 1))) == 24
    assert list(grpo.micro_batches([], 10)) == []


# ------------------------------------------------------------------------------------------------------------------------------------------
# The loop

def test_it_learns_what_it_is_paid_for(policy, tmp_path):
    history = run(policy, tmp_path, recipe=dataclasses.replace(RECIPE, steps=30, samples_per_prompt=8, learning_rate=5e-3))
    rewards = [row["reward"] for row in history.rows]
    assert not history.interrupted and history.reason is None
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.3


def test_rows_are_one_a_step_with_held_out_numbers_of_the_same_policy(policy, tmp_path):
    told = []
    base = held_out(policy)(0)
    history = run(policy, tmp_path, evaluate=held_out(policy), watchers=[told.append])
    assert [row["step"] for row in history.rows] == list(range(7))
    assert told == history.rows == MetricsLog(tmp_path / "metrics.jsonl").rows()
    assert [row["step"] for row in history.rows if "eval_accuracy" in row] == [0, 2, 4, 6]
    assert history.rows[0]["eval_accuracy"] == base["eval_accuracy"]
    assert history.rows[6] == {"step": 6, **held_out(policy)(6)}
    expected = {"step", "reward", "reward_std", "rewards/accuracy_reward/mean", "rewards/format_reward/mean", "frac_reward_zero_std",
                "completions/mean_length", "completions/min_length", "completions/max_length", "completions/clipped_ratio", "entropy",
                "clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "grad_norm", "loss", "learning_rate", "num_tokens",
                "step_time", "sampling/sampling_logp_difference/mean", "sampling/sampling_logp_difference/max", "reflection",
                "language_mixing", "well_formed", "memory/peak_gb", "time/sample", "time/reward", "time/learn"}
    for row in history.rows[:6]:
        assert expected <= set(row) and "kl" not in row
        assert row["step_time"] == pytest.approx(row["time/sample"] + row["time/reward"] + row["time/learn"])
    tokens = [row["num_tokens"] for row in history.rows[:6]]
    assert tokens == sorted(set(tokens))


def test_the_reference_becomes_the_latest_policy_every_so_many_steps(policy, tmp_path):
    rows = run(policy, tmp_path, recipe=dataclasses.replace(RECIPE, beta=0.01, reference_refresh=3)).rows
    assert [row["kl"] > 1e-6 for row in rows] == [False, True, True, False, True, True]


def test_every_step_and_every_seed_draws_answers_of_its_own(policy, tmp_path):
    drawn = []

    class Recorder(TorchSampler):
        def sample(self, prompts, samples, settings, *, seed):
            drawn.append(seed)
            return super().sample(prompts, samples, settings, seed=seed)

    for seed in (0, 1):
        train(policy, sampler=Recorder(policy), problems=Toys(), reward=small_letters, recipe=RECIPE,
              folder=tmp_path / f"{seed}", seed=seed)
    assert len(set(drawn)) == 2 * RECIPE.steps


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(policy, tmp_path):
    start = grpo.copy.deepcopy(policy.model.state_dict())
    rows = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        policy.model.load_state_dict(start)
        rows.append(timeless(run(policy, tmp_path / name, seed=seed).rows))
    assert rows[0] == rows[1] != rows[2]


def test_kept_rollouts_hold_the_best_and_the_worst_of_a_group(policy, tmp_path):
    given = []

    def reward(completions, columns):
        given.append(small_letters(completions, columns))
        return given[-1]

    run(policy, tmp_path, reward=reward)
    kept = MetricsLog(tmp_path / "rollouts.jsonl").rows()
    assert [row["step"] for row in kept] == [step for step in range(6) for _ in range(6)]
    first = set()
    for step in range(6):
        rows = [row for row in kept if row["step"] == step]
        questions = [next(i for i, problem in enumerate(Toys().batch(step, 4)) if problem.id == row["problem"]) for row in rows]
        group = given[step].total[4 * questions[0]:4 * questions[0] + 4]
        assert rows[0]["reward"] == max(group) and min(group) in [row["reward"] for row in rows[:2]]
        assert len({(question, row["sample"]) for question, row in zip(questions, rows, strict=True)}) == 6
        for question, row in zip(questions, rows, strict=True):
            group = given[step].total[4 * question:4 * question + 4]
            assert row["reward"] == group[row["sample"]] == pytest.approx(sum(row["rewards"].values()))
            assert row["reward"] > sum(group) / 4 or row["advantage"] <= 1e-6
        assert {"question", "gold", "text", "length", "finished", "level", "language", "domain"} <= set(rows[0])
        first.add(questions[0])
    assert len(first) > 1                                    # another group each time


# ------------------------------------------------------------------------------------------------------------------------------------------
# What stops a run

def test_no_signal_stops_before_any_update(policy, tmp_path):
    before = weights(policy)
    with pytest.raises(R1Error) as error:
        run(policy, tmp_path, reward=lambda completions, columns: Rewards([1.0 if c == "0" else 0.0 for c in columns["solution"]], {}))
    message = str(error.value)
    assert "rewards: 0 x 12, 1 x 4" in message and "easier levels" in message and "\n" not in message
    assert same(before, weights(policy)) and MetricsLog(tmp_path / "metrics.jsonl").rows() == []
    assert MetricsLog(tmp_path / "rollouts.jsonl").rows()                      # there to be read
    more = dataclasses.replace(RECIPE, samples_per_prompt=8)
    assert run(policy, tmp_path, recipe=more).rows[-1]["step"] == 5            # the advice can be taken in the same folder


def test_answers_that_never_end_stop_it_too(policy, tmp_path):
    policy.model.generation_config.eos_token_id = policy.tokenizer.eos_token_id
    with pytest.raises(R1Error, match="none of 16 answers ended within max_new_tokens=12"):
        run(policy, tmp_path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_is_named(policy, tmp_path, bad):
    with pytest.raises(R1Error, match=r"math/toy/1/en/\w+ is (nan|inf)"):
        run(policy, tmp_path, reward=lambda completions, columns: Rewards([bad] + [0.0] * (len(completions) - 1), {}))


def test_a_loss_that_is_no_number_is_not_learnt(policy, tmp_path):
    sampler = TorchSampler(policy)
    kept = {}

    class Poisoned:
        """Log-probabilities that overflow the ratio at step 3."""

        def sample(self, prompts, samples, settings, *, seed):
            rollouts = sampler.sample(prompts, samples, settings, seed=seed)
            if any("User: 3 +" in prompt for prompt in prompts):
                kept.update(weights(policy))
                for rollout in rollouts:
                    rollout.logprobs = [-1e4] * len(rollout.ids)
            return rollouts

    with pytest.raises(R1Error) as error:
        train(policy, sampler=Poisoned(), problems=Toys(), reward=small_letters, recipe=RECIPE, folder=tmp_path, seed=0)
    assert str(error.value).startswith("step 3: the loss is") and "learning_rate" in str(error.value) and "\n" not in str(error.value)
    assert same(kept, weights(policy))
    assert [row["step"] for row in MetricsLog(tmp_path / "metrics.jsonl").rows()] == [0, 1, 2]
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["00000000.safetensors", "00000002.safetensors"]


def test_the_alarm_is_in_the_row(policy, tmp_path):
    calls = []

    def hacked(completions, columns):
        calls.append(1)
        late = len(calls) > 4
        form = [float(late or i % 2) for i in range(len(completions))]
        right = [float(not late or i % 4 == 0) for i in range(len(completions))]
        return Rewards([a + f for a, f in zip(right, form, strict=True)], {"accuracy_reward": right, "format_reward": form})

    rows = run(policy, tmp_path, recipe=dataclasses.replace(RECIPE, steps=8), reward=hacked).rows
    assert ["alarm" in row for row in rows] == [False] * 7 + [True]


# ------------------------------------------------------------------------------------------------------------------------------------------
# Going on

@pytest.fixture(scope="module")
def straight(tmp_path_factory, tiny_tokenizer):
    """An uninterrupted run with everything that has a state: reference, refreshes, several updates, a random reward."""
    folder = tmp_path_factory.mktemp("straight")
    return folder, stateful_run(folder)


STATEFUL = dataclasses.replace(RECIPE, beta=0.05, reference_refresh=3, updates_per_rollout=2, checkpoint_every=2)


def stateful_run(folder, reward=None, policy=None, **options):
    policy = policy or fresh_policy()
    return run(policy, folder, recipe=STATEFUL, reward=reward or noisy_letters, evaluate=held_out(policy), **options)


def noisy_letters(completions, columns):
    """A reward that draws from the global streams of torch and of Python: a run that goes on must find them where they were."""
    rewards = small_letters(completions, columns)
    noise = (0.1 * random.random() * torch.rand(len(completions))).tolist()
    return Rewards([total + more for total, more in zip(rewards.total, noise, strict=True)], rewards.parts)


def fresh_policy():
    """The same policy in every process."""
    sys.path.insert(0, str(Path(__file__).parent))
    import conftest

    torch.manual_seed(0)
    random.seed(0)
    return often_stopping(conftest.tiny_policy.__wrapped__(conftest.tiny_tokenizer.__wrapped__()))


KILLED = """
import os, signal, sys
sys.path[:0] = [sys.argv[3], sys.argv[4]]
import test_grpo
from r1lib.training import checkpoint

how, calls = sys.argv[2], []

def reward(completions, columns):
    calls.append(1)
    if how == "in a step" and len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return test_grpo.noisy_letters(completions, columns)

real = checkpoint.save_file

def save_file(tensors, path, metadata):
    real(tensors, path, metadata)
    if how == "in a checkpoint" and path.exists() and '"step": 4' in metadata["about"]:
        path.write_bytes(path.read_bytes()[:1000])
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save_file = save_file
test_grpo.stateful_run(test_grpo.Path(sys.argv[1]), reward)
"""


@pytest.mark.parametrize(("how", "rows", "going_on"), [("in a step", 3, 2), ("in a checkpoint", 4, 2)])
def test_a_killed_run_goes_on_to_the_very_same_numbers(tmp_path, straight, how, rows, going_on):
    tests = Path(__file__).parent
    ended = subprocess.run([sys.executable, "-c", KILLED, tmp_path, how, tests, tests.parent], capture_output=True, text=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len(MetricsLog(tmp_path / "metrics.jsonl").rows()) == rows
    if how == "in a step":
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 3, "rew')                   # as if it had been killed while it wrote this line
    told = []
    history = stateful_run(tmp_path, watchers=[told.append])
    assert [row["step"] for row in told] == list(range(going_on, 7))
    assert timeless(history.rows) == timeless(straight[1].rows)
    assert (tmp_path / "rollouts.jsonl").read_text() == (straight[0] / "rollouts.jsonl").read_text()
    ours, theirs = (safetensors.torch.load_file(folder / "state" / "00000006.safetensors") for folder in (tmp_path, straight[0]))
    assert set(ours) == set(theirs) and same(ours, theirs)


def interrupt_after(step):
    def watcher(row):
        if row["step"] == step:
            raise KeyboardInterrupt
    return watcher


@pytest.mark.parametrize("step", [0, 2, 3, 5])
def test_an_interrupted_run_returns_what_there_is_and_goes_on(tmp_path, straight, step):
    policy = fresh_policy()
    history = stateful_run(tmp_path, policy=policy, watchers=[interrupt_after(step)])
    assert history.interrupted and f"an interrupt after {step + 1} of 6 steps" in history.reason
    assert [row["step"] for row in history.rows] == list(range(step + 1))
    history = stateful_run(tmp_path, policy=policy)          # the same policy in memory, as when a notebook's cell is run again
    assert not history.interrupted
    assert timeless(history.rows) == timeless(straight[1].rows)


def test_an_interrupt_while_learning_waits_until_the_step_is_whole(tmp_path, straight, monkeypatch, interruptible):
    policy, real, calls = fresh_policy(), grpo._gradient, []

    def gradient(*arguments):
        calls.append(1)
        if len(calls) == 3:                                  # the first of two updates of step 1
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(grpo, "_gradient", gradient)
    history = stateful_run(tmp_path, policy=policy)
    assert history.interrupted and len(calls) == 4
    assert timeless(history.rows) == timeless(straight[1].rows)[:2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert timeless(stateful_run(tmp_path, policy=policy).rows) == timeless(straight[1].rows)


def test_a_stop_file_stops_and_goes(tmp_path, straight):
    policy = fresh_policy()
    history = stateful_run(tmp_path, policy=policy, watchers=[lambda row: row["step"] == 2 and (tmp_path / "STOP").touch()])
    assert history.interrupted and history.reason == "stopped by a STOP file after 3 of 6 steps"
    assert not (tmp_path / "STOP").exists()
    assert timeless(stateful_run(tmp_path, policy=policy).rows) == timeless(straight[1].rows)


def test_a_finished_run_is_not_run_again(tmp_path, policy):
    rows = run(policy, tmp_path, evaluate=held_out(policy)).rows
    after = weights(policy)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert run(policy, tmp_path, evaluate=pytest.fail).rows == rows
    assert same(after, weights(policy)) and files == {path: path.read_bytes() for path in tmp_path.rglob("*.*")}


def test_a_finished_run_can_be_made_longer(tmp_path, policy):
    start = grpo.copy.deepcopy(policy.model.state_dict())
    run(policy, tmp_path / "in two", recipe=dataclasses.replace(RECIPE, steps=3), evaluate=held_out(policy))
    assert (tmp_path / "in two" / "state" / "00000003.safetensors").exists()            # the end is a checkpoint, whatever the interval
    rows = run(policy, tmp_path / "in two", evaluate=held_out(policy)).rows
    policy.model.load_state_dict(start)
    assert timeless(rows) == timeless(run(policy, tmp_path / "at once", evaluate=held_out(policy)).rows)
    with pytest.raises(R1Error, match="6 steps, more than steps=5"):
        run(policy, tmp_path / "in two", recipe=dataclasses.replace(RECIPE, steps=5))


@pytest.mark.parametrize(("options", "named"), [
    ({"seed": 1}, "seed=0"), ({"recipe": dataclasses.replace(RECIPE, learning_rate=1e-3)}, "learning_rate=0.003"),
    ({"recipe": dataclasses.replace(RECIPE, samples_per_prompt=8)}, "samples_per_prompt=4")])
def test_the_folder_of_another_run_is_left_alone(tmp_path, policy, options, named):
    run(policy, tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(R1Error) as error:
        run(policy, tmp_path, **options)
    assert str(tmp_path) in str(error.value) and named in str(error.value)
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*.*")}


def test_metrics_without_a_state_are_left_alone(tmp_path, policy):
    MetricsLog(tmp_path / "metrics.jsonl").append({"step": 7})
    with pytest.raises(R1Error, match="no .*state to go on from"):
        run(policy, tmp_path)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 7}


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, straight, capsys):
    policy = fresh_policy()
    stateful_run(tmp_path, policy=policy, watchers=[interrupt_after(3)])
    newest = max((tmp_path / "state").iterdir())
    newest.write_bytes(newest.read_bytes()[:5000])
    assert timeless(stateful_run(tmp_path, policy=policy).rows) == timeless(straight[1].rows)
    assert str(newest) in capsys.readouterr().err


def test_a_policy_that_was_saved_and_loaded_trains_the_same(tmp_path, policy):
    policy.save(tmp_path / "model")
    loaded = often_stopping(Policy.load(tmp_path / "model"))
    assert timeless(run(loaded, tmp_path / "a").rows) == timeless(run(policy, tmp_path / "b").rows)
