"""A policy: a language model, its tokenizer, and the log-probabilities that training differentiates.

A policy's folder is plain Hugging Face format (safetensors, config, tokenizer), so any other tool reads what we write.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from r1lib.errors import R1Error

_Movable = TypeVar("_Movable", PreTrainedModel, Tensor)

logging.disable_progress_bar()      # models of a few megabytes are read in an instant; the bars would fill the notebooks


@dataclass
class Policy:
    """A model with the tokenizer that belongs to it.

    folder: where it was read from, or None for one made in memory.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    folder: Path | None = None

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> "Policy":
        """Read a model folder, ready to sample from.

        A folder that is missing, damaged or not a model is an `R1Error` that names it. Code that comes with a model is never run, pickled
        weights are never read, and no hub is asked.
        """
        local = whole_folder(Path(folder))
        safely = dict(trust_remote_code=False, local_files_only=True)
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(local), **safely)
            model, found = AutoModelForCausalLM.from_pretrained(
                str(local), dtype=dtype, use_safetensors=True, output_loading_info=True, **safely)
        except Exception as error:       # what these raise for a folder that is no model is of any type, `Exception` itself included
            raise R1Error(f"{folder}: cannot be read as a language model ({first_line(error)}).") from error
        if found["missing_keys"]:        # transformers would go on with random weights in their place
            missing = sorted(found["missing_keys"])
            raise R1Error(f"{folder}: the weights lack {len(missing)} tensors of the model ({missing[0]} ...). Copy or train it again.")
        return cls(on_device(model, device).eval(), tokenizer, local)

    def save(self, folder: str | Path) -> None:
        """Write the policy as a plain Hugging Face folder, all or nothing.

        A process that is killed on the way leaves what `load` reads as the old policy or as the new one, never half of one.
        """
        folder = Path(folder)
        writing, aside = _writing(folder), _aside(folder)
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir(parents=True)
        self.model.save_pretrained(writing)
        self.tokenizer.save_pretrained(writing)
        if folder.exists():
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(folder, aside)    # a folder cannot be renamed onto a filled one; `load` looks there if we die before the next line
        os.replace(writing, folder)
        shutil.rmtree(aside, ignore_errors=True)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, and nothing that is not in the text."""
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids. Marks such as tags stay; padding and end-of-text tokens at the end go."""
        return self.decode_all([ids])[0]

    def decode_all(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The texts of many rows of ids, as `decode`, several at a time."""
        silent = {self.pad_id, *self.stop_ids}
        cut = []
        for ids in rows:
            end = len(ids)
            while end and ids[end - 1] in silent:
                end -= 1
            cut.append(list(ids[:end]))
        if self.tokenizer.is_fast:                       # all rows at once, several threads; transformers decodes one by one
            return self.tokenizer.backend_tokenizer.decode_batch(cut, skip_special_tokens=False)
        return self.tokenizer.batch_decode(cut, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Every id that ends a text: the tokenizer's, and those that the model's generation settings name."""
        named = self.model.generation_config.eos_token_id if self.model.generation_config else None
        named = [named] if isinstance(named, int) else named or []
        return frozenset(id for id in [*named, self.tokenizer.eos_token_id] if id is not None)

    @property
    def pad_id(self) -> int:
        """What fills the unused end of a row; without a token of its own it is the end of text, which is never looked at there."""
        ids = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return next(id for id in ids if id is not None)


def log_probabilities(
    model: torch.nn.Module, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[int]], *, temperature: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """How probable the model finds each token of each completion, in one forward pass.

    prompt_ids, completion_ids: one row each per answer, of any lengths; prompts are not empty.
    Returns, all [rows, longest completion]: log-probabilities under softmax(logits / temperature), 0 behind a row's end; the mask that is
    True on a row's tokens; the entropy of each position's distribution in nats, as a measurement, with no gradient.
    The arithmetic behind the logits is float32 whatever the model's type.
    """
    device = next(model.parameters()).device
    prompts = torch.tensor([len(row) for row in prompt_ids], device=device)
    lengths = torch.tensor([len(row) for row in completion_ids], device=device)
    longest = max(map(len, completion_ids), default=0)
    rows = [[*prompt, *completion] for prompt, completion in zip(prompt_ids, completion_ids, strict=True)]
    width = max(map(len, rows), default=0)
    # Padded on the right under causal attention, no token sees a pad: positions are 0, 1, 2 ... in every row and no mask is needed.
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)

    mask = torch.arange(longest, device=device) < lengths[:, None]               # [rows, longest]
    start = min(map(len, prompt_ids)) - 1                                        # the first position whose logits anyone needs
    logits = model(input_ids=ids, logits_to_keep=width - start, use_cache=False).logits
    row, token = mask.nonzero(as_tuple=True)
    place = prompts[row] + token                                                 # where the token stands; the place before foretells it
    logps = torch.log_softmax(logits[row, place - 1 - start].float() / temperature, dim=-1)     # [tokens, vocabulary]
    chosen = logps.gather(1, ids[row, place][:, None])[:, 0]
    with torch.no_grad():
        spread = -(logps.exp() * logps).sum(-1)
    zeros = torch.zeros(mask.shape, device=device)
    return zeros.index_put((row, token), chosen), mask, zeros.index_put((row, token), spread)


def _writing(folder: Path) -> Path:
    """Where a folder is written before it is whole."""
    return folder.with_name(f".{folder.name}.writing")


def _aside(folder: Path) -> Path:
    """Where the old folder lies for the instant in which the new one takes its place."""
    return folder.with_name(f".{folder.name}.old")


def on_device(model: _Movable, device: str | torch.device) -> _Movable:
    """The model, or a tensor, on this device; an `R1Error` when there is no such device here."""
    try:
        return model.to(device)
    except (AssertionError, RuntimeError) as error:          # torch's ways of saying so
        raise R1Error(f"device {str(device)!r} cannot be used here ({first_line(error)}). "
                      "Choose cpu, or run on a machine that has it.") from error


def first_line(error: Exception) -> str:
    """What an error says first, for a message of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def whole_folder(folder: Path) -> Path:
    """The folder to read, once its parts are there and its weights are as long as they say; else an R1Error that names it."""
    if not folder.exists() and _aside(folder).exists():
        folder = _aside(folder)
    if not folder.is_dir():
        raise R1Error(f"{folder}: no such model folder. Run the stage that writes it, or correct the path.")
    if not (folder / "config.json").exists():
        raise R1Error(f"{folder}: no config.json, so this is not a model folder. Run the stage that writes it, or correct the path.")
    if not any((folder / file).exists() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise R1Error(f"{folder}: no tokenizer (tokenizer.json). Copy the one that the model was trained with.")
    for file in [*folder.glob("*.json"), *_weights(folder)]:
        try:
            if file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            else:
                with safe_open(file, "pt"):          # reads the header and compares it with the file's length
                    pass
        except (OSError, ValueError, SafetensorError) as error:
            raise R1Error(f"{file}: damaged or cut short ({first_line(error)}). Copy or train the model again.") from error
    return folder


def _weights(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, one or the shards that an index lists."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            return [folder / shard for shard in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise R1Error(f"{index}: damaged, it lists no weights. Copy or train the model again.") from error
    if not (folder / "model.safetensors").exists():
        raise R1Error(f"{folder}: no model.safetensors (other formats are not read). Save the model as safetensors.")
    return [folder / "model.safetensors"]
