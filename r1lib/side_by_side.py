"""Independent work at the same time: each job in a process of its own, with one thread.

A model of three million parameters keeps a second core half idle, because its operations are too small to be shared. Two fine-tunings or
two evaluations at the same time take less than one after the other (benchmarks/notes.md).

    side_by_side({"dev2": lambda tell: train("dev2", watchers=[tell]), "v3": lambda tell: train("v3", watchers=[tell])},
                 hear=lambda name, row: boards[name](row))

The processes are forks: they start with all that is in memory, and what they tell and print comes out in this one. Where there is only one
core, no safe fork (macOS, Windows) or a GPU in use, the jobs run here, one after the other.
"""

import contextlib
import io
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import torch

from r1lib import machine
from r1lib.errors import R1Error

Tell = Callable[[Any], None]
T = TypeVar("T")


def side_by_side(jobs: Mapping[str, Callable[[Tell], T]], *, hear: Callable[[str, Any], None] = lambda name, message: None,
                 apart: bool = False) -> dict[str, T]:
    """What each job returns, by name; at most as many at a time as there are cores.

    apart: also a job without company gets its own process. How many threads share a product decides how its last bit is rounded, so what
    was interrupted beside others has to go on as it began.
    A job is given a function: whatever it passes to that arrives at hear(name, ...) in this process. Messages, results and errors are
    pickled, jobs are not. An error waits until the other jobs have ended, so that what they do is not lost; then the first one is raised.
    An interrupt is passed on, once, and raised when all have ended: jobs have time to save. Jobs die with this process.
    """
    if at_once(2 if apart else len(jobs)) == 1:
        return {name: job(partial(hear, name)) for name, job in jobs.items()}
    waiting, running = list(jobs), {}
    results: dict[str, T] = {}
    errors: list[BaseException] = []
    try:
        while waiting or running:
            try:
                while waiting and len(running) < machine.cores():
                    with _interrupts_waiting():
                        process = _Process(waiting.pop(0), jobs)
                        running[process.messages] = process
                for ready in wait(list(running)):
                    with _interrupts_waiting():
                        if running[ready].passes_on(hear, results, errors):
                            del running[ready]
            except KeyboardInterrupt as interrupt:
                if any(isinstance(error, KeyboardInterrupt) for error in errors):
                    raise                                                   # a second one: somebody does not want to wait
                errors.insert(0, interrupt)
                waiting.clear()
                for process in running.values():
                    process.interrupt()
    finally:
        for process in running.values():
            process.kill()
    if errors:
        raise errors[0]
    return {name: results[name] for name in jobs}


def at_once(jobs: int) -> int:
    """How many of so many jobs run at the same time here, at least 1."""
    may_fork = sys.platform == "linux" and not torch.cuda.is_initialized() and multiprocessing.parent_process() is None
    return max(1, min(jobs, machine.cores())) if may_fork else 1


@contextlib.contextmanager
def _interrupts_waiting() -> Iterator[None]:
    """Half a message, or a process that nobody knows of, must not be left behind."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


class _Process:
    """A job in a fork of this process, and what comes from it."""

    def __init__(self, name: str, jobs: Mapping[str, Callable[[Tell], Any]]) -> None:
        self.name = name
        context = multiprocessing.get_context("fork")
        self.messages, theirs = context.Pipe(duplex=False)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()                                                  # or the fork would hold, and perhaps write, the same text
        self._process = context.Process(target=_work, args=(jobs[name], theirs), daemon=True)
        self._process.start()
        theirs.close()

    def passes_on(self, hear: Callable[[str, Any], None], results: dict[str, Any], errors: list[BaseException]) -> bool:
        """Take one message; True when it was the last."""
        try:
            kind, message = pickle.loads(self.messages.recv_bytes())
        except EOFError:
            self._process.join()
            errors.append(R1Error(f"{self.name}: its process was ended from outside (exit code {self._process.exitcode}), as happens when "
                                  "memory runs out. What it had saved is kept: start it again."))
            return True
        if kind == "told":
            hear(self.name, message)
        elif kind == "printed":
            print(message, end="", flush=True)
        elif kind == "warned":
            print(message, end="", flush=True, file=sys.stderr)
        elif kind == "returned":
            results[self.name] = message
        else:
            errors.append(message)
        return kind in ("returned", "raised")

    def interrupt(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


# ------------------------------------------------------------------------------------------------------------------------------------------
# In the fork

def _work(job: Callable[[Tell], Any], messages: Connection) -> None:
    """Do the job, send what comes of it, and end without what an interpreter does at its end: that is the parent's."""
    os.setpgid(0, 0)                                # an interrupt for the parent's group arrives once, from the parent
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)                        # more would wait for threads that the fork has lost
    sending = threading.Lock()

    def send(kind: str, message: Any) -> None:
        packed = pickle.dumps((kind, message))      # not `messages.send`: torch makes that pass on tensors that end with this process
        with sending:
            messages.send_bytes(packed)

    try:
        with contextlib.redirect_stdout(_Sent(partial(send, "printed"))), contextlib.redirect_stderr(_Sent(partial(send, "warned"))):
            result = job(partial(send, "told"))
        send("returned", result)
    except BaseException as error:
        send("raised", _portable(error))
    os._exit(0)


def _die_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _portable(error: BaseException) -> BaseException:
    """The error as it can be raised in another process, with the lines it came from unless it explains itself."""
    if not isinstance(error, R1Error | KeyboardInterrupt):
        error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:                               # pickling runs the error's own code, which may do anything
        return RuntimeError(traceback.format_exc())


class _Sent(io.TextIOBase):
    """A text stream whose whole lines go to a function."""

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send, self._line = send, ""

    def write(self, text: str) -> int:
        self._line += text
        if "\n" in text:
            self.flush()
        return len(text)

    def flush(self) -> None:
        if self._line:
            text, self._line = self._line, ""
            self._send(text)
