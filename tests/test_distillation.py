"""A smaller base learns a teacher's answers; the same answers serve all students, and what is compared is computed from what there is."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r1lib import distillation, evaluation, findings, lineage, pipeline, profiles, stages, tasks, text
from r1lib.distillation import Spent
from r1lib.errors import R1Error
from r1lib.pipeline import Job
from r1lib.policy import Policy
from r1lib.stages import StageRun
from r1lib.training.sft import Example

# The untrained base teaches by way of R1-Zero, which is far cheaper than R1 and asked in the plain prompt.
ZERO = {"zero.steps": 1, "zero.prompts_per_step": 4, "zero.samples_per_prompt": 4, "zero.max_new_tokens": 48, "zero.evaluate_every": 9}
TAUGHT = {**ZERO, "teacher": "zero", "problems": 64, "samples": 2, "epochs": 1}
FEW_PROBLEMS = dict(evaluation_problems=4, evaluation_samples=1, held_out_samples=1, table_samples=1)


@pytest.fixture(autouse=True)
def few_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(profiles.PROFILES, "smoke", dataclasses.replace(profiles.get("smoke"), **FEW_PROBLEMS))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with a distilled 0.4 M base in it, and all that it needed. Tests leave it as it is, or copy it."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R1_RUNS", str(runs))
        patch.setitem(profiles.PROFILES, "smoke", dataclasses.replace(profiles.get("smoke"), **FEW_PROBLEMS))
        assert stages.run("distill_04m", profile="smoke", settings=TAUGHT).finished
    return runs / "smoke"


@pytest.fixture
def smoke(taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, a copy that may be damaged, and a student of one's own in a folder beside it."""
    shutil.copytree(taught, tmp_path / "runs" / "smoke")
    monkeypatch.setenv("R1_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs" / "smoke"


@pytest.fixture
def mine(tiny_policy: Policy, tmp_path: Path) -> Path:
    tiny_policy.save(tmp_path / "mine")
    return tmp_path / "mine"


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "lineage.json").read_text(encoding="utf-8"))


def never(*_: object, **__: object) -> None:
    raise AssertionError("the teacher is asked again")


# ------------------------------------------------------------------------------------------------------------------------------------------
# Stages

def test_a_student_learns_what_its_teacher_got_right(taught: Path) -> None:
    made, samples = read(taught / "distill_04m"), read(taught / "zero_samples")
    assert sorted(folder.name for folder in taught.iterdir()) == ["distill_04m", "zero", "zero_samples"]
    assert made["finished"] and made["base"] == "base-0.4m" and read(taught / "zero")["base"] == profiles.get("smoke").base
    assert made["parents"] == samples["parents"] == {"zero": lineage.weights_sha256(taught / "zero" / "model")}
    right = pipeline.read_rows(taught / "zero_samples" / "data_reasoning.jsonl", Example)
    learnt = pipeline.read_rows(taught / "distill_04m" / "data.jsonl", Example)
    assert sorted(map(str, learnt)) == sorted(map(str, right)) and learnt
    assert all(row.prompt.startswith(text.USER) and text.parse(row.completion).well_formed for row in learnt)
    counts = json.loads((taught / "zero_samples" / "selection.json").read_text(encoding="utf-8"))
    assert sum(row["sampled"] for row in counts.values()) == 64 * 2 and sum(row["kept"] for row in counts.values()) == len(right)
    assert samples["finished"] and samples["seconds"] > 0 and 64 * 2 <= samples["tokens"] <= 64 * 2 * profiles.get("smoke").answer_tokens
    assert samples["data_sha256"].keys() == {"data_reasoning.jsonl"} and made["data_sha256"].keys() == {"data.jsonl"}


def test_another_student_learns_the_same_and_fewer_are_the_first_of_more(smoke: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a size that nobody ships, too: a folder is named, and the teacher is not asked again."""
    monkeypatch.setattr(Job, "answers", never)
    one = stages.run("distill_1m", profile="smoke", settings={**TAUGHT, "student": str(mine)})
    all_of_them, few = (pipeline.read_rows(folder / "data.jsonl", Example) for folder in (smoke / "distill_04m", one.folder))
    assert all_of_them == few and read(one.folder)["base"] == "mine" and one.policy.model.config.hidden_size == 32
    settings = {**TAUGHT, "student": str(mine), "examples": 2}
    few = stages.run("distill_1m", profile="smoke", settings=settings, folder=smoke / "few")
    assert pipeline.read_rows(few.folder / "data.jsonl", Example) == all_of_them[:2]


def test_what_starts_from_a_student_has_its_base(smoke: Path, mine: Path) -> None:
    settings = {**{key if "." in key else f"distill_1m.{key}": value for key, value in TAUGHT.items()}, "distill_1m.student": str(mine),
                "steps": 1, "prompts_per_step": 8, "samples_per_prompt": 2, "max_new_tokens": 8}
    try:
        stages.run("distill_1m_rl", profile="smoke", settings=settings)
    except R1Error as error:                                # random weights earn nothing: GRPO says so, and does not begin
        assert "distill_1m_rl" in str(error)
    made = read(smoke / "distill_1m_rl")
    assert made["base"] == "mine" and made["parents"] == {"distill_1m": lineage.weights_sha256(smoke / "distill_1m" / "model")}
    assert read(smoke / "distill_1m")["base"] == "mine"


def test_collected_before_a_kill_is_not_collected_again(smoke: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(smoke / "zero_samples")
    shutil.rmtree(smoke / "distill_04m")
    (smoke / "zero_samples" / "lineage.json").write_text(json.dumps({**before, "finished": False, "data_sha256": {}}), encoding="utf-8")
    monkeypatch.setattr(Job, "answers", never)
    assert stages.run("distill_04m", profile="smoke", settings=TAUGHT).finished
    assert read(smoke / "zero_samples") == before


@pytest.mark.parametrize(("settings", "said"), [
    ({"teacher": "r2"}, "stage distill_04m: teacher='r2': must be one of zero, v3"),
    ({"teacher": "rm_safe"}, "teacher='rm_safe': must be one of"),
    ({"student": "base-7b"}, "base model 'base-7b' is neither one of base-0.4m, base-1m, base-3m"),
    ({"examples": 0}, "examples=0: must be a number above 0"),
    ({"problems": 65}, "zero_samples: made with problems=64, this run asks for problems=65"),
])
def test_what_cannot_be_is_named_and_nothing_is_touched(settings: dict[str, Any], said: str, smoke: Path) -> None:
    shutil.rmtree(smoke / "distill_04m")
    before = {file: file.read_bytes() for file in smoke.rglob("*") if file.is_file()}
    with pytest.raises(R1Error) as error:
        stages.run("distill_04m", profile="smoke", settings={**TAUGHT, **settings})
    assert said in str(error.value) and "\n" not in str(error.value)
    assert all(file.read_bytes() == held for file, held in before.items())


def test_samples_of_another_teacher_are_refused(smoke: Path) -> None:
    policy = Policy.load(smoke / "zero" / "model")
    policy.model.model.norm.weight.data.mul_(1.1)
    policy.save(smoke / "zero" / "model")
    with pytest.raises(R1Error, match=r"distill_04m: made from another zero"):
        stages.run("distill_04m", profile="smoke", settings=TAUGHT)
    shutil.rmtree(smoke / "distill_04m")
    with pytest.raises(R1Error, match=r"zero_samples: made with zero="):
        stages.run("distill_04m", profile="smoke", settings=TAUGHT)


def test_small_bases_are_asked_as_r1_zero_is() -> None:
    zero, small = (stages.configure(name, profile="cpu")[1] for name in ("zero", "zero_1m"))
    assert pipeline.prompt_of("zero_1m") is pipeline.prompt_of("zero_04m") is text.zero_prompt
    assert zero.max_new_tokens == small.max_new_tokens == stages._answer_tokens("zero_1m", profiles.get("cpu"))
    assert [stages.configure(name, profile="cpu")[0].student for name in ("zero_1m", "zero_04m", "distill_04m")] == [
        "base-1m", "base-0.4m", "base-0.4m"]
    assert stages._answer_tokens("distill_1m", profiles.get("cpu")) == profiles.get("cpu").answer_tokens


# ------------------------------------------------------------------------------------------------------------------------------------------
# Costs

ROWS = [{"step": 0, "completions/mean_length": 10.0, "step_time": 2.0, "eval_accuracy": 0.2},
        {"step": 1, "completions/mean_length": 20.0, "step_time": 3.0},
        {"step": 2, "completions/mean_length": 30.0, "step_time": 4.0, "eval_accuracy": 0.4}, {"step": 3, "eval_accuracy": 0.5}]


def test_what_a_training_has_cost_by_hand() -> None:
    _, recipe = stages.configure("zero_1m", profile="smoke", settings={"prompts_per_step": 8, "samples_per_prompt": 8})
    alone = distillation.spent_by_rl(ROWS, recipe)
    assert alone == [Spent(0, 0, 0.0, 0.2), Spent(2, 64 * 30, 5.0, 0.4), Spent(3, 64 * 60, 9.0, 0.5)]
    taught = distillation.spent_by_distillation(ROWS, {"tokens": 700, "seconds": 11.0})
    assert taught == [Spent(0, 0, 0.0, 0.2), Spent(2, 700, 16.0, 0.4), Spent(3, 700, 20.0, 0.5)]
    assert distillation.accuracy_at(alone, 960, "tokens") == pytest.approx(0.3)
    assert distillation.accuracy_at(alone, 7.0, "seconds") == pytest.approx(0.45)
    assert distillation.accuracy_at(alone, 64 * 60, "tokens") == 0.5 and distillation.accuracy_at(alone, 64 * 61, "tokens") is None
    assert distillation.accuracy_at(alone[:1], 1, "tokens") is None


def test_costs_that_are_not_known_are_named(smoke: Path) -> None:
    run = StageRun("distill_04m", smoke / "distill_04m", None, [], finished=True, loaded=True)
    assert distillation.samples_of(run)["tokens"] > 0
    shutil.rmtree(smoke / "zero_samples")
    with pytest.raises(R1Error, match="zero_samples: the teacher's samples are not there"):
        distillation.samples_of(run)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Findings

RIGHT = {"base_1m": 1, "base_04m": 0, "distill_1m": 3, "zero_1m": 2, "distill_1m_rl": 4, "distill_04m": 1, "zero_04m": 2,
         "base": 1, "zero": 4, "distill_1m_64": 1, "distill_1m_256": 2}                          # of 4 problems


def test_findings_by_hand() -> None:
    columns = {name: np.array([1.0] * right + [0.0] * (4 - right)) for name, right in RIGHT.items()}
    columns |= {f"{name}{distillation.PAPER_SAMPLING}": columns[name] for name in ("base_1m", "distill_1m", "zero_1m", "distill_1m_rl")}
    found = {name: interval["value"] for name, interval in distillation._compared(columns).items()}
    assert "zero" not in found and "base" not in found
    expected = {"base_1m": 0.25, "distill_1m": 0.75, "distill_minus_zero_1m": 0.25, "distill_minus_zero_04m": -0.25, "gain_1m": 0.5,
                "gain_04m": 0.25, "bigger_gains_more": 0.25, "rl_after_distill_gain": 0.25, "transfer_64": 0.25, "transfer_256": 0.5,
                "transfer_all": 0.75, "zero_small_gain": 0.5, "zero_3m_gain": 0.75, "distill_minus_zero_1m_at_0.6": 0.25}
    assert {name: found[name] for name in expected} == expected


def test_a_difference_is_that_of_the_same_problems() -> None:
    """As evaluation.difference has it, and narrower than two means are apart."""
    rng = np.random.default_rng(0)
    hard = rng.random(200)
    columns = {name: (hard + rng.random(200) / 8 > 0.5).astype(float) for name in RIGHT}
    columns |= {f"{name}{distillation.PAPER_SAMPLING}": columns[name] for name in ("base_1m", "distill_1m", "zero_1m", "distill_1m_rl")}
    found = distillation._compared(columns)
    width = {name: found[name]["high"] - found[name]["low"] for name in ("distill_minus_zero_1m", "distill_1m", "zero_1m")}
    assert width["distill_minus_zero_1m"] < min(width["distill_1m"], width["zero_1m"])


def test_measured_once_and_again_when_a_model_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages and answers are made up; what is asked of them, and what is kept, is not."""
    problems = tuple(evaluation.spread(tasks.evaluation_set("math"), 4))
    asked: list[tuple[str, str]] = []
    weights = {"zero_1m": "first"}

    def answered(name: str, *, folder: Path | None = None, variant: evaluation.Variant | None = None, **_: Any) -> evaluation.Evaluation:
        where = folder.name if folder else name
        asked.append((name, where))
        right = 4 if variant else RIGHT[{"base-1m": "base_1m", "base-0.4m": "base_04m"}.get(where, where)]
        completions = tuple(evaluation.Completion(p.id, p.domain, p.kind, p.level, p.language, "", 1, True, float(i < right), 1.0, 0, False)
                            for i, p in enumerate(problems))
        return evaluation.Evaluation(problems, completions, 1, {"max_new_tokens": 9}, 0, "{question}",
                                     {"weights_sha256": weights.get(where, where)})

    def trained(told: dict[str, dict], **_: Any) -> dict[str, StageRun]:
        return {label: StageRun(own.get("name", label), own["folder"], None, ROWS, True, True) for label, own in told.items()}

    def measured(told: dict[str, dict], **_: Any) -> dict[str, evaluation.Evaluation]:
        return {label: answered(**own) for label, own in told.items()}

    monkeypatch.setattr(stages, "evaluate_side_by_side", measured)
    monkeypatch.setattr(stages, "run_side_by_side", trained)
    monkeypatch.setattr(pipeline, "read_rows", lambda *_: [None] * 500)
    monkeypatch.setattr(distillation, "samples_of", lambda run: {"tokens": 700, "seconds": 11.0, "data_sha256": {}})
    found = distillation.measure(profile="smoke", runs=tmp_path)
    assert found["distill_minus_zero_1m"]["value"] == 0.25 and found["distill_minus_zero_1m_at_0.6"]["value"] == 0.0
    assert found["tokens_distill_1m"] == {"value": 700.0, "low": None, "high": None} and found["seconds_zero_1m"]["value"] == 9.0
    assert ("distill_1m", "distill_1m_64") in asked and ("zero_04m", "zero_04m") in asked and ("base", "base-1m") in asked
    assert findings.read_all(tmp_path)["distillation"]["notebook"] == "10_distillation"
    asked.clear()
    assert distillation.measure(profile="smoke", runs=tmp_path) == found and ("zero_1m", "zero_1m") in asked
    once = len(asked)
    weights["zero_1m"] = "second"
    assert distillation.measure(profile="smoke", runs=tmp_path) == found
    assert len(asked) == 2 * once + 4                                       # four models are asked at the paper's temperature again


@pytest.mark.parametrize(("there", "count", "epochs"), [(1010, 64, 32), (1010, 256, 8), (1010, 900, 2), (20, 64, 2), (1, 64, 2)])
def test_few_examples_are_gone_over_more_often(there: int, count: int, epochs: int, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "read_rows", lambda *_: [None] * there)
    assert distillation.transfer(count, profile="cpu", runs=tmp_path) == {
        "name": "distill_1m", "folder": tmp_path / f"distill_1m_{count}", "settings": {"examples": count, "epochs": epochs}}
