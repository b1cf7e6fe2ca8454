import dataclasses
import json
import random

import pytest
import torch
from torch import nn

from r1lib.errors import R1Error
from r1lib.training import checkpoint

SETTINGS = {"seed": 0, "steps": 9, "betas": (0.9, 0.95), "beta": 0.01}


class Tied(nn.Module):
    """Two names for one weight, as in a model with tied embeddings, and a buffer."""

    def __init__(self, width=3):
        super().__init__()
        self.first, self.last = nn.Linear(width, 5, bias=False), nn.Linear(width, 5, bias=False)
        self.last.weight = self.first.weight
        self.inner = nn.Linear(width, width)
        self.register_buffer("count", torch.zeros(1))


@dataclasses.dataclass
class State:
    model: nn.Module
    optimizer: torch.optim.Optimizer
    reference: nn.Module | None

    def train(self, steps=1):
        for _ in range(steps):
            self.optimizer.zero_grad()
            noise = torch.randn(4, 3) * random.random()
            (self.model.last(self.model.inner(noise)) ** 2).sum().backward()
            self.optimizer.step()
            self.model.count += 1

    def numbers(self):
        return [parameter.tolist() for parameter in (*self.model.parameters(), *self.model.buffers(), *self.reference.parameters())]


def state(width=3, seed=0):
    torch.manual_seed(seed)
    random.seed(seed)
    model, reference = Tied(width), Tied(width)
    return State(model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=True), reference)


def save(folder, it, step, settings=SETTINGS):
    checkpoint.save(folder, step=step, settings=settings, notes={"num_tokens": 10 * step}, **vars(it))


def restore(folder, it, settings=SETTINGS, **options):
    return checkpoint.restore(folder, settings=settings, **options, **vars(it))


def files(folder):
    return {path.name: path.read_bytes() for path in (folder / "state").iterdir()}


def test_goes_on_to_the_very_same_numbers(tmp_path):
    straight = state()
    straight.train(3)
    save(tmp_path, straight, 3)
    straight.train(2)

    other = state(seed=7)
    random.random(), torch.randn(5)
    assert restore(tmp_path, other) == (3, {"num_tokens": 30})
    other.train(2)
    assert other.numbers() == straight.numbers()
    assert other.model.first.weight is other.model.last.weight


def test_nothing_to_go_on_from(tmp_path):
    assert restore(tmp_path, state()) is None
    assert list(tmp_path.iterdir()) == []


def test_the_two_newest_are_kept_and_nothing_half_written(tmp_path):
    it = state()
    for step in (0, 5, 10, 15):
        save(tmp_path, it, step)
    assert sorted(files(tmp_path)) == ["00000010.safetensors", "00000015.safetensors"]


def test_a_file_that_was_being_written_is_not_a_checkpoint(tmp_path, monkeypatch):
    it = state()
    save(tmp_path, it, 5)

    def die(tensors, path, metadata):
        path.write_bytes(b"\x08\0\0\0\0\0\0\0{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", die)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, it, 10)
    monkeypatch.undo()
    assert restore(tmp_path, it)[0] == 5
    save(tmp_path, it, 10)
    assert restore(tmp_path, it)[0] == 10
    assert sorted(files(tmp_path)) == ["00000005.safetensors", "00000010.safetensors"]


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_cut_file_is_passed_over_for_the_whole_one_before_it_and_says_so(tmp_path, capsys, share):
    it = state()
    save(tmp_path, it, 5)
    before = it.numbers()
    it.train()
    save(tmp_path, it, 10)
    newest = tmp_path / "state" / "00000010.safetensors"
    newest.write_bytes(newest.read_bytes()[:int(share * newest.stat().st_size)])
    assert restore(tmp_path, it)[0] == 5
    assert it.numbers() == before
    assert str(newest) in capsys.readouterr().err


def test_without_a_whole_file_the_run_does_not_start_from_scratch(tmp_path):
    it = state()
    save(tmp_path, it, 5)
    file = tmp_path / "state" / "00000005.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    damaged = files(tmp_path)
    with pytest.raises(R1Error) as error:
        restore(tmp_path, it)
    assert str(file) in str(error.value) and "\n" not in str(error.value)
    assert files(tmp_path) == damaged


@pytest.mark.parametrize(("change", "named"), [
    ({"seed": 1}, "seed=0"), ({"betas": (0.9, 0.99)}, "betas=[0.9, 0.95]"), ({"beta": 0.0}, "beta=0.01"), ({"new": 2}, "new=None"),
    ({"steps": 10}, "steps=9")])
def test_another_setting_is_named_and_nothing_is_touched(tmp_path, change, named):
    it = state()
    save(tmp_path, it, 5)
    stored = files(tmp_path)
    it.train()
    numbers = it.numbers()
    with pytest.raises(R1Error) as error:
        restore(tmp_path, it, SETTINGS | change)
    assert str(tmp_path) in str(error.value) and named in str(error.value) and "\n" not in str(error.value)
    assert files(tmp_path) == stored and it.numbers() == numbers


def test_a_setting_that_may_differ(tmp_path):
    it = state()
    save(tmp_path, it, 5)
    assert restore(tmp_path, it, SETTINGS | {"steps": 20}, may_differ=frozenset({"steps"}))[0] == 5


def test_a_run_of_no_steps_binds_nobody(tmp_path):
    it = state()
    save(tmp_path, it, 0)
    assert restore(tmp_path, it, SETTINGS | {"seed": 1}) is None
    assert restore(tmp_path, it)[0] == 0


def test_another_model_is_named_and_nothing_is_touched(tmp_path):
    save(tmp_path, state(), 5)
    stored, other = files(tmp_path), state(width=4)
    numbers = other.numbers()
    with pytest.raises(R1Error, match=r"another model: first\.weight is \[5, 3\] there and \[5, 4\] here"):
        restore(tmp_path, other)
    assert files(tmp_path) == stored and other.numbers() == numbers
    without = state()
    without.reference = None
    with pytest.raises(R1Error, match="absent here"):
        restore(tmp_path, without)


def test_a_foreign_file_of_that_name_is_not_taken_for_a_checkpoint(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    checkpoint.save_file({"x": torch.zeros(2)}, folder / "00000003.safetensors", {"about": json.dumps(None)})
    with pytest.raises(R1Error, match=r"00000003\.safetensors"):
        restore(tmp_path, state())
