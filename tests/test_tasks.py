"""Problems, their gold answers worked out a second time, their worked solutions, and the wall between training and evaluation."""

import dataclasses
import itertools
import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest

from r1lib import paths, seeds, tasks, text
from r1lib.errors import R1Error
from r1lib.rewards import accuracy
from r1lib.rewards.expression import evaluate
from r1lib.tasks import KINDS, LEVELS, Problem, Voice, arithmetic, corpus, safety, search
from r1lib.tasks.problem import NAMES, PHRASES

LANGUAGES = ("en", "zh")


def some(kind: str, count: int = 8, levels: tuple[int, ...] = LEVELS, split: str = "train") -> list[Problem]:
    """`count` problems of a kind for each level and language."""
    rng = seeds.rng("test", kind)
    return [tasks.draw(KINDS[kind], rng, level, language, split)
            for level in levels for language in LANGUAGES for _ in range(count)]


def numbers(written: str) -> list[int]:
    return [int(digits) for digits in re.findall("[0-9]+", written)]


# Gold answers, worked out from the words of the question alone

def left_to_right(first: int, steps: list[tuple[str, int]]) -> int:
    value = first
    for sign, x in steps:
        value = {"+": value + x, "-": value - x, "*": value * x}[sign]
        assert value >= 0
    return value


def chain(problem: Problem) -> bool:
    expression = re.search(r"[0-9]+(?: [-+*] [0-9]+)+", problem.question).group()
    first, *rest = expression.split()
    assert len(rest) == 2 * (problem.level + 1)
    return int(problem.gold) == left_to_right(int(first), list(zip(rest[::2], map(int, rest[1::2]), strict=True)))


_WORDS_OF = {"+": ("buys", "finds", "gets", "买了", "捡到"), "-": ("gives away", "loses", "sells", "送出", "丢了"), "*": ("times", "倍")}


def word(problem: Problem) -> bool:
    begin, *told, _ = re.split(r"(?<=[0-9a-z])\. |(?<=。)|(?<=个)(?=小)", problem.question)
    told = [event for event in told if numbers(event)]
    if problem.language == "zh":                           # the first event follows the first full stop
        begin, *told = [part for part in problem.question.split("。") if numbers(part)]
    steps = []
    for event in told:
        (x,) = numbers(event)
        (sign,) = [sign for sign, words in _WORDS_OF.items() if any(told_by in event for told_by in words)]
        steps.append((sign, x))
    assert len(steps) == problem.level
    return int(problem.gold) == left_to_right(numbers(begin)[0], steps)


def equation(problem: Problem) -> bool:
    written = re.search(r"[0-9x(][0-9x()+ ]* = [0-9x+ ]*[0-9]", problem.question).group()

    def holds(x: int) -> bool:
        sides = [re.sub(r"([0-9])\(", r"\1*(", re.sub(r"([0-9])x", r"\1*x", side)).replace("x", f"{x}") for side in written.split(" = ")]
        left, right = (evaluate(side)[0] for side in sides)
        return left == right

    return [x for x in range(200) if holds(x)] == [int(problem.gold)]


def sum_product(problem: Problem) -> bool:
    total, product = numbers(problem.question)
    a, b = numbers(problem.gold)
    return a + b == total and a * b == product


def factor_pair(problem: Problem) -> bool:
    n = next(x for x in numbers(problem.question) if x != 1)
    return int(problem.gold) == n and accuracy.right("factors", gold=problem.gold, answer=problem.facts["solution"])


def countdown(problem: Problem) -> bool:
    value, used, signs = evaluate(problem.facts["solution"])
    target, given, allowed = re.fullmatch("([0-9]+) from ([0-9 ]+) with (.*)", problem.gold).groups()
    assert Counter(numbers(problem.question)) == Counter([int(target), *numbers(given)])
    asked = set(re.sub("[^-+*]", "", problem.question))
    return value == int(target) and sorted(used) == sorted(numbers(given)) and signs <= set(allowed.split()) == asked


def options(problem: Problem) -> dict[str, str]:
    return dict(re.findall(r"([ABC])\) (.+?)(?= [BC]\) |$)", problem.question))


def ordering(problem: Problem) -> bool:
    names = "|".join(NAMES[problem.language])
    above = [(a, b) if taller in ("taller", "高") else (b, a) for a, taller, b in
             [(a, how, b) for a, how, b in re.findall(f"({names}) is (taller|shorter) than ({names})", problem.question)]
             + [(a, how, b) for a, b, how in re.findall(f"({names})比({names})(高|矮)", problem.question)]]
    people = sorted({person for pair in above for person in pair})
    place = 0 if re.search("tallest|最高", problem.question) else -1
    assert len(above) == min(problem.level + 2, 6) - 1
    possible = {order[place] for order in itertools.permutations(people) if all(order.index(a) < order.index(b) for a, b in above)}
    return possible == {options(problem)[problem.gold]}


def comparison(problem: Problem) -> bool:
    values = {letter: evaluate(written)[0] for letter, written in options(problem).items()}
    best = (max if re.search("largest|最大", problem.question) else min)(values.values())
    return [letter for letter, value in values.items() if value == best] == [problem.gold]


def sequence(problem: Problem) -> bool:
    row = numbers(problem.question.split(" A) ")[0])
    right = [int(x) for x in options(problem).values() if int(x) and _continues([*row, int(x)], problem.level)]
    return right == [int(options(problem)[problem.gold])]


def _continues(row: list[int], level: int) -> bool:
    steps = [b - a for a, b in itertools.pairwise(row)]
    if level == 4:
        return len({b / a for a, b in itertools.pairwise(row)}) == 1
    return len(set(steps)) == 1 if level < 4 else {b - a for a, b in itertools.pairwise(steps)} == {1}


def function(problem: Problem) -> bool:
    described = numbers(problem.question)
    assert described == numbers(problem.facts["body"].replace("==0", ""))
    scope: dict = {}
    exec(problem.gold, scope)                              # our own source, never a model's
    assert len(problem.tests) == 4
    return all(repr(eval(test["call"], scope)) == repr(test["expected"]) for test in problem.tests)


def in_language(problem: Problem) -> bool:
    """Text in the language of the question; translations in the other one."""
    chinese = (problem.language == "zh") != (problem.kind == "translation")
    must = problem.facts.get("must", [[], []])[LANGUAGES.index(problem.language)]
    return text.chinese_share(problem.gold) == float(chinese) and all(thing in problem.gold for thing in must)


def conduct(problem: Problem) -> bool:
    frightening = any(verb in problem.question for pair in safety._HARMFUL for verb in (f" {pair[0]} ", pair[1]))
    look_alike = problem.level > 3 and problem.kind == "harmless"
    return problem.gold == ("refuse" if frightening and not look_alike else "help")


GOLDS = {"chain": chain, "word": word, "equation": equation, "sum_product": sum_product, "factor_pair": factor_pair, "countdown": countdown,
         "ordering": ordering, "comparison": comparison, "sequence": sequence, "function": function, "fact": in_language,
         "translation": in_language, "self": in_language, "greeting": in_language, "writing": in_language, "harmful": conduct,
         "harmless": conduct}


@pytest.mark.parametrize("kind", KINDS)
def test_gold_is_right(kind: str) -> None:
    for problem in some(kind, 20):
        assert GOLDS[kind](problem), problem


@pytest.mark.parametrize("kind", KINDS)
def test_a_problem_is_what_was_asked_for(kind: str) -> None:
    problems = some(kind)
    wanted = [(level, language) for level in LEVELS for language in LANGUAGES for _ in range(8)]
    assert [(problem.level, problem.language) for problem in problems] == wanted
    for problem in problems:
        assert (problem.kind, problem.domain) == (kind, KINDS[kind].domain)
        chinese = text.chinese_share(problem.question)
        assert chinese > 0 if problem.language == "zh" else chinese == 0 and problem.question.isascii(), problem.question
        assert "{" not in problem.question and problem.question == problem.question.strip()
        types = {"math": set(accuracy.RULES), "logic": {"choice"}, "code": {"code"}, "general": {"text"},
                 "safety": {"conduct"} if problem.gold == "refuse" else {"text"}}
        assert problem.answer_type in types[problem.domain]
        assert problem.columns() == {"solution": problem.gold, "answer_type": problem.answer_type, "tests": list(problem.tests),
                                     "language": problem.language, "domain": problem.domain, "level": problem.level}


@pytest.mark.parametrize("kind", ["chain", "word", "equation", "sum_product", "comparison", "sequence"])
def test_a_higher_level_has_larger_numbers(kind: str) -> None:
    mean = [sum(max(numbers(problem.question)) for problem in some(kind, 60, (level,))) for level in (1, 5)]
    assert mean[1] > 1.5 * mean[0]


# Streams

def test_a_batch_depends_on_the_seed_and_the_step_and_on_nothing_else() -> None:
    domains = list(tasks.DOMAINS)
    later = tasks.stream(domains, seed=3)
    for step in (0, 1, 2):
        later.batch(step, 5)
    assert later.batch(7, 20) == tasks.stream(domains, seed=3).batch(7, 20)
    assert later.batch(7, 20)[:8] == later.batch(7, 8)


def test_batches_of_other_seeds_and_steps_share_nearly_nothing() -> None:
    kinds = ["chain", "word", "equation", "countdown", "comparison", "ordering"]      # kinds with many problems at level 5
    batches = [[problem.key for problem in tasks.stream(kinds, seed=seed, levels=(5,)).batch(step, 120)]
               for seed, step in itertools.product((0, 1, 2), (0, 1, 2))]
    for one, other in itertools.combinations(batches, 2):
        assert len(set(one) & set(other)) <= 3
        assert sum(a == b for a, b in zip(one, other, strict=True)) == 0
    # Also where spaces are small, a batch is not another one moved along.
    small = [[problem.question for problem in tasks.stream(["math", "logic"], seed=seed).batch(step, 120)] for seed, step in
             ((0, 0), (0, 1), (1, 0))]
    for one, other in itertools.combinations(small, 2):
        assert len(set(one) & set(other)) < 12


def test_a_stream_has_its_shares_of_kinds_levels_and_languages() -> None:
    batch = tasks.stream(["math"], seed=0).batch(0, 1500)
    assert Counter(problem.domain for problem in batch) == {"math": 1500}
    for attribute, expected in (("kind", dict.fromkeys((kind.name for kind in KINDS.values() if kind.domain == "math"), 1 / 6)),
                                ("level", dict.fromkeys(LEVELS, 1 / 5)), ("language", {"en": 0.75, "zh": 0.25})):
        counted = Counter(getattr(problem, attribute) for problem in batch)
        assert set(counted) == set(expected)
        for name, share in expected.items():
            assert abs(counted[name] / 1500 - share) < 4 * math.sqrt(share * (1 - share) / 1500)


def test_phases_follow_each_other() -> None:
    """Up to the change all of a batch is the first stream's, as if there were no other; from it on, a share is the second's."""
    first, second = tasks.stream(["math"], seed=3), tasks.stream(["general"], seed=3)
    phases = tasks.Phases(first, second, change=4, share=0.25)
    assert [phases.batch(step, 12) for step in range(4)] == [first.batch(step, 12) for step in range(4)]
    for step in range(4, 8):
        batch = phases.batch(step, 12)
        assert batch == [*first.batch(step, 9), *second.batch(step, 3)] == tasks.Phases(first, second, 4, 0.25).batch(step, 12)
    assert [len(tasks.Phases(first, second, 0, share).batch(0, 7)) for share in (0.0, 0.3, 0.5, 1.0)] == [7] * 4
    assert {problem.domain for problem in tasks.Phases(first, second, 0, 1.0).batch(0, 7)} == {"general"}
    assert tasks.Phases(first, second, 0, 0.0).batch(0, 7) == first.batch(0, 7)
    assert tasks.Phases(first, second, -10_000, 1.0).batch(0, 7) == second.batch(0, 7)            # of a run shorter than its second phase


def test_a_stream_can_be_narrowed() -> None:
    batch = tasks.stream(["chain", "logic"], seed=0, levels=(2, 4), languages=("zh",)).batch(0, 80)
    assert {problem.kind for problem in batch} == {"chain", "ordering", "comparison", "sequence"}
    assert {problem.level for problem in batch} == {2, 4} and {problem.language for problem in batch} == {"zh"}
    held_out = tasks.stream(["math"], seed=0, split="eval").batch(0, 40)
    assert {tasks.split_of(problem) for problem in held_out} == {"eval"}


@pytest.mark.parametrize(("wrong", "names"), [
    (lambda: tasks.stream(["maths"], seed=0), ["'maths'", "math", "logic", "countdown"]),
    (lambda: tasks.stream(["math"], seed=0, levels=(1, 6)), ["6", "1 to 5"]),
    (lambda: tasks.evaluation_set("maths"), ["'maths'", "math-hard", "safety"]),
    (lambda: tasks.stream(["math"], seed=0, split="test").batch(0, 1), ["'test'"]),
    (lambda: tasks.read_problems(Path("no/such.jsonl")), ["no/such.jsonl"])])
def test_what_is_unknown_is_one_line(wrong: object, names: list[str]) -> None:
    with pytest.raises(R1Error) as caught:
        wrong()
    assert all(name in str(caught.value) for name in names) and "\n" not in str(caught.value)


# Files

def test_problems_survive_a_file(tmp_path: Path) -> None:
    problems = [problem for kind in KINDS for problem in some(kind, 1)]
    file = tasks.write_problems(problems, tmp_path / "problems.jsonl")
    again = tasks.read_problems(file)
    assert [problem.id for problem in again] == [problem.id for problem in problems]
    assert [problem.columns() for problem in again] == [problem.columns() for problem in problems]
    assert tasks.write_problems(again, tmp_path / "again.jsonl").read_bytes() == file.read_bytes()
    for before, after in zip(problems, again, strict=True):          # also what is written from the facts is the same
        for manner in KINDS[before.kind].manners:
            works = [KINDS[p.kind].work(p, manner, Voice(seeds.rng(before.id, manner), p.language)) for p in (before, after)]
            assert works[0] == works[1]


@pytest.mark.parametrize("bad", ["not json", "[]", "7", "{}", '{"tests": []}', "", None])
def test_a_bad_row_is_named(tmp_path: Path, bad: str | None) -> None:
    good = (paths.data() / "evaluation" / "math.jsonl").read_text(encoding="utf-8").splitlines()[:3]
    row = bad if bad is not None else json.dumps({**json.loads(good[1]), "answr": "7"})
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join([*good[:1], row, *good[2:]]) + "\n", encoding="utf-8")
    with pytest.raises(R1Error) as caught:
        tasks.read_problems(file)
    assert str(file) in str(caught.value) and "row 2" in str(caught.value) and "\n" not in str(caught.value)


def test_a_question_may_hold_line_ends_of_other_alphabets(tmp_path: Path) -> None:
    (problem,) = some("chain", 1, (1,))[:1]
    odd = dataclasses.replace(problem, question="one\u2028two\x0bthree\x85four\nfive")
    (again,) = tasks.read_problems(tasks.write_problems([odd], tmp_path / "odd.jsonl"))
    assert again.question == odd.question


# The fixed sets, and the wall

@pytest.fixture(scope="module")
def fixed() -> dict[str, list[Problem]]:
    return {name: tasks.evaluation_set(name) for name in tasks.EVALUATION_SETS}


def test_the_shipped_sets_are_what_the_code_makes(tmp_path: Path) -> None:
    made = tasks.write_evaluation_sets(tmp_path)
    shipped = sorted((paths.data() / "evaluation").glob("*.jsonl"))
    assert sorted(file.name for file in made) == [file.name for file in shipped]
    for file in shipped:
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize("name", tasks.EVALUATION_SETS)
def test_a_fixed_set_has_every_kind_and_level(fixed: dict[str, list[Problem]], name: str) -> None:
    problems, (kinds, levels, count) = fixed[name], tasks.EVALUATION_SETS[name]
    counted = Counter((problem.kind, problem.level) for problem in problems)
    assert {kind for kind, _ in counted} == set(kinds) and {level for _, level in counted} == set(levels)
    assert max(counted.values()) <= count
    if name not in ("general", "safety"):                  # the two whose spaces are small
        assert set(counted.values()) == {count} and len(counted) == len(kinds) * len(levels)


@pytest.mark.parametrize("name", tasks.EVALUATION_SETS)
def test_a_fixed_set_is_asked_in_both_languages(fixed: dict[str, list[Problem]], name: str) -> None:
    languages = Counter(problem.language for problem in fixed[name])
    assert set(languages) == set(LANGUAGES) and 0.1 < languages["zh"] / len(fixed[name]) < 0.3


@pytest.mark.parametrize("name", tasks.EVALUATION_SETS)
def test_questions_of_a_fixed_set_are_unique_and_golds_are_right(fixed: dict[str, list[Problem]], name: str) -> None:
    problems = fixed[name]
    assert len({problem.question for problem in problems}) == len(problems)
    assert [problem for problem in problems if not GOLDS[problem.kind](problem)] == []


@pytest.mark.parametrize("name", tasks.EVALUATION_SETS)
def test_ids_of_a_fixed_set_are_unique(fixed: dict[str, list[Problem]], name: str) -> None:
    assert len({problem.id for problem in fixed[name]}) == len(fixed[name])


def test_no_evaluation_problem_is_trained_on_or_read(fixed: dict[str, list[Problem]]) -> None:
    held_out = [problem for problems in fixed.values() for problem in problems]
    keys, questions = {(problem.kind, problem.key) for problem in held_out}, {problem.question for problem in held_out}
    trained = [problem for seed in (0, 1) for step in range(4) for problem in tasks.stream(tasks.DOMAINS, seed=seed).batch(step, 1000)]
    read = [document.problem for shard in (0, 1) for document in itertools.islice(corpus.documents(0, shard), 3000)]
    for problem in (*trained, *read):
        assert (problem.kind, problem.key) not in keys and problem.question not in questions
        assert tasks.split_of(problem) == "train"
    # The same draws without the wall would have met hundreds of them.
    rng = seeds.rng("no wall")
    open_draws = [kind.make(rng, rng.choice(LEVELS), "en") for kind in KINDS.values() for _ in range(100)]
    assert sum((problem.kind, problem.key) in keys for problem in open_draws) > 50


def test_a_problem_lies_on_one_side_in_every_wording() -> None:
    """The wall does not look at words: a question asked anew, or in Chinese, does not cross it."""
    sides: dict[tuple[str, str], set[str]] = {}
    wordings: dict[tuple[str, str], set[str]] = {}
    rng = seeds.rng("wordings")
    for kind in ("equation", "sum_product", "factor_pair", "fact", "translation"):
        for i in range(1500):
            problem = KINDS[kind].make(rng, 1, LANGUAGES[i % 2])
            sides.setdefault((kind, problem.key), set()).add(tasks.split_of(problem))
            wordings.setdefault((kind, problem.key), set()).add(problem.question)
    assert all(len(side) == 1 for side in sides.values())
    assert max(len(asked) for asked in wordings.values()) >= 4


def test_one_problem_in_eight_is_held_out() -> None:
    rng = seeds.rng("share")
    problems = {problem.key: problem for problem in (KINDS["chain"].make(rng, 5, "en") for _ in range(2000))}.values()
    share = sum(tasks.split_of(problem) == "eval" for problem in problems) / len(problems)
    assert abs(share - 1 / 8) < 4 * math.sqrt(7 / 64 / len(problems))


# Worked solutions

def is_right(problem: Problem, answer: str) -> bool:
    if problem.domain == "safety":
        return (answer in safety.REFUSAL) == (problem.gold == "refuse")
    verdict = accuracy.right(problem.answer_type, gold=problem.gold, answer=answer)
    return answer == problem.gold if verdict is None else verdict


def works(kind: str, manner: str, count: int = 40) -> list[tuple[Problem, tasks.Work]]:
    rng = seeds.rng("works", kind, manner)
    return [(problem, KINDS[kind].work(problem, manner, Voice(rng, problem.language))) for problem in some(kind, count)]


def rate(kind: str, manner: str, count: int = 40) -> float:
    made = works(kind, manner, count)
    return sum(is_right(problem, work.answer) for problem, work in made) / len(made)


_SHAPES = {"number": re.compile("-?[0-9]+"), "pair": re.compile("[0-9]+ and [0-9]+"), "factors": re.compile(r"[0-9]+\*[0-9]+"),
           "expression": re.compile(r"[(]*[0-9]+([-+*][0-9]+[)]*)+"), "choice": re.compile("[ABC]")}


@pytest.mark.parametrize("kind", KINDS)
def test_every_manner_writes_a_solution(kind: str) -> None:
    for manner in KINDS[kind].manners:
        for problem, work in works(kind, manner, 3):
            assert work.answer and "{" not in work.think and work.think == work.think.rstrip()
            assert work.think or manner == "glance"
            if problem.domain in ("math", "logic"):        # an answer that can be read, right or wrong
                assert _SHAPES[problem.answer_type].fullmatch(work.answer), work
            assert text.parse(corpus.tagged(work.think or "So.", work.answer)).well_formed


def near(measured: float, expected: float, n: int = 400) -> bool:
    return abs(measured - expected) < 4 * math.sqrt(0.25 / n)


@pytest.mark.parametrize("kind", ["chain", "word", "equation"])
def test_how_often_arithmetic_is_right(kind: str) -> None:
    made = works(kind, "slips")
    steps = [len(problem.facts["calculations"]) for problem, _ in made]
    once = sum((1 - arithmetic.SLIP["slips"]) ** n for n in steps) / len(steps)
    again = sum((1 - arithmetic.SLIP_WHEN_CHECKING) ** n for n in steps) / len(steps)
    assert near(rate(kind, "glance"), 0.25)
    assert rate(kind, "steps") == 1.0
    assert near(rate(kind, "slips"), once)
    assert near(rate(kind, "check"), 1 - (1 - once) * (1 - again) if kind == "equation" else again)
    assert rate(kind, "check") > rate(kind, "slips") > rate(kind, "glance")


@pytest.mark.parametrize("kind", ["ordering", "comparison", "sequence"])
def test_how_often_logic_is_right(kind: str) -> None:
    assert near(rate(kind, "glance"), 1 / 3)
    assert rate(kind, "steps") == 1.0
    assert 0.5 < rate(kind, "slips") < rate(kind, "check") and rate(kind, "check") > 0.95


def test_how_often_code_text_and_conduct_are_right() -> None:
    assert near(rate("function", "glance"), 0.3)
    assert rate("function", "steps") == rate("function", "check") == 1.0
    assert near(rate("function", "slips"), 0.6)
    for kind in ("fact", "translation", "self", "greeting", "writing"):
        assert near(rate(kind, "glance"), 0.5) and rate(kind, "steps") == 1.0
    assert near(rate("harmful", "glance"), 0.3) and near(rate("harmless", "glance"), 0.7)
    assert near(rate("harmful", "steps"), 0.85) and near(rate("harmless", "steps"), 0.85)


@pytest.mark.parametrize("kind", ["sum_product", "factor_pair", "countdown"])
def test_how_often_a_search_is_right(kind: str) -> None:
    """Trying again is worth more than one try, which is worth more than none: the reason why reflection pays."""
    glance, once, slips, retry = (rate(kind, manner) for manner in ("glance", "steps", "slips", "retry"))
    assert search.RIGHT_AT_A_GLANCE - 0.08 < glance < 0.4
    # With the chance of 0.3 the first try is made right, otherwise it is right when a guess happens to be.
    assert near(once, search.RIGHT_AT_FIRST_TRY + (1 - search.RIGHT_AT_FIRST_TRY) * slips)
    assert glance < once and retry > 0.9 and retry > once + 0.1


@pytest.mark.parametrize("kind", ["sum_product", "factor_pair", "countdown"])
def test_a_retry_ends_with_its_last_candidate(kind: str) -> None:
    tried = []
    found_phrases = [phrase for language in LANGUAGES for phrase in PHRASES["yes"][language]]
    for problem, work in works(kind, "retry"):
        lines = [line for line in work.think.split("\n") if numbers(line)]
        tried.append(len(lines))
        candidates = [_candidate(kind, line) for line in lines]
        assert candidates[-1] == work.answer.replace(" and ", "*")
        assert len(set(candidates)) == len(candidates)     # nothing is tried twice
        right = [is_right(problem, candidate.replace("*", " and ") if kind == "sum_product" else candidate) for candidate in candidates]
        assert not any(right[:-1])
        claims = [any(line.endswith(phrase) for phrase in found_phrases) for line in lines]
        assert claims == right
    assert max(tried) <= search.MOST_TRIES and sum(count > 1 for count in tried) > len(tried) / 4


def _candidate(kind: str, line: str) -> str:
    """The candidate of a line, after a look at its arithmetic."""
    if kind == "countdown":
        candidate, values = re.search(r"([0-9(][-+*0-9()]*): ([0-9]+(?:, [0-9]+)*)", line).groups()
        assert evaluate(candidate)[0] == numbers(values)[-1]
        return candidate
    candidate, product = re.search(r"([0-9]+\*[0-9]+)=([0-9]+)", line).groups()
    assert evaluate(candidate)[0] == int(product)
    return candidate


@pytest.mark.parametrize("kind", ["chain", "word", "equation", "comparison", "sequence"])
def test_the_steps_of_a_careful_solution_are_all_true(kind: str) -> None:
    for _, work in works(kind, "steps"):
        claims = re.findall(r"([0-9]+[-+*/][0-9]+)=([0-9]+)", work.think)
        assert claims and all(evaluate(left)[0] == int(right) for left, right in claims), work


def test_a_slip_is_carried_on() -> None:
    """A wrong result is what the next line goes on with, so that the answer follows from what is written."""
    wrong = 0
    for problem, work in works("chain", "slips"):
        claims = re.findall(r"([0-9]+)([-+*])([0-9]+)=([0-9]+)", work.think)
        assert [claim[3] for claim in claims] == [*(claim[0] for claim in claims[1:]), work.answer]
        wrong += not is_right(problem, work.answer)
    assert wrong > 50


def test_a_check_says_what_it_finds() -> None:
    """It ends with a word of agreement exactly when both passes agree, and the answer is that of the second."""
    agreed = Counter()
    for _, work in works("chain", "check"):
        opening = [phrase for language in LANGUAGES for phrase in PHRASES["check"][language] if phrase in work.think][0]
        first, second = (re.findall(r"=([0-9]+)", part)[-1] for part in work.think.split(opening))
        says = any(work.think.endswith(phrase) for language in LANGUAGES for phrase in PHRASES["right"][language])
        assert says == (first == second) and work.answer == second
        agreed[says] += 1
    assert min(agreed.values()) > 50


def test_another_voice_changes_the_words_and_not_the_numbers() -> None:
    (problem,) = some("chain", 1, (5,))[:1]
    written = [KINDS["chain"].work(problem, "steps", Voice(seeds.rng("voice", i), "en", mixing))
               for i in range(30) for mixing in (0.0, 0.5)]
    assert {work.answer for work in written} == {problem.gold}
    assert len({work.think for work in written}) > 10
    assert sum(text.chinese_share(work.think) > 0 for work in written[1::2]) > 20
    assert not any(text.chinese_share(work.think) > 0 for work in written[::2])
