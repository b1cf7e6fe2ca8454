"""What a stage was made from: written whole, compared field by field, and told apart from a file that says nothing."""

import hashlib
import json
from pathlib import Path

import pytest

from r1lib import __version__, lineage
from r1lib.errors import R1Error

MADE_FROM = {"stage": "dev1", "seed": 0, "base_sha256": "ab", "settings": {"domains": ("math", "code"), "samples": 4},
             "recipe": {"epochs": 3}}
WHOLE = {**MADE_FROM, "parents": {"zero": "cd"}}


def test_it_is_read_as_it_was_begun(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "dev1"
    assert lineage.read(folder) is None                                                 # no folder
    begun = lineage.begin(folder, WHOLE)
    read = lineage.read(folder)
    assert read == {**json.loads(json.dumps(begun)), "data_sha256": {}}
    assert (read["finished"], read["seconds"], read["parents"], read["r1lib"]) == (False, 0.0, {"zero": "cd"}, __version__)
    assert read["code_sha256"] == lineage.code_sha256() and len(read["code_sha256"]) == 64
    assert any("torch" in line for line in read["machine"])
    assert [file.name for file in folder.iterdir()] == ["lineage.json"]                 # nothing half written is left
    (folder / "lineage.json").unlink()
    assert lineage.read(folder) is None


def test_data_beside_it_are_in_it_as_they_are_when_it_is_written(tmp_path: Path) -> None:
    begun = lineage.begin(tmp_path, WHOLE)
    for name in ("data.jsonl", "data_reasoning.jsonl", "metrics.jsonl", "endpoint.jsonl"):
        (tmp_path / name).write_text(f"{name}\n")
    lineage.write(tmp_path, {**begun, "finished": True})
    read = lineage.read(tmp_path)
    assert read["finished"] is True
    assert read["data_sha256"] == {name: hashlib.sha256(f"{name}\n".encode()).hexdigest()
                                   for name in ("data.jsonl", "data_reasoning.jsonl")}


@pytest.mark.parametrize(("content", "why"), [
    ('{"stage": "zero", ', "Expecting"), ("[1, 2]", "list indices"), ('{"stage": "zero"}', "'finished'"), ("", "Expecting value"),
    ('{"finished": true, "seconds": "some", "parents": {}}', "'some'"), ('{"finished": true, "seconds": 1}', "'parents'"),
    ('{"finished": true, "seconds": 1, "parents": 7}', "not iterable"), ("null", "NoneType"), (b"\xff", "utf-8"),
])
def test_a_file_that_is_none_is_named(content: str | bytes, why: str, tmp_path: Path) -> None:
    file = tmp_path / "lineage.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(R1Error) as error:
        lineage.read(tmp_path)
    said = str(error.value)
    assert said.startswith(f"{file}: cannot be read as a lineage (") and why in said and f"move {tmp_path} away" in said
    assert "\n" not in said


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "dev1").write_text("mine")
    with pytest.raises(R1Error, match="dev1: is a file, but a stage needs a folder"):
        lineage.read(tmp_path / "dev1")


def test_the_same_is_the_same(tmp_path: Path) -> None:
    """Tuples come back from JSON as lists, and whatever else stands in a lineage does not matter."""
    lineage.begin(tmp_path, WHOLE)
    lineage.require_same(tmp_path, lineage.read(tmp_path), MADE_FROM)


@pytest.mark.parametrize(("changes", "difference"), [
    ({"seed": 1}, "made with seed=0, this run asks for seed=1"), ({"stage": "dev2", "seed": 1}, "made with stage=dev1"),
    ({"settings": {"domains": ("math",), "samples": 5}}, "made with domains=['math', 'code'], this run asks for domains=['math']"),
    ({"settings": {"domains": ("math", "code"), "samples": 5}}, "made with samples=4, this run asks for samples=5"),
    ({"settings": {"domains": ("math", "code")}}, "made with samples=4, this run asks for samples=None"),
    ({"settings": {**MADE_FROM["settings"], "more": 1}}, "made with more=None, this run asks for more=1"),
    ({"recipe": {"epochs": 4}, "base": "base-1m"}, "made with epochs=3, this run asks for epochs=4"),
    ({"base": "base-1m"}, "made with base=None, this run asks for base=base-1m"),
])
def test_the_first_difference_is_named(changes: dict, difference: str, tmp_path: Path) -> None:
    lineage.begin(tmp_path, WHOLE)
    with pytest.raises(R1Error) as error:
        lineage.require_same(tmp_path, lineage.read(tmp_path), {**MADE_FROM, **changes})
    assert str(error.value).startswith(f"{tmp_path}: {difference}") and "\n" not in str(error.value)


def test_weights_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    def made(name: str, *parts: bytes) -> str:
        (tmp_path / name).mkdir()
        for number, part in enumerate(parts):
            (tmp_path / name / f"model-{number}.safetensors").write_bytes(part)
        return lineage.weights_sha256(tmp_path / name)

    one, same, other, in_parts = made("one", b"ab"), made("same", b"ab"), made("other", b"ac"), made("in parts", b"ab", b"c")
    assert one == same == hashlib.sha256(b"ab").hexdigest() and len({one, other, in_parts}) == 3
    (tmp_path / "one" / "config.json").write_text("{}")
    assert lineage.weights_sha256(tmp_path / "one") == one


def test_a_folder_is_shown_without_the_machines_part_of_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_RUNS", str(tmp_path / "runs"))
    assert lineage.shown(tmp_path / "runs" / "cpu" / "dev1") == "runs/cpu/dev1"
    assert lineage.shown(tmp_path / "elsewhere") == "elsewhere"
