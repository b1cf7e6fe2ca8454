"""What a problem is, and what a kind of problem must be able to do."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Language = Literal["en", "zh"]
LEVELS = (1, 2, 3, 4, 5)

NAMES: dict[Language, tuple[str, ...]] = {"en": ("Ann", "Ben", "Eva", "Max", "Mia", "Sam", "Tom", "Zoe"),
                                          "zh": ("小安", "小明", "小红", "小华", "小美", "小刚", "小丽", "小军")}


@dataclass(frozen=True)
class Problem:
    """One question, how its answer is judged, and the facts that its worked solutions are written from.

    key: what the problem is, whatever its wording or language; splits are made from it.
    answer_type: how `gold` is read by `rewards.accuracy_reward`: number, pair, factors, expression, choice, math, instructions; code has
        `tests` instead; text and conduct are judged by a reward model or an oracle, never by a rule.
    facts: the numbers and words of the problem; plain JSON.
    """

    domain: str
    kind: str
    level: int
    language: Language
    question: str
    answer_type: str
    gold: str
    key: str
    tests: tuple[dict[str, Any], ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.domain}/{self.kind}/{self.level}/{self.language}/{_digest(self.question):012x}"

    def columns(self) -> dict[str, Any]:
        """What a reward function may see: the columns of a data set in TRL's sense."""
        return {"solution": self.gold, "answer_type": self.answer_type, "tests": list(self.tests), "language": self.language,
                "domain": self.domain, "level": self.level}


def _digest(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big")


def split_of(problem: Problem) -> Literal["train", "eval"]:
    """Which side of the wall a problem lives on: one in eight is kept for evaluation, in every wording and both languages."""
    return "eval" if _digest(problem.kind + problem.key) % 8 == 0 else "train"


class Work(NamedTuple):
    """A worked solution: what is thought, one line a step, and what is answered (which may be wrong: so is much that is written)."""

    think: str
    answer: str


class Kind(NamedTuple):
    """One kind of problem.

    make: (rng, level, language) -> Problem.
    work: (problem, manner, voice) -> Work, for every manner in `manners`.
    manners: glance (answer at once), steps (one careful pass), slips (one careless pass), check (a pass, then a check that corrects it),
        retry (search: try, look, try again).
    """

    name: str
    domain: str
    manners: tuple[str, ...]
    make: Callable[[random.Random, int, Language], Problem]
    work: Callable[[Problem, str, "Voice"], Work]


PHRASES: dict[str, dict[Language, list[str]]] = {
    "open": {"en": ["", "", "Okay.\n", "Let me think.\n", "Let me work step by step.\n"],
             "zh": ["", "", "好。\n", "让我想想。\n", "一步一步算。\n"]},
    "sure": {"en": ["", "I know this one.", "Easy.", "I guess."], "zh": ["", "我知道。", "很简单。", "猜一下。"]},
    "first": {"en": ["First ", "", "Start: "], "zh": ["先算", "", "首先"]},
    "then": {"en": ["Then ", "Next ", "", ""], "zh": ["再算", "然后", "", ""]},
    "so": {"en": ["So it is {x}.", "That gives {x}.", "The result is {x}."], "zh": ["所以是{x}。", "得到{x}。", "结果是{x}。"]},
    "check": {"en": ["Wait, let me check.", "Let me verify.", "But let me check again."],
              "zh": ["等等，检查一下。", "让我检查。", "再检查一遍。"]},
    "right": {"en": ["Right.", "It is right.", "Good."], "zh": ["对。", "没错。", "正确。"]},
    "mistake": {"en": ["I made a mistake. It is {x}.", "That was wrong. It is {x}.", "Wait, no. It is {x}."],
                "zh": ["算错了，是{x}。", "不对，是{x}。", "等等，应该是{x}。"]},
    "try": {"en": ["Try ", "Try ", "Maybe "], "zh": ["试", "试", "也许"]},
    "again": {"en": ["Try ", "Wait, try ", "Now try ", "But maybe "], "zh": ["再试", "等等，试", "试", "换成"]},
    "not": {"en": [", not {x}.", ". No.", ", that is wrong."], "zh": ["，不是{x}。", "，不对。", "，不行。"]},
    "small": {"en": [", too small.", ", not {x}, too small."], "zh": ["，太小。", "，不是{x}，太小。"]},
    "large": {"en": [", too large.", ", not {x}, too large."], "zh": ["，太大。", "，不是{x}，太大。"]},
    "yes": {"en": [". Yes.", ". That is it.", ", right."], "zh": ["。对了。", "，就是它。", "，对。"]},
    "settle": {"en": [". I take that.", ".", ". It will do."], "zh": ["。就这样。", "。", "，差不多。"]},
    "give_up": {"en": ["I stop here."], "zh": ["算了。"]},
}


class Voice:
    """Who writes a worked solution: a random stream, a language, and how often a phrase slips into the other language."""

    def __init__(self, rng: random.Random, language: Language, mixing: float = 0.0) -> None:
        self.rng, self.language, self.mixing = rng, language, mixing

    def say(self, what: str, **values: object) -> str:
        """A phrase for this purpose."""
        language = self.language
        if self.mixing and self.rng.random() < self.mixing:
            language = "zh" if language == "en" else "en"
        return self.rng.choice(PHRASES[what][language]).format(**values)

    @property
    def slip_scale(self) -> float:
        """Worked solutions that switch language slip less in this corpus: those who wrote them were the careful ones."""
        return 0.3 if self.mixing else 1.0
