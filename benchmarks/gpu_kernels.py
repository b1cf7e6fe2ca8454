"""The sampler on a GPU with the kernels of sampling/triton.py and with torch's operations alone: tokens/s, medians of several.

    python benchmarks/gpu_kernels.py [--repetitions 5] [--json benchmarks/results/gpu_kernels.json]

The same weights, prompts and draws, in bfloat16. Answers end by themselves, with at most so many tokens, or all have as many. Both ways are
recorded as CUDA graphs; the first two calls of each, which compile and record, are not counted.
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

CASES = [("base-3m", 64, 8, 128, True), ("base-3m", 64, 16, 128, True), ("base-3m", 64, 32, 128, True), ("base-3m", 128, 32, 128, True),
         ("base-3m", 4, 16, 4096, False), ("135m", 64, 16, 256, False), ("0.5b", 64, 8, 256, False), ("0.5b", 4, 16, 1024, False),
         ("1.5b", 16, 16, 256, False)]


def rate(model: str, prompts: int, samples: int, tokens: int, ends: bool, repetitions: int, *, with_kernels: bool) -> list[float]:
    """Tokens/s of each repetition."""
    policy, asked, drawn = workload.load(model, "cuda", torch.bfloat16, endless=not ends), workload.prompts(prompts), []
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
    parser.add_argument("--json", type=Path, help="write the numbers there")
    arguments = parser.parse_args()
    records = []
    print(f"{torch.cuda.get_device_name()}, tokens/s\n{'':32} {'torch':>28} {'kernels':>28} {'ratio':>6}", flush=True)
    for model, prompts, samples, tokens, ends in CASES:
        plain, kernels = (rate(model, prompts, samples, tokens, ends, arguments.repetitions, with_kernels=on) for on in (False, True))
        case = f"{model}, {prompts} x {samples}, {'up to ' if ends else ''}{tokens:,}"
        ratio = statistics.median(kernels) / statistics.median(plain)
        shown = [f"{statistics.median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f})" for found in (plain, kernels)]
        print(f"{case:32} {shown[0]:>28} {shown[1]:>28} {ratio:6.2f}", flush=True)
        records.append({"case": case, "torch": plain, "kernels": kernels, "ratio": ratio,
                        "unit": "tokens/s", "machine": torch.cuda.get_device_name()})
        if arguments.json:
            arguments.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
