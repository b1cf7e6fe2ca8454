"""The ledger as it is read: nothing wider than the terminal, nothing lost, and a picture whatever was measured."""

from pathlib import Path

import pytest

from r1lib import ledger
from r1lib.claims import CLAIMS
from r1lib.report import board, page
from r1lib.report import ledger as shown

EVIDENCE = {
    "zero/pass@1/zero - base": {"value": 0.5, "low": 0.4, "high": 0.6},                                  # reproduced
    "stages/math/r1 - zero": {"value": -0.2, "low": -0.3, "high": -0.1},                                 # not reproduced
    "stages/over-refusal/r1 - dev3": {"value": 0.2, "low": -1.0, "high": 1.0},                           # partly, over both edges
    "zero/reflection/zero : base": {"value": 3.0, "low": 2.0, "high": 4.5},                                     # partly, in times
    "evaluation/winrate_r1_vs_v3": {"value": 0.45, "low": 0.4, "high": 0.5},                             # a share
    "evaluation/length_hard_minus_easy_zero": {"value": 46.0, "low": 30.0, "high": 60.0},                # tokens
    "evaluation/easy_first": {"value": 0.0, "low": None, "high": None},                                  # steps, without an interval
}
FULL = ledger.judge({0: EVIDENCE, 1: {"zero/pass@1/zero - base": {"value": 0.51, "low": 0.41, "high": 0.61}}})
ONE = ledger.judge({0: {"zero/reflection/zero : base": EVIDENCE["zero/reflection/zero : base"]}})
NOTHING = ledger.judge({})


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("records", [FULL, NOTHING], ids=["full", "nothing"])
def test_the_table_keeps_to_the_terminal(records: list, width: int) -> None:
    lines = shown.table(records, width).splitlines()
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).split())
    assert all(claim.title.split()[-1] in words for claim in CLAIMS)
    assert lines[0].startswith("verdict") and len({line.index("  ") for line in lines[1:2]}) == 1


def test_numbers_are_read_in_their_units() -> None:
    by_name = {record["name"]: shown.ours(record) for record in FULL}
    assert by_name["reasoning"] == "-20.0 points [-30.0, -10.0]" and by_name["reflection"] == "3.00 times [2.00, 4.50]"
    assert by_name["preferred_v3"] == "45.0 % [40.0, 50.0]" and by_name["longer_when_hard"] == "+46.0 tokens [30.0, 60.0]"
    assert by_name["easy_first"] == "+0.00 steps" and by_name["aime"] == by_name["mcts"] == "–"


def test_who_is_judged_by_fewer_seeds_says_so() -> None:
    table = " ".join(shown.table(FULL, 200).split())
    assert "here, 2 seeds" in table and "-20.0 points [-30.0, -10.0], seed 0 only" in table
    single = shown.table(ledger.judge({4: EVIDENCE}), 200)
    assert "here, single seed (4)" in single and "only" not in single.replace("only a real model", "")


def test_what_another_run_measured_says_so() -> None:
    own = ledger.judge({4: EVIDENCE})
    mixed = [{**theirs, "taken_from": "elsewhere.csv"} if theirs["name"] == "pure_rl" else record
             for record, theirs in zip(own, FULL, strict=True)]
    table = " ".join(shown.table(mixed, 300).split())
    assert "here, single seed (4)" in table and "not of this run: 2 seeds of elsewhere.csv" in table
    told = shown.explained(ledger.chosen(mixed, ["pure_rl"])[0])
    assert "verdict   reproduced, by seeds 0, 1 of elsewhere.csv" in told


def test_every_verdict_is_counted() -> None:
    said = shown.counted(FULL)
    assert said.startswith(f"{len(CLAIMS)} claims: 2 reproduced, ") and "8 that only a real model can show" in said
    assert "reproduced" not in shown.counted(NOTHING).replace("not reproduced", "")


def test_one_claim_in_full() -> None:
    told = shown.explained(ledger.chosen(FULL, ["cold_start"])[0])
    assert "missing   stages/readability/dev1 - zero" in told and "verdict   not measured, by no seed" in told
    told = shown.explained(ledger.chosen(FULL, ["pure_rl"])[0])
    assert "verdict   reproduced, by seeds 0, 1" in told and "evidence  zero/pass@1/zero - base: 0.505 [" in told
    assert "evidence  evaluation/easy_first: 0 [?, ?]" in shown.explained(ledger.chosen(FULL, ["easy_first"])[0])


def test_the_markdown_is_one_table() -> None:
    rows = [line for line in shown.markdown(FULL).splitlines() if line.startswith("|")]
    assert len(rows) == len(CLAIMS) + 2 and {row.replace("\\|", "").count("|") for row in rows} == {6}


@pytest.mark.parametrize("records", [FULL, NOTHING, ONE], ids=["full", "nothing", "one"])
def test_the_picture_has_a_row_for_each_measured_claim(records: list) -> None:
    figure = shown.picture(records)
    titles = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    assert sorted(title for title in titles if title) == sorted(record["title"] for record in records if record["ours"] is not None)
    assert board.png(figure)[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("records", [FULL, NOTHING], ids=["full", "nothing"])
def test_a_notebook_shows_all_of_it(records: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    displayed = []
    monkeypatch.setenv("R1_RUNS", str(tmp_path))
    monkeypatch.setattr(page, "display", lambda bundle, raw: displayed.append(bundle))
    monkeypatch.setattr(ledger, "of_runs", lambda profile, seeds: records)
    assert shown.show("cpu") == records
    said, table = (bundle["text/plain"] for bundle in displayed)
    assert shown.counted(records) in said and all(claim.text in table for claim in CLAIMS)
    assert "Claims of notebook 05, " in said.replace("04, ", "") and (tmp_path / "cpu" / "ledger.json").exists()
    assert "<b style=" in displayed[1]["text/html"] and shown.counted(records) in capsys.readouterr().out
