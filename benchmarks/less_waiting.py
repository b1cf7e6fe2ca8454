"""Two ways in which evaluations and reports wait less, each beside the ordinary one: seconds, medians of several.

    python benchmarks/less_waiting.py [--repetitions 3] [--json FILE]

Answers: few to each of many prompts, in calls of 64 prompts and all in one, from the base of 3 M parameters.
Kernels: until one has done what a notebook's first cell does, its imports, in a new process and in a fork of one that has done them.
Both ways alternate.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

sys.path.insert(0, str(Path(__file__).parent.parent))

from r1lib import machine, stages, tasks, text  # noqa: E402
from r1lib.policy import Policy  # noqa: E402
from r1lib.report import kernels  # noqa: E402
from r1lib.sampling import SamplingSettings, many  # noqa: E402
from r1lib.sampling.torch import TorchSampler  # noqa: E402

IMPORTS = "import matplotlib.pyplot, torch\nfrom r1lib import evaluation, stages\nfrom r1lib.report import board, live, page"


def answers(prompts_a_call: int, prompts: int, samples: int) -> Callable[[], None]:
    sampler = TorchSampler(Policy.load(stages.base_folder("base-3m")))
    asked = [text.zero_prompt(problem.question) for problem in tasks.stream(["math"], seed=0).batch(0, prompts)]

    def draw() -> None:
        for start in range(0, prompts, prompts_a_call):
            many.answers(sampler, asked[start:start + prompts_a_call], samples, SamplingSettings(160), seed=start)

    return draw


def kernel() -> None:
    NotebookClient(new_notebook(cells=[new_code_cell(IMPORTS)]), kernel_name="python3").execute()


@contextlib.contextmanager
def started() -> Iterator[None]:
    """Forked kernels, once their process has made its first."""
    with kernels.forked():
        kernel()
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers there")
    arguments = parser.parse_args()
    here, nothing = machine.describe(), contextlib.nullcontext
    cases = [(f"answers, {prompts} prompts x {samples}", *((answers(each, prompts, samples), nothing) for each in (64, prompts)))
             for prompts, samples in ((180, 1), (180, 2), (448, 4), (1280, 1))]
    cases.append(("a kernel and its imports", (kernel, nothing), (kernel, started)))

    records = []
    print(f"{here}\n\n{'':28} {'ordinary, s':>22} {'ours, s':>22} {'ratio':>6}", flush=True)
    for what, *ways in cases:
        times: list[list[float]] = [[], []]
        for _ in range(arguments.repetitions):
            for (work, around), seconds in zip(ways, times, strict=True):
                with around():
                    start = time.perf_counter()
                    work()
                    seconds.append(time.perf_counter() - start)
        ordinary, ours = (statistics.median(seconds) for seconds in times)
        shown = [f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})" for seconds in times]
        print(f"{what:28} {shown[0]:>22} {shown[1]:>22} {ordinary / ours:6.1f}", flush=True)
        records.append({"what": what, "ordinary": times[0], "ours": times[1], "ratio": ordinary / ours, "unit": "s",
                        "machine": f"{here.cpu}, {here.cores} cores"})
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
