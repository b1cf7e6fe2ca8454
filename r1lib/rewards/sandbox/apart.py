"""Monty for a process that was forked from one that uses it: in a new process beside it, which is asked over a pipe.

A fork lacks the threads of pydantic-monty's runtime, and they cannot be started again. The new process is a plain Python with this package
alone. It waits for requests and ends when nobody is left to ask.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from r1lib.errors import R1Error
from r1lib.rewards.sandbox.monty import Monty
from r1lib.rewards.sandbox.program import Check, Result

_PACKAGES = Path(__file__).parents[3]
_START = "import sys; from r1lib.rewards.sandbox import apart; apart.serve(int(sys.argv[1]))"


class MontyApart:
    """`Monty`, asked one thing at a time: a fork is one of several that share the cores."""

    name, protects, does_not_protect = Monty.name, Monty.protects, Monty.does_not_protect

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipe: Connection | None = None
        self._why_not: str | None = None

    def why_not(self) -> str:
        """Why it does not work on this machine, "" if it does."""
        if self._why_not is None:
            self._why_not = self._ask("why_not")
        return self._why_not

    def functions(self, code: str, calls: Sequence[str], *, timeout: float, memory: int) -> list[Result]:
        return self._ask("functions", code, list(calls), timeout=timeout, memory=memory)

    def script(self, code: str, text: str, *, timeout: float, memory: int) -> Result:
        return self._ask("script", code, text, timeout=timeout, memory=memory)

    def examine(self, code: str, check: Check, *, timeout: float, memory: int) -> Result:
        return self._ask("examine", code, check, timeout=timeout, memory=memory)

    def in_use(self) -> bool:
        return self._pipe is not None

    def _ask(self, method: str, *arguments: Any, **limits: float) -> Any:
        with self._lock:
            if self._pipe is None:
                self._pipe = _start()
            try:
                self._pipe.send((method, arguments, limits))
                return self._pipe.recv()
            except BaseException as error:               # an interrupt, too: the next request must not get this one's answer
                self._pipe.close()
                self._pipe = None
                if isinstance(error, EOFError | OSError):
                    raise R1Error("the process that runs programs was ended from outside, as happens when memory runs out.") from None
                raise


def _start() -> Connection:
    ours, theirs = Pipe()
    path = os.pathsep.join(filter(None, (str(_PACKAGES), os.environ.get("PYTHONPATH"))))
    subprocess.Popen([sys.executable, "-c", _START, str(theirs.fileno())], pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL,
                     env={**os.environ, "PYTHONPATH": path}, start_new_session=True)
    theirs.close()
    return ours


def serve(descriptor: int) -> None:
    """What the new process does: answer until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)         # who asks decides when this ends
    monty, asked = Monty(), Connection(descriptor)
    with suppress(EOFError, OSError):
        while True:
            method, arguments, limits = asked.recv()
            asked.send(getattr(monty, method)(*arguments, **limits))
