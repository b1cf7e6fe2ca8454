"""The sampler with its kernels and with torch's operations alone: tokens/s, medians of several.

    python benchmarks/sampler_kernels.py [--repetitions 5]     # on a GPU if there is one: results/kernels-cuda.json, otherwise -cpu

The kernels are those of sampling/triton.py on a GPU, in bfloat16, and of sampling/native.py on a CPU, in float32. The same weights, prompts
and draws. Answers end by themselves, with at most so many tokens, or all have as many. The first two calls of each, which compile and, on a
GPU, record, are not counted.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import workload  # noqa: E402
from r1lib.sampling import SamplingSettings  # noqa: E402
from r1lib.sampling import torch as sampler  # noqa: E402

CASES = {
    "cuda": [("base-3m", 64, 8, 128, True), ("base-3m", 64, 16, 128, True), ("base-3m", 64, 32, 128, True),
             ("base-3m", 128, 32, 128, True), ("base-3m", 4, 16, 4096, False), ("135m", 64, 16, 256, False), ("0.5b", 64, 8, 256, False),
             ("0.5b", 4, 16, 1024, False), ("1.5b", 16, 16, 256, False)],
    "cpu": [("base-3m", 16, 8, 256, True), ("base-3m", 32, 16, 256, True), ("base-3m", 180, 1, 256, True), ("base-3m", 2, 4, 256, True),
            ("base-3m", 4, 16, 512, False), ("base-0.4m", 16, 8, 256, True)]}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RESULTS = Path(__file__).parent / "results" / f"kernels-{DEVICE}.json"


def rate(model: str, prompts: int, samples: int, tokens: int, ends: bool, repetitions: int, *, with_kernels: bool) -> list[float]:
    """Tokens/s of each repetition."""
    policy = workload.load(model, DEVICE, torch.bfloat16 if DEVICE == "cuda" else torch.float32, endless=not ends)
    asked, drawn = workload.prompts(prompts), []
    policy.model.config.max_position_embeddings = 16_384          # rotary angles know no limit; the miniature was made for 1,024
    with mock.patch.object(sampler, "_kernels", sampler._kernels if with_kernels else lambda *_: None):
        ours = sampler.TorchSampler(policy)

        def run(repetition: int) -> None:
            rollouts = ours.sample(asked, samples, SamplingSettings(tokens), seed=repetition)
            drawn.append(sum(len(rollout.ids) for rollout in rollouts))

        run(-1)                                                   # compiles; the next one records, and `timed` leaves it out
        seconds = workload.timed(run, repetitions)
    return [tokens / took for tokens, took in zip(drawn[2:], seconds, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    records = []
    name = workload.machine_name(DEVICE)
    print(f"{name}, tokens/s\n{'':32} {'torch':>28} {'kernels':>28} {'ratio':>6}", flush=True)
    for model, prompts, samples, tokens, ends in CASES[DEVICE]:
        plain, kernels = (rate(model, prompts, samples, tokens, ends, arguments.repetitions, with_kernels=on) for on in (False, True))
        case = f"{model}, {prompts} x {samples}, {'up to ' if ends else ''}{tokens:,}"
        ratio = statistics.median(kernels) / statistics.median(plain)
        shown = [f"{statistics.median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f})" for found in (plain, kernels)]
        print(f"{case:32} {shown[0]:>28} {shown[1]:>28} {ratio:6.2f}", flush=True)
        records.append({"case": case, "torch": plain, "kernels": kernels, "ratio": ratio,
                        "unit": "tokens/s", "machine": name})
        RESULTS.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
        if DEVICE == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
