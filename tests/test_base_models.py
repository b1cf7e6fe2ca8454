"""The base models that ship in data/: whole, small, readable by others, and with the habits that R1-Zero selects among."""

import csv
import hashlib
import itertools
import json
from pathlib import Path

import pytest
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1lib import evaluation, paths, tasks, text
from r1lib.policy import Policy
from r1lib.sampling import SamplingSettings
from r1lib.sampling.torch import TorchSampler
from r1lib.tasks import corpus

BASES = [paths.data() / f"base-{size}" for size in ("0.4m", "1m", "3m")]             # by size
MARKS = (text.PAD, text.EOS, text.USER, text.ASSISTANT, *text.TAGS)

each_base = pytest.mark.parametrize("folder", BASES, ids=lambda folder: folder.name)


def card(folder: Path) -> dict:
    return json.loads((folder / "card.json").read_text(encoding="utf-8"))


def test_no_other_base_lies_there_and_all_are_small() -> None:
    assert sorted(paths.data().glob("base-*")) == BASES
    assert sum(file.stat().st_size for folder in BASES for file in folder.iterdir()) <= 12_000_000


@each_base
def test_transformers_alone_loads_it(folder: Path) -> None:
    model, found = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert not found["missing_keys"] and not found["unexpected_keys"] and not found["mismatched_keys"]
    assert type(model).__name__ == "Qwen2ForCausalLM" and model.config.num_key_value_heads in (1, 2)
    assert model.config.eos_token_id == tokenizer.eos_token_id == model.generation_config.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert (tokenizer.eos_token, tokenizer.pad_token) == (text.EOS, text.PAD)
    prompt = tokenizer(text.zero_prompt("What is 2 + 3?"), return_tensors="pt")
    made = model.generate(prompt["input_ids"], attention_mask=prompt["attention_mask"], max_new_tokens=4, do_sample=False)
    assert made.shape[1] > prompt["input_ids"].shape[1]


@each_base
def test_weights_are_half_precision(folder: Path) -> None:
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(name).dtype.__str__() for name in weights.keys()} == {"torch.float16"}  # noqa: SIM118 (not a dict)


@each_base
def test_vocabulary(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    vocabulary = tokenizer.get_vocab()
    assert len(tokenizer) <= 1024 and max(vocabulary.values()) < 1024
    assert [token for token in vocabulary if sum(sign in "0123456789" for sign in token) > 1] == []     # digits are single
    assert len(tokenizer("8075", add_special_tokens=False)["input_ids"]) == 4
    for mark in MARKS:
        assert len(tokenizer(mark, add_special_tokens=False)["input_ids"]) == 1
    ids = tokenizer("<think> 3+4 </think>\n<answer>7</answer>", add_special_tokens=False)["input_ids"]
    for tag in text.TAGS:
        assert ids.count(vocabulary[tag]) == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think> 3+4 </think>\n<answer>7</answer>"


@each_base
def test_transformers_reads_the_tokenizer_as_the_model_was_trained_with_it(folder: Path) -> None:
    """A tokenizer class may put its own word pattern in the file's place; the model would then meet tokens that it never saw."""
    documents = [document.text for document in itertools.islice(corpus.documents("test base models", 0), 300)]
    written = Tokenizer.from_file(str(folder / "tokenizer.json"))
    read = AutoTokenizer.from_pretrained(folder)
    ids = read(documents, add_special_tokens=False)["input_ids"]
    assert ids == [encoding.ids for encoding in written.encode_batch(documents, add_special_tokens=False)]
    assert [read.decode(row, skip_special_tokens=False, clean_up_tokenization_spaces=False) for row in ids] == documents


@each_base
def test_card(folder: Path) -> None:
    about = card(folder)
    assert set(about) == {"model", "parameters", "shape", "final_loss", "sha256", "command", "seed", "tokens", "seconds_for_all_sizes",
                          "sizes", "machine", "r1lib", "torch", "documents_shown"}
    assert about["model"] == folder.name and about["command"].startswith("python -m r1lib pretrain ")
    assert about["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert about["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        assert about["shape"][name] == getattr(model.config, name)
    shown = about["documents_shown"]
    assert set(shown) == {"manner", "domain", "template", "language"}
    assert len({sum(counts.values()) for counts in shown.values()}) == 1                               # every document is counted in each
    assert set(shown["domain"]) == set(corpus.DOMAIN_SHARES) and set(shown["template"]) == set(corpus.TEMPLATE_SHARES)
    documents = sum(shown["domain"].values())
    for name, share in corpus.DOMAIN_SHARES.items():
        assert shown["domain"][name] / documents == pytest.approx(share, abs=0.01)


@each_base
def test_loss_falls_over_all_tokens(folder: Path) -> None:
    with (folder / "loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses, seen = [float(row["loss"]) for row in rows], [int(row["tokens"]) for row in rows]
    assert seen == sorted(set(seen)) and seen[-1] == card(folder)["tokens"] and losses[-1] == card(folder)["final_loss"]
    tenth = len(losses) // 10
    assert losses[0] > 6 > 1 > losses[-1]                              # from a guess among 1,024: ln 1024 = 6.9
    assert sum(losses[-tenth:]) < sum(losses[4 * tenth:5 * tenth]) < sum(losses[:tenth])


def test_more_parameters_learn_more() -> None:
    cards = [card(folder) for folder in BASES]
    parameters, losses = [about["parameters"] for about in cards], [about["final_loss"] for about in cards]
    assert parameters == sorted(set(parameters)) and losses == sorted(set(losses), reverse=True)
    assert len({json.dumps(about["documents_shown"]) for about in cards}) == 1                         # they have read the same texts
    assert len({(folder / "tokenizer.json").read_bytes() for folder in BASES}) == 1


def asked(folder: Path, problems: int, samples: int) -> tuple[float, dict]:
    """pass@1 and the manners of a base on the math set."""
    found = evaluation.evaluate(TorchSampler(Policy.load(folder)), evaluation.spread(tasks.evaluation_set("math"), problems),
                                samples=samples, settings=SamplingSettings(max_new_tokens=256), seed=0)
    return found.summary(resamples=10)["pass@1"]["value"], evaluation.by_manner(found.completions)


def test_the_smallest_base_can_do_a_little() -> None:
    accuracy, manners = asked(BASES[0], 60, 4)
    assert 0.08 <= accuracy <= 0.25
    assert manners["glance"]["accuracy"] < min(manners["one_pass"]["accuracy"], manners["check_and_retry"]["accuracy"])


def test_the_base_can_do_a_little_and_careful_manners_are_right_most_often() -> None:
    """What R1-Zero starts from: seldom right, as it mostly answers at a glance, and able to work things out when it tries."""
    accuracy, manners = asked(BASES[-1], 180, 6)           # so many that chance does not put one manner before the other
    assert 0.08 <= accuracy <= 0.25
    assert manners["glance"]["accuracy"] < manners["one_pass"]["accuracy"] < manners["check_and_retry"]["accuracy"]
    assert manners["glance"]["share"] > 2 * manners["check_and_retry"]["share"] > 0
