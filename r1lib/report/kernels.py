"""Kernels that are ready at once: forks of one process that has imported what notebooks import.

    with kernels.forked():
        papermill.execute_notebook(...)

Torch, transformers and matplotlib take five seconds to import, and fourteen notebooks would do so one after the other. So one process does
it for all, and each notebook still gets a kernel, memory and environment of its own. Where a GPU is used, or on another system than Linux,
there is no safe fork: there jupyter starts kernels as it always does.

A kernel and whoever asked for it hold the two ends of a line, on which nothing is said any more. When one end is closed the other knows
that its owner has died.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, NoReturn

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from r1lib.errors import R1Error

_NAME = "r1lib-forked"
_ADDRESS = "R1_KERNELS"         # names the socket to whoever asks for a kernel, which may be a fork of the process that opened it
_IMPORTED = ("ipykernel.kernelapp", "matplotlib.pyplot", "ipywidgets", "transformers.models.qwen2.modeling_qwen2", "r1lib.stages",
             "r1lib.comparisons", "r1lib.distillation", "r1lib.doctor", "r1lib.report.ledger", "r1lib.report.live", "r1lib.report.pipeline",
             "r1lib.report.rollouts")

asked_for: list[int] = []       # the kernels, by process id, that this process has had forked


# ------------------------------------------------------------------------------------------------------------------------------------------
# Who asks for kernels

@contextlib.contextmanager
def forked() -> Iterator[None]:
    """While this is open, kernels that are started without another provisioner are forks of one process. For Linux, and for CPUs."""
    factory = KernelProvisionerFactory.instance()
    factory.provisioners[_NAME] = EntryPoint(_NAME, f"{__name__}:{ForkedKernel.__name__}", factory.GROUP_NAME)
    before = factory.default_provisioner_name
    with tempfile.TemporaryDirectory(prefix="r1lib-") as folder:
        address = str(Path(folder) / "kernels")
        server = socket.socket(socket.AF_UNIX)
        server.bind(address)
        server.listen()
        # Its standard input is never written to: it ends with this process.
        parent = subprocess.Popen([sys.executable, "-P", "-m", __name__, str(server.fileno())], stdin=subprocess.PIPE,
                                  pass_fds=[server.fileno()], start_new_session=True)
        server.close()
        os.environ[_ADDRESS], factory.default_provisioner_name = address, _NAME
        try:
            yield
        finally:
            factory.default_provisioner_name = before
            del os.environ[_ADDRESS]
            parent.kill()
            parent.communicate()


class ForkedKernel(LocalProvisioner):
    """jupyter's way to a kernel on this machine, with a fork for a new process."""

    async def launch_kernel(self, cmd: list[str], **settings: Any) -> dict[str, Any]:
        self.process = _Fork(cmd[cmd.index("ipykernel_launcher") + 1:], settings["env"], settings.get("cwd", os.getcwd()))
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class _Fork:
    """A kernel, with the part of `subprocess.Popen` that jupyter uses. How it ended is not known: its exit code is always 1."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], folder: str) -> None:
        self._line = socket.socket(socket.AF_UNIX)
        try:
            self._line.connect(os.environ[_ADDRESS])
            asked = {"arguments": list(arguments), "environment": dict(environment), "folder": str(folder)}
            self._line.sendall(json.dumps(asked).encode() + b"\n")
            self.pid = int(self._line.makefile().readline())
        except (OSError, ValueError):
            raise R1Error("no kernel: the process that kernels are forked from has ended; what it said stands above.") from None
        asked_for.append(self.pid)

    def poll(self) -> int | None:
        try:
            self._line.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except ConnectionError:
            pass
        return 1

    def wait(self) -> int:
        self._line.close()
        return 1

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# ------------------------------------------------------------------------------------------------------------------------------------------
# The process that is forked

def _serve(server: socket.socket) -> None:
    """Import, then fork a kernel for each that asks. It starts no thread: a fork would lose it, with the locks that it holds."""
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"      # read by matplotlib when it is imported,
    os.environ["JPY_PARENT_PID"] = str(os.getpid())                             # and this by ipykernel: whose child a kernel is
    for name in _IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)                               # nobody waits for kernels that have ended
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)      # OpenBLAS's, which mind a fork
    while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
        line, _ = server.accept()
        asked = json.loads(line.makefile().readline())
        if os.fork() == 0:
            server.close()
            _become_a_kernel(line, **asked)
        line.close()


def _become_a_kernel(line: socket.socket, arguments: list[str], environment: dict[str, str], folder: str) -> NoReturn:
    import torch
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if threads := environment.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))                                     # torch has read the variable long ago
    line.sendall(f"{os.getpid()}\n".encode())
    threading.Thread(target=_end_with_line, args=[line], daemon=True).start()
    try:
        IPKernelApp.launch_instance(argv=arguments)
    finally:
        os._exit(0)


def _end_with_line(line: socket.socket) -> None:
    line.recv(1)
    os._exit(1)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
