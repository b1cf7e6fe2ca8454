"""Fixtures for every test: a random model of twenty thousand parameters with a real tokenizer, made in milliseconds, and an endpoint."""

import signal
from collections.abc import Iterator

import pytest
import torch
from scripted_endpoint import Server
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from r1lib import text
from r1lib.policy import Policy

MARKS = (text.PAD, text.EOS, text.USER, text.ASSISTANT, *text.TAGS)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, one token a digit, a few merges; the marks are ordinary added tokens, so `skip_special_tokens` leaves the tags alone."""
    merges = [("t", "h"), ("th", "e"), ("i", "n"), ("Ġ", "the")]
    pieces = [*MARKS, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in merges)]
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in MARKS])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=text.PAD, eos_token=text.EOS)


@pytest.fixture
def tiny_policy(tiny_tokenizer: PreTrainedTokenizerFast) -> Policy:
    """A seeded Qwen2 model (hidden 32, 2 layers, 4 heads, 1 key/value head, tied embeddings), new for each test.

    Its weights are wide enough for a peaked distribution, and biases and norms are not at their start values, so that code that forgets
    one of them fails.
    """
    config = Qwen2Config(
        vocab_size=len(tiny_tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, max_position_embeddings=2048, tie_word_embeddings=True, initializer_range=0.25,
        pad_token_id=tiny_tokenizer.pad_token_id, eos_token_id=tiny_tokenizer.eos_token_id, bos_token_id=None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.3 * torch.randn_like(parameter))
    return Policy(model, tiny_tokenizer)


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As in a terminal: who is started in the background ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
