"""Our engine beside its peers, on the machine that this runs on.

    python -m benchmarks cpu                        # make bench: transformers and TRL on two cores, a quarter of an hour
    python -m benchmarks h200                       # on a GPU, with what requirements-gpu names: vLLM, TRL with and without vLLM
    python -m benchmarks h200 --only ours rollout   # the jobs whose name holds all of these words
    python -m benchmarks growth                     # ours alone over batch, length and model: growth.py
    python -m benchmarks table                      # benchmarks/README.md anew, from what lies in results/

Each measurement runs in a process of its own (`measure.py`), ours and its peer one after the other, on the same weights and prompts.
Medians and raw numbers go to results/<machine>.json, a list of {what, model, batch, ours, peer, peer_name, ratio, unit, machine, ...}.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from benchmarks import growth, roofline, table, workload

RESULTS = Path(__file__).parent / "results"
Record = dict[str, Any]

# name of the job -> (what, model, prompts x samples, further options, the peers)
_MINIATURE = ["--natural", "--tokens", "256"]
_GPU = ["--device", "cuda", "--dtype", "bfloat16"]
JOBS: dict[str, list[tuple[str, str, tuple[int, int], list[str], tuple[str, ...]]]] = {
    "cpu": [
        ("rollout", "base-3m", (16, 8), _MINIATURE, ("generate",)),
        ("rollout", "base-3m", (32, 16), _MINIATURE, ("generate",)),
        ("rollout", "base-3m", (32, 16), ["--tokens", "64"], ("generate",)),
        ("step", "base-3m", (16, 8), _MINIATURE, ("trl", "trl --peer-batch 32")),
        ("step", "base-3m", (16, 8), [*_MINIATURE, "--precision", "bfloat16"], ("trl --peer-batch 32", "trl --peer-batch 32 --peer-bf16")),
    ],
    "h200": [
        ("rollout", "base-3m", (64, 8), [*_GPU, "--natural", "--tokens", "128"], ("vllm",)),
        ("rollout", "base-3m", (64, 16), [*_GPU, "--natural", "--tokens", "128"], ("vllm",)),
        ("rollout", "base-3m", (64, 32), [*_GPU, "--natural", "--tokens", "128"], ("vllm",)),
        ("rollout", "base-3m", (128, 32), [*_GPU, "--natural", "--tokens", "128"], ("vllm",)),
        ("rollout", "0.5b", (64, 8), [*_GPU, "--tokens", "256"], ("vllm",)),
        ("step", "base-3m", (64, 16), [*_GPU, "--natural", "--tokens", "128", "--micro-batch", "65536", "--repetitions", "4"],
         ("trl+vllm", "trl")),
        ("step", "0.5b", (64, 8), [*_GPU, "--natural", "--tokens", "256", "--micro-batch", "32768", "--repetitions", "2"],
         ("trl+vllm --peer-batch 64",)),
        ("step", "1.5b", (16, 16), [*_GPU, "--natural", "--tokens", "1024", "--micro-batch", "16384", "--repetitions", "2"], ()),
    ],
}


def measure(what: str, engine: str, model: str, shape: tuple[int, int], options: list[str]) -> dict[str, Any]:
    """One measurement in a process of its own; {"error": its last words} when it fails."""
    name, *more = engine.split()
    command = [sys.executable, "-m", "benchmarks.measure", what, name, "--model", model, "--prompts", str(shape[0]),
               "--samples", str(shape[1]), *options, *more]
    print("  ".join(["", *command[3:]]), flush=True)
    ran = subprocess.run(command, capture_output=True, text=True)
    found = [line for line in ran.stdout.splitlines() if line.startswith("RESULT ")]
    if found:
        return json.loads(found[-1].removeprefix("RESULT "))
    error = "\n".join((ran.stdout + ran.stderr).strip().splitlines()[-12:])
    print(error, flush=True)
    return {"error": error.splitlines()[-1] if error else f"exit status {ran.returncode}"}


def rate(what: str, measured: dict[str, Any]) -> float:
    """Tokens/s of a rollout; seconds of a step."""
    seconds = statistics.median(measured["seconds"])
    return round(seconds, 3) if what == "step" else round(statistics.median(measured["tokens"]) / seconds)


def record(what: str, model: str, shape: tuple[int, int], options: list[str], ours: dict[str, Any], name: str,
           peer: dict[str, Any]) -> Record:
    """Ours beside a peer. ratio: how many times faster ours is, per token where answers ended by themselves."""
    made: Record = {"what": what, "model": model, "batch": f"{shape[0]} x {shape[1]}", "options": " ".join(options),
                    "ours": rate(what, ours), "peer": None, "peer_name": name, "ratio": None,
                    "unit": "s" if what == "step" else "tokens/s",
                    "machine": workload.machine_name("cuda" if "cuda" in options else "cpu"), "ours_raw": ours}
    if name and "error" not in peer:
        # Answers that end by themselves differ in length from engine to engine, so what is compared is time for a token.
        speeds = [statistics.median(one["tokens"]) / statistics.median(one["seconds"]) for one in (ours, peer)]
        made |= {"peer": rate(what, peer), "ratio": round(speeds[0] / speeds[1], 2), "peer_raw": peer}
    elif name:
        made["error"] = peer["error"]
    return made


def shares(what: str, model: str, shape: tuple[int, int], options: list[str], ours: dict[str, Any]) -> Record:
    """The share of the machine's limit that our decoding and our training reach, from operations and bytes."""
    value = {option: options[options.index(option) + 1] for option in ("--device", "--dtype", "--tokens") if option in options}
    device, dtype = value.get("--device", "cpu"), getattr(torch, value.get("--dtype", "float32"))
    limits = roofline.ceilings(device, dtype)
    config, rows = AutoConfig.from_pretrained(workload.model_folder(model)), shape[0] * shape[1]
    length = round(statistics.median(ours["tokens"]) / rows)                   # of an answer, on average
    prompt = 64
    seconds = statistics.median(ours["seconds"])
    sampling = roofline.decoding(config, rows, prompt, length, dtype.itemsize).seconds(limits)
    made = {"arithmetic": limits.arithmetic, "bandwidth": limits.bandwidth, "decode": round(sampling / ours.get("sample", seconds), 4)}
    if what == "step":
        made["train"] = round(roofline.training(config, rows, shape[0], prompt, length).seconds(limits) / ours["learn"], 4)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("machine", choices=[*JOBS, "growth", "table"])
    parser.add_argument("--only", nargs="+", default=[])
    options = parser.parse_args()
    if options.machine == "growth":
        growth.main(options.only)
    elif options.machine != "table":
        file = RESULTS / f"{options.machine}.json"
        kept: list[Record] = json.loads(file.read_text(encoding="utf-8")) if file.exists() and options.only else []
        for what, model, shape, more, peers in JOBS[options.machine]:
            if not all(word in f"{what} {model} {' '.join([*more, *peers])}" for word in options.only):
                continue
            ours = measure(what, "ours", model, shape, more)
            if "error" in ours:
                raise SystemExit(f"ours failed at {what} {model}: {ours['error']}")
            share = shares(what, model, shape, more, ours)
            for peer in peers or ("",):
                theirs = measure(what, peer, model, shape, more) if peer else {}
                made = record(what, model, shape, more, ours, peer, theirs) | {"share": share}
                kept = [old for old in kept if [old[key] for key in ("what", "model", "batch", "options", "peer_name")]
                        != [made[key] for key in ("what", "model", "batch", "options", "peer_name")]] + [made]
                print(f"{what} {model} {made['batch']}: ours {made['ours']} {made['unit']}, {peer} {made['peer']}, ratio {made['ratio']}",
                      flush=True)
                RESULTS.mkdir(exist_ok=True)
                file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    table.write()


if __name__ == "__main__":
    main()
