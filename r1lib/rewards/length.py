"""Rewards about how much is written: repetition, answers that run too long, and length by whether the answer is right.

All of them can only shape what is paid for right answers; none is earned by solving a problem. Lengths are in tokens and come from the
column `completion_ids`, which trainers pass.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

from r1lib import text
from r1lib.errors import R1Error
from r1lib.rewards.completion import Completion, Reward, content

_UNSPACED = "".join(text.letters(script) for script in ("han", "rare han", "kana", "thai"))
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")            # a word or a number; one character where words are not spaced
_PIECE = re.compile(rf"{_WORD.pattern}|\S")


def repetition_penalty(*, ngram_size: int = 6, max_penalty: float = 1.0) -> Reward:
    """A reward from 0 (no n-gram stands twice) down towards -max_penalty: -max_penalty times the share of n-grams that stood before.

    arXiv 2502.03373, appendix C.2, in the form in which open-r1 and TRL use it. Here n-grams are of words (of characters, where words are
    not spaced) of the whole completion, so that they mean the same for every tokenizer and nobody has to pass tokens. They are counted
    without signs and with them, and the worse share counts: commas do not hide a repetition, and "!!!!!!!!" is one. Six words, because
    honest work repeats shorter ones: GSM8K's own solutions would lose 0.15 with three words, and lose 0.01 with six.
    """
    if ngram_size < 1 or max_penalty < 0:
        raise R1Error(f"repetition_penalty(ngram_size={ngram_size}, max_penalty={max_penalty}): n-grams have a word at least, penalties "
                      f"are given without their minus sign.")

    def repetition_penalty_reward(completions: Sequence[Completion], **_: Any) -> list[float | None]:
        rewards: list[float | None] = []
        for completion in completions:
            written = text.plain(content(completion).split(text.EOS, 1)[0]).casefold()
            worse = max(_repeated(pattern.findall(written), ngram_size) for pattern in (_WORD, _PIECE))
            rewards.append(-max_penalty * worse if worse else 0.0)
        return rewards

    return repetition_penalty_reward


def _repeated(pieces: list[str], size: int) -> float:
    """The share of n-grams that stood before in the same text, 0 to 1; 0 for a text shorter than one n-gram."""
    count = len(pieces) - size + 1
    return 1 - len(set(zip(*(pieces[start:] for start in range(size)), strict=False))) / count if count > 0 else 0.0


repetition_penalty_reward = repetition_penalty()


def _lengths(completions: Sequence[Completion], completion_ids: Sequence[Sequence[int]] | None, reward: str) -> list[int]:
    """The length of every completion in tokens."""
    if completion_ids is None:
        raise R1Error(f"{reward} needs the column completion_ids, the tokens of each completion, as trainers pass it: give it here too.")
    lengths = []
    for row, (_, ids) in enumerate(zip(completions, completion_ids, strict=True)):
        if isinstance(ids, str) or not hasattr(ids, "__len__"):
            raise R1Error(f"row {row}: completion_ids is {ids!r:.40}, but {reward} needs the list of the completion's tokens.")
        lengths.append(len(ids))
    return lengths


def soft_overlong(*, max_length: int, soft_length: int) -> Reward:
    """A reward that is 0 up to max_length - soft_length tokens, falls linearly to -1 at max_length, and stays there.

    Source: DAPO, arXiv 2503.14476, eq. 13.
    max_length: tokens, as a rule the most that are sampled (the paper: 20,480); soft_length: over how many of them it falls (4,096); 0 is a
    hard limit, which punishes only what is longer than max_length.
    """
    if not 0 <= soft_length <= max_length or max_length < 1:
        raise R1Error(f"soft_overlong(max_length={max_length}, soft_length={soft_length}): the soft part has 0 to max_length tokens.")

    def soft_overlong_punishment(completions: Sequence[Completion], completion_ids: Sequence[Sequence[int]] | None = None,
                                 **_: Any) -> list[float | None]:
        rewards: list[float | None] = []
        for length in _lengths(completions, completion_ids, "soft_overlong_punishment"):
            over = length - (max_length - soft_length)
            rewards.append(0.0 if over <= 0 else -1.0 if over >= soft_length else -over / soft_length)
        return rewards

    return soft_overlong_punishment


def cosine_length(accuracy: Reward, *, max_length: int, right: tuple[float, float] = (1.0, 0.5),
                  wrong: tuple[float, float] = (-1.0, -0.5)) -> Reward:
    """A reward for being right in few tokens, and, if wrong, for having tried for longer (arXiv 2502.03373, section 4.2 and appendix C.1).

    accuracy: says how right each completion is, 0 to 1 (what lies between is paid in between); where it says None, this reward does not
    apply either. It is given all columns.
    max_length: tokens, at which the longest price is reached; it is kept beyond, where the bare cosine would rise again.
    right, wrong: what a right and a wrong answer earn at length 0 and at max_length; half a cosine leads from one to the other.
    """
    if max_length < 1 or max(wrong) > min(right):
        raise R1Error(f"cosine_length(max_length={max_length}, right={right}, wrong={wrong}): max_length is 1 or more, and no wrong "
                      f"answer may earn more than a right one.")

    def cosine_length_reward(completions: Sequence[Completion], completion_ids: Sequence[Sequence[int]] | None = None,
                             **columns: Any) -> list[float | None]:
        lengths = _lengths(completions, completion_ids, "cosine_length_reward")
        rewards: list[float | None] = []
        for share, length in zip(accuracy(completions, completion_ids=completion_ids, **columns), lengths, strict=True):
            if share is None:
                rewards.append(None)
                continue
            short = (1 + math.cos(math.pi * min(length / max_length, 1.0))) / 2                  # 1 at length 0, 0 from max_length on
            paid_right, paid_wrong = (long + (brief - long) * short for brief, long in (right, wrong))
            rewards.append(share * paid_right + (1 - share) * paid_wrong)
        return rewards

    return cosine_length_reward
