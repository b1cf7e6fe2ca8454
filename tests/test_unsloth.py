"""LoRA: the arithmetic of its updates on stand-ins for PEFT's layers, and what is said where Unsloth cannot run. It needs a GPU to run."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from r1lib import pipeline, profiles
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.training import trl, unsloth
from r1lib.training.sft import Example, SFTRecipe


class Adapted(nn.Module):
    """A linear layer as PEFT wraps it."""

    def __init__(self, base: nn.Linear, rank: int, scaling: float) -> None:
        super().__init__()
        self.base_layer, self.scaling = base, {"default": scaling}
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, base.out_features, bias=False)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + self.scaling["default"] * self.lora_B["default"](self.lora_A["default"](x))


def wrapped(policy: Policy) -> nn.Module:
    """The policy's model inside `base_model.model`, as PEFT has it, with two of its layers adapted."""
    outer, inner = nn.Module(), nn.Module()
    inner.model, outer.base_model = policy.model, inner
    for layer in policy.model.model.layers:
        layer.self_attn.q_proj = Adapted(layer.self_attn.q_proj, 2, 1.5)
    return outer


def test_updates_are_what_the_layers_add(tiny_policy: Policy) -> None:
    plain = [layer.self_attn.q_proj for layer in tiny_policy.model.model.layers]
    found = unsloth.updates(wrapped(tiny_policy))
    assert [name for name, _ in found] == [f"model.layers.{i}.self_attn.q_proj" for i in range(2)]
    x = torch.randn(3, 32)
    for (_, update), before, layer in zip(found, plain, tiny_policy.model.model.layers, strict=True):
        assert update.shape == before.weight.shape
        assert torch.allclose(layer.self_attn.q_proj(x), nn.functional.linear(x, before.weight + update, before.bias), atol=1e-5)


def test_merging_twice_adds_once(tiny_policy: Policy, tmp_path: Path) -> None:
    tiny_policy.save(tmp_path)
    original, adapted = Policy.load(tmp_path), Policy.load(tmp_path)
    model = wrapped(adapted)
    both = object.__new__(unsloth._Adapted)
    both.original, both.policy = original, Policy(model, adapted.tokenizer)
    both._before = {name: original.model.get_parameter(f"{name}.weight").detach().clone() for name, _ in unsloth.updates(model)}
    both.merge()
    both.merge()
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.allclose(original.model(input_ids=ids).logits, adapted.model(input_ids=ids).logits, atol=1e-4)
    assert not torch.allclose(original.model(input_ids=ids).logits, tiny_policy.model(input_ids=ids).logits, atol=1e-2)


def test_it_is_merged_before_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    both, order = object.__new__(unsloth._Adapted), []
    monkeypatch.setattr(unsloth._Adapted, "merge", lambda self: order.append("merged"))
    assert both.measured_by(None) is None
    assert both.measured_by(lambda step: order.append(step) or {"eval_accuracy": 1.0})(7) == {"eval_accuracy": 1.0}
    assert order == ["merged", 7]


def test_without_unsloth_one_line_says_so(tiny_policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("unsloth", "peft") else found(name))
    with pytest.raises(R1Error, match="backend \"unsloth\" needs unsloth, peft, which are not installed"):
        unsloth.fine_tune(tiny_policy, examples=[Example("a", "b", "c")], recipe=SFTRecipe(), folder=tmp_path, seed=0)
    if not torch.cuda.is_available():
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: found("json"))
        with pytest.raises(R1Error, match="needs a GPU, and there is none here"):
            unsloth.fine_tune(tiny_policy, examples=[Example("a", "b", "c")], recipe=SFTRecipe(), folder=tmp_path, seed=0)


@pytest.mark.parametrize("settings", [dict(rank=0), dict(alpha=0), dict(targets=())])
def test_settings_that_make_no_sense_are_named(settings: dict) -> None:
    with pytest.raises(R1Error, match="LoRA: rank="):
        unsloth.LoRA(**settings)


@pytest.mark.parametrize(("profile", "four_bit"), [("gpu+unsloth", False), ("gpu+smollm2+qlora", True)])
def test_a_profile_says_in_how_many_bits_the_weights_lie(profile: str, four_bit: bool) -> None:
    for name in ("train", "fine_tune"):
        made = pipeline._of(profiles.get(profile), name)
        assert made.func is getattr(unsloth, name) and made.keywords == {"lora": unsloth.LoRA(four_bit=four_bit)}
    assert pipeline._of(profiles.get("cpu+trl"), "fine_tune") is trl.fine_tune
