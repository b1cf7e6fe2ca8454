"""The format reward: does a completion keep to `<think> ... </think> <answer> ... </answer>` and nothing else?"""

from collections.abc import Sequence
from typing import Any

from r1lib import text
from r1lib.rewards.completion import Completion, content


def format_reward(completions: Sequence[Completion], **_: Any) -> list[float | None]:
    """1 for the format, 0 otherwise; `text.parse` is the grammar."""
    return [float(text.parse(content(completion)).well_formed) for completion in completions]
