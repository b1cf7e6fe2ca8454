"""Pretraining of the miniature's base models from the generated corpus: a tokenizer, and a Qwen2 of 0.4 to 3 million parameters.

    python -m r1lib pretrain --seed 0 --out data

Minutes on one GPU for all three sizes, which read the very same texts side by side. The corpus is made on the fly by worker processes, so
no text is seen twice; nothing is read from disk or from a network.
"""

import csv
import hashlib
import itertools
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from r1lib import __version__, text
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.tasks import corpus

VOCABULARY = 1024
ROW = 512               # tokens in a training row; documents are packed whole, so that every row begins with a prompt, as sampling does
TOKENS = 400_000_000
# How Qwen2 splits text into words before its merges apply. transformers rebuilds a Qwen2 model's tokenizer with this pattern whatever the
# file says, so with another one the model would meet token boundaries that it never saw. Digits are single.
QWEN2_WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


@dataclass(frozen=True)
class Size:
    """A shape and its learning rate. One key/value head: the cache is what decoding on a CPU waits for."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    learning_rate: float


SIZES = {
    "0.4m": Size(96, 256, 3, 4, learning_rate=5e-3),
    "1m": Size(128, 320, 5, 4, learning_rate=4e-3),
    "3m": Size(192, 512, 7, 4, learning_rate=3e-3),
}


def train_tokenizer(documents: int = 20_000) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most 1,024 tokens with single digits.

    Tags are ordinary added tokens, since special ones vanish when text is decoded.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2_WORDS), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    added = [text.PAD, text.EOS, text.USER, text.ASSISTANT, *text.TAGS]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - len(added), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator((d.text for d in itertools.islice(corpus.documents("tokenizer", 0), documents)), trainer)
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in added])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=text.PAD, eos_token=text.EOS, unk_token=text.PAD,
                                   clean_up_tokenization_spaces=False)


def build_model(size: Size, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2ForCausalLM:
    """A Qwen2 with random weights."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=size.hidden_size, intermediate_size=size.intermediate_size,
        num_hidden_layers=size.num_hidden_layers, num_attention_heads=size.num_attention_heads, num_key_value_heads=1,
        max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    return Qwen2ForCausalLM(config)


def _packed_shard(job: tuple[str, int, int, int, int]) -> tuple[np.ndarray, dict[str, Counter]]:
    """`rows` rows of whole documents, padded at the end, and a count of what they hold. Runs in a worker process."""
    tokenizer_json, seed, shard, rows, pad = job
    tokenizer = Tokenizer.from_str(tokenizer_json)
    packed = np.full((rows, ROW), pad, dtype=np.int16)
    shown = {"manner": Counter(), "domain": Counter(), "template": Counter(), "language": Counter()}
    source = corpus.documents(seed, shard)
    row = filled = 0
    while row < rows:
        chunk = list(itertools.islice(source, 200))
        for document, encoding in zip(chunk, tokenizer.encode_batch([document.text for document in chunk]), strict=True):
            ids = encoding.ids
            if len(ids) > ROW:
                continue
            if filled + len(ids) > ROW:
                row, filled = row + 1, 0
                if row == rows:
                    break
            packed[row, filled:filled + len(ids)] = ids
            filled += len(ids)
            for name, value in (("manner", document.manner), ("domain", document.problem.domain), ("template", document.template),
                                ("language", document.problem.language)):
                shown[name][value] += 1
    return packed, shown


def _next_token_loss(model: torch.nn.Module, ids: Tensor, pad: int) -> Tensor:
    """Mean cross-entropy of the next token over [rows, ROW] ids, padding left out."""
    logits = model(input_ids=ids).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), ignore_index=pad)


def _schedule(done: float) -> float:
    """Warm up over the first hundredth, then fall in a straight line to a fiftieth."""
    return min(done / 0.01, 1.0) * max(0.02, 1.0 - done)


class _Learner:
    """One size: its model, its optimizer and its loss so far."""

    def __init__(self, name: str, tokenizer: PreTrainedTokenizerFast, seed: int, device: str) -> None:
        self.name, self.size, self.pad, self.device = name, SIZES[name], tokenizer.pad_token_id, device
        self.model = build_model(self.size, tokenizer, seed).to(device)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.size.learning_rate, betas=(0.9, 0.95), weight_decay=0.05,
                                           fused=device == "cuda")
        self.loss_of = torch.compile(_next_token_loss) if device == "cuda" else _next_token_loss
        self.curve: list[tuple[int, int, float]] = []              # step, tokens, loss

    def learn(self, ids: Tensor, done: float) -> Tensor:
        """One update on [rows, ROW] ids; `done` is the share of the training behind it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.size.learning_rate * _schedule(done)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            loss = self.loss_of(self.model, ids, self.pad)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def save(self, folder: Path, tokenizer: PreTrainedTokenizerFast, facts: dict[str, object]) -> None:
        """The model in float16, and its card: what it is, what made it, what it was shown."""
        Policy(self.model.half(), tokenizer, None).save(folder)
        with (folder / "loss.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("step", "tokens", "loss"), *self.curve])
        card = {"model": f"base-{self.name}", "parameters": self.parameters, "shape": asdict(self.size), "final_loss": self.curve[-1][2],
                "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(), **facts}
        (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")


def pretrain(sizes: Sequence[str], out: Path, *, seed: int = 0, tokens: int = TOKENS, rows_per_step: int = 192, workers: int | None = None,
             device: str = "cuda", command: str = "") -> None:
    """Train base models of these sizes side by side on the same texts and write each to `out`/base-<size>, with its card and loss curve."""
    if unknown := [name for name in sizes if name not in SIZES]:
        raise R1Error(f"size {unknown[0]!r} is not known: choose from {', '.join(SIZES)}.")
    if device not in ("cpu", "cuda"):
        raise R1Error(f"device {device!r} is not known: base models are pretrained on 'cuda' or, a few tokens, on 'cpu'.")
    if device == "cuda" and not torch.cuda.is_available():
        raise R1Error("device 'cuda' is not here: pretrain on a machine with a GPU, or pass --device cpu and few --tokens.")
    if tokens < 1 or (workers is not None and workers < 1):
        raise R1Error(f"tokens={tokens} and workers={workers}: both must be at least 1.")
    started = time.time()
    tokenizer = train_tokenizer()
    learners = [_Learner(name, tokenizer, seed, device) for name in sizes]
    step_tokens = rows_per_step * ROW
    steps = max(1, tokens // step_tokens)
    for learner in learners:
        print(f"base-{learner.name}: {learner.parameters:,} parameters, {steps:,} steps of {step_tokens:,} tokens on {device}", flush=True)

    shown: dict[str, Counter] = {}
    for step, (rows, counts) in zip(range(steps), _shards(tokenizer, seed, rows_per_step, workers), strict=False):
        for name, count in counts.items():
            shown.setdefault(name, Counter()).update(count)
        ids = torch.from_numpy(rows.astype(np.int64)).to(device, non_blocking=True)
        losses = [learner.learn(ids, (step + 1) / steps) for learner in learners]
        if step % max(1, steps // 100) == 0 or step == steps - 1:
            done = (step + 1) * step_tokens
            for learner, loss in zip(learners, losses, strict=True):
                learner.curve.append((step, done, round(loss.item(), 4)))
            said = "  ".join(f"{learner.name} {learner.curve[-1][2]:.4f}" for learner in learners)
            speed = done / (time.time() - started) / 1e3
            print(f"  step {step:>6,}  tokens {done / 1e6:7.1f} M  loss {said}  {speed:,.0f} k tokens/s", flush=True)

    facts = {"command": command, "seed": seed, "tokens": steps * step_tokens, "seconds_for_all_sizes": round(time.time() - started),
             "sizes": list(sizes), "machine": torch.cuda.get_device_name() if device == "cuda" else "cpu",
             "r1lib": __version__, "torch": torch.__version__,
             "documents_shown": {name: dict(count.most_common()) for name, count in shown.items()}}
    for learner in learners:
        learner.save(out / f"base-{learner.name}", tokenizer, facts)


def _shards(tokenizer: PreTrainedTokenizerFast, seed: int, rows: int,
            workers: int | None) -> Iterator[tuple[np.ndarray, dict[str, Counter]]]:
    """Packed shards 0, 1, 2 ... in order, made ahead by worker processes; the same whatever their number."""
    serialized = tokenizer.backend_tokenizer.to_str()
    jobs = ((serialized, seed, shard, rows, tokenizer.pad_token_id) for shard in itertools.count())
    with multiprocessing.get_context("spawn").Pool(workers or max(1, (os.cpu_count() or 2) - 2)) as pool:
        ahead = [pool.apply_async(_packed_shard, (job,)) for job in itertools.islice(jobs, 4 * pool._processes)]
        while True:                                        # a bounded queue: imap would run ahead without end
            yield ahead.pop(0).get()
            ahead.append(pool.apply_async(_packed_shard, (next(jobs),)))
