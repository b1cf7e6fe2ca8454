"""The committed results: trained, written and put into the README by one call."""

import csv
import json
import re
import shutil
import sys
import types
from pathlib import Path

import pytest

from r1lib import findings, ledger, paths, profiles, stages
from r1lib.report import results

ROOT = paths.root()
PICTURES = {"r1_zero": "learning_curve.png", "r1": "stages.png"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder of its own, in which the results of two short runs were made."""
    home = tmp_path_factory.mktemp("home")
    (home / "data").symlink_to(ROOT / "data")
    shutil.copy(ROOT / "README.md", home / "README.md")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R1_HOME", str(home))
        patch.delenv("R1_RUNS", raising=False)
        results.r1_zero("smoke", [0, 1])
        results.r1("smoke", [0])
    return home


@pytest.fixture(scope="module")
def rows(home: Path) -> list[dict[str, str]]:
    with (home / "results" / "r1_zero" / "seeds.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_measurement_is_in_the_csv(rows: list[dict[str, str]]) -> None:
    assert list(rows[0]) == ["seed", "step", "metric", "value"]
    assert {row["seed"] for row in rows} == {"0", "1"} and len({(row["seed"], row["step"], row["metric"]) for row in rows}) == len(rows)
    steps = profiles.get("smoke").settings["zero"]["steps"]
    by_metric = {(row["metric"], row["seed"]): [] for row in rows}
    for row in rows:
        by_metric[row["metric"], row["seed"]].append((int(row["step"]), float(row["value"])))
    for seed in "01":
        assert [step for step, _ in by_metric["train/reward", seed]] == list(range(steps))
        assert [step for step, _ in by_metric["eval_accuracy", seed]] == [0, 2, 3]
        for name in ("pass@1", "pass@k", "cons@k", "mean_length", "reflection", "language_mixing", "pass@1/level_5"):
            assert [step for step, _ in by_metric[name, seed]] == [0, steps]
    assert by_metric["pass@1", "0"][0] == by_metric["pass@1", "1"][0]                     # both start from the same base
    assert by_metric["train/reward", "0"] != by_metric["train/reward", "1"]


def test_the_table_is_what_the_csv_says(home: Path, rows: list[dict[str, str]]) -> None:
    table = (home / "results" / "r1_zero" / "table.md").read_text(encoding="utf-8")
    assert table.startswith("Made by `python -m r1lib results --only r1_zero --profile smoke --seeds 0 1` on ")
    line = next(line for line in table.splitlines() if line.startswith("| pass@1, held-out math"))
    values = {(row["seed"], row["step"]): 100 * float(row["value"]) for row in rows if row["metric"] == "pass@1"}
    after = sorted(value for (_, step), value in values.items() if step == "3")
    assert f"| {values['0', '0']:.1f} % | **{sum(after) / 2:.1f} %** | {after[0]:.1f} % to {after[1]:.1f} % |" in line
    widths = {row.count("|") for row in table.splitlines() if row.startswith("|")}
    assert widths == {5}


def test_a_row_says_the_k_that_was_measured(home: Path) -> None:
    samples = profiles.get("smoke").evaluation_samples
    table = (home / "results" / "r1_zero" / "table.md").read_text(encoding="utf-8")
    assert f"| pass@{samples} |" in table and f"| cons@{samples} |" in table


def test_the_readme_holds_the_tables_and_nothing_else_of_it_changed(home: Path) -> None:
    readme, before = ((folder / "README.md").read_text(encoding="utf-8") for folder in (home, ROOT))
    for name in ("r1_zero", "r1"):
        table = (home / "results" / name / "table.md").read_text(encoding="utf-8").strip()
        marked = re.compile(rf"(?<=<!-- {name}: begin -->\n).*?(?=<!-- {name}: end -->)", re.DOTALL)
        assert marked.search(readme)[0].strip() == table
        readme, before = marked.sub("", readme), marked.sub("", before)
    assert readme == before


@pytest.mark.parametrize("picture", [f"{name}/{picture}" for name, picture in PICTURES.items()])
def test_the_picture_is_one(picture: str, home: Path) -> None:
    assert (home / "results" / picture).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_every_stage_is_measured_on_everything(home: Path) -> None:
    with (home / "results" / "r1" / "stages.csv").open(encoding="utf-8") as file:
        measured = list(csv.DictReader(file))
    assert list(measured[0]) == ["stage", "seed", "metric", "value"]
    assert [(row["stage"], row["seed"], row["metric"]) for row in measured] == [
        (stage, "0", metric) for stage in ("base", "zero", "v3", "dev1", "dev2", "dev3", "r1") for metric in stages.SCORES]
    values = {(row["stage"], row["metric"]): float(row["value"]) for row in measured}
    kept = stages.scores("dev1", profile="smoke", folder=home / "runs" / "smoke" / "dev1")
    assert values["dev1", "format"] == pytest.approx(kept["format"]["value"], rel=1e-4)
    table = (home / "results" / "r1" / "table.md").read_text(encoding="utf-8")
    line = next(line for line in table.splitlines() if line.startswith("| math, %"))
    assert [cell.split("**")[1] for cell in line.split(" | ")[1:]] == [f"{100 * values[stage, 'math']:.0f}" for stage in
                                                                       ("base", "zero", "v3", "dev1", "dev2", "dev3", "r1")]


def test_runs_lie_in_their_folders_and_are_loaded_the_next_time(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_HOME", str(home))
    monkeypatch.delenv("R1_RUNS", raising=False)
    models = [home / "runs" / "smoke" / "zero" / "model", home / "runs" / "smoke" / "seeds" / "1" / "zero" / "model"]
    before = [(model / "model.safetensors").stat().st_mtime_ns for model in models]
    written = [(home / name).read_bytes() for name in ("README.md", "results/r1_zero/seeds.csv", "results/r1_zero/table.md")]
    results.r1_zero("smoke", [0, 1])
    assert [(model / "model.safetensors").stat().st_mtime_ns for model in models] == before
    assert [(home / name).read_bytes() for name in ("README.md", "results/r1_zero/seeds.csv", "results/r1_zero/table.md")] == written


@pytest.mark.parametrize(("name", "csv_name", "at"), [("r1_zero", "seeds.csv", 0), ("r1", "stages.csv", 1)])
def test_other_seeds_stay_as_they_were_measured(name: str, csv_name: str, at: int, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_HOME", str(home))
    monkeypatch.delenv("R1_RUNS", raising=False)
    file, table = home / "results" / name / csv_name, home / "results" / name / "table.md"
    kept = {path: path.read_bytes() for path in (file, table, table.with_name(PICTURES[name]), home / "README.md")}
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.reader(lines))
    seeds = sorted({int(row[at]) for row in rows[1:]})
    strangers = [[*row[:at], "7", *row[at + 1:-1], "0.25"] for row in rows[1:] if row[at] == "0"]
    with file.open("a", newline="", encoding="utf-8") as lines:
        csv.writer(lines, lineterminator="\n").writerows(strangers)
    try:
        getattr(results, name)("smoke", seeds)
        with file.open(newline="", encoding="utf-8") as lines:
            now = list(csv.reader(lines))
        assert [row for row in now if row[at] == "7"] == strangers and [row for row in now if row[at] != "7"] == rows
        begin, heads = table.read_text(encoding="utf-8").split("\n\n")
        assert begin.endswith("; seed 7 as measured before.") and f"{len(seeds) + 1} seeds" in heads
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def test_what_claims_are_judged_by_is_made_and_judged(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One experiment of two is measured; the other's rows and those of another seed stay."""
    monkeypatch.setenv("R1_HOME", str(home))
    monkeypatch.delenv("R1_RUNS", raising=False)
    readme, before = home / "README.md", (home / "README.md").read_text(encoding="utf-8")
    readme.write_text(f"{before}<!-- ledger: begin -->\n<!-- ledger: end -->\n", encoding="utf-8")
    file = home / "results" / "findings.csv"
    old = {"value": 0.9, "low": 0.8, "high": 1.0}
    ledger.write_findings({0: {"aha/reflection_helps_zero": old, "ablations/long_minus_short": old, "stages/gone/r1": old},
                           7: {"aha/reflection_helps_zero": old}}, file)

    made_up = types.ModuleType("made_up")
    made_up.measure = lambda *, profile, seed, runs: findings.kept(
        "aha", lambda: {"reflection_helps_zero": {"value": 0.6, "low": 0.5, "high": 0.7}}, runs=runs, seed=seed, made_from={},
        notebook="05_the_aha_moment")
    monkeypatch.setitem(sys.modules, "made_up", made_up)
    monkeypatch.setitem(results.EXPERIMENTS, "aha", "made_up")
    results.findings("smoke", [0], ["aha"])

    kept = ledger.read_findings(file)
    assert kept[0]["aha/reflection_helps_zero"]["value"] == 0.6 and kept[0]["ablations/long_minus_short"] == old
    assert kept[7] == {"aha/reflection_helps_zero": old} and "stages/gone/r1" not in kept[0]
    asked = {name for name in ledger.asked() if name.split("/")[0] in ("stages", "zero")}
    assert asked <= set(kept[0]), "every stage was trained and measured"
    records = {record["name"]: record for record in json.loads((home / "results" / "ledger.json").read_text(encoding="utf-8"))}
    assert records["reflection_pays"]["seeds"] == [0, 7] and records["pure_rl"]["seeds"] == [0]
    assert records["language_reward"]["verdict"] != "not measured"
    assert (home / "results" / "ledger.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "| RL alone lifts accuracy | AIME 2024: 15.6 to 77.9 |" in readme.read_text(encoding="utf-8")
    readme.write_text(before, encoding="utf-8")
