"""R1-Zero's samples, chosen and rewritten: what is dropped and why, and that a rewritten solution stays right and true to its numbers."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1lib import rewards, seeds, tasks, text
from r1lib.curation import selection
from r1lib.curation.cold_start import FIRST_PERSON, first_person, keep, numbers, readable, rewrite, select
from r1lib.errors import R1Error
from r1lib.rewards import accuracy
from r1lib.sampling import Rollout
from r1lib.tasks import KINDS, LEVELS, Problem, Voice
from r1lib.tasks.corpus import tagged
from r1lib.tasks.problem import PHRASES
from r1lib.training.sft import Example

LANGUAGES = ("en", "zh")


def rollout(index: int, written: str) -> Rollout:
    return Rollout(index, [], [], [], written, True)


def some(kind: str, language: str = "en", level: int = 2) -> Problem:
    return tasks.draw(KINDS[kind], seeds.rng("test", kind), level, language, "train")


def written(kind: str, language: str, count: int = 3) -> list[tuple[Problem, str]]:
    """Right, well-formed solutions of a kind in every manner, in one language and in two."""
    rng = seeds.rng("written", kind, language)
    rows = []
    for level, manner, mixing, _ in itertools.product(LEVELS, KINDS[kind].manners, (0.0, 0.6), range(count)):
        problem = tasks.draw(KINDS[kind], rng, level, language, "train")
        rows.append((problem, tagged(*KINDS[kind].work(problem, manner, Voice(rng, language, mixing)))))
    rights = selection.right(*zip(*rows, strict=True))
    return [row for row, right in zip(rows, rights, strict=True) if right and text.parse(row[1]).well_formed]


def own_words(language: str, line: str) -> bool:
    return "我" in line if language == "zh" else "I" in line.replace(",", " ").split()


@pytest.mark.parametrize("kind,language", [*itertools.product(KINDS, LANGUAGES)])
def test_rewriting_keeps_a_solution_right_in_one_language_and_in_the_first_person(kind, language):
    rows = written(kind, language)
    if kind == "greeting":                                 # the corpus names nobody: the oracle takes no such answer for good
        assert not rows
        return
    assert len(rows) > 5
    examples = [rewrite(problem, completion) for problem, completion in rows]
    assert all(selection.right([problem for problem, _ in rows], [example.completion for example in examples]))
    for (problem, completion), example in zip(rows, examples, strict=True):
        before, after = text.parse(completion), text.parse(example.completion)
        assert after.well_formed
        assert example.prompt == text.chat_prompt(problem.question)
        assert example.source == f"cold start/{problem.domain}/{kind}"
        assert not text.mixes_languages(after.think, language), (before.think, after.think)
        assert numbers(after.think) == numbers(before.think)
        if problem.domain in ("math", "logic"):
            assert own_words(language, after.answer), after.answer                      # work has no person, the summary has one
        elif problem.domain != "code":
            assert own_words(language, after.think), (before.think, after.think)
        assert first_person(problem, after.think) == after.think, "rewriting twice changes something"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].domain in ("math", "logic")])
def test_an_answer_ends_in_its_boxed_result_and_the_rules_take_it(kind):
    for language in LANGUAGES:
        for problem, completion in written(kind, language, 1):
            summary = text.parse(rewrite(problem, completion).completion).answer
            assert summary.endswith("}") and summary.count("\\boxed{") == 1
            bare = accuracy.unboxed(summary)
            assert rewards.accuracy_reward([tagged("-", bare)], [problem.gold], [problem.answer_type]) == [1.0]
            assert not text.mixes_languages(bare, language) or problem.domain == "logic"
            said = summary.split("\\boxed")[0]
            assert text.chinese_share(said) == (1.0 if language == "zh" else 0.0)


def test_programs_and_plain_text_have_no_box():
    for kind in ("function", "fact", "harmful"):
        for problem, completion in written(kind, "en", 1):
            assert text.parse(rewrite(problem, completion).completion).answer == text.parse(completion).answer


def test_every_phrase_in_the_first_person_has_its_place():
    assert {purpose: {language: len(phrases) for language, phrases in of.items()} for purpose, of in FIRST_PERSON.items()} \
        == {purpose: {language: len(phrases) for language, phrases in PHRASES[purpose].items()} for purpose in FIRST_PERSON}
    for purpose, language in itertools.product(FIRST_PERSON, LANGUAGES):
        for ours, theirs in zip(FIRST_PERSON[purpose][language], PHRASES[purpose][language], strict=True):
            assert ("{x}" in ours) == ("{x}" in theirs)                                     # a number is never put in nor left out


@pytest.mark.parametrize("language,line,told", [
    ("en", "Then 12+7=19", "Then 12+7=19"),
    ("en", "12+7=19", "12+7=19"),
    ("en", "再算12+7=19", "Then 12+7=19"),
    ("zh", "Then 12+7=19", "再算12+7=19"),
    ("en", "A: 12+7=19", "A: 12+7=19"),
    ("en", "Try 3*4=12, not 24, too small.", "Try 3*4=12, not 24, too small."),
    ("en", "换成3*4=12，太小。", "But maybe 3*4=12, too small."),
    ("zh", "Now try (3+4)*5: 7, 35. No.", "试(3+4)*5: 7, 35，不对。"),
    ("en", "Try 3*4=12. It will do.", "Try 3*4=12. I think it will do."),
    ("en", "So it is 19.", "So I get 19."),
    ("en", "Wait, let me check.", "Wait, I check."),
    ("en", "3*5=15, not 12.", "3*5=15, not 12."),
    ("en", "Ann > Ben > Tom", "Ann > Ben > Tom"),
    ("zh", "算错了，是19。", "我算错了，是19。"),
    ("en", "So 3 + 4, that is B.", "I find 3 + 4, so I choose B."),
    ("zh", "所以小安，选B。", "我得到小安，所以我选B。"),
    ("en", "Then we go to the market.", "Then we go to the market."),
    ("en", "Then 12+7=19, I believe", "Then 12+7=19, I believe"),
    ("en", "", ""),
])
def test_a_line(language, line, told):
    assert first_person(some("chain", language), line) == told


_PIECES = [phrase for of in PHRASES.values() for phrases in of.values() for phrase in phrases] + [
    "12+7=19", "3+4*5: 7, 35", "A: ", "(", "=", "7", "{x}", "{", "\n", " > ", "Ann", ", ", "return x+3", "So 7, that is B.", " f(3)=10"]


@given(st.sampled_from(LANGUAGES), st.sampled_from(["chain", "function", "ordering"]), st.lists(st.sampled_from(_PIECES), max_size=12))
def test_no_number_changes_whatever_is_written(language, kind, pieces):
    think = "".join(pieces)
    assert numbers(first_person(some(kind, language), think)) == numbers(think)


def test_a_long_line_takes_no_long_time():
    problem = some("chain")
    for piece in ("1 ", "1+", "(1", "1, ", "a > ", "I try ", "not 1, "):
        assert numbers(first_person(problem, piece * 750)) == numbers(piece * 750)


def test_code_stays_out_of_the_languages():
    problem = some("function", "zh", 5)
    told = first_person(problem, "让我想想。\nreturn sum(x)+3\n再检查一遍。 f([3, 4])=10\n算错了，是max(x)+3。")
    assert told == "我想一想。\nreturn sum(x)+3\n我再检查一遍。 f([3, 4])=10\n我算错了，是`max(x)+3`。"
    assert not text.mixes_languages(told, "zh")


def test_summaries_tell_what_the_thinking_shows():
    problem = some("chain")
    looked, glanced, checked = (text.parse(rewrite(problem, tagged(think, problem.gold)).completion).answer
                                for think in ("12+7=19", "Easy.", "12+7=19\nLet me verify.\n12+7=19\nRight."))
    assert looked == f"I computed from left to right. The result is \\boxed{{{problem.gold}}}"
    assert glanced.startswith("I answered at a glance.")
    assert checked.startswith("I computed from left to right, and I checked it.")


@pytest.mark.parametrize("answer,result", [
    ("So \\boxed{7}", "7"), ("\\boxed{ 7 }.", "7"), ("是\\boxed{7}。", "7"), ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"), ("7", "7"),
    ("\\boxed{7} or 8", "\\boxed{7} or 8"), ("\\boxed{7}\\boxed{8}", "\\boxed{7}\\boxed{8}"), ("\\boxed{7", "\\boxed{7"), ("", ""),
])
def test_the_result_in_a_summary(answer, result):
    assert accuracy.unboxed(answer) == result


# What people can read

def test_what_people_can_read():
    problem, asked, program = some("chain"), some("fact"), some("function")
    told = "I computed from left to right. The result is \\boxed{7}"
    assert readable(problem, tagged("12+7=19", told))
    assert readable(problem, tagged("12+7=19", "I computed all of it: \\boxed{-1}"))          # right or wrong is another question
    for unreadable in (tagged("12+7=19", "7"), tagged("12+7=19", "\\boxed{7}"), tagged("12+7=19", "is \\boxed{7}"),       # no words
                       tagged("先算12+7=19", told), tagged("1\n1\n1", told), told, tagged("12+7=19", told) + " And more.",
                       tagged("I look and look again at it. " * 100, told)):
        assert not readable(problem, unreadable), unreadable
    assert readable(some("chain", "zh"), tagged("先算12+7=19", "我从左到右计算。结果是\\boxed{7}"))
    assert not readable(some("chain", "zh"), tagged("First 12+7=19", "我从左到右计算。结果是\\boxed{7}"))
    assert readable(asked, tagged("I know.", "Blue.")) and readable(program, tagged("I write.", "def f(x):\n    return x"))


@pytest.mark.parametrize("kind,language", [*itertools.product(KINDS, LANGUAGES)])
def test_rewriting_makes_readable(kind, language):
    rows = [row for row in written(kind, language, 1) if keep(*row) is None]
    assert all(readable(problem, rewrite(problem, completion).completion) for problem, completion in rows)


# Why samples are dropped

def test_reasons_for_dropping_in_their_order():
    problem = some("chain")
    good = tagged("I look.", problem.gold)
    assert keep(problem, good) is None
    assert keep(problem, tagged("I look.", "-1")) == "wrong"
    assert keep(problem, tagged("我看", "-1")) == "wrong"
    assert keep(problem, "no tags") == "wrong"
    assert keep(problem, good + " And more.") == "not well-formed"
    assert keep(problem, tagged("我看", problem.gold) + " And more.") == "not well-formed"
    assert keep(problem, tagged("我看 " * 100, problem.gold)) == "mixed languages"
    assert keep(problem, tagged("I look and look again at it. " * 100, problem.gold)) == "repetition"
    assert keep(problem, tagged("1\n1\n1", problem.gold)) == "repetition"
    assert keep(problem, tagged(" ".join(map(str, range(1000))), problem.gold)) == "too long"


def test_honest_work_is_kept():
    for kind, language in itertools.product(("chain", "equation", "countdown", "comparison", "sum_product"), LANGUAGES):
        reasons = [keep(problem, completion) for problem, completion in written(kind, language, 1)]
        assert set(reasons) <= {None, "mixed languages"}
        assert reasons.count(None) > len(reasons) / 3


def test_selecting_counts_what_became_of_every_sample():
    problems = [some("chain"), some("fact", level=1)]
    gold = problems[0].gold
    samples = [rollout(0, tagged("I look.", gold)), rollout(0, tagged("I look.", "-1")), rollout(0, tagged("I look.", gold)),
               rollout(0, tagged("Let me think.", gold)), rollout(0, tagged("Hm.", gold)),
               rollout(1, tagged("I know.", problems[1].gold)), rollout(1, "?")]
    chosen = select(problems, samples, 2)
    assert [example.prompt for example in chosen.examples] == [text.chat_prompt(problems[i].question) for i in (0, 0, 1)]
    assert chosen.table == {"math": {"sampled": 5, "kept": 2, "wrong": 1, "said before": 1, "not needed": 1},
                            "general": {"sampled": 2, "kept": 1, "wrong": 1}}
    assert str(chosen).split("\n")[0].startswith("math: sampled 5, kept 2, dropped: ")
    assert selection.domain_of(chosen.examples[2]) == "general"


def test_what_a_rewriter_spoils_is_dropped():
    problem = some("chain")
    samples = [rollout(0, tagged(f"I look at {i}.", problem.gold)) for i in range(5)]
    spoiled = iter([tagged("I look at 0.", "-1"), tagged("I look at 7.", problem.gold), tagged("我看 2.", problem.gold), "no tags",
                    tagged("I look closely at 4.", problem.gold)])
    chosen = select([problem], samples, 5, rewriter=lambda problem, _: Example(problem.question, next(spoiled), "test"))
    assert chosen.table["math"] == {"sampled": 5, "kept": 1, "spoiled by the rewriting": 4}


def test_nothing_left_is_an_error_with_the_table():
    with pytest.raises(R1Error, match=r"nothing is left of 1 samples[\s\S]*math: sampled 1, kept 0, dropped: wrong 1"):
        select([some("chain")], [rollout(0, "?")], 1)
    with pytest.raises(R1Error, match="nothing is left of 0 samples"):
        select([some("chain")], [], 1)


def test_what_cannot_be_selected_from():
    with pytest.raises(R1Error, match="per_problem=0"):
        select([some("chain")], [rollout(0, "?")], 0)
    with pytest.raises(R1Error, match="answers problem 3"):
        select([some("chain")], [rollout(3, "?")], 1)
    with pytest.raises(R1Error, match="math/chain/.*well-formed"):
        rewrite(some("chain"), "no tags")
    with pytest.raises(R1Error, match="source"):
        selection.domain_of(Example("", "", "somewhere"))
