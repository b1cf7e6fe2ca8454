"""Jobs at the same time: what they return, tell, print and raise; interrupts, deaths, and a parent that goes away."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from r1lib import machine
from r1lib.errors import R1Error
from r1lib.side_by_side import side_by_side

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere jobs run one after the other")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 2)


def until(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_results_come_by_name_and_each_job_has_a_process_with_one_thread() -> None:
    found = side_by_side({name: lambda tell: (os.getpid(), torch.get_num_threads()) for name in "abc"})
    assert list(found) == ["a", "b", "c"] and len({pid for pid, _ in found.values()} | {os.getpid()}) == 4
    assert {threads for _, threads in found.values()} == {1}


def test_a_single_job_stays_here_unless_it_is_to_compute_as_beside_others() -> None:
    def where(_: Callable) -> tuple[int, int]:
        return os.getpid(), torch.get_num_threads()

    assert side_by_side({"a": where})["a"] == where(print)
    pid, threads = side_by_side({"a": where}, apart=True)["a"]
    assert pid != os.getpid() and threads == 1 and side_by_side({}, apart=True) == {}


def test_two_jobs_run_at_the_same_time_and_a_third_waits(tmp_path: Path) -> None:
    def meets(mine: str, other: str) -> Callable:
        def job(tell: Callable) -> bool:
            (tmp_path / mine).touch()
            until((tmp_path / other).exists)
            return (tmp_path / "c").exists()
        return job

    found = side_by_side({"a": meets("a", "b"), "b": meets("b", "a"), "c": lambda tell: (tmp_path / "c").touch()})
    assert found == {"a": False, "b": False, "c": None}


def test_gradients_are_computed_in_a_fork_of_a_process_that_has_computed_some() -> None:
    def gradient(_: Callable) -> torch.Tensor:
        x = torch.arange(90_000.0).view(300, 300).div_(90_000).requires_grad_()
        (x @ x).tanh().sum().backward()
        return x.grad

    here = gradient(print)
    assert all(torch.allclose(there, here, atol=1e-4) for there in side_by_side({"a": gradient, "b": gradient}).values())


def test_what_is_told_and_printed_comes_out_here(capfd: pytest.CaptureFixture) -> None:
    heard: list[tuple[str, int]] = []

    def job(tell: Callable) -> None:
        print("half a line", end="")
        print(", and the rest")
        tell(7)
        print("a warning", file=sys.stderr)

    side_by_side({"a": job, "b": job}, hear=lambda name, message: heard.append((name, message)))
    printed = capfd.readouterr()
    assert sorted(heard) == [("a", 7), ("b", 7)]
    assert printed.out.count("half a line, and the rest\n") == 2 and printed.err.count("a warning\n") == 2


def test_an_error_waits_for_the_others_and_says_where_it_came_from(tmp_path: Path) -> None:
    def fails(tell: Callable) -> None:
        raise ZeroDivisionError("of a job")

    def works(tell: Callable) -> None:
        time.sleep(0.3)
        (tmp_path / "saved").touch()

    with pytest.raises(ZeroDivisionError, match="of a job") as caught:
        side_by_side({"fails": fails, "works": works})
    assert (tmp_path / "saved").exists() and "in fails" in caught.value.__notes__[0]

    class Local(Exception):                                  # cannot be pickled, since no other process could find it
        pass

    def odd(tell: Callable) -> None:
        raise Local("odd one")

    with pytest.raises(RuntimeError, match="odd one"):
        side_by_side({"odd": odd, "works": works})
    with pytest.raises(R1Error) as told:
        side_by_side({"mistake": lambda tell: mistake(), "works": works})
    assert str(told.value) == "of the user" and not hasattr(told.value, "__notes__")


def mistake() -> None:
    raise R1Error("of the user")


def test_a_job_that_is_killed_is_named_and_the_others_end(tmp_path: Path) -> None:
    def dies(tell: Callable) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(R1Error, match=r"^dies: .* \(exit code -9\)"):
        side_by_side({"dies": dies, "works": lambda tell: (tmp_path / "saved").touch()})
    assert (tmp_path / "saved").exists()


def test_an_interrupt_reaches_every_job_once_and_lets_them_save(tmp_path: Path) -> None:
    def job(name: str) -> Callable:
        def work(tell: Callable) -> str:
            try:
                (tmp_path / f"{name} runs").touch()
                time.sleep(30)
            except KeyboardInterrupt:
                time.sleep(0.3)                              # a second interrupt would end this
                (tmp_path / f"{name} saved").touch()
            return name
        return work

    def interrupt() -> None:
        until(lambda: all((tmp_path / f"{name} runs").exists() for name in "ab"))
        os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)                # a shell starts what it sends to the background without
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        side_by_side({name: job(name) for name in "abc"})
    thread.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a runs", "a saved", "b runs", "b saved"]      # c never began


def test_jobs_die_with_their_parent(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import os, time
        from r1lib import machine
        from r1lib.side_by_side import side_by_side
        machine.cores = lambda: 2
        def job(tell):
            open({str(tmp_path)!r} + f"/{{os.getpid()}}", "w").close()
            time.sleep(60)
        side_by_side({{"a": job, "b": job}})
    """)
    parent = subprocess.Popen([sys.executable, "-c", program])
    until(lambda: len(list(tmp_path.iterdir())) == 2)
    parent.kill()
    parent.wait()
    for process in tmp_path.iterdir():
        until(lambda stat=Path("/proc", process.name, "stat"): not stat.exists() or stat.read_text().split()[2] == "Z")


def test_with_one_core_or_in_a_job_the_jobs_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def pids(tell: Callable) -> set[int]:
        return {os.getpid(), *side_by_side({name: lambda tell: os.getpid() for name in "xy"}).values()}

    assert all(len(found) == 1 for found in side_by_side({"a": pids, "b": pids}).values())
    monkeypatch.setattr(machine, "cores", lambda: 1)
    heard: list[tuple[str, str]] = []
    assert set(side_by_side({name: lambda tell: tell("here") or os.getpid() for name in "ab"},
                            hear=lambda *said: heard.append(said)).values()) == {os.getpid()}
    assert heard == [("a", "here"), ("b", "here")]
