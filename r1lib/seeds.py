"""Random streams that lie far apart.

Seeds that are neighbours (42, 43) give overlapping data in many generators. Here a stream is named, and its seed is a hash of the name:
`derive("train", 0, step)` and `derive("train", 1, step)` have nothing in common.
"""

import hashlib
import random
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
