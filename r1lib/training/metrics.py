"""What a training run writes down: one line a step, under TRL's names, so that one plotter serves our trainer and theirs.

A row numbered `step` describes the policy after `step` steps of training, before step number `step` changes it: row 0 is the base. Its
rollouts, rewards and loss are those of that step; its `eval_` fields, where it has any, are the same policy's on held-out problems. So a
run of 40 steps has rows 0 ... 39 and, when it evaluates, a last row 40 that holds `eval_` fields only.
"""

import json
import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from r1lib import text
from r1lib.errors import R1Error
from r1lib.sampling import Rollout
from r1lib.tasks import Problem

Row = dict[str, Any]


class MetricsLog:
    """An append-only file of JSON objects, one a line, each with its "step". Metrics and kept rollouts are both written this way."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def append(self, *rows: Mapping[str, Any]) -> None:
        """Write these rows at the end, in one piece. Numbers that are not finite become null, which every JSON reader takes."""
        lines = [json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False, allow_nan=False) for row in rows]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def rows(self) -> list[Row]:
        """Every row; none when there is no file. What a killed process left of its last line is not a row and is passed over."""
        if not self.path.exists():
            return []
        *lines, _torn = self.path.read_text(encoding="utf-8", errors="replace").split("\n")        # a whole line ends with its newline
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                row["step"]
            except (ValueError, KeyError, TypeError):
                raise R1Error(f"{self.path}, line {number}: not a row of a training run. Remove that line.") from None
            rows.append(row)
        return rows

    def truncate_after(self, step: int) -> None:
        """Drop the rows of later steps, as a run does that goes on from an earlier one. A killed process leaves the file as it was."""
        kept = [row for row in self.rows() if row["step"] <= step]
        unfinished = MetricsLog(self.path.with_name(f".{self.path.name}.writing"))
        unfinished.path.unlink(missing_ok=True)
        unfinished.append(*kept)
        os.replace(unfinished.path, self.path)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ------------------------------------------------------------------------------------------------------------------------------------------
# What is measured in a step

def reward_metrics(total: torch.Tensor, parts: Mapping[str, Sequence[float | None]]) -> Row:
    """total: [prompts, samples]; parts: one value a rollout, None where a reward does not apply."""
    row = {
        "reward": float(total.mean()),
        "reward_std": float(total.std()),
        "frac_reward_zero_std": float((total == total[:, :1]).all(dim=1).float().mean()),      # groups that teach nothing
    }
    for name, values in parts.items():
        known = [value for value in values if value is not None]
        if len(known) > 1:
            row[f"rewards/{name}/mean"] = statistics.fmean(known)
            row[f"rewards/{name}/std"] = statistics.stdev(known)
    return row


def completion_metrics(rollouts: Sequence[Rollout]) -> Row:
    """Lengths in tokens, the stop token among them. Clipped are those that ran into max_new_tokens."""
    lengths = [len(rollout.ids) for rollout in rollouts]
    return {
        "completions/mean_length": statistics.fmean(lengths),
        "completions/min_length": min(lengths),
        "completions/max_length": max(lengths),
        "completions/clipped_ratio": sum(not rollout.finished for rollout in rollouts) / len(rollouts),
    }


def reading_metrics(asked: Sequence[Problem], rollouts: Sequence[Rollout]) -> Row:
    """What the answers read like: reflective words an answer, the share that mixes languages, the share in the asked-for format."""
    texts = [rollout.text for rollout in rollouts]
    languages = [problem.language for problem in asked]
    mixed = [text.mixes_languages(text.thinking(answer), language) for answer, language in zip(texts, languages, strict=True)]
    return {
        "reflection": statistics.fmean(map(text.reflection_count, texts)),
        "language_mixing": sum(mixed) / len(mixed),
        "well_formed": sum(text.parse(answer).well_formed for answer in texts) / len(texts),
    }


def part(row: Mapping[str, Any], name: Literal["accuracy", "format"]) -> float | None:
    """The mean of a reward by its plain name, whether its function is called `accuracy` or, as in TRL, `accuracy_reward`."""
    return row.get(f"rewards/{name}/mean", row.get(f"rewards/{name}_reward/mean"))


def hacking_alarm(rows: Sequence[Row], *, window: int = 8, change: float = 0.1) -> str | None:
    """A line of warning when format is bought with accuracy, else None.

    The means of the older and the newer half of the last `window` rows are compared: single steps differ by chance, as their problems do.
    """
    half = window // 2
    moves = {}
    for name in ("accuracy", "format"):
        values = [value for value in (part(row, name) for row in rows[-window:]) if value is not None]
        if len(values) < window:
            return None
        moves[name] = statistics.fmean(values[half:]) - statistics.fmean(values[:half])
    if moves["format"] > change and moves["accuracy"] < -change:
        return (f"format rose by {moves['format']:.2f} while accuracy fell by {-moves['accuracy']:.2f} within {window} steps: "
                "the format reward is being earned instead of answers. Gate it (accuracy x format), or lower learning_rate.")
    return None


# ------------------------------------------------------------------------------------------------------------------------------------------
# What a reader sees while it runs

def progress_line(row: Mapping[str, Any]) -> str:
    """One step on one line: where training stands, and held-out accuracy where it was measured."""
    shown = [("accuracy", part(row, "accuracy"), ".2f"), ("format", part(row, "format"), ".2f"), ("reward", row.get("reward"), ".2f"),
             ("length", row.get("completions/mean_length"), ".0f"), ("held-out accuracy", row.get("eval_accuracy"), ".3f")]
    words = [f"step {row['step']:>4}", *(f"{name} {value:{form}}" for name, value, form in shown if value is not None)]
    if "step_time" in row:
        words.append(f"{row['step_time']:.1f} s")
    return "  ".join(words) + (f"\n  ALARM: {row['alarm']}" if "alarm" in row else "")


class Progress:
    """A watcher that prints `progress_line` at most every `seconds`, and at once when there are held-out numbers or a new alarm.

    name: in front of each line, where several runs go on at the same time.
    """

    def __init__(self, seconds: float = 10.0, name: str = "") -> None:
        self.seconds, self._prefix = seconds, f"{name}: " if name else ""
        self._next = 0.0
        self._alarmed = False

    def __call__(self, row: Mapping[str, Any]) -> None:
        new_alarm = "alarm" in row and not self._alarmed
        if new_alarm or "eval_accuracy" in row or time.monotonic() >= self._next:
            shown = row if new_alarm else {name: value for name, value in row.items() if name != "alarm"}
            print(self._prefix + progress_line(shown), flush=True)
            self._next = time.monotonic() + self.seconds
        self._alarmed = "alarm" in row
