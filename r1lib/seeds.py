"""Random streams that lie far apart.

Seeds that are neighbours (42, 43) give overlapping data in many generators. Here a stream is named, and its seed is a hash of the name:
`derive("train", 0, step)` and `derive("train", 1, step)` have nothing in common.
"""

import hashlib
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(*parts: object) -> int:
    """A seed of 63 bits from the names and numbers that say what it is for."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng(*parts: object) -> random.Random:
    """Python's generator, seeded by what it is for."""
    return random.Random(derive(*parts))


def generator(*parts: object, device: "str | torch.device" = "cpu") -> "torch.Generator":
    """torch's generator, seeded by what it is for."""
    import torch  # here, so that a command that only speaks does not wait for it

    return torch.Generator(device=device).manual_seed(derive(*parts))


_GOLDEN, _FIRST, _SECOND = (value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))    # as signed numbers


def uniform(*parts: object, streams: Sequence[tuple[int, int]], steps: int,
            device: "str | torch.device" = "cpu") -> "torch.Tensor":
    """Random numbers in [0, 1), a row for each stream, a pair of numbers: [streams, steps], float64.

    The number of (parts, stream, step) depends on nothing else: not on the other streams, not on the device. It is counted, not drawn one
    after the other (SplitMix64: Steele, Lea and Flood 2014), so that a GPU makes a million at once.
    """
    import torch

    pairs = torch.tensor(list(streams), dtype=torch.long, device=device).view(-1, 2)
    key = _mixed(_mixed(derive(*parts) + pairs[:, 0] * _GOLDEN) + pairs[:, 1] * _GOLDEN)
    counted = key[:, None] + torch.arange(1, steps + 1, device=device) * _GOLDEN
    return _shifted(_mixed(counted), 11).double() * 2.0**-53


def _mixed(x: "torch.Tensor") -> "torch.Tensor":
    """SplitMix64's finaliser: every bit of a 64-bit number flips every bit of the result half of the time."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: "torch.Tensor", bits: int) -> "torch.Tensor":
    """To the right without the sign: torch's 64-bit numbers are signed."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
