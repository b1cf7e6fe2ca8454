"""Reward models on a toy: a random backbone of twenty thousand parameters learns which of two letters is liked."""

import copy
import dataclasses
import math
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from r1lib import text
from r1lib.errors import R1Error
from r1lib.training import reward_model
from r1lib.training.metrics import MetricsLog
from r1lib.training.reward_model import (
    Labelled,
    Pair,
    RewardModel,
    RewardModelRecipe,
    label_accuracy,
    length_bias,
    pair_accuracy,
    rank_correlation,
    train_labels,
    train_pairs,
)

RECIPE = RewardModelRecipe(epochs=2, batch_size=8, learning_rate=3e-3, final_learning_rate=3e-4, warmup_steps=2, checkpoint_every=2,
                           evaluate_every=2)
TIMES = ("step_time", "memory/peak_gb", "time/learn")                      # the fields that no seed determines
STEPS = 6                                                                  # twenty pairs in batches of eight, twice


def asked(i):
    return text.chat_prompt(f"{i % 7}?" + " please" * (i % 3))


def pairs(count=20, start=0):
    """The better response is the one about x, shorter as often as longer."""
    return [Pair(asked(i), "x" + " so" * (i % 4), "y" + " so" * (i * 3 % 4)) for i in range(start, start + count)]


def labelled(count=20, start=0):
    return [Labelled(asked(i), ("x" if i % 2 else "y") + " so" * (i // 2 % 4), bool(i % 2)) for i in range(start, start + count)]


@pytest.fixture
def model(tiny_policy):
    """With a head that is not 0, so that scores differ and the backbone has a gradient."""
    return with_head(RewardModel.from_policy(tiny_policy))


def with_head(model):
    with torch.no_grad():
        model.model.score.weight.copy_(torch.randn(model.model.score.weight.shape, generator=torch.Generator().manual_seed(1)))
    return model


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.model.named_parameters()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def timeless(rows):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


# ------------------------------------------------------------------------------------------------------------------------------------------
# The model

def test_it_begins_as_the_policys_backbone_and_knows_nothing(tiny_policy):
    before = torch.get_rng_state()
    model = RewardModel.from_policy(tiny_policy)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.score(["a", "b"], ["c", "d e"]) == [0.0, 0.0]
    assert tiny_policy.model.config.num_labels != 1                         # the policy's own settings are left alone
    theirs = tiny_policy.model.base_model.state_dict()
    ours = model.model.base_model.state_dict()
    assert set(theirs) == set(ours) and same(theirs, ours)
    assert not {tensor.data_ptr() for tensor in theirs.values()} & {tensor.data_ptr() for tensor in ours.values()}


def by_the_book(model, prompt, response):
    """One row, no padding, the head on the last token's hidden state."""
    ids = torch.tensor([model.tokenizer(prompt + response + text.EOS, add_special_tokens=False)["input_ids"]])
    return (model.model.base_model(input_ids=ids).last_hidden_state[0, -1] @ model.model.score.weight[0])


@pytest.mark.parametrize("tokens", [1, 60, 10**6])
def test_scores_do_not_depend_on_what_is_scored_together(model, monkeypatch, tokens):
    monkeypatch.setattr(reward_model, "_TOKENS_AT_ONCE", tokens)
    prompts, responses = [pair.prompt for pair in pairs()], [pair.chosen + " end" * (i % 5) for i, pair in enumerate(pairs())]
    expected = [by_the_book(model, *row).item() for row in zip(prompts, responses, strict=True)]
    assert model.score(prompts, responses) == pytest.approx(expected, abs=1e-4)
    assert len(set(expected)) > 5
    assert model.score([], []) == []


def test_a_response_ends_at_its_first_end_of_text(model):
    one, other, empty = model.score(["a"] * 3, ["b", f"b{text.EOS}c{text.EOS}", ""])
    assert one == pytest.approx(other, abs=1e-5) and math.isfinite(empty)


def test_prompts_without_responses_are_told(model):
    with pytest.raises(R1Error, match="2 prompts and 1 responses"):
        model.score(["a", "b"], ["c"])


def test_saved_and_loaded_it_scores_the_same_and_others_read_it(model, tmp_path):
    prompts, responses = ["a", "bb"], ["c d e", "f"]
    model.save(tmp_path / "model")
    loaded = RewardModel.load(tmp_path / "model")
    assert loaded.score(prompts, responses) == model.score(prompts, responses) and loaded.folder == tmp_path / "model"
    assert [file.name for file in (tmp_path / "model").glob("*.safetensors")] == ["model.safetensors"]
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    read = tokenizer([prompt + response + text.EOS for prompt, response in zip(prompts, responses, strict=True)], padding=True,
                     padding_side="right", return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        scores = theirs(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).logits
    assert scores.shape == (2, 1) and scores[:, 0].tolist() == pytest.approx(model.score(prompts, responses), abs=1e-4)


def test_a_folder_that_is_no_reward_model_is_named(tiny_policy, model, tmp_path):
    tiny_policy.save(tmp_path / "policy")
    with pytest.raises(R1Error, match=r"policy: is not a reward model, it lacks score.weight.*from_policy"):
        RewardModel.load(tmp_path / "policy")
    with pytest.raises(R1Error, match="nothing: no such model folder"):
        RewardModel.load(tmp_path / "nothing")
    model.save(tmp_path / "cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(R1Error, match="model.safetensors: damaged"):
        RewardModel.load(tmp_path / "cut")


# ------------------------------------------------------------------------------------------------------------------------------------------
# The losses

@pytest.mark.parametrize("tokens", [1, 100, 10**6])
@pytest.mark.parametrize("kind", ["pairs", "labels"])
def test_the_gradient_is_the_plain_ones_however_it_is_cut(model, kind, tokens):
    model.model.double()
    if kind == "pairs":
        margins = [by_the_book(model, pair.prompt, pair.chosen) - by_the_book(model, pair.prompt, pair.rejected) for pair in pairs()]
        expected = torch.stack([-torch.log(torch.sigmoid(margin)) for margin in margins]).mean()
        encoded = [reward_model._Encoded(tuple(model.encode([pair.prompt] * 2, [pair.chosen, pair.rejected])), True) for pair in pairs()]
    else:
        scores = torch.stack([by_the_book(model, entry.prompt, entry.response) for entry in labelled()])
        margins = [score if entry.good else -score for score, entry in zip(scores, labelled(), strict=True)]
        expected = F.binary_cross_entropy_with_logits(scores, torch.tensor([float(entry.good) for entry in labelled()]).double())
        encoded = [reward_model._Encoded((model.encode([entry.prompt], [entry.response])[0],), entry.good) for entry in labelled()]
    expected.backward()
    slow = {name: parameter.grad.clone() for name, parameter in model.model.named_parameters()}

    model.model.zero_grad()
    loss, measured = reward_model._gradient(model, encoded, tokens)
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    for name, parameter in model.model.named_parameters():
        error = (parameter.grad - slow[name]).norm() / slow[name].norm()
        assert error < 1e-5, (name, float(error))                          # transformers' norms are float32 in any model
    assert measured["accuracy"] == pytest.approx(sum(margin.item() > 0 for margin in margins) / len(margins))
    assert measured["margin"] == pytest.approx(sum(margin.item() for margin in margins) / len(margins), rel=1e-5)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Training

def test_it_learns_what_is_preferred(tiny_policy, tmp_path):
    model = RewardModel.from_policy(tiny_policy)
    recipe = dataclasses.replace(RECIPE, epochs=6, checkpoint_every=1000)
    history = train_pairs(model, pairs(80), recipe=recipe, folder=tmp_path, seed=0,
                          evaluate=lambda step: {"eval_accuracy": pair_accuracy(model, pairs(40, start=200))})
    assert history.rows[0]["loss"] == pytest.approx(math.log(2)) and history.rows[0]["accuracy"] == 0.5
    assert history.rows[0]["eval_accuracy"] == 0.5 and history.rows[-1]["eval_accuracy"] == 1.0
    assert history.rows[-2]["loss"] < 0.1 and history.rows[-2]["margin"] > 1
    bias = length_bias(model, pairs(40, start=200))
    assert bias.longer_wins == bias.longer_chosen


def test_it_learns_what_is_good(tiny_policy, tmp_path):
    model = RewardModel.from_policy(tiny_policy)
    train_labels(model, labelled(80), recipe=dataclasses.replace(RECIPE, epochs=6, checkpoint_every=1000), folder=tmp_path, seed=0)
    assert label_accuracy(model, labelled(40, start=200)) == 1.0
    good, bad = model.score(["?"] * 2, ["x so", "y so"])
    assert good > 1 and bad < -1


def test_rows_are_as_in_fine_tuning(model, tmp_path):
    told = []
    history = train_pairs(model, pairs(), recipe=RECIPE, folder=tmp_path, seed=0, watchers=[told.append],
                          evaluate=lambda step: {"eval_accuracy": pair_accuracy(model, pairs(5, start=90))})
    assert told == history.rows == MetricsLog(tmp_path / "metrics.jsonl").rows()
    assert [row["step"] for row in history.rows] == list(range(STEPS + 1))
    assert [row["step"] for row in history.rows if "eval_accuracy" in row] == [0, 2, 4, 6]
    for row in history.rows[:STEPS]:
        assert {"loss", "accuracy", "margin", "epoch", "learning_rate", "grad_norm", "num_tokens", "step_time"} <= set(row)


def test_longer_pairs_are_left_out_of_training_and_scored_all_the_same(model, tmp_path):
    long = Pair(asked(0), "x" * 600, "y")
    history = train_pairs(model, [*pairs(), long], recipe=RECIPE, folder=tmp_path, seed=0)
    assert {row["examples/too_long"] for row in history.rows} == {1}
    assert math.isfinite(model.score([long.prompt], [long.chosen])[0])


# ------------------------------------------------------------------------------------------------------------------------------------------
# Bad input

@pytest.mark.parametrize(("bad", "named"), [
    (Pair("p", "a", " "), "pair 3: rejected has no text"), (Pair("", "a", "b"), "pair 3: prompt has no text"),
    (Pair("p", "a", "a"), "pair 3: chosen and rejected are the same")])
def test_a_pair_that_teaches_nothing_is_named(model, tmp_path, bad, named):
    with pytest.raises(R1Error, match=named):
        train_pairs(model, [*pairs(3), bad], recipe=RECIPE, folder=tmp_path / "new", seed=0)
    assert not (tmp_path / "new").exists()


def test_nothing_to_learn_from_and_one_kind_of_label_are_told(model, tmp_path):
    with pytest.raises(R1Error, match="nothing to learn from"):
        train_pairs(model, [], recipe=RECIPE, folder=tmp_path, seed=0)
    with pytest.raises(R1Error, match="nothing to learn from"):
        train_labels(model, [], recipe=RECIPE, folder=tmp_path, seed=0)
    with pytest.raises(R1Error, match="all 2 labels are good=True"):
        train_labels(model, [Labelled("p", "a", True), Labelled("p", "b", True)], recipe=RECIPE, folder=tmp_path, seed=0)
    with pytest.raises(R1Error, match="labelled response 1: response has no text"):
        train_labels(model, [Labelled("p", "a", True), Labelled("p", "", False)], recipe=RECIPE, folder=tmp_path, seed=0)
    with pytest.raises(R1Error, match="all 20 rows are longer than max_tokens=3"):
        train_pairs(model, pairs(), recipe=dataclasses.replace(RECIPE, max_tokens=3), folder=tmp_path, seed=0)
    for measure in (pair_accuracy, label_accuracy, length_bias):
        with pytest.raises(R1Error, match="give at least one"):
            measure(model, [])


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("learning_rate", -1.0), ("precision", "int8"), ("final_learning_rate", 1.0)])
def test_a_setting_that_makes_no_sense_is_named(name, value):
    with pytest.raises(R1Error, match=f"Reward model recipe: {name}={value!r}"):
        RewardModelRecipe.from_settings({name: value})


# ------------------------------------------------------------------------------------------------------------------------------------------
# Measures

class ByLength:
    """Scores a response by its length, times a factor."""

    def __init__(self, model, factor):
        self.model, self.tokenizer, self.factor = model.model, model.tokenizer, factor

    def score(self, prompts, responses):
        return [self.factor * len(response) for response in responses]


def test_a_model_that_looks_at_length_alone_is_found_out(model):
    of = [Pair("p", "x" * 9, "y" * 2), Pair("p", "x" * 3, "y" * 7), Pair("p", "x" * 8, "y"), Pair("p", "x" * 4, "y" * 4)]
    longer, shorter, blind = (length_bias(ByLength(model, factor), of) for factor in (1, -1, 0))
    assert (longer.longer_wins, shorter.longer_wins, blind.longer_wins) == (1, 0, 0.5)
    assert longer.longer_chosen == shorter.longer_chosen == pytest.approx(2 / 3)
    assert (longer.correlation, shorter.correlation, blind.correlation) == pytest.approx((1, -1, 0))
    assert pair_accuracy(ByLength(model, 1), of) == pytest.approx(2.5 / 4)
    assert length_bias(ByLength(model, 1), of[3:]) == reward_model.LengthBias(0.0, None, None)


@pytest.mark.parametrize(("xs", "ys", "expected"), [
    ([1, 2, 3], [10, 20, 900], 1), ([1, 2, 3], [3, 2, 1], -1), ([1, 1, 2, 3], [1, 2, 2, 3], 0.833333), ([5, 5], [1, 2], 0)])
def test_rank_correlation(xs, ys, expected):
    assert rank_correlation(xs, ys) == pytest.approx(expected, abs=1e-6)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Going on

def fresh_model():
    """The same model in every process."""
    sys.path.insert(0, str(Path(__file__).parent))
    import conftest

    torch.manual_seed(0)
    random.seed(0)
    return with_head(RewardModel.from_policy(conftest.tiny_policy.__wrapped__(conftest.tiny_tokenizer.__wrapped__())))


def whole_run(folder, model=None, **options):
    model = model or fresh_model()
    return train_pairs(model, pairs(), recipe=RECIPE, folder=folder, seed=0, **options,
                       evaluate=lambda step: {"eval_accuracy": sum(parameter.sum().item() for parameter in model.model.parameters())})


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    return folder, whole_run(folder)


KILLED = """
import os, signal, sys
sys.path[:0] = [sys.argv[2], sys.argv[3]]
import test_reward_model
from r1lib.training import reward_model

calls, learn = [], reward_model._gradient

def gradient(*arguments):
    calls.append(1)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return learn(*arguments)

reward_model._gradient = gradient
test_reward_model.whole_run(test_reward_model.Path(sys.argv[1]))
"""


def test_a_killed_run_goes_on_to_the_very_same_numbers(tmp_path, straight):
    tests = Path(__file__).parent
    ended = subprocess.run([sys.executable, "-c", KILLED, tmp_path, tests, tests.parent], capture_output=True, text=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len(MetricsLog(tmp_path / "metrics.jsonl").rows()) == 3
    history = whole_run(tmp_path)
    assert timeless(history.rows) == timeless(straight[1].rows)
    ours, theirs = (safetensors.torch.load_file(folder / "state" / "00000006.safetensors") for folder in (tmp_path, straight[0]))
    assert set(ours) == set(theirs) and same(ours, theirs)


def test_an_interrupted_run_goes_on_in_memory(tmp_path, straight):
    model = fresh_model()

    def interrupt(row):
        if row["step"] == 2:
            raise KeyboardInterrupt

    history = whole_run(tmp_path, model, watchers=[interrupt])
    assert history.interrupted and len(history.rows) == 3
    assert timeless(whole_run(tmp_path, model).rows) == timeless(straight[1].rows)


def test_the_folder_of_another_run_is_left_alone(tmp_path, model):
    start = copy.deepcopy(model.model.state_dict())
    train_pairs(model, pairs(), recipe=RECIPE, folder=tmp_path, seed=0)
    model.model.load_state_dict(start)
    with pytest.raises(R1Error, match="data_sha256="):
        train_pairs(model, pairs(start=1), recipe=RECIPE, folder=tmp_path, seed=0)
    with pytest.raises(R1Error, match="training='pair order'"):
        train_labels(model, labelled(), recipe=RECIPE, folder=tmp_path, seed=0)
    assert same(dict(model.model.state_dict()), start)
