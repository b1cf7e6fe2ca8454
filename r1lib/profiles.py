"""What smoke, cpu, gpu and multi-gpu mean: where a run happens, from which base, and how long each stage is.

A profile holds only what differs between machines. What the algorithm is lives in the recipes, and what the paper used in `paper.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r1lib.errors import R1Error


@dataclass(frozen=True)
class Profile:
    """One way to run everything.

    base: the folder in data/ that R1-Zero starts from, or a path, or a hub name.
    zero: settings of the GRPO recipe of R1-Zero (`training.grpo.GRPORecipe`).
    evaluation_samples: answers per problem in the evaluations at the start and the end of a stage.
    evaluation_problems: how many problems of a fixed set are used, or None for all.
    """

    name: str
    device: str
    base: str
    zero: Mapping[str, Any] = field(default_factory=dict)
    evaluation_samples: int = 16
    evaluation_problems: int | None = None


_CPU_ZERO = dict(steps=40, prompts_per_step=32, samples_per_prompt=16, max_new_tokens=256, learning_rate=3e-4, evaluate_every=10)

PROFILES = {
    "smoke": Profile("smoke", "cpu", "base-0.4m", _CPU_ZERO | dict(steps=3, prompts_per_step=4, samples_per_prompt=4, max_new_tokens=64),
                     evaluation_samples=4, evaluation_problems=24),
    "cpu": Profile("cpu", "cpu", "base-3m", _CPU_ZERO),
    "gpu": Profile("gpu", "cuda", "base-3m", _CPU_ZERO | dict(steps=200, prompts_per_step=64)),
}


def get(name: str) -> Profile:
    """The profile of this name."""
    if name not in PROFILES:
        raise R1Error(f"profile {name!r} is not known: choose one of {', '.join(PROFILES)}.")
    return PROFILES[name]
