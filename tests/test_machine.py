"""The description of the machine."""

from r1lib import machine


def test_the_machine_is_described() -> None:
    found = machine.describe()
    assert found.cpu and found.cores >= 1 and found.memory_gb > 0.5
    assert set(found.versions) == {"python", "torch", "transformers"}
    assert found.cpu in str(found) and f"{found.cores} cores" in str(found)


def test_the_peak_only_grows_and_sees_what_is_held() -> None:
    before = machine.peak_memory_gb()
    assert 0.01 < before < 1000
    held = bytearray(b"x" * 300_000_000)
    after = machine.peak_memory_gb()
    assert after >= before and after >= len(held) / 1e9
