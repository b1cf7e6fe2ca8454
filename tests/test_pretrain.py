"""Pretraining: rows of whole documents, one stream for all sizes, a loss that falls, folders that others can read."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from r1lib import text
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.tasks import corpus
from r1lib.training import pretrain

ROWS = 6


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return pretrain.train_tokenizer(documents=300)


@pytest.fixture(scope="module")
def made(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sizes trained side by side for a few steps."""
    out = tmp_path_factory.mktemp("pretrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "train_tokenizer", lambda: tokenizer)
        pretrain.pretrain(["0.4m", "1m"], out, seed=3, tokens=8 * 4 * pretrain.ROW + 5, rows_per_step=4, workers=1, device="cpu",
                          command="a test")
    return out


def test_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) <= pretrain.VOCABULARY and tokenizer.eos_token == text.EOS and tokenizer.pad_token == text.PAD
    assert [token for token in tokenizer.get_vocab() if sum(sign in "0123456789" for sign in token) > 1] == []
    for written in (text.zero_prompt("算8075+12。"), "<think> a\n</think>\n<answer>12 and 5</answer>", "def f(x):\n    return x+1",
                    "ünseen 🙂 words"):
        ids = tokenizer(written, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == written
    assert len(tokenizer("".join(text.TAGS), add_special_tokens=False)["input_ids"]) == len(text.TAGS)


def test_rows_hold_whole_documents_of_the_stream_in_order(tokenizer: PreTrainedTokenizerFast) -> None:
    packed, shown = pretrain._packed_shard((tokenizer.backend_tokenizer.to_str(), 5, 0, ROWS, tokenizer.pad_token_id))
    assert packed.shape == (ROWS, pretrain.ROW)
    read = []
    for row in packed.tolist():
        ids = row[:row.index(tokenizer.pad_token_id)] if tokenizer.pad_token_id in row else row
        assert set(row[len(ids):]) <= {tokenizer.pad_token_id} and ids[-1] == tokenizer.eos_token_id
        read += [part + text.EOS for part in tokenizer.decode(ids).split(text.EOS)[:-1]]
    source = [document for document in itertools.islice(corpus.documents(5, 0), len(read) + 20)
              if len(tokenizer(document.text)["input_ids"]) <= pretrain.ROW]
    assert read == [document.text for document in source[:len(read)]]
    for counts in shown.values():
        assert sum(counts.values()) == len(read)
    assert shown["domain"]["math"] == sum(document.problem.domain == "math" for document in source[:len(read)])


def test_rows_do_not_depend_on_the_number_of_workers(tokenizer: PreTrainedTokenizerFast) -> None:
    serialized = tokenizer.backend_tokenizer.to_str()
    alone = [pretrain._packed_shard((serialized, 5, shard, ROWS, tokenizer.pad_token_id)) for shard in range(9)]
    stream = pretrain._shards(tokenizer, 5, ROWS, 2)
    for (rows, counts), (expected, expected_counts) in zip(itertools.islice(stream, 9), alone, strict=True):
        assert np.array_equal(rows, expected) and counts == expected_counts
    stream.close()
    assert len({rows.tobytes() for rows, _ in alone}) == 9                                # and no shard comes twice


def test_learning_lowers_the_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    packed, _ = pretrain._packed_shard((tokenizer.backend_tokenizer.to_str(), 5, 0, 4, tokenizer.pad_token_id))
    ids = torch.from_numpy(packed.astype(np.int64))
    learner = pretrain._Learner("0.4m", tokenizer, 0, "cpu")
    losses = [learner.learn(ids, (step + 1) / 12).item() for step in range(12)]
    assert losses[0] == pytest.approx(np.log(pretrain.VOCABULARY), abs=0.3)               # knows nothing: all tokens alike
    assert losses[-1] < losses[0] - 1.5


def test_padding_is_left_out_of_the_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    model = pretrain.build_model(pretrain.SIZES["0.4m"], tokenizer, 0)
    ids = torch.randint(0, 200, (2, 20))
    padded = torch.cat([ids, torch.full((2, 30), tokenizer.pad_token_id)], dim=1)
    with torch.no_grad():
        plain, with_padding = (pretrain._next_token_loss(model, some, tokenizer.pad_token_id).item() for some in (ids, padded))
    assert plain == pytest.approx(with_padding, abs=1e-5)


def test_schedule_warms_up_and_falls() -> None:
    rates = [pretrain._schedule(done / 1000) for done in range(1, 1001)]
    assert rates[0] < rates[9] and max(rates) == rates[9] == pytest.approx(0.99)
    assert rates[9:] == sorted(rates[9:], reverse=True) and rates[-1] == 0.02


def test_folders_are_plain_models_with_cards(made: Path) -> None:
    assert sorted(folder.name for folder in made.iterdir()) == ["base-0.4m", "base-1m"]
    cards = []
    for folder in sorted(made.iterdir()):
        model, read = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        assert model.config.hidden_size == pretrain.SIZES[folder.name.removeprefix("base-")].hidden_size
        assert len(read) <= model.config.vocab_size and Policy.load(folder).stop_ids == {read.eos_token_id}
        about = json.loads((folder / "card.json").read_text())
        assert (about["model"], about["command"], about["seed"], about["machine"]) == (folder.name, "a test", 3, "cpu")
        assert about["sizes"] == ["0.4m", "1m"] and about["tokens"] == 8 * 4 * pretrain.ROW
        assert about["parameters"] == sum(parameter.numel() for parameter in model.parameters())
        with (folder / "loss.csv").open() as file:
            curve = list(csv.DictReader(file))
        assert [int(row["step"]) for row in curve] == list(range(8)) and float(curve[-1]["loss"]) == about["final_loss"]
        assert float(curve[-1]["loss"]) < float(curve[0]["loss"]) - 0.5
        cards.append(about)
    assert cards[0]["documents_shown"] == cards[1]["documents_shown"] and cards[0]["parameters"] < cards[1]["parameters"]
    assert len({(folder / "tokenizer.json").read_bytes() for folder in made.iterdir()}) == 1


def test_an_unknown_size_and_a_missing_gpu_are_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(R1Error, match="size '7b' is not known: choose from 0.4m, 1m, 3m") as found:
        pretrain.pretrain(["1m", "7b"], tmp_path, device="cpu")
    assert "\n" not in str(found.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(R1Error, match="device 'cuda' is not here.*--device cpu"):
        pretrain.pretrain(["1m"], tmp_path)
    assert list(tmp_path.iterdir()) == []
