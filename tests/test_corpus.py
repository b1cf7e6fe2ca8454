"""What the base models read: pinned, because they have read it, and mixed as the tables say."""

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Mapping

import pytest

from r1lib import rewards, seeds, tasks, text
from r1lib.tasks import corpus

# The shipped base models are pretrained on these very texts. Whoever means to change the world runs `python -m r1lib pretrain` again, ships
# the new models, and only then this line.
FIRST_DOCUMENTS = "a1aae8570b3b1b5f4ebb8e24e9354678a8080540496a56a5c3d65e2d9b26737e"


@pytest.fixture(scope="module")
def documents() -> list[corpus.Document]:
    return list(itertools.islice(corpus.documents("test", 0), 3000))


def assert_shares(counted: Mapping[str, int], shares: Mapping[str, float]) -> None:
    """Within four standard errors."""
    total = sum(counted.values())
    assert set(counted) <= set(shares)
    for name, share in shares.items():
        assert abs(counted[name] / total - share) <= 4 * math.sqrt(share * (1 - share) / total), (name, counted[name] / total, share)


def test_the_world_is_the_one_that_the_base_models_have_read() -> None:
    written = "".join(document.text for document in itertools.islice(corpus.documents(0, 0), 200))
    assert hashlib.sha256(written.encode()).hexdigest() == FIRST_DOCUMENTS


def test_shares_add_to_one() -> None:
    for shares in (corpus.DOMAIN_SHARES, corpus.TEMPLATE_SHARES, *corpus.MANNER_SHARES.values()):
        assert math.isclose(sum(shares.values()), 1.0)
    assert set(corpus.DOMAIN_SHARES) == set(tasks.DOMAINS)


def test_domains_templates_languages_and_levels_have_their_shares(documents: list[corpus.Document]) -> None:
    assert_shares(Counter(document.problem.domain for document in documents), corpus.DOMAIN_SHARES)
    assert_shares(Counter(document.template for document in documents), corpus.TEMPLATE_SHARES)
    assert_shares(Counter(document.problem.language for document in documents), {"en": tasks.ENGLISH_SHARE, "zh": 1 - tasks.ENGLISH_SHARE})
    assert_shares(Counter(document.problem.level for document in documents), dict.fromkeys(tasks.LEVELS, 0.2))
    for domain in tasks.DOMAINS:
        kinds = [kind.name for kind in tasks.KINDS.values() if kind.domain == domain]
        assert_shares(Counter(document.problem.kind for document in documents if document.problem.domain == domain),
                      dict.fromkeys(kinds, 1 / len(kinds)))


@pytest.mark.parametrize(("table", "kinds"), [
    ("arithmetic", {"chain", "word", "equation", "ordering", "comparison", "sequence", "function"}),
    ("search", {"sum_product", "factor_pair", "countdown"}),
    ("other", {"fact", "translation", "self", "greeting", "writing", "harmful", "harmless"})])
def test_manners_have_their_shares(documents: list[corpus.Document], table: str, kinds: set[str]) -> None:
    assert_shares(Counter(document.manner for document in documents if document.problem.kind in kinds), corpus.MANNER_SHARES[table])


def test_every_document_is_a_prompt_a_response_and_one_end(documents: list[corpus.Document]) -> None:
    for problem, _, template, written in documents:
        assert written.count(text.EOS) == 1 and written.endswith(text.EOS) and text.PAD not in written
        prompt = {"zero": text.zero_prompt(problem.question), "chat": text.chat_prompt(problem.question),
                  "plain": problem.question + "\n"}[template]
        assert written.startswith(prompt)
        response = written.removeprefix(prompt).removesuffix(text.EOS)
        assert response.strip()
        # Behind "Assistant:" a space, as the model is to write it; behind a mark or a new line none.
        assert response.startswith(" ") == (template == "zero")
        assert (text.USER in written) == (text.ASSISTANT in written) == (template == "chat")


def test_a_corpus_is_made_again_and_shards_have_nothing_in_common() -> None:
    def first(seed: int | str, shard: int, count: int = 150) -> list[str]:
        return [document.text for document in itertools.islice(corpus.documents(seed, shard), count)]

    assert first(0, 1) == first(0, 1)
    others = [first(0, 1), first(0, 2), first(1, 1), first("tokenizer", 1)]
    for one, other in itertools.combinations(others, 2):
        assert one[0] != other[0]
        assert len(set(one) & set(other)) <= 2             # a short text on a fact or a greeting may come twice


def test_no_text_is_a_large_part_of_the_corpus(documents: list[corpus.Document]) -> None:
    assert Counter(document.text for document in documents).most_common(1)[0][1] <= 5


def test_every_manner_and_every_kind_is_read_in_both_languages(documents: list[corpus.Document]) -> None:
    seen = {(document.manner, document.problem.language) for document in documents}
    manners = {manner for shares in corpus.MANNER_SHARES.values() for manner in shares}
    assert seen == set(itertools.product(manners, ("en", "zh")))
    assert {document.problem.kind for document in documents} == set(tasks.KINDS)


# How a response of each manner is read by the grammar that rewards use

def responses(kinds: tuple[str, ...], manner: str, count: int = 40) -> list[tuple[tasks.Problem, str]]:
    """`count` responses to problems of each kind, over all levels and both languages."""
    made = []
    for name in kinds:
        rng = seeds.rng("responses", name, manner)
        for i in range(count):
            problem = tasks.draw(tasks.KINDS[name], rng, tasks.LEVELS[i % 5], "zh" if i % 4 == 3 else "en", "train")
            made.append((problem, corpus.respond(problem, manner, rng)))
    return made


ARITHMETIC = ("chain", "equation", "comparison", "function")
SEARCH, OTHER = ("sum_product", "factor_pair", "countdown"), ("fact", "harmful")
MANNERS = [(kinds, manner) for kinds, table in ((ARITHMETIC, "arithmetic"), (SEARCH, "search"), (OTHER, "other"))
           for manner in corpus.MANNER_SHARES[table]]


@pytest.mark.parametrize(("kinds", "manner"), [case for case in MANNERS if case[1] not in ("prose", "ramble")])
def test_responses_in_tags_are_well_formed(kinds: tuple[str, ...], manner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "UNTIDY_SHARE", 0.0)
    monkeypatch.setattr(corpus, "BARE_ANSWER_SHARE", 0.0)
    for _, response in responses(kinds, manner):
        parsed = text.parse(response)
        assert parsed.answer
        # A glance may have nothing to think, and that is its only fault.
        assert parsed.well_formed or (manner == "glance" and parsed.faults == ("nothing in <think>",)), response


@pytest.mark.parametrize(("kinds", "manner"), [case for case in MANNERS if case[1] in ("prose", "ramble")])
def test_prose_and_rambling_earn_nothing(kinds: tuple[str, ...], manner: str) -> None:
    made = responses(kinds, manner, 80)
    in_tags = [response for _, response in made if "<" in response and text.parse(response).answer is not None]
    if manner == "prose":
        assert not in_tags and not any(tag in response for _, response in made for tag in text.TAGS)
        said = {"en": "The answer is ", "zh": "答案是"}
        assert all(said[problem.language] in response for problem, response in made)
    else:                                                  # one in five puts an arbitrary number in tags
        assert 0.1 < len(in_tags) / len(made) < 0.3
        assert all(text.parse(response).answer.isdigit() for response in in_tags)


@pytest.mark.parametrize("kinds", [ARITHMETIC, SEARCH])
def test_most_glances_leave_the_thinking_out(kinds: tuple[str, ...]) -> None:
    made = responses(kinds, "glance", 200)
    bare = [response for _, response in made if response.startswith(" <answer>")]
    assert abs(len(bare) / len(made) - corpus.BARE_ANSWER_SHARE) < 4 * math.sqrt(0.25 / len(made))
    assert all(text.parse(response).faults == ("<think> is missing", "</think> is missing") for response in bare)


def test_some_worked_responses_have_a_fault_in_their_tags() -> None:
    made = responses(("chain", "factor_pair"), "steps", 400)
    faulty = [response for _, response in made if not text.parse(response).well_formed]
    assert abs(len(faulty) / len(made) - corpus.UNTIDY_SHARE) < 4 * math.sqrt(corpus.UNTIDY_SHARE / len(made))
    assert len({text.parse(response).faults for response in faulty}) >= 5


@pytest.mark.parametrize("kinds", [("chain", "word", "equation"), SEARCH])
def test_only_mixed_responses_change_the_language(kinds: tuple[str, ...]) -> None:
    for manner in ("mixed", "steps"):
        made = [(problem, response) for problem, response in responses(kinds, manner)]
        changed = [text.mixes_languages(text.thinking(response), problem.language) for problem, response in made]
        assert (sum(changed) > 0.5 * len(made)) if manner == "mixed" else not any(changed)


def test_what_reinforcement_learning_has_to_find_is_in_the_corpus(documents: list[corpus.Document]) -> None:
    """Well-formed and right answers exist but are the exception; answers with checks are better than glances."""
    shown = [document for document in documents if document.template == "zero" and document.problem.domain == "math"]
    paid: dict[str, list[float]] = {}
    for problem, manner, _, written in shown:
        response = written.removeprefix(text.zero_prompt(problem.question))
        earned = rewards.mix()([response], {key: [value] for key, value in problem.columns().items()}).total[0]
        paid.setdefault(manner, []).append(earned / 2)
    mean = {manner: sum(earned) / len(earned) for manner, earned in paid.items()}
    assert 0.1 < sum(map(sum, paid.values())) / len(shown) < 0.5
    assert max(mean["prose"], mean["ramble"]) < 0.2 < mean["glance"] < min(mean["check"], mean["retry"], mean["mixed"])
