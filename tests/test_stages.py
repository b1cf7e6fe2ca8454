"""A stage is trained once, loaded afterwards, gone on with after a stop, and never overwritten by another configuration."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1lib import paths, profiles, stages, tasks
from r1lib.errors import R1Error
from r1lib.policy import Policy

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
    lineage = json.loads((run.folder / "lineage.json").read_text(encoding="utf-8"))
    assert lineage["finished"] is True and lineage["parent"] == "base-0.4m" and lineage["seed"] == 0
    assert lineage["parent_sha256"] == json.loads((paths.data() / "base-0.4m" / "card.json").read_text())["sha256"]
    assert {name: lineage["recipe"][name] for name in QUICK} == QUICK
    assert seconds(run.folder) > 0
    assert stages.weights_sha256(run.folder / "model") != stages.weights_sha256(paths.data() / "base-0.4m")       # it has learnt something


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
    (dict(base="base-1m"), "parent=base-0.4m, this run asks for parent=base-1m"),
    (dict(settings={**QUICK, "learning_rate": 1e-5}), "learning_rate=0.0003, this run asks for learning_rate=1e-05"),
    (dict(domains=["math"]), "domains="),
    (dict(combine="gated"), "combine=sum, this run asks for combine=gated"),
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
    assert "parent_sha256=" in one_line(lambda: quick(base=str(other)))


@pytest.mark.parametrize(("changes", "message"), [
    (dict(profile="laptop"), "profile 'laptop' is not known"),
    (dict(base="base-9m"), "base model 'base-9m' is neither one of base-0.4m, base-1m, base-3m"),
    (dict(domains=["maths"]), "domain 'maths' is not known"),
    (dict(combine="product"), "combine='product' is not known"),
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
    assert made.about["weights_sha256"] == stages.weights_sha256(copied / "model") and len(made.problems) == 30 and made.samples == 4
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
    assert list(again.problems) == stages.spread(problems[1:], 4)


def test_spread_keeps_every_kind_and_level() -> None:
    problems = tasks.evaluation_set("math")
    some = stages.spread(problems, 30)
    assert len(some) == len({problem.id for problem in some}) == 30
    assert {(problem.kind, problem.level) for problem in some} == {(problem.kind, problem.level) for problem in problems}
    assert stages.spread(problems, None) == stages.spread(problems, 10_000) == problems


def test_programs_are_paid_by_their_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code joins the problems by name, and with it the reward that runs programs; an evaluation of code is judged by it, too."""
    monkeypatch.setenv("R1_RUNS", str(tmp_path))
    run = quick(domains=["math", "code"])
    assert json.loads((run.folder / "lineage.json").read_text())["reward"]["parts"] == ["accuracy_reward", "code_reward", "format_reward"]
    assert 0 <= run.rows[0]["rewards/code_reward/mean"] <= 1
    measured = stages.evaluation("zero", profile="smoke", set_name="code")
    assert all(completion.accuracy in (0.0, 1.0) for completion in measured.completions)
    assert measured.summary()["pass@1"]["value"] > 0
