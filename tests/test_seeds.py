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


def test_counted_numbers_belong_to_their_stream_and_step_alone() -> None:
    whole = seeds.uniform("sample", 3, streams=[(0, 0), (0, 1), (1, 0), (7, 12)], steps=50)
    assert torch.equal(seeds.uniform("sample", 3, streams=[(7, 12), (0, 1)], steps=20), whole[[3, 1], :20])
    assert not torch.equal(seeds.uniform("sample", 4, streams=[(0, 0)], steps=50), whole[:1])
    assert whole.unique().numel() == whole.numel()


def test_counted_numbers_are_spread_evenly_and_know_nothing_of_each_other() -> None:
    drawn = seeds.uniform("x", 0, streams=[(prompt, sample) for prompt in range(64) for sample in range(64)], steps=64)
    assert drawn.min() >= 0 and drawn.max() < 1 and abs(drawn.mean() - 0.5) < 0.002 and abs(drawn.var() - 1 / 12) < 0.001
    assert (torch.histc(drawn.float(), 50, 0, 1) / drawn.numel() * 50 - 1).abs().max() < 0.05
    centred = drawn - 0.5
    for other in (centred.roll(1, 0), centred.roll(1, 1), centred.roll(64, 0)):        # the next sample, the next step, the next prompt
        assert abs((centred * other).mean() * 12) < 0.01


def test_counted_numbers_are_splitmix64() -> None:
    """Against its definition, in Python's whole numbers."""
    def mixed(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
        return x ^ (x >> 31)

    golden = 0x9E3779B97F4A7C15
    key = mixed((mixed((seeds.derive("a", 1) + 5 * golden) % 2**64) + 9 * golden) % 2**64)
    expected = [(mixed((key + step * golden) % 2**64) >> 11) / 2**53 for step in range(1, 6)]
    assert seeds.uniform("a", 1, streams=[(5, 9)], steps=5)[0].tolist() == expected
