"""Two processes train as one does. This file is the test and, started by torchrun, what each of its two processes does."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_grpo import RECIPE, Toys, fresh_policy, held_out, small_letters, timeless

from r1lib import stages
from r1lib.errors import R1Error
from r1lib.rewards import Rewards
from r1lib.sampling import Rollout
from r1lib.sampling.torch import TorchSampler
from r1lib.training import checkpoint, grpo, parallel
from r1lib.training.metrics import MetricsLog

ROOT = Path(__file__).parent.parent
# Everything that has a state, minibatches of three groups, and every answer kept to be compared.
WHOLE = dataclasses.replace(RECIPE, steps=4, prompts_per_step=6, updates_per_rollout=2, beta=0.05, reference_refresh=3, evaluate_every=2,
                            checkpoint_every=1, rollouts_kept_per_step=100, tokens_per_micro_batch=200)
# A single question: one of two processes answers, judges and learns nothing.
SINGLE = dataclasses.replace(RECIPE, steps=2, prompts_per_step=1, rollouts_kept_per_step=100)
STAGE = dict(profile="smoke", settings={"steps": 2, "prompts_per_step": 4, "samples_per_prompt": 4, "max_new_tokens": 32})


def train(folder, processes=parallel.ALONE, *, recipe=WHOLE, reward=small_letters, watchers=()):
    """Train a policy of double precision, in which the order of a sum is all but without consequence; returns it and its history."""
    policy = fresh_policy()
    policy.model.double()
    return policy, grpo.train(policy, sampler=TorchSampler(policy), problems=Toys(), reward=reward, recipe=recipe, folder=folder, seed=0,
                              evaluate=held_out(policy), watchers=watchers, processes=processes)


def weights(policy):
    return {name: tensor.detach().clone() for name, tensor in policy.model.named_parameters()}


# ------------------------------------------------------------------------------------------------------------------------------------------
# What each of two processes does

def take_part(out):
    with parallel.joined("cpu") as processes:
        if processes.rank:
            for owner, name in ((MetricsLog, "append"), (checkpoint, "save"), (MetricsLog, "truncate_after")):
                setattr(owner, name, lambda *_, **__: pytest.fail("only the first process writes"))
        said = {}
        for name, recipe in (("whole", WHOLE), ("single", SINGLE)):
            policy, _ = train(out / name, processes, recipe=recipe)
            save_file(weights(policy), out / f"{name}-{processes.rank}.safetensors")

        ended = [train(out / "stopped", processes, watchers=[when])[1] for when in (stop_after_2, interrupt_after_3, lambda row: None)]
        said["stopped"] = [history.reason for history in ended]
        for name, reward in (("one's error", one_refuses), ("not finite", not_finite), ("no signal", no_signal)):
            said[name] = refusal(lambda reward=reward, name=name: train(out / name.replace(" ", "-"), processes, reward=reward))
        said["learner"] = refusal(lambda: grpo.train(None, sampler=None, problems=None, reward=None, recipe=WHOLE, folder=out, seed=0,
                                                     learner=Toys(), processes=processes))

        said["stages"] = [(run.finished, len(run.rows)) for run in (
            stages.run("zero", folder=out / "zero", processes=processes, **STAGE),
            stages.run("v3", folder=out / "v3", profile="smoke", settings={"examples": 16}, processes=processes))]
        said["trl"] = refusal(lambda: stages.run("zero", folder=out / "zero", profile="smoke+trl", processes=processes))
        (out / f"said-{processes.rank}.json").write_text(json.dumps(said))


def stop_after_2(row):
    if row["step"] == 1:
        (Path(sys.argv[1]) / "stopped" / "STOP").touch()


def interrupt_after_3(row):
    if row["step"] == 2:
        os.kill(os.getpid(), signal.SIGINT)


def one_refuses(completions, columns):
    if os.environ["RANK"] == "1":
        raise R1Error("this process cannot judge")
    return small_letters(completions, columns)


def not_finite(completions, columns):
    return Rewards([float("nan" if os.environ["RANK"] == "1" else 0)] * len(completions), {})


def no_signal(completions, columns):
    return Rewards([1.0] * len(completions), {})


def refusal(work):
    with pytest.raises(R1Error) as error:
        work()
    return str(error.value)


# ------------------------------------------------------------------------------------------------------------------------------------------
# The tests

def torchrun(*arguments, runs):
    """Two processes, which torchrun ends when one of them fails, and this when they wait for each other."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, arguments)]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT), "R1_RUNS": str(runs), "OMP_NUM_THREADS": "1"})
    try:
        return (*started.communicate(timeout=180), started.returncode)
    except subprocess.TimeoutExpired:
        started.terminate()                         # torchrun passes it on
        pytest.fail(f"the processes wait for each other: {started.communicate()}")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder that two processes have filled, and what they printed."""
    out = tmp_path_factory.mktemp("two")
    printed, errors, code = torchrun(Path(__file__).relative_to(ROOT), out, runs=out)
    assert code == 0, errors
    return out, printed


def said(two, name):
    """What both processes say of it, which is the same."""
    first, other = (json.loads((two[0] / f"said-{rank}.json").read_text())[name] for rank in (0, 1))
    assert first == other
    return first


@pytest.mark.parametrize(("name", "recipe"), [("whole", WHOLE), ("single", SINGLE)])
def test_two_processes_train_as_one_does(two, tmp_path, name, recipe):
    policy, history = train(tmp_path, recipe=recipe)
    mine, rows = weights(policy), MetricsLog(two[0] / name / "metrics.jsonl").rows()
    first, other = (load_file(two[0] / f"{name}-{rank}.safetensors") for rank in (0, 1))
    start = weights(fresh_policy())
    for weight in mine:
        assert torch.equal(first[weight], other[weight])
        assert (first[weight] - mine[weight]).abs().max() < 1e-6 * (mine[weight] - start[weight]).abs().max() + 1e-9
    assert [set(row) for row in rows] == [set(row) for row in history.rows]
    for ours, theirs in zip(timeless(rows), timeless(history.rows), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)
    kept = [[{name: row[name] for name in ("step", "problem", "sample", "text", "reward", "rewards")}
             for row in MetricsLog(folder / "rollouts.jsonl").rows()] for folder in (two[0] / name, tmp_path)]
    assert kept[0] == kept[1]


def test_what_was_stopped_goes_on_to_the_very_same_weights(two):
    assert said(two, "stopped") == ["stopped by a STOP file after 2 of 4 steps", "stopped by an interrupt after 3 of 4 steps", None]
    straight, resumed = (load_file(two[0] / folder / "state" / "00000004.safetensors") for folder in ("whole", "stopped"))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    rows = [timeless(MetricsLog(two[0] / folder / "metrics.jsonl").rows()) for folder in ("whole", "stopped")]
    assert rows[0] == rows[1]


def test_an_error_arises_in_both(two):
    assert said(two, "one's error") == "this process cannot judge"
    assert " is nan" in said(two, "not finite") and "no signal" in said(two, "no signal")
    assert "one process" in said(two, "learner") and "recipes/grpo.py" in said(two, "trl")


def test_stages_are_trained_by_both_or_by_the_first(two, tmp_path):
    alone = stages.run("zero", folder=tmp_path, **STAGE)
    assert said(two, "stages") == [[True, len(alone.rows)], [True, len(MetricsLog(two[0] / "v3" / "metrics.jsonl").rows())]]
    for ours, theirs in zip(timeless(stages.run("zero", folder=two[0] / "zero", **STAGE).rows), timeless(alone.rows), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    assert two[1].count("zero: trained from") == two[1].count("v3: trained from") == 1


def test_a_users_mistake_is_said_once(tmp_path):
    printed, errors, code = torchrun("-m", "r1lib", "run", "--profile", "smoke", "--set", "max_new_tokens=1", runs=tmp_path)
    assert code == 1 and errors.count("error: stage zero: step 0: none of 64 answers ended") == 1
    assert printed.count("zero: trained from") == 1


def test_other_commands_are_for_one_process(monkeypatch, capsys):
    from r1lib.__main__ import main

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")
    assert main(["ledger"]) == 2
    assert "start `ledger` without it" in capsys.readouterr().err


@pytest.mark.parametrize(("device", "on_host", "message"), [("cpu", "2", "GPUs of one host"), ("cuda", "4", "4 processes for 1 GPUs")])
def test_more_than_this_trainer_can_use_is_refused(monkeypatch, device, on_host, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {"TORCHELASTIC_RUN_ID": "any", "RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": on_host}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(R1Error, match=message), parallel.joined(device):
        pass


def test_without_torchrun_there_is_one(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with parallel.joined("cuda") as processes:
        assert processes is parallel.ALONE and processes.share(5) == slice(0, 5)


def test_shares_are_even():
    of_three = [parallel.Processes(rank, 3) for rank in range(3)]
    assert [processes.share(8) for processes in of_three] == [slice(0, 2), slice(2, 5), slice(5, 8)]
    answers = [Rollout(row // 2, [1] * 5, [2] * (40 if row < 2 else 10 + row), [], "", True) for row in range(12)]
    rows = [row for row in range(12) if row != 5]                            # a group that has lost an answer is still a group
    parts = [processes.balanced(rows, answers) for processes in of_three]
    assert sorted(sum(parts, [])) == rows and all(part == sorted(part) for part in parts)
    assert all(len({rank for rank, part in enumerate(parts) for row in part if answers[row].prompt_index == group}) == 1
               for group in range(6))
    tokens = [sum(len(answers[row].ids) for row in part) + 5 * len({row // 2 for row in part}) for part in parts]
    assert max(tokens) <= min(tokens) + 25


def test_gradients_are_summed_in_buckets_of_bounded_size(monkeypatch):
    monkeypatch.setattr(parallel, "_BUCKET", 10)
    parameters = [torch.nn.Parameter(torch.ones(size)) for size in (4, 6, 1, 20, 3)]
    assert [[len(weight) for weight in bucket] for bucket in parallel._buckets(parameters)] == [[4, 6], [1], [20], [3]]


if __name__ == "__main__":
    take_part(Path(sys.argv[1]))
