"""Findings are kept with what they were made from, and made again when that changes."""

import json

import pytest

from r1lib import findings
from r1lib.errors import R1Error

ONE = {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}
TWO = {"accuracy": {"value": 0.7, "low": None, "high": None}}


def keep(tmp_path, found, **changed):
    about = {"seed": 0, "made_from": {"weights": "abc", "kinds": ("a", "b")}, "notebook": "05_the_aha_moment", **changed}
    return findings.kept("aha", lambda: found, runs=tmp_path, **about)


def test_found_once_and_read_afterwards(tmp_path):
    assert keep(tmp_path, ONE) == ONE
    assert keep(tmp_path, TWO) == ONE
    assert findings.read_all(tmp_path)["aha"]["notebook"] == "05_the_aha_moment"


@pytest.mark.parametrize("changed", [{"seed": 1}, {"made_from": {"weights": "abd"}}, {"notebook": "10_distillation"}])
def test_made_again_from_something_else(tmp_path, changed):
    keep(tmp_path, ONE)
    assert keep(tmp_path, TWO, **changed) == TWO
    assert findings.read_all(tmp_path)["aha"]["findings"] == TWO


def test_a_run_without_findings_has_none(tmp_path):
    assert findings.read_all(tmp_path) == {}


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"findings": {"a": {"value": 1}}}), json.dumps({"findings": ONE})])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "findings").mkdir()
    (tmp_path / "findings" / "aha.json").write_text(text)
    with pytest.raises(R1Error, match=r"aha\.json: these are no findings"):
        findings.read_all(tmp_path)


def test_an_experiment_that_fails_leaves_what_was_there(tmp_path):
    keep(tmp_path, ONE)
    with pytest.raises(ZeroDivisionError):
        findings.kept("aha", lambda: 1 / 0, runs=tmp_path, seed=9, made_from={}, notebook="05_the_aha_moment")
    assert findings.read_all(tmp_path)["aha"]["findings"] == ONE
