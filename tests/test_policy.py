"""A policy's folder is whole or refused in one line, and its log-probabilities are the model's own."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from r1lib import text
from r1lib.errors import R1Error
from r1lib.policy import Policy, log_probabilities

PROMPTS = [[20, 21, 22, 23, 24], [30], [40, 41, 42]]
COMPLETIONS = [[50, 1], [60, 61, 62, 63, 64, 65, 1], [70]]


def test_save_and_load_give_the_same_policy(tiny_policy, tmp_path):
    tiny_policy.save(tmp_path / "model")
    loaded = Policy.load(tmp_path / "model")
    for name, tensor in tiny_policy.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert loaded.folder == tmp_path / "model" and not loaded.model.training
    sentence = "<think>the 12</think>等等"
    assert loaded.encode([sentence]) == tiny_policy.encode([sentence])
    assert (loaded.stop_ids, loaded.pad_id) == (tiny_policy.stop_ids, tiny_policy.pad_id) == ({1}, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]                    # nothing is left beside it
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").num_parameters() == tiny_policy.model.num_parameters()


def test_load_gives_the_asked_type(tiny_policy, tmp_path):
    tiny_policy.save(tmp_path / "model")
    assert Policy.load(tmp_path / "model", dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_save_replaces_an_older_model_and_what_a_killed_save_left(tiny_policy, tmp_path):
    folder = tmp_path / "model"
    tiny_policy.save(folder)
    (folder / "stale.txt").write_text("of the old model")
    (tmp_path / ".model.writing").mkdir()
    (tmp_path / ".model.writing" / "model.safetensors").write_text("half")
    with torch.no_grad():
        tiny_policy.model.model.norm.weight.fill_(7)
    tiny_policy.save(folder)
    assert Policy.load(folder).model.model.norm.weight[0] == 7
    assert not (folder / "stale.txt").exists() and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_save_that_fails_leaves_the_old_model(tiny_policy, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    tiny_policy.save(folder)

    def full_disk(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(tiny_policy.tokenizer.__class__, "save_pretrained", full_disk)
    with pytest.raises(OSError, match="no space"):
        tiny_policy.save(folder)
    assert Policy.load(folder).model.num_parameters() == tiny_policy.model.num_parameters()


def test_a_process_killed_between_the_two_renames_loses_nothing(tiny_policy, tmp_path, monkeypatch):
    folder, rename = tmp_path / "model", shutil.os.replace
    tiny_policy.save(folder)

    def die_at_the_second(source, target):
        if str(source).endswith(".writing"):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr("os.replace", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        tiny_policy.save(folder)
    assert not folder.exists()
    assert Policy.load(folder).model.num_parameters() == tiny_policy.model.num_parameters()
    monkeypatch.undo()
    tiny_policy.save(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def shards(folder, *, index):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(index)


def without(folder, name):
    from safetensors.torch import load_file, save_file
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


LISTED = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
DAMAGES = {
    "no such model folder": shutil.rmtree,
    "no config.json": lambda folder: (folder / "config.json").unlink(),
    "config.json: damaged or cut short": lambda folder: (folder / "config.json").write_text('{"model_type": "qw'),
    "cannot be read as a language model": lambda folder: (folder / "config.json").write_text('{"model_type": "no_such_type"}'),
    "no model.safetensors": lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
    "model.safetensors: damaged or cut short": lambda folder: cut(folder / "model.safetensors"),
    "safetensors: damaged or cut short": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "model-00002-of-00002.safetensors: damaged or cut short": lambda folder: shards(folder, index=LISTED),
    "index.json: damaged": lambda folder: shards(folder, index="[]"),
    "the weights lack 1 tensors of the model (model.layers.1.mlp.up_proj.weight": lambda folder: without(
        folder, "model.layers.1.mlp.up_proj.weight"),
    "cannot be read as a language model (": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "tokenizer.json: damaged or cut short": lambda folder: cut(folder / "tokenizer.json"),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_bad_folder_is_one_line_that_names_it(message, tiny_policy, tmp_path):
    folder = tmp_path / "model"
    tiny_policy.save(folder)
    DAMAGES[message](folder)
    with pytest.raises(R1Error) as caught:
        Policy.load(folder)
    line = str(caught.value)
    assert message in line and str(folder) in line and "\n" not in line


def test_a_name_of_the_hub_is_no_folder():
    with pytest.raises(R1Error, match="owner/model: no such model folder"):
        Policy.load("owner/model")


def test_a_tokenizer_without_a_fast_back_end_decodes_too(tiny_policy):
    rows = [tiny_policy.encode(["<think>12 + 3"])[0], [], [tiny_policy.tokenizer.eos_token_id]]
    fast, tokenizer = tiny_policy.decode_all(rows), tiny_policy.tokenizer

    class Slow:
        is_fast, eos_token_id, pad_token_id = False, tokenizer.eos_token_id, tokenizer.pad_token_id
        batch_decode = staticmethod(tokenizer.batch_decode)

    assert Policy(tiny_policy.model, Slow()).decode_all(rows) == fast == ["<think>12 + 3", "", ""]


def test_encode_adds_nothing_and_decode_keeps_marks(tiny_policy):
    sentence = f"{text.USER}the 12 + 3{text.ASSISTANT}<think>in</think>"
    ids = tiny_policy.encode([sentence, ""])
    assert ids[1] == [] and tiny_policy.decode(ids[0]) == sentence
    assert tiny_policy.encode(["407"]) == [[tiny_policy.tokenizer.convert_tokens_to_ids(digit) for digit in "407"]]     # one token a digit
    assert tiny_policy.decode([*ids[0], 1, 0, 0]) == sentence
    assert tiny_policy.decode([1, *ids[0]]) == text.EOS + sentence
    assert tiny_policy.tokenizer.decode(ids[0], skip_special_tokens=True) == sentence     # TRL decodes so, and rewards need the tags
    assert tiny_policy.decode([]) == "" and tiny_policy.encode([]) == []


def test_stop_ids_come_from_the_tokenizer_and_the_generation_settings(tiny_policy):
    tiny_policy.model.generation_config.eos_token_id = [5, 7]
    assert tiny_policy.stop_ids == {1, 5, 7}
    tiny_policy.model.generation_config.eos_token_id = None
    assert tiny_policy.stop_ids == {1}


def one_by_one(model, temperature):
    """The definition, one row at a time, in double precision."""
    rows = []
    for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True):
        logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1:-1].double() / temperature
        logps = logits.log_softmax(-1)
        rows.append((logps[torch.arange(len(completion)), completion], -(logps.exp() * logps).sum(-1)))
    return rows


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_equal_those_of_single_rows(tiny_policy, temperature):
    logprobs, mask, entropy = log_probabilities(tiny_policy.model, PROMPTS, COMPLETIONS, temperature=temperature)
    assert logprobs.shape == mask.shape == entropy.shape == (3, 7) and logprobs.dtype == torch.float32
    assert mask.sum(1).tolist() == [2, 7, 1] and mask.dtype == torch.bool
    assert not logprobs[~mask].any() and not entropy[~mask].any()
    for row, (expected, expected_entropy) in enumerate(one_by_one(tiny_policy.model, temperature)):
        torch.testing.assert_close(logprobs[row, :len(expected)].double(), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(entropy[row, :len(expected)].double(), expected_entropy, atol=1e-5, rtol=1e-5)


def test_the_gradient_of_log_probabilities_equals_that_of_single_rows(tiny_policy):
    weights = torch.randn(3, 7, generator=torch.Generator().manual_seed(1))
    logprobs, _, entropy = log_probabilities(tiny_policy.model, PROMPTS, COMPLETIONS)
    (logprobs * weights).sum().backward()
    assert not entropy.requires_grad
    batched = {name: parameter.grad.clone() for name, parameter in tiny_policy.model.named_parameters()}
    tiny_policy.model.zero_grad()
    sum((expected * weights[row, :len(expected)]).sum() for row, (expected, _) in enumerate(one_by_one(tiny_policy.model, 1.0))).backward()
    for name, parameter in tiny_policy.model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
        torch.testing.assert_close(batched[name], parameter.grad, atol=1e-4, rtol=1e-3, msg=name)


def test_entropy_of_a_uniform_model_is_the_logarithm_of_its_vocabulary(tiny_policy):
    with torch.no_grad():
        tiny_policy.model.model.norm.weight.zero_()
    logprobs, mask, entropy = log_probabilities(tiny_policy.model, PROMPTS, COMPLETIONS)
    uniform = torch.log(torch.tensor(float(len(tiny_policy.tokenizer))))
    torch.testing.assert_close(entropy[mask], uniform.expand(10))
    torch.testing.assert_close(logprobs[mask], -uniform.expand(10))


def test_prompt_logits_are_not_computed(tiny_policy, monkeypatch):
    kept = []
    forward = tiny_policy.model.forward
    monkeypatch.setattr(tiny_policy.model, "forward", lambda **inputs: kept.append(inputs["logits_to_keep"]) or forward(**inputs))
    log_probabilities(tiny_policy.model, [list(range(20, 60))] * 2, [[5, 6], [7]])
    assert kept == [3]                                # two tokens, and the place before the first


def test_a_row_without_a_completion_is_empty(tiny_policy):
    logprobs, mask, entropy = log_probabilities(tiny_policy.model, [[20], [21, 22]], [[], [30]])
    assert mask.tolist() == [[False], [True]] and logprobs[0, 0] == 0 == entropy[0, 0]
