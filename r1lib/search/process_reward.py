"""A process reward model: a score for every step of an answer, learnt from steps that a rule has judged (v1 section 4.2; v2 G.2).

    model = StepModel.fit(policy, marked, recipe=StepModelRecipe(), seed=0)
    model.scores(prompts, responses)                       # the log odds that each step is good
    reward = process_reward(model, how="sum")              # as a reward for RL: what the paper warns of

It is a small head on the policy's own frozen trunk. A head on the last hidden state alone sees little: whether 132+68 is 200 is known where
the number is foretold, one place earlier. So it also reads how surprised the policy is by what the step says, which is what a verifier
that starts from the policy would have to learn first, from far more steps than a miniature can afford to judge.
A second head has the outcome of the answer as the mark of each of its steps: a value model, how likely this is to end well.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from r1lib import rewards, text
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.rewards.completion import Completion, Reward, content
from r1lib.search import steps
from r1lib.seeds import derive, generator
from r1lib.tasks import Problem
from r1lib.training.forward import pack
from r1lib.training.run import Recipe

Of = Literal["steps", "outcome"]    # what a head tells: whether a step is good, or how likely the answer is to end well
How = Literal["min", "mean", "sum"]        # what the scores of an answer come to

_ROWS_AT_ONCE = 48
_SURPRISE = 8                       # numbers about surprise, which stand behind the hidden state
LIKELIHOOD = -3                     # of the features, the mean log-probability of all tokens so far


@dataclass(frozen=True)
class Marked:
    """A response to a prompt. marks: for each step that `steps.cut` finds, whether it is good. right: whether the answer is.

    ended: whether it ended by itself; one that was cut off has no end-of-text token.
    """

    prompt: str
    response: str
    marks: list
    right: bool
    ended: bool


@dataclass(frozen=True)
class StepModelRecipe(Recipe):
    """How the heads are trained. The paper gives no setting of its process reward model."""

    TITLE: ClassVar[str] = "Step model recipe"

    hidden: int = 32                    # between the two layers of a head
    epochs: int = 12                    # over all steps; a second in all, as the trunk is read once and not moved
    batch_size: int = 128               # steps an update
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    precision: Literal["float32", "bfloat16"] = "float32"       # of the answers that are sampled

    def __post_init__(self) -> None:
        self.check(whole=dict(hidden=1, epochs=1, batch_size=1), above_zero=("learning_rate",), not_below_zero=("weight_decay",),
                   one_of={"precision": ("float32", "bfloat16")})


@dataclass(frozen=True)
class StepModel:
    """A trunk, which is the policy as it was when the heads were made, and a head for each `Of`."""

    policy: Policy
    heads: Mapping[Of, "_Head"]

    @classmethod
    def fit(cls, policy: Policy, marked: Sequence[Marked], *, recipe: StepModelRecipe, seed: int) -> "StepModel":
        """Train both heads on answers whose steps are marked. The trunk stays as it is.

        `R1Error` without steps, or when all marks are the same.
        """
        features = read(policy, [row.prompt for row in marked], [row.response for row in marked], [row.ended for row in marked])
        if odd := [row for row, (entry, found) in enumerate(zip(marked, features, strict=True)) if len(entry.marks) != len(found)]:
            raise R1Error(f"answer {odd[0]}: {len(marked[odd[0]].marks)} marks for {len(features[odd[0]])} steps, but each must have one.")
        marks: dict[Of, list[bool]] = {"steps": [mark for row in marked for mark in row.marks],
                                       "outcome": [row.right for row in marked for _ in row.marks]}
        every = torch.cat(features) if features else torch.empty(0, 0)
        return cls(policy, {of: _fitted(every, marks[of], recipe, derive("step model", of, seed)) for of in get_args(Of)})

    def scores(self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool] | None = None, *,
               of: Of = "steps") -> list[list[float]]:
        """For each response the log odds that each step is good, or from each step that the answer will be right; none without a step.

        ended: False for a response that goes on, as in a search; all have ended unless given.
        """
        return [self.heads[of](found).tolist() for found in read(self.policy, prompts, responses, ended)]

    def save(self, folder: str | Path) -> None:
        """The trunk as a plain Hugging Face folder, and the heads beside it."""
        self.policy.save(folder)
        save_file({f"{of}.{name}": tensor for of, head in self.heads.items() for name, tensor in head.state_dict().items()},
                  Path(folder) / "heads.safetensors")

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "cpu") -> "StepModel":
        """Read what `save` wrote; an `R1Error` names a folder without heads, or with damaged ones."""
        policy, file, heads = Policy.load(folder, device=device), Path(folder) / "heads.safetensors", {}
        try:
            state = load_file(file)
            for of in get_args(Of):
                own = {name.removeprefix(f"{of}."): tensor for name, tensor in state.items() if name.startswith(f"{of}.")}
                heads[of] = _Head(len(own["mean"]), len(own["first.bias"]))
                heads[of].load_state_dict(own)
                heads[of].to(policy.model.device).requires_grad_(False)
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise R1Error(f"{file}: holds no heads of a step model ({type(error).__name__}). Remove {folder}: its stage makes it "
                          "again.") from None
        return cls(policy, heads)


class _Head(nn.Module):
    """Two layers over features that are brought to one scale first: [steps, features] -> [steps]."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.first, self.second = nn.Linear(features, hidden), nn.Linear(hidden, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.second(F.gelu(self.first((features - self.mean) / self.spread)))[:, 0]


def _fitted(features: Tensor, marks: Sequence[bool], recipe: StepModelRecipe, seed: int) -> _Head:
    """A head trained by binary cross-entropy."""
    if len(set(marks)) < 2:
        raise R1Error(f"{len(marks)} steps are marked, and all of them alike: a step model needs good ones and bad ones. "
                      "Sample more answers, or from a policy that makes more mistakes, or fewer.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("weights", seed))
        head = _Head(features.shape[1], recipe.hidden)
    head.mean.copy_(features.mean(0))
    head.spread.copy_(features.std(0) + 1e-6)
    head.to(features.device)
    wanted = torch.tensor(marks, dtype=features.dtype, device=features.device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay)
    order = generator("order", seed)
    for _ in range(recipe.epochs):
        for some in torch.randperm(len(marks), generator=order).to(features.device).split(recipe.batch_size):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(head(features[some]), wanted[some]).backward()
            optimizer.step()
    return head.requires_grad_(False)


# ------------------------------------------------------------------------------------------------------------------------------------------
# What the head reads

def encode(policy: Policy, responses: Sequence[str], ended: Sequence[bool] | None = None) -> list[list[int]]:
    """Responses in tokens, each up to its end-of-text token, which those have that ended (all, unless told)."""
    stop = policy.tokenizer.eos_token_id
    return [[*ids, *([stop] if ended is None or ended[row] else [])]
            for row, ids in enumerate(policy.encode([response.split(text.EOS, 1)[0] for response in responses]))]


@torch.no_grad()
def read(policy: Policy, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool] | None = None) -> list[Tensor]:
    """The features of each step: [steps of a response, size of the hidden state + 8].

    The hidden state at the step's last token; of the step's tokens the lowest, the mean and the summed log-probability, and by how much at
    most the policy would have preferred another token; of all tokens so far the lowest and the mean; the step's highest and mean entropy.
    """
    ends, asked, answers = steps.newlines(policy.tokenizer), policy.encode(prompts), encode(policy, responses, ended)
    bounds = [[step.end for step in steps.cut(policy.tokenizer, ids, ends)] for ids in answers]
    size = policy.model.config.hidden_size + _SURPRISE
    features = [torch.empty(0, size, device=policy.model.device) for _ in answers]
    rows = sorted((row for row in range(len(answers)) if bounds[row]), key=lambda row: len(answers[row]))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[start:start + _ROWS_AT_ONCE]
        for row, found in zip(some, _read(policy, [asked[row] for row in some], [answers[row] for row in some],
                                          [bounds[row] for row in some]), strict=True):
            features[row] = found
    return features


def _read(policy: Policy, prompts: Sequence[list[int]], answers: Sequence[list[int]], bounds: Sequence[list[int]]) -> list[Tensor]:
    """The features of these answers' steps, in one forward pass."""
    packed = pack(policy.model, prompts, answers)
    head, found = policy.model.get_output_embeddings().weight, {}
    for row, start, prompt_end in zip(packed.order, packed.starts.tolist(), packed.prompt_ends.tolist(), strict=True):
        ids = torch.tensor(answers[row], device=head.device)
        hidden = packed.hidden[start:start + len(ids)]
        before = torch.cat([packed.hidden[prompt_end:prompt_end + 1], hidden[:-1]])            # the place that foretells each token
        every = torch.log_softmax((before @ head.T).float(), dim=-1)                           # [tokens, vocabulary]
        said = every.gather(1, ids[:, None])[:, 0]
        regret, entropy = every.amax(-1) - said, -(every.exp() * every).sum(-1)
        of_steps = []
        for first, end in zip([0, *bounds[row]], bounds[row], strict=False):
            step = slice(first, end)
            of_steps.append(torch.cat([hidden[end - 1].float(), torch.stack([
                said[step].min(), said[step].mean(), said[step].sum(), regret[step].max(), said[:end].min(), said[:end].mean(),
                entropy[step].max(), entropy[step].mean()])]))
        found[row] = torch.stack(of_steps)
    return [found[row] for row in range(len(answers))]


# ------------------------------------------------------------------------------------------------------------------------------------------
# What is good, by rule

def mark(policy: Policy, problems: Sequence[Problem], answers: Sequence[str], ended: Sequence[bool]) -> list[Marked]:
    """Answers of R1-Zero with a mark for each step, by rule; problems: the one that each answers."""
    columns = [problem.columns() for problem in problems]
    right = rewards.accuracy_reward(list(answers), **{name: [row[name] for row in columns] for name in columns[0]}) if columns else []
    return [Marked(text.zero_prompt(problem.question), answer,
                   [verdict in steps.GOOD for _, verdict in judged(policy, problem, answer, done)], is_right == 1, done)
            for problem, answer, done, is_right in zip(problems, answers, ended, right, strict=True)]


def judged(policy: Policy, problem: Problem, answer: str, ended: bool = True) -> list[tuple[str, steps.Verdict]]:
    """The steps of an answer and what the rule says of each."""
    ids = encode(policy, [answer], [ended])[0]
    found = [step.text for step in steps.cut(policy.tokenizer, ids, steps.newlines(policy.tokenizer))]
    return list(zip(found, steps.judge(problem, found), strict=True))


# ------------------------------------------------------------------------------------------------------------------------------------------
# One number for an answer

def together(scores: Sequence[float], how: How) -> float:
    """What the scores of an answer's steps come to, as chances that a step is good; 0 without a step.

    "min": the least, 0 to 1; no step may be bad. "mean": 0 to 1; a bad step can be made up for. "sum": what rewards for single steps come
    to in RL.
    """
    chances = [1 / (1 + math.exp(-min(max(score, -50.0), 50.0))) for score in scores]
    if not chances:
        return 0.0
    return min(chances) if how == "min" else sum(chances) / (len(chances) if how == "mean" else 1)


def process_reward(model: StepModel, *, how: How) -> Reward:
    """A reward for the steps of a response, from their scores alone. A response in which no answer can be read earns 0."""

    def process_reward(completions: Sequence[Completion], prompts: Sequence[str], completion_ids: Sequence[Sequence[int]] | None = None,
                       **_: Any) -> list[float | None]:
        written = [content(completion) for completion in completions]
        ended = [completion_ids is None or ids[-1] in model.policy.stop_ids for ids in completion_ids or written]
        answered = [row for row, said in enumerate(written) if text.parse(said).answer]
        scores = model.scores([prompts[row] for row in answered], [written[row] for row in answered], [ended[row] for row in answered])
        rewards = dict(zip(answered, (together(found, how) for found in scores), strict=True))
        return [rewards.get(row, 0.0) for row in range(len(written))]

    return process_reward
