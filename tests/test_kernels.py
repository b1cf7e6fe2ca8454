"""Kernels that are forks of one process: each is on its own, starts with what is imported, and outlives nobody who needs it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from jupyter_client.provisioning import KernelProvisionerFactory
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_notebook

from r1lib.report import kernels

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")


@pytest.fixture(scope="module", autouse=True)
def forked() -> Iterator[None]:
    others = set(psutil.Process().children(recursive=True))
    with kernels.forked():
        yield
        children = set(psutil.Process().children(recursive=True)) - others
    psutil.wait_procs(children, timeout=20)
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert KernelProvisionerFactory.instance().default_provisioner_name == "local-provisioner"


def said(*cells: str, folder: Path | None = None) -> list[nbformat.NotebookNode]:
    """The first output of each cell."""
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, kernel_name="python3", timeout=60, resources={"metadata": {"path": str(folder)}} if folder else {}).execute()
    return [cell.outputs[0] for cell in notebook.cells]


def test_a_kernel_starts_with_what_notebooks_import() -> None:
    (there,) = said("import sys; print({'torch', 'transformers', 'matplotlib.pyplot', 'r1lib.stages'} <= set(sys.modules))")
    assert there.text == "True\n"


def test_each_kernel_is_a_process_of_its_own() -> None:
    (first,), (second,) = (said("import os, torch; torch.mine = hasattr(torch, 'mine'); print(os.getpid(), os.getsid(0), torch.mine)")
                           for _ in range(2))
    (one, session, _), (other, _, marked) = first.text.split(), second.text.split()
    assert one == session != other and marked == "False"
    assert kernels.asked_for[-2:] == [int(one), int(other)]


def test_a_kernel_has_the_environment_and_the_folder_of_whoever_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asking = "import os, torch; print(torch.get_num_threads(), os.environ.get('COLOUR'), os.getcwd())"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLOUR", "red")
    (one,) = said(asking, folder=tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("COLOUR")
    (other,) = said(asking, folder=tmp_path)
    assert one.text.split() == ["1", "red", str(tmp_path)]
    assert other.text.split()[:2] == ["3", "None"]


def test_figures_subprocesses_and_printing_work() -> None:
    figure, process, error = said("import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()",
                                  "import subprocess; print(subprocess.run(['false']).returncode)",
                                  "import sys; print('a warning', file=sys.stderr)")
    assert "image/png" in figure.data
    assert process.text == "1\n"                                   # a process that ignored its children's ends could not tell
    assert (error.name, error.text) == ("stderr", "a warning\n")


def test_an_interrupt_reaches_the_cell() -> None:
    (caught,) = said("import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(20)\n"
                     "except KeyboardInterrupt:\n    print('stopped')")
    assert caught.text == "stopped\n"


def test_a_kernel_that_dies_is_noticed() -> None:
    with pytest.raises(DeadKernelError):
        said("import os; os._exit(3)")
    assert said("print(1)")[0].text == "1\n"                       # and the next one starts


def test_a_kernel_dies_with_whoever_asked_for_it() -> None:
    asking = ("import sys, time\nfrom r1lib.report import kernels\n"
              "fork = kernels._Fork(['--log-level=ERROR'], {}, '/')\nprint(fork.pid, flush=True)\ntime.sleep(60)")
    process = subprocess.Popen([sys.executable, "-c", asking], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    kernel = psutil.Process(int(process.stdout.readline()))
    assert kernel.is_running()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 20
    while kernel.is_running() and kernel.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the kernel lives on"
        time.sleep(0.1)
