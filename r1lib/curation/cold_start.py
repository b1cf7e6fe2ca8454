"""Cold start (paper section 2.3.1; Nature version, supplement B.3.2): R1-Zero's good samples, rewritten until people can read them.

R1-Zero thinks in whatever way earns rewards. What it got right is filtered and rewritten into the first person, in the language of the
question, with a summary behind the thinking. The paper has a large model and human annotators do this; in the miniature's small world
every phrase is known, so a table does it, and `EndpointRewriter` hands it to a model behind an endpoint.
"""

import re
from collections.abc import Callable, Sequence

from r1lib import rewards, text
from r1lib.curation import selection
from r1lib.curation.endpoint import Endpoint
from r1lib.curation.selection import Selection
from r1lib.errors import R1Error
from r1lib.rewards.accuracy import JUDGED_ELSEWHERE, unboxed
from r1lib.sampling import Rollout
from r1lib.tasks import Language, Problem
from r1lib.tasks.corpus import tagged
from r1lib.tasks.problem import PHRASES
from r1lib.training.sft import Example

STAGE = "cold start"
LONGEST = 1500                     # characters of a thinking; the longest honest work of the miniature's tasks has a third of that
MOST_REPEATED = 0.5                # of the n-grams; who checks by doing everything once more stays below
_SAME_LINES = 3                    # in a row
_WORDS_OF_A_SUMMARY = 3            # at least

# What a phrase of `tasks.problem.PHRASES` becomes: the same purposes in the same order, so that a phrase has one place in both languages.
# Purposes that are missing here are those around a calculation ("Then 12+7=19", "Try 3*4=12, too small."): mere work has no person, and a
# model of this size that has to say it in other words than it has read computes worse.
FIRST_PERSON: dict[str, dict[Language, list[str]]] = {
    "open": {"en": ["", "", "Okay, I begin.\n", "I think about it.\n", "I work step by step.\n"],
             "zh": ["", "", "好，我开始。\n", "我想一想。\n", "我一步一步算。\n"]},
    "sure": {"en": ["", "I know this one.", "I find it easy.", "I guess."], "zh": ["", "我知道。", "我觉得很简单。", "我猜一下。"]},
    "so": {"en": ["So I get {x}.", "From that I get {x}.", "I have the result {x}."],
           "zh": ["所以我得到{x}。", "我得到{x}。", "我的结果是{x}。"]},
    "check": {"en": ["Wait, I check.", "I verify it.", "But I check again."], "zh": ["等等，我检查一下。", "我来检查。", "我再检查一遍。"]},
    "right": {"en": ["I am right.", "I see that it is right.", "Good, I keep it."],
              "zh": ["我算对了。", "没错，我对了。", "我看是正确的。"]},
    "mistake": {"en": ["I made a mistake. It is {x}.", "I was wrong. It is {x}.", "Wait, no. I see that it is {x}."],
                "zh": ["我算错了，是{x}。", "不对，我看是{x}。", "等等，我看应该是{x}。"]},
    "settle": {"en": [". I take that.", ".", ". I think it will do."], "zh": ["。我就用它。", "。", "，我看差不多。"]},
    "give_up": {"en": ["I stop here."], "zh": ["我算了。"]},
}
_TOLD = {**PHRASES, **FIRST_PERSON}
_LINES = ("open", "sure", "so", "check", "right", "mistake", "give_up")                 # phrases that are a line of their own
_BEFORE, _BEHIND = ("first", "then", "try", "again"), ("not", "small", "large", "yes", "settle")         # and those around a calculation

# Lines that the kinds of problems write themselves: what they look like -> what they become.
_CLOSING = {"en": re.compile(r"So (?P<x>.+), that is (?P<letter>[A-Z])\."), "zh": re.compile("所以(?P<x>.+)，选(?P<letter>[A-Z])。")}
_CLOSED = {"en": "I find {x}, so I choose {letter}.", "zh": "我得到{x}，所以我选{letter}。"}
_ASKED = {"en": "I am asked: {x}", "zh": "我被问到：{x}"}
_CARE = {"en": (re.compile(r"Could this harm someone\? (?P<x>It could\.|No\.)"), "I ask myself if this could harm someone. {x}"),
         "zh": (re.compile("会伤害别人吗？(?P<x>不?会。)"), "我想，会伤害别人吗？{x}")}
# 12+7=19, A: 12+7=19 and 3+4*5: 7, 35: a calculation, or an expression with the values it runs through
_WORK = r"(?:[A-Z]: )?[-0-9(][-0-9+*/() ]*[0-9)](?:=-?[0-9]+|:(?: -?[0-9]+,)* -?[0-9]+)"


def _pattern(phrase: str) -> str:
    return re.escape(phrase.strip("\n")).replace(re.escape("{x}"), "(?P<x>.+)")


def _known(purposes: tuple[str, ...]) -> list[tuple[re.Pattern, str, int]]:
    """(pattern, purpose, place in its list) of all phrases in both languages, the longest first."""
    phrases = [(phrase, purpose, place) for purpose in purposes for language in ("en", "zh")
               for place, phrase in enumerate(PHRASES[purpose][language]) if phrase]
    return [(re.compile(_pattern(phrase)), purpose, place) for phrase, purpose, place in sorted(phrases, key=lambda row: -len(row[0]))]


_KNOWN_LINES, _KNOWN_BEFORE, _KNOWN_BEHIND = _known(_LINES), _known(_BEFORE), _known(_BEHIND)
_ORDER = re.compile(r"[^\s,>：，。]+(?: > [^\s,>：，。]+)+")
_WORKED = re.compile(rf"(?P<before>.*?)(?P<work>(?<![-0-9+*/()]){_WORK})(?P<behind>.*)")


def keep(problem: Problem, rollout_text: str) -> str | None:
    """Why a sample is dropped, or None: wrong, not well-formed, mixed languages, repetition, too long; the first of these that applies."""
    return _reason(problem, rollout_text, selection.right([problem], [rollout_text])[0])


def _reason(problem: Problem, rollout_text: str, is_right: bool) -> str | None:
    if reason := selection.unusable(problem, rollout_text, is_right):
        return reason
    think = text.thinking(rollout_text)
    if _repeats(think):
        return "repetition"
    return "too long" if len(think) > LONGEST else None


def readable(problem: Problem, completion: str) -> bool:
    """Whether people can read it, which the cold start is for: well-formed, one language, no repetition, and a result put in words.

    Whether it is right is another question. Programs, and answers that are words already, need no words around them.
    """
    parsed = text.parse(completion)
    if not parsed.well_formed or text.mixes_languages(parsed.think, problem.language) or _repeats(parsed.think):
        return False
    in_words = sum(text.words(text.plain(parsed.answer.replace("\\boxed", " "))).values())
    return problem.answer_type in JUDGED_ELSEWHERE or in_words >= _WORDS_OF_A_SUMMARY


def _repeats(think: str) -> bool:
    lines = think.split("\n")
    in_a_row = any(len(set(lines[i:i + _SAME_LINES])) == 1 for i in range(len(lines) - _SAME_LINES + 1))
    return in_a_row or -rewards.repetition_penalty_reward([think])[0] > MOST_REPEATED


# ------------------------------------------------------------------------------------------------------------------------------------------
# The rewriter

def rewrite(problem: Problem, completion: str) -> Example:
    """The same work as one would tell it: in the first person, in the question's language, with a summary where a rule judges the result.

    Lines that nobody knows stay as they are, and so do all numbers. An `R1Error` names the problem of a completion that is not well-formed.
    """
    parsed = text.parse(completion)
    if not parsed.well_formed:
        raise R1Error(f"{problem.id}: a completion can be rewritten only when it is well-formed ({parsed.faults[0]}).")
    answer = parsed.answer if problem.answer_type in JUDGED_ELSEWHERE else _summary(problem, parsed.think, unboxed(parsed.answer))
    return _example(problem, first_person(problem, parsed.think), answer)


def _example(problem: Problem, think: str, answer: str) -> Example:
    return Example(text.chat_prompt(problem.question), tagged(think, answer), selection.source(STAGE, problem))


def first_person(problem: Problem, think: str) -> str:
    """A thinking, line by line in the first person and in the language of the question; what is in the first person already stays."""
    return "\n".join(_line(problem, line) for line in think.split("\n"))


def _line(problem: Problem, line: str) -> str:
    language = problem.language
    if line == problem.question:
        return _ASKED[language].format(x=line)
    for closing in _CLOSING.values():
        if found := closing.fullmatch(line):
            return _CLOSED[language].format(**found.groupdict())
    care, cared = _CARE[language]
    if found := care.fullmatch(line):
        return cared.format(x=found["x"])
    for pattern, purpose, place in _KNOWN_LINES:
        found = pattern.match(line)
        behind = line[found.end():] if found else ""
        if found and (not behind or purpose == "check" and behind.startswith(" f(")):
            return _TOLD[purpose][language][place].strip("\n").format(x=_quoted(problem, found.groupdict().get("x", ""))) + behind
    return _worked(language, line)


def _quoted(problem: Problem, found: str) -> str:
    """Code in a sentence stands in backticks, so that it is a word of no language."""
    return f"`{found}`" if problem.domain == "code" and found and "`" not in found else found


def _worked(language: Language, line: str) -> str:
    """A line around a calculation ("Then 12+7=19", "Try 3*4=12, too small.") in this language; any other line as it is."""
    found = _WORKED.fullmatch(line)
    if not found:
        return line
    before = behind = ""
    if found["before"]:
        known = [(purpose, place) for pattern, purpose, place in _KNOWN_BEFORE if pattern.fullmatch(found["before"])]
        if not known:
            return line
        purpose, place = known[0]
        before = _TOLD[purpose][language][place]
    if found["behind"]:
        ends = ((pattern.fullmatch(found["behind"]), purpose, place) for pattern, purpose, place in _KNOWN_BEHIND)
        match, purpose, place = next((end for end in ends if end[0]), (None, "", 0))
        if not match:
            return line
        behind = _TOLD[purpose][language][place].format(x=match.groupdict().get("x", ""))
    return before + found["work"] + behind


# ------------------------------------------------------------------------------------------------------------------------------------------
# The summary

# kind -> how it was solved, in one pass and by trying; the result, in words
_HOW: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "chain": (("I computed from left to right", "我从左到右计算"), ("The result is", "结果是")),
    "word": (("I followed the story step by step", "我按照故事一步一步计算"), ("The answer is", "答案是")),
    "equation": (("I solved the equation step by step", "我一步一步解方程"), ("The solution is", "解是")),
    "sum_product": (("I tried numbers with this sum and looked at the product", "我试和正确的两个数，再看积"), ("They are", "它们是")),
    "factor_pair": (("I tried small factors and looked at the product", "我试小的因数，再看积"), ("A product is", "写成的积是")),
    "countdown": (("I tried to combine the numbers and looked at the values", "我试着组合这些数，再看得数"), ("It works with", "可行的是")),
    "ordering": (("I put the people in order", "我把人排了顺序"), ("The answer is", "答案是")),
    "comparison": (("I computed the three values and compared them", "我算出三个值，再比较"), ("The answer is", "答案是")),
    "sequence": (("I looked at the steps from number to number", "我看了相邻两数的变化"), ("The answer is", "答案是")),
}
_ANY_HOW = (("I worked it out", "我做了推算"), ("The answer is", "答案是"))
_GLANCED, _CHECKED = ("I answered at a glance", "我一看就回答了"), (", and I checked it", "，并且检查了一遍")
_CHECK = re.compile("|".join(re.escape(phrase) for table in (PHRASES, FIRST_PERSON) for phrases in table["check"].values()
                             for phrase in phrases))
_BETWEEN = re.compile(r"\s*(?:\band\b|和|与)\s*")


def _summary(problem: Problem, think: str, result: str) -> str:
    """How it was solved, as far as the thinking shows, and the result in a box, which closes the answer."""
    side = 0 if problem.language == "en" else 1
    how, leading = _HOW.get(problem.kind, _ANY_HOW)
    worked = any(pattern.search(think) for pattern in (_WORKED, _ORDER))
    told = how[side] if worked else _GLANCED[side]
    if _CHECK.search(think):
        told += _CHECKED[side]
    if problem.answer_type in ("pair", "factors"):
        result = _BETWEEN.sub((" and ", "和")[side], result)
    return f"{told}. {leading[0]} \\boxed{{{result}}}" if side == 0 else f"{told}。{leading[1]}\\boxed{{{result}}}"


# ------------------------------------------------------------------------------------------------------------------------------------------
# Selecting

def select(problems: Sequence[Problem], rollouts: Sequence[Rollout], per_problem: int, *,
           rewriter: Callable[[Problem, str], Example] = rewrite) -> Selection:
    """The first `per_problem` samples of each problem that pass `keep`, rewritten, with a table of what became of all.

    rollouts: of R1-Zero, at temperature 1 in the paper; `prompt_index` is the problem's place. What is not right, well-formed, in one
    language and true to its numbers after the rewriting is dropped as spoiled.
    """
    return selection.choose(problems, rollouts, per_problem, stage=STAGE, reason=_reason, made=rewriter, spoiled=_spoiled)


def _spoiled(problem: Problem, sample: str, example: Example) -> bool:
    after = text.parse(example.completion)
    return (not after.well_formed or numbers(after.think) != numbers(text.parse(sample).think)
            or text.mixes_languages(after.think, problem.language) or not selection.right([problem], [example.completion])[0])


def numbers(written: str) -> list[str]:
    """All numbers of a text, in order."""
    return re.findall("[0-9]+", written)


# The instructions have the structure of the paper's Listing 1 (be faithful, one language, box the result); the words are ours.
_INSTRUCTIONS = """Rewrite the solution below so that it is pleasant to read.
- Between <think> and </think>: the same reasoning in the first person, in {language} only. Keep every step, every trial, every mistake that
  is found, and every number, in the same order. Add nothing.
- Between <answer> and </answer>: {answer}
Write <think>...</think><answer>...</answer> and nothing else.

Question: {question}

Solution:
{completion}"""
_BOXED = "one or two sentences, in {language}, that say how it was solved and end in the result as \\boxed{{...}}."
_AS_IT_IS = "the answer exactly as it stands."


class EndpointRewriter(Endpoint):
    """`rewrite` by a model behind an endpoint: `select(..., rewriter=EndpointRewriter(url, model))`."""

    def __call__(self, problem: Problem, completion: str) -> Example:
        """An `R1Error` names the problem and shows what came back, when that is no rewritten solution."""
        language = "English" if problem.language == "en" else "Chinese"
        answer = _AS_IT_IS if problem.answer_type in JUDGED_ELSEWHERE else _BOXED.format(language=language)
        parsed = text.parse(said := self.ask(_INSTRUCTIONS.format(
            language=language, answer=answer, question=problem.question, completion=completion.strip()), row=problem.id))
        if not parsed.well_formed:
            raise R1Error(f"{problem.id}: {self.model} gave no rewritten solution ({parsed.faults[0]}): {said!r:.200}{self.hint}")
        return _example(problem, parsed.think, parsed.answer)
