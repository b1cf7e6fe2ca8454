"""Random streams: named, repeatable, far apart."""

import itertools
import subprocess
import sys

import torch

from r1lib import paths, seeds


def test_a_seed_is_a_function_of_its_name() -> None:
    assert seeds.derive("train", 0, 7) == seeds.derive("train", 0, 7)
    assert seeds.derive("train", 0) == seeds.derive("train", "0")          # a number and its text name the same stream
    assert seeds.derive("a", 12) != seeds.derive("a", 1, 2) != seeds.derive("a1", 2)


def test_a_seed_is_the_same_in_another_process() -> None:
    """Python's own hash of a string is not."""
    code = "from r1lib import seeds; print(seeds.derive('train', 0, 7))"
    other = subprocess.run([sys.executable, "-c", code], cwd=paths.root(), capture_output=True, text=True, check=True)
    assert int(other.stdout) == seeds.derive("train", 0, 7)


def test_seeds_have_63_bits_and_do_not_collide() -> None:
    found = {seeds.derive("stream", seed, step) for seed, step in itertools.product(range(100), range(100))}
    assert len(found) == 10_000
    assert all(0 <= seed < 2**63 for seed in found) and max(found) > 2**62


def test_neighbouring_streams_have_nothing_in_common() -> None:
    draws = {rng.random() for seed in range(50) for rng in [seeds.rng("x", seed)] for _ in range(20)}
    assert len(draws) == 1000
    one, other = (torch.randint(2, (4000,), generator=seeds.generator("x", seed)) for seed in (0, 1))
    assert 1800 < (one == other).sum() < 2200


def test_generators_repeat_themselves() -> None:
    assert seeds.rng("x", 1).random() == seeds.rng("x", 1).random()
    assert torch.equal(torch.rand(5, generator=seeds.generator("x", 1)), torch.rand(5, generator=seeds.generator("x", 1)))
