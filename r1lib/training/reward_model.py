"""Reward models: a policy's backbone with one number on top, for what no rule can judge (Nature Methods; v2 section 3.1 and B.2).

    helpful = RewardModel.from_policy(policy)
    train_pairs(helpful, pairs, recipe=RewardModelRecipe(), folder=paths.stage("cpu", "helpful"), seed=0)
    pair_accuracy(helpful, held_out), length_bias(helpful, held_out)

The helpful model learns from pairs of which one answer is the better one, the safety model from single answers with a label. A reward
model's folder is a plain Hugging Face sequence classifier with one label, which other tools load.
"""

import copy
import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from r1lib.errors import R1Error
from r1lib.policy import Policy, first_line, on_device, whole_folder
from r1lib.training.metrics import Row
from r1lib.training.run import EpochRecipe, History, fit

_TOKENS_AT_ONCE = 16_384        # in memory while scoring


@dataclass
class RewardModel:
    """A sequence classifier with one label, and its tokenizer.

    It reads prompt, response and the end-of-text token, and scores them at the last token. A score has no unit: differences of scores are
    log odds, of one answer over another for a model of pairs; with `train_labels`, the score itself is the log odds of the label 1.
    folder: where it was read from, or None for one made in memory.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    folder: Path | None = None

    @classmethod
    def from_policy(cls, policy: Policy) -> "RewardModel":
        """A reward model with a copy of the policy's backbone. Its head is 0, so that before training all scores are 0.

        `R1Error` for a kind of model that transformers has no sequence classifier for.
        """
        config = copy.deepcopy(policy.model.config)
        config.num_labels, config.pad_token_id = 1, policy.pad_id
        try:
            with torch.random.fork_rng(devices=[]):             # weights drawn at random and overwritten below change no later draw
                model = AutoModelForSequenceClassification.from_config(config)
        except ValueError as error:
            raise R1Error(f"a {config.model_type} model cannot become a reward model ({first_line(error)}): use another base.") from error
        model.to(device=policy.model.device, dtype=policy.model.dtype)
        model.base_model.load_state_dict(policy.model.base_model.state_dict())
        with torch.no_grad():
            model.score.weight.zero_()
        return cls(model.eval(), policy.tokenizer)

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> "RewardModel":
        """Read a reward model's folder. One that is missing, damaged, or a language model without a head is an `R1Error` that names it."""
        whole = whole_folder(Path(folder))
        safely = dict(trust_remote_code=False, local_files_only=True)
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(whole), **safely)
            model, found = AutoModelForSequenceClassification.from_pretrained(
                str(whole), dtype=dtype, use_safetensors=True, output_loading_info=True, **safely)
        except Exception as error:       # what these raise for a folder that is no model is of any type, `Exception` itself included
            raise R1Error(f"{folder}: cannot be read as a reward model ({first_line(error)}).") from error
        if found["missing_keys"] or model.num_labels != 1:       # transformers would go on with random weights in their place
            missing = f"lacks {', '.join(sorted(found['missing_keys'])[:3])}" if found["missing_keys"] else f"has {model.num_labels} labels"
            raise R1Error(f"{folder}: is not a reward model, it {missing}. Make one of a language model by RewardModel.from_policy.")
        return cls(on_device(model, device).eval(), tokenizer, whole)

    def save(self, folder: str | Path) -> None:
        """Write a plain Hugging Face folder, all or nothing, as `Policy.save`."""
        Policy(self.model, self.tokenizer).save(folder)

    def encode(self, prompts: Sequence[str], responses: Sequence[str]) -> list[list[int]]:
        """What the model reads, in tokens: prompt, response up to an end-of-text token, and such a token."""
        policy, end = Policy(self.model, self.tokenizer), self.tokenizer.eos_token
        if end is None:
            raise R1Error("the tokenizer has no end-of-text token, at which a reward model reads its score off: use another base.")
        read = zip(policy.encode(prompts), policy.encode([response.split(end, 1)[0] for response in responses]), strict=True)
        return [[*prompt, *response, self.tokenizer.eos_token_id] for prompt, response in read]

    def scores(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """The score of each row of tokens, [rows], differentiable, in one forward pass.

        Rows are padded on the right, where under causal attention no token sees a pad. transformers looks for the last token itself.
        """
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[self.model.config.pad_token_id] * (longest - len(row))] for row in rows], device=self.model.device)
        score = self.model(input_ids=ids, use_cache=False).logits[:, 0]
        return score.to(torch.promote_types(score.dtype, torch.float32))

    @torch.no_grad()
    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        """The score of each response to its prompt. Responses of any length: the limit is the training's (v2 B.2)."""
        if len(prompts) != len(responses):
            raise R1Error(f"score: {len(prompts)} prompts and {len(responses)} responses, but there must be one of each.")
        rows = self.encode(prompts, responses)
        scores = [0.0] * len(rows)
        for together in _by_length([len(row) for row in rows], _TOKENS_AT_ONCE):
            for row, score in zip(together, self.scores([rows[row] for row in together]).tolist(), strict=True):
                scores[row] = score
        return scores


def _by_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Rows to be padded together: in order of their length, at most so many tokens with padding, at least one row."""
    together: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if together and (len(together) + 1) * lengths[row] > tokens:
            yield together
            together = []
        together.append(row)
    if together:
        yield together


# ------------------------------------------------------------------------------------------------------------------------------------------
# Training

@dataclass(frozen=True)
class Pair:
    """Two responses to a prompt, of which a judge prefers the first; gap: by how much, where it is known. It is not learnt from."""

    prompt: str
    chosen: str
    rejected: str
    gap: float | None = None


@dataclass(frozen=True)
class Labelled:
    """A response to a prompt, and whether it is good (for the safety model: safe)."""

    prompt: str
    response: str
    good: bool


@dataclass(frozen=True)
class RewardModelRecipe(EpochRecipe):
    """How a reward model is trained. Behind each setting: the paper's value (v2 B.2), and why a miniature departs from it.

    A step is one update on one batch of pairs or of labelled responses.
    """

    TITLE: ClassVar[str] = "Reward model recipe"

    epochs: int = 3                         # paper: 1; with a thousand times fewer pairs, one makes too few updates
    batch_size: int = 16                    # paper: 256; as above
    learning_rate: float = 5e-4             # paper: 6e-6; a small model bears and needs larger steps
    final_learning_rate: float = 5e-5       # paper: not said; a tenth of the first, as in its fine-tuning; the rate falls along a cosine
    warmup_steps: int = 10                  # paper: not said; Adam's first steps have little to go by
    weight_decay: float = 0.0               # paper: not said; no pair is seen twice
    betas: tuple[float, float] = (0.9, 0.95)        # paper: not said; DeepSeek-V3 was pretrained with these
    max_grad_norm: float = 1.0              # paper: not said; a bound for the rare step that is far out
    max_tokens: int = 512                   # paper: 8,192; longer rows are left out of training and counted, and scored all the same
    tokens_per_micro_batch: int = 8192      # tokens in memory at once while learning; changes the time and the memory, not the result
    checkpoint_every: int = 50              # steps between checkpoints: at most so many are lost when the process is killed
    evaluate_every: int = 50                # held-out pairs are scored at step 0, every so many steps, and after the last
    precision: Literal["float32", "bfloat16"] = "float32"       # paper: not said; of the matrix products, where bfloat16 is faster


@dataclass(frozen=True)
class _Encoded:
    """A pair's two rows of tokens, the chosen one first, or a labelled response's one."""

    rows: tuple[list[int], ...]
    good: bool

    @property
    def longest(self) -> int:
        return max(map(len, self.rows))


def encode_pairs(model: RewardModel, pairs: Sequence[Pair]) -> list[_Encoded]:
    """The pairs in tokens; `R1Error` that names the row for a side without text and for two equal sides."""
    for row, pair in enumerate(pairs):
        _require_text(row, "pair", prompt=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)
        if pair.chosen == pair.rejected:
            raise R1Error(f"pair {row}: chosen and rejected are the same, so neither can be preferred. Remove that row.")
    prompts = [pair.prompt for pair in pairs]
    sides = (model.encode(prompts, [getattr(pair, side) for pair in pairs]) for side in ("chosen", "rejected"))
    return [_Encoded(rows, True) for rows in zip(*sides, strict=True)]


def short_enough(encoded: Sequence[_Encoded], max_tokens: int) -> list[_Encoded]:
    """Those of at most max_tokens; `R1Error` where there are none."""
    if not encoded:
        raise R1Error("there is nothing to learn from: give at least one pair or labelled response.")
    kept = [entry for entry in encoded if entry.longest <= max_tokens]
    if not kept:
        raise R1Error(f"all {len(encoded)} rows are longer than max_tokens={max_tokens}: the shortest has "
                      f"{min(entry.longest for entry in encoded)}. Raise max_tokens, or give shorter ones.")
    return kept


def train_pairs(model: RewardModel, pairs: Sequence[Pair], *, recipe: RewardModelRecipe, folder: str | Path, seed: int,
                evaluate: Callable[[int], Row] | None = None, watchers: Sequence[Callable[[Row], None]] = ()) -> History:
    """Train in place on pairs, or go on where `folder` says that this very run stopped. The loss is -log sigmoid(chosen - rejected).

    Rows, resume, interrupts, evaluate and watchers as in `sft.train`, with `accuracy` and `margin` (chosen - rejected) of the batch before
    it is learnt. `examples/too_long` counts the pairs left out, of which either side is longer than max_tokens.
    `R1Error`: no pairs, or only such that are too long; a side without text, or two equal sides (the row is named).
    """
    encoded = encode_pairs(model, pairs)
    return _train(model, pairs, encoded, recipe, folder, seed, "pair order", evaluate, watchers)


def train_labels(model: RewardModel, labelled: Sequence[Labelled], *, recipe: RewardModelRecipe, folder: str | Path, seed: int,
                 evaluate: Callable[[int], Row] | None = None, watchers: Sequence[Callable[[Row], None]] = ()) -> History:
    """Train in place on single responses with a label, by binary cross-entropy; everything else as in `train_pairs`.

    `R1Error`: no rows, or only such that are too long; a row without text; labels that are all the same.
    """
    for row, entry in enumerate(labelled):
        _require_text(row, "labelled response", prompt=entry.prompt, response=entry.response)
    if labelled and len({entry.good for entry in labelled}) == 1:
        raise R1Error(f"all {len(labelled)} labels are good={labelled[0].good}: give responses of both kinds, or there is nothing to tell.")
    rows = model.encode([entry.prompt for entry in labelled], [entry.response for entry in labelled])
    encoded = [_Encoded((row,), entry.good) for row, entry in zip(rows, labelled, strict=True)]
    return _train(model, labelled, encoded, recipe, folder, seed, "label order", evaluate, watchers)


def _require_text(row: int, what: str, **parts: str) -> None:
    for name, written in parts.items():
        if not written.strip():
            raise R1Error(f"{what} {row}: {name} has no text. Mend or remove that row.")


def _train(model: RewardModel, data: Sequence[Pair] | Sequence[Labelled], encoded: Sequence[_Encoded], recipe: RewardModelRecipe,
           folder: str | Path, seed: int, stream: str, evaluate: Callable[[int], Row] | None,
           watchers: Sequence[Callable[[Row], None]]) -> History:
    kept = short_enough(encoded, recipe.max_tokens)

    def gradient(batch: Sequence[_Encoded]) -> tuple[float, Row]:
        return _gradient(model, batch, recipe.tokens_per_micro_batch)

    return fit(model.model, kept, gradient, recipe=recipe, folder=folder, seed=seed, stream=stream, data=data,
               tokens=lambda entry: sum(map(len, entry.rows)), constants={"examples/too_long": len(encoded) - len(kept)},
               evaluate=evaluate, watchers=watchers)


def _gradient(model: RewardModel, batch: Sequence[_Encoded], tokens_at_once: int) -> tuple[float, Row]:
    """Add the gradient of the mean loss over this batch to the weights'; return the loss, and what was measured on the way."""
    losses, margins = [], []
    each = len(batch[0].rows)
    for chosen in _by_length([each * entry.longest for entry in batch], tokens_at_once):
        entries = [batch[i] for i in chosen]
        scores = model.scores(list(itertools.chain.from_iterable(entry.rows for entry in entries))).view(-1, each)
        signs = torch.tensor([1.0 if entry.good else -1.0 for entry in entries], device=scores.device)
        margin = scores[:, 0] - scores[:, 1] if each == 2 else scores[:, 0] * signs
        loss = F.softplus(-margin).sum() / len(batch)            # -log sigmoid(margin), for pairs and for labels alike
        loss.backward()
        losses.append(loss.detach())
        margins.append(margin.detach())
    margin = torch.cat(margins)
    return float(sum(losses)), {"accuracy": _share_won(margin.tolist()), "margin": float(margin.mean())}


# ------------------------------------------------------------------------------------------------------------------------------------------
# How good a reward model is

def _share_won(margins: Sequence[float]) -> float:
    """The share of margins above 0; a tie is half won, as it is by a coin."""
    return statistics.fmean(1.0 if margin > 0 else 0.5 if margin == 0 else 0.0 for margin in margins)


def pair_accuracy(model: RewardModel, pairs: Sequence[Pair]) -> float:
    """The share of pairs in which the chosen response scores higher; a tie counts half. `R1Error` without pairs."""
    return _share_won([chosen - rejected for chosen, rejected in zip(*_pair_scores(model, pairs), strict=True)])


def label_accuracy(model: RewardModel, labelled: Sequence[Labelled]) -> float:
    """The share of responses whose score is above 0 where they are good and below where not; 0 counts half. `R1Error` without any."""
    if not labelled:
        raise R1Error("there are no labelled responses to measure on: give at least one.")
    scores = model.score([entry.prompt for entry in labelled], [entry.response for entry in labelled])
    return _share_won([score if entry.good else -score for score, entry in zip(scores, labelled, strict=True)])


@dataclass(frozen=True)
class LengthBias:
    """How much a score has to do with length.

    correlation: the rank correlation of score and length in tokens over all responses, -1 to 1. longer_wins, longer_chosen: the share of
    pairs in which the longer response scores higher, and in which the judge chose it; None where no pair has two lengths. A model that is
    as fond of length as its judge has two equal shares.
    """

    correlation: float
    longer_wins: float | None
    longer_chosen: float | None


def length_bias(model: RewardModel, pairs: Sequence[Pair]) -> LengthBias:
    """What the model's scores and the judge's choices have to do with length; pairs of equal lengths are left out of the two shares."""
    chosen, rejected = _pair_scores(model, pairs)
    policy = Policy(model.model, model.tokenizer)
    lengths = [[len(ids) for ids in policy.encode([getattr(pair, side) for pair in pairs])] for side in ("chosen", "rejected")]
    longer = [a - b for a, b in zip(*lengths, strict=True)]
    wins = [(a - b) * (1 if more > 0 else -1) for a, b, more in zip(chosen, rejected, longer, strict=True) if more]
    return LengthBias(rank_correlation([*chosen, *rejected], [*lengths[0], *lengths[1]]), _share_won(wins) if wins else None,
                      _share_won([more for more in longer if more]) if wins else None)


def _pair_scores(model: RewardModel, pairs: Sequence[Pair]) -> tuple[list[float], list[float]]:
    if not pairs:
        raise R1Error("there are no pairs to measure on: give at least one.")
    prompts = [pair.prompt for pair in pairs]
    scores = model.score(prompts * 2, [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs])
    return scores[:len(pairs)], scores[len(pairs):]


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Spearman's: the correlation of ranks, of which equal values share the mean; 0 where all values of a side are equal."""
    ranks = [_ranks(xs), _ranks(ys)]
    if any(len(set(side)) == 1 for side in ranks):
        return 0.0
    return statistics.correlation(*ranks)


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(values)
    first = {value: rank for rank, value in reversed(list(enumerate(order)))}
    last = {value: rank for rank, value in enumerate(order)}
    return [(first[value] + last[value]) / 2 for value in values]
