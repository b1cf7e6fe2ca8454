"""Rejection sampling, general data and their mixture: what is kept and why, that all of it is good, and how much there is of each."""

import pytest

from r1lib import seeds, tasks, text
from r1lib.curation import judges, rejection, selection
from r1lib.curation.rejection import chat_examples, general_examples, keep, mixture, select, table
from r1lib.errors import R1Error
from r1lib.rewards import format_reward
from r1lib.sampling import Rollout
from r1lib.tasks import KINDS, Problem
from r1lib.tasks.corpus import tagged
from r1lib.training.sft import Example


def rollout(index: int, written: str) -> Rollout:
    return Rollout(index, [], [], [], written, True)


def some(kind: str, language: str = "en") -> Problem:
    return tasks.draw(KINDS[kind], seeds.rng("test", kind), 2, language, "train")


def made(count: int, stage: str = "rejection/math/chain") -> list[Example]:
    return [Example(f"question {i}", f"answer {i}", stage) for i in range(count)]


def domain(example: Example) -> str:
    return selection.domain_of(example)


def test_reasons_for_dropping_in_their_order():
    problem = some("chain")
    boxed = f"I added. The result is \\boxed{{{problem.gold}}}"
    assert keep(problem, tagged("I look.", boxed)) is None
    assert keep(problem, tagged("I look.", problem.gold)) is None
    assert keep(problem, tagged("我看", "I added. \\boxed{-1}")) == "wrong"
    assert keep(problem, tagged("我看", boxed) + " And more.") == "not well-formed"
    assert keep(problem, tagged("我看" + " and on" * 100, boxed)) == "mixed languages"
    assert keep(problem, tagged("on and " * 100 + "```", boxed)) == "long paragraph"
    assert keep(problem, tagged("on and\n" * 100, boxed)) is None
    for code in ("```python\nx\n```", "def f(x):\n    return x", "for i in x:\n  i", "I see\nprint(3)"):
        assert keep(problem, tagged(code, boxed)) == "code in the thinking"
    assert keep(problem, tagged("I write\nreturn x+3\nfrom this I see: 7", boxed)) is None


def test_samples_become_examples_as_they_are():
    problems = [some("chain"), some("function")]
    samples = [rollout(0, tagged("I look.", f"It is \\boxed{{{problems[0].gold}}}")), rollout(0, "?"),
               rollout(1, tagged("I write\n" + "return x", problems[1].gold))]
    chosen = select(problems, samples, 1)
    assert [example.completion for example in chosen.examples] == [samples[0].text, samples[2].text]
    assert [example.source for example in chosen.examples] == ["rejection/math/chain", "rejection/code/function"]
    assert chosen.table == {"math": {"sampled": 2, "kept": 1, "wrong": 1}, "code": {"sampled": 1, "kept": 1}}


def test_general_examples_are_good_and_tell_of_everything():
    examples = general_examples(400, seed=0)
    assert len(set(examples)) == 400 and examples == general_examples(400, seed=0) != general_examples(400, seed=1)
    assert format_reward([example.completion for example in examples]) == [1.0] * 400
    kinds = {example.source.split("/")[2] for example in examples}
    assert kinds == {kind for kind in KINDS if KINDS[kind].domain in ("general", "safety")}
    for example in examples:
        language = "zh" if text.words(example.prompt)["han"] else "en"
        assert not text.mixes_languages(text.thinking(example.completion), language), example
        if example.source.endswith("greeting"):
            assert len(text.thinking(example.completion)) < 20
        if example.source.endswith("harmful"):
            assert judges.refuses(text.parse(example.completion).answer)
        if example.source.endswith("harmless"):
            assert not judges.refuses(text.parse(example.completion).answer)


def test_the_small_world_is_small():
    with pytest.raises(R1Error, match="general data: 100000 different examples are asked for, the small world has [0-9]+: ask for fewer"):
        rejection._drawn(100000, 0, "general data", [KINDS["self"]], rejection._good_answer, lambda problem, answer: True)
    with pytest.raises(R1Error, match="0 examples"):
        general_examples(0, seed=0)


def test_chat_examples_answer_directly():
    examples = chat_examples(200, seed=0)
    assert len(set(examples)) == 200 and examples == chat_examples(200, seed=0)
    direct = [example for example in examples if example.source.startswith("direct answer/")]
    assert len(direct) == 100
    assert {domain(example) for example in direct} == {"math", "logic", "code"}
    assert all(len(text.thinking(example.completion)) < 20 for example in direct)
    assert format_reward([example.completion for example in examples]) == [1.0] * 200
    assert not any(example.source.startswith("direct") for example in chat_examples(20, seed=0, direct_share=0))
    with pytest.raises(R1Error, match="direct_share=1"):
        chat_examples(20, seed=0, direct_share=1)


def test_direct_answers_are_right():
    voice = tasks.Voice(seeds.rng("direct"), "en")
    for kind in (kind for kind in KINDS if KINDS[kind].domain in ("math", "logic", "code")):
        for language in ("en", "zh"):
            problem = some(kind, language)
            assert selection.right([problem], [tagged(*rejection._direct_answer(problem, voice))]) == [True]


@pytest.mark.parametrize("reasoning,general,share,counts", [
    (300, 100, 0.25, (300, 100)), (300, 500, 0.25, (300, 100)), (900, 100, 0.25, (300, 100)), (10, 10, 0.5, (10, 10)),
    (1, 1, 0.25, (1, 1))])
def test_mixture(reasoning, general, share, counts):
    mixed = mixture(made(reasoning), made(general, "general data/general/fact"), share, seed=0)
    assert (sum(domain(e) == "math" for e in mixed), sum(domain(e) == "general" for e in mixed)) == counts
    assert len(set(mixed)) == len(mixed)
    assert mixed == mixture(made(reasoning), made(general, "general data/general/fact"), share, seed=0)


def test_what_cannot_be_mixed():
    with pytest.raises(R1Error, match="0 of reasoning and 2 general"):
        mixture([], made(2))
    with pytest.raises(R1Error, match="share=1"):
        mixture(made(2), made(2), 1)


def test_table_of_the_paper():
    examples = [*made(3), *made(1, "rejection/code/function")]
    examples[0] = Example("q", "a longer answer of six words", "rejection/math/chain")
    shown = table(examples, lambda written: len(written.split()))
    assert list(shown) == ["math", "code", "total"]
    assert shown["math"] == {"samples": 3, "average_rounds": 1.0, "average_tokens": (7 + 4 + 4) / 3}
    assert shown["total"] == {"samples": 4, "average_rounds": 1.0, "average_tokens": (7 + 4 + 4 + 4) / 4}
    with pytest.raises(R1Error, match="at least one"):
        table([], len)
