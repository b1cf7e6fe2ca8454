"""The unsuccessful attempts in profile smoke: two stages, every number of the ledger, and answers in the shapes that are promised."""

import dataclasses
import math

import numpy as np
import pytest

from r1lib import evaluation, findings, paths, pipeline, profiles, stages, unsuccessful
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.search import mcts
from r1lib.search.process_reward import Marked, StepModel

NAMES = {"pass1_r1", "best_of_n_prm", "best_of_n_random", "majority", "best_of_n_oracle", "prm_step_accuracy", "prm_rl_reward_gain",
         "prm_rl_accuracy_gain", "mcts", "best_of_n_at_mcts_tokens", "mcts_minus_best_of_n"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A folder of runs with all experiments, and what was found."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R1_RUNS", str(runs))
        yield unsuccessful.measure(profile="smoke")


def test_every_number_of_the_ledger(found):
    assert found.keys() == NAMES
    for interval in found.values():
        assert interval["value"] is None or interval["low"] <= interval["value"] <= interval["high"]
    kept = findings.read_all(paths.runs("smoke"))["unsuccessful"]
    assert kept["findings"] == found and kept["notebook"] == unsuccessful.NOTEBOOK


def test_it_is_not_measured_twice(found, capfd):
    assert unsuccessful.measure(profile="smoke") == found
    assert "trained from" not in capfd.readouterr().out


def test_the_step_model_lies_beside_a_plain_policy(found):
    folder = paths.stage("smoke", "prm")
    model = StepModel.load(folder / "model")
    Policy.load(folder / "model")
    rows = pipeline.read_rows(folder / "data.jsonl", Marked)
    scores = model.scores([row.prompt for row in rows], [row.response for row in rows], [row.ended for row in rows])
    assert [len(row) for row in scores] == [len(row.marks) for row in rows]


def test_answers_are_ranked(found):
    ranked = unsuccessful.ranked("smoke")
    shape = (len(ranked.made.problems), ranked.made.samples)
    assert ranked.right.shape == shape and all(scores.shape == shape for scores in ranked.scores.values())
    for selector in (*ranked.scores, "random", "majority", "oracle"):
        for n in (1, 2, shape[1]):
            values = ranked.by(selector, n)
            assert values.shape == shape[:1] and ((values >= -1e-9) & (values <= 1 + 1e-9)).all()
            assert (values <= ranked.by("oracle", n) + 1e-9).all() or selector == "random"
        if selector != "majority":                             # a single answer of a vote is one of those that can be read
            assert ranked.by(selector, 1) == pytest.approx(ranked.right.mean(axis=1))
    assert len(ranked.good) == len(ranked.chances) == len(ranked.hopes) == len(ranked.answer)
    accuracy = ranked.step_accuracy()
    assert np.isnan(accuracy).sum() == shape[0] - len(np.unique(ranked.answer // shape[1]))


def test_the_majority_of_all_is_that_of_the_evaluation(found):
    ranked = unsuccessful.ranked("smoke")
    assert ranked.by("majority", ranked.made.samples) == pytest.approx(ranked.made.measures()["cons@k"])


def test_trees_are_compared_at_equal_tokens(found):
    searched, ranked = unsuccessful.searched("smoke"), unsuccessful.ranked("smoke")
    places = {problem.id: i for i, problem in enumerate(ranked.made.problems)}
    for problem, tree, n in zip(searched.problems, searched.trees, searched.n, strict=True):
        i, samples = places[problem.id], ranked.made.samples
        lengths = [c.length for c in ranked.made.completions[i * samples:(i + 1) * samples]]
        assert 1 <= n <= samples
        assert n == 1 or sum(lengths[:n]) <= tree.generated
    assert (searched.right <= searched.in_tree).all()
    other = unsuccessful.searched("smoke", settings=mcts.MCTSSettings(simulations=1, children=1, max_tokens=32))
    assert all(tree.root.visits == 1 for tree in other.trees)


def test_fewer_keeps_the_first_answers_of_some_problems():
    answers = tuple(evaluation.Completion(str(i), "math", "chain", 1, "en", f"{i} {j}", 2, True, 1.0, 1.0, 0, False)
                    for i in range(6) for j in range(4))
    made = evaluation.Evaluation(tuple(range(6)), answers, 4, {}, 0, "")
    less = unsuccessful.fewer(made, 3, 2)
    assert less.problems == (0, 2, 4) and less.samples == 2
    assert [c.text for c in less.completions] == ["0 0", "0 1", "2 0", "2 1", "4 0", "4 1"]
    assert unsuccessful.fewer(made, 99, 99) == made


def test_mistakes_are_named(monkeypatch):
    with pytest.raises(R1Error, match="how='max'"):
        pipeline.ProcessRewardRL(how="max")
    with pytest.raises(R1Error, match="not known"):
        unsuccessful.plan("laptop")
    with pytest.raises(R1Error, match="prm_rl: there is no setting 'step'"):
        stages.configure("prm_rl", profile="smoke", settings={"step": 3})


@pytest.mark.parametrize("profile", sorted(unsuccessful.PLANS))
def test_a_plan_fits_its_profile(profile):
    chosen = unsuccessful.plan(profile)
    assert chosen.samples <= profiles.get(profile).evaluation_samples
    assert math.isfinite(chosen.search.exploration) and dataclasses.asdict(chosen)
