"""LoRA and QLoRA by Unsloth, for a model whose full training does not fit: small matrices beside the weights learn, the weights stay.

    train(policy, problems=..., reward=..., recipe=GRPORecipe(learning_rate=1e-5), folder=folder, seed=0, lora=LoRA(four_bit=True))

Unsloth loads the policy's folder anew in kernels of its own and changes TRL's trainers, which then run as in `training.trl`, with the same
recipe. What was learnt is added to the policy's weights whenever it is measured and at the end, so that a stage is a plain model here too.

With its compiler Unsloth 2026.10 had not finished a step of the miniature after 100 s on an H200. In the environment of the process,
UNSLOTH_COMPILE_DISABLE=1 and TORCHDYNAMO_DISABLE=1 switch it off; results/h200/backends.csv was measured so.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from r1lib.errors import R1Error
from r1lib.optional import require
from r1lib.policy import Policy
from r1lib.training import trl
from r1lib.training.grpo import GRPORecipe
from r1lib.training.metrics import Row
from r1lib.training.run import History
from r1lib.training.sft import Example, SFTRecipe


@dataclass(frozen=True)
class LoRA:
    """Low-rank updates (arXiv 2106.09685). rank, alpha: the update of a weight is alpha / rank * B A, with A and B of that rank.

    four_bit: the frozen weights in four bits (QLoRA, arXiv 2305.14314), an eighth of the memory of float32.
    """

    rank: int = 32
    alpha: int = 64
    four_bit: bool = False
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha < 1 or not self.targets:
            raise R1Error(f"LoRA: rank={self.rank}, alpha={self.alpha}, targets={self.targets}: both numbers are at least 1, and at least "
                          "one target is named.")


def train(policy: Policy, *, recipe: GRPORecipe, folder: str | Path, lora: LoRA | None = None,
          evaluate: Callable[[int], Row] | None = None, **task: Any) -> History:
    """GRPO as `trl.train`, on LoRA matrices. The policy's weights change when `evaluate` is called, and at the end."""
    adapted = _Adapted(policy, lora or LoRA(), _longest(policy))
    history = trl.train(adapted.policy, recipe=recipe, folder=folder, evaluate=adapted.measured_by(evaluate), **task)
    adapted.merge()
    return history


def fine_tune(policy: Policy, *, examples: Sequence[Example], recipe: SFTRecipe, folder: str | Path, seed: int,
              evaluate: Callable[[int], Row] | None = None, watchers: trl.Watchers = (), lora: LoRA | None = None) -> History:
    """Supervised fine-tuning as `trl.fine_tune`, on LoRA matrices."""
    adapted = _Adapted(policy, lora or LoRA(), recipe.max_tokens)
    history = trl.fine_tune(adapted.policy, examples=examples, recipe=recipe, folder=folder, seed=seed, watchers=watchers,
                            evaluate=adapted.measured_by(evaluate))
    adapted.merge()
    return history


def _longest(policy: Policy) -> int:
    """How many tokens Unsloth prepares for: all that the model was made for, as its kernels need no memory before they are used."""
    return policy.model.config.max_position_embeddings


class _Adapted:
    """The policy in Unsloth's hands: `policy` is what trains, and `merge` adds what it has learnt to the original's weights."""

    def __init__(self, original: Policy, lora: LoRA, longest: int) -> None:
        require("unsloth", "peft", "trl", purpose="backend \"unsloth\"")
        if not torch.cuda.is_available():
            raise R1Error("backend \"unsloth\" needs a GPU, and there is none here: use the backend \"ours\" or \"trl\".")
        if original.folder is None:
            raise R1Error("Unsloth reads a model from its folder: save the policy and load it from there.")
        os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")                 # it would report its use
        from unsloth import FastLanguageModel

        model, _ = FastLanguageModel.from_pretrained(str(original.folder), max_seq_length=longest, dtype=torch.bfloat16,
                                                     load_in_4bit=lora.four_bit, fast_inference=False, trust_remote_code=False)
        model = FastLanguageModel.get_peft_model(model, r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets),
                                                 lora_dropout=0.0, use_gradient_checkpointing="unsloth", random_state=0)
        self.original, self.policy = original, Policy(model, original.tokenizer, original.folder)
        self._before = {name: original.model.get_parameter(f"{name}.weight").detach().cpu().clone() for name, _ in updates(model)}

    def measured_by(self, evaluate: Callable[[int], Row] | None) -> Callable[[int], Row] | None:
        """`evaluate`, which looks at the original, after what has been learnt so far was added to it."""
        if evaluate is None:
            return None

        def measure(step: int) -> Row:
            self.merge()
            return evaluate(step)

        return measure

    @torch.no_grad()
    def merge(self) -> None:
        """The original's weights become those before the training plus the updates of this moment."""
        for name, update in updates(self.policy.model):
            weight = self.original.model.get_parameter(f"{name}.weight")
            weight.copy_(self._before[name].to(weight) + update.to(weight))


def updates(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """What LoRA adds to each weight of a PEFT model: (the linear layer's name in the plain model, [out, in])."""
    found = []
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            a, b = (side["default"].weight.detach().float() for side in (module.lora_A, module.lora_B))
            found.append((name.removeprefix("base_model.model."), module.scaling["default"] * b @ a))
    return found
