"""What runs inside the sandbox under CPython: one program, or the examiner of one. It is started as a script and imports nothing of ours.

    python child.py REQUESTS RESULTS MEMORY SECONDS         two file descriptors, bytes, seconds of processor time

It reads one line for each thing to do and answers with one line, both of them Python literals in ASCII. Nothing that it says is trusted:
the program shares this process and can write what it likes, so the parent reads the answers as data and knows by itself what is right.
"""

import os
import sys

LONGEST = 100_000                  # characters of a value's text; reading one takes the parent at most 0.2 s
DEEPEST = 50                       # lists in lists
FILE = 16 * 2**20                  # bytes of a file that a program writes


class NotPlain(ValueError):
    """A value that is no plain data, or too much of it; the message says which."""


def write(value: object) -> str:
    """Plain data as the text of a Python literal in ASCII: None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset.

    Exact types only: an instance of a class of the program's own could be equal to anything.
    """
    parts: list[str] = []
    room = LONGEST

    def put(text: str) -> None:
        nonlocal room
        room -= len(text)
        if room < 0:
            raise NotPlain(f"it is longer than {LONGEST} characters")
        parts.append(text)

    def several(opening: str, values: object, closing: str, depth: int) -> None:
        put(opening)
        for item in values:
            visit(item, depth + 1)
            put(", ")
        put(closing)

    def visit(value: object, depth: int) -> None:
        kind = type(value)
        if depth > DEEPEST:
            raise NotPlain(f"it is nested more than {DEEPEST} deep")
        if value is None or kind is bool or kind is int or kind is float or kind is complex:
            put(repr(value))
        elif kind is str or kind is bytes:
            if len(value) > room:
                raise NotPlain(f"it is longer than {LONGEST} characters")
            put(ascii(value))
        elif kind is list:
            several("[", value, "]", depth)
        elif kind is tuple:
            several("(", value, ")", depth) if value else put("()")
        elif kind is set:
            several("{", value, "}", depth) if value else put("set()")
        elif kind is frozenset:
            several("frozenset({", value, "})", depth) if value else put("frozenset()")
        elif kind is dict:
            put("{")
            for key, item in value.items():
                visit(key, depth + 1)
                put(": ")
                visit(item, depth + 1)
                put(", ")
            put("}")
        else:
            raise NotPlain(f"a {_name(kind)} is no plain data")

    visit(value, 0)
    return "".join(parts)


_NAN, _INFINITY = float("nan"), float("inf")
_TRUSTED = {"__builtins__": {}, "nan": _NAN, "inf": _INFINITY, "nanj": complex(0, _NAN), "infj": complex(0, _INFINITY), "set": set,
            "frozenset": frozenset}


def _literal(text: str | bytes, eval=eval) -> object:
    """What `write` wrote, which only the parent sends."""
    return eval(text, dict(_TRUSTED))


def _name(kind: type) -> str:
    try:
        return f"{kind.__name__}"[:60]
    except BaseException:
        return "a type without a name"


def _line(error: BaseException) -> str:
    """An exception in one line, whatever its own methods do."""
    if type(error) is MemoryError:
        return "memory"
    try:
        return " ".join(f"{_name(type(error))}: {error}"[:300].split()).removesuffix(":")
    except BaseException:
        return f"{_name(type(error))}: it cannot be shown"


# What a candidate's exception may become in the examiner. Not StopIteration, which ends a `map` or `all` in a check as if all had passed.
_EXCEPTIONS = {kind.__name__: kind for kind in (
    ArithmeticError, AttributeError, IndexError, KeyError, LookupError, NameError, NotImplementedError, OverflowError, RecursionError,
    RuntimeError, TypeError, UnicodeError, ValueError, ZeroDivisionError)}


def exception(line: str) -> Exception:
    """The exception that one line stands for."""
    name, _, message = line.partition(": ")
    return _EXCEPTIONS[name](message) if name in _EXCEPTIONS else RuntimeError(line)


class _Channel:
    """Lines to and from the parent."""

    def __init__(self, requests: int, results: int):
        self._requests = os.fdopen(requests, "rb")
        self._results = results

    def receive(self, literal=_literal) -> tuple | None:
        line = self._requests.readline()
        return literal(line) if line else None

    def send(self, *answer: object, write=os.write) -> None:
        data = ascii(answer).encode() + b"\n"
        while data:
            data = data[write(self._results, data):]


def _limit(memory: int, seconds: int) -> None:
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    if sys.platform == "linux":                                      # macOS counts what is mapped but not used, and has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    _, most = resource.getrlimit(resource.RLIMIT_NPROC)
    few = 256 if most == resource.RLIM_INFINITY else min(256, most)
    resource.setrlimit(resource.RLIMIT_NPROC, (few, few))            # of the user, all told; the kernel does not ask root


def _main_module() -> dict:
    """The namespace of a module `__main__` that is the program's own."""
    import builtins
    builtins.exit = builtins.quit = sys.exit                         # site.py is not loaded, and programs end themselves by these
    module = type(sys)("__main__")
    sys.modules["__main__"] = module
    sys.argv = ["program.py"]
    return module.__dict__


def _serve(channel: _Channel, code: str) -> None:
    """Define the program, then answer calls of its functions."""
    namespace, flush = _main_module(), sys.stdout.flush
    try:
        exec(compile(code, "program.py", "exec"), namespace)
        answer = ("ready",)
    except BaseException as error:
        answer = ("error", _line(error))
    while True:
        try:
            flush()                                                  # what was printed belongs to this answer and not to the next
        except BaseException:
            answer = ("error", "the program broke its own standard output")
        channel.send(*answer)
        request = channel.receive()
        if request is None:
            return
        try:
            if request[0] == "call":
                value = eval(compile(request[1], "call", "eval"), namespace)
            elif request[1] in namespace:
                value = namespace[request[1]](*_literal(request[2]), **_literal(request[3]))
            else:
                raise NameError(f"name {request[1]!r} is not defined")
            answer = ("value", write(value))
        except BaseException as error:
            answer = ("error", _line(error))


def _script(code: str, text: str) -> None:
    """Run the program as a script that reads `text` from its standard input."""
    descriptor = os.open(".stdin", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(".stdin")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(text.encode("utf-8", "surrogatepass"))
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.dup2(descriptor, 0)
    os.close(descriptor)
    sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    exec(compile(code, "program.py", "exec"), _main_module())


def _examine(channel: _Channel, check: str, entry_point: str) -> None:
    """Run a check program, whose `candidate` is in another process."""

    def candidate(*args: object, **kwargs: object) -> object:
        channel.send("call", write(args), write(kwargs))
        said, text = channel.receive()
        if said == "value":
            return _literal(text)
        raise exception(text)

    namespace = {**_main_module(), "candidate": candidate}
    try:
        exec(compile(check, "check.py", "exec"), namespace)
        namespace[entry_point] = candidate                           # a check may call the function by its name, as HumanEval/33 does
        namespace["check"](candidate)
        answer = ("passed",)
    except BaseException as error:
        answer = ("error", _line(error))
    channel.send(*answer)


def main(requests: int, results: int, memory: int, seconds: int) -> None:
    channel = _Channel(requests, results)
    kind, *rest = channel.receive()
    _limit(memory, seconds)
    if kind == "program":
        _serve(channel, *rest)
    elif kind == "examiner":
        _examine(channel, *rest)
    else:
        try:
            _script(*rest)
        except SystemExit:
            raise
        except BaseException as error:
            channel.send("error", _line(error))
            sys.stdout.flush()
            os._exit(1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]))
