"""The back end that runs programs in pydantic-monty: a Python interpreter without files, network or processes, written in Rust.

It starts a program in a tenth of a millisecond and knows a part of Python: no generators, no inheritance, few modules. A pool of worker
processes serves sessions, each with memory of its own; a worker that does not come back is killed and replaced.

Nothing of a session is ever converted to Python objects but one text of limited length: a list in a list in a list can stand for 2^60
items, and turning such a result into Python objects is what would hang the parent.
"""

import atexit
import ctypes
import importlib.util
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from r1lib.rewards.sandbox.child import LONGEST, NotPlain, exception, write
from r1lib.rewards.sandbox.plain import read
from r1lib.rewards.sandbox.program import FLOOD, MEMORY, NOT_RUN, OUTPUT, TIMEOUT, Check, Result, one_line

_GRACE = 0.25                      # seconds that a worker gets to notice its own time limit
_VALUE = "_value"                  # the one name of ours in a session
_TEXT = f'f"{{{_VALUE}!r:.{LONGEST + 1}}}"'                  # an f-string is a str whatever the program calls `repr` or `str`
# The standard input of a script; monty has no sys.stdin.
_INPUT = '''
def input(prompt=""):
    print(prompt, end="")
    if not _lines:
        raise EOFError("EOF when reading a line")
    return _lines.pop(0)
'''


class _Ended(Exception):
    """A session that cannot be used any more; the message says why."""


class _Raised(Exception):
    """An exception of the program's."""


def _ignore(stream: str, text: str) -> None:
    """For what a check prints."""


class _Session:
    """A session of a worker. output: what was printed since it was last taken."""

    def __init__(self, session: Any, timeout: float):
        self._session = session
        self._deadline = time.monotonic() + timeout
        self._printed: list[str] = []
        self._room = OUTPUT

    def take_output(self) -> str:
        output, self._printed = "".join(self._printed), []
        return output

    def run(self, code: str, **inputs: Any) -> None:
        """Run code and look at no value that it gives."""
        self._feed(code, inputs)

    def value(self, call: str, **inputs: Any) -> Any:
        """The value of an expression, as plain data."""
        return read(self._feed(f"{_VALUE} = (\n{call}\n)\n{_TEXT}", inputs).output)

    def _feed(self, code: str, inputs: dict[str, Any]) -> Any:
        """Run code to its end, which is given back unconverted. Whatever it asks the host for, it does not get."""
        import pydantic_monty as monty

        if time.monotonic() > self._deadline:
            raise _Ended(TIMEOUT)
        try:
            at = self._session.feed_start(code, inputs=inputs, print_callback=self._print)
            while not isinstance(at, monty.MontyComplete):
                if isinstance(at, monty.NameLookupSnapshot):
                    at = at.resume()
                elif isinstance(at, monty.FunctionSnapshot) and at.is_os_function:
                    at = at.resume_not_handled()
                elif isinstance(at, monty.FunctionSnapshot):
                    at = at.resume({"exc_type": "NameError", "message": f"name {at.function_name!r} is not defined"})
                else:
                    break
        except monty.MontyCrashedError as error:
            raise _Ended(TIMEOUT if error.timed_out else "its worker crashed") from None
        except monty.MontySyntaxError as error:
            raise _Raised(one_line(f"SyntaxError: {error}")) from None
        except monty.MontyError as error:
            raise self._error(one_line(str(error))) from None
        except Exception as error:                       # whatever cannot be converted on the way in: no program may stop who runs it
            raise _Raised(one_line(f"{type(error).__name__}: {error}")) from None
        if not isinstance(at, monty.MontyComplete):
            raise _Ended("it waits for what never comes")
        if time.monotonic() > self._deadline:
            raise _Ended(TIMEOUT)
        return at

    def _error(self, text: str) -> Exception:
        if self._room < 0:
            return _Ended(FLOOD)
        if text.startswith(("TimeoutError: feed time limit exceeded", "TimeoutError: sleep limit exceeded")):
            return _Ended(TIMEOUT)
        if text.startswith("MemoryError"):
            return _Ended(MEMORY) if "terminated" in text else _Raised(MEMORY)
        return _Raised(text)

    def _print(self, stream: str, text: str) -> None:
        self._room -= len(text)
        if self._room < 0:
            raise MemoryError(FLOOD)
        if stream == "stdout":
            self._printed.append(text)


class Monty:
    name = "monty"
    protects = "files, network, environment and processes (it has none), time, memory, output"
    does_not_protect = "a part of Python only: what it does not know is run again by another back end, or counts as an error"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: Any = None
        self._why_not: str | None = None
        os.register_at_fork(after_in_child=self._after_fork)

    def why_not(self) -> str:
        """Why it does not work on this machine, "" if it does."""
        if self._why_not is None:
            self._why_not = self._try()
        return self._why_not

    def _try(self) -> str:
        if importlib.util.find_spec("pydantic_monty") is None:
            return "pydantic-monty is not installed (pip install pydantic-monty)"
        try:
            value = self.functions("", ["6 * 7"], timeout=10, memory=256 * 2**20)[0].value
        except Exception as error:                       # no binary for this machine, no permission to execute it
            return f"its workers do not start: {type(error).__name__}: {error}"
        return "" if value == 42 else "its workers do not answer"

    def _workers(self) -> Any:
        import pydantic_monty

        with self._lock:
            if self._pool is None:
                # A check needs two sessions at once: with two a core, no two checks wait for each other.
                self._pool = pydantic_monty.Monty(max_processes=2 * (os.cpu_count() or 1), feed_duration_limit_grace=_GRACE)
                self._pool.__enter__()
                atexit.register(self.close)
            return self._pool

    def close(self) -> None:
        """End all workers; the next program starts new ones."""
        with self._lock:
            if self._pool is not None:
                self._pool.__exit__(None, None, None)
                self._pool = None
                atexit.unregister(self.close)

    def in_use(self) -> bool:
        return self._pool is not None

    def _after_fork(self) -> None:
        """A forked process lacks the threads of pydantic-monty's runtime: it would wait for them, and disturb its parent's workers. There
        `apart.MontyApart` takes its place."""
        self._lock = threading.Lock()
        if self._pool is not None:
            atexit.unregister(self.close)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._pool))         # never to be destroyed here, which would wait as well

    @contextmanager
    def _session(self, *, timeout: float, memory: int) -> Iterator[_Session]:
        limits = {"max_feed_duration_secs": timeout, "max_memory": memory, "max_total_sleep_secs": timeout, "max_recursion_depth": 1000,
                  "max_suspensions": 1_000_000}
        with self._workers().checkout(limits=limits, os_policy={"random_start": {"seed": 0}}) as session:
            yield _Session(session, timeout)

    def functions(self, code: str, calls: Sequence[str], *, timeout: float, memory: int) -> list[Result]:
        """Define a program once and evaluate expressions in it, one after the other."""
        results: list[Result] = []
        error = ""
        with self._session(timeout=timeout, memory=memory) as session:
            try:
                try:
                    session.run(code)
                    session.take_output()                # what it printed before the first call belongs to none
                except _Raised as raised:
                    error = str(raised)
                for call in calls:
                    results.append(Result(None, session.take_output(), error, self.name) if error else self._call(session, call))
            except _Ended as end:
                error = str(end)
                results.append(Result(None, session.take_output(), error, self.name))
        after = NOT_RUN if error == TIMEOUT else error
        return results + [Result(None, "", after, self.name)] * (len(calls) - len(results))

    def _call(self, session: _Session, call: str, **inputs: Any) -> Result:
        try:
            value = session.value(call, **inputs)
        except NotPlain as error:
            return Result(None, session.take_output(), f"NotPlain: {error}", self.name)
        except _Raised as error:
            return Result(None, session.take_output(), str(error), self.name)
        return Result(value, session.take_output(), "", self.name)

    def script(self, code: str, text: str, *, timeout: float, memory: int) -> Result:
        """Run a program as a script that reads `text` by `input()`; `sys.stdin` is beyond monty."""
        with self._session(timeout=timeout, memory=memory) as session:
            error = ""
            try:
                session.run(_INPUT, _lines=text.removesuffix("\n").split("\n"))
                session.run(code)
            except (_Raised, _Ended) as raised:
                error = str(raised)
            return Result(None, session.take_output(), error, self.name)

    def examine(self, code: str, check: Check, *, timeout: float, memory: int) -> Result:
        """Run a check in one session and the program in another."""
        import pydantic_monty

        limits = {"timeout": timeout, "memory": memory}
        output, ended = "", ""
        with self._session(**limits) as session, self._workers().checkout(
                limits={"max_feed_duration_secs": timeout, "max_memory": memory, "max_suspensions": 1_000_000}) as examiner:

            def candidate(*args: Any, **kwargs: Any) -> Any:
                nonlocal output, ended
                if ended:
                    raise RuntimeError(ended)
                try:
                    write((args, kwargs))
                    result = self._call(session, f"{check.entry_point}(*_args, **_kwargs)", _args=args, _kwargs=kwargs)
                except _Ended as end:
                    ended = str(end)
                    raise RuntimeError(ended) from None
                output = (output + result.output)[:OUTPUT]
                if result.error:
                    raise exception(result.error)
                return result.value

            try:
                session.run(code)
                output = session.take_output()
                examiner.feed_run(check.source, print_callback=_ignore)
                examiner.feed_run(f"{check.entry_point} = candidate\ncheck(candidate)", external_lookup={"candidate": candidate},
                                  print_callback=_ignore)
            except (_Raised, _Ended) as error:
                return Result(None, session.take_output(), str(error), self.name)
            except (pydantic_monty.MontyError, TypeError, ValueError) as error:
                return Result(None, output, ended or one_line(str(error)), self.name)
        return Result(None if ended else True, output, ended, self.name)
