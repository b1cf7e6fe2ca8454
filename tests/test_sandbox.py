"""Programs in the sandbox: what they give, what they cannot do, and that nothing of one reaches the next."""

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import hostile_programs as hostile
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lib.errors import R1Error
from r1lib.rewards import code, sandbox
from r1lib.rewards.sandbox import Check, Result, Stdin
from r1lib.rewards.sandbox.child import LONGEST, NotPlain, exception, write
from r1lib.rewards.sandbox.plain import read

ROOT = Path(__file__).parent.parent
ROWS = {row.name: row for row in sandbox.describe()}
GUARD = 60                                              # seconds; a hang, not a measurement


def back_end(name: str):
    """A parameter that is skipped where the back end does not work."""
    return pytest.param(name, marks=pytest.mark.skipif(not ROWS[name].works, reason=f"{name}: {ROWS[name].why_not}"))


SAFE = [back_end("monty"), back_end("bubblewrap")]
ALL = [*SAFE, back_end("subprocess")]
where_monty_works = pytest.mark.skipif(not ROWS["monty"].works, reason=f"monty: {ROWS['monty'].why_not}")
CPYTHON = [back_end("bubblewrap"), back_end("subprocess")]


def run(program: str, calls: list, backend: str | None, **settings) -> list[Result]:
    return sandbox.run(program, calls, backend=backend, allow_unsafe=backend == "subprocess", **settings)


def values(results: list[Result]) -> list:
    assert not any(result.error for result in results), results
    return [result.value for result in results]


# ------------------------------------------------------------------------------------------------------------------------------------------
# What comes back

@pytest.mark.parametrize("backend", ALL)
def test_calls_of_one_program(backend):
    program = "print('start')\ndef f(x):\n    print('got', x)\n    return [x, (x, None), {'a': 1.5}, {x}]"
    results = run(program, ["f(2)", "f('a\\n')", "g()", "f([])"], backend)
    assert [result.value for result in results[:2]] == [[x, (x, None), {"a": 1.5}, {x}] for x in (2, "a\n")]
    assert [result.output for result in results] == ["got 2\n", "got a\n\n", "", "got []\n"]
    assert [result.error[:9] for result in results] == ["", "", "NameError", "TypeError"] and "unhashable" in results[3].error
    assert {result.backend for result in results} == {backend}


@pytest.mark.parametrize("backend", ALL)
def test_every_kind_of_plain_data_comes_back_as_it_was(backend):
    calls = ["None", "True", "-7", "1e-9", "float('inf')", "-0.0", "2j", "'é\\n\\'\"\\\\'", "b'\\x00\\xff'", "[]", "()", "(1,)", "{}",
             "set()", "frozenset()", "{'a': [(1, {2}), frozenset({3})]}", "2 ** 1000"]
    for call, result in zip(calls, run("", calls, backend), strict=True):
        assert result.error == "" and result.value == eval(call) and type(result.value) is type(eval(call)), call
    assert run("", ["float('nan')"], backend)[0].value != run("", ["float('nan')"], backend)[0].value


@pytest.mark.parametrize("backend", ALL)
def test_what_came_before_a_time_out_is_kept(backend):
    started = time.monotonic()
    results = run("def f(n):\n    while n: pass\n    return n", ["f(0)", "f(1)", "f(0)", Stdin("")], backend, timeout=1)
    assert [result.value for result in results] == [0, None, None, None]
    assert [result.error for result in results] == ["", "time-out", *["not run, because a call before it timed out"] * 2]
    assert time.monotonic() - started < GUARD


@pytest.mark.parametrize("backend", ALL)
def test_memory_is_limited(backend):
    assert [result.error for result in run("def f(n): return len('a' * n)", ["f(10**9)", "f(10)"], backend)] == ["memory", ""]


@pytest.mark.parametrize("backend", ALL)
def test_output_is_limited(backend):
    flood = "def f(n):\n    for _ in range(n): print('9' * 1000)"
    assert [result.error for result in run(flood, ["f(1)", "f(10**5)"], backend)] == ["", "it prints too much"]
    assert run("for _ in range(10**5): print('9' * 1000)", [Stdin("")], backend)[0].error == "it prints too much"


@pytest.mark.parametrize("backend", ALL)
def test_a_script_reads_its_input(backend):
    program = "n = int(input())\nprint(sum([int(input('> ')) for _ in range(n)]))"
    results = run(program, [Stdin("2\n3\n4\n"), Stdin("1\n5"), Stdin("x"), Stdin("1\n")], backend)
    assert [result.output for result in results] == ["> > 7\n", "> 5\n", "", "> "]
    assert [result.error.split(":")[0] for result in results] == ["", "", "ValueError", "NameError" if backend == "monty" else "EOFError"]


@pytest.mark.parametrize("backend", CPYTHON)
@pytest.mark.parametrize("program", ["import sys\nprint(sys.stdin.read().upper())", "print(open(0).read().upper())",
                                     "import io\nprint(io.open(0).readline().upper())",
                                     "import sys\nfor line in sys.stdin: print(line.upper())",
                                     "import sys\nsys.stdout.write(sys.stdin.buffer.read().decode().upper())\nexit()",
                                     "import threading\nthreading.Thread(target=lambda: print(input().upper())).start()",
                                     "if __name__ == '__main__':\n    print(input().upper())\n    raise SystemExit"])
def test_scripts_read_and_end_in_every_way_that_python_has(backend, program):
    result = run(program, [Stdin("é a\n")], backend)[0]
    assert result.output.strip() == "É A" and result.error == ""


def test_a_script_that_monty_cannot_run_goes_to_cpython():
    result = sandbox.run("import sys\nprint(sys.stdin.read())", [Stdin("7")])[0]
    works = ROWS["bubblewrap"].works
    assert result.backend == ("bubblewrap" if works else "monty") and (result.output == "7\n" if works else "stdin" in result.error)


@pytest.mark.parametrize("backend", ALL)
def test_a_long_input_and_a_long_output_arrive_whole(backend):
    text = "\n".join(map(str, range(100_000)))
    program = "for _ in range(100000): print(input())" if backend == "monty" else "import sys\nprint(sys.stdin.read())"
    assert run(program, [Stdin(text)], backend, timeout=10)[0].output.strip() == text


@pytest.mark.parametrize("backend", CPYTHON)
def test_a_script_that_fails_says_so(backend):
    errors = [run(program, [Stdin("")], backend)[0].error for program in ("exit(3)", "1 / 0", "import os\nos.abort()")]
    assert errors == ["it ended itself with status 3", "ZeroDivisionError: division by zero", "it was ended by SIGABRT"]


@pytest.mark.parametrize("backend", ALL)
def test_checks(backend):
    def check(source: str, program: str = "def f(x, y=1): return [x + y]", timeout: float = 2.0) -> Result:
        return run(program, [Check(f"def check(candidate):\n    {source}", "f")], backend, timeout=timeout)[0]

    assert check("assert candidate(1) == [2] and candidate(x=1, y=2) == [3] and candidate(*[5], **{'y': 0})[0] == 5").value is True
    assert check("for i in range(1200): assert candidate(i) == [i + 1]", timeout=GUARD).value is True
    assert check("assert f(1) == [2]").value is True
    failed = check("assert candidate(1) == [3], 'three'")
    assert failed.value is None and failed.error.startswith("AssertionError")
    assert check("try: candidate('a')\n    except TypeError: return\n    assert False").value is True
    assert "TypeError" in check("candidate('a')").error
    assert check("pass", "def f(:").error.startswith("SyntaxError: ")
    assert check("assert candidate(1) == [2]", "def g(x): return [x]").error
    assert check("try: candidate(1)\n    except Exception: pass", "def f(x):\n    while True: pass").error == "time-out"
    assert check("print('loud')", "def f(x):\n    print('quiet')").output == ""


@pytest.mark.parametrize("backend", ALL)
def test_an_exception_of_the_candidate_cannot_end_a_check_early(backend):
    source = "def check(candidate):\n    assert all(map(lambda x: candidate(x) == x, [1, 2]))"
    assert run("def f(x): raise StopIteration", [Check(source, "f")], backend)[0].value is None
    assert type(exception("StopIteration: 1")) is RuntimeError and type(exception("ValueError: 1")) is ValueError


@pytest.mark.parametrize("backend", ALL)
def test_the_program_never_sees_what_a_check_expects(backend):
    program = "seen = []\ndef f(*args, **kwargs):\n    seen.append((args, kwargs))\n    return 0\ndef g(): return seen"
    check = Check("EXPECTED = 4711\ndef check(candidate):\n    candidate(1, y=[2])\n    assert candidate('seen') != EXPECTED", "f")
    assert run(program, [check], backend)[0].value is True
    spying = "def f(*args, **kwargs):\n    return str(args) + str(kwargs) + str(sorted(EXPECTED for _ in [1]))"
    assert "EXPECTED" in run(spying, [check], backend)[0].error


# ------------------------------------------------------------------------------------------------------------------------------------------
# One program and the next

@pytest.mark.parametrize("backend", ALL)
def test_the_same_program_gives_the_same(backend):
    program = "def f(): return list({'a', 'b', 'c', 'd', 'e'}), [hash('a') > 0]\ndef g(): return 1 / 0"
    results = [run(program, ["f()", "g()", "h()"], backend) for _ in range(4)]
    assert all(again == results[0] for again in results)


@pytest.mark.parametrize("backend", ALL)
def test_nothing_of_a_program_reaches_the_next(backend):
    before = "left = 1\nlen = print = 9"
    if backend != "monty":
        before += "\nimport builtins, math, os\nbuiltins.len = lambda *_: 9\nmath.pi = 3"
    if backend == "bubblewrap":
        before += "\nopen('/tmp/left', 'w').write('1')\nos.environ['LEFT'] = '1'"
    for _ in range(6):                                  # more than there are workers
        assert values(run(before, ["left"], backend)) == [1]
    after = run("import math\nprint('a')", ["len([])", "math.pi > 3", "left"], backend)
    assert [result.value for result in after] == [0, True, None] and "NameError" in after[2].error
    if backend == "bubblewrap":
        assert values(run("import os", ["os.listdir('/tmp')", "'LEFT' in os.environ"], backend)) == [[], False]


def test_many_programs_keep_their_order():
    programs = [(f"def f(): return {number}" if number % 5 else "while True: pass", ["f()", str(number)]) for number in range(24)]
    for number, results in enumerate(sandbox.run_many(programs, timeout=0.3)):
        assert [result.value for result in results] == ([number, number] if number % 5 else [None, None])


def _in_a_new_process(script: str) -> str:
    """What it prints; Python 3.12 and later warn of any fork beside OpenBLAS's threads."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=GUARD)
    return done.stdout.decode() + done.stderr.decode()[-500:]


@where_monty_works
def test_it_works_in_a_forked_process_in_a_fork_of_that_and_in_the_parent_afterwards():
    """With monty alone, as where bubblewrap is not installed."""
    said = _in_a_new_process("""
        import os
        from r1lib.rewards import sandbox
        def all_of_it(who):
            code = "def f(x): return [x, 'a']"
            check = sandbox.Check("def check(candidate): assert candidate(2) == [2, 'a']", "f")
            found = sandbox.run(code, ["f(1)", "f()", check, sandbox.Stdin("")], backend="monty")
            assert [result.value for result in found] == [[1, "a"], None, True, None] and "TypeError" in found[1].error, found
            many = sandbox.run_many([("while True: pass", ["1"]), ("x = 3", ["x"])], timeout=0.3, backend="monty")
            assert [[one.error or one.value for one in result] for result in many] == [["time-out"], [3]], many
            print(who, flush=True)
        all_of_it("parent")
        if not os.fork():
            all_of_it("child")
            if not os.fork():
                all_of_it("its child")
                os._exit(0)
            assert os.wait()[1] == 0
            all_of_it("child again")
            os._exit(0)
        assert os.wait()[1] == 0
        all_of_it("parent again")
    """)
    assert said == "parent\nchild\nits child\nchild again\nparent again\n"


@where_monty_works
def test_beside_a_fork_an_interrupt_leaves_no_answer_behind_an_end_is_told_and_nobody_stays():
    said = _in_a_new_process("""
        import os, signal, time, psutil
        from r1lib.errors import R1Error
        from r1lib.rewards import sandbox
        sandbox.run("", ["1"])
        def helpers():                                      # what was started with the mark in its environment
            found = psutil.process_iter(["environ", "status"], ad_value={})
            return [p for p in found if p.info["status"] != "zombie" and p.info["environ"].get("BESIDE") == mark]
        mark = str(os.getpid())
        if not os.fork():
            os.environ["BESIDE"] = mark
            monty = sandbox._BACK_ENDS["monty"]
            print(monty.functions("", ["1"], timeout=5, memory=2**28)[0].value)
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            try:
                monty.functions("while True: pass", ["2"], timeout=1, memory=2**28)
            except KeyboardInterrupt:
                print("interrupted", monty.functions("", ["3"], timeout=5, memory=2**28)[0].value)
            for helper in helpers():
                helper.kill()
            try:
                monty.functions("", ["4"], timeout=5, memory=2**28)
            except R1Error as error:
                print(error)
            print(monty.functions("", ["5"], timeout=5, memory=2**28)[0].value, len(helpers()) > 0, flush=True)
            os._exit(0)
        assert os.wait()[1] == 0
        for _ in range(100):
            if not helpers():
                print("nobody")
                break
            time.sleep(0.1)
    """)
    assert said.splitlines() == [
        "1", "interrupted 3", "the process that runs programs was ended from outside, as happens when memory runs out.", "5 True", "nobody"]


# ------------------------------------------------------------------------------------------------------------------------------------------
# Hostile programs

@pytest.fixture(scope="module", autouse=True)
def planted_answers():
    """What hostile programs look for, where they look for it."""
    servers = []
    for family, address in ((socket.AF_INET, ("127.0.0.1", hostile.ANSWER_PORT)), (socket.AF_UNIX, hostile.ANSWER_SOCKET)):
        server = socket.socket(family)
        try:
            server.bind(address)
        except OSError:                                 # the port is taken, or there are no abstract sockets here
            server.close()
            continue
        server.listen(64)
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        servers.append(server)
    Path(hostile.ANSWER_FILE).write_text(hostile.ANSWERS)
    os.environ[hostile.ANSWER_VARIABLE] = hostile.ANSWERS
    yield
    del os.environ[hostile.ANSWER_VARIABLE]
    Path(hostile.ANSWER_FILE).unlink()
    for server in servers:
        server.close()


def _serve(server: socket.socket) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        with client:
            client.sendall(hostile.ANSWERS.encode())


def left_behind() -> list[str]:
    """Processes and files of programs that have got out or were not ended."""
    escaped = Path(hostile.ESCAPED).name
    files = [str(folder / escaped) for folder in map(Path, ("/var/tmp", "/dev/shm", "/tmp", os.getcwd())) if (folder / escaped).exists()]
    running = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        if "child.py" in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            running.append(f"{process.info['pid']}: {command}")
    return files + running


KINDS = list(dict.fromkeys(program.kind for program in hostile.PROGRAMS))
HONEST = {"call": hostile.HONEST["calls"], "check": hostile.HONEST["calls"], "input": hostile.HONEST["script"]}


def attack(programs: list[hostile.Program], backend: str | None) -> None:
    """Each program earns nothing, and the honest one that is run right after it passes."""
    run_in_turn = []
    for program in programs:
        calls = code._calls(program.tests, "")
        run_in_turn += [(program.code, calls, 0.5 if program.runs_long else 2), (HONEST[next(iter(program.tests[0]))], calls, 20)]
    with ThreadPoolExecutor(4) as threads:
        done = threads.map(lambda one: run(one[0], one[1], backend, timeout=one[2]), run_in_turn)
        for place, results in enumerate(done):
            program = programs[place // 2]
            passed = [code._judge(*row).passed for row in zip(program.tests, code._calls(program.tests, ""), results, strict=True)]
            if place % 2:
                assert all(passed), (program.kind, program.code, results)
            else:
                assert not all(passed), (program.code, results)


@pytest.mark.parametrize("backend", SAFE)
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_programs_earn_nothing_and_leave_nothing(kind, backend):
    started = time.monotonic()
    attack([program for program in hostile.PROGRAMS if program.kind == kind], backend)
    assert time.monotonic() - started < GUARD
    deadline = time.monotonic() + 5                     # another test on this machine may be running programs just now
    while (left := left_behind()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def test_there_are_enough_hostile_programs():
    assert len(hostile.PROGRAMS) >= 40 and len(KINDS) >= 20 and len({program.code for program in hostile.PROGRAMS}) >= 150


def test_hostile_programs_from_eight_threads():
    programs = [next(program for program in hostile.PROGRAMS if program.kind == kind) for kind in KINDS]

    def reward(program: hostile.Program) -> list[float | None]:
        honest = "<think>a</think><answer>" + HONEST[next(iter(program.tests[0]))] + "</answer>"
        return code.code_reward([program.completion, honest], tests=[program.tests] * 2)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(reward, programs)) == [[0.0, 1.0]] * len(programs)
    assert left_behind() == []


@pytest.mark.parametrize("kind", ["memory", "floods the output", "ends early", "claims success", "equals everything",
                                  "patches what compares",
                                  "returns something odd"])
def test_what_a_plain_subprocess_does_stop(kind):
    attack([program for program in hostile.PROGRAMS if program.kind == kind], "subprocess")


def test_what_a_plain_subprocess_does_not_stop():
    """Its description is true, and the programs that look for answers would find them."""
    for program in hostile.PROGRAMS:
        if program.kind == "looks for the answer in files" and program.code.startswith("def f"):
            assert all(tested.passed for tested in code.verdict(program.code, program.tests, backend="subprocess", allow_unsafe=True))
    assert "files" in ROWS["subprocess"].does_not_protect and "network" in ROWS["subprocess"].does_not_protect


@pytest.mark.parametrize("backend", SAFE[1:])
def test_a_program_under_bubblewrap_sees_nothing_of_this_machine(backend):
    results = values(run("import os, socket, threading", [
        "sorted(os.listdir('/'))", "os.listdir('/tmp')", "sorted(os.listdir('/dev'))", "sorted(os.environ)", "os.path.exists('/proc/self')",
        f"os.path.exists({str(ROOT)!r})", "[n for n in range(3, 32) if os.path.exists(f'/dev/fd/{n}')]", "os.getpid() < 10"], backend))
    own = Path(os.path.realpath(sys.executable)).parts[1]
    assert set(results[0]) <= {"child.py", "dev", "etc", "lib", "lib32", "lib64", "tmp", "usr", Path(sys.base_prefix).parts[1], own}
    assert results[1:] == [[], ["null", "urandom"], ["LC_CTYPE", "PWD", "PYTHONHASHSEED"], False, False, [], True]
    refused = {"open('/new', 'w')": "Read-only", "open('/usr/lib/new', 'w')": "Read-only", "os.fork()": "Operation not permitted",
               "socket.socket()": "Operation not permitted", "os.execv('/bin/sh', ['sh'])": "No such file", "os.kill(1, 9)": ""}
    for (call, error), result in zip(refused.items(), run("import os, socket", list(refused), backend), strict=True):
        assert error in result.error, call


@pytest.mark.parametrize("backend", SAFE[1:])
def test_threads_work_under_bubblewrap(backend):
    program = "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(4)"
    assert values(run(program, ["list(pool.map(abs, [-1, 2]))"], backend)) == [[1, 2]]


@given(st.text() | st.text("abdefinprtu =:()[]{}'\"\\\n\t0123456789.,+-*/%#@", max_size=60))
@settings(max_examples=150, deadline=None)
def test_no_text_raises_or_hangs(text):
    started = time.monotonic()
    for backend in ("monty", None):
        if backend is None or ROWS[backend].works:
            results = sandbox.run(text, ["f(1)", Stdin("1")], timeout=1, backend=backend)
            assert [type(result) for result in results] == [Result, Result]
    assert time.monotonic() - started < GUARD


# ------------------------------------------------------------------------------------------------------------------------------------------
# Which back end

def test_a_back_end_must_be_known_allowed_and_working(monkeypatch):
    monkeypatch.delenv("R1_UNSAFE_SANDBOX", raising=False)
    with pytest.raises(R1Error, match="'docker' is not known: choose from monty, bubblewrap, subprocess"):
        sandbox.run("", ["1"], backend="docker")
    with pytest.raises(R1Error, match="does not protect files, the network .* R1_UNSAFE_SANDBOX=1"):
        sandbox.run("", ["1"], backend="subprocess")
    monkeypatch.setenv("R1_UNSAFE_SANDBOX", "1")
    assert sandbox.run("", ["6 * 7"], backend="subprocess")[0].value == 42


def test_without_a_sandbox_nothing_runs(monkeypatch):
    monkeypatch.delenv("R1_UNSAFE_SANDBOX", raising=False)
    for name in ("monty", "bubblewrap"):
        monkeypatch.setattr(sandbox._BACK_ENDS[name], "why_not", lambda: "it is missing")
    with pytest.raises(R1Error, match="monty: it is missing; bubblewrap: it is missing.* R1_UNSAFE_SANDBOX=1"):
        sandbox.run("", ["1"])
    assert sandbox.run("", ["6 * 7"], allow_unsafe=True)[0] == Result(42, "", "", "subprocess")
    assert [row.works for row in sandbox.describe()] == [False, False, True]


def test_what_monty_lacks_stands_as_its_error_where_there_is_no_bubblewrap(monkeypatch):
    monkeypatch.setattr(sandbox._BACK_ENDS["bubblewrap"], "why_not", lambda: "it is missing")
    result = sandbox.run("def f():\n    yield 1", ["list(f())"])[0]
    assert result.backend == "monty" and "yield" in result.error


def test_bwrap_that_does_not_work_says_why(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "most containers" in type(sandbox._BACK_ENDS["bubblewrap"])().why_not()
    broken.unlink()
    assert "not installed" in type(sandbox._BACK_ENDS["bubblewrap"])().why_not()


def test_errors_that_cpython_would_not_have_are_no_last_word():
    results = sandbox.run("import heapq\ndef f(): return heapq.nsmallest(1, [2, 1])", ["f()", "1"])
    if ROWS["bubblewrap"].works:
        assert results == [Result([1], "", "", "bubblewrap"), Result(1, "", "", "bubblewrap")]
    assert sandbox.run("while True: pass", ["1"], timeout=0.3)[0].backend == "monty"                   # a time-out is


# ------------------------------------------------------------------------------------------------------------------------------------------
# Plain data

plain = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.complex_numbers(allow_nan=False)
                     | st.text(st.characters()) | st.binary(),
                     lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner)
                     | st.sets(st.integers() | st.text()) | st.frozensets(st.booleans() | st.binary()), max_leaves=20)


@given(plain)
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read(value):
    again = read(write(value))
    assert again == value and type(again) is type(value) and write(value).isascii()


@given(st.text() | st.text("[](){},: -+'\"\\0123456789eEjnaifxstTrFlsNo", max_size=40))
@settings(max_examples=500, deadline=None)
def test_reading_gives_plain_data_or_says_that_it_is_none(text):
    with suppress(NotPlain):
        write(read(text))


@pytest.mark.parametrize("text", ["f(1)", "1 + 1", "[](1)", "None()", "lambda: 1", "'a' 'b'", "'\\d'", "...", "[*a]", "{**a}", "x", "007",
                                  "range(0, 3)", "{[1]: 2}", "{{}}", "f''", "1if 1else 2", "(1).real", "[1][0]", "-" * 9999 + "1",
                                  "(" * 9999,
                                  "[" * 60 + "]" * 60, "1" * 5000, "'" + "a" * LONGEST + "'", "frozenset({1}, {2})", "set({1})", "",
                                  "(yield)",
                                  "[1 for x in y]", "__import__('os')", "<f object at 0x7f>"], ids=lambda text: repr(text[:20]))
def test_reading_refuses_what_is_no_plain_data(text):
    with pytest.raises(NotPlain):
        read(text)


@pytest.mark.parametrize("value", [object(), len, range(3), type("Int", (int,), {})(3), [type("Str", (str,), {})("a")], {1: Ellipsis},
                                   [0] * LONGEST, "a" * LONGEST, 10**5000], ids=lambda value: type(value).__name__)
def test_writing_refuses_what_is_no_plain_data(value):
    with pytest.raises(ValueError):
        write(value)


def test_writing_refuses_what_never_ends():
    endless: list = []
    endless.append(endless)
    doubled: list = [0]
    for _ in range(40):
        doubled = [doubled, doubled]
    for value in (endless, doubled):
        with pytest.raises(NotPlain):
            write(value)
