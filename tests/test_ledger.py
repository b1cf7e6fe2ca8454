"""Evidence from a run that was made up, pooled over seeds and judged; what is damaged, missing or replaced never makes a verdict."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from r1lib import findings, ledger, paths, stages, tasks
from r1lib.claims import CLAIMS, Claim, Test, falls, needs_a_real_model, rises
from r1lib.errors import R1Error
from r1lib.evaluation import Completion, Evaluation
from r1lib.lineage import weights_sha256

Test.__test__ = False                          # a claim's test, not one of pytest's
PROFILE, SAMPLES = "smoke", 2                  # answers a problem in the table of all stages


def interval(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


# ------------------------------------------------------------------------------------------------------------------------------------------
# A made-up run

@pytest.fixture()
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("R1_RUNS", str(tmp_path))
    (tmp_path / PROFILE).mkdir()
    return tmp_path / PROFILE


def stage(runs: Path, name: str, *, seed: int = 0, finished: bool = True, weights: bytes = b"") -> Path:
    folder = runs / name
    (folder / "model").mkdir(parents=True, exist_ok=True)
    (folder / "model" / "model.safetensors").write_bytes(weights or name.encode())
    made = {"stage": name, "seed": seed, "finished": finished, "seconds": 1.0, "parents": {}}
    (folder / "lineage.json").write_text(json.dumps(made))
    return folder


def asked(runs: Path, name: str, right: list[int], *, set_name: str = "math", many: bool = False, lengths: int = 10, skip: int = 0) -> None:
    """Store an evaluation in which `right[i]` of the two answers to problem i are right."""
    model = stages.base_folder("base-0.4m") if name == "base" else runs / name / "model"
    problems = tasks.evaluation_set(set_name)[skip:skip + len(right)]
    completions = [Completion(problem.id, problem.domain, problem.kind, problem.level, problem.language,
                              "<think>1</think><answer>2</answer>", lengths + i, True, float(answer < count), 1.0, 0, False)
                   for i, (problem, count) in enumerate(zip(problems, right, strict=True)) for answer in range(SAMPLES)]
    about = {"stage": name, "set": set_name, "weights_sha256": weights_sha256(model)}
    file = "evaluation.json" if many else f"evaluation-{set_name}-{SAMPLES}.json"
    Evaluation(tuple(problems), tuple(completions), SAMPLES, {}, 0, "{question}", about).save(runs / name / file)


def gathered(runs: Path, seed: int = 0) -> dict:
    return ledger.gather(PROFILE, seed=seed, runs=runs)


RIGHT_BEFORE, RIGHT_AFTER = [0, 1, 0, 2, 0, 1], [2, 1, 1, 2, 0, 2]


@pytest.fixture()
def measured(runs: Path) -> Path:
    """A run with dev1 and dev2 on math."""
    for name, right in (("dev1", RIGHT_BEFORE), ("dev2", RIGHT_AFTER)):
        stage(runs, name)
        asked(runs, name, right)
    return runs


def test_stages_are_compared_problem_by_problem(measured: Path) -> None:
    found = gathered(measured)["stages/math/dev2 - dev1"]
    differences = (np.array(RIGHT_AFTER) - RIGHT_BEFORE) / SAMPLES
    assert found["value"] == pytest.approx(differences.mean())
    assert differences.min() <= found["low"] < found["value"] < found["high"] <= differences.max()


def test_only_what_claims_ask_for_is_gathered(measured: Path) -> None:
    assert set(gathered(measured)) == {"stages/math/dev2 - dev1"}


def test_ratios_and_differences_of_measures(runs: Path) -> None:
    stage(runs, "zero")
    asked(runs, "base", RIGHT_BEFORE, many=True, lengths=10)
    asked(runs, "zero", RIGHT_AFTER, many=True, lengths=30)
    found = gathered(runs)
    assert found["zero/mean_length/zero : base"]["value"] == pytest.approx(32.5 / 12.5)
    assert 2 < found["zero/mean_length/zero : base"]["low"] < 32.5 / 12.5 < found["zero/mean_length/zero : base"]["high"] < 3.2
    gain_1, gain_k = (np.array(RIGHT_AFTER) - RIGHT_BEFORE) / 2, np.minimum(RIGHT_AFTER, 1) - np.minimum(RIGHT_BEFORE, 1)
    assert found["zero/pass@1 - pass@k/zero - base"]["value"] == pytest.approx((gain_1 - gain_k).mean())


def test_the_base_is_the_same_for_all_seeds(runs: Path) -> None:
    asked(runs, "base", RIGHT_BEFORE, many=True)
    seed = runs / "seeds" / "1"
    stage(seed, "zero", seed=1)
    asked(seed, "zero", RIGHT_AFTER, many=True)
    assert "zero/pass@1/zero - base" in gathered(seed, seed=1)
    assert ledger.run_folder(PROFILE, 1) == seed and ledger.run_folder(PROFILE, 0) == runs


def test_a_curve_is_its_last_quarter_minus_its_first(runs: Path) -> None:
    name = "curves/r1_hacked/rewards/helpful_reward/mean"
    values = [0.5, 0.6, 0.55, 0.7, 0.6, 0.75, 0.9, 0.8]
    rows = [{"step": step, "rewards/helpful_reward/mean": value} for step, value in enumerate(values)]
    file = stage(runs, "r1_hacked") / "metrics.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"step": 8, "eval_quality": 0.4}]))
    found = gathered(runs)[name]
    assert found["value"] == pytest.approx(0.85 - 0.55)
    assert found["high"] - found["value"] == pytest.approx(4.30 * math.sqrt((0.005 + 0.005) / 2))       # t of two degrees of freedom
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:7]))                     # a quarter would be one step: no spread
    assert name not in gathered(runs)


def test_what_is_missing_unfinished_or_another_is_no_evidence(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "stages/math/dev2 - dev1"
    for change in ({"finished": False}, {"seed": 7}, {"weights": b"another"}):
        stage(measured, "dev2", **change)
        assert name not in gathered(measured), change
    assert "dev2: trained with seed 7, not 0: left out." in capsys.readouterr().out
    stage(measured, "dev2")
    assert name in gathered(measured)
    asked(measured, "dev2", RIGHT_AFTER, skip=1)                                             # on other problems
    assert name not in gathered(measured)
    (measured / "dev2" / f"evaluation-math-{SAMPLES}.json").unlink()
    assert name not in gathered(measured)


def test_a_damaged_evaluation_is_named(measured: Path) -> None:
    file = measured / "dev2" / f"evaluation-math-{SAMPLES}.json"
    file.write_text(file.read_text(encoding="utf-8")[:300], encoding="utf-8")
    with pytest.raises(R1Error, match=r"evaluation-math-2\.json: this is not an evaluation"):
        gathered(measured)


def test_where_nothing_was_run_is_said(runs: Path) -> None:
    with pytest.raises(R1Error, match="seeds/4: there is no run here"):
        ledger.of_runs(PROFILE, [4])
    with pytest.raises(R1Error, match="profile 'laptop' is not known"):
        ledger.of_runs("laptop")


def test_the_notebooks_run_need_not_have_seed_0(measured: Path) -> None:
    for name in ("dev1", "dev2", "zero"):
        stage(measured, name, seed=5)
    record = one(ledger.of_runs(PROFILE), "regains")
    assert record["seeds"] == [5] and record["verdict"] != "not measured"
    assert one(ledger.of_runs(PROFILE, [0]), "regains")["verdict"] == "not measured"


def test_what_is_too_long_for_a_notebook_comes_from_the_projects_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_RUNS", str(tmp_path))
    (tmp_path / "cpu").mkdir()
    taken = [record for record in ledger.of_runs("cpu") if record["taken_from"]]
    assert {record["name"] for record in taken} == {"length_limit", "clip_range", "grpo"}
    assert all(record["taken_from"] == "results/findings.csv" and record["seeds"] == [0, 1, 2] for record in taken)
    assert all(record == {**own, "taken_from": "results/findings.csv"}
               for record, own in zip(taken, ledger.chosen(ledger.judge(ledger.read_findings(ledger.findings_file())),
                                                           [record["name"] for record in taken]), strict=True))
    assert not [record for record in ledger.of_runs("cpu", [0]) if record["taken_from"]]               # a seed is judged by its own
    findings.kept("ablations", lambda: {"long_minus_short": interval(0.3, 0.2, 0.4)}, runs=tmp_path / "cpu", seed=0, made_from={},
                  notebook="04_r1_zero")
    own = one(ledger.of_runs("cpu"), "length_limit")
    assert own["taken_from"] is None and own["seeds"] == [0] and own["ours"] == 0.3                    # as is what this run has measured
    (tmp_path / "smoke").mkdir()
    assert not [record for record in ledger.of_runs("smoke") if record["taken_from"]]                  # nor is another profile's run


# ------------------------------------------------------------------------------------------------------------------------------------------
# Findings of experiments

def keep(runs: Path, found: dict, **about) -> Path:
    findings.kept("aha", lambda: found, runs=runs, **{"seed": 0, "made_from": {}, "notebook": "05_the_aha_moment"} | about)
    return runs / "findings" / "aha.json"


def one(records: list[dict], name: str) -> dict:
    (record,) = ledger.chosen(records, [name])
    return record


def test_findings_are_evidence(runs: Path) -> None:
    keep(runs, {"reflection_helps_zero": interval(0.6, 0.5, 0.7), "of another release": interval(1.0)})
    record = one(ledger.of_runs(PROFILE), "reflection_pays")
    assert record["verdict"] == "reproduced" and record["ours"] == 0.6 and record["interval"] == [0.5, 0.7] and record["seeds"] == [0]


@pytest.mark.parametrize("found", [{}, {"reflection_helps_zero": interval(None)}, {"reflection_helps_zero": interval(math.nan, 1, 2)},
                                   {"reflection_helps_zero": interval(math.inf)}, {"reflection_base": interval(0.2, 0.1, 0.3)}])
def test_what_was_not_found_is_not_measured(runs: Path, found: dict) -> None:
    keep(runs, found)
    record = one(ledger.of_runs(PROFILE), "reflection_pays")
    assert record["verdict"] == "not measured" and record["ours"] is None and record["seeds"] == []
    assert record["missing"] == ["aha/reflection_helps_zero"]


def test_a_bound_that_is_none_can_only_say_partly(runs: Path) -> None:
    keep(runs, {"reflection_helps_zero": interval(0.6, math.nan, 0.7)})
    record = one(ledger.of_runs(PROFILE), "reflection_pays")
    assert record["verdict"] == "partly" and record["interval"] is None


@pytest.mark.parametrize(("found", "said"), [
    (interval("0.6"), "'0.6' is not a number"), (interval(True), "True is not a number"), (interval([1]), "is not a number"),
    (interval(0.6, 0.7, 0.5), "ends at 0.5 below its start 0.7")])
def test_damaged_findings_are_named(runs: Path, found: dict, said: str) -> None:
    keep(runs, {"reflection_helps_zero": found})
    with pytest.raises(R1Error, match=r"findings/aha\.json, reflection_helps_zero: ") as refused:
        ledger.of_runs(PROFILE)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_findings_of_replaced_models_are_left_out(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = stage(runs, "zero")
    made_from = {"weights": {"zero": weights_sha256(folder / "model"), "dev9": "0" * 64}, "samples": 16}       # dev9 was removed
    keep(runs, {"reflection_helps_zero": interval(0.6, 0.5, 0.7)}, made_from=made_from)
    assert "aha/reflection_helps_zero" in gathered(runs)
    stage(runs, "zero", weights=b"another")
    assert "aha/reflection_helps_zero" not in gathered(runs)
    assert "findings/aha.json: made from another zero: left out. Notebook 05_the_aha_moment makes it again." in capsys.readouterr().out


def test_findings_of_another_seed_are_left_out(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(runs, {"reflection_helps_zero": interval(0.6, 0.5, 0.7)}, seed=3)
    assert gathered(runs) == {} and "made with seed 3, not 0: left out" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------------------------------------
# Several seeds

def test_one_seed_is_itself() -> None:
    assert ledger.pool([interval(0.5, 0.4, 0.7)]) == interval(0.5, 0.4, 0.7)
    assert ledger.pool([interval(0.5)]) == interval(0.5)


def test_seeds_and_problems_are_added_in_squares() -> None:
    among_seeds = ledger.pool([interval(value) for value in (1.0, 2.0, 3.0)])
    half = 4.30 / math.sqrt(3)
    assert list(among_seeds.values()) == pytest.approx([2, 2 - half, 2 + half])
    among_problems = ledger.pool([interval(2.0, 1.7, 2.4)] * 3)
    assert list(among_problems.values()) == pytest.approx([2, 1.7, 2.4])
    both = ledger.pool([interval(value, value - 0.3, value + 0.4) for value in (1.0, 2.0, 3.0)])
    assert list(both.values()) == pytest.approx([2, 2 - math.hypot(half, 0.3), 2 + math.hypot(half, 0.4)])


def test_an_interval_of_some_seeds_is_none_over_problems() -> None:
    pooled = ledger.pool([interval(1.0, 0.0, 2.0), interval(3.0)])
    assert pooled["high"] - 2.0 == pytest.approx(12.71 * math.sqrt(2) / math.sqrt(2))


@pytest.mark.parametrize(("seeds_spread", "problems_spread"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.2, 1.0)])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(seeds_spread: float, problems_spread: float) -> None:
    """Of three seeds: each is off by a training of its own and by the same problems."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(2000):
        shared = rng.normal(0, problems_spread)
        values = rng.normal(0, seeds_spread, 3) + shared
        half = 1.96 * problems_spread
        pooled = ledger.pool([interval(value, value - half, value + half) for value in values])
        held += pooled["low"] <= 0 <= pooled["high"]
    assert 0.935 <= held / 2000 <= 0.99


# ------------------------------------------------------------------------------------------------------------------------------------------
# Verdicts

def claim(*tests: Test) -> Claim:
    return Claim("made_up", "a made-up claim", "A claim.", "v0", "04_r1_zero", tests)


UP, DOWN = interval(0.2, 0.1, 0.3), interval(-0.2, -0.3, -0.1)
BOTH = claim(Test(falls(0.02), ("a",)), Test(rises(0.02), ("b",)))


@pytest.mark.parametrize(("a", "b", "verdict"), [(DOWN, UP, "reproduced"), (DOWN, DOWN, "partly"), (UP, UP, "partly"),
                                                 (UP, DOWN, "not reproduced"), (DOWN, interval(0.1, -0.1, 0.3), "partly"),
                                                 (DOWN, interval(None), "not measured")])
def test_a_claim_with_two_tests(a: dict, b: dict, verdict: str) -> None:
    (record,) = ledger.judge({0: {"a": a, "b": b}}, [BOTH])
    assert record["verdict"] == verdict
    assert record["ours"] == (a["value"] if verdict != "not measured" else None)
    assert "Of a: " in record["rule"] and "of b: " in record["rule"]


def test_a_claim_is_judged_by_the_seeds_that_have_all_of_it() -> None:
    (record,) = ledger.judge({0: {"a": DOWN, "b": UP}, 1: {"a": UP}, 2: {"a": DOWN, "b": UP}}, [BOTH])
    assert record["seeds"] == [0, 2] and record["ours"] == pytest.approx(-0.2) and record["verdict"] == "reproduced"
    (record,) = ledger.judge({0: {"a": DOWN}, 1: {"b": UP}}, [BOTH])
    assert record["verdict"] == "not measured" and record["seeds"] == [] and record["evidence"] == {} and record["missing"] == ["a", "b"]
    (record,) = ledger.judge({}, [BOTH])
    assert record["verdict"] == "not measured" and record["missing"] == ["a", "b"]


def test_what_was_not_measured_in_pairs_is_subtracted_with_both_intervals() -> None:
    (record,) = ledger.judge({0: {"a": interval(0.6, 0.3, 0.7), "b": interval(0.2, 0.1, 0.6)}}, [claim(Test(rises(0.02), ("a minus b",)))])
    assert record["ours"] == pytest.approx(0.4)
    assert record["interval"] == pytest.approx([0.4 - math.hypot(0.3, 0.4), 0.4 + math.hypot(0.1, 0.1)])
    (record,) = ledger.judge({0: {"a": interval(0.6, 0.5, 0.7), "b": interval(0.2)}}, [claim(Test(rises(0.02), ("a minus b",)))])
    assert record["verdict"] == "partly" and record["interval"] is None
    (record,) = ledger.judge({0: {"a": interval(0.6, 0.5, 0.7)}}, [claim(Test(rises(0.02), ("a minus b",)))])
    assert record["verdict"] == "not measured"


def test_an_interval_ends_where_shares_do() -> None:
    (record,) = ledger.judge({0: {"a": interval(-0.9)}, 1: {"a": interval(0.9)}}, [claim(Test(rises(0.02), ("a",)))])
    assert record["interval"] == [-1.0, 1.0]


def test_a_real_model_is_needed_whatever_was_measured() -> None:
    for evidence in ({}, {0: {"a": UP}}):
        (record,) = ledger.judge(evidence, [claim(Test(needs_a_real_model()))])
        assert record["verdict"] == "needs a real model" and record["ours"] is None and record["missing"] == []


@pytest.mark.parametrize("judged", [one for one in CLAIMS if one.tests[0].evidence], ids=lambda one: one.name)
def test_every_claim_can_be_reproduced_and_not(judged: Claim) -> None:
    def far(direction: int) -> dict:
        """Evidence far on the paper's side, or on the other; of a reward that is hacked, what is paid goes the other way."""
        run = {}
        for test in judged.tests:
            for place, name in enumerate(test.evidence):
                first, *second = name.split(" minus ")
                far = test.rule.origin + direction * test.rule.side * (-1) ** place * 90
                run |= {first: interval(far, far - 0.01, far + 0.01)} | {other: interval(0.0, 0.0, 0.0) for other in second}
        return run

    for direction, verdict in ((1, "reproduced"), (-1, "not reproduced")):
        records = ledger.judge({0: far(direction), 1: far(direction)}, CLAIMS)
        assert one(records, judged.name)["verdict"] == verdict
        assert one(records, judged.name)["seeds"] == [0, 1]


def test_an_unknown_claim_is_named() -> None:
    with pytest.raises(R1Error, match="claim 'aha' is not known: choose from pure_rl, "):
        ledger.chosen(ledger.judge({}), ["aha"])


def test_all_that_claims_need_is_known() -> None:
    needed = ledger.evaluations_needed()
    assert ("base", "math", True) in needed and ("dev2_no_language", "code", False) in needed and ("r1_hacked", "general", False) in needed
    assert {"dev2_no_language", "r1_hacked", "v3", "zero"} <= set(ledger.stages_needed()) and "base" not in ledger.stages_needed()


# ------------------------------------------------------------------------------------------------------------------------------------------
# Files

def test_a_ledger_is_json_without_nan(tmp_path: Path) -> None:
    records = ledger.judge({0: {"aha/reflection_helps_zero": interval(0.6, 0.5, 0.7)}})
    ledger.write(records, tmp_path / "new" / "ledger.json")
    stored = json.loads((tmp_path / "new" / "ledger.json").read_text(encoding="utf-8"))
    assert len(stored) == len(CLAIMS) and stored == json.loads(json.dumps(records))
    for record in stored:
        assert {"claim", "source", "paper", "ours", "interval", "seeds", "rule", "verdict", "notebook"} <= set(record)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["ledger.json"]


def test_findings_of_all_seeds_are_a_csv(tmp_path: Path) -> None:
    evidence = {0: {"stages/math, cons@k/r1 - v3": interval(0.25, 0.125, 0.5), "aha/reflection_base": interval(0.2)}, 2: {"aha/a": UP}}
    ledger.write_findings(evidence, tmp_path / "findings.csv")
    assert (tmp_path / "findings.csv").read_text(encoding="utf-8").splitlines()[0] == "experiment,seed,name,value,low,high"
    assert ledger.read_findings(tmp_path / "findings.csv") == evidence


@pytest.mark.parametrize(("row", "said"), [
    ("aha,0,a,x,,", "ValueError"), ("aha,zero,a,1,,", "ValueError"), ("aha", "TypeError"), ("aha,0,a,1,2,0", "ends at 0 below its start")])
def test_a_bad_row_is_named(tmp_path: Path, row: str, said: str) -> None:
    file = tmp_path / "findings.csv"
    file.write_text(f"experiment,seed,name,value,low,high\naha,0,good,1,0,2\n{row}\n", encoding="utf-8")
    with pytest.raises(R1Error, match=r"findings\.csv, row 3") as refused:
        ledger.read_findings(file)
    assert said in str(refused.value)


def test_nan_in_a_csv_is_not_measured(tmp_path: Path) -> None:
    file = tmp_path / "findings.csv"
    file.write_text("experiment,seed,name,value,low,high\naha,0,reflection_helps_zero,nan,1,2\n", encoding="utf-8")
    assert one(ledger.judge(ledger.read_findings(file)), "reflection_pays")["verdict"] == "not measured"


def test_other_csv_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(R1Error, match="there is no such file; make it with"):
        ledger.read_findings(tmp_path / "findings.csv")
    (tmp_path / "findings.csv").write_text("stage,seed\nzero,0\n")
    with pytest.raises(R1Error, match="Columns are experiment, seed"):
        ledger.read_findings(tmp_path / "findings.csv")


def test_the_committed_ledger_is_what_the_committed_findings_say() -> None:
    results = paths.root() / "results"
    if not (results / "findings.csv").exists():
        pytest.skip("no results yet")
    stored = json.loads((results / "ledger.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(ledger.judge(ledger.read_findings(results / "findings.csv"))))
