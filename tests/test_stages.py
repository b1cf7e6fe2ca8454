"""A stage is trained once, loaded afterwards, gone on with after a stop, and never overwritten by another configuration; so are all."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1lib import evaluation, lineage, machine, paths, pipeline, profiles, stages, tasks, text
from r1lib.errors import R1Error
from r1lib.policy import Policy
from r1lib.training.metrics import MetricsLog
from r1lib.training.reward_model import Labelled, Pair, RewardModel
from r1lib.training.sft import Example

QUICK = dict(steps=3, prompts_per_step=4, samples_per_prompt=6, max_new_tokens=48, evaluate_every=3, checkpoint_every=1)


def seconds(folder):
    """How long a stage says that it was trained, over all its interruptions."""
    return json.loads((folder / "lineage.json").read_text())["seconds"]


def tree(folder: Path) -> dict[str, str]:
    """What every file holds."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def times(folder: Path) -> dict[str, int]:
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in folder.rglob("*")}


def quick(**changes: object) -> stages.StageRun:
    return stages.run("zero", **{"profile": "smoke", "seed": 0, "settings": QUICK, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, stages.StageRun]:
    """A folder of runs with a finished stage, and what training it returned. Tests leave it as it is, or copy it."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R1_RUNS", str(runs))
        return runs, quick()


@pytest.fixture
def copied(finished: tuple[Path, stages.StageRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished stage's folder, a copy that may be damaged."""
    shutil.copytree(finished[0], tmp_path / "runs")
    monkeypatch.setenv("R1_RUNS", str(tmp_path / "runs"))
    return paths.stage("smoke", "zero")


def one_line(act: Callable[[], object]) -> str:
    with pytest.raises(R1Error) as found:
        act()
    assert "\n" not in str(found.value)
    return str(found.value)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Train, load, go on

def test_a_missing_stage_is_trained(finished: tuple[Path, stages.StageRun]) -> None:
    runs, run = finished
    assert (run.name, run.folder, run.finished, run.loaded) == ("zero", runs / "smoke" / "zero", True, False)
    assert [row["step"] for row in run.rows] == [0, 1, 2, 3] and "eval_accuracy" in run.rows[0] and "eval_accuracy" in run.rows[-1]
    assert {"model", "metrics.jsonl", "rollouts.jsonl", "lineage.json", "state"} <= {file.name for file in run.folder.iterdir()}
    made = json.loads((run.folder / "lineage.json").read_text(encoding="utf-8"))
    assert made["finished"] is True and made["base"] == "base-0.4m" and made["seed"] == 0
    assert made["base_sha256"] == json.loads((paths.data() / "base-0.4m" / "card.json").read_text())["sha256"]
    assert made["settings"] == {"domains": ["math", "code", "logic"], "combine": "sum"} and made["parents"] == made["data_sha256"] == {}
    assert {name: made["recipe"][name] for name in QUICK} == QUICK
    assert seconds(run.folder) > 0
    assert lineage.weights_sha256(run.folder / "model") != lineage.weights_sha256(paths.data() / "base-0.4m")      # it has learnt something


def test_a_finished_stage_is_loaded_and_not_touched(copied: Path, finished: tuple[Path, stages.StageRun]) -> None:
    before = times(copied)
    again = quick()
    assert times(copied) == before and again.loaded and again.finished
    assert again.rows == finished[1].rows
    trained, loaded = finished[1].policy.model.state_dict(), again.policy.model.state_dict()
    assert all(torch.equal(trained[name], loaded[name]) for name in trained)


def test_transformers_alone_reads_the_stage(finished: tuple[Path, stages.StageRun]) -> None:
    folder = finished[1].folder / "model"
    model, found = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert not found["missing_keys"] and model.config.eos_token_id == tokenizer.eos_token_id
    ids = torch.tensor([tokenizer("1 + 2", add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, finished[1].policy.model(ids).logits, atol=1e-4)


def test_a_stopped_stage_goes_on_to_the_same_weights(finished: tuple[Path, stages.StageRun], tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_RUNS", str(tmp_path))
    folder = paths.stage("smoke", "zero")

    def stop(row: dict) -> None:
        if row["step"] == 1:
            (folder / "STOP").touch()
    stopped = quick(watchers=[stop])
    assert not stopped.finished and not (folder / "model").exists() and not (folder / "STOP").exists()
    assert json.loads((folder / "lineage.json").read_text(encoding="utf-8"))["finished"] is False
    assert [row["step"] for row in stopped.rows] == [0, 1]
    with pytest.raises(R1Error, match="no such model folder"):
        stages.evaluation("zero", profile="smoke")
    so_far, resumed = seconds(folder), quick()
    assert resumed.finished and not resumed.loaded and [row["step"] for row in resumed.rows] == [0, 1, 2, 3]
    assert seconds(folder) > so_far > 0
    assert tree(folder / "model") == tree(finished[1].folder / "model")
    assert quick().loaded


# ------------------------------------------------------------------------------------------------------------------------------------------
# What is refused, and leaves everything as it was

@pytest.mark.parametrize(("changes", "setting"), [
    (dict(seed=1), "seed=0, this run asks for seed=1"),
    (dict(base="base-1m"), "base=base-0.4m, this run asks for base=base-1m"),
    (dict(settings={**QUICK, "learning_rate": 1e-5}), "learning_rate=0.0003, this run asks for learning_rate=1e-05"),
    (dict(settings={**QUICK, "domains": ["math"]}), "domains=['math', 'code', 'logic'], this run asks for domains=['math']"),
    (dict(settings={**QUICK, "combine": "gated"}), "combine=sum, this run asks for combine=gated"),
])
def test_a_stage_of_another_configuration_is_left_alone(copied: Path, changes: dict, setting: str) -> None:
    before = tree(copied)
    message = one_line(lambda: quick(**changes))
    assert str(copied) in message and setting in message
    assert tree(copied) == before


def test_another_base_of_the_same_name_is_told_apart(copied: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "base-0.4m"
    policy = Policy.load(paths.data() / "base-0.4m")
    with torch.no_grad():
        policy.model.model.norm.weight.add_(0.1)
    policy.save(other)
    assert "base_sha256=" in one_line(lambda: quick(base=str(other)))


@pytest.mark.parametrize(("changes", "message"), [
    (dict(profile="laptop"), "profile 'laptop' is not known"),
    (dict(base="base-9m"), "base model 'base-9m' is neither one of base-0.4m, base-1m, base-3m"),
    (dict(settings={"domains": ["maths"]}), "domain 'maths' is not known"),
    (dict(settings={"combine": "product"}), "combine='product' is not known"),
    (dict(settings={"step": 3}), "there is no setting 'step'"),
    (dict(settings={"steps": 0}), "steps=0"),
])
def test_a_mistake_is_found_before_anything_is_written(changes: dict, message: str, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_RUNS", str(tmp_path))
    assert message in one_line(lambda: quick(**changes))
    assert list(tmp_path.iterdir()) == []


def test_a_base_that_cannot_be_read_binds_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_RUNS", str(tmp_path / "runs"))
    base = tmp_path / "mine"
    shutil.copytree(paths.data() / "base-0.4m", base)
    (base / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:-1000])
    assert str(base / "model.safetensors") in one_line(lambda: quick(base=str(base)))
    assert not (tmp_path / "runs").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "zero").write_text("mine")
    assert f"{tmp_path / 'zero'}: is a file" in one_line(lambda: quick(folder=tmp_path / "zero"))
    assert (tmp_path / "zero").read_text() == "mine"


def test_an_unknown_stage_is_named() -> None:
    assert "stage 'one' is not known" in one_line(lambda: stages.run("one", profile="smoke"))


def test_truncated_weights_of_a_finished_stage_are_named(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = copied / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    before = tree(copied)
    capsys.readouterr()
    assert str(weights) in one_line(quick) and tree(copied) == before
    assert capsys.readouterr().out == ""                   # it does not say first that it was loaded


@pytest.mark.parametrize("content", ['{"stage": "zero", ', "[1, 2]", '{"stage": "zero"}', '{"finished": true, "seconds": "some"}', ""])
def test_a_damaged_lineage_is_named(copied: Path, content: str) -> None:
    (copied / "lineage.json").write_text(content)
    before = tree(copied)
    assert str(copied / "lineage.json") in one_line(quick) and tree(copied) == before


# ------------------------------------------------------------------------------------------------------------------------------------------
# Evaluation

def test_an_evaluation_is_kept_until_the_weights_change(copied: Path) -> None:
    made = stages.evaluation("zero", profile="smoke")
    file = copied / "evaluation.json"
    first = file.stat().st_mtime_ns
    assert made.about["weights_sha256"] == lineage.weights_sha256(copied / "model") and len(made.problems) == 30 and made.samples == 4
    assert stages.evaluation("zero", profile="smoke") == made and file.stat().st_mtime_ns == first
    policy = Policy.load(copied / "model")
    with torch.no_grad():
        policy.model.model.norm.weight.mul_(1.2)
    policy.save(copied / "model")
    again = stages.evaluation("zero", profile="smoke")
    assert file.stat().st_mtime_ns != first and again.about["weights_sha256"] != made.about["weights_sha256"]
    assert again.completions != made.completions


def test_an_evaluation_of_other_problems_is_made_again(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when they are as many as before."""
    chosen = profiles.get("smoke")
    monkeypatch.setitem(profiles.PROFILES, "smoke", dataclasses.replace(chosen, evaluation_problems=4, evaluation_samples=1))
    problems = tasks.evaluation_set("math")
    made = stages.evaluation("zero", profile="smoke")
    monkeypatch.setattr(tasks, "evaluation_set", lambda name: problems[1:])
    again = stages.evaluation("zero", profile="smoke")
    assert [problem.id for problem in again.problems] != [problem.id for problem in made.problems]
    assert list(again.problems) == evaluation.spread(problems[1:], 4)


def test_spread_keeps_every_kind_and_level() -> None:
    problems = tasks.evaluation_set("math")
    some = evaluation.spread(problems, 30)
    assert len(some) == len({problem.id for problem in some}) == 30
    assert {(problem.kind, problem.level) for problem in some} == {(problem.kind, problem.level) for problem in problems}
    assert evaluation.spread(problems, None) == evaluation.spread(problems, 10_000) == problems


def test_programs_are_paid_by_their_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code joins the problems by name, and with it the reward that runs programs; an evaluation of code is judged by it, too."""
    monkeypatch.setenv("R1_RUNS", str(tmp_path))
    run = quick(settings={**QUICK, "domains": ["math", "code"]})
    made = json.loads((run.folder / "lineage.json").read_text(encoding="utf-8"))
    assert made["settings"]["domains"] == ["math", "code"]
    rollouts = [json.loads(line) for line in (run.folder / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {name for row in rollouts for name in row["rewards"]} == {"accuracy_reward", "code_reward", "format_reward"}
    assert 0 <= run.rows[0]["rewards/code_reward/mean"] <= 1
    measured = stages.evaluation("zero", profile="smoke", set_name="code")
    assert all(completion.accuracy in (0.0, 1.0) for completion in measured.completions)
    assert measured.summary()["pass@1"]["value"] > 0


# ------------------------------------------------------------------------------------------------------------------------------------------
# All stages

R1 = ("zero", "v3", "dev1", "dev2", "dev3", "rm_helpful", "rm_safe", "r1")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with every stage up to R1, trained by one call. Tests leave it as it is, or copy it."""
    runs = tmp_path_factory.mktemp("graph")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R1_RUNS", str(runs))
        run = stages.run("r1", profile="smoke")
    assert run.finished and not run.loaded and run.folder == runs / "smoke" / "r1"
    return runs


@pytest.fixture
def smoke(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All stages, copies that may be damaged."""
    shutil.copytree(graph, tmp_path / "runs")
    monkeypatch.setenv("R1_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs" / "smoke"


def read_lineage(folder: Path) -> dict:
    return json.loads((folder / "lineage.json").read_text(encoding="utf-8"))


def unfinish(folder: Path) -> None:
    """As a kill leaves a stage before its first step, its data collected."""
    (folder / "lineage.json").write_text(json.dumps({**read_lineage(folder), "finished": False}), encoding="utf-8")
    for name in ("model", "state", "metrics.jsonl"):
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def rollouts_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", R1)
def test_one_call_trains_all_that_r1_needs(name: str, graph: Path) -> None:
    folder, kind = graph / "smoke" / name, pipeline.STAGES[name]
    assert sorted(found.name for found in (graph / "smoke").iterdir()) == sorted(R1)
    left = {"rollouts.jsonl"} if name in ("zero", "dev2", "r1") else {"data_reasoning.jsonl", "selection.json"} if name == "dev1" else \
        {"data.jsonl", "data_reasoning.jsonl", "selection.json"} if name == "dev3" else {"data.jsonl"}
    assert {found.name for found in folder.iterdir()} == {"model", "metrics.jsonl", "lineage.json", "state", *left}
    made, needed = read_lineage(folder), [parent for parent in (kind.parent, *kind.uses) if parent != "base"]
    assert made["finished"] is True and made["stage"] == name and made["base"] == "base-0.4m" and made["seconds"] > 0
    assert made["parents"] == {parent: lineage.weights_sha256(graph / "smoke" / parent / "model") for parent in needed}
    data = sorted(folder.glob("data*.jsonl"))
    assert made["data_sha256"] == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in data}
    stage, recipe = stages.configure(name, profile="smoke")
    assert made["settings"] == json.loads(json.dumps(dataclasses.asdict(stage)))
    assert made["recipe"] == json.loads(json.dumps(dataclasses.asdict(recipe)))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert any(field.startswith("eval_") for field in rows[0]) and any(field.startswith("eval_") for field in rows[-1])
    if data:
        kinds = {"rm_helpful": Pair, "rm_safe": Labelled}
        assert all(pipeline.read_rows(file, kinds.get(name, Example)) for file in data)
        assert all(row.prompt.startswith(text.USER) for file in data for row in pipeline.read_rows(file, kinds.get(name, Example)))


def test_preference_is_rewarded_in_the_last_steps_only(graph: Path) -> None:
    """The profile's last 2 of 3 steps."""
    rows = MetricsLog(graph / "smoke" / "r1" / "metrics.jsonl").rows()
    judged = [{name for name in ("helpful", "safe") if f"rewards/{name}_reward/mean" in row} for row in rows[:3]]
    assert not judged[0] and judged[1] and judged[2]
    assert all("rewards/accuracy_reward/mean" in row for row in rows[:3])
    rollouts = rollouts_of(graph / "smoke" / "r1")
    for row in rollouts:
        by = [name for name in ("helpful_reward", "safe_reward") if row["rewards"][name] is not None]
        assert len(by) == (row["domain"] in ("general", "safety")) and (row["domain"] != "general" or by == ["helpful_reward"])


def test_what_is_finished_is_loaded_and_not_touched(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = times(smoke)
    capsys.readouterr()
    for name in reversed(R1):
        assert stages.run(name, profile="smoke").loaded
    assert times(smoke) == before and "trained from" not in capsys.readouterr().out
    assert isinstance(stages.run("rm_safe", profile="smoke").policy, RewardModel)


def test_a_stage_that_was_removed_is_trained_again_when_it_is_needed(smoke: Path, graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And comes out as it was, so that what was made from it stays valid."""
    shutil.rmtree(smoke / "dev1")
    shutil.rmtree(smoke / "v3")
    before = times(smoke)
    for name in ("r1", "dev3", "dev2", "rm_helpful", "zero"):                          # trained already
        assert stages.run(name, profile="smoke").loaded
    assert times(smoke) == before and not (smoke / "dev1").exists()
    shutil.rmtree(smoke / "dev2")
    capsys.readouterr()
    assert not stages.run("dev2", profile="smoke").loaded                             # this needs dev1, and not v3
    said = capsys.readouterr().out
    assert "dev1: trained from base-0.4m" in said and "zero: loaded" in said and not (smoke / "v3").exists()
    for name in ("dev1", "dev2"):
        assert tree(smoke / name / "model") == tree(graph / "smoke" / name / "model")
    assert stages.run("dev3", profile="smoke").loaded


@pytest.mark.parametrize("finished_before", [True, False])
def test_another_parent_than_the_one_it_was_made_from_is_refused(smoke: Path, finished_before: bool) -> None:
    policy = Policy.load(smoke / "zero" / "model")
    with torch.no_grad():
        policy.model.model.norm.weight.mul_(1.1)
    policy.save(smoke / "zero" / "model")
    if not finished_before:
        unfinish(smoke / "dev1")
    before = tree(smoke)
    message = one_line(lambda: stages.run("dev1", profile="smoke"))
    assert str(smoke / "dev1") in message and str(smoke / "zero") in message and "another zero" in message
    assert tree(smoke) == before
    assert stages.run("dev2", profile="smoke").loaded                                  # whose own parent is the old one


FEW = {"zero.steps": 1, "zero.prompts_per_step": 4, "zero.samples_per_prompt": 4, "zero.max_new_tokens": 48, "problems": 32, "epochs": 1}


def test_settings_with_a_stage_in_front_reach_that_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_RUNS", str(tmp_path))
    stages.run("dev1", profile="smoke", settings={**FEW, "dev1.batch_size": 8, "dev2.steps": 7})
    zero, dev1 = (read_lineage(tmp_path / "smoke" / name) for name in ("zero", "dev1"))
    assert (zero["recipe"]["steps"], zero["recipe"]["prompts_per_step"]) == (1, 4) and "problems" not in zero["settings"]
    assert (dev1["settings"]["problems"], dev1["recipe"]["epochs"], dev1["recipe"]["batch_size"]) == (32, 1, 8)
    before = tree(tmp_path)
    assert stages.run("dev1", profile="smoke", settings={**FEW, "batch_size": 8}).loaded
    shutil.rmtree(tmp_path / "smoke" / "dev1")
    message = one_line(lambda: stages.run("dev1", profile="smoke", settings={**FEW, "zero.steps": 2}))
    assert str(tmp_path / "smoke" / "zero") in message and "steps=1, this run asks for steps=2" in message
    assert tree(tmp_path) == {file: digest for file, digest in before.items() if "/dev1/" not in file}


@pytest.mark.parametrize(("settings", "message"), [
    ({"zeroo.steps": 3}, "setting 'zeroo.steps': there is no stage 'zeroo'. Stages are zero, v3, dev1"),
    ({"zero.step": 3}, "stage zero: there is no setting 'step'. Known are combine, domains, steps"),
    ({"zero.steps": 0}, "steps=0"),
    ({"steps": 3}, "stage dev1: there is no setting 'steps'. Known are domains"),
    ({"domains": ["maths"]}, "stage dev1: domain 'maths' is not known"),
])
def test_a_wrong_setting_is_named_before_anything_is_trained(settings: dict, message: str, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_RUNS", str(tmp_path))
    assert message in one_line(lambda: stages.run("dev1", profile="smoke", settings=settings))
    assert list(tmp_path.iterdir()) == []


def test_a_single_name_is_a_list_of_one() -> None:
    """As the command line has it: domains=math."""
    asked, listed = (stages.configure("zero", profile="smoke", settings={"domains": domains})[0] for domains in ("math", ["math"]))
    assert asked == listed == pipeline.Zero(domains=("math",))


def test_a_bad_row_of_data_is_named_and_nothing_is_lost(smoke: Path) -> None:
    file = smoke / "dev3" / "data_reasoning.jsonl"
    lines = file.read_text(encoding="utf-8").split("\n")
    file.write_text("\n".join([lines[0], '{"prompt": "a", "completion"', *lines[2:]]), encoding="utf-8")
    unfinish(smoke / "dev3")
    before = tree(smoke)
    assert f"stage dev3: {file}, row 2: not a Example" in one_line(lambda: stages.run("dev3", profile="smoke"))
    assert tree(smoke) == before
    file.unlink()                                                                      # as the message says
    assert stages.run("dev3", profile="smoke").finished and stages.run("rm_safe", profile="smoke").loaded


def test_data_of_another_stage_that_is_missing_are_named(smoke: Path) -> None:
    (smoke / "v3" / "data.jsonl").unlink()
    shutil.rmtree(smoke / "dev3")
    assert f"{smoke / 'v3' / 'data.jsonl'}: there is no such data file" in one_line(lambda: stages.run("dev3", profile="smoke"))


def test_killed_at_any_moment_the_same_command_ends_in_the_same_weights(graph: Path, tmp_path: Path) -> None:
    """SIGKILL, which no program can answer, while R1-Zero trains, samples are collected, and later stages learn."""
    def written(runs: Path) -> int:
        return sum(file.read_bytes().count(b"\n") for file in runs.glob("smoke/*/*.jsonl"))         # folders below come and go

    moments = [round(share * written(graph)) for share in (0.01, 0.2, 0.5, 0.9)]
    command = [sys.executable, "-m", "r1lib", "run", "--to", "r1", "--profile", "smoke"]
    kills, ended = 0, None
    while ended is None:
        running = subprocess.Popen(command, cwd=paths.root(), env={**os.environ, "R1_RUNS": str(tmp_path)}, stdout=subprocess.DEVNULL)
        while (ended := running.poll()) is None:
            if kills < len(moments) and written(tmp_path) >= moments[kills]:
                running.kill()
                running.wait()
                kills += 1
                break
            time.sleep(0.05)
    assert (ended, kills) == (0, len(moments))
    for name in R1:
        assert tree(tmp_path / "smoke" / name / "model") == tree(graph / "smoke" / name / "model"), name


def test_a_stopped_parent_stops_all_and_the_same_call_goes_on(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1_RUNS", str(tmp_path))
    stopped_once: list[int] = []

    def stop(row: dict) -> None:
        if row["step"] == 1 and not stopped_once:
            stopped_once.append(1)
            (tmp_path / "smoke" / "zero" / "STOP").touch()

    stopped = stages.run("dev1", profile="smoke", watchers=[stop])
    assert (stopped.name, stopped.finished, stopped.loaded, stopped.rows) == ("dev1", False, False, [])
    assert [folder.name for folder in (tmp_path / "smoke").iterdir()] == ["zero"] and not (tmp_path / "smoke" / "zero" / "model").exists()
    assert stages.run("dev1", profile="smoke").finished
    for name in ("zero", "dev1"):
        assert tree(tmp_path / "smoke" / name / "model") == tree(graph / "smoke" / name / "model")


def test_a_stage_may_lie_in_a_folder_of_another_name(smoke: Path) -> None:
    (smoke / "dev2").rename(smoke / "mine")
    before = times(smoke)
    assert stages.run("dev2", profile="smoke", folder=smoke / "mine").loaded and times(smoke) == before


# ------------------------------------------------------------------------------------------------------------------------------------------
# Several at the same time

@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 2)


def test_stages_side_by_side_end_in_the_same_weights(smoke: Path, graph: Path, two_cores: None) -> None:
    for name in ("rm_helpful", "rm_safe"):
        shutil.rmtree(smoke / name)
    heard: list[dict] = []
    found = stages.run_side_by_side({"rm_helpful": {"watchers": [heard.append]}, "rm_safe": {}, "v3": {}}, profile="smoke")
    assert list(found) == ["rm_helpful", "rm_safe", "v3"]
    assert [run.loaded for run in found.values()] == [False, False, True] and all(run.finished for run in found.values())
    assert isinstance(found["rm_safe"].policy, RewardModel) and isinstance(found["v3"].policy, Policy)
    assert heard == found["rm_helpful"].rows == MetricsLog(smoke / "rm_helpful" / "metrics.jsonl").rows()
    for name in ("rm_helpful", "rm_safe"):
        assert tree(smoke / name / "model") == tree(graph / "smoke" / name / "model"), name


def test_data_made_before_stages_part_lie_in_a_folder_that_says_what_for(smoke: Path, graph: Path, two_cores: None,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dev1", "v3"):
        shutil.rmtree(smoke / name)
    before: list[dict] = []
    prepare = pipeline.ColdStart.prepare

    def watched(stage: pipeline.ColdStart, job: pipeline.Job) -> None:
        before.append(read_lineage(job.folder))
        prepare(stage, job)
        assert (job.folder / "data_reasoning.jsonl").exists() and not (job.folder / "metrics.jsonl").exists()

    monkeypatch.setattr(pipeline.ColdStart, "prepare", watched)
    assert all(run.finished for run in stages.run_side_by_side({"dev1": {}, "v3": {}}, profile="smoke").values())
    (begun,), after = before, read_lineage(smoke / "dev1")
    assert not begun["finished"] and begun["parents"] == after["parents"] and begun["seconds"] == 0 < after["seconds"]
    assert tree(smoke / "dev1" / "model") == tree(graph / "smoke" / "dev1" / "model")


def test_one_that_stops_is_named_and_the_same_call_goes_on(smoke: Path, graph: Path, two_cores: None) -> None:
    for name in ("rm_helpful", "rm_safe"):
        shutil.rmtree(smoke / name)
    (smoke / "rm_safe").mkdir()
    (smoke / "rm_safe" / "STOP").touch()
    asked = {"rm_helpful": {}, "other": {"name": "rm_safe", "folder": smoke / "rm_safe"}}
    assert one_line(lambda: stages.run_side_by_side(asked, profile="smoke")).startswith("other stopped before the end")
    assert read_lineage(smoke / "rm_helpful")["finished"] and not read_lineage(smoke / "rm_safe")["finished"]
    assert stages.run_side_by_side(asked, profile="smoke")["other"].finished
    assert tree(smoke / "rm_safe" / "model") == tree(graph / "smoke" / "rm_safe" / "model")


def test_one_after_the_other_none_begins_behind_one_that_stopped(smoke: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 1)
    for name in ("rm_helpful", "rm_safe"):
        shutil.rmtree(smoke / name)
    (smoke / "rm_helpful").mkdir()
    (smoke / "rm_helpful" / "STOP").touch()
    message = one_line(lambda: stages.run_side_by_side({"rm_helpful": {}, "rm_safe": {}}, profile="smoke"))
    assert message.startswith("rm_helpful and rm_safe stopped before the end") and not (smoke / "rm_safe").exists()
    assert all(run.finished for run in stages.run_side_by_side({"rm_helpful": {}, "rm_safe": {}}, profile="smoke").values())


def test_what_several_need_is_trained_once_before_them(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                       two_cores: None, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("R1_RUNS", str(tmp_path))
    asked = {size: {"name": f"distill_{size}", "settings": {**FEW, "teacher": "zero", "samples": 2}} for size in ("1m", "04m")}
    found = stages.run_side_by_side({label: {**own, "folder": tmp_path / "smoke" / label} for label, own in asked.items()}, profile="smoke")
    assert all(run.finished for run in found.values())
    printed = capsys.readouterr().out
    assert printed.count("zero: trained from") == 1 and printed.count("zero_samples: math: sampled") == 1
    assert "zero: loaded" not in printed                                    # what all need is told once
    students = [(run.folder / "data.jsonl").read_bytes() for run in found.values()]
    assert students[0] == students[1]


def test_evaluations_side_by_side_are_those_made_one_by_one(smoke: Path, tmp_path: Path, two_cores: None) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)                                 # the last bit of a product may depend on it
    try:
        alone = {name: stages.evaluation(name, profile="smoke", samples=1, folder=smoke / name) for name in ("dev1", "dev2")}
    finally:
        torch.set_num_threads(threads)
    for name in alone:
        (smoke / name / "evaluation-math-1.json").unlink()
    asked = {name: {"name": name, "samples": 1} for name in alone}
    assert stages.evaluate_side_by_side(asked, profile="smoke") == alone
    written = times(smoke)
    assert stages.evaluate_side_by_side(asked, profile="smoke") == alone and times(smoke) == written


# ------------------------------------------------------------------------------------------------------------------------------------------
# The table of all stages

def test_scores_have_every_metric(smoke: Path) -> None:
    scores = stages.scores("r1", profile="smoke")
    assert list(scores) == list(stages.SCORES)
    for metric, measured in scores.items():
        assert measured["low"] <= measured["value"] <= measured["high"]
        assert 1 <= measured["value"] <= profiles.get("smoke").answer_tokens if metric == "mean length" else 0 <= measured["value"] <= 1
    samples = profiles.get("smoke").table_samples
    files = [smoke / "r1" / f"evaluation-{name}-{samples}.json" for name in tasks.EVALUATION_SETS]
    before = [file.stat().st_mtime_ns for file in files]
    assert stages.scores("r1", profile="smoke") == scores and [file.stat().st_mtime_ns for file in files] == before
    math, logic, code, safety = (evaluation.load(smoke / "r1" / f"evaluation-{name}-{samples}.json")
                                 for name in ("math", "logic", "code", "safety"))
    assert scores["math"] == math.summary()["pass@1"] and scores["math, cons@k"] == math.summary()["cons@k"]
    assert scores["safety"]["value"] == pytest.approx(safety.summary()["safe"]["value"])
    lengths = [completion.length for part in (math, logic, code) for completion in part.completions]
    assert scores["mean length"]["value"] == pytest.approx(sum(lengths) / len(lengths))


@pytest.mark.parametrize(("name", "prompt", "tokens"), [
    ("base", text.zero_prompt, 96), ("zero", text.zero_prompt, 96), ("v3", text.chat_prompt, 80), ("dev2", text.chat_prompt, 80)])
def test_a_stage_is_asked_as_it_was_trained_to_be(name: str, prompt: Callable[[str], str], tokens: int, smoke: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """As plain text before any fine-tuning, in the chat format after it; there, with room for a summary."""
    monkeypatch.setitem(profiles.PROFILES, "smoke", dataclasses.replace(profiles.get("smoke"), evaluation_problems=2, answer_tokens=80))
    made = stages.evaluation(name, profile="smoke", samples=1)
    assert made.template == prompt("{question}") and made.settings["max_new_tokens"] == tokens
    assert (smoke / name / "evaluation-math-1.json").is_file()


def test_prompts_of_all_stages() -> None:
    plain = {name for name in ("base", *pipeline.STAGES) if pipeline.prompt_of(name) is text.zero_prompt}
    chat = {name for name in ("base", *pipeline.STAGES) if pipeline.prompt_of(name) is text.chat_prompt}
    assert plain == {"base", "zero", "zero_1m", "zero_04m", "zero_ppo"} and chat == set(pipeline.STAGES) - plain
