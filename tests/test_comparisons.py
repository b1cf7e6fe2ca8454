"""What notebook 11 measures: by hand on made-up curves, as a whole on untrained stages; and that it writes what the package runs."""

import ast
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from test_notebook_functions import NOTEBOOKS, functions

from r1lib import comparisons, evaluation, findings, paths, profiles, rewards, stages, tasks, text
from r1lib.errors import R1Error
from r1lib.evaluation import Variant

NAMES = {
    "pass1_base", "pass1_zero", "pass1_r1", "pass1_v3", "passk_base", "passk_zero", "cons_zero", "cons_minus_pass1_zero",
    "pass1_r1_minus_zero", "general_r1_minus_zero", "general_r1_minus_v3", "winrate_r1_vs_v3", "winrate_dev3_vs_v3", "winrate_r1_vs_dev3",
    "length_level1_zero", "length_level5_zero", "length_hard_minus_easy_zero", "zero_shot_r1", "few_shot_r1", "few_minus_zero_shot_r1",
    "template_changed_r1", "json_r1", "chinese_zero", "english_zero", "mixing_base", "mixing_zero", "easy_first"}


# ------------------------------------------------------------------------------------------------------------------------------------------
# Ways of asking

def test_the_solved_examples_are_right_and_no_evaluation_problem_is_among_them() -> None:
    questions = {problem.question for name in tasks.EVALUATION_SETS for problem in tasks.evaluation_set(name)}
    assert len(comparisons.shots()) == 2
    for prompt, completion in comparisons.shots():
        question = prompt.removeprefix(text.USER).removesuffix(text.ASSISTANT)
        assert question and question not in questions
        assert text.parse(completion).well_formed and not text.mixes_languages(text.thinking(completion), "en")
    (_, story), (_, pair) = comparisons.shots()
    assert "\\boxed{49}" in story and "\\boxed{6 and 10}" in pair              # 16+14+19; 6+10=16 and 6*10=60


def test_a_few_shot_prompt_is_a_talk_that_ends_with_the_question() -> None:
    prompt = comparisons.few_shot_prompt("What now?")
    assert prompt.endswith(text.EOS + text.chat_prompt("What now?"))
    assert prompt.count(text.USER) == prompt.count(text.ASSISTANT) == 3 and prompt.count(text.EOS) == 2


def in_tags(answer: str) -> str:
    return f" <think>\n3+4=7\n</think>\n<answer>{answer}</answer>"


@pytest.mark.parametrize(("answer", "read"), [
    ('{"answer": 7}', "7"), ('{"answer": "7"}', "7"), (' {"answer": 7, "unit": "cm"} ', "7"), ('{"answer": 7.0}', "7.0"),
    ("7", None), ('{"result": 7}', None), ('{"answer": [7]}', None), ('{"answer": null}', None), ('["answer"]', None),
    ('{"answer": 7', None), ("", None), ("[" * 100_000, None), ('{"answer": ' + "9" * 10_000 + "}", None), ("\\boxed{7}", None)])
def test_json_answer(answer: str, read: str | None) -> None:
    assert comparisons.json_answer(in_tags(answer)) == read
    assert comparisons.json_format_reward([in_tags(answer)]) == [float(read is not None)]


def test_json_is_judged_by_what_it_holds() -> None:
    columns = {"solution": ["7"] * 4, "answer_type": ["number"] * 4, "tests": [[]] * 4, "language": ["en"] * 4}
    completions = [in_tags('{"answer": 7}'), in_tags('{"answer": 8}'), in_tags("7"), '{"answer": 7}']
    assert comparisons.json_correctness(completions, **columns) == [1, 0, 0, 0]
    hidden = in_tags('{"answer": "</answer><answer>7"}')                            # a tag in the string must not open a second element
    assert comparisons.json_correctness([hidden], **{name: column[:1] for name, column in columns.items()}) == [0]


# ------------------------------------------------------------------------------------------------------------------------------------------
# Curves

def flat(values: dict[int, float | None]) -> dict[int, evaluation.Interval]:
    return {k: {"value": value, "low": value, "high": value} for k, value in values.items()}


@pytest.mark.parametrize(("lower", "upper", "k"), [
    ({1: 0.2, 2: 0.4, 4: 0.7}, {1: 0.5, 2: 0.6, 4: 0.65}, 4), ({1: 0.2, 2: 0.6}, {1: 0.5, 2: 0.6, 4: 0.65}, 2),
    ({1: 0.2, 2: 0.4}, {1: 0.5, 2: 0.6}, None), ({1: None, 2: 0.4}, {1: 0.5, 2: 0.3}, 2), ({1: 0.5}, {2: 0.4}, None)])
def test_crossing(lower: dict, upper: dict, k: int | None) -> None:
    assert comparisons.crossing(flat(lower), flat(upper)) == k


@pytest.mark.parametrize(("values", "step"), [
    ([0.2, 0.6, 0.6], 4.0), ([0.2, 0.2, 0.6], 12.0), ([0.2, 0.3, 0.6], 8 + 8 / 3), ([0.2, 0.9, 0.6], 8 * 0.2 / 0.7), ([0.6, 0.2], None),
    ([0.2, 0.2], None), ([0.2], None), ([], None)])
def test_half_gain_step(values: list[float], step: float | None) -> None:
    found = comparisons.half_gain_step([0, 8, 16][:len(values)], values)
    assert found == (None if step is None else pytest.approx(step))


def test_easy_first_is_told_from_the_metrics() -> None:
    rows = [{"step": step, "reward": 1.0, "eval_accuracy/level_1": easy, "eval_accuracy/level_5": hard}
            for step, easy, hard in ((16, 0.8, 0.5), (0, 0.2, 0.1), (8, 0.8, 0.1))]
    assert comparisons.easy_first([*rows, {"step": 4, "reward": 1.0}]) == {"value": pytest.approx(12 - 4), "low": None, "high": None}
    assert comparisons.easy_first(rows[:1])["value"] is comparisons.easy_first([])["value"] is None


# ------------------------------------------------------------------------------------------------------------------------------------------
# Stages

@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Untrained stages: the small base under every name, 12 problems of each set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R1_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setitem(profiles.PROFILES, "smoke", dataclasses.replace(profiles.get("smoke"), evaluation_problems=6, answer_tokens=32,
                                                                      settings={"zero": {"max_new_tokens": 32}}))
        for name in comparisons.STAGES[1:]:
            shutil.copytree(paths.data() / "base-0.4m", paths.stage("smoke", name) / "model")
        rows = [{"step": 0, "eval_accuracy/level_1": 0.1, "eval_accuracy/level_5": 0.1},
                {"step": 8, "eval_accuracy/level_1": 0.5, "eval_accuracy/level_5": 0.1},
                {"step": 16, "eval_accuracy/level_1": 0.5, "eval_accuracy/level_5": 0.3}]
        (paths.stage("smoke", "zero") / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        yield paths.runs("smoke")


def test_measure_finds_what_the_ledger_asks_for_and_keeps_it(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = comparisons.measure(profile="smoke")
    assert found.keys() == NAMES and all(interval.keys() == {"value", "low", "high"} for interval in found.values())
    assert found["winrate_r1_vs_dev3"]["value"] == pytest.approx(0.5, abs=0.3) and found["easy_first"]["value"] == pytest.approx(8.0)
    assert all(interval["low"] <= interval["value"] <= interval["high"] for name, interval in found.items()
               if interval["value"] is not None and name != "easy_first")
    stored = findings.read_all(runs)["evaluation"]
    assert stored["findings"] == found and stored["notebook"] == "11_evaluation" and (NOTEBOOKS / "11_evaluation.ipynb").is_file()
    with monkeypatch.context() as patch:
        patch.setattr(comparisons, "_measured", None)                               # nothing is measured again
        assert comparisons.measure(profile="smoke", runs=runs) == found
    for name in ("few-shot", "zero-template", "json"):
        assert (runs / "r1" / f"evaluation-math-2-{name}.json").is_file()


def test_a_missing_stage_is_named(runs: Path) -> None:
    (runs / "v3").rename(runs / "away")
    with pytest.raises(R1Error, match="v3"):
        comparisons.measure(profile="smoke", seed=1)
    (runs / "away").rename(runs / "v3")


def test_a_variant_is_asked_judged_and_kept_under_its_own_name(runs: Path) -> None:
    of_nothing = rewards.RewardMix({"accuracy_reward": lambda completions, **_: [0.5] * len(completions),
                                    "format_reward": rewards.format_reward})
    shout = Variant("shout", lambda question: question.upper(), temperature=0.5, top_p=0.9, judges=of_nothing)
    made = stages.evaluation("v3", profile="smoke", variant=shout)
    assert (made.template, made.settings["temperature"], made.settings["top_p"]) == ("{QUESTION}", 0.5, 0.9)
    assert {c.accuracy for c in made.completions} == {0.5}
    file = runs / "v3" / "evaluation-math-shout.json"
    first = file.stat().st_mtime_ns
    assert stages.evaluation("v3", profile="smoke", variant=shout) == made and file.stat().st_mtime_ns == first
    for other in (dataclasses.replace(shout, temperature=0.6), dataclasses.replace(shout, temperature=0.6, prompt=str.title)):
        again = stages.evaluation("v3", profile="smoke", variant=other)
        assert again.template == other.prompt("{question}") and again.settings["temperature"] == other.temperature
    assert not (runs / "v3" / "evaluation.json").exists()


def test_parts_of_an_evaluation(runs: Path) -> None:
    made = stages.evaluation("base", profile="smoke")
    of_level = comparisons.among(made, "mean_length", level=1, language="en")
    known = [problem.level == 1 and problem.language == "en" for problem in made.problems]
    assert (~np.isnan(of_level)).tolist() == known
    assert comparisons.over(comparisons.among(made, "pass@1", language="fr"))["value"] is None
    curve = comparisons.pass_curve(made)
    assert list(curve) == [1, 2, 4] and curve[1]["value"] <= curve[2]["value"] <= curve[4]["value"]
    assert curve[4] == made.pass_at(4) and comparisons.pass_curve(made, level=6)[1]["value"] is None


# ------------------------------------------------------------------------------------------------------------------------------------------
# The notebook

@pytest.mark.parametrize("name", ["pass_at_k", "majority"])
def test_the_notebook_writes_what_the_package_runs(name: str) -> None:
    cells = nbformat.read(NOTEBOOKS / "11_evaluation.ipynb", as_version=4).cells
    written = [functions(cell.source)[name] for cell in cells if cell.cell_type == "code" and name in functions(cell.source)]
    package = functions(Path(evaluation.__file__).read_text(encoding="utf-8"))[name]
    assert [ast.unparse(node) for node in written] == [ast.unparse(package)]
