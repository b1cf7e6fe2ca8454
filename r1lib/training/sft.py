"""Supervised fine-tuning: prompts with the completions that a model is to give (DeepSeek-R1 sections 2.3.1 and 2.3.3).

    train(policy, examples=[Example(text.chat_prompt(question), completion, "cold start"), ...], recipe=SFTRecipe(epochs=2),
          folder=paths.stage("cpu", "dev1"), seed=0, watchers=[Progress()])

The cold start and the second supervised fine-tuning are this same training on other examples. Into `folder` go metrics.jsonl and state/,
from which a killed run goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.training.forward import group_log_probabilities
from r1lib.training.metrics import Row
from r1lib.training.run import EpochRecipe, History, fit, micro_batches


@dataclass(frozen=True)
class Example:
    """A prompt with all its marks, the completion to learn, without the end-of-text token, and where the pair comes from."""

    prompt: str
    completion: str
    source: str


@dataclass(frozen=True)
class SFTRecipe(EpochRecipe):
    """How a model is fine-tuned. Behind each setting: the paper's value (v2 B.4.2), and why a miniature departs from it.

    A step is one update on one batch of examples.
    """

    TITLE: ClassVar[str] = "SFT recipe"

    epochs: int = 3                         # paper: 2 to 3
    batch_size: int = 16                    # paper: 128; with a few thousand short examples, smaller batches make enough updates
    learning_rate: float = 5e-4             # paper: 5e-5; a model 200,000 times smaller needs larger steps, and forgets at four times these
    final_learning_rate: float = 5e-5       # paper: 5e-6, a tenth of the first, as here; the rate falls along a cosine
    warmup_steps: int = 10                  # paper: not said; Adam's first steps have little to go by
    weight_decay: float = 0.0               # paper: not said; few epochs leave little time to learn by heart
    betas: tuple[float, float] = (0.9, 0.95)        # paper: not said; DeepSeek-V3 was pretrained with these
    max_grad_norm: float = 1.0              # paper: not said; a bound for the rare step that is far out
    max_tokens: int = 512                   # paper: 32,768; longer examples, prompt and completion together, are left out and counted
    tokens_per_micro_batch: int = 4096      # tokens in memory at once while learning; changes the time and the memory, not the result
    checkpoint_every: int = 50              # steps between checkpoints: at most so many are lost when the process is killed
    evaluate_every: int = 50                # held-out problems are asked at step 0, every so many steps, and after the last
    precision: Literal["float32", "bfloat16"] = "float32"       # paper: not said; of the matrix products, where bfloat16 is faster


@dataclass(frozen=True)
class Encoded:
    """An example in tokens; ids are the completion's, with its end-of-text token. Examples of one prompt have one prompt_index."""

    prompt_index: int
    prompt_ids: list[int]
    ids: list[int]

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.ids)


def train(policy: Policy, *, examples: Sequence[Example], recipe: SFTRecipe, folder: str | Path, seed: int,
          evaluate: Callable[[int], Row] | None = None, watchers: Sequence[Callable[[Row], None]] = ()) -> History:
    """Fine-tune the policy in place, or go on where `folder` says that this very run stopped.

    The loss of a batch is the mean over its completions' tokens of their negative log-probability: a long completion counts for more, and
    prompts are read but not learnt. evaluate: step -> `eval_` fields of the policy as it is now. watchers: called with each row once it is
    written. Rows have TRL's names; row n describes the policy before update n, so a last row after all of them has `eval_` fields only.
    `examples/too_long` counts those left out. An interrupt or a file named STOP in the folder saves, and returns what there is.
    `R1Error`: see `encode`; the folder holds another run; a loss is not finite (its update is not applied).
    """
    rows, too_long = encode(policy, examples, max_tokens=recipe.max_tokens)

    def gradient(batch: Sequence[Encoded]) -> tuple[float, Row]:
        return _gradient(policy, batch, recipe.tokens_per_micro_batch)

    return fit(policy.model, rows, gradient, recipe=recipe, folder=folder, seed=seed, stream="sft order", data=examples,
               tokens=lambda row: row.length, constants={"examples/too_long": too_long}, evaluate=evaluate, watchers=watchers)


def encode(policy: Policy, examples: Sequence[Example], *, max_tokens: int) -> tuple[list[Encoded], int]:
    """The examples in tokens, but for those of more than max_tokens, and how many these are.

    `R1Error`: there are no examples, or only such that are too long; a row without a prompt or a completion, or with an end-of-text token
    in its completion; a tokenizer that has no such token.
    """
    end, end_id = policy.tokenizer.eos_token, policy.tokenizer.eos_token_id
    if end_id is None:
        raise R1Error("the tokenizer has no end-of-text token, so a model could not learn where to stop: use another base.")
    if not examples:
        raise R1Error("there are no examples to learn from: give at least one.")
    for row, example in enumerate(examples):
        where = f"example {row} (source {example.source!r})"
        if not example.prompt:
            raise R1Error(f"{where}: the prompt is empty, but a completion must follow something. Mend or remove that row.")
        if not example.completion.strip():
            raise R1Error(f"{where}: the completion has no text, so there is nothing to learn. Mend or remove that row.")
        if end in example.completion:
            raise R1Error(f"{where}: the completion holds {end}, which the trainer adds at its end. Remove it from that row.")
    number: dict[str, int] = {}
    prompts, completions = (policy.encode([getattr(example, part) for example in examples]) for part in ("prompt", "completion"))
    rows = [Encoded(number.setdefault(example.prompt, len(number)), prompt, [*completion, end_id])
            for example, prompt, completion in zip(examples, prompts, completions, strict=True)]
    kept = [row for row in rows if row.length <= max_tokens]
    if not kept:
        raise R1Error(f"all {len(rows)} examples are longer than max_tokens={max_tokens}: the shortest has "
                      f"{min(row.length for row in rows)}. Raise max_tokens, or give shorter ones.")
    return kept, len(rows) - len(kept)


def _gradient(policy: Policy, batch: Sequence[Encoded], tokens_at_once: int) -> tuple[float, Row]:
    """Add the gradient of the mean loss over this batch's completion tokens to the policy's; return the loss, and what else was seen."""
    tokens = sum(len(row.ids) for row in batch)
    batch = sorted(batch, key=lambda row: row.prompt_index)         # examples of one prompt come together, and it is read once for them
    losses, entropies = [], []
    for rows in micro_batches(batch, tokens_at_once):
        chosen = [batch[row] for row in rows]
        logprobs, _, entropy = group_log_probabilities(policy.model, [row.prompt_ids for row in chosen], [row.ids for row in chosen])
        loss = -logprobs.sum() / tokens                             # log-probabilities are 0 behind a row's end
        loss.backward()
        losses.append(loss.detach())
        entropies.append(entropy.sum())
    return float(sum(losses)), {"entropy": float(sum(entropies)) / tokens, "completions/mean_length": tokens / len(batch)}
