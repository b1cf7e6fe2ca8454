"""Variations of R1-Zero, each with one thing changed: the clip range, the length limit, the size of a group, PPO in GRPO's place.

    ablations.measure(profile="cpu")             # trains what is missing into runs/<profile>/ablations/, and keeps what was found

All have as few steps, as many answers a step and the same questions; they are no part of the road to R1, and too long for a lesson.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1lib import evaluation, findings, lineage, paths, profiles, stages
from r1lib.errors import R1Error
from r1lib.evaluation import Evaluation
from r1lib.training.metrics import Row


@dataclass(frozen=True)
class Variation:
    """One way to train R1-Zero. changes: settings that differ from those that all variations share; stage: whose they are."""

    about: str
    changes: Mapping[str, Any]
    stage: str = "zero"


# The paper's rollouts serve 16 updates, and only with several does a clip range bind at all.
_UPDATES = 4
VARIATIONS = {
    "plain": Variation("GRPO, groups of 16, answers of up to 160 tokens", {}),
    "clip_narrow": Variation("ratio within 0.02", dict(updates_per_rollout=_UPDATES, epsilon_low=0.02, epsilon_high=0.02)),
    "clip_default": Variation("ratio within 0.2 below and 0.28 above", dict(updates_per_rollout=_UPDATES)),
    "clip_wide": Variation("ratio within 10, the paper's in R1's first RL stage",
                           dict(updates_per_rollout=_UPDATES, epsilon_low=10.0, epsilon_high=10.0)),
    "short": Variation("answers of up to 48 tokens", dict(max_new_tokens=48)),
    "group_small": Variation("groups of 4, four times as many questions", dict(samples_per_prompt=4)),
    "ppo": Variation("PPO, lambda 1", dict(gae_lambda=1.0), "zero_ppo"),
    "ppo_095": Variation("PPO, lambda 0.95", dict(gae_lambda=0.95), "zero_ppo"),
}

# What all variations share, by profile: the answers of a step, the size of a group, and the steps.
_SHARED: dict[str, dict[str, int]] = {
    "smoke": dict(answers=32, samples_per_prompt=8, steps=2, max_new_tokens=64),
    "cpu": dict(answers=128, samples_per_prompt=16, steps=12, max_new_tokens=160),
    "gpu": dict(answers=256, samples_per_prompt=16, steps=40, max_new_tokens=256),
    "gpu+smollm2": dict(answers=1024, samples_per_prompt=16, steps=40, max_new_tokens=160),
    "gpu+miniature": dict(answers=1024, samples_per_prompt=16, steps=100, max_new_tokens=160),
}

# finding -> the variation that it is of; GRPO, the long limit and the large group are one and the same run.
_OF = {"clip_narrow": "clip_narrow", "clip_default": "clip_default", "clip_wide": "clip_wide", "length_short": "short",
       "length_long": "plain", "grpo": "plain", "ppo": "ppo", "ppo_095": "ppo_095", "group_small": "group_small", "group_large": "plain"}
_DIFFERENCES = {"clip_default_minus_narrow": ("clip_default", "clip_narrow"), "long_minus_short": ("length_long", "length_short"),
                "grpo_minus_ppo": ("grpo", "ppo"), "grpo_minus_ppo_095": ("grpo", "ppo_095"),
                "large_minus_small": ("group_large", "group_small")}


def settings(name: str, *, profile: str) -> dict[str, Any]:
    """All that a variation sets in this profile. `R1Error` for a variation or a profile that is not known."""
    profiles.get(profile)
    if name not in VARIATIONS:
        raise R1Error(f"variation {name!r} is not known to the ablations: choose one of {', '.join(VARIATIONS)}.")
    shared = dict(_SHARED[profiles.plain(profile)])
    answers, variation = shared.pop("answers"), VARIATIONS[name]
    chosen = {**profiles.get(profile).settings.get("zero", {}), **shared, "evaluate_every": shared["steps"],
              "checkpoint_every": shared["steps"], **variation.changes}
    return {**chosen, "prompts_per_step": answers // chosen["samples_per_prompt"]}


def run(name: str, *, profile: str, seed: int = 0, runs: Path | None = None, watchers: tuple[Callable[[Row], None], ...] = ()
        ) -> stages.StageRun:
    """Train a variation, or load it, in <runs>/ablations/<name>."""
    return stages.run(VARIATIONS[name].stage if name in VARIATIONS else "zero", profile=profile, seed=seed, watchers=watchers,
                      settings=settings(name, profile=profile), folder=(runs or paths.runs(profile)) / "ablations" / name)


def evaluated(name: str, *, profile: str, runs: Path | None = None) -> Evaluation:
    """A variation's answers to the fixed set, with the length limit of the profile's R1-Zero whatever it was trained with."""
    return stages.evaluation("zero", profile=profile, folder=(runs or paths.runs(profile)) / "ablations" / name,
                             samples=profiles.get(profile).table_samples)


def measure(*, profile: str, seed: int = 0, runs: Path | None = None) -> findings.Findings:
    """Held-out accuracy of every variation, and the differences that the paper speaks of, problem by problem."""
    folder = runs or paths.runs(profile)
    for name in VARIATIONS:
        if not run(name, profile=profile, seed=seed, runs=runs).finished:
            raise R1Error(f"variation {name} was stopped before it was finished: run it again to go on.")
    made_from = {name: lineage.weights_sha256(folder / "ablations" / name / "model") for name in VARIATIONS}
    return findings.kept("ablations", lambda: _measured(profile, runs), runs=folder, seed=seed, made_from=made_from,
                         notebook="04_r1_zero")


def _measured(profile: str, runs: Path | None) -> findings.Findings:
    made = {name: evaluated(name, profile=profile, runs=runs) for name in VARIATIONS}
    found = {finding: evaluation.bootstrap({"": made[name].measures()["pass@1"]})[""] for finding, name in _OF.items()}
    for finding, (more, less) in _DIFFERENCES.items():
        difference = evaluation.difference(made[_OF[less]], made[_OF[more]])
        found[finding] = {bound: difference[bound] for bound in ("value", "low", "high")}
    return found
