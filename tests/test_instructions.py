"""Instructions that can be checked: each of IFEval's kinds, followed and not, with the arguments as its file has them."""

import json

import pytest

from r1lib import rewards
from r1lib.errors import R1Error
from r1lib.rewards import instructions

# instruction, arguments, an answer that follows it, one that does not
CASES = [
    ("keywords:existence", {"keywords": ["river", "Sun"]}, "The sun, the River.", "The sun."),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": "at least"}, "Cat and cat", "A cat"),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": "less than"}, "A cat", "Cat and cat"),
    ("keywords:forbidden_words", {"forbidden_words": ["rock"]}, "The rocket.", "A Rock!"),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "at least"}, "# and #", "#"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "One. Two?", "One, two 3.5."),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "About 3.5 of them!", "One. Two."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\none\n***\ntwo", "one\n***\n***\ntwo"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "one two three", "one two"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "weekend"},
     "One.\n\n\"Weekend, at last.\"", "Weekend.\n\nOne."),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] in [city]", "[name and city]"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\np. p.s and more", "Bye.\nP.S. more"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP.S. more", "Bye. PS more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n- two\n**three**", "* one"),
    ("detectable_format:constrained_response", {}, "Well. My answer is maybe.", "Maybe."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* and **two**", "*one* and ** **"),
    ("detectable_format:multiple_sections", {"section_spliter": "PART", "num_sections": 2}, "PART 1\na\nPART 2\nb", "PART 1\na"),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<A title>>\nText", "<< >>\nText >>"),
    ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it. "}, "say it.\nIt.", "It. Say it."),
    ("startend:end_checker", {"end_phrase": "Any questions?"}, 'Well. "any questions?"', "Any questions? No."),
    ("startend:quotation", {}, ' "All of it." ', '"'),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "GO now, I say", "Go Now"),
    ("change_case:english_capital", {}, "ALL OF IT.", "ALL OF it."),
    ("change_case:english_lowercase", {}, "all of it.", "All of it."),
    ("punctuation:no_comma", {}, "No comma", "A comma, here"),
]


@pytest.mark.parametrize(("name", "given", "good", "bad"), CASES)
def test_each_kind(name: str, given: dict, good: str, bad: str) -> None:
    others = {"num_words": None, "keyword": None} | given                  # as in the hub's copy, where all rows have all arguments
    assert instructions.verdicts([name, name], [others, given], good) == [True, True]
    assert instructions.verdicts([name], [given], bad) == [False]
    assert instructions.verdicts([name], [given], " \n") == [False]


def test_every_kind_has_a_case() -> None:
    assert len(instructions.RULES) == 25
    assert {name for name, *_ in CASES} == set(instructions.RULES) - {"language:response_language"}


def test_a_prompt_counts_when_all_of_it_is_followed_and_not_when_a_part_cannot_be_judged() -> None:
    both = ["punctuation:no_comma", "startend:quotation"]
    assert instructions.followed(json.dumps([both, [{}, {}]]), '"so"') is True
    assert instructions.followed(json.dumps([both, [{}, {}]]), "so") is False
    spoken = json.dumps([[*both, "language:response_language"], [{}, {}, {"language": "kn"}]])
    assert instructions.followed(spoken, '"so"') is None and instructions.followed(spoken, "so, so") is False


def test_the_accuracy_reward_asks_it() -> None:
    gold = json.dumps([["punctuation:no_comma"], [{}]])
    completions = [f"<think>a, b</think> <answer>{answer}</answer>" for answer in ("plain", "a, b")]
    assert rewards.accuracy_reward(completions, solution=[gold] * 2, answer_type=["instructions"] * 2) == [1.0, 0.0]


@pytest.mark.parametrize(("gold", "message"), [
    ("no JSON", "holds no instructions"), ("[1]", "holds no instructions"), ('[["no:such"], [{}]]', "'no:such' is not known.*no_comma"),
    ('[["keywords:frequency"], [{"keyword": "a"}]]', "does not take"),
    ('[["keywords:frequency"], [{"keyword": "a", "frequency": 1, "relation": "about"}]]', "relation 'about'"),
])
def test_a_malformed_row_is_named(gold: str, message: str) -> None:
    with pytest.raises(R1Error, match=message):
        instructions.followed(gold, "an answer")


@pytest.mark.parametrize("piece", ["[", "<<", "*", " ", "\n", "p.", "-", "a.", "[" * 9 + "]", "{", '"', "PART "])
def test_no_answer_takes_long(piece: str) -> None:
    """A rule that looks from every place to the end would take an hour for any of these, and this test with it."""
    answer = piece * (400_000 // len(piece))
    for name, given, _, _ in CASES:
        assert instructions.verdicts([name], [given], answer)[0] in (True, False)
