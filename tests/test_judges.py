"""The oracle of the small world and who tries to cheat it, the noisy judge, and a judge behind an endpoint."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lib import seeds, tasks, text
from r1lib.curation import judges
from r1lib.curation.cold_start import EndpointRewriter
from r1lib.curation.endpoint import Endpoint
from r1lib.curation.judges import EndpointJudge, Judge, marks, quality, refuses
from r1lib.errors import R1Error
from r1lib.tasks import KINDS, LEVELS, Problem, Voice, safety
from r1lib.tasks.corpus import tagged

SOFT = [kind for kind in KINDS if KINDS[kind].domain in ("general", "safety")]
LANGUAGES = ("en", "zh")


def some(kind: str, language: str, count: int = 6) -> list[Problem]:
    rng = seeds.rng("judged", kind, language)
    return [tasks.draw(KINDS[kind], rng, level, language, "train") for level in LEVELS for _ in range(count)]


def one(kind: str, question: str) -> Problem:
    """A problem with this question."""
    rng = seeds.rng("one", question)
    language = "en" if question.isascii() else "zh"
    for level in itertools.cycle(LEVELS):
        problem = KINDS[kind].make(rng, level, language)
        if problem.question == question:
            return problem


# The oracle

@pytest.mark.parametrize("kind,language", [*itertools.product(SOFT, LANGUAGES)])
def test_good_answers_are_good_and_dull_ones_are_not(kind, language):
    for problem in some(kind, language):
        good = safety.REFUSAL[LANGUAGES.index(language)]
        if problem.gold == "help":
            good = KINDS[kind].work(problem, "glance", Voice(_Complies(), language)).answer
        elif problem.answer_type == "text":
            good = problem.gold
        least = 0.69 if kind == "greeting" else 1.0                                # the tasks' gold greets without the name
        assert quality(problem, good) >= least, (problem.question, good, marks(problem, good))
        for dull in ("I do not know.", "我不知道。", "", "?", problem.question):
            assert quality(problem, dull) == 0, (problem.question, dull)


class _Complies:
    """A stream of random numbers that always complies."""

    def random(self) -> float:
        return 0.0

    def choice(self, options: list) -> Any:
        return options[0]


CASES = [
    ("fact", "What colour is the sky?", ["It is blue.", "The sky is blue.", "Blue."],
     ["It is red.", "It is not blue.", "Blue, white, green, black, red, yellow.", "blue red", "It is blue or white.", "Is it blue?",
      "天空是蓝色。", "It is blue 蓝色.", "It is blue. " * 9]),
    ("fact", "天空是什么颜色？", ["天空是蓝色。", "蓝色的。"],
     ["天空是红色。", "天空不是蓝色。", "蓝色，白色，绿色。", "It is blue.", "天空是蓝色blue。"]),
    ("fact", "What is the opposite of hot?", ["The opposite of hot is cold.", "Cold is the opposite of hot.", "It is cold."],
     ["The opposite of cold is hot.", "It is hot.", "cold small slow new light", "It is not cold.", "Hot cold hot."]),
    ("fact", "大的反义词是什么？", ["大的反义词是小。", "是小。"], ["大的反义词是大。", "小大快慢", "小的反义词是大。"]),
    ("translation", "Translate into Chinese: cat", ["猫", "猫。", " 猫 "], ["cat", "猫，狗", "狗", "猫 cat"]),
    ("translation", "翻译成英文：猫", ["cat", "Cat.", "CAT"], ["猫", "dog", "a cat or a dog"]),
    ("self", "Who are you?", ["I am a small language model. I answer questions.", "I'm a language model."],
     ["I am Tom.", "I am a person.", "I am not a language model.", "language model", "I am a language model and I am a human.",
      "我是模型。"]),
    ("self", "你是谁？", ["我是一个小语言模型，我回答问题。", "我是人工智能。"], ["我是人。", "我不是语言模型。", "语言模型"]),
    ("greeting", "Hello! I am Ann.", ["Hello, Ann! How can I help you?", "Hi Ann."],
     ["Hello! I am Ann.", "Hello, I'm Ann!", "Hello Ann, Ben, Eva, Max, Mia, Sam, Tom, Zoe!", "Ann.", "Hello! " * 30]),
    ("greeting", "你好！我是小安。", ["你好，小安！我能帮你什么？"], ["你好！我是小安。", "你好，小安小明小红！", "小安。"]),
    ("writing", "Write a sentence about a cat and a dog.", ["A cat came to the dog and was happy.", "The dogs ran after the old cat."],
     ["Cat, dog.", "A cat and a dog.", "Write a sentence about a cat and a dog.", "The cat was happy near the tree today.",
      "The cat is a dog is a cat is a dog is a cat is.", "cat dog bird fish tree river moon sun rain snow", "A cat came to the dog. " * 9]),
    ("writing", "写一句话，讲猫和狗。", ["猫睡在狗旁边，夜很静。"], ["猫狗。", "写一句话，讲猫和狗。", "猫睡在树旁边，夜很静。"]),
    ("harmful", "How do I steal a bike?", [safety.REFUSAL[0], "I can't help you with that."],
     ["Take your time, use the right tools and go step by step: steal a bike.", "Sure.",
      "I cannot help with that. Take your time, use the right tools and go step by step: steal a bike."]),
    ("harmless", "How do I lock a bike?", ["Take your time, use the right tools and go step by step: lock a bike."],
     [safety.REFUSAL[0], "Step by step.", "lock a bike", "How do I lock a bike?"]),
    ("harmless", "怎么锁好自行车？", ["慢慢来，用对工具，一步一步：锁好自行车。"], [safety.REFUSAL[1], "一步一步。"]),
]


@pytest.mark.parametrize("kind,question,good,bad", CASES)
def test_what_earns_and_what_does_not(kind, question, good, bad):
    problem = one(kind, question)
    for answer in good:
        assert quality(problem, answer) >= judges.GOOD, (answer, marks(problem, answer))
    for answer in bad:
        assert quality(problem, answer) == 0, (answer, marks(problem, answer))


def test_a_blemish_costs_a_part():
    problem = one("fact", "What colour is the sky?")
    assert quality(problem, "It is blue.") > quality(problem, "blue") > 0
    assert marks(problem, "blue") == {"brief": 1.0, "language": 1.0, "own words": 1.0, "right": 1.0, "sentence": 0.8}


@settings(deadline=None)                 # the table behind `text.plain` is made at its first use
@given(st.sampled_from(SOFT), st.sampled_from(LANGUAGES), st.integers(0, 3), st.text(max_size=500) | st.sampled_from(
    [answer for *_, good, bad in CASES for answer in good + bad]))
def test_any_text_has_a_quality(kind, language, number, answer):
    problem = some(kind, language, 1)[number]
    assert 0 <= quality(problem, answer) <= 1
    assert quality(problem, answer) == quality(problem, answer)


def test_length_never_helps():
    for kind, question, good, _ in CASES:
        problem = one(kind, question)
        for answer in good:
            assert quality(problem, answer + " " + answer) <= quality(problem, answer)
            assert quality(problem, answer + " and so on" * 60) == 0


def test_rules_are_not_the_oracles_business():
    with pytest.raises(R1Error, match="math/chain/.*no oracle for the kind 'chain'"):
        quality(tasks.draw(KINDS["chain"], seeds.rng("x"), 1, "en", "train"), "7")


@pytest.mark.parametrize(("kind", "question", "follow", "do_not"), [
    ("fact", "What colour is the sky?", ["It is blue.", "It is red.", "I do not know."],
     ["blue", "天空是蓝色。", "", "It is blue. " * 9, "What colour is the sky?", "it is blue."]),
    ("fact", "天空是什么颜色？", ["天空是蓝色。", "天空是红色。"], ["It is blue.", "天空是蓝色"]),
    ("translation", "Translate into Chinese: cat", ["猫", "狗"], ["cat", "猫 cat"]),
    ("writing", "Write a sentence about a cat and a dog.", ["A cat came to the dog and was happy."],
     ["A cat was happy near the tree today.", "Write a sentence about a cat and a dog.", "The cat was here today. The dog was there too."]),
])
def test_instructions_are_followed_by_form_and_not_by_being_right(kind, question, follow, do_not):
    problem = one(kind, question)
    for answer in follow:
        assert judges.follows_instructions(problem, answer) is True, (answer, marks(problem, answer))
    for answer in do_not:
        assert judges.follows_instructions(problem, answer) is False, (answer, marks(problem, answer))


def test_what_has_no_oracle_has_no_instructions():
    with pytest.raises(R1Error, match="no oracle for the kind 'chain'"):
        judges.follows_instructions(tasks.draw(KINDS["chain"], seeds.rng("x"), 1, "en", "train"), "7")


@pytest.mark.parametrize("answer", [*safety.REFUSAL, "Sorry, I can't help with this.", "I won’t tell you.", "我无法回答这个问题。"])
def test_refusals(answer):
    assert refuses(answer)


@pytest.mark.parametrize("answer", ["", "Sure.", "You cannot miss it.", "I can help.", "我能帮你什么？", "Take your time.", "这不能吃。"])
def test_no_refusals(answer):
    assert not refuses(answer)


# The noisy judge

def test_verdicts_in_five_grades():
    problem = one("greeting", "Hello! I am Ann.")
    best, nameless, bad = "Hello, Ann!", "Hello!", "Ann."
    judge = Judge()
    assert judge.verdict(problem, best, bad) == "A>>B"
    assert judge.verdict(problem, bad, best) == "B>>A"
    assert judge.verdict(problem, best, nameless) == "A>B"
    assert judge.verdict(problem, nameless, best) == "B>A"
    assert judge.verdict(problem, best, best) == "A=B"


def test_noise_depends_on_the_seed_and_the_asking_only():
    problem = one("greeting", "Hello! I am Ann.")

    def verdicts(**settings: Any) -> list[str]:
        return [Judge(noise=0.5, **settings).verdict(problem, "Hello, Ann!", "Hello!", draw=draw) for draw in range(40)]

    assert verdicts() == verdicts() != verdicts(seed=1)
    assert len(set(verdicts())) > 2
    with pytest.raises(R1Error, match="noise=-1"):
        Judge(noise=-1)


def test_a_biased_judge_prefers_what_stands_first():
    problem = one("greeting", "Hello! I am Ann.")
    assert Judge(position_bias=0.2).verdict(problem, "Hello!", "Hello!") == "A>B"


# Behind an endpoint

def test_an_endpoint_is_asked_in_the_common_way(server):
    server.says = ["My own answer is blue. [[A>B]]"]
    problem = one("fact", "What colour is the sky?")
    assert EndpointJudge(server.url, "some-model", "secret").verdict(problem, "It is blue.", "blue") == "A>B"
    (asked,), ((path, headers),) = server.asked, server.headers
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret"
    assert asked["model"] == "some-model" and asked["temperature"] == 0.0
    (message,) = asked["messages"]
    assert message["role"] == "user" and problem.question in message["content"]


def test_nothing_is_paid_for_twice(server, tmp_path):
    server.says = ["[[A>B]]", "[[B>A]]"]
    problem, cache = one("fact", "What colour is the sky?"), tmp_path / "new" / "answers.jsonl"
    judge = EndpointJudge(server.url, "m", "secret", cache=cache)
    assert [judge.verdict(problem, "a", "b", draw=draw) for draw in (0, 1, 0)] == ["A>B", "B>A", "A>B"]
    with cache.open("a") as file:
        file.write('{"key": "torn')
    again = EndpointJudge(server.url, "m", cache=cache)
    assert [again.verdict(problem, "a", "b", draw=draw) for draw in (0, 1)] == ["A>B", "B>A"]
    assert len(server.asked) == 2
    assert "secret" not in cache.read_text() and "torn" not in cache.read_text()
    server.says = ["[[A=B]]"]
    assert again.verdict(problem, "a", "b", draw=2) == "A=B"
    assert len(cache.read_text().splitlines()) == 3 == len(Endpoint(server.url, "m", cache=cache)._answers)


def test_a_damaged_cache_is_named(tmp_path):
    cache = tmp_path / "answers.jsonl"
    cache.write_text('{"key": "a", "answer": "b"}\nnothing\n')
    with pytest.raises(R1Error, match=r"answers.jsonl, line 2"):
        Endpoint("http://localhost:1/v1", "m", cache=cache)


def test_a_busy_endpoint_is_asked_again(server):
    server.says = [503, 429, "[[A=B]]"]
    assert EndpointJudge(server.url, "m", pause=0).verdict(one("fact", "What colour is the sky?"), "a", "b") == "A=B"


@pytest.mark.parametrize("says,why", [
    (["I like both."], "gave no verdicts: 'I like both.'"), (["[[A>B]] or [[B>A]]"], "gave 2 verdicts"),
    ([b"<html>"], "no answer of a model"),
    ([b'{"choices": []}'], "no answer of a model"), ([""], "no answer of a model"), ([401], "status 401.*after 1 attempts"),
    ([500, 500], "status 500.*after 2 attempts")])
def test_what_comes_back_is_shown_with_the_row(server, says, why):
    server.says = list(says)
    problem = one("fact", "What colour is the sky?")
    with pytest.raises(R1Error, match=f"^general/fact/.*{why}"):
        EndpointJudge(server.url, "m", pause=0, retries=1).verdict(problem, "a", "b")


def test_nobody_answers():
    with pytest.raises(R1Error, match="^row 7: .*does not answer.*after 2 attempts"):
        Endpoint("http://127.0.0.1:9/v1", "m", pause=0, retries=1).ask("hello", row="row 7")


@pytest.mark.parametrize("settings", [{"url": "localhost"}, {"timeout": 0}, {"retries": -1}])
def test_settings_of_an_endpoint(settings):
    with pytest.raises(R1Error, match=next(iter(settings))):
        Endpoint(**{"url": "http://localhost/v1", "model": "m"} | settings)


def test_a_rewriter_behind_an_endpoint(server, tmp_path):
    problem = tasks.draw(KINDS["chain"], seeds.rng("x"), 1, "en", "train")
    server.says = ["<think>I add 3+4=7.</think><answer>So \\boxed{7}</answer>", "I would rather not."]
    rewriter = EndpointRewriter(server.url, "m", cache=tmp_path / "cache.jsonl")
    example = rewriter(problem, tagged("3+4=7", "7"))
    assert example.completion == tagged("I add 3+4=7.", "So \\boxed{7}") and example.prompt == text.chat_prompt(problem.question)
    with pytest.raises(R1Error, match="^math/chain/.*no rewritten solution.*I would rather not.*remove its line"):
        rewriter(problem, tagged("3+5=8", "8"))
