"""Supervised fine-tuning on a toy: a random model of twenty thousand parameters learns sums by heart."""

import copy
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
from r1lib.policy import log_probabilities
from r1lib.sampling import SamplingSettings
from r1lib.sampling.torch import TorchSampler
from r1lib.training import sft
from r1lib.training.metrics import MetricsLog
from r1lib.training.run import cosine
from r1lib.training.sft import Example, SFTRecipe

RECIPE = SFTRecipe(epochs=2, batch_size=4, learning_rate=3e-3, final_learning_rate=3e-4, warmup_steps=2, checkpoint_every=2,
                   evaluate_every=2)
TIMES = ("step_time", "memory/peak_gb", "time/learn")                      # the fields that no seed determines
STEPS = 6                                                                  # ten examples in batches of four, twice


def sums(count=10):
    """Examples that differ in length and language; every third shares its prompt with the one before."""
    examples = []
    for i in range(count):
        a = i - 1 if i % 3 == 2 else i
        prompt = text.chat_prompt(f"{a} + 1?" if a % 2 else f"{a}加1是多少？")
        examples.append(Example(prompt, f" <think>\nI add{' and add' * (i % 4)}.\n</think>\n<answer>\\boxed{{{a + 1}}}</answer>", "sums"))
    return examples


def run(policy, folder, *, recipe=RECIPE, examples=None, seed=0, **options):
    return sft.train(policy, examples=sums() if examples is None else examples, recipe=recipe, folder=folder, seed=seed, **options)


def held_out(policy):
    """An evaluation that looks at the weights, and draws from the global streams: a run that goes on must find them where they were."""
    def evaluate(step):
        noise = random.random() + torch.rand(()).item()
        return {"eval_accuracy": sum(parameter.sum().item() for parameter in policy.model.parameters()) + noise}
    return evaluate


def timeless(rows):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def weights(policy):
    return {name: parameter.detach().clone() for name, parameter in policy.model.named_parameters()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


# ------------------------------------------------------------------------------------------------------------------------------------------
# The recipe

def test_settings_make_a_recipe():
    recipe = SFTRecipe.from_settings({"epochs": 3, "betas": [0.9, 0.99], "learning_rate": 5e-5, "final_learning_rate": 5e-6})
    assert (recipe.epochs, recipe.betas, recipe.learning_rate) == (3, (0.9, 0.99), 5e-5)
    with pytest.raises(R1Error, match="SFT recipe: there is no setting 'epoch'. Known are epochs"):
        SFTRecipe.from_settings({"epoch": 1})


@pytest.mark.parametrize(("name", "value"), [
    ("epochs", 0), ("epochs", 2.0), ("batch_size", True), ("learning_rate", 0), ("learning_rate", float("nan")), ("max_tokens", 1),
    ("final_learning_rate", -1e-5), ("final_learning_rate", 1.0), ("warmup_steps", -1), ("betas", (0.9, 1.0)), ("precision", "float16"),
    ("checkpoint_every", 0), ("evaluate_every", 0), ("tokens_per_micro_batch", 0), ("max_grad_norm", 0.0), ("weight_decay", "0")])
def test_a_value_that_makes_no_sense_is_named(name, value):
    with pytest.raises(R1Error) as error:
        SFTRecipe.from_settings({name: value})
    assert f"{name}={value!r}" in str(error.value) and "\n" not in str(error.value)


def test_the_rate_warms_up_and_falls_along_a_cosine():
    rates = [cosine(step, 105, warmup=4, first=5e-5, last=5e-6) for step in range(105)]
    assert rates[:5] == pytest.approx([1.25e-5, 2.5e-5, 3.75e-5, 5e-5, 5e-5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[54] == pytest.approx(2.75e-5) and rates[-1] == pytest.approx(5e-6)
    assert rates[29] == pytest.approx(5e-6 + 4.5e-5 * (1 + math.cos(math.pi / 4)) / 2)
    assert cosine(0, 1, warmup=0, first=1.0, last=0.1) == 1.0 and cosine(0, 1, warmup=2, first=1.0, last=0.1) == 0.5


# ------------------------------------------------------------------------------------------------------------------------------------------
# The loss

@pytest.mark.parametrize("tokens", [1, 100, 10**6])
def test_the_gradient_is_that_of_the_plain_mean_however_it_is_cut(tiny_policy, tokens):
    model = tiny_policy.model.double()
    rows, _ = sft.encode(tiny_policy, sums(), max_tokens=512)
    total = sum(len(row.ids) for row in rows)
    slow_loss = 0.0
    for row in rows:                                                       # one by one, through transformers' own loss
        ids = torch.tensor([[*row.prompt_ids, *row.ids]])
        labels = torch.tensor([[-100] * len(row.prompt_ids) + row.ids])
        loss = model(input_ids=ids, labels=labels).loss.double() * len(row.ids) / total
        loss.backward()
        slow_loss += loss.item()
    slow = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    model.zero_grad()
    loss, measured = sft._gradient(tiny_policy, rows, tokens)
    assert loss == pytest.approx(slow_loss, rel=1e-6)
    for name, parameter in model.named_parameters():
        error = (parameter.grad - slow[name]).norm() / slow[name].norm()
        assert error < 1e-5, (name, float(error))                          # transformers' loss and norms are float32 in any model
    assert measured["completions/mean_length"] == total / len(rows)
    with torch.no_grad():
        _, mask, entropy = log_probabilities(model, [row.prompt_ids for row in rows], [row.ids for row in rows])
    assert measured["entropy"] == pytest.approx((entropy.sum() / mask.sum()).item(), rel=1e-6)


def test_a_completion_is_learnt_to_its_end_and_the_prompt_is_not(tiny_policy):
    rows, too_long = sft.encode(tiny_policy, sums(), max_tokens=512)
    assert too_long == 0
    for row, example in zip(rows, sums(), strict=True):
        assert tiny_policy.tokenizer.decode(row.prompt_ids) == example.prompt
        assert tiny_policy.tokenizer.decode(row.ids) == example.completion + text.EOS
    assert [row.prompt_index for row in rows] == [0, 1, 1, 2, 3, 3, 4, 5, 5, 6]


# ------------------------------------------------------------------------------------------------------------------------------------------
# The loop

def test_it_learns_what_it_is_shown(tiny_policy, tmp_path):
    examples = [Example(text.chat_prompt(f"{a}?"), f" <think>\nI see {a}.\n</think>\n<answer>\\boxed{{{9 - a}}}</answer>", "toy")
                for a in range(4)]
    recipe = dataclasses.replace(RECIPE, epochs=60, batch_size=2, learning_rate=1e-2, final_learning_rate=1e-3, checkpoint_every=1000)
    rows = run(tiny_policy, tmp_path, recipe=recipe, examples=examples).rows
    assert rows[0]["loss"] > 3 and rows[-1]["loss"] < 0.1
    answers = TorchSampler(tiny_policy).sample([example.prompt for example in examples], 1,
                                               SamplingSettings(max_new_tokens=80, temperature=0.01), seed=0)
    assert [answer.text for answer in answers] == [example.completion for example in examples]
    assert all(answer.finished for answer in answers)


def test_rows_are_one_a_step_with_held_out_numbers_of_the_same_policy(tiny_policy, tmp_path):
    told = []

    def evaluate(step):
        return {"eval_accuracy": sum(parameter.sum().item() for parameter in tiny_policy.model.parameters())}

    base = evaluate(0)
    history = run(tiny_policy, tmp_path, evaluate=evaluate, watchers=[told.append])
    assert not history.interrupted and history.reason is None
    assert [row["step"] for row in history.rows] == list(range(STEPS + 1))
    assert told == history.rows == MetricsLog(tmp_path / "metrics.jsonl").rows()
    assert [row["step"] for row in history.rows if "eval_accuracy" in row] == [0, 2, 4, 6]
    assert history.rows[0]["eval_accuracy"] == base["eval_accuracy"]
    assert history.rows[-1] == {"step": 6, "epoch": 2.0, **evaluate(6)}
    assert [row["epoch"] for row in history.rows] == pytest.approx([0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    for row in history.rows[:STEPS]:
        assert {"loss", "learning_rate", "grad_norm", "num_tokens", "step_time", "entropy", "memory/peak_gb"} <= set(row)
        assert row["learning_rate"] == cosine(row["step"], STEPS, warmup=2, first=3e-3, last=3e-4)
        assert row["step_time"] == row["time/learn"] > 0
    encoded, _ = sft.encode(tiny_policy, sums(), max_tokens=512)
    assert history.rows[STEPS - 1]["num_tokens"] == 2 * sum(row.length for row in encoded)


def test_an_epoch_takes_each_example_once_in_an_order_of_its_own(tiny_policy, tmp_path, monkeypatch):
    seen = []
    real = sft._gradient

    def gradient(policy, batch, tokens):
        seen.append([tuple(row.ids) for row in batch])
        return real(policy, batch, tokens)

    monkeypatch.setattr(sft, "_gradient", gradient)
    for seed in (0, 1):
        run(tiny_policy, tmp_path / f"{seed}", seed=seed)
    assert [len(batch) for batch in seen] == [4, 4, 2] * 4
    epochs = [sum(seen[i:i + 3], []) for i in range(0, 12, 3)]
    assert all(sorted(epoch) == sorted(epochs[0]) and len(set(epoch)) == 10 for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(tiny_policy, tmp_path):
    start = copy.deepcopy(tiny_policy.model.state_dict())
    rows = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        tiny_policy.model.load_state_dict(start)
        rows.append(timeless(run(tiny_policy, tmp_path / name, seed=seed).rows))
    assert rows[0] == rows[1] != rows[2]


def test_longer_examples_are_left_out_and_counted(tiny_policy, tmp_path):
    lengths = sorted(row.length for row in sft.encode(tiny_policy, sums(), max_tokens=512)[0])
    rows, too_long = sft.encode(tiny_policy, sums(), max_tokens=lengths[6])
    assert max(row.length for row in rows) == lengths[6] and len(rows) + too_long == 10 and too_long > 0
    history = run(tiny_policy, tmp_path, recipe=dataclasses.replace(RECIPE, max_tokens=lengths[6]))
    assert {row["examples/too_long"] for row in history.rows} == {too_long}


# ------------------------------------------------------------------------------------------------------------------------------------------
# Bad input

@pytest.mark.parametrize(("bad", "named"), [
    (Example("p", " \n", "mine"), r"example 2 \(source 'mine'\): the completion has no text"),
    (Example("", "a", "mine"), r"example 2 \(source 'mine'\): the prompt is empty"),
    (Example("p", f"a{text.EOS}", "mine"), r"example 2 \(source 'mine'\): the completion holds <\|eos\|>")])
def test_a_row_that_cannot_be_learnt_is_named(tiny_policy, tmp_path, bad, named):
    with pytest.raises(R1Error, match=named):
        run(tiny_policy, tmp_path / "new", examples=[*sums(2), bad, *sums(2)])
    assert not (tmp_path / "new").exists()


def test_no_examples_and_none_short_enough_are_told(tiny_policy, tmp_path):
    with pytest.raises(R1Error, match="there are no examples"):
        run(tiny_policy, tmp_path, examples=[])
    with pytest.raises(R1Error, match=r"all 10 examples are longer than max_tokens=5: the shortest has \d+"):
        run(tiny_policy, tmp_path, recipe=dataclasses.replace(RECIPE, max_tokens=5))
    tiny_policy.tokenizer = copy.deepcopy(tiny_policy.tokenizer)            # the tests share theirs
    tiny_policy.tokenizer.eos_token = None
    with pytest.raises(R1Error, match="no end-of-text token"):
        run(tiny_policy, tmp_path)


def test_a_loss_that_is_no_number_is_not_learnt(tiny_policy, tmp_path):
    kept = {}

    def poison(row):
        if row["step"] == 2:
            with torch.no_grad():
                tiny_policy.model.model.norm.weight[0] = float("nan")
            kept.update(weights(tiny_policy))

    with pytest.raises(R1Error) as error:
        run(tiny_policy, tmp_path, watchers=[poison])
    assert str(error.value).startswith("step 3: the loss is nan") and "learning_rate below 0.003" in str(error.value)
    assert all(torch.equal(kept[name].nan_to_num(), now.nan_to_num()) for name, now in weights(tiny_policy).items())
    assert [row["step"] for row in MetricsLog(tmp_path / "metrics.jsonl").rows()] == [0, 1, 2]
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["00000000.safetensors", "00000002.safetensors"]


# ------------------------------------------------------------------------------------------------------------------------------------------
# Going on

def fresh_policy():
    """The same policy in every process."""
    sys.path.insert(0, str(Path(__file__).parent))
    import conftest

    torch.manual_seed(0)
    random.seed(0)
    return conftest.tiny_policy.__wrapped__(conftest.tiny_tokenizer.__wrapped__())


def whole_run(folder, policy=None, **options):
    policy = policy or fresh_policy()
    return run(policy, folder, evaluate=held_out(policy), **options)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    return folder, whole_run(folder)


KILLED = """
import os, signal, sys
sys.path[:0] = [sys.argv[3], sys.argv[4]]
import test_sft
from r1lib.training import checkpoint, sft

how, calls = sys.argv[2], []
learn, write = sft._gradient, checkpoint.save_file

def gradient(*arguments):
    calls.append(1)
    if how == "in a step" and len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return learn(*arguments)

def save_file(tensors, path, metadata):
    write(tensors, path, metadata)
    if how == "in a checkpoint" and '"step": 4' in metadata["about"]:
        path.write_bytes(path.read_bytes()[:1000])
        os.kill(os.getpid(), signal.SIGKILL)

sft._gradient, checkpoint.save_file = gradient, save_file
test_sft.whole_run(test_sft.Path(sys.argv[1]))
"""


@pytest.mark.parametrize(("how", "rows"), [("in a step", 3), ("in a checkpoint", 4)])
def test_a_killed_run_goes_on_to_the_very_same_numbers(tmp_path, straight, how, rows):
    tests = Path(__file__).parent
    ended = subprocess.run([sys.executable, "-c", KILLED, tmp_path, how, tests, tests.parent], capture_output=True, text=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len(MetricsLog(tmp_path / "metrics.jsonl").rows()) == rows
    told = []
    history = whole_run(tmp_path, watchers=[told.append])
    assert [row["step"] for row in told] == list(range(2, STEPS + 1))
    assert timeless(history.rows) == timeless(straight[1].rows)
    ours, theirs = (safetensors.torch.load_file(folder / "state" / "00000006.safetensors") for folder in (tmp_path, straight[0]))
    assert set(ours) == set(theirs) and same(ours, theirs)


@pytest.mark.parametrize("step", [0, 2, 3, 5])
def test_an_interrupted_run_returns_what_there_is_and_goes_on(tmp_path, straight, step):
    policy = fresh_policy()

    def interrupt(row):
        if row["step"] == step:
            raise KeyboardInterrupt

    history = whole_run(tmp_path, policy, watchers=[interrupt])
    assert history.interrupted and f"an interrupt after {step + 1} of 6 steps" in history.reason
    assert [row["step"] for row in history.rows] == list(range(step + 1))
    assert timeless(whole_run(tmp_path, policy).rows) == timeless(straight[1].rows)


def test_an_interrupt_while_learning_waits_until_the_step_is_whole(tmp_path, straight, monkeypatch, interruptible):
    policy, real, calls = fresh_policy(), sft._gradient, []

    def gradient(*arguments):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(sft, "_gradient", gradient)
    history = whole_run(tmp_path, policy)
    assert history.interrupted and timeless(history.rows) == timeless(straight[1].rows)[:3]
    assert timeless(whole_run(tmp_path, policy).rows) == timeless(straight[1].rows)


def test_a_stop_file_stops_and_goes(tmp_path, straight):
    policy = fresh_policy()
    history = whole_run(tmp_path, policy, watchers=[lambda row: row["step"] == 2 and (tmp_path / "STOP").touch()])
    assert history.interrupted and history.reason == "stopped by a STOP file after 3 of 6 steps"
    assert not (tmp_path / "STOP").exists()
    assert timeless(whole_run(tmp_path, policy).rows) == timeless(straight[1].rows)


def test_a_finished_run_is_not_run_again(tmp_path, tiny_policy):
    rows = run(tiny_policy, tmp_path, evaluate=held_out(tiny_policy)).rows
    after = weights(tiny_policy)
    assert run(tiny_policy, tmp_path, evaluate=pytest.fail).rows == rows
    assert same(after, weights(tiny_policy))


@pytest.mark.parametrize(("options", "named"), [
    ({"seed": 1}, "seed=0"), ({"recipe": dataclasses.replace(RECIPE, learning_rate=1e-3)}, "learning_rate=0.003"),
    ({"recipe": dataclasses.replace(RECIPE, epochs=3)}, "epochs=2"), ({"examples": sums(11)}, "rows=10"),
    ({"examples": sums()[::-1]}, "data_sha256=")])
def test_the_folder_of_another_run_is_left_alone(tmp_path, tiny_policy, options, named):
    run(tiny_policy, tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(R1Error) as error:
        run(tiny_policy, tmp_path, **options)
    assert str(tmp_path) in str(error.value) and named in str(error.value)
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*.*")}


def test_metrics_without_a_state_are_left_alone(tmp_path, tiny_policy):
    MetricsLog(tmp_path / "metrics.jsonl").append({"step": 7})
    with pytest.raises(R1Error, match="no .*state to go on from"):
        run(tiny_policy, tmp_path)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 7}
