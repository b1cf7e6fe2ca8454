"""The paper's numbers agree with each other wherever the paper gives two ways to the same one."""

import dataclasses
import itertools

import pytest

from r1lib import paper, text

TABLES = {name: value for name, value in vars(paper).items() if isinstance(value, paper.Table)}
CURVES = {name: value for name, value in vars(paper).items() if isinstance(value, paper.Curve)}
RUNS = [value for value in vars(paper).values() if isinstance(value, paper.RLRun | paper.SFTRun | paper.RewardModel)]


def test_every_number_has_a_source() -> None:
    for thing in (*TABLES.values(), *CURVES.values(), *RUNS, *paper.DISTILLATION.values()):
        assert any(version in thing.source for version in ("v1", "v2", "Nature")), thing


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_rectangular_and_in_range(name: str) -> None:
    table = TABLES[name]
    for row, numbers in table.rows.items():
        assert len(numbers) == len(table.columns), row
    for column in table.columns:
        assert table.column(column) == {row: table.cell(row, column) for row in table.rows}
    if name not in ("RL_PROMPTS", "SFT_DATA", "COST"):
        for row, column in itertools.product(table.rows, table.columns):
            highest = 4000 if "rating" in row + column else 100
            number = table.cell(row, column)
            assert number is None or 0 < number <= highest, (row, column)


@pytest.mark.parametrize("name", CURVES)
def test_curves_go_forward_and_name_their_certain_points(name: str) -> None:
    curve = CURVES[name]
    steps = [step for step, _ in curve.points]
    assert steps == sorted(set(steps)) and set(curve.stated) <= set(steps)
    assert [value for _, value in curve.points] == sorted(value for _, value in curve.points)        # both accuracy and length only grow


def test_batches_and_rollouts() -> None:
    for run in (paper.R1_ZERO, paper.REASONING_RL, paper.ALL_SCENARIOS_RL, paper.R1_ZERO_32B):
        assert run.batch == 512 and run.minibatches == 16
    assert paper.R1_ZERO.steps * paper.R1_ZERO.questions_per_step == 332_800
    assert paper.R1_ZERO.steps % paper.R1_ZERO.minibatches == 0                            # 650 rollouts
    assert dataclasses.replace(paper.R1_ZERO, outputs_per_rollout=None).minibatches is None
    assert paper.ALL_SCENARIOS_RL.steps > paper.PREFERENCE_STEPS


def test_what_no_version_tells_is_none() -> None:
    assert paper.R1_ZERO.clip_epsilon is None and paper.REASONING_RL.steps is None and paper.COLD_START.samples is None


def test_the_800k_samples_add_up() -> None:
    samples, tokens = paper.SFT_DATA.column("samples"), paper.SFT_DATA.column("tokens")
    total = sum(samples.values())
    assert total == paper.SECOND_SFT.samples
    assert total == 804_745
    assert sum(samples[domain] * tokens[domain] for domain in samples) / total == pytest.approx(5355.3, abs=0.05)     # the table's last row
    assert total - samples["general"] == 626_933                                           # "about 600k" of reasoning


def test_the_cost_adds_up() -> None:
    assert sum(paper.COST.column("GPU hours").values()) == 147_000
    assert sum(paper.COST.column("dollars").values()) == 294_000
    assert all(paper.COST.cell(row, "dollars") == 2 * paper.COST.cell(row, "GPU hours") for row in paper.COST.rows)


def test_tables_that_hold_the_same_number_agree() -> None:
    ours, theirs = "R1-Distill-Qwen-32B", "Qwen-32B"
    for column in paper.DISTILLED_OR_RL.columns:
        assert paper.DISTILLED_OR_RL.cell(ours, column) == paper.DISTILLED.cell(theirs, column)
        assert paper.DISTILLED_OR_RL.cell("QwQ-32B-Preview", column) == paper.DISTILLED.cell("QwQ-32B-Preview", column)
    assert paper.R1_ZERO_V1.rows["o1-mini"] == paper.DISTILLED.rows["o1-mini"]
    assert paper.AIME_PASS_1_FINAL.points[-1][1] == paper.STAGES.cell("AIME 2024", "R1-Zero")
    assert paper.AIME_PASS_1.points[-1][1] == paper.R1_ZERO_V1.cell("R1-Zero", "AIME 2024 pass@1")
    assert paper.R1_ZERO_V1.cell("R1-Zero", "AIME 2024 cons@64") == paper.AIME_MAJORITY
    assert set(paper.DISTILLATION) <= set(paper.DISTILLED.rows)
    assert paper.MAIN.column("R1") == paper.STAGES.column("R1")
    assert paper.R1_VOTING["pass@1"] == paper.STAGES.cell("AIME 2024", "R1")
    assert paper.MAIN.cell("AIME 2024", "o1-mini") == paper.DISTILLED.cell("o1-mini", "AIME 2024 pass@1")


def test_there_is_one_copy_of_the_reflective_words() -> None:
    assert paper.REFLECTION["words"] is text.REFLECTION_WORDS


def test_the_pipeline_is_a_graph_without_circles() -> None:
    done: set[str] = set()
    for name, stage in paper.PIPELINE.items():                                             # the order is one in which it can be run
        assert name == stage.name
        assert {parent for parent in (stage.parent, *stage.uses) if parent} <= done, name
        assert stage.title and stage.data and stage.how and stage.in_the_paper
        done.add(name)
    assert done == {"base", "zero", "v3", "dev1", "dev2", "dev3", "rm_helpful", "rm_safe", "r1", "distilled"}


def test_the_pipeline_restarts_from_the_base() -> None:
    """The second SFT does not go on from the RL model; it starts from the base again (v1 2.3.3)."""
    assert [name for name, stage in paper.PIPELINE.items() if stage.parent == "base"] == ["zero", "v3", "dev1", "dev3"]
    assert "dev2" in paper.PIPELINE["dev3"].uses
    assert "zero" in paper.PIPELINE["dev1"].uses
