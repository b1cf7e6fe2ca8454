"""What every training run shares: checked settings, a folder to go on from, the ways to stop, and the loop over a fixed set of rows.

`Run` carries a run from step to step and is what GRPO builds on; `fit` is the whole loop of trainings that go over the same rows in epochs,
supervised fine-tuning and reward models.
"""

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel

from r1lib import machine
from r1lib.errors import R1Error
from r1lib.seeds import rng
from r1lib.training import checkpoint
from r1lib.training.metrics import MetricsLog, Row


@dataclass(frozen=True)
class History:
    """What a run leaves: its rows (those before a resume too), and whether and why it stopped before its last step."""

    rows: list[Row]
    interrupted: bool = False
    reason: str | None = None


# ------------------------------------------------------------------------------------------------------------------------------------------
# Settings

class Recipe:
    """What the settings of a training have in common: they come from a profile by name, and those that make no sense are named."""

    TITLE: ClassVar[str]        # how errors call it

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """A recipe from a profile's or a notebook's settings; a misspelt one is an `R1Error` and not a default."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in settings:
            if name not in known:
                raise R1Error(f"{cls.TITLE}: there is no setting {name!r}. Known are {', '.join(known)}.")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})

    def check(self, *, whole: Mapping[str, int], above_zero: Sequence[str], not_below_zero: Sequence[str],
              one_of: Mapping[str, Sequence[str]]) -> None:
        """`R1Error` for the first setting that makes no sense. whole: name -> the least whole number; one_of: name -> choices."""
        for name, bound in whole.items():
            value = getattr(self, name)
            if type(value) is not int or value < bound:
                raise R1Error(f"{self.TITLE}: {name}={value!r}, but it must be a whole number of at least {bound}.")
        for name in (*above_zero, *not_below_zero):
            value, positive = getattr(self, name), name in above_zero
            if type(value) not in (int, float) or not math.isfinite(value) or value < 0 or (positive and value == 0):
                raise R1Error(f"{self.TITLE}: {name}={value!r}, but it must be a number {'above' if positive else 'of at least'} 0.")
        for name, choices in one_of.items():
            if getattr(self, name) not in choices:
                raise R1Error(f"{self.TITLE}: {name}={getattr(self, name)!r}, but it must be one of {', '.join(choices)}.")
        pair = self.betas if isinstance(self.betas, tuple) else ()
        if len(pair) != 2 or not all(type(beta) in (int, float) and 0 <= beta < 1 for beta in pair):
            raise R1Error(f"{self.TITLE}: betas={self.betas!r}, but they must be two numbers from 0 to below 1.")


class EpochRecipe(Recipe):
    """Settings of a training that goes over the same rows in epochs, with a learning rate that falls along a cosine."""

    def __post_init__(self) -> None:
        self.check(whole=dict(epochs=1, batch_size=1, warmup_steps=0, max_tokens=2, tokens_per_micro_batch=1, checkpoint_every=1,
                              evaluate_every=1),
                   above_zero=("learning_rate", "max_grad_norm"), not_below_zero=("final_learning_rate", "weight_decay"),
                   one_of={"precision": ("float32", "bfloat16")})
        if self.final_learning_rate > self.learning_rate:
            raise R1Error(f"{self.TITLE}: final_learning_rate={self.final_learning_rate!r}, but it must not be above "
                          f"learning_rate={self.learning_rate!r}, from which the rate falls.")


def cosine(step: int, steps: int, *, warmup: int, first: float, last: float) -> float:
    """The learning rate of a step: linear warm-up to `first`, then along half a cosine to `last`, which the last step has."""
    if step < warmup:
        return first * (step + 1) / warmup
    done = (step - warmup) / max(steps - 1 - warmup, 1)
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2


# ------------------------------------------------------------------------------------------------------------------------------------------
# What a run carries from step to step

class Run:
    """The optimizer and the files of a run, which it opens anew or where it stopped.

    settings: what must be equal to go on, but for those that `may_differ`; logs: files of rows that go back with the metrics.
    writes: False for one that follows another in the same folder, writes nothing and tells no watcher. step: how many are behind it.
    `R1Error`: the folder holds another run, a longer one, or metrics without a state.
    """

    def __init__(self, model: PreTrainedModel, recipe: Any, folder: str | Path, *, steps: int, settings: Mapping[str, Any],
                 may_differ: frozenset[str], watchers: Sequence[Callable[[Row], None]], reference: nn.Module | None = None,
                 logs: Sequence[str] = (), writes: bool = True) -> None:
        self.model, self.recipe, self.folder, self.steps, self.watchers = model, recipe, Path(folder), steps, watchers
        self.writes = writes
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=recipe.betas,
                                           weight_decay=recipe.weight_decay, fused=True)
        self.reference, self.settings = reference, settings
        self.log = MetricsLog(self.folder / "metrics.jsonl")
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.log.path.exists() and not (self.folder / "state").exists():
            raise R1Error(f"{self.log.path}: these are the metrics of a run, but there is no {self.folder / 'state'} to go on from. "
                          "Use another folder, or move the file away to start over.")
        found = checkpoint.restore(self.folder, settings=settings, may_differ=may_differ, model=model, optimizer=self.optimizer,
                                   reference=reference)
        self.step, notes = found or (0, {"num_tokens": 0})
        if self.step > steps:
            raise R1Error(f"{folder}: holds a run of {self.step} steps, more than steps={steps}. Use another folder, or more steps.")
        self.tokens = notes["num_tokens"]
        last = self.step if self.step == steps else self.step - 1               # a finished run keeps its last evaluation
        for log in (self.log, *(MetricsLog(self.folder / name) for name in logs)) if writes else ():
            log.truncate_after(last)
        self.rows = self.log.rows()
        if found is None:
            self.save()

    def end_step(self, row: Row) -> None:
        """Write the step's row, and a checkpoint when it is time."""
        self.step += 1
        self.write(row)
        if self.step % self.recipe.checkpoint_every == 0 or self.step == self.steps:
            self.save()

    def write(self, row: Row) -> None:
        self.rows.append(row)
        if self.writes:
            self.log.append(row)
            for watcher in self.watchers:
                watcher(row)

    def is_evaluated(self) -> bool:
        return bool(self.rows) and self.rows[-1]["step"] == self.steps

    def asked_to_stop(self) -> bool:
        return (self.folder / "STOP").exists()

    def stop(self, cause: str) -> History:
        """Save, and say how it ended. The STOP file has done its work and goes, so that the next call goes on."""
        self.save()
        if self.writes:
            (self.folder / "STOP").unlink(missing_ok=True)
        return History(self.rows, interrupted=True, reason=f"stopped by {cause} after {self.step} of {self.steps} steps")

    def save(self) -> None:
        if self.writes:
            checkpoint.save(self.folder, step=self.step, settings=self.settings, notes={"num_tokens": self.tokens}, model=self.model,
                            optimizer=self.optimizer, reference=self.reference)

    def peak_gb(self) -> float:
        """The most memory held so far, of the device that the model lies on."""
        device = self.model.device
        return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else machine.peak_memory_gb()


class Clock:
    """Seconds from lap to lap."""

    def __init__(self) -> None:
        self._laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._laps[name] = now - self._last
        self._last = now

    def times(self) -> dict[str, float]:
        return self._laps | {"step_time": sum(self._laps.values())}


@contextlib.contextmanager
def sums_in_one_order(model: nn.Module) -> Iterator[None]:
    """On a CPU, add gradients up in one order: racing threads change the last bits, and a resumed run would leave its path."""
    before, filled = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    on_cpu = next(model.parameters()).device.type == "cpu"
    torch.use_deterministic_algorithms(before or on_cpu)
    torch.utils.deterministic.fill_uninitialized_memory = False         # a thousand calls an update, for memory that nothing reads
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled


def matrix_products_in(precision: str, device: str) -> contextlib.AbstractContextManager:
    """Weights, sums and the optimizer stay in float32 whatever the products are computed in.

    A processor or GPU that would have to emulate bfloat16 computes in float32 instead.
    """
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16" and machine.multiplies_bfloat16(device))


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let an interrupt wait until the block has ended. Python delivers it to the main thread only: elsewhere there is nothing to do."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting = []
    before = signal.signal(signal.SIGINT, lambda *_: waiting.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        signal.raise_signal(signal.SIGINT)          # to whoever heard it before: most often a KeyboardInterrupt


def require_finite(step: int, loss: float, norm: float, rate: float, optimizer: torch.optim.Optimizer) -> None:
    """`R1Error` for an update that would ruin the weights; its gradient is dropped."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        optimizer.zero_grad(set_to_none=True)
        raise R1Error(f"step {step}: the loss is {loss} and its gradient's norm {norm}. This update was not applied, and the last "
                      f"checkpoint stays. Start again in another folder with a learning_rate below {rate:g}.")


class Answer(Protocol):
    """A prompt and what follows it, in tokens; prompt_index tells prompts apart."""

    prompt_index: int
    prompt_ids: Sequence[int]
    ids: Sequence[int]


def micro_batches(answers: Sequence[Answer], tokens: int) -> Iterator[list[int]]:
    """Rows for one forward and backward pass each: in order, so that groups stay together; at most so many tokens, at least one row.

    A prompt counts once for the answers of its group that come together, as the training forward reads it once.
    """
    rows: list[int] = []
    prompts: set[int] = set()
    used = 0
    for row, answer in enumerate(answers):
        prompt = 0 if answer.prompt_index in prompts else len(answer.prompt_ids)
        if rows and used + prompt + len(answer.ids) > tokens:
            yield rows
            rows, prompts, used, prompt = [], set(), 0, len(answer.prompt_ids)
        rows.append(row)
        prompts.add(answer.prompt_index)
        used += prompt + len(answer.ids)
    if rows:
        yield rows


# ------------------------------------------------------------------------------------------------------------------------------------------
# The same rows in epochs

R = TypeVar("R")


def fit(model: PreTrainedModel, rows: Sequence[R], gradient: Callable[[Sequence[R]], tuple[float, Row]], *, recipe: EpochRecipe,
        folder: str | Path, seed: int, stream: str, data: Sequence[Any], tokens: Callable[[R], int], constants: Row,
        evaluate: Callable[[int], Row] | None, watchers: Sequence[Callable[[Row], None]]) -> History:
    """Train the model on these rows, or go on where `folder` says that this very run stopped: to the very same numbers.

    gradient: a batch -> its loss, whose gradient it has added to the weights', and what else it measured. stream: names the random stream
    that shuffles the rows of each epoch. data: what the rows were made from; with other data the folder holds another run.
    tokens: of a row. constants: fields of every row of metrics. evaluate, watchers, interrupts and STOP: as in `grpo.train`.
    An epoch's last batch holds what is left, so that each row is learnt from once an epoch.
    """
    per_epoch = math.ceil(len(rows) / recipe.batch_size)
    digest = hashlib.sha256(json.dumps([dataclasses.astuple(entry) for entry in data]).encode()).hexdigest()
    run = Run(model, recipe, folder, steps=recipe.epochs * per_epoch, watchers=watchers, may_differ=frozenset({"checkpoint_every"}),
              settings={"seed": seed, "training": stream, "rows": len(rows), "data_sha256": digest, **dataclasses.asdict(recipe)})
    try:
        for step in range(run.step, run.steps):
            if run.asked_to_stop():
                return run.stop("a STOP file")
            held_out = evaluate(step) if evaluate and step % recipe.evaluate_every == 0 else {}
            clock = Clock()
            epoch, place = divmod(step, per_epoch)
            start = place * recipe.batch_size
            batch = [rows[i] for i in _order(stream, seed, epoch, len(rows))[start:start + recipe.batch_size]]
            with uninterrupted():       # weights half updated, or updated and not written down, would belong to no step
                learnt = _update(run, batch, gradient, step)
                clock.lap("time/learn")
                run.tokens += sum(map(tokens, batch))
                run.end_step({"step": step, "epoch": step / per_epoch, **learnt, **constants, "num_tokens": run.tokens,
                              "memory/peak_gb": run.peak_gb(), **clock.times(), **held_out})
        if evaluate and not run.is_evaluated():
            run.write({"step": run.steps, "epoch": float(recipe.epochs), **evaluate(run.steps)})
        return History(run.rows)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return run.stop("an interrupt")


def _update(run: Run, batch: Sequence[R], gradient: Callable[[Sequence[R]], tuple[float, Row]], step: int) -> Row:
    """One update of the weights, at the rate of its step."""
    recipe = run.recipe
    rate = cosine(step, run.steps, warmup=recipe.warmup_steps, first=recipe.learning_rate, last=recipe.final_learning_rate)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.zero_grad(set_to_none=True)
    with sums_in_one_order(run.model), matrix_products_in(recipe.precision, run.model.device.type):
        loss, measured = gradient(batch)
    norm = float(nn.utils.clip_grad_norm_(run.model.parameters(), recipe.max_grad_norm))
    require_finite(step, loss, norm, recipe.learning_rate, run.optimizer)
    run.optimizer.step()
    return {"loss": loss, "grad_norm": norm, "learning_rate": rate, **measured}


@functools.lru_cache(maxsize=1)
def _order(stream: str, seed: int, epoch: int, count: int) -> list[int]:
    """The order of the rows in an epoch."""
    order = list(range(count))
    rng(stream, seed, epoch).shuffle(order)
    return order
