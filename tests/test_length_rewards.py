"""Rewards about length: exact at their boundaries, in agreement with TRL where the definitions agree, and of no use to who plays them."""

import itertools
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from r1lib import text
from r1lib.errors import R1Error
from r1lib.rewards.completion import content
from r1lib.rewards.length import cosine_length, repetition_penalty, repetition_penalty_reward, soft_overlong


def tokens(*lengths: int) -> list[list[int]]:
    return [[7] * length for length in lengths]


def spoken(completions: list[str]) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": completion}] for completion in completions]


def right_if_seven(completions: list, solution: list[str], **_: object) -> list[float | None]:
    """Stands for `accuracy_reward`: None where the gold is no number."""
    return [float("7" in content(completion)) if gold.isdigit() else None for completion, gold in zip(completions, solution, strict=True)]


# Repetition

@pytest.mark.parametrize(("written", "size", "share"), [
    ("", 2, 0.0),
    ("a", 2, 0.0),
    ("a b", 2, 0.0),
    ("a b c d", 2, 0.0),
    ("a a a a a", 2, 3 / 4),                       # four pairs, one kind
    ("a b a b a b", 2, 3 / 5),                     # ab ba ab ba ab
    ("a b a b a b", 3, 2 / 4),
    ("a b c a b c", 6, 0.0),
    ("a b c a b c a", 6, 0.0),
    ("a b c a b c a b c", 6, 1 / 4),
    ("A b a B", 2, 1 / 3),                         # capitals hide nothing
    ("好好好好好", 2, 3 / 4),                       # characters, where words are not spaced
    ("我们算我们算", 2, 2 / 5),
    ("我们算we我们算we", 2, 3 / 7),
    ("ああああ", 2, 2 / 3),
    ("wait, wait; wait. wait", 2, 2 / 3),          # signs hide nothing
    ("a\u200b á A\u0301 ａ", 2, 2 / 3),            # nor do disguises
    ("!!!!!", 2, 3 / 4),                           # and are no place to hide
    ("a ! b ! c ! d !", 1, 3 / 8),
    ("12 7 12 7", 2, 1 / 3),
    (f"a b c{text.EOS} a b c", 2, 0.0),
])
def test_repetition_by_hand(written: str, size: int, share: float) -> None:
    (penalty,) = repetition_penalty(ngram_size=size)([written])
    assert penalty == pytest.approx(-share)
    assert repetition_penalty(ngram_size=size, max_penalty=0.5)(spoken([written])) == [pytest.approx(-share / 2)]


def test_the_default_spares_honest_work_and_not_a_loop() -> None:
    honest = "<think>\nFirst 12+7=19\nThen 19*2=38\nLet me check. 12+7=19, 19*2=38. Right.\n</think>\n<answer>38</answer>"
    loop = "<think>\n" + "Wait, let me check again. " * 40 + "</think>\n<answer>38</answer>"
    earned = repetition_penalty_reward([honest, loop, "等等，再检查一遍。" * 40])
    assert earned[0] > -0.1 and earned[1] < -0.9 and earned[2] < -0.9
    assert repetition_penalty_reward.__name__ == "repetition_penalty_reward"


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "c7", "12"]), max_size=20), max_size=4), st.integers(1, 4), st.sampled_from([0.5, 1.0]))
def test_trl_gives_the_same_where_tokens_are_words(written: list[list[str]], size: int, most: float) -> None:
    """TRL counts n-grams of token ids, we count words; its penalty carries a minus sign."""
    from trl.rewards import get_repetition_penalty_reward

    theirs = get_repetition_penalty_reward(ngram_size=size, max_penalty=-most)(completion_ids=written)
    assert repetition_penalty(ngram_size=size, max_penalty=most)([" ".join(words) for words in written]) == pytest.approx(theirs)


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(), st.text(alphabet="ab 好!\ud800\u0301", max_size=40)), max_size=4), st.integers(1, 6))
@example(["\ud800" * 20], 2)
def test_any_text_has_a_penalty_in_bounds(completions: list[str], size: int) -> None:
    reward = repetition_penalty(ngram_size=size, max_penalty=2.0)
    earned = reward(completions)
    assert earned == reward(spoken(completions), prompts=["?"]) == [value for completion in completions for value in reward([completion])]
    assert all(-2.0 <= value <= 0.0 for value in earned)


@pytest.mark.parametrize("piece", ["a ", "好", "!", "a", "e\u0301", "\u0301\u0316", "\ud800", "12+7=19\n"])
def test_a_megabyte_is_read_in_linear_time(piece: str) -> None:
    completion = piece * (1_000_000 // len(piece.encode("utf-8", "surrogatepass")))
    begin = time.perf_counter()
    repetition_penalty_reward([completion])
    assert time.perf_counter() - begin < 20


# Too long

def test_the_soft_limit_token_by_token() -> None:
    reward = soft_overlong(max_length=100, soft_length=20)
    lengths = (0, 1, 79, 80, 81, 85, 90, 99, 100, 101, 5000)
    assert reward(["x"] * len(lengths), completion_ids=tokens(*lengths), prompts=["?"]) == [
        0.0, 0.0, 0.0, 0.0, -0.05, -0.25, -0.5, -0.95, -1.0, -1.0, -1.0]
    assert reward(spoken(["x"]), completion_ids=[(1, 2)]) == [0.0]
    assert reward.__name__ == "soft_overlong_punishment"


def test_the_ends_of_the_soft_part() -> None:
    assert soft_overlong(max_length=10, soft_length=0)(["x"] * 3, tokens(9, 10, 11)) == [0.0, 0.0, -1.0]
    assert soft_overlong(max_length=4, soft_length=4)(["x"] * 6, tokens(0, 1, 2, 3, 4, 5)) == [0.0, -0.25, -0.5, -0.75, -1.0, -1.0]


@given(st.integers(1, 60), st.data())
def test_trl_gives_the_same_punishment(most: int, data: st.DataObject) -> None:
    from trl.rewards import get_soft_overlong_punishment

    soft = data.draw(st.integers(0, most))
    ids = tokens(*range(most + 3))
    ours = soft_overlong(max_length=most, soft_length=soft)(["x"] * len(ids), ids)
    assert ours == get_soft_overlong_punishment(max_completion_len=most, soft_punish_cache=soft)(completion_ids=ids)
    assert ours == sorted(ours, reverse=True)


# Length by whether the answer is right

SEVENS = ["7", "8", "7"]


def test_the_cosine_at_its_corners() -> None:
    reward = cosine_length(right_if_seven, max_length=100)
    lengths = (0, 50, 100, 101, 150, 200, 100_000)
    count = len(lengths)
    right = reward(["7"] * count, completion_ids=tokens(*lengths), solution=["7"] * count)
    wrong = reward(["8"] * count, completion_ids=tokens(*lengths), solution=["7"] * count)
    assert right == pytest.approx([1.0, 0.75, 0.5, 0.5, 0.5, 0.5, 0.5])
    assert wrong == pytest.approx([-1.0, -0.75, -0.5, -0.5, -0.5, -0.5, -0.5])
    assert reward(SEVENS, completion_ids=tokens(0, 0, 0), solution=["7", "7", "x"]) == [1.0, -1.0, None]
    assert reward(spoken(SEVENS), completion_ids=tokens(0, 0, 0), solution=["7", "7", "x"]) == [1.0, -1.0, None]
    assert reward.__name__ == "cosine_length_reward"


def test_the_cosine_never_rises_again() -> None:
    reward = cosine_length(right_if_seven, max_length=40, right=(2.0, 0.25), wrong=(-2.0, 0.25))
    ids = tokens(*range(200))
    right = reward(["7"] * 200, completion_ids=ids, solution=["7"] * 200)
    wrong = reward(["8"] * 200, completion_ids=ids, solution=["7"] * 200)
    assert right == sorted(right, reverse=True) and wrong == sorted(wrong)
    assert right[0] == 2.0 and wrong[0] == -2.0 and right[40:] == wrong[40:] == [0.25] * 160
    assert len(set(right[:41])) == len(set(wrong[:41])) == 41, "it falls with every token, not in steps"


def test_half_a_right_answer_is_paid_half_way() -> None:
    reward = cosine_length(lambda completions, **_: [0.5] * len(completions), max_length=10)
    assert reward(["x", "x"], completion_ids=tokens(0, 10)) == [0.0, 0.0]


def test_accuracy_sees_every_column() -> None:
    seen: dict[str, object] = {}

    def accuracy(completions: list, **columns: object) -> list[float]:
        seen.update(columns)
        return [1.0] * len(completions)

    cosine_length(accuracy, max_length=10)(["x"], completion_ids=tokens(3), solution=["7"], level=[2])
    assert seen == {"completion_ids": tokens(3), "solution": ["7"], "level": [2]}


@pytest.mark.parametrize("most", [1, 7, 100])
def test_trl_gives_the_same_cosine(most: int) -> None:
    """With TRL's own grader of \\boxed answers for both: the schedule is the same."""
    from trl.rewards import accuracy_reward, get_cosine_scaled_reward

    pytest.importorskip("math_verify")
    lengths = [0, 1, most // 2, most, most + 1, 2 * most, 3 * most]
    completions = spoken(["\\boxed{7}", "\\boxed{8}"] * len(lengths))
    ids = tokens(*itertools.chain.from_iterable(zip(lengths, lengths, strict=True)))
    columns = {"solution": ["$7$"] * len(ids), "completion_ids": ids}
    ours = cosine_length(accuracy_reward, max_length=most)(completions, **columns)
    assert ours == pytest.approx(get_cosine_scaled_reward(max_len=most)(completions, **columns))


# All that need tokens

NEED_TOKENS = [soft_overlong(max_length=10, soft_length=5), cosine_length(right_if_seven, max_length=10)]


@pytest.mark.parametrize("reward", NEED_TOKENS, ids=lambda reward: reward.__name__)
def test_missing_or_broken_tokens_are_one_line(reward) -> None:
    with pytest.raises(R1Error, match=f"{reward.__name__} needs the column completion_ids") as missing:
        reward(["7"], solution=["7"])
    with pytest.raises(R1Error, match="row 1: completion_ids is None") as broken:
        reward(["7", "7"], completion_ids=[[1], None], solution=["7", "7"])
    with pytest.raises(R1Error, match="row 0: completion_ids is '1 2 3'"):
        reward(["7"], completion_ids=["1 2 3"], solution=["7"])
    assert "\n" not in str(missing.value) + str(broken.value)
    with pytest.raises(ValueError):
        reward(["7", "7"], completion_ids=tokens(1), solution=["7", "7"])
    assert reward([], completion_ids=[], solution=[]) == []


@pytest.mark.parametrize("reward", NEED_TOKENS, ids=lambda reward: reward.__name__)
@given(lengths=st.lists(st.integers(0, 30), max_size=5), completion=st.text())
def test_rewards_stay_in_bounds_and_in_order(reward, lengths: list[int], completion: str) -> None:
    columns = {"completion_ids": tokens(*lengths), "solution": ["7"] * len(lengths)}
    earned = reward([completion] * len(lengths), **columns)
    assert earned == reward(spoken([completion] * len(lengths)), **columns)
    assert all(-1.0 <= value <= 1.0 for value in earned)
    assert earned == [reward([completion], completion_ids=tokens(length), solution=["7"])[0] for length in lengths]


@pytest.mark.parametrize("wrong", [
    lambda: repetition_penalty(ngram_size=0), lambda: repetition_penalty(max_penalty=-1.0),
    lambda: soft_overlong(max_length=10, soft_length=11), lambda: soft_overlong(max_length=10, soft_length=-1),
    lambda: soft_overlong(max_length=0, soft_length=0), lambda: cosine_length(right_if_seven, max_length=0),
    lambda: cosine_length(right_if_seven, max_length=10, wrong=(-1.0, 0.6))])
def test_settings_that_make_no_sense_are_one_line(wrong) -> None:
    with pytest.raises(R1Error) as caught:
        wrong()
    assert "\n" not in str(caught.value) and "(" in str(caught.value)
