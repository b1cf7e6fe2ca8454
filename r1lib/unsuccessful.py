"""What the paper tried and gave up (v1 section 4.2; v2 G.2), tried again in the miniature: a process reward model, as a judge of finished
answers and as a reward for RL, and Monte Carlo tree search with a value model.

The step model is the stage "prm", and GRPO that is paid by it the stage "prm_rl" (`pipeline`). What is measured goes through `measure`,
for the notebook and for the ledger.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r1lib import evaluation, findings, lineage, paths, profiles, rewards, stages, text
from r1lib.errors import R1Error
from r1lib.evaluation import Evaluation, Interval
from r1lib.sampling import SamplingSettings
from r1lib.sampling.torch import TorchSampler
from r1lib.search import best_of_n, mcts, process_reward
from r1lib.search.process_reward import StepModel
from r1lib.seeds import derive
from r1lib.tasks import Problem
from r1lib.training.metrics import Row

NOTEBOOK = "12_unsuccessful_attempts"
DOMAIN = "math"                     # what `steps.judge` knows
MODEL = "zero"                      # whose answers are judged, searched and rewarded: R1-Zero, from whose time the paper's attempts are

_PAID: dict[process_reward.How, str] = {"min": "least step", "mean": "mean step", "sum": "sum of steps"}     # as `Ranked.scores` calls it
SELECTOR = "least step"             # how the step model ranks answers: by the step that it doubts most


@dataclass(frozen=True)
class Plan:
    """How much is measured in a profile.

    problems: of the fixed set, for best-of-n; samples: of R1-Zero's stored answers to each. after: answers of the policy after the RL to
    each of these. searched: problems that are searched; search: how; caps: other numbers of children, to see what the cap does.
    settings: of the two stages.
    """

    problems: int
    samples: int
    after: int
    searched: int
    search: mcts.MCTSSettings


PLANS = {
    "smoke": Plan(8, 4, 1, 4, mcts.MCTSSettings(simulations=3, children=2, max_tokens=64)),
    "cpu": Plan(60, 8, 4, 32, mcts.MCTSSettings(simulations=12)),
    "gpu": Plan(60, 8, 4, 32, mcts.MCTSSettings(simulations=32, children=4)),
    "gpu+smollm2": Plan(60, 8, 4, 32, mcts.MCTSSettings(simulations=32, children=4)),
    "gpu+miniature": Plan(180, 16, 8, 180, mcts.MCTSSettings(simulations=64, children=4)),
}


def plan(profile: str) -> Plan:
    """What is measured in this profile; `R1Error` for one that is not known."""
    profiles.get(profile)
    return PLANS[profiles.plain(profile)]


# ------------------------------------------------------------------------------------------------------------------------------------------
# Best of n

@dataclass(frozen=True)
class Ranked:
    """R1-Zero's stored answers to held-out problems, judged in every way.

    right: [problems, samples]. scores: selector -> [problems, samples], the higher the better.
    Of every step of every answer, end to end: good, whether the rule finds it good; chances, how likely the step model holds that; hopes,
    how likely the value model holds a right answer from there; answer: the place of its answer in `made.completions`.
    """

    made: Evaluation
    right: np.ndarray
    scores: Mapping[str, np.ndarray]
    good: np.ndarray
    chances: np.ndarray
    hopes: np.ndarray
    answer: np.ndarray

    def by(self, selector: str, n: int) -> np.ndarray:
        """[problems]: how often the answer chosen from n is right. selector: of `scores`, or "random", "majority", "oracle"."""
        if selector == "random":
            return self.right.mean(axis=1)
        if selector == "oracle":
            return evaluation.pass_at_k(self.made.samples, self.right.sum(axis=1), n)
        if selector == "majority":
            return np.mean([dataclasses.replace(self.made, samples=n, completions=tuple(
                c for i in range(len(self.right)) for c in self.made.completions[i * self.made.samples + start:][:n])).measures()["cons@k"]
                for start in range(0, self.made.samples - n + 1, n)], axis=0)
        return best_of_n.chosen_accuracy(self.scores[selector], self.right, n)

    def step_accuracy(self) -> np.ndarray:
        """[problems]: the share of steps on which the step model and the rule agree; NaN for a problem without a step."""
        agree, problem = (self.chances > 0.5) == self.good, self.answer // self.made.samples
        return np.array([agree[problem == i].mean() if (problem == i).any() else np.nan for i in range(len(self.right))])


@functools.lru_cache(maxsize=2)
def ranked(profile: str, seed: int = 0, runs: Path | None = None) -> Ranked:
    """Stored answers of R1-Zero to the fixed set, scored by both heads and by R1-Zero's own likelihood."""
    chosen, folder = plan(profile), runs or paths.runs(profile)
    stages.run("prm", profile=profile, seed=seed, folder=folder / "prm")
    model = StepModel.load(folder / "prm" / "model", device=profiles.get(profile).device)
    stored = stages.evaluation(MODEL, profile=profile, folder=folder / MODEL)
    made = fewer(stored, chosen.problems, chosen.samples)
    asked = [problem for problem in made.problems for _ in range(made.samples)]
    read = process_reward.read(model.policy, [text.zero_prompt(problem.question) for problem in asked],
                               [c.text for c in made.completions], [c.finished for c in made.completions])
    steps_of, outcome_of = ([model.heads[of](found).tolist() for found in read] for of in ("steps", "outcome"))
    marks = process_reward.mark(model.policy, asked, [c.text for c in made.completions], [c.finished for c in made.completions])
    scores = {"least step": [process_reward.together(found, "min") for found in steps_of],
              "mean step": [process_reward.together(found, "mean") for found in steps_of],
              "sum of steps": [process_reward.together(found, "sum") for found in steps_of],
              "value": [process_reward.together(found[-1:], "min") for found in outcome_of],
              "likelihood": [math.exp(found[-1, process_reward.LIKELIHOOD]) if len(found) else 0.0 for found in read]}
    chances, hopes = (np.array([process_reward.together([score], "min") for found in every for score in found])
                      for every in (steps_of, outcome_of))
    return Ranked(made, np.array([c.accuracy == 1 for c in made.completions]).reshape(len(made.problems), made.samples),
                  {name: made.where_answered(values) for name, values in scores.items()},
                  np.array([good for row in marks for good in row.marks], dtype=bool), chances, hopes,
                  np.array([i for i, row in enumerate(marks) for _ in row.marks], dtype=int))


def fewer(made: Evaluation, problems: int, samples: int) -> Evaluation:
    """Some problems of an evaluation, spread over all of it, and the first answers to each."""
    kept = evaluation.spread(range(len(made.problems)), problems)
    samples = min(samples, made.samples)
    return dataclasses.replace(made, problems=tuple(made.problems[i] for i in kept), samples=samples, completions=tuple(
        c for i in kept for c in made.completions[i * made.samples:][:samples]))


# ------------------------------------------------------------------------------------------------------------------------------------------
# The step model as a reward

@dataclass(frozen=True)
class Rewarded:
    """The policy before and after RL on the step model's reward, on held-out problems of the practised kinds: [problems] each.

    before, after: the answers; rows: the metrics of the RL.
    """

    paid_before: np.ndarray
    paid_after: np.ndarray
    right_before: np.ndarray
    right_after: np.ndarray
    before: Evaluation
    after: Evaluation
    rows: list[Row]


@functools.lru_cache(maxsize=2)
def rewarded(profile: str, seed: int = 0, runs: Path | None = None) -> Rewarded:
    """RL on the step model's reward, and what came of it on those problems of `ranked` that are of the practised kinds."""
    chosen, folder = plan(profile), runs or paths.runs(profile)
    from_n, done = ranked(profile, seed, runs), stages.run("prm_rl", profile=profile, seed=seed, folder=folder / "prm_rl")
    if not done.finished:
        raise R1Error("prm_rl was stopped before it was finished: run it again to go on.")
    model = StepModel.load(folder / "prm" / "model", device=profiles.get(profile).device)
    stage, recipe = stages.configure("prm_rl", profile=profile)
    made, samples = from_n.made, from_n.made.samples
    kept = [i for i, problem in enumerate(made.problems) if stage.practises(problem)]
    before = dataclasses.replace(made, problems=tuple(made.problems[i] for i in kept), completions=tuple(
        c for i in kept for c in made.completions[i * samples:(i + 1) * samples]))
    after = evaluation.evaluate(TorchSampler(done.policy), before.problems, samples=chosen.after,
                                settings=SamplingSettings(recipe.max_new_tokens), seed=seed)
    return Rewarded(from_n.scores[_PAID[stage.how]].mean(axis=1)[kept], stage.paid(model, after).mean(axis=1),
                    before.measures()["pass@1"], after.measures()["pass@1"], before, after, done.rows)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Tree search

@dataclass(frozen=True)
class Searched:
    """Trees for some of the problems of `ranked`, beside best-of-n by the same value model with the same number of generated tokens.

    trees, right, in_tree: of each problem, the tree, whether its answer is right, and whether any whole answer in it is. one: how right a
    single answer is. n: how many plain answers could be generated with the tree's tokens, at most those there are; best, among: how right
    the chosen one of these is, and whether any of them is.
    """

    problems: Sequence[Problem]
    trees: Sequence[mcts.Tree]
    right: np.ndarray
    in_tree: np.ndarray
    one: np.ndarray
    n: np.ndarray
    best: np.ndarray
    among: np.ndarray


@functools.lru_cache(maxsize=8)
def searched(profile: str, seed: int = 0, runs: Path | None = None, settings: mcts.MCTSSettings | None = None) -> Searched:
    """Search with R1-Zero as the policy and the outcome head as the value; settings: instead of the plan's."""
    chosen, folder = plan(profile), runs or paths.runs(profile)
    from_n = ranked(profile, seed, runs)
    model = StepModel.load(folder / "prm" / "model", device=profiles.get(profile).device)
    picked = evaluation.spread(range(len(from_n.made.problems)), chosen.searched)
    problems = [from_n.made.problems[i] for i in picked]

    def value(prompts: Sequence[str], answers: Sequence[str], ended: Sequence[bool]) -> list[float]:
        found = model.scores(prompts, answers, ended, of="outcome")
        return [process_reward.together(scores[-1:] or [0.0], "min") for scores in found]

    trees = mcts.search(model.policy, [text.zero_prompt(problem.question) for problem in problems], value, settings or chosen.search,
                        seed=derive("unsuccessful", seed))
    right = np.array([_right(problem, [tree.answer])[0] for problem, tree in zip(problems, trees, strict=True)])
    in_tree = np.array([any(_right(problem, [*tree.answers, tree.answer])) for problem, tree in zip(problems, trees, strict=True)])
    n, best, among = [], [], []
    for i, tree in zip(picked, trees, strict=True):
        lengths = [c.length for c in from_n.made.completions[i * from_n.made.samples:(i + 1) * from_n.made.samples]]
        n.append(best_of_n.within(lengths, tree.generated))
        best.append(from_n.by("value", n[-1])[i])
        among.append(from_n.by("oracle", n[-1])[i])
    return Searched(problems, trees, right, in_tree, from_n.right.mean(axis=1)[picked], np.array(n), np.array(best), np.array(among))


def _right(problem: Problem, answers: Sequence[str]) -> list[bool]:
    columns = {name: [value] * len(answers) for name, value in problem.columns().items()}
    return [reward == 1 for reward in rewards.accuracy_reward(list(answers), **columns)]


# ------------------------------------------------------------------------------------------------------------------------------------------
# What was found

def measure(*, profile: str, seed: int = 0, runs: Path | None = None) -> findings.Findings:
    """Every number that the ledger judges of these attempts; what has to be trained for it is trained, what is there is loaded."""
    chosen, folder = plan(profile), runs or paths.runs(profile)
    stages.run("prm_rl", profile=profile, seed=seed, folder=folder / "prm_rl")
    made_from = {"zero": lineage.weights_sha256(folder / MODEL / "model"), "prm": lineage.weights_sha256(folder / "prm" / "model"),
                 "prm_rl": lineage.weights_sha256(folder / "prm_rl" / "model"), "plan": dataclasses.asdict(chosen)}
    return findings.kept("unsuccessful", lambda: _measured(profile, seed, runs), runs=folder, seed=seed, made_from=made_from,
                         notebook=NOTEBOOK)


def _measured(profile: str, seed: int, runs: Path | None) -> findings.Findings:
    """The experiments as intervals over problems."""
    from_n, rl, tree = ranked(profile, seed, runs), rewarded(profile, seed, runs), searched(profile, seed, runs)
    n = from_n.made.samples
    found: dict[str, Interval] = evaluation.bootstrap({
        "pass1_r1": from_n.by("random", n), "best_of_n_prm": from_n.by(SELECTOR, n), "best_of_n_random": from_n.by("random", n),
        "majority": from_n.by("majority", n), "best_of_n_oracle": from_n.by("oracle", n), "prm_step_accuracy": from_n.step_accuracy()})
    found |= evaluation.bootstrap({"prm_rl_reward_gain": rl.paid_after - rl.paid_before,
                                   "prm_rl_accuracy_gain": rl.right_after - rl.right_before})
    return found | evaluation.bootstrap({"mcts": tree.right, "best_of_n_at_mcts_tokens": tree.best,
                                         "mcts_minus_best_of_n": tree.right - tree.best})
