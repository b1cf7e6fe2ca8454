"""Running a program that a model wrote, so that it can neither do harm nor talk its way to a reward.

    run("def f(x): return x + 1", ["f(2)", "f('a')"])       # [Result(value=3, ...), Result(error="TypeError: ...")]
    run("print(int(input()) * 2)", [Stdin("21")])           # [Result(output="42\\n", ...)]
    run(code, [Check("def check(candidate): assert candidate(2) == 3", "f")])       # [Result(value=True, ...)]
    describe()                                              # what works here, and what each back end does not protect

The program's process never sees what is expected of it. Calls go in, results come back as plain data, and who asked compares them; the
assertions of a check run in a process of their own. So there is nothing to fake: no exit status, no marker, no object that equals all.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from r1lib.errors import R1Error
from r1lib.rewards.sandbox.apart import MontyApart
from r1lib.rewards.sandbox.cpython import Bubblewrap, CPython, Subprocess
from r1lib.rewards.sandbox.monty import Monty
from r1lib.rewards.sandbox.program import FLOOD, MEMORY, NOT_RUN, SOURCE, TIMEOUT, Call, Check, Result, Stdin

__all__ = ["BackEnd", "Call", "Check", "Result", "Stdin", "describe", "run", "run_many"]

Name = Literal["monty", "bubblewrap", "subprocess"]
SECONDS, MEGABYTES = 2.0, 256
_Runner = Monty | MontyApart | CPython
_BACK_ENDS: dict[str, _Runner] = {back_end.name: back_end for back_end in (Monty(), Bubblewrap(), Subprocess())}
_UNSAFE = "R1_UNSAFE_SANDBOX"


@dataclass(frozen=True)
class BackEnd:
    """A row of `describe`. why_not: why it does not work on this machine, "" if it does."""

    name: str
    works: bool
    why_not: str
    protects: str
    does_not_protect: str


def describe() -> list[BackEnd]:
    """The back ends in the order in which they are tried."""
    return [BackEnd(name, not back_end.why_not(), back_end.why_not(), back_end.protects, back_end.does_not_protect)
            for name, back_end in _BACK_ENDS.items()]


def run(code: str, calls: Sequence[Call], *, timeout: float = SECONDS, memory: int = MEGABYTES * 2**20, backend: Name | None = None,
        allow_unsafe: bool = False) -> list[Result]:
    """Run a program and ask things of it; one result a call, in order. Never raises on any code.

    calls: expressions, evaluated one after the other in one start of the program; a `Stdin` or a `Check` is a start of its own.
    timeout: seconds for one start with its calls. After a time-out nothing more of this program is started.
    memory: bytes for one process of the program.
    backend: None tries monty and, where the program ends in an error there that could be monty's own, full CPython in bubblewrap.
    allow_unsafe: with "subprocess" or where there is no bubblewrap, run CPython with hardly any protection (see `describe`);
        the environment variable R1_UNSAFE_SANDBOX=1 says the same.
    Raises R1Error when a back end is asked for that does not work here or is not allowed.
    """
    return run_many([(code, calls)], timeout=timeout, memory=memory, backend=backend, allow_unsafe=allow_unsafe)[0]


def run_many(programs: Sequence[tuple[str, Sequence[Call]]], *, timeout: float = SECONDS, memory: int = MEGABYTES * 2**20,
             backend: Name | None = None, allow_unsafe: bool = False) -> list[list[Result]]:
    """`run` for many programs at a time, as many as there are cores; results in the order of the programs."""
    back_ends = _back_ends(backend, allow_unsafe or os.environ.get(_UNSAFE) == "1")
    futures = [_WORKERS.submit(_run, back_ends, *program, timeout=timeout, memory=memory) for program in programs]
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:                           # after Ctrl-C, so that what still waits does not run
            future.cancel()


def _back_ends(name: Name | None, unsafe: bool) -> list[_Runner]:
    """Those to try, in order."""
    if name is not None and name not in _BACK_ENDS:
        raise R1Error(f"back end {name!r} is not known: choose from {', '.join(_BACK_ENDS)}.")
    if name == "subprocess" and not unsafe:
        raise R1Error(f"back end 'subprocess' does not protect {_BACK_ENDS[name].does_not_protect}. To use it all the same, pass "
                      f"allow_unsafe=True or set {_UNSAFE}=1.")
    wanted = [name] if name else ["monty", "bubblewrap", *(["subprocess"] if unsafe else [])]
    found = [_BACK_ENDS[one] for one in wanted if not _BACK_ENDS[one].why_not()]
    if not found:
        why = "; ".join(f"{one}: {_BACK_ENDS[one].why_not()}" for one in wanted)
        raise R1Error(f"no sandbox works here ({why}). To run programs with hardly any protection, set {_UNSAFE}=1.")
    return found


def _run(back_ends: Sequence[_Runner], code: str, calls: Sequence[Call], **limits: float) -> list[Result]:
    """A program in the first back end, and in the next one as long as an error could be due to monty."""
    results: list[Result] = []
    for back_end in back_ends:
        results = _run_in(back_end, code, calls, **limits)
        if back_end.name != "monty" or not _could_be_a_gap(results):
            break
    return results


def _could_be_a_gap(results: Sequence[Result]) -> bool:
    """Whether an error in monty may come of what monty does not know. A failed assertion of a check is no such error."""
    errors = [result.error for result in results if result.error]
    return bool(errors) and not any(error in (TIMEOUT, NOT_RUN, MEMORY, FLOOD) for error in errors) and \
        any(not error.startswith("AssertionError") for error in errors)


def _workers() -> ThreadPoolExecutor:
    """As many programs at a time as there are cores, first come, first served: none waits for a core while its time runs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(cores, "sandbox")


_WORKERS = _workers()                                    # its threads start with the first programs


def _after_fork() -> None:
    global _WORKERS
    _WORKERS = _workers()
    if _BACK_ENDS["monty"].in_use():
        _BACK_ENDS["monty"] = MontyApart()


os.register_at_fork(after_in_child=_after_fork)


def _run_in(back_end: _Runner, code: str, calls: Sequence[Call], *, timeout: float, memory: int) -> list[Result]:
    """All calls in one back end."""
    if len(code) > SOURCE:
        return [Result(None, "", f"it has more than {SOURCE} characters", back_end.name)] * len(calls)
    limits = {"timeout": timeout, "memory": memory}
    results: list[Result | None] = [None] * len(calls)
    timed_out = False
    expressions = [place for place, call in enumerate(calls) if isinstance(call, str)]
    for places in [expressions, *([place] for place in range(len(calls)) if place not in expressions)]:
        if timed_out or not places:
            found = [Result(None, "", NOT_RUN, back_end.name)] * len(places)
        else:
            match calls[places[0]]:
                case Stdin(text):
                    found = [back_end.script(code, text, **limits)]
                case Check() as check:
                    found = [back_end.examine(code, check, **limits)]
                case _:
                    found = back_end.functions(code, [calls[place] for place in places], **limits)
        for place, result in zip(places, found, strict=True):
            results[place] = result
            timed_out = timed_out or result.error == TIMEOUT
    return results
