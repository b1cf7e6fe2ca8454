"""The description of the machine."""

import pytest
import torch

from r1lib import machine
from r1lib.training.run import matrix_products_in


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


@pytest.mark.parametrize(("able", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_processor_that_cannot_multiply_bfloat16_is_spared(monkeypatch: pytest.MonkeyPatch, able: bool, expected: torch.dtype) -> None:
    monkeypatch.setattr(machine, "multiplies_bfloat16", lambda device: able)
    x = torch.eye(4)
    with matrix_products_in("bfloat16", "cpu"):
        assert (x @ x).dtype == expected
    with matrix_products_in("float32", "cpu"):
        assert (x @ x).dtype == torch.float32


@pytest.mark.parametrize(("flags", "expected"), [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"bf16": True}, True),
                                                 ({"avx512_bf16": False, "avx2": True}, False), ({}, False)])
def test_what_a_processor_says_of_itself_decides(monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], expected: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    assert machine.multiplies_bfloat16() is expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_an_old_gpu_does_not_multiply_bfloat16(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: bool) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert machine.multiplies_bfloat16("cuda") is expected


def test_a_torch_that_does_not_say_is_not_trusted_with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert machine.multiplies_bfloat16() is False
