"""One training on several GPUs of a host: every process holds the whole model and does its share of each step (data parallelism).

    torchrun --nproc-per-node 2 -m r1lib run --profile gpu

    with parallel.joined("cuda") as processes:                  # `ALONE` where torchrun has not started several
        grpo.train(policy, ..., processes=processes)

Each process answers and judges its share of the questions, each adds up the gradient of its share of the answers, and all are told what
all found. A sum over processes has the same bits in every one of them, and with it the clipping, the update and the weights, which
nobody ever has to send. What all take part in is called in all, in the same order: a process that left it out would keep the rest waiting.
"""

import contextlib
import datetime
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from r1lib.errors import R1Error
from r1lib.rewards import Rewards
from r1lib.sampling import Rollout, Sampler, SamplingSettings
from r1lib.training.run import Answer

T = TypeVar("T")
Reward = Callable[[list[str], dict[str, list]], Rewards]

_BUCKET = 2**26                                   # numbers that are summed in one call: 256 MB of memory for a while
# One process may fine-tune for hours while the others wait. If one dies, torchrun ends them all, long before this.
_PATIENCE = datetime.timedelta(days=7)


class Processes:
    """The processes that train together, as one of them sees them. rank: its number, from 0; count: of all of them."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count
        self.interrupts: list[int] = []           # signals that the first has noted and not yet told

    def share(self, length: int) -> slice:
        """This process's stretch of so many things in a row; no stretch is longer than another by more than one."""
        return slice(self.rank * length // self.count, (self.rank + 1) * length // self.count)

    def balanced(self, rows: Sequence[int], answers: Sequence[Answer]) -> list[int]:
        """This process's part of these rows of `answers`: groups whole, and about as many tokens as the others have."""
        groups: dict[int, list[int]] = {}
        for row in rows:
            groups.setdefault(answers[row].prompt_index, []).append(row)
        tokens = {prompt: len(answers[of[0]].prompt_ids) + sum(len(answers[row].ids) for row in of) for prompt, of in groups.items()}
        loads, mine = [0] * self.count, []
        for prompt in sorted(groups, key=tokens.__getitem__, reverse=True):           # the longest first, to whoever has least so far
            lightest = loads.index(min(loads))
            loads[lightest] += tokens[prompt]
            mine += groups[prompt] if lightest == self.rank else []
        return sorted(mine)

    def of_all(self, work: Callable[[], T]) -> list[T]:
        """What `work` returns in each process, by rank: plain objects, or tensors of the CPU. An `R1Error` in one arises in all."""
        if self.count == 1:
            return [work()]
        found: list[Any] = [None] * self.count
        distributed.all_gather_object(found, _outcome(work))
        return [_result(*outcome) for outcome in found]

    def of_first(self, work: Callable[[], T]) -> T:
        """What `work` returns in the first process, which alone does it. Its `R1Error`, or an interrupt, arises in all.

        This is where interrupts of several processes arise, one that came before it too: anywhere else some would wait for the others.
        """
        if self.count == 1:
            return work()
        told: list[Any] = [None if self.rank else _outcome(lambda: self._interruptible(work))]
        distributed.broadcast_object_list(told, src=0)
        return _result(*told[0])

    def first_then_others(self, work: Callable[[], T]) -> T:
        """What `work` returns in this process, where the others find the files that the first has made."""
        made: list[T] = []
        self.of_first(lambda: made.append(work()))
        return made[0] if made else work()

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by the sum over the processes. One that a process lacks, as it had nothing to learn from, counts as 0."""
        if self.count == 1:
            return
        for bucket in _buckets([parameter for parameter in parameters if parameter.requires_grad]):
            flat = torch.cat([(torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten() for weight in bucket])
            distributed.all_reduce(flat)
            for weight, total in zip(bucket, flat.split([weight.numel() for weight in bucket]), strict=True):
                weight.grad = total.view_as(weight)

    def answering(self, sampler: Sampler) -> Sampler:
        """A sampler that answers with all processes, each by its own one, and gives all answers to each."""
        return sampler if self.count == 1 else _SharedSampler(sampler, self)

    def judging(self, reward: Reward, samples: int) -> Reward:
        """A reward that judges with all processes, each whole groups of `samples` answers, and tells all of them what each earned."""
        if self.count == 1:
            return reward

        def shared(completions: Sequence[str], columns: Mapping[str, list]) -> Rewards:
            stretch = self.share(len(completions) // samples)
            mine = slice(stretch.start * samples, stretch.stop * samples)
            own = {name: column[mine] for name, column in columns.items()}
            found = self.of_all(lambda: reward(completions[mine], own) if completions[mine] else Rewards([], {}))
            names = dict.fromkeys(name for part in found for name in part.parts)
            return Rewards([total for part in found for total in part.total],
                           {name: [value for part in found for value in part.parts.get(name, [])] for name in names})

        return shared

    def _interruptible(self, work: Callable[[], T]) -> T:
        """Do it, with interrupts as they are in a single process."""
        noting = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            if self.interrupts:
                self.interrupts.clear()
                raise KeyboardInterrupt
            return work()
        finally:
            signal.signal(signal.SIGINT, noting)


ALONE = Processes()


class _SharedSampler:
    def __init__(self, sampler: Sampler, processes: Processes) -> None:
        self._sampler, self._processes = sampler, processes

    def sample(self, prompts: Sequence[str], samples: int, settings: SamplingSettings, *, seed: int, first: int = 0) -> list[Rollout]:
        mine = self._processes.share(len(prompts))

        def answer() -> list[Rollout]:
            asked = prompts[mine]
            rollouts = self._sampler.sample(asked, samples, settings, seed=seed, first=first + mine.start) if asked else []
            for rollout in rollouts:
                rollout.prompt_index += mine.start
            return rollouts

        return [rollout for part in self._processes.of_all(answer) for rollout in part]


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """The processes that torchrun has started; `ALONE` without it. Each computes on a GPU of its own where `device` is "cuda".

    Within the block only the first prints, and only it hears interrupts: the others are told. So it is with an `R1Error`, which ends the
    others with exit code 2. `R1Error` at once: several hosts, or more processes than GPUs.
    """
    count = int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    if count == 1:
        yield ALONE
        return
    processes, on_host = Processes(int(os.environ["RANK"]), count), int(os.environ["LOCAL_WORLD_SIZE"])
    with _silent(processes.rank > 0):
        if on_host != count:
            raise R1Error(f"torchrun has started {count} processes, {on_host} of them on this host: our trainer knows the GPUs of one "
                          "host. For several hosts take recipes/grpo.py.")
        if device == "cuda":
            if count > torch.cuda.device_count():
                raise R1Error(f"torchrun has started {count} processes for {torch.cuda.device_count()} GPUs: give --nproc-per-node "
                              "no more than there are.")
            torch.cuda.set_device(processes.rank)
        # Objects travel between processors, gradients from GPU to GPU.
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN if processes.rank else lambda number, _: processes.interrupts.append(number))
        try:
            yield processes
        finally:
            signal.signal(signal.SIGINT, before)
        distributed.destroy_process_group()         # not after an error: it would wait for processes that may wait for this one


@contextlib.contextmanager
def _silent(silent: bool) -> Iterator[None]:
    """Print nothing, and no error that the first process prints as well."""
    if not silent:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            yield
        except R1Error:
            sys.exit(2)


def _outcome(work: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return work(), None
    except (R1Error, KeyboardInterrupt) as error:
        return None, error


def _result(value: T, error: BaseException | None) -> T:
    if error is not None:
        raise error
    return value


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """All parameters in their order, as many together as have `_BUCKET` numbers, and at least one."""
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        if bucket and sum(weight.numel() for weight in bucket) + parameter.numel() > _BUCKET:
            yield bucket
            bucket = []
        bucket.append(parameter)
    yield bucket
