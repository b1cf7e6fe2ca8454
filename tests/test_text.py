"""The grammar of completions, the templates, and what is counted in a text."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from r1lib import text

GOOD = "<think> 3+4=7 </think> <answer> 7 </answer>"

# completion, what is read as thinking, what is read as the answer, whether it is well-formed
CASES = {
    "plain": (GOOD, "3+4=7", "7", True),
    "new lines": ("\n<think>\n3+4=7\n</think>\n\n<answer>\n7\n</answer>\n", "3+4=7", "7", True),
    "no space at all": ("<think>3+4=7</think><answer>7</answer>", "3+4=7", "7", True),
    "a full-width space is white space": ("\u3000<think>3+4=7</think>\u3000<answer>7</answer>", "3+4=7", "7", True),
    "answer over several lines": ("<think>a</think><answer>def f(x):\n    return x</answer>", "a", "def f(x):\n    return x", True),
    "text behind the end is not read": (GOOD + text.EOS + " <answer> 8 </answer>", "3+4=7", "7", True),
    "nothing": ("", None, None, False),
    "only the end": (text.EOS + GOOD, None, None, False),
    "no tags": ("The answer is 7.", None, None, False),
    "no thinking": ("<answer> 7 </answer>", None, "7", False),
    "empty thinking": ("<think> </think> <answer> 7 </answer>", "", "7", False),
    "empty answer": ("<think> a </think> <answer> \n </answer>", "a", "", False),
    "no answer": ("<think> 7 </think>", "7", None, False),
    "answer not closed": ("<think> a </think> <answer> 7", "a", None, False),
    "thinking not opened": ("3+4=7 </think> <answer> 7 </answer>", None, "7", False),
    "answer in thinking": ("<think> is it <answer> 7 </answer> ? </think>", None, None, False),
    "answer in thinking that is not closed": ("<think> a <answer> 7 </answer>", None, None, False),
    "answer in a second thinking": ("<think> a </think> <think> b <answer> 7 </answer> </think>", None, None, False),
    "answer in a second thinking that is not closed": ("<think> a </think> <think> b <answer> 7 </answer>", None, None, False),
    "answer before thinking": ("<answer> 7 </answer> <think> a </think>", "a", None, False),
    "an answer in the thinking and one outside": ("<think> <answer> 8 </answer> </think> <answer> 7 </answer>", None, None, False),
    "two answers": (GOOD + " <answer> 8 </answer>", "3+4=7", None, False),
    "the same answer twice": (GOOD + " <answer> 7 </answer>", "3+4=7", None, False),
    "answers within an answer": ("<think> a </think> <answer> <answer> 7 </answer> </answer>", "a", None, False),
    "thinking twice": ("<think> a </think> <think> b </think> <answer> 7 </answer>", None, "7", False),
    "thinking in the answer": ("<answer> <think> a </think> 7 </answer>", "a", None, False),
    "tags reversed": ("</think> a <think> </answer> 7 <answer>", None, None, False),
    "closing tags exchanged": ("<think> a </answer> <answer> 7 </think>", None, None, False),
    "interleaved": ("<think> a <answer> b </think> 7 </answer>", None, None, False),
    "text before": ("Well: " + GOOD, "3+4=7", "7", False),
    "text between": ("<think> a </think> so <answer> 7 </answer>", "a", "7", False),
    "text after": (GOOD + " Thanks.", "3+4=7", "7", False),
    "the padding token after": (GOOD + text.PAD, "3+4=7", "7", False),
    "capitals are no tags": ("<THINK> a </THINK> <ANSWER> 7 </ANSWER>", None, None, False),
    "spaces in tags are no tags": ("< think> a </think > <answer > 7 </answer>", None, None, False),
    "cut in a tag": ("<think> a </think> <answer> 7 </answ", "a", None, False),
}


@pytest.mark.parametrize("name", CASES)
def test_parse(name: str) -> None:
    completion, think, answer, well_formed = CASES[name]
    parsed = text.parse(completion)
    assert (parsed.think, parsed.answer, parsed.well_formed) == (think, answer, well_formed)
    assert parsed.well_formed == (parsed.faults == ())


def test_faults_say_what_is_wrong() -> None:
    assert text.parse("7").faults == tuple(f"{tag} is missing" for tag in text.TAGS)
    assert text.parse(GOOD + "</answer>").faults == ("</answer> stands 2 times",)
    assert text.parse("a" + GOOD + "b").faults == ("text before <think>", "text after </answer>")
    assert text.parse("<think></think> b <answer></answer>").faults == (
        "text between </think> and <answer>", "nothing in <think>", "nothing in <answer>")
    assert text.parse("<answer> 7 </answer> <think> a </think>").faults == ("the tags stand in another order",)


PIECES = st.sampled_from([*text.TAGS, text.EOS, text.PAD, " ", "\n", "7", "等等", "wait", "<think", "answer>", "</", "{question}"])
COMPLETIONS = st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join))


@given(COMPLETIONS)
@example("<think>" * 1000)
@example("</think><answer>" * 500)
def test_parse_holds_its_promises_on_any_text(completion: str) -> None:
    parsed = text.parse(completion)
    assert parsed == text.parse(completion)
    seen = completion.split(text.EOS)[0]
    if parsed.answer is not None:
        assert seen.count("<answer>") == seen.count("</answer>") == 1
        before, after = seen.split("<answer>")
        assert before.rfind("<think>") <= before.rfind("</think>"), "the answer stands in an open thinking"
        assert "</think>" not in after
        assert parsed.answer == after.split("</answer>")[0].strip()
    for element in (parsed.think, parsed.answer):
        assert element is None or not any(tag in element for tag in text.TAGS)
    if parsed.well_formed:
        assert parsed.think and parsed.answer
        assert text.parse(f"<think>{parsed.think}</think><answer>{parsed.answer}</answer>") == parsed
    text.thinking(completion)


@given(st.text(), st.text())
def test_whatever_is_thought_and_answered_is_read_back(think: str, answer: str) -> None:
    if any(mark in think + answer for mark in (*text.TAGS, text.EOS)) or not think.strip() or not answer.strip():
        return
    assert text.parse(f" <think>\n{think}\n</think>\n<answer>{answer}</answer>{text.EOS}") == text.Parsed(think.strip(), answer.strip(), ())


def test_thinking_falls_back_to_what_stands_before_the_answer() -> None:
    assert text.thinking(GOOD) == "3+4=7"
    assert text.thinking("<think> 3+4=7 and then") == "<think> 3+4=7 and then"
    assert text.thinking("3+4=7 <answer> 3 and 4 </answer>") == "3+4=7 "
    assert text.thinking("prose" + text.EOS + "more") == "prose"


@pytest.mark.parametrize("template", ["miniature", "paper"])
def test_zero_prompt_takes_any_question(template: str) -> None:
    plain = text.zero_prompt("QUESTION", template=template)
    assert plain.endswith("Assistant:") and plain.count("QUESTION") == 1 and "{" not in plain
    for tag in text.TAGS:
        assert tag in plain
    for question in ("{x: 1}", "{}", "{question}", "a {0} b {", "\\frac{1}{2}", "%s", "多少？"):
        assert text.zero_prompt(question, template=template) == plain.replace("QUESTION", question)


def test_prompts_hold_no_hint_how_to_think() -> None:
    """Structure only (paper 2.2.3): no reflective word may be put into the model's mouth."""
    assert not any(text.reflection_count(text.zero_prompt("?", template=template)) for template in ("miniature", "paper"))


def test_chat_prompt() -> None:
    assert text.chat_prompt("{x}?") == "<|user|>{x}?<|assistant|>"


@pytest.mark.parametrize(("written", "count"), [
    ("", 0),
    ("Wait, WAIT, wait.", 3),
    ("I made a mistake; however, verify it.", 3),
    ("(but) [check] retry! error? wrong; evaluate", 6),
    ("waiter awaits butter, checked errors: wrongly evaluated, checking", 0),
    ("wait_for but2 recheck", 0),
    ("等等，检查一下", 2),
    ("不对，错了", 2),
    ("没错，不错", 0),
    ("再check一下，wait！", 2),
])
def test_reflection_count(written: str, count: int) -> None:
    assert text.reflection_count(written) == count


def test_there_are_ten_reflective_words_and_each_counts() -> None:
    assert len(text.REFLECTION_WORDS) == 10
    for word in (*text.REFLECTION_WORDS, *text.REFLECTION_WORDS_ZH):
        assert text.reflection_count(f"7. {word}, 8") == 1


@pytest.mark.parametrize(("written", "share"), [
    ("", 0.0),
    ("12 + 7 = 19", 0.0),
    ("x = 5", 0.0),
    ("<think> </think> <answer> 7 </answer>", 0.0),
    ("```python\nfor a in x:\n```", 0.0),
    ("so that is it", 0.0),
    ("然后是这个", 1.0),
    ("我们计算 x = 12", 1.0),
    ("one two 一二三四五六七八", 5 / 7),
    ("答案 `len(x)`", 1.0),
    ("答案 \\boxed{7}", 1.0),
    ("试一下\nreturn sum(x)", 1.0),
])
def test_chinese_share(written: str, share: float) -> None:
    assert text.chinese_share(written) == pytest.approx(share)


@given(st.text())
def test_chinese_share_is_a_share(written: str) -> None:
    assert 0.0 <= text.chinese_share(written) <= 1.0


@pytest.mark.parametrize(("think", "language", "mixes"), [
    ("", "en", False),
    ("", "zh", False),
    ("12+7=19. So it is 19.", "en", False),
    ("Wait, 等等", "en", True),
    ("3*4=12", "zh", False),
    ("先算 x = 5", "zh", False),
    ("先算 5. So it is 5.", "zh", True),
    ("<think> 先算", "zh", False),
    ("试 `max(x)`", "zh", False),
    ("x、y 和 z", "zh", False),
])
def test_mixes_languages(think: str, language: str, mixes: bool) -> None:
    assert text.mixes_languages(think, language) is mixes
