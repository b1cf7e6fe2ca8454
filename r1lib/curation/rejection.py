"""Rejection sampling and the second supervised fine-tuning (paper section 2.3.3; Nature version, supplement B.3.3): the miniature's 800k.

Reasoning data are samples of the model after the first reinforcement learning, of which what is right and readable is kept. General data
come from the pipeline of the chat model, which here is the small world's own good answers, filtered by the oracle.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from r1lib import seeds, tasks, text
from r1lib.curation import judges, selection
from r1lib.curation.cold_start import first_person
from r1lib.curation.selection import Selection
from r1lib.errors import R1Error
from r1lib.sampling import Rollout
from r1lib.tasks import ENGLISH_SHARE, KINDS, LEVELS, Kind, Problem, Voice, Work
from r1lib.tasks.corpus import tagged
from r1lib.training.sft import Example

STAGE, GENERAL, CHAT = "rejection", "general data", "direct answer"
GENERAL_SHARE = 0.25               # the paper's: 200k of 800k
LONG_PARAGRAPH = 300               # characters without a new line; an honest line of the miniature has a fifth of that
_CODE = re.compile(r"```|^[ \t]*(?:def \w+\(|class \w+[:(]|import \w+$|from \w+ import |for \w+ in .*:$|print\()", re.MULTILINE)
_MOST_DRAWS = 300                  # in vain, after which a kind counts as exhausted


def keep(problem: Problem, rollout_text: str) -> str | None:
    """Why a sample is dropped, or None: wrong, not well-formed, mixed languages, long paragraph, code in the thinking; the first one."""
    return _reason(problem, rollout_text, selection.right([problem], [rollout_text])[0])


def _reason(problem: Problem, rollout_text: str, is_right: bool) -> str | None:
    if reason := selection.unusable(problem, rollout_text, is_right):
        return reason
    think = text.thinking(rollout_text)
    if any(len(line) > LONG_PARAGRAPH for line in think.split("\n")):
        return "long paragraph"
    return "code in the thinking" if _CODE.search(think) else None


def select(problems: Sequence[Problem], rollouts: Sequence[Rollout], per_problem: int) -> Selection:
    """The first `per_problem` samples of each problem that pass `keep`, as they are, with a table of what became of all."""
    def made(problem: Problem, sample: str) -> Example:
        parsed = text.parse(sample)
        return _example(STAGE, problem, Work(parsed.think, parsed.answer))

    return selection.choose(problems, rollouts, per_problem, stage=STAGE, reason=_reason, made=made, spoiled=lambda *_: False)


def _example(stage: str, problem: Problem, work: Work) -> Example:
    return Example(text.chat_prompt(problem.question), tagged(work.think, work.answer), selection.source(stage, problem))


# ------------------------------------------------------------------------------------------------------------------------------------------
# General data

# Nothing has to be thought about a greeting (the paper leaves the thinking out; the format here asks for some).
_TRIVIAL = {"en": "I greet back.", "zh": "我问好。"}
_GREETING = {"en": "Hello, {name}! How can I help you?", "zh": "你好，{name}！我能帮你什么？"}
_I_ANSWER = {"en": "I answer at once.", "zh": "我直接回答。"}
_THINKS = {  # kind -> what is weighed before the answer
    "fact": {"en": "I remember what I know about this.", "zh": "我想想我知道的。"},
    "translation": {"en": "I say the same in Chinese.", "zh": "我用英文说同样的话。"},
    "self": {"en": "I am asked about myself, and I say what I am.", "zh": "问的是我自己，我如实回答。"},
    "writing": {"en": "I need both things in one sentence.", "zh": "我要把两样都写进一句话。"},
}


def _good_answer(problem: Problem, voice: Voice) -> Work:
    """A worked answer in the first person; whether it is good, the oracle says."""
    language = problem.language
    if problem.kind == "greeting":
        return Work(_TRIVIAL[language], _GREETING[language].format(name=judges.asker(problem)))
    work = KINDS[problem.kind].work(problem, "steps", voice)
    think = _THINKS[problem.kind][language] if problem.kind in _THINKS else first_person(problem, work.think)
    return Work(think, work.answer)


def general_examples(count: int, seed: int) -> list[Example]:
    """`count` different good answers about facts, translation, the model itself, greetings, writing and safety; kinds alike often.

    An `R1Error` says how many there are, when the small world has fewer.
    """
    kinds = [kind for kind in KINDS.values() if kind.domain in ("general", "safety")]
    return _drawn(count, seed, GENERAL, kinds, _good_answer, lambda problem, answer: judges.quality(problem, answer) >= judges.GOOD)


def chat_examples(count: int, seed: int, *, direct_share: float = 0.5) -> list[Example]:
    """What a chat model without reasoning is made of (the part that DeepSeek-V3 plays): general examples, and direct answers to reasoning
    problems without any work, `direct_share` of all."""
    if not 0 <= direct_share < 1:
        raise R1Error(f"direct_share={direct_share}: a share from 0 to below 1.")
    direct = round(count * direct_share)
    kinds = [kind for kind in KINDS.values() if kind.domain in ("math", "logic", "code")]
    examples = general_examples(count - direct, seed)
    if direct:
        examples += _drawn(direct, seed, CHAT, kinds, _direct_answer, lambda problem, answer: True)
    seeds.rng("chat order", seed).shuffle(examples)
    return examples


def _direct_answer(problem: Problem, voice: Voice) -> Work:
    answer = problem.facts.get("solution", problem.gold)
    if problem.answer_type != "code":
        answer = f"\\boxed{{{answer.replace(' and ', '和') if problem.language == 'zh' else answer}}}"
    return Work(_I_ANSWER[problem.language], answer)


def _drawn(count: int, seed: int, stage: str, kinds: Sequence[Kind], answered: Callable[[Problem, Voice], Work],
           good: Callable[[Problem, str], bool]) -> list[Example]:
    """`count` examples without repetition, from the training side of the wall."""
    if count < 1:
        raise R1Error(f"{stage}: {count} examples are asked for, at least 1 is needed.")
    rng, open_kinds = seeds.rng(stage, seed), list(kinds)
    examples: dict[Example, None] = {}
    in_vain: Counter[str] = Counter()
    while len(examples) < count:
        if not open_kinds:
            raise R1Error(f"{stage}: {count} different examples are asked for, the small world has {len(examples)}: ask for fewer.")
        kind = rng.choice(open_kinds)
        problem = tasks.draw(kind, rng, rng.choice(LEVELS), "en" if rng.random() < ENGLISH_SHARE else "zh", "train")
        work = answered(problem, Voice(rng, problem.language))
        example = _example(stage, problem, work)
        if example not in examples and good(problem, work.answer):
            examples[example] = None
            in_vain[kind.name] = 0
            continue
        in_vain[kind.name] += 1
        if in_vain[kind.name] == _MOST_DRAWS:
            open_kinds.remove(kind)
    return list(examples)


# ------------------------------------------------------------------------------------------------------------------------------------------
# The mixture

def mixture(reasoning: Sequence[Example], general: Sequence[Example], share: float = GENERAL_SHARE, *, seed: int = 0) -> list[Example]:
    """Both in one shuffled list, general ones `share` of it. Of the side that has too many for that, some are drawn."""
    if not 0 < share < 1:
        raise R1Error(f"share={share}: the share of general examples lies between 0 and 1.")
    if not reasoning or not general:
        raise R1Error(f"a mixture needs examples of both sides: there are {len(reasoning)} of reasoning and {len(general)} general ones.")
    rng = seeds.rng("mixture", seed)
    total = min(len(reasoning) / (1 - share), len(general) / share)
    mixed = [*rng.sample(list(reasoning), max(1, min(len(reasoning), round(total * (1 - share))))),
             *rng.sample(list(general), max(1, min(len(general), round(total * share))))]
    rng.shuffle(mixed)
    return mixed


def table(examples: Sequence[Example], count_tokens: Callable[[str], int]) -> dict[str, dict[str, float]]:
    """The paper's Table 5: domain, and "total", -> samples, average rounds (a question and its answer are one), average tokens.

    count_tokens: how many tokens a text has, for instance `lambda text: len(tokenizer.encode(text))`; prompt and completion are counted.
    """
    if not examples:
        raise R1Error("a table of examples needs at least one.")
    lengths: dict[str, list[int]] = defaultdict(list)
    for example in examples:
        length = count_tokens(example.prompt) + count_tokens(example.completion)
        for name in (selection.domain_of(example), "total"):
            lengths[name].append(length)
    names = [*(domain for domain in tasks.DOMAINS if domain in lengths), "total"]
    return {name: {"samples": len(lengths[name]), "average_rounds": 1.0, "average_tokens": sum(lengths[name]) / len(lengths[name])}
            for name in names}
