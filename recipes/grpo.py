"""R1-Zero's training by TRL without a notebook and without the stage graph: on several GPUs and hosts, or with a vLLM server.

    python recipes/grpo.py --base base-3m --folder runs/one
    accelerate launch --config_file recipes/ddp.yaml --num_processes 4 recipes/grpo.py --base base-3m --folder runs/four
    accelerate launch --config_file recipes/fsdp.yaml --num_processes 8 recipes/grpo.py --base path/to/model --folder runs/large \
        --set '{"steps": 200, "precision": "bfloat16", "max_new_tokens": 1024}'

The folder gets metrics.jsonl, rollouts.jsonl and, from the first process, model/; the same command goes on.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from r1lib import rewards, stages, tasks  # noqa: E402
from r1lib.errors import R1Error  # noqa: E402
from r1lib.policy import Policy  # noqa: E402
from r1lib.tasks import benchmarks  # noqa: E402
from r1lib.training import trl  # noqa: E402
from r1lib.training.grpo import GRPORecipe  # noqa: E402
from r1lib.training.metrics import Progress  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="base-3m", help="a base model of data/, a folder, or a name of the hub")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--problems", nargs=2, metavar=("BENCHMARK", "FILE"),
                        help="such as gsm8k train.jsonl, instead of the miniature's; of the hub, hf://datasets/owner/name/file")
    parser.add_argument("--rollouts", default="generate", help="generate, vllm, or a server's address (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--set", default="{}", help="settings of the recipe as JSON")
    job = parser.parse_args()
    problems = (benchmarks.Mixture({job.problems[0]: benchmarks.read(*job.problems)}, seed=job.seed) if job.problems
                else tasks.stream(["math"], seed=job.seed))
    if job.device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    policy = Policy.load(stages.base_folder(job.base), device=job.device)
    done = trl.train(policy, problems=problems, reward=rewards.mix(), recipe=GRPORecipe.from_settings(json.loads(job.set)),
                     folder=job.folder, seed=job.seed, rollouts=job.rollouts, watchers=[Progress()], save=job.folder / "model")
    return 130 if done.interrupted else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except R1Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
