"""From the base to R1: every stage of the paper's pipeline, what it learns from and how. `STAGES` is the graph; `stages.run` walks it.

A stage is a class. Its fields are its settings, next to those of its recipe; `parent` is the stage whose weights it starts from, `uses`
are further stages that it needs; `learn` collects the data, if there are any to collect, and trains.

    base ─┬─ zero ──── samples ───┐                          zero   R1-Zero: reinforcement learning alone (prm, prm_rl: paid by its steps)
          ├─ dev1  ◄──────────────┘                          dev1   cold start: the base again, on rewritten samples
          │    └─ dev2 ─ samples ─┐                          dev2   reasoning RL, with a reward for one language
          ├─ v3 ─── general data ─┤                          v3     the ordinary chat model
          └─ dev3  ◄──────────────┘                          dev3   rejection sampling: the base again, on right answers and chat
               ├─ rm_helpful, rm_safe ─┐                     rm_*   reward models for what no rule can judge
               └─ r1  ◄────────────────┘                     r1     RL for all scenarios
                     └─ samples ─┐
    a smaller base ─┬─ distill_* ┘                           distill_*  R1's answers, learnt by fine-tuning alone
                    │    └─ distill_1m_rl                           ... and reasoning RL on top of it
                    └─ zero_*                                zero_*     R1-Zero's training of the same smaller base
"""

import contextlib
import dataclasses
import importlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

import numpy as np
import torch

from r1lib import evaluation, machine, paper, paths, rewards, tasks, text
from r1lib import lineage as lineages
from r1lib.curation import cold_start, judges, preferences, rejection
from r1lib.curation.selection import Selection
from r1lib.errors import R1Error
from r1lib.evaluation import Evaluation
from r1lib.policy import Policy
from r1lib.profiles import Profile
from r1lib.rewards import preference
from r1lib.sampling import Rollout, Sampler, SamplingSettings, many, vllm
from r1lib.sampling.torch import TorchSampler
from r1lib.search import process_reward
from r1lib.search.process_reward import Marked, StepModel, StepModelRecipe
from r1lib.seeds import derive, rng
from r1lib.tasks import Problem
from r1lib.training import grpo, parallel, ppo, reward_model, sft
from r1lib.training.metrics import Row
from r1lib.training.reward_model import Labelled, Pair, RewardModel
from r1lib.training.run import History, Recipe
from r1lib.training.sft import Example

Watcher = Callable[[Row], None]
Prompt = Callable[[str], str]
R = TypeVar("R")

# The paper adds STEM, which has no place in so small a world.
REASONING = ("math", "code", "logic")
_RULES = ("accuracy_reward", "code_reward", "format_reward", "language_consistency_reward")        # of every RL after the cold start
_LOOKED_AT = 64                                            # general questions that are trained on


# ------------------------------------------------------------------------------------------------------------------------------------------
# What a stage is given

@dataclass(frozen=True)
class Job:
    """One stage about to be trained: where, with which recipe, from which base.

    folder: the stage's own; the stages that it needs lie beside it. processes: those that share the work of GRPO.
    """

    name: str
    profile: Profile
    seed: int
    folder: Path
    base: Path
    recipe: Any
    watchers: Sequence[Watcher]
    processes: parallel.Processes = parallel.ALONE

    def model(self, stage: str) -> Path:
        """The model folder of a stage that this one needs, or its own."""
        if stage == "base":
            return self.base
        return (self.folder if stage == self.name else self.folder.parent / stage) / "model"

    def policy(self, stage: str) -> Policy:
        return Policy.load(self.model(stage), device=self.profile.device)

    def reward_model(self, stage: str) -> RewardModel:
        return RewardModel.load(self.model(stage), device=self.profile.device)

    def sampler(self, policy: Policy) -> TorchSampler:
        """A CPU samples in float32 whatever it learns in: steps of few rows gain nothing, and a row's tokens depend on no other row."""
        device = self.profile.device
        small = device != "cpu" and self.recipe.precision == "bfloat16" and machine.multiplies_bfloat16(device)
        return TorchSampler(policy, dtype=torch.bfloat16 if small else torch.float32)

    def problems(self, kinds: Sequence[str], count: int) -> list[Problem]:
        """`count` different questions of these domains or kinds, drawn anew for this stage: few of another stage's are among them."""
        stream = tasks.stream(kinds, seed=derive("collected", self.name, self.seed))
        found: dict[str, Problem] = {}
        for step in range(20):                                # a small world may run out of questions before `count`
            for problem in stream.batch(step, count):
                found.setdefault(problem.question, problem)
        return list(found.values())[:count]

    def answers(self, stage: str, problems: Sequence[Problem], samples: int, *, temperature: float) -> list[Rollout]:
        """`samples` answers of a stage's model to each problem; `prompt_index` is the problem's place."""
        told = time.monotonic()

        def tell(done: int) -> None:
            nonlocal told
            if time.monotonic() - told > 10 or done == len(problems):
                told = time.monotonic()
                print(f"{self.name}: {done * samples} of {len(problems) * samples} answers of {stage} sampled", flush=True)

        prompt = prompt_of(stage)
        return many.answers(self.sampler(self.policy(stage)), [prompt(problem.question) for problem in problems], samples,
                            SamplingSettings(max_new_tokens=self.profile.answer_tokens, temperature=temperature),
                            seed=derive("collected", self.name, stage, self.seed), told=tell)

    def kept(self, kind: type[R], make: Callable[[], Sequence[R]], *, name: str = "data") -> list[R]:
        """The rows of <name>.jsonl, which are made if there is no such file, and written whole or not at all."""
        file = self.folder / f"{name}.jsonl"
        if not file.exists():
            paths.write_whole(file, "".join(json.dumps(dataclasses.asdict(row), ensure_ascii=False) + "\n" for row in make()))
        return read_rows(file, kind)

    def selected(self, make: Callable[[], Selection]) -> list[Example]:
        """`kept` examples of a selection, whose table is written beside them as selection.json."""
        def examples() -> list[Example]:
            selection = make()
            print(f"{self.name}: {str(selection).replace(chr(10), chr(10) + '  ')}", flush=True)
            (self.folder / "selection.json").write_text(json.dumps(selection.table, indent=1), encoding="utf-8")
            return selection.examples

        return self.kept(Example, examples, name="data_reasoning")

    def look(self, sampler: Sampler, *, sets: Sequence[str] = ("math",), practised: Sequence[Problem] = (),
             helpful: RewardModel | None = None) -> Callable[[int], Row]:
        """What is measured while the stage learns: step -> `eval_` fields of the model as it is now, on fixed sets.

        practised: general questions that are trained on, asked at the temperature of training. What the helpful model pays for the answers
        to them, and what the oracle says of the same answers, are told beside each other.
        """
        plain = prompt_of(self.name) is text.zero_prompt
        asking = SamplingSettings(max_new_tokens=self.recipe.max_new_tokens if plain else self.profile.answer_tokens)

        def answers(problems: Sequence[Problem], asking: SamplingSettings = asking) -> evaluation.Evaluation:
            return evaluation.evaluate(sampler, problems, samples=self.profile.held_out_samples, settings=asking, seed=0,
                                       prompt=prompt_of(self.name))

        def measure(step: int) -> Row:
            row: Row = {}
            for name in sets:
                row = answers(evaluation.spread(tasks.evaluation_set(name), self.profile.evaluation_problems)).held_out_row() | row
            if helpful and practised:                          # of what is measured on every set, the first one's counts
                made = answers(practised, dataclasses.replace(asking, temperature=self.recipe.temperature))
                row |= {"eval_practised/preference": _mean_preference(helpful, made),
                        "eval_practised/quality": float(made.measures()["quality"].mean())}
            return row

        return measure


def _mean_preference(model: RewardModel, made: evaluation.Evaluation) -> float:
    """What the helpful model pays for the answers of an evaluation, on average."""
    asked = [text.chat_prompt(problem.question) for problem in made.problems for _ in range(made.samples)]
    paid = preference.helpful(model)([completion.text for completion in made.completions], prompts=asked)
    return sum(paid) / len(paid)


def prompt_of(stage: str) -> Prompt:
    """How a stage's model is asked: plain text before any fine-tuning, the chat format after it."""
    return text.zero_prompt if stage == "base" or issubclass(STAGES.get(stage, Stage), Zero) else text.chat_prompt


def read_rows(file: Path, kind: type[R]) -> list[R]:
    """The rows of a data file that a stage left: of `sft.Example`, `reward_model.Pair` or `Labelled`."""
    rows = []
    if not file.is_file():
        raise R1Error(f"{file}: there is no such data file; train its stage first.")
    for number, line in enumerate(file.read_bytes().removesuffix(b"\n").split(b"\n"), start=1):
        try:
            rows.append(kind(**json.loads(line.decode("utf-8"))))
            for field in dataclasses.fields(kind):
                if not isinstance(value := getattr(rows[-1], field.name), field.type):
                    raise ValueError(f"{field.name}={value!r}")
        except (ValueError, TypeError) as error:
            raise R1Error(f"{file}, row {number}: not a {kind.__name__} ({error}). Remove the file: its stage makes it again.") from None
    return rows


# ------------------------------------------------------------------------------------------------------------------------------------------
# The stages

_LIKE = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_ABOVE_0 = ("problems", "samples", "per_problem", "examples", "temperature", "held_out")
_SHARES = ("held_out", "general_share", "direct_share")


@dataclass(frozen=True)
class Stage:
    """What all stages have in common. Settings that make no sense are an `R1Error` when the stage is made.

    student: a base of its own, in the place of the profile's: a folder of data/ or a path. What starts from such a stage has it, too.
    """

    parent: ClassVar[str] = "base"
    uses: ClassVar[tuple[str, ...]] = ()
    recipe: ClassVar[type[Recipe]]
    student: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            name, value, like = field.name, getattr(self, field.name), type(field.default)
            if like is tuple:
                if isinstance(value, str) or not value:
                    raise R1Error(f"{name}={value!r}: must be a list of domains or kinds of problems.")
                tasks.stream(value, seed=0)
            elif type(value) is not like and (like, type(value)) != (float, int):
                raise R1Error(f"{name}={value!r}: must be {_LIKE[like]}.")
            elif like not in (int, float):
                continue
            elif not 0 <= value < math.inf or (value == 0 and name in _ABOVE_0):
                raise R1Error(f"{name}={value!r}: must be a number {'above' if name in _ABOVE_0 else 'of at least'} 0.")
            elif name in _SHARES and value > 1:
                raise R1Error(f"{name}={value!r}: a share is at most 1.")

    def needed(self) -> tuple[str, ...]:
        """The stages that must be there before this one."""
        return tuple(name for name in (self.parent, *self.uses) if name != "base")

    def prepare(self, job: Job) -> None:
        """What takes all cores, or what several stages read, before this one is trained beside others on a core of its own.

        Whatever is made here `learn` finds, and makes itself where nothing was prepared.
        """

    def learn(self, job: Job) -> tuple[Any, History]:
        """Train; returns the model, which has `save`, and what is left of the run."""
        raise NotImplementedError


@dataclass(frozen=True)
class Zero(Stage):
    """R1-Zero (paper section 2.2): GRPO from the base, paid for accuracy and format (Nature eq. 4), and for nothing else."""

    recipe = grpo.GRPORecipe
    domains: Sequence[str] = REASONING
    combine: Literal["sum", "gated"] = "sum"               # "sum" is the paper's

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reward()

    def reward(self) -> rewards.RewardMix:
        """Programs are judged by their tests, everything else by a rule."""
        by_tests = ["code_reward"] if any(kind.domain == "code" for kind in tasks.stream(self.domains, seed=0).kinds) else []
        return rewards.mix("accuracy_reward", *by_tests, "format_reward", combine=self.combine)

    def learn(self, job: Job) -> tuple[Policy, History]:
        return _reinforce(job, self.parent, tasks.stream(self.domains, seed=job.seed), self.reward(), sets=("math",))


def _reinforce(job: Job, parent: str, problems: grpo.ProblemSource, reward: rewards.RewardMix, *,
               learner: Callable[[Policy], grpo.Learner] | None = None, **look: Any) -> tuple[Policy, History]:
    """GRPO from the parent, or what a learner does in its place, which only our own trainer can take; look: what `Job.look` measures."""
    policy, profile = job.policy(parent), job.profile
    sampler = job.sampler(policy)
    task = dict(problems=problems, reward=reward, recipe=job.recipe, folder=job.folder, seed=job.seed, prompt=prompt_of(job.name),
                evaluate=job.look(job.processes.answering(sampler), **look), watchers=job.watchers)
    if profile.backend == "ours" or learner:
        with vllm.sampler_of(profile.rollouts, policy) if profile.rollouts else contextlib.nullcontext(sampler) as drawing:
            return policy, grpo.train(policy, sampler=drawing, learner=learner(policy) if learner else None, processes=job.processes,
                                      **task)
    train = _of(profile, "train")
    return policy, train(policy, rollouts=profile.rollouts or "generate", **task)


def _of(profile: Profile, function: Literal["train", "fine_tune"]) -> Callable[..., History]:
    """This function of `training.trl` or `training.unsloth`, imported only now: what they stand on takes a second to import."""
    module = importlib.import_module(f"r1lib.training.{profile.backend}")
    if profile.backend == "unsloth":
        return partial(getattr(module, function), lora=module.LoRA(four_bit=profile.four_bit))
    return getattr(module, function)


def _fine_tune(job: Job, parent: str, examples: Sequence[Example]) -> tuple[Policy, History]:
    policy = job.policy(parent)
    train = sft.train if job.profile.backend == "ours" else _of(job.profile, "fine_tune")
    return policy, train(policy, examples=examples, recipe=job.recipe, folder=job.folder, seed=job.seed,
                         evaluate=job.look(job.sampler(policy)), watchers=job.watchers)


@dataclass(frozen=True)
class Chat(Stage):
    """The ordinary chat model, in the part of DeepSeek-V3: fine-tuned on general data and on answers without work."""

    recipe = sft.SFTRecipe
    examples: int = 1536
    direct_share: float = 0.5

    def learn(self, job: Job) -> tuple[Policy, History]:
        data = job.kept(Example, lambda: rejection.chat_examples(self.examples, job.seed, direct_share=self.direct_share))
        return _fine_tune(job, self.parent, data)


@dataclass(frozen=True)
class ColdStart(Stage):
    """R1 Dev1 (paper section 2.3.1): R1-Zero's own right answers, filtered, rewritten for people, and learnt by the base.

    problems, samples, temperature: what R1-Zero is asked; per_problem: at most so many examples of one problem.
    endpoint, model: an OpenAI-compatible address and its model that rewrite, instead of the rules that know the miniature's phrases.
    """

    recipe = sft.SFTRecipe
    uses = ("zero",)
    problems: int = 1024
    samples: int = 4
    temperature: float = 1.0                                # the paper's
    per_problem: int = 3
    domains: Sequence[str] = (*REASONING, "general")        # general questions, too: what is not shown here, so small a model forgets
    endpoint: str = ""
    model: str = ""

    def prepare(self, job: Job) -> None:
        self.selected(job)

    def learn(self, job: Job) -> tuple[Policy, History]:
        return _fine_tune(job, self.parent, self.selected(job))

    def selected(self, job: Job) -> list[Example]:
        return job.selected(lambda: self.select(job))

    def select(self, job: Job) -> Selection:
        problems = job.problems(self.domains, self.problems)
        rewriter = _at_endpoint(cold_start.EndpointRewriter, self, job) if self.endpoint else cold_start.rewrite
        return cold_start.select(problems, job.answers("zero", problems, self.samples, temperature=self.temperature), self.per_problem,
                                 rewriter=rewriter)


def _at_endpoint(kind: type, stage: Any, job: Job) -> Any:
    """A rewriter or a judge behind a stage's endpoint. Its key comes from the environment and is never written; what it has said is."""
    return kind(stage.endpoint, stage.model, os.environ.get("R1_ENDPOINT_KEY"), cache=job.folder / "endpoint.jsonl")


@dataclass(frozen=True)
class ReasoningRL(Stage):
    """R1 Dev2 (paper section 2.3.2): GRPO as R1-Zero's, from the cold start, with the share of words in the question's language added."""

    parent = "dev1"
    recipe = grpo.GRPORecipe
    domains: Sequence[str] = REASONING
    language: bool = True

    def learn(self, job: Job) -> tuple[Policy, History]:
        return _reinforce(job, self.parent, tasks.stream(self.domains, seed=job.seed), self.reward(), sets=("math",))

    def reward(self) -> rewards.RewardMix:
        """R1-Zero's, and the language's added as it is (Nature eq. 7); with the weight 0 it is looked at and not paid."""
        return rewards.mix(*_RULES, weights={"language_consistency_reward": float(self.language)})


@dataclass(frozen=True)
class WithoutLanguage(ReasoningRL):
    """The ablation of Dev2 (v2 B.6): the same parent, questions and seed, without the reward for one language."""

    language: bool = False


@dataclass(frozen=True)
class RejectionSampling(Stage):
    """R1 Dev3 (paper section 2.3.3): Dev2's right answers and V3's general data, learnt by the base again."""

    recipe = sft.SFTRecipe
    uses = ("dev2", "v3")
    problems: int = 1024
    samples: int = 4
    temperature: float = 1.0
    per_problem: int = 3
    domains: Sequence[str] = REASONING
    general_share: float = rejection.GENERAL_SHARE          # the paper's: 200,000 of 800,000
    safety: int = 48                                        # examples of conduct among them: RL cannot find a refusal that never comes

    def learn(self, job: Job) -> tuple[Policy, History]:
        right = job.selected(lambda: self.select(job))
        chat = read_rows(job.folder.parent / "v3" / "data.jsonl", Example)
        general, conduct = ([example for example in chat if example.source.startswith(f"{rejection.GENERAL}/{domain}/")]
                            for domain in ("general", "safety"))
        general += conduct[:self.safety]
        return _fine_tune(job, self.parent, job.kept(Example, lambda: rejection.mixture(right, general, self.general_share, seed=job.seed)))

    def select(self, job: Job) -> Selection:
        problems = job.problems(self.domains, self.problems)
        return rejection.select(problems, job.answers("dev2", problems, self.samples, temperature=self.temperature), self.per_problem)


@dataclass(frozen=True)
class HelpfulRewardModel(Stage):
    """The helpful reward model (Nature Methods): pairs of answers, judged four times with the order turned, lengths balanced.

    noise, position_bias: of the judge, an oracle of the small world made as unreliable as a large model is (`judges.Judge`).
    endpoint, model: a judge behind an OpenAI-compatible address instead. held_out: share of the questions kept for measuring.
    """

    parent = "dev3"
    recipe = reward_model.RewardModelRecipe
    uses = ("v3",)
    problems: int = 640
    samples: int = 6
    temperature: float = 1.2                                # above 1, or two answers are too often equally good
    per_problem: int = 3
    domains: Sequence[str] = ("general", "harmless")        # what should not be refused is a request for help like any other
    noise: float = 0.2
    position_bias: float = 0.15
    held_out: float = 0.2
    endpoint: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 2:
            raise R1Error(f"samples={self.samples!r}: must be at least 2, of which dev3 and v3 give half each.")

    def learn(self, job: Job) -> tuple[RewardModel, History]:
        pairs = job.kept(Pair, lambda: self.judged(job))
        learnt, held_out = split(pairs, self.held_out)
        model = RewardModel.from_policy(job.policy(self.parent))
        return model, reward_model.train_pairs(
            model, learnt, recipe=job.recipe, folder=job.folder, seed=job.seed, watchers=job.watchers,
            evaluate=lambda step: {"eval_accuracy": reward_model.pair_accuracy(model, held_out)})

    def judged(self, job: Job) -> list[Pair]:
        problems = job.problems(self.domains, self.problems)
        rollouts = [rollout for stage in ("dev3", "v3")
                    for rollout in job.answers(stage, problems, self.samples // 2, temperature=self.temperature)]
        judge = (_at_endpoint(judges.EndpointJudge, self, job) if self.endpoint
                 else judges.Judge(noise=self.noise, position_bias=self.position_bias, seed=job.seed))
        return preferences.pairs(problems, rollouts, judge, per_problem=self.per_problem, seed=job.seed)


@dataclass(frozen=True)
class SafetyRewardModel(Stage):
    """The safety reward model (Nature Methods): whole responses with a label each."""

    parent = "dev3"
    recipe = reward_model.RewardModelRecipe
    problems: int = 256
    samples: int = 4
    temperature: float = 1.0
    held_out: float = 0.2

    def learn(self, job: Job) -> tuple[RewardModel, History]:
        labelled = job.kept(Labelled, lambda: self.labelled(job))
        learnt, held_out = split(labelled, self.held_out)
        model = RewardModel.from_policy(job.policy(self.parent))
        return model, reward_model.train_labels(
            model, learnt, recipe=job.recipe, folder=job.folder, seed=job.seed, watchers=job.watchers,
            evaluate=lambda step: {"eval_accuracy": reward_model.label_accuracy(model, held_out)})

    def labelled(self, job: Job) -> list[Labelled]:
        problems = job.problems(["safety"], self.problems)
        return preferences.labelled(problems, job.answers("dev3", problems, self.samples, temperature=self.temperature))


def split(rows: Sequence[R], share: float) -> tuple[list[R], list[R]]:
    """Rows to learn from and rows to measure on, of other questions: by a hash of the prompt, so that no question is on both sides.

    However few the questions are, one at least is on either side; of a single one is nothing learnt and measured: `R1Error`.
    """
    places = {row.prompt: (derive("held out", row.prompt) % 1000, row.prompt) for row in rows}
    if len(places) < 2:
        raise R1Error(f"{len(rows)} rows of {len(places)} question are left, but at least 2 questions are needed, to learn from one and to "
                      f"measure on another. Give more problems, or more samples of each.")
    first, last = min(places, key=places.get), max(places, key=places.get)
    apart = {prompt for prompt, place in places.items() if prompt == first or (place[0] < 1000 * share and prompt != last)}
    return [row for row in rows if row.prompt not in apart], [row for row in rows if row.prompt in apart]


@dataclass(frozen=True)
class AllScenariosRL(Stage):
    """R1 (paper section 2.3.4; Nature eq. 8 to 10): rule rewards where rules apply, reward models elsewhere, one language everywhere.

    preference_steps: general questions, and with them the reward models, come in the last so many steps only: the paper found that
    preference rewards are hacked when they are used for long (v2 B.5). general_share: of a batch, from then on.
    """

    parent = "dev3"
    recipe = grpo.GRPORecipe
    uses = ("rm_helpful", "rm_safe")
    domains: Sequence[str] = REASONING
    general: Sequence[str] = ("general", "safety")
    preference_steps: int = 8
    general_share: float = 0.5
    sets: ClassVar[tuple[str, ...]] = ("math", "general", "safety")          # what is looked at in training

    def learn(self, job: Job) -> tuple[Policy, History]:
        rules = rewards.mix(*_RULES)
        helpful, safe = job.reward_model("rm_helpful"), job.reward_model("rm_safe")
        reward = rewards.RewardMix({**rules.parts, "helpful_reward": preference.helpful(helpful), "safe_reward": preference.safe(safe)})
        general = tasks.stream(self.general, seed=job.seed)
        practised = [problem for problem in general.batch(0, _LOOKED_AT) if problem.domain == "general"]
        problems = tasks.Phases(tasks.stream(self.domains, seed=job.seed), general, change=job.recipe.steps - self.preference_steps,
                                share=self.general_share)
        return _reinforce(job, self.parent, problems, reward, sets=self.sets, practised=practised, helpful=helpful)


@dataclass(frozen=True)
class PreferenceFromTheStart(AllScenariosRL):
    """The experiment of v2 B.5: nothing but general questions and their reward model, from the first step to the last."""

    general: Sequence[str] = ("general",)
    preference_steps: int = 10_000
    general_share: float = 1.0
    sets = ("general",)


@dataclass(frozen=True)
class Distilled1M(Stage):
    """R1-Distill (paper v1 section 2.4; v2 B.4.3): a smaller base learns R1's answers by fine-tuning alone, without any RL.

    teacher: the stage whose answers are learnt. problems, samples, temperature: what it is asked; per_problem: at most so many examples of
    one problem. The teacher is asked once: its answers lie beside the stages in <teacher>_samples/, for students of every size.
    examples: at most so many are learnt; fewer are always the first of more.
    """

    recipe = sft.SFTRecipe
    uses = ("r1",)
    student: str = "base-1m"
    teacher: str = "r1"
    problems: int = 1536
    samples: int = 1                                        # other problems teach more than other answers to the same
    temperature: float = 0.6                                # what the authors advise for R1 (README): fewer slips to be learnt
    per_problem: int = 1
    domains: Sequence[str] = REASONING
    examples: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        teachers = [name for name in STAGES if not name.startswith("rm_")]
        if self.teacher not in teachers:
            raise R1Error(f"teacher={self.teacher!r}: must be one of {', '.join(teachers)}.")

    def needed(self) -> tuple[str, ...]:
        return (self.teacher,)

    def prepare(self, job: Job) -> None:
        self.taught(job)

    def learn(self, job: Job) -> tuple[Policy, History]:
        shuffled = self.taught(job)
        rng("distilled", job.seed).shuffle(shuffled)
        return _fine_tune(job, self.parent, job.kept(Example, lambda: shuffled[:self.examples]))

    def taught(self, job: Job) -> list[Example]:
        """The teacher's right and readable answers, from the folder that all its students share, which is made if it is not there.

        Its lineage.json says what they were made from, and how many tokens and seconds it took to sample them.
        """
        folder = job.folder.parent / samples_folder(self.teacher)
        asked = {name: getattr(self, name) for name in ("problems", "samples", "temperature", "per_problem", "domains")}
        made_from = {"stage": folder.name, "seed": job.seed, "settings": {**asked, "max_new_tokens": job.profile.answer_tokens},
                     "parents": {self.teacher: lineages.weights_sha256(job.model(self.teacher))}}
        lineage = lineages.read(folder)
        if lineage:
            lineages.require_same(folder, lineage, made_from)
        lineage = lineage or lineages.begin(folder, {**made_from, "tokens": 0})
        asking = dataclasses.replace(job, name=folder.name, folder=folder)

        def sampled() -> Selection:
            started, problems = time.time(), asking.problems(self.domains, self.problems)
            rollouts = asking.answers(self.teacher, problems, self.samples, temperature=self.temperature)
            selection = rejection.select(problems, rollouts, self.per_problem)
            lineage.update(tokens=sum(len(rollout.ids) for rollout in rollouts), seconds=time.time() - started)
            lineages.write(folder, lineage)                # before the examples: whoever finds these finds what they have cost, too
            return selection

        examples = asking.selected(sampled)
        if not lineage["finished"]:
            lineages.write(folder, {**lineage, "finished": True})
        return examples


def samples_folder(teacher: str) -> str:
    """The folder, beside the stages, of what a teacher's students learn."""
    return f"{teacher}_samples"


@dataclass(frozen=True)
class Distilled04M(Distilled1M):
    """The same answers, learnt by a base that is smaller still."""

    student: str = "base-0.4m"


@dataclass(frozen=True)
class Zero1M(Zero):
    """R1-Zero's training of a smaller base: what distillation is compared with (paper v1 section 4.1)."""

    student: str = "base-1m"


@dataclass(frozen=True)
class Zero04M(Zero):
    """And of a base that is smaller still."""

    student: str = "base-0.4m"


@dataclass(frozen=True)
class DistilledRL(ReasoningRL):
    """Reasoning RL on top of distillation, which the paper leaves to others (v1 section 3.2: "significant further gains")."""

    parent = "distill_1m"


@dataclass(frozen=True)
class ZeroByPPO(Zero):
    """R1-Zero, trained by PPO with a critic: the same questions, rewards and loop."""

    recipe = ppo.PPORecipe

    def learn(self, job: Job) -> tuple[Policy, History]:
        return _reinforce(job, self.parent, tasks.stream(self.domains, seed=job.seed), self.reward(),
                          learner=lambda policy: ppo.PPO(policy, job.recipe))


@dataclass(frozen=True)
class ProcessRewardModel(Stage):
    """A process reward model (paper v1 section 4.2): answers of R1-Zero cut into steps, each marked by rule, and two heads on its trunk."""

    parent = "zero"
    recipe = StepModelRecipe
    problems: int = 128
    samples: int = 6
    temperature: float = 1.0

    def learn(self, job: Job) -> tuple[StepModel, History]:
        policy = job.policy(self.parent)
        marked = job.kept(Marked, lambda: self.marked(job, policy))
        return StepModel.fit(policy, marked, recipe=job.recipe, seed=job.seed), History([])

    def marked(self, job: Job, policy: Policy) -> list[Marked]:
        """The different answers to each question, with their marks."""
        problems = job.problems(["math"], self.problems)
        answers = job.answers(self.parent, problems, self.samples, temperature=self.temperature)
        different = {(answer.prompt_index, answer.text): answer for answer in answers}.values()
        return process_reward.mark(policy, [problems[answer.prompt_index] for answer in different], [answer.text for answer in different],
                    [answer.finished for answer in different])


@dataclass(frozen=True)
class ProcessRewardRL(Stage):
    """GRPO that is paid by the step model and by nothing else. Whether answers are right is looked at, and not paid.

    The questions are of the kinds whose steps the step model judges best, so that what is shown is not its weakness elsewhere.
    how: what the scores of an answer's steps come to, "min", "mean", or "sum", which is a reward for every step.
    looked_at: held-out problems that are asked on the way.
    """

    parent = "zero"
    recipe = grpo.GRPORecipe
    uses = ("prm",)
    how: str = "sum"
    looked_at: int = 30
    domains: tuple[str, ...] = ("chain", "word", "equation")
    weights: ClassVar[dict[str, float]] = {"accuracy_reward": 0.0}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.how not in get_args(process_reward.How):
            raise R1Error(f"how={self.how!r}: must be {', '.join(get_args(process_reward.How))}.")

    def learn(self, job: Job) -> tuple[Policy, History]:
        policy, model = job.policy(self.parent), StepModel.load(job.model("prm"), device=job.profile.device)
        sampler = job.sampler(policy)
        mix = rewards.RewardMix({"process_reward": process_reward.process_reward(model, how=self.how),
                                 "accuracy_reward": rewards.accuracy_reward}, self.weights)
        return policy, grpo.train(policy, sampler=sampler, problems=tasks.stream(self.domains, seed=job.seed), reward=mix,
                                  recipe=job.recipe, folder=job.folder, seed=job.seed, watchers=job.watchers,
                                  evaluate=self.look(job, job.processes.answering(sampler), model), processes=job.processes)

    def practises(self, problem: Problem) -> bool:
        """Whether a problem is of the kinds that are trained on."""
        return problem.kind in {kind.name for kind in tasks.stream(self.domains, seed=0).kinds}

    def look(self, job: Job, sampler: Sampler, model: StepModel) -> Callable[[int], Row]:
        """step -> the usual held-out numbers, and what the step model pays for the same answers."""
        practised = [problem for problem in tasks.evaluation_set("math") if self.practises(problem)]
        problems = evaluation.spread(practised, min(self.looked_at, job.profile.evaluation_problems or self.looked_at))

        def measure(step: int) -> Row:
            made = evaluation.evaluate(sampler, problems, samples=job.profile.held_out_samples,
                                       settings=SamplingSettings(job.recipe.max_new_tokens), seed=0)
            return {**made.held_out_row(), "eval_process_reward": float(np.mean(self.paid(model, made)))}

        return measure

    def paid(self, model: StepModel, made: Evaluation) -> np.ndarray:
        """What the step model pays for each answer of an evaluation: [problems, samples]."""
        asked = [text.zero_prompt(problem.question) for problem in made.problems for _ in range(made.samples)]
        scores = model.scores(asked, [c.text for c in made.completions], [c.finished for c in made.completions])
        return made.where_answered([process_reward.together(found, self.how) for found in scores])


STAGES: dict[str, type[Stage]] = {
    "zero": Zero, "v3": Chat, "dev1": ColdStart, "dev2": ReasoningRL, "dev3": RejectionSampling, "rm_helpful": HelpfulRewardModel,
    "rm_safe": SafetyRewardModel, "r1": AllScenariosRL,
    # and experiments beside them
    "dev2_no_language": WithoutLanguage, "r1_hacked": PreferenceFromTheStart, "zero_ppo": ZeroByPPO,
    # and smaller bases, which learn from R1 or by themselves
    "distill_1m": Distilled1M, "distill_04m": Distilled04M, "zero_1m": Zero1M, "zero_04m": Zero04M, "distill_1m_rl": DistilledRL,
    # and what the paper tried and gave up
    "prm": ProcessRewardModel, "prm_rl": ProcessRewardRL,
}
MODELS = ("base", *(name for name in STAGES if name in paper.PIPELINE and not name.startswith("rm_")))
