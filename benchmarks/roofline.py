"""How far from what the machine can do: operations and bytes counted, ceilings measured here and now, and the share that is reached."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig


@dataclass(frozen=True)
class Ceilings:
    """What the machine reaches at its best. arithmetic: operations/s of a large matrix product; bandwidth: bytes/s of a large copy."""

    arithmetic: float
    bandwidth: float


@dataclass(frozen=True)
class Cost:
    """What a piece of work has to do at least, however it is done. operations: additions and multiplications; bytes: read and written."""

    operations: float
    bytes: float

    def seconds(self, ceilings: Ceilings) -> float:
        """The least time: whichever of the two takes longer, as if they overlapped perfectly."""
        return max(self.operations / ceilings.arithmetic, self.bytes / ceilings.bandwidth)


def ceilings(device: str, dtype: torch.dtype) -> Ceilings:
    """Measured with shapes that suit the device: nobody's model is faster than these."""
    size = 8192 if device == "cuda" else 1536
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    block = torch.empty((2**30 if device == "cuda" else 2**27) // 4, device=device)
    other = torch.empty_like(block)
    return Ceilings(2 * size**3 / _best(lambda: a @ b, device), 2 * block.numel() * 4 / _best(lambda: other.copy_(block), device))


def _best(run: Callable[[], object], device: str) -> float:
    seconds = []
    for _ in range(12):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def weights(config: PretrainedConfig) -> tuple[int, int]:
    """How many weights are multiplied with every token: those of the layers, and those of the head."""
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = config.hidden_size * dim * (2 * config.num_attention_heads + 2 * config.num_key_value_heads)
    layers = config.num_hidden_layers * (attention + 3 * config.hidden_size * config.intermediate_size)
    return layers, config.hidden_size * config.vocab_size


def decoding(config: PretrainedConfig, rows: int, prompt: int, tokens: int, bytes_a_number: int) -> Cost:
    """Writing so many tokens of so many answers: every step reads all weights and all keys and values once."""
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers, head = weights(config)
    seen = rows * sum(prompt + step for step in range(tokens))
    operations = 2 * (layers + head) * rows * tokens + 4 * config.num_hidden_layers * config.num_attention_heads * dim * seen
    memory = tokens * (layers + head) + 2 * config.num_hidden_layers * config.num_key_value_heads * dim * seen
    return Cost(operations, bytes_a_number * memory)


def training(config: PretrainedConfig, rows: int, prompts: int, prompt: int, tokens: int) -> Cost:
    """Forward and backward over answers and, once, their prompts: three times the forward's products. Memory traffic is not the limit."""
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers, head = weights(config)
    seen = rows * sum(prompt + step for step in range(tokens)) + prompts * prompt**2 / 2
    operations = 6 * (layers * (rows * tokens + prompts * prompt) + head * rows * tokens)
    return Cost(operations + 12 * config.num_hidden_layers * config.num_attention_heads * dim * seen, 0.0)
