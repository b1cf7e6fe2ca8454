"""Answers from a policy: what is asked of a sampler and what it gives back. The back ends have a file each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from r1lib.errors import R1Error


@dataclass(frozen=True)
class SamplingSettings:
    """How to draw tokens.

    max_new_tokens: an answer that has not ended by itself is cut after this many.
    temperature: divides the logits, above 0. top_k=1 is greedy decoding.
    top_k: draw from the k most probable tokens only; 0 means all.
    top_p: then from the smallest set of the most probable tokens that holds this share of probability (nucleus, arXiv 1904.09751).
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise R1Error(f"max_new_tokens={self.max_new_tokens}: must be at least 1.")
        if not self.temperature > 0:
            raise R1Error(f"temperature={self.temperature}: must be above 0; for greedy decoding set top_k=1.")
        if not 0 < self.top_p <= 1:
            raise R1Error(f"top_p={self.top_p}: must be above 0 and at most 1 (1 turns it off).")
        if self.top_k < 0:
            raise R1Error(f"top_k={self.top_k}: must be 0 (off) or more.")


@dataclass(slots=True)
class Rollout:
    """One answer to one prompt.

    prompt_index: which of the prompts given to the sampler.
    ids: the drawn tokens, the stop token included when the answer ended by itself.
    logprobs: of each drawn token, under the distribution that it was drawn from (after temperature, top-k and top-p), in nats.
    text: the decoded answer without the stop token.
    finished: whether a stop token came before the limit.
    policy_logprobs: of each drawn token under the policy's own arithmetic, where another engine drew them; None where `logprobs` are those.
    """

    prompt_index: int
    prompt_ids: list[int]
    ids: list[int]
    logprobs: list[float]
    text: str
    finished: bool
    policy_logprobs: list[float] | None = None


class Sampler(Protocol):
    """Anything that answers prompts: ours, vLLM, or a stand-in of a test."""

    def sample(self, prompts: Sequence[str], samples: int, settings: SamplingSettings, *, seed: int, first: int = 0) -> list[Rollout]:
        """`samples` answers to each prompt, prompt by prompt: sample j of prompt i is at [i * samples + j].

        first: the place of the first prompt among more that are answered in several calls, which each draw as if they were one.
        """
        ...
