"""What the base models read: the small world written down in the manners in which the web writes.

Somebody answers at once, somebody works it out and slips, somebody changes language half way, somebody checks, most leave the tags out
or wrong, and some only talk. Reinforcement learning can select among these manners, it cannot invent one; so what the base has seen is
shown (notebook 01) and the shares are here, in one table.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

from r1lib import seeds, text
from r1lib.tasks import ENGLISH_SHARE, KINDS, LEVELS, draw
from r1lib.tasks.problem import Problem, Voice

DOMAIN_SHARES = {"math": 0.70, "logic": 0.12, "code": 0.09, "general": 0.05, "safety": 0.04}

# How often each manner stands in the corpus, by what a kind of problem can be answered with. "mixed" is a careful manner (retry, or check
# or steps) that switches language; "prose" is one pass without tags; "ramble" is no answer at all.
MANNER_SHARES = {
    "arithmetic": {"glance": 0.45, "steps": 0.045, "slips": 0.055, "check": 0.04, "mixed": 0.035, "prose": 0.205, "ramble": 0.17},
    "search": {"glance": 0.45, "steps": 0.03, "slips": 0.03, "retry": 0.075, "mixed": 0.04, "prose": 0.205, "ramble": 0.17},
    "other": {"glance": 0.40, "steps": 0.25, "prose": 0.25, "ramble": 0.10},
}
TEMPLATE_SHARES = {"zero": 0.84, "chat": 0.10, "plain": 0.06}
UNTIDY_SHARE = 0.12                    # worked answers whose tags are wrong
BARE_ANSWER_SHARE = 0.55               # answers at a glance that leave the thinking out

_RAMBLE = {
    "en": ["I do not know.", "That is a good question.", "Numbers are nice.", "Let me ask a friend.", "Hmm, maybe later.", "Who knows?",
           "I had tea today."],
    "zh": ["我不知道。", "这个问题很好。", "数字很有意思。", "问问朋友吧。", "以后再说。"],
}
_THE_ANSWER = {"en": " The answer is {x}.", "zh": " 答案是{x}。"}


class Document(NamedTuple):
    """One text of the corpus, and how it came about."""

    problem: Problem
    manner: str
    template: str
    text: str


def _shares(problem: Problem) -> dict[str, float]:
    manners = KINDS[problem.kind].manners
    if "retry" in manners:
        return MANNER_SHARES["search"]
    return MANNER_SHARES["arithmetic" if "check" in manners else "other"]


def _pick(shares: dict[str, float], rng: random.Random) -> str:
    return rng.choices(list(shares), list(shares.values()))[0]


def _ramble(problem: Problem, rng: random.Random) -> str:
    language = problem.language if rng.random() < 0.8 else ("zh" if problem.language == "en" else "en")
    said = " ".join(rng.choice(_RAMBLE[language]) for _ in range(rng.randint(1, 3)))
    return f" {said}" if rng.random() < 0.8 else f" <think>\n{said}\n</think>\n<answer>{rng.randint(1, 40)}</answer>"


def tagged(think: str, answer: str) -> str:
    """A well-formed response."""
    return f" <think>\n{think}\n</think>\n<answer>{answer}</answer>"


def _untidy(think: str, answer: str, rng: random.Random) -> str:
    """The same with a fault in its tags."""
    return rng.choice([f" <think>\n{think}\n<answer>{answer}</answer>", f" {think}\n</think>\n<answer>{answer}</answer>",
                       f" <think>\n{think}\n</think>\n{answer}", f" <think>\n{think}\n</think>\n<answer>{answer}",
                       f" {think}\n<answer>{answer}</answer>", f"{tagged(think, answer)} {answer}"])


def respond(problem: Problem, manner: str, rng: random.Random) -> str:
    """A response to the problem in this manner, as it stands behind "Assistant:"."""
    if manner == "ramble":
        return _ramble(problem, rng)
    kind = KINDS[problem.kind]
    if manner == "mixed":
        careful = [manner for manner in ("retry", "check", "steps") if manner in kind.manners]
        work = kind.work(problem, careful[0] if careful[0] == "retry" else rng.choice(careful), Voice(rng, problem.language, mixing=0.5))
    elif manner == "prose":
        work = kind.work(problem, rng.choice([m for m in kind.manners if m in ("steps", "slips")]), Voice(rng, problem.language))
        return f" {work.think}{_THE_ANSWER[problem.language].format(x=work.answer)}"
    else:
        work = kind.work(problem, manner, Voice(rng, problem.language))
    if manner == "glance" and rng.random() < BARE_ANSWER_SHARE:
        return f" <answer>{work.answer}</answer>"
    if manner != "glance" and rng.random() < UNTIDY_SHARE:
        return _untidy(work.think, work.answer, rng)
    return tagged(work.think, work.answer)


def document(rng: random.Random) -> Document:
    """One text: a problem from the training side of the wall, a manner, a template."""
    domain = _pick(DOMAIN_SHARES, rng)
    kind = rng.choice([kind for kind in KINDS.values() if kind.domain == domain])
    language = "en" if rng.random() < ENGLISH_SHARE else "zh"
    problem = draw(kind, rng, rng.choice(LEVELS), language, "train")
    manner, template = _pick(_shares(problem), rng), _pick(TEMPLATE_SHARES, rng)
    response = respond(problem, manner, rng)
    if template == "zero":
        written = text.zero_prompt(problem.question) + response
    elif template == "chat":
        written = text.chat_prompt(problem.question) + response.lstrip()
    else:
        written = f"{problem.question}\n{response.lstrip()}"
    return Document(problem, manner, template, written + text.EOS)


def documents(seed: int | str, shard: int) -> Iterator[Document]:
    """The endless shard `shard` of the corpus with this seed; shards have nothing in common."""
    rng = seeds.rng("corpus", seed, shard)
    while True:
        yield document(rng)
