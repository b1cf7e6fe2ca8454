"""R1-Zero's training: ask, answer, judge, compare, learn. The loop in `train` is the paper's algorithm (DeepSeek-R1 section 2.1).

    policy = Policy.load(base)
    train(policy, sampler=TorchSampler(policy), problems=tasks.stream(["math"], seed=0), reward=rewards.default_mix(),
          recipe=GRPORecipe(steps=40), folder=paths.stage("cpu", "zero"), seed=0, watchers=[Progress()])

Into `folder` go metrics.jsonl (see `metrics` for what a row means), rollouts.jsonl, and state/, from which a killed run goes on.
"""

import asyncio
import copy
import dataclasses
import functools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from r1lib import text
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.rewards import Rewards
from r1lib.sampling import Rollout, Sampler, SamplingSettings
from r1lib.seeds import derive, rng
from r1lib.tasks import Problem
from r1lib.training import objective
from r1lib.training.forward import group_log_probabilities
from r1lib.training.metrics import MetricsLog, Row, completion_metrics, hacking_alarm, reading_metrics, reward_metrics
from r1lib.training.parallel import ALONE, Processes
from r1lib.training.run import (
    Clock,
    History,
    Recipe,
    Run,
    matrix_products_in,
    micro_batches,
    require_finite,
    sums_in_one_order,
    uninterrupted,
)


@dataclass(frozen=True)
class GRPORecipe(Recipe):
    """How R1-Zero is trained. Behind each setting: the paper's value, and why a miniature departs from it (Nature Methods; v2 section 2.1).

    A step is one batch of rollouts and what is learnt from it.
    """

    TITLE: ClassVar[str] = "GRPO recipe"

    steps: int = 40                     # paper: 10,400 updates; the miniature is near its ceiling within a hundred
    prompts_per_step: int = 32          # paper: 32 questions an update, 512 in a rollout batch of 16 updates; fewer where two cores wait
    samples_per_prompt: int = 16        # paper: 16; the group that an answer is compared with
    updates_per_rollout: int = 1        # paper: 16 random minibatches of a rollout batch; 1 keeps updates on-policy, as small models may
    max_new_tokens: int = 256           # paper: 32,768, later 65,536; the miniature's answers take about 70, long searches more
    temperature: float = 1.0            # paper: 1
    learning_rate: float = 3e-4         # paper: 3e-6; a model 200,000 times smaller bears steps 100 times larger, and has few of them
    warmup_steps: int = 5               # paper: not said; Adam's first steps have little to go by
    weight_decay: float = 0.0           # paper: not said; no example is seen twice here
    betas: tuple[float, float] = (0.9, 0.95)        # paper: not said; DeepSeek-V3 was pretrained with these
    max_grad_norm: float = 1.0          # paper: not said; a bound for the rare step that is far out
    epsilon_low: float = 0.2            # paper: not said for R1-Zero; 10 in R1's first RL stage, up to 15 updates off. 0.2 is PPO's
    epsilon_high: float = 0.28          # ... and DAPO's: a wider upper end lets rare tokens grow (arXiv 2503.14476)
    beta: float = 0.0                   # paper: 0.001; 0 saves the reference's pass, a quarter of the learning; few steps drift little
    reference_refresh: int = 400        # paper: 400; with beta != 0, after so many steps the reference becomes the latest policy
    aggregation: Literal["sequence", "token", "constant"] = "sequence"      # paper: every answer weighs the same
    advantage_scale: Literal["group", "none"] = "group"                     # paper: divided by the group's standard deviation
    evaluate_every: int = 10            # held-out problems are asked at step 0, every so many steps, and after the last
    rollouts_kept_per_step: int = 8     # answers a step that rollouts.jsonl keeps for reading
    checkpoint_every: int = 10          # steps between checkpoints: at most so many are lost when the process is killed
    tokens_per_micro_batch: int = 4096  # tokens in memory at once while learning; changes the time and the memory, not the result
    precision: Literal["float32", "bfloat16"] = "float32"       # paper: not said; of the matrix products, where bfloat16 is faster

    def __post_init__(self) -> None:
        self.check(whole=dict(steps=1, prompts_per_step=1, samples_per_prompt=2, updates_per_rollout=1, max_new_tokens=1, warmup_steps=0,
                              reference_refresh=1, evaluate_every=1, rollouts_kept_per_step=0, checkpoint_every=1,
                              tokens_per_micro_batch=1),
                   above_zero=("temperature", "learning_rate", "max_grad_norm"),
                   not_below_zero=("weight_decay", "epsilon_low", "epsilon_high", "beta"),
                   one_of={"aggregation": ("sequence", "token", "constant"), "advantage_scale": ("group", "none"),
                           "precision": ("float32", "bfloat16")})
        if self.prompts_per_step % self.updates_per_rollout:
            raise R1Error(f"GRPO recipe: updates_per_rollout={self.updates_per_rollout}, but it must divide "
                          f"prompts_per_step={self.prompts_per_step}.")


class ProblemSource(Protocol):
    """Where questions come from: a pure function of the step, so that a run that goes on asks what it would have asked."""

    def batch(self, step: int, n: int) -> list[Problem]: ...


class Learner(Protocol):
    """What `compare` and `improve` do in this file, done in another way; both have the arguments and the results of these functions."""

    def compare(self, rewards: Rewards, recipe: GRPORecipe) -> Tensor: ...

    def improve(self, policy: Policy, optimizer: torch.optim.Optimizer, rollouts: Sequence[Rollout], advantages: Tensor,
                recipe: GRPORecipe, *, step: int, seed: int, reference: nn.Module | None = None) -> Row: ...


# ------------------------------------------------------------------------------------------------------------------------------------------
# The loop

def train(policy: Policy, *, sampler: Sampler, problems: ProblemSource, reward: Callable[[list[str], dict[str, list]], Rewards],
          recipe: GRPORecipe, folder: str | Path, seed: int, prompt: Callable[[str], str] = text.zero_prompt,
          evaluate: Callable[[int], Row] | None = None, watchers: Sequence[Callable[[Row], None]] = (),
          learner: Learner | None = None, processes: Processes = ALONE) -> History:
    """Train the policy in place by GRPO, or go on where `folder` says that this very run stopped.

    reward: (completions, columns of their problems) -> totals and parts; a `rewards.RewardMix` is one.
    evaluate: step -> `eval_` fields of the policy as it is now. watchers: called with each row once it is written.
    learner: another way to compare and to learn in the same loop, such as `ppo.PPO`; without it GRPO's.
    processes: those that share the work (`parallel`). All of them call this with the same arguments; the first writes, tells the watchers
    and hears interrupts, which wait for the end of a step. `evaluate` is called in all; a reward is given a share of the answers.
    An interrupt (Ctrl-C, a notebook's stop) or a file named STOP in the folder saves, and returns what there is; call again to go on.
    `R1Error`: the first batch carries no signal; the folder holds another run; a loss is not finite (its update is not applied).
    """
    if learner and processes.count > 1:
        raise R1Error(f"{type(learner).__name__} learns in one process: start it without torchrun.")
    run = processes.first_then_others(lambda: _Run(policy, recipe, Path(folder), seed, watchers, writes=processes.rank == 0))
    sampler, reward = processes.answering(sampler), processes.judging(reward, recipe.samples_per_prompt)
    compares, learns = (learner.compare, learner.improve) if learner else (compare, functools.partial(improve, processes=processes))
    settings = SamplingSettings(max_new_tokens=recipe.max_new_tokens, temperature=recipe.temperature)
    try:
        for step in range(run.step, recipe.steps):
            if processes.of_first(run.asked_to_stop):
                return run.stop("a STOP file")
            run.refresh_reference()
            held_out = evaluate(step) if evaluate and step % recipe.evaluate_every == 0 else {}
            clock = Clock()

            # 1. answer: the policy as it is now gives a group of answers to each question
            batch = problems.batch(step, recipe.prompts_per_step)
            rollouts = sampler.sample([prompt(problem.question) for problem in batch], recipe.samples_per_prompt, settings,
                                      seed=derive("rollouts", seed, step))
            asked = [batch[rollout.prompt_index] for rollout in rollouts]
            clock.lap("time/sample")

            # 2. judge: rules say what each answer is worth, no model does
            rewards = judge(reward, asked, rollouts, prompt)
            clock.lap("time/reward")

            # 3. compare within each group: an answer is as good as it is better than its siblings
            advantages = compares(rewards, recipe)
            run.keep(asked, rollouts, rewards, advantages)
            if step == 0:
                require_signal(rollouts, rewards, recipe, run.folder)

            with uninterrupted():      # weights half updated, or updated and not written down, would belong to no step
                # 4. learn: what was better than its siblings becomes likelier
                update = learns(policy, run.optimizer, rollouts, advantages, recipe, step=step, seed=seed, reference=run.reference)
                clock.lap("time/learn")

                # 5. look
                run.look(asked, rollouts, rewards, update | clock.times() | held_out)
        if evaluate and not run.is_evaluated():
            run.write({"step": recipe.steps, **evaluate(recipe.steps)})
        return History(run.rows)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return run.stop("an interrupt")


# ------------------------------------------------------------------------------------------------------------------------------------------
# Judge, compare, learn

def judge(reward: Callable[[list[str], dict[str, list]], Rewards], asked: Sequence[Problem], rollouts: Sequence[Rollout],
          prompt: Callable[[str], str] = text.zero_prompt) -> Rewards:
    """What each answer is worth. asked: the problem of each rollout; prompt: how its question was put, for rewards that read it.

    `R1Error` for a reward that is not a finite number, which would make the whole batch's update one.
    """
    columns = [{**problem.columns(), "prompts": prompt(problem.question), "completion_ids": rollout.ids}
               for problem, rollout in zip(asked, rollouts, strict=True)]
    rewards = reward([rollout.text for rollout in rollouts], {name: [row[name] for row in columns] for name in columns[0]})
    if len(rewards.total) != len(rollouts):
        raise R1Error(f"the reward gave {len(rewards.total)} values for {len(rollouts)} answers: it must give one each.")
    for problem, total in zip(asked, rewards.total, strict=True):
        if not math.isfinite(total):
            raise R1Error(f"the reward of an answer to {problem.id} is {total}: every reward must be a finite number.")
    return rewards


def compare(rewards: Rewards, recipe: GRPORecipe) -> Tensor:
    """The advantage of each answer within its group: [prompts, samples]."""
    return objective.group_advantages(_groups(rewards, recipe), scale=recipe.advantage_scale)


def _groups(rewards: Rewards, recipe: GRPORecipe) -> Tensor:
    return torch.tensor(rewards.total).view(-1, recipe.samples_per_prompt)


def require_signal(rollouts: Sequence[Rollout], rewards: Rewards, recipe: GRPORecipe, folder: Path) -> None:
    """Refuse to train on nothing: an `R1Error` when no answer of the first batch ended, or when no group holds two different rewards."""
    if not any(rollout.finished for rollout in rollouts):
        raise R1Error(f"step 0: none of {len(rollouts)} answers ended within max_new_tokens={recipe.max_new_tokens} (read some in "
                      f"{folder / 'rollouts.jsonl'}). Raise max_new_tokens, or use a base and a tokenizer that know an end-of-text token.")
    groups = _groups(rewards, recipe)
    if (groups == groups[:, :1]).all():
        histogram = ", ".join(f"{value:g} x {count}" for value, count in sorted(Counter(rewards.total).items())[:8])
        raise R1Error(f"step 0: no signal, as no question got two answers of different reward (rewards: {histogram}; answers are in "
                      f"{folder / 'rollouts.jsonl'}). Use easier levels, more samples_per_prompt, or another base.")


def improve(policy: Policy, optimizer: torch.optim.Optimizer, rollouts: Sequence[Rollout], advantages: Tensor, recipe: GRPORecipe, *,
            step: int, seed: int, reference: nn.Module | None = None, processes: Processes = ALONE) -> Row:
    """Learn from a batch of rollouts: `updates_per_rollout` updates of the policy, each on its own random share of the questions.

    advantages: [prompts, samples]. The old log-probabilities are the sampler's: an on-policy update needs no forward pass but its own.
    Where a sampler says what the policy itself finds (`Rollout.policy_logprobs`), these are the old ones, and each token is weighted for
    the difference (`truncated_weights`). processes: they all have the same rollouts, and each finds the gradient of its share.
    Returns what was measured; entropy, clipping and the difference to the sampler's log-probabilities are over the tokens learnt from.
    A batch in which every advantage is 0 changes nothing. `R1Error` when the loss or its gradient is not finite: it is not applied.
    """
    rate = recipe.learning_rate * min(1.0, (step + 1) / max(recipe.warmup_steps, 1))        # linear warm-up, then constant
    for group in optimizer.param_groups:
        group["lr"] = rate
    questions, samples = advantages.shape
    order = list(range(questions))
    if recipe.updates_per_rollout > 1:
        rng("minibatches", seed, step).shuffle(order)
    share = questions // recipe.updates_per_rollout
    losses, norms, measured = [], [], []
    for start in range(0, questions, share):
        chosen = [question * samples + sample for question in order[start:start + share] for sample in range(samples)]
        optimizer.zero_grad(set_to_none=True)
        with sums_in_one_order(policy.model), matrix_products_in(recipe.precision, policy.model.device.type):
            loss, parts = _gradient(policy, [rollouts[i] for i in chosen], advantages.flatten()[chosen], recipe, reference, processes)
        norm = float(nn.utils.clip_grad_norm_(policy.model.parameters(), recipe.max_grad_norm))
        require_finite(step, loss, norm, recipe.learning_rate, optimizer)
        optimizer.step()                # weights without a gradient, as after a batch with nothing to learn, stay where they are
        losses.append(loss)
        norms.append(norm)
        measured.append(parts)

    row = {"loss": statistics.fmean(losses), "grad_norm": statistics.fmean(norms), "learning_rate": rate}
    if every := [part for parts in measured for part in parts]:
        row |= objective.summary(every)
        row["entropy"] = _per_token(every, "entropy")
    if measured[0]:                     # later updates of a rollout batch move away from the sampler on purpose
        row["sampling/sampling_logp_difference/mean"] = _per_token(measured[0], "difference")
        row["sampling/sampling_logp_difference/max"] = float(max(part["largest"] for part in measured[0]))
    return row


def _gradient(policy: Policy, rollouts: Sequence[Rollout], advantages: Tensor, recipe: GRPORecipe,
              reference: nn.Module | None, processes: Processes) -> tuple[float, list[dict[str, Tensor]]]:
    """Add the gradient of the objective over these rollouts to the policy's; return the loss, and sums over the tokens of each micro-batch.

    Rows with advantage 0 are left out: their gradient is 0 unless there is a KL term. They still count in what the loss is divided by.
    """
    device = policy.model.device
    lengths = torch.tensor([len(rollout.ids) for rollout in rollouts])
    normaliser = objective.batch_normaliser(lengths, recipe.aggregation, recipe.max_new_tokens)
    teaching = [i for i in range(len(rollouts)) if recipe.beta or advantages[i] != 0]
    mine = processes.balanced(teaching, rollouts)
    losses, measured = [], []
    for rows in micro_batches([rollouts[i] for i in mine], recipe.tokens_per_micro_batch):
        chosen = [mine[row] for row in rows]
        prompts, answers = [rollouts[i].prompt_ids for i in chosen], [rollouts[i].ids for i in chosen]
        logprobs, mask, entropy = group_log_probabilities(policy.model, prompts, answers, temperature=recipe.temperature)
        drawn = _laid_out([rollouts[i].logprobs for i in chosen], mask)
        old = drawn
        if any(rollouts[i].policy_logprobs is not None for i in chosen):
            old = _laid_out([rollouts[i].policy_logprobs or rollouts[i].logprobs for i in chosen], mask)
            weights = truncated_weights(old, drawn)
            # The same values with gradients `weights` times as large: for a token's share of the loss that is a weight.
            logprobs = logprobs.detach() + weights * (logprobs - logprobs.detach())
        reference_logprobs = None
        if reference is not None:
            with torch.no_grad():
                reference_logprobs, _, _ = group_log_probabilities(reference, prompts, answers, temperature=recipe.temperature)
        loss, sums = objective.grpo_loss(
            logprobs, old, advantages[chosen].to(device), mask, epsilon_low=recipe.epsilon_low, epsilon_high=recipe.epsilon_high,
            beta=recipe.beta, reference_logprobs=reference_logprobs, how=recipe.aggregation, normaliser=normaliser)
        loss.backward()
        difference = (logprobs.detach() - drawn).abs()
        losses.append(loss.detach())
        measured.append(sums | {"entropy": entropy.sum(), "difference": difference.sum(), "largest": difference.max()})
    if teaching:
        processes.sum_gradients(policy.model.parameters())
    found = processes.of_all(lambda: (float(sum(losses)), [{name: value.cpu() for name, value in part.items()} for part in measured]))
    return sum(loss for loss, _ in found), [part for _, parts in found for part in parts]


def truncated_weights(policy_logprobs: Tensor, drawn_logprobs: Tensor, *, most: float = 2.0) -> Tensor:
    """What makes up for tokens that another engine drew, whose kernels round differently: pi(token) / drawn(token), at most `most`.

    Both [rows, tokens], of the same weights before any update. Without it, the engine's distribution is learnt from as if it were the
    policy's. Truncated importance sampling, with the bound of 2 that its authors use (Yao and others 2025, "Your efficient RL framework
    secretly brings you off-policy RL training"): the weight of a rare token that the engine found far too unlikely must not blow up.
    """
    return (policy_logprobs - drawn_logprobs).exp().clamp(max=most)


def _laid_out(rows: Sequence[Sequence[float]], mask: Tensor) -> Tensor:
    """One value a token, in the places of `mask`, and 0 elsewhere."""
    values = torch.zeros(mask.shape, device=mask.device)
    values[mask] = torch.tensor([value for row in rows for value in row], device=mask.device)
    return values


def _per_token(parts: Sequence[dict[str, Tensor]], name: str) -> float:
    return float(sum(part[name] for part in parts)) / max(float(sum(part["tokens"] for part in parts)), 1.0)


def for_reading(asked: Sequence[Problem], rollouts: Sequence[Rollout], rewards: Rewards, advantages: Tensor, recipe: GRPORecipe, *,
                step: int, seed: int) -> list[Row]:
    """Rows of rollouts.jsonl, some answers of a step: of groups drawn anew at each step, the best, the worst, and two others."""
    samples, random = recipe.samples_per_prompt, rng("kept rollouts", seed, step)
    wanted: list[int] = []
    for question in random.sample(range(len(advantages)), len(advantages)):
        group = list(range(question * samples, (question + 1) * samples))
        best, worst = max(group, key=rewards.total.__getitem__), min(group, key=rewards.total.__getitem__)
        others = [row for row in group if row not in (best, worst)]
        wanted += dict.fromkeys([best, worst, *random.sample(others, min(2, len(others)))])
        if len(wanted) >= recipe.rollouts_kept_per_step:
            break
    return [
        {"step": step, "problem": asked[row].id, "domain": asked[row].domain, "level": asked[row].level,
         "language": asked[row].language, "question": asked[row].question, "gold": asked[row].gold, "sample": row % samples,
         "text": rollouts[row].text, "length": len(rollouts[row].ids), "finished": rollouts[row].finished, "reward": rewards.total[row],
         "rewards": {name: values[row] for name, values in rewards.parts.items()},
         "advantage": float(advantages.flatten()[row])}
        for row in wanted[:recipe.rollouts_kept_per_step]]


# ------------------------------------------------------------------------------------------------------------------------------------------
# What a run carries from step to step

class _Run(Run):
    """A run with its reference and the answers it keeps."""

    def __init__(self, policy: Policy, recipe: GRPORecipe, folder: Path, seed: int, watchers: Sequence[Callable[[Row], None]],
                 writes: bool) -> None:
        self.seed, self.kept = seed, MetricsLog(folder / "rollouts.jsonl")
        # Longer training, or checkpoints at other steps, goes through the same steps.
        super().__init__(policy.model, recipe, folder, steps=recipe.steps, settings={"seed": seed, **dataclasses.asdict(recipe)},
                         may_differ=frozenset({"steps", "checkpoint_every"}), watchers=watchers, logs=[self.kept.path.name], writes=writes,
                         reference=copy.deepcopy(policy.model).requires_grad_(False) if recipe.beta else None)

    def refresh_reference(self) -> None:
        """Every `reference_refresh` steps the latest policy becomes the reference: an old one would only hold it back (v2 A.3)."""
        if self.reference is not None and self.step and self.step % self.recipe.reference_refresh == 0:
            self.reference.load_state_dict(self.model.state_dict())

    def keep(self, asked: Sequence[Problem], rollouts: Sequence[Rollout], rewards: Rewards, advantages: Tensor) -> None:
        if self.writes:
            self.kept.append(*for_reading(asked, rollouts, rewards, advantages, self.recipe, step=self.step, seed=self.seed))

    def look(self, asked: Sequence[Problem], rollouts: Sequence[Rollout], rewards: Rewards, measured: Row) -> None:
        """End the step: one row of metrics, an alarm if there is cause for one, and a checkpoint when it is time."""
        self.tokens += sum(len(rollout.prompt_ids) + len(rollout.ids) for rollout in rollouts)
        row = {"step": self.step, **reward_metrics(_groups(rewards, self.recipe), rewards.parts), **completion_metrics(rollouts),
               **reading_metrics(asked, rollouts), **measured, "num_tokens": self.tokens, "memory/peak_gb": self.peak_gb()}
        if alarm := hacking_alarm([*self.rows, row]):
            row["alarm"] = alarm
        self.end_step(row)
