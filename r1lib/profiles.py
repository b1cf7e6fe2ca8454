"""What smoke, cpu and gpu mean: where a run happens, from which base, and how long each stage is.

A profile holds only what differs between machines. What the algorithm is lives in the recipes, and what the paper used in `paper.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r1lib.errors import R1Error


@dataclass(frozen=True)
class Profile:
    """One way to run everything.

    base: what R1-Zero starts from: a folder of data/, a path, or a hub name.
    zero: settings of R1-Zero's GRPO recipe (`training.grpo.GRPORecipe`), as far as they differ from its defaults.
    held_out_samples: answers per problem when a run in training is measured; evaluation_samples: before and after.
    evaluation_problems: how many problems of a fixed set are used, spread over all of it; None for all.
    """

    name: str
    what_for: str
    device: str
    base: str
    zero: Mapping[str, Any] = field(default_factory=dict)
    held_out_samples: int = 4
    evaluation_samples: int = 16
    evaluation_problems: int | None = None


PROFILES = {
    "smoke": Profile("smoke", "a test that everything runs: nothing is learned", "cpu", "base-0.4m",
                     dict(steps=3, prompts_per_step=8, samples_per_prompt=8, max_new_tokens=96, evaluate_every=2),
                     held_out_samples=2, evaluation_samples=4, evaluation_problems=30),
    "cpu": Profile("cpu", "the miniature, trained for real on two cores", "cpu", "base-3m",
                   dict(steps=24, prompts_per_step=24, max_new_tokens=160, evaluate_every=8), held_out_samples=2),
    "gpu": Profile("gpu", "the miniature, trained longer on one GPU", "cuda", "base-3m",
                   dict(steps=200, prompts_per_step=64, learning_rate=2e-4, evaluate_every=20, tokens_per_micro_batch=65_536,
                        precision="bfloat16")),
}


def get(name: str) -> Profile:
    """The profile of this name."""
    if name not in PROFILES:
        raise R1Error(f"profile {name!r} is not known: choose one of {', '.join(PROFILES)}.")
    return PROFILES[name]
