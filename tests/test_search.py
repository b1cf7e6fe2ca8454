"""Steps and their verdicts, the step model, best of n against a count of all subsets, and tree search on worlds made by hand."""

import dataclasses
import itertools
import math
import random

import numpy as np
import pytest
import torch

from r1lib import seeds, tasks, text
from r1lib.errors import R1Error
from r1lib.sampling import Rollout, SamplingSettings
from r1lib.search import best_of_n, mcts, process_reward, steps
from r1lib.search.process_reward import Marked, StepModel, StepModelRecipe
from r1lib.tasks import KINDS, Problem, Voice

CHAIN = Problem("math", "chain", 2, "en", "12 + 7 * 2?", "number", "38", "12+7*2", facts={"calculations": [(12, "+", 7), ("r0", "*", 2)]})
EQUATION = Problem("math", "equation", 2, "en", "4x = 40", "number", "10", "4x=40", facts={
    "calculations": [(40, "/", 4)], "substitution": [(4, "*", "x")], "target": 40})
SUM = Problem("math", "sum_product", 1, "en", "sum 15, product 44", "pair", "4 and 11", "15 44", facts={
    "solution": "4 and 11", "target": 44, "a": 4, "b": 11})
FACTORS = Problem("math", "factor_pair", 1, "en", "205", "factors", "205", "205", facts={
    "solution": "5*41", "target": 205, "a": 5, "b": 41})
COUNTDOWN = Problem("math", "countdown", 1, "en", "3, 4, 5 make 12", "expression", "12 from 3 4 5 with + -", "k", facts={
    "solution": "3+4+5", "target": 12, "numbers": [3, 4, 5], "signs": "+-"})


# ----------------------------------------------------------------------------------------------------------------------
# Steps

@pytest.mark.parametrize(("problem", "step", "verdict"), [
    (CHAIN, "First 12+7=19", "true"), (CHAIN, "12+7=18", "false"), (CHAIN, "12+8=20", "beside"), (CHAIN, "Okay.", "silent"),
    (CHAIN, "So it is 38.", "true"), (CHAIN, "得到37。", "false"), (CHAIN, "</think>\n<answer>38</answer>", "true"),
    (CHAIN, "</think>\n<answer>39</answer>", "false"), (CHAIN, "<answer></answer>", "false"), (CHAIN, "Right.", "silent"),
    (CHAIN, "1" * 5000 + "+1=2", "false"), (SUM, "1" * 5000, "beside"), (CHAIN, "3/0=1", "false"),
    (EQUATION, "40/4=10", "true"), (EQUATION, "4*10=40", "true"), (EQUATION, "4*10=40, not 40.", "false"), (EQUATION, "41/4=10", "false"),
    (SUM, "Try 4*11=44, right.", "true"), (SUM, "试3*12=36，太小。", "true"), (SUM, "Try 3*12=36, too large.", "false"),
    (SUM, "Try 3*12=36, not 45, too small.", "false"), (SUM, "Try 3*12=36. I take that.", "false"),
    (SUM, "Try 3*13=39, too small.", "beside"),
    (SUM, "Try 3*12=37, too small.", "false"), (SUM, "Try 4*11=44", "true"), (SUM, "I stop here.", "silent"),
    (SUM, "<answer>11 and 4</answer>", "true"),
    (FACTORS, "Maybe 3*68=204, not 205.", "true"), (FACTORS, "换成5*41=205，就是它。", "true"), (FACTORS, "5*41=205. No.", "false"),
    (COUNTDOWN, "Try 3+4+5: 7, 12, right.", "true"), (COUNTDOWN, "Try 3+4+5: 7, 13, not 12.", "false"),
    (COUNTDOWN, "Try 5-3+4: 2, 6, that is wrong.", "true"), (COUNTDOWN, "Try 3+4: 7, not 12.", "beside"), (COUNTDOWN, "3*4=12", "beside"),
    (COUNTDOWN, "Try 3*4", "beside"),
])
def test_a_verdict_on_a_step(problem, step, verdict):
    assert steps.judge(problem, [step]) == [verdict]


def test_a_step_is_read_in_the_light_of_those_before_it():
    assert steps.judge(CHAIN, ["12+7=19", "19*2=38", "Right."]) == ["true"] * 3
    assert steps.judge(CHAIN, ["12+7=20", "20*2=40", "Right."]) == ["false", "beside", "false"]
    assert steps.judge(EQUATION, ["40/4=9", "4*9=36, not 40."]) == ["false", "true"]


@pytest.mark.parametrize("kind", ["chain", "word", "equation", "sum_product", "factor_pair", "countdown"])
def test_careful_solutions_of_the_world_have_no_bad_step(kind):
    """What the world writes with care is good, in both languages; what it writes with slips is not always."""
    bad = 0
    for number in range(40):
        problem = tasks.draw(KINDS[kind], seeds.rng("test", kind, number), 1 + number % 5, "zh" if number % 4 == 3 else "en", "train")
        manner = "retry" if "retry" in KINDS[kind].manners else "steps"
        work = KINDS[kind].work(problem, manner, Voice(seeds.rng("voice", number), problem.language))
        lines = [*work.think.split("\n"), f"<answer>{work.answer}</answer>"]
        if work.answer == problem.facts.get("solution", problem.gold):
            assert set(steps.judge(problem, lines)) <= set(steps.GOOD), lines
        slip = KINDS[kind].work(problem, "slips", Voice(seeds.rng("slips", number), problem.language))
        bad += not set(steps.judge(problem, [*slip.think.split("\n"), f"<answer>{slip.answer}</answer>"])) <= set(steps.GOOD)
    assert bad


def test_an_answer_is_cut_at_its_lines(tiny_tokenizer):
    written = " <think>\nthe 1\n\n2\n</think>\n<answer>2</answer>"
    ids = [*tiny_tokenizer(written)["input_ids"], tiny_tokenizer.eos_token_id]
    found = steps.cut(tiny_tokenizer, ids, steps.newlines(tiny_tokenizer))
    assert [step.text for step in found] == [" <think>\nthe 1\n", "\n2\n", f"</think>\n<answer>2</answer>{text.EOS}"]
    assert found[-1].end == len(ids)
    assert [tiny_tokenizer.decode(ids[:step.end]) for step in found[:2]] == [" <think>\nthe 1\n", " <think>\nthe 1\n\n2\n"]


@pytest.mark.parametrize("written", ["", "\n", "<think>\n</think>\n"])
def test_without_content_there_is_no_step(tiny_tokenizer, written):
    assert steps.cut(tiny_tokenizer, tiny_tokenizer(written)["input_ids"], steps.newlines(tiny_tokenizer)) == []


# ----------------------------------------------------------------------------------------------------------------------
# The step model

def marked(count=24):
    """A step is good if it says x; an answer is right if its last step does."""
    rng, rows = random.Random(0), []
    for i in range(count):
        marks = [rng.random() < 0.5 for _ in range(1 + i % 3)]
        rows.append(Marked(f"the {i % 5}?", "\n".join("xx" if good else "yy" for good in marks), marks, marks[-1], True))
    return rows


@pytest.fixture
def model(tiny_policy):
    return StepModel.fit(tiny_policy, marked(60), recipe=StepModelRecipe(epochs=40, batch_size=16), seed=0)


def test_it_tells_good_steps_from_bad_ones(model):
    rows = marked(90)[60:]
    scores = model.scores([row.prompt for row in rows], [row.response for row in rows])
    agree = [(score > 0) == mark for row, found in zip(rows, scores, strict=True) for score, mark in zip(found, row.marks, strict=True)]
    assert np.mean(agree) > 0.9
    value = model.scores([row.prompt for row in rows], [row.response for row in rows], of="outcome")
    assert np.mean([(found[-1] > 0) == row.right for row, found in zip(rows, value, strict=True)]) > 0.9


def test_scores_do_not_depend_on_company_or_on_what_comes_behind(model):
    together = model.scores(["the 1?", "the 22?", "the 1?"], ["xx\nyy\nxx", "yy", ""])
    assert together[2] == [] and [len(found) for found in together] == [3, 1, 0]
    assert together[1] == pytest.approx(model.scores(["the 22?"], ["yy"])[0], abs=1e-4)
    assert together[0][:2] == pytest.approx(model.scores(["the 1?"], ["xx\nyy\n"], [False])[0], abs=1e-4)


def test_features_are_those_of_a_plain_forward(tiny_policy):
    prompt, answer = "the 1?", "x\nyz"
    found = process_reward.read(tiny_policy, [prompt], [answer])[0]
    asked, said = tiny_policy.encode([prompt])[0], process_reward.encode(tiny_policy, [answer])[0]
    with torch.no_grad():
        out = tiny_policy.model(torch.tensor([[*asked, *said]]), output_hidden_states=True)
    logps = out.logits[0].log_softmax(-1)[len(asked) - 1:-1]
    own = logps.gather(1, torch.tensor(said)[:, None])[:, 0]
    assert torch.allclose(found[1, :-8], out.hidden_states[-1][0, -1], atol=1e-4)
    step, entropy = own[2:], -(logps.exp() * logps).sum(-1)[2:]
    wanted = torch.stack([step.min(), step.mean(), step.sum(), (logps.amax(-1)[2:] - step).max(), own.min(), own.mean(), entropy.max(),
                          entropy.mean()])
    assert torch.allclose(found[1, -8:], wanted, atol=1e-4)
    assert found[1, process_reward.LIKELIHOOD] == pytest.approx(float(own.mean()), abs=1e-4)


def test_saved_and_read_it_scores_the_same(model, tmp_path):
    model.save(tmp_path / "model")
    again = StepModel.load(tmp_path / "model")
    for of in ("steps", "outcome"):
        assert again.scores(["the 1?"], ["xx\nyy"], of=of)[0] == pytest.approx(model.scores(["the 1?"], ["xx\nyy"], of=of)[0], abs=1e-5)


def test_the_same_seed_gives_the_same_heads_and_another_one_others(tiny_policy, model):
    same, other = (StepModel.fit(tiny_policy, marked(60), recipe=StepModelRecipe(epochs=40, batch_size=16), seed=seed) for seed in (0, 1))
    for name, tensor in model.heads["steps"].state_dict().items():
        assert torch.equal(tensor, same.heads["steps"].state_dict()[name])
    assert not torch.equal(model.heads["steps"].first.weight, other.heads["steps"].first.weight)


def test_mistakes_are_named(tiny_policy, model, tmp_path):
    recipe = StepModelRecipe()
    with pytest.raises(R1Error, match="all of them alike"):
        StepModel.fit(tiny_policy, [Marked("the?", "x", [True], True, True)] * 3, recipe=recipe, seed=0)
    with pytest.raises(R1Error, match="all of them alike"):
        StepModel.fit(tiny_policy, [], recipe=recipe, seed=0)
    with pytest.raises(R1Error, match="answer 0: 2 marks for 1 steps"):
        StepModel.fit(tiny_policy, [Marked("the?", "x", [True, False], True, True)], recipe=recipe, seed=0)
    tiny_policy.save(tmp_path / "bare")
    with pytest.raises(R1Error, match="holds no heads"):
        StepModel.load(tmp_path / "bare")
    model.save(tmp_path / "cut")
    (tmp_path / "cut" / "heads.safetensors").write_bytes(b"cut")
    with pytest.raises(R1Error, match="heads.safetensors"):
        StepModel.load(tmp_path / "cut")
    with pytest.raises(R1Error, match="Step model recipe: there is no setting 'layers'"):
        StepModelRecipe.from_settings({"layers": 3})


def test_one_number_for_an_answer():
    assert process_reward.together([], "min") == 0
    assert process_reward.together([0.0, 0.0, 0.0], "sum") == 1.5
    assert process_reward.together([0.0, 1000.0], "min") == 0.5
    assert process_reward.together([-1000.0, 1000.0], "mean") == pytest.approx(0.5)
    longer = [0.0, 5.0, 5.0, 5.0]
    assert process_reward.together(longer, "mean") > process_reward.together(longer[:2], "mean")          # padding pays ...
    assert process_reward.together(longer, "min") == process_reward.together(longer[:2], "min")           # ... and here it does not


def test_as_a_reward(model):
    answers = ["<think>xx</think><answer>x</answer>", "<think>xx", "<think>yy</think><answer>y</answer>"]
    reward = process_reward.process_reward(model, how="min")
    paid = reward(answers, prompts=["the 1?"] * 3, solution=["1"] * 3)
    assert paid[1] == 0 and all(0 < value < 1 for value in (paid[0], paid[2]))
    assert paid[0] == pytest.approx(process_reward.together(model.scores(["the 1?"], answers[:1])[0], "min"), abs=1e-5)
    assert reward([], prompts=[]) == []


# ----------------------------------------------------------------------------------------------------------------------
# Best of n

@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_best_of_n_is_the_mean_over_all_subsets(n):
    rng = np.random.default_rng(0)
    scores, right = rng.integers(0, 4, (6, 5)).astype(float), rng.integers(0, 2, (6, 5))              # with ties
    wanted = []
    for s, r in zip(scores, right, strict=True):
        subsets = [list(chosen) for chosen in itertools.combinations(range(5), n)]
        wanted.append(np.mean([r[chosen][s[chosen] == s[chosen].max()].mean() for chosen in subsets]))
    # among equal scores the one that is drawn does not depend on the subset: shared over all of that score, which is equal on average
    tied_apart = scores + rng.random(scores.shape) * 1e-9
    exact = [np.mean([r[max(chosen, key=lambda i: s[i])] for chosen in itertools.combinations(range(5), n)])
             for s, r in zip(tied_apart, right, strict=True)]
    assert best_of_n.chosen_accuracy(tied_apart, right, n) == pytest.approx(exact)
    assert best_of_n.chosen_accuracy(scores, right, n) == pytest.approx(wanted)


def test_best_of_one_is_a_random_one_and_best_of_all_the_highest():
    scores, right = np.array([[0.1, 0.9, 0.5]]), np.array([[1, 0, 1]])
    assert best_of_n.chosen_accuracy(scores, right, 1)[0] == pytest.approx(2 / 3)
    assert best_of_n.chosen_accuracy(scores, right, 3)[0] == 0
    for n in (0, 4):
        with pytest.raises(R1Error, match=f"best of {n}"):
            best_of_n.chosen_accuracy(scores, right, n)


def test_answers_within_a_number_of_tokens():
    assert [best_of_n.within([10, 20, 30], tokens) for tokens in (5, 10, 29, 30, 59, 60, 1000)] == [1, 1, 1, 2, 2, 3, 3]


# ----------------------------------------------------------------------------------------------------------------------
# Tree search

def rollout(index, said, chance=0.5, finished=False):
    return Rollout(index, [1], [0] * len(said), [math.log(chance)], said, finished)


def test_puct_by_hand():
    root = mcts.Node("", visits=4, total=2.0)
    liked, unseen = mcts.Node("a", prior=0.2, visits=1, total=0.9, parent=root), mcts.Node("b", prior=0.8, parent=root)
    assert mcts.puct(root, liked, 1.0) == pytest.approx(0.9 + 0.2 * 2 / 2)
    assert mcts.puct(root, unseen, 1.0) == pytest.approx(0.5 + 0.8 * 2 / 1)
    root.children = [liked, unseen]
    assert mcts.select(root, 1.0) is unseen and mcts.select(root, 0.0) is liked


def test_visits_are_told_to_the_root():
    root = mcts.Node("")
    child = mcts.Node("a", parent=root)
    mcts.tell(child, 1.0)
    mcts.tell(root, 0.0)
    assert (root.visits, root.value, child.visits, child.value) == (2, 0.5, 1, 1.0)


def test_equal_steps_become_one_child_and_priors_sum_to_one():
    root = mcts.Node("so ", tokens=2)
    mcts.grow(root, [rollout(0, "a\n", 0.6), rollout(0, "a\n", 0.6), rollout(0, "b\n", 0.2, True)])
    assert [(child.text, child.tokens, child.ended) for child in root.children] == [("so a\n", 4, False), ("so b\n", 4, True)]
    assert [child.prior for child in root.children] == pytest.approx([0.75, 0.25])


def test_steps_end_at_a_newline_and_answers_at_their_end(tiny_policy):
    found = mcts.StepSampler(tiny_policy).sample(["the 1?"], 64, SamplingSettings(24), seed=0)
    lines, stop = steps.newlines(tiny_policy.tokenizer), tiny_policy.tokenizer.eos_token_id
    assert any(one.ids[-1] in lines for one in found)
    for one in found:
        assert one.finished == (one.ids[-1] == stop)
        assert one.text == tiny_policy.decode(one.ids)
        assert not set(one.ids[:-1]) & {*lines, stop}


class Scripted:
    """A policy of two bits: after each line it says "0" or "1", and after three of them it ends."""

    def sample(self, prompts, samples, settings, *, seed):
        return [rollout(i, "01"[(sample + seed) % 2] + "\n", 0.5, prompt.count("\n") == 2)
                for i, prompt in enumerate(prompts) for sample in range(samples)]


def test_search_finds_what_the_value_points_at(tiny_policy, monkeypatch):
    monkeypatch.setattr(mcts, "StepSampler", lambda policy: Scripted())
    asked = []

    def value(prompts, answers, ended):
        asked.extend(answers)
        return [sum(a == b for a, b in zip(answer.replace("\n", ""), "101", strict=False)) / 3 for answer in answers]

    settings = mcts.MCTSSettings(simulations=12, children=2, exploration=0.5)
    trees = mcts.search(tiny_policy, ["p", "q"], value, settings, seed=0)
    for tree in trees:
        assert tree.answer == "1\n0\n1\n" and tree.ended
        assert tree.answer in tree.answers
        assert tree.root.visits == settings.simulations
        assert tree.generated <= settings.simulations * settings.children * 2
    assert len(asked) <= 2 * (settings.simulations + 8)


def test_without_a_whole_answer_the_policy_goes_on(tiny_policy):
    settings = mcts.MCTSSettings(simulations=1, children=2, max_step_tokens=3, max_tokens=8)
    tree, = mcts.search(tiny_policy, ["the 1?"], lambda prompts, answers, ended: [0.5] * len(prompts), settings, seed=0)
    assert tree.generated >= 2 and (tree.answers or tree.answer)
    again, = mcts.search(tiny_policy, ["the 1?"], lambda prompts, answers, ended: [0.5] * len(prompts), settings, seed=0)
    assert (again.answer, again.generated) == (tree.answer, tree.generated)


def test_settings_that_make_no_sense():
    for wrong in ({"children": 0}, {"simulations": 0}, {"exploration": -1.0}):
        with pytest.raises(R1Error, match="MCTS"):
            dataclasses.replace(mcts.MCTSSettings(), **wrong)
