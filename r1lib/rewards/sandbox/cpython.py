"""Two back ends that run full CPython in a new process for each program: under bubblewrap, or with resource limits only.

    parent                                   child.py, in the sandbox
    ------ requests, one line each ------->
    <----- results, one line each ---------  read strictly, as data, up to a size
    <----- standard output ----------------  kept up to a size

The parent waits for each answer before it asks again, so what came before a time-out is kept, and output can be told apart by call.
"""

import functools
import glob
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from r1lib.rewards.sandbox import child, seccomp
from r1lib.rewards.sandbox.child import LONGEST, NotPlain, write
from r1lib.rewards.sandbox.plain import read
from r1lib.rewards.sandbox.program import FLOOD, NOT_RUN, OUTPUT, TIMEOUT, Check, Result, one_line

_RUBBISH = "what it sends is no result"
_LINE = 4 * LONGEST                # bytes of one answer: a value's text, in which the line escapes what the text has escaped
_DISK = 64 * 2**20                 # bytes that a program can keep in its /tmp under bubblewrap
_PYTHON = ("-s", "-S", "-P", "-B", "-X", "utf8")                     # no site-packages, no folder of the program's on the path, no bytecode
_ENVIRONMENT = {"PYTHONHASHSEED": "0"}                               # the order of a set is the same in every run


class Ended(Exception):
    """A child that will say no more; the message says why."""


class _Process:
    """One process of CPython that runs child.py, and the pipes to it.

    output: what it printed up to the last answer.
    """

    def __init__(self, command: Sequence[str], inherited: Sequence[int], *, memory: int, timeout: float, folder: str):
        self.output = ""
        self._deadline = time.monotonic() + timeout
        self._printed = self._answers = b""
        asked, self._requests = os.pipe()
        self._results, said = os.pipe()
        try:
            self._popen = subprocess.Popen(
                [*command, *map(str, (asked, said, memory, int(timeout) + 2))], pass_fds=(asked, said, *inherited), env=_ENVIRONMENT,
                cwd=folder, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except BaseException:
            os.close(self._requests)
            os.close(self._results)
            raise
        finally:
            os.close(asked)
            os.close(said)
        self._stdout = self._popen.stdout.fileno()
        self._open = {self._results, self._stdout}
        for descriptor in (self._requests, self._results, self._stdout):
            os.set_blocking(descriptor, False)

    def ask(self, *request: str) -> tuple[str, ...]:
        """Send one line and wait for one of answer."""
        unsent = ascii(request).encode() + b"\n"
        while b"\n" not in self._answers:
            if self._results not in self._open:
                raise Ended(self._status())
            unsent = self._transfer(unsent, at_most=self._left())
        while self._stdout in self._open and self._receive_output():
            pass                                                     # what was printed before the answer is in the pipe by now
        self._settle_output()
        return self._answer()

    def _answer(self) -> tuple[str, ...]:
        line, _, self._answers = self._answers.partition(b"\n")
        try:
            answer = read(line.decode("ascii"))
        except (NotPlain, UnicodeDecodeError):
            raise Ended(_RUBBISH) from None
        if type(answer) is not tuple or not answer or any(type(part) is not str for part in answer):
            raise Ended(_RUBBISH)
        return answer

    def finish(self, *request: str) -> str:
        """Send one line and let the process come to its end by itself; its error, or ""."""
        unsent = ascii(request).encode() + b"\n"
        while self._open and self._popen.poll() is None:             # a process that it left behind may keep the pipes open
            unsent = self._transfer(unsent, at_most=min(self._left(), 0.05))
        try:
            self._popen.wait(self._left())
        except subprocess.TimeoutExpired:
            raise Ended(TIMEOUT) from None
        while self._open and (self._receive_output() or self._receive_answers()):
            pass
        self._settle_output()
        if self._answers:
            return _error(self._answer(), "")
        return self._status() if self._popen.returncode else ""

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            self._settle_output()
            raise Ended(TIMEOUT)
        return left

    def _transfer(self, unsent: bytes, *, at_most: float) -> bytes:
        """Wait for a pipe to be ready, write and read what there is; what is still unsent."""
        poll = select.poll()                                         # not select.select, which knows no descriptor above 1023
        for descriptor in self._open:
            poll.register(descriptor, select.POLLIN)
        if unsent:
            poll.register(self._requests, select.POLLOUT)
        ready = dict(poll.poll(1000 * at_most + 1))
        if self._stdout in ready:
            self._receive_output()
        if self._results in ready:
            self._receive_answers()
        if self._requests in ready:
            try:
                return unsent[os.write(self._requests, unsent):]
            except BrokenPipeError:
                return b""
        return unsent

    def _receive_output(self) -> bool:
        self._printed, more = self._receive(self._stdout, self._printed, OUTPUT, FLOOD)
        return more

    def _receive_answers(self) -> bool:
        self._answers, more = self._receive(self._results, self._answers, _LINE, _RUBBISH)
        return more

    def _receive(self, descriptor: int, received: bytes, most: int, error: str) -> tuple[bytes, bool]:
        """What was received and what can be read at once, and whether there was any."""
        if descriptor not in self._open:
            return received, False
        try:
            chunk = os.read(descriptor, 65536)
        except BlockingIOError:
            return received, False
        if not chunk:
            self._open.discard(descriptor)
        if len(received) + len(chunk) > most:
            self._settle_output()
            raise Ended(error)
        return received + chunk, bool(chunk)

    def _settle_output(self) -> None:
        self.output, self._printed = self._printed.decode("utf-8", "replace"), b""

    def _status(self) -> str:
        """Why the process is no more."""
        self._settle_output()
        try:
            code = self._popen.wait(max(0.1, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return TIMEOUT
        number = -code if code < 0 else code - 128                   # bubblewrap says of a child ended by a signal what a shell says
        if number in signal.valid_signals():
            return f"it was ended by {signal.Signals(number).name}"
        return f"it ended itself with status {code}"

    def close(self) -> None:
        """End the process and all of its group, which keeps its number as long as it has a member."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        deadline = time.monotonic() + 1
        while self._stdout in self._open and time.monotonic() < deadline:          # until the last one in a namespace has let go of it
            self._printed = self._answers = b""
            self._transfer(b"", at_most=deadline - time.monotonic())
        self._popen.stdout.close()
        os.close(self._requests)
        os.close(self._results)


def _error(said: tuple[str, ...], expected: str) -> str:
    """What is wrong with an answer, "" if it is of the kind that was expected."""
    if said[0] == "error" and len(said) == 2:
        return one_line(said[1])
    return "" if said[0] == expected and len(said) == (2 if expected == "value" else 1) else _RUBBISH


class CPython:
    """What both back ends have in common; a subclass says how a process is started."""

    name: str
    protects: str
    does_not_protect: str

    def why_not(self) -> str:
        """Why it does not work on this machine, "" if it does."""
        raise NotImplementedError

    def _process(self, *, timeout: float, memory: int):
        """A context manager that gives a `_Process`."""
        raise NotImplementedError

    def functions(self, code: str, calls: Sequence[str], *, timeout: float, memory: int) -> list[Result]:
        """Define a program once and evaluate expressions in it, one after the other."""
        results: list[Result] = []
        with self._process(timeout=timeout, memory=memory) as process:
            try:
                error = _error(process.ask("program", code), "ready")
                for call in calls:
                    results.append(Result(None, process.output, error, self.name) if error else
                                   self._result(process.ask("call", call), process.output))
            except Ended as end:
                error = str(end)
                results.append(Result(None, process.output, error, self.name))
        after = NOT_RUN if error == TIMEOUT else error
        return results + [Result(None, "", after, self.name)] * (len(calls) - len(results))

    def _result(self, said: tuple[str, ...], output: str) -> Result:
        if error := _error(said, "value"):
            return Result(None, output, error, self.name)
        try:
            return Result(read(said[1]), output, "", self.name)
        except NotPlain as error:
            return Result(None, output, f"NotPlain: {error}", self.name)

    def script(self, code: str, text: str, *, timeout: float, memory: int) -> Result:
        """Run a program as a script that reads `text`."""
        with self._process(timeout=timeout, memory=memory) as process:
            try:
                error = process.finish("script", code, text)
            except Ended as end:
                error = str(end)
            return Result(None, process.output, error, self.name)

    def examine(self, code: str, check: Check, *, timeout: float, memory: int) -> Result:
        """Run a check in one process and the program in another; this one carries calls and results between them."""
        limits = {"timeout": timeout, "memory": memory}
        output = ""
        with self._process(**limits) as candidate, self._process(**limits) as examiner:
            try:
                error = _error(candidate.ask("program", code), "ready")
                output = candidate.output
                if error:
                    return Result(None, output, error, self.name)
                said = examiner.ask("examiner", check.source, check.entry_point)
                while said[0] == "call" and len(said) == 3:
                    answer = self._result(candidate.ask("apply", check.entry_point, *said[1:]), candidate.output)
                    output = (output + answer.output)[:OUTPUT]
                    said = examiner.ask("error", answer.error) if answer.error else examiner.ask("value", write(answer.value))
            except (Ended, NotPlain) as end:
                return Result(None, output, str(end), self.name)
        error = _error(said, "passed")
        return Result(None if error else True, output, error, self.name)


class Subprocess(CPython):
    name = "subprocess"
    protects = "time, memory, size of files, output; no environment, no shared interpreter"
    does_not_protect = "files, the network and other processes: a program reads and writes what you can, and can leave processes behind"

    def why_not(self) -> str:
        return "" if os.name == "posix" else "it needs POSIX"

    @contextmanager
    def _process(self, *, timeout: float, memory: int) -> Iterator[_Process]:
        with tempfile.TemporaryDirectory(prefix="program-", ignore_cleanup_errors=True) as folder:
            process = _Process([sys.executable, *_PYTHON, child.__file__], (), memory=memory, timeout=timeout, folder=folder)
            try:
                yield process
            finally:
                process.close()


class Bubblewrap(CPython):
    name = "bubblewrap"
    protects = ("files (it sees Python and its libraries, read-only, and an empty /tmp in memory), network, environment, other processes, "
                "time, memory, output")
    does_not_protect = "against faults of the Linux kernel, and on machines other than x86_64 and aarch64 against many forks at once"

    @functools.cache                                                 # noqa: B019 - one instance, as long as the program
    def why_not(self) -> str:
        if not shutil.which("bwrap"):
            return "bwrap is not installed (apt install bubblewrap)"
        try:
            result = self.functions("", ["6 * 7"], timeout=10, memory=256 * 2**20)[0]
        except OSError as error:
            return f"bwrap cannot be started: {error}"
        if result.value == 42:
            return ""
        return f"bwrap starts nothing here ({result.error}): most containers do not allow new namespaces"

    @contextmanager
    def _process(self, *, timeout: float, memory: int) -> Iterator[_Process]:
        rules = seccomp.program()
        inherited = []
        command = list(self._command)
        if rules:
            read_end, write_end = os.pipe()
            os.write(write_end, rules)                               # less than a pipe holds
            os.close(write_end)
            inherited.append(read_end)
            command += ["--seccomp", str(read_end)]
        try:
            process = _Process([*command, os.path.realpath(sys.executable), *_PYTHON, "/child.py"], inherited, memory=memory,
                               timeout=timeout, folder="/")
        finally:
            for descriptor in inherited:
                os.close(descriptor)
        try:
            yield process
        finally:
            process.close()

    @functools.cached_property
    def _command(self) -> list[str]:
        """bwrap and what the program sees: Python, the libraries, no packages, and nothing else of this machine."""
        libraries = {f"{above}/lib{bits}" for above in ("", "/usr") for bits in ("", "32", "64")}
        libraries |= {f"{sys.base_prefix}/lib", sysconfig.get_path("stdlib")}
        python = os.path.realpath(sys.executable)
        command = [shutil.which("bwrap"), "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
        for name, value in _ENVIRONMENT.items():
            command += ["--setenv", name, value]
        for folder in sorted(libraries):                             # "/usr/lib" comes before what lies in it
            if os.path.islink(folder):
                command += ["--symlink", os.readlink(folder), folder]
            elif os.path.isdir(folder):
                command += ["--ro-bind", folder, folder]
        command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--ro-bind", python, python]
        patterns = [f"{library}/{below}{kind}-packages" for library in libraries if not os.path.islink(library)
                    for below in ("", "python*/") for kind in ("site", "dist")]
        packages = {place for pattern in patterns for place in glob.glob(pattern)}
        for folder in sorted(packages):                              # a data set with its solutions could be among them
            command += ["--tmpfs", folder, "--remount-ro", folder]
        for device in ("/dev/null", "/dev/urandom"):
            command += ["--dev-bind", device, device]
        return [*command, "--ro-bind", child.__file__, "/child.py", "--size", str(_DISK), "--tmpfs", "/tmp", "--chdir", "/tmp",
                "--remount-ro", "/"]
