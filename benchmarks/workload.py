"""What every engine is given: the same weights, the same prompts, the same lengths, the same rewards."""

import json
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from r1lib import machine, paths, rewards, tasks, text
from r1lib.policy import Policy
from r1lib.sampling import Rollout
from r1lib.training import grpo

# Shapes of models that people train, with random weights: speed does not depend on what a model knows. SmolLM2, Qwen2.5, Qwen2.5.
SHAPES = {
    "135m": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3),
    "0.5b": dict(hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2),
    "1.5b": dict(hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2),
}
VOCABULARY = 49_152


def model_folder(name: str) -> Path:
    """A folder with this model: base-3m as it ships, or a shape with random weights, made once for the length of a run."""
    if name not in SHAPES:
        return paths.data() / name
    folder = Path(tempfile.gettempdir()) / f"r1lib-benchmark-{name}"
    if not (folder / "config.json").exists():
        config = Qwen2Config(vocab_size=VOCABULARY, max_position_embeddings=16_384, tie_word_embeddings=True,
                             eos_token_id=VOCABULARY - 7, pad_token_id=VOCABULARY - 8, bos_token_id=None, **SHAPES[name])
        torch.manual_seed(0)
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        # The miniature's tokenizer with as many more tokens: what random weights write must be readable for every engine.
        shutil.copytree(paths.data() / "base-3m", folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"), dirs_exist_ok=True)
        tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        marks, words = tokenizer["added_tokens"], tokenizer["model"]["vocab"]
        words |= {f"w{i}": i for i in range(len(words), VOCABULARY - len(marks))}
        for place, mark in enumerate(marks, VOCABULARY - len(marks)):
            mark["id"] = place                                               # transformers puts them behind the vocabulary, as here
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        model.save_pretrained(folder)
    return folder


def load(name: str, device: str, dtype: torch.dtype = torch.float32, *, endless: bool = False) -> Policy:
    """The model as a policy of ours. endless: no token ends an answer, so that all have the same length in every engine."""
    policy = Policy.load(model_folder(name), device=device, dtype=dtype)
    if endless:
        policy.tokenizer.eos_token = None
        policy.model.generation_config.eos_token_id = None
    return policy


def machine_name(device: str) -> str:
    """The GPU that is measured on, or the processor."""
    return torch.cuda.get_device_name() if device == "cuda" else str(machine.describe()).splitlines()[0].removeprefix("CPU").strip()


def prompts(count: int) -> list[str]:
    """Questions of the miniature in R1-Zero's template."""
    return [text.zero_prompt(problem.question) for problem in tasks.stream(["math", "logic"], seed=0).batch(0, count)]


def coin(completions: Sequence[str], **_: object) -> list[float]:
    """A reward that knows nothing and differs within every group, so that every answer is learnt from."""
    return [float(zlib.crc32(completion.encode()) % 2) for completion in completions]


def learn(policy: Policy, optimizer: torch.optim.Optimizer, rollouts: Sequence[Rollout], recipe: grpo.GRPORecipe, step: int) -> None:
    """One GRPO update from every answer; no two answers are alike to the coin."""
    earned = rewards.Rewards(coin([rollout.text + str(i) for i, rollout in enumerate(rollouts)]), {})
    grpo.improve(policy, optimizer, rollouts, grpo.compare(earned, recipe), recipe, step=step, seed=0)


def timed(run: Callable[[int], object], repetitions: int) -> list[float]:
    """Seconds of each repetition but the first, which warms up; `run` is given its number."""
    seconds = []
    for repetition in range(repetitions + 1):
        _wait()
        started = time.perf_counter()
        run(repetition)
        _wait()
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
