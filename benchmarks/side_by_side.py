"""Two jobs of the miniature one after the other, each on all cores, and side by side, each on one: seconds, medians of several.

    python benchmarks/side_by_side.py [--repetitions 3] [--json FILE]

The jobs are what profile cpu does, cut short, from the base of 3 M parameters: R1-Zero's RL, V3's fine-tuning, the held-out problems of
math. Both ways alternate. The jobs themselves are the same: only seeds differ.
"""

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from r1lib import evaluation, machine, stages, tasks  # noqa: E402
from r1lib.policy import Policy  # noqa: E402
from r1lib.sampling import SamplingSettings  # noqa: E402
from r1lib.sampling.torch import TorchSampler  # noqa: E402
from r1lib.side_by_side import side_by_side  # noqa: E402

SHORT = {"zero": {"steps": 3, "evaluate_every": 100}, "v3": {"examples": 256, "epochs": 1}}


def train(name: str, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        stages.run(name, profile="cpu", seed=seed, settings=SHORT[name], folder=Path(folder) / name)


def ask(seed: int) -> None:
    evaluation.evaluate(TorchSampler(Policy.load(stages.base_folder("base-3m"))), tasks.evaluation_set("math"), samples=4,
                        settings=SamplingSettings(max_new_tokens=160), seed=seed)


JOBS = {"RL, 3 steps of 20 x 16": partial(train, "zero"), "fine-tuning, 256 examples": partial(train, "v3"),
        "evaluation, 180 problems x 4": ask}


def one_after_the_other(job: Callable[[int], None]) -> float:
    started = time.perf_counter()
    for seed in (0, 1):
        job(seed)
    return time.perf_counter() - started


def at_the_same_time(job: Callable[[int], None]) -> float:
    started = time.perf_counter()
    side_by_side({str(seed): lambda tell, seed=seed: job(seed) for seed in (0, 1)})
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers there")
    arguments = parser.parse_args()

    here, records = machine.describe(), []
    print(f"{here}\n\n{'two of':32} {'one by one, s':>22} {'side by side, s':>22} {'ratio':>6}", flush=True)
    for what, job in JOBS.items():
        times: dict[str, list[float]] = {"one by one": [], "side by side": []}
        for _ in range(arguments.repetitions):
            times["one by one"].append(one_after_the_other(job))
            times["side by side"].append(at_the_same_time(job))
        medians = [statistics.median(seconds) for seconds in times.values()]
        shown = [f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})" for seconds in times.values()]
        print(f"{what:32} {shown[0]:>22} {shown[1]:>22} {medians[0] / medians[1]:6.2f}", flush=True)
        records.append({"what": what, **times, "ratio": medians[0] / medians[1], "unit": "s for two", "machine": f"{here.cpu}, "
                        f"{here.cores} cores"})
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
