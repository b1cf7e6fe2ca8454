"""Every trainer on the same task from the same start: does the reward rise, and how long does a step take?

    python recipes/backends.py --out results/h200                                     # on a GPU with requirements-gpu.txt
    python recipes/backends.py --out results/h200 --backends ours+server trl+server   # beside recipes/vllm_server.sh on another GPU
    python recipes/backends.py --out /tmp/try --device cpu --model base-0.4m --steps 2 --prompts 4 --backends ours trl

Each runs in a process of its own, for at most --seconds. backends.csv gets a line a step: backend, model, step, reward, seconds, and
backends.json what else there is to know: held-out accuracy before and after with its interval, versions, the command, what failed and how.
"""

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

ALONE = ("ours", "trl", "ours+vllm", "trl+vllm", "unsloth", "qlora")
BACKENDS = (*ALONE, "ours+server", "trl+server")


def one(job: argparse.Namespace) -> dict:
    """Train by one backend; metrics.jsonl lies in the folder, the accuracies are returned."""
    backend, _, rollouts = job.one.partition("+")
    rollouts = job.server if rollouts == "server" else rollouts
    low_rank = backend in ("unsloth", "qlora")
    if low_rank:
        import unsloth  # noqa: F401        before everything that it changes
    from r1lib import evaluation, machine, rewards, stages, tasks
    from r1lib.policy import Policy
    from r1lib.sampling import SamplingSettings, vllm
    from r1lib.sampling.torch import TorchSampler
    from r1lib.training import grpo, trl
    from r1lib.training import unsloth as lora
    from r1lib.training.metrics import Progress

    precision = job.precision if job.device == "cuda" else "float32"
    rate = job.learning_rate * (job.lora_factor if low_rank else 1)          # LoRA bears, and needs, larger steps
    recipe = grpo.GRPORecipe(steps=job.steps, prompts_per_step=job.prompts, samples_per_prompt=16, max_new_tokens=128, learning_rate=rate,
                             evaluate_every=10_000, checkpoint_every=10_000, tokens_per_micro_batch=65_536, precision=precision)
    policy = Policy.load(stages.base_folder(job.model), device=job.device)
    sampler, problems = TorchSampler(policy), tasks.evaluation_set("math")

    def accuracy() -> dict:
        made = evaluation.evaluate(sampler, problems, samples=4, settings=SamplingSettings(128), seed=0)
        return evaluation.bootstrap({"pass@1": made.measures()["pass@1"]})["pass@1"]

    before, started = accuracy(), time.perf_counter()
    task = dict(problems=tasks.stream(["math"], seed=0), reward=rewards.mix(), recipe=recipe, folder=job.folder, seed=0,
                watchers=[Progress(20)])
    if backend == "ours":
        with vllm.sampler_of(rollouts, policy) if rollouts else contextlib.nullcontext(sampler) as drawing:
            grpo.train(policy, sampler=drawing, **task)
    elif backend == "trl":
        trl.train(policy, rollouts=rollouts or "generate", **task)
    else:
        lora.train(policy, lora=lora.LoRA(four_bit=backend == "qlora"), **task)
    seconds = time.perf_counter() - started
    return {"before": before, "after": accuracy(), "seconds": round(seconds, 1), "learning_rate": rate, "machine": str(machine.describe())}


def steps(folder: Path, backend: str, model: str) -> list[dict]:
    """The lines of the table that a run has left, whole or broken off."""
    from r1lib.training.metrics import MetricsLog

    return [{"backend": backend, "model": model, "step": row["step"], "reward": round(row["reward"], 4),
             "seconds": round(row["step_time"], 3)} for row in MetricsLog(folder / "metrics.jsonl").rows() if "reward" in row]


def versions() -> dict[str, str]:
    from r1lib.doctor import packages

    return {package.name: package.installed for package in packages(ROOT / "requirements-gpu.txt")}


def switches() -> str:
    """What Unsloth was told by the environment, as it is typed in front of the command."""
    return "".join(f"{name}={os.environ[name]} " for name in ("UNSLOTH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE") if name in os.environ)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backends", nargs="+", default=list(ALONE), choices=BACKENDS)
    parser.add_argument("--server", default="http://localhost:8000", help="of vLLM, for the backends that end in +server")
    parser.add_argument("--model", default="base-3m")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--lora-factor", type=float, default=10.0)
    parser.add_argument("--precision", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--seconds", type=float, default=240.0, help="for one backend")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    job = parser.parse_args()
    if job.one:
        print("RESULT " + json.dumps(one(job)), flush=True)
        return
    job.out.mkdir(parents=True, exist_ok=True)
    about = job.out / "backends.json"
    found = json.loads(about.read_text()) if about.exists() else {}
    table = job.out / "backends.csv"
    lines = list(csv.DictReader(table.open())) if table.exists() else []
    for backend in job.backends:
        folder = Path(tempfile.mkdtemp(prefix=f"r1lib-{backend}-")) / "run"
        command = [sys.executable, __file__, *sys.argv[1:], "--one", backend, "--folder", str(folder)]
        log = job.out / f"{backend.replace('+', '-')}.log"
        with log.open("w") as file:
            try:
                code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=job.seconds).returncode
            except subprocess.TimeoutExpired:
                code = "time-out"
        said = log.read_text(errors="replace").splitlines()
        result = next((json.loads(line.removeprefix("RESULT ")) for line in said if line.startswith("RESULT ")), {"error": said[-8:]})
        found[backend] = {**result, "exit": code, "versions": versions(),
                          "command": f"{switches()}python recipes/backends.py --out results/h200 --backends {backend} --steps {job.steps} "
                                     f"--prompts {job.prompts} --precision {job.precision} --seconds {job.seconds:g}"}
        lines = [line for line in lines if line["backend"] != backend] + steps(folder, backend, job.model)
        about.write_text(json.dumps(found, indent=1) + "\n")
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["backend", "model", "step", "reward", "seconds"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
        print(backend, code, result.get("before"), result.get("after"), result.get("error", ""), flush=True)


if __name__ == "__main__":
    main()
