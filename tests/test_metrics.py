import json

import pytest
import torch

from r1lib.errors import R1Error
from r1lib.sampling import Rollout
from r1lib.tasks import Problem
from r1lib.training.metrics import (
    MetricsLog,
    Progress,
    completion_metrics,
    hacking_alarm,
    progress_line,
    reading_metrics,
    reward_metrics,
)


def rollout(text="", length=1, finished=True):
    return Rollout(0, [1], [2] * length, [-1.0] * length, text, finished)


def problem(language):
    return Problem("math", "toy", 1, language, "1 + 1?", "number", "2", "1+1")


# ------------------------------------------------------------------------------------------------------------------------------------------
# The file

def test_rows_come_back_as_they_were_written(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert log.rows() == []
    log.append({"step": 0, "reward": 0.1 + 0.2, "alarm": "等等"})
    log.append({"step": 1, "reward": 1 / 3}, {"step": 2})
    assert log.rows() == [{"step": 0, "reward": 0.1 + 0.2, "alarm": "等等"}, {"step": 1, "reward": 1 / 3}, {"step": 2}]


def test_numbers_that_are_not_finite_stay_readable_for_every_json_reader(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 0, "loss": float("nan"), "grad_norm": float("inf")})
    assert json.loads(log.path.read_text(), parse_constant=pytest.fail) == {"step": 0, "loss": None, "grad_norm": None}


def test_the_torn_last_line_of_a_killed_run_is_no_row(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 0}, {"step": 1})
    whole = log.path.read_bytes()
    for cut in range(1, len(whole)):
        log.path.write_bytes(whole[:cut])
        assert log.rows() == [{"step": 0}, {"step": 1}][:whole[:cut].count(b"\n")]
    log.path.write_bytes(whole[:-4])
    log.truncate_after(5)
    log.append({"step": 1, "again": True})
    assert log.rows() == [{"step": 0}, {"step": 1, "again": True}]


@pytest.mark.parametrize("broken", ["not json", "[1]", "{}", "3"])
def test_a_broken_line_is_named(tmp_path, broken):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.path.write_text(f'{{"step": 0}}\n{broken}\n{{"step": 2}}\n')
    with pytest.raises(R1Error, match=r"metrics\.jsonl, line 2: "):
        log.rows()


def test_truncate_keeps_the_rows_up_to_a_step(tmp_path):
    log = MetricsLog(tmp_path / "rollouts.jsonl")
    log.append(*({"step": step, "sample": sample} for step in range(4) for sample in range(2)))
    log.truncate_after(1)
    assert [row["step"] for row in log.rows()] == [0, 0, 1, 1]
    log.truncate_after(-1)
    assert log.rows() == [] and log.path.read_text() == ""
    assert [path.name for path in tmp_path.iterdir()] == ["rollouts.jsonl"]


# ------------------------------------------------------------------------------------------------------------------------------------------
# The numbers

def test_rewards_of_two_groups():
    row = reward_metrics(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), {"accuracy_reward": [1.0, 0.0, None, 0.5], "never": [None] * 4})
    assert row == pytest.approx({"reward": 0.75, "reward_std": 0.5, "frac_reward_zero_std": 0.5, "rewards/accuracy_reward/mean": 0.5,
                                 "rewards/accuracy_reward/std": 0.5})


def test_lengths_and_cut_off_answers():
    row = completion_metrics([rollout(length=2), rollout(length=4), rollout(length=6, finished=False)])
    assert row == pytest.approx({"completions/mean_length": 4, "completions/min_length": 2, "completions/max_length": 6,
                                 "completions/clipped_ratio": 1 / 3})


def test_reading_counts_reflection_mixing_and_format():
    texts = [("en", "<think>Wait, let me check: 2</think> <answer>2</answer>"), ("en", "<think>算 2</think> <answer>2</answer>"),
             ("zh", "<think>算 2, so 2</think><answer>2</answer>"), ("zh", "算 2")]
    row = reading_metrics([problem(language) for language, _ in texts], [rollout(text) for _, text in texts])
    assert row == {"reflection": 0.5, "language_mixing": 0.5, "well_formed": 0.75}


# ------------------------------------------------------------------------------------------------------------------------------------------
# The alarm and the line

def rows(accuracy, form, name="{}_reward"):
    return [{"step": step, f"rewards/{name.format('accuracy')}/mean": a, f"rewards/{name.format('format')}/mean": f}
            for step, (a, f) in enumerate(zip(accuracy, form, strict=True))]


@pytest.mark.parametrize("name", ["{}_reward", "{}"])
def test_alarm_when_format_is_bought_with_accuracy(name):
    falling, rising = [0.5] * 4 + [0.3] * 4, [0.4] * 4 + [0.9] * 4
    alarm = hacking_alarm(rows(falling, rising, name))
    assert "format rose by 0.50 while accuracy fell by 0.20 within 8 steps" in alarm
    older = [{"step": -1}, *rows([0.9] * 20, [0.9] * 20, name)]
    assert hacking_alarm(older + rows(falling, rising, name)) == alarm


@pytest.mark.parametrize(("accuracy", "form"), [
    ([0.5] * 4 + [0.3] * 4, [0.9] * 8),                  # worse, but not by format
    ([0.3] * 4 + [0.5] * 4, [0.4] * 4 + [0.9] * 4),      # both better
    ([0.5] * 4 + [0.45] * 4, [0.4] * 4 + [0.9] * 4),     # within chance
    ([0.5] * 3 + [0.3] * 4, [0.4] * 3 + [0.9] * 4),      # too few steps to say
])
def test_no_alarm_without_cause(accuracy, form):
    assert hacking_alarm(rows(accuracy, form)) is None
    assert hacking_alarm([{"step": step, "reward": 1.0} for step in range(9)]) is None


ROW = {"step": 12, "rewards/accuracy_reward/mean": 0.434, "rewards/format_reward/mean": 0.91, "completions/mean_length": 70.6,
       "step_time": 2.94}


def test_progress_line():
    assert progress_line(ROW) == "step   12  accuracy 0.43  format 0.91  length 71  2.9 s"
    assert progress_line({"step": 40, "eval_accuracy": 0.5}) == "step   40  held-out accuracy 0.500"
    assert progress_line({"step": 3, "reward": 1.5, "alarm": "look out"}) == "step    3  reward 1.50\n  ALARM: look out"


def test_progress_prints_seldom_but_never_misses_what_matters(capsys):
    progress = Progress(seconds=1000)

    def lines(row):
        progress(row)
        return capsys.readouterr().out.splitlines()

    assert len(lines(ROW)) == 1
    assert lines(ROW) == []
    assert "held-out accuracy 0.200" in lines(ROW | {"eval_accuracy": 0.2})[0]
    assert lines(ROW | {"alarm": "look out"})[-1] == "  ALARM: look out"
    assert lines(ROW | {"alarm": "look out"}) == []                                        # said once, while it lasts
    assert "ALARM" not in " ".join(lines(ROW | {"alarm": "look out", "eval_accuracy": 0.2}))
    assert lines(ROW) == []
    assert lines(ROW | {"alarm": "look out"})[-1] == "  ALARM: look out"                   # and again when it comes back
