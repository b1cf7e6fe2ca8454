"""What a reward is given: completions as TRL passes them."""

from collections.abc import Callable, Mapping, Sequence

Completion = str | Sequence[Mapping[str, str]]
Reward = Callable[..., list[float | None]]


def content(completion: Completion) -> str:
    """The text of a completion, which TRL passes as a string or as a conversation of one message; "" for one that says nothing."""
    if isinstance(completion, str):
        return completion
    return (completion[0].get("content") or "") if completion else ""
