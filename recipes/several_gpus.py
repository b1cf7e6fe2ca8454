"""The same training on one GPU and on several of the same host: how much faster is a step, and is it the same training?

    python recipes/several_gpus.py --out results/h200                          # on two GPUs
    python recipes/several_gpus.py --out results/h200 --only ours base-3m      # the runs whose name holds all of these words

Ours is started as `python -m r1lib run`, with torchrun in front of it for several GPUs; TRL by the launch files of this folder.
several_gpus.csv gets a line a step; several_gpus.json the commands, the machine, and what failed and how; several_gpus.md is made of both.
smollm2-135m is the base that `python -m r1lib prepare --documents 20000` makes. random-0.5b has the shape of Qwen2.5-0.5B, random weights
and a reward by lot, so that every answer is learnt from; its processes say at the end whether they have the same weights.
"""

import argparse
import csv
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PARTS = ("seconds", "sample", "judge", "learn")
COLUMNS = ("engine", "model", "gpus", "step", "reward", "length", *PARTS)
WARM_UP = 4                             # steps in which kernels are compiled and decoding is recorded; the medians leave them out
RANDOM = "random-0.5b"
EVERY = dict(samples_per_prompt=16, precision="bfloat16", evaluate_every=10_000, checkpoint_every=10_000)
RUNS = {                                # (engine, model): the recipe's settings
    ("ours", "base-3m"): dict(steps=24, prompts_per_step=256, max_new_tokens=160, learning_rate=2e-4, tokens_per_micro_batch=65_536),
    ("ours", "smollm2-135m"): dict(steps=14, prompts_per_step=128, max_new_tokens=256, learning_rate=5e-5, tokens_per_micro_batch=32_768),
    ("ours", RANDOM): dict(steps=9, prompts_per_step=64, max_new_tokens=512, learning_rate=1e-6, tokens_per_micro_batch=32_768),
    ("trl-ddp", "base-3m"): dict(steps=8, prompts_per_step=32, max_new_tokens=128, learning_rate=2e-4, tokens_per_micro_batch=65_536),
    ("trl-fsdp", "base-3m"): dict(steps=8, prompts_per_step=32, max_new_tokens=128, learning_rate=2e-4, tokens_per_micro_batch=65_536),
    ("trl-fsdp", "smollm2-135m"): dict(steps=6, prompts_per_step=32, max_new_tokens=128, learning_rate=5e-5,
                                       tokens_per_micro_batch=32_768),
}


# ------------------------------------------------------------------------------------------------------------------------------------------
# One run

def command(engine: str, model: str, gpus: int, folder: Path) -> list[str]:
    """What a user types for it."""
    settings = EVERY | RUNS[engine, model]
    if engine != "ours":
        launch = ["accelerate", "launch", "--config_file", f"recipes/{engine.removeprefix('trl-')}.yaml", "--num_processes", str(gpus)]
        return [*(launch if gpus > 1 else ["python"]), "recipes/grpo.py", "--base", model, "--folder", str(folder),
                "--set", json.dumps(settings)]
    start = ["torchrun", "--nproc-per-node", str(gpus)] if gpus > 1 else ["python"]
    if model == RANDOM:
        return [*start, "recipes/several_gpus.py", "--out", str(folder), "--one", json.dumps(settings)]
    return [*start, "-m", "r1lib", "run", "--profile", "gpu+miniature", "--base", model, "--folder", str(folder),
            "--set", *(f"{name}={value}" for name, value in settings.items())]


def train_by_lot(folder: Path, settings: dict) -> None:
    """Train the random model, in this process and its siblings."""
    import torch

    from benchmarks import workload
    from r1lib import tasks
    from r1lib.rewards import RewardMix
    from r1lib.sampling.torch import TorchSampler
    from r1lib.training import grpo, parallel
    from r1lib.training.metrics import Progress

    with parallel.joined("cuda") as processes:
        processes.of_first(lambda: str(workload.model_folder("0.5b")))
        policy = workload.load("0.5b", "cuda")
        grpo.train(policy, sampler=TorchSampler(policy, dtype=torch.bfloat16), problems=tasks.stream(["math", "logic"], seed=0),
                   reward=RewardMix({"coin": workload.coin}), recipe=grpo.GRPORecipe.from_settings(settings), folder=folder, seed=0,
                   watchers=[Progress(5)], processes=processes)
        weights = [weight.detach().cpu().numpy().tobytes() for weight in policy.model.parameters()]
        found = processes.of_all(lambda: hashlib.sha256(b"".join(weights)).hexdigest())
        print(f"WEIGHTS {len(set(found))} different in {len(found)} processes", flush=True)


def steps(folder: Path, engine: str, model: str, gpus: int) -> list[dict]:
    """The lines of the table that a run has left, whole or broken off."""
    from r1lib.training.metrics import MetricsLog

    rows = MetricsLog(folder / "metrics.jsonl").rows()
    taken = dict(zip(PARTS, ("step_time", "time/sample", "time/reward", "time/learn"), strict=True))
    return [{"engine": engine, "model": model, "gpus": gpus, "step": row["step"], "reward": round(row["reward"], 4),
             "length": round(row["completions/mean_length"], 2),
             **{part: round(row[name], 3) if name in row else "" for part, name in taken.items()}} for row in rows if "reward" in row]


# ------------------------------------------------------------------------------------------------------------------------------------------
# All of them

def report(table: list[dict], about: dict) -> str:
    """Medians of the steps behind the first `WARM_UP`, as Markdown, each beside the run with the fewest GPUs."""
    titles = ("engine", "model", "answers a step", "GPUs", "seconds a step", "sample", "judge", "learn", "answer tokens/s", "times faster",
              "reward of step 0", "mean reward", "rewards apart at most")
    said = [titles, ("---",) * len(titles)]
    for engine, model in RUNS:
        settings = EVERY | RUNS[engine, model]
        answers = settings["prompts_per_step"] * settings["samples_per_prompt"]
        runs: dict[int, list[dict]] = {}
        for row in sorted((row for row in table if (row["engine"], row["model"]) == (engine, model)), key=lambda row: int(row["gpus"])):
            runs.setdefault(int(row["gpus"]), []).append(row)
        fewest = next(iter(runs.values()), [])
        for gpus, rows in runs.items():
            taken = {part: [float(row[part]) for row in rows[WARM_UP:] if row[part] != ""] for part in PARTS}
            median = {part: statistics.median(values) if values else None for part, values in taken.items()}
            rate = statistics.median(answers * float(row["length"]) / float(row["seconds"]) for row in rows[WARM_UP:])
            before = statistics.median(float(row["seconds"]) for row in fewest[WARM_UP:])
            apart = max(abs(float(row["reward"]) - float(other["reward"])) for row, other in zip(rows, fewest, strict=True))
            beside = ("", "") if rows is fewest else (f"{before / median['seconds']:.2f}", f"{apart:.3f}")
            said.append((engine, model, f"{settings['prompts_per_step']} x {settings['samples_per_prompt']}", str(gpus),
                         *("" if value is None else f"{value:.2f}" for value in median.values()), f"{rate:,.0f}", beside[0],
                         f"{float(rows[0]['reward']):.4f}", f"{statistics.fmean(float(row['reward']) for row in rows):.4f}", beside[1]))
    failed = [f"- {name} failed (exit {run['exit']}): {run['error']}" for name, run in about["runs"].items() if run["exit"]]
    weights = [f"- {name}: weights at the end: {run['weights']}" for name, run in about["runs"].items() if run["weights"]]
    return "\n".join(["# Several GPUs of a host", "", f"`{about['command']}`, seed 0, on", "",
                      *(f"    {line}" for line in about["machine"]), "",
                      *(f"| {' | '.join(row)} |" for row in said), "", *weights, *failed]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--seconds", type=float, default=240.0, help="for one run")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    job = parser.parse_args()
    if job.one:
        train_by_lot(job.out, json.loads(job.one))
        return

    from r1lib import machine

    job.out.mkdir(parents=True, exist_ok=True)
    kept, csv_file = job.out / "several_gpus.json", job.out / "several_gpus.csv"
    about = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {"runs": {}}
    unsafe = "R1_UNSAFE_SANDBOX=1 " if os.environ.get("R1_UNSAFE_SANDBOX") else ""          # part of what was timed
    about |= {"command": f"{unsafe}python recipes/several_gpus.py --out results/h200", "machine": str(machine.describe()).splitlines()}
    table = list(csv.DictReader(csv_file.open(encoding="utf-8"))) if csv_file.exists() else []
    for engine, model in RUNS:
        for gpus in job.gpus:
            name = f"{engine} {model} {gpus}"
            if not all(word in name for word in job.only) or (engine == "trl-fsdp" and gpus == 1):
                continue
            folder = Path(tempfile.mkdtemp(prefix="r1lib-")) / "run"
            typed, log = command(engine, model, gpus, folder), job.out / f"{name.replace(' ', '-')}.log"
            with log.open("w") as file:                     # `timeout` asks torchrun to end, which then ends what it has started
                code = subprocess.run(["timeout", "--kill-after", "40", str(job.seconds), *typed], cwd=ROOT, stdout=file,
                                      stderr=subprocess.STDOUT,
                                      env={**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus)))}).returncode
            lines = log.read_text(errors="replace").splitlines()
            about["runs"][name] = {
                "command": " ".join(typed).replace(str(folder), "FOLDER"), "exit": code, "error": lines[-12:] if code else "",
                "weights": next((line.removeprefix("WEIGHTS ") for line in lines if line.startswith("WEIGHTS ")), "")}
            table = [row for row in table if (row["engine"], row["model"], str(row["gpus"])) != (engine, model, str(gpus))]
            table += steps(folder, engine, model, gpus)
            kept.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
            with csv_file.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(table)
            (job.out / "several_gpus.md").write_text(report(table, about), encoding="utf-8")
            print(name, code, f"{len(steps(folder, engine, model, gpus))} steps", flush=True)


if __name__ == "__main__":
    main()
