"""Best-of-n: of n answers to a question, take the one that scores highest. What a process reward model is good for, says the paper."""

import math
from collections.abc import Sequence

import numpy as np

from r1lib.errors import R1Error


def chosen_accuracy(scores: np.ndarray, right: np.ndarray, n: int) -> np.ndarray:
    """How often the best-scored of n answers is right, without bias from the more answers there are.

    scores, right: [problems, samples]; n: at most samples. Returns [problems]: the mean over all subsets of n answers. The answer of rank r
    from the bottom is the best of C(r, n - 1) of C(samples, n) subsets; among equal scores one is drawn at random.
    """
    samples = scores.shape[1]
    if not 1 <= n <= samples:
        raise R1Error(f"best of {n}: needs at least {n} answers a problem and n of at least 1; there are {samples} answers.")
    ranks = np.argsort(scores, axis=1, kind="stable")
    best = np.array([math.comb(rank, n - 1) for rank in range(samples)]) / math.comb(samples, n)
    sorted_right = np.take_along_axis(_shared(scores, right), ranks, axis=1)
    return sorted_right @ best


def _shared(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """How right each answer is, where answers of one score share what they have."""
    same = scores[:, :, None] == scores[:, None, :]                 # [problems, samples, samples]
    return (same * right[:, None, :].astype(float)).sum(2) / same.sum(2)


def within(lengths: Sequence[int], tokens: int) -> int:
    """How many of these answers, in their order, are generated with so many tokens; at least one."""
    return max(1, int(np.searchsorted(np.cumsum(lengths), tokens, side="right")))
