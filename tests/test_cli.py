"""python -m r1lib: a user's mistake is exit code 2 and one line on stderr."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from r1lib import findings, paths, tasks
from r1lib.__main__ import _settings, main

COMMANDS = ("run", "evaluate", "report", "ledger", "results", "pretrain", "prepare", "doctor", "evaluation-sets")
SHORT_RUN = ("run", "--profile", "smoke", "--set", "steps=1", "prompts_per_step=4", "evaluate_every=5")


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is written among the project's runs."""
    monkeypatch.setenv("R1_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that these arguments are answered with."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("arguments", [("--help",), *((command, "--help") for command in COMMANDS)], ids=" ".join)
def test_help(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    said = capsys.readouterr().out
    assert ended.value.code == 0 and "usage: python -m r1lib" in said
    assert all(command in said for command in COMMANDS) or len(arguments) == 2


def test_it_runs_as_a_module_and_help_does_not_wait_for_torch() -> None:
    code = "import sys; from r1lib.__main__ import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    for arguments in (["-m", "r1lib", "--help"], ["-c", code]):
        done = subprocess.run([sys.executable, *arguments], cwd=paths.root(), capture_output=True, text=True)
        assert done.returncode == 0 and "usage:" in done.stdout and not done.stderr


@pytest.mark.parametrize(("arguments", "said"), [
    ("run --profile laptop", "profile 'laptop' is not known: choose one of smoke, cpu, gpu"),
    ("run --profile smoke --to one", "stage 'one' is not known"),
    ("run --profile smoke --base base-9m", "base model 'base-9m' is neither one of base-0.4m"),
    ("run --profile smoke --set domains=math,maths", "domain 'maths' is not known: choose from math"),
    ("run --profile smoke --set domains=maths", "domain 'maths' is not known: choose from math"),
    ("run --profile smoke --set combine=product", "combine='product' is not known"),
    ("run --profile smoke --to dev1 --set zero.step=3", "stage zero: there is no setting 'step'"),
    ("run --profile smoke --to dev1 --set zeroo.steps=3", "setting 'zeroo.steps': there is no stage 'zeroo'"),
    ("run --profile smoke --to dev1 --set steps=3", "stage dev1: there is no setting 'steps'. Known are domains, endpoint"),
    ("run --profile smoke --to dev2 --set language=no", "language='no': must be true or false"),
    ("run --profile smoke --set step=3", "there is no setting 'step'"),
    ("run --profile smoke --set steps", "--set 'steps': write NAME=VALUE"),
    ("run --profile smoke --set steps=many", "steps='many', but it must be a whole number"),
    ("run --profile smoke --set learning_rate=-1", "learning_rate=-1, but it must be a number above 0"),
    ("run --profile smoke --set betas=0.9", "betas="),
    ("evaluate --model nowhere/model", "nowhere/model: no such model folder"),
    ("evaluate --model base-9m", "base model 'base-9m'"),
    ("evaluate --model base-0.4m --set maths", "evaluation set 'maths' is not known: choose one of math"),
    ("evaluate --model base-0.4m --set nowhere.jsonl", "nowhere.jsonl: there is no such file of problems"),
    ("evaluate --model base-0.4m --samples 0", "samples=0"),
    ("evaluate --model base-0.4m --temperature 0", "temperature=0.0: must be above 0"),
    ("evaluate --model base-0.4m --top-p 2", "top_p=2.0: must be above 0 and at most 1"),
    ("evaluate --model base-0.4m --max-new-tokens 0", "max_new_tokens=0: must be at least 1"),
    ("evaluate --model base-0.4m --device abacus", "device 'abacus' cannot be used here"),
    ("results --profile laptop", "profile 'laptop' is not known"),
    ("results --only findings --experiments aha luck", "experiment 'luck' is not known: choose from aha, distillation"),
    ("ledger --profile laptop", "profile 'laptop' is not known"),
    ("ledger --profile smoke", "there is no run here; `python -m r1lib report --profile smoke` makes"),
    ("report --profile laptop", "profile 'laptop' is not known"),
    ("evaluate --model base-0.4m --json .", "--json .: is a folder"),
    ("pretrain --sizes 7b --device cpu", "size '7b' is not known: choose from 0.4m, 1m, 3m"),
    ("pretrain --device abacus", "device 'abacus' is not known"),
    ("pretrain --device cpu --tokens 0", "tokens=0 and workers=None: both must be at least 1"),
    ("pretrain --device cpu --workers 0", "workers=0: both must be at least 1"),
])
def test_a_mistake_is_one_line(arguments: str, said: str, capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    assert said in refused(capsys, *arguments.split())
    assert not runs.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize("arguments", ["evaluate --model base-0.4m --device cuda", "run --profile gpu", "report --profile gpu",
                                       "run --profile gpu+smollm2", "pretrain"])
def test_a_missing_gpu_is_one_line(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "device 'cuda'" in refused(capsys, *arguments.split())


@pytest.mark.parametrize("row", ["{", "[1]", "7", '{"question": "What is 1 + 1?"}', ""])
def test_a_bad_row_is_named(row: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tasks.write_problems(tasks.evaluation_set("math")[:2], tmp_path / "mine.jsonl")
    with file.open("a") as more:
        more.write(row + "\n")
    assert f"{file}, row 3: not a problem" in refused(capsys, "evaluate", "--model", "base-0.4m", "--set", str(file))


@pytest.mark.parametrize(("changes", "said"), [
    ({"level": 9}, "level=9 must be one of 1, 2, 3, 4, 5"), ({"level": "hard"}, "level='hard' must be"),
    ({"language": "fr"}, "language='fr' must be"), ({"question": None}, "question=None must be a string"),
    ({"gold": 7}, "gold=7 must be a string"), ({"tests": 5}, "row 2: not a problem"),
])
def test_a_bad_value_is_named(changes: dict, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tasks.write_problems(tasks.evaluation_set("math")[:1], tmp_path / "mine.jsonl")
    row = json.loads(file.read_text(encoding="utf-8"))
    with file.open("a", encoding="utf-8") as more:
        more.write(json.dumps({**row, **changes}) + "\n")
    told = refused(capsys, "evaluate", "--model", "base-0.4m", "--set", str(file))
    assert f"{file}, row 2: " in told and said in told


def test_other_bad_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b"\xff\xfe{}\n")
    assert f"{file}: not UTF-8" in refused(capsys, "evaluate", "--model", "base-0.4m", "--set", str(file))
    file.write_text("")
    assert "0 problems" in refused(capsys, "evaluate", "--model", "base-0.4m", "--set", str(file))
    (tmp_path / "model").mkdir()
    assert "no config.json" in refused(capsys, "evaluate", "--model", str(tmp_path / "model"))


def test_arguments_that_argparse_refuses_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["fly"], ["evaluate"], ["run", "--seed", "x"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2


def test_evaluate_writes_the_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four measures with their intervals, over all and by level, under these names at the top of the file."""
    file = tasks.write_problems(tasks.evaluation_set("math")[::9], tmp_path / "mine.jsonl")
    out = tmp_path / "new" / "summary.json"
    command = ["evaluate", "--model", "base-0.4m", "--set", str(file), "--samples", "2", "--max-new-tokens", "40", "--json", str(out)]
    assert main(command) == 0
    assert "pass@1" in capsys.readouterr().out
    stored = json.loads(out.read_text(encoding="utf-8"))
    for part in (stored, *stored["by_level"].values()):
        for name in ("pass@1", "pass@k", "cons@k", "mean_length"):
            assert set(part[name]) == {"value", "low", "high"}
            assert part[name]["low"] <= part[name]["value"] <= part[name]["high"]
    assert stored["by_level"] and stored["k"] == stored["samples"] == 2 and stored["about"] == {"model": "base-0.4m", "set": str(file)}
    assert len(stored["completions"]) == 2 * len(stored["problems"]) == 2 * len(tasks.read_problems(file))


def test_run_trains_and_then_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    command = [*SHORT_RUN, "--folder", str(tmp_path / "mine")]
    assert main(command) == 0
    assert f"zero: finished: {tmp_path / 'mine'}" in capsys.readouterr().out and not runs.exists()
    before = (tmp_path / "mine" / "model" / "model.safetensors").stat().st_mtime_ns
    assert main(command) == 0 and "zero: loaded from mine" in capsys.readouterr().out
    assert (tmp_path / "mine" / "model" / "model.safetensors").stat().st_mtime_ns == before
    assert "seed=0, this run asks for seed=5" in refused(capsys, *command, "--seed", "5")
    model = str(tmp_path / "mine" / "model")
    assert main(["evaluate", "--model", model, "--samples", "1", "--set", "safety", "--max-new-tokens", "8"]) == 0


def test_the_ledger_of_a_run_is_printed_and_written(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "smoke").mkdir(parents=True)
    found = {"reflection_helps_zero": {"value": 0.3, "low": 0.2, "high": 0.4}}
    findings.kept("aha", lambda: found, runs=runs / "smoke", seed=0, made_from={}, notebook="05_the_aha_moment")
    assert main(["ledger", "--profile", "smoke"]) == 0
    said = capsys.readouterr().out
    assert "+30.0 points [20.0, 40.0]" in said and "single seed" in said
    records = json.loads((runs / "smoke" / "ledger.json").read_text(encoding="utf-8"))
    assert [record["verdict"] for record in records if record["name"] == "reflection_pays"] == ["reproduced"]
    assert main(["ledger", "--profile", "smoke", "--claims", "reflection_pays", "mcts"]) == 0
    said = capsys.readouterr().out
    assert "rule      Reproduced if the interval lies above 0" in said and "verdict   not measured, by no seed" in said
    assert "claim 'wait' is not known: choose from pure_rl" in refused(capsys, "ledger", "--profile", "smoke", "--claims", "wait")


def test_settings_are_read_as_what_they_are() -> None:
    """Numbers, true and false, texts, and lists of these; with a stage in front they go to that stage."""
    pairs = "steps=40 learning_rate=1e-4 language=false combine=gated domains=math,code betas=0.9,0.95 zero.steps=7 endpoint=http://a/b?c=d"
    read = _settings(pairs.split())
    assert read == {"steps": 40, "learning_rate": 1e-4, "language": False, "combine": "gated", "domains": ["math", "code"],
                    "betas": [0.9, 0.95], "zero.steps": 7, "endpoint": "http://a/b?c=d"}
    assert type(read["steps"]) is int and type(read["language"]) is bool


def test_settings_reach_the_stage_and_those_before_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["zero.steps=1", "zero.prompts_per_step=4", "zero.samples_per_prompt=4", "zero.max_new_tokens=24", "zero.domains=logic"]
    command = ["run", "--profile", "smoke", "--to", "dev1", "--folder", str(tmp_path / "dev1"), "--set", *short, "problems=32", "epochs=1"]
    assert main(command) == 0 and f"dev1: finished: {tmp_path / 'dev1'}" in capsys.readouterr().out
    zero, dev1 = (json.loads((tmp_path / name / "lineage.json").read_text(encoding="utf-8")) for name in ("zero", "dev1"))
    assert zero["recipe"]["steps"] == 1 and zero["settings"]["domains"] == ["logic"]
    assert dev1["settings"]["problems"] == 32 and dev1["recipe"]["epochs"] == 1 and list(dev1["parents"]) == ["zero"]


def test_run_says_that_it_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "STOP").touch()
    command = [*SHORT_RUN, "--folder", str(tmp_path / "mine")]
    assert main(command) == 130 and "stopped; the same command goes on" in capsys.readouterr().out
    assert main(command) == 0


def test_evaluation_sets_are_written_as_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = paths.data() / "evaluation"
    monkeypatch.setenv("R1_HOME", str(tmp_path))
    assert main(["evaluation-sets"]) == 0
    written = sorted((tmp_path / "data" / "evaluation").iterdir())
    assert [file.name for file in written] == sorted(file.name for file in shipped.iterdir())
    assert all(file.read_bytes() == (shipped / file.name).read_bytes() for file in written)
