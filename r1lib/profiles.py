"""What smoke, cpu, gpu, gpu+smollm2 and gpu+miniature mean: where a run happens, from which base, and how long each stage is.

A profile holds only what differs between machines. What the algorithm is lives in the recipes, and what the paper used in `paper.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from r1lib.errors import R1Error


@dataclass(frozen=True)
class Profile:
    """One way to run everything.

    base: what R1-Zero starts from: a folder of data/, one that was prepared (`r1lib prepare`), a path, or a hub name.
    settings: stage -> its settings and those of its recipe (`pipeline.STAGES`), as far as they differ from the defaults.
    precision: of the matrix products of every training whose settings do not say it themselves.
    answer_tokens: how long an answer may be, where it has a summary behind the thinking.
    held_out_samples: answers per problem when a run in training is measured; evaluation_samples: before and after R1-Zero;
    table_samples: for the table of all stages on all fixed sets.
    evaluation_problems: how many problems of a fixed set are used, spread over all of it; None for all.
    backend: who trains GRPO and fine-tuning: "ours", "trl", or "unsloth" (LoRA; with four_bit on weights in four bits, QLoRA). rollouts:
    who draws the answers of GRPO: "" for the backend's own sampler, "vllm", or the address of a vLLM server. `get("gpu+trl+vllm")` is the
    profile gpu with these two chosen.
    """

    name: str
    what_for: str
    device: str
    base: str
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    precision: Literal["float32", "bfloat16"] = "float32"
    answer_tokens: int = 192
    held_out_samples: int = 4
    evaluation_samples: int = 16
    table_samples: int = 16
    evaluation_problems: int | None = None
    backend: Literal["ours", "trl", "unsloth"] = "ours"
    four_bit: bool = False
    rollouts: str = ""


_FEW_STEPS = dict(steps=3, prompts_per_step=8, samples_per_prompt=8, max_new_tokens=96, evaluate_every=2)
_FEW_ASKED = dict(problems=64, samples=2)
# Held-out problems are asked before and after. Batches of so few tokens gain nothing from bfloat16.
_FINE_TUNED = dict(evaluate_every=1000, precision="float32")
_IN_SMALL_BATCHES = dict(batch_size=4, **_FINE_TUNED)
_REASONING_RL = dict(steps=8, prompts_per_step=16, updates_per_rollout=4, learning_rate=1e-4, max_new_tokens=192, evaluate_every=8)
_SMALL_RL = dict(prompts_per_step=16, max_new_tokens=160, evaluate_every=4)
_PAID_BY_STEPS = dict(prompts_per_step=8, samples_per_prompt=6, max_new_tokens=160, evaluate_every=6, rollouts_kept_per_step=4)

_SMOKE_AND_CPU = {
    "smoke": Profile(
        "smoke", "a test that everything runs: nothing is learned", "cpu", "base-0.4m",
        dict(zero=_FEW_STEPS, v3=dict(examples=64), dev1=dict(problems=48, samples=8), dev2=_FEW_STEPS, dev2_no_language=_FEW_STEPS,
             dev3=dict(problems=48, samples=4), rm_helpful=dict(problems=96, temperature=1.0, held_out=0.4), rm_safe=dict(problems=32),
             r1={**_FEW_STEPS, "preference_steps": 2}, r1_hacked=_FEW_STEPS, distill_1m=_FEW_ASKED, distill_04m=_FEW_ASKED,
             zero_1m=_FEW_STEPS, zero_04m=_FEW_STEPS, distill_1m_rl=_FEW_STEPS, prm=dict(problems=12, samples=2),
             prm_rl=dict(steps=2, prompts_per_step=4, samples_per_prompt=4, max_new_tokens=64, evaluate_every=2, looked_at=8)),
        answer_tokens=96, held_out_samples=2, evaluation_samples=4, table_samples=2, evaluation_problems=30),
    "cpu": Profile(
        "cpu", "the miniature, trained for real on two cores", "cpu", "base-3m",
        dict(zero=dict(steps=24, prompts_per_step=20, max_new_tokens=160, evaluate_every=8),
             v3=dict(examples=768, direct_share=0.25, epochs=2, batch_size=8, **_FINE_TUNED),
             dev1=dict(problems=448, **_IN_SMALL_BATCHES), dev3=dict(problems=448, epochs=2, **_IN_SMALL_BATCHES),
             dev2=_REASONING_RL, dev2_no_language=_REASONING_RL, rm_helpful=dict(problems=384, epochs=1),
             rm_safe=dict(problems=160, epochs=2, batch_size=8),
             r1={**_REASONING_RL, "temperature": 0.7, "advantage_scale": "none", "learning_rate": 5e-5, "preference_steps": 6},
             r1_hacked=dict(steps=24, prompts_per_step=16, samples_per_prompt=8, max_new_tokens=96, temperature=0.7, advantage_scale="none",
                            evaluate_every=8),
             # a smaller student learns in larger steps, as the paper's do, from 2e-5 for 70B to 1e-4 for 1.5B
             distill_1m=dict(problems=1280, epochs=2, learning_rate=7e-4, final_learning_rate=7e-5, **_IN_SMALL_BATCHES),
             distill_04m=dict(problems=1280, epochs=4, learning_rate=1.5e-3, final_learning_rate=1.5e-4, **_IN_SMALL_BATCHES),
             zero_1m=dict(steps=12, **_SMALL_RL), zero_04m=dict(steps=16, **_SMALL_RL), distill_1m_rl=_REASONING_RL,
             prm=dict(problems=96), prm_rl=dict(steps=12, **_PAID_BY_STEPS)),
        precision="bfloat16", held_out_samples=1, table_samples=2),
}

_MINIATURE = Profile(
    "gpu+miniature", "the miniature, trained longer on one GPU", "cuda", "base-3m",
    dict(zero=dict(steps=200, prompts_per_step=64, learning_rate=2e-4, evaluate_every=20, tokens_per_micro_batch=65_536),
         zero_ppo=dict(learning_rate=2e-4),
         prm=dict(problems=1024),
         prm_rl=dict(steps=100, prompts_per_step=32, samples_per_prompt=16, max_new_tokens=160, evaluate_every=20)),
    precision="bfloat16")


def _language_model(name: str, what_for: str, base: str, *, rl: dict[str, Any], sft: dict[str, Any], answer_tokens: int) -> Profile:
    """A profile for a real language model, which bears smaller steps than the miniature. rl, sft: settings of all stages that learn so.

    PPO's critic learns ten times as fast as its policy. Students are the miniature's small bases, and keep its settings.
    """
    rl = {"evaluate_every": rl["steps"] // 5, "checkpoint_every": 20, **rl}
    preferred = {**rl, "temperature": 0.7, "advantage_scale": "none"}
    sft = {"checkpoint_every": 200, "evaluate_every": 1000, "tokens_per_micro_batch": rl["tokens_per_micro_batch"], **sft}
    settings = (dict.fromkeys(("zero", "dev2", "dev2_no_language", "prm_rl"), rl)
                | {"r1": {**preferred, "preference_steps": rl["steps"] // 4}, "r1_hacked": preferred}
                | {"zero_ppo": {**rl, "critic_learning_rate": 10 * rl["learning_rate"]}}
                | dict.fromkeys(("v3", "dev1", "dev3", "rm_helpful", "rm_safe"), sft))
    return Profile(name, what_for, "cuda", base, settings, precision="bfloat16", answer_tokens=answer_tokens)


# As `python -m r1lib prepare` makes it. It writes Chinese in twice as many tokens as the miniature.
SMOLLM2 = "smollm2-135m"
_SMOLLM2 = _language_model(
    "gpu+smollm2", "a language model of 135 M parameters on one GPU, without the hub", SMOLLM2,
    rl=dict(steps=60, prompts_per_step=64, max_new_tokens=256, learning_rate=5e-5, evaluate_every=10, tokens_per_micro_batch=32_768),
    sft=dict(learning_rate=1e-4, final_learning_rate=1e-5), answer_tokens=256)

# (memory in GB from which on a GPU trains this model of the hub whole, the model, tokens that it learns from at once): what fits, as
# `doctor.memory` counts. The last is for a T4.
HUB_MODELS = ((72.0, "Qwen/Qwen2.5-1.5B", 8_192), (54.0, "Qwen/Qwen2.5-1.5B", 4_096), (22.0, "Qwen/Qwen2.5-0.5B", 4_096),
              (0.0, "Qwen/Qwen2.5-0.5B", 1_024))


def of_the_hub(memory_gb: float) -> Profile:
    """The profile `gpu` on a GPU with so much memory."""
    base, at_once = next((base, at_once) for least, base, at_once in HUB_MODELS if memory_gb >= least)
    return _language_model(
        "gpu", f"a language model of the hub on one GPU, {base.removeprefix('Qwen/')} with {memory_gb:.0f} GB", base,
        rl=dict(steps=100, prompts_per_step=16, max_new_tokens=512, learning_rate=1e-6, tokens_per_micro_batch=at_once),
        sft=dict(learning_rate=1e-5, final_learning_rate=1e-6), answer_tokens=512)


PROFILES = {**_SMOKE_AND_CPU, **{profile.name: profile for profile in (of_the_hub(80.0), _SMOLLM2, _MINIATURE)}}

# Behind a profile's name, after a plus: who trains, and who draws the answers.
_CHOICES: dict[str, dict[str, Any]] = {"trl": dict(backend="trl"), "unsloth": dict(backend="unsloth"),
                                       "qlora": dict(backend="unsloth", four_bit=True), "vllm": dict(rollouts="vllm")}


def plain(name: str) -> str:
    """The name of a profile without who trains and who draws: gpu+smollm2 of gpu+smollm2+trl."""
    first, *words = name.split("+")
    return "+".join([first, *(word for word in words if word not in _CHOICES)])


def get(name: str) -> Profile:
    """The profile of this name, which may say behind a plus who trains and who draws the answers: cpu+trl, gpu+smollm2+trl+vllm.

    `gpu` depends on the memory of the GPU that is here.
    """
    known = plain(name)
    if known not in PROFILES:
        raise R1Error(f"profile {name!r} is not known: choose one of {', '.join(PROFILES)}; behind it may stand +trl, +unsloth or +qlora, "
                      "and +vllm.")
    profile = PROFILES[known]
    if known == "gpu":
        from r1lib import machine  # here, as it brings torch, for which what only speaks does not wait

        if memory_gb := machine.gpu_memory_gb():
            profile = of_the_hub(memory_gb)
    for word in name.split("+"):
        profile = replace(profile, **_CHOICES.get(word, {}))
    return replace(profile, name=name)
