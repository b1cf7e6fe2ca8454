"""Answers to any number of prompts: as many at a time as keep a machine busy, so that one sees how far it is."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from r1lib.sampling import Rollout, Sampler, SamplingSettings

_ANSWERS_A_CALL = 2048          # few answers to many prompts go together: steps of a few rows cost nearly as much as those of hundreds


def answers(sampler: Sampler, prompts: Sequence[str], samples: int, settings: SamplingSettings, *, seed: int,
            told: Callable[[int], None] = lambda done: None) -> list[Rollout]:
    """`samples` answers to each prompt, as from one call: sample j of prompt i is at [i * samples + j].

    told: called from time to time with how many prompts have their answers.
    """
    each, found = max(_ANSWERS_A_CALL // samples, 1), []
    for start in range(0, len(prompts), each):
        some = prompts[start:start + each]
        drawn = sampler.sample(some, samples, settings, seed=seed, first=start)
        found += [replace(rollout, prompt_index=start + rollout.prompt_index) for rollout in drawn]
        told(start + len(some))
    return found
